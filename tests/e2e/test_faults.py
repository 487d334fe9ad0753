"""Faults while a show is live: the audio does not notice, whoever is concerned is told, and then all is as before.

Every test runs a real `lac serve` with short limits (`hurried_server`), a publisher whose frames are numbered, a
listener that sees every packet, and sockets in the room.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import httpx
import psycopg
import pytest
import trio
from psycopg import sql

from lac.config import load_settings
from lac.db.engine import QUEUE_TIMEOUT_S, migrate_database
from lac_web.gateway.protocol import FRAME_BURST, FRAMES_PER_S
from tests.e2e.hurried_server import (
    ANSWER_GRACE_S,
    BUSY_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    CONNECT_WITHIN_S,
    DISK_FULL,
    STATEMENT_TIMEOUT_S,
)
from tests.e2e.raw_listener import RawListener, recording_packets
from tests.e2e.raw_publisher import frame_number, missing_frames, publishing_frames
from tests.e2e.room_socket import RoomSocket, room_socket
from tests.e2e.server import Account, LacServer, running_server
from tests.e2e.test_serve_command import refused_start
from tests.postgres import PostgresServer, postgres_server
from tests.web.test_whip_whep import offer

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

    def say(self, text: str, speaker: RoomSocket | None = None) -> str | None:
        """Write in the chat. Returns None if it was accepted, or the code of the refusal."""
        speaker = speaker or self.of_guest
        return refusal(speaker, speaker.send("chatMessage", text=text))

    def say_until_accepted(self, text: str) -> None:
        """Again and again; each attempt is a text of its own."""
        wait_until(lambda: self.say(text) is None, "the chat works again")

    def members(self) -> int:
        """In the room, as somebody who comes in is told."""
        with room_socket(self.server.url) as late:
            count: int = late.join(self.id, name="Late")["memberCount"]
        return count - 1

    def check_rest_is_served(self) -> None:
        """What needs no database, or only reads what nobody holds, is answered at once."""
        began_at = time.monotonic()
        self.of_guest.command("reaction", emoji="🔥")
        self.of_host.wait_for("reaction")
        guest = self.of_host.command("listMembers")["items"]
        assert any(person["anonymous"] for person in guest)
        took_s = time.monotonic() - began_at
        assert took_s < SLACK_S, f"{took_s:.1f} s"

    def check_audio(self) -> None:
        """Nothing was lost and nothing came late since the listener began."""
        self.listener.wait_for_packets(25)
        try:
            self.listener.check_one_unbroken_stream()
        except AssertionError as error:
            names = ("lac_media_packets_lost_in_total", "lac_media_dropped_total", "lac_loop_lag_seconds_sum")
            error.add_note(f"the server says: { ({name: self.server.metric(name) for name in names}) }")
            ports = {"server": self.server.media_port, "listener": self.listener.port}
            error.add_note(f"the kernel dropped: { ({who: kernel_drops(port) for who, port in ports.items()}) }")
            raise
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
        for connection in (of_host, of_guest):
            connection.command("listMembers")
    server.call("POST", f"/api/broadcasts/{show_id}/end", token=host.token)
    assert errors_in(server.output) == []


def kernel_drops(port: int) -> int:
    """Datagrams for which the receive buffer of this UDP port had no room."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("udp", "udp6")]
    sockets = [line.split() for table in tables for line in table]
    return sum(int(fields[-1]) for fields in sockets if int(fields[1].rpartition(":")[2], 16) == port)


def refusal(connection: RoomSocket, number: int) -> str | None:
    answer = connection.answer_to(number)
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


def threads_in_use(server: LacServer) -> float:
    """Of the database's, by those who run and those who wait."""
    return server.metric("lac_db_running") + server.metric("lac_db_waiting")


def rows(data_dir: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(data_dir / "liveaudiocast.db")) as database:
        return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def current_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], LacServer]]:
    """On SQLite, started again when it is gone."""
    data_dir = tmp_path_factory.mktemp("data")
    started: list[LacServer] = []
    with ExitStack() as stack:

        def current() -> LacServer:
            if not started or started[-1].process.poll() is not None:
                started.append(stack.enter_context(running_server(data_dir, program=HURRIED)))
            return started[-1]

        yield current


