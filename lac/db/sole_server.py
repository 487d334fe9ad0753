"""One `lac serve` for a PostgreSQL database, wherever the servers and their data directories are.

An advisory lock, held by a connection of its own for as long as the server runs. It is one of a transaction, not of a
session: behind a pooler such as PgBouncer a session is shared, and outlives the client that took the lock. The
transaction has read nothing and holds no snapshot, so it keeps no dead rows. A database that goes away takes the lock
with it; it is taken again with the connection.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import sqlalchemy as sa
import structlog
import trio

from lac.config import Settings
from lac.db.engine import as_config_error, create_engines, describe
from lac.db.limits import BoundedConnection
from lac.errors import ConfigError

log = structlog.get_logger(__name__)

#: Any fixed number, another than that of the migrations.
_ADVISORY_LOCK = 7_239_146
#: How often we see whether we still have it: a server that starts just then could be quicker.
CHECK_EVERY_S = 2.0
#: How long one answer may take, also when the server is about to stop.
ANSWER_S = 4.0
#: PostgreSQL may hear a moment late that the process before us was killed.
TAKE_WITHIN_S = 3.0
_RETRY_S = 0.2
_HOLDER = sa.text(
    "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database WHERE locktype = 'advisory' "
    "AND classid = 0 AND objid = :number AND objsubid = 1 AND granted AND datname = current_database()"
).bindparams(number=_ADVISORY_LOCK)
#: After so long it gives up a client whose machine is gone: 10 s of silence, and three questions.
_SESSION = (
    "SET LOCAL tcp_keepalives_idle = 10",
    "SET LOCAL tcp_keepalives_interval = 5",
    "SET LOCAL tcp_keepalives_count = 3",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
)


class DatabaseClaim:
    """The lock, and the connection that holds it. Its methods block and are not for several threads at once."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None
        #: The server's process behind the connection that has the lock, or had it last.
        self._backend: int | None = None

    def take(self) -> bool:
        """Whether the lock is ours, and nobody else's. Raises SQLAlchemy's errors when the database is away."""
        self.drop()
        connection = self._engine.connect()
        try:
            connection.begin()
            driver = connection.connection.driver_connection
            if isinstance(driver, BoundedConnection):
                driver.answer_timeout_s = ANSWER_S
            held = bool(connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_ADVISORY_LOCK))))
            if held:
                for statement in _SESSION:
                    connection.execute(sa.text(statement))
                self._backend = connection.scalar(sa.select(sa.func.pg_backend_pid()))
                self._connection = connection
            elif self._backend is not None:
                # PostgreSQL has not noticed yet that our last connection is gone: nobody else has the lock.
                held = connection.scalar(_HOLDER) == self._backend
        finally:
            if self._connection is not connection:
                connection.close()
        return held

    def check(self) -> bool:
        """Whether the lock is still ours, or is again."""
        if self._connection is not None:
            try:
                self._connection.execute(sa.select(1))
            except sa.exc.SQLAlchemyError:
                self.drop()
            else:
                return True
        return self.take()

    def drop(self) -> None:
        """Give it up. Idempotent. Waits for nobody: the connection is closed, not handed back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


@asynccontextmanager
async def hold_database(settings: Settings) -> AsyncGenerator[None, None]:
    """The PostgreSQL database of `settings` is ours while the block lasts; nothing to do for SQLite.

    Raises `ConfigError` when another server has it, or when it cannot be reached.
    """
    if settings.database_url is None or not settings.database_url.startswith("postgresql"):
        yield
        return
    engine, _ = create_engines(settings)
    claim = DatabaseClaim(engine)
    try:
        if not await trio.to_thread.run_sync(_take_soon, claim, engine):
            raise ConfigError(
                f"{describe(engine.url)} is served by another process already, here or on another machine. Stop that "
                "first, or use another database. If its machine is gone, PostgreSQL notices within half a minute."
            )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, claim)
            yield
            nursery.cancel_scope.cancel("the server has stopped")
    finally:
        claim.drop()
        engine.dispose()


def _take_soon(claim: DatabaseClaim, engine: sa.Engine) -> bool:
    give_up_at = time.monotonic() + TAKE_WITHIN_S
    with as_config_error(engine):
        while not (held := claim.take()) and time.monotonic() < give_up_at:
            time.sleep(_RETRY_S)
        return held


async def keep(claim: DatabaseClaim) -> None:
    """Take the lock again whenever it was lost with its connection. The server goes on meanwhile: it does without the
    database, too."""
    state = "ours"
    while True:
        await trio.sleep(CHECK_EVERY_S)
        try:
            now = "ours" if await trio.to_thread.run_sync(claim.check) else "another's"
        except sa.exc.SQLAlchemyError:
            now = "away"
        if now == state:
            continue
        state = now
        if state == "another's":
            log.error("another server has taken the database while it was away: stop one of the two")
        elif state == "away":
            log.warning("the database that this server holds does not answer")
        else:
            log.info("the database is held again")
