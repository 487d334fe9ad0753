"""Work that goes on when whoever asked for it has gone away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

import structlog
import trio

from lac.errors import UnavailableError
from lac.tasks import start_clean

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Jobs:
    """Tasks in a nursery that outlives their callers."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start(self, task: Callable[..., Awaitable[None]], *, name: str | None = None) -> None:
        """Begin a task. Nothing happens once the nursery has closed: the process is going down."""
        with suppress(RuntimeError):
            start_clean(self._nursery, task, name=name)

    async def run(self, job: Callable[[], Awaitable[T]]) -> T:
        """Run `job` in a task and wait for it. It goes on when the caller is cancelled. Raises what it raises, and
        `UnavailableError` (`shutting_down`) when there is no time for it any more."""
        run = _Job(job)
        try:
            start_clean(self._nursery, run.run)
        except RuntimeError:  # the nursery has closed
            raise shutting_down() from None
        try:
            await run.done.wait()
        finally:
            run.abandoned = not run.done.is_set()
        return run.result()


class _Job(Generic[T]):
    """One job in its task, and whoever waits for it."""

    def __init__(self, job: Callable[[], Awaitable[T]]) -> None:
        self.done = trio.Event()
        self.abandoned = False
        self._job = job
        self._result: list[T] = []
        self._error: Exception | None = None

    async def run(self) -> None:
        try:
            self._result.append(await self._job())
        except Exception as error:
            self._error = error
            if self.abandoned:
                log.exception("a job failed after its caller had gone")
        finally:
            self.done.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        if not self._result:  # cancelled: the process is going down
            raise shutting_down()
        return self._result[0]


def shutting_down() -> UnavailableError:
    return UnavailableError("The server is shutting down. Try again in a moment.", code="shutting_down")
