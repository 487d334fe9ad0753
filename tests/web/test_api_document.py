"""The OpenAPI document is complete, its page can be read, and what is generated from it is not stale."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from lac_web.api.endpoint import SPEC_ATTRIBUTE
from lac_web.openapi import HEADER_PARAMETERS, HEADERS, SECURITY, openapi_document
from lac_web.openapi_errors import SPECIFIC
from lac_web.openapi_examples import EXAMPLES
from tests.web.conftest import Api


async def document(api: Api) -> dict[str, Any]:
    response = await api.call("GET", "/api/openapi.json")
    return await response.get_json()


def openapi_script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/openapi.py, which is no package's."""
    directory = Path(__file__).parents[2] / "scripts"
    monkeypatch.setattr(sys, "path", [str(directory), *sys.path])
    spec = importlib.util.spec_from_file_location("openapi_script", directory / "openapi.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["operationId"]: item for path in openapi["paths"].values() for item in path.values()}


async def test_every_operation_names_its_errors(api: Api) -> None:
    openapi = await document(api)
    found = operations(openapi)
    for name, operation in found.items():
        assert "default" not in operation["responses"]
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema["allOf"][1]["properties"]["code"]["enum"], f"{name} {status}"
        if operation.get("security", [{}]) != [{}] and {} not in operation["security"]:
            assert "401" in operation["responses"], name
        for parameter in operation["parameters"]:
            if parameter["in"] == "path":
                assert parameter["description"]
                assert "404" in operation["responses"], name
    assert "email_taken" in str(found["register"]["responses"]["409"])
    assert "429" in found["login"]["responses"]
    assert found["login"]["responses"]["429"]["headers"]["Retry-After"]


async def test_no_table_names_an_operation_that_is_not_there(api: Api) -> None:
    found = operations(await document(api)).keys()
    for table in (SPECIFIC, HEADERS, HEADER_PARAMETERS, SECURITY):
        assert set(table) <= found, sorted(set(table) - found)


async def test_every_security_requirement_is_a_scheme_that_is_described(api: Api) -> None:
    openapi = await document(api)
    schemes = openapi["components"]["securitySchemes"]
    used = {name for item in operations(openapi).values() for entry in item.get("security", ()) for name in entry}
    assert used == schemes.keys()
    assert all(scheme["description"] for scheme in schemes.values())


async def test_every_request_has_an_example_and_every_example_is_valid(api: Api) -> None:
    models: dict[str, Any] = {}
    for view in api.app.view_functions.values():
        spec = getattr(view, SPEC_ATTRIBUTE, None)
        if spec is not None:
            models |= {model.__name__: model for model in (spec.takes, spec.returns) if model is not None}
            if spec.takes is not None:
                assert spec.takes.__name__ in EXAMPLES, f"no example for {spec.takes.__name__}"
    for name, example in EXAMPLES.items():
        if name in models:
            msgspec.convert(example, models[name])
        else:
            assert name == "Problem"


async def test_the_page_names_everything_and_runs_nothing(api: Api) -> None:
    response = await api.call("GET", "/api/docs")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    page = await response.get_data(as_text=True)
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#|/api/openapi\.json)[^\"]*\"", page)
    openapi = openapi_document(api.app)
    for name in operations(openapi):
        assert f'id="{name}"' in page
    targets = set(re.findall(r'href="#([^"]+)"', page))
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert targets <= anchors, sorted(targets - anchors)


def test_the_committed_document_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make check` looks at the TypeScript types as well; that takes Node."""
    script = openapi_script(monkeypatch)
    assert script.DOCUMENT.read_text(encoding="utf-8") == script.document(), "run: make types"


@pytest.mark.parametrize("name", ["Problem", "BroadcastAnswer"])
async def test_descriptions_are_free_of_python_indentation(api: Api, name: str) -> None:
    schema = (await document(api))["components"]["schemas"][name]
    assert "\n    " not in schema["description"]
