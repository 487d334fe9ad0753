"""Mute, remove, ban: what they do, to whom, and how long they hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio.testing
from trio.testing import MockClock

from lac.broadcasts.model import Role
from lac.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from lac.identity import Identity, IdentityKind
from lac.rooms.commands import LowerHand, Mute, RaiseHand, Reaction, Remove, Unmute
from lac.rooms.events import CloseCode
from tests.fakes.air import ADMIN, COHOST, HOST, LISTENER, MODERATOR, SPEAKER, FakeSocket, Station


async def test_a_mute_is_told_to_everyone_and_holds_over_a_reconnect(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    moderator, speaker, listener = (
        await station.join(MODERATOR),
        await station.join(SPEAKER),
        await station.join(LISTENER),
    )
    first = (await station.publish(SPEAKER)).speak()
    await moderator.do(Mute(SPEAKER.id))
    assert station.media.muted == {SPEAKER.id}
    assert listener.data("muted") == [{"userId": SPEAKER.id}]

    first.close("lost")
    assert speaker.member is not None
    speaker.member.leave()
    again = await station.join(SPEAKER)
    (await station.publish(SPEAKER)).speak()
    assert station.media.muted == {SPEAKER.id}
    assert again.data("joined")[0]["members"][-1]["muted"] is True

    await moderator.do(Unmute(SPEAKER.id))
    assert station.media.muted == set()
    assert listener.data("unmuted") == [{"userId": SPEAKER.id}]
    await moderator.do(Unmute(SPEAKER.id))
    assert len(listener.data("unmuted")) == 1


async def test_a_mute_of_the_waiting_room_holds_on_air(station: Station, autojump_clock: MockClock) -> None:
    moderator, _ = await station.join(MODERATOR), await station.join(SPEAKER)
    await moderator.do(Mute(SPEAKER.id))
    await station.start()
    assert station.media.muted == {SPEAKER.id}


async def test_a_muted_host_who_is_connected_is_not_away(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    host = await station.join(HOST)
    session = (await station.publish()).speak()
    await host.do(Mute(HOST.id))
    session.fall_silent()
    assert "hostAway" not in host.events
    await host.do(Unmute(HOST.id))
    assert host.events[-1] == "hostAway"


async def test_listeners_and_speakers_moderate_nobody(station: Station, autojump_clock: MockClock) -> None:
    target = await station.join(LISTENER)
    for person in (SPEAKER, None):
        socket = await station.join(person)
        for command in (Mute(LISTENER.id), Unmute(LISTENER.id), Remove(LISTENER.id), LowerHand(LISTENER.id)):
            with pytest.raises(ForbiddenError):
                await socket.do(command)
    assert target.closed is None


async def test_nobody_moderates_a_stronger_role(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    sockets = {person.id: await station.join(person) for person in (ADMIN, HOST, COHOST, MODERATOR)}
    for weaker, stronger in ((MODERATOR, COHOST), (MODERATOR, HOST), (COHOST, HOST), (HOST, ADMIN)):
        for command in (Mute(stronger.id), Remove(stronger.id, ban=True)):
            with pytest.raises(ForbiddenError):
                await sockets[weaker.id].do(command)
        assert sockets[stronger.id].closed is None
    await sockets[ADMIN.id].do(Remove(HOST.id))
    assert sockets[HOST.id].code == CloseCode.REMOVED


async def test_a_role_counts_also_for_somebody_who_only_has_media(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    session = (await station.publish(HOST)).speak()
    moderator = await station.join(MODERATOR)
    with pytest.raises(ForbiddenError):
        await moderator.do(Remove(HOST.id))
    with pytest.raises(ForbiddenError):
        await moderator.do(Remove(COHOST.id, ban=True))  # not here at all
    assert session.closed is None


async def test_the_mute_of_a_stronger_role_stays(station: Station, autojump_clock: MockClock) -> None:
    host, cohost = await station.join(HOST), await station.join(COHOST)
    await host.do(Mute(COHOST.id))
    with pytest.raises(ForbiddenError):
        await cohost.do(Unmute(COHOST.id))
    await host.do(Unmute(COHOST.id))


async def test_removal_closes_sockets_and_media_and_keeps_the_person_out(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    moderator = await station.join(MODERATOR)
    one, two = await station.join(LISTENER), await station.join(LISTENER)
    hearing = (await station.listen(LISTENER)).connect()
    await two.do(RaiseHand())
    await moderator.do(Remove(LISTENER.id, reason=" no\nspam "))

    for socket in (one, two):
        assert socket.data("removed") == [{"reason": "no spam"}]
        assert socket.closed == (CloseCode.REMOVED, "no spam")
        assert socket.member is not None
        socket.member.leave()  # the gateway does, in its own time
        with pytest.raises(ConflictError):
            await socket.do(Reaction("🔥"))
    assert hearing.closed == "removed"
    assert moderator.events[-2:] == ["handLowered", "userLeft"]
    for attempt in (station.join, station.listen):
        with pytest.raises(ForbiddenError) as refused:
            await attempt(LISTENER)
        assert refused.value.code == "removed"
    await trio.testing.wait_all_tasks_blocked()
    assert station.db.close_reasons() == {hearing.id: "removed"}


async def test_a_removed_guest_stays_out_with_that_token(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    moderator, socket = await station.join(MODERATOR), await station.join(None, "Gus")
    guest_id = socket.data("joined")[0]["you"]["id"]
    guest = Identity(IdentityKind.GUEST, guest_id, "Gus", broadcast_id=station.show_id)
    session = await station.listen(guest)
    await moderator.do(Remove(guest_id, ban=True))
    assert session.closed == "removed"
    for attempt in (station.join, station.listen):
        with pytest.raises(ForbiddenError):
            await attempt(guest)


async def test_removal_from_a_waiting_room_outlives_it(station: Station, autojump_clock: MockClock) -> None:
    moderator, _ = await station.join(MODERATOR), await station.join(LISTENER)
    await moderator.do(Remove(LISTENER.id))
    assert moderator.member is not None
    moderator.member.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert station.shows == 0
    with pytest.raises(ForbiddenError):
        await station.join(LISTENER)
    await station.start()
    with pytest.raises(ForbiddenError):
        await station.listen(LISTENER)


async def test_a_ban_outlives_the_process_and_removal_does_not(
    new_station: Callable[[], Station], autojump_clock: MockClock
) -> None:
    station = new_station()
    async with station.open():
        moderator = await station.join(MODERATOR)
        await station.join(LISTENER)
        await station.join(SPEAKER)
        await moderator.do(Remove(SPEAKER.id))
        await moderator.do(Remove(LISTENER.id, ban=True))
    async with station.open():
        await station.join(SPEAKER)
        with pytest.raises(ForbiddenError) as refused:
            await station.join(LISTENER)
        assert refused.value.code == "removed"


async def test_a_moderator_can_remove_through_the_api(station: Station, autojump_clock: MockClock) -> None:
    socket = await station.join(LISTENER)
    with pytest.raises(ForbiddenError):
        await station.on_air.rights.remove_person(SPEAKER, station.show_id, LISTENER.id, None, ban=True)
    await station.on_air.rights.remove_person(MODERATOR, station.show_id, LISTENER.id, None, ban=False)
    assert socket.code == CloseCode.REMOVED
    station.on_air.admission.readmit(station.show_id, LISTENER.id)
    await station.join(LISTENER)


async def test_removal_while_a_session_is_being_opened_catches_it(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    moderator, _ = await station.join(MODERATOR), await station.join(LISTENER)
    station.media.gate = gate = trio.Event()

    async def remove() -> None:
        await trio.testing.wait_all_tasks_blocked()
        await moderator.do(Remove(LISTENER.id))
        gate.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove)
        with pytest.raises(ForbiddenError):
            await station.listen(LISTENER)
    assert not station.media.sessions


async def test_commands_about_nobody_and_oneself_are_refused(station: Station, autojump_clock: MockClock) -> None:
    moderator = await station.join(MODERATOR)
    for command in (Mute("nobody"), Unmute("nobody"), Remove("nobody")):
        with pytest.raises(NotFoundError):
            await moderator.do(command)
    with pytest.raises(InvalidInputError):
        await moderator.do(Remove(MODERATOR.id))
    await moderator.do(Remove("nobody", ban=True))


async def test_moderators_lower_hands(station: Station, autojump_clock: MockClock) -> None:
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    await listener.do(RaiseHand("a question"))
    assert moderator.data("handRaised")[0]["position"] == 1
    await moderator.do(LowerHand(LISTENER.id))
    assert listener.data("handLowered") == [{"userId": LISTENER.id}]


async def test_a_granted_role_counts_at_once(station: Station, autojump_clock: MockClock) -> None:
    listener, other = await station.join(LISTENER), await station.join(SPEAKER)
    station.on_air.rights.role_changed(station.show_id, LISTENER.id, Role.MODERATOR)
    assert other.data("roleChanged")[0]["user"]["role"] == "moderator"
    await listener.do(Mute(SPEAKER.id))


async def test_a_full_outlet_that_leaves_while_it_is_offered_a_frame_harms_nobody(
    station: Station, autojump_clock: MockClock
) -> None:
    class FullSocket(FakeSocket):
        def offer(self, frame: bytes) -> None:
            if self.member is not None:
                self.close(CloseCode.TOO_SLOW, "too slow")
                self.member.leave()

    full = FullSocket()
    full.member = await station.on_air.join(LISTENER, station.show_id, None, full)
    other = await station.join(SPEAKER)
    assert full.code == CloseCode.TOO_SLOW
    assert other.data("joined")[0]["memberCount"] == 1


async def test_a_guest_who_takes_a_name_is_still_the_owner_of_their_media(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    moderator, socket = await station.join(MODERATOR), await station.join()
    guest_id = socket.data("joined")[0]["you"]["id"]
    guest = Identity(IdentityKind.GUEST, guest_id, "Guest", broadcast_id=station.show_id)
    session = (await station.listen(guest)).connect()
    renamed = await station.join(guest, "Seagull")
    you = renamed.data("joined")[0]["you"]
    assert (you["id"], you["displayName"]) == (guest_id, "Seagull")
    assert you["token"] is not None
    assert moderator.data("userJoined")[-1]["user"]["displayName"] == "Seagull"
    await moderator.do(Remove(guest_id))
    assert session.closed == "removed"
    assert renamed.code == socket.code == 4403
