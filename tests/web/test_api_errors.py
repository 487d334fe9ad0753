from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from lac.errors import (
    ConfigError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    LacError,
    NotFoundError,
    NotSignedInError,
    TooManyRequestsError,
    UnavailableError,
)
from lac_media.errors import (
    EngineStartError,
    LocalProtocolError,
    MediaError,
    ParseError,
    RemoteProtocolError,
    SessionClosedError,
    UnsupportedMediaError,
)
from lac_web.security import JSON_BODY_MAX, content_security_policy
from tests.web.conftest import Api, problem_of

LOGIN = "/api/auth/login"
JSON = {"Content-Type": "application/json"}


def raising(api: Api, error: BaseException) -> str:
    async def view() -> None:
        raise error

    api.app.add_url_rule("/api/raise", "raise", view)
    return "/api/raise"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidInputError("No."), 422, "invalid_input"),
        (NotSignedInError("No."), 401, "not_signed_in"),
        (ForbiddenError("No.", code="removed"), 403, "removed"),
        (NotFoundError("No."), 404, "not_found"),
        (ConflictError("No.", code="not_live"), 409, "not_live"),
        (TooManyRequestsError("No.", retry_after_s=1.2), 429, "too_many_requests"),
        (UnavailableError("No."), 503, "unavailable"),
        (ParseError("line 3: no"), 400, "malformed"),
        (UnsupportedMediaError("No."), 400, "unsupported_media"),
        (RemoteProtocolError("No."), 400, "protocol_error"),
        (LocalProtocolError("No."), 409, "wrong_state"),
        (SessionClosedError("No."), 404, "session_closed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_each_error_has_its_status_and_code(api: Api, error: Exception, status: int, code: str) -> None:
    problem = await problem_of(await api.call("GET", raising(api, error)), status, code)
    assert problem["detail"].lower().removesuffix(".") == str(error).lower().removesuffix(".")


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("secret path"),
        LacError("secret"),
        EngineStartError("secret"),
        MediaError("secret"),
        OSError("secret"),
    ],
)
async def test_what_is_our_fault_is_logged_once_and_told_to_nobody(api: Api, error: Exception) -> None:
    with capture_logs() as logs:
        response = await api.call("GET", raising(api, error))
    problem = await problem_of(response, 500, "internal_error")
    assert "secret" not in str(problem)
    assert [entry["route"] for entry in logs] == ["GET /api/raise"]
    assert logs[0]["log_level"] == "error"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_an_error_inside_a_nursery_is_mapped_too(api: Api) -> None:
    error = ExceptionGroup("nursery", [NotFoundError("Gone.")])
    await problem_of(await api.call("GET", raising(api, error)), 404, "not_found")


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(TooManyRequestsError("No.", retry_after_s=1.2), "2"), (UnavailableError("No.", retry_after_s=0.1), "1")],
)
async def test_retry_after_is_whole_seconds_and_never_zero(api: Api, error: LacError, seconds: str) -> None:
    response = await api.call("GET", raising(api, error))
    assert response.headers["Retry-After"] == seconds


async def test_unknown_address(api: Api) -> None:
    await problem_of(await api.call("GET", "/api/nothing/here"), 404, "not_found")


