"""The program is one line for its audience, whatever happens on stage."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.line import MAX_LEAP_TICKS, RING_PACKETS, RING_S, PacketRing, ProgramPacket
from lac_media.rooms.program import FRAME_S, FRAME_TICKS, MAX_CATCH_UP_TICKS, MAX_PAYLOAD, SILENCE_AFTER_S, Program

#: One 20 ms frame, SILK-only wideband, mono.
OPUS = bytes.fromhex("48") + bytes(30)
OPUS_60MS = bytes.fromhex("58") + bytes(90)
START = 100.0


class Stage:
    """A program in virtual time, and everything that it has sent."""

    def __init__(self, *, first_sequence: int = 10, first_timestamp: int = 5000) -> None:
        self.now = START
        self.program = Program(ssrc=7, first_sequence=first_sequence, first_timestamp=first_timestamp, now=START)
        self.sent: list[ProgramPacket] = []

    def wait(self, seconds: float) -> None:
        """Let time pass, with every timer exactly when it is due."""
        until = self.now + seconds
        while self.program.timer_at() <= until:
            self.now = max(self.now, self.program.timer_at())
            self.sent.extend(self.program.handle_timer(now=self.now))
            assert self.program.timer_at() > self.now, "a timer that is due again at once would spin"
        self.now = until

    def stall(self, seconds: float) -> list[ProgramPacket]:
        """Time passes and nobody looks; then the timer runs once."""
        self.now += seconds
        frames = list(self.program.handle_timer(now=self.now))
        self.sent.extend(frames)
        return frames

    def say(
        self, source: object, sequence: int, timestamp: int | None = None, *, ssrc: int = 1, payload: bytes = OPUS
    ) -> ProgramPacket | None:
        stamp = sequence * FRAME_TICKS if timestamp is None else timestamp
        packet = RtpPacket(111, sequence & 0xFFFF, stamp & 0xFFFF_FFFF, ssrc, payload=payload)
        sent = self.program.receive(source, packet, 20, now=self.now)
        if sent is not None:
            self.sent.append(sent)
        return sent

    def talk(self, source: object, sequence: int, count: int, *, offset: int = 0, ssrc: int = 1) -> None:
        for number in range(sequence, sequence + count):
            self.say(source, number, number * FRAME_TICKS + offset, ssrc=ssrc)
            self.wait(FRAME_S)

    @property
    def sequences(self) -> list[int]:
        return [packet.sequence for packet in self.sent]

    @property
    def steps(self) -> list[int]:
        """Ticks between consecutive packets."""
        return [b.ticks - a.ticks for a, b in pairwise(self.sent)]

    def assert_unbroken(self) -> None:
        first = self.sent[0].sequence
        assert self.sequences == [(first + n) & 0xFFFF for n in range(len(self.sent))]
        assert all(step >= FRAME_TICKS for step in self.steps), self.steps


def is_silence(packet: ProgramPacket) -> bool:
    return packet.payload == SILENCE_20MS_MONO


def test_silence_is_a_frame_every_twenty_milliseconds_on_the_grid() -> None:
    stage = Stage()
    stage.wait(10.0)
    assert all(map(is_silence, stage.sent))
    assert len(stage.sent) in (500, 501)
    assert stage.steps == [FRAME_TICKS] * (len(stage.sent) - 1)
    assert stage.sent[0].timestamp == 5000
    assert [p.sent_at for p in stage.sent] == [pytest.approx(START + n * FRAME_S) for n in range(len(stage.sent))]
    assert not any(packet.marker for packet in stage.sent)
    stage.assert_unbroken()


def test_a_speakers_packets_go_through_untouched_from_the_first_on() -> None:
    stage = Stage()
    stage.wait(1.0)
    silence = len(stage.sent)
    stage.talk("host", 40_000, 100)
    spoken = stage.sent[silence:]
    assert len(spoken) == 100
    assert {packet.payload for packet in spoken} == {OPUS}
    assert [packet.marker for packet in spoken] == [True] + [False] * 99
    assert {packet.audio_level for packet in spoken} == {20}
    stage.assert_unbroken()
    assert stage.steps == [FRAME_TICKS] * (len(stage.sent) - 1)


def test_host_replacement_keeps_one_line() -> None:
    stage = Stage()
    stage.talk("host", 65_000, 50)
    stage.program.interrupt("host")
    stage.talk("guest", 3, 50, offset=123_456_789, ssrc=2)
    stage.talk("host", 65_100, 50)  # without an interrupt in between
    stage.assert_unbroken()
    assert [n for n, packet in enumerate(stage.sent) if packet.marker] == [0, 50, 100]


def test_vanish_and_return_leave_an_exact_timeline() -> None:
    stage = Stage()
    stage.talk("host", 1, 100)  # 2 s
    stage.wait(10.0)
    stage.talk("host", 601, 100)
    stage.assert_unbroken()
    silence = [packet for packet in stage.sent if is_silence(packet)]
    assert 10.0 - SILENCE_AFTER_S - 0.05 <= len(silence) * FRAME_S <= 10.0
    returned = next(packet for packet in stage.sent[101:] if not is_silence(packet))
    assert returned.ticks == pytest.approx(12.0 * 48_000, abs=FRAME_TICKS)
    assert returned.marker
    gaps = [step for step in stage.steps if step != FRAME_TICKS]
    assert len(gaps) == 1, "one leap, over the wait for the speaker"
    assert gaps[0] <= (SILENCE_AFTER_S + 0.05) * 48_000


def test_mute_makes_silence_at_once_and_without_a_leap() -> None:
    stage = Stage()
    stage.talk("host", 1, 50)
    stage.program.interrupt("host")
    assert stage.program.timer_at() <= stage.now + FRAME_S
    stage.wait(1.0)
    assert len([packet for packet in stage.sent if is_silence(packet)]) in (50, 51)
    stage.talk("host", 150, 10)
    stage.assert_unbroken()
    assert set(stage.steps) == {FRAME_TICKS}


def test_interrupting_somebody_who_has_not_the_program_changes_nothing() -> None:
    stage = Stage()
    stage.talk("host", 1, 10)
    stage.program.interrupt("guest")
    stage.talk("host", 11, 10)
    assert not any(map(is_silence, stage.sent))
    assert sum(packet.marker for packet in stage.sent) == 1


def test_loss_on_the_way_in_is_a_gap_on_the_way_out() -> None:
    stage = Stage()
    stage.talk("host", 1, 10)
    stage.wait(5 * FRAME_S)
    stage.talk("host", 16, 10)
    assert stage.sequences == [*range(10, 20), *range(25, 35)]
    assert stage.steps[9] == 6 * FRAME_TICKS


def test_reordering_is_passed_on() -> None:
    stage = Stage()
    for sequence in (1, 2, 5, 4, 3, 6):
        stage.say("host", sequence)
    assert stage.sequences == [10, 11, 14, 13, 12, 15]
    assert [packet.ticks // FRAME_TICKS for packet in stage.sent] == [0, 1, 4, 3, 2, 5]


def test_what_comes_late_from_before_the_lines_start_is_dropped() -> None:
    stage = Stage()
    stage.wait(1.0)
    before = len(stage.sent)
    stage.say("host", 100)
    assert stage.say("host", 99) is None
    assert stage.program.late_packets == 1
    stage.say("host", 101)
    assert len(stage.sent) == before + 2
    stage.assert_unbroken()


def test_sequence_and_timestamp_wrap_on_both_sides() -> None:
    stage = Stage(first_sequence=65_530, first_timestamp=2**32 - 3 * FRAME_TICKS)
    stage.talk("host", 65_533, 20, offset=2**32 - 65_533 * FRAME_TICKS - 5 * FRAME_TICKS)
    stage.assert_unbroken()
    assert stage.sequences == [n & 0xFFFF for n in range(65_530, 65_550)]
    assert [p.timestamp for p in stage.sent] == [(2**32 - 3 * FRAME_TICKS + n * FRAME_TICKS) % 2**32 for n in range(20)]
    assert set(stage.steps) == {FRAME_TICKS}


def test_a_new_ssrc_of_the_same_speaker_continues_the_line() -> None:
    stage = Stage()
    stage.talk("host", 1, 10)
    stage.talk("host", 30_000, 10, ssrc=2)
    stage.assert_unbroken()
    assert set(stage.steps) == {FRAME_TICKS}


@pytest.mark.parametrize(
    ("sequence", "timestamp"),
    [(20_000, 20 * FRAME_TICKS), (21, 2_000_000_000), (21, 20 * FRAME_TICKS + MAX_LEAP_TICKS + 1)],
)
def test_a_restarted_encoder_continues_the_line(sequence: int, timestamp: int) -> None:
    stage = Stage()
    stage.talk("host", 1, 20)
    stage.say("host", sequence, timestamp)
    stage.assert_unbroken()
    assert stage.steps[-1] == FRAME_TICKS
    assert stage.sent[-1].marker


@pytest.mark.parametrize("gap_ticks", [2880, 9600, 12_480, 19_200])
def test_dtx_gaps_up_to_400_ms_are_not_filled(gap_ticks: int) -> None:
    stage = Stage()
    stage.talk("host", 1, 10)
    for number in range(10):
        stage.say("host", 11 + number, 11 * FRAME_TICKS + number * gap_ticks)
        stage.wait(gap_ticks / 48_000)
    assert not any(map(is_silence, stage.sent))
    assert stage.steps[11:] == [gap_ticks] * (len(stage.sent) - 12)
    assert sum(packet.marker for packet in stage.sent) == 1


def test_packets_of_other_durations_keep_their_timestamps() -> None:
    stage = Stage()
    for number in range(10):
        stage.say("host", number, number * 2880, payload=OPUS_60MS)
        stage.wait(0.06)
    stage.program.interrupt("host")
    stage.wait(0.1)
    assert stage.steps[:10] == [2880] * 10
    stage.assert_unbroken()


@pytest.mark.parametrize("seconds", [0.3, 5.0, 3600.0])
def test_a_stall_is_not_made_up_for_in_a_burst(seconds: float) -> None:
    stage = Stage()
    stage.wait(1.0)
    frames = stage.stall(seconds)
    assert 1 <= len(frames) <= MAX_CATCH_UP_TICKS // FRAME_TICKS + 1
    stage.wait(1.0)
    stage.assert_unbroken()
    assert stage.sent[-1].ticks == pytest.approx((stage.now - START) * 48_000, abs=2 * FRAME_TICKS)


def test_a_short_hiccup_is_made_up_for() -> None:
    stage = Stage()
    stage.wait(1.0)
    stage.stall(0.055)
    stage.wait(1.0)
    assert set(stage.steps) == {FRAME_TICKS}


def test_audio_far_ahead_of_the_clock_does_not_hold_up_the_silence_after_it() -> None:
    stage = Stage()
    for number in range(500):  # ten seconds of audio in no time
        stage.say("host", number)
    assert stage.program.media_time_s(now=stage.now) == pytest.approx(10.0)
    stage.wait(SILENCE_AFTER_S + 1.0)
    silence = [packet for packet in stage.sent if is_silence(packet)]
    assert len(silence) >= 49
    stage.assert_unbroken()
    assert stage.program.media_time_s(now=stage.now) == pytest.approx(11.0, abs=0.1)


def test_what_is_not_opus_or_too_large_is_dropped() -> None:
    stage = Stage()
    assert stage.say("host", 1, payload=b"") is None
    assert stage.say("host", 1, payload=b"\x03") is None
    assert stage.say("host", 1, payload=bytes.fromhex("48") + bytes(MAX_PAYLOAD)) is None
    assert stage.say("host", 1, payload=bytes.fromhex("48") + bytes(MAX_PAYLOAD - 1)) is not None


def test_recent_packets_can_be_had_again_and_old_ones_not() -> None:
    stage, ring = Stage(first_sequence=65_500), PacketRing[ProgramPacket]()
    stage.talk("host", 1, 300)
    for packet in stage.sent:
        ring.add(packet)
    newest = stage.sent[-1]
    for packet in stage.sent:
        wanted = stage.now - packet.sent_at <= RING_S
        assert ring.find(packet.sequence, now=stage.now) == (packet if wanted else None)
    assert ring.find((newest.sequence + 1) & 0xFFFF, now=stage.now) is None
    assert ring.find((newest.sequence - RING_PACKETS) & 0xFFFF, now=stage.now) is None
    assert ring.find(newest.sequence, now=stage.now + RING_S) is None


def test_media_time_runs_with_the_clock_and_never_back() -> None:
    stage = Stage()
    times = []
    for _ in range(20):
        stage.talk("host", 1, 7)
        times.append(stage.program.media_time_s(now=stage.now))
        stage.wait(1.3)
        times.append(stage.program.media_time_s(now=stage.now))
    assert times == sorted(times)
    assert times[-1] == pytest.approx(stage.now - START, abs=0.6)


def test_sender_report_timestamps_advance_like_the_clock() -> None:
    stage = Stage(first_timestamp=2**32 - 100)
    at = [stage.program.rtp_timestamp(now=START + n / 1000) for n in range(0, 50)]
    assert [(b - a) % 2**32 for a, b in pairwise(at)] == [48] * 49


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("talk"), st.integers(0, 2), st.integers(1, 30)),
        st.tuples(st.just("wait"), st.floats(0, 3.0)),
        st.tuples(st.just("stall"), st.floats(0, 100.0)),
        st.tuples(st.just("interrupt"), st.integers(0, 2)),
        st.tuples(st.just("restart"), st.integers(0, 2), st.integers(0, 65_535), st.integers(0, 2**32 - 1)),
        st.tuples(st.just("burst"), st.integers(0, 2), st.integers(1, 40)),
    ),
    max_size=30,
)


@given(ACTIONS, st.integers(0, 65_535), st.integers(0, 2**32 - 1))
def test_whatever_happens_on_stage_the_line_never_breaks(actions: list[tuple], sequence: int, timestamp: int) -> None:
    """In-order input without loss: no sequence number repeated or skipped, no timestamp that goes back."""
    stage = Stage(first_sequence=sequence, first_timestamp=timestamp)
    numbers = {source: (source * 20_000, source * 1_000_000_000) for source in range(3)}

    def speak(source: int) -> None:
        number, stamp = numbers[source]
        stage.say(source, number, stamp, ssrc=source + 1)
        numbers[source] = (number + 1, stamp + FRAME_TICKS)

    for action, *values in actions:
        if action == "talk":
            for _ in range(values[1]):
                speak(values[0])
                stage.wait(FRAME_S)
        elif action == "burst":
            for _ in range(values[1]):
                speak(values[0])
        elif action == "wait":
            stage.wait(values[0])
        elif action == "stall":
            stage.stall(values[0])
        elif action == "interrupt":
            stage.program.interrupt(values[0])
        else:
            numbers[values[0]] = (values[1], values[2])
    stage.wait(1.0)
    if all(action != "restart" for action, *_ in actions):
        stage.assert_unbroken()
    assert all(packet.timestamp == (timestamp + packet.ticks) % 2**32 for packet in stage.sent)


@given(st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.3))
def test_loss_reordering_and_duplication_map_one_to_one(seed: int, loss: float, swap: float) -> None:
    rng = random.Random(seed)
    stage = Stage(first_sequence=rng.randrange(65_536))
    order = list(range(200))
    for n in range(1, 199):
        if rng.random() < swap:
            order[n], order[n + 1] = order[n + 1], order[n]
    order = [0] + [n for n in order if n and rng.random() >= loss]
    for n in order:
        stage.say("host", 65_400 + n)
    heard = [n for n in order if n >= 0]
    first = stage.sent[0]
    assert [(p.sequence - first.sequence) % 65_536 for p in stage.sent] == heard
    assert [p.ticks - first.ticks for p in stage.sent] == [n * FRAME_TICKS for n in heard]
