"""The lite side answers, follows and forgets; the controlling side checks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.parameters import Address, IceCandidate
from lac_media.proto.ice import (
    CONSENT_TIMEOUT_S,
    NOMINATED_SILENCE_S,
    IceControlling,
    IceLite,
)
from lac_media.proto.stun import Class, binding_request, binding_success, is_authentic, parse_stun_untrusted
from tests.fakes.link import ice_parameters

OURS, THEIRS = ice_parameters("server"), ice_parameters("client")
A: Address = ("198.51.100.1", 1000)
B: Address = ("198.51.100.2", 2000)


def check(
    *, nominated: bool = False, password: str = OURS.password, fragment: str = OURS.username_fragment, **kwargs: bool
) -> bytes:
    return binding_request(
        b"transaction1",
        username=f"{fragment}:{THEIRS.username_fragment}",
        password=password,
        priority=1,
        tie_breaker=7,
        use_candidate=nominated,
        **kwargs,
    )


def feed(ice: IceLite, data: bytes, address: Address, now: float) -> bool:
    return ice.receive_check(parse_stun_untrusted(data), address, now=now)


def test_an_authentic_check_is_answered_to_where_it_came_from() -> None:
    ice = IceLite(OURS, now=0.0)
    assert feed(ice, check(), A, 1.0)
    [(data, address)] = ice.datagrams_to_send()
    answer = parse_stun_untrusted(data)
    assert address == A
    assert answer.message_class is Class.RESPONSE
    assert answer.transaction_id == b"transaction1"
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == A
    assert is_authentic(answer, OURS.password)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(check(password="wrong-password-0123456789"), id="wrong password"),
        pytest.param(check(fragment="somebody"), id="wrong ufrag"),
        pytest.param(bytes.fromhex("000100002112a442") + bytes(12), id="no integrity, no username"),
        pytest.param(bytes.fromhex("001100002112a442") + bytes(12), id="indication"),
        pytest.param(bytes.fromhex("010100002112a442") + bytes(12), id="answer to nothing"),
    ],
)
def test_a_check_that_proves_nothing_gets_no_answer(data: bytes) -> None:
    ice = IceLite(OURS, now=0.0)
    assert not feed(ice, data, A, 1.0)
    assert list(ice.datagrams_to_send()) == []
    assert ice.remote_address is None
    assert ice.timer_at() == CONSENT_TIMEOUT_S


def test_integrity_is_not_optional() -> None:
    signed = check()
    # The same message without its last two attributes: MESSAGE-INTEGRITY (24 bytes) and FINGERPRINT (8 bytes).
    bare = signed[:2] + (len(signed) - 20 - 32).to_bytes(2, "big") + signed[4:-32]
    ice = IceLite(OURS, now=0.0)
    assert not feed(ice, bare, A, 1.0)
    assert list(ice.datagrams_to_send()) == []


def test_a_peer_that_claims_to_be_controlled_is_told_of_the_conflict() -> None:
    ice = IceLite(OURS, now=0.0)
    assert not feed(ice, check(controlling=False), A, 1.0)
    [(data, _)] = ice.datagrams_to_send()
    assert parse_stun_untrusted(data).attributes["ERROR-CODE"][0] == 487
    assert ice.remote_address is None


def test_a_peer_that_nominated_once_is_followed_by_its_plain_checks() -> None:
    ice = IceLite(OURS, now=0.0)
    feed(ice, check(nominated=True), A, 1.0)
    feed(ice, check(), A, 3.0)
    feed(ice, check(), B, 3.1)
    assert ice.remote_address == B


def test_a_peer_that_nominates_always_is_not_moved_by_checks_of_its_spare_pair() -> None:
    ice = IceLite(OURS, now=0.0)
    feed(ice, check(nominated=True), A, 1.0)
    feed(ice, check(nominated=True), A, 3.0)
    assert feed(ice, check(), B, 3.5), "answered all the same"
    assert len(list(ice.datagrams_to_send())) == 3
    assert ice.remote_address == A


def test_a_nomination_moves_at_once() -> None:
    ice = IceLite(OURS, now=0.0)
    for now in (1.0, 3.0, 5.0):
        feed(ice, check(nominated=True), A, now)
    feed(ice, check(nominated=True), B, 5.1)
    assert ice.remote_address == B


def test_the_spare_pair_is_taken_when_the_nominated_one_has_fallen_silent() -> None:
    ice = IceLite(OURS, now=0.0)
    feed(ice, check(nominated=True), A, 1.0)
    feed(ice, check(nominated=True), A, 3.0)
    feed(ice, check(), B, 3.0 + NOMINATED_SILENCE_S - 0.1)
    assert ice.remote_address == A
    feed(ice, check(), B, 3.0 + NOMINATED_SILENCE_S)
    assert ice.remote_address == B


def test_checks_from_any_address_renew_consent() -> None:
    ice = IceLite(OURS, now=0.0)
    feed(ice, check(nominated=True), A, 1.0)
    feed(ice, check(nominated=True), A, 2.0)
    feed(ice, check(), B, 7.0)
    assert ice.timer_at() == 7.0 + CONSENT_TIMEOUT_S


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_consent_is_lost_exactly_when_the_timer_says_so(heard_at: float, other: float) -> None:
    """Computed once as a sum and once as a difference, the two differ by a rounding step: the timer then spun."""
    ice = IceLite(OURS, now=heard_at)
    assert ice.consent_lost(now=ice.timer_at())
    controlling = IceControlling(THEIRS, OURS, IceCandidate("1", 1, *A), make_bytes=bytes, now=heard_at)
    assert controlling.consent_lost(now=heard_at + CONSENT_TIMEOUT_S)
    assert ice.consent_lost(now=other) == (other >= ice.timer_at())


def test_restart_keeps_the_old_credentials_until_the_next_one() -> None:
    ice = IceLite(OURS, now=0.0)
    feed(ice, check(nominated=True), A, 1.0)
    fresh = ice_parameters("fresh")
    ice.restart(fresh)
    assert ice.ufrags == (fresh.username_fragment, OURS.username_fragment)
    assert feed(ice, check(), A, 2.0)
    assert feed(ice, check(fragment=fresh.username_fragment, password=fresh.password), B, 3.0)
    assert ice.remote_address == B
    # Chromium may go on with the old ones on the pair that it likes best.
    assert feed(ice, check(nominated=True), A, 4.0)
    assert ice.remote_address == A
    newest = ice_parameters("newest")
    ice.restart(newest)
    assert ice.ufrags == (newest.username_fragment, fresh.username_fragment)
    assert not feed(ice, check(nominated=True), A, 5.0)


def test_restart_moves_a_peer_that_nominated_always() -> None:
    ice = IceLite(OURS, now=0.0)
    for now in (1.0, 3.0, 5.0):
        feed(ice, check(nominated=True), A, now)
    fresh = ice_parameters("fresh")
    ice.restart(fresh)
    feed(ice, check(fragment=fresh.username_fragment, password=fresh.password), B, 5.1)
    assert ice.remote_address == B


def controlling_ice() -> IceControlling:
    counter = iter(range(1, 1 << 30))
    return IceControlling(
        THEIRS,
        OURS,
        IceCandidate("1", 1, *A),
        make_bytes=lambda n: next(counter).to_bytes(n, "big"),
        now=0.0,
    )


def test_the_controlling_side_repeats_its_check_ever_more_slowly_until_it_is_answered() -> None:
    ice, now, times = controlling_ice(), 0.0, []
    for _ in range(8):
        now = ice.timer_at()
        ice.handle_timer(now=now)
        assert len(list(ice.datagrams_to_send())) == 1
        times.append(round(now, 2))
    assert times == [0.0, 0.1, 0.3, 0.7, 1.5, 3.1, 4.7, 6.3]


def test_only_an_authentic_answer_to_a_check_of_ours_counts() -> None:
    ice = controlling_ice()
    ice.handle_timer(now=0.0)
    [(data, _)] = ice.datagrams_to_send()
    request = parse_stun_untrusted(data)
    forged = parse_stun_untrusted(binding_success(request, B, "not-the-password-of-ours"))
    assert not ice.receive_check(forged, A, now=0.1)
    stale = parse_stun_untrusted(check())
    assert not ice.receive_check(parse_stun_untrusted(binding_success(stale, B, OURS.password)), A, now=0.1)
    assert ice.remote_address is None
    good = parse_stun_untrusted(binding_success(request, B, OURS.password))
    assert ice.receive_check(good, A, now=0.2)
    assert ice.remote_address == A
    assert not ice.receive_check(good, A, now=0.3), "a second time it answers nothing"


def test_unanswered_checks_are_not_remembered_without_bound() -> None:
    ice = controlling_ice()
    for number in range(200):
        ice.handle_timer(now=float(number * 10))
    assert len(ice._pending) <= 32
