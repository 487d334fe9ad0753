"""Repair of what a publisher sends, through two real cores on a bad network: NACK, RED, both."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lac_media.parameters import ProducerParameters
from lac_media.proto.ice import IceLite
from lac_media.proto.nack import MAX_MISSING, MAX_TIMES
from lac_media.proto.peer import NackReceived, PeerClosed, RtpReceived
from lac_media.proto.peer_state import PeerState
from lac_media.proto.red import MAX_TIMESTAMP_OFFSET, build_red
from lac_media.proto.rtcp import parse_rtcp_untrusted
from lac_media.proto.rtp import RtpPacket, encode_rtp
from lac_media.proto.seq import SequenceExtender
from lac_media.proto.srtp import MAX_INBOUND_SSRCS
from tests.fakes.impairment import Impairment
from tests.fakes.link import CLIENT, Link, ice_parameters, make_link

OPUS, RED = 111, 63
FRAME, FRAME_S = 960, 0.02
LEVEL_ID = 1


def frame(number: int) -> bytes:
    return b"\x78" + (number % 2**32).to_bytes(4, "big") + bytes(10)


def parameters(*, nack: bool = False, red: bool = False, ssrc: int | None = 2) -> ProducerParameters:
    return ProducerParameters(
        OPUS,
        ssrc,
        mid="0",
        mid_extension_id=4,
        audio_level_extension_id=LEVEL_ID,
        nack=nack,
        red_payload_type=RED if red else None,
    )


class Publisher:
    """The client's end: numbers its packets from `first`, puts RED around them, answers NACKs from what it has sent."""

    def __init__(
        self, link: Link, *, first: int = 1000, timestamp: int = 0, levels: int = 0, answers: bool = True
    ) -> None:
        assert link.run_until(lambda: link.server.state is link.client.state is PeerState.CONNECTED)
        self.link = link
        self.levels = levels
        self.answers = answers
        self.sent: dict[int, RtpPacket] = {}
        self.asked: Counter[int] = Counter()
        self._next = first
        self._stamp = timestamp
        self._frames: list[tuple[int, bytes]] = []
        self._seen = 0

    def packet(self, *, pause: int = 0, ssrc: int = 2) -> RtpPacket:
        number, self._stamp = self._next, self._stamp + FRAME * (1 + pause)
        self._next += 1
        payload_type, payload = OPUS, frame(number)
        if self.levels:
            payload_type = RED
            near = [
                (self._stamp - stamp, data)
                for stamp, data in self._frames[-self.levels :]
                if self._stamp - stamp <= MAX_TIMESTAMP_OFFSET
            ]
            payload = build_red(frame(number), near, payload_type=OPUS)
            self._frames = [*self._frames[-4:], (self._stamp, frame(number))]
        packet = RtpPacket(
            payload_type, number % 2**16, self._stamp % 2**32, ssrc, payload=payload, extensions={LEVEL_ID: b"\x85"}
        )
        self.sent[packet.sequence] = packet
        return packet

    def talk(self, count: int) -> None:
        for _ in range(count):
            self.link.client.send_rtp(self.packet(), now=self.link.now)
            self.wait(FRAME_S)

    def wait(self, seconds: float) -> None:
        """Answers at once what is asked meanwhile; what was never sent cannot be, and is nothing to complain of."""
        end = self.link.now + seconds
        while self.link.now < end:
            self.link.run_until(lambda: len(self.link.client_events) > self._seen, timeout_s=end - self.link.now)
            for event in self.link.client_events[self._seen :]:
                if isinstance(event, NackReceived):
                    assert event.ssrc == 2
                    self.asked.update(event.lost)
                    for sequence in self.sent.keys() & set(event.lost) if self.answers else ():
                        self.link.client.send_rtp(self.sent[sequence], now=self.link.now)
            self._seen = len(self.link.client_events)


def audio_of(link: Link) -> list[RtpPacket]:
    return [event.packet for event in link.server_events if isinstance(event, RtpReceived)]


