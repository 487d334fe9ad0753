"""What listeners by HLS cost the server, beside the same number by WebRTC.

    python -m benchmarks.hls [--listeners 100 300] [--seconds 10]

A real `lac serve` in a process of its own. HLS clients, in another process, do what a player at the live edge does: the
next playlist as a delta and the part that is hinted, both waited for, on two connections. WebRTC listeners are those of
`lac loadtest`. No CDN is in between: every part is fetched from the server.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from urllib.parse import urljoin, urlsplit

import trio

from benchmarks.support import gather, measured_server, print_head, print_row, warm_up
from lac.loadtest.server_cpu import cpu_seconds
from tests.e2e.server import LacServer

#: Coming in, a second.
PACE = 60
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_HINT = re.compile(r'PRELOAD-HINT:TYPE=PART,URI="([^"]*/(\d+)\.(\d+)-[^"]*)"')


class Connection:
    def __init__(self, stream: trio.SocketStream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._rest = b""

    async def get(self, path: str) -> str:
        await self._stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        while b"\r\n\r\n" not in self._rest:
            self._rest += await self._more()
        head, _, body = self._rest.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        if found is None or not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path}: {head.decode('latin-1').splitlines()[0]}")
        while len(body) < int(found[1]):
            body += await self._more()
        self._rest = body[int(found[1]) :]
        return body[: int(found[1])].decode("latin-1")

    async def _more(self) -> bytes:
        data = await self._stream.receive_some(65_536)
        if not data:
            raise ConnectionError("the server has hung up")
        return bytes(data)


class Crowd:
    """`answers` counts what came, `behind` whatever did not come within a part's length of its turn."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self.answers = 0

    async def listen(self) -> None:
        host, port = self._url.hostname or "", self._url.port or 80
        async with (
            await trio.open_tcp_stream(host, port) as one,
            await trio.open_tcp_stream(host, port) as two,
        ):
            playlists, parts = Connection(one, host), Connection(two, host)
            index = await playlists.get(self._url.path)
            address = urljoin(self._url.path, next(line for line in index.splitlines() if not line.startswith("#")))
            playlist = await playlists.get(address)
            while True:
                hint = _HINT.search(playlist)
                if hint is None:
                    raise RuntimeError("the playlist hints at nothing")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(parts.get, urljoin(address, hint[1]))
                    playlist = await playlists.get(f"{address}?_HLS_msn={hint[2]}&_HLS_part={hint[3]}&_HLS_skip=YES")
                self.answers += 2

    async def run(self, listeners: int, seconds: float) -> None:
        """Prints when all are in, and at the end how many answers a second came to each."""
        async with trio.open_nursery() as nursery:
            for _ in range(listeners):
                nursery.start_soon(self.listen)
                await trio.sleep(1 / PACE)
            await trio.sleep(3)
            print("measuring", flush=True)
            before = self.answers
            await trio.sleep(seconds)
            print((self.answers - before) / seconds / listeners, flush=True)
            nursery.cancel_scope.cancel()


def by_hls(server: LacServer, show_id: str, listeners: int, seconds: float) -> tuple[float, float]:
    """The server's share of a core, and answers a second to each listener."""
    url = f"{server.url}/hls/{show_id}/index.m3u8"
    client = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.hls",
            "--client",
            url,
            "--listeners",
            str(listeners),
            "--seconds",
            str(seconds),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with client:
        if client.stdout is None or client.stdout.readline().strip() != "measuring":
            raise RuntimeError("the HLS clients broke off")
        began, before = time.monotonic(), cpu_seconds(server.process.pid) or 0.0
        answers = float(client.stdout.readline())
        core = ((cpu_seconds(server.process.pid) or 0.0) - before) / (time.monotonic() - began)
    return core, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        trio.run(Crowd(arguments.client).run, arguments.listeners[0], arguments.seconds)
        return
    print_head("listeners", "by", "server core", "% of a core for each", "answers/s for each", "lost")
    for listeners in arguments.listeners:
        with measured_server() as server:
            host = server.register("Hanna")
            warm_up(server, host)
            plan = {"listeners": listeners, "ramp_s": listeners / PACE, "duration_s": arguments.seconds}
            crowd = gather(server, host, **plan)
            each = f"{crowd.core / listeners:.3%}"
            print_row(listeners, "WebRTC", f"{crowd.core:.0%}", each, "–", f"{crowd.results.loss:.2%}")
            show = server.start_show(host)
            core, answers = by_hls(server, show["id"], listeners, arguments.seconds)
            print_row(listeners, "HLS", f"{core:.0%}", f"{core / listeners:.3%}", f"{answers:.2f}", "–")


if __name__ == "__main__":
    main()
