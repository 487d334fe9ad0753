"""A playout gives audio whenever it is asked, whatever comes in, and holds no more than it should."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lac_media.mix import playout as playout_module
from lac_media.mix.arrivals import MAX_JITTER_TICKS, Arrivals
from lac_media.mix.playout import (
    FADE_TO_TICKS,
    HISTORY,
    MARGIN_TICKS,
    MAX_HELD,
    MAX_PAUSE_TICKS,
    SKIP_TICKS,
    TOO_LONG_TICKS,
    URGENT_TICKS,
    Playout,
)
from lac_media.opus import Decoder, Encoder, OpusError, Pcm
from lac_media.opus.library import APPLICATION_VOIP
from lac_media.proto.opus import MAX_DURATION_TICKS
from lac_media.proto.rtp import RtpPacket
from tests.mix.hearing import splatter, tone
from tests.mix.show import RATE, Speaker, silence, sine

FRAME = 960
FRAME_S = 0.02


class Line:
    """One speaker's packets on their way, and the playout read every 20 ms."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.playout = Playout(self.arrivals)
        self.now = 50.0
        self.frames: list[Pcm] = []
        self._coming: list[tuple[float, RtpPacket]] = []

    def send(self, packet: RtpPacket, *, arrives: float) -> None:
        self._coming.append((arrives, packet))

    def listen(self, seconds: float) -> Pcm:
        """What is read in this time."""
        first = len(self.frames)
        until = self.now + seconds
        while self.now < until - 1e-9:
            due = sorted((item for item in self._coming if item[0] <= self.now), key=lambda item: item[0])
            self._coming = [item for item in self._coming if item[0] > self.now]
            for arrived, packet in due:
                arrival = self.arrivals.place(packet, None, now=arrived)
                if arrival is not None:
                    self.playout.insert(arrival)
            self.frames.append(self.playout.read(FRAME, due=self.now))
            self.now += FRAME_S
        return np.concatenate((np.zeros((0, 2), np.float32), *self.frames[first:]))

    def assert_bounded(self) -> None:
        playout = self.playout
        assert len(playout._held) <= MAX_HELD
        assert len(playout._pcm) <= 3 * HISTORY + 3 * MAX_DURATION_TICKS
        assert all(frame.shape == (FRAME, 2) and frame.dtype == np.float32 for frame in self.frames)
        assert all(np.isfinite(frame).all() for frame in self.frames)


def talk(line: Line, speaker: Speaker, seconds: float, *, seed: int = 1) -> Pcm:
    """Send and listen at the same time."""
    rng = random.Random(seed)
    at = line.now
    while at < line.now + seconds:
        packet = speaker.packet()
        if speaker.would_send(packet) and rng.random() >= speaker.loss:
            line.send(packet, arrives=at + speaker.delay_s + rng.random() * speaker.jitter_s)
        at += speaker.interval_s
    return line.listen(seconds)


@pytest.mark.parametrize("ticks", [120, 240, 480, 960, 1920, 2880])
def test_packets_of_every_length_play_without_a_click(ticks: int) -> None:
    line = Line()
    pcm = talk(line, Speaker("a", sine(440), ticks=ticks), 4.0)
    assert tone(pcm[RATE:], 440) == pytest.approx(0.2, rel=0.05)
    assert splatter(pcm[RATE:]).max() < 1e-4
    assert line.playout.concealed_ticks == 0
    line.assert_bounded()


@pytest.mark.parametrize("jitter_s", [0.01, 0.04, 0.1])
def test_jitter_is_waited_for(jitter_s: float) -> None:
    line = Line()
    talk(line, Speaker("a", sine(440), jitter_s=jitter_s), 5.0)
    concealed = line.playout.concealed_ticks
    pcm = talk(line, Speaker("a", sine(440), jitter_s=jitter_s, sequence=1, ssrc=5), 10.0, seed=2)
    assert (line.playout.concealed_ticks - concealed) / len(pcm) < 0.08
    assert tone(pcm[-RATE:], 440) > 0.1
    # The delay is that which nearly all packets need, and not much more.
    assert -URGENT_TICKS < line.playout.excess(due=line.now) < URGENT_TICKS
    line.assert_bounded()


def test_the_delay_shrinks_again_when_the_network_calms_down() -> None:
    line = Line()
    talk(line, Speaker("a", sine(440), jitter_s=0.1), 6.0)
    rough = line.arrivals.required_delay
    calm = Speaker("a", sine(440), sequence=1000 + 300, timestamp=5000 + 300 * FRAME)
    calm._position = 300 * FRAME
    pcm = talk(line, calm, 12.0)
    assert rough - line.arrivals.required_delay > 0.05 * RATE
    assert line.playout.excess(due=line.now) < TOO_LONG_TICKS + 1
    assert splatter(pcm[-5 * RATE :]).max() < 1e-4


@pytest.mark.parametrize("ppm", [-1000, -200, 200, 1000])
def test_a_clock_that_drifts_is_followed_without_a_hole(ppm: float) -> None:
    line = Line()
    pcm = talk(line, Speaker("a", sine(440), ppm=ppm), 40.0)
    assert splatter(pcm[RATE:]).max() < 2e-4
    assert line.playout.concealed_ticks == 0
    assert abs(line.playout.excess(due=line.now)) <= TOO_LONG_TICKS + FRAME
    line.assert_bounded()