@pytest.fixture
def server(current_server: Callable[[], LacServer]) -> LacServer:
    return current_server()


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


def test_a_second_server_is_refused_wherever_its_data_directory_is(
    postgres: Postgres, server_on_postgres: LacServer, tmp_path: Path
) -> None:
    state = (
        "SELECT concat(status, ' ', session.id, ' ', session.close_reason) FROM sessions session "
        "JOIN broadcasts ON broadcasts.id = broadcast_id ORDER BY 1"
    )
    with on_air(server_on_postgres) as show:
        wait_until(lambda: len(postgres.column(state)) >= 2, "their sessions have rows")
        before = postgres.column(state)
        line = refused_start(tmp_path, DATABASE_URL=postgres.url)
        assert "served by another process already" in line
        assert "Stop that first" in line
        assert postgres.column(state) == before
        assert show.say("still here") is None


#: How long the database stands still: long enough to be found out and told twice.
FROZEN_S = 2 * (STATEMENT_TIMEOUT_S + ANSWER_GRACE_S + CONNECT_TIMEOUT_S) + 1
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
        wait_until(lambda: threads_in_use(server) == 0, "every thread is given back")


def test_a_statement_that_hangs_is_given_up_and_holds_nobody_else_up(
    postgres: Postgres, server_on_postgres: LacServer
) -> None:
    server = server_on_postgres
    with on_air(server) as show, psycopg.connect(postgres.url) as other:
        assert show.say("before") is None
        other.execute("LOCK TABLE chat_messages IN ACCESS EXCLUSIVE MODE")
        asked_at = time.monotonic()
        people = (show.of_guest, show.of_host)
        asked = [(person, person.send("chatMessage", text="lost")) for person in people]
        wait_until(lambda: server.metric("lac_db_running") == 1, "the statement hangs")
        show_call_at = time.monotonic()
        server.call("GET", f"/api/broadcasts/{show.id}")
        with room_socket(server.url) as late:
            late.join(show.id, name="Late")
            late.command("reaction", emoji="🔥")
        assert time.monotonic() - show_call_at < SLACK_S
        codes = [refusal(person, number) for person, number in asked]
        assert codes[0] == "database_timeout"
        assert codes[1] in {"database_timeout", "chat_busy"}
        assert time.monotonic() - asked_at < 2 * STATEMENT_TIMEOUT_S + SLACK_S
        wait_until(lambda: threads_in_use(server) == 0, "every thread is given back")
        other.rollback()
        show.check_rest_is_served()
        assert show.say("after") is None
        assert postgres.chat(show.id) == ["before", "after"]


# -- SQLite ------------------------------------------------------------------------------------------------------------


def chat_in_file(server: LacServer, show_id: str) -> list[str]:
    stored = rows(server.data_dir, "SELECT broadcast_id, text FROM chat_messages ORDER BY at, id")
    return [str(text) for broadcast_id, text in stored if broadcast_id == show_id]


def test_a_full_disk_is_said_and_what_needs_no_room_goes_on(server: LacServer) -> None:
    with on_air(server) as show:
        accepted = ["before"]
        assert show.say("before") is None
        full = server.data_dir / DISK_FULL
        full.touch()
        try:
            # What is left of the pages that the tables have is soon used up.
            codes: set[str | None] = set()
            for number in range(20):
                text = f"{number}: " + "x" * 1900
                codes.add(code := show.say(text))
                if code is None:
                    accepted.append(text)
            assert codes == {None, "storage_full"} or codes == {"storage_full"}
            assert len(accepted) < 10
            sign_up = {"password": "a long enough password", "displayName": "N" * 64}
            for number in range(40):
                email = f"{'n' * 50}{number}@{'example' * 8}.org"
                answer = server.http.post(f"{server.url}/api/auth/register", json={**sign_up, "email": email})
                if not answer.is_success:
                    break
            assert answer.status_code == 503
            assert answer.json()["code"] == "storage_full"
            assert int(answer.headers["retry-after"]) >= 1
            show.check_rest_is_served()
            assert server.call("GET", f"/api/broadcasts/{show.id}")["status"] == "live"
        finally:
            full.unlink()
        assert show.say("after") is None
        assert server.http.post(f"{server.url}/api/auth/register", json={**sign_up, "email": email}).is_success
        assert chat_in_file(server, show.id) == [*accepted, "after"]


