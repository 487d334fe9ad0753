"""Faults while a show is live: the audio does not notice, whoever is concerned is told, and then all is as before.

Every test runs a real `lac serve` with short limits (`hurried_server`), a publisher whose frames are numbered, a
listener that sees every packet, and sockets in the room.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lac.config import load_settings
from lac.db.engine import migrate_database
from tests.e2e.hurried_server import (
    ANSWER_GRACE_S,
    CONNECT_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
)
from tests.e2e.raw_listener import RawListener, recording_packets
from tests.e2e.raw_publisher import missing_frames, publishing_frames
from tests.e2e.room_socket import RoomSocket, room_socket
from tests.e2e.server import Account, LacServer, running_server
from tests.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.e2e

HURRIED = "tests.e2e.hurried_server"
#: The longest silence between two packets of the listener's. Frames come every 20 ms; the rest is a busy machine. Every
#: fault here lasts, and would stop a loop that waited for it, much longer.
GAP_MAX_S = 1.0
#: What a busy machine may add to any answer.
SLACK_S = 3.0
PATIENCE_S = 15.0


# -- the show ----------------------------------------------------------------------------------------------------------


@dataclass
class Show:
    server: LacServer
    id: str
    host: Account
    of_host: RoomSocket
    of_guest: RoomSocket
    listener: RawListener

    def say(self, text: str, socket: RoomSocket | None = None) -> str | None:
        """Write in the chat. Returns None if it was accepted, or the code of the refusal."""
        socket = socket or self.of_guest
        return refusal(socket, socket.send("chatMessage", text=text))

    def say_until_accepted(self, text: str) -> None:
        """Again and again; each attempt is a text of its own."""
        wait_until(lambda: self.say(text) is None, "the chat works again")

    def check_rest_is_served(self) -> None:
        """What needs no database, or only reads what nobody holds, is answered at once."""
        began_at = time.monotonic()
        self.of_guest.command("reaction", emoji="🔥")
        self.of_host.wait_for("reaction")
        self.of_host.command("raiseHand")
        self.of_host.command("lowerHand", userId=self.host.user_id)
        took_s = time.monotonic() - began_at
        assert took_s < SLACK_S, f"{took_s:.1f} s"

    def check_audio(self) -> None:
        """Nothing was lost and nothing came late since the listener began."""
        self.listener.wait_for_packets(25)
        self.listener.check_one_unbroken_stream()
        arrivals = list(self.listener.arrivals)
        assert missing_frames(packet.payload for _, packet in arrivals) == []
        gap_s = max(later - earlier for (earlier, _), (later, _) in pairwise(arrivals))
        assert gap_s < GAP_MAX_S, f"no packet for {gap_s:.2f} s"


@contextmanager
def on_air(server: LacServer) -> Iterator[Show]:
    """A live show that is heard. At the end its audio must have had no gap, and both sockets must still be open."""
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]
    with (
        publishing_frames(server, show_id, host.token),
        recording_packets(server, show_id) as listener,
        room_socket(server.url) as of_host,
        room_socket(server.url) as of_guest,
    ):
        of_host.join(show_id, token=host.token)
        of_guest.join(show_id, name="Gus")
        show = Show(server, show_id, host, of_host, of_guest, listener)
        yield show
        show.check_audio()
        for socket in (of_host, of_guest):
            socket.command("listMembers")
    server.call("POST", f"/api/broadcasts/{show_id}/end", token=host.token)
    assert errors_in(server.output) == []


def refusal(socket: RoomSocket, number: int) -> str | None:
    answer = socket.answer_to(number)
    if answer["event"] == "ack":
        return None
    assert answer["event"] == "error"
    assert answer["data"]["message"]
    assert answer["data"]["retryAfterMs"] > 0
    code: str = answer["data"]["code"]
    return code


def errors_in(output: list[str]) -> list[str]:
    return [line for line in output if '"level": "error"' in line or "Traceback" in line]


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
        time.sleep(0.05)


def rows(data_dir: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(data_dir / "liveaudiocast.db")) as database:
        return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LacServer]:
    """On SQLite."""
    with running_server(tmp_path_factory.mktemp("data"), program=HURRIED) as running:
        yield running


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


class Postgres:
    """The database of a server, and what can happen to it."""

    def __init__(self, server: PostgresServer, data_dir: Path) -> None:
        self.url = server.create("faults")
        migrate_database(load_settings({"DATABASE_URL": self.url}, data_dir=data_dir))
        self._admin = psycopg.connect(server.url, autocommit=True)
        (directory,) = self._admin.execute("SHOW data_directory").fetchone() or ()
        self._postmaster = int((Path(directory) / "postmaster.pid").read_text().split()[0])

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes stand still: connections neither break nor answer."""
        os.kill(self._postmaster, signal.SIGSTOP)  # first: it starts no more
        task = Path(f"/proc/{self._postmaster}/task/{self._postmaster}")
        stopped = [self._postmaster]
        try:
            for child in (task / "children").read_text().split():
                os.kill(int(child), signal.SIGSTOP)
                stopped.append(int(child))
            yield
        finally:
            for pid in reversed(stopped):
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """All connections are broken and no new one is taken."""
        self._allow_connections("false")
        try:
            self._admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'faults'")
            yield
        finally:
            self._allow_connections("true")

    def chat(self, show_id: str) -> list[str]:
        """What is stored, in its order."""
        return self.column("SELECT text FROM chat_messages WHERE broadcast_id = %s ORDER BY at, id", show_id)

    def column(self, query: str, *parameters: str) -> list[str]:
        with psycopg.connect(self.url) as connection:
            return [row[0] for row in connection.execute(query.encode(), parameters)]

    def close(self) -> None:
        self._admin.close()

    def _allow_connections(self, allowed: str) -> None:
        self._admin.execute(sql.SQL("ALTER DATABASE faults WITH ALLOW_CONNECTIONS {}").format(sql.SQL(allowed)))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres_server() as running:
        database = Postgres(running, tmp_path_factory.mktemp("migration"))
        yield database
        database.close()


