"""Who is on the stage: reconnecting, taking over, limits, and who may open what."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from lac.broadcasts.ledger import GATHER_S
from lac.broadcasts.live import SOCKETS_PER_PERSON
from lac.broadcasts.model import BroadcastStatus, Role
from lac.broadcasts.stage import SESSIONS_PER_OWNER, STAGE_MAX
from lac.errors import ConflictError, ForbiddenError, TooManyRequestsError
from lac.identity import Identity, IdentityKind
from lac_media.rooms.events import SpeakingChanged
from tests.fakes.air import COHOST, HOST, LISTENER, SPEAKER, Station
from tests.fakes.media import FakeSession


def guest(station: Station, name: str = "guest-1") -> Identity:
    return Identity(IdentityKind.GUEST, name, "Gus", broadcast_id=station.show_id)


def stream_key(station: Station) -> Identity:
    return Identity(IdentityKind.STREAM_KEY, HOST.id, HOST.display_name, broadcast_id=station.show_id)


async def test_a_reconnect_replaces_the_old_session_once_it_is_heard(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    listener = await station.join(LISTENER)
    old = (await station.publish()).speak()
    new = await station.publish()
    new.connect()
    assert not station.media.sessions.keys() ^ {old.id, new.id}
    new.speak()
    assert old.closed == "replaced"
    assert new.closed is None
    await trio.sleep(2 * GATHER_S)
    assert station.db.close_reasons() == {old.id: "replaced", new.id: None}
    assert "hostAway" not in listener.events
    assert listener.data("activeSpeakers")[-1]["producers"] == [{"id": new.producer_id, "userId": "host"}]


async def test_a_reconnect_that_fails_leaves_the_old_session_alone(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    old = (await station.publish()).speak()
    (await station.publish()).close("timeout")
    assert old.closed is None


async def test_an_old_session_that_is_heard_again_does_not_close_a_newer_one(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    old = (await station.publish()).speak()
    old.fall_silent()
    new = await station.publish()
    old.speak()
    assert new.closed is None
    new.speak()
    assert old.closed == "replaced"


async def test_several_people_are_on_stage_and_nobody_pushes_another_off(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    listener = await station.join(LISTENER)
    sessions = [(await station.publish(identity)).speak() for identity in (SPEAKER, COHOST, HOST)]
    assert [session.closed for session in sessions] == [None] * 3
    producers = listener.data("activeSpeakers")[-1]["producers"]
    assert [producer["userId"] for producer in producers] == [SPEAKER.id, COHOST.id, HOST.id]


async def test_the_stage_holds_a_dozen_and_the_host(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    for number in range(STAGE_MAX + 1):
        person = Identity(IdentityKind.USER, f"speaker-{number}", f"Speaker {number}")
        station.db.add_user(person.id, person.display_name)
        await station.on_air.rights.set_role(HOST, station.show_id, person.id, Role.SPEAKER)
        if number < STAGE_MAX:
            await station.publish(person)
            await station.publish(person)  # once more, from another device: the same person
        else:
            with pytest.raises(ConflictError) as refused:
                await station.publish(person)
            assert refused.value.code == "stage_full"
    await station.publish(HOST)


async def test_who_leaves_the_stage_is_sent_no_single_speakers_any_more(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    await station.publish(SPEAKER)
    hearing: Any = await station.listen(SPEAKER)
    station.on_air.media.check_may_hear_speakers(hearing)
    await station.on_air.rights.set_role(HOST, station.show_id, SPEAKER.id, None)
    assert station.media.left_stage == [SPEAKER.id]
    with pytest.raises(ForbiddenError):
        station.on_air.media.check_may_hear_speakers(hearing)


async def test_everyone_is_told_who_is_speaking(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    (await station.publish(HOST)).speak()
    socket = await station.join(LISTENER)
    station.media.report(SpeakingChanged(((HOST.id, -24), ("gone", -30))))
    assert socket.data("activeSpeakers")[-1]["speaking"] == [{"userId": HOST.id, "level": -24}]
    station.media.report(SpeakingChanged(()))
    assert socket.data("activeSpeakers")[-1]["speaking"] == []


async def test_an_encoder_with_the_stream_key_is_the_host(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    browser = (await station.publish(HOST)).speak()
    encoder = (await station.publish(stream_key(station), "whip")).speak()
    assert encoder.owner == HOST.id
    assert browser.closed == "replaced"
    for attempt in (station.listen, station.join):
        with pytest.raises(ForbiddenError):
            await attempt(stream_key(station))


@pytest.mark.parametrize("who", ["host", "cohost", "key"])
async def test_an_encoder_starts_a_scheduled_show(station: Station, autojump_clock: MockClock, who: str) -> None:
    waiting = await station.join(LISTENER)
    identity = {"host": HOST, "cohost": COHOST, "key": stream_key(station)}[who]
    with pytest.raises(ConflictError) as refused:
        await station.publish(identity, "mediasoup")
    assert refused.value.code == "not_live"
    await station.publish(identity, "whip")
    assert await station.status() is BroadcastStatus.LIVE
    assert waiting.events == ["joined", "broadcastStarted"]


async def test_nobody_else_starts_a_show_by_publishing_or_listening(
    station: Station, autojump_clock: MockClock
) -> None:
    with pytest.raises(ConflictError):
        await station.publish(SPEAKER, "whip")
    with pytest.raises(ForbiddenError):
        await station.publish(LISTENER, "whip")
    with pytest.raises(ConflictError):
        await station.listen(HOST, "whep")
    assert await station.status() is BroadcastStatus.SCHEDULED


async def test_listeners_and_strangers_may_not_publish(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    for identity in (LISTENER, None, guest(station)):
        with pytest.raises(ForbiddenError):
            await station.publish(identity)


async def test_each_session_without_a_token_is_somebody_else(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    sessions = [await station.listen() for _ in range(3)]
    assert len({session.owner for session in sessions}) == 3
    assert all(session.owner.startswith("anon-") for session in sessions)
    await trio.testing.wait_all_tasks_blocked()
    assert {row.user_id for row in station.db.session_rows()} == {None}


async def test_one_person_has_a_limit_of_open_sessions(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    sessions: list[FakeSession] = []

    async def listen() -> None:
        sessions.append(await station.listen(guest(station)))

    async with trio.open_nursery() as nursery:
        for _ in range(SESSIONS_PER_OWNER):
            nursery.start_soon(listen)
    with pytest.raises(TooManyRequestsError):
        await listen()
    await station.listen(guest(station, "guest-2"))
    sessions[0].close("left")
    await listen()


async def test_the_limit_holds_for_sessions_that_are_being_opened(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    station.media.gate = trio.Event()
    refused = 0

    async def listen() -> None:
        nonlocal refused
        try:
            await station.listen(LISTENER)
        except TooManyRequestsError:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(SESSIONS_PER_OWNER + 3):
            nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        station.media.gate.set()
    assert refused == 3


async def test_a_session_that_opens_while_the_show_ends_is_refused(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    station.media.gate = gate = trio.Event()

    async def end() -> None:
        await trio.sleep(1)
        await station.on_air.end(HOST, station.show_id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        nursery.start_soon(_set_later, gate)
        with pytest.raises(ConflictError) as refused:
            await station.listen()
        assert refused.value.code == "not_live"
    assert station.db.session_rows() == []


@pytest.mark.parametrize("end", [True, False], ids=["the show", "the session"])
async def test_a_session_that_is_over_before_it_is_given_out_leaves_nothing(
    station: Station, autojump_clock: MockClock, end: bool
) -> None:
    await station.start()
    show = station.on_air._shows[station.show_id]
    station.media.late_gate = gate = trio.Event()

    async def close() -> None:
        await trio.sleep(1)
        if end:
            await station.on_air.end(HOST, station.show_id)
        else:
            [session] = station.media.sessions.values()
            session.close("timeout")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        nursery.start_soon(_set_later, gate)
        with pytest.raises(ConflictError):
            await station.listen()
    assert len(show.media.stage) == 0
    assert station.db.session_rows() == []


async def _set_later(gate: trio.Event) -> None:
    await trio.sleep(2)
    gate.set()


async def test_one_person_has_a_limit_of_sockets(station: Station, autojump_clock: MockClock) -> None:
    sockets = [await station.join(LISTENER) for _ in range(SOCKETS_PER_PERSON)]
    with pytest.raises(TooManyRequestsError):
        await station.join(LISTENER)
    await station.join(HOST)
    assert sockets[0].member is not None
    sockets[0].member.leave()
    await station.join(LISTENER)


async def test_a_guest_of_another_show_is_nobody_here(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    other = Identity(IdentityKind.GUEST, "guest-9", "Gus", broadcast_id="another")
    session = await station.listen(other)
    assert session.owner.startswith("anon-")