def check_each_once(link: Link) -> set[int]:
    """Every packet once, with its own frame and time; the extended numbers that came."""
    extender = SequenceExtender()
    numbers = [extender.extend(packet.sequence) for packet in audio_of(link)]
    assert len(numbers) == len(set(numbers))
    for packet in audio_of(link):
        assert packet.payload_type == OPUS
        assert int.from_bytes(packet.payload[1:5], "big") % 2**16 == packet.sequence
    assert [event.audio_level for event in link.server_events if isinstance(event, RtpReceived)] == [0x85] * len(
        numbers
    )
    return set(numbers)


def test_ten_percent_loss_both_ways_is_repaired_by_asking() -> None:
    link = make_link(impairment=Impairment(delay_s=0.03, jitter_s=0.01))
    publisher = Publisher(link)
    link.server.expect_stream(parameters(nack=True))
    publisher.talk(10)
    link.impairment.loss = 0.1
    publisher.talk(3000)
    link.impairment.loss = 0.0
    publisher.talk(60)
    numbers = check_each_once(link)
    missing = max(numbers) - min(numbers) + 1 - len(numbers)
    assert missing <= 3, "of 3,070"
    assert link.server.repair.repaired >= 250
    assert max(publisher.asked.values()) <= MAX_TIMES
    assert sum(publisher.asked.values()) < 900, "about 300 are lost, each asked for twice, and some once more"


def test_red_alone_recovers_single_losses_in_order() -> None:
    link = make_link(impairment=Impairment(delay_s=0.03))
    publisher = Publisher(link, levels=1)
    link.server.expect_stream(parameters(red=True))
    publisher.talk(10)
    link.impairment.loss = 0.1
    publisher.talk(3000)
    link.impairment.loss = 0.0
    publisher.talk(10)
    numbers = check_each_once(link)
    missing = max(numbers) - min(numbers) + 1 - len(numbers)
    assert missing <= 45, "two in a row are lost in one of a hundred cases"
    assert link.server.repair.recovered > 200
    sequences = [packet.sequence for packet in audio_of(link)]
    assert sequences == sorted(sequences)
    assert publisher.asked == {}


def test_what_red_recovers_is_not_asked_for() -> None:
    link = make_link(impairment=Impairment(delay_s=0.03))
    publisher = Publisher(link, levels=1)
    link.server.expect_stream(parameters(nack=True, red=True))
    publisher.talk(10)
    for lost in (1, 1, 2):
        link.impairment.loss = 1.0
        publisher.talk(lost)
        link.impairment.loss = 0.0
        publisher.talk(130)
    publisher.wait(0.1)
    assert link.server.repair.recovered == 3, "the last of each gap"
    assert publisher.asked == {1272: 2}, "the other one, twice"
    assert check_each_once(link) == set(range(1000, 1404))


@pytest.mark.parametrize("levels", [0, 1])
def test_where_packets_get_lost_they_are_asked_for_as_soon_as_they_are_overdue(levels: int) -> None:
    """Two in a row, 40 ms each way: the first is there 85 ms after it should have been. Had it been asked for when the
    third shows the gap, it would have taken 140."""
    link = make_link(impairment=Impairment(delay_s=0.04))
    publisher = Publisher(link, levels=levels)
    link.server.expect_stream(parameters(nack=True, red=levels > 0))
    publisher.talk(10)
    for _ in range(3):
        link.impairment.loss = 1.0
        publisher.talk(1)
        link.impairment.loss = 0.0
        publisher.talk(20)
    number, sent_at = publisher._next, link.now
    link.impairment.loss = 1.0
    publisher.talk(1)
    link.client.send_rtp(publisher.packet(), now=link.now)
    link.impairment.loss = 0.0
    publisher.wait(FRAME_S)
    while frame(number) not in (packet.payload for packet in audio_of(link)):
        link.client.send_rtp(publisher.packet(), now=link.now)
        for _ in range(4):
            publisher.wait(FRAME_S / 4)
        assert link.now < sent_at + 1
    assert link.now - sent_at <= 0.04 + 0.085 + FRAME_S


