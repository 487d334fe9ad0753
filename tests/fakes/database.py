"""The real tables and queries in memory, in the caller's thread: for virtual time, which real threads would upset."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import sqlalchemy as sa
import trio
from sqlalchemy import orm
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from lac.db import models
from lac.errors import UnavailableError

T = TypeVar("T")


class InlineDatabase:
    """Behaves as `lac.db.engine.Database` towards Trio: a call may be cancelled before it begins and not after."""

    def __init__(self) -> None:
        self._engine = sa.create_engine("sqlite://", poolclass=StaticPool)
        sa.event.listen(self._engine, "connect", _configure)
        models.Base.metadata.create_all(self._engine)
        self._sessions = orm.sessionmaker(self._engine, expire_on_commit=False)
        self.away = False
        #: How long each call takes.
        self.delay_s = 0.0

    async def run(self, fn: Callable[[orm.Session], T]) -> T:
        await trio.lowlevel.checkpoint()  # where the real one waits for a thread
        with trio.CancelScope(shield=True):
            await trio.sleep(self.delay_s)
            if self.away:
                raise UnavailableError("The database cannot be reached just now.", code="database_unavailable")
            value = self.now(fn)
            await trio.lowlevel.checkpoint()
        return value

    read = run

    def now(self, fn: Callable[[orm.Session], T]) -> T:
        """For the test itself."""
        with self._sessions.begin() as session:
            return fn(session)

    def add_user(self, user_id: str, display_name: str, *, is_admin: bool = False) -> None:
        at = datetime.now(UTC)
        user = models.User(
            id=user_id,
            email=f"{user_id}@example.org",
            password_hash="",
            display_name=display_name,
            is_admin=is_admin,
            created_at=at,
            updated_at=at,
        )
        self.now(lambda session: session.add(user))

    def session_rows(self, *, only_open: bool = False) -> list[models.MediaSession]:
        query = sa.select(models.MediaSession).order_by(models.MediaSession.opened_at)
        if only_open:
            query = query.where(models.MediaSession.closed_at.is_(None))
        return self.now(lambda session: list(session.scalars(query)))

    def close_reasons(self) -> dict[str, str | None]:
        return {row.id: row.close_reason for row in self.session_rows()}

    def snapshot(self) -> bytes:
        """Everything in it, for `restore`, which is much faster than filling it again."""
        with self._raw() as connection:
            return connection.serialize()

    def restore(self, snapshot: bytes) -> None:
        self.away, self.delay_s = False, 0.0
        with self._raw() as connection:
            connection.deserialize(snapshot)

    @contextmanager
    def _raw(self) -> Iterator[sqlite3.Connection]:
        connection = self._engine.raw_connection()
        try:
            driver = connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            yield driver
        finally:
            connection.close()

    def dispose(self) -> None:
        self._engine.dispose()


def _configure(dbapi: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    dbapi.execute("PRAGMA foreign_keys=ON")