@pytest.fixture(scope="module")
def server_on_postgres(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LacServer]:
    with running_server(tmp_path_factory.mktemp("data"), program=HURRIED, DATABASE_URL=postgres.url) as running:
        yield running


#: How long the database stands still: longer than it takes to find out and be told twice.
FROZEN_S = 7.0
#: To find out that a connection is dead, and that no new one can be had.
TOLD_WITHIN_S = STATEMENT_TIMEOUT_S + ANSWER_GRACE_S + CONNECT_TIMEOUT_S + SLACK_S


def test_the_database_stops_and_the_show_goes_on(postgres: Postgres, server_on_postgres: LacServer) -> None:
    server = server_on_postgres
    accepted: list[str] = []
    refused: dict[str, str] = {}

    def say(text: str) -> bool:
        asked_at = time.monotonic()
        code = show.say(text)
        assert time.monotonic() - asked_at < TOLD_WITHIN_S
        if code is None:
            accepted.append(text)
        else:
            refused[text] = code
        return code is None

    with on_air(server) as show:
        for number in range(3):
            say(f"before {number}")
        assert len(accepted) == 3
        with postgres.frozen():
            ends_at = time.monotonic() + FROZEN_S
            opened = server.call("POST", f"/api/mediasoup/{show.id}/transports", json={"direction": "recv"})
            while time.monotonic() < ends_at:
                show.check_rest_is_served()
                say(f"frozen at {time.monotonic()}")
        assert len(accepted) == 3
        assert "database_unavailable" in refused.values()
        assert set(refused.values()) <= {"database_unavailable", "database_timeout"}
        wait_until(lambda: say(f"thawed at {time.monotonic()}"), "the chat works again")

        refused_before = len(refused)
        with postgres.cut_off():
            for number in range(3):
                say(f"cut off {number}")
            show.check_rest_is_served()
        assert list(refused.values())[refused_before:] == ["database_unavailable"] * 3
        wait_until(lambda: say(f"back at {time.monotonic()}"), "the chat works again")

        # Each line that was accepted is stored once, none that was refused; and so say those who come now.
        assert postgres.chat(show.id) == accepted
        with room_socket(server.url) as late:
            seen = late.join(show.id, name="Late")["recentMessages"]
        assert [message["text"] for message in seen] == accepted
        # A session that was opened meanwhile has its row.
        query = "SELECT kind FROM sessions WHERE id = %s"
        wait_until(lambda: postgres.column(query, opened["id"]) == ["mediasoup"], "the session's row")
        assert server.metric("lac_db_running") == 0


def test_a_statement_that_hangs_is_given_up_and_holds_nobody_else_up(
    postgres: Postgres, server_on_postgres: LacServer
) -> None:
    server = server_on_postgres
    with on_air(server) as show, psycopg.connect(postgres.url) as other:
        assert show.say("before") is None
        other.execute("LOCK TABLE chat_messages IN ACCESS EXCLUSIVE MODE")
        asked_at = time.monotonic()
        asked = [(socket, socket.send("chatMessage", text="lost")) for socket in (show.of_guest, show.of_host)]
        wait_until(lambda: server.metric("lac_db_running") == 1, "the statement hangs")
        show_call_at = time.monotonic()
        server.call("GET", f"/api/broadcasts/{show.id}")
        with room_socket(server.url) as late:
            late.join(show.id, name="Late")
            late.command("reaction", emoji="🔥")
        assert time.monotonic() - show_call_at < SLACK_S
        codes = [refusal(socket, number) for socket, number in asked]
        assert codes[0] == "database_timeout"
        assert codes[1] in {"database_timeout", "chat_busy"}
        assert time.monotonic() - asked_at < 2 * STATEMENT_TIMEOUT_S + SLACK_S
        assert server.metric("lac_db_running") == 0
        other.rollback()
        show.check_rest_is_served()
        assert show.say("after") is None
        assert postgres.chat(show.id) == ["before", "after"]
