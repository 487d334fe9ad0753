"""The grace period of a show whose host is not heard: when the show ends for it, and what everyone is told of it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
import trio

from lac.rooms.events import HostAway, HostBack

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: When the end of a show whose host is gone cannot be written down, it goes on and is tried again after this time.
END_RETRY_S = 5.0


class HostClock:
    """`begin` and `update` decide, and read no clock: `now` is monotonic seconds (Trio's), `at` the time of day. `run`
    is the one task that waits for what they have decided."""

    def __init__(self, broadcast_id: str, grace_s: float) -> None:
        self._broadcast_id = broadcast_id
        self._grace_s = grace_s
        #: When the show ends unless a host is heard before. Infinite while one is.
        self._deadline = math.inf
        self._waiting = trio.CancelScope()
        self._away_until: datetime | None = None

    @property
    def away_until(self) -> datetime | None:
        """What everyone was told, or finds when they come, about the end. None: the host is not said to be away."""
        return self._away_until

    def begin(self, *, reopened: bool, now: float, at: datetime) -> None:
        """The show is on air, and nobody is heard yet."""
        self._move_deadline(now + self._grace_s)
        if reopened:
            # Who comes back now finds the show without its host; a show that starts just has not been heard yet.
            self._away_until = at + timedelta(seconds=self._grace_s)

    def update(self, *, kept: bool, now: float, at: datetime) -> HostAway | HostBack | None:
        """Start or stop the clock: `kept` says whether a host is heard, as `Stage.is_kept` does. Returns what everyone
        has to be told of it."""
        if kept and self._deadline < math.inf:
            self._move_deadline(math.inf)
            if self._away_until is not None:
                self._away_until = None
                return HostBack()
        elif not kept and self._deadline == math.inf:
            self._move_deadline(now + self._grace_s)
            self._away_until = at + timedelta(seconds=self._grace_s)
            return HostAway(until=self._away_until)
        return None

    async def run(self, write_end: Callable[[], Awaitable[T]]) -> T:
        """Wait until the grace period has run out and `write_end` has written the end of the show down. Returns what it
        returned; where it fails, the show goes on, and unless a host is heard by then it is tried again."""
        while True:
            with trio.CancelScope(deadline=self._deadline) as self._waiting:
                await trio.sleep_forever()
            try:
                return await write_end()
            except Exception:
                log.exception("the end of the show could not be written down", broadcast_id=self._broadcast_id)
                # Unless the host has come back meanwhile, or come back and left again, for which there is a new one.
                if self._deadline <= (now := trio.current_time()):
                    self._move_deadline(now + END_RETRY_S)

    def _move_deadline(self, deadline: float) -> None:
        self._deadline = self._waiting.deadline = deadline
