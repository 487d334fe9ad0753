"""Roles, bans, figures and the audit log through the API, and people who follow people."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lac.broadcasts.model import Role
from lac.clock import utc_now
from lac.identity import Identity, IdentityKind
from lac.rooms.commands import ChatMessage, Mute
from lac.rooms.events import CloseCode
from lac_media.parameters import Direction
from tests.fakes.air import FakeSocket
from tests.web.conftest import PASSWORD, Api, problem_of


def identity_of(account: dict[str, Any]) -> Identity:
    return Identity(IdentityKind.USER, account["user"]["id"], account["user"]["displayName"])


async def enter(api: Api, account: dict[str, Any] | None, show_id: str) -> FakeSocket:
    socket = FakeSocket()
    identity = None if account is None else identity_of(account)
    socket.member = await api.services.on_air.join(identity, show_id, None, socket)
    return socket


async def test_a_role_is_given_and_taken_on_a_live_show(api: Api) -> None:
    host, ann = await api.account("host"), await api.account("ann")
    show = await api.broadcast(host["accessToken"], live=True)
    path = f"/api/broadcasts/{show['id']}/roles/{ann['user']['id']}"
    socket = await enter(api, ann, show["id"])
    assert (await api.call("PUT", path, host["accessToken"], json={"role": "speaker"})).status_code == 204
    session = await api.services.on_air.media.open_session(identity_of(ann), show["id"], Direction.SEND, "mediasoup")
    assert (await api.call("DELETE", path, host["accessToken"])).status_code == 204
    assert api.services.engine.session(session.id) is None
    assert [change["user"]["role"] for change in socket.data("roleChanged")] == ["speaker", "listener"]
    await problem_of(await api.call("PUT", path, host["accessToken"], json={"role": "host"}), 422)
    own = f"/api/broadcasts/{show['id']}/roles/{host['user']['id']}"
    await problem_of(await api.call("PUT", own, host["accessToken"], json={"role": "speaker"}), 409, "is_host")


async def test_a_ban_through_the_api_and_its_end(api: Api) -> None:
    host, ann = await api.account("host"), await api.account("ann")
    token = host["accessToken"]
    show = await api.broadcast(token, live=True)
    path = f"/api/broadcasts/{show['id']}/bans/{ann['user']['id']}"
    socket = await enter(api, ann, show["id"])
    until = (utc_now() + timedelta(hours=1)).isoformat()
    response = await api.call("POST", path, token, json={"reason": "spam", "until": until})
    assert response.status_code == 201
    ban = await response.get_json()
    assert (ban["userId"], ban["displayName"], ban["reason"]) == (ann["user"]["id"], "Ann", "spam")
    assert socket.code == CloseCode.REMOVED
    media = f"/api/mediasoup/{show['id']}/transports"
    await problem_of(await api.call("POST", media, ann["accessToken"], json={"direction": "recv"}), 403, "removed")
    assert (await (await api.call("GET", path.rpartition("/")[0], token)).get_json())["items"] == [ban]
    past = {"until": (utc_now() - timedelta(hours=1)).isoformat()}
    await problem_of(await api.call("POST", path, token, json=past), 422)
    assert (await api.call("DELETE", path, token)).status_code == 204
    assert (await api.call("DELETE", path, token)).status_code == 204
    await enter(api, ann, show["id"])
    lines = await (await api.call("GET", f"/api/broadcasts/{show['id']}/audit", token)).get_json()
    assert [line["action"] for line in lines["items"]] == ["room.ban_lifted", "room.banned"]
    assert lines["items"][1]["detail"]["reason"] == "spam"


async def test_a_deleted_account_is_out_of_the_room_at_once(api: Api) -> None:
    host, ann = await api.account("host"), await api.account("ann")
    show = await api.broadcast(host["accessToken"], live=True)
    socket = await enter(api, ann, show["id"])
    session = await api.services.on_air.media.open_session(identity_of(ann), show["id"], Direction.RECV, "mediasoup")
    response = await api.call("DELETE", "/api/auth/me", ann["accessToken"], json={"password": PASSWORD})
    assert response.status_code == 204
    assert socket.code == CloseCode.NOT_SIGNED_IN
    assert api.services.engine.session(session.id) is None


async def test_hosts_see_sessions_figures_and_the_audit_page_by_page(api: Api) -> None:
    host, mod = await api.account("host"), await api.account("mod")
    token = host["accessToken"]
    show = await api.broadcast(token, live=True)
    base = f"/api/broadcasts/{show['id']}"
    on_air = api.services.on_air
    await on_air.rights.set_role(identity_of(host), show["id"], mod["user"]["id"], Role.MODERATOR)
    socket = await enter(api, mod, show["id"])
    await socket.do(ChatMessage("hello"))
    await socket.do(Mute(mod["user"]["id"]))
    for _ in range(3):
        await on_air.media.open_session(None, show["id"], Direction.RECV, "whep")
    stats = await (await api.call("GET", f"{base}/stats", mod["accessToken"])).get_json()
    assert (stats["sockets"], stats["messages"], stats["listeners"]) == (1, 1, 0)
    assert (await api.call("POST", f"{base}/end", token)).status_code == 200  # what waited is written by now
    for path, total in (("sessions", 3), ("audit", 2)):
        seen: list[str] = []
        query = ""
        while True:
            page = await (await api.call("GET", f"{base}/{path}?limit=1{query}", token)).get_json()
            seen += [item["id"] for item in page["items"]]
            if page["nextCursor"] is None:
                break
            query = f"&cursor={page['nextCursor']}"
        assert len(set(seen)) == len(seen) == total
    first = await (await api.call("GET", f"{base}/sessions?limit=1", token)).get_json()
    foreign = f"{base}/audit?cursor={first['nextCursor']}"
    await problem_of(await api.call("GET", foreign, token), 422, "invalid_cursor")


async def test_people_follow_people(api: Api) -> None:
    ann, bob, cy = [await api.account(name) for name in ("ann", "bob", "cy")]
    followed = f"/api/users/{ann['user']['id']}"
    for follower in (bob, cy, bob):
        assert (await api.call("PUT", f"{followed}/follow", follower["accessToken"])).status_code == 204
    profile = await (await api.call("GET", followed, bob["accessToken"])).get_json()
    assert (profile["displayName"], profile["followers"], profile["followed"]) == ("Ann", 2, True)
    assert "email" not in profile
    page = await (await api.call("GET", f"{followed}/followers?limit=1")).get_json()
    rest = await (await api.call("GET", f"{followed}/followers?limit=1&cursor={page['nextCursor']}")).get_json()
    assert [person["displayName"] for person in page["items"] + rest["items"]] == ["Cy", "Bob"]
    following = await (await api.call("GET", f"/api/users/{bob['user']['id']}/following")).get_json()
    assert [person["displayName"] for person in following["items"]] == ["Ann"]
    assert (await api.call("DELETE", f"{followed}/follow", bob["accessToken"])).status_code == 204
    profile = await (await api.call("GET", followed, bob["accessToken"])).get_json()
    assert (profile["followers"], profile["followed"]) == (1, False)
    await problem_of(await api.call("PUT", f"{followed}/follow", ann["accessToken"]), 422, "not_yourself")
    await problem_of(await api.call("PUT", "/api/users/nobody/follow", ann["accessToken"]), 404)
    await problem_of(await api.call("GET", "/api/users/nobody/followers"), 404)


async def test_a_reminder_is_for_shows_that_have_not_started(api: Api) -> None:
    host, ann = await api.token("host"), await api.token("ann")
    show = await api.broadcast(host)
    path = f"/api/broadcasts/{show['id']}/reminder"
    for method in ("POST", "POST", "DELETE", "DELETE"):
        assert (await api.call(method, path, ann)).status_code == 204
    assert (await api.call("POST", f"/api/broadcasts/{show['id']}/start", host)).status_code == 200
    await problem_of(await api.call("POST", path, ann), 409, "already_started")
