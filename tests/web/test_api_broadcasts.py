from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import orm

from lac.broadcasts.model import Role
from lac.ids import new_id
from lac.rooms import store as room_store
from lac.rooms.values import Chat, Person
from tests.web.conftest import Api, problem_of

KEYS = {
    "id",
    "title",
    "description",
    "status",
    "visibility",
    "tags",
    "scheduledAt",
    "startedAt",
    "endedAt",
    "recordingEnabled",
    "rewindEnabled",
    "host",
    "listenerCount",
    "createdAt",
    "updatedAt",
    "yourRole",
}


async def get(api: Api, broadcast_id: str, token: str | None = None) -> dict[str, Any]:
    response = await api.call("GET", f"/api/broadcasts/{broadcast_id}", token)
    assert response.status_code == 200
    return await response.get_json()


async def test_create_answers_the_whole_broadcast(api: Api) -> None:
    account = await api.account("ann")
    body = {
        "title": "Morning",
        "description": "News",
        "scheduledAt": "2030-05-01T08:00:00+02:00",
        "visibility": "unlisted",
        "tags": ["news", "radio"],
        "recordingEnabled": True,
        "rewindEnabled": True,
    }
    response = await api.call("POST", "/api/broadcasts", account["accessToken"], json=body)
    assert response.status_code == 201
    broadcast = await response.get_json()
    assert response.headers["Location"] == f"/api/broadcasts/{broadcast['id']}"
    assert broadcast.keys() == KEYS | {"streamKey"}
    assert broadcast["scheduledAt"] == "2030-05-01T06:00:00Z"
    assert broadcast["status"] == "scheduled"
    assert broadcast["tags"] == ["news", "radio"]
    assert broadcast["recordingEnabled"] is True
    assert broadcast["rewindEnabled"] is True
    assert broadcast["host"] == {"id": account["user"]["id"], "displayName": "Ann"}
    assert broadcast["yourRole"] == "host"
    assert broadcast["listenerCount"] == 0
    assert await get(api, broadcast["id"], account["accessToken"]) == broadcast


async def test_create_needs_an_account(api: Api) -> None:
    await problem_of(await api.call("POST", "/api/broadcasts", json={"title": "x"}), 401)
    broadcast = await api.broadcast(await api.token())
    guest = api.services.auth.issue_guest(broadcast["id"], "guest1", "Guest")
    await problem_of(await api.call("POST", "/api/broadcasts", guest, json={"title": "x"}), 403, "account_needed")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"title": 5}, "title"),
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"visibility": "secret"}, "visibility"),
        ({"tags": "news"}, "tags"),
        ({"tags": ["ok", 5]}, "tags[1]"),
        ({"scheduledAt": "tomorrow"}, "scheduledAt"),
        ({"scheduledAt": "2030-05-01T08:00:00"}, "scheduledAt"),
        ({"recordingEnabled": "yes"}, "recordingEnabled"),
        ({"tittle": "x"}, "tittle"),
    ],
)
async def test_create_names_the_field_that_is_wrong(api: Api, fields: dict[str, Any], wrong: str) -> None:
    response = await api.call("POST", "/api/broadcasts", await api.token(), json={"title": "A show", **fields})
    problem = await problem_of(response, 422, "invalid_input")
    assert [error["field"] for error in problem["errors"]] == [wrong]


async def test_your_role_and_stream_key_are_for_those_they_concern(api: Api) -> None:
    ann, bob = await api.token("ann"), await api.account("bob")
    broadcast = await api.broadcast(ann)
    anonymous = await get(api, broadcast["id"])
    assert anonymous["yourRole"] is None
    assert "streamKey" not in anonymous
    listener = await get(api, broadcast["id"], bob["accessToken"])
    assert listener["yourRole"] == "listener"
    assert "streamKey" not in listener
    host = await api.services.auth.identify(ann)
    await api.services.broadcasts.set_role(host, broadcast["id"], bob["user"]["id"], Role.COHOST)
    cohost = await get(api, broadcast["id"], bob["accessToken"])
    assert cohost["yourRole"] == "cohost"
    assert cohost["streamKey"] == broadcast["streamKey"]


async def test_unknown_and_invisible_broadcasts_look_the_same(api: Api) -> None:
    private = await api.broadcast(await api.token(), visibility="private")
    for token in (None, await api.token("bob")):
        hidden = await problem_of(await api.call("GET", f"/api/broadcasts/{private['id']}", token), 404)
        unknown = await problem_of(await api.call("GET", "/api/broadcasts/nothing", token), 404)
        assert hidden == unknown


