"""Ids and parameters that nobody would send by mistake, on every route there is, before a real PostgreSQL, which takes
less than SQLite does (no NUL, no lone surrogate, no long text): never a server error, never one in the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lac.broadcasts.policy import ROUTES
from lac.config import load_settings
from lac.db.engine import migrate_database
from tests.e2e.server import LacServer, running_server
from tests.postgres import postgres_server

pytestmark = pytest.mark.e2e

#: As they stand in a path or a query.
HOSTILE = ("%00", "guest-%00", "x" * 3000, "%ED%A0%80", "%FF", "..%2f..%2fetc%2fpasswd", "%0d%0aX-Evil:%201", "'--")
DOCUMENT = json.loads((Path(__file__).parents[2] / "frontend" / "openapi.json").read_text(encoding="utf-8"))
#: The parameters that each route takes, as it says of itself.
QUERIES = {
    f"{method.upper()} {path.replace('{', '<').replace('}', '>')}": [
        parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"
    ]
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LacServer]:
    with postgres_server() as postgres:
        url = postgres.create("hostile")
        migrate_database(load_settings({"DATABASE_URL": url}, data_dir=tmp_path_factory.mktemp("migration")))
        data_dir = tmp_path_factory.mktemp("data")
        with running_server(data_dir, LAC_LIMITS_FACTOR="10000", DATABASE_URL=url) as running:
            yield running


def test_no_route_breaks_at_an_id_or_a_parameter(server: LacServer) -> None:
    host = server.register("Host")
    show_id = server.start_show(host)["id"]
    headers = {"Authorization": f"Bearer {host.token}"}

    def call(method: str, path: str) -> None:
        body = {"json": {"role": "speaker"} if "/roles/" in path else {}} if method in ("POST", "PUT", "PATCH") else {}
        if path.startswith(("/whip", "/whep")):
            body = {"content": b"v=0\r\n"}
        sdp = {"Content-Type": "application/sdp"} if "content" in body else {}
        # Some answers never end: those are looked at, not waited for.
        with server.http.stream(method, server.url + path, headers={**headers, **sdp}, **body) as response:  # type: ignore[arg-type]  # one of two
            if response.status_code >= 500:
                pytest.fail(f"{method} {path[:100]}: {response.status_code} {response.read()[:300]!r}")
            assert "x-evil" not in response.headers

    assert "cursor" in QUERIES["GET /api/broadcasts"]
    for route in ROUTES:
        method, _, rule = route.partition(" ")
        names = re.findall(r"<[^>]*>", rule)
        for hostile in HOSTILE:
            if names:
                call(method, re.sub(r"<[^>]*>", hostile, rule))
            if len(names) > 1:  # one real id, to get past the first question
                call(method, re.sub(r"<[^>]*>", hostile, rule.replace("<broadcast_id>", show_id)))
            for name in QUERIES.get(route, ()):
                call(method, f"{re.sub(r'<[^>]*>', show_id, rule)}?{name}={hostile}")
        if rule == "/api/broadcasts/<broadcast_id>" and method == "DELETE":
            show_id = server.start_show(host)["id"]
    errors = [line for line in server.output if '"level": "error"' in line or "Traceback" in line]
    assert errors == []
