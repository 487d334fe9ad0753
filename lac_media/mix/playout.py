"""One speaker's packets as a steady flow of audio: jitter buffer, concealment, and a playout delay that follows the
network and the speaker's clock.

The *position* is the place, on the speaker's clock (`Arrivals`), of the next sample to be read. The *delay* is the time
of reading minus the position, comparable with the delays of packets. Making audio longer moves the position back and
the delay up; making it shorter does the opposite. Thus drift of clocks needs no measuring of its own: packets come
earlier and earlier or later and later, the delay they require moves, and the playout follows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import numpy as np

from lac_media.mix.arrivals import Arrival, Arrivals
from lac_media.mix.timescale import FADE, best_match, ramp, resample, splice
from lac_media.opus import Decoder, OpusError, Pcm
from lac_media.opus.codec import CHANNELS, CONCEAL_STEP_TICKS
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import FRAME_20MS_TICKS, MAX_DURATION_TICKS

#: Packets that wait to be decoded: a second of the usual ones. More, and the oldest go.
MAX_HELD = 50
#: Audio already read that is kept, to repeat from it and to compare with it.
HISTORY = 1920
#: Besides the delay that packets require: what one reading takes at once, and something to fade over.
MARGIN_TICKS = FRAME_20MS_TICKS + FADE
#: From these deviations on the delay is corrected by stretching or shortening.
TOO_SHORT_TICKS = 240
TOO_LONG_TICKS = 960
#: Pitch periods that are repeated or left out: 2.5 to 20 ms.
MIN_LAG = 120
MAX_LAG = 960
#: Below this likeness a correction waits for a better moment, unless it is `URGENT_TICKS` overdue.
GOOD_LIKENESS = 0.8
URGENT_TICKS = 2400
#: A delay that is too long by this much is not worked off but skipped.
SKIP_TICKS = 300 * 48
#: A missing bit of this length is rather stretched over than concealed.
MAX_STRETCH_OVER = 480
#: Concealment fades between these, then gives way to silence.
FADE_FROM_TICKS = 40 * 48
FADE_TO_TICKS = 120 * 48
#: A hole of more than this is a pause and no loss.
MAX_LOSS_TICKS = MAX_DURATION_TICKS
#: In a pause a sign of life comes every 400 ms; after this long without one there will be none.
MAX_PAUSE_TICKS = OPUS_CLOCK_RATE_HZ
#: Where packets are lost, the next one must be there in time, for its FEC and to know that one is lost. For so long
#: after the last loss that came as a surprise.
PATIENCE_TICKS = 10 * OPUS_CLOCK_RATE_HZ
#: Arrivals that are remembered after they were decoded, so that pass-through can begin with them.
KEPT = 8
#: Below this peak nothing that is done to the audio is heard.
QUIET_PEAK = 0.001


class Playout:
    """`arrivals` measures the same packets that are given to `insert`. Everything is bounded: `MAX_HELD` packets, and
    audio for a few packets."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._decoder = Decoder()
        self._held: dict[int, Arrival] = {}
        self._kept: deque[Arrival] = deque(maxlen=KEPT)
        self._pcm: Pcm = np.zeros((HISTORY, CHANNELS), np.float32)
        self._at = HISTORY
        #: Up to here packets have been turned into audio.
        self._decoded = 0
        #: Where the last packet that was really there ended.
        self._content_end = 0
        self._running = False
        #: The last packet said that silence follows.
        self._resting = False
        self._fade_in = False
        #: Concealed since the last content, while its packet may still come.
        self._concealing = 0
        #: Once stretched, audio is not stretched again before more has come.
        self._stretched = False
        self._too_short, self._too_long = TOO_SHORT_TICKS, TOO_LONG_TICKS
        #: Concealment reaches `FADE` samples further than was read, for a fade into what follows; so much has followed.
        self._fresh: int | None = None
        #: Up to this position the packet after the one that is needed is waited for too.
        self._patient_until = 0
        #: Where the decoders of those are who have heard what `begin_after` was given (`Decoder.load`).
        self.heard_before: bytes | None = None
        self.late_packets = 0
        self.overflowed = 0
        self.concealed_ticks = 0

    # What comes in

    def insert(self, arrival: Arrival) -> None:
        """Take a packet, in any order; duplicates and what comes too late are dropped."""
        if self._running and arrival.ticks < self._decoded:
            if not self._resting or arrival.ticks < self._content_end:
                self.late_packets += 1
                return
            self._decoded = arrival.ticks  # it ends the pause: the comfort noise took longer than the pause did
        if len(self._held) >= MAX_HELD:
            del self._held[min(self._held)]
            self.overflowed += 1
        self._held[arrival.ticks] = arrival

    def begin_after(self, heard: Iterable[Arrival], *, position: int) -> None:
        """Go on right after packets that have been heard elsewhere: they warm the decoder up, and are history."""
        for arrival in sorted(heard, key=lambda each: each.ticks):
            self._append(self._decode(arrival))
            self._resting = arrival.dtx
        self.heard_before = self._decoder.save()
        self._at = len(self._pcm)
        self._trim()
        self._decoded = self._content_end = position
        self._running = True

    # What goes out

    def read(self, count: int, *, due: float, extra: int = 0) -> Pcm:
        """The next `count` samples, for monotonic time `due`; whatever happened, so many. `extra`, a few samples in a
        thousand, are taken in addition (or fewer, if negative) by playing that much faster."""
        due_ticks = due * OPUS_CLOCK_RATE_HZ
        if not self._running and not self._begin(due_ticks, count):
            return np.zeros((count, CHANNELS), np.float32)
        if self._resting:
            self._follow_in_pause(due_ticks)
        self._fill(count)
        self._correct(due_ticks, count)
        if self._ahead < count:
            self._conceal(count)
        if extra and self._ahead >= count + extra + 2:
            out = resample(self._pcm[self._at - 1 : self._at + count + extra + 2], count)
            self._at += count + extra
        else:
            out = self._pcm[self._at : self._at + count].copy()
            self._at += count
        self._trim()
        if self._concealing >= FADE_TO_TICKS:
            self._stop()
        elif self._resting and self._decoded - self._content_end > MAX_PAUSE_TICKS:
            out *= 1.0 - ramp(count)
            self._stop()
        return out

    @property
    def history(self) -> Pcm:
        """What was read last."""
        return self._pcm[: self._at]

    @property
    def position(self) -> int:
        return self._decoded - self._ahead

    @property
    def silent(self) -> bool:
        """Nothing comes, and concealment is over."""
        return not self._running

    @property
    def quiet(self) -> bool:
        """The last 20 ms, and what is there of the next, could as well be silence."""
        near = self._pcm[max(0, self._at - FRAME_20MS_TICKS) :]
        return self._resting or not self._running or float(np.abs(near).max(initial=0.0)) < QUIET_PEAK

    def excess(self, *, due: float) -> float:
        """By how many ticks the delay is longer than packets require now."""
        return due * OPUS_CLOCK_RATE_HZ - self.position - self._target()

    # Handing over to pass-through

    def follow(self) -> None:
        """Keep the delay near what packets require: the ordinary way."""
        self._too_short, self._too_long = TOO_SHORT_TICKS, TOO_LONG_TICKS

    def drain(self) -> None:
        """Make the delay as short as packets allow."""
        self._too_long = TOO_SHORT_TICKS

    def hold(self) -> None:
        """Leave the delay as it is, unless audio would be missing or is far too old: somebody is aiming."""
        self._too_short = self._too_long = SKIP_TICKS

    def packets_from(self, ticks: int) -> list[Arrival] | None:
        """All packets there are from the one that begins exactly at `ticks`; None if none does."""
        found = self.packets_after(ticks)
        return found if found and found[0].ticks == ticks else None

    def packets_after(self, ticks: int) -> list[Arrival]:
        """All packets there are that begin at `ticks` or later, in order."""
        known = {arrival.ticks: arrival for arrival in (*self._kept, *self._held.values()) if arrival.ticks >= ticks}
        return [known[key] for key in sorted(known)]

    def off_grid(self, ticks: int) -> int:
        """How far `ticks` is after (positive) or before a place from which whole frames lead to a boundary of packets.
        The one behind is preferred unless it is far, as going back to it lengthens the delay, which can do no harm."""
        if not self._kept:
            return 0
        newest = self._kept[-1]
        # Frames of 20 ms meet every boundary of shorter packets, and each in turn of longer ones.
        grid = math.gcd(newest.duration, FRAME_20MS_TICKS)
        near = grid // 4
        return (ticks - newest.ticks + near) % grid - near

    def shift(self, amount: int) -> None:
        """Move the position by `amount` ticks, at once. Only while it is `quiet`."""
        self._fresh = None
        if amount < 0:
            pause = np.repeat(self._pcm[self._at - 1 : self._at], -amount, axis=0)
            self._pcm = np.concatenate((self._pcm[: self._at], pause, self._pcm[self._at :]))
        elif amount <= self._ahead:
            self._pcm = np.concatenate((self._pcm[: self._at], self._pcm[self._at + amount :]))
        else:
            self._decoded += amount - self._ahead
            self._pcm = self._pcm[: self._at]

    # Inside

    @property
    def _ahead(self) -> int:
        return len(self._pcm) - self._at

    def _target(self) -> float:
        target = self._arrivals.required_delay + MARGIN_TICKS
        if self._decoded < self._patient_until and self._kept:
            target += self._kept[-1].duration
        return target

    def _begin(self, due_ticks: float, count: int) -> bool:
        """Start with the packets that are there once the first has waited for its delay; False until then."""
        self._forget_before(round(due_ticks - self._target()))
        if not self._held:
            return False
        first = min(self._held)
        wait = max(0, round(first + self._target() - due_ticks))
        if wait >= count:
            return False
        self._pcm = self._pcm[: self._at]
        self._append(np.zeros((wait, CHANNELS), np.float32))
        self._decoded = self._content_end = first
        self._decoder.reset()
        self._running, self._fade_in = True, True
        self._resting, self._fresh, self._concealing = False, None, 0
        return True

    def _stop(self) -> None:
        self._running, self._resting, self._fresh, self._concealing = False, False, None, 0
        self._pcm = self._pcm[: self._at]

    def _follow_in_pause(self, due_ticks: float) -> None:
        """In a pause the delay may be set right at once."""
        wanted = max(self._content_end, round(due_ticks - self._target()) + self._ahead)
        if abs(wanted - self._decoded) >= FRAME_20MS_TICKS // 2:
            self._decoded = min(wanted, min(self._held, default=wanted))

    def _fill(self, count: int) -> None:
        """Decode until `count` samples are ahead, or nothing is there to decode."""
        while self._ahead < count:
            if not self._held:
                if self._resting:
                    self._rest(count - self._ahead)
                return
            first = self._held[min(self._held)]
            gap = first.ticks - self._decoded
            if gap > 0 and self._resting:
                self._rest(min(gap, count - self._ahead))
                continue
            if gap > MAX_LOSS_TICKS:
                return  # a pause that nobody has announced: fade out, and begin again when it is time
            if gap > 0:
                # What was concealed while waiting stands for what is now known to be lost.
                covered = min(gap, self._concealing)
                self._decoded += covered
                if covered:
                    self._patient_until = self._decoded + PATIENCE_TICKS
                self._make_up_for(gap - covered, first)
            del self._held[first.ticks]
            self._take(first)

    def _take(self, arrival: Arrival) -> None:
        """Decode one packet behind what is ahead."""
        behind = self._decoded - arrival.ticks
        if behind < arrival.duration:
            pcm = self._decode(arrival)[behind:]
            if self._fade_in:
                reach = min(FADE, len(pcm))
                pcm[:reach] *= ramp(reach)
                self._fade_in = False
            self._append(pcm)
            self._decoded = self._content_end = arrival.end
            self._join(len(pcm))
            self._concealing = 0
            self._stretched = False
            self._resting = arrival.dtx
        self._kept.append(arrival)

    def _join(self, length: int) -> None:
        """After `length` samples of content: fade into it from the concealment that reaches over, where the two are
        most alike. Shorter packets than the fade wait for one another."""
        if self._fresh is None:
            return
        self._fresh += length
        at = len(self._pcm) - self._fresh - FADE
        if self._fresh >= FADE and at >= self._at:
            match = best_match(self._pcm, at, FADE, min(FADE + MAX_LAG, self._fresh))
            self._pcm = splice(self._pcm, at, match.offset)
        if self._fresh >= FADE:
            self._fresh = None

    def _make_up_for(self, gap: int, following: Arrival) -> None:
        """Lost: from the in-band FEC of the packet after it, or concealed."""
        if gap <= 0:
            return
        steps = _steps(gap)
        try:
            pcm = self._decoder.decode_lost(steps, following.packet.payload)
        except OpusError:
            pcm = np.zeros((steps, CHANNELS), np.float32)
        self._append(pcm[-gap:])  # what FEC tells ends where the following packet begins
        self._decoded += gap
        self.concealed_ticks += gap
        self._join(gap)

    def _rest(self, ticks: int) -> None:
        """Comfort noise for a pause that the speaker has announced."""
        self._append(self._concealment(_steps(ticks))[:ticks])
        self._decoded += ticks

    def _conceal(self, count: int) -> None:
        """Go on without knowing whether packets are lost or late: the position stays, the delay grows."""
        ticks = _steps(count + FADE - self._ahead)
        pcm = self._concealment(ticks)
        left = FADE_TO_TICKS - self._concealing - np.arange(len(pcm), dtype=np.float32)
        pcm *= np.clip(left / (FADE_TO_TICKS - FADE_FROM_TICKS), 0.0, 1.0)[:, np.newaxis]
        self._append(pcm)
        self._concealing += ticks
        self.concealed_ticks += ticks
        self._fresh = 0

    def _concealment(self, ticks: int) -> Pcm:
        try:
            return self._decoder.conceal(min(ticks, MAX_DURATION_TICKS))
        except OpusError:
            return np.zeros((ticks, CHANNELS), np.float32)

    def _decode(self, arrival: Arrival) -> Pcm:
        try:
            pcm = self._decoder.decode(arrival.packet.payload)
        except OpusError:
            pcm = self._concealment(_steps(arrival.duration))[: arrival.duration]
        return pcm

    def _correct(self, due_ticks: float, count: int) -> None:
        """Bring the delay nearer to what packets require, by at most one pitch period."""
        if self._resting:
            return
        excess = due_ticks - self.position - self._target()
        missing = count - self._ahead
        if 0 < missing <= MAX_STRETCH_OVER or excess < -self._too_short:
            self._lengthen(max(missing, MIN_LAG), excess)
            self._fill(count)
        elif excess > SKIP_TICKS:
            self._skip(round(due_ticks - self._target()), count)
        elif excess > self._too_long:
            self._fill_from_held(count + MAX_LAG + FADE)
            self._shorten(excess, self._ahead - max(count, FADE))

    def _lengthen(self, lag: int, excess: float) -> None:
        if self._ahead < FADE or self._concealing or self._stretched or not MIN_LAG <= lag <= MAX_LAG:
            return
        high = min(MAX_LAG, self._at, max(lag + MAX_LAG // 2, round(-excess) + MIN_LAG))
        match = best_match(self._pcm, self._at, -high, -lag)
        if match.likeness >= GOOD_LIKENESS or excess < -URGENT_TICKS or lag > MIN_LAG:
            self._pcm = splice(self._pcm, self._at, match.offset)
            self._stretched = True

    def _shorten(self, excess: float, spare: int) -> None:
        high = min(MAX_LAG, round(excess), spare)
        if high < MIN_LAG or self._fresh is not None:
            return
        match = best_match(self._pcm, self._at, MIN_LAG, high)
        if match.likeness >= GOOD_LIKENESS or excess > URGENT_TICKS:
            self._pcm = splice(self._pcm, self._at, match.offset)

    def _fill_from_held(self, count: int) -> None:
        """As `_fill`, but nothing is made up: packets that follow without a hole."""
        while self._ahead < count and self._decoded in self._held:
            self._take(self._held.pop(self._decoded))

    def _skip(self, position: int, count: int) -> None:
        """Far behind, as after a stall: leave out what comes before `position`."""
        self._forget_before(position)
        self._pcm = self._pcm[: self._at + FADE]
        if self._ahead < FADE:
            self._append(self._concealment(FADE)[: FADE - self._ahead])
        self._fresh = 0
        self._decoded = max(self._decoded, min(self._held, default=position))
        self._fill(count)

    def _forget_before(self, ticks: int) -> None:
        """Drop waiting packets that end at `ticks` or earlier."""
        for old in [key for key, arrival in self._held.items() if arrival.end <= ticks]:
            del self._held[old]
            self.late_packets += 1

    def _append(self, pcm: Pcm) -> None:
        self._pcm = np.concatenate((self._pcm, pcm))

    def _trim(self) -> None:
        if self._at > 2 * HISTORY:
            self._pcm = self._pcm[self._at - HISTORY :].copy()
            self._at = HISTORY


def _steps(ticks: int) -> int:
    """Rounded up to what libopus can conceal."""
    return -(-ticks // CONCEAL_STEP_TICKS) * CONCEAL_STEP_TICKS
