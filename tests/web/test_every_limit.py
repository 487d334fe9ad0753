"""Each limit there is, alone: the second try is refused, for it and for nothing else. A new limit needs its own way."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lac.config import Settings
from lac.limits import Limit, RateLimits
from lac_web.rate_limits import rate_limiter
from tests.web.conftest import PASSWORD, Api
from tests.web.test_rate_limits import COMMANDS, answer_to, call_from, room_socket

LIMITS = [field.name for field in dataclasses.fields(RateLimits)]
PLENTY = Limit(1_000_000, 1_000_000.0)


class Tries:
    """What is tried for one limit: `by_address` from one place by several people, `by_account` the other way round."""

    def __init__(self, api: Api, limit: str) -> None:
        self.api = api
        self.what, _, self.by = limit.partition("_by_")
        self._number = 0
        self._tokens: dict[str, str] = {}
        self._show: dict[str, Any] | None = None

    async def once(self) -> bool:
        """Whether it was refused."""
        self._number += 1
        return await WAYS[self.what](self)

    @property
    def address(self) -> str:
        return f"192.0.2.{self._number if self.by == 'account' else 1}"

    @property
    def name(self) -> str:
        return f"person{self._number if self.by == 'address' else 1}"

    async def token(self) -> str | None:
        """None for limits by address: in the room they are for guests."""
        if self.by == "address":
            return None
        if self.name not in self._tokens:
            self._tokens[self.name] = await self.api.token(self.name)
        return self._tokens[self.name]

    async def show_id(self) -> str:
        if self._show is None:
            self._show = await self.api.broadcast(await self.api.token("host"), live=True)
        return str(self._show["id"])

    async def post(self, path: str, **body: str) -> bool:
        response = await call_from(self.api, self.address, "POST", path, json=body)
        return bool(response.status_code == 429)


async def sign_in(tries: Tries) -> bool:
    return await tries.post("/api/auth/login", email=f"{tries.name}@example.org", password="a wrong guess")


async def register(tries: Tries) -> bool:
    email = f"{tries.name}@example.org"
    return await tries.post("/api/auth/register", email=email, password=PASSWORD, displayName="Ann")


async def refresh(tries: Tries) -> bool:
    return await tries.post("/api/auth/refresh", refreshToken="nonsense")


async def link(tries: Tries) -> bool:
    return await tries.post("/api/auth/verify-email", token="nonsense")


async def invite(tries: Tries) -> bool:
    return await tries.post(f"/api/broadcasts/{await tries.show_id()}/invite/accept", invite="a guess")


async def mail(tries: Tries) -> bool:
    return await tries.post("/api/auth/password-reset/request", email=f"{tries.name}@example.org")


async def media(tries: Tries) -> bool:
    path = f"/api/mediasoup/{await tries.show_id()}/transports"
    response = await call_from(tries.api, tries.address, "POST", path, await tries.token(), json={"direction": "recv"})
    return bool(response.status_code == 429)


async def record(tries: Tries) -> bool:
    token = await tries.token() or await tries.api.token(tries.name)
    path = f"/api/broadcasts/{await tries.show_id()}/record/stop"
    response = await call_from(tries.api, tries.address, "POST", path, token)
    return bool(response.status_code == 429)


async def download(tries: Tries) -> bool:
    response = await call_from(tries.api, tries.address, "GET", "/api/recordings/none/download")
    return bool(response.status_code == 429)


async def export(tries: Tries) -> bool:
    token = await tries.token() or await tries.api.token(tries.name)
    path = "/api/recordings/none/exports"
    response = await call_from(tries.api, tries.address, "POST", path, token, json={"format": "mp3"})
    return bool(response.status_code == 429)


async def feed(tries: Tries) -> bool:
    response = await call_from(tries.api, tries.address, "GET", "/podcasts/nobody/feed.xml")
    return bool(response.status_code == 429)


async def join(tries: Tries) -> bool:
    async with room_socket(tries.api, tries.address, await tries.show_id(), await tries.token()) as socket:
        frame = await answer_to(socket, 0)
        return frame["event"] == "error" and frame["data"]["code"] == "too_many_requests"


def in_the_room(command: str) -> Callable[[Tries], Awaitable[bool]]:
    async def way(tries: Tries) -> bool:
        async with room_socket(tries.api, tries.address, await tries.show_id(), await tries.token()) as socket:
            assert (await answer_to(socket, 0))["event"] == "ack"
            await socket.send_json({"event": command, "ack": 1, "data": COMMANDS[command]})
            frame = await answer_to(socket, 1)
            return frame["event"] == "error" and frame["data"]["code"] == "too_many_requests"

    return way


WAYS: dict[str, Callable[[Tries], Awaitable[bool]]] = {
    "sign_in": sign_in,
    "register": register,
    "refresh": refresh,
    "link": link,
    "invite": invite,
    "mail": mail,
    "media": media,
    "join": join,
    "record": record,
    "download": download,
    "export": export,
    "feed": feed,
    "chat": in_the_room("chatMessage"),
    "reaction": in_the_room("reaction"),
    "hand": in_the_room("raiseHand"),
}


@pytest.fixture(params=LIMITS)
def limit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(settings: Settings, limit: str) -> Settings:
    """This limit lets one through; the others are out of the way."""
    alone = {name: Limit(1, 0.001) if name == limit else PLENTY for name in LIMITS}
    return dataclasses.replace(settings, rate_limits=RateLimits(**alone))


async def test_each_limit_is_reached_by_the_second_try(api: Api, limit: str) -> None:
    tries = Tries(api, limit)
    assert [await tries.once(), await tries.once()] == [False, True]
    async with api.app.app_context():
        refused = rate_limiter().refused
    assert {name: count for name, count in refused.items() if count} == {limit: 1}
