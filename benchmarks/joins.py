"""What it costs the server to let a listener in (WHEP request, ICE, DTLS, SRTP keys), and to let it go.

    python -m benchmarks.joins [--waves 10] [--size 100]

A real `lac serve` in a process of its own. In each wave that many come, ten at a time, each on an HTTP connection that
is there already; the CPU up to the last one's keys is what coming costs. What they are sent meanwhile (silence, to the
few who are in) is part of it. Then they all leave.
"""

from __future__ import annotations

import argparse
import statistics

import httpx
import trio

from benchmarks.soak import TOGETHER, connected
from benchmarks.support import measured_server, print_head, print_row, warm_up
from lac.loadtest.plan import Plan
from lac.loadtest.server_cpu import cpu_seconds
from lac.loadtest.signalling import TIMEOUT_S, Signalling
from lac_media.certificate import make_dtls_identity
from tests.e2e.server import LacServer

#: Until what leaving brings about has been written down.
SETTLE_S = 2.0


async def wave(server: LacServer, show_id: str, size: int) -> tuple[float, float, float]:
    """Seconds of the server's CPU for coming and for leaving, and how long coming took."""
    identity, door, all_in = make_dtls_identity(), trio.CapacityLimiter(TOGETHER), trio.Event()
    pid, inside = server.process.pid, 0

    async def listen(signalling: Signalling) -> None:
        nonlocal inside
        await door.acquire()
        async with connected(signalling, show_id, identity):
            door.release()
            inside += 1
            if inside == size:
                all_in.set()
            await all_in.wait()

    cpu, began = cpu_seconds(pid) or 0.0, trio.current_time()
    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_S) as http, trio.open_nursery() as nursery:
        signalling = Signalling(Plan(server.url, broadcast_id=show_id), http)
        for _ in range(size):
            nursery.start_soon(listen, signalling)
        await all_in.wait()
        took_s = trio.current_time() - began
        cpu_in = cpu_seconds(pid) or 0.0
    await trio.sleep(SETTLE_S)
    return cpu_in - cpu, (cpu_seconds(pid) or 0.0) - cpu_in, took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waves", type=int, default=10)
    parser.add_argument("--size", type=int, default=100)
    arguments = parser.parse_args()
    size = arguments.size
    print_head("listeners", "ms of CPU to come", "joins/s on one core", "ms to leave", "joins/s seen")
    with measured_server() as server:
        host = server.register("Hanna")
        warm_up(server, host)
        show_id = server.start_show(host)["id"]
        waves = [trio.run(wave, server, show_id, size) for _ in range(arguments.waves + 1)][1:]
    come_ms, leave_ms = (statistics.median(part[index] for part in waves) / size * 1000 for index in (0, 1))
    seen = size / statistics.median(part[2] for part in waves)
    print_row(size * len(waves), f"{come_ms:.2f}", f"{1000 / come_ms:.0f}", f"{leave_ms:.2f}", f"{seen:.0f}")


if __name__ == "__main__":
    main()
