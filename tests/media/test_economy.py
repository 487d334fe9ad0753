"""The economy line: every frame of the program once, in order, on a sequence without a gap."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.proto.opus import SILENCE_20MS_MONO, parse_opus_untrusted
from lac_media.rooms.economy import HOLD_S, JOINED_TICKS, Economy, loudest
from lac_media.rooms.line import ProgramPacket
from lac_media.rooms.program import MAX_PAYLOAD

FRAME_S = 0.02
FIRST = 65_530


def packet(
    number: int, *, ticks: int | None = None, payload: bytes | None = None, marker: bool = False, level: int | None = 20
) -> ProgramPacket:
    """The program's packet with this number, its number in its payload."""
    place = number * 960 if ticks is None else ticks
    data = b"\x78" + number.to_bytes(4, "big") + bytes(20) if payload is None else payload
    return ProgramPacket((FIRST + number) & 0xFFFF, (5000 + place) & 0xFFFF_FFFF, place, marker, data, level, 0.0)


def numbers_in(joined: ProgramPacket) -> list[int]:
    """Of the packets above that are in it."""
    parsed = parse_opus_untrusted(joined.payload)
    at, numbers = parsed.frames_at, []
    for size in parsed.frame_sizes:
        numbers.append(int.from_bytes(joined.payload[at : at + 4], "big"))
        at += size
    return numbers


class Listening:
    """An economy line in virtual time."""

    def __init__(self, first_sequence: int = 65_533) -> None:
        self.now = 100.0
        self.line = Economy(ssrc=9, first_sequence=first_sequence)
        self.heard: list[ProgramPacket] = []

    def wait(self, until: float) -> None:
        while self.line.timer_at() <= until:
            self.now = max(self.now, self.line.timer_at())
            self.heard += self.line.handle_timer(now=self.now)
            assert self.line.timer_at() > self.now, "a timer that is due again at once would spin"
        self.now = max(self.now, until)

    def take(self, packet: ProgramPacket) -> list[ProgramPacket]:
        out = self.line.receive(packet, now=self.now)
        self.heard += out
        return out

    def play(self, *packets: ProgramPacket) -> list[ProgramPacket]:
        """One packet every 20 ms, then whatever time brings."""
        for each in packets:
            self.take(each)
            self.wait(self.now + FRAME_S)
        self.wait(self.now + 2 * HOLD_S)
        return self.heard

    @property
    def groups(self) -> list[list[int]]:
        return [numbers_in(joined) for joined in self.heard]


def test_three_become_one_with_the_first_ones_time_and_a_number_of_their_own() -> None:
    listening = Listening()
    listening.play(*(packet(number) for number in range(12)))
    assert listening.groups == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert [joined.sequence for joined in listening.heard] == [65_533, 65_534, 65_535, 0]
    assert [joined.timestamp for joined in listening.heard] == [5000, 5000 + 2880, 5000 + 5760, 5000 + 8640]
    assert [len(joined.payload) for joined in listening.heard] == [2 + 3 * 24] * 4
    assert listening.line.timer_at() == float("inf")


def test_the_third_packet_brings_the_joined_one_at_once() -> None:
    listening = Listening()
    assert listening.take(packet(0)) == listening.take(packet(1)) == []
    assert numbers_in(listening.take(packet(2))[0]) == [0, 1, 2]


def test_what_is_coded_otherwise_begins_a_new_packet() -> None:
    listening = Listening()
    stereo = b"\x7c" + (2).to_bytes(4, "big") + bytes(20)
    listening.play(packet(0), packet(1), packet(2, payload=stereo), packet(3))
    assert listening.groups == [[0, 1], [2], [3]]


def test_a_marker_begins_a_packet_and_stays_on_it() -> None:
    listening = Listening()
    listening.play(packet(0), packet(1, marker=True), packet(2), packet(3))
    assert listening.groups == [[0], [1, 2, 3]]
    assert [joined.marker for joined in listening.heard] == [False, True]


def test_markers_in_every_packet_begin_nothing() -> None:
    """As FFmpeg and aiortc set them."""
    listening = Listening()
    listening.play(*(packet(number, marker=True) for number in range(6)))
    assert listening.groups == [[0, 1, 2], [3, 4, 5]]


def test_signs_of_life_in_a_pause_go_alone_and_at_once() -> None:
    listening = Listening()
    listening.take(packet(0))
    out = listening.take(packet(1, payload=b"\x78"))
    assert [parse_opus_untrusted(each.payload).frame_count for each in out] == [1, 1]
    assert listening.line.timer_at() == float("inf")


def test_a_pause_lets_go_what_is_held_before_the_next_packet() -> None:
    listening = Listening()
    listening.take(packet(0))
    before = listening.now
    listening.wait(before + 1.0)
    assert listening.groups == [[0]]
    assert listening.heard[0].sent_at == before + HOLD_S
    # The next number, and 400 ms later on the program's clock: nothing is missing, nothing is waited for.
    listening.play(*(packet(n, ticks=n * 960 + 19_200) for n in range(1, 4)))
    assert listening.groups == [[0], [1, 2, 3]]
    assert listening.line.late_packets == 0


def test_what_is_reordered_is_put_in_order() -> None:
    listening = Listening()
    listening.play(packet(0), packet(2), packet(1), packet(3), packet(5), packet(4))
    assert listening.groups == [[0, 1, 2], [3, 4, 5]]


