"""Plays Opus packets at the pace of the clock, however they come: whole pages at a time, or far ahead of real time.

Sans-IO. Ticks are 1/48000 s. What waits is bounded by whoever adds: it asks `is_full` first and waits, so that the
sender is slowed down by TCP. A source whose clock is slow runs dry now and then, and is then given its margin anew.
"""

from __future__ import annotations

from collections import deque

from lac_media.errors import ParseError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import duration_ticks_untrusted

#: What the first packet waits, and the first one after the source ran dry: bursts that come late by less are not heard.
MARGIN_S = 0.25
#: From here on nothing more is taken: a page that holds a second, the margin, and some room for the next.
FULL_TICKS = 2 * OPUS_CLOCK_RATE_HZ
#: Behind the clock by more than this (we did not run), the rest is played later instead of all at once.
MAX_BEHIND_S = 0.1


class Pacer:
    """`now` is monotonic seconds."""

    def __init__(self) -> None:
        #: What was no Opus.
        self.malformed = 0
        #: How often the source ran dry.
        self.dry = 0
        self._packets: deque[tuple[bytes, int]] = deque()
        self._ticks = 0
        #: When the first packet that waits is due.
        self._next_at: float | None = None

    @property
    def is_full(self) -> bool:
        return self._ticks >= FULL_TICKS

    @property
    def is_empty(self) -> bool:
        return not self._packets

    @property
    def waiting_ticks(self) -> int:
        return self._ticks

    def add(self, payload: bytes, *, now: float) -> None:
        """The next packet."""
        try:
            ticks = duration_ticks_untrusted(payload)
        except ParseError:
            self.malformed += 1
            return
        if not self._packets and (self._next_at is None or self._next_at < now):
            self.dry += self._next_at is not None
            self._next_at = now + MARGIN_S
        self._packets.append((payload, ticks))
        self._ticks += ticks

    def take(self, *, now: float) -> list[bytes]:
        """What is due."""
        out: list[bytes] = []
        if self._next_at is None:
            return out
        if self._packets and now - self._next_at > MAX_BEHIND_S:
            self._next_at = now
        while self._packets and self._next_at <= now:
            payload, ticks = self._packets.popleft()
            self._ticks -= ticks
            self._next_at += ticks / OPUS_CLOCK_RATE_HZ
            out.append(payload)
        return out

    def timer_at(self) -> float:
        """When `take` has something; infinite while nothing waits."""
        return float("inf") if self._next_at is None or not self._packets else self._next_at
