"""Thousands of listeners come and go: what each costs the server, and whether anything of them stays.

    python -m benchmarks.soak [--cycles 12000]

A real `lac serve` in a process of its own; here, one listener after the other (some at a time) asks by WHEP, goes
through ICE and DTLS to the SRTP keys, and says goodbye. After each part everyone has left, and the server is asked what
it still has. Exits with 1 if anything stays.

Of memory it is asked when the collector has been everywhere (`benchmarks.soak_server`): how many blocks Python has in
use, how many bytes `malloc` has, and what is resident. What counts is how each grows in the last third, from part to
part (the median of the slopes between any two looks): until then a process gets what it keeps for good, and a step that
happens once is no leak. One object kept for each listener is twice what fails.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

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
#: What may still grow for each listener in the last third: blocks of Python, and bytes of `malloc`.
BLOCKS_MAX, HEAP_MAX = 0.5, 100.0
#: And resident memory, KiB for a thousand: what the two above do not see, memory that cannot be used again. Chance
#: makes it go up and down by a fifth of this.
RESIDENT_MAX_KIB = 150.0
#: For the server's answer to what it keeps.
ANSWER_S = 10.0
#: Coming and going at the same time.
TOGETHER = 10
CONNECT_TIMEOUT_S = 20.0
#: For what ends by a deadline: keep-alive of the HTTP connections (20 s) is the longest.
LEAVE_TIMEOUT_S = 60.0
#: Where `benchmarks.soak_server` writes it.
FILE_VARIABLE = "SOAK_FILE"
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
    blocks: int
    heap_bytes: int
    cpu_s: float


@asynccontextmanager
async def connected(signalling: Signalling, show_id: str, identity: DtlsIdentity) -> AsyncGenerator[ClientPeer, None]:
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
        yield peer
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
    descriptors, cpu_s = server.metric(DESCRIPTORS), cpu_seconds(pid) or 0.0
    kept = ask_what_is_kept(server)
    return Remains(counts, descriptors, resident_kib(pid), kept["blocks"], kept["heap_bytes"], cpu_s)


@contextmanager
def soaked_server() -> Iterator[LacServer]:
    """A measured one that answers `ask_what_is_kept`."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FILE_VARIABLE] = str(Path(folder) / "kept.json")
        with measured_server(program="benchmarks.soak_server") as server:
            yield server


def ask_what_is_kept(server: LacServer) -> dict[str, int]:
    file = Path(os.environ[FILE_VARIABLE])
    file.unlink(missing_ok=True)
    server.process.send_signal(signal.SIGUSR1)
    give_up_at = time.monotonic() + ANSWER_S
    while not file.exists():
        if time.monotonic() > give_up_at:
            raise RuntimeError("the server does not say what it keeps")
        time.sleep(0.02)
    kept: dict[str, int] = json.loads(file.read_text(encoding="ascii"))
    return kept


def soak(server: LacServer, show_id: str, cycles: int, parts: int) -> list[Remains]:
    """What remains before the first part and after each."""
    found = [remains(server, lambda counts: counts.get("lac_media_sessions") == 0.0)]
    for _ in range(parts):
        trio.run(cycle, server.url, show_id, cycles // parts)
        found.append(remains(server, lambda counts: counts == found[0].counts))
    return found


def slope(found: list[Remains], cycles: int, value: Callable[[Remains], float]) -> float:
    """How much the value grows for each listener in the last third of what `soak` found: the median of the slopes
    between any two looks (Theil and Sen)."""
    parts = len(found) - 1
    late = list(enumerate(map(value, found)))[-max(2, parts // 3 + 1) :]
    slopes = [(after - before) / (later - earlier) for (earlier, before), (later, after) in combinations(late, 2)]
    return statistics.median(slopes) / (cycles / parts)


def complaints(found: list[Remains], cycles: int) -> list[str]:
    """What has stayed behind that must not."""
    first, last = found[0], found[-1]
    stayed = [
        f"{name}: {first.counts[name]:.0f} at first, {count:.0f} at the end"
        for name, count in last.counts.items()
        if count != first.counts[name]
    ]
    warm = found[len(found) // 2]
    if last.descriptors > warm.descriptors + POOL_DESCRIPTORS:
        stayed.append(f"{last.descriptors - warm.descriptors:.0f} descriptors since the warm-up")
    blocks, heap, resident = growth(found, cycles)
    if blocks > BLOCKS_MAX:
        stayed.append(f"memory: {blocks:.2f} blocks of Python for each listener")
    if heap > HEAP_MAX:
        stayed.append(f"memory: {heap:.0f} bytes of the heap for each listener")
    if resident > RESIDENT_MAX_KIB:
        stayed.append(f"memory: {resident:.0f} KiB resident for a thousand listeners")
    return stayed


def growth(found: list[Remains], cycles: int) -> tuple[float, float, float]:
    """Blocks and bytes of the heap for each listener, and resident KiB for a thousand."""
    return (
        slope(found, cycles, lambda one: one.blocks),
        slope(found, cycles, lambda one: one.heap_bytes),
        slope(found, cycles, lambda one: one.resident_kib) * 1000,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=12000)
    cycles: int = parser.parse_args().cycles
    print_head(
        *("listeners so far", "sessions", "peers", "tasks", "descriptors", "resident MiB", "Python's blocks"),
        *("heap MiB", "ms of CPU each"),
    )
    with soaked_server() as server:
        host = server.register("Hanna")
        warm_up(server, host)
        show_id = server.start_show(host)["id"]
        found = soak(server, show_id, cycles, PARTS)
    for part, (before, after) in enumerate(pairwise(found), 1):
        sessions, peers, _, tasks = (int(after.counts[name]) for name in COUNTED)
        each_ms = (after.cpu_s - before.cpu_s) / (cycles // PARTS) * 1000
        memory = (f"{after.resident_kib / 1024:.1f}", after.blocks, f"{after.heap_bytes / 1024**2:.2f}")
        print_row(part * cycles // PARTS, sessions, peers, tasks, int(after.descriptors), *memory, f"{each_ms:.1f}")
    blocks, heap, resident = growth(found, cycles)
    print(
        f"\nIn the last third, {blocks:.3f} blocks of Python and {heap:.1f} bytes of the heap for each listener, "
        f"{resident:.0f} KiB resident for a thousand."
    )
    for complaint in (stayed := complaints(found, cycles)):
        print(f"Stayed behind: {complaint}")
    return 1 if stayed else 0


if __name__ == "__main__":
    sys.exit(main())
