"""ETag and If-Match, Idempotency-Key, request ids, HSTS."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import trio

from lac_web.logging import configure_logging
from tests.web.conftest import Api, problem_of

# --- ETag and If-Match ------------------------------------------------------------------------------------------------


async def test_two_people_who_edit_do_not_overwrite_each_other(api: Api) -> None:
    token = await api.token()
    path = f"/api/broadcasts/{(await api.broadcast(token))['id']}"
    seen = (await api.call("GET", path)).headers["ETag"]
    response = await api.call("PATCH", path, token, json={"title": "Hers"}, headers={"If-Match": seen})
    assert response.status_code == 200
    newer = response.headers["ETag"]
    assert newer != seen
    stale = await api.call("PATCH", path, token, json={"title": "His"}, headers={"If-Match": seen})
    await problem_of(stale, 412, "precondition_failed")
    current = await api.call("GET", path)
    assert current.headers["ETag"] == newer
    assert (await current.get_json())["title"] == "Hers"


@pytest.mark.parametrize(
    ("if_match", "status"), [("*", 200), ('"nonsense"', 412), ("W/{seen}", 412), ('"other", {seen}', 200), ("", 412)]
)
async def test_if_match_is_compared_as_http_says(api: Api, if_match: str, status: int) -> None:
    token = await api.token()
    path = f"/api/broadcasts/{(await api.broadcast(token))['id']}"
    seen = (await api.call("GET", path)).headers["ETag"]
    headers = {"If-Match": if_match.format(seen=seen)}
    assert (await api.call("PATCH", path, token, json={"title": "New"}, headers=headers)).status_code == status


async def test_the_tag_names_what_was_decided_not_who_asks(api: Api) -> None:
    token = await api.token()
    broadcast = await api.broadcast(token)
    path = f"/api/broadcasts/{broadcast['id']}"
    tags = {(await api.call("GET", path, who)).headers["ETag"] for who in (None, token, await api.token("bob"))}
    assert len(tags) == 1
    started = await api.call("POST", f"{path}/start", token)
    assert started.headers["ETag"] not in tags


async def test_of_many_edits_of_the_same_state_one_wins(api: Api) -> None:
    token = await api.token()
    path = f"/api/broadcasts/{(await api.broadcast(token))['id']}"
    seen = (await api.call("GET", path)).headers["ETag"]
    statuses: list[int] = []

    async def edit(number: int) -> None:
        headers = {"If-Match": seen}
        response = await api.call("PATCH", path, token, json={"title": f"Number {number}"}, headers=headers)
        statuses.append(response.status_code)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(edit, number)
    assert sorted(statuses) == [200] + [412] * 5


# --- Idempotency-Key --------------------------------------------------------------------------------------------------


async def create(api: Api, token: str, key: str, **body: Any) -> Any:
    headers = {"Idempotency-Key": key}
    return await api.call("POST", "/api/broadcasts", token, json={"title": "Once", **body}, headers=headers)


async def test_a_request_that_is_repeated_makes_one_show(api: Api) -> None:
    token = await api.token()
    answers = [await create(api, token, "a key") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    bodies = [await answer.get_json() for answer in answers]
    assert len({body["id"] for body in bodies}) == 1
    assert all(body["streamKey"] for body in bodies), "the answer is whole each time"
    assert len({answer.headers["Location"] for answer in answers}) == 1
    # The same key is somebody else's own, and another key another show.
    assert (await (await create(api, await api.token("bob"), "a key")).get_json())["id"] != bodies[0]["id"]
    assert (await (await create(api, token, "another")).get_json())["id"] != bodies[0]["id"]


async def test_repeating_at_the_same_time_makes_one_show(api: Api) -> None:
    token = await api.token()
    ids, statuses = set(), []

    async def send() -> None:
        response = await create(api, token, "a key")
        statuses.append(response.status_code)
        if response.status_code == 201:
            ids.add((await response.get_json())["id"])

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(send)
    assert len(ids) == 1
    assert set(statuses) <= {201, 409}


async def test_another_request_under_the_same_key_is_refused(api: Api) -> None:
    token = await api.token()
    await create(api, token, "a key")
    await problem_of(await create(api, token, "a key", title="Twice"), 422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9"])
async def test_what_cannot_be_a_key_is_refused(api: Api, key: str) -> None:
    await problem_of(await create(api, await api.token(), key), 422, "invalid_input")


async def test_what_was_made_and_is_gone_is_not_made_again(api: Api) -> None:
    token = await api.token()
    made = await (await create(api, token, "a key")).get_json()
    assert (await api.call("DELETE", f"/api/broadcasts/{made['id']}", token)).status_code == 204
    await problem_of(await create(api, token, "a key"), 404, "not_found")


# --- request ids and logs ---------------------------------------------------------------------------------------------


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    before = structlog.get_config()
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


async def test_every_answer_has_an_id_of_its_own(api: Api) -> None:
    paths = ("/health", "/api/broadcasts", "/api/nothing", "/api/broadcasts/nonsense", "/")
    answers = [await api.call("GET", path) for path in paths]
    ids = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(ids) == len(paths)


@pytest.mark.parametrize(
    ("client", "presented", "kept"),
    [
        ("127.0.0.1", "proxy-id-12345", True),
        ("203.0.113.5", "proxy-id-12345", False),
        ("127.0.0.1", "short", False),
        ("127.0.0.1", 'x"}{"event":"forged', False),
    ],
)
async def test_a_trusted_proxy_may_name_the_request(api: Api, client: str, presented: str, kept: bool) -> None:
    response = await api.call("GET", "/health", headers={"X-Request-Id": presented}, scope_base={"client": (client, 1)})
    assert (response.headers["X-Request-Id"] == presented) is kept


async def test_an_error_of_ours_is_logged_with_its_ids_and_no_secret(
    api: Api, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await api.token()
    broadcast = await api.broadcast(token)

    async def fail(*_args: object) -> None:
        raise RuntimeError(f"a mistake with {token}")

    monkeypatch.setattr(api.services.broadcasts, "get", fail)
    response = await api.call("GET", f"/api/broadcasts/{broadcast['id']}", token)
    await problem_of(response, 500, "internal_error")
    (line,) = [json.loads(line) for line in written.getvalue().splitlines()]
    assert line["event"] == "a handler failed"
    assert line["request_id"] == response.headers["X-Request-Id"]
    assert line["broadcast_id"] == broadcast["id"]
    assert token not in written.getvalue()
    assert "RuntimeError" in line["exception"]


async def test_what_outlives_a_request_does_not_carry_its_id(api: Api, written: io.StringIO) -> None:
    """A show that ends later is logged as itself."""
    token = await api.token()
    broadcast = await api.broadcast(token, live=True)
    await api.call("POST", f"/api/broadcasts/{broadcast['id']}/end", token)
    for line in written.getvalue().splitlines():
        entry = json.loads(line)
        if entry["logger"].startswith("lac.broadcasts"):
            assert "request_id" not in entry


# --- HSTS -------------------------------------------------------------------------------------------------------------


async def test_hsts_is_sent_behind_tls_only(api: Api) -> None:
    async def header(client: str, **headers: str) -> str | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await api.call("GET", "/", headers=named, scope_base={"client": (client, 1)})
        return response.headers.get("Strict-Transport-Security")

    assert await header("127.0.0.1", X_Forwarded_Proto="https") == "max-age=31536000"
    assert await header("127.0.0.1") is None
    assert await header("127.0.0.1", X_Forwarded_Proto="http") is None
    assert await header("203.0.113.5", X_Forwarded_Proto="https") is None
