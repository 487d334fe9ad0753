"""The grace period of a show whose host is not heard, without a show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog.testing
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from lac.broadcasts.host_clock import END_RETRY_S, HostClock
from lac.errors import UnavailableError
from lac.rooms.events import HostAway, HostBack
from tests.sweep import sweep

GRACE_S = 60.0
AT = datetime(2030, 1, 1, tzinfo=UTC)
GRACE = timedelta(seconds=GRACE_S)


class Writer:
    """Writes the end of the show down, or fails to `failures` times."""

    def __init__(self, *, failures: int = 0, takes_s: float = 0.0) -> None:
        #: When it was asked.
        self.asked: list[float] = []
        self._failures = failures
        self._takes_s = takes_s

    async def __call__(self) -> str:
        self.asked.append(trio.current_time())
        await trio.sleep(self._takes_s)
        if len(self.asked) <= self._failures:
            raise UnavailableError("away")
        return "written"


def begin(clock: HostClock, *, reopened: bool = False) -> None:
    clock.begin(reopened=reopened, now=trio.current_time(), at=AT)


def update(clock: HostClock, *, kept: bool) -> HostAway | HostBack | None:
    return clock.update(kept=kept, now=trio.current_time(), at=AT)


def returned_at(nursery: trio.Nursery, clock: HostClock, write_end: Callable[[], Awaitable[str]]) -> list[float]:
    """Run the clock. When it returns, the time is in the list."""
    times: list[float] = []

    async def run() -> None:
        assert await clock.run(write_end) == "written"
        times.append(trio.current_time())

    nursery.start_soon(run)
    return times


def test_a_host_who_is_heard_first_is_no_news() -> None:
    clock = HostClock("show", GRACE_S)
    clock.begin(reopened=False, now=0, at=AT)
    assert clock.away_until is None
    assert clock.update(kept=False, now=1, at=AT) is None
    assert clock.update(kept=True, now=2, at=AT) is None
    assert clock.away_until is None


def test_who_comes_back_to_a_reopened_show_finds_its_host_away() -> None:
    clock = HostClock("show", GRACE_S)
    clock.begin(reopened=True, now=0, at=AT)
    assert clock.away_until == AT + GRACE
    assert clock.update(kept=True, now=1, at=AT) == HostBack()
    assert clock.away_until is None


@given(st.lists(st.booleans()))
def test_everyone_is_told_in_turn_that_the_host_is_away_and_back(heard: list[bool]) -> None:
    """However often it is asked: one piece of news for each change, and the clock says what was told last."""
    clock = HostClock("show", GRACE_S)
    clock.begin(reopened=False, now=0, at=AT)
    clock.update(kept=True, now=0, at=AT)
    before = True
    for number, kept in enumerate(heard):
        at = AT + timedelta(seconds=number)
        news = clock.update(kept=kept, now=number, at=at)
        if kept == before:
            assert news is None
        else:
            assert news == (HostBack() if kept else HostAway(until=at + GRACE))
        if news is not None:
            assert clock.away_until == (news.until if isinstance(news, HostAway) else None)
        before = kept
    assert (clock.away_until is None) is before


async def test_it_ends_to_the_second_when_nobody_is_heard(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    clock, write_end = HostClock("show", GRACE_S), Writer()
    begin(clock)
    times = returned_at(nursery, clock, write_end)
    await trio.sleep(GRACE_S / 2)
    assert update(clock, kept=False) is None  # it runs already: asking does not put the end off
    await trio.sleep(GRACE_S)
    assert times == write_end.asked == [GRACE_S]


async def test_it_runs_anew_from_when_the_host_was_heard_last(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    clock, write_end = HostClock("show", GRACE_S), Writer()
    begin(clock)
    times = returned_at(nursery, clock, write_end)
    await trio.sleep(GRACE_S - 1)
    update(clock, kept=True)
    await trio.sleep(100 * GRACE_S)
    assert write_end.asked == []
    left_at = trio.current_time()
    update(clock, kept=False)
    await trio.sleep(2 * GRACE_S)
    assert times == [left_at + GRACE_S]


async def test_an_end_that_cannot_be_written_is_tried_again(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    clock, write_end = HostClock("show", GRACE_S), Writer(failures=2, takes_s=1)
    begin(clock)
    times = returned_at(nursery, clock, write_end)
    with structlog.testing.capture_logs() as logs:
        await trio.sleep(2 * GRACE_S)
    assert write_end.asked == [GRACE_S, GRACE_S + 1 + END_RETRY_S, GRACE_S + 2 * (1 + END_RETRY_S)]
    assert times == [write_end.asked[-1] + 1]
    assert [entry["broadcast_id"] for entry in logs] == ["show", "show"]


async def test_a_host_who_is_heard_while_the_end_fails_keeps_the_show(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    clock, write_end = HostClock("show", GRACE_S), Writer(failures=1, takes_s=2)
    begin(clock, reopened=True)
    times = returned_at(nursery, clock, write_end)
    await trio.sleep(GRACE_S + 1)
    assert update(clock, kept=True) == HostBack()
    with structlog.testing.capture_logs():
        await trio.sleep(100 * GRACE_S)
    assert write_end.asked == [GRACE_S]
    # From here on it is as ever.
    left_at = trio.current_time()
    assert update(clock, kept=False) == HostAway(until=AT + GRACE)
    await trio.sleep(2 * GRACE_S)
    assert times == [left_at + GRACE_S + 2]


async def test_a_host_who_comes_and_leaves_while_the_end_fails_has_the_time_that_everyone_is_told(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    clock, write_end = HostClock("show", GRACE_S), Writer(failures=1, takes_s=2)
    begin(clock)
    times = returned_at(nursery, clock, write_end)
    await trio.sleep(GRACE_S + 1)
    update(clock, kept=True)
    assert update(clock, kept=False) == HostAway(until=AT + GRACE)
    left_at = trio.current_time()
    with structlog.testing.capture_logs():
        await trio.sleep(2 * GRACE_S)
    assert write_end.asked == [GRACE_S, left_at + GRACE_S]
    assert times == [left_at + GRACE_S + 2]


def test_it_can_be_cancelled_at_every_step() -> None:
    """Also while the end is written: that is the caller's to own, and nothing of it is swallowed or tried again."""
    writers: list[Writer] = []

    async def scenario() -> None:
        clock, write_end = HostClock("show", GRACE_S), Writer(failures=1, takes_s=1)
        writers.append(write_end)
        begin(clock)
        with structlog.testing.capture_logs():
            await clock.run(write_end)

    steps = sweep(scenario, lambda: None)
    assert steps >= 4
    assert len(writers[-1].asked) == 2
