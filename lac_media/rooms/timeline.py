"""Turning packets that came over a network into an unbroken line of sound: what recordings and HTTP streams carry.

Sans-IO. Ticks are 1/48000 s of media time. What comes out is in order and without a hole: each packet begins where the
one before it ended, to within 2.5 ms. Where nothing came, silence of that length stands, and is reported as a gap.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from lac_media.errors import ParseError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import SHORTEST_FRAME_TICKS, duration_ticks_untrusted, silence_packets

#: How long a packet is awaited that others have overtaken, or that is being sent again.
HOLD_BACK_TICKS = 400 * OPUS_CLOCK_RATE_HZ // 1000
#: Packets waiting for one before them: more than `HOLD_BACK_TICKS` of the shortest frames.
MAX_WAITING = 256


class Piece(NamedTuple):
    """One Opus packet of the line. `ticks` is where it begins; `is_gap` when it is silence of our making."""

    ticks: int
    duration_ticks: int
    payload: bytes
    is_gap: bool


class Timeline:
    """One line of sound from `start_ticks` on."""

    def __init__(self, start_ticks: int, *, hold_back_ticks: int = HOLD_BACK_TICKS) -> None:
        #: Where the next piece begins.
        self.position = start_ticks
        #: Packets whose time had passed, and what was not Opus.
        self.late = 0
        self.malformed = 0
        self._hold_back = hold_back_ticks
        self._waiting: list[tuple[int, int, int, bytes]] = []
        self._newest = start_ticks
        self._count = 0

    def receive(self, ticks: int, payload: bytes) -> Iterator[Piece]:
        """Take one packet that belongs at `ticks`; the pieces that are settled by it."""
        try:
            duration = duration_ticks_untrusted(payload)
        except ParseError:
            self.malformed += 1
            return
        self._count += 1
        heapq.heappush(self._waiting, (ticks, self._count, duration, payload))
        self._newest = max(self._newest, ticks)
        yield from self._settle()

    def advance(self, ticks: int) -> Iterator[Piece]:
        """It is `ticks` now: what has not come until the hold-back has passed is silence."""
        self._newest = max(self._newest, ticks)
        yield from self._settle()
        yield from self._fill(self._newest - self._hold_back)

    def end(self, ticks: int) -> Iterator[Piece]:
        """The line ends at `ticks`: everything that waits, then silence up to there."""
        while self._waiting:
            yield from self._place(*heapq.heappop(self._waiting))
        yield from self._fill(ticks)

    def _settle(self) -> Iterator[Piece]:
        waiting = self._waiting
        while waiting and (
            waiting[0][0] - self.position < SHORTEST_FRAME_TICKS
            or waiting[0][0] <= self._newest - self._hold_back
            or len(waiting) > MAX_WAITING
        ):
            yield from self._place(*heapq.heappop(waiting))

    def _place(self, ticks: int, _order: int, duration: int, payload: bytes) -> Iterator[Piece]:
        # A small overlap is passed over: the line is late by it until the next hole.
        if self.position - ticks > duration // 4:
            self.late += 1
            return
        yield from self._fill(ticks)
        yield Piece(self.position, duration, payload, is_gap=False)
        self.position += duration

    def _fill(self, until: int) -> Iterator[Piece]:
        """Silence up to `until`, short of it by less than the shortest frame."""
        for payload, duration in silence_packets(until - self.position):
            yield Piece(self.position, duration, payload, is_gap=True)
            self.position += duration


class ClockFollower:
    """Corrects a sender's clock: media time as the sender counts it, put on the time line of our own clock.

    Networks only ever add delay, so the least delay of a while shows how the clocks stand to each other. When they have
    come apart, the sender's time is shifted: preferably while it is quiet, by force before the error, with that of
    `Timeline`, is 20 ms.
    """

    #: Ticks.
    QUIET_LIMIT = 6 * 48
    LIMIT = 12 * 48
    WINDOW_S = 5.0

    def __init__(self) -> None:
        self.correction = 0
        #: Shifts made so far.
        self.shifts = 0
        self._baseline: int | None = None
        self._window_ends_at = 0.0
        self._least: int | None = None
        self._least_before: int | None = None
        self._settled = False

    def place(self, ticks: int, *, quiet: bool, now: float) -> int:
        """Where the packet with the sender's `ticks` belongs, on a line on which a second is a second of `now`."""
        delay = round(now * OPUS_CLOCK_RATE_HZ) - ticks
        if self._least is None:
            self._window_ends_at = now + self.WINDOW_S
            self._least = delay
        elif now >= self._window_ends_at:
            if not self._settled:
                self._baseline, self._settled = self._least, True
            self._least_before, self._least = self._least, delay
            self._window_ends_at = now + self.WINDOW_S
        else:
            self._least = min(self._least, delay)
        if self._settled and self._baseline is not None:
            least = self._least if self._least_before is None else min(self._least, self._least_before)
            error = least - self._baseline - self.correction
            if abs(error) >= (self.QUIET_LIMIT if quiet else self.LIMIT):
                self.correction += error
                self.shifts += 1
        return ticks + self.correction
