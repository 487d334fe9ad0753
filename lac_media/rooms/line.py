"""How a speaker's numbering becomes ours, and the packets that may be asked for again: for the program, and for what
speakers hear of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.rtp import RtpPacket
from lac_media.proto.seq import SequenceExtender, TimestampExtender

#: Listeners may ask for what is at most this old (RFC 4588 calls it the retransmission buffer's depth).
RING_S = 1.0
#: A power of two, so that it divides the range of sequence numbers.
RING_PACKETS = 128
#: An encoder whose timestamps leap further than this, either way, has restarted: a stretch of it that pauses for half a
#: second has ended anyway.
MAX_LEAP_TICKS = 5 * OPUS_CLOCK_RATE_HZ


@dataclass(frozen=True, slots=True)
class ProgramPacket:
    """One packet of the program before it is written for a group of listeners.

    `sequence` and `timestamp` are modulo 2**16 and 2**32; `ticks` is the timestamp counted from the program's start.
    `audio_level` is the RFC 6464 byte (voice bit and -dBov), None where the speaker sent none.
    """

    sequence: int
    timestamp: int
    ticks: int
    marker: bool
    payload: bytes
    audio_level: int | None
    sent_at: float


class Line:
    """How one stretch of a speaker's numbering maps onto ours."""

    def __init__(self, source: object, packet: RtpPacket, *, sequence: int, ticks: int) -> None:
        self.source = source
        self.ssrc = packet.ssrc
        self._sequences = SequenceExtender()
        self._timestamps = TimestampExtender(MAX_LEAP_TICKS, MAX_LEAP_TICKS)
        self._sequence_offset = sequence - self._sequences.extend(packet.sequence)
        self._ticks_offset = ticks - self._timestamps.extend(packet.timestamp)
        #: Packets that come late and belong before the line's first one are not wanted: silence went out instead.
        self.first_sequence = sequence
        self.first_ticks = ticks

    def place(self, packet: RtpPacket) -> tuple[int, int] | None:
        """The packet's extended sequence and ticks in the program.

        None after a jump too far to be a gap: the encoder has restarted under the same SSRC.
        """
        sequence = self._sequences.extend(packet.sequence) + self._sequence_offset
        ticks = self._timestamps.extend(packet.timestamp) + self._ticks_offset
        return None if self._sequences.jumped or self._timestamps.jumped else (sequence, ticks)


class Sent(Protocol):
    """What a ring keeps."""

    @property
    def sequence(self) -> int: ...

    @property
    def sent_at(self) -> float: ...


S = TypeVar("S", bound=Sent)


class PacketRing(Generic[S]):
    """The packets of the last second."""

    def __init__(self) -> None:
        self._packets: list[S | None] = [None] * RING_PACKETS

    def add(self, packet: S) -> None:
        self._packets[packet.sequence % RING_PACKETS] = packet

    def find(self, sequence: int, *, now: float) -> S | None:
        """The packet with this 16-bit sequence number, if it is recent enough to be worth sending again."""
        packet = self._packets[sequence % RING_PACKETS]
        if packet is None or packet.sequence != sequence or now - packet.sent_at > RING_S:
            return None
        return packet
