"""Copies without sequence numbers find their places, or are left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lac_media.proto.recovery import REACH, SLOTS, ReceiveHistory
from lac_media.proto.seq import MAX_MISORDER

FRAME = 960


def history(*received: tuple[int, int]) -> ReceiveHistory:
    made = ReceiveHistory()
    for sequence, timestamp in received:
        made.add(sequence, timestamp)
    return made


def test_no_slot_is_taken_twice_within_reach() -> None:
    assert max(MAX_MISORDER, REACH) < SLOTS


def test_a_number_is_new_once() -> None:
    made = ReceiveHistory()
    assert made.add(5, 0)
    assert not made.add(5, 0)
    assert made.add(5 + SLOTS, 0)


def test_one_copy_fills_a_gap_of_one() -> None:
    made = history((10, 0), (12, 2 * FRAME))
    assert made.fill(12, 2 * FRAME, {FRAME: b"eleven"}) == [(11, FRAME, b"eleven")]
    assert not made.add(11, FRAME), "the original is a duplicate now"
    assert made.fill(12, 2 * FRAME, {FRAME: b"eleven"}) == []


def test_what_has_come_is_not_recovered() -> None:
    made = history((10, 0), (11, FRAME), (12, 2 * FRAME))
    assert made.fill(12, 2 * FRAME, {FRAME: b"eleven", 2 * FRAME: b"ten"}) == []


def test_one_copy_in_a_gap_of_two_is_placed_by_its_time() -> None:
    made = history((10, 0), (13, 3 * FRAME))
    assert made.fill(13, 3 * FRAME, {FRAME: b"twelve"}) == [(12, 2 * FRAME, b"twelve")]
    assert made.fill(13, 3 * FRAME, {2 * FRAME: b"eleven"}) == [(11, FRAME, b"eleven")]


def test_copies_of_distant_frames_alone_are_not_taken_for_near_ones() -> None:
    """A sender may repeat the frame before the last, and only that one."""
    made = history((10, 0), (12, 2 * FRAME))
    assert made.fill(12, 2 * FRAME, {2 * FRAME: b"ten"}) == []
    made.add(13, 3 * FRAME)
    assert made.fill(13, 3 * FRAME, {2 * FRAME: b"eleven"}) == [(11, FRAME, b"eleven")]


def test_a_gap_with_a_pause_in_it_is_filled_when_all_of_it_is_there() -> None:
    made = history((10, 0), (13, 10_000))
    assert made.fill(13, 10_000, {10_000 - FRAME: b"eleven", 10_000 - 5_000: b"twelve"}) == [
        (11, FRAME, b"eleven"),
        (12, 5_000, b"twelve"),
    ]


def test_a_gap_with_a_pause_in_it_is_left_alone_when_time_cannot_tell() -> None:
    made = history((10, 0), (13, 10_000))
    assert made.fill(13, 10_000, {FRAME: b"eleven or twelve"}) == []


def test_two_gaps_are_filled_in_order() -> None:
    made = history((10, 0), (12, 2 * FRAME), (14, 4 * FRAME))
    assert made.fill(14, 4 * FRAME, {FRAME: b"13", 2 * FRAME: b"12", 3 * FRAME: b"11"}) == [
        (11, FRAME, b"11"),
        (13, 3 * FRAME, b"13"),
    ]


def test_nothing_is_recovered_from_before_the_first_packet() -> None:
    made = history((10, 5 * FRAME))
    assert made.fill(10, 5 * FRAME, {FRAME: b"nine"}) == []


def test_a_late_packet_fills_the_gap_below_it() -> None:
    made = history((10, 0), (14, 4 * FRAME), (12, 2 * FRAME))
    assert made.fill(12, 2 * FRAME, {FRAME: b"eleven"}) == [(11, FRAME, b"eleven")]


def test_numbers_and_timestamps_wrap() -> None:
    made = history((65_535, 2**32 - FRAME), (65_537, FRAME))
    assert made.fill(65_537, FRAME, {FRAME: b"0"}) == [(65_536, 0, b"0")]


@given(
    st.lists(st.booleans(), min_size=40, max_size=40),
    st.sets(st.integers(1, 4), min_size=1),
    st.lists(st.sampled_from([0, 0, 0, 0, 1, 7]), min_size=40, max_size=40) | st.just([0] * 40),
    st.integers(0, 2**32 - 1),
)
def test_whatever_is_lost_each_number_is_filled_once_and_time_rises_with_it(
    arrives: list[bool], distances: set[int], pauses: list[int], start: int
) -> None:
    """Frames of 20 ms with pauses of 20 or 140 ms; packets carry the frames that are `distances` before them."""
    stamps, stamp = [], start
    for pause in pauses:
        stamp += FRAME * (1 + pause)
        stamps.append(stamp)
    made = ReceiveHistory()
    have: dict[int, int] = {}
    for number, (comes, stamp) in enumerate(zip(arrives, stamps, strict=True)):
        if not comes:
            continue
        assert made.add(number, stamp % 2**32)
        copies = {stamp - stamps[number - d]: b"%d" % (number - d) for d in distances if number >= d}
        for sequence, timestamp, frame in made.fill(number, stamp % 2**32, copies):
            assert sequence not in have
            assert timestamp == stamps[int(frame)] % 2**32
            have[sequence] = stamps[int(frame)]
            if not any(pauses):
                assert sequence == int(frame)
        have[number] = stamp
    assert [have[number] for number in sorted(have)] == sorted(set(have.values()))
