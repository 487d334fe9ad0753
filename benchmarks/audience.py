"""A whole server and its audience: what a delivered packet costs, how late it is, and how both grow with the crowd.

    python -m benchmarks.audience [--listeners 100 400 1000 2000 3000] [--variants opus opus3] [--seconds 10]
    python -m benchmarks.audience --rows again red mixed [--listeners 400 1000] [--seconds 10]

A real `lac serve` in a process of its own; `lac loadtest` here, with real WebRTC listeners (ICE, DTLS, SRTP) and a
publisher of 50 packets a second. Both share this machine. "Listeners per core" is the crowd divided by the share of a
core that the server took for it. The forwarding delay is the server's own, from a packet's arrival to its last
listener; "heard" is from the publisher's send to the kernel's receipt at a sample of the listeners.

The other rows are audiences that cost more: "again" has a quarter of the listeners on a network that loses a tenth of
what comes to them, who ask for it and cannot take RED, so that the server repeats everything for them; in "red" all
lose as much and take RED. Nobody tells the server: it sees it in their reports, and what they lose they throw away
themselves. In "mixed" nobody loses anything, and two people speak, so that the program is decoded, mixed and encoded.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field
from typing import Any

from benchmarks.mix import voice
from benchmarks.support import gather, measured_server, print_head, print_row, warm_up
from lac.loadtest.plan import Repair
from tests.e2e.server import Account, LacServer

#: Coming in, a second.
PACE = 60
#: Of a core. A row beyond a server that is so busy would not come to an end: joining starves.
FULL = 0.75
#: What those on a bad network lose, and how long it takes until their reports, one every five seconds, have told.
LOSE = 0.1
SETTLE_S = 15.0
#: Of the voices of a mixed program; then they begin again.
VOICE_S = 8
_VARIANT = re.compile(r'^lac_listeners_by_variant\{variant="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass
class Row:
    name: str
    plan: dict[str, Any] = field(default_factory=dict)
    speakers: int = 1


ROWS = {
    "again": Row("opus, 25% lose 10%", {"repair": Repair.NACK, "lose": LOSE, "lossy": 0.25, "settle_s": SETTLE_S}),
    "red": Row("opus, all lose 10%", {"repair": Repair.RED, "lose": LOSE, "settle_s": SETTLE_S}),
    "mixed": Row("opus, two speakers mixed", speakers=2),
}


def variants(server: LacServer) -> str:
    """What the listeners get just now."""
    found = {name: int(float(count)) for name, count in _VARIANT.findall(server.call("GET", "/metrics").text)}
    return ", ".join(f"{count} {name}" for name, count in found.items() if count)


def with_speakers(server: LacServer, host: Account, count: int) -> dict[str, Any]:
    """What makes the plan one of a show in which so many speak."""
    if count == 1:
        return {}
    show_id = server.create_show(host)["id"]
    others = [server.register(f"Speaker{number}") for number in range(count - 1)]
    for other in others:
        path = f"/api/broadcasts/{show_id}/roles/{other.user_id}"
        server.call("PUT", path, token=host.token, json={"role": "speaker"})
    tokens = tuple(other.token for other in others)
    return {"broadcast_id": show_id, "speaker_tokens": tokens, "frames": tuple(voice(VOICE_S, seed=1))}


def measure(row: Row, listeners: int, seconds: float) -> float:
    """Print a row; the server's share of a core."""
    with measured_server() as server:
        host = server.register("Hanna")
        warm_up(server, host)
        plan = {"listeners": listeners, "ramp_s": listeners / PACE, "duration_s": seconds}
        plan |= row.plan | with_speakers(server, host, row.speakers)
        getting: list[str] = []
        crowd = gather(server, host, on_all_in=lambda: getting.append(variants(server)), **plan)
        if row.speakers > 1 and not server.metric("lac_media_mixed_packets_total"):
            raise RuntimeError("nothing was mixed")
    results = crowd.results
    heard = results.latency_ms
    print_row(
        *(results.connected, row.name, *getting, f"{crowd.core:.0%}", f"{crowd.listeners_per_core:.0f}"),
        *(f"{results.server_us_per_packet:.2f}", f"{results.generator_us_per_packet:.2f}"),
        *(f"{results.loss:.2%}", f"{crowd.forwarding_p50_ms:.1f}", f"{crowd.forwarding_p99_ms:.1f}"),
        *(("–", "–") if heard is None else (f"{heard.p50:.0f}", f"{heard.p99:.0f}")),
        f"{crowd.grown_kib / results.connected:.0f}",
    )
    return crowd.core


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", type=int, nargs="+")
    parser.add_argument("--variants", nargs="+", default=["opus"], choices=["opus", "opus3"])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), help="instead of the variants")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    rows = [Row(name, {"variant": name}) for name in arguments.variants]
    crowds = arguments.listeners or [100, 400, 1000, 2000, 3000]
    if arguments.rows:
        rows, crowds = [ROWS[name] for name in arguments.rows], arguments.listeners or [400, 1000]
    print_head(
        *("listeners", "audience", "of them get", "server core", "listeners per core", "server µs/packet"),
        *("generator µs/packet", "lost in the end", "forwarding p50 ms", "p99 ms", "heard p50 ms", "p99 ms"),
        "KiB per listener",
    )
    for row in rows:
        for listeners in crowds:
            if measure(row, listeners, arguments.seconds) > FULL:
                break


if __name__ == "__main__":
    main()
