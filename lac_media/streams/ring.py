"""The last seconds of one encoded stream, from which any number of clients read at their own pace.

Sans-IO. A client has no queue, only a place in the ring: whoever is too slow for it is moved forward, and nobody else
notices.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from lac_media.parameters import OPUS_CLOCK_RATE_HZ

#: What a new client gets at once, so that its player need not wait for its buffer to fill.
BURST_TICKS = 3 * OPUS_CLOCK_RATE_HZ
#: What is kept, thus how far a client may fall behind.
KEEP_TICKS = 10 * OPUS_CLOCK_RATE_HZ
#: A client is given at most so much at a time: it must go out within a write's deadline.
MAX_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole frames, or whole pages. `header` is what a decoder must have seen before them; the same object for all
    chunks that it serves. `ticks` is how much they play."""

    number: int
    data: bytes
    ticks: int
    header: bytes


class Ring:
    """Chunks are numbered from 0 on."""

    def __init__(self, *, keep_ticks: int = KEEP_TICKS, burst_ticks: int = BURST_TICKS) -> None:
        self._keep_ticks = keep_ticks
        self._burst_ticks = burst_ticks
        self._chunks: deque[Chunk] = deque()
        self._ticks = 0
        #: Of the chunk that comes next.
        self.next_number = 0

    def add(self, data: bytes, ticks: int, header: bytes) -> None:
        """The newest chunk; the oldest go."""
        self._chunks.append(Chunk(self.next_number, data, ticks, header))
        self.next_number += 1
        self._ticks += ticks
        while self._ticks - self._chunks[0].ticks >= self._keep_ticks:
            self._ticks -= self._chunks.popleft().ticks

    def entry(self) -> int:
        """Where a new client begins to read: a burst before the newest chunk."""
        ticks, number = 0, self.next_number
        for chunk in reversed(self._chunks):
            if ticks + chunk.ticks > self._burst_ticks:
                break
            ticks += chunk.ticks
            number = chunk.number
        return number

    @property
    def first_number(self) -> int:
        return self.next_number - len(self._chunks)

    def get(self, number: int) -> Chunk:
        """The chunk with this number, which must be between `first_number` and `next_number`."""
        return self._chunks[number - self.first_number]


class Cursor:
    """One client's place in a ring."""

    def __init__(self, ring: Ring) -> None:
        #: How often the client was too slow and had to be moved forward.
        self.skips = 0
        self._ring = ring
        self._next = ring.entry()
        self._header: bytes | None = None

    @property
    def has_more(self) -> bool:
        return self._next < self._ring.next_number

    def read(self) -> bytes:
        """What has come since, with the header where the decoder needs one; nothing if there is nothing. A client that
        has fallen out of the ring goes on where a new one would begin."""
        ring = self._ring
        if self._next < ring.first_number:
            self.skips += 1
            self._next = ring.entry()
        parts: list[bytes] = []
        size = 0
        while self._next < ring.next_number:
            chunk = ring.get(self._next)
            if parts and size + len(chunk.data) > MAX_READ_BYTES:
                break
            if chunk.header is not self._header:
                self._header = chunk.header
                parts.append(chunk.header)
            parts.append(chunk.data)
            size += len(chunk.data)
            self._next += 1
        return b"".join(parts)