def test_a_writer_that_keeps_the_file_locked_is_given_up_and_readers_do_not_wait_for_it(server: LacServer) -> None:
    # More calls that write than there are threads, and one line of chat: another show's people do the same.
    writers = 6
    with (
        on_air(server) as show,
        closing(sqlite3.connect(server.data_dir / "liveaudiocast.db", isolation_level=None)) as other,
        ThreadPoolExecutor(writers) as callers,
    ):
        assert show.say("before") is None
        other.execute("BEGIN EXCLUSIVE")
        asked_at = time.monotonic()
        chat = show.of_guest.send("chatMessage", text="lost")

        def write(title: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {show.host.token}"}
            return server.http.post(f"{server.url}/api/broadcasts", json={"title": title}, headers=headers)

        calls = [callers.submit(write, "Lost") for _ in range(writers)]
        wait_until(lambda: server.metric("lac_db_running") >= 2, "the writers wait")
        read_at = time.monotonic()
        server.call("GET", f"/api/broadcasts/{show.id}")
        with room_socket(server.url) as late:
            late.join(show.id, name="Late")
        show.check_rest_is_served()
        assert time.monotonic() - read_at < SLACK_S  # before, there was no thread left and they were refused
        assert refusal(show.of_guest, chat) in {"database_unavailable", "database_busy"}
        answers = [call.result() for call in calls]
        assert time.monotonic() - asked_at < QUEUE_TIMEOUT_S + BUSY_TIMEOUT_S + SLACK_S
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.json()["code"] for answer in answers} <= {"database_unavailable", "database_busy"}
        other.execute("ROLLBACK")
        wait_until(lambda: threads_in_use(server) == 0, "every thread is given back")
        assert show.say("after") is None
        assert chat_in_file(server, show.id) == ["before", "after"]
        assert (0,) in rows(server.data_dir, "SELECT count(*) FROM broadcasts WHERE title = 'Lost'")


def test_a_killed_server_takes_the_show_up_again(server: LacServer, current_server: Callable[[], LacServer]) -> None:
    host = server.register("Hanna")
    show_id = server.start_show(host)["id"]

    def close_reasons() -> list[object]:
        stored = rows(server.data_dir, "SELECT broadcast_id, close_reason FROM sessions ORDER BY opened_at")
        return [reason for broadcast_id, reason in stored if broadcast_id == show_id]

    with (
        publishing_frames(server, show_id, host.token),
        recording_packets(server, show_id) as listener,
        room_socket(server.url) as guest,
    ):
        guest.join(show_id, name="Gus")
        for number in range(3):
            guest.command("chatMessage", text=f"{number}")
        listener.wait_for_packets(25)
        wait_until(lambda: close_reasons() == [None, None], "both sessions have open rows")
        listener.check_one_unbroken_stream()
        server.kill()

    server = current_server()
    assert server.call("GET", f"/api/broadcasts/{show_id}")["status"] == "live"
    assert close_reasons() == ["lost", "lost"]
    with room_socket(server.url) as guest:
        joined = guest.join(show_id, name="Gus")
        assert joined["hostAway"] is True
        assert [message["text"] for message in joined["recentMessages"]] == ["0", "1", "2"]
        with publishing_frames(server, show_id, host.token), recording_packets(server, show_id) as listener:
            guest.wait_for("hostBack")
            guest.command("chatMessage", text="3")
            listener.wait_for_packets(25)
            listener.check_one_unbroken_stream()
            heard = [packet.payload for _, packet in listener.arrivals]
            assert any(frame_number(payload) is not None for payload in heard)
            assert missing_frames(heard) == []
    server.call("POST", f"/api/broadcasts/{show_id}/end", token=host.token)
    assert errors_in(server.output) == []


