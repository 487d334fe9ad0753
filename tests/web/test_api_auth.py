from __future__ import annotations

import pytest

from tests.web.conftest import PASSWORD, Api, problem_of


async def test_register_signs_in_and_answers_the_own_user(api: Api) -> None:
    body = {"email": "Ann@Example.org", "password": PASSWORD, "displayName": "Ann"}
    response = await api.call("POST", "/api/auth/register", json=body)
    assert response.status_code == 201
    answer = await response.get_json()
    assert answer.keys() == {"user", "accessToken", "refreshToken", "expiresIn"}
    assert answer["user"].keys() == {"id", "email", "displayName", "isAdmin", "emailVerified", "createdAt"}
    assert answer["user"]["email"] == "ann@example.org"
    assert answer["user"]["isAdmin"] is False
    assert answer["user"]["createdAt"].endswith("Z")
    assert response.headers["Cache-Control"] == "no-store"


async def test_register_names_every_field_that_is_wrong(api: Api) -> None:
    response = await api.call("POST", "/api/auth/register", json={"email": 5, "displayName": "", "age": 3})
    problem = await problem_of(response, 422, "invalid_input")
    assert {error["field"] for error in problem["errors"]} == {"email", "password", "displayName", "age"}


async def test_register_refuses_a_weak_password_by_name(api: Api) -> None:
    body = {"email": "ann@example.org", "password": "short", "displayName": "Ann"}
    problem = await problem_of(await api.call("POST", "/api/auth/register", json=body), 422)
    assert [error["field"] for error in problem["errors"]] == ["password"]


async def test_an_address_is_taken_once(api: Api) -> None:
    body = {"email": "ann@example.org", "password": PASSWORD, "displayName": "Ann"}
    assert (await api.call("POST", "/api/auth/register", json=body)).status_code == 201
    await problem_of(await api.call("POST", "/api/auth/register", json=body), 409, "email_taken")


async def test_login_with_the_right_password(api: Api) -> None:
    account = await api.account()
    body = {"email": account["user"]["email"], "password": PASSWORD}
    response = await api.call("POST", "/api/auth/login", json=body)
    assert response.status_code == 200
    assert (await response.get_json())["user"] == account["user"]


async def test_login_with_a_wrong_password_is_401_and_says_bearer(api: Api) -> None:
    account = await api.account()
    body = {"email": account["user"]["email"], "password": "not the password"}
    response = await api.call("POST", "/api/auth/login", json=body)
    await problem_of(response, 401, "invalid_credentials")
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_refresh_token_is_good_for_one_use(api: Api) -> None:
    account = await api.account()
    first = {"refreshToken": account["refreshToken"]}
    response = await api.call("POST", "/api/auth/refresh", json=first)
    assert response.status_code == 200
    second = {"refreshToken": (await response.get_json())["refreshToken"]}
    api.clock.advance(11)
    await problem_of(await api.call("POST", "/api/auth/refresh", json=first), 401, "refresh_reused")
    await problem_of(await api.call("POST", "/api/auth/refresh", json=second), 401)


async def test_logout_ends_the_refresh_token(api: Api) -> None:
    body = {"refreshToken": (await api.account())["refreshToken"]}
    response = await api.call("POST", "/api/auth/logout", json=body)
    assert response.status_code == 204
    assert await response.get_data() == b""
    await problem_of(await api.call("POST", "/api/auth/refresh", json=body), 401)


async def test_me_and_a_new_display_name(api: Api) -> None:
    account = await api.account()
    token = account["accessToken"]
    assert await (await api.call("GET", "/api/auth/me", token)).get_json() == account["user"]
    response = await api.call("PATCH", "/api/auth/me", token, json={"displayName": "Ann Other"})
    assert response.status_code == 200
    assert (await response.get_json())["displayName"] == "Ann Other"


async def test_me_without_a_token(api: Api) -> None:
    response = await api.call("GET", "/api/auth/me")
    await problem_of(response, 401, "not_signed_in")
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_an_expired_token_is_named_as_such(api: Api) -> None:
    account = await api.account()
    api.clock.advance(account["expiresIn"] + 120)
    response = await api.call("GET", "/api/auth/me", account["accessToken"])
    await problem_of(response, 401, "token_expired")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "x" * 5000])
async def test_an_unreadable_token_is_refused(api: Api, token: str) -> None:
    await problem_of(await api.call("GET", "/api/auth/me", token), 401, "token_invalid")


async def test_another_authorization_scheme_counts_as_no_token(api: Api) -> None:
    response = await api.call("GET", "/api/broadcasts", headers={"Authorization": "Basic dXNlcjpwYXNz"})
    assert response.status_code == 200


async def test_a_guest_has_no_account(api: Api) -> None:
    broadcast = await api.broadcast(await api.token())
    guest = api.services.auth.issue_guest(broadcast["id"], "guest1", "Guest")
    await problem_of(await api.call("GET", "/api/auth/me", guest), 403, "account_needed")


async def test_the_setup_link_makes_one_admin(api: Api) -> None:
    link = await api.services.auth.issue_setup_link()
    assert link is not None
    body = {
        "token": link.partition("token=")[2],
        "email": "root@example.org",
        "password": PASSWORD,
        "displayName": "Root",
    }
    response = await api.call("POST", "/api/auth/setup", json=body)
    assert response.status_code == 201
    assert (await response.get_json())["user"]["isAdmin"] is True
    await problem_of(await api.call("POST", "/api/auth/setup", json=body), 403, "setup_token_invalid")
