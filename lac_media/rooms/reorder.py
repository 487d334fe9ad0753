"""Holds back a speaker who passes through while much of what they send comes late, having been asked for again.

Sans-IO. As long as `Arrivals` sees no need to wait for repairs, packets go on as they come, in whatever order. While it
does, each goes on when the slowest repairs would be there, in order. That wait is reached and given up so slowly that
listeners follow by playing a little slower or faster.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from lac_media.mix.arrivals import Arrival, Arrivals
from lac_media.parameters import OPUS_CLOCK_RATE_HZ

#: By how much the wait grows and shrinks, in ticks for each tick that passes.
RISE, FALL = 0.02, 0.005
#: A pause is no time in which listeners could have followed.
MAX_STEP_S = 0.5
#: Packets that may wait: more than 250 ms of the shortest ones, 2.5 ms.
MAX_HELD = 128


class ReorderBuffer:
    """Of one speaker. `now` is monotonic seconds; after any call re-read `timer_at()`."""

    def __init__(self, arrivals: Arrivals) -> None:
        #: How long a packet waits after the time at which it would have come at the earliest, ticks.
        self.hold_ticks = 0.0
        self._arrivals = arrivals
        self._changed_at = 0.0
        #: A heap: each with its place on the speaker's clock, a number, and when it is due.
        self._held: list[tuple[int, int, float, Arrival]] = []
        self._count = 0

    @property
    def delay(self) -> float:
        """At which packets go on now (see `Arrivals`)."""
        return self._arrivals.fastest + self.hold_ticks

    def receive(self, arrival: Arrival, *, now: float) -> list[Arrival]:
        """Take a packet as it comes; what goes on at once, mostly that packet."""
        self._follow(now)
        if not self.hold_ticks and not self._held:
            return [arrival]
        self._hold(arrival)
        return self.handle_timer(now=now)

    def go_on(self, arrivals: Iterable[Arrival], *, now: float) -> list[Arrival]:
        """What a mix has not come to, of a speaker who passes through again: it is as late as repairs take already, so
        all of that is waited at once. Returns what goes on now."""
        self.hold_ticks, self._changed_at = self._arrivals.repair_wait, now
        for arrival in arrivals:
            self._hold(arrival)
        return self.handle_timer(now=now)

    def handle_timer(self, *, now: float) -> list[Arrival]:
        """What has waited long enough, in order."""
        out = []
        while self._held and (self._held[0][2] <= now or len(self._held) > MAX_HELD):
            out.append(heapq.heappop(self._held)[3])
        return out

    def timer_at(self) -> float:
        """When the next packet has waited long enough; infinity if none waits."""
        return self._held[0][2] if self._held else float("inf")

    def take_all(self) -> list[Arrival]:
        """What waits, in order. It waits no more, and what follows does not before there is time to begin anew."""
        held = [arrival for _, _, _, arrival in sorted(self._held, key=lambda each: each[:2])]
        self._held.clear()
        self.hold_ticks = 0.0
        return held

    def _hold(self, arrival: Arrival) -> None:
        due = (arrival.ticks + self.delay) / OPUS_CLOCK_RATE_HZ
        self._count += 1
        heapq.heappush(self._held, (arrival.ticks, self._count, due, arrival))

    def _follow(self, now: float) -> None:
        ticks = min(now - self._changed_at, MAX_STEP_S) * OPUS_CLOCK_RATE_HZ
        self._changed_at = now
        wanted = self._arrivals.repair_wait
        if self.hold_ticks < wanted:
            self.hold_ticks = min(wanted, self.hold_ticks + RISE * ticks)
        else:
            self.hold_ticks = max(wanted, self.hold_ticks - FALL * ticks)
