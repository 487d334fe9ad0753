"""One incoming RTP stream, from authentic packets to audio that has been repaired as well as can be. Sans-IO.

Each sequence number is passed on once, whether it came by itself, again after a NACK, or as a redundant copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lac_media.errors import ParseError
from lac_media.parameters import ProducerParameters
from lac_media.proto.nack import NackGenerator, RepairCounters
from lac_media.proto.pace import Pace
from lac_media.proto.reception import ReceptionStats
from lac_media.proto.recovery import ReceiveHistory
from lac_media.proto.red import parse_red_untrusted
from lac_media.proto.rtp import RtpPacket
from lac_media.proto.seq import MAX_MISORDER, delta16

#: For how long after a NACK its answers may still come, and how far behind: 2 s of the shortest frames (2.5 ms).
ANSWER_WAIT_S = 2.0
MAX_LATE = 800


class IncomingStream:
    """The stream of one SSRC, as `expected` announces it; `counters` outlive it."""

    def __init__(self, ssrc: int, expected: ProducerParameters, counters: RepairCounters) -> None:
        self.reception = ReceptionStats(ssrc)
        self.expected = expected
        self._counters = counters
        self._history = ReceiveHistory()
        self._pace = Pace()
        self._nack = NackGenerator(counters, self._pace) if expected.nack else None

    @property
    def ssrc(self) -> int:
        return self.reception.ssrc

    def receive(self, packet: RtpPacket, *, now: float) -> list[tuple[RtpPacket, int | None]]:
        """Take one packet of this SSRC; what is to be played, in order, with the RFC 6464 byte where there was one.

        Other payload types of the stream (telephone-event, comfort noise) are not played, but their numbers are not
        missing either. Raises ParseError, nothing else: for a number far from the others (see `ReceptionStats`), and
        for malformed RED, which counts as received all the same: asking again would not help.
        """
        if self._is_answer_too_late(packet.sequence, now):
            self._counters.too_late += 1
            return []
        highest = self.reception.highest_sequence
        sequence = self.reception.receive(packet.sequence, packet.timestamp, now=now)
        if sequence is None:
            raise ParseError(f"RTP sequence number {packet.sequence} is far from the others")
        if not self._history.add(sequence, packet.timestamp):
            self._counters.duplicates += 1
            return []
        if self._nack is not None:
            if highest is None or sequence > highest:
                self._pace.receive(sequence, packet.timestamp, now=now, jitter_s=self.reception.jitter_s)
            self._nack.receive(sequence, now=now)
        if not packet.payload:
            return []  # padding: a bandwidth probe
        level = self._audio_level(packet)
        if packet.payload_type == self.expected.payload_type:
            return [(packet, level)]
        if packet.payload_type != self.expected.red_payload_type:
            return []
        return [(part, level) for part in self._unwrap(packet, sequence)]

    def _is_answer_too_late(self, sequence: int, now: float) -> bool:
        """Whether this is likely a retransmission that has taken too long: two of them in a row, this far behind, would
        look like a restart of the source. A real restart is believed once nothing has been asked for a while."""
        highest, nack = self.reception.highest_sequence, self._nack
        if nack is None or highest is None or now - nack.asked_at > ANSWER_WAIT_S:
            return False
        return MAX_MISORDER <= -delta16(sequence, highest & 0xFFFF) <= MAX_LATE

    def _unwrap(self, packet: RtpPacket, sequence: int) -> Iterator[RtpPacket]:
        """The packet's redundant copies as far as they are missing, then its primary. A copy's own audio level is lost:
        it gets that of the packet which brought it, one or two frames later."""
        *redundant, primary = parse_red_untrusted(packet.payload)
        opus = self.expected.payload_type
        copies = {
            block.timestamp_offset: block.payload
            for block in redundant
            if block.payload_type == opus and block.payload and block.timestamp_offset
        }
        for number, timestamp, payload in self._history.fill(sequence, packet.timestamp, copies):
            self._counters.recovered += 1
            if self._nack is not None:
                self._nack.recover(number)
            yield RtpPacket(opus, number & 0xFFFF, timestamp, packet.ssrc, payload=payload)
        if primary.payload_type == opus and primary.payload:
            yield replace(packet, payload_type=opus, payload=primary.payload)

    def _audio_level(self, packet: RtpPacket) -> int | None:
        number = self.expected.audio_level_extension_id
        value = None if number is None else packet.extensions.get(number)
        return value[0] if value else None

    # Asking for what is missing

    def timer_at(self) -> float:
        return float("inf") if self._nack is None else self._nack.timer_at()

    def handle_timer(self, *, now: float) -> tuple[int, ...]:
        """The 16-bit sequence numbers to ask for now, mostly none; a no-op if early."""
        if self._nack is None:
            return ()
        return tuple(number & 0xFFFF for number in self._nack.handle_timer(now=now))

    def learn_round_trip(self, round_trip_s: float) -> None:
        """From the peer's reports."""
        if self._nack is not None:
            self._nack.reported_round_trip_s = round_trip_s
