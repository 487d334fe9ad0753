"""Boundaries, clean-up and task starting: the few shapes that every owner of tasks needs."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVarTuple

import structlog
import trio

from lac.errors import UnavailableError

log = structlog.get_logger(__name__)

Args = TypeVarTuple("Args")


@contextmanager
def cleanup_scope(seconds: float, what: str, **ids: object) -> Iterator[trio.CancelScope]:
    """Shield the block from cancellation, but not for longer than `seconds`.

    What did not finish in time, or failed, is logged with `what` and `ids` and goes no further: a clean-up must neither
    hide the error that led to it nor stop the clean-up after it.
    """
    try:
        with trio.move_on_after(seconds, shield=True) as scope:
            yield scope
    except Exception:
        log.exception("clean-up failed", what=what, **ids)
    else:
        if scope.cancelled_caught:
            log.error("clean-up not finished in time", what=what, seconds=seconds, **ids)


@contextmanager
def boundary(what: str, **ids: object) -> Iterator[None]:
    """One tier's edge: errors in the block are logged with their traceback and end here; a database that is away, which
    is nobody's error, with one line. `Cancelled` passes through, also out of an exception group that has both."""
    try:
        yield
    except* UnavailableError as away:
        log.warning("not possible just now", what=what, why=str(away.exceptions[0]), **ids)
    except* Exception:
        log.exception("failed", what=what, **ids)


def start_clean(
    nursery: trio.Nursery, task: Callable[[*Args], Awaitable[object]], *args: *Args, name: str | None = None
) -> None:
    """Start `task` in `nursery` with empty context variables.

    Trio copies context variables from whoever calls `start_soon`, not from the nursery's owner: a task that outlives
    the request which began it would otherwise keep that request's variables for its whole life.
    """

    def start() -> None:
        nursery.start_soon(task, *args, name=name)

    contextvars.Context().run(start)
