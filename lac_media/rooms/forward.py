"""One speaker's packets on their way to the other speakers: passed on as they come, never through the mix.

Sans-IO. The others see one SSRC, one sequence line without a gap of our making, and timestamps that run with the
speaker's clock, through mutes, restarts of the encoder, and times in which others were louder (docs/protocol/stage.md).
"""

from __future__ import annotations

from lac_media.errors import ParseError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import duration_ticks_untrusted
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.line import Line, PacketRing, ProgramPacket
from lac_media.rooms.program import MAX_PAYLOAD


class Forward:
    """`ssrc`, `first_sequence` and `first_timestamp` are random, chosen by the caller. `now` is monotonic seconds."""

    def __init__(self, *, ssrc: int, first_sequence: int, first_timestamp: int, now: float) -> None:
        self.ssrc = ssrc
        self.packets = 0
        self.octets = 0
        self._started_at = now
        self._timestamp_offset = first_timestamp
        self._next_sequence = first_sequence  # extended
        self._next_ticks = 0
        self._line: Line | None = None
        self._ring = PacketRing[ProgramPacket]()

    def receive(self, packet: RtpPacket, level: int | None, *, now: float) -> ProgramPacket | None:
        """Take one packet, with its RFC 6464 byte if it has one. None if it cannot be used: late beyond the beginning
        of this stretch, too large, or not Opus."""
        try:
            duration = duration_ticks_untrusted(packet.payload)
        except ParseError:
            return None
        if len(packet.payload) > MAX_PAYLOAD:
            return None
        line = self._line if self._line is not None and self._line.ssrc == packet.ssrc else None
        place = None if line is None else line.place(packet)
        begins = line is None or place is None
        if line is None or place is None:
            place = (self._next_sequence, max(self._next_ticks, self._clock_ticks(now)))
            line = Line(self, packet, sequence=place[0], ticks=place[1])
        elif place < (line.first_sequence, line.first_ticks):
            return None
        self._line = line
        sequence, ticks = place
        forwarded = ProgramPacket(
            sequence & 0xFFFF,
            (self._timestamp_offset + ticks) & 0xFFFF_FFFF,
            ticks,
            packet.marker or begins,
            packet.payload,
            level,
            now,
        )
        self._next_sequence = max(self._next_sequence, sequence + 1)
        self._next_ticks = max(self._next_ticks, ticks + duration)
        self._ring.add(forwarded)
        self.packets += 1
        self.octets += len(packet.payload)
        return forwarded

    def pause(self) -> None:
        """The speaker is not passed on for now. What comes later goes on with the next number, at its own time."""
        self._line = None

    def retransmission(self, sequence: int, *, now: float) -> ProgramPacket | None:
        """The packet with this 16-bit sequence number, if it is recent enough to be worth sending again."""
        return self._ring.find(sequence, now=now)

    def rtp_timestamp(self, *, now: float) -> int:
        """The 32-bit RTP timestamp of this moment, for sender reports (RFC 3550 section 6.4.1)."""
        return (self._timestamp_offset + self._clock_ticks(now)) & 0xFFFF_FFFF

    def _clock_ticks(self, now: float) -> int:
        return round((now - self._started_at) * OPUS_CLOCK_RATE_HZ)
