"""The life of a show: waiting room, start, grace, end, failure, shutdown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import structlog.testing
import trio
import trio.testing
from sqlalchemy import select
from trio.testing import MockClock

from lac.broadcasts.model import BroadcastAction, BroadcastStatus
from lac.db import models
from lac.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError
from lac.rooms.commands import ChatMessage, RaiseHand, Reaction
from lac.rooms.events import CloseCode
from tests.fakes.air import ADMIN, COHOST, GRACE_S, HOST, LISTENER, MODERATOR, SPEAKER, FakeSocket, Station


async def test_a_waiting_room_turns_into_the_show_in_place(station: Station, autojump_clock: MockClock) -> None:
    listener = await station.join(LISTENER)
    assert listener.data("joined")[0]["broadcast"]["status"] == "scheduled"
    assert not station.engine.rooms

    broadcast = await station.start()

    assert broadcast.status is BroadcastStatus.LIVE
    assert listener.events == ["joined", "broadcastStarted"]
    assert listener.closed is None
    assert list(station.engine.rooms) == [station.show_id]
    late = await station.join()
    assert late.data("joined")[0]["broadcast"]["status"] == "live"
    assert late.data("joined")[0]["memberCount"] == 2


async def test_a_waiting_room_goes_with_its_last_socket_and_comes_back(
    station: Station, autojump_clock: MockClock
) -> None:
    first = await station.join(LISTENER)
    assert first.member is not None
    first.member.leave()
    again = await station.join(LISTENER)  # while the earlier room is still closing
    assert again.events == ["joined"]
    assert again.member is not None
    again.member.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert station.shows == 0


async def test_the_show_ends_when_its_host_has_not_been_heard_for_the_grace_period(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    listener = await station.join(LISTENER)
    session = (await station.publish()).speak()
    await trio.sleep(10 * GRACE_S)
    assert await station.status() is BroadcastStatus.LIVE

    session.close("lost")
    assert listener.events == ["joined", "activeSpeakers", "activeSpeakers", "hostAway"]
    await trio.sleep(GRACE_S - 1)
    assert listener.closed is None
    assert (await station.join()).data("joined")[0]["hostAway"] is True
    await trio.sleep(2)

    assert listener.events[-1] == "broadcastEnded"
    assert listener.data("broadcastEnded")[0]["reason"] == "host_left"
    assert listener.code == CloseCode.LEFT
    assert await station.status() is BroadcastStatus.ENDED
    assert station.shows == 0


async def test_a_host_who_comes_back_in_time_resumes_the_same_show(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    listener = await station.join(LISTENER)
    (await station.publish()).speak().close("lost")
    await trio.sleep(GRACE_S - 1)
    session = await station.publish(COHOST)
    await trio.sleep(0.5)
    session.speak()
    await trio.sleep(10 * GRACE_S)
    assert await station.status() is BroadcastStatus.LIVE
    assert [event for event in listener.events if event.startswith("host")] == ["hostAway", "hostBack"]


async def test_audio_that_stops_and_comes_again_counts_like_a_session(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    listener = await station.join(LISTENER)
    session = (await station.publish()).speak()
    session.fall_silent()
    assert listener.events[-1] == "hostAway"
    session.speak()
    assert listener.events[-2:] == ["activeSpeakers", "hostBack"]


async def test_a_show_whose_host_never_publishes_ends_after_the_grace_period(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    await station.publish()  # connects to nothing
    await trio.sleep(GRACE_S + 1)
    assert await station.status() is BroadcastStatus.ENDED


async def test_a_guest_speaker_does_not_keep_the_show_going(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    (await station.publish(SPEAKER)).speak()
    await trio.sleep(GRACE_S + 1)
    assert await station.status() is BroadcastStatus.ENDED


async def test_a_show_whose_end_cannot_be_written_down_goes_on_and_ends_later(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    listener = await station.join(LISTENER)
    station.db.away = True
    with structlog.testing.capture_logs() as logs:
        await trio.sleep(GRACE_S + 12)
    assert listener.closed is None
    assert [entry["event"] for entry in logs].count("the end of the show could not be written down") == 3
    station.db.away = False
    await trio.sleep(5)
    assert listener.code == CloseCode.LEFT
    assert await station.status() is BroadcastStatus.ENDED


async def test_a_show_whose_record_is_gone_ends_with_its_grace_period(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    listener = await station.join(LISTENER)
    await station.broadcasts.delete(HOST, station.show_id)  # past us
    await trio.sleep(GRACE_S + 1)
    assert listener.data("broadcastEnded")[0]["reason"] == "removed"
    assert station.shows == 0


async def test_end_tells_everyone_closes_all_and_writes_the_rows(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    listener = await station.join(LISTENER)
    speaking, hearing = (await station.publish()).speak(), (await station.listen()).connect()
    gone = await station.listen(LISTENER)
    gone.close("hung_up")

    ended = await station.on_air.end(HOST, station.show_id)

    assert ended.status is BroadcastStatus.ENDED
    assert listener.events[-1] == "broadcastEnded"
    assert listener.closed == (CloseCode.LEFT, "ended")
    assert speaking.closed == hearing.closed == "ended"
    assert station.db.close_reasons() == {speaking.id: "ended", hearing.id: "ended", gone.id: "hung_up"}
    assert station.shows == 0
    assert (await station.on_air.end(HOST, station.show_id)).status is BroadcastStatus.ENDED


async def test_only_those_who_run_the_show_start_and_end_it(station: Station, autojump_clock: MockClock) -> None:
    for person in (LISTENER, SPEAKER, MODERATOR):
        with pytest.raises(ForbiddenError):
            await station.on_air.start(person, station.show_id)
    await station.on_air.start(COHOST, station.show_id)
    with pytest.raises(ForbiddenError):
        await station.on_air.end(LISTENER, station.show_id)
    with pytest.raises(ForbiddenError):
        await station.on_air.remove(COHOST, station.show_id)
    await station.on_air.end(ADMIN, station.show_id)


async def test_a_show_that_is_not_live_cannot_be_ended(station: Station, autojump_clock: MockClock) -> None:
    with pytest.raises(ConflictError) as refused:
        await station.on_air.end(HOST, station.show_id)
    assert refused.value.code == "not_live"


async def test_start_is_idempotent_and_ended_is_final(station: Station, autojump_clock: MockClock) -> None:
    listener = await station.join(LISTENER)
    first = await station.start()
    assert (await station.start()).started_at == first.started_at
    assert listener.events.count("broadcastStarted") == 1
    await station.on_air.end(HOST, station.show_id)
    with pytest.raises(ConflictError) as refused:
        await station.start()
    assert refused.value.code == "already_ended"
    with pytest.raises(ConflictError) as late:
        await station.join(LISTENER)
    assert late.value.code == "already_ended"


async def test_starts_and_ends_at_the_same_time_agree_with_the_database(
    station: Station, autojump_clock: MockClock
) -> None:
    async def end() -> None:
        await station.on_air.end(HOST, station.show_id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(station.start)
        nursery.start_soon(station.start)
        await station.start()
        nursery.start_soon(end)
        nursery.start_soon(end)
    assert await station.status() is BroadcastStatus.ENDED
    assert station.shows == 0


@pytest.mark.parametrize("start_at", [0.0, 0.5, 1.5, 2.5, 3.5, 4.5])
async def test_people_who_come_while_the_show_starts_are_all_in_the_same_room(
    station: Station, autojump_clock: MockClock, start_at: float
) -> None:
    station.db.delay_s = 1.0
    async with trio.open_nursery() as nursery:
        for person in (LISTENER, SPEAKER, None):
            nursery.start_soon(station.join, person)
            await trio.sleep(0.3)
        await trio.sleep(start_at)
        nursery.start_soon(station.start)
        nursery.start_soon(station.join, MODERATOR)
    assert station.shows == 1
    assert station.on_air._shows[station.show_id].state.member_count == 4
    for socket in station.sockets:
        assert socket.data("broadcastStarted") or socket.data("joined")[0]["broadcast"]["status"] == "live"


async def test_removal_ends_the_show_and_deletes_it(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    listener = await station.join(LISTENER)
    await station.listen()
    await station.on_air.remove(HOST, station.show_id)
    assert listener.data("broadcastEnded")[0]["reason"] == "removed"
    assert listener.code == CloseCode.LEFT
    assert station.shows == 0
    with pytest.raises(NotFoundError):
        await station.join(LISTENER)


async def test_removal_closes_a_waiting_room(station: Station, autojump_clock: MockClock) -> None:
    listener = await station.join(LISTENER)
    await station.on_air.remove(HOST, station.show_id)
    assert listener.code == CloseCode.LEFT
    assert station.shows == 0


async def test_a_failed_show_takes_only_itself_down(station: Station, autojump_clock: MockClock) -> None:
    other = await station.schedule()
    await station.start()
    await station.on_air.start(HOST, other.id)
    listener, session = await station.join(LISTENER), await station.listen()
    elsewhere = FakeSocket()
    await station.on_air.join(LISTENER, other.id, None, elsewhere)

    with structlog.testing.capture_logs() as logs:
        station.engine.crash(station.show_id)
        await trio.testing.wait_all_tasks_blocked()

    [failure] = [entry for entry in logs if entry["event"] == "broadcast failed"]
    assert failure["broadcast_id"] == station.show_id
    assert failure["exc_info"]
    assert listener.code == CloseCode.INTERNAL_ERROR
    assert station.db.close_reasons() == {session.id: "failed"}
    assert await station.status() is BroadcastStatus.ENDED
    assert elsewhere.closed is None
    assert list(station.engine.rooms) == [other.id]
    assert listener.member is not None
    listener.member.leave()  # the gateway does, later
    third = await station.schedule()
    await station.on_air.start(HOST, third.id)


async def test_a_media_event_that_breaks_the_show_does_not_reach_the_engine(
    station: Station, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await station.start()
    listener, session = await station.join(LISTENER), await station.publish()
    monkeypatch.setattr("lac.broadcasts.stage.Stage.connected", lambda *_: 1 / 0)
    session.connect()
    await trio.testing.wait_all_tasks_blocked()
    assert listener.code == CloseCode.INTERNAL_ERROR
    assert await station.status() is BroadcastStatus.ENDED


async def test_a_show_that_cannot_open_is_not_left_live(station: Station, autojump_clock: MockClock) -> None:
    station.engine.open_error = OSError("no more sockets")
    with pytest.raises(UnavailableError):
        await station.start()
    assert await station.status() is BroadcastStatus.ENDED
    assert station.shows == 0


async def test_shutdown_leaves_the_show_live_and_its_rows_closed(
    new_station: Callable[[], Station], autojump_clock: MockClock
) -> None:
    station = new_station()
    async with station.open():
        await station.start()
        listener, session = await station.join(LISTENER), (await station.publish()).speak()
    assert listener.code == CloseCode.SHUTTING_DOWN
    assert "hostAway" not in listener.events
    assert await station.status() is BroadcastStatus.LIVE
    assert station.db.close_reasons() == {session.id: "shutdown"}
    assert not station.engine.rooms


async def test_a_restart_takes_the_show_up_again_with_the_clock_running(
    new_station: Callable[[], Station], autojump_clock: MockClock
) -> None:
    station = new_station()
    started = await station.broadcasts.set_status(station.show_id, BroadcastAction.START)
    async with station.open():
        listener = await station.join(LISTENER)
        assert listener.data("joined")[0]["hostAway"] is True
        assert listener.data("joined")[0]["hostAwayUntil"] is not None
        (await station.publish()).speak()
        assert listener.events[-1] == "hostBack"
        await trio.sleep(2 * GRACE_S)
        assert (await station.broadcasts.get(None, station.show_id)).started_at == started.started_at

    async with station.open():
        await trio.sleep(GRACE_S + 1)
        assert await station.status() is BroadcastStatus.ENDED


async def test_drain_sends_everyone_elsewhere_and_lets_nobody_in(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    sockets = [await station.join() for _ in range(3)]
    hearing = await station.listen()
    await station.on_air.drain()
    delays = [socket.data("reconnect")[0]["afterMs"] for socket in sockets]
    assert len(set(delays)) == 3
    assert {socket.code for socket in sockets} == {CloseCode.SHUTTING_DOWN}
    assert hearing.closed is None  # whoever listens hears the show until the process stops
    for attempt in (station.join, station.start, station.listen):
        with pytest.raises(UnavailableError):
            await attempt()


async def test_a_caller_who_goes_away_does_not_leave_the_start_half_done(
    station: Station, autojump_clock: MockClock
) -> None:
    station.db.delay_s = 1.0
    with trio.move_on_after(2.5):
        await station.start()
    await trio.sleep(10)
    assert await station.status() is BroadcastStatus.LIVE
    assert list(station.engine.rooms) == [station.show_id]


async def test_listener_counts_are_coalesced(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    (await station.publish()).speak()
    socket = await station.join()
    await trio.sleep(5)
    sessions = [(await station.listen()).connect() for _ in range(5)]
    assert station.on_air.listener_count(station.show_id) == 5
    await trio.sleep(0.1)
    sessions[0].close("left")
    sessions.append((await station.listen()).connect())
    sessions[1].close("left")
    await trio.sleep(5)
    counts = [data["count"] for data in socket.data("listenerCount")]
    assert counts[-1] == 4
    assert len(counts) == 2
    (await station.listen()).connect()
    await trio.sleep(0.1)
    sessions[2].close("left")
    (await station.listen()).connect()  # the same count again within the second
    await trio.sleep(5)
    assert [data["count"] for data in socket.data("listenerCount")][2:] == [5]


async def test_stats_go_to_the_staff_alone(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    (await station.publish()).speak()
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    await trio.sleep(11)
    assert len(moderator.data("stats")) == 2
    assert moderator.data("stats")[0] == {
        "listeners": 0,
        "sockets": 2,
        "packetsIn": 1000,
        "packetsLostIn": 10,
        "worstLoss": 0.25,
        "weakListeners": 1,
        "roundTripMs": 40.0,
    }
    assert listener.data("stats") == []


async def test_reactions_are_merged_and_kept(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    one, two = await station.join(), await station.join()
    await one.do(Reaction("🔥"))
    await trio.sleep(0.1)
    await two.do(Reaction("🔥"))
    await two.do(Reaction("❤"))  # without the variation selector
    await trio.sleep(1)
    assert one.data("reaction") == [{"counts": {"🔥": 2, "❤️": 1}, "mediaTime": pytest.approx(0.25)}]
    await one.do(Reaction("🎉"))
    await trio.sleep(1)
    assert len(two.data("reaction")) == 2
    rows = station.db.now(lambda db: {row.emoji: row.count for row in db.scalars(select(models.Reaction))})
    assert rows == {"🔥": 2, "❤️": 1, "🎉": 1}


async def test_chat_is_stored_before_it_is_sent_and_keeps_its_order(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    one, two = await station.join(LISTENER), await station.join(name="  Gus \u202e ")
    await trio.sleep(3)
    station.db.delay_s = 1.0

    async def say(socket: FakeSocket, text: str) -> None:
        accepted = await socket.do(ChatMessage(text))
        assert accepted is not None

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(say, (one, two)[number % 2], f"{number}\r\n")
            await trio.sleep(0.01)
        assert one.data("chatMessage") == []
    station.db.delay_s = 0
    texts = [message["text"] for message in one.data("chatMessage")]
    assert texts == [message["text"] for message in two.data("chatMessage")] == ["0", "1", "2", "3"]
    assert {message["user"]["displayName"] for message in one.data("chatMessage")} == {"Lea", "Gus"}
    late = await station.join()
    assert [message["text"] for message in late.data("joined")[0]["recentMessages"]] == texts
    assert one.data("chatMessage")[0]["mediaTime"] == pytest.approx(3.0, abs=0.1)


async def test_chat_of_the_waiting_room_is_there_when_it_opens_again(
    station: Station, autojump_clock: MockClock
) -> None:
    socket = await station.join(LISTENER)
    await socket.do(ChatMessage("when does it start?"))
    assert socket.member is not None
    socket.member.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert station.shows == 0
    again = await station.join(LISTENER)
    [message] = again.data("joined")[0]["recentMessages"]
    assert message["text"] == "when does it start?"
    assert message["user"]["id"] == LISTENER.id


async def test_a_chat_line_that_cannot_be_stored_is_not_sent(station: Station, autojump_clock: MockClock) -> None:
    socket = await station.join(LISTENER)
    station.db.away = True
    with pytest.raises(UnavailableError):
        await socket.do(ChatMessage("hello"))
    assert socket.data("chatMessage") == []


async def test_a_guest_gets_a_token_and_a_name_that_is_theirs(station: Station, autojump_clock: MockClock) -> None:
    socket = await station.join(None, "Gus")
    you = socket.data("joined")[0]["you"]
    assert you["displayName"] == "Gus"
    assert you["anonymous"] is True
    assert you["token"] == f"token of {you['id']}"
    raised = await socket.do(RaiseHand("me"))
    assert raised is not None
    assert (await station.join()).data("joined")[0]["hands"][0]["note"] == "me"
