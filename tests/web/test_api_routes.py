"""Every route declares who may call it, and the OpenAPI document says what they do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lac_web.errors import BASIC_PREFIXES
from lac_web.security import ACCESS_ATTRIBUTE, Access
from tests.web.conftest import Api, problem_of

#: Not routes of ours: why they need no declaration.
OTHERWISE_GUARDED = {
    "serve_socket": "the WebSocket identifies in its first message",
}


async def test_every_route_declares_its_access(api: Api) -> None:
    undeclared = [
        f"{rule.rule} ({rule.endpoint})"
        for rule in api.app.url_map.iter_rules()
        if not isinstance(getattr(api.app.view_functions[rule.endpoint], ACCESS_ATTRIBUTE, None), Access)
        and rule.endpoint not in OTHERWISE_GUARDED
    ]
    assert undeclared == []


async def test_what_needs_an_identity_refuses_whoever_has_none(api: Api) -> None:
    checked = 0
    for rule in api.app.url_map.iter_rules():
        level = getattr(api.app.view_functions[rule.endpoint], ACCESS_ATTRIBUTE, None)
        if level not in {Access.IDENTITY, Access.ACCOUNT}:
            continue
        path = rule.rule.replace("<", "").replace(">", "")
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            response = await api.call(method, path)
            await problem_of(response, 401, "not_signed_in")
            scheme = "Basic" if path.startswith(BASIC_PREFIXES) else "Bearer"
            assert response.headers["WWW-Authenticate"].startswith(scheme)
            checked += 1
    assert checked >= 10


async def document(api: Api) -> dict[str, Any]:
    response = await api.call("GET", "/api/openapi.json")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    return await response.get_json()


async def test_openapi_describes_every_json_route_with_summary_and_tag(api: Api) -> None:
    openapi = await document(api)
    assert openapi["openapi"].startswith("3.1")
    known = {tag["name"] for tag in openapi["tags"]}
    operations = [item for path in openapi["paths"].values() for item in path.values()]
    assert len({item["operationId"] for item in operations}) == len(operations)
    for item in operations:
        assert item["summary"], item["operationId"]
        assert item["tags"], item["operationId"]
        assert set(item["tags"]) <= known
    for path in (
        "/api/auth/login",
        "/api/broadcasts/{broadcast_id}",
        "/api/mediasoup/transports/{transport_id}/consume",
    ):
        assert path in openapi["paths"]
    assert openapi["paths"]["/api/broadcasts"]["post"]["security"] == [{"bearer": []}]
    assert openapi["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


async def test_openapi_has_no_dangling_reference(api: Api) -> None:
    openapi = await document(api)
    text = json.dumps(openapi)
    references = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert references
    assert references <= openapi["components"]["schemas"].keys()


async def test_openapi_names_query_parameters_as_they_are_sent(api: Api) -> None:
    operation = (await document(api))["paths"]["/api/broadcasts"]["get"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names == {"status", "hostId", "q", "limit", "cursor"}
    assert not any(parameter["required"] for parameter in operation["parameters"])


@pytest.mark.parametrize("path", ["/docs", "/redocs", "/scalar", "/api/docs"])
async def test_no_documentation_page_loads_scripts_from_elsewhere(api: Api, path: str) -> None:
    response = await api.call("GET", path)
    assert b"://cdn" not in await response.get_data()


async def test_health_and_ready(api: Api) -> None:
    for path in ("/health", "/ready"):
        response = await api.call("GET", path)
        assert response.status_code == 200
        assert "status" in await response.get_json()