async def test_list_pages_filters_and_keeps_stream_keys_to_itself(api: Api) -> None:
    token = await api.token("ann")
    ids = {(await api.broadcast(token, title=f"Show {n}"))["id"] for n in range(5)}
    await api.broadcast(await api.token("bob"), title="Other", live=True)
    await api.broadcast(token, title="Show hidden", visibility="private")

    seen: list[str] = []
    path = "/api/broadcasts?limit=2&status=scheduled&q=show"
    cursor = ""
    while True:
        page = await (await api.call("GET", path + cursor)).get_json()
        assert page.keys() == {"items", "nextCursor"}
        seen += [item["id"] for item in page["items"]]
        assert all("streamKey" not in item and item.keys() == KEYS for item in page["items"])
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert len(seen) == 5
    assert set(seen) == ids

    live = await (await api.call("GET", "/api/broadcasts?status=live", token)).get_json()
    assert [(item["title"], item["yourRole"]) for item in live["items"]] == [("Other", "listener")]
    host_id = live["items"][0]["host"]["id"]
    of_host = await (await api.call("GET", f"/api/broadcasts?hostId={host_id}")).get_json()
    assert len(of_host["items"]) == 1


async def test_a_cursor_of_ones_own_making_is_refused(api: Api) -> None:
    await problem_of(await api.call("GET", "/api/broadcasts?cursor=abc"), 422, "invalid_cursor")


async def test_patch_changes_what_is_given(api: Api) -> None:
    token = await api.token()
    broadcast = await api.broadcast(token, scheduledAt="2030-05-01T06:00:00Z")
    path = f"/api/broadcasts/{broadcast['id']}"
    response = await api.call("PATCH", path, token, json={"title": "Evening", "scheduledAt": None, "tags": ["a"]})
    assert response.status_code == 200
    changed = await response.get_json()
    differences = {key for key in changed if changed[key] != broadcast[key]}
    assert differences - {"updatedAt"} == {"title", "scheduledAt", "tags"}
    assert changed["scheduledAt"] is None


async def test_patch_by_somebody_else(api: Api) -> None:
    broadcast = await api.broadcast(await api.token())
    path = f"/api/broadcasts/{broadcast['id']}"
    await problem_of(await api.call("PATCH", path, json={"title": "x"}), 401)
    await problem_of(await api.call("PATCH", path, await api.token("bob"), json={"title": "x"}), 403, "forbidden")
    await problem_of(await api.call("PATCH", "/api/broadcasts/nope", await api.token("eve"), json={}), 404)


async def test_start_and_end(api: Api) -> None:
    token = await api.token()
    broadcast = await api.broadcast(token)
    path = f"/api/broadcasts/{broadcast['id']}"
    await problem_of(await api.call("POST", f"{path}/end", token), 409, "not_live")
    for _ in range(2):
        response = await api.call("POST", f"{path}/start", token)
        assert response.status_code == 200
        started = await response.get_json()
        assert started["status"] == "live"
        assert started["startedAt"] is not None
    for _ in range(2):
        response = await api.call("POST", f"{path}/end", token)
        assert response.status_code == 200
        assert (await response.get_json())["status"] == "ended"
    await problem_of(await api.call("POST", f"{path}/start", token), 409, "already_ended")


@pytest.mark.parametrize("action", ["start", "end"])
async def test_only_who_runs_a_show_starts_and_ends_it(api: Api, action: str) -> None:
    broadcast = await api.broadcast(await api.token(), live=action == "end")
    path = f"/api/broadcasts/{broadcast['id']}/{action}"
    await problem_of(await api.call("POST", path), 401)
    await problem_of(await api.call("POST", path, await api.token("bob")), 403)
    await problem_of(await api.call("POST", f"/api/broadcasts/nope/{action}", await api.token("eve")), 404)


async def test_start_while_shutting_down_says_when_to_come_back(api: Api) -> None:
    token = await api.token()
    broadcast = await api.broadcast(token)
    await api.services.on_air.drain()
    response = await api.call("POST", f"/api/broadcasts/{broadcast['id']}/start", token)
    await problem_of(response, 503)
    assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("live", [False, True])
