"""What it costs the server to let a listener in (WHEP request, ICE, DTLS, SRTP keys), and to let it go.

    python -m benchmarks.joins [--sizes 100 1000 3000] [--listeners 1000]

A real `lac serve` in a process of its own. In each wave that many come, ten at a time, each on an HTTP connection that
is there already; the CPU up to the last one's keys is what coming costs. What they are sent meanwhile (silence, to
those who are in) is part of it, and with thousands most of it. Then they all leave. A row has as many waves as it takes
for `--listeners` to have come, one at least.
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
from lac_media.net.peer_task import ClientPeer
from lac_media.proto.ice import IceControlling
from tests.e2e.server import LacServer

#: The first wave, which is not counted.
WARM_UP = 100
#: A server takes somebody for gone who has not checked the connection for half a minute.
CHECK_S = 10.0
#: Until what leaving brings about has been written down.
SETTLE_S = 2.0


def check(peer: ClientPeer) -> None:
    """Tell the server that somebody is there. Its answer waits behind all the audio that nobody looks at."""
    if peer.core is None or not isinstance(peer.core.ice, IceControlling):
        return
    peer.core.ice.check_now(now=trio.current_time())
    peer.core.ice.handle_timer(now=trio.current_time())
    for data, address in peer.core.ice.datagrams_to_send():
        peer.socket.send_nowait(data, address)


async def wave(server: LacServer, show_id: str, size: int) -> tuple[float, float, float]:
    """Seconds of the server's CPU for coming and for leaving, and how long coming took."""
    identity, door, all_in = make_dtls_identity(), trio.CapacityLimiter(TOGETHER), trio.Event()
    pid, inside = server.process.pid, 0

    async def listen(signalling: Signalling) -> None:
        nonlocal inside
        await door.acquire()
        async with connected(signalling, show_id, identity) as peer:
            door.release()
            inside += 1
            if inside == size:
                all_in.set()
            while not all_in.is_set():
                with trio.move_on_after(CHECK_S):
                    await all_in.wait()
                check(peer)

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
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 3000], help="of a wave")
    parser.add_argument("--listeners", type=int, default=1000, help="of a row, together")
    arguments = parser.parse_args()
    print_head("come together", "waves", "ms of CPU to come", "joins/s on one core", "ms to leave", "joins/s seen")
    for size in arguments.sizes:
        count = max(1, arguments.listeners // size)
        with measured_server() as server:
            host = server.register("Hanna")
            warm_up(server, host)
            show_id = server.start_show(host)["id"]
            trio.run(wave, server, show_id, WARM_UP)
            waves = [trio.run(wave, server, show_id, size) for _ in range(count)]
        come_ms, leave_ms = (statistics.median(part[index] for part in waves) / size * 1000 for index in (0, 1))
        seen = size / statistics.median(part[2] for part in waves)
        print_row(size, count, f"{come_ms:.2f}", f"{1000 / come_ms:.0f}", f"{leave_ms:.2f}", f"{seen:.0f}")


if __name__ == "__main__":
    main()