def test_where_packets_are_lost_the_next_ones_are_there_in_time_to_repair_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """One packet in ten is lost; the next one tells what was in it."""
    repaired = []

    class Spy(Decoder):
        def decode_lost(self, ticks: int, following: bytes) -> Pcm:
            repaired.append(ticks)
            return super().decode_lost(ticks, following)

    monkeypatch.setattr(playout_module, "Decoder", Spy)
    line = Line()
    speaker = Speaker("a", sine(440), application=APPLICATION_VOIP, bitrate_bps=40_000, fec=True, expected_loss=25)
    for n in range(300):
        packet = speaker.packet()
        if n % 10 != 7:
            line.send(packet, arrives=50.0 + n * FRAME_S)
    pcm = line.listen(6.0)
    assert repaired.count(FRAME) >= 27
    assert line.playout.concealed_ticks < 33 * FRAME
    assert splatter(pcm[RATE:]).max() < 1e-3


def test_what_is_lost_for_good_fades_into_silence_and_speech_comes_back() -> None:
    line = Line()
    speaker = Speaker("a", sine(440))
    talk(line, speaker, 2.0)
    hole = line.listen(1.0)
    assert np.abs(hole[:FRAME]).max() > 0.1
    gone = FADE_TO_TICKS + MARGIN_TICKS + 3 * FRAME
    assert not hole[gone:].any()
    assert line.playout.silent
    back = talk(line, speaker, 2.0)
    assert tone(back[RATE:], 440) == pytest.approx(0.2, rel=0.05)
    whole = np.concatenate((hole, back))
    assert splatter(whole).max() < 0.003, "no harder than the speaker's own beginning"


def test_pauses_of_dtx_are_no_loss_and_end_with_the_first_word() -> None:
    line = Line()
    speaker = Speaker("a", silence, application=APPLICATION_VOIP, bitrate_bps=24_000, dtx=True)
    at = line.now
    for n in range(500):
        speaker.wave = sine(440) if n % 100 < 40 else silence
        packet = speaker.packet()
        if speaker.would_send(packet):
            line.send(packet, arrives=at + n * FRAME_S)
    pcm = line.listen(10.0)
    assert line.playout.concealed_ticks < RATE * 0.02
    assert not line.playout.silent
    # Each word is there in full.
    loud = np.abs(pcm.reshape(-1, FRAME * 2)).max(axis=1) > 0.1
    assert sum(loud) == pytest.approx(5 * 40, abs=10)


def test_an_announced_pause_that_never_ends_becomes_silence() -> None:
    line = Line()
    speaker = Speaker("a", silence, application=APPLICATION_VOIP, bitrate_bps=24_000, dtx=True)
    talk(line, speaker, 2.0)
    line.listen(MAX_PAUSE_TICKS / RATE + 0.2)
    assert line.playout.silent
    assert not line.listen(0.1).any()


def test_after_a_long_stall_the_past_is_skipped() -> None:
    line = Line()
    speaker = Speaker("a", sine(440))
    talk(line, speaker, 2.0)
    for _ in range(40):  # 0.8 s of packets arrive while nobody reads
        line.send(speaker.packet(), arrives=line.now + 0.8)
    line.now += 0.8
    pcm = talk(line, speaker, 10.0)
    assert line.playout.excess(due=line.now) < URGENT_TICKS < SKIP_TICKS
    assert tone(pcm[-RATE:], 440) == pytest.approx(0.2, rel=0.05)
    assert line.playout.late_packets > 10
    assert splatter(pcm).max() < 1e-3


@pytest.mark.parametrize(
    ("ssrc", "sequence", "timestamp"),
    [(9, 1, 77), (1, 40_000, 5000), (1, 1100, 3_000_000_000), (1, 1100, 5000), (1, 1100, 200_000)],
    ids=["SSRC", "sequence", "timestamp", "timestamp back", "timestamp ahead"],
)
def test_an_encoder_that_starts_anew_is_heard_again_at_once(ssrc: int, sequence: int, timestamp: int) -> None:
    line = Line()
    talk(line, Speaker("a", sine(440)), 2.0)
    again = Speaker("a", sine(660), ssrc=ssrc, sequence=sequence, timestamp=timestamp)
    pcm = talk(line, again, 3.0)
    assert tone(pcm[RATE : 2 * RATE], 660) == pytest.approx(0.2, rel=0.1)
    line.assert_bounded()


PACKETS = st.lists(
    st.tuples(
        st.sampled_from(
            ["next", "lose", "late", "twice", "pause", "dtx", "restart", "leap", "garbage", "burst", "read"]
        ),
        st.integers(0, 2**32 - 1),
    ),
    max_size=60,
)
#: Payloads made once: encoding is slow, and what they say does not matter here.
PAYLOADS = {
    ticks: [Speaker("a", sine(300), ticks=ticks).packet().payload for _ in range(2)]
    for ticks in (120, 240, 480, 960, 1920, 2880)
}