def test_a_pause_is_asked_about_no_more_than_a_few_times() -> None:
    """What is overdue may never have been sent: a publisher with DTX who loses packets, too."""
    link = make_link(impairment=Impairment(delay_s=0.03))
    publisher = Publisher(link)
    link.server.expect_stream(parameters(nack=True))
    for _ in range(4):
        publisher.talk(20)
        link.impairment.loss = 1.0
        publisher.talk(1)
        link.impairment.loss = 0.0
    publisher.talk(20)
    publisher.asked.clear()
    publisher.wait(10)
    assert publisher.asked == {1104: 3, 1105: 2, 1106: 1}
    for _ in range(2):
        link.client.send_rtp(publisher.packet(pause=20), now=link.now)
        publisher.wait(0.4)
    assert publisher.asked.total() == 6
    assert link.server.repair.given_up == 0
    assert check_each_once(link) == set(range(1000, 1106))


def test_a_copy_that_came_first_makes_the_original_a_duplicate() -> None:
    link = make_link()
    publisher = Publisher(link, levels=1)
    link.server.expect_stream(parameters(nack=True, red=True))
    first, late, last = (publisher.packet() for _ in range(3))
    for packet in (first, last, late):
        link.client.send_rtp(packet, now=link.now)
        link.run_for(0.015)
    assert [packet.sequence for packet in audio_of(link)] == [1000, 1001, 1002]
    assert link.server.repair.duplicates == 1


def test_a_packet_of_three_levels_fills_a_gap_of_three() -> None:
    link = make_link()
    publisher = Publisher(link, levels=3, first=65_534, timestamp=2**32 - FRAME)
    link.server.expect_stream(parameters(red=True))
    packets = [publisher.packet() for _ in range(5)]
    link.client.send_rtp(packets[0], now=link.now)
    link.client.send_rtp(packets[4], now=link.now)
    link.run_for(0.1)
    assert [(p.sequence, p.timestamp) for p in audio_of(link)] == [(p.sequence, p.timestamp) for p in packets]


def test_malformed_red_is_counted_and_not_asked_for() -> None:
    link = make_link()
    publisher = Publisher(link, levels=1)
    link.server.expect_stream(parameters(nack=True, red=True))
    publisher.talk(3)
    bad = replace(publisher.packet(), payload=b"\xef\xff\xff\xff\x6f")
    link.client.send_rtp(bad, now=link.now)
    publisher.talk(3)
    publisher.wait(1)
    assert link.server.counters.bad_rtp == 1
    assert publisher.asked == {}
    assert len(audio_of(link)) == 6


def test_red_is_not_taken_where_it_was_not_announced() -> None:
    link = make_link()
    publisher = Publisher(link, levels=1)
    link.server.expect_stream(parameters())
    publisher.talk(3)
    assert audio_of(link) == []
    assert link.server.counters.unknown_ssrc == 3


def test_other_payload_types_of_the_stream_are_neither_played_nor_missed() -> None:
    link = make_link()
    publisher = Publisher(link)
    link.server.expect_stream(parameters(nack=True))
    publisher.talk(3)
    link.client.send_rtp(replace(publisher.packet(), payload_type=126), now=link.now)  # telephone-event
    publisher.talk(3)
    publisher.wait(1)
    assert publisher.asked == {}
    assert (len(audio_of(link)), link.server.counters.unknown_type) == (6, 1)


def test_padding_probes_are_neither_played_nor_missed() -> None:
    link = make_link()
    publisher = Publisher(link)
    link.server.expect_stream(parameters(nack=True))
    publisher.talk(3)
    link.client.send_rtp(replace(publisher.packet(), payload=b""), now=link.now)
    publisher.talk(3)
    publisher.wait(1)
    assert publisher.asked == {}
    assert len(audio_of(link)) == 6


@pytest.mark.parametrize("reduced_size", [True, False])
def test_nacks_go_alone_only_where_that_was_agreed_on(reduced_size: bool) -> None:
    """RFC 4585 section 3.1 and RFC 5506."""
    link = make_link()
    publisher = Publisher(link)
    link.server.expect_stream(replace(parameters(nack=True), reduced_size_rtcp=reduced_size))
    compounds: list[list[str]] = []
    srtp = link.client.srtp
    assert srtp is not None
    unprotect = srtp.unprotect_rtcp

    class Listening:
        def unprotect_rtcp(self, data: bytes) -> bytes | None:
            plain = unprotect(data)
            assert plain is not None
            compounds.append([type(packet).__name__ for packet in parse_rtcp_untrusted(plain)])
            return plain

        protect = srtp.protect
        replays = 0

    link.client.srtp = Listening()  # type: ignore[assignment]  # as much of a session as is needed
    link.client.send_rtp(publisher.packet(), now=link.now)
    publisher.packet()
    publisher.talk(3)
    nacks = [names for names in compounds if "Nack" in names]
    assert nacks == [["Nack"] if reduced_size else ["ReceiverReport", "SourceDescription", "Nack"]] * 2


