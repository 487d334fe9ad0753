"""One speaker's packets on an unwrapped clock, and how late they come: what a playout delay is reckoned from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from lac_media.errors import ParseError
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import FRAME_20MS_TICKS, duration_ticks_untrusted, is_dtx
from lac_media.proto.rtp import RtpPacket
from lac_media.proto.seq import SequenceExtender, TimestampExtender

#: Timestamps that leap further than this, either way, are those of a restarted encoder.
MAX_LEAP_TICKS = 5 * OPUS_CLOCK_RATE_HZ
#: Timestamps that go back by more than this while sequence numbers go on are a restart too.
MAX_STEP_BACK_TICKS = 4800
#: Packets whose delay is remembered: five seconds of the usual ones.
WINDOW = 256
#: This many of a hundred packets are to come in time.
IN_TIME_PERCENT = 97
#: More than this beyond the fastest packet is not waited for.
MAX_JITTER_TICKS = 400 * OPUS_CLOCK_RATE_HZ // 1000
#: Until so many packets are known, this much jitter is taken for granted.
FEW_PACKETS = 10
UNKNOWN_JITTER_TICKS = FRAME_20MS_TICKS


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet with the place of its first sample on the speaker's clock."""

    ticks: int
    duration: int
    packet: RtpPacket
    level: int | None
    dtx: bool

    @property
    def end(self) -> int:
        return self.ticks + self.duration


class Arrivals:
    """Unwraps timestamps, over restarts and changes of SSRC too, and measures delays.

    A *delay* is arrival minus timestamp, in ticks. Its zero means nothing, as the clocks are strangers; differences do.
    """

    def __init__(self) -> None:
        self._ssrc: int | None = None
        self._sequences = SequenceExtender()
        self._timestamps = TimestampExtender(MAX_LEAP_TICKS, MAX_LEAP_TICKS)
        self._offset = 0
        self._end = 0
        self._delays: deque[float] = deque(maxlen=WINDOW)
        self._required = 0.0
        self._fresh = 0
        self.restarts = 0

    def place(self, packet: RtpPacket, level: int | None, *, now: float) -> Arrival | None:
        """None for what is not Opus. Each packet once, when it comes; `now` in monotonic seconds."""
        try:
            duration = duration_ticks_untrusted(packet.payload)
        except ParseError:
            return None
        arrived = now * OPUS_CLOCK_RATE_HZ
        ticks = self._unwrap(packet, arrived)
        self._end = max(self._end, ticks + duration)
        self._delays.append(arrived - ticks)
        self._fresh += 1
        return Arrival(ticks, duration, packet, level, is_dtx(packet.payload))

    @property
    def required_delay(self) -> float:
        """The delay at which nearly all packets are there, bounded. 0 before the first packet."""
        if self._fresh >= 8 or len(self._delays) < FEW_PACKETS:
            self._fresh = 0
            self._required = self._reckon()
        return self._required

    def _reckon(self) -> float:
        if not self._delays:
            return 0.0
        if len(self._delays) > FEW_PACKETS:
            recent = list(self._delays)[-FEW_PACKETS:]
            if min(recent) > min(self._delays) + MAX_JITTER_TICKS:
                # Not jitter: all come later now, over another path, or as the speaker's clock has stood still.
                self._delays.clear()
                self._delays.extend(recent)
        delays = sorted(self._delays)
        if len(delays) < FEW_PACKETS:
            return delays[-1] + UNKNOWN_JITTER_TICKS
        usual = delays[(len(delays) - 1) * IN_TIME_PERCENT // 100]
        return min(usual, delays[0] + MAX_JITTER_TICKS)

    def _unwrap(self, packet: RtpPacket, arrived: float) -> int:
        if packet.ssrc == self._ssrc:
            before = self._sequences.highest or 0
            in_order = self._sequences.extend(packet.sequence) > before
            ticks = self._timestamps.extend(packet.timestamp) + self._offset
            went_back = in_order and ticks < self._end - MAX_STEP_BACK_TICKS
            if not (self._sequences.jumped or self._timestamps.jumped or went_back):
                return ticks
            self.restarts += 1
        # A new numbering. It goes on where the clock is: as if the packet had come with the usual delay.
        self._ssrc = packet.ssrc
        self._sequences.reset()
        self._timestamps.reset()
        self._sequences.extend(packet.sequence)
        ticks = max(round(arrived - min(self._delays)), self._end) if self._delays else self._end
        self._offset = ticks - self._timestamps.extend(packet.timestamp)
        return ticks
