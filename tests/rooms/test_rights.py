"""Who may come in, and rights that end: what `Rights` gives and takes counts at once, wherever somebody is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from lac.auth.sign_ins import SignInsEnded
from lac.broadcasts.model import Role, Visibility
from lac.db import models
from lac.errors import ForbiddenError, InvalidInputError
from lac.identity import Identity, IdentityKind
from lac.rooms import store
from lac.rooms.commands import LockRoom, Remove
from lac.rooms.events import CloseCode
from lac_media.parameters import Direction
from tests.fakes.air import ADMIN, HOST, LISTENER, MODERATOR, SPEAKER, FakeSocket, Station

THERE, ELSEWHERE = "203.0.113.9", "198.51.100.1"


async def guest(station: Station, address: str, token: Identity | None = None) -> FakeSocket:
    socket = FakeSocket()
    station.sockets.append(socket)
    socket.member = await station.on_air.join(token, station.show_id, None, socket, address=address)
    return socket


# --- who may come in --------------------------------------------------------------------------------------------------


async def test_a_locked_room_lets_nobody_new_in(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    await moderator.do(LockRoom(locked=True))
    assert listener.member is not None
    listener.member.leave()
    await station.join(LISTENER)
    await station.listen(LISTENER)
    await station.join(SPEAKER)
    stranger = Identity(IdentityKind.GUEST, "guest-x", "X", broadcast_id=station.show_id)
    for newcomer in (None, stranger):
        for coming in (station.join, station.listen):
            with pytest.raises(ForbiddenError) as refused:
                await coming(newcomer)
            assert refused.value.code == "room_locked"
    await moderator.do(LockRoom(locked=False))
    await station.join()


async def test_a_ban_with_an_end_time_ends(station: Station, autojump_clock: MockClock) -> None:
    moderator, listener = await station.join(MODERATOR), await station.join(LISTENER)
    until = datetime.now(UTC) + timedelta(hours=1)
    await moderator.do(Remove(LISTENER.id, "calm down", ban=True, until=until))
    assert listener.frames[-1]["data"] == {
        "reason": "calm down",
        "banned": True,
        "until": until.isoformat().replace("+00:00", "Z"),
    }
    with pytest.raises(ForbiddenError):
        await station.join(LISTENER)
    [ban] = station.db.now(lambda session: store.list_bans(session, station.show_id, limit=10)).items
    assert (ban.person_id, ban.display_name, ban.until, ban.created_by) == (LISTENER.id, "Lea", until, MODERATOR.id)
    kept_out = station.on_air.admission.kept_out[station.show_id]
    assert not kept_out.has(LISTENER.id, None, until)
    for wrong in (
        Remove(LISTENER.id, until=until),
        Remove(LISTENER.id, ban=True, until=datetime.now(UTC) - timedelta(seconds=1)),
    ):
        with pytest.raises(InvalidInputError):
            await moderator.do(wrong)


async def test_a_banned_guest_does_not_come_back_under_another_id(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    moderator = await station.join(MODERATOR)
    bad, other_tab, elsewhere = [await guest(station, address) for address in (THERE, THERE, ELSEWHERE)]
    account = await guest(station, THERE, LISTENER)
    audio = await station.on_air.media.open_session(None, station.show_id, Direction.RECV, "whep", address=THERE)
    far = await station.on_air.media.open_session(None, station.show_id, Direction.RECV, "whep", address=ELSEWHERE)
    assert bad.member is not None
    bad_id = bad.member.person_id
    await moderator.do(Remove(bad_id, ban=True))
    assert (bad.code, other_tab.code) == (CloseCode.REMOVED, CloseCode.REMOVED)
    assert (elsewhere.code, account.code) == (None, None)
    assert (audio.closed, far.closed) == ("removed", None)
    for token in (None, Identity(IdentityKind.GUEST, "guest-new", "New", broadcast_id=station.show_id)):
        with pytest.raises(ForbiddenError):
            await guest(station, THERE, token)
        with pytest.raises(ForbiddenError):
            await station.on_air.media.open_session(token, station.show_id, Direction.RECV, "whep", address=THERE)
    await guest(station, ELSEWHERE)
    await station.on_air.rights.lift_ban(MODERATOR, station.show_id, bad_id)
    await guest(station, THERE)


async def test_a_ban_by_address_outlives_the_process_and_a_proxy_is_nobodys_address(
    new_station: Callable[[], Station], autojump_clock: MockClock
) -> None:
    station = new_station()
    async with station.open():
        moderator, bad = await station.join(MODERATOR), await guest(station, THERE)
        near = await guest(station, "127.0.0.1")
        for socket in (bad, near):
            assert socket.member is not None
            await moderator.do(Remove(socket.member.person_id, ban=True))
        await guest(station, "127.0.0.1")
    rows = station.db.now(lambda session: [(ban.person_id, ban.address_hash) for ban in session.query(models.Ban)])
    assert all(THERE not in str(row) for row in rows)
    async with station.open():
        with pytest.raises(ForbiddenError):
            await guest(station, THERE)
        await station.join(MODERATOR)
        with pytest.raises(ForbiddenError):
            await guest(station, THERE)


async def test_a_ban_through_the_api_holds_where_nobody_waits(station: Station, autojump_clock: MockClock) -> None:
    for actor, target in ((MODERATOR, HOST), (MODERATOR, ADMIN), (SPEAKER, LISTENER)):
        with pytest.raises(ForbiddenError):
            await station.on_air.rights.remove_person(actor, station.show_id, target.id, None, ban=True)
    await station.on_air.rights.remove_person(MODERATOR, station.show_id, LISTENER.id, None, ban=True)
    with pytest.raises(ForbiddenError):
        await station.join(LISTENER)
    await station.on_air.rights.lift_ban(MODERATOR, station.show_id, LISTENER.id)
    await station.join(LISTENER)


# --- rights that end --------------------------------------------------------------------------------------------------


async def test_a_role_that_is_taken_away_acts_within_the_same_moment(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    socket, audio = await station.join(SPEAKER), (await station.publish(SPEAKER)).speak()
    begun = trio.current_time()
    await station.on_air.rights.set_role(HOST, station.show_id, SPEAKER.id, None)
    assert (audio.closed, socket.code) == ("moved_to_audience", None)
    assert socket.data("roleChanged")[-1]["user"]["role"] == "listener"
    await station.on_air.rights.remove_person(MODERATOR, station.show_id, SPEAKER.id, None, ban=True)
    assert socket.code == CloseCode.REMOVED
    assert trio.current_time() == begun, "nothing of it waits"


async def test_in_a_private_show_nobody_stays_without_a_role(station: Station, autojump_clock: MockClock) -> None:
    broadcast = await station.schedule(Visibility.PRIVATE)
    station.show_id = broadcast.id
    await station.start()
    socket, hearing = await station.join(SPEAKER), await station.listen(SPEAKER)
    await station.on_air.rights.set_role(HOST, station.show_id, SPEAKER.id, None)
    assert (socket.code, hearing.closed) == (CloseCode.REMOVED, "removed")


async def test_a_deleted_account_is_let_go(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    gone, hearing = await station.join(LISTENER), await station.listen(LISTENER)
    station.auth.sign_ins.on_ended(SignInsEnded(LISTENER.id))
    assert (gone.code, hearing.closed) == (CloseCode.NOT_SIGNED_IN, "removed")


@pytest.mark.parametrize("at", [0.5, 1.5, 2.5, 3.5])
async def test_who_comes_in_while_their_rights_end_has_none(
    station: Station, autojump_clock: MockClock, at: float
) -> None:
    """Their role was read before it was taken away, and they are let in after."""
    await station.start()
    await station.join(MODERATOR)
    station.db.delay_s = 1.0
    sockets: list[FakeSocket] = []

    async def come() -> None:
        sockets.append(await station.join(SPEAKER))
        with pytest.raises(ForbiddenError):
            await station.publish(SPEAKER)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come)
        await trio.sleep(at)
        await station.on_air.rights.set_role(HOST, station.show_id, SPEAKER.id, None)
    [socket] = sockets
    assert socket.member is not None
    assert socket.member.person.role is Role.LISTENER


async def test_a_session_that_opens_while_its_right_ends_is_closed(station: Station, autojump_clock: MockClock) -> None:
    await station.start()
    station.media.gate = gate = trio.Event()

    async def take() -> None:
        await trio.testing.wait_all_tasks_blocked()
        await station.on_air.rights.set_role(HOST, station.show_id, SPEAKER.id, None)
        gate.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        with pytest.raises(ForbiddenError):
            await station.publish(SPEAKER)
    assert not station.media.sessions
