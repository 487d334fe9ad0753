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
#: Packets of which it is remembered how late their repair came: ten seconds of the usual ones.
REPAIR_WINDOW = 500
#: A packet that comes behind later ones has been repaired from this delay on beyond the fastest (a copy that the next
#: packet brings is sooner here), and up to this it is worth waiting for.
REPAIR_FROM_TICKS = 40 * OPUS_CLOCK_RATE_HZ // 1000
REPAIR_TO_TICKS = 250 * OPUS_CLOCK_RATE_HZ // 1000
#: So many of them in the window are reason to wait, and with so few it is given up.
BEGIN_REPAIRS, END_REPAIRS = 10, 3
#: Of the slowest repairs in the window so many are not waited for: what was lost again and again.
SPARED_REPAIRS = 1
REPAIR_MARGIN_TICKS = 5 * OPUS_CLOCK_RATE_HZ // 1000
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
        self._repairs = _Repairs()
        self.restarts = 0

    def place(self, packet: RtpPacket, level: int | None, *, now: float) -> Arrival | None:
        """None for what is not Opus. Each packet once, when it comes; `now` in monotonic seconds."""
        try:
            duration = duration_ticks_untrusted(packet.payload)
        except ParseError:
            return None
        arrived = now * OPUS_CLOCK_RATE_HZ
        ticks = self._unwrap(packet, arrived)
        in_order = ticks >= self._end or not self._delays
        self._repairs.note(0.0 if in_order else arrived - ticks - self.fastest)
        self._end = max(self._end, ticks + duration)
        self._delays.append(arrived - ticks)
        self._fresh += 1
        return Arrival(ticks, duration, packet, level, is_dtx(packet.payload))

    @property
    def fastest(self) -> float:
        """The shortest delay of late. 0 before the first packet."""
        return min(self._delays, default=0.0)

    @property
    def repair_wait(self) -> float:
        """How many ticks longer than the fastest packet takes to wait for repairs. 0 while few come, or too late."""
        return self._repairs.wait

    @property
    def required_delay(self) -> float:
        """The delay at which nearly all packets are there, bounded. 0 before the first packet."""
        if self._fresh >= 8 or len(self._delays) < FEW_PACKETS:
            self._fresh = 0
            self._required = self._reckon()
            if self._repairs.wait:
                self._required = max(self._required, self.fastest + self._repairs.wait)
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


class _Repairs:
    """How late the packets come that were asked for again, and how long it is worth to wait for them."""

    def __init__(self) -> None:
        self.wait = 0.0
        #: Of the last packets, each one's delay beyond the fastest if it was such a one, else 0.
        self._last: deque[float] = deque(maxlen=REPAIR_WINDOW)

    def note(self, lateness: float) -> None:
        repaired = lateness if REPAIR_FROM_TICKS <= lateness <= REPAIR_TO_TICKS else 0.0
        forgotten = self._last[0] if len(self._last) == REPAIR_WINDOW else 0.0
        self._last.append(repaired)
        if not repaired and not forgotten:
            return
        repairs = sorted(each for each in self._last if each)
        if len(repairs) >= (END_REPAIRS + 1 if self.wait else BEGIN_REPAIRS):
            self.wait = min(repairs[-1 - SPARED_REPAIRS] + REPAIR_MARGIN_TICKS, REPAIR_TO_TICKS)
        else:
            self.wait = 0.0
