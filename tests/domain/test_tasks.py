"""The shapes that owners of tasks share."""

from __future__ import annotations

import contextvars

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from lac.errors import UnavailableError
from lac.tasks import boundary, cleanup_scope, start_clean


async def test_clean_up_runs_although_it_is_cancelled(autojump_clock: MockClock) -> None:
    done = False
    with trio.CancelScope() as scope:
        scope.cancel()
        with cleanup_scope(5, "tidy"):
            await trio.sleep(4)
            done = True
    assert done


async def test_clean_up_ends_at_its_deadline_and_says_what_it_missed(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs, cleanup_scope(5, "tidy", broadcast_id="b1"):
        await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(5)
    assert logs[0]["what"] == "tidy"
    assert logs[0]["broadcast_id"] == "b1"


async def test_a_clean_up_that_fails_is_logged_and_goes_no_further() -> None:
    with structlog.testing.capture_logs() as logs, cleanup_scope(5, "tidy"):
        raise OSError("disk full")
    assert logs[0]["exc_info"]


async def test_a_boundary_keeps_errors_and_lets_cancelled_through() -> None:
    async def fail() -> None:
        raise OSError("broken")

    with structlog.testing.capture_logs() as logs, trio.CancelScope() as scope:
        with boundary("part", broadcast_id="b1"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
        scope.cancel()
        with boundary("part"):
            await trio.lowlevel.checkpoint()
        pytest.fail("Cancelled was swallowed")
    assert len(logs) == 1
    assert scope.cancelled_caught


async def test_a_database_that_is_away_is_told_in_one_line_and_errors_beside_it_with_their_traceback() -> None:
    with structlog.testing.capture_logs() as logs, boundary("part", broadcast_id="b1"):
        raise UnavailableError("The database is away.")
    (away,) = logs
    assert (away["log_level"], away["why"], away["broadcast_id"]) == ("warning", "The database is away.", "b1")
    assert "exc_info" not in away
    with structlog.testing.capture_logs() as logs, boundary("part"):
        raise ExceptionGroup("two", [UnavailableError("The database is away."), OSError("broken")])
    assert sorted(entry["log_level"] for entry in logs) == ["error", "warning"]


async def test_a_task_started_clean_carries_nothing_of_its_starter() -> None:
    variable = contextvars.ContextVar("request", default="none")
    seen = []

    async def task(argument: int) -> None:
        seen.append((argument, variable.get()))

    variable.set("a request")
    async with trio.open_nursery() as nursery:
        start_clean(nursery, task, 1)
    assert seen == [(1, "none")]
