"""Each limit reached once, and what may not be limited by it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac.config import Settings
from lac.limits import Limit, RateLimits
from lac_web.rate_limits import ALL_RULES, RULES, TokenBuckets
from tests.web.conftest import PASSWORD, Api, problem_of

# --- the core ---------------------------------------------------------------------------------------------------------


def test_a_burst_then_the_rate() -> None:
    buckets = TokenBuckets(Limit(burst=3, per_s=0.5))
    assert [buckets.take("a", now=100.0) for _ in range(4)] == [0, 0, 0, pytest.approx(2.0)]
    assert buckets.take("b", now=100.0) == 0
    assert buckets.take("a", now=101.0) == pytest.approx(1.0)
    assert buckets.take("a", now=102.0) == 0
    assert buckets.take("a", now=102.0) == pytest.approx(2.0)


def test_what_is_refused_costs_nothing() -> None:
    buckets = TokenBuckets(Limit(burst=1, per_s=1.0))
    buckets.take("a", now=0.0)
    for _ in range(1000):
        assert buckets.take("a", now=0.5) == pytest.approx(0.5)
    assert buckets.take("a", now=1.0) == 0


def test_a_token_can_be_given_back() -> None:
    buckets = TokenBuckets(Limit(burst=1, per_s=0.001))
    for _ in range(5):
        assert buckets.take("a", now=0.0) == 0
        buckets.give_back("a")
    buckets.give_back("nobody")
    assert len(buckets) <= 1


@given(
    st.integers(1, 20),
    st.floats(0.01, 50),
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from("abc")), max_size=200),
)
def test_nobody_gets_more_than_the_burst_and_the_rate(burst: int, per_s: float, steps: list[tuple[float, str]]) -> None:
    buckets = TokenBuckets(Limit(burst, per_s))
    now, taken = 1000.0, dict.fromkeys("abc", 0)
    for pause, key in steps:
        now += pause
        wait = buckets.take(key, now=now)
        assert wait >= 0
        taken[key] += wait == 0
        assert taken[key] <= burst + (now - 1000.0) * per_s + 1e-6


def test_memory_is_bounded_and_full_buckets_are_forgotten() -> None:
    buckets = TokenBuckets(Limit(burst=1, per_s=0.001), capacity=100)
    for number in range(1000):
        buckets.take(str(number), now=0.0)
    assert len(buckets) == 100
    assert buckets.take("999", now=0.0) > 0
    for number in range(60):
        buckets.take(f"later {number}", now=2000.0)
    assert len(buckets) <= 61


# --- the routes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two by address; by account one."""
    two, one = Limit(2, 0.001), Limit(1, 0.001)
    limits = {field.name: two if "address" in field.name else one for field in dataclasses.fields(RateLimits)}
    limits["register_by_address"] = Limit(3, 0.001)
    limits["join_by_address"] = Limit(4, 0.001)
    return dataclasses.replace(settings, rate_limits=RateLimits(**limits))


