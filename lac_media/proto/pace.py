"""When the next packet of a stream is overdue, so that it can be asked for before another one shows that it is missing.

Sans-IO. Extended sequence numbers, `now` in monotonic seconds, timestamps in ticks of 48 kHz.
"""

from __future__ import annotations

from lac_media.proto.seq import MAX_DROPOUT, delta32

#: A packet is overdue so long after its time, and so many times the jitter (RFC 3550 section A.8) more.
OVERDUE_S, OVERDUE_JITTERS = 0.005, 3.0
#: Longer steps are pauses (DTX), no pace.
MAX_STEP_S = 0.12
#: From this share of packets lost, averaged over about so many.
LOSING, LOSS_MEMORY = 0.015, 128


class Pace:
    """Learns how evenly the packets of one stream come, and whether some get lost."""

    __slots__ = ("_arrived_at", "_lost", "_margin_s", "_sequence", "_steady", "_step_s", "_timestamp")

    def __init__(self) -> None:
        self._sequence: int | None = None
        self._timestamp = 0
        self._arrived_at = 0.0
        #: From one packet to the next, and whether it was the same the last time.
        self._step_s = 0.0
        self._steady = False
        self._margin_s = 0.0
        #: The share of packets that was lost of late.
        self._lost = 0.0

    def receive(self, sequence: int, timestamp: int, *, now: float, jitter_s: float) -> None:
        """A packet has come whose number is above all others, with the jitter of the stream so far."""
        steps = 0 if self._sequence is None else sequence - self._sequence
        if 0 < steps < MAX_DROPOUT:
            step_s = delta32(timestamp, self._timestamp) / (48_000 * steps)
            self._steady = step_s == self._step_s and 0 < step_s <= MAX_STEP_S
            self._step_s = step_s
            kept = 1 - 1 / LOSS_MEMORY
            self._lost = kept * (1 - (1 - self._lost) * kept ** (steps - 1))
        else:
            self._steady, self._lost = False, 0.0  # the first one, or a restart of the source
        self._sequence, self._timestamp, self._arrived_at = sequence, timestamp, now
        self._margin_s = OVERDUE_S + OVERDUE_JITTERS * jitter_s

    def was_late(self) -> None:
        """What looked like a loss was none: it came by itself, after a later one."""
        self._lost = max(0.0, self._lost - 1 / LOSS_MEMORY)

    def due_at(self, ahead: int) -> float:
        """When the packet `ahead` numbers after the last one would come, if nothing changes."""
        return self._arrived_at + ahead * self._step_s

    def overdue_at(self, ahead: int) -> float:
        """When it is overdue. Infinity where nothing can be said, or nothing gets lost."""
        if not self._steady or self._lost < LOSING:
            return float("inf")
        return self.due_at(ahead) + self._margin_s
