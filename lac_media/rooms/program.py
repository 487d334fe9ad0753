"""The program of a broadcast: the one Opus stream that the whole audience hears (docs/ARCHITECTURE.md).

Sans-IO. A speaker's packets go through untouched; only sequence, timestamp, SSRC and payload type are ours. Whatever
happens on stage, the audience sees one SSRC, one sequence line without a gap of our making, and one timestamp line
that runs with the clock. While nobody is heard the program carries frames of silence.
"""

from __future__ import annotations

from collections.abc import Iterator

from lac_media.errors import ParseError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import FRAME_20MS_TICKS as FRAME_TICKS
from lac_media.proto.opus import SILENCE_20MS_MONO, duration_ticks_untrusted
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.line import Line, ProgramPacket

FRAME_S = FRAME_TICKS / OPUS_CLOCK_RATE_HZ
#: A speaker that sends nothing for this long is taken for absent. Opus DTX sends a frame every 400 ms.
SILENCE_AFTER_S = 0.5
#: What still fits a packet of ours with its header and extension (`lac_media.proto.srtp.MAX_PACKET`).
MAX_PAYLOAD = 1300
#: Silence that is further behind the clock than this skips ahead instead of going out in a burst.
MAX_CATCH_UP_TICKS = 3 * FRAME_TICKS
#: Audio that came faster than the clock may run this far ahead of it; beyond that the program's clock is set forward,
#: or there would be no silence, thus nothing at all, until it has caught up.
MAX_LEAD_TICKS = OPUS_CLOCK_RATE_HZ // 2
SILENCE_LEVEL = 127


class Program:
    """`ssrc`, `first_sequence` and `first_timestamp` are random, chosen by the caller (RFC 3550 section 5.1).

    `now` is monotonic seconds. After `handle_timer` re-read `timer_at()`.
    """

    def __init__(self, *, ssrc: int, first_sequence: int, first_timestamp: int, now: float) -> None:
        self.ssrc = ssrc
        self._started_at = now
        self._timestamp_offset = first_timestamp
        self._next_sequence = first_sequence  # extended
        self._next_ticks = 0
        self._media_time_floor_s = 0.0
        self._line: Line | None = None
        self._live_until = now  # with a live line: when to begin with silence
        self.late_packets = 0

    def receive(
        self, source: object, packet: RtpPacket, level: int | None, *, now: float, goes_on: bool = False
    ) -> ProgramPacket | None:
        """Take one packet of the live speaker (`source` tells speakers apart), with its audio level if it came with
        one. None if the packet cannot be used: late beyond the line's start, too large, or not Opus.

        A line that `goes_on` begins exactly where the last packet ended and without a marker, wherever the clock is:
        the audio has no break there."""
        if len(packet.payload) > MAX_PAYLOAD:
            return None
        try:
            duration = duration_ticks_untrusted(packet.payload)
        except ParseError:
            return None
        line = self._line
        place = None
        if line is not None and line.source is source and line.ssrc == packet.ssrc:
            place = line.place(packet)
        starts_line = line is None or place is None
        if line is None or place is None:
            ticks = self._next_ticks if goes_on else max(self._next_ticks, self._clock_ticks(now))
            place = (self._next_sequence, ticks)
            line = Line(source, packet, sequence=place[0], ticks=place[1])
        elif place < (line.first_sequence, line.first_ticks):
            self.late_packets += 1
            return None
        sequence, ticks = place
        self._line = line
        self._live_until = now + SILENCE_AFTER_S
        # The marker opens a talkspurt (RFC 7587 section 4.1); it also tells receivers to resynchronise.
        marker = packet.marker or (starts_line and not goes_on)
        return self._emit(sequence, ticks, duration, packet.payload, level, marker=marker, now=now)

    def begin_mix(self, *, due: float, leap_ticks: int) -> None:
        """From now on `mixed` makes the packets. The program's clock is set so that the next is due at `due`, after a
        pause of `leap_ticks`."""
        self._line = None
        self._media_time_floor_s = self.media_time_s(now=due)
        self._next_ticks += leap_ticks
        self._started_at = due - self._next_ticks / OPUS_CLOCK_RATE_HZ

    def mixed(self, payload: bytes, level: int, *, now: float) -> ProgramPacket:
        """The next 20 ms, mixed."""
        return self._emit(self._next_sequence, self._next_ticks, FRAME_TICKS, payload, level, marker=False, now=now)

    def leap(self, ticks: int) -> None:
        """Nothing was sent for so long, on the clock's own time."""
        self._next_ticks += ticks

    def interrupt(self, source: object) -> None:
        """`source` is gone or muted: silence begins at once instead of after a wait."""
        if self._line is not None and self._line.source is source:
            self._line = None

    def handle_timer(self, *, now: float) -> Iterator[ProgramPacket]:
        """The frames of silence that are due. A program whose clock was stopped for long does not make up for it."""
        if self._line is not None:
            if now < self._live_until:
                return
            self._line = None
        behind = self._clock_ticks(now) - self._next_ticks
        if behind > MAX_CATCH_UP_TICKS:
            self._next_ticks += behind
        elif behind < -MAX_LEAD_TICKS:
            self._started_at += behind / OPUS_CLOCK_RATE_HZ
        while self._started_at + self._next_ticks / OPUS_CLOCK_RATE_HZ <= now:
            yield self._emit(
                self._next_sequence,
                self._next_ticks,
                FRAME_TICKS,
                SILENCE_20MS_MONO,
                SILENCE_LEVEL,
                marker=False,
                now=now,
            )

    def timer_at(self) -> float:
        """When `handle_timer` has something to do; it may then turn out to be nothing."""
        if self._line is not None:
            return self._live_until
        return self._started_at + self._next_ticks / OPUS_CLOCK_RATE_HZ

    def media_time_s(self, *, now: float) -> float:
        """Seconds of program since it began, as its listeners count them."""
        return max(self._next_ticks / OPUS_CLOCK_RATE_HZ, now - self._started_at - FRAME_S, self._media_time_floor_s)

    def rtp_timestamp(self, *, now: float) -> int:
        """The 32-bit RTP timestamp of this moment, for sender reports (RFC 3550 section 6.4.1)."""
        return (self._timestamp_offset + round((now - self._started_at) * OPUS_CLOCK_RATE_HZ)) & 0xFFFF_FFFF

    def _clock_ticks(self, now: float) -> int:
        """Where the clock is, on the grid of 20 ms frames."""
        return int((now - self._started_at) / FRAME_S) * FRAME_TICKS

    def _emit(
        self,
        sequence: int,
        ticks: int,
        duration: int,
        payload: bytes,
        audio_level: int | None,
        *,
        marker: bool,
        now: float,
    ) -> ProgramPacket:
        self._next_sequence = max(self._next_sequence, sequence + 1)
        self._next_ticks = max(self._next_ticks, ticks + duration)
        return ProgramPacket(
            sequence & 0xFFFF,
            (self._timestamp_offset + ticks) & 0xFFFF_FFFF,
            ticks,
            marker,
            payload,
            audio_level,
            now,
        )