async def call_from(api: Api, address: str, method: str, path: str, token: str | None = None, **kwargs: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await api.app.test_client().open(
        path,
        method=method,
        headers={**headers, "X-Forwarded-For": address},
        scope_base={"client": ("127.0.0.1", 1)},
        **kwargs,
    )


async def refused(response: Any) -> None:
    await problem_of(response, 429, "too_many_requests")
    assert int(response.headers["Retry-After"]) >= 1


async def test_every_rule_names_a_route_and_its_limits(api: Api) -> None:
    assert RULES.keys() <= api.app.view_functions.keys()
    known = {field.name for field in dataclasses.fields(RateLimits)}
    named = {name for rule in ALL_RULES for name in (rule.by_address, rule.by_account, rule.by_both) if name}
    assert named == known


async def test_registering_is_limited_by_address_and_by_e_mail(api: Api) -> None:
    def body(email: str) -> dict[str, str]:
        return {"email": email, "password": PASSWORD, "displayName": "Ann"}

    async def register(address: str, email: str) -> Any:
        return await call_from(api, address, "POST", "/api/auth/register", json=body(email))

    assert (await register("192.0.2.1", "a@example.org")).status_code == 201
    await refused(await register("192.0.2.1", "A@example.org"))  # whether it is taken cannot be asked again and again
    assert (await register("192.0.2.1", "b@example.org")).status_code == 201
    await refused(await register("192.0.2.1", "c@example.org"))
    assert (await register("192.0.2.2", "c@example.org")).status_code == 201


async def test_wrong_passwords_are_limited_right_ones_are_not(api: Api) -> None:
    email = (await api.account())["user"]["email"]

    async def login(address: str, password: str) -> Any:
        return await call_from(api, address, "POST", "/api/auth/login", json={"email": email, "password": password})

    for number in range(4):
        assert (await login(f"192.0.2.{number}", PASSWORD)).status_code == 200
    await problem_of(await login("192.0.2.10", "wrong password"), 401, "invalid_credentials")
    await refused(await login("192.0.2.10", PASSWORD))
    await refused(await login("192.0.2.11", PASSWORD))  # by account, from wherever: here one


def test_a_stranger_cannot_keep_an_account_out() -> None:
    """With the real proportions: guesses from one address run out long before those for the account."""
    limits = RateLimits()
    assert limits.sign_in_by_both.burst < limits.sign_in_by_account.burst
    assert limits.sign_in_by_both.per_s < limits.sign_in_by_account.per_s / 5


async def test_a_stolen_access_token_does_not_help_to_guess_the_password(api: Api) -> None:
    token = await api.token()
    body = {"currentPassword": "wrong password", "newPassword": PASSWORD + "!"}
    response = await call_from(api, "192.0.2.1", "POST", "/api/auth/password", token, json=body)
    await problem_of(response, 403, "wrong_password")
    await refused(await call_from(api, "192.0.2.2", "POST", "/api/auth/password", token, json=body))
    await refused(await call_from(api, "192.0.2.3", "DELETE", "/api/auth/me", token, json={"password": "wrong"}))


async def test_signing_in_is_limited_by_address(api: Api) -> None:
    async def login(address: str, name: str) -> Any:
        body = {"email": f"{name}@example.org", "password": PASSWORD}
        return await call_from(api, address, "POST", "/api/auth/login", json=body)

    assert (await login("2001:db8::1", "a")).status_code == 401
    assert (await login("2001:db8::2", "b")).status_code == 401
    await refused(await login("2001:db8::3", "c"))
    assert (await login("2001:db8:0:1::1", "c")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/auth/refresh", {"refreshToken": "nonsense"}, 401),
        (
            "/api/auth/setup",
            {"token": "nonsense", "email": "a@example.org", "password": PASSWORD, "displayName": "A"},
            403,
        ),
        ("/api/auth/password-reset/request", {"email": "nobody@example.org"}, 202),
        ("/api/auth/password-reset/confirm", {"token": "nonsense", "password": PASSWORD}, 403),
        ("/api/auth/verify-email", {"token": "nonsense"}, 403),
    ],
)
async def test_refreshing_and_links_are_limited_by_address(
    api: Api, path: str, body: dict[str, str], status: int
) -> None:
    for _ in range(2):
        assert (await call_from(api, "192.0.2.1", "POST", path, json=body)).status_code == status
    await refused(await call_from(api, "192.0.2.1", "POST", path, json=body))
    assert (await call_from(api, "192.0.2.2", "POST", path, json=body)).status_code == status


async def test_media_sessions_are_limited_by_address_and_by_account(api: Api) -> None:
    token = await api.token()
    broadcast_id = (await api.broadcast(token, live=True))["id"]
    path = f"/api/mediasoup/{broadcast_id}/transports"

    async def listen(address: str, token: str | None = None) -> Any:
        return await call_from(api, address, "POST", path, token, json={"direction": "recv"})

    assert (await listen("192.0.2.1")).status_code == 201
    # WHEP and WHIP are ways to the same thing.
    whep = await call_from(api, "192.0.2.1", "POST", f"/whep/{broadcast_id}")
    assert whep.status_code == 415
    await refused(await listen("192.0.2.1"))
    await refused(await call_from(api, "192.0.2.1", "POST", f"/whip/{broadcast_id}"))
    assert (await call_from(api, "192.0.2.1", "OPTIONS", f"/whip/{broadcast_id}")).status_code == 204

    assert (await listen("192.0.2.2", token)).status_code == 201
    await refused(await listen("192.0.2.3", token))
    assert (await listen("192.0.2.4")).status_code == 201


async def test_what_is_not_expensive_is_not_limited(api: Api) -> None:
    for _ in range(20):
        assert (await call_from(api, "192.0.2.1", "GET", "/api/broadcasts")).status_code == 200


