"""One room with many sockets: how late chat arrives, and what a delivered frame costs the server.

    python -m benchmarks.room [--sockets 1000] [--seconds 15] [--chat 10] [--reactions 50]

A real `lac serve` in a process of its own; here, in one thread, raw WebSocket clients that only look for the time a
message was sent. Both share this machine. CPU is the server process's, user and system, while messages flow.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import resource
import secrets
import selectors
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.e2e.server import LacServer, running_server

_SENT_AT = re.compile(rb'"text":"at (\d+)"')
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Watcher:
    """One raw socket in the room. Frames are counted by their headers and not parsed."""

    sock: socket.socket
    frames: int = 0
    buffer: bytearray = field(default_factory=bytearray)

    def send(self, event: str, data: dict[str, object]) -> None:
        payload = json.dumps({"event": event, "data": data}).encode()
        mask = secrets.token_bytes(4)
        size = len(payload)
        head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
        masked = bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))
        self.sock.sendall(head + mask + masked)

    def receive(self, now_us: int, delays_ms: list[float]) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the server closed a socket")
        delays_ms.extend((now_us - int(found[1])) / 1000 for found in _SENT_AT.finditer(data))
        self.buffer += data
        while len(self.buffer) >= 2:
            size, start = self.buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(self.buffer[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(self.buffer[2:10], "big"), 10
            if len(self.buffer) < start + size:
                break
            self.frames += 1
            del self.buffer[: start + size]


def open_watcher(url: str, show_id: str) -> Watcher:
    """Connect, upgrade and join."""
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80))
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    sock.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(4096)
    watcher = Watcher(sock, buffer=bytearray(head.partition(b"\r\n\r\n")[2]))
    watcher.send("join", {"broadcastId": show_id})
    while b'"joined"' not in watcher.buffer:
        watcher.buffer += sock.recv(65536)
    sock.setblocking(False)
    return watcher


def cpu_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def run(server: LacServer, sockets: int, seconds: float, chat_per_s: float, reactions_per_s: float) -> None:
    host = server.register("Ada")
    show = server.start_show(host)
    began = time.monotonic()
    watchers = [open_watcher(server.url, show["id"]) for _ in range(sockets)]
    joined_s = time.monotonic() - began
    selector = selectors.DefaultSelector()
    for watcher in watchers:
        selector.register(watcher.sock, selectors.EVENT_READ, watcher)
    delays_ms: list[float] = []

    def pump(until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                key.data.receive(time.monotonic_ns() // 1000, delays_ms)

    pump(time.monotonic() + 2)  # what the joins set off
    delays_ms.clear()
    frames_before, cpu_before, began = (
        sum(w.frames for w in watchers),
        cpu_seconds(server.process.pid),
        time.monotonic(),
    )
    messages = reactions = 0
    while (elapsed := time.monotonic() - began) < seconds:
        while messages < elapsed * chat_per_s:
            watchers[messages % sockets].send("chatMessage", {"text": f"at {time.monotonic_ns() // 1000}"})
            messages += 1
        while reactions < elapsed * reactions_per_s:
            watchers[-1 - reactions % sockets].send("reaction", {"emoji": "👏"})
            reactions += 1
        pump(time.monotonic() + 0.02)
    pump(time.monotonic() + 2)
    cpu_s, frames = cpu_seconds(server.process.pid) - cpu_before, sum(w.frames for w in watchers) - frames_before
    for watcher in watchers:
        watcher.sock.close()
    cuts = statistics.quantiles(delays_ms, n=100)
    print("| sockets | joined in s | chat/s | reactions/s | frames | p50 ms | p95 ms | p99 ms | CPU µs/frame | core |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {sockets} | {joined_s:.1f} | {chat_per_s:g} | {reactions_per_s:g} | {frames} | {cuts[49]:.0f} "
        f"| {cuts[94]:.0f} | {cuts[98]:.0f} | {cpu_s / frames * 1e6:.1f} | {cpu_s / (seconds + 2):.0%} |"
    )
    expected = messages * sockets
    if len(delays_ms) != expected:
        print(f"lost: {expected - len(delays_ms)} of {expected} chat deliveries")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--chat", type=float, default=10.0, help="messages per second in the room")
    parser.add_argument("--reactions", type=float, default=50.0, help="reactions per second in the room")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with tempfile.TemporaryDirectory() as data_dir, running_server(Path(data_dir)) as server:
        server.http.timeout = httpx.Timeout(60)
        run(server, arguments.sockets, arguments.seconds, arguments.chat, arguments.reactions)


if __name__ == "__main__":
    main()
