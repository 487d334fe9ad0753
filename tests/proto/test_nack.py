"""When a receiver asks for what, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.proto.nack import (
    DEFAULT_ROUND_TRIP_S,
    MAX_AGE_S,
    MAX_AHEAD,
    MAX_MISSING,
    MAX_NUMBERS,
    MAX_PER_S,
    MAX_TIMES,
    MIN_PER_S,
    REORDER_WAIT_S,
    REPEAT_S,
    SLACK_S,
    NackGenerator,
    RepairCounters,
)
from lac_media.proto.pace import OVERDUE_S, Pace

FRAME_S = 0.02


class Receiver:
    """A generator with its clock: says when it asked for what."""

    def __init__(self) -> None:
        self.now = 100.0
        self.counters = RepairCounters()
        self.pace = Pace()
        self.nack = NackGenerator(self.counters, self.pace)
        self.asked: list[tuple[float, list[int]]] = []

    def get(self, *sequences: int) -> None:
        """One every 20 ms, with the timers between."""
        for sequence in sequences:
            self.run_for(FRAME_S)
            self.nack.receive(sequence, now=self.now)

    def get_with_pace(self, *sequences: int) -> None:
        """The same from a stream whose pace is known, in rising order."""
        for sequence in sequences:
            self.run_for(FRAME_S)
            self.pace.receive(sequence, sequence * 960, now=self.now, jitter_s=0.0)
            self.nack.receive(sequence, now=self.now)

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self.nack.timer_at() <= end:
            self.now = max(self.now, self.nack.timer_at())
            lost = self.nack.handle_timer(now=self.now)
            assert self.nack.timer_at() > self.now, "would spin"
            if lost:
                self.asked.append((self.now, lost))
        self.now = end

    @property
    def numbers(self) -> list[int]:
        return [number for _, lost in self.asked for number in lost]


def test_a_gap_is_asked_for_after_a_short_wait_then_at_once_again_then_once_per_round_trip() -> None:
    receiver = Receiver()
    receiver.get(1, 2, 4)
    noticed = receiver.now
    receiver.run_for(0.4)
    assert [lost for _, lost in receiver.asked] == [[3]] * 5
    times = [at - noticed for at, _ in receiver.asked]
    assert times[0] == pytest.approx(REORDER_WAIT_S)
    step = DEFAULT_ROUND_TRIP_S + SLACK_S
    assert [later - first for first, later in pairwise(times)] == pytest.approx([REPEAT_S, step, step, step])


def test_an_answer_that_comes_soon_keeps_the_question_from_being_repeated() -> None:
    receiver = Receiver()
    receiver.get(1, 3)
    receiver.run_for(REORDER_WAIT_S + REPEAT_S / 2)
    receiver.nack.receive(2, now=receiver.now)
    receiver.run_for(2)
    assert receiver.numbers == [2]


def test_what_was_only_out_of_order_is_not_asked_for() -> None:
    receiver = Receiver()
    receiver.get(1, 2, 4)
    receiver.run_for(REORDER_WAIT_S / 2)
    receiver.nack.receive(3, now=receiver.now)
    receiver.run_for(2)
    assert receiver.asked == []
    assert receiver.counters.repaired == 0


def test_what_was_found_elsewhere_is_not_asked_for() -> None:
    receiver = Receiver()
    receiver.get(1, 3)
    receiver.nack.recover(2)
    receiver.run_for(2)
    assert receiver.asked == []


def test_it_stops_when_the_answer_would_come_too_late() -> None:
    receiver = Receiver()
    receiver.get(1, 3)
    lost_at = receiver.now - FRAME_S
    receiver.run_for(5)
    assert receiver.asked[-1][0] + DEFAULT_ROUND_TRIP_S <= lost_at + MAX_AGE_S
    assert 2 <= len(receiver.asked) <= MAX_TIMES
    assert (receiver.nack.missing, receiver.counters.given_up) == (0, 1)
    assert receiver.nack.timer_at() == float("inf")


def test_a_short_round_trip_does_not_mean_asking_for_ever() -> None:
    receiver = Receiver()
    receiver.nack.reported_round_trip_s = 0.001
    receiver.get(1, 3)
    receiver.run_for(5)
    assert len(receiver.asked) == MAX_TIMES


def test_the_round_trip_is_learned_from_the_answers() -> None:
    receiver = Receiver()
    for sequence in range(1, 200, 2):
        receiver.get(sequence, sequence + 2)
        receiver.run_for(REORDER_WAIT_S + 0.3)
        receiver.nack.receive(sequence + 1, now=receiver.now)
    assert receiver.nack.round_trip_s == pytest.approx(0.3, abs=0.05)
    assert receiver.counters.repaired == 100
    before = len(receiver.asked)
    receiver.get(203)
    receiver.run_for(0.6)
    assert len(receiver.asked) - before == 3, "twice, and then every 0.32 s, not every 0.12 s"


def test_reports_give_the_round_trip_until_it_is_measured() -> None:
    nack = NackGenerator(RepairCounters(), Pace())
    assert nack.round_trip_s == DEFAULT_ROUND_TRIP_S
    nack.reported_round_trip_s = 0.25
    assert nack.round_trip_s == 0.25


def test_an_outage_is_asked_for_in_portions_and_only_its_end() -> None:
    receiver = Receiver()
    receiver.get(1)
    receiver.run_for(FRAME_S * 250)
    receiver.nack.receive(252, now=receiver.now)
    assert receiver.nack.missing == MAX_MISSING
    receiver.run_for(0.1)
    assert all(len(lost) <= MAX_NUMBERS for _, lost in receiver.asked)
    # 250 packets over 5 s: those of the last second less the way there and back.
    numbers = sorted(set(receiver.numbers))
    assert numbers == list(range(numbers[0], 252))
    assert 252 - numbers[0] == pytest.approx((MAX_AGE_S - DEFAULT_ROUND_TRIP_S) / FRAME_S, abs=2)


def test_questions_that_bring_nothing_become_rare_and_answers_make_them_usual_again() -> None:
    receiver = Receiver()
    number = 0

    def lose_every_other(seconds: float, *, answered: bool) -> int:
        nonlocal number
        before = receiver.counters.nacked
        for _ in range(round(seconds / FRAME_S / 2)):
            number += 2
            receiver.get(number)
            receiver.run_for(FRAME_S)
            if answered:
                receiver.nack.receive(number - 9, now=receiver.now)
        return receiver.counters.nacked - before

    lose_every_other(20, answered=False)
    assert MIN_PER_S * 9 <= lose_every_other(10, answered=False) <= MIN_PER_S * 15
    lose_every_other(20, answered=True)
    assert lose_every_other(10, answered=True) > MAX_PER_S * 5


def test_after_an_outage_the_newest_are_asked_for_first() -> None:
    receiver = Receiver()
    receiver.get(1)
    receiver.run_for(1.0)
    receiver.nack.receive(90, now=receiver.now)
    receiver.run_for(REORDER_WAIT_S)
    (first,) = (lost for _, lost in receiver.asked)
    assert first == list(range(90 - MAX_NUMBERS, 90))


def test_what_would_be_too_far_behind_on_arrival_is_given_up() -> None:
    """400 packets a second: a hundred of them are a quarter of one."""
    receiver = Receiver()
    receiver.get(1)
    began = receiver.now
    for sequence in range(3, 400):
        receiver.run_for(0.0025)
        receiver.nack.receive(sequence, now=receiver.now)
    assert (receiver.nack.missing, receiver.counters.given_up) == (0, 1)
    assert receiver.asked[-1][0] - began < 0.0025 * 100


def test_a_pause_is_no_reason_to_give_up_what_was_lost_in_it() -> None:
    receiver = Receiver()
    receiver.get(1)
    receiver.run_for(0.8)  # DTX: 2 and 3 in the middle of it
    receiver.nack.receive(4, now=receiver.now)
    receiver.run_for(0.1)
    assert receiver.numbers == [2, 3, 2, 3]


def losing_receiver() -> Receiver:
    """It has got 0 to 49, of which it had to ask for some."""
    receiver = Receiver()
    receiver.get_with_pace(*(number for number in range(50) if number not in (10, 20, 30)))
    for number in (10, 20, 30):
        receiver.nack.receive(number, now=receiver.now)
    receiver.asked.clear()
    return receiver


def test_on_a_network_that_loses_what_is_overdue_is_asked_for_and_again_with_the_next_one() -> None:
    receiver = losing_receiver()
    last = receiver.now
    receiver.run_for(10)
    assert [lost for _, lost in receiver.asked] == [[50], [50, 51], [50, 51, 52]]
    assert [at - last for at, _ in receiver.asked] == pytest.approx(
        [ahead * FRAME_S + OVERDUE_S for ahead in range(1, 4)]
    )
    assert receiver.nack.timer_at() == float("inf"), "nobody knows whether they were ever sent"


def test_what_was_asked_for_as_overdue_goes_on_as_missing_once_a_later_one_has_come() -> None:
    receiver = losing_receiver()
    receiver.run_for(FRAME_S)  # 50 is lost
    receiver.get_with_pace(51)
    noticed = receiver.now
    receiver.run_for(0.01)
    assert receiver.asked == [(pytest.approx(noticed - FRAME_S + OVERDUE_S), [50]), (noticed, [50])]
    receiver.nack.receive(50, now=receiver.now)
    receiver.run_for(FRAME_S / 2)
    assert (len(receiver.asked), receiver.nack.missing) == (2, 0)


def test_what_was_asked_for_as_overdue_and_comes_after_all_is_not_asked_for_again() -> None:
    receiver = losing_receiver()
    receiver.run_for(FRAME_S + OVERDUE_S + 0.001)
    receiver.pace.receive(50, 50 * 960, now=receiver.now, jitter_s=0.0)
    receiver.nack.receive(50, now=receiver.now)
    receiver.get_with_pace(51, 52)
    assert receiver.numbers == [50]


def test_a_restart_of_the_source_forgets_everything() -> None:
    receiver = Receiver()
    receiver.get(1, 5)
    assert receiver.nack.missing == 3
    receiver.get(65_536 + 30_000)
    assert receiver.nack.missing == 0
    receiver.get(65_536 + 30_002)
    receiver.run_for(0.1)
    assert receiver.numbers[-1] == 65_536 + 30_001


events = st.lists(
    st.tuples(st.integers(0, 40_000), st.sampled_from([0.0, 0.001, 0.02, 0.5])) | st.tuples(st.integers(0, 60)),
    max_size=150,
)


@given(events)
def test_any_arrivals_leave_it_bounded(script: list[tuple[int, float] | tuple[int]]) -> None:
    receiver = Receiver()
    highest = 0
    for step in script:
        if len(step) == 2:
            highest += step[0] % 5_000 if step[0] % 3 else 1 + step[0] % 3
            receiver.pace.receive(highest, highest * 960, now=receiver.now, jitter_s=0.001)
            receiver.nack.receive(highest, now=receiver.now)
            receiver.run_for(step[1])
        else:
            receiver.nack.receive(highest - step[0], now=receiver.now)
        assert receiver.nack.missing <= MAX_MISSING
    receiver.run_for(3)
    assert receiver.nack.missing <= MAX_AHEAD, "those that may never have been sent"
    for number in set(receiver.numbers):
        assert receiver.numbers.count(number) <= MAX_TIMES
    for _, lost in receiver.asked:
        assert lost == sorted(lost)