def test_a_retransmission_of_almost_a_second_ago_gets_through_srtp() -> None:
    """libsrtp refuses what lies below its replay window: 128 packets unless told otherwise, 0.3 s of 2.5 ms frames."""
    link = make_link()
    publisher = Publisher(link, answers=False)
    link.server.expect_stream(parameters(nack=True))
    packets = [publisher.packet() for _ in range(100)]
    for packet in packets[:1] + packets[2:]:
        link.client.send_rtp(packet, now=link.now)
    link.client.send_rtp(packets[1], now=link.now)
    link.run_for(0.1)
    assert len(audio_of(link)) == 100
    assert link.server.counters.bad_rtp == 0


def test_answers_that_come_far_too_late_are_not_taken_for_a_restart() -> None:
    """Frames of 2.5 ms over a round trip of 0.6 s: the answers are 240 packets behind, and RFC 3550 section A.1 would
    see a new numbering in two of them."""
    link = make_link(impairment=Impairment(delay_s=0.3))
    publisher = Publisher(link)
    link.server.expect_stream(parameters(nack=True))
    for number in range(2000):
        packet = publisher.packet()
        if number % 100 not in (50, 51):
            link.client.send_rtp(packet, now=link.now)
        publisher.wait(0.0025)
    publisher.wait(2)
    assert publisher.asked
    reception = link.server.reception
    assert reception is not None
    assert reception.restarts == 0
    assert link.server.repair.too_late > 0
    assert len(check_each_once(link)) == 2000 - 40 + link.server.repair.repaired


def test_a_real_restart_a_little_behind_is_believed_soon() -> None:
    link = make_link()
    publisher = Publisher(link, first=5000, answers=False)
    link.server.expect_stream(parameters(nack=True))
    publisher.talk(3)
    publisher.packet()
    publisher.talk(3)
    publisher._next = 4700  # the encoder has begun anew
    publisher.talk(200)
    reception = link.server.reception
    assert reception is not None
    assert reception.restarts == 1
    assert publisher.sent[4899] in [replace(packet, extensions={LEVEL_ID: b"\x85"}) for packet in audio_of(link)]


def test_asking_survives_an_ice_restart_and_a_move_to_another_address() -> None:
    link = make_link(impairment=Impairment(delay_s=0.03))
    publisher = Publisher(link)
    link.server.expect_stream(parameters(nack=True))
    publisher.talk(10)
    link.impairment.loss = 0.2
    publisher.talk(200)
    assert isinstance(link.server.ice, IceLite)
    link.server.ice.restart(ice_parameters("fresh"))
    publisher.talk(200)
    link.impairment.loss = 0.0
    link.client_address = ("203.0.113.9", 6000)
    link.client.ice.check_now(now=link.now)  # type: ignore[union-attr]  # the controlling side
    publisher.talk(60)
    assert link.server.remote_address == ("203.0.113.9", 6000)
    numbers = check_each_once(link)
    assert 470 - len(numbers) <= 8


def test_consent_expires_as_ever_while_packets_are_missing() -> None:
    link = make_link()
    publisher = Publisher(link, answers=False)
    link.server.expect_stream(parameters(nack=True))
    publisher.talk(3)
    publisher.packet()
    publisher.talk(1)
    link.impairment.dark_until = math.inf
    started = link.now
    assert link.run_until(lambda: link.server.closed, timeout_s=60)
    assert 20 < link.now - started <= 31
    assert [event.reason for event in link.server_events if isinstance(event, PeerClosed)] == ["lost"]
    assert link.server.timer_at() == float("inf")


def test_another_ssrc_begins_anew() -> None:
    link = make_link()
    publisher = Publisher(link, answers=False)
    link.server.expect_stream(parameters(nack=True))
    publisher.talk(3)
    publisher.packet()
    publisher.talk(1)
    moved = publisher.packet(ssrc=9)
    moved.sequence = 40_000
    moved.extensions[4] = b"0"
    link.client.send_rtp(moved, now=link.now)
    publisher.wait(2)
    assert publisher.asked == {}
    assert [packet.ssrc for packet in audio_of(link)] == [2, 2, 2, 2, 9]


