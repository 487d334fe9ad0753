"""The program for listeners who save: the frames of three packets in one, a third of the packets for 40 ms of delay.

Sans-IO, and nothing is transcoded (`lac_media.proto.opus_join`). It is an RTP stream of its own: fewer packets cannot
have the program's numbers. Its timestamps are the program's. Its sequence has no gap at all: where the program has one
(a packet of a speaker was lost on its way to us) the timestamps leap.
"""

from __future__ import annotations

from lac_media.errors import ParseError
from lac_media.proto.opus import FRAME_20MS_TICKS, OpusPacket, parse_opus_untrusted
from lac_media.proto.opus_join import OpusJoiner
from lac_media.rooms.line import ProgramPacket
from lac_media.rooms.program import MAX_PAYLOAD

JOINED_TICKS = 3 * FRAME_20MS_TICKS
#: How long a packet waits for those that it is to be joined with, or for an earlier one that is missing: the 40 ms that
#: it takes to have three, and as much again for what comes late.
HOLD_S = 0.08
#: Packets that wait for an earlier one. In 80 ms there are 32 of the shortest frames.
MAX_WAITING = 64


class Economy:
    """`ssrc` and `first_sequence` are random, chosen by the caller. `now` is monotonic seconds. After any input re-read
    `timer_at()`."""

    def __init__(self, *, ssrc: int, first_sequence: int) -> None:
        self.ssrc = ssrc
        #: Packets of the program that came when their place had gone by.
        self.late_packets = 0
        self._sequence = first_sequence & 0xFFFF
        #: The program's sequence number that is next, extended from the first; None before that.
        self._expected: int | None = None
        #: Those behind a gap, by their extended number, with the time at which they came.
        self._waiting: dict[int, tuple[ProgramPacket, float]] = {}
        self._joiner = OpusJoiner(max_ticks=JOINED_TICKS, max_bytes=MAX_PAYLOAD)
        #: The packets in the joiner.
        self._held: list[ProgramPacket] = []
        self._held_since = 0.0
        self._out: list[ProgramPacket] = []

    def receive(self, packet: ProgramPacket, *, now: float) -> list[ProgramPacket]:
        """Take one packet of the program; the joined packets that are complete now."""
        if self._expected is None:
            self._expected = packet.sequence
        ahead = ((packet.sequence - self._expected + 0x8000) & 0xFFFF) - 0x8000
        if ahead < 0:
            self.late_packets += 1
            return []
        self._waiting[self._expected + ahead] = (packet, now)
        self._drain(now)
        if len(self._waiting) >= MAX_WAITING:
            self._give_up_gap(now)
        return self._take_out()

    def handle_timer(self, *, now: float) -> list[ProgramPacket]:
        """What has waited long enough; a no-op if early."""
        while self._waiting and self._waiting_until() <= now:
            self._give_up_gap(now)
        if self._held and self._held_since + HOLD_S <= now:
            self._flush(now)
        return self._take_out()

    def timer_at(self) -> float:
        """When `handle_timer` has something to do; infinity while nothing waits."""
        held_until = self._held_since + HOLD_S if self._held else float("inf")
        return min(held_until, self._waiting_until())

    def clear(self) -> None:
        """Forget what waits: nobody listens any more. The line goes on whenever somebody does."""
        self._expected = None
        self._waiting.clear()
        if self._held:
            self._held.clear()
            self._joiner.take()

    def _waiting_until(self) -> float:
        return min((came_at for _, came_at in self._waiting.values()), default=float("inf")) + HOLD_S

    def _take_out(self) -> list[ProgramPacket]:
        out, self._out = self._out, []
        return out

    def _drain(self, now: float) -> None:
        while self._expected is not None and self._expected in self._waiting:
            packet, came_at = self._waiting.pop(self._expected)
            self._expected += 1
            self._join(packet, came_at, now)

    def _give_up_gap(self, now: float) -> None:
        """What is missing comes too late for us from now on."""
        self._expected = min(self._waiting)
        self._drain(now)

    def _join(self, packet: ProgramPacket, came_at: float, now: float) -> None:
        try:
            opus = parse_opus_untrusted(packet.payload)
        except ParseError:
            opus = None
        if opus is None or opus.is_dtx:
            # A sign of life in a pause: the next one may be 400 ms away. What is malformed is for the decoder to judge.
            self._flush(now)
            self._emit([packet], packet.payload, now)
            return
        if not self._follows(packet) or not self._joiner.add(opus, packet.payload):
            self._flush(now)
            self._joiner.add(opus, packet.payload)
        if not self._held:
            self._held_since = came_at
        self._held.append(packet)
        if self._is_full(opus):
            self._flush(now)

    def _follows(self, packet: ProgramPacket) -> bool:
        """Whether it belongs right behind what is held. A marker opens a talkspurt: it can only be the first. But
        FFmpeg and aiortc set it in every packet, and then it says nothing."""
        if not self._held or packet.ticks != self._held[0].ticks + self._joiner.ticks:
            return False
        return not packet.marker or self._held[-1].marker

    def _is_full(self, newest: OpusPacket) -> bool:
        """Another one like the newest would be too much."""
        return self._joiner.ticks + newest.duration_ticks > JOINED_TICKS

    def _flush(self, now: float) -> None:
        if self._held:
            held, self._held = self._held, []
            self._emit(held, self._joiner.take(), now)

    def _emit(self, packets: list[ProgramPacket], payload: bytes, now: float) -> None:
        first = packets[0]
        level = loudest([packet.audio_level for packet in packets if packet.audio_level is not None])
        self._out.append(ProgramPacket(self._sequence, first.timestamp, first.ticks, first.marker, payload, level, now))
        self._sequence = (self._sequence + 1) & 0xFFFF


def loudest(levels: list[int]) -> int | None:
    """Of RFC 6464 bytes: the least -dBov, and the voice bit if any has it."""
    if not levels:
        return None
    return min(level & 0x7F for level in levels) | (0x80 if any(level & 0x80 for level in levels) else 0)
