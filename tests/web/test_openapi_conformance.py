"""schemathesis against a running server, over the whole document: no status that the document does not name, no answer
of another shape, no 500. Bounded: a few requests for each operation, good and bad ones.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lac_media.sources.ingest import MEDIA_TYPES
from tests.e2e.server import LacServer, running_server

DOCUMENT = json.loads((Path(__file__).parents[2] / "frontend" / "openapi.json").read_text(encoding="utf-8"))
EXAMPLES_EACH = 5
#: They end the sign-in that they are called with.
OWN_ACCOUNT = frozenset({"logout_all", "delete_me", "change_password"})


@schemathesis.serializer("application/sdp", "application/trickle-ice-sdpfrag", *MEDIA_TYPES)
def serialize_text(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


schema = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LacServer]:
    with running_server(tmp_path_factory.mktemp("conformance"), LAC_LIMITS_FACTOR="10000") as running:
        yield running


@pytest.fixture(scope="module")
def host(server: LacServer) -> Any:
    return server.register("Host")


class OwnAccounts:
    """For operations that end the sign-in that they are called with. Most calls are refused, and one account bears many
    of those: each new one costs a password's hash."""

    def __init__(self, server: LacServer) -> None:
        self._server = server
        self._unused: Any = None

    def get(self) -> Any:
        if self._unused is None:
            self._unused = self._server.register("Own")
        return self._unused

    def used(self) -> None:
        self._unused = None


@pytest.fixture(scope="module")
def own_accounts(server: LacServer) -> OwnAccounts:
    return OwnAccounts(server)


@pytest.fixture(scope="module")
def shows(server: LacServer, host: Any) -> dict[str, dict[str, Any]]:
    """By operation: what one does to its show is nothing to the others."""
    return {}


@schema.parametrize()
@settings(
    max_examples=EXAMPLES_EACH,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_server_does_what_its_document_says(
    case: Case, server: LacServer, host: Any, own_accounts: OwnAccounts, shows: dict[str, dict[str, Any]]
) -> None:
    name = case.operation.definition.raw["operationId"]
    account = own_accounts.get() if name in OWN_ACCOUNT else host
    if "broadcast_id" in case.path_parameters and len(str(case.path_parameters["broadcast_id"])) % 2:
        if name not in shows:
            live = name not in {"start_broadcast", "update_broadcast", "listen"}  # that one would not end
            shows[name] = server.start_show(host) if live else server.create_show(host)
        case.path_parameters["broadcast_id"] = shows[name]["id"]
    headers = {} if case.headers and "Authorization" in case.headers else {"Authorization": f"Bearer {account.token}"}
    if name == "metrics":
        headers = {}
    response = case.call_and_validate(
        base_url=server.url,
        headers=headers,
        timeout=20,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
            response_headers_conformance,
            negative_data_rejection,
        ],
    )
    if name in OWN_ACCOUNT and response.status_code < 300:
        own_accounts.used()


def test_every_operation_was_tried() -> None:
    tried = {result.ok().definition.raw["operationId"] for result in schema.get_all_operations()}
    declared = {item["operationId"] for path in DOCUMENT["paths"].values() for item in path.values()}
    assert tried == declared


def test_the_library_is_a_development_dependency_only() -> None:
    assert importlib.util.find_spec("schemathesis") is not None
    locked = (Path(__file__).parents[2] / "requirements" / "base.txt").read_text(encoding="utf-8")
    assert "schemathesis" not in locked
