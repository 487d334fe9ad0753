"""A director in virtual time, speakers with real encoders, and one listener who decodes everything."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from lac_media.opus import Decoder, Encoder, Pcm
from lac_media.opus.library import APPLICATION_AUDIO
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.director import Director
from lac_media.rooms.program import Program, ProgramPacket

START = 100.0
RATE = OPUS_CLOCK_RATE_HZ
Wave = Callable[[np.ndarray], np.ndarray]


def sine(hertz: float, amplitude: float = 0.2) -> Wave:
    return lambda t: amplitude * np.sin(2 * np.pi * hertz * t)


def silence(t: np.ndarray) -> np.ndarray:
    return np.zeros_like(t)


@dataclass
class Speaker:
    """Somebody with a microphone and a network. `ppm` is how much too fast their clock is."""

    name: str
    wave: Wave
    sequence: int = 1000
    timestamp: int = 5000
    ssrc: int = 1
    bitrate_bps: int = 96_000
    application: int = APPLICATION_AUDIO
    ticks: int = 960
    fec: bool = False
    expected_loss: int = 0
    dtx: bool = False
    ppm: float = 0.0
    delay_s: float = 0.03
    jitter_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    #: So many are lost at first, and come so much later: asked for again.
    repaired: float = 0.0
    repair_s: float = 0.0
    level: int | None = 20
    sent: list[bytes] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.encoder = Encoder(
            bitrate_bps=self.bitrate_bps,
            application=self.application,
            fec=self.fec,
            expected_loss=self.expected_loss,
            dtx=self.dtx,
        )
        self._position = 0
        self._in_dtx = False

    def packet(self) -> RtpPacket:
        """The next one, as it leaves the encoder."""
        t = (self._position + np.arange(self.ticks)) / RATE
        mono = self.wave(t).astype(np.float32)
        payload = self.encoder.encode(np.ascontiguousarray(np.stack((mono, mono), axis=1)))
        self._position += self.ticks
        packet = RtpPacket(111, self.sequence & 0xFFFF, self.timestamp & 0xFFFF_FFFF, self.ssrc, payload=payload)
        self.sequence += 1
        self.timestamp += self.ticks
        self.sent.append(payload)
        return packet

    def would_send(self, packet: RtpPacket) -> bool:
        """As browsers do: of packets that say no more than "silence" only the first is sent."""
        before, self._in_dtx = self._in_dtx, self.dtx and len(packet.payload) <= 2
        return not (before and self._in_dtx)

    @property
    def interval_s(self) -> float:
        return self.ticks / RATE / (1 + self.ppm * 1e-6)


class Show:
    def __init__(self, *, seed: int = 1) -> None:
        self.now = START
        self.program = Program(ssrc=7, first_sequence=65_500, first_timestamp=2**32 - 48_000, now=START)
        self.director = Director(self.program)
        self.out: list[ProgramPacket] = []
        self.random = random.Random(seed)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._talking: set[str] = set()

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), act))

    def start(self, speaker: Speaker) -> None:
        self._talking.add(speaker.name)
        self._say(speaker, self.now)

    def stop(self, speaker: Speaker, *, removed: bool = True) -> None:
        """No more of their packets; what is on its way still comes, unless they are removed."""
        self._talking.discard(speaker.name)
        if removed:
            self.director.remove(speaker.name, now=self.now)

    def _say(self, speaker: Speaker, when: float) -> None:
        if speaker.name not in self._talking:
            return
        packet = speaker.packet()
        self.at(when + speaker.interval_s, lambda: self._say(speaker, when + speaker.interval_s))
        if not speaker.would_send(packet):
            return
        if self.random.random() < speaker.loss:
            return
        for _ in range(2 if self.random.random() < speaker.duplicate else 1):
            arrives = when + speaker.delay_s + self.random.random() * speaker.jitter_s
            if speaker.repaired and self.random.random() < speaker.repaired:
                arrives += speaker.repair_s
            self.at(arrives, lambda: self._arrive(speaker, packet))

    def _arrive(self, speaker: Speaker, packet: RtpPacket) -> None:
        if speaker.name in self._talking:
            self.out.extend(self.director.receive(speaker.name, packet, speaker.level, now=self.now))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            timer = self.director.timer_at()
            upcoming = self._agenda[0][0] if self._agenda else float("inf")
            if min(timer, upcoming) > until:
                break
            if upcoming <= timer:
                self.now = max(self.now, upcoming)
                heapq.heappop(self._agenda)[2]()
            else:
                self.now = max(self.now, timer)
                self.out.extend(self.director.handle_timer(now=self.now))
                assert self.director.timer_at() > self.now, "a timer that is due again at once would spin"
        self.now = until

    def decoded(self, *, since: int = 0) -> Pcm:
        """All of the program as one listener's decoder plays it."""
        decoder = Decoder()
        return np.concatenate([decoder.decode(packet.payload) for packet in self.out[since:]])

    def assert_unbroken(self) -> None:
        first = self.out[0]
        assert [p.sequence for p in self.out] == [(first.sequence + n) & 0xFFFF for n in range(len(self.out))]
        steps = {b.ticks - a.ticks for a, b in pairwise(self.out)}
        assert steps == {960}, steps
        assert all(p.timestamp == (self.out[0].timestamp + p.ticks - first.ticks) & 0xFFFF_FFFF for p in self.out)

    @property
    def silent_packets(self) -> int:
        return sum(packet.payload == SILENCE_20MS_MONO for packet in self.out)
