"""Which packets of a stream have come, and what redundant copies (RFC 2198) can fill in for those that have not.

A copy has a timestamp and no sequence number. It is placed by its neighbours: between two packets that came, the
missing ones are known by number and the copies by time, and both rise.
"""

from __future__ import annotations

from lac_media.proto.seq import add32, delta32

#: More than `REACH`, and than ReceptionStats lets a packet be late: no slot is needed twice.
SLOTS = 128
#: How far below a packet its copies may belong: 14 bits of offset are 68 frames of 5 ms.
REACH = 68


class ReceiveHistory:
    """The last `SLOTS` extended sequence numbers of one stream with their timestamps (32 bits). Fixed memory."""

    __slots__ = ("_sequences", "_timestamps")

    def __init__(self) -> None:
        self._sequences: list[int | None] = [None] * SLOTS
        self._timestamps = [0] * SLOTS

    def add(self, sequence: int, timestamp: int) -> bool:
        """Note a packet. False if it has been there before."""
        slot = sequence % SLOTS
        if self._sequences[slot] == sequence:
            return False
        self._sequences[slot] = sequence
        self._timestamps[slot] = timestamp
        return True

    def fill(self, sequence: int, timestamp: int, copies: dict[int, bytes]) -> list[tuple[int, int, bytes]]:
        """What a packet's redundant copies are good for.

        `copies` maps how many ticks before `timestamp` a frame began to the frame. The result is (extended sequence,
        timestamp, frame) for packets below `sequence` that have not come, rising; they are noted as having come.
        """
        if not copies:
            return []
        oldest = max(copies)
        found: list[tuple[int, int]] = []
        upper, upper_age = sequence, 0
        for below in range(sequence - 1, sequence - 1 - REACH, -1):
            slot = below % SLOTS
            if self._sequences[slot] != below:
                continue
            age = delta32(timestamp, self._timestamps[slot])
            if upper - below > 1:
                found += _place(below, age, upper, upper_age, copies)
            if age >= oldest:
                break
            upper, upper_age = below, age
        recovered = [(number, add32(timestamp, -age), copies[age]) for number, age in sorted(found)]
        for number, stamp, _ in recovered:
            self.add(number, stamp)
        return recovered


def _place(lower: int, lower_age: int, upper: int, upper_age: int, copies: dict[int, bytes]) -> list[tuple[int, int]]:
    """The numbers of the copies that lie between two packets that came, as (sequence, age).

    As many copies as packets are missing: they are those. Otherwise, where the frames follow each other evenly, time
    tells. Otherwise there was a pause in the gap, and any guess may be wrong.
    """
    ages = sorted((age for age in copies if upper_age < age < lower_age), reverse=True)
    missing = upper - lower - 1
    if len(ages) == missing:
        return list(zip(range(lower + 1, upper), ages, strict=True))
    step, rest = divmod(lower_age - upper_age, missing + 1)
    if rest or step <= 0:
        return []
    return [(lower + (lower_age - age) // step, age) for age in ages if (lower_age - age) % step == 0]
