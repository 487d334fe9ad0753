"""What came of a load test: figures, and the sentences and the JSON that show them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What a refusal means, and what to do to test beyond it. By the code of the server's answer.
ADVICE = {
    "use_hls": (
        "The server sends listeners to HLS from LAC_HLS_OFFLOAD_LISTENERS WebRTC listeners on (100 unless it says "
        "otherwise). To see how many it bears by WebRTC start it with LAC_HLS_OFFLOAD_LISTENERS=100000; to measure "
        "HLS use --mode hls."
    ),
    "overloaded": (
        "The server refuses who comes next so that those inside hear on: its delays were above LAC_OVERLOAD_DELAY_MS "
        "or LAC_OVERLOAD_LAG_MS, or LAC_MAX_LISTENERS are in. That is its limit on this machine."
    ),
    "too_many_requests": (
        "The server limits how much may come from one address. Start it with LAC_LIMITS_FACTOR=100 for the test."
    ),
}


@dataclass(frozen=True, slots=True)
class Spread:
    """Of a number of measurements, all of one unit."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        if not values:
            return None
        ordered = sorted(values)

        def at(share: float) -> float:
            return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

        return cls(len(ordered), at(0.5), at(0.95), at(0.99), ordered[-1])


@dataclass(slots=True)
class Results:
    """Times in seconds unless a name says otherwise. CPU is user and system time while everyone was there."""

    mode: str
    url: str
    wanted: int
    connected: int = 0
    #: Why the others are not: code or reason -> count.
    failed: Counter[str] = field(default_factory=Counter)
    #: Of those that were connected, closed before the end: reason -> count.
    lost_connections: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    joining_s: float = 0.0
    #: How long each took from the request to the first audio, or to `joined`.
    join_s: Spread | None = None
    #: CPU of the server while they joined, what it sent to those who were in already included.
    server_join_cpu_s: float | None = None
    measured_s: float = 0.0
    packets_expected: int = 0
    packets_received: int = 0
    #: Of those that did not come: found as redundant copies in others.
    packets_recovered: int = 0
    #: Questions for what was missing, and those of the received that came after such a question.
    packets_asked_for: int = 0
    packets_repaired: int = 0
    #: Listeners by their share of lost packets.
    without_loss: int = 0
    worst_loss: float = 0.0
    #: Of the audio that a sample of the listeners decrypted.
    latency_ms: Spread | None = None
    #: Of HLS, and how far the end of each was from live when it had arrived.
    parts_received: int = 0
    behind_live_ms: Spread | None = None
    messages_sent: int = 0
    messages_received: int = 0
    chat_latency_ms: Spread | None = None
    server_cpu_s: float | None = None
    generator_cpu_s: float = 0.0
    #: What ended it early, if anything did.
    broken_off: str | None = None

    @property
    def joins_per_s(self) -> float:
        return self.connected / self.joining_s if self.joining_s else 0.0

    @property
    def joins_per_core(self) -> float | None:
        """Joins a second that would fill one core of the server."""
        return self.connected / self.server_join_cpu_s if self.server_join_cpu_s else None

    @property
    def loss(self) -> float:
        """The share of the packets that was missing in the end."""
        missing = self.packets_expected - self.packets_received - self.packets_recovered
        return max(0, missing) / self.packets_expected if self.packets_expected else 0.0

    @property
    def server_us_per_packet(self) -> float | None:
        """CPU of the whole server, microseconds for each packet that arrived."""
        if self.server_cpu_s is None or not self.packets_received:
            return None
        return self.server_cpu_s / self.packets_received * 1e6

    @property
    def server_us_per_part(self) -> float | None:
        """The same for each part of HLS, the playlists that tell of it included."""
        if self.server_cpu_s is None or not self.parts_received:
            return None
        return self.server_cpu_s / self.parts_received * 1e6

    @property
    def generator_us_per_packet(self) -> float | None:
        return self.generator_cpu_s / self.packets_received * 1e6 if self.packets_received else None

    def as_json(self) -> dict[str, Any]:
        derived = (
            *("joins_per_s", "joins_per_core", "loss"),
            *("server_us_per_packet", "server_us_per_part", "generator_us_per_packet"),
        )
        return {**dataclasses.asdict(self), **{name: getattr(self, name) for name in derived}}

    def sentences(self) -> Iterator[str]:
        """For people."""
        yield f"{self.connected} of {self.wanted} connected, {self.joins_per_s:.0f} a second" + (
            f" ({self.retried} were told to wait)" if self.retried else ""
        )
        if self.joins_per_core is not None:
            yield f"  they took {1000 / self.joins_per_core:.1f} ms of the server's CPU each"
        for reason, count in self.failed.most_common():
            yield f"  {count} not connected: {reason}"
            if reason in ADVICE:
                yield f"    {ADVICE[reason]}"
        if self.join_s is not None:
            yield f"joining took {_ms(self.join_s, 1000)}"
        for reason, count in self.lost_connections.most_common():
            yield f"{count} lost while measuring: {reason}"
        if self.packets_expected:
            yield (
                f"{self.packets_received} of {self.packets_expected} packets arrived in {self.measured_s:.0f} s "
                f"({self.loss:.3%} lost; {self.without_loss} listeners lost nothing, the worst {self.worst_loss:.2%})"
            )
        if self.packets_asked_for or self.packets_recovered:
            yield (
                f"  {self.packets_repaired} came after they had been asked for ({self.packets_asked_for} questions), "
                f"{self.packets_recovered} more as copies in others"
            )
        if self.behind_live_ms is not None:
            yield f"{self.parts_received} parts of HLS arrived, behind live {_ms(self.behind_live_ms, 1)}"
        if self.messages_sent:
            late = "" if self.chat_latency_ms is None else f", {_ms(self.chat_latency_ms, 1)} later"
            yield f"{self.messages_sent} chat messages sent, {self.messages_received} received{late}"
        if self.latency_ms is not None:
            yield f"audio from sending to arrival {_ms(self.latency_ms, 1)}"
        if self.server_cpu_s is not None and self.measured_s:
            share = f"server: {self.server_cpu_s / self.measured_s:.0%} of a core"
            if self.server_us_per_packet is not None:
                share += f", {self.server_us_per_packet:.1f} us of CPU for each packet"
            if self.server_us_per_part is not None:
                share += f", {self.server_us_per_part:.0f} us of CPU for each part"
            yield share
        if self.measured_s:
            share = f"this generator: {self.generator_cpu_s / self.measured_s:.0%} of a core"
            per_packet = self.generator_us_per_packet
            yield share if per_packet is None else f"{share}, {per_packet:.1f} us for each packet"
        if self.broken_off is not None:
            yield f"broken off: {self.broken_off}"


def _ms(spread: Spread, factor: float) -> str:
    values = (spread.p50, spread.p95, spread.p99, spread.max)
    p50, p95, p99, highest = (value * factor for value in values)
    return f"p50 {p50:.0f}, p95 {p95:.0f}, p99 {p99:.0f}, at most {highest:.0f} ms"
