"""A migrated database for each test, on SQLite and on PostgreSQL, without migrating for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lac.audit import entries_about
from lac.auth.passwords import PasswordHasher
from lac.auth.service import AuthService, SignedIn
from lac.broadcasts.service import BroadcastService
from lac.config import Settings, load_settings
from lac.db.engine import POSTGRES_THREADS, SQLITE_THREADS, Database, create_engines, migrate_database
from lac.errors import LacError
from lac.identity import Identity, IdentityKind
from tests.fakes.mail import Mailbox
from tests.postgres import EmptiedDatabase, PostgresServer, postgres_server

EMAIL, PASSWORD, NEW_PASSWORD = "ada@example.org", "correct horse battery", "a different password"
START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SECRETS = {"JWT_SECRET": "access-" + "a" * 40, "JWT_REFRESH_SECRET": "refresh-" + "b" * 40}


class TurnableClock:
    """The time that the services under test see."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **kwargs: float) -> None:
        self.now += timedelta(**kwargs)


async def code_of(call: Coroutine[Any, Any, object]) -> str:
    """The code of the error that `call` ends with."""
    with pytest.raises(LacError) as caught:
        await call
    return caught.value.code


async def acts(db: Database, user_id: str) -> list[str]:
    return [entry.action for entry in await db.read(lambda session: entries_about(session, user_id))]


#: Each domain test runs on both. The order keeps the tests that need no server first.
BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def migrated_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database with today's schema, made once."""
    settings = load_settings(SECRETS, data_dir=tmp_path_factory.mktemp("template"))
    migrate_database(settings)
    return settings.sqlite_path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Started by the first test that asks for it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_database(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmptiedDatabase]:
    """A PostgreSQL database with today's schema, made once and emptied before each test."""
    url = postgres.create("domain")
    migrate_database(load_settings({**SECRETS, "DATABASE_URL": url}, data_dir=tmp_path_factory.mktemp("postgres")))
    database = EmptiedDatabase(url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """The engines of both databases, kept from test to test: an engine remembers the SQL that it has compiled."""
    kept = Engines(tmp_path_factory.mktemp("domain"))
    yield kept
    for pair in kept.of_url.values():
        for engine in pair:
            engine.dispose()


class Engines:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.of_url: dict[str | None, tuple[sa.Engine, sa.Engine]] = {}

    def of(self, settings: Settings) -> tuple[sa.Engine, sa.Engine]:
        """The writer and the reader."""
        if settings.database_url not in self.of_url:
            self.of_url[settings.database_url] = create_engines(settings)
        return self.of_url[settings.database_url]

    def replace_sqlite(self, template: Path) -> Settings:
        """A new file for the test, at the place of the one before."""
        for engine in self.of_url.get(None, ()):
            engine.dispose()
        settings = load_settings(SECRETS, data_dir=self.data_dir)
        for suffix in ("-wal", "-shm"):
            Path(f"{settings.sqlite_path}{suffix}").unlink(missing_ok=True)
        shutil.copy(template, settings.sqlite_path)
        return settings


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, engines: Engines, tmp_path: Path) -> Settings:
    """The settings of a fresh, migrated database."""
    if request.param == "postgresql":
        database: EmptiedDatabase = request.getfixturevalue("postgres_database")
        database.empty()
        return load_settings({**SECRETS, "DATABASE_URL": database.url}, data_dir=tmp_path)
    return engines.replace_sqlite(request.getfixturevalue("migrated_template"))


@pytest.fixture
def db(settings: Settings, engines: Engines) -> Database:
    writer, reader = engines.of(settings)
    return Database(writer, reader, threads=POSTGRES_THREADS if settings.database_url else SQLITE_THREADS)


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def hasher() -> PasswordHasher:
    """As cheap as argon2 allows."""
    return PasswordHasher(memory_kib=8, time_cost=1)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def auth(
    db: Database, settings: Settings, hasher: PasswordHasher, mailbox: Mailbox, clock: TurnableClock
) -> AuthService:
    return AuthService(db, settings, hasher=hasher, mailer=mailbox, clock=clock)


@pytest.fixture
def broadcasts(db: Database, settings: Settings, clock: TurnableClock) -> BroadcastService:
    return BroadcastService(db, settings, clock=clock)


@pytest.fixture
def account(auth: AuthService) -> Callable[..., object]:
    """Make an account: `identity = await account("ada")`."""

    async def make(name: str, *, is_admin: bool = False) -> Identity:
        user = await auth.create_user(f"{name}@example.org", "correct horse", name.title(), is_admin=is_admin)
        return Identity(IdentityKind.USER, user.id, user.display_name, is_admin=is_admin)

    return make


@pytest.fixture
async def ada(auth: AuthService) -> SignedIn:
    return await auth.register(EMAIL, PASSWORD, "Ada")


@pytest.fixture
async def me(auth: AuthService, ada: SignedIn) -> Identity:
    return await auth.identify(ada.access_token)
