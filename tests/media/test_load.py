"""Overload is seen before those inside hear it, and is over only when it is."""

from __future__ import annotations

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from lac_media.load import (
    BUCKETS_S,
    FEW_SESSIONS,
    RECOVERY_S,
    WARM_UP_S,
    WINDOW_S,
    WINDOW_VALUES,
    Delays,
    LoadLimits,
    LoadMeter,
)

LIMITS = LoadLimits(forwarding_delay_s=0.03, loop_lag_s=0.05)


def busy(meter: LoadMeter, delay_s: float, *, since: float, until: float) -> None:
    """Packets every 20 ms that take `delay_s`."""
    at = since
    while at < until:
        meter.forwarding.add(delay_s, now=at)
        meter.judge(now=at)
        at += 0.02


def warm_meter() -> LoadMeter:
    meter = LoadMeter(LIMITS)
    meter.judge(now=-WARM_UP_S)
    return meter


def test_delays_above_the_limit_are_overload_until_they_have_been_low_for_a_while() -> None:
    meter = warm_meter()
    busy(meter, 0.02, since=0, until=5)
    assert not meter.overloaded
    busy(meter, 0.031, since=5, until=5 + WINDOW_S)
    assert meter.overloaded
    calm_at = 5 + 2 * WINDOW_S
    busy(meter, 0.01, since=5 + WINDOW_S, until=calm_at + RECOVERY_S - 0.2)
    assert meter.overloaded
    busy(meter, 0.01, since=calm_at + RECOVERY_S - 0.2, until=calm_at + RECOVERY_S + 0.2)
    assert not meter.overloaded


def test_what_is_neither_high_nor_low_changes_nothing() -> None:
    for before, delay_s in ((False, 0.029), (True, 0.022)):
        meter = warm_meter()
        if before:
            busy(meter, 0.2, since=0, until=1)
        busy(meter, delay_s, since=1, until=30)
        assert meter.overloaded is before


def test_neither_hiccups_nor_a_slow_start_are_overload() -> None:
    meter = warm_meter()
    busy(meter, 0.001, since=0, until=1.5)
    meter.forwarding.add(0.5, now=1.5)
    meter.judge(now=1.5)
    assert not meter.overloaded

    fresh = LoadMeter(LIMITS)
    busy(fresh, 0.5, since=0, until=WARM_UP_S - 0.1)
    assert not fresh.overloaded
    busy(fresh, 0.5, since=WARM_UP_S - 0.1, until=WARM_UP_S + 0.1)
    assert fresh.overloaded


def test_a_few_listeners_come_in_however_late_the_process_is() -> None:
    meter = warm_meter()
    busy(meter, 0.5, since=0, until=1)
    assert meter.overloaded
    assert meter.admits(FEW_SESSIONS - 1, FEW_SESSIONS - 1)
    assert not meter.admits(0, FEW_SESSIONS)


def test_the_operators_number_holds_without_any_load() -> None:
    meter = LoadMeter(LoadLimits(listeners=2))
    assert meter.admits(1, 100)
    assert not meter.admits(2, 2)


@given(st.lists(st.floats(0, 2), max_size=200))
def test_every_delay_is_in_one_bucket_and_quantiles_are_among_them(values: list[float]) -> None:
    delays = Delays()
    for value in values:
        delays.add(value, now=1.0)
    cumulative = delays.cumulative()
    assert [bound for bound, _ in cumulative[:-1]] == list(BUCKETS_S)
    assert all(count == sum(value <= bound for value in values) for bound, count in cumulative)
    assert delays.quantile(0.5, now=1.0) in {0.0, *values}
    assert delays.quantile(0.5, now=1.0 + WINDOW_S + 0.1) == 0.0


def test_what_is_remembered_is_bounded() -> None:
    delays = Delays()
    for number in range(3 * WINDOW_VALUES):
        delays.add(1.0 if number < 2 * WINDOW_VALUES else 0.0, now=1.0)
    assert delays.quantile(0.99, now=1.0) == 0.0


async def test_a_loop_that_comes_late_is_measured(autojump_clock: MockClock) -> None:
    meter = LoadMeter(LIMITS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(meter.run)
        await trio.sleep(WARM_UP_S + 1)
        assert not meter.overloaded
        for _ in range(20):
            autojump_clock.jump(0.2)  # as a task that works for so long
            await trio.testing.wait_all_tasks_blocked()
        assert meter.overloaded
        assert meter.lag.quantile(0.5, now=trio.current_time()) >= 0.1
        await trio.sleep(WINDOW_S + RECOVERY_S + 1)
        assert not meter.overloaded
        nursery.cancel_scope.cancel()
