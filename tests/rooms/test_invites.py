"""Private shows: who comes by the invite link, and what becomes of them when it is renewed or the show closed off."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from lac.audit import list_audit
from lac.broadcasts.model import Role, Visibility
from lac.errors import ForbiddenError, NotFoundError
from lac.identity import Identity, IdentityKind
from lac.rooms.commands import MoveToAudience
from lac.rooms.events import CloseCode
from tests.fakes.air import COHOST, HOST, LISTENER, MODERATOR, SPEAKER, Station


@pytest.fixture
async def private(station: Station) -> Station:
    """The station's show, private and on air."""
    await station.broadcasts.update(HOST, station.show_id, {"visibility": Visibility.PRIVATE})
    await station.start()
    return station


async def link(station: Station) -> str:
    return station.broadcasts.invite_token(await station.broadcasts.get(HOST, station.show_id))


async def invited_guest(station: Station, name: str = "guest-7") -> Identity:
    """Who `AuthService.identify` makes of the token that `accept_invite` gave."""
    broadcast = await station.broadcasts.accept_invite(None, station.show_id, await link(station))
    return Identity(
        IdentityKind.GUEST, name, "Gus", broadcast_id=station.show_id, invite_version=broadcast.invite_version
    )


async def accept(station: Station, identity: Identity) -> None:
    assert await station.on_air.rights.accept_invite(identity, station.show_id, await link(station), None) is None


async def test_a_private_show_is_not_there_for_strangers_live_or_not(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.broadcasts.update(HOST, station.show_id, {"visibility": Visibility.PRIVATE})
    for live in (False, True):
        if live:
            await station.start()
        for stranger in (None, LISTENER, Identity(IdentityKind.GUEST, "guest-1", "G", broadcast_id=station.show_id)):
            with pytest.raises(NotFoundError):
                await station.join(stranger)
            with pytest.raises(NotFoundError):
                await station.listen(stranger)


async def test_an_account_that_came_by_the_link_may_listen_and_join_but_not_speak(
    private: Station, autojump_clock: MockClock
) -> None:
    await accept(private, LISTENER)
    await private.listen(LISTENER)
    socket = await private.join(LISTENER)
    assert socket.data("joined")[-1]["role"] == "listener"
    with pytest.raises(ForbiddenError):
        await private.publish(LISTENER)


async def test_a_guest_who_came_by_the_link_may_listen_and_keeps_the_right_on_joining(
    private: Station, autojump_clock: MockClock
) -> None:
    guest = await invited_guest(private)
    await private.listen(guest)
    socket = await private.join(guest)
    assert socket.data("joined")[-1]["you"]["token"] == f"token of {guest.id} by link {guest.invite_version}"


async def test_a_wrong_link_opens_nothing(private: Station, autojump_clock: MockClock) -> None:
    other = await private.schedule(Visibility.PRIVATE)
    for token in ("", "x", private.broadcasts.invite_token(other)):
        for identity in (None, LISTENER):
            with pytest.raises(NotFoundError) as caught:
                await private.on_air.rights.accept_invite(identity, private.show_id, token, None)
            assert caught.value.code == "invite_invalid"


async def test_renewing_the_link_lets_everyone_go_who_came_by_it_and_nobody_else(
    private: Station, autojump_clock: MockClock
) -> None:
    old = await link(private)
    await accept(private, LISTENER)
    guest = await invited_guest(private)
    media = {identity.id: await private.listen(identity) for identity in (LISTENER, guest, MODERATOR)}
    sockets = {identity.id: await private.join(identity) for identity in (LISTENER, guest, MODERATOR, HOST)}
    await private.on_air.rights.renew_invite(HOST, private.show_id)
    assert {name for name, session in media.items() if session.closed} == {LISTENER.id, guest.id}
    assert {name for name, socket in sockets.items() if socket.closed} == {LISTENER.id, guest.id}
    assert sockets[guest.id].code == CloseCode.REMOVED
    for identity in (LISTENER, guest):
        with pytest.raises(NotFoundError):
            await private.join(identity)
    with pytest.raises(NotFoundError):
        await private.on_air.rights.accept_invite(None, private.show_id, old, None)
    await accept(private, LISTENER)
    await private.join(LISTENER)


async def test_who_was_made_a_speaker_since_stays_when_the_link_is_renewed(
    private: Station, autojump_clock: MockClock
) -> None:
    await accept(private, LISTENER)
    await private.on_air.rights.set_role(HOST, private.show_id, LISTENER.id, Role.SPEAKER)
    socket = await private.join(LISTENER)
    await private.on_air.rights.renew_invite(HOST, private.show_id)
    assert socket.closed is None


async def test_who_goes_back_to_the_audience_of_a_private_show_may_go_on_listening(
    private: Station, autojump_clock: MockClock
) -> None:
    socket = await private.join(SPEAKER)
    host = await private.join(HOST)
    await host.do(MoveToAudience(user_id=SPEAKER.id))
    assert socket.closed is None
    await private.join(SPEAKER)


async def test_taking_the_part_away_ends_the_right_to_listen_at_once(
    private: Station, autojump_clock: MockClock
) -> None:
    await accept(private, LISTENER)
    session, socket = await private.listen(LISTENER), await private.join(LISTENER)
    await private.on_air.rights.set_role(HOST, private.show_id, LISTENER.id, None)
    assert session.closed
    assert socket.code == CloseCode.REMOVED


async def test_a_show_made_private_on_air_lets_those_go_who_have_no_part_in_it(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    sessions = [await station.listen(identity) for identity in (None, LISTENER, SPEAKER)]
    changed = await station.broadcasts.update(HOST, station.show_id, {"visibility": Visibility.PRIVATE})
    await station.on_air.rights.record_changed(HOST, changed)
    assert [session.closed is None for session in sessions] == [False, False, True]
    with pytest.raises(NotFoundError):
        await station.listen()


async def test_only_who_may_edit_renews_the_link_and_the_stream_key(
    private: Station, autojump_clock: MockClock
) -> None:
    for renew in (private.on_air.rights.renew_invite, private.on_air.rights.renew_stream_key):
        for identity in (COHOST, MODERATOR, SPEAKER):
            with pytest.raises(ForbiddenError):
                await renew(identity, private.show_id)


async def test_a_new_stream_key_cuts_off_the_encoder_but_not_the_hosts_browser(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    key = Identity(IdentityKind.STREAM_KEY, HOST.id, HOST.display_name, broadcast_id=station.show_id)
    browser = await station.publish(HOST)
    encoder = await station.publish(key, "whip")
    await station.on_air.rights.renew_stream_key(HOST, station.show_id)
    assert encoder.closed == "removed"
    assert browser.closed is None


async def test_every_use_and_renewal_is_in_the_audit_log(private: Station, autojump_clock: MockClock) -> None:
    await accept(private, LISTENER)
    await accept(private, LISTENER)
    await private.on_air.rights.renew_invite(HOST, private.show_id)
    await private.on_air.rights.renew_stream_key(HOST, private.show_id)
    page = private.db.now(lambda session: list_audit(session, private.show_id, limit=100))
    lines = [(entry.action, entry.actor_id) for entry in page.items]
    assert lines.count(("room.invite_link_used", LISTENER.id)) == 1
    assert lines.count(("room.invite_link_renewed", HOST.id)) == 1
    assert lines.count(("room.stream_key_renewed", HOST.id)) == 1
