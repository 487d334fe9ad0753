"""Does a recording disturb the audio, above all when its disk is slow? The same crowd with the recorder off, on, and on
with a disk that takes half a second to two seconds for every write.

    python -m benchmarks.slow_disk [--listeners 300] [--seconds 15] [--slowest 2]

The forwarding delay is the server's own measurement, from a packet's arrival to its last listener.
"""

from __future__ import annotations

import argparse

from benchmarks.support import gather, measured_server, print_head, print_row, warm_up
from lac.loadtest.results import Results
from tests.e2e.server import LacServer


def measure(server: LacServer, disk: str, *, recorded: bool, listeners: int, seconds: float) -> Results:
    host = server.register("Hanna")
    warm_up(server, host)
    show = server.create_show(host, recordingEnabled=recorded)["id"]
    active: list[float] = []

    def look() -> None:
        active.append(server.metric("lac_recordings_active"))

    crowd = gather(server, host, listeners=listeners, duration_s=seconds, broadcast_id=show, on_all_in=look)
    if active != [float(recorded)]:
        raise RuntimeError(f"{active} recordings were being made")
    heard = crowd.results.latency_ms
    print_row(
        *(("on" if recorded else "off"), disk, crowd.results.connected, f"{crowd.core:.0%}"),
        *(f"{crowd.forwarding_p50_ms:.2f}", f"{crowd.forwarding_p99_ms:.2f}", f"{crowd.results.loss:.3%}"),
        *(("–", "–") if heard is None else (f"{heard.p50:.1f}", f"{heard.p99:.1f}")),
        *(f"{server.metric(f'lac_recordings_{name}_total'):.0f}" for name in ("written_bytes", "dropped")),
    )
    return crowd.results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--slowest", type=float, default=2.0, help="seconds that a write takes longer, at most")
    arguments = parser.parse_args()
    print_head(
        *("recorder", "disk", "listeners", "server core", "forwarding p50 ms", "p99 ms", "lost"),
        *("heard p50 ms", "p99 ms", "bytes written", "packets dropped"),
    )
    crowd = {"listeners": arguments.listeners, "seconds": arguments.seconds}
    with measured_server() as server:
        measure(server, "–", recorded=False, **crowd)
        measure(server, "as it is", recorded=True, **crowd)
    slowest = arguments.slowest
    slow = f"{slowest / 4},{slowest}"
    with measured_server(program="benchmarks.slow_disk_server", SLOW_DISK_S=slow) as server:
        measure(server, f"{slowest / 4:g}–{slowest:g} s for each write", recorded=True, **crowd)


if __name__ == "__main__":
    main()
