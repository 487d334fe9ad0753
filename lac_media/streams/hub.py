"""What the plain streams of all rooms share: threads to encode in, how many may listen, and what is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import trio

from lac_media.errors import StreamsFullError
from lac_media.streams.formats import StreamFormat

#: Batches that are encoded at the same time. One takes a few hundredths of a second, four times a second.
ENCODING_THREADS = 2
#: Source clients whose audio is decoded at the same time.
DECODING_THREADS = 2


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How many clients may read plain streams: in all, and from one address."""

    listeners: int = 1000
    per_address: int = 50


class StreamHub:
    """One for a process."""

    def __init__(self, limits: StreamLimits | None = None) -> None:
        self.limits = limits or StreamLimits()
        self.encoding = trio.CapacityLimiter(ENCODING_THREADS)
        self.decoding = trio.CapacityLimiter(DECODING_THREADS)
        #: Who listens now.
        self.listeners: Counter[StreamFormat] = Counter()
        #: Encoders that run now: none without a listener.
        self.encoders: Counter[StreamFormat] = Counter()
        self.octets_out = 0
        #: Of listeners who were too slow: how often one was moved forward.
        self.skips = 0
        self.refused = 0
        self._addresses: Counter[str] = Counter()

    def check(self, address: str | None) -> None:
        """Raise `StreamsFullError` if one more may not listen. `address`: what stands for where they come from."""
        if sum(self.listeners.values()) >= self.limits.listeners:
            self.refused += 1
            raise StreamsFullError("as many clients as may are listening to plain streams", here=False)
        if address is not None and self._addresses[address] >= self.limits.per_address:
            self.refused += 1
            raise StreamsFullError("as many plain streams as may are open from this address", here=True)

    def enter(self, stream_format: StreamFormat, address: str | None) -> None:
        self.listeners[stream_format] += 1
        if address is not None:
            self._addresses[address] += 1

    def leave(self, stream_format: StreamFormat, address: str | None) -> None:
        self.listeners[stream_format] -= 1
        if address is not None:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
