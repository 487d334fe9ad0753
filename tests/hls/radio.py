"""A program for HLS to read: real Opus packets, one every 20 ms of virtual time, and workers without threads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import numpy as np
import trio

from lac_media.errors import SessionClosedError
from lac_media.hls.stream import HlsStream, Workers
from lac_media.opus.codec import Encoder
from lac_media.rooms.tap import Tap, TappedPacket, TapPoint

T = TypeVar("T")
Args = TypeVarTuple("Args")

FRAME = 960
BEGAN_AT = datetime(2026, 5, 1, 12, 0, 0, 123_000, tzinfo=UTC)
#: Whole periods in a frame, so that any frame follows any other.
TONE_HZ = 500.0


class InlineWorkers(Workers):
    """In place of threads, which virtual time does not wait for: a job takes one step."""

    async def encode(self, job: Callable[[*Args], T], *args: *Args) -> T:
        await trio.lowlevel.checkpoint()
        return job(*args)

    async def on_files(self, job: Callable[[*Args], T], *args: *Args) -> T:
        await trio.lowlevel.checkpoint()
        return job(*args)


@lru_cache
def tone_packets() -> tuple[bytes, ...]:
    encoder = Encoder(bitrate_bps=64_000)
    times = np.arange(FRAME * 60) / 48_000
    wave = (0.5 * np.sin(2 * np.pi * TONE_HZ * times)).astype(np.float32)
    stereo = np.ascontiguousarray(np.stack([wave, wave], axis=1))
    return tuple(encoder.encode(stereo[at : at + FRAME]) for at in range(0, len(stereo), FRAME))[10:]


class Radio:
    """`skip` leaves packets out, as if they had not come; `leap` as if nothing had been sent."""

    def __init__(self) -> None:
        self.point = TapPoint()
        self.ticks = 0
        self.sequence = 0
        self.closed = False
        self.taps: list[Tap] = []

    def tap_program(self) -> Tap:
        if self.closed:
            raise SessionClosedError("closed")
        tap = self.point.open()
        self.taps.append(tap)
        return tap

    async def play(self, seconds: float) -> None:
        """Send, and come back when it has been sent."""
        packets = tone_packets()
        for _ in range(round(seconds * 50)):
            self._offer(packets[self.sequence % len(packets)])
            await trio.sleep(0.02)

    def skip(self, packets: int) -> None:
        self.sequence += packets
        self.ticks += packets * FRAME

    def leap(self, packets: int) -> None:
        self.ticks += packets * FRAME

    def close(self) -> None:
        self.closed = True
        self.point.end()

    def _offer(self, payload: bytes) -> None:
        self.point._offer(TappedPacket(self.sequence, self.ticks, trio.current_time(), payload))
        self.sequence += 1
        self.ticks += FRAME


def make_stream(directory: Path, **options: object) -> HlsStream:
    settings: dict[str, object] = {"run": "r1", "began_at": BEGAN_AT, "first_msn": 100, "window_s": 60.0}
    return HlsStream(directory, workers=InlineWorkers(), **{**settings, **options})  # type: ignore[arg-type]  # by name
