"""Does the API disturb the audio, and the audio the API? Up to two thousand listeners, with and without 100 requests a
second.

    python -m benchmarks.busy [--listeners 100 400 1000 2000] [--requests 100] [--seconds 10]

The requests come from a process of their own, at fixed times, whether or not the earlier ones have been answered; each
is measured from the time at which it was due. They are those of 25 people by turns, and one of five, the host's, writes
to the database. They go out by plain sockets, because the two cores are the server's, too. The forwarding delay is the
server's own measurement, from the kernel's receipt of a packet to the hand-over of its last listener's.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import re
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import trio

from benchmarks.support import Crowd, gather, measured_server, print_head, print_row, warm_up
from lac.loadtest.results import Spread
from tests.e2e.server import Account, LacServer

PACE = 60
PEOPLE = 25
#: As a few browsers have them: who finds none free waits, and that counts.
CONNECTIONS = 12
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


def ask(pipe: Connection, port: int, tokens: list[str], show_id: str, per_s: float) -> None:
    """Wait for the word, then ask until the other end says stop; sends what came of it."""
    pipe.recv()
    pipe.send(trio.run(ask_on, pipe, port, tokens, show_id, per_s))


@dataclass
class Answers:
    """In milliseconds: from when a request was due to its answer, and how late it was sent for want of a turn here."""

    reads: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failures: int = 0


async def ask_on(pipe: Connection, port: int, tokens: list[str], show_id: str, per_s: float) -> Answers:
    """The first token is the host's."""
    answers = Answers()
    show = f"/api/broadcasts/{show_id}"
    change = b'{"description":"Changed again and again."}'
    asked = [
        ("GET", "/api/broadcasts?status=live", b""),
        ("GET", show, b""),
        ("GET", "/api/auth/me", b""),
        ("GET", f"{show}/audit", b""),
        ("PATCH", show, change),
    ]
    due_send, due_receive = trio.open_memory_channel[tuple[int, float]](math.inf)

    async def connection() -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            async for number, due in due_receive:
                method, path, body = asked[number % len(asked)]
                token = tokens[0 if body or path.endswith("/audit") else number % len(tokens)]
                answers.failures += not await exchange(stream, method, path, token, body)
                (answers.changes if body else answers.reads).append((trio.current_time() - due) * 1000)

    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            nursery.start_soon(connection)
        began, number = trio.current_time(), 0
        async with due_send:
            while not pipe.poll():
                due = began + number / per_s
                await trio.sleep_until(due)
                answers.late.append((trio.current_time() - due) * 1000)
                due_send.send_nowait((number, due))
                number += 1
    return answers


async def exchange(stream: trio.SocketStream, method: str, path: str, token: str, body: bytes) -> bool:
    """One request and its response, with as little work as possible: whether it was answered with 200."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    await stream.send_all(head.encode("ascii") + b"\r\n" + body)
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += await _more(stream)
    length = _LENGTH.search(data, 0, end + 2)
    wanted = end + 4 + (int(length[1]) if length is not None else 0)
    while len(data) < wanted:
        data += await _more(stream)
    return data.startswith(b"HTTP/1.1 200 ")


async def _more(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some()
    if not data:
        raise RuntimeError("the server has closed the connection")
    return bytes(data)


def measure(server: LacServer, people: list[Account], listeners: int, per_s: float, seconds: float) -> None:
    host = people[0]
    ours, theirs = multiprocessing.Pipe()
    show_id = server.create_show(host)["id"]
    port = int(server.url.rpartition(":")[2])
    arguments = (theirs, port, [person.token for person in people], show_id, per_s)
    asking = multiprocessing.get_context("spawn").Process(target=ask, args=arguments)
    if per_s:
        asking.start()
    plan = {"listeners": listeners, "ramp_s": listeners / PACE, "duration_s": seconds}
    crowd: Crowd = gather(server, host, on_all_in=lambda: ours.send("go") if per_s else None, **plan)
    answers = Answers()
    if per_s:
        ours.send("stop")
        answers = ours.recv()
        asking.join()
    heard = crowd.results.latency_ms
    of_all, of_changes, of_late = map(Spread.of, (answers.reads + answers.changes, answers.changes, answers.late))
    print_row(
        *(crowd.results.connected, f"{per_s:g}", f"{crowd.core:.0%}", f"{crowd.results.loss:.2%}"),
        *(f"{crowd.forwarding_p50_ms:.1f}", f"{crowd.forwarding_p99_ms:.1f}"),
        *(("–", "–") if heard is None else (f"{heard.p50:.0f}", f"{heard.p99:.0f}")),
        *(("–", "–") if of_all is None else (f"{of_all.p50:.0f}", f"{of_all.p95:.0f}")),
        *("–" if spread is None else f"{spread.p95:.0f}" for spread in (of_changes, of_late)),
        answers.failures,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, nargs="+", default=[100, 400, 1000, 2000])
    parser.add_argument("--requests", type=float, default=100.0, help="a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    print_head(
        *("listeners", "requests/s", "server core", "lost", "forwarding p50 ms", "p99 ms", "heard p50 ms", "p99 ms"),
        *("API p50 ms", "p95 ms", "of changes p95 ms", "sent late p95 ms", "failed"),
    )
    with measured_server() as server:
        people = [server.register(f"Person{number}") for number in range(PEOPLE)]
        warm_up(server, people[0])
        for listeners in arguments.listeners:
            for per_s in (0.0, arguments.requests):
                measure(server, people, listeners, per_s, arguments.seconds)


if __name__ == "__main__":
    main()
