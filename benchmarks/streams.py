"""Hundreds of radios on one encode: what a plain stream costs the server, and what the live audio notices of it.

    python -m benchmarks.streams [--listeners 300] [--seconds 10]

A real `lac serve` in a process of its own, with an Icecast source client as the host; here, in one thread, clients that
throw away what they read. Both share this machine. CPU is the server process's, user and system.
"""

from __future__ import annotations

import argparse
import base64
import re
import resource
import selectors
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.room import cpu_seconds
from lac_media.container.ogg_opus import OggOpusWriter
from lac_media.opus import Encoder
from tests.e2e.server import LacServer, running_server
from tests.e2e.tone import RATE_HZ, tone

FRAME = 960


class Source:
    """A source client that sends a tone as Opus in Ogg, five packets a page, at the pace of the clock."""

    def __init__(self, url: str, show_id: str, key: str) -> None:
        parts = urlsplit(url)
        self._sock = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80))
        credentials = base64.b64encode(f"source:{key}".encode()).decode()
        head = f"SOURCE /source/{show_id} HTTP/1.0\r\nAuthorization: Basic {credentials}\r\n"
        self._sock.sendall(f"{head}Content-Type: audio/ogg\r\n\r\n".encode())
        if b" 200 " not in self._sock.recv(1000):
            raise ConnectionError("the server did not take the source")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        encoder, writer = Encoder(bitrate_bps=96_000), OggOpusWriter(1)
        sound = np.repeat(tone(440, 1.0)[:, None], 2, axis=1)
        packets = [
            encoder.encode(np.ascontiguousarray(sound[start : start + FRAME])) for start in range(0, RATE_HZ, FRAME)
        ]
        self._sock.sendall(writer.begin())
        began, count = time.monotonic(), 0
        while not self._stop.wait(max(0.0, began + count * FRAME / RATE_HZ - time.monotonic())):
            for packet in packets[count % 50 : count % 50 + 5]:
                writer.add(packet)
            count += 5
            self._sock.sendall(writer.flush())

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._sock.close()


@dataclass
class Figures:
    core: float
    octets: int
    skips: float
    #: Of all program packets, how many had reached their last WebRTC listener within 5 ms.
    quick: float


def open_radio(url: str, path: str) -> socket.socket:
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80))
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    head = sock.recv(100)
    if b" 200 " not in head:
        raise ConnectionError(head.decode("latin-1"))
    sock.setblocking(False)
    return sock


def forwarded(server: LacServer) -> tuple[float, float]:
    """Program packets in all, and those that took at most 5 ms."""
    text = server.call("GET", "/metrics").text
    found = {name: float(value) for name, value in re.findall(r'^lac_forwarding\S*le="([^"]+)"} (\S+)$', text, re.M)}
    return found["+Inf"], found["0.005"]


def measure(server: LacServer, path: str, listeners: int, seconds: float) -> Figures:
    radios = [open_radio(server.url, path) for _ in range(listeners)]
    selector = selectors.DefaultSelector()
    for radio in radios:
        selector.register(radio, selectors.EVENT_READ)
    octets = 0

    def pump(until: float) -> None:
        nonlocal octets
        while (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]  # the sockets from above
                if not data:
                    raise ConnectionError("the server hung up on a radio")
                octets += len(data)

    pump(time.monotonic() + 2)  # the burst at the start
    octets, packets, cpu, began = 0, forwarded(server), cpu_seconds(server.process.pid), time.monotonic()
    skips = server.metric("lac_stream_skips_total")
    pump(began + seconds)
    cpu, took = cpu_seconds(server.process.pid) - cpu, time.monotonic() - began
    after = forwarded(server)
    for radio in radios:
        radio.close()
    time.sleep(0.5)
    skips = server.metric("lac_stream_skips_total") - skips
    return Figures(cpu / took, octets, skips, (after[1] - packets[1]) / max(after[0] - packets[0], 1))


def run(server: LacServer, listeners: int, seconds: float) -> None:
    show = server.create_show(server.register("Ada"))
    source = Source(server.url, show["id"], show["streamKey"])
    try:
        time.sleep(2)
        print("| format | listeners | core | CPU µs/s and listener | kbit/s each | skips | forwarded within 5 ms |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        idle = 0.0
        for ending in ("ogg", "mp3", "aac"):
            for count in (1, listeners) if ending == "mp3" else (listeners,):
                figures = measure(server, f"/listen/{show['id']}.{ending}", count, seconds)
                kbits = figures.octets * 8 / 1000 / seconds / count
                idle = figures.core if count == 1 else idle
                each = figures.core / count * 1e6
                print(
                    f"| {ending} | {count} | {figures.core:.1%} | {each:.0f} | {kbits:.0f} | {figures.skips:.0f} "
                    f"| {figures.quick:.1%} |",
                    flush=True,
                )
    finally:
        source.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    limits = {"LAC_MAX_STREAMS": "5000", "LAC_MAX_STREAMS_PER_ADDRESS": "5000"}
    with tempfile.TemporaryDirectory() as data_dir, running_server(Path(data_dir), **limits) as server:
        run(server, arguments.listeners, arguments.seconds)


if __name__ == "__main__":
    main()
