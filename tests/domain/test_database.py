"""The door to the database: transactions, cancellation, lost updates, and what stops the start."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Coroutine
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trio
import trio.testing
from sqlalchemy import orm

from lac.config import Settings, load_settings
from lac.db import engine as db_engine
from lac.db import models
from lac.db.engine import Database, open_database
from lac.db.limits import lift_time_limit
from lac.errors import ConfigError, UnavailableError
from tests.domain.conftest import SECRETS, START


def add_user(session: orm.Session, user_id: str, created_at: datetime = START) -> None:
    session.add(
        models.User(
            id=user_id,
            email=f"{user_id}@example.org",
            password_hash="",
            display_name="0",
            is_admin=False,
            created_at=created_at,
            updated_at=START,
        )
    )


def user_ids(session: orm.Session) -> list[str]:
    return list(session.scalars(sa.select(models.User.id).order_by(models.User.id)))


async def test_a_function_that_raises_leaves_nothing(db: Database) -> None:
    def half(session: orm.Session) -> None:
        add_user(session, "ada")
        session.flush()
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await db.run(half)
    assert await db.read(user_ids) == []


async def test_no_update_is_lost_between_eight_threads(db: Database, settings: Settings) -> None:
    await db.run(lambda session: add_user(session, "counter"))

    def increment(session: orm.Session) -> None:
        row = session.get_one(models.User, "counter", with_for_update=True)
        row.display_name = str(int(row.display_name) + 1)

    async def client(database: Database) -> None:
        for _ in range(20):
            await database.run(increment)

    # The second has threads and connections of its own, as another process would.
    async with open_database(settings) as second, trio.open_nursery() as nursery:
        for database in [db, second] * 4:
            nursery.start_soon(client, database)
    assert await db.read(lambda session: session.get_one(models.User, "counter").display_name) == "160"


async def test_a_call_cancelled_while_its_thread_works_is_committed_and_says_so(db: Database) -> None:
    started = threading.Event()

    def slow(session: orm.Session) -> str:
        add_user(session, "ada")
        session.flush()
        started.set()
        time.sleep(0.1)
        return "committed"

    answers = []
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel_once_started() -> None:
                await trio.to_thread.run_sync(started.wait)
                scope.cancel()

            nursery.start_soon(cancel_once_started)
            answers.append(await db.run(slow))
    assert answers == ["committed"]
    assert await db.read(user_ids) == ["ada"]


async def test_a_call_cancelled_while_it_waits_for_a_thread_never_happens(db: Database) -> None:
    release = threading.Event()

    def occupy(_session: orm.Session) -> None:
        release.wait(10)

    async with trio.open_nursery() as nursery:
        for _ in range(db.threads):
            nursery.start_soon(db.read, occupy)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0) as scope:
            await db.run(lambda session: add_user(session, "never"))
        assert scope.cancelled_caught
        release.set()
    assert await db.read(user_ids) == []


async def test_reading_cannot_write(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        await db.read(lambda session: session.execute(sa.delete(models.User)))


async def test_a_reader_does_not_wait_for_a_writer(db: Database) -> None:
    written, release = threading.Event(), threading.Event()

    def hold(session: orm.Session) -> None:
        add_user(session, "ada")
        session.flush()
        written.set()
        release.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.run, hold)
        await trio.to_thread.run_sync(written.wait)
        assert await db.read(user_ids) == []
        release.set()
    assert await db.read(user_ids) == ["ada"]


async def test_a_database_that_is_there_answers(db: Database) -> None:
    await db.ping()


async def test_times_come_back_aware_and_in_utc(db: Database) -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    await db.run(lambda session: add_user(session, "ada", datetime(2030, 1, 1, 5, 45, 0, 123456, tzinfo=kathmandu)))
    created_at = await db.read(lambda session: session.get_one(models.User, "ada").created_at)
    assert created_at == datetime(2030, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert created_at.tzinfo is UTC


async def test_a_naive_time_is_refused(db: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="naive"):
        await db.run(lambda session: add_user(session, "ada", datetime(2030, 1, 1)))  # noqa: DTZ001  the point of it


async def test_what_belongs_to_a_user_goes_with_the_user(db: Database) -> None:
    def follow(session: orm.Session) -> None:
        add_user(session, "ada")
        add_user(session, "bob")
        session.flush()
        session.add(models.Follow(follower_id="ada", followed_id="bob", created_at=START))

    await db.run(follow)
    await db.run(lambda session: session.execute(sa.delete(models.User).where(models.User.id == "bob")))
    assert await db.read(lambda session: session.scalars(sa.select(models.Follow)).all()) == []


@pytest.mark.parametrize(
    "row",
    [
        {"follower_id": "ada", "followed_id": "ada"},
        {"follower_id": "ada", "followed_id": "nobody"},
    ],
)
async def test_impossible_rows_are_refused(db: Database, row: dict[str, str]) -> None:
    await db.run(lambda session: add_user(session, "ada"))
    with pytest.raises(sa.exc.IntegrityError):
        await db.run(lambda session: session.add(models.Follow(**row, created_at=START)))


#: Never ends by itself, on either database.
ENDLESS = sa.text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")


async def unavailable(call: Coroutine[Any, Any, object]) -> str:
    """The code of the `UnavailableError` that `call` ends with."""
    with pytest.raises(UnavailableError) as caught:
        await call
    assert caught.value.detail
    return caught.value.code


@pytest.fixture
async def impatient(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Database, None]:
    """A database with a tenth of a second for each statement."""
    monkeypatch.setattr(db_engine, "STATEMENT_TIMEOUT_S", 0.1)
    async with open_database(settings) as database:
        yield database


async def test_a_query_that_hangs_ends_with_a_clear_error_and_leaves_nothing(impatient: Database) -> None:
    def hang(session: orm.Session) -> None:
        add_user(session, "half")
        session.flush()
        session.execute(ENDLESS)

    with trio.fail_after(30):
        assert await unavailable(impatient.run(hang)) == "database_timeout"
        assert await unavailable(impatient.read(lambda session: session.execute(ENDLESS))) == "database_timeout"
    await impatient.run(lambda session: add_user(session, "next"))
    assert await impatient.read(user_ids) == ["next"]


async def test_threads_that_hang_free_themselves(impatient: Database) -> None:
    codes: list[str] = []

    async def hang() -> None:
        codes.append(await unavailable(impatient.read(lambda session: session.execute(ENDLESS))))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(2 * impatient.threads):
                nursery.start_soon(hang)
        assert set(codes) <= {"database_timeout", "database_busy"}
        await impatient.ping()


async def test_a_call_does_not_wait_for_ever_behind_busy_threads(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_engine, "QUEUE_TIMEOUT_S", 0.1)
    release = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(db.threads):
            nursery.start_soon(db.read, lambda _session: release.wait(30) and None)
        await trio.testing.wait_all_tasks_blocked()
        assert await unavailable(db.run(lambda session: add_user(session, "never"))) == "database_busy"
        release.set()
    assert await db.read(user_ids) == []


async def test_a_call_whose_thread_runs_is_not_given_up(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_engine, "QUEUE_TIMEOUT_S", 0.05)

    def slow(session: orm.Session) -> str:
        add_user(session, "ada")
        time.sleep(0.2)
        return "committed"

    assert await db.run(slow) == "committed"
    assert await db.read(user_ids) == ["ada"]


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
async def test_a_server_that_does_not_even_say_that_it_gave_up_is_given_up(
    impatient: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db_engine, "ANSWER_GRACE_S", 0.1)

    def hang(session: orm.Session) -> None:
        session.execute(sa.text("SET LOCAL statement_timeout = 0"))
        session.execute(sa.text("SELECT pg_sleep(30)"))

    with trio.fail_after(20):
        assert await unavailable(impatient.run(hang)) == "database_timeout"
    await impatient.ping()


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
async def test_a_row_that_stays_locked_is_unavailable_and_not_a_crash(impatient: Database, settings: Settings) -> None:
    assert settings.database_url is not None
    await impatient.run(lambda session: add_user(session, "ada"))
    other = sa.create_engine(settings.database_url)
    with other.connect() as connection:
        connection.execute(sa.text("SELECT * FROM users FOR UPDATE"))
        change = sa.update(models.User).values(display_name="never")
        assert await unavailable(impatient.run(lambda session: session.execute(change))) == "database_timeout"
    other.dispose()


async def test_migrating_may_take_its_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_engine, "STATEMENT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(db_engine, "ANSWER_GRACE_S", 0.05)
    counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000) SELECT count(*) FROM n"
    writer, _ = db_engine.create_engines(settings)
    started = time.monotonic()
    with writer.begin() as connection:
        lift_time_limit(connection)
        assert connection.scalar(sa.text(counting)) == 500_000
    writer.dispose()
    assert time.monotonic() - started > 0.05


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
async def test_a_database_that_stays_locked_is_unavailable_and_not_a_crash(db: Database, settings: Settings) -> None:
    def impatient(session: orm.Session) -> None:
        add_user(session, "ada")

    def shorten(session: orm.Session) -> None:
        session.connection().exec_driver_sql("PRAGMA busy_timeout=1")

    await db.run(shorten)
    other = sa.create_engine(f"sqlite:///{settings.sqlite_path}")
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        assert await unavailable(db.run(impatient)) == "database_unavailable"
        connection.rollback()
    other.dispose()


@pytest.mark.parametrize("asked", ["ada\0", "\0", "\ud800", "ada\ud800", "a" * 100_000])
async def test_an_id_that_no_database_can_hold_is_nobodys(db: Database, asked: str) -> None:
    await db.run(lambda session: add_user(session, "ada"))
    assert await db.read(lambda session: session.get(models.User, asked)) is None


async def test_a_reader_sees_one_state_all_along(db: Database) -> None:
    looked, written = threading.Event(), threading.Event()
    seen: list[list[str]] = []

    def look_twice(session: orm.Session) -> None:
        seen.append(user_ids(session))
        looked.set()
        written.wait(10)
        seen.append(user_ids(session))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.read, look_twice)
        await trio.to_thread.run_sync(looked.wait)
        await db.run(lambda session: add_user(session, "ada"))
        written.set()
    assert seen == [[], []]


async def refusal(settings: Settings) -> str:
    """The line with which the start stops."""
    with pytest.raises(ConfigError) as caught:
        async with open_database(settings):
            pass
    assert "\n" not in caught.value.detail
    return caught.value.detail


async def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path) -> None:
    settings = load_settings(SECRETS, data_dir=tmp_path)
    settings.sqlite_path.write_bytes(b"not a database" * 1000)
    assert (await refusal(settings)).startswith(f"LAC_DATA_DIR: the database {settings.sqlite_path} cannot be used")


async def test_a_data_directory_that_is_a_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    assert (await refusal(load_settings(SECRETS, data_dir=tmp_path / "data"))).startswith("LAC_DATA_DIR: ")


async def test_a_postgresql_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    environ = {**SECRETS, "DATABASE_URL": "postgresql://me:hidden@127.0.0.1:1/lac"}
    line = await refusal(load_settings(environ, data_dir=tmp_path))
    assert line.startswith("DB_HOST: PostgreSQL at 127.0.0.1:1, database lac cannot be used")
    assert "hidden" not in line
