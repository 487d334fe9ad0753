"""What a media plane has done since it began, and how much it has to do now: for operators."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lac_media.parameters import Variant

#: Reasons for which a session that never connected counts as a failed handshake; the others had just changed their
#: minds.
HANDSHAKE_FAILURES = ("timeout", "failed")


@dataclass(slots=True, kw_only=True)
class MediaTotals:
    """The first four are of this moment; the rest only ever grows."""

    rooms: int = 0
    sessions: int = 0
    listeners: int = 0
    listeners_by_variant: Counter[Variant] = field(default_factory=Counter)
    #: Audio from speakers, as far as it was authentic.
    packets_in: int = 0
    packets_lost_in: int = 0
    packets_repaired_in: int = 0
    #: Of sessions: packets that could not be parsed or did not authenticate.
    bad_packets: int = 0
    #: The program: deliveries tried, those the kernel did not take, and packets that waited too long for their turn.
    packets_out: int = 0
    dropped_out: int = 0
    queue_dropped: int = 0
    #: Of the program's packets: those that several speakers are mixed in.
    mixed: int = 0
    retransmitted: int = 0
    #: Listeners moved between the program with redundancy and without, because of their losses.
    switched: int = 0
    #: Sessions that ended, by (reason, had it ever connected).
    closed: Counter[tuple[str, bool]] = field(default_factory=Counter)

    @property
    def handshake_failures(self) -> int:
        return sum(self.closed[reason, False] for reason in HANDSHAKE_FAILURES)

    def add(self, other: MediaTotals) -> None:
        self.add_past(other)
        self.rooms += other.rooms
        self.sessions += other.sessions
        self.listeners += other.listeners
        self.listeners_by_variant.update(other.listeners_by_variant)

    def add_past(self, other: MediaTotals) -> None:
        """Only what grows: `other` is over."""
        self.packets_in += other.packets_in
        self.packets_lost_in += other.packets_lost_in
        self.packets_repaired_in += other.packets_repaired_in
        self.bad_packets += other.bad_packets
        self.packets_out += other.packets_out
        self.dropped_out += other.dropped_out
        self.queue_dropped += other.queue_dropped
        self.mixed += other.mixed
        self.retransmitted += other.retransmitted
        self.switched += other.switched
        self.closed.update(other.closed)