def test_a_missing_packet_is_waited_for_and_then_leaves_no_gap_in_the_numbers() -> None:
    listening = Listening()
    listening.play(packet(0), *(packet(number) for number in range(2, 8)))
    assert listening.groups == [[0], [2, 3, 4], [5, 6, 7]]
    sequences = [joined.sequence for joined in listening.heard]
    assert [(b - a) & 0xFFFF for a, b in pairwise(sequences)] == [1, 1]
    assert listening.heard[1].timestamp - listening.heard[0].timestamp == 2 * 960
    assert listening.take(packet(1)) == []
    assert listening.line.late_packets == 1


@pytest.mark.parametrize(("size", "together"), [(100, 3), (500, 2), (640, 2), (1270, 1)])
def test_what_would_not_fit_a_datagram_is_joined_as_far_as_it_fits(size: int, together: int) -> None:
    listening = Listening()
    listening.play(*(packet(n, payload=b"\x78" + n.to_bytes(4, "big") + bytes(size - 4)) for n in range(6)))
    assert [len(group) for group in listening.groups] == [together] * (6 // together)
    assert max(len(joined.payload) for joined in listening.heard) <= MAX_PAYLOAD


@pytest.mark.parametrize(
    ("toc", "ticks", "together"), [(0x70, 480, 6), (0x50, 1920, 1), (0x58, 2880, 1), (0xE0, 120, 24)]
)
def test_packets_of_other_lengths_make_60_ms_where_they_can(toc: int, ticks: int, together: int) -> None:
    listening = Listening()
    for n in range(48):
        listening.take(packet(n, ticks=n * ticks, payload=bytes([toc]) + n.to_bytes(4, "big") + bytes(6)))
        listening.wait(listening.now + ticks / 48_000)
    assert [len(group) for group in listening.groups] == [together] * (48 // together)


def test_malformed_framing_passes_through_alone() -> None:
    """The program looks at two bytes only; what is wrong behind them is for decoders to conceal."""
    listening = Listening()
    broken = b"\x7b\x83\xff"
    listening.play(packet(0), packet(1, payload=broken), packet(2))
    assert [joined.payload for joined in listening.heard] == [packet(0).payload, broken, packet(2).payload]


def test_silence_is_joined_too() -> None:
    listening = Listening()
    listening.play(*(packet(n, payload=SILENCE_20MS_MONO, level=127) for n in range(6)))
    assert [joined.payload for joined in listening.heard] == [b"\xfb\x03" + b"\xff\xfe" * 3] * 2
    assert {joined.audio_level for joined in listening.heard} == {127}


def test_the_level_is_the_loudest_and_a_voice_is_a_voice() -> None:
    assert loudest([]) is None
    assert loudest([50, 0x80 | 70, 40]) == 0x80 | 40
    listening = Listening()
    listening.play(packet(0, level=None), packet(1, level=30), packet(2, level=20))
    assert listening.heard[0].audio_level == 20


def test_clearing_forgets_what_waits_and_goes_on_with_the_next_number() -> None:
    listening = Listening()
    for number in (0, 1, 5):
        listening.take(packet(number))
    listening.line.clear()
    assert listening.line.timer_at() == float("inf")
    listening.play(*(packet(number) for number in range(900, 906)))
    assert listening.groups == [[900, 901, 902], [903, 904, 905]]
    assert [joined.sequence for joined in listening.heard] == [65_533, 65_534]


@given(st.data())
def test_whatever_the_network_did_before_us_every_frame_in_time_is_there_once_and_in_order(data: st.DataObject) -> None:
    """Losses, reordering, pauses, markers and changes of coding, in any mixture."""
    line = Listening()
    arrivals: list[tuple[float, int, ProgramPacket]] = []
    ticks = 0
    for number in range(data.draw(st.integers(1, 40))):
        kind = data.draw(
            st.sampled_from(["plain"] * 6 + ["lost", "late", "too late", "pause", "marker", "other", "dtx"])
        )
        if kind == "pause":
            ticks += 960 * data.draw(st.integers(1, 20))
        coding = {"other": b"\xfc", "dtx": b"\x78"}.get(kind, b"\x78")
        payload = coding if kind == "dtx" else coding + number.to_bytes(4, "big") + bytes(16)
        delay_s = {"late": 0.05, "too late": 0.5}.get(kind, 0.0)
        if kind != "lost":
            made = packet(number, ticks=ticks, payload=payload, marker=kind == "marker")
            arrivals.append((100.0 + ticks / 48_000 + delay_s, number, made))
        ticks += 960
    for at, _, made in sorted(arrivals, key=lambda arrival: arrival[:2]):
        line.wait(at)
        line.take(made)
    line.wait(line.now + 1.0)
    sequences = [joined.sequence for joined in line.heard]
    assert sequences == [(65_533 + n) & 0xFFFF for n in range(len(sequences))]
    sent = {made.ticks: made for _, _, made in arrivals}
    heard_ticks: list[int] = []
    for joined in line.heard:
        parsed = parse_opus_untrusted(joined.payload)
        assert parsed.duration_ticks <= JOINED_TICKS
        for place in range(parsed.frame_count):
            at = joined.ticks + place * 960
            heard_ticks.append(at)
            original = sent[at]
            assert original.payload[0] & 0xFC == joined.payload[0] & 0xFC
            if place and original.marker:
                assert sent[at - 960].marker, "none begins within a packet"
        if parsed.frame_count > 1:
            assert numbers_in(joined) == [
                int.from_bytes(sent[at].payload[1:5], "big") for at in heard_ticks[-parsed.frame_count :]
            ]
        else:
            assert joined.payload == sent[joined.ticks].payload
    assert heard_ticks == sorted(set(heard_ticks))
    assert len(heard_ticks) + line.line.late_packets == len(arrivals)