# --- the room ---------------------------------------------------------------------------------------------------------

COMMANDS: dict[str, dict[str, str]] = {"chatMessage": {"text": "hi"}, "reaction": {"emoji": "👏"}, "raiseHand": {}}


@asynccontextmanager
async def room_socket(api: Api, address: str, show: str, token: str | None = None) -> AsyncIterator[Any]:
    """A socket whose `join` was sent."""
    headers = {"X-Forwarded-For": address}
    client = api.app.test_client()
    async with client.websocket("/ws", headers=headers, scope_base={"client": ("127.0.0.1", 1)}) as socket:
        data = {"broadcastId": show} if token is None else {"broadcastId": show, "token": token}
        await socket.send_json({"event": "join", "ack": 0, "data": data})
        yield socket


async def answer_to(socket: Any, ack: int) -> dict[str, Any]:
    while True:
        frame = await socket.receive_json()
        if frame.get("ack") == ack:
            return dict(frame)


async def command(socket: Any, name: str, ack: int) -> str:
    """The code of the error, or "ack"."""
    await socket.send_json({"event": name, "ack": ack, "data": COMMANDS[name]})
    frame = await answer_to(socket, ack)
    if frame["event"] == "error":
        assert frame["data"]["retryAfterMs"] > 0
        return str(frame["data"]["code"])
    return "ack"


@pytest.mark.parametrize("name", COMMANDS)
async def test_an_account_counts_on_all_its_sockets_together(api: Api, name: str) -> None:
    show = await api.broadcast(await api.token(), live=True)
    token = await api.token("bob")
    async with room_socket(api, "192.0.2.1", show["id"], token) as socket:
        await answer_to(socket, 0)
        assert await command(socket, name, 1) == "ack"
        assert await command(socket, name, 2) == "too_many_requests"


@pytest.mark.parametrize("name", COMMANDS)
async def test_guests_count_by_their_address_whoever_they_say_they_are(api: Api, name: str) -> None:
    show = await api.broadcast(await api.token(), live=True)
    for address, expected in (("192.0.2.1", ["ack", "ack", "too_many_requests"]), ("192.0.2.2", ["ack"])):
        answers = []
        for _ in expected:
            async with room_socket(api, address, show["id"]) as socket:
                await answer_to(socket, 0)
                answers.append(await command(socket, name, 1))
        assert answers == expected


async def test_joining_is_limited_by_address_and_by_account(api: Api) -> None:
    show = await api.broadcast(await api.token(), live=True)
    token = await api.token("bob")
    cases = [
        ("192.0.2.1", token, "ack"),
        ("192.0.2.2", token, "error"),  # by account, from wherever: here one
        *[("192.0.2.3", None, "ack")] * 4,
        ("192.0.2.3", None, "error"),
        ("192.0.2.4", None, "ack"),
    ]
    for address, who, expected in cases:
        async with room_socket(api, address, show["id"], who) as socket:
            assert (await answer_to(socket, 0))["event"] == expected


async def test_invite_links_are_limited_by_address(api: Api) -> None:
    show = await api.broadcast(await api.token())
    path, body = f"/api/broadcasts/{show['id']}/invite/accept", {"invite": "guess"}
    for address, expected in (("192.0.2.1", 404), ("192.0.2.1", 404), ("192.0.2.1", 429), ("192.0.2.2", 404)):
        assert (await call_from(api, address, "POST", path, json=body)).status_code == expected


async def test_recording_is_limited_by_account_and_by_address(api: Api) -> None:
    hosts = [await api.token("ann"), await api.token("bob"), await api.token("cora")]
    path = "/api/broadcasts/none/record/start"
    for address, host, expected in (
        ("192.0.2.1", 0, 404),
        ("192.0.2.2", 0, 429),  # by account: one
        ("192.0.2.1", 1, 404),
        ("192.0.2.1", 2, 429),
        ("192.0.2.3", 2, 404),
    ):
        assert (await call_from(api, address, "POST", path, hosts[host])).status_code == expected


async def test_downloads_are_limited_by_address(api: Api) -> None:
    for address, expected in (("192.0.2.1", 404), ("192.0.2.1", 404), ("192.0.2.1", 429), ("192.0.2.2", 404)):
        response = await call_from(api, address, "GET", "/api/recordings/none/download")
        assert response.status_code == expected
