"""Cancelled at every step: nothing is left, whatever was going on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from lac.broadcasts.ledger import GATHER_S
from lac.broadcasts.model import BroadcastStatus
from lac.db import models
from lac.db.models import Broadcast
from lac.errors import LacError
from lac.rooms.commands import (
    ChatMessage,
    ClearMessages,
    Command,
    DeleteMessage,
    InviteToSpeak,
    LockRoom,
    MoveToAudience,
    Mute,
    RaiseHand,
    Reaction,
    Remove,
    SlowMode,
)
from tests.fakes.air import COHOST, HOST, LISTENER, MODERATOR, SPEAKER, FakeSocket, Station
from tests.sweep import Cut, sweep, sweep_within


def check_nothing_left(station: Station) -> None:
    """After the process has stopped, wherever it was."""
    assert station.engine.rooms == {}
    assert station.db.session_rows(only_open=True) == []
    if station._on_air is not None:
        assert station.shows == 0
        assert station.on_air.admission.kept_out == {} or station.on_air.admission.draining
    for socket in station.sockets:
        assert socket.member is None or socket.member._room is None


def check_nobody_in(station: Station) -> None:
    """While the process goes on: the broadcast has a task only if somebody needs it."""
    for show in station.on_air._shows.values():
        assert show.state.member_count == 0
        assert len(show.room) == 0


def test_joining_and_leaving_leaves_nobody_in_the_room(new_station: Callable[[], Station]) -> None:
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open():
            with cut:
                async with trio.open_nursery() as nursery:
                    one, two = FakeSocket(), FakeSocket()
                    await nursery.start(one.serve, station.on_air, LISTENER, station.show_id)
                    await nursery.start(two.serve, station.on_air, None, station.show_id)
                    await one.do(ChatMessage("hello"))
                    await one.do(RaiseHand())
                    await two.do(Reaction("👏"))
                    one.close(1000, "left")
                    await trio.sleep(1)
                    two.close(1000, "left")
            await trio.testing.wait_all_tasks_blocked()
            check_nobody_in(station)
            assert station.shows == 0  # a waiting room goes with its last socket
            again = await station.join(LISTENER)
            assert again.events == ["joined"]

    steps = sweep_within(scenario, lambda: check_nothing_left(station), refusals=(LacError,))
    assert steps > 20


def test_a_listener_who_goes_away_at_any_moment_leaves_no_session(new_station: Callable[[], Station]) -> None:
    """A socket and a media session of one client, on a show that goes on."""
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open():
            await station.start()
            (await station.publish()).speak()
            session = None
            with cut:
                async with trio.open_nursery() as nursery:
                    socket = FakeSocket()
                    await nursery.start(socket.serve, station.on_air, LISTENER, station.show_id)
                    session = await station.listen(LISTENER)
                    session.connect()
                    await trio.sleep(2)
                    session.close("left")
                    socket.close(1000, "left")
            await trio.testing.wait_all_tasks_blocked()
            check_nobody_in(station)
            show = station.on_air._shows[station.show_id]
            # What the client was given, and what was opened for it and never given, times out by itself.
            for left in list(station.media.sessions.values()):
                if left.owner == LISTENER.id:
                    left.close("timeout")
            assert len(show.media.stage) == 1
            assert station.on_air.listener_count(station.show_id) == 0
            await trio.sleep(2 * GATHER_S)
            assert len(station.db.session_rows(only_open=True)) == 1

    sweep_within(scenario, lambda: check_nothing_left(station))


def test_start_and_end_leave_no_task_without_a_row_and_no_row_without_a_task(
    new_station: Callable[[], Station],
) -> None:
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open():
            waiting = await station.join(LISTENER)
            with cut:
                await station.start()
                await station.on_air.end(COHOST, station.show_id)
            await trio.testing.wait_all_tasks_blocked()
            status = await station.status()
            assert (status is BroadcastStatus.LIVE) == (station.show_id in station.engine.rooms)
            assert (waiting.closed is not None) == (status is BroadcastStatus.ENDED)

    sweep_within(scenario, lambda: check_nothing_left(station))


def test_deleting_a_live_show_is_done_or_not_begun(new_station: Callable[[], Station]) -> None:
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open():
            await station.start()
            await station.listen()
            with cut:
                await station.on_air.remove(HOST, station.show_id)
            await trio.testing.wait_all_tasks_blocked()
            with station.db._sessions() as session:
                row = session.get(Broadcast, station.show_id)
            assert (row is None) == (station.show_id not in station.engine.rooms)

    sweep_within(scenario, lambda: check_nothing_left(station))


def test_removing_a_person_is_all_or_nothing(new_station: Callable[[], Station]) -> None:
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open():
            await station.start()
            moderator, target = await station.join(MODERATOR), await station.join(LISTENER)
            session = (await station.listen(LISTENER)).connect()
            with cut:
                await moderator.do(Remove(LISTENER.id, ban=True))
            await trio.testing.wait_all_tasks_blocked()
            banned = await station.on_air._records.is_banned(station.show_id, LISTENER.id)
            assert (target.closed is not None) == (session.closed == "removed") == banned

    sweep_within(scenario, lambda: check_nothing_left(station))


def texts_kept(station: Station) -> list[str]:
    row = models.ChatMessage
    query = sa.select(row.text).where(row.deleted_at.is_(None)).order_by(row.at, row.id)
    return station.db.now(lambda session: list(session.scalars(query)))


def acts_on_record(station: Station) -> list[str]:
    query = sa.select(models.AuditEntry.action).order_by(models.AuditEntry.at, models.AuditEntry.id)
    return station.db.now(lambda session: list(session.scalars(query)))


def test_a_message_stopped_at_any_step_is_kept_and_heard_or_neither(new_station: Callable[[], Station]) -> None:
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open():
            await station.start()
            writer, reader = await station.join(LISTENER), await station.join(None)
            await writer.do(ChatMessage("before"))
            with cut:
                await writer.do(ChatMessage("perhaps"))
            await trio.testing.wait_all_tasks_blocked()
            await writer.do(ChatMessage("after"))
            await trio.testing.wait_all_tasks_blocked()
            kept = texts_kept(station)
            assert kept in (["before", "after"], ["before", "perhaps", "after"])
            assert [message["text"] for message in reader.data("chatMessage")] == kept
            # Who comes now is told the same.
            late = await station.join(None)
            (joined,) = late.data("joined")
            assert [message["text"] for message in joined["recentMessages"]] == kept

    assert sweep_within(scenario, lambda: check_nothing_left(station)) >= 2


#: What a moderator does, the event that tells it, and its line in the audit log.
ACTS: list[tuple[Callable[[str], Command], str, str]] = [
    (DeleteMessage, "messageDeleted", "room.message_deleted"),
    (lambda _: ClearMessages(LISTENER.id), "messagesCleared", "room.messages_cleared"),
    (lambda _: SlowMode(30), "slowMode", "room.settings_changed"),
    (lambda _: LockRoom(locked=True), "roomLocked", "room.settings_changed"),
    (lambda _: Mute(LISTENER.id), "muted", "room.muted"),
    (lambda _: InviteToSpeak(LISTENER.id), "invitedToSpeak", "room.invited"),
    (lambda _: MoveToAudience(SPEAKER.id), "roleChanged", "room.moved_to_audience"),
]

ONE_STEP = {"muted", "invitedToSpeak"}


@pytest.mark.parametrize(("command", "event", "action"), ACTS, ids=[action + " " + event for _, event, action in ACTS])
def test_what_a_moderator_does_stopped_at_any_step_is_done_told_and_on_record_or_none(
    new_station: Callable[[], Station], command: Callable[[str], Command], event: str, action: str
) -> None:
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open():
            await station.start()
            moderator, target = await station.join(MODERATOR), await station.join(LISTENER)
            await station.join(SPEAKER)
            await target.do(ChatMessage("hello"))
            (message,) = target.data("chatMessage")
            with cut:
                await moderator.do(command(message["id"]))
            await trio.testing.wait_all_tasks_blocked()
            on_record = acts_on_record(station).count(action)
            assert target.events.count(event) == on_record <= 1
            if event in ("messageDeleted", "messagesCleared"):
                assert texts_kept(station) == ([] if on_record else ["hello"])
            # And it can be done again.
            if not on_record:
                await moderator.do(command(message["id"]))
                await trio.testing.wait_all_tasks_blocked()
                assert acts_on_record(station).count(action) == target.events.count(event) == 1

    # Muting and inviting are one step: nothing to stop in between.
    assert sweep_within(scenario, lambda: check_nothing_left(station)) >= (0 if event in ONE_STEP else 2)


async def whole_show(station: Station, *, drain: bool = False) -> None:
    """A waiting room, a show with two speakers, listeners and sockets, an absence, and its end."""
    async with station.open() as on_air, trio.open_nursery() as nursery:
        sockets = {}
        for person in (LISTENER, MODERATOR, None):
            socket = sockets[person] = FakeSocket()
            station.sockets.append(socket)
            await nursery.start(socket.serve, on_air, person, station.show_id)
        await station.start()
        (await station.publish(SPEAKER)).speak()
        host = (await station.publish(HOST)).speak()
        hearing = [(await station.listen(person)).connect() for person in (LISTENER, None)]
        await sockets[LISTENER].do(ChatMessage("hello"))
        await sockets[None].do(Reaction("🔥"))
        await sockets[MODERATOR].do(Remove(LISTENER.id))
        await trio.lowlevel.checkpoint()
        assert hearing[0].closed == "removed"
        await trio.sleep(6)
        host.close("lost")
        await trio.sleep(10)
        await station.publish(HOST, "whip")
        if drain:
            await on_air.drain()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        else:
            await on_air.end(HOST, station.show_id)


def check_row(station: Station) -> None:
    """A show that was live when everything stopped is live still; one that ended has ended."""
    with station.db._sessions() as session:
        row = session.get(Broadcast, station.show_id)
        assert row is None or (row.status is BroadcastStatus.ENDED) == (row.ended_at is not None)


@pytest.mark.parametrize(("drain", "seed"), [(False, 0), (True, 1)], ids=["end", "drain"])
def test_a_whole_show_stopped_at_any_step_leaves_nothing(
    new_station: Callable[[], Station], drain: bool, seed: int
) -> None:
    station = new_station()

    async def scenario() -> None:
        nonlocal station
        station = new_station()
        await whole_show(station, drain=drain)

    def check() -> None:
        check_nothing_left(station)
        check_row(station)

    steps = sweep(scenario, check, refusals=(LacError,), seed=seed)
    assert steps > 100


def test_a_show_that_fails_and_is_stopped_at_any_step_leaves_nothing(new_station: Callable[[], Station]) -> None:
    station = new_station()

    async def scenario() -> None:
        nonlocal station
        station = new_station()
        async with station.open():
            await station.start()
            await station.join(LISTENER)
            (await station.publish()).speak()
            (await station.listen()).connect()
            station.engine.crash(station.show_id)
            await trio.testing.wait_all_tasks_blocked()
            assert await station.status() is BroadcastStatus.ENDED

    sweep(scenario, lambda: check_nothing_left(station))


def test_a_restart_stopped_at_any_step_leaves_nothing_and_loses_no_show(new_station: Callable[[], Station]) -> None:
    station = new_station()

    async def scenario(cut: Cut) -> None:
        nonlocal station
        station = new_station()
        async with station.open():
            await station.start()
        with cut:
            async with station.open():
                await station.join(LISTENER)
        assert await station.status() is BroadcastStatus.LIVE

    sweep_within(scenario, lambda: check_nothing_left(station))


def test_the_sweep_itself_finds_what_is_left_and_says_where() -> None:
    open_things: list[str] = []

    async def careless() -> None:
        open_things.clear()
        await trio.sleep(1)
        open_things.append("file")
        await trio.sleep(1)
        open_things.clear()

    def check() -> None:
        assert open_things == []

    with pytest.raises(AssertionError) as found:
        sweep(careless, check)
    assert any("cancelled at step" in note and "careless" in note for note in found.value.__notes__)


def test_the_sweep_finds_tasks_that_outlive_the_scenario() -> None:
    async def careless() -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)

    with pytest.raises(AssertionError, match="tasks are left"):
        sweep(careless, lambda: None)
