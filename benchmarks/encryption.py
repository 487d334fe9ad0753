"""CPU of a whole server per delivered packet, beside that of the same server sending unencrypted.

    python -m benchmarks.encryption [--listeners 400] [--rounds 5] [--seconds 3]

One server, one crowd: encryption is switched off and on again in turns while everybody listens, so that the machine's
mood changes both alike. The ratio of two neighbouring turns is what counts; the table has the medians.
"""

from __future__ import annotations

import argparse
import signal
import statistics

import trio

from benchmarks.support import measured_server, print_head, print_row, warm_up
from lac.loadtest.plan import Plan
from lac.loadtest.run import LoadTest
from lac.loadtest.server_cpu import cpu_seconds
from tests.e2e.server import Account, LacServer

#: After switching over, before a turn is measured: what is in sockets and caches.
SETTLE_S = 0.3


async def take_turns(server: LacServer, host: Account, listeners: int, rounds: int, seconds: float) -> None:
    measuring = trio.Event()
    long_enough = (rounds + 1) * 2 * (seconds + SETTLE_S) + 10
    plan = Plan(server.url, token=host.token, listeners=listeners, ramp_s=listeners / 60, duration_s=long_enough)
    test = LoadTest(plan, lambda line: measuring.set() if line.startswith("measuring") else None)
    costs: dict[str, list[float]] = {"encrypted": [], "plain": []}

    async def turn(kind: str) -> None:
        await trio.sleep(SETTLE_S)
        cpu, packets = cpu_seconds(server.process.pid), test.packets
        await trio.sleep(seconds)
        cpu_after = cpu_seconds(server.process.pid)
        if cpu is None or cpu_after is None:
            raise RuntimeError("the server has ended")
        costs[kind].append((cpu_after - cpu) / (test.packets - packets) * 1e6)
        server.process.send_signal(signal.SIGUSR1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(test.run)
        await measuring.wait()
        for _ in range(rounds):
            await turn("encrypted")
            await turn("plain")
        nursery.cancel_scope.cancel("measured")
    ratio = statistics.median(ours / floor for ours, floor in zip(costs["encrypted"], costs["plain"], strict=True))
    ours, floor = (statistics.median(costs[kind]) for kind in ("encrypted", "plain"))
    print_row(listeners, f"{floor:.2f}", f"{ours:.2f}", f"{ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, nargs="+", default=[100, 400, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    arguments = parser.parse_args()
    print_head("listeners", "unencrypted µs/packet", "encrypted µs/packet", "ratio")
    for listeners in arguments.listeners:
        with measured_server(program="benchmarks.unencrypted_server") as server:
            host = server.register("Hanna")
            warm_up(server, host)
            trio.run(take_turns, server, host, listeners, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
