"""`lac serve` as an operator meets it: what keeps it from starting, how it stops, and what a restart finds."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.e2e.aiortc_clients import AiortcPeer, listening, publishing
from tests.e2e.asyncio_thread import AsyncioThread
from tests.e2e.room_socket import RoomSocket, room_socket
from tests.e2e.server import Account, LacServer, running_server

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


def refused_start(data_dir: Path, **environment: str) -> str:
    """Run `lac serve` where it cannot start; returns its one line."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LAC_", "MEDIASOUP_", "DATABASE_"))}
    env |= {"LAC_DATA_DIR": str(data_dir), "LAC_PORT": "0", "MEDIASOUP_MIN_PORT": "0"} | environment
    result = subprocess.run(
        [sys.executable, "-m", "lac.cli.main", "serve"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_a_taken_http_port_stops_the_start_with_one_line(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        line = refused_start(tmp_path, LAC_PORT=str(taken.getsockname()[1]))
    assert "LAC_PORT" in line
    assert not (tmp_path / "liveaudiocast.db").exists(), "it finds out before it touches anything"


def test_a_taken_media_port_stops_the_start_with_one_line(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        line = refused_start(tmp_path, MEDIASOUP_MIN_PORT=port)
    assert "MEDIASOUP_MIN_PORT" in line
    assert port in line
    assert not (tmp_path / "liveaudiocast.db").exists(), "it finds out before it touches anything"


def test_a_data_directory_that_cannot_be_written_stops_the_start_with_one_line(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a directory")
    assert "LAC_DATA_DIR" in refused_start(in_the_way)
    # Even root cannot make a directory here.
    assert "LAC_DATA_DIR" in refused_start(Path("/proc/lac"))


def test_an_unknown_setting_stops_the_start_with_one_line(tmp_path: Path) -> None:
    line = refused_start(tmp_path, LAC_PROT="8000")
    assert "LAC_PROT" in line
    assert "LAC_PORT" in line


def test_the_first_start_prints_a_link_that_makes_one_admin(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        link = next(line for line in server.output if "/setup" in line).split()[-1]
        token = link.partition("token=")[2]
        admin = {"token": token, "email": "ada@example.org", "password": "a long enough password", "displayName": "Ada"}
        created = server.http.post(f"{server.url}/api/auth/setup", json=admin)
        assert created.status_code == 201
        assert created.json()["user"]["isAdmin"]
        again = server.http.post(f"{server.url}/api/auth/setup", json={**admin, "email": "eve@example.org"})
        assert again.status_code == 403


def rows(data_dir: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(data_dir / "liveaudiocast.db")) as database:
        return database.execute(query).fetchall()


@contextmanager
def heard_show(
    server: LacServer, aio: AsyncioThread, host: Account, show_id: str
) -> Iterator[tuple[AiortcPeer, RoomSocket]]:
    """The host publishes, a listener hears it, and a guest is in the room."""
    with (
        publishing(aio, server, show_id, 440, host.token),
        listening(aio, server, show_id) as listener,
        room_socket(server.url) as guest,
    ):
        guest.join(show_id)
        listener.ear.wait_for_tone(440)
        yield listener, guest


def test_a_signal_in_the_middle_of_a_show_leaves_nothing_open_and_the_restart_takes_it_up(
    tmp_path: Path, aio: AsyncioThread
) -> None:
    with running_server(tmp_path) as server:
        host = server.register("Ada")
        show = server.start_show(host)
        with heard_show(server, aio, host, show["id"]) as (listener, guest):
            server.process.send_signal(signal.SIGTERM)
            guest.wait_for("reconnect")
            assert guest.wait_closed() == 1001
            listener.wait_closed()
            assert server.process.wait(12) == 0
        assert rows(tmp_path, "select id from sessions where closed_at is null") == []
        assert {row[0] for row in rows(tmp_path, "select close_reason from sessions")} == {"shutdown"}
        assert rows(tmp_path, "select status from broadcasts") == [("live",)]
    with running_server(tmp_path) as server:
        again = server.call("GET", f"/api/broadcasts/{show['id']}")
        assert again["status"] == "live"


#: What a server that starts reads and changes of the one before it.
STATE = ("SELECT * FROM broadcasts", "SELECT * FROM sessions", "SELECT * FROM audit_log")


def test_a_second_server_on_the_same_data_is_refused_and_the_first_notices_nothing(
    tmp_path: Path, aio: AsyncioThread
) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    with running_server(first) as server:
        host = server.register("Ada")
        show = server.start_show(host)
        with heard_show(server, aio, host, show["id"]) as (listener, guest):
            before = [rows(first, query) for query in STATE]

            line = refused_start(first)
            assert f"LAC_DATA_DIR: another process ({server.process.pid}) serves the data directory {first}" in line
            assert "Stop it first" in line
            by_its_port = refused_start(first, LAC_PORT=server.url.rsplit(":", 1)[1])
            assert by_its_port == line, "what is wrong is not the port"
            line = refused_start(other, DATABASE_URL=f"sqlite:///{first}/liveaudiocast.db")
            assert f"DATABASE_URL: another process ({server.process.pid}) serves the database" in line

            assert [rows(first, query) for query in STATE] == before
            assert rows(first, "SELECT close_reason FROM sessions") == [(None,), (None,)]
            guest.command("listMembers")
            listener.ear.wait_for_tone(440)
        server.kill()
    # A killed process leaves the file, and nothing else.
    assert (first / "serve.lock").read_text() == f"{server.process.pid}\n"
    with running_server(first) as again:
        assert again.call("GET", f"/api/broadcasts/{show['id']}")["status"] == "live"


def test_standard_output_is_the_log_and_nothing_else(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LAC_", "MEDIASOUP_"))}
    environment |= {"LAC_DATA_DIR": str(tmp_path), "LAC_PORT": "0", "MEDIASOUP_MIN_PORT": "0"}
    command = [sys.executable, "-m", "lac.cli.main", "serve"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if "Ctrl+C" in line:
                break
        process.send_signal(signal.SIGTERM)
        events = [json.loads(line) for line in process.stdout]
        told += process.stderr.readlines()
    assert process.returncode == 0
    (link,) = (found[1] for line in told if (found := re.search(r"/setup#token=(\S+)", line)))
    assert any(event["event"] == "stopping" for event in events)
    for event in events:
        assert {"event", "level", "timestamp", "logger"} <= event.keys()
        assert link not in json.dumps(event)
