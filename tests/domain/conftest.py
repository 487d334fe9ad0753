"""A migrated database for each test, on SQLite and on PostgreSQL, without migrating for each test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lac.auth.passwords import PasswordHasher
from lac.auth.service import AuthService
from lac.broadcasts.service import BroadcastService
from lac.config import Settings, load_settings
from lac.db.engine import Database, migrate_database, open_database
from lac.identity import Identity, IdentityKind
from tests.fakes.mail import Mailbox
from tests.postgres import EmptiedDatabase, PostgresServer, postgres_server

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


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """The settings of a fresh, migrated database."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    if request.param == "postgresql":
        database: EmptiedDatabase = request.getfixturevalue("postgres_database")
        database.empty()
        return load_settings({**SECRETS, "DATABASE_URL": database.url}, data_dir=data_dir)
    settings = load_settings(SECRETS, data_dir=data_dir)
    shutil.copy(request.getfixturevalue("migrated_template"), settings.sqlite_path)
    return settings


@pytest.fixture
async def db(settings: Settings) -> AsyncGenerator[Database, None]:
    async with open_database(settings) as database:
        yield database


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
