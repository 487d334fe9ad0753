"""Does a server that is full turn away who comes next before those inside hear it? With the limits it has by default.

    python -m benchmarks.overload [--inside 200] [--crowd 3000] [--seconds 10]

A real `lac serve` with nothing set in `LAC_OVERLOAD_*`, that sends nobody to HLS (`LAC_HLS_OFFLOAD_LISTENERS`). Some
listen already, from a process of their own that also publishes, when a crowd comes at once: as fast as the server
answers, each listener once. Whoever is told 503 stays away. Then those of the crowd who got in listen for a while. What
those inside lose, and how late they hear it, is of the whole time, the onslaught included; the lines before the table
are the load test's own summary of the crowd.
"""

from __future__ import annotations

import argparse

import trio

from benchmarks.support import Buckets, crowd_beside, measured_server, print_head, print_row, warm_up
from lac.loadtest.plan import Plan
from lac.loadtest.run import LoadTest

PACE = 60
#: Of the crowd, joining at the same time.
AT_ONCE = 200
DELAY = "lac_forwarding_delay_seconds"


def measure(inside: int, crowd: int, seconds: float) -> None:
    with measured_server(refuses=True) as server:
        host = server.register("Hanna")
        warm_up(server, host)
        show_id = server.create_show(host)["id"]
        calm = Plan(
            server.url, broadcast_id=show_id, token=host.token, listeners=inside, ramp_s=inside / PACE, duration_s=3600
        )
        onslaught = Plan(
            server.url, broadcast_id=show_id, listeners=crowd, ramp_s=0, duration_s=seconds, at_once=AT_ONCE, retries=0
        )
        with crowd_beside(calm) as beside:
            before = Buckets(server, DELAY)
            test = LoadTest(onslaught, lambda line: None)
            trio.run(test.run)
            p99_ms = Buckets(server, DELAY).quantile_since(before, 0.99) * 1000
            refused = server.metric("lac_listeners_refused_total")
    came, results = test.results, beside.results
    if came.broken_off or results is None:
        raise RuntimeError(f"the crowd broke off: {came.broken_off}")
    for sentence in came.sentences():
        print(sentence)
    print_head(
        *("inside before", "came", "of them in", "refused with 503", "failed otherwise", "came in within s"),
        *("inside lost", "heard p50 ms", "p99 ms", "forwarding p99 ms", "crowd lost", "server core then"),
    )
    others = sum(came.failed.values()) - came.failed["overloaded"]
    heard = results.latency_ms
    print_row(
        *(results.connected, crowd, came.connected, int(refused), others, f"{came.joining_s:.1f}"),
        f"{results.loss:.3%}",
        *(("–", "–") if heard is None else (f"{heard.p50:.0f}", f"{heard.p99:.0f}")),
        *(f"{p99_ms:.0f}", f"{came.loss:.3%}", f"{(came.server_cpu_s or 0.0) / came.measured_s:.0%}"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inside", type=int, default=200)
    parser.add_argument("--crowd", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    measure(arguments.inside, arguments.crowd, arguments.seconds)


if __name__ == "__main__":
    main()
