"""A server that is driven to its limit refuses who comes next, and those inside hear on."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx
import trio

from lac.loadtest.plan import Plan
from lac.loadtest.results import Results
from lac.loadtest.run import LoadTest
from lac_media.load import FEW_SESSIONS
from tests.e2e.server import LacServer, running_server

PATIENCE_S = 60


def test_who_comes_to_a_machine_that_is_too_busy_waits_outside_and_nobody_inside_loses_anything(tmp_path: Path) -> None:
    # Limits that a machine which runs other tests besides stays below, and a starved server does not.
    limits = {"LAC_OVERLOAD_DELAY_MS": "200", "LAC_OVERLOAD_LAG_MS": "200"}
    with running_server(tmp_path, **limits) as server:
        host = server.register("Hanna")
        show_id = server.start_show(host)["id"]
        plan = Plan(
            server.url, listeners=FEW_SESSIONS, ramp_s=0, duration_s=4.0, broadcast_id=show_id, token=host.token
        )
        inside = trio.run(_listen_and_knock, server, plan, partial(_starve, server))
        assert inside.connected == FEW_SESSIONS
        assert inside.packets_received == inside.packets_expected > FEW_SESSIONS * 100
        assert server.metric("lac_listeners_refused_total") >= 1
        trio.run(_until, server, "lac_overloaded", 0.0)
        assert _run(Plan(server.url, listeners=1, duration_s=0.1, broadcast_id=show_id)) == 1


def test_the_operator_says_how_many_may_listen(tmp_path: Path) -> None:
    with running_server(tmp_path, LAC_MAX_LISTENERS="2") as server:
        show = server.start_show(server.register("Hanna"))
        plan = Plan(server.url, listeners=2, ramp_s=0, duration_s=1.0, broadcast_id=show["id"])
        inside = trio.run(_listen_and_knock, server, plan, partial(_until, server, "lac_listeners", 2.0))
        assert inside.connected == 2
        assert server.metric("lac_listeners_refused_total") == 1
        trio.run(_until, server, "lac_listeners", 0.0)
        assert _run(Plan(server.url, listeners=2, duration_s=0.1, broadcast_id=show["id"])) == 2


async def _listen_and_knock(server: LacServer, plan: Plan, fill: Callable[[], Awaitable[None]]) -> Results:
    """Run the plan; when everyone is in and `fill` has returned, try to come in besides, in vain."""
    measuring = trio.Event()
    test = LoadTest(plan, lambda line: measuring.set() if line.startswith("measuring") else None)
    async with trio.open_nursery() as nursery, httpx.AsyncClient(base_url=server.url) as http:
        nursery.start_soon(test.run)
        await measuring.wait()
        await fill()
        answer = await http.post(f"/api/mediasoup/{plan.broadcast_id}/transports", json={"direction": "recv"})
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 1
        index = await http.get(answer.json()["hls"]["url"])
        assert (index.status_code, index.text.partition("\n")[0]) == (200, "#EXTM3U"), "where to listen instead"
    return test.results


async def _starve(server: LacServer) -> None:
    """As if others on the machine took the processor away: half of the time, until it notices."""
    with trio.fail_after(PATIENCE_S):
        while not await trio.to_thread.run_sync(server.metric, "lac_overloaded"):
            for _ in range(3):
                server.process.send_signal(signal.SIGSTOP)
                await trio.sleep(0.35)
                server.process.send_signal(signal.SIGCONT)
                await trio.sleep(0.1)


async def _until(server: LacServer, metric: str, value: float) -> None:
    with trio.fail_after(PATIENCE_S):
        while await trio.to_thread.run_sync(server.metric, metric) != value:  # noqa: ASYNC110  another process
            await trio.sleep(0.1)


def _run(plan: Plan) -> int:
    """How many got in."""
    test = LoadTest(plan, lambda line: None)
    trio.run(test.run)
    return test.results.connected
