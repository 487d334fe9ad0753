"""A migrated database for each test, without migrating for each test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from lac.auth.passwords import PasswordHasher
from lac.auth.service import AuthService
from lac.broadcasts.service import BroadcastService
from lac.config import Settings, load_settings
from lac.db.engine import Database, open_database
from lac.identity import Identity, IdentityKind

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


@pytest.fixture(scope="session")
def migrated_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database with today's schema, made once."""
    settings = load_settings(SECRETS, data_dir=tmp_path_factory.mktemp("template"))

    async def migrate() -> None:
        async with open_database(settings):
            pass

    trio.run(migrate)
    return settings.sqlite_path


#: Each takes the settings of a test to those of a fresh, migrated database. PostgreSQL is one more entry.
BACKENDS: dict[str, Callable[[Path, Path], Settings]] = {}


def _sqlite(template: Path, data_dir: Path) -> Settings:
    settings = load_settings(SECRETS, data_dir=data_dir)
    data_dir.mkdir(exist_ok=True)
    shutil.copy(template, settings.sqlite_path)
    return settings


BACKENDS["sqlite"] = _sqlite


@pytest.fixture(params=sorted(BACKENDS))
def settings(request: pytest.FixtureRequest, migrated_template: Path, tmp_path: Path) -> Settings:
    return BACKENDS[request.param](migrated_template, tmp_path / "data")


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
def auth(db: Database, settings: Settings, hasher: PasswordHasher, clock: TurnableClock) -> AuthService:
    return AuthService(db, settings, hasher=hasher, clock=clock)


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
