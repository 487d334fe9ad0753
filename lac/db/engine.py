"""The one door to the database: `run()` and `read()`, each call one transaction in a worker thread."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
import trio
from sqlalchemy import orm
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from lac.config import Settings
from lac.data_dir import prepare_data_dir
from lac.db import migrate
from lac.db.limits import BoundedConnection, limit_time, took_too_long
from lac.errors import ConfigError, UnavailableError

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Worker threads, which is also the size of each pool. SQLite gains nothing from more than four.
SQLITE_THREADS = 4
#: So many of them may write, or wait for it.
SQLITE_WRITERS = 2
POSTGRES_THREADS = 8
#: How long one call may wait for a thread: behind more than this, the database is overloaded or hangs.
QUEUE_TIMEOUT_S = 5.0
#: How long a statement (on SQLite: a transaction) may take, and how long SQLite waits for the one other writer.
STATEMENT_TIMEOUT_S = 10.0
BUSY_TIMEOUT_S = 10.0
#: How much later than the server we give a connection up that has not even said that it gave up.
ANSWER_GRACE_S = 2.0
CONNECT_TIMEOUT_S = 5
#: A full disk is not emptied in a moment.
FULL_RETRY_S = 30.0
#: A transaction in which nothing has happened for so long belongs to a process that is gone.
IDLE_TRANSACTION_TIMEOUT_S = 60


class Database:
    """Runs functions `fn(session) -> value` in threads, one transaction each. Sessions never leave their thread, so
    the functions return plain values, not rows of the ORM.
    """

    def __init__(self, writer: sa.Engine, reader: sa.Engine, *, threads: int) -> None:
        self._writer = orm.sessionmaker(writer, expire_on_commit=False)
        self._reader = orm.sessionmaker(reader, expire_on_commit=False)
        self._limiter = trio.CapacityLimiter(threads)
        # SQLite has one writer at a time, and readers wait for none: nor shall they wait for the threads in which the
        # others wait to write.
        self._writers = trio.CapacityLimiter(SQLITE_WRITERS if writer.dialect.name == "sqlite" else threads)
        #: How many calls run at a time; the others wait.
        self.threads = threads

    async def run(self, fn: Callable[[orm.Session], T]) -> T:
        """Commit what `fn` did, or nothing if it raised. On SQLite it is the only writer while it runs.

        A call that was cancelled while it waited for its thread did nothing. One whose thread is already running
        completes, and returns its value: a commit is never left behind unseen.
        Raises `UnavailableError` when the database is away or overloaded, and whatever `fn` raises.
        """
        return await self._in_thread(self._writer, fn, self._writers)

    async def read(self, fn: Callable[[orm.Session], T]) -> T:
        """The same for reading only: sees one consistent state and waits for no writer. Writing in it is an error."""
        return await self._in_thread(self._reader, fn, nullcontext())

    async def ping(self) -> None:
        """Return if the database answers; raise `UnavailableError` if it does not."""
        await self.read(lambda session: session.execute(sa.select(1)).scalar_one())

    def load(self) -> tuple[int, int]:
        """(calls that run now, calls that wait for a thread)."""
        threads, writers = self._limiter.statistics(), self._writers.statistics()
        return threads.borrowed_tokens, threads.tasks_waiting + writers.tasks_waiting

    async def _in_thread(
        self,
        sessions: orm.sessionmaker[orm.Session],
        fn: Callable[[orm.Session], T],
        turn: AbstractAsyncContextManager[None],
    ) -> T:
        def in_transaction() -> T:
            with sessions.begin() as session:
                return fn(session)

        try:
            # Bounds the wait for a thread only: once the thread runs, its call is neither cancelled nor forgotten.
            with trio.move_on_after(QUEUE_TIMEOUT_S):
                async with turn:
                    return await trio.to_thread.run_sync(in_transaction, limiter=self._limiter)
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
            if not _is_passing(error):
                raise
            log.warning("database call failed: %s", _first_line(error))
            if took_too_long(_cause(error)):
                raise UnavailableError(
                    "The database took too long to answer. Try again in a moment.", code="database_timeout"
                ) from error
            if _is_full(_cause(error)):
                raise UnavailableError(
                    "The server has no space left to store this. Try again later.",
                    retry_after_s=FULL_RETRY_S,
                    code="storage_full",
                ) from error
            raise UnavailableError("The database cannot be reached just now.", code="database_unavailable") from error
        log.warning("database call given up: all %d threads were busy", self.threads)
        raise UnavailableError("The database is very busy. Try again in a moment.", code="database_busy")


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database, None]:
    """The database of `settings`: the embedded one brought up to date, PostgreSQL checked to be.

    Raises `ConfigError` when it cannot be opened, or is older or newer than this version.
    """
    writer, reader = create_engines(settings)
    try:
        await trio.to_thread.run_sync(_make_ready, writer)
        yield Database(writer, reader, threads=_threads(writer))
    finally:
        writer.dispose()
        reader.dispose()


def create_engines(settings: Settings) -> tuple[sa.Engine, sa.Engine]:
    """One engine for writing and one for reading. Connects to nothing yet."""
    if settings.database_url is None:
        prepare_data_dir(settings.data_dir)
        url = sa.URL.create("sqlite", database=str(settings.sqlite_path))
    else:
        url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, begin="BEGIN IMMEDIATE"), _sqlite_engine(url, begin="BEGIN", read_only=True)
    writer = _postgres_engine(url)
    # One consistent state for all queries of a transaction. Reading only, it never fails for that.
    return writer, writer.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")


def _postgres_engine(url: sa.URL) -> sa.Engine:
    options = {
        "statement_timeout": round(STATEMENT_TIMEOUT_S * 1000),
        "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT_S * 1000,
        "timezone": "UTC",
    }
    engine = sa.create_engine(
        url,
        pool_size=POSTGRES_THREADS,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        },
    )

    @sa.event.listens_for(engine, "do_connect")
    def connect(_dialect: sa.Dialect, _record: ConnectionPoolEntry, args: Any, parameters: Any) -> BoundedConnection:
        connection = BoundedConnection.connect(*args, **parameters)
        connection.answer_timeout_s = STATEMENT_TIMEOUT_S + ANSWER_GRACE_S  # also for what is outside transactions
        return connection

    @sa.event.listens_for(engine, "begin")
    def begin_transaction(connection: sa.Connection) -> None:
        limit_time(connection, STATEMENT_TIMEOUT_S + ANSWER_GRACE_S)

    return engine


def _sqlite_engine(url: sa.URL, *, begin: str, read_only: bool = False) -> sa.Engine:
    engine = sa.create_engine(url, pool_size=SQLITE_THREADS, max_overflow=0)

    @sa.event.listens_for(engine, "connect")
    def configure(dbapi: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        dbapi.isolation_level = None  # the driver begins nothing by itself: `begin` below does
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"busy_timeout={round(BUSY_TIMEOUT_S * 1000)}",
            "foreign_keys=ON",
            f"query_only={int(read_only)}",
        ):
            dbapi.execute(f"PRAGMA {pragma}")
        # SQLite's own lower() knows ASCII only.
        dbapi.create_function("lower", 1, _lower, deterministic=True)

    @sa.event.listens_for(engine, "begin")
    def begin_transaction(connection: sa.Connection) -> None:
        # IMMEDIATE: a transaction that reads and then writes would otherwise lose updates or fail as "locked".
        connection.exec_driver_sql(begin)
        limit_time(connection, STATEMENT_TIMEOUT_S)

    return engine


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _threads(engine: sa.Engine) -> int:
    return SQLITE_THREADS if engine.dialect.name == "sqlite" else POSTGRES_THREADS


def migrate_database(settings: Settings) -> str:
    """Bring either kind of database up to date. Blocking. Returns the revision; raises `ConfigError`."""
    writer, reader = create_engines(settings)
    try:
        with as_config_error(writer):
            migrate.upgrade(writer)
        return migrate.head_revision()
    finally:
        writer.dispose()
        reader.dispose()


def _make_ready(engine: sa.Engine) -> None:
    with as_config_error(engine):
        if engine.dialect.name == "sqlite":
            migrate.upgrade(engine)
        else:
            migrate.require_current(engine)


@contextmanager
def as_config_error(engine: sa.Engine) -> Generator[None, None, None]:
    try:
        yield
    except (sa.exc.DatabaseError, sa.exc.InterfaceError) as error:
        raise ConfigError(f"{describe(engine.url)} cannot be used: {_first_line(error)}") from None


def describe(url: sa.URL) -> str:
    """The database in words, with the variable to look at and without the password."""
    if url.get_backend_name() == "sqlite":
        return f"LAC_DATA_DIR: the database {url.database}"
    return f"DB_HOST: PostgreSQL at {url.host or 'the local socket'}:{url.port or 5432}, database {url.database}"


def _is_passing(error: sa.exc.SQLAlchemyError) -> bool:
    """True for a database that is away, full or overloaded; False for a mistake of ours that only looks like it."""
    cause = _cause(error)
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode & 0xFF in (
            sqlite3.SQLITE_INTERRUPT,
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_CANTOPEN,
        )
    return True


def _is_full(cause: BaseException | None) -> bool:
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(cause, psycopg.errors.DiskFull)


def _cause(error: sa.exc.SQLAlchemyError) -> BaseException | None:
    """The driver's own error."""
    return error.orig if isinstance(error, sa.exc.DBAPIError) else None


def _first_line(error: sa.exc.SQLAlchemyError) -> str:
    return str(_cause(error) or error).strip().partition("\n")[0]
