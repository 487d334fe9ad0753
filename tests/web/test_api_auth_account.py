"""One's own account over HTTP: what the answers look like, who may ask, and what comes back for bad input."""

from __future__ import annotations

from typing import Any

import pytest

from lac.auth import account as account_module
from tests.web.conftest import PASSWORD, Api, problem_of

NEW = "a different password"


@pytest.fixture(autouse=True)
def _answer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module, "RESET_ANSWER_S", 0.0)


async def login(api: Api, account: dict[str, Any], password: str) -> Any:
    body = {"email": account["user"]["email"], "password": password}
    return await api.call("POST", "/api/auth/login", json=body)


async def empty(response: Any, status: int) -> None:
    body = await response.get_data()
    assert (response.status_code, body) == (status, b""), body


async def test_a_client_whose_answer_was_lost_asks_again(api: Api) -> None:
    body = {"refreshToken": (await api.account())["refreshToken"]}
    answers = [await (await api.call("POST", "/api/auth/refresh", json=body)).get_json() for _ in range(2)]
    assert answers[0]["refreshToken"] == answers[1]["refreshToken"]
    for answer in answers:
        assert (await api.call("GET", "/api/auth/me", answer["accessToken"])).status_code == 200


async def test_logout_ends_the_access_token_at_once(api: Api) -> None:
    account = await api.account()
    await api.call("POST", "/api/auth/logout", json={"refreshToken": account["refreshToken"]})
    await problem_of(await api.call("GET", "/api/auth/me", account["accessToken"]), 401, "token_invalid")


async def test_logging_out_everywhere_ends_every_sign_in(api: Api) -> None:
    account = await api.account()
    elsewhere = await (await login(api, account, PASSWORD)).get_json()
    await empty(await api.call("POST", "/api/auth/logout-all", account["accessToken"]), 204)
    for ended in (account, elsewhere):
        await problem_of(await api.call("GET", "/api/auth/me", ended["accessToken"]), 401, "token_invalid")
        body = {"refreshToken": ended["refreshToken"]}
        await problem_of(await api.call("POST", "/api/auth/refresh", json=body), 401, "token_invalid")


async def test_changing_the_password_keeps_this_sign_in_and_ends_the_others(api: Api) -> None:
    account = await api.account()
    elsewhere = await (await login(api, account, PASSWORD)).get_json()
    body = {"currentPassword": PASSWORD, "newPassword": NEW}
    await empty(await api.call("POST", "/api/auth/password", account["accessToken"], json=body), 204)
    assert (await api.call("GET", "/api/auth/me", account["accessToken"])).status_code == 200
    await problem_of(await api.call("GET", "/api/auth/me", elsewhere["accessToken"]), 401, "token_invalid")
    assert (await login(api, account, NEW)).status_code == 200


async def test_a_wrong_current_password_is_403_so_that_clients_do_not_refresh_for_it(api: Api) -> None:
    token = await api.token()
    body = {"currentPassword": "wrong horse battery", "newPassword": NEW}
    await problem_of(await api.call("POST", "/api/auth/password", token, json=body), 403, "wrong_password")
    response = await api.call("DELETE", "/api/auth/me", token, json={"password": "wrong horse battery"})
    await problem_of(response, 403, "wrong_password")


async def test_a_weak_new_password_is_named_by_its_field(api: Api) -> None:
    body = {"currentPassword": PASSWORD, "newPassword": "short"}
    problem = await problem_of(await api.call("POST", "/api/auth/password", await api.token(), json=body), 422)
    assert [error["field"] for error in problem["errors"]] == ["newPassword"]


async def test_a_lost_password_is_recovered_with_the_link_of_a_mail(api: Api) -> None:
    account = await api.account()
    email = account["user"]["email"]
    await empty(await api.call("POST", "/api/auth/password-reset/request", json={"email": email}), 202)
    body = {"token": api.mailbox.last_token(email, "reset-password"), "password": NEW}
    await empty(await api.call("POST", "/api/auth/password-reset/confirm", json=body), 204)
    await problem_of(await login(api, account, PASSWORD), 401, "invalid_credentials")
    assert (await (await login(api, account, NEW)).get_json())["user"]["emailVerified"] is True
    response = await api.call("POST", "/api/auth/password-reset/confirm", json=body)
    await problem_of(response, 403, "reset_token_invalid")


@pytest.mark.parametrize("email", ["nobody@example.org", "nonsense", "", "a\0@example.org"])
async def test_asking_for_a_reset_never_tells_who_has_an_account(api: Api, email: str) -> None:
    await empty(await api.call("POST", "/api/auth/password-reset/request", json={"email": email}), 202)
    assert api.mailbox.mails == []


