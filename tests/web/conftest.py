"""The application on everything real: database, accounts, broadcasts on air, the media engine on a socket of its own.
Only HTTP is Quart's test client, and password hashing is cheap."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lac.auth.passwords import PasswordHasher
from lac.auth.service import AuthService
from lac.broadcasts.live import open_on_air
from lac.broadcasts.service import BroadcastService
from lac.cdn.origin import HlsOrigin
from lac.config import Settings
from lac.data_dir import prepare_data_dir
from lac.db.engine import Database, migrate_database
from lac.recordings.afterwards import open_afterwards, open_places
from lac.recordings.archive import open_archive
from lac.recordings.service import RecordingService
from lac_media.engine import EngineConfig, open_engine
from lac_web.app import WebApp, create_app
from lac_web.services import Services
from tests.fakes.mail import Mailbox
from tests.web.once import Engines, assembled_once

PASSWORD = "correct horse battery"


class TestClock:
    """A wall clock that moves only when told."""

    __test__ = False

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Api:
    """The application under test, and short ways to ask it things."""

    app: WebApp
    services: Services
    clock: TestClock
    mailbox: Mailbox
    _names: Any = field(default_factory=lambda: itertools.count(1))

    async def call(self, method: str, path: str, token: str | None = None, **kwargs: Any) -> Any:
        headers = dict(kwargs.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.app.test_client().open(path, method=method, headers=headers, **kwargs)

    async def account(self, name: str = "ann") -> dict[str, Any]:
        """A new account: the answer to its registration."""
        body = {"email": f"{name}{next(self._names)}@example.org", "password": PASSWORD, "displayName": name.title()}
        response = await self.call("POST", "/api/auth/register", json=body)
        assert response.status_code == 201, await response.get_data(as_text=True)
        return await response.get_json()

    async def token(self, name: str = "ann") -> str:
        return (await self.account(name))["accessToken"]

    async def broadcast(self, token: str, *, live: bool = False, **fields: Any) -> dict[str, Any]:
        response = await self.call("POST", "/api/broadcasts", token, json={"title": "A show", **fields})
        assert response.status_code == 201, await response.get_data(as_text=True)
        broadcast = await response.get_json()
        if live:
            response = await self.call("POST", f"/api/broadcasts/{broadcast['id']}/start", token)
            assert response.status_code == 200, await response.get_data(as_text=True)
            broadcast = await response.get_json()
        return broadcast


async def problem_of(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The problem document of `response`, which must have `status` and, where given, `code`."""
    text = await response.get_data(as_text=True)
    assert response.status_code == status, text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = await response.get_json(force=True)
    assert {"type", "title", "status", "detail", "code"} <= problem.keys()
    assert problem["status"] == status
    assert problem["detail"], "a problem says in a sentence what is wrong"
    if code is not None:
        assert problem["code"] == code
    return problem


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        jwt_secret="access " * 8,
        jwt_refresh_secret="refresh " * 8,
        cors_origins=("https://studio.example",),
    )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of an empty database, migrated once for all tests: each begins with a copy."""
    template = Settings(data_dir=tmp_path_factory.mktemp("template"), jwt_secret="a" * 32, jwt_refresh_secret="b" * 32)
    migrate_database(template)
    return template


@pytest.fixture(scope="session")
def engines(template: Settings) -> Engines:
    return Engines(template)


@pytest.fixture(scope="session", autouse=True)
def _assembled_once() -> Iterator[None]:
    with assembled_once():
        yield


@pytest.fixture
def db(settings: Settings, template: Settings, engines: Engines) -> Iterator[Database]:
    prepare_data_dir(settings.data_dir)
    shutil.copyfile(template.sqlite_path, settings.sqlite_path)
    with engines.open(settings.sqlite_path) as database:
        yield database


@pytest.fixture
def origin() -> HlsOrigin | None:
    """For tests to override: where HLS is pushed to."""
    return None


@pytest.fixture
async def api(settings: Settings, db: Database, origin: HlsOrigin | None) -> AsyncIterator[Api]:
    clock, mailbox = TestClock(), Mailbox()
    auth = AuthService(db, settings, hasher=PasswordHasher(memory_kib=8, time_cost=1), mailer=mailbox, clock=clock)
    broadcasts = BroadcastService(db, settings)
    async with (
        open_engine(EngineConfig(ice_tcp=True)) as engine,
        open_places(settings) as places,
        open_archive(db, settings, remove_elsewhere=places.remove_from_bucket) as archive,
        open_afterwards(db, settings, places, archive) as afterwards,
        open_on_air(db, engine, broadcasts, auth, settings, archive=archive, origin=origin) as on_air,
    ):
        recordings = RecordingService(db, broadcasts, archive)
        services = Services(settings, db, engine, auth, broadcasts, on_air, archive, recordings, afterwards)
        yield Api(create_app(services), services, clock, mailbox)
