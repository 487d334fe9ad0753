"""When the next packet counts as overdue."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.proto.pace import LOSING, LOSS_MEMORY, OVERDUE_JITTERS, OVERDUE_S, Pace

FRAME, FRAME_S = 960, 0.02


def heard(numbers: list[int], *, jitter_s: float = 0.0) -> tuple[Pace, float]:
    """A pace that has heard these numbers of a stream with 20 ms frames; when the last one came."""
    pace = Pace()
    for number in numbers:
        pace.receive(number, number * FRAME, now=number * FRAME_S, jitter_s=jitter_s)
    return pace, numbers[-1] * FRAME_S


def test_nothing_is_overdue_where_nothing_gets_lost() -> None:
    pace, _ = heard(list(range(500)))
    assert pace.overdue_at(1) == inf


def test_after_losses_the_next_one_is_overdue_a_moment_after_its_time_and_the_one_after_it_a_frame_later() -> None:
    pace, last = heard([number for number in range(50) if number not in (10, 20, 30)], jitter_s=0.002)
    margin = OVERDUE_S + OVERDUE_JITTERS * 0.002
    assert pace.due_at(1) == pytest.approx(last + FRAME_S)
    assert [pace.overdue_at(ahead) for ahead in (1, 2)] == pytest.approx(
        [last + FRAME_S + margin, last + 2 * FRAME_S + margin]
    )


def test_a_network_that_has_become_good_is_believed_after_a_while() -> None:
    lost = set(range(10, 110, 10))
    pace, _ = heard([number for number in range(110 + 3 * LOSS_MEMORY) if number not in lost])
    assert pace.overdue_at(1) == inf


def test_what_only_came_late_was_no_loss() -> None:
    pace, _ = heard([number for number in range(50) if number not in (10, 20, 30)])
    for _ in range(2):
        pace.was_late()
    assert pace.overdue_at(1) == inf


def test_a_pause_has_no_pace_until_two_steps_are_alike_again() -> None:
    pace, last = heard([number for number in range(50) if number not in (10, 20, 30)])
    pace.receive(50, 50 * FRAME + 19_200, now=last + 0.42, jitter_s=0)
    assert pace.overdue_at(1) == inf
    pace.receive(51, 51 * FRAME + 19_200, now=last + 0.44, jitter_s=0)
    assert pace.overdue_at(1) == inf
    pace.receive(52, 52 * FRAME + 19_200, now=last + 0.46, jitter_s=0)
    assert pace.overdue_at(1) < inf


def test_a_restart_of_the_source_is_no_loss() -> None:
    pace, last = heard(list(range(50)))
    for number in range(90_000, 90_003):
        pace.receive(number, number * FRAME, now=last + (number - 89_999) * FRAME_S, jitter_s=0)
    assert pace.overdue_at(1) == inf


@given(st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, 2**32 - 1), st.booleans()), max_size=60))
def test_whatever_comes_the_share_lost_stays_a_share(steps: list[tuple[int, int, bool]]) -> None:
    pace, number = Pace(), 0
    for count, (step, timestamp, late) in enumerate(steps):
        number += step
        pace.receive(number, timestamp, now=count * FRAME_S, jitter_s=0.001)
        if late:
            pace.was_late()
        assert 0 <= pace._lost <= 1
        assert pace.overdue_at(1) > count * FRAME_S
    assert 0 < LOSING < 1
