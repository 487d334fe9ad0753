"""CPU per delivered program packet, beside the kernel's own price for the same datagrams, in one run.

    python -m benchmarks.fanout [--listeners 100 1000 3000] [--seconds 3] [--json FILE]

Listeners are real: each has keys of its own and a bound socket that receives. The floor hands the very same ciphertext
sizes to `sendmmsg` without protecting anything. Both are measured in alternating rounds on this machine, in this
process, so that its mood changes both alike; the ratio is what counts. User and system CPU of the sending thread.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from benchmarks.support import allow_files
from lac_media.net.batch import MmsgBatch, make_batch
from lac_media.net.udp import UdpSocket, open_udp_socket
from lac_media.parameters import ConsumerParameters
from lac_media.proto.srtp import PROFILES, SrtpKeys, SrtpProfile, SrtpSession
from lac_media.rooms.fanout import SLICE, Fanout
from lac_media.rooms.line import ProgramPacket

#: An ordinary 20 ms Opus packet at 24 kbit/s.
PAYLOAD_BYTES = 60
ROUNDS = 6


@dataclass(frozen=True)
class Result:
    """Microseconds of CPU per packet; medians of the rounds."""

    listeners: int
    profile: str
    floor_us: float
    fanout_us: float
    ratio: float
    sendto_us: float


class BareBatch(MmsgBatch):
    """The floor: the same slots and system calls, nothing protected and nothing copied."""

    def send_bare(self, size: int, count: int) -> int:
        self._sizes[:count] = size
        return self._hand_over(count)


def make_session(profile: SrtpProfile) -> SrtpSession:
    return SrtpSession(
        SrtpKeys.from_keying_material(profile, secrets.token_bytes(profile.keying_material_length), is_server=True)
    )


def open_receivers(count: int) -> list[socket.socket]:
    receivers = []
    for _ in range(count):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        # Small buffers: once full the kernel drops at the receiver, which costs the sender about the same.
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        receivers.append(receiver)
    return receivers


def program_packet(sequence: int) -> ProgramPacket:
    return ProgramPacket(
        sequence & 0xFFFF, sequence * 960 & 0xFFFFFFFF, sequence * 960, False, bytes(PAYLOAD_BYTES), 30, 0.0
    )


async def measure(sock: UdpSocket, count: int, profile: SrtpProfile, seconds: float) -> Result:
    """All three ways of sending, in alternating rounds."""
    receivers = open_receivers(count)
    addresses = [receiver.getsockname() for receiver in receivers]
    parameters = ConsumerParameters()
    fanout = Fanout(ssrc=1, make_batch=lambda slots: make_batch(sock, slots))
    sessions = [make_session(profile) for _ in range(count)]
    for session, address in zip(sessions, addresses, strict=True):
        fanout.add(parameters, session, address)
    bare: list[tuple[BareBatch, int]] = []
    for start in range(0, count, SLICE):
        part = addresses[start : start + SLICE]
        batch = BareBatch(sock, SLICE)
        for index, address in enumerate(part):
            batch.set_slot(index, make_session(profile), address)
        bare.append((batch, len(part)))
    plain_size = 12 + 8 + PAYLOAD_BYTES
    protected_size = len(make_session(profile).protect(b"\x80" + bytes(plain_size - 1)))
    sequence = 0

    async def floor() -> None:
        for batch, size in bare:
            batch.send_bare(protected_size, size)
            await trio.lowlevel.checkpoint()

    async def ours() -> None:
        nonlocal sequence
        sequence += 1
        for _ in fanout.deliver(program_packet(sequence)):
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    async def per_listener() -> None:
        nonlocal sequence
        sequence += 1
        plain = b"\x80" + bytes(1) + (sequence & 0xFFFF).to_bytes(2, "big") + bytes(plain_size - 4)
        for session, address in zip(sessions, addresses, strict=True):
            sock.socket.sendto(session.protect(plain), address)

    costs: dict[str, list[float]] = {"floor": [], "ours": [], "sendto": []}
    ways = {"floor": floor, "ours": ours, "sendto": per_listener}
    for way in ways.values():
        await way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            packets, end = 0, time.monotonic() + seconds / ROUNDS
            cpu = time.thread_time()
            while time.monotonic() < end:
                await way()
                packets += count
            costs[name].append((time.thread_time() - cpu) / packets * 1e6)
    for receiver in receivers:
        receiver.close()
    floor_us, ours_us = statistics.median(costs["floor"]), statistics.median(costs["ours"])
    ratio = statistics.median([ours / bare for ours, bare in zip(costs["ours"], costs["floor"], strict=True)])
    return Result(count, profile.name, floor_us, ours_us, ratio, statistics.median(costs["sendto"]))


async def main(listeners: list[int], seconds: float) -> list[Result]:
    sock = open_udp_socket("127.0.0.1", 0)
    results = []
    try:
        print("| listeners | SRTP profile | bare sendmmsg µs | our fan-out µs | ratio | protect + sendto µs |")
        print("| ---: | --- | ---: | ---: | ---: | ---: |")
        for count in listeners:
            for profile in (PROFILES[b"SRTP_AEAD_AES_128_GCM"], PROFILES[b"SRTP_AES128_CM_SHA1_80"]):
                result = await measure(sock, count, profile, seconds)
                results.append(result)
                print(
                    f"| {result.listeners} | {result.profile} | {result.floor_us:.2f} | {result.fanout_us:.2f} "
                    f"| {result.ratio:.2f} | {result.sendto_us:.2f} |",
                    flush=True,
                )
    finally:
        sock.close()
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, nargs="+", default=[100, 1000, 3000])
    parser.add_argument("--seconds", type=float, default=3.0, help="per way of sending")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    allow_files()
    measured = trio.run(main, arguments.listeners, arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in measured], indent=2) + "\n")
