"""What a bad network does to datagrams, as decisions only: one core for virtual time and for real sockets.

`Path` is one direction of somebody's network. It is told of each datagram with `now` and says when copies of it arrive,
which may be never. `tests.fakes.link` and `tests.fakes.net` ask it in virtual time, `tests.e2e.impairing_proxy` between
real programs. The same seed and the same times give the same network.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

#: How far a datagram can be overtaken when it is, unless told otherwise.
REORDER_S = 0.03


@dataclass(frozen=True)
class Burst:
    """Loss in bursts, after Gilbert and Elliott: a good state that loses nothing and a bad one that loses everything.
    `share` of all datagrams is lost in the long run, `length` in a row on average."""

    share: float
    length: float = 4.0

    @property
    def leave(self) -> float:
        """The probability of going from bad to good, per datagram."""
        return 1 / self.length

    @property
    def enter(self) -> float:
        return self.share * self.leave / (1 - self.share)


@dataclass
class Impairment:
    """What a network does at the moment. Change it at any time; several paths may share one.

    `loss`, `duplicate` and `reorder` are probabilities per datagram. Jitter never changes the order, `reorder` does:
    it holds a datagram back for up to `reorder_s`, and others overtake it. Until `dark_until`, in the time that paths
    are asked in, nothing gets through at all.
    """

    loss: float = 0.0
    burst: Burst | None = None
    duplicate: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder: float = 0.0
    reorder_s: float = REORDER_S
    #: None: without limit. What waits for its turn is kept up to `queue_bytes`; the rest is lost.
    rate_bps: float | None = None
    queue_bytes: int = 20_000
    dark_until: float = float("-inf")


class Path:
    """One direction. Its own randomness and state; what it does is read from `impairment` each time."""

    def __init__(self, impairment: Impairment, seed: int | str) -> None:
        self.impairment = impairment
        self.passed = 0
        self.lost = 0
        self._random = random.Random(seed)
        self._in_burst = False
        self._free_at = float("-inf")
        self._last_arrival = float("-inf")

    def arrivals(self, size: int, *, now: float) -> list[float]:
        """When a datagram of so many bytes that is sent now arrives: once, twice or not at all."""
        link = self.impairment
        if now < link.dark_until or self._is_lost() or (sent_at := self._through_the_queue(size, now)) is None:
            self.lost += 1
            return []
        self.passed += 1
        copies = 1 + (self._random.random() < link.duplicate)
        return [self._arrival(sent_at) for _ in range(copies)]

    def _is_lost(self) -> bool:
        burst = self.impairment.burst
        if burst is None:
            self._in_burst = False
        elif self._random.random() < (burst.leave if self._in_burst else burst.enter):
            self._in_burst = not self._in_burst
        return self._in_burst or self._random.random() < self.impairment.loss

    def _through_the_queue(self, size: int, now: float) -> float | None:
        """When the datagram has left the bottleneck; None if there is no room for it."""
        rate = self.impairment.rate_bps
        if rate is None:
            return now
        free_at = max(self._free_at, now)
        if (free_at - now) * rate / 8 >= self.impairment.queue_bytes:
            return None  # but the last one may be of any size, or large ones would never find room
        self._free_at = free_at + size * 8 / rate
        return self._free_at

    def _arrival(self, sent_at: float) -> float:
        link = self.impairment
        at = sent_at + link.delay_s + self._random.random() * link.jitter_s
        if self._random.random() < link.reorder:
            return at + self._random.random() * link.reorder_s
        at = self._last_arrival = max(at, self._last_arrival)
        return at
