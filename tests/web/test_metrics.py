"""/metrics, who may read it, and /ready."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import sqlalchemy as sa
import trio
from prometheus_client.parser import text_string_to_metric_families

import lac_media.load
from lac.config import Settings
from lac.errors import UnavailableError
from lac_media.load import WARM_UP_S
from lac_media.parameters import ConsumerParameters, Direction
from lac_web.app import create_app
from tests.media.test_batch import session as make_srtp
from tests.web.conftest import Api, problem_of

HERE: dict[str, Any] = {"scope_base": {"client": ("127.0.0.1", 1)}}


async def samples(api: Api) -> dict[str, float]:
    """Name and labels as they are written, to the value."""
    response = await api.call("GET", "/metrics", **HERE)
    text = await response.get_data(as_text=True)
    assert response.status_code == 200, text
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def test_requests_are_counted_by_route_and_status(api: Api) -> None:
    token = await api.token()
    broadcast = await api.broadcast(token)
    for _ in range(3):
        await api.call("GET", f"/api/broadcasts/{broadcast['id']}")
    await api.call("GET", "/api/broadcasts/nonsense")
    await api.call("GET", "/api/nothing")
    await api.call("BREW", "/api/auth/me")
    found = await samples(api)
    route = "/api/broadcasts/<broadcast_id>"
    assert found[f"lac_http_requests_total{{method=GET,route={route},status=200}}"] == 3
    assert found[f"lac_http_requests_total{{method=GET,route={route},status=404}}"] == 1
    assert found["lac_http_requests_total{method=GET,route=none,status=404}"] == 1
    assert found["lac_http_requests_total{method=other,route=none,status=405}"] == 1
    assert found[f"lac_http_request_seconds_count{{route={route}}}"] == 4
    assert not any(broadcast["id"] in name for name in found), "an id is a label: one series for each"


async def test_listeners_are_told_apart_by_variant(api: Api) -> None:
    """Here at seats that nobody sits on: `tests/media/test_redundancy.py` has those who do."""
    broadcast = await api.broadcast(await api.token(), live=True)
    session = await api.services.on_air.media.open_session(None, broadcast["id"], Direction.RECV, "whep")
    srtp, address = make_srtp(1), ("127.0.0.1", 9)
    fanout = session.room.fanout
    seats = [fanout.add(ConsumerParameters(economy=number < 2), srtp, address) for number in range(5)]
    found = await samples(api)
    assert found["lac_listeners_by_variant{variant=opus}"] == 3
    assert found["lac_listeners_by_variant{variant=opus3}"] == 2
    assert found["lac_listeners_by_variant{variant=opus+red}"] == 0
    assert found["lac_listeners_switched_total"] == 0
    for seat in seats:
        fanout.remove(seat)


async def test_media_is_counted_and_goes_on_counting_when_the_room_has_closed(api: Api) -> None:
    token = await api.token()
    broadcast = await api.broadcast(token, live=True)
    session = await api.services.on_air.media.open_session(None, broadcast["id"], Direction.RECV, "whep")
    found = await samples(api)
    assert found["lac_media_rooms"] == 1
    assert found["lac_media_sessions"] == 1
    assert found["lac_listeners"] == 0
    session.close("failed")
    found = await samples(api)
    assert found["lac_media_sessions"] == 0
    assert found["lac_media_handshake_failures_total"] == 1
    assert found["lac_media_sessions_closed_total{reason=failed}"] == 1
    assert (await api.call("POST", f"/api/broadcasts/{broadcast['id']}/end", token)).status_code == 200
    found = await samples(api)
    assert found["lac_media_rooms"] == 0
    assert found["lac_media_handshake_failures_total"] == 1
    assert found["lac_media_packets_out_total"] == 0
    for name in (
        "lac_datagrams_in_total",
        "lac_media_tcp_connections",
        "lac_media_tcp_refused_total",
        "lac_media_tcp_unproven_total",
        "lac_media_tcp_dropped_total",
        "lac_media_dropped_total{why=kernel_buffer_full}",
        "lac_media_dropped_total{why=receive_buffer_full}",
        "lac_media_dropped_total{why=crowd_connecting}",
        "lac_media_dropped_total{why=program_queue_full}",
        "lac_media_dropped_total{why=bad}",
        "lac_media_dropped_total{why=unknown_source}",
        "lac_sockets",
        "lac_db_threads",
        "lac_db_running",
        "lac_db_waiting",
        "lac_rate_limited_total{limit=sign_in_by_both}",
        "process_open_fds",
    ):
        assert name in found


#: What an operator was promised, and the name under which it is found.
PROMISED = {
    "requests": "lac_http_requests_total",
    "sockets": "lac_sockets",
    "listeners": "lac_listeners",
    "packets in": "lac_media_packets_in_total",
    "packets out": "lac_media_packets_out_total",
    "packets lost on the way in": "lac_media_packets_lost_in_total",
    "packets dropped": "lac_media_dropped_total{why=kernel_buffer_full}",
    "queue drops": "lac_media_dropped_total{why=program_queue_full}",
    "loop lag": "lac_loop_lag_seconds_count",
    "handshake failures": "lac_media_handshake_failures_total",
    "database pool": "lac_db_threads",
    "database pool in use": "lac_db_running",
    "database pool, waiting": "lac_db_waiting",
}


@pytest.mark.parametrize("what", PROMISED)
async def test_what_was_promised_is_there(api: Api, what: str) -> None:
    await api.call("GET", "/health")
    found = await samples(api)
    assert any(name == PROMISED[what] or name.startswith(PROMISED[what] + "{") for name in found), sorted(found)


async def test_sockets_that_were_closed_are_counted_by_code(api: Api) -> None:
    async with api.app.test_client().websocket("/ws") as socket:
        await socket.send("nonsense")
        await socket.receive()
        while not api.app.gateway.closed:  # noqa: ASYNC110  the gateway tells nobody
            await trio.sleep(0.01)
    assert any(name.startswith("lac_sockets_closed_total{code=") for name in await samples(api))


async def test_two_applications_count_apart(api: Api) -> None:
    other = create_app(api.services)
    await api.call("GET", "/health")
    response = await other.test_client().get("/metrics", scope_base={"client": ("::1", 1)})
    assert b'route="/health"' not in await response.get_data()


async def test_load_is_shown_with_its_delays_and_whom_it_has_cost_a_place(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lac_media.load, "FEW_SESSIONS", 0)
    load, now = api.services.engine.load, trio.current_time()
    broadcast = await api.broadcast(await api.token())
    assert (await samples(api))["lac_overloaded"] == 0
    for delay_s in (0.0005, 0.004, 0.2):
        load.forwarding.add(delay_s, now=now)
    load.lag.add(3.0, now=now)
    load.judge(now=now - WARM_UP_S)
    load.judge(now=now)
    with pytest.raises(UnavailableError):
        await api.services.on_air.media.open_session(None, broadcast["id"], Direction.RECV, "whep")
    found = await samples(api)
    assert found["lac_overloaded"] == 1
    assert found["lac_listeners_refused_total"] == 1
    buckets = [found[f"lac_forwarding_delay_seconds_bucket{{le={bound}}}"] for bound in ("0.001", "0.005", "0.25")]
    assert buckets == [1, 2, 3]
    assert found["lac_forwarding_delay_seconds_count"] == 3
    assert found["lac_loop_lag_seconds_bucket{le=1.0}"] == 0
    assert found["lac_loop_lag_seconds_bucket{le=+Inf}"] == 1
    assert found["lac_loop_lag_seconds_sum"] == 3.0


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (("203.0.113.5", 1), {}),
        (("127.0.0.1", 1), {"X-Forwarded-For": "127.0.0.1"}),
        (("127.0.0.1", 1), {"Host": "live.example.org"}),
        (None, {}),
    ],
)
async def test_without_a_token_only_this_machine_reads_metrics(api: Api, client: Any, headers: dict[str, str]) -> None:
    response = await api.call("GET", "/metrics", headers=headers, scope_base={"client": client})
    await problem_of(response, 403, "metrics_private")


async def test_with_a_token_whoever_presents_it_reads_metrics(api: Api, settings: Settings) -> None:
    secret = "a metrics token of some length"
    services = dataclasses.replace(
        api.services, settings=dataclasses.replace(settings, metrics_token=secret, trusted_proxies=())
    )
    client = create_app(services).test_client()
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \xff"}):
        await problem_of(await client.get("/metrics", headers=headers, **HERE), 401, "not_signed_in")
    response = await client.get(
        "/metrics", headers={"Authorization": f"Bearer {secret}"}, scope_base={"client": ("203.0.113.5", 1)}
    )
    assert response.status_code == 200


# --- /ready -----------------------------------------------------------------------------------------------------------


async def test_ready_names_what_it_has_looked_at(api: Api) -> None:
    response = await api.call("GET", "/ready")
    assert response.status_code == 200
    assert await response.get_json() == {"status": "ready", "database": "ok", "migrations": "ok", "media": "ok"}


async def test_a_server_that_is_stopping_is_not_ready_but_alive(api: Api) -> None:
    api.app.draining = True
    await problem_of(await api.call("GET", "/ready"), 503, "shutting_down")
    assert (await api.call("GET", "/health")).status_code == 200


async def test_a_closed_media_socket_is_not_ready(api: Api) -> None:
    api.services.engine.endpoint.socket.close()
    await problem_of(await api.call("GET", "/ready"), 503, "media_unavailable")


@pytest.mark.parametrize(("revision", "status"), [("0001", 503), ("9999", 200)])
async def test_an_older_schema_is_not_ready_a_newer_one_is(
    api: Api, revision: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lac.db.readiness._outdated_revisions", lambda: frozenset({None, "0001"}))
    await api.services.db.run(
        lambda session: session.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": revision})
    )
    response = await api.call("GET", "/ready")
    if status == 200:
        assert response.status_code == 200
    else:
        await problem_of(response, status, "migrations_pending")
