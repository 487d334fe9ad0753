"""The policy table against the running application: every route and every command has its line, and each role is let
in or refused as the table says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lac.broadcasts import policy
from lac.broadcasts.model import Role
from lac.broadcasts.policy import Act, Standing
from lac.identity import Identity, IdentityKind
from lac.recordings import store as recordings
from lac.recordings.model import RecordingStatus
from lac.rooms.commands import COMMANDS
from lac_web.security import ACCESS_ATTRIBUTE, Access
from tests.recordings.room import a_recording
from tests.web.conftest import Api, problem_of

#: Where the stream key opens, for whoever may see it.
BY_KEY = ("/whip/", "/source/", "/admin/")

OTHERS = ("/whip", "/whep", "/listen", "/hls", "/podcasts", "/ws", "/health", "/ready", "/metrics")

BODIES: dict[str, dict[str, Any]] = {
    "PATCH /api/broadcasts/<broadcast_id>": {"title": "Another"},
    "PUT /api/broadcasts/<broadcast_id>/roles/<user_id>": {"role": "speaker"},
    "POST /api/broadcasts/<broadcast_id>/bans/<user_id>": {"reason": "x"},
    "POST /api/broadcasts/<broadcast_id>/record/chapters": {"title": "Here"},
    "PATCH /api/recordings/<recording_id>": {"title": "Another"},
    "POST /api/recordings/<recording_id>/exports": {"format": "mp3"},
}


def routes(api: Api) -> dict[str, Any]:
    """Method and rule -> the view, of everything that is not a page."""
    found = {}
    for rule in api.app.url_map.iter_rules():
        if not rule.rule.startswith(("/api/", *BY_KEY, *OTHERS)):
            continue
        for method in (rule.methods or {"GET"}) - {"HEAD", "OPTIONS"}:
            found[f"{method} {rule.rule}"] = api.app.view_functions[rule.endpoint]
    return found


async def test_every_route_and_every_command_has_a_policy(api: Api) -> None:
    assert set(policy.ROUTES) == set(routes(api))
    assert set(policy.EVENTS) == set(COMMANDS)
    others = {
        rule.rule
        for rule in api.app.url_map.iter_rules()
        if not any(rule.rule == route.split(" ")[1] for route in policy.ROUTES)
    }
    assert all(rule.endswith(">") or "." in rule or rule == "/" for rule in others), others


async def test_each_route_asks_for_a_token_where_its_policy_needs_one(api: Api) -> None:
    for route, view in routes(api).items():
        level = getattr(view, ACCESS_ATTRIBUTE, Access.ANYONE)
        need = policy.ROUTES[route]
        if need is Standing.ACCOUNT or (isinstance(need, Act) and not route.split(" ")[1].startswith(BY_KEY)):
            assert level is Access.ACCOUNT, route
        elif need is Standing.ANYONE:
            assert level in (Access.ANYONE, Access.OPTIONAL), route


async def people(api: Api) -> tuple[dict[Role, str], dict[str, Any], str]:
    """A token for each role in one live show, the show, and the id of somebody who is nobody there."""
    accounts = {role: await api.account(role.value) for role in Role if role is not Role.ADMIN}
    tokens = {role: account["accessToken"] for role, account in accounts.items()}
    link = await api.services.auth.issue_setup_link()
    assert link is not None
    admin = await api.services.auth.create_admin_with_setup_token(
        link.rpartition("=")[2], "admin@example.org", "correct horse battery", "Admin"
    )
    tokens[Role.ADMIN] = admin.access_token
    show = await api.broadcast(tokens[Role.HOST], live=True)
    host = Identity(IdentityKind.USER, accounts[Role.HOST]["user"]["id"], "Host")
    for role in policy.GRANTABLE:
        await api.services.on_air.rights.set_role(host, show["id"], accounts[role]["user"]["id"], role)
    other = await api.account("other")
    return tokens, show, other["user"]["id"]


ROLE_ROUTES = [
    route
    for route, need in policy.ROUTES.items()
    if isinstance(need, Act) and not route.split(" ")[1].startswith(BY_KEY)
]


@pytest.mark.parametrize("route", ROLE_ROUTES)
async def test_each_role_is_let_in_or_refused_as_the_table_says(api: Api, route: str) -> None:
    need = policy.ROUTES[route]
    assert isinstance(need, Act)
    tokens, show, other = await people(api)
    method, _, rule = route.partition(" ")
    recording = replace(a_recording(), broadcast_id=show["id"], status=RecordingStatus.READY)
    await api.services.db.run(lambda session: recordings.add(session, recording))
    path = rule.replace("<broadcast_id>", show["id"]).replace("<user_id>", other)
    path = path.replace("<recording_id>", recording.id).replace("<number>", "1").replace("<export>", "m4a")
    body = {"json": BODIES[route]} if route in BODIES else {}
    # The weakest first: who may may change everything.
    for role in reversed(Role):
        response = await api.call(method, path, tokens[role], **body)
        if role not in policy.ALLOWED[need]:
            await problem_of(response, 403)
            continue
        assert response.status_code not in (401, 403), (role, await response.get_data())
        if (method == "DELETE" and "_id>/" not in route) or route == "POST /api/broadcasts/<broadcast_id>/end":
            break
    await problem_of(await api.call(method, path, **body), 401)


async def test_a_route_without_a_role_needs_no_more_than_an_account(api: Api) -> None:
    tokens, show, other = await people(api)
    for role, token in tokens.items():
        for method, path in (
            ("GET", f"/api/broadcasts/{show['id']}"),
            ("GET", f"/api/broadcasts/{show['id']}/messages"),
            ("PUT", f"/api/users/{other}/follow"),
            ("GET", f"/api/users/{other}"),
            ("GET", f"/api/users/{other}/followers"),
        ):
            response = await api.call(method, path, token)
            assert response.status_code in (200, 204), (role, path)
