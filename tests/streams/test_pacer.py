"""Packets come as they like and are played by the clock."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from lac_media.proto.opus import SILENCE_20MS_MONO
from lac_media.sources.pacer import FULL_TICKS, MARGIN_S, Pacer

FRAME_S = 0.02


def play(pacer: Pacer, until: float, now: float) -> list[float]:
    """When packets came out."""
    out = []
    while pacer.timer_at() <= until:
        now = max(now, pacer.timer_at())
        out += [now] * len(pacer.take(now=now))
    return out


def add(pacer: Pacer, count: int, now: float) -> None:
    for _ in range(count):
        pacer.add(SILENCE_20MS_MONO, now=now)


def test_a_burst_is_played_at_the_pace_of_the_clock() -> None:
    pacer = Pacer()
    add(pacer, 50, 10.0)
    times = play(pacer, 20.0, 10.0)
    assert times == [10.0 + MARGIN_S + n * FRAME_S for n in range(50)] or all(
        abs(at - (10.0 + MARGIN_S + n * FRAME_S)) < 1e-6 for n, at in enumerate(times)
    )
    assert (pacer.is_empty, pacer.timer_at()) == (True, float("inf"))


def test_pages_of_a_second_that_come_late_now_and_then_are_one_unbroken_stream() -> None:
    pacer, out, at = Pacer(), list[float](), 0.0
    for page, late in enumerate((0.0, 0.2, 0.0, 0.1, 0.24)):
        at = page + late
        out += play(pacer, at, 0.0)
        add(pacer, 50, at)
    out += play(pacer, 100.0, 0.0)
    steps = {round(b - a, 6) for a, b in itertools.pairwise(out)}
    assert steps == {FRAME_S}
    assert pacer.dry == 0


def test_a_source_that_runs_dry_gets_its_margin_again() -> None:
    pacer = Pacer()
    add(pacer, 10, 0.0)
    play(pacer, 5.0, 0.0)
    add(pacer, 10, 5.0)
    assert pacer.timer_at() == 5.0 + MARGIN_S
    assert pacer.dry == 1


def test_full_is_two_seconds_and_what_is_no_opus_does_not_count() -> None:
    pacer = Pacer()
    pacer.add(b"", now=0.0)
    pacer.add(b"\xff\x3f", now=0.0)
    assert (pacer.is_empty, pacer.malformed) == (True, 2)
    add(pacer, 99, 0.0)
    assert not pacer.is_full
    add(pacer, 1, 0.0)
    assert pacer.is_full
    assert pacer.waiting_ticks == FULL_TICKS


def test_a_stall_of_our_own_is_not_made_up_for_in_a_burst() -> None:
    pacer = Pacer()
    add(pacer, 100, 0.0)
    assert len(pacer.take(now=10.0)) == 1
    assert pacer.timer_at() == 10.0 + FRAME_S


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 120)), max_size=40))
def test_nothing_comes_early_and_all_of_it_comes(arrivals: list[tuple[float, int]]) -> None:
    pacer, now, added, out = Pacer(), 0.0, 0, 0
    for wait_s, count in arrivals:
        now += wait_s
        due = pacer.take(now=now)
        out += len(due)
        assert len(due) <= 6 + wait_s / FRAME_S  # never more than the time that has passed, and a little
        add(pacer, count, now)
        added += count
        assert pacer.timer_at() > now or pacer.is_empty or wait_s == 0 or pacer.timer_at() > now - 1e-6
    out += len(play(pacer, 1e9, now))
    assert out == added
