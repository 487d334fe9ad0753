"""`lac loadtest` against a server in a process of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from lac.cli.main import main
from lac.errors import ConfigError
from lac.loadtest import listeners
from lac.loadtest.plan import Mode, Plan, Repair, check_target
from lac.loadtest.run import LoadTest
from lac.loadtest.signalling import Answered, Signalling
from lac_media.parameters import Direction
from tests.e2e.impairing_proxy import impairing_proxy
from tests.e2e.server import Account, LacServer, running_server
from tests.fakes.impairment import Impairment

FIELDS = {
    "behind_live_ms", "broken_off", "chat_latency_ms", "connected", "failed", "generator_cpu_s",
    "generator_us_per_packet", "join_s", "joining_s", "joins_per_core", "joins_per_s", "latency_ms", "loss",
    "lost_connections", "measured_s", "messages_received", "messages_sent", "mode", "packets_asked_for",
    "packets_expected", "packets_received", "packets_recovered", "packets_repaired", "parts_received", "retried",
    "server_cpu_s", "server_join_cpu_s", "server_us_per_packet", "server_us_per_part", "url", "wanted",
    "without_loss", "worst_loss",
}  # fmt: skip


def test_listeners_publishers_and_chatters_meet_and_the_figures_add_up(
    server: LacServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hanna = server.register("Hanna")
    monkeypatch.setenv("LAC_LOADTEST_PASSWORD", hanna.password)
    file = tmp_path / "figures.json"
    crowd = ["--listeners", "12", "--shows", "2", "--chatters", "4", "--chat-per-s", "8"]
    arguments = [*crowd, "--ramp", "0.1", "--duration", "1.5"]
    assert main(["loadtest", "--url", server.url, "--email", hanna.email, "--json", str(file), *arguments]) == 0

    figures: dict[str, Any] = json.loads(file.read_text())
    assert set(figures) == FIELDS
    assert (figures["connected"], figures["failed"], figures["lost_connections"]) == (12, {}, {})
    assert 12 * 60 <= figures["packets_received"] <= figures["packets_expected"] <= 12 * 100
    assert figures["messages_sent"] >= 4
    assert figures["messages_received"] >= figures["messages_sent"]
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"] < 1000
    assert figures["server_cpu_s"] is not None
    output = capsys.readouterr()
    assert "12 of 12 connected" in output.out
    assert "packets arrived" in output.out
    assert "measuring: 12 connected" in output.err
    shows = server.call("GET", f"/api/broadcasts?hostId={hanna.user_id}", token=hanna.token)["items"]
    assert {show["status"] for show in shows} == {"ended"}


@pytest.mark.parametrize(("repair", "variant"), [(None, "opus+again"), (Repair.RED, "opus+red")])
def test_the_server_sees_what_listeners_lose_and_gives_them_redundancy(
    server: LacServer, monkeypatch: pytest.MonkeyPatch, repair: Repair | None, variant: str
) -> None:
    """Those on a bad network; others go on as before. Reports come more often than usual, not to wait for them."""
    monkeypatch.setattr(listeners, "REPORT_INTERVAL_S", 0.25)
    before = server.metric("lac_media_retransmitted_total")
    with impairing_proxy(server.media_port, up=Impairment(loss=0.1), down=Impairment(loss=0.15)) as network:
        connect = Signalling.connect

        async def through_the_network(self: Signalling, *args: Any, **kwargs: Any) -> Answered:
            answered = await connect(self, *args, **kwargs)
            if args[2] is Direction.SEND:
                return answered
            return replace(answered, candidate=replace(answered.candidate, port=network.port))

        monkeypatch.setattr(Signalling, "connect", through_the_network)
        found: list[str] = []

        def look(line: str) -> None:
            if not found and f'variant="{variant}"}} 4' in (text := server.call("GET", "/metrics").text):
                found.append(text)

        plan = plan_of(server, server.register("Hanna"), listeners=4, settle_s=4.0, duration_s=2.0, repair=repair)
        test = LoadTest(plan, look)
        trio.run(test.run)
    results = test.results
    assert (results.connected, results.broken_off) == (4, None)
    assert found, "nobody was given redundancy"
    assert network.lost_down > 50
    assert results.loss < 0.08, "less than the network loses"
    asked_again = server.metric("lac_media_retransmitted_total") - before
    if repair is None:
        assert (asked_again, results.packets_asked_for, results.packets_recovered) == (0, 0, 0)
    else:
        assert asked_again > 0
    if repair is Repair.RED:
        assert results.packets_recovered > 10
        assert any("as copies in others" in sentence for sentence in results.sentences())


def test_losses_can_be_made_up_for_some_of_the_listeners(server: LacServer) -> None:
    plan = plan_of(server, server.register("Hanna"), listeners=8, duration_s=1.5, lose=0.3, lossy=0.25)
    results = run_plan(plan)
    assert results.connected == 8
    assert results.without_loss == 6
    assert 0.1 < results.worst_loss < 0.6


def test_a_crowd_of_sockets_is_measured_by_what_it_says(server: LacServer) -> None:
    results = run_plan(plan_of(server, server.register("Hanna"), mode=Mode.WS, listeners=8, chat_per_s=20.0))
    assert (results.connected, results.broken_off) == (8, None)
    assert results.messages_sent >= 8
    assert results.chat_latency_ms is not None


def test_a_crowd_that_listens_by_hls_is_measured_by_its_parts(server: LacServer) -> None:
    results = run_plan(plan_of(server, server.register("Hanna"), mode=Mode.HLS, listeners=4, duration_s=1.5))
    assert (results.connected, results.broken_off, results.failed) == (4, None, {})
    assert results.parts_received >= 4
    assert results.behind_live_ms is not None
    assert results.behind_live_ms.p50 > 0
    assert any("parts of HLS arrived" in sentence for sentence in results.sentences())


def test_who_does_not_find_a_playlist_says_so(server: LacServer) -> None:
    plan = Plan(server.url, mode=Mode.HLS, listeners=2, ramp_s=0, duration_s=0.1, broadcast_id="nosuchshow234567")
    assert run_plan(plan).failed == {"http_404": 2}


def test_somebody_elses_live_show_is_listened_to_and_left_alone(server: LacServer) -> None:
    show = server.start_show(server.register("Hanna"))
    results = run_plan(Plan(server.url, listeners=2, ramp_s=0, duration_s=0.3, broadcast_id=show["id"]))
    assert (results.connected, results.broken_off) == (2, None)
    assert server.call("GET", f"/api/broadcasts/{show['id']}")["status"] == "live"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password": "wrong"}, "e-mail address or the password"),
        ({"email": None, "broadcast_id": "nosuchshow234567"}, None),
        ({"url": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_what_the_server_does_not_want_is_said(server: LacServer, change: dict[str, Any], says: str | None) -> None:
    results = run_plan(plan_of(server, server.register("Hanna"), **change))
    assert results.connected == 0
    if says is None:
        assert results.failed == {"not_found": 3}
    else:
        assert says in str(results.broken_off)
        assert f"broken off: {results.broken_off}" in results.sentences()


def test_a_server_that_dies_is_reported_with_what_was_seen_until_then(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        _kill_while_measuring(server)


def _kill_while_measuring(server: LacServer) -> None:
    measuring = trio.Event()

    def watch(line: str) -> None:
        if line.startswith("measuring"):
            measuring.set()

    test = LoadTest(plan_of(server, server.register("Hanna"), duration_s=2.0), watch)

    async def kill_while_measuring() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(test.run)
            await measuring.wait()
            server.kill()

    trio.run(kill_while_measuring)
    assert test.results.connected == 3
    assert test.results.packets_received >= 3 * 5
    assert test.results.broken_off == "the server's process has ended"


@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")  # of a request that was cut
def test_cancelled_at_any_moment_it_ends_its_show_and_leaves_no_socket(server: LacServer) -> None:
    hanna = server.register("Hanna")

    async def cut_after(seconds: float) -> bool:
        test = LoadTest(plan_of(server, hanna, listeners=6, chatters=2, duration_s=0.2), lambda line: None)
        with trio.move_on_after(seconds) as scope:
            await test.run()
        assert any(test.results.sentences())
        return scope.cancelled_caught

    moments = 0
    while True:
        before = _open_files()
        cut = trio.run(cut_after, 0.03 * 1.3**moments)
        assert _open_files() <= before
        assert (
            server.call("GET", f"/api/broadcasts?status=live&hostId={hanna.user_id}", token=hanna.token)["items"] == []
        )
        if not cut:
            break
        moments += 1
    assert moments > 5


def test_a_server_on_another_machine_has_to_be_ones_own() -> None:
    check_target("http://localhost:8000", own_server=False)
    check_target("https://192.0.2.1", own_server=True)
    for url in ("https://192.0.2.1", "ftp://127.0.0.1", "127.0.0.1:8000"):
        with pytest.raises(ConfigError):
            check_target(url, own_server=False)


def plan_of(server: LacServer, host: Account, **change: Any) -> Plan:
    plan = {
        "url": server.url, "listeners": 3, "ramp_s": 0, "duration_s": 0.5,
        "email": host.email, "password": host.password,
    }  # fmt: skip
    return Plan(**{**plan, **change})


def run_plan(plan: Plan) -> Any:
    test = LoadTest(plan, lambda line: None)
    trio.run(test.run)
    return test.results


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
