"""Two peers over a bad network in virtual time: they connect, follow each other, and end when they must."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from lac_media.certificate import make_dtls_identity
from lac_media.errors import LocalProtocolError
from lac_media.parameters import DtlsParameters, DtlsRole, Fingerprint, IceCandidate, ProducerParameters
from lac_media.proto.ice import CONSENT_TIMEOUT_S, IceControlling, IceLite
from lac_media.proto.peer import (
    CONNECT_TIMEOUT_S,
    NackReceived,
    PeerClosed,
    PeerConnected,
    PeerCore,
    PeerReached,
    RtpReceived,
    StreamEnded,
)
from lac_media.proto.peer_state import TRANSITIONS, PeerInput, PeerState, next_state
from lac_media.proto.rtcp import Nack, ReceiverReport, ReportBlock
from lac_media.proto.rtp import RtpPacket
from lac_media.proto.stun import binding_request
from tests.fakes.impairment import Impairment
from tests.fakes.link import CLIENT, SERVER, Link, ice_parameters, identity, make_link

OPUS = bytes.fromhex("78") + bytes(20)
BOTH_ROLES = pytest.mark.parametrize("client_role", [DtlsRole.CLIENT, DtlsRole.SERVER])
#: A handshake record whose inside is nonsense, and one that has the form of a message and is none.
GARBAGE_RECORD = bytes((22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 40)) + bytes(range(40))
GARBAGE_MESSAGE = bytes.fromhex("16 fefd 0000 000000000009 0014 01 000008 0000 000000 000008") + bytes(8)


def both_connected(link: Link) -> bool:
    return link.server.state is PeerState.CONNECTED and link.client.state is PeerState.CONNECTED


def connected_link(**kwargs: object) -> Link:
    link = make_link(**kwargs)  # type: ignore[arg-type]  # passed through as given
    assert link.run_until(lambda: both_connected(link), timeout_s=CONNECT_TIMEOUT_S)
    return link


def audio(sequence: int, *, ssrc: int = 2, payload_type: int = 111, timestamp: int | None = None) -> RtpPacket:
    stamp = sequence * 960 if timestamp is None else timestamp
    return RtpPacket(payload_type, sequence & 0xFFFF, stamp & 0xFFFF_FFFF, ssrc, payload=OPUS)


def received(link: Link) -> list[RtpPacket]:
    return [event.packet for event in link.server_events if isinstance(event, RtpReceived)]


def closings(events: list[object]) -> list[str]:
    return [event.reason for event in events if isinstance(event, PeerClosed)]


# Connecting


@BOTH_ROLES
@pytest.mark.parametrize("seed", range(32))
def test_connects_through_loss_duplication_and_reordering(seed: int, client_role: DtlsRole) -> None:
    impairment = Impairment(loss=0.3, duplicate=0.2, delay_s=0.02, reorder=1, reorder_s=0.08)
    link = connected_link(impairment=impairment, seed=seed, client_dtls_role=client_role)

    link.server.expect_stream(ProducerParameters(payload_type=111, ssrc=2))
    for sequence in range(200):
        link.client.send_rtp(audio(sequence), now=link.now)
        link.run_for(0.02)
    link.run_for(0.2)

    sequences = [packet.sequence for packet in received(link)]
    assert len(sequences) == len(set(sequences)), "a duplicate got through the replay check"
    assert 100 <= len(sequences) <= 180
    assert link.server.repair.duplicates > 0
    assert both_connected(link)


@BOTH_ROLES
def test_an_undisturbed_handshake_takes_a_few_round_trips_and_never_waits_for_a_timer(client_role: DtlsRole) -> None:
    link = connected_link(impairment=Impairment(delay_s=0.01), client_dtls_role=client_role)
    assert link.now - 1000.0 <= 0.081
    assert [type(event) for event in link.server_events] == [PeerReached, PeerConnected]
    assert [type(event) for event in link.client_events] == [PeerReached, PeerConnected]


@BOTH_ROLES
@pytest.mark.parametrize("seed", range(8))
def test_connected_peers_fall_silent_even_after_repeated_flights(seed: int, client_role: DtlsRole) -> None:
    impairment = Impairment(duplicate=0.5, delay_s=0.05, reorder=1, reorder_s=0.15)
    link = connected_link(impairment=impairment, seed=seed, client_dtls_role=client_role)
    link.impairment = Impairment(delay_s=0.05)
    link.run_for(2)
    before = link.datagrams
    link.run_for(20)
    assert link.datagrams - before <= 12, "consent checks and their answers, nothing else"


@BOTH_ROLES
def test_a_lost_last_flight_is_sent_again(client_role: DtlsRole) -> None:
    for seed in range(20):
        link = make_link(impairment=Impairment(loss=0.4, delay_s=0.01), seed=seed, client_dtls_role=client_role)
        assert link.run_until(lambda link=link: both_connected(link), timeout_s=CONNECT_TIMEOUT_S), seed


def test_parameters_may_come_after_the_first_check() -> None:
    link = make_link(connect_server=False)
    link.run_for(1.0)
    assert link.server.state is PeerState.REACHED
    link.server.connect(DtlsParameters(DtlsRole.CLIENT, (identity(1).fingerprint,)), now=link.now)
    assert link.run_until(lambda: both_connected(link), timeout_s=5)


@pytest.mark.parametrize("garbage", [GARBAGE_RECORD, GARBAGE_MESSAGE])
@pytest.mark.parametrize("count", [1, 3])
def test_garbage_handshake_records_before_the_real_ones_do_no_lasting_harm(count: int, garbage: bytes) -> None:
    link = make_link()
    assert link.run_until(lambda: link.server.remote_address is not None)
    for _ in range(count):
        link.inject(garbage, CLIENT)
    assert link.run_until(lambda: both_connected(link), timeout_s=10)


def test_garbage_in_the_middle_of_the_handshake_does_no_lasting_harm() -> None:
    link = make_link()
    assert link.run_until(lambda: link.datagrams >= 4)  # the ClientHello has been answered
    link.inject(GARBAGE_RECORD, CLIENT)
    assert link.run_until(lambda: both_connected(link), timeout_s=10)


def test_garbage_to_the_dtls_client_does_no_lasting_harm() -> None:
    link = make_link(client_dtls_role=DtlsRole.SERVER)
    assert link.run_until(lambda: link.server.state is PeerState.HANDSHAKING)
    link.inject(GARBAGE_RECORD, CLIENT)
    assert link.run_until(lambda: both_connected(link), timeout_s=10)


def test_a_certificate_that_was_not_announced_fails_on_both_ends_at_once() -> None:
    link = make_link(connect_server=False)
    wrong = Fingerprint("sha-256", ":".join(["AB"] * 32))
    link.server.connect(DtlsParameters(DtlsRole.CLIENT, (wrong,)), now=link.now)
    assert link.run_until(lambda: link.server.closed and link.client.closed, timeout_s=1)
    assert closings(link.server_events) == ["failed"]
    assert closings(link.client_events) == ["hung_up"]
    assert link.server.srtp is None


def test_one_right_fingerprint_of_several_is_enough() -> None:
    link = make_link(connect_server=False)
    fingerprints = (Fingerprint("sha-1", "00"), Fingerprint("sha-256", "00"), identity(1).fingerprint)
    link.server.connect(DtlsParameters(DtlsRole.AUTO, fingerprints), now=link.now)
    assert link.run_until(lambda: both_connected(link), timeout_s=1)


def test_no_srtp_profile_in_common_fails() -> None:
    link = make_link(connect_server=False)
    other = make_dtls_identity()
    other.context._context.set_tlsext_use_srtp(b"SRTP_AES128_CM_SHA1_32")
    link.client = PeerCore(link.client.ice, other.context, ssrc=2, cname="c", unix_offset_s=1e9, now=link.now)
    link.client.connect(DtlsParameters(DtlsRole.SERVER, (identity(0).fingerprint,)), now=link.now)
    link.server.connect(DtlsParameters(DtlsRole.CLIENT, (other.fingerprint,)), now=link.now)
    assert link.run_until(lambda: link.server.closed, timeout_s=2)
    assert closings(link.server_events) == ["failed"]
    assert "SRTP profile" in next(e for e in link.server_events if isinstance(e, PeerClosed)).detail


def test_nobody_comes_and_the_peer_times_out() -> None:
    link = make_link()
    link.impairment.dark_until = math.inf
    assert link.run_until(lambda: link.server.closed, timeout_s=60)
    assert link.now == 1000.0 + CONNECT_TIMEOUT_S
    assert closings(link.server_events) == ["timeout"]
    assert link.server.timer_at() == float("inf")


def test_checks_alone_do_not_put_off_the_timeout() -> None:
    link = make_link(connect_server=False)
    assert link.run_until(lambda: link.server.closed, timeout_s=60)
    assert closings(link.server_events) == ["timeout"]


# Staying


def test_a_client_at_a_new_address_is_followed_at_once() -> None:
    link = connected_link()
    link.server.expect_stream(ProducerParameters(payload_type=111, ssrc=2))
    link.run_for(10)
    link.client_address = ("203.0.113.9", 6000)

    link.client.send_rtp(audio(1), now=link.now)
    link.run_for(0.05)
    assert received(link) == [], "not before ICE has proven the address"
    assert link.server.counters.unproven == 1

    assert isinstance(link.client.ice, IceControlling)
    link.client.ice.check_now(now=link.now)
    link.run_for(0.05)
    assert link.server.remote_address == ("203.0.113.9", 6000)
    assert link.server_events[-1] == PeerReached(("203.0.113.9", 6000))
    link.client.send_rtp(audio(2), now=link.now)
    link.run_for(0.05)
    assert [packet.sequence for packet in received(link)] == [2]


def test_consent_expires_thirty_seconds_after_the_last_check() -> None:
    link = connected_link()
    link.run_for(20)
    checked_at = link.server.ice._heard_at
    link.impairment.dark_until = math.inf
    assert link.run_until(lambda: link.server.closed, timeout_s=60)
    assert link.now == pytest.approx(checked_at + CONSENT_TIMEOUT_S)
    assert closings(link.server_events) == ["lost"]
    assert link.run_until(lambda: link.client.closed, timeout_s=60)
    assert closings(link.client_events) == ["lost"]


def test_an_outage_shorter_than_consent_is_survived() -> None:
    link = connected_link()
    link.run_for(10)
    link.impairment.dark_until = math.inf
    link.run_for(24)
    link.impairment.dark_until = link.now
    link.run_for(60)
    assert both_connected(link)


def test_ice_restart_takes_old_credentials_until_the_next_restart() -> None:
    link = connected_link()
    fresh = ice_parameters("fresh")
    assert isinstance(link.server.ice, IceLite)
    link.server.ice.restart(fresh)
    link.run_for(40)
    assert both_connected(link), "the old credentials keep consent alive"

    link.client.ice = IceControlling(
        ice_parameters("client"), fresh, IceCandidate("1", 1, *SERVER), make_bytes=bytes, now=link.now
    )
    link.client_address = ("203.0.113.10", 7000)
    link.run_for(1)
    assert link.server.remote_address == ("203.0.113.10", 7000)
    assert both_connected(link)

    old = ice_parameters("server")
    check = binding_request(
        bytes(12),
        username=f"{old.username_fragment}:x",
        password=old.password,
        priority=1,
        tie_breaker=1,
        use_candidate=True,
    )
    link.inject(check, CLIENT)
    assert link.server.remote_address == CLIENT
    link.server.ice.restart(ice_parameters("newest"))
    bad = link.server.counters.bad_stun
    link.inject(check, ("192.0.2.66", 666))
    assert link.server.remote_address == CLIENT
    assert link.server.counters.bad_stun == bad + 1


def test_two_ice_restarts_in_a_row_do_not_lock_the_peer_out() -> None:
    link = connected_link()
    assert isinstance(link.server.ice, IceLite)
    link.server.ice.restart(ice_parameters("second"))
    link.server.ice.restart(ice_parameters("third"))
    assert link.server.ice.ufrags == ("thirdufrag", "serverufrag")
    link.run_for(40)
    assert both_connected(link)


def test_a_stream_is_bound_by_ssrc_and_payload_type() -> None:
    link = connected_link()
    link.server.expect_stream(ProducerParameters(payload_type=111, ssrc=2))
    link.client.send_rtp(audio(1), now=link.now)
    link.client.send_rtp(audio(2, ssrc=3), now=link.now)
    link.client.send_rtp(audio(3, payload_type=96), now=link.now)
    link.run_for(0.1)
    assert [packet.sequence for packet in received(link)] == [1]
    assert link.server.counters.unknown_ssrc == 1
    assert link.server.counters.unknown_type == 1


def test_a_stream_without_announced_ssrc_is_the_first_with_its_payload_type() -> None:
    link = connected_link()
    link.server.expect_stream(ProducerParameters(payload_type=111))
    link.client.send_rtp(audio(1, ssrc=77), now=link.now)
    link.client.send_rtp(audio(2, ssrc=78), now=link.now)
    link.run_for(0.1)
    assert [packet.ssrc for packet in received(link)] == [77]


def test_a_new_ssrc_is_taken_when_it_carries_the_mid() -> None:
    link = connected_link()
    link.server.expect_stream(ProducerParameters(payload_type=111, ssrc=2, mid="0", mid_extension_id=4))
    link.client.send_rtp(audio(1), now=link.now)
    moved = audio(50, ssrc=9)
    moved.extensions[4] = b"0"
    link.client.send_rtp(moved, now=link.now)
    link.client.send_rtp(audio(51, ssrc=9), now=link.now)
    link.run_for(0.1)
    assert [packet.ssrc for packet in received(link)] == [2, 9, 9]


def test_reports_give_both_ends_loss_and_round_trip() -> None:
    link = connected_link(impairment=Impairment(delay_s=0.04))
    link.server.expect_stream(ProducerParameters(payload_type=111, ssrc=2))
    for sequence in range(300):
        if sequence % 10:
            link.client.send_rtp(audio(sequence), now=link.now)
        link.run_for(0.02)
    report = link.client.remote_report
    assert report is not None
    assert report.fraction_lost == pytest.approx(25, abs=6)
    assert link.client.round_trip_s == pytest.approx(0.08, abs=0.002)


def test_a_report_about_somebody_elses_stream_is_not_taken_for_ours() -> None:
    link = connected_link()
    link.client.send_rtcp([ReceiverReport(2, (ReportBlock(999, 255, 100, 1, 1),))])
    link.run_for(0.1)
    assert link.server.remote_report is None


def test_nack_and_bye_are_reported() -> None:
    link = connected_link()
    link.server.expect_stream(ProducerParameters(payload_type=111, ssrc=2))
    link.client.send_rtp(audio(1), now=link.now)
    link.client.send_rtcp([Nack(2, 1, (5, 6))])
    link.run_for(0.1)
    assert NackReceived(1, (5, 6)) in link.server_events
    link.client.close("left", now=link.now)
    link.run_for(0.1)
    assert StreamEnded() in link.server_events


def test_sequence_and_timestamp_wrap_without_a_break() -> None:
    link = connected_link()
    link.server.expect_stream(ProducerParameters(payload_type=111, ssrc=2))
    for step in range(40):
        stamp = 2**32 - 10 * 960 + step * 960
        link.client.send_rtp(audio(65_520 + step, timestamp=stamp), now=link.now)
        link.run_for(0.02)
    assert len(received(link)) == 40
    reception = link.server.reception
    assert reception is not None
    assert (reception.packets_received, reception.cumulative_lost, reception.restarts) == (40, 0, 0)
    assert reception.jitter_s < 0.001


# Ending


@BOTH_ROLES
def test_goodbye_ends_the_other_side_at_once(client_role: DtlsRole) -> None:
    link = connected_link(client_dtls_role=client_role, impairment=Impairment(delay_s=0.01))
    link.client.close("left", now=link.now)
    assert link.run_until(lambda: link.server.closed, timeout_s=0.011)
    assert closings(link.server_events) == ["hung_up"]
    assert closings(link.client_events) == ["left"]

    link = connected_link(client_dtls_role=client_role, impairment=Impairment(delay_s=0.01))
    link.server.close("removed", now=link.now)
    assert link.run_until(lambda: link.client.closed, timeout_s=0.011)
    assert closings(link.client_events) == ["hung_up"]


def test_a_closed_peer_does_nothing_more() -> None:
    link = connected_link()
    link.server.close("left", now=link.now)
    link.server.close("again", now=link.now)
    assert closings(list(link.server.events())) == ["left"]
    list(link.server.datagrams_to_send())
    for data in (GARBAGE_RECORD, b"\x80" + bytes(40), bytes(20)):
        link.server.receive_datagram(data, CLIENT, now=link.now)
    link.server.handle_timer(now=link.now + 100)
    assert list(link.server.events()) == []
    assert list(link.server.datagrams_to_send()) == []
    with pytest.raises(LocalProtocolError):
        link.server.send_rtcp([Nack(1, 2, (3,))])


# The table of states


def core_in(state: PeerState) -> PeerCore:
    link = make_link(connect_server=False)
    parameters = DtlsParameters(DtlsRole.CLIENT, (identity(1).fingerprint,))
    if state in (PeerState.CHECKING, PeerState.HANDSHAKING, PeerState.CONNECTED):
        link.server.connect(parameters, now=link.now)
    if state is PeerState.CONNECTED:
        assert link.run_until(lambda: both_connected(link))
    elif state in (PeerState.REACHED, PeerState.HANDSHAKING):
        link.run_until(lambda: link.server.state is state)
    elif state is PeerState.CLOSED:
        link.server.close("left", now=link.now)
    assert link.server.state is state
    return link.server


@pytest.mark.parametrize("state", PeerState)
@pytest.mark.parametrize("given", PeerInput)
def test_every_state_and_input(state: PeerState, given: PeerInput) -> None:
    if (state, given) in TRANSITIONS:
        assert next_state(state, given) is TRANSITIONS[state, given]
    else:
        with pytest.raises(LocalProtocolError, match=state.value):
            next_state(state, given)


@pytest.mark.parametrize("state", PeerState)
def test_remote_parameters_at_the_wrong_time_change_nothing(state: PeerState) -> None:
    core = core_in(state)
    parameters = DtlsParameters(DtlsRole.CLIENT, (identity(1).fingerprint,))
    list(core.events())
    if (state, PeerInput.REMOTE_PARAMETERS) in TRANSITIONS:
        core.connect(parameters, now=1001.0)
        assert core.state is TRANSITIONS[state, PeerInput.REMOTE_PARAMETERS]
        return
    before = (core.state, core._dtls, core.srtp, core.timer_at())
    with pytest.raises(LocalProtocolError):
        core.connect(parameters, now=1001.0)
    assert (core.state, core._dtls, core.srtp, core.timer_at()) == before
    assert list(core.events()) == []


@pytest.mark.parametrize("state", PeerState)
def test_sending_needs_a_connected_peer(state: PeerState) -> None:
    core = core_in(state)
    list(core.datagrams_to_send())
    if state is PeerState.CONNECTED:
        core.send_rtp(audio(1), now=1001.0)
        assert len(list(core.datagrams_to_send())) == 1
        return
    with pytest.raises(LocalProtocolError):
        core.send_rtp(audio(1), now=1001.0)
    assert core.state is state
    assert list(core.datagrams_to_send()) == []


def test_the_diagram_in_the_documentation_is_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "protocol" / "peer.md"
    drawn = re.findall(r"^    (\w+) --> (\w+): (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    table = [(s.value, t.value, i.value) for (s, i), t in TRANSITIONS.items() if i is not PeerInput.CLOSE]
    assert sorted(drawn) == sorted(table)
