"""A sign-in that ends takes along what was opened with it, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trio.testing import MockClock

from lac.auth.sign_ins import SignInsEnded
from lac.errors import NotSignedInError
from lac.identity import Identity, IdentityKind
from lac.rooms.events import CloseCode
from tests.fakes.air import HOST, LISTENER, Station

PHONE, LAPTOP = replace(LISTENER, sign_in_id="phone"), replace(LISTENER, sign_in_id="laptop")


@pytest.mark.parametrize(
    ("ended", "phone_stays", "laptop_stays"),
    [
        (SignInsEnded(LISTENER.id), False, False),
        (SignInsEnded(LISTENER.id, only="phone"), False, True),
        (SignInsEnded(LISTENER.id, but="phone"), True, False),
        (SignInsEnded(HOST.id), True, True),
    ],
)
async def test_sockets_and_media_end_with_their_sign_in(
    station: Station, autojump_clock: MockClock, ended: SignInsEnded, phone_stays: bool, laptop_stays: bool
) -> None:
    await station.start()
    stays = ((PHONE, phone_stays), (LAPTOP, laptop_stays))
    opened = [(await station.join(who), await station.listen(who), stay) for who, stay in stays]
    station.auth.sign_ins.on_ended(ended)
    for socket, session, stay in opened:
        assert socket.code == (None if stay else CloseCode.NOT_SIGNED_IN)
        assert session.closed == (None if stay else "removed")


async def test_an_encoder_with_the_stream_key_goes_on_when_the_host_signs_out(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    key = Identity(IdentityKind.STREAM_KEY, HOST.id, HOST.display_name, broadcast_id=station.show_id)
    encoder = await station.publish(key, "whip")
    station.auth.sign_ins.on_ended(SignInsEnded(HOST.id))
    assert encoder.closed is None


async def test_a_sign_in_that_has_ended_opens_nothing_even_if_it_was_checked_before(
    station: Station, autojump_clock: MockClock
) -> None:
    await station.start()
    station.auth.ended.add("phone")
    for opening in (station.join, station.listen):
        with pytest.raises(NotSignedInError):
            await opening(PHONE)
        await opening(LAPTOP)