async def test_delete(api: Api, live: bool) -> None:
    token = await api.token()
    broadcast = await api.broadcast(token, live=live)
    path = f"/api/broadcasts/{broadcast['id']}"
    await problem_of(await api.call("DELETE", path, await api.token("bob")), 403)
    response = await api.call("DELETE", path, token)
    assert response.status_code == 204
    assert await response.get_data() == b""
    await problem_of(await api.call("GET", path, token), 404)
    await problem_of(await api.call("DELETE", path, token), 404)


async def test_messages_newest_first_page_by_page(api: Api) -> None:
    broadcast = await api.broadcast(await api.token())
    at = datetime(2030, 1, 1, tzinfo=UTC)
    person = Person(id="guest1", display_name="Guest", role=Role.LISTENER, anonymous=True)

    def add(session: orm.Session) -> None:
        for n in range(5):
            chat = Chat(id=new_id(), user=person, text=f"m{n}", media_time=float(n), at=at + timedelta(seconds=n))
            room_store.add_message(session, broadcast["id"], chat, user_id=None)

    await api.services.db.run(add)
    path = f"/api/broadcasts/{broadcast['id']}/messages"
    page = await (await api.call("GET", f"{path}?limit=3")).get_json()
    assert [item["text"] for item in page["items"]] == ["m4", "m3", "m2"]
    assert page["items"][0]["user"]["displayName"] == "Guest"
    assert page["items"][0]["mediaTime"] == 4.0
    page = await (await api.call("GET", f"{path}?limit=3&cursor={page['nextCursor']}")).get_json()
    assert [item["text"] for item in page["items"]] == ["m1", "m0"]
    assert page["nextCursor"] is None
    await problem_of(await api.call("GET", f"{path}?limit=1000"), 422)
    await problem_of(await api.call("GET", f"{path}?cursor=bad"), 422, "invalid_cursor")


async def test_messages_of_what_one_may_not_see(api: Api) -> None:
    private = await api.broadcast(await api.token(), visibility="private")
    await problem_of(await api.call("GET", f"/api/broadcasts/{private['id']}/messages"), 404)


async def test_an_expired_token_is_not_treated_as_none(api: Api) -> None:
    account = await api.account()
    api.clock.advance(account["expiresIn"] + 120)
    await problem_of(await api.call("GET", "/api/broadcasts", account["accessToken"]), 401, "token_expired")


async def test_an_invite_link_opens_a_private_show_to_accounts_and_guests(api: Api) -> None:
    host, friend = await api.token(), await api.token("bob")
    private = await api.broadcast(host, live=True, visibility="private")
    path = f"/api/broadcasts/{private['id']}"
    assert "invite" not in await (await api.call("GET", "/api/broadcasts", host)).get_json()
    wrong = await api.call("POST", f"{path}/invite/accept", friend, json={"invite": "nonsense"})
    await problem_of(wrong, 404, "invite_invalid")
    accepted = await api.call("POST", f"{path}/invite/accept", friend, json={"invite": private["invite"]})
    assert await accepted.get_json() == {"broadcastId": private["id"], "token": None}
    seen = await (await api.call("GET", path, friend)).get_json()
    assert seen["yourRole"] == "listener"
    assert "invite" not in seen
    accepted = await api.call("POST", f"{path}/invite/accept", json={"invite": private["invite"], "name": "Gus"})
    guest = (await accepted.get_json())["token"]
    assert (await api.call("GET", path, guest)).status_code == 200
    transports = f"/api/mediasoup/{private['id']}/transports"
    assert (await api.call("POST", transports, guest, json={"direction": "recv"})).status_code == 201
    await problem_of(await api.call("POST", f"{path}/invite", friend), 403, "forbidden")
    renewed = await (await api.call("POST", f"{path}/invite", host)).get_json()
    assert renewed["invite"] != private["invite"]
    for token in (friend, guest):
        await problem_of(await api.call("GET", path, token), 404)


async def test_only_private_shows_have_an_invite_link(api: Api) -> None:
    host = await api.token()
    assert "invite" not in await api.broadcast(host)
    assert "invite" not in await api.broadcast(host, visibility="unlisted")


async def test_a_renewed_stream_key_replaces_the_old_one(api: Api) -> None:
    host = await api.token()
    show = await api.broadcast(host)
    renewed = await (await api.call("POST", f"/api/broadcasts/{show['id']}/stream-key", host)).get_json()
    assert renewed["streamKey"] != show["streamKey"]
    headers = {"Content-Type": "application/sdp"}
    old = await api.call("POST", f"/whip/{show['id']}", show["streamKey"], headers=headers, data="v=0")
    await problem_of(old, 401, "token_invalid")
