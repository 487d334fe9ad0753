"""How busy this process is: whether another listener can come without those inside hearing it.

Two things are measured. How late a task wakes up (the loop's lag), and how long a program packet is under way from its
arrival to its last listener (the forwarding delay). Both grow before anything is lost.
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from dataclasses import dataclass

import trio

SAMPLE_INTERVAL_S = 0.05
JUDGE_INTERVAL_S = 0.25
#: What is judged: the last so many seconds.
WINDOW_S = 2.0
#: Measurements kept for it.
WINDOW_VALUES = 2000
#: Single hiccups do not count, what every tenth packet meets does.
SHARE = 0.9
WARM_UP_S = 3.0
#: Overload is over when both values have been below this part of their limits for so long. It cannot be much less: with
#: a full house one packet of the program is under way for most of the 20 ms until the next.
RECOVERED = 0.7
RECOVERY_S = 1.0
#: So few sessions are no load: whatever makes the process late then is something else (a machine that other programs
#: keep busy, a start), and turning the first listeners away would help nobody.
FEW_SESSIONS = 12
#: Told to whom we refuse.
RETRY_AFTER_S = 2.0
#: Upper bounds of the buckets that `Delays` counts into, seconds.
BUCKETS_S = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.01, 0.0125, 0.015, 0.02, 0.03, 0.05, 0.1),
    *(0.25, 0.5, 1.0),
)


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """Seconds. `listeners` None: as many as the machine bears."""

    forwarding_delay_s: float = 0.05
    loop_lag_s: float = 0.05
    listeners: int | None = None


class Delays:
    """Measured delays in seconds: counted in buckets from the beginning on, and kept for a while for quantiles."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._recent: deque[tuple[float, float]] = deque(maxlen=WINDOW_VALUES)

    def add(self, delay_s: float, *, now: float) -> None:
        self.count += 1
        self.total_s += delay_s
        self._buckets[bisect.bisect_left(BUCKETS_S, delay_s)] += 1
        self._recent.append((now, delay_s))

    def cumulative(self) -> list[tuple[float, int]]:
        """(upper bound, how many were at or below it), the last one infinite."""
        return list(zip((*BUCKETS_S, float("inf")), itertools.accumulate(self._buckets), strict=True))

    def quantile(self, share: float, *, now: float) -> float:
        """Of the last `WINDOW_S`; 0 when there was nothing."""
        recent = self._recent
        while recent and now - recent[0][0] > WINDOW_S:
            recent.popleft()
        if not recent:
            return 0.0
        values = sorted(delay_s for _, delay_s in recent)
        return values[min(len(values) - 1, int(share * len(values)))]


class LoadMeter:
    """Fed by the rooms and by its own task, `run`."""

    def __init__(self, limits: LoadLimits) -> None:
        self.limits = limits
        self.lag = Delays()
        self.forwarding = Delays()
        self.overloaded = False
        self._calm_since: float | None = None
        #: A process that has just started is slow at everything it does for the first time.
        self._judges_from: float | None = None

    def admits(self, listeners: int, sessions: int) -> bool:
        """Whether one more may come to those `listeners` who are in already. `sessions` are all there are, those too
        that speak or are about to connect."""
        most = self.limits.listeners
        if most is not None and listeners >= most:
            return False
        return not self.overloaded or sessions < FEW_SESSIONS

    async def run(self) -> None:
        """Measure the lag and judge until cancelled."""
        judge_at = trio.current_time() + JUDGE_INTERVAL_S
        while True:
            due = trio.current_time() + SAMPLE_INTERVAL_S
            await trio.sleep_until(due)
            now = trio.current_time()
            self.lag.add(max(0.0, now - due), now=now)
            if now >= judge_at:
                judge_at = now + JUDGE_INTERVAL_S
                self.judge(now=now)

    def judge(self, *, now: float) -> None:
        """Decide anew whether this is too much."""
        if self._judges_from is None:
            self._judges_from = now + WARM_UP_S
        if now < self._judges_from:
            return
        limits = self.limits
        strain = max(
            self.forwarding.quantile(SHARE, now=now) / limits.forwarding_delay_s,
            self.lag.quantile(SHARE, now=now) / limits.loop_lag_s,
        )
        if strain > 1:
            self.overloaded, self._calm_since = True, None
        elif not self.overloaded or strain > RECOVERED:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= RECOVERY_S:
            self.overloaded = False