@given(PACKETS)
@settings(max_examples=60)
def test_whatever_arrives_there_is_always_audio_and_never_too_much_of_it(actions: list[tuple[str, int]]) -> None:
    line = Line()
    sequence, timestamp, ssrc = 65_530, 2**32 - 5000, 1
    held_back: list[RtpPacket] = []
    for action, number in actions:
        ticks = list(PAYLOADS)[number % len(PAYLOADS)]
        packet = RtpPacket(111, sequence & 0xFFFF, timestamp & 0xFFFF_FFFF, ssrc, payload=PAYLOADS[ticks][number & 1])
        if action == "pause":
            timestamp += number % 30_000
            line.listen((number % 30_000) / RATE)
        elif action == "restart":
            sequence, timestamp, ssrc = number & 0xFFFF, number, ssrc + (number & 1)
        elif action == "leap":
            timestamp += number % (4 * RATE) - 2 * RATE
        elif action == "read":
            line.listen((number % 20) * FRAME_S)
        elif action == "burst":
            for _ in range(number % 80):
                burst = RtpPacket(111, sequence & 0xFFFF, timestamp & 0xFFFF_FFFF, ssrc, payload=packet.payload)
                line.send(burst, arrives=line.now)
                sequence, timestamp = sequence + 1, timestamp + ticks
        else:
            if action == "dtx":
                packet.payload = b"\x48"
            elif action == "garbage":
                packet.payload = number.to_bytes(4, "big") * 9
            if action == "late":
                held_back.append(packet)
            elif action != "lose":
                line.send(packet, arrives=line.now)
                if action == "twice":
                    line.send(packet, arrives=line.now + 0.05)
            if len(held_back) > 3:
                line.send(held_back.pop(number % 3), arrives=line.now)
            sequence, timestamp = sequence + 1, timestamp + ticks
            line.listen(FRAME_S)
        line.assert_bounded()
    line.listen(8.0)
    line.assert_bounded()
    assert line.playout.silent, f"{actions!r} {vars(line.playout)}"


@dataclass
class FakeDecoder:
    """Costs nothing: an hour takes seconds."""

    corrupt: bool = False

    def decode(self, payload: bytes) -> Pcm:
        if self.corrupt:
            raise OpusError("corrupted stream")
        return np.zeros((FRAME, 2), np.float32)

    def decode_lost(self, ticks: int, following: bytes) -> Pcm:
        return np.zeros((ticks, 2), np.float32)

    def conceal(self, ticks: int) -> Pcm:
        return np.zeros((ticks, 2), np.float32)

    def reset(self) -> None:
        pass


@pytest.mark.parametrize("ppm", [-300, 300])
def test_an_hour_of_drift_and_loss_keeps_every_buffer_small(ppm: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playout_module, "Decoder", FakeDecoder)
    line = Line()
    playout, arrivals = line.playout, line.arrivals
    rng = random.Random(1)
    payload = PAYLOADS[960][0]
    interval = FRAME_S / (1 + ppm * 1e-6)
    sent_at, number, worst = 0.0, 0, 0.0
    reads = 60 * 60 * 50
    before = 0
    for tick in range(reads):
        now = tick * FRAME_S
        while sent_at <= now:
            if rng.random() > 0.02:
                packet = RtpPacket(111, number & 0xFFFF, number * FRAME & 0xFFFF_FFFF, 1, payload=payload)
                arrival = arrivals.place(packet, None, now=sent_at + rng.random() * 0.01)
                assert arrival is not None
                playout.insert(arrival)
            number += 1
            sent_at += interval
        assert len(playout.read(FRAME, due=now)) == FRAME
        if tick > 500:
            worst = max(worst, abs(playout.excess(due=now)))
        if tick == reads - 5000:
            tracemalloc.start()
        elif tick == reads - 4000:
            before = tracemalloc.get_traced_memory()[0]
    assert abs(number - reads) > 50, "the clocks have come far apart"
    assert worst < URGENT_TICKS + FRAME
    assert len(playout._held) < 5
    assert len(playout._pcm) < 3 * HISTORY + 2 * MAX_DURATION_TICKS
    assert tracemalloc.get_traced_memory()[0] - before < 100_000
    tracemalloc.stop()


def test_packets_that_libopus_refuses_are_concealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playout_module, "Decoder", lambda: FakeDecoder(corrupt=True))
    line = Line()
    talk(line, Speaker("a", sine(440)), 1.0)
    assert not line.playout.silent
    line.assert_bounded()


def test_delays_are_bounded_however_late_packets_come() -> None:
    arrivals = Arrivals()
    encoder = Encoder(bitrate_bps=32_000)
    payload = encoder.encode(np.zeros((FRAME, 2), np.float32))
    rng = random.Random(2)
    for n in range(500):
        packet = RtpPacket(111, n, n * FRAME, 1, payload=payload)
        arrivals.place(packet, None, now=n * FRAME_S + rng.random() * 3)
    assert arrivals.required_delay <= 0.1 * RATE + MAX_JITTER_TICKS
