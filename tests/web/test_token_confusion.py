"""One kind of token is never good for what another is for: each kind that there is, on every route that asks for an
account, and on every way in."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from lac_web.security import ACCESS_ATTRIBUTE, Access
from tests.web.conftest import PASSWORD, Api, problem_of
from tests.web.test_api_policy import BODIES, routes
from tests.web.test_whip_whep import offer

SDP = {"Content-Type": "application/sdp"}
ACCESS_KEY, REFRESH_KEY = "access " * 8, "refresh " * 8


class Scene:
    """A private show with a stream key and an invite link, its host, and whatever they were ever given."""

    def __init__(self, api: Api, account: dict[str, Any], show: dict[str, Any], guest: str) -> None:
        self.api, self.account, self.show, self.guest = api, account, show, guest

    def claims(self) -> dict[str, Any]:
        """Of the host's own access token."""
        claims: dict[str, Any] = jwt.decode(self.account["accessToken"], options={"verify_signature": False})
        return claims

    async def mailed(self, page: str) -> str:
        if page == "reset-password":
            await self.api.call(
                "POST", "/api/auth/password-reset/request", json={"email": self.account["user"]["email"]}
            )
        return self.api.mailbox.last_token(self.account["user"]["email"], page)


@pytest.fixture
async def scene(api: Api) -> Scene:
    account = await api.account("host")
    show = await api.broadcast(account["accessToken"], live=True, visibility="private")
    accepted = await api.call(
        "POST", f"/api/broadcasts/{show['id']}/invite/accept", json={"invite": show["invite"], "name": "Gus"}
    )
    return Scene(api, account, show, (await accepted.get_json())["token"])


def signed(claims: dict[str, Any], key: str = ACCESS_KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def unsigned(claims: dict[str, Any]) -> str:
    header, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "none", "typ": "JWT"}, claims)
    )
    return f"{header}.{body}."


async def guest(scene: Scene) -> str:
    return scene.guest


async def guest_called_access(scene: Scene) -> str:
    """A guest's claims under another type, made with a key that is not ours."""
    return signed({**scene.claims(), "sub": "guest-1"}, "some other key " * 4)


async def refresh(scene: Scene) -> str:
    return str(scene.account["refreshToken"])


async def stream_key(scene: Scene) -> str:
    return str(scene.show["streamKey"])


async def invite(scene: Scene) -> str:
    return str(scene.show["invite"])


async def verify_link(scene: Scene) -> str:
    return await scene.mailed("verify-email")


async def reset_link(scene: Scene) -> str:
    return await scene.mailed("reset-password")


async def signed_by_the_refresh_key(scene: Scene) -> str:
    return signed(scene.claims(), REFRESH_KEY)


async def signed_by_nobody(scene: Scene) -> str:
    return unsigned(scene.claims())


async def other_algorithm(scene: Scene) -> str:
    return signed(scene.claims(), algorithm="HS384")


async def expired(scene: Scene) -> str:
    return signed({**scene.claims(), "exp": int((datetime.now(UTC) - timedelta(seconds=5)).timestamp())})


async def of_another_sign_in(scene: Scene) -> str:
    return signed({**scene.claims(), "sid": "no-such-sign-in"})


async def of_somebody_elses_sign_in(scene: Scene) -> str:
    other = await scene.api.account("other")
    theirs = jwt.decode(other["accessToken"], options={"verify_signature": False})
    return signed({**scene.claims(), "sid": theirs["sid"]})


KINDS: list[Callable[[Scene], Awaitable[str]]] = [
    *(guest, guest_called_access, refresh, stream_key, invite, verify_link, reset_link),
    *(signed_by_the_refresh_key, signed_by_nobody, other_algorithm, expired),
    *(of_another_sign_in, of_somebody_elses_sign_in),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_it_is_no_account(scene: Scene, kind: Callable[[Scene], Awaitable[str]]) -> None:
    token, api = await kind(scene), scene.api
    tried = 0
    for route, view in routes(api).items():
        if getattr(view, ACCESS_ATTRIBUTE, Access.ANYONE) is not Access.ACCOUNT:
            continue
        method, _, rule = route.partition(" ")
        path = re.sub(r"<[^>]*>", "someone", rule.replace("<broadcast_id>", scene.show["id"]))
        body = {"json": BODIES.get(route, {})} if method in ("POST", "PUT", "PATCH") else {}
        response = await api.call(method, path, token, **body)
        assert response.status_code in (401, 403), (route, response.status_code)
        tried += 1
    assert tried > 25
    # And it swaps for nothing, but for a refresh token, which is for that.
    if kind is not refresh:
        await problem_of(await api.call("POST", "/api/auth/refresh", json={"refreshToken": token}), 401)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_it_opens_only_the_way_that_it_is_for(scene: Scene, kind: Callable[[Scene], Awaitable[str]]) -> None:
    """Of a private show: to hear it, to speak in it, to be in its room."""
    token, api, show_id = await kind(scene), scene.api, scene.show["id"]
    ways = {
        "whip": await api.call("POST", f"/whip/{show_id}", token, headers=SDP, data=offer("sendonly")),
        "whep": await api.call("POST", f"/whep/{show_id}", token, headers=SDP, data=offer("recvonly")),
        "read": await api.call("GET", f"/api/broadcasts/{show_id}", token),
        **{
            direction: await api.call(
                "POST", f"/api/mediasoup/{show_id}/transports", token, json={"direction": direction}
            )
            for direction in ("send", "recv")
        },
    }
    opened = {way for way, response in ways.items() if response.status_code < 300}
    for way, response in ways.items():
        assert response.status_code in (200, 201, 401, 403, 404), way
    async with api.app.test_client().websocket("/ws") as socket:
        await socket.send_json({"event": "join", "ack": 1, "data": {"broadcastId": show_id, "token": token}})
        if (await socket.receive_json())["event"] == "joined":
            opened.add("room")
    expected = {"guest": {"whep", "read", "recv", "room"}, "stream_key": {"whip"}}
    assert opened == expected.get(kind.__name__, set())


@pytest.mark.parametrize("kind", [verify_link, reset_link, refresh, invite], ids=lambda kind: kind.__name__)
async def test_a_link_is_for_one_thing(scene: Scene, kind: Callable[[Scene], Awaitable[str]]) -> None:
    token, api = await kind(scene), scene.api
    if kind is not verify_link:
        await problem_of(await api.call("POST", "/api/auth/verify-email", json={"token": token}), 403)
    if kind is not reset_link:
        body = {"token": token, "password": PASSWORD}
        await problem_of(await api.call("POST", "/api/auth/password-reset/confirm", json=body), 403)
    setup = {"token": token, "email": "x@example.org", "password": PASSWORD, "displayName": "X"}
    await problem_of(await api.call("POST", "/api/auth/setup", json=setup), 403)
    if kind is not invite:
        path = f"/api/broadcasts/{scene.show['id']}/invite/accept"
        await problem_of(await api.call("POST", path, json={"invite": token[:128]}), 404, "invite_invalid")