def test_what_comes_late_of_the_stream_before_finds_its_history() -> None:
    """Its content was recovered from a copy already; another stream has begun meanwhile."""
    link = make_link()
    publisher = Publisher(link, levels=1)
    link.server.expect_stream(parameters(red=True))
    first, late, last = (publisher.packet() for _ in range(3))
    other = publisher.packet(ssrc=9)
    other.extensions[4] = b"0"
    for packet in (first, last, other, late):
        link.client.send_rtp(packet, now=link.now)
        link.run_for(0.02)
    assert [(packet.ssrc, packet.sequence) for packet in audio_of(link)] == [
        (2, 1000),
        (2, 1001),
        (2, 1002),
        (9, 1003),
    ]
    assert link.server.repair.duplicates == 1


def test_a_peer_has_a_limited_number_of_streams() -> None:
    """libsrtp would keep a state for every SSRC that it ever sees."""
    link = make_link()
    publisher = Publisher(link)
    link.server.expect_stream(parameters())
    publisher.talk(1)
    for ssrc in range(100, 1100):
        link.client.send_rtp(publisher.packet(ssrc=ssrc), now=link.now)
    link.run_for(0.1)
    assert link.server.counters.unknown_ssrc == MAX_INBOUND_SSRCS - 1
    publisher.talk(10)
    assert len(audio_of(link)) == 11, "its own goes on"


# Anything a network and an encoder can do

step = st.tuples(
    st.sampled_from(["send"] * 12 + ["lose"] * 4 + ["late"] * 3 + ["twice"] * 2 + ["pause", "leap", "ssrc", "type"]),
    st.integers(0, 30),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(step, max_size=120),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([1000, 65_500, 32_760]),
    st.sampled_from([0, 2**32 - 20 * FRAME, 2**31 - 5 * FRAME]),
)
def test_whatever_happens_each_number_is_reported_once(
    steps: list[tuple[str, int]], levels: int, nack: bool, first: int, timestamp: int
) -> None:
    """Loss, reordering, duplication, both wraps, DTX pauses, leaps, another SSRC: through the whole core."""
    link = make_link()
    publisher = Publisher(link, first=first, timestamp=timestamp, levels=levels)
    link.server.expect_stream(parameters(nack=nack, red=levels > 0))
    srtp, ssrc = link.client.srtp, 2
    assert srtp is not None
    waiting: list[tuple[int, bytes]] = []
    stamps: dict[tuple[int, int], int] = {}
    for index, (what, amount) in enumerate(steps):
        if what == "leap":
            publisher._next += 3_000 + amount
            continue
        if what == "ssrc":
            ssrc = 2 + amount % 3
            continue
        packet = publisher.packet(pause=amount if what == "pause" else 0, ssrc=ssrc)
        packet.extensions[4] = b"0"
        if what == "type":
            packet.payload_type = 90
        stamps[ssrc, packet.sequence] = packet.timestamp
        data = srtp.protect(encode_rtp(packet))
        if what == "late":
            waiting.append((index + amount, data))
        elif what != "lose":
            for _ in range(2 if what == "twice" else 1):
                link.inject(data, CLIENT)
        for due, late in [entry for entry in waiting if entry[0] <= index]:
            waiting.remove((due, late))
            link.inject(late, CLIENT)
        link.run_for(FRAME_S)
        incoming = link.server._incoming
        if incoming is not None and incoming._nack is not None:
            assert incoming._nack.missing <= MAX_MISSING
    reported = [(packet.ssrc, packet.sequence, packet.timestamp) for packet in audio_of(link)]
    counted = Counter((ssrc, sequence) for ssrc, sequence, _ in reported)
    if not any(what == "ssrc" for what, _ in steps):
        assert set(counted.values()) <= {1}
    for ssrc, sequence, stamp in reported:
        # A copy in a gap with a pause may stand for a neighbour; a leap may lead back to a number used before.
        if levels == 0:
            assert stamps[ssrc, sequence] == stamp
    assert not link.server.closed
