"""Numbers that wrap: RTP sequence numbers (16 bits) and timestamps (32 bits), RFC 3550 section 5.1.

On the wire they wrap; inside the program they are extended once, at the edge, to ints that never do.
"""

from __future__ import annotations

from typing import ClassVar

#: RFC 3550 section A.1: a step forward of this many packets or more is a restart rather than a loss.
MAX_DROPOUT = 3000
#: RFC 3550 section A.1: how far behind the highest a late packet may come.
MAX_MISORDER = 100


def add16(value: int, step: int) -> int:
    """`value + step` modulo 2**16; `step` may be negative."""
    return (value + step) & 0xFFFF


def add32(value: int, step: int) -> int:
    """`value + step` modulo 2**32; `step` may be negative."""
    return (value + step) & 0xFFFFFFFF


def delta16(new: int, old: int) -> int:
    """The shortest signed way from `old` to `new`, in [-2**15, 2**15)."""
    return ((new - old + 0x8000) & 0xFFFF) - 0x8000


def delta32(new: int, old: int) -> int:
    """The shortest signed way from `old` to `new`, in [-2**31, 2**31)."""
    return ((new - old + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def is_newer16(new: int, old: int) -> bool:
    """Does sequence number `new` come after `old`, wrap considered? Equal numbers do not."""
    return 0 < ((new - old) & 0xFFFF) < 0x8000


def is_newer32(new: int, old: int) -> bool:
    """Does timestamp `new` come after `old`, wrap considered? Equal ones do not."""
    return 0 < ((new - old) & 0xFFFFFFFF) < 0x80000000


class _Extender:
    """Extends wrapping numbers by taking, of all candidates, the one nearest to the highest seen so far."""

    _HALF: ClassVar[int]
    _MASK: ClassVar[int]
    __slots__ = ("_max_backward", "_max_forward", "highest", "jumped")

    def __init__(self, max_forward: int, max_backward: int) -> None:
        #: The highest extended number so far; None before the first.
        self.highest: int | None = None
        #: Whether the last number lay further ahead or behind than believable: the source has likely restarted.
        #: The caller decides; `reset()` begins anew.
        self.jumped = False
        self._max_forward = max_forward
        self._max_backward = max_backward

    def extend(self, value: int) -> int:
        """Return `value` extended. The first number is taken as it is.

        A late number gives a smaller result and leaves `highest` alone; one from before the first, across a wrap,
        gives a negative result.
        """
        highest = self.highest
        if highest is None:
            self.highest = value
            return value
        half = self._HALF
        step = ((value - highest + half) & self._MASK) - half
        self.jumped = step > self._max_forward or step < -self._max_backward
        extended = highest + step
        if step > 0:
            self.highest = extended
        return extended

    def reset(self) -> None:
        """Forget everything: the next number is a first one."""
        self.highest = None
        self.jumped = False


class SequenceExtender(_Extender):
    """Extends 16-bit sequence numbers; `jumped` after 3000 packets ahead or 100 behind (RFC 3550 section A.1)."""

    _HALF = 0x8000
    _MASK = 0xFFFF
    __slots__ = ()

    def __init__(self, max_forward: int = MAX_DROPOUT, max_backward: int = MAX_MISORDER) -> None:
        super().__init__(max_forward, max_backward)


class TimestampExtender(_Extender):
    """Extends 32-bit timestamps; both limits in ticks, by default 60 s ahead and 10 s behind at 48 kHz."""

    _HALF = 0x80000000
    _MASK = 0xFFFFFFFF
    __slots__ = ()

    def __init__(self, max_forward: int = 60 * 48_000, max_backward: int = 10 * 48_000) -> None:
        super().__init__(max_forward, max_backward)
