"""A token in the wrong hands: worth nothing, on every way in, from the moment its owner or a moderator says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from quart.testing.connections import WebsocketDisconnectError

from lac_media.parameters import Direction
from lac_media.rooms.session import Session
from tests.web.conftest import PASSWORD, Api, problem_of
from tests.web.test_whip_whep import offer

Act = Callable[[Api, dict[str, Any], dict[str, Any], str], Awaitable[None]]
SDP = {"Content-Type": "application/sdp"}


async def sign_out_everywhere(api: Api, thief: dict[str, Any], show: dict[str, Any], host: str) -> None:
    assert (await api.call("POST", "/api/auth/logout-all", thief["accessToken"])).status_code == 204


async def sign_out(api: Api, thief: dict[str, Any], show: dict[str, Any], host: str) -> None:
    body = {"refreshToken": thief["refreshToken"]}
    assert (await api.call("POST", "/api/auth/logout", json=body)).status_code == 204


async def change_password(api: Api, thief: dict[str, Any], show: dict[str, Any], host: str) -> None:
    """By its owner, on another device."""
    owner = await api.call("POST", "/api/auth/login", json={"email": thief["user"]["email"], "password": PASSWORD})
    token = (await owner.get_json())["accessToken"]
    body = {"currentPassword": PASSWORD, "newPassword": "another good password"}
    assert (await api.call("POST", "/api/auth/password", token, json=body)).status_code == 204


async def delete_account(api: Api, thief: dict[str, Any], show: dict[str, Any], host: str) -> None:
    body = {"password": PASSWORD}
    assert (await api.call("DELETE", "/api/auth/me", thief["accessToken"], json=body)).status_code == 204


async def refresh_twice(api: Api, thief: dict[str, Any], show: dict[str, Any], host: str) -> None:
    """Owner and thief both refresh: the whole family ends."""
    body = {"refreshToken": thief["refreshToken"]}
    first = await (await api.call("POST", "/api/auth/refresh", json=body)).get_json()
    await api.call("POST", "/api/auth/refresh", json={"refreshToken": first["refreshToken"]})
    await problem_of(await api.call("POST", "/api/auth/refresh", json=body), 401, "refresh_reused")


async def ban(api: Api, thief: dict[str, Any], show: dict[str, Any], host: str) -> None:
    path = f"/api/broadcasts/{show['id']}/bans/{thief['user']['id']}"
    assert (await api.call("POST", path, host, json={})).status_code == 201


async def demote(api: Api, thief: dict[str, Any], show: dict[str, Any], host: str) -> None:
    path = f"/api/broadcasts/{show['id']}/roles/{thief['user']['id']}"
    assert (await api.call("DELETE", path, host)).status_code == 204


WAYS_IN = ("mediasoup send", "mediasoup recv", "whip", "whep", "join")
ENDS: list[tuple[Act, set[str]]] = [
    (sign_out, {*WAYS_IN}),
    (sign_out_everywhere, {*WAYS_IN}),
    (change_password, {*WAYS_IN}),
    (delete_account, {*WAYS_IN}),
    (refresh_twice, {*WAYS_IN}),
    (ban, {*WAYS_IN}),
    (demote, {"mediasoup send", "whip"}),
]


def media_of(api: Api, show: dict[str, Any], account: dict[str, Any]) -> set[Session]:
    room = api.services.engine._rooms[show["id"]]
    return {session for session in room.sessions.values() if session.owner == account["user"]["id"]}


async def try_way(api: Api, way: str, show_id: str, token: str) -> int:
    """The answer's status; for the room's `join`, 200 or that of the error."""
    if way == "join":
        async with api.app.test_client().websocket("/ws") as socket:
            await socket.send_json({"event": "join", "ack": 1, "data": {"broadcastId": show_id, "token": token}})
            frame = await socket.receive_json()
            return 200 if frame["event"] == "joined" else 403
    if way in ("whip", "whep"):
        body = offer("sendonly" if way == "whip" else "recvonly")
        response = await api.call("POST", f"/{way}/{show_id}", token, headers=SDP, data=body)
    else:
        direction = {"direction": way.split()[1]}
        response = await api.call("POST", f"/api/mediasoup/{show_id}/transports", token, json=direction)
    return int(response.status_code)


@pytest.mark.parametrize(("end", "closed"), ENDS, ids=[act.__name__ for act, _ in ENDS])
async def test_a_stolen_token_opens_nothing_after(api: Api, end: Act, closed: set[str]) -> None:
    host, thief = await api.token(), await api.account("mal")
    show = await api.broadcast(host, live=True)
    role = await api.call(
        "PUT", f"/api/broadcasts/{show['id']}/roles/{thief['user']['id']}", host, json={"role": "cohost"}
    )
    assert role.status_code == 204
    token = thief["accessToken"]
    for way in WAYS_IN:
        assert await try_way(api, way, show["id"], token) in {200, 201}, way
    before = media_of(api, show, thief)
    async with api.app.test_client().websocket("/ws") as socket:
        await socket.send_json({"event": "join", "data": {"broadcastId": show["id"], "token": token}})
        assert (await socket.receive_json())["event"] == "joined"
        began_at = trio.current_time()
        await end(api, thief, show, host)
        after = media_of(api, show, thief)
        assert trio.current_time() - began_at < 2, "password hashes included"
        if "join" in closed:
            with pytest.raises(WebsocketDisconnectError), trio.fail_after(5):  # noqa: PT012
                while True:
                    await socket.receive()
    sends = {session for session in before if session.direction is Direction.SEND}
    assert before - after == (before if "join" in closed else sends), "what was open is cut off at once"
    for way in WAYS_IN:
        assert (await try_way(api, way, show["id"], token) in {401, 403}) == (way in closed), way
