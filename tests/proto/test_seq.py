from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lac_media.proto.seq import (
    SequenceExtender,
    TimestampExtender,
    add16,
    add32,
    delta16,
    delta32,
    is_newer16,
    is_newer32,
)

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)


@given(u16, u16)
def test_delta16_is_the_way_back_to_new(new: int, old: int) -> None:
    step = delta16(new, old)
    assert -0x8000 <= step < 0x8000
    assert add16(old, step) == new
    assert is_newer16(new, old) == (step > 0)


@given(u32, u32)
def test_delta32_is_the_way_back_to_new(new: int, old: int) -> None:
    step = delta32(new, old)
    assert -0x80000000 <= step < 0x80000000
    assert add32(old, step) == new
    assert is_newer32(new, old) == (step > 0)


def test_wrap_is_one_step_forward() -> None:
    assert delta16(0, 65535) == 1
    assert delta32(0, 0xFFFFFFFF) == 1
    assert delta16(65535, 0) == -1


@given(u16, st.lists(st.integers(-90, 2000), max_size=60))
def test_sequences_extend_to_the_true_numbers(start: int, steps: list[int]) -> None:
    extender = SequenceExtender()
    assert extender.extend(start) == start
    highest = start
    for step in steps:
        true = highest + step
        assert extender.extend(true & 0xFFFF) == true
        highest = max(highest, true)
        assert extender.highest == highest
        assert not extender.jumped


@given(u32, st.lists(st.integers(-400_000, 2_000_000), max_size=60))
def test_timestamps_extend_to_the_true_numbers(start: int, steps: list[int]) -> None:
    extender = TimestampExtender()
    assert extender.extend(start) == start
    highest = start
    for step in steps:
        true = highest + step
        assert extender.extend(true & 0xFFFFFFFF) == true
        highest = max(highest, true)
        assert not extender.jumped


def test_a_late_packet_from_before_the_first_wrap_is_negative() -> None:
    extender = SequenceExtender()
    assert extender.extend(0) == 0
    assert extender.extend(65535) == -1
    assert extender.highest == 0


def test_a_jump_is_told_and_the_next_ordinary_packet_is_not_one() -> None:
    extender = SequenceExtender()
    extender.extend(100)
    assert extender.extend(100 + 3001) == 3101
    assert extender.jumped
    extender.extend(3102)
    assert not extender.jumped
    extender.extend(3102 - 101)
    assert extender.jumped
    extender.reset()
    assert extender.extend(7) == 7
    assert not extender.jumped


def test_a_timestamp_jump_is_told() -> None:
    extender = TimestampExtender()
    extender.extend(0)
    extender.extend(60 * 48_000)
    assert not extender.jumped
    extender.extend(2**31)
    assert extender.jumped