async def test_wrong_method_lists_the_right_ones(api: Api) -> None:
    response = await api.call("PUT", LOGIN)
    await problem_of(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


async def test_a_body_that_is_not_json(api: Api) -> None:
    for body in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        await problem_of(await api.call("POST", LOGIN, data=body, headers=JSON), 400, "bad_request")


async def test_json_that_is_no_object(api: Api) -> None:
    for body in (b"[]", b'"text"', b"null", b"3"):
        problem = await problem_of(await api.call("POST", LOGIN, data=body, headers=JSON), 422)
        assert problem["errors"][0]["field"] == "body"


async def test_a_body_of_another_type(api: Api) -> None:
    response = await api.call("POST", LOGIN, data=b"email=a", headers={"Content-Type": "text/plain"})
    await problem_of(response, 415, "unsupported_media_type")


async def test_a_body_that_announces_too_much(api: Api) -> None:
    response = await api.call("POST", LOGIN, data=b" " * (JSON_BODY_MAX + 1), headers=JSON)
    await problem_of(response, 413, "too_large")


async def test_a_chunked_body_that_grows_too_large(api: Api) -> None:
    client = api.app.test_client()
    async with client.request(LOGIN, method="POST", headers=JSON) as connection:
        for _ in range(0, JSON_BODY_MAX + 1, 65536):
            await connection.send(b" " * 65536)
        await connection.send_complete()
    await problem_of(await connection.as_response(), 413, "too_large")


async def test_a_body_that_never_ends_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lac_web.security.BODY_TIMEOUT_S", 0.01)
    client = api.app.test_client()
    async with client.request(LOGIN, method="POST", headers=JSON) as connection:
        await connection.send(b"{")
    await problem_of(await connection.as_response(), 408, "request_timeout")


async def test_query_parameters_are_checked_by_name(api: Api) -> None:
    problem = await problem_of(await api.call("GET", "/api/broadcasts?limit=0&status=gone&page=2"), 422)
    assert {error["field"] for error in problem["errors"]} == {"limit", "status", "page"}


async def test_every_answer_carries_the_security_headers(api: Api) -> None:
    for path in ("/health", "/api/nothing", "/", "/api/openapi.json"):
        response = await api.call("GET", path, headers={"Host": "radio.example"})
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "connect-src 'self' ws://radio.example wss://radio.example" in policy
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "microphone=(self)" in response.headers["Permissions-Policy"]
        assert "Referrer-Policy" in response.headers


async def test_a_strange_host_header_stays_out_of_the_policy(api: Api) -> None:
    response = await api.call("GET", "/health", headers={"Host": "a b; script-src *"})
    assert "script-src *" not in response.headers.get("Content-Security-Policy", "")


async def test_a_listed_origin_may_call_the_api_and_another_may_not(api: Api) -> None:
    for origin, allowed in (("https://studio.example", "https://studio.example"), ("https://evil.example", None)):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for method, path in (("OPTIONS", LOGIN), ("GET", "/api/broadcasts")):
            response = await api.call(method, path, headers=headers)
            assert response.status_code == 200
            assert response.headers.get("Access-Control-Allow-Origin") == allowed
            assert "Access-Control-Allow-Credentials" not in response.headers
            assert "Origin" in response.headers["Vary"]
    response = await api.call("OPTIONS", LOGIN, headers={"Origin": "https://studio.example"})
    assert "Authorization" in response.headers["Access-Control-Allow-Headers"]


async def test_an_answer_without_content_has_no_headers_about_it(api: Api) -> None:
    headers = {"Authorization": f"Bearer {await api.token()}", "Content-Type": "application/json"}
    async with api.app.test_client().request("/api/auth/logout", method="POST", headers=headers) as connection:
        await connection.send(b'{"refreshToken": "unknown"}')
        await connection.send_complete()
    assert connection.status_code == 204
    assert connection.headers is not None
    assert not {"content-length", "content-type"} & {name.lower() for name, _ in connection.headers.items()}


def test_behind_a_proxy_the_public_host_is_named_too() -> None:
    assert "wss://public.example" in content_security_policy("inner:8000", "public.example")
    assert content_security_policy("same", "same", "").count("wss://") == 1
    assert "media-src 'self' blob: https://s3.example;" in content_security_policy(media=["https://s3.example"])


async def test_null_in_a_query_string_is_a_text(api: Api) -> None:
    token = await api.token()
    await api.broadcast(token, title="Something")
    await api.broadcast(token, title="The null hypothesis")
    found = await (await api.call("GET", "/api/broadcasts?q=null")).get_json()
    assert [item["title"] for item in found["items"]] == ["The null hypothesis"]
    await problem_of(await api.call("GET", "/api/broadcasts?status=null"), 422, "invalid_input")


async def test_a_parameter_that_comes_twice_is_refused(api: Api) -> None:
    problem = await problem_of(await api.call("GET", "/api/broadcasts?limit=1&limit=2"), 422, "invalid_input")
    assert problem["errors"] == [{"field": "limit", "message": "is given more than once"}]


@pytest.mark.parametrize("host", ["x" * 64, "x" * 4000, "a..b", ".a", "<script>", 'a"b', "a:99999999"])
async def test_an_odd_name_in_host_is_nobodys_error(api: Api, host: str) -> None:
    """Before routing there is no error handler: what fails there is a 500 without headers, and a page of log."""
    response = await api.call("GET", "/api/broadcasts", headers={"Host": host})
    assert response.status_code in (200, 400)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    policy = response.headers["Content-Security-Policy"]
    assert "<" not in policy
    assert '"' not in policy


async def test_an_odd_name_in_host_reaches_the_rooms_door_as_well(api: Api) -> None:
    async with api.app.test_client().websocket("/ws", headers={"Host": "x" * 64}) as socket:
        await socket.send_json({"event": "join", "ack": 1, "data": {"broadcastId": "none"}})
        assert (await socket.receive_json())["data"]["code"] == "not_found"
