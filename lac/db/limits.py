"""How long one call may keep a worker thread. Threads are never abandoned, so whatever they wait for must end.

A statement is ended by the database: PostgreSQL has `statement_timeout`, SQLite asks a handler of ours now and then.
A PostgreSQL that is frozen or unplugged ends nothing, so our side of the connection stops waiting a little later.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator
from typing import Any

import psycopg
import sqlalchemy as sa

#: Virtual machine instructions between two looks at the clock: about a millisecond.
_SQLITE_INSTRUCTIONS = 50_000


class NoAnswerError(psycopg.OperationalError):
    """The server has not answered for so long that the connection was given up."""


class BoundedConnection(psycopg.Connection[Any]):
    """Waits at most `answer_timeout_s` for each answer of the server (None: for ever), then gives the connection up."""

    answer_timeout_s: float | None = None

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        if self.answer_timeout_s is not None:
            gen = _bounded(gen, time.monotonic() + self.answer_timeout_s)
        try:
            return super().wait(gen, *args, **kwargs)
        except NoAnswerError:
            self.pgconn.finish()  # what the server does with the statement is not known: no use for it any more
            raise


def _bounded(gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
    """`gen` until the deadline. psycopg resumes it with what has arrived and, ten times a second, with nothing."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise NoAnswerError("the server does not answer")
            wanted = gen.send(ready)
    except StopIteration as stop:
        return stop.value


def limit_time(connection: sa.Connection, seconds: float) -> None:
    """From now on, in this transaction, give up what takes longer. For an SQLite transaction that is all of it; for
    PostgreSQL every single answer, a little after the server's own limit."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        deadline = time.monotonic() + seconds
        driver.set_progress_handler(lambda: int(time.monotonic() > deadline), _SQLITE_INSTRUCTIONS)
    elif isinstance(driver, BoundedConnection):
        driver.answer_timeout_s = seconds


def lift_time_limit(connection: sa.Connection) -> None:
    """In this transaction things may take as long as they take: migrations of large tables do."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.set_progress_handler(None, 0)
    elif isinstance(driver, BoundedConnection):
        driver.answer_timeout_s = None
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))


def took_too_long(cause: BaseException | None) -> bool:
    """Whether the driver's error says that a limit was reached."""
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_INTERRUPT
    return isinstance(cause, NoAnswerError | psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable)
