"""Memory that one connected WebRTC listener costs: the relay alone, the whole server, and that with a WebSocket.

    python -m benchmarks.memory [--listeners 100 1000 3000] [--sockets 100 1000]

The server runs in a process of its own, the listeners in another, so that only the server's growth is counted: its
resident memory with N connected listeners less that before the first, divided by N. In the whole server they listen in
the economy variant, because 3,000 of the usual one are more than a core sends to; what is kept of them is the same.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import trio

from benchmarks.support import allow_files, gather, measured_server, print_head, print_row, warm_up
from lac_media.certificate import make_dtls_identity
from lac_media.engine import EngineConfig, open_engine
from lac_media.net.peer_task import ClientPeer
from lac_media.net.udp import open_udp_socket
from lac_media.parameters import (
    ConsumerParameters,
    Direction,
    DtlsParameters,
    DtlsRole,
    Fingerprint,
    IceCandidate,
    IceParameters,
)
from lac_media.proto.peer import PeerConnected, PeerEvent
from lac_media.rooms.events import RoomEvent, SessionConnected

#: Handshakes under way at once.
TOGETHER = 20
#: The same for the whole server: listeners a second.
PACE = 80


def resident_kib() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def relay(pipe: Connection, listeners: int, client: Fingerprint) -> None:
    """Open sessions as the other process asks for them, and report memory at the end."""
    connected = 0

    def on_event(event: RoomEvent) -> None:
        nonlocal connected
        connected += isinstance(event, SessionConnected)

    async with open_engine(EngineConfig()) as engine, engine.open_room("memory", on_event) as room:
        pipe.send((engine.candidates[0], engine.fingerprints))
        await trio.sleep(0.2)
        before = resident_kib()
        while connected < listeners:
            if pipe.poll():
                pipe.recv()
                session = await room.open_session(Direction.RECV, "listener")
                session.consume(ConsumerParameters())
                session.connect(DtlsParameters(DtlsRole.CLIENT, (client,)))
                pipe.send(session.ice_parameters)
            await trio.sleep(0.001)
        pipe.send((before, resident_kib()))


async def connect_all(pipe: Connection, listeners: int) -> tuple[int, int]:
    identity = make_dtls_identity()
    pipe.send(identity.fingerprint)
    candidate, fingerprints = await trio.to_thread.run_sync(pipe.recv)
    limit = trio.CapacityLimiter(TOGETHER)
    asking = trio.Lock()

    async def listen() -> None:
        async with limit, trio.open_nursery() as nursery:
            done = trio.Event()

            def on_event(event: PeerEvent) -> None:
                if isinstance(event, PeerConnected):
                    done.set()

            async with asking:
                pipe.send("one more")
                ice: IceParameters = await trio.to_thread.run_sync(pipe.recv)
            peer = ClientPeer(open_udp_socket("127.0.0.1", 0), identity, on_event=on_event)
            connect(peer, ice, candidate, fingerprints)
            nursery.start_soon(peer.run)
            await done.wait()
            # Fifty packets a second for each are more than this process could read; the relay notices after 30 s.
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as connecting:
        for _ in range(listeners):
            connecting.start_soon(listen)
    result: tuple[int, int] = await trio.to_thread.run_sync(pipe.recv)
    return result


def connect(
    peer: ClientPeer, ice: IceParameters, candidate: IceCandidate, fingerprints: tuple[Fingerprint, ...]
) -> None:
    peer.connect(ice, candidate, DtlsParameters(DtlsRole.SERVER, fingerprints))


def run_relay(pipe: Connection, listeners: int) -> None:
    trio.run(relay, pipe, listeners, pipe.recv())


def measure_relay(listeners: int) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run_relay, args=(theirs, listeners))
    process.start()
    before, after = trio.run(connect_all, ours, listeners)
    process.join()
    growth = f"{(after - before) / listeners:.1f}"
    print(f"| {listeners} | {before / 1024:.1f} | {after / 1024:.1f} | {growth} |", flush=True)


def measure_server(listeners: int, sockets: int) -> None:
    with measured_server() as server:
        host = server.register("Hanna")
        warm_up(server, host)
        plan: dict[str, Any] = {"ramp_s": listeners / PACE, "duration_s": 2.0, "variant": "opus3"}
        plan |= {"chatters": sockets, "chat_per_s": 0.0}
        grown_kib = gather(server, host, listeners=listeners, **plan).grown_kib
    print_row(listeners, sockets, f"{grown_kib / 1024:.1f}", f"{grown_kib / listeners:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, nargs="+", default=[100, 1000, 3000])
    parser.add_argument("--sockets", type=int, nargs="*", default=[100, 1000], help="as many listeners have one, too")
    arguments = parser.parse_args()
    allow_files()
    print("| listeners | relay before, MiB | with them, MiB | KiB per listener |")
    print("| ---: | ---: | ---: | ---: |")
    for listeners in arguments.listeners:
        measure_relay(listeners)
    print_head("listeners", "WebSockets", "server's growth, MiB", "KiB per listener")
    for listeners in arguments.listeners:
        measure_server(listeners, 0)
    for sockets in arguments.sockets:
        measure_server(sockets, sockets)


if __name__ == "__main__":
    main()
