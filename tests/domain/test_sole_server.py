"""One server for a data directory and a database: who holds them, and what ends it."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import trio
import trio.testing
from structlog.testing import capture_logs

from lac.config import Settings, load_settings
from lac.db import sole_server as of_database
from lac.db.engine import create_engines
from lac.db.sole_server import CHECK_EVERY_S, DatabaseClaim, hold_database, keep
from lac.errors import ConfigError
from lac.sole_server import LOCK_FILE, hold_data
from tests.domain.conftest import SECRETS
from tests.postgres import EmptiedDatabase
from tests.sweep import sweep

# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return load_settings(SECRETS, data_dir=tmp_path / "data")


def refusal(settings: Settings) -> str:
    with pytest.raises(ConfigError) as caught, hold_data(settings):
        pass
    assert "\n" not in caught.value.detail
    return caught.value.detail


def test_whoever_comes_second_is_refused_until_the_first_has_gone(home: Settings, tmp_path: Path) -> None:
    by_another_name = tmp_path / "link"
    by_another_name.symlink_to(home.data_dir)
    with hold_data(home):
        for settings in (home, replace(home, data_dir=by_another_name), replace(home, database_url="postgresql://x/y")):
            assert refusal(settings).startswith("LAC_DATA_DIR: another process (")
        with hold_data(replace(home, data_dir=tmp_path / "elsewhere")):
            pass
    with hold_data(home):
        pass


def test_an_sqlite_database_elsewhere_has_one_server_too(home: Settings, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(home.sqlite_path)
    other = replace(home, data_dir=tmp_path / "other")
    with hold_data(home):
        for path in (home.sqlite_path, tmp_path / "link.db"):
            line = refusal(replace(other, database_url=f"sqlite:///{path}"))
            assert line.startswith("DATABASE_URL: another process (")
        with hold_data(replace(other, database_url=f"sqlite:///{tmp_path}/its-own.db")):
            pass
    with hold_data(replace(other, database_url=f"sqlite:///{home.sqlite_path}")):
        assert refusal(home).startswith("DATABASE_URL: ")
    with hold_data(other):  # a refusal has let go of what it had got
        pass


def test_a_killed_process_holds_nothing_and_its_number_is_told_while_it_lives(home: Settings) -> None:
    program = (
        "import sys, pathlib; from lac.sole_server import hold_data_dir\n"
        "with hold_data_dir(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(home.data_dir)]
    home.data_dir.mkdir()
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert f"another process ({process.pid}) serves the data directory {home.data_dir}" in refusal(home)
        process.send_signal(signal.SIGKILL)
    with hold_data(home):
        pass


def test_a_lock_file_with_anything_in_it_is_as_good_as_another(home: Settings) -> None:
    home.data_dir.mkdir()
    path = home.data_dir / LOCK_FILE
    path.write_bytes(b"\xff\x00 not a number" * 100)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert refusal(home).startswith("LAC_DATA_DIR: another process serves")
    with hold_data(home):
        assert path.read_text().strip().isdigit()


def test_a_lock_file_that_cannot_be_opened_is_one_clear_line(home: Settings) -> None:
    (home.data_dir / LOCK_FILE).mkdir(parents=True)
    line = refusal(home)
    assert line.startswith("LAC_DATA_DIR: ")
    assert "cannot be written" in line


def test_a_file_system_without_locks_serves_and_says_so(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with capture_logs() as logs, hold_data(home):
        pass
    assert {entry["log_level"] for entry in logs} == {"warning"}


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_postgres(postgres_database: EmptiedDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(of_database, "TAKE_WITHIN_S", 0.0)
    return load_settings({**SECRETS, "DATABASE_URL": postgres_database.url}, data_dir=tmp_path)


@contextmanager
def claim_on(settings: Settings) -> Iterator[DatabaseClaim]:
    engine, _ = create_engines(settings)
    claim = DatabaseClaim(engine)
    try:
        yield claim
    finally:
        claim.drop()
        engine.dispose()


def take_surely(claim: DatabaseClaim) -> None:
    """PostgreSQL hears a moment late of a connection that was closed."""
    for _ in range(200):
        if claim.take():
            return
        time.sleep(0.05)
    raise AssertionError("the lock was never free")


def plain_url(settings: Settings) -> str:
    return str(settings.database_url).replace("+psycopg", "")


def end_its_connection(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks "
            "JOIN pg_database ON pg_database.oid = database "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )


async def test_a_database_has_one_server_wherever_its_data_directory_is(on_postgres: Settings, tmp_path: Path) -> None:
    elsewhere = replace(on_postgres, data_dir=tmp_path / "elsewhere")
    async with hold_database(on_postgres):
        with pytest.raises(ConfigError, match=r"^DB_HOST: .*is served by another process already") as caught:
            async with hold_database(elsewhere):
                pass
        assert "\n" not in caught.value.detail
    with claim_on(elsewhere) as claim:
        await trio.to_thread.run_sync(take_surely, claim)


async def test_a_database_that_is_not_there_stops_the_start_with_one_line(tmp_path: Path) -> None:
    environ = {**SECRETS, "DATABASE_URL": "postgresql://me:hidden@127.0.0.1:1/lac"}
    with pytest.raises(ConfigError, match=r"^DB_HOST: PostgreSQL at .*, database lac cannot be used") as caught:
        async with hold_database(load_settings(environ, data_dir=tmp_path)):
            pass
    assert "hidden" not in caught.value.detail


def test_a_lock_that_went_with_its_connection_is_taken_again(on_postgres: Settings) -> None:
    url = plain_url(on_postgres)
    with claim_on(on_postgres) as ours, claim_on(on_postgres) as another:
        take_surely(ours)
        assert ours.check()
        assert not another.check()
        end_its_connection(url)
        assert ours.check()
        assert not another.check()
        # Whoever is quicker has it.
        end_its_connection(url)
        take_surely(another)
        assert not ours.check()
        another.drop()
        take_surely(ours)


def test_a_connection_of_ours_that_is_still_ending_is_not_taken_for_another_server(on_postgres: Settings) -> None:
    with claim_on(on_postgres) as ours, claim_on(on_postgres) as another:
        take_surely(ours)
        # As behind a network that is cut: PostgreSQL still has the connection, and we have given it up.
        unplugged, ours._connection = ours._connection, None
        assert unplugged is not None
        assert ours.check()
        assert not another.check()
        unplugged.close()
        assert ours.check()
        assert ours._connection is not None
        assert not another.check()


def test_the_lock_keeps_no_dead_rows(on_postgres: Settings) -> None:
    with claim_on(on_postgres) as claim, psycopg.connect(plain_url(on_postgres)) as other:
        take_surely(claim)
        held_back = other.execute(
            "SELECT activity.state, backend_xmin, backend_xid FROM pg_stat_activity activity "
            "JOIN pg_locks USING (pid) WHERE locktype = 'advisory' AND datname = current_database()"
        ).fetchall()
    assert held_back == [("idle in transaction", None, None)]


class ScriptedClaim:
    """Answers what it is told to, without a database; None is one that is away."""

    def __init__(self, *answers: bool | None) -> None:
        self.answers = list(answers)
        self.held = False

    def take(self) -> bool:
        self.held = True
        return True

    def check(self) -> bool:
        answer = self.answers.pop(0)
        if answer is None:
            raise sa.exc.OperationalError("select 1", {}, ConnectionError("gone"))
        return answer

    def drop(self) -> None:
        self.held = False


async def test_what_becomes_of_the_lock_is_told_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", in_this_thread)
    claim = ScriptedClaim(True, None, None, True, False, False, True, True)
    with capture_logs() as logs, trio.move_on_after(8.5 * CHECK_EVERY_S):
        await keep(claim)  # type: ignore[arg-type]  # all of it that `keep` uses
    assert claim.answers == []
    assert [entry["log_level"] for entry in logs] == ["warning", "info", "error", "info"]


async def in_this_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """`trio.to_thread.run_sync` for virtual time, which would pass a real thread by."""
    await trio.lowlevel.checkpoint()
    return fn(*args)


def test_a_start_or_stop_at_any_step_holds_nothing_afterwards(
    monkeypatch: pytest.MonkeyPatch, on_postgres: Settings
) -> None:
    claims: list[ScriptedClaim] = []

    def make(engine: sa.Engine) -> ScriptedClaim:
        claims.append(ScriptedClaim(True, None, True))
        return claims[-1]

    monkeypatch.setattr(of_database, "DatabaseClaim", make)
    monkeypatch.setattr(trio.to_thread, "run_sync", in_this_thread)

    async def scenario() -> None:
        async with hold_database(on_postgres):
            assert claims[-1].held
            await trio.sleep(3.5 * CHECK_EVERY_S)

    assert sweep(scenario, lambda: None if not claims[-1].held else pytest.fail("it is held")) > 5
