"""A whole server and its audience: what a delivered packet costs, how late it is, and how both grow with the crowd.

    python -m benchmarks.audience [--listeners 100 400 1000 2000 3000] [--variants opus opus3] [--seconds 10]

A real `lac serve` in a process of its own; `lac loadtest` here, with real WebRTC listeners (ICE, DTLS, SRTP) and a
publisher of 50 packets a second. Both share this machine. "Listeners per core" is the crowd divided by the share of a
core that the server took for it. The forwarding delay is the server's own, from a packet's arrival to its last
listener; "heard" is from the publisher's send to the kernel's receipt at a sample of the listeners.
"""

from __future__ import annotations

import argparse

from benchmarks.support import gather, measured_server, print_head, print_row, warm_up

#: Coming in, a second.
PACE = 60
#: Of a core. A row beyond a server that is so busy would not come to an end: joining starves.
FULL = 0.75


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, nargs="+", default=[100, 400, 1000, 2000, 3000])
    parser.add_argument("--variants", nargs="+", default=["opus"], choices=["opus", "opus3"])
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    print_head(
        *("listeners", "variant", "server core", "listeners per core", "server µs/packet", "generator µs/packet"),
        *("lost", "forwarding p50 ms", "p99 ms", "heard p50 ms", "p99 ms", "KiB per listener"),
    )
    for variant in arguments.variants:
        for listeners in arguments.listeners:
            with measured_server() as server:
                host = server.register("Hanna")
                warm_up(server, host)
                plan = {"listeners": listeners, "ramp_s": listeners / PACE, "duration_s": arguments.seconds}
                crowd = gather(server, host, variant=variant, **plan)
            results = crowd.results
            heard = results.latency_ms
            print_row(
                *(results.connected, variant, f"{crowd.core:.0%}", f"{crowd.listeners_per_core:.0f}"),
                *(f"{results.server_us_per_packet:.2f}", f"{results.generator_us_per_packet:.2f}"),
                f"{results.loss:.2%}",
                *(f"{crowd.forwarding_p50_ms:.1f}", f"{crowd.forwarding_p99_ms:.1f}"),
                *(("–", "–") if heard is None else (f"{heard.p50:.0f}", f"{heard.p99:.0f}")),
                f"{crowd.grown_kib / results.connected:.0f}",
            )
            if crowd.core > FULL:
                break


if __name__ == "__main__":
    main()
