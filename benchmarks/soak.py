"""Thousands of listeners come and go: what each costs the server, and whether anything of them stays.

    python -m benchmarks.soak [--cycles 12000]

A real `lac serve` in a process of its own; here, one listener after the other (some at a time) asks by WHEP, goes
through ICE and DTLS to the SRTP keys, and says goodbye. After each part everyone has left, and the server is asked what
it still has. Memory is compared with that after the first half: until then a process gets what it keeps for good, and
the collector has not yet looked at what HTTP's libraries leave in cycles. Exits with 1 if anything stays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import httpx
import trio

from benchmarks.support import measured_server, print_head, print_row, resident_kib, warm_up
from lac.loadtest.listeners import open_client_socket
from lac.loadtest.plan import Plan
from lac.loadtest.server_cpu import cpu_seconds
from lac.loadtest.signalling import TIMEOUT_S, Signalling
from lac_media.certificate import DtlsIdentity, make_dtls_identity
from lac_media.net.peer_task import ClientPeer
from lac_media.parameters import Direction
from lac_media.proto.peer import PeerConnected, PeerEvent
from tests.e2e.server import LacServer

PARTS = 6
WARM_UP_PARTS = 3
#: How much resident memory may still grow for a thousand listeners when all is warm. A leak of a list and its entry for
#: each is more; what the allocator and SQLite's page caches do is less.
GROWTH_MAX_KIB = 100.0
#: Coming and going at the same time.
TOGETHER = 10
CONNECT_TIMEOUT_S = 20.0
#: For what ends by a deadline: keep-alive of the HTTP connections (20 s) is the longest.
LEAVE_TIMEOUT_S = 60.0
#: What must be as before once everyone has left.
COUNTED = ("lac_media_sessions", "lac_media_peers", "lac_listeners", "lac_tasks")
#: The same, but for what the database's pool opens when more calls than ever before come together.
DESCRIPTORS = "process_open_fds"
POOL_DESCRIPTORS = 12


@dataclass(frozen=True)
class Remains:
    """What the server has when nobody is there. `cpu_s` is what it has used up to now."""

    counts: dict[str, float]
    descriptors: float
    resident_kib: int
    cpu_s: float


@asynccontextmanager
async def connected(signalling: Signalling, show_id: str, identity: DtlsIdentity) -> AsyncGenerator[None, None]:
    """One listener, from its request to its goodbye; the block is run once it has its keys. Raises `RefusedError`,
    `trio.TooSlowError`."""
    has_keys = trio.Event()

    def on_event(event: PeerEvent) -> None:
        if isinstance(event, PeerConnected):
            has_keys.set()

    sock = open_client_socket("127.0.0.1")
    try:
        peer = ClientPeer(sock, identity, on_event=on_event)
        answered = await signalling.connect(show_id, peer, Direction.RECV, cname="")
        peer.connect(answered.ice, answered.candidate, answered.dtls)
        with trio.fail_after(CONNECT_TIMEOUT_S):
            await peer.run_until(has_keys.is_set)
        yield
        peer.close()
    finally:
        sock.close()


async def cycle(url: str, show_id: str, count: int) -> None:
    """`count` listeners, `TOGETHER` at a time."""
    identity = make_dtls_identity()
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http, trio.open_nursery() as nursery:
        signalling = Signalling(Plan(url, broadcast_id=show_id), http)
        left = count

        async def one_after_the_other() -> None:
            nonlocal left
            while left:
                left -= 1
                async with connected(signalling, show_id, identity):
                    pass

        for _ in range(TOGETHER):
            nursery.start_soon(one_after_the_other)


def remains(server: LacServer, is_settled: Callable[[dict[str, float]], bool]) -> Remains:
    """When it is, or after `LEAVE_TIMEOUT_S`."""
    counts: dict[str, float] = {}

    async def wait() -> None:
        with trio.move_on_after(LEAVE_TIMEOUT_S):
            while not is_settled(counts):
                await trio.sleep(0.2)
                for name in COUNTED:
                    counts[name] = await trio.to_thread.run_sync(server.metric, name)

    trio.run(wait)
    pid = server.process.pid
    return Remains(counts, server.metric(DESCRIPTORS), resident_kib(pid), cpu_seconds(pid) or 0.0)


def soak(server: LacServer, show_id: str, cycles: int, parts: int) -> list[Remains]:
    """What remains before the first part and after each."""
    found = [remains(server, lambda counts: counts.get("lac_media_sessions") == 0.0)]
    for _ in range(parts):
        trio.run(cycle, server.url, show_id, cycles // parts)
        found.append(remains(server, lambda counts: counts == found[0].counts))
    return found


def growth_kib(found: list[Remains], cycles: int) -> float:
    """For a thousand listeners, after the warm-up; `found` as `soak` gives it."""
    later = found[WARM_UP_PARTS:]
    listeners = cycles // (len(found) - 1) * (len(later) - 1)
    return (later[-1].resident_kib - later[0].resident_kib) / listeners * 1000


def complaints(found: list[Remains], cycles: int) -> list[str]:
    """What has stayed behind that must not."""
    first, last = found[0], found[-1]
    stayed = [
        f"{name}: {first.counts[name]:.0f} at first, {count:.0f} at the end"
        for name, count in last.counts.items()
        if count != first.counts[name]
    ]
    if last.descriptors > found[WARM_UP_PARTS].descriptors + POOL_DESCRIPTORS:
        stayed.append(f"{last.descriptors - found[WARM_UP_PARTS].descriptors:.0f} descriptors since the warm-up")
    if growth_kib(found, cycles) > GROWTH_MAX_KIB:
        stayed.append(f"memory: more than {GROWTH_MAX_KIB:.0f} KiB for a thousand listeners")
    return stayed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=12000)
    cycles: int = parser.parse_args().cycles
    print_head("listeners so far", "sessions", "peers", "tasks", "descriptors", "resident MiB", "ms of CPU each")
    with measured_server() as server:
        host = server.register("Hanna")
        warm_up(server, host)
        show_id = server.start_show(host)["id"]
        found = soak(server, show_id, cycles, PARTS)
    for part, (before, after) in enumerate(pairwise(found), 1):
        sessions, peers, _, tasks = (int(after.counts[name]) for name in COUNTED)
        each_ms = (after.cpu_s - before.cpu_s) / (cycles // PARTS) * 1000
        resident = f"{after.resident_kib / 1024:.1f}"
        print_row(part * cycles // PARTS, sessions, peers, tasks, int(after.descriptors), resident, f"{each_ms:.1f}")
    print(f"\nOnce warm, {growth_kib(found, cycles):.0f} KiB for a thousand listeners.")
    for complaint in (stayed := complaints(found, cycles)):
        print(f"Stayed behind: {complaint}")
    return 1 if stayed else 0


if __name__ == "__main__":
    sys.exit(main())