# -- clients that are in the way ---------------------------------------------------------------------------------------

STALLED = 200
#: All of a stalled socket that may wait in the kernel stays small with these, as it does over a real network: over
#: loopback a sender takes megabytes.
STALLED_SEGMENT_BYTES, STALLED_RECEIVE_BYTES = 536, 4096
GROWTH_MAX_BYTES = 100 * 2**20
DELAY_MEDIAN_MAX_S = 0.5


def text_frame(event: str, **data: str) -> bytes:
    """A WebSocket frame as a client sends it; the mask is all zeroes."""
    body = json.dumps({"event": event, "data": data}).encode()
    assert len(body) < 126
    return bytes([0x81, 0x80 | len(body), 0, 0, 0, 0]) + body


def upgrade(server: LacServer) -> bytes:
    host = server.url.removeprefix("http://")
    head = f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    return f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()


def memory_bytes(server: LacServer) -> int:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def stalled_socket(server: LacServer, show_id: str) -> socket.socket:
    """Joins, and never reads what comes of it."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    stalled = socket.socket()
    try:
        stalled.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, STALLED_SEGMENT_BYTES)
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_RECEIVE_BYTES)
        stalled.settimeout(PATIENCE_S)
        stalled.connect((host, int(port)))
        stalled.sendall(upgrade(server))
        assert stalled.recv(12) == b"HTTP/1.1 101"
        stalled.sendall(text_frame("join", broadcastId=show_id))
    except BaseException:
        stalled.close()
        raise
    return stalled


def was_closed(stalled: socket.socket) -> bool:
    """Whether the server has ended the connection: what it had sent comes, then its close frame, a reset or nothing."""
    try:
        while stalled.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def test_sockets_that_never_read_are_cut_and_the_others_notice_nothing(server: LacServer) -> None:
    with ExitStack() as stack:
        show = stack.enter_context(on_air(server))
        stalled = [stack.enter_context(closing(stalled_socket(server, show.id))) for _ in range(STALLED)]
        wait_until(lambda: show.members() == STALLED + 2, "all are in the room")
        before = memory_bytes(server)
        highest, delays = before, list[float]()
        for number in itertools.count():
            assert number < 600, "they take everything"
            began_at = time.monotonic()
            text = f"{number}: " + "ж" * 1900
            assert show.say(text, (show.of_guest, show.of_host)[number % 2]) is None
            show.of_host.wait_for("chatMessage", text=text)
            show.of_guest.wait_for("chatMessage", text=text)
            delays.append(time.monotonic() - began_at)
            highest = max(highest, memory_bytes(server))
            if number % 10 == 0 and server.metric("lac_sockets") == 2:
                break
            time.sleep(max(0.0, began_at + 1 / FRAMES_PER_S - time.monotonic()) if number > FRAME_BURST else 0)
        assert median(delays) < DELAY_MEDIAN_MAX_S, f"{median(delays):.3f} s"
        assert max(delays) < SLACK_S, f"{max(delays):.3f} s"
        assert highest - before < GROWTH_MAX_BYTES, f"{(highest - before) / 2**20:.0f} MiB"
        assert all(was_closed(one) for one in stalled)


#: Of each kind.
FLOOD = 300


def test_a_flood_of_joins_disturbs_nobody_and_what_is_abandoned_goes(server: LacServer) -> None:
    with on_air(server) as show:
        trio.run(Flood(server, show.id).run)
        timeout_s = CONNECT_WITHIN_S + PATIENCE_S
        wait_until(lambda: server.metric("lac_sockets") == 2, "only the show's sockets are left", timeout_s)
        wait_until(lambda: server.metric("lac_media_sessions") == 2, "only the show's sessions are left", timeout_s)
        wait_until(lambda: show.members() == 2, "only they are members", timeout_s)
        open_rows = f"SELECT id FROM sessions WHERE closed_at IS NULL AND broadcast_id = '{show.id}'"  # noqa: S608
        wait_until(lambda: len(rows(server.data_dir, open_rows)) == 2, "only their rows are open", timeout_s)


def is_refused(answer: str) -> bool:
    """A server that is late because of the flood may say so."""
    return answer.startswith("HTTP/1.1 503") and '"code":"overloaded"' in answer


class HungUpError(Exception):
    def __init__(self, wanted: bytes, received: bytes) -> None:
        super().__init__(f"hung up on before {wanted!r}: {received!r}")
        self.received = received


class Flood:
    """FLOOD sockets that join and FLOOD media sessions, all at once. Half of each go away without a word."""

    def __init__(self, server: LacServer, show_id: str) -> None:
        self._server = server
        self._show_id = show_id
        self._host, _, port = server.url.removeprefix("http://").partition(":")
        self._port = int(port)
        self._joined = 0
        self._all_joined = trio.Event()

    async def run(self) -> None:
        with trio.fail_after(3 * PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(FLOOD):
                    nursery.start_soon(self._join_at_last, number % 2 == 0)
                    nursery.start_soon((self._whep, self._mediasoup)[number // 2 % 2], number % 2 == 0)

    async def _join_at_last(self, abandon: bool) -> None:
        """On a machine so busy that a socket's five seconds to join were over, once more, as clients do."""
        while True:
            try:
                return await self._join(abandon)
            except HungUpError as error:
                if b"join_late" not in error.received:
                    raise

    async def _join(self, abandon: bool) -> None:
        async with await trio.open_tcp_stream(self._host, self._port) as stream:
            await stream.send_all(upgrade(self._server))
            await self._read_until(stream, b"HTTP/1.1 101")
            await stream.send_all(text_frame("join", broadcastId=self._show_id))
            if abandon:
                return
            await self._read_until(stream, b'"event":"joined"')
            self._joined += 1
            if self._joined == FLOOD // 2:
                self._all_joined.set()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_until, stream, b"\x00 never sent")
                await self._all_joined.wait()
                nursery.cancel_scope.cancel()

    async def _whep(self, abandon: bool) -> None:
        answer = await self._request("POST", f"/whep/{self._show_id}", "application/sdp", offer("recvonly"), abandon)
        if answer and not is_refused(answer):
            assert answer.startswith("HTTP/1.1 201"), answer
            location = re.search(r"(?i)\r\nlocation: (?:http://[^/]+)?(\S+)", answer)
            assert location is not None, answer
            await self._delete(location[1])

    async def _mediasoup(self, abandon: bool) -> None:
        path, body = f"/api/mediasoup/{self._show_id}/transports", '{"direction":"recv"}'
        answer = await self._request("POST", path, "application/json", body, abandon)
        if answer and not is_refused(answer):
            assert answer.startswith("HTTP/1.1 201"), answer
            transport = json.loads(answer.partition("\r\n\r\n")[2])
            await self._delete(f"/api/mediasoup/transports/{transport['id']}")

    async def _delete(self, path: str) -> None:
        answer = await self._request("DELETE", path)
        # Gone already, on a machine so busy that its time to connect was over.
        assert answer.startswith("HTTP/1.1 20") or '"code":"session_not_found"' in answer, answer

    async def _request(
        self, method: str, path: str, content_type: str = "text/plain", body: str = "", abandon: bool = False
    ) -> str:
        """The whole answer; nothing if it is not waited for."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n"
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with await trio.open_tcp_stream(self._host, self._port) as stream:
            await stream.send_all((head + body).encode())
            if abandon:
                return ""
            received = bytearray()
            async for data in stream:
                received += data
            return received.decode()

    async def _read_until(self, stream: trio.SocketStream, wanted: bytes) -> None:
        received = b""
        async for data in stream:
            received = received[-1000:] + data
            if wanted in received:
                return
        raise HungUpError(wanted, received)