async def test_an_address_is_confirmed_with_the_link_of_a_mail(api: Api) -> None:
    account = await api.account()
    email, token = account["user"]["email"], account["accessToken"]
    assert account["user"]["emailVerified"] is False
    await empty(await api.call("POST", "/api/auth/verify-email/request", token), 202)
    for _ in range(2):
        body = {"token": api.mailbox.last_token(email, "verify-email")}
        await empty(await api.call("POST", "/api/auth/verify-email", json=body), 204)
    assert (await (await api.call("GET", "/api/auth/me", token)).get_json())["emailVerified"] is True
    response = await api.call("POST", "/api/auth/verify-email", json={"token": "nonsense"})
    await problem_of(response, 403, "verify_token_invalid")


async def test_too_many_links_are_429_and_say_when_to_come_back(api: Api) -> None:
    token = await api.token()
    for _ in range(2):
        await empty(await api.call("POST", "/api/auth/verify-email/request", token), 202)
    response = await api.call("POST", "/api/auth/verify-email/request", token)
    await problem_of(response, 429, "mail_limit")
    assert 0 < int(response.headers["Retry-After"]) <= 3600


async def test_ones_data_is_a_file_to_keep(api: Api) -> None:
    account = await api.account()
    broadcast = await api.broadcast(account["accessToken"])
    response = await api.call("GET", "/api/auth/me/export", account["accessToken"])
    assert response.status_code == 200
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.headers["Cache-Control"] == "no-store"
    export = await response.get_json()
    assert export["account"]["email"] == account["user"]["email"]
    assert [item["id"] for item in export["broadcasts"]] == [broadcast["id"]]


async def test_an_account_is_deleted_but_not_in_the_middle_of_its_show(api: Api) -> None:
    account = await api.account()
    token = account["accessToken"]
    broadcast = await api.broadcast(token, live=True)
    body = {"password": PASSWORD}
    problem = await problem_of(await api.call("DELETE", "/api/auth/me", token, json=body), 409, "show_is_live")
    assert broadcast["title"] in problem["detail"]
    assert (await api.call("POST", f"/api/broadcasts/{broadcast['id']}/end", token)).status_code == 200
    await empty(await api.call("DELETE", "/api/auth/me", token, json=body), 204)
    await problem_of(await api.call("GET", "/api/auth/me", token), 401, "token_invalid")
    await problem_of(await api.call("GET", f"/api/broadcasts/{broadcast['id']}"), 404)
    await problem_of(await login(api, account, PASSWORD), 401, "invalid_credentials")


@pytest.mark.parametrize(
    ("method", "path", "body", "fields"),
    [
        ("POST", "/api/auth/password", {}, {"currentPassword", "newPassword"}),
        ("POST", "/api/auth/password", {"currentPassword": 1, "newPassword": "", "x": 1}, None),
        ("POST", "/api/auth/password-reset/request", {}, {"email"}),
        ("POST", "/api/auth/password-reset/request", {"email": "x" * 255}, {"email"}),
        ("POST", "/api/auth/password-reset/confirm", {"token": ""}, {"token", "password"}),
        ("POST", "/api/auth/verify-email", {"token": "x" * 5000}, {"token"}),
        ("POST", "/api/auth/verify-email", {"token": None}, {"token"}),
        ("DELETE", "/api/auth/me", {}, {"password"}),
        ("DELETE", "/api/auth/me", {"password": "x" * 1025}, {"password"}),
    ],
)
async def test_every_wrong_field_is_named(
    api: Api, method: str, path: str, body: dict[str, Any], fields: set[str] | None
) -> None:
    problem = await problem_of(await api.call(method, path, await api.token(), json=body), 422, "invalid_input")
    named = {error["field"] for error in problem["errors"]}
    assert named == (fields or {"currentPassword", "newPassword", "x"})


@pytest.mark.parametrize("path", ["/api/auth/password", "/api/auth/password-reset/confirm", "/api/auth/verify-email"])
async def test_what_is_no_json_is_refused(api: Api, path: str) -> None:
    token = await api.token()
    headers = {"Content-Type": "application/json"}
    await problem_of(await api.call("POST", path, token, data=b"{", headers=headers), 400, "bad_request")
    await problem_of(await api.call("POST", path, token, data=b"a=b"), 415, "unsupported_media_type")


async def test_a_guest_can_do_none_of_it(api: Api) -> None:
    broadcast = await api.broadcast(await api.token())
    guest = api.services.auth.issue_guest(broadcast["id"], "guest1", "Guest")
    for method, path in (
        ("POST", "/api/auth/logout-all"),
        ("POST", "/api/auth/password"),
        ("POST", "/api/auth/verify-email/request"),
        ("DELETE", "/api/auth/me"),
        ("GET", "/api/auth/me/export"),
    ):
        await problem_of(await api.call(method, path, guest, json={}), 403, "account_needed")
