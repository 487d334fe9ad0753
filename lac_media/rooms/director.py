"""Who is heard in the program, and how: one live speaker passes through untouched, several are mixed.

Sans-IO. The program's listeners see one line either way. Going over to the mix begins with the audio right after what
passed through last, so the sound goes on within a packet's boundary; going back waits until the mix has come to the
boundary of one of the speaker's packets, and continues with that packet (docs/protocol/program.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from lac_media.mix.arrivals import Arrival, Arrivals
from lac_media.mix.loudness import Balance
from lac_media.mix.mixer import Channel, Mixer
from lac_media.mix.playout import TOO_SHORT_TICKS, Playout
from lac_media.opus import Pcm
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import FRAME_20MS_TICKS as FRAME_TICKS
from lac_media.proto.rtp import RtpPacket
from lac_media.rooms.line import ProgramPacket
from lac_media.rooms.program import FRAME_S, MAX_PAYLOAD, SILENCE_AFTER_S, Program
from lac_media.rooms.reorder import ReorderBuffer

#: A speaker who has sent nothing but silence for this long is not live.
QUIET_AFTER_S = 2.0
#: What an encoder makes of digital silence has at most this many bytes, DTX included.
SILENT_BYTES = 3
#: A level (RFC 6464, -dBov) from which on there is nobody to hear: an open microphone in a quiet room. Speech begins
#: some 20 dB above that.
QUIET_LEVEL = 70
#: So much of what passed through is kept to warm a decoder up, should a mix begin (RFC 7845 section 4.2 asks for
#: 80 ms), in at most so many packets: enough of the shortest ones.
WARM_UP_TICKS = 6 * FRAME_TICKS
WARM_UP_PACKETS = 48
#: When a mix begins the program waits for the next packet of whom it has passed through no longer than this.
MAX_PATIENCE_S = 0.2
#: A mix with one speaker left goes on for this long, in case another one comes.
ALONE_S = 1.0
#: Then its buffer is drained, within this time.
DRAIN_S = 1.0
#: It waits this long for a pause, in which the change is least of all heard,
PAUSE_WAIT_S = 2.0
#: and for this long for a seamless boundary, before it hands over anyhow.
MAX_ALONE_S = 12.0
#: To meet a boundary the mix plays faster or slower by at most this many samples a frame, 0.8 %: not a seventh of a
#: semitone, and only for a moment.
MAX_BEND = 8
#: Frames that are further behind than this are not made up for.
MAX_CATCH_UP_FRAMES = 3


class _Speaker:
    def __init__(self, source: object) -> None:
        self.source = source
        self.arrivals = Arrivals()
        self.balance = Balance()
        #: What waits for its turn to pass through; empty while others pass, and with a mix.
        self.reorder = ReorderBuffer(self.arrivals)
        self.heard_at = 0.0
        self.audible_at = -QUIET_AFTER_S
        #: What has passed through last.
        self.passed: deque[Arrival] = deque(maxlen=WARM_UP_PACKETS)

    def arrives(self, now: float) -> bool:
        return now - self.heard_at < SILENCE_AFTER_S

    def is_live(self, now: float) -> bool:
        return self.arrives(now) and self.is_audible(now)

    def is_audible(self, now: float) -> bool:
        return now - self.audible_at < QUIET_AFTER_S


class _Mix:
    """The state of mixing: a channel for each live speaker, and when the next frame is due."""

    def __init__(self, due: float) -> None:
        self.mixer = Mixer()
        self.channels: dict[_Speaker, Channel] = {}
        self.due = due
        #: Whom listeners have heard up to now, until the first frame.
        self.went_on_from: _Speaker | None = None
        self.alone_since: float | None = None

    def alone_for(self, now: float) -> float:
        """For how long only one speaker has been left."""
        return 0.0 if self.alone_since is None else now - self.alone_since


class Director:
    """`source` tells speakers apart. After any call re-read `timer_at()`."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._speakers: dict[object, _Speaker] = {}
        #: Who has passed through last; with a mix: nobody.
        self._passing: _Speaker | None = None
        self._mix: _Mix | None = None
        #: How often a mix began, and how many of its packets went out.
        self.mixes = 0
        self.mixed_packets = 0

    @property
    def is_mixing(self) -> bool:
        return self._mix is not None

    @property
    def sources(self) -> list[object]:
        """Everybody who is not forgotten."""
        return list(self._speakers)

    def receive(self, source: object, packet: RtpPacket, level: int | None, *, now: float) -> Iterable[ProgramPacket]:
        """Take one packet of a speaker, with its RFC 6464 byte if it has one; returns what goes out at once."""
        speaker = self._speakers.get(source) or _Speaker(source)
        arrival = speaker.arrivals.place(packet, level, now=now)
        if arrival is None or len(packet.payload) > MAX_PAYLOAD:
            return ()
        self._speakers[source] = speaker
        speaker.heard_at = now
        if _is_audible(arrival):
            speaker.audible_at = now
        if self._mix is None:
            passing = self._passing
            if speaker is passing or passing is None or not passing.arrives(now):
                return self._pass(speaker, arrival, now)
            if not speaker.is_audible(now):
                return ()
            if not passing.is_audible(now):
                return self._pass(speaker, arrival, now)
            self._mix = self._begin_mix(passing, now)
        channel = self._mix.channels.get(speaker)
        if channel is None and speaker.is_audible(now):
            channel = self._mix.channels[speaker] = Channel(speaker.arrivals, speaker.balance)
        if channel is not None:
            channel.playout.insert(arrival)
        return ()

    def remove(self, source: object, *, now: float) -> None:
        """The speaker is gone, muted, or silent for long: not heard from this moment on."""
        speaker = self._speakers.pop(source, None)
        if speaker is None:
            return
        if self._mix is not None:
            self._release(self._mix, speaker)
        if self._passing is speaker:
            self._passing = None
        self.program.interrupt(source)

    def handle_timer(self, *, now: float) -> Iterable[ProgramPacket]:
        """What is due: a mixed frame, silence, or what was held back of whom passes through."""
        mix = self._mix
        out: list[ProgramPacket] = []
        if mix is None:
            if self._passing is not None:
                out.extend(self._send(self._passing, self._passing.reorder.handle_timer(now=now), now))
            out.extend(self.program.handle_timer(now=now))
            return out
        self._skip_what_is_too_late(mix, now)
        while mix.due <= now:
            self._retire(mix, now)
            if not mix.channels and not mix.mixer.releasing:
                self._mix = None
                out.extend(self.program.handle_timer(now=now))
                break
            handed_over = self._hand_over(mix, now)
            if handed_over:
                out.extend(handed_over)
                break
            out.append(self._make_frame(mix, now))
        return out

    def timer_at(self) -> float:
        """When `handle_timer` has something to do; it may then turn out to be nothing."""
        if self._mix is not None:
            return self._mix.due
        held_until = float("inf") if self._passing is None else self._passing.reorder.timer_at()
        return min(self.program.timer_at(), held_until)

    # Pass-through

    def _pass(self, speaker: _Speaker, arrival: Arrival, now: float) -> Iterable[ProgramPacket]:
        if speaker is not self._passing:
            if self._passing is not None:
                self._passing.reorder.take_all()  # they have been quiet, or away, for longer than anything waits
            speaker.passed.clear()
            self._passing = speaker
        return self._send(speaker, speaker.reorder.receive(arrival, now=now), now)

    def _send(
        self, speaker: _Speaker, arrivals: Iterable[Arrival], now: float, *, goes_on: bool = False
    ) -> list[ProgramPacket]:
        out = []
        for arrival in arrivals:
            sent = self.program.receive(speaker.source, arrival.packet, arrival.level, now=now, goes_on=goes_on)
            if sent is not None:
                speaker.passed.append(arrival)
                out.append(sent)
        return out

    def _begin_mix(self, passing: _Speaker, now: float) -> _Mix:
        """Go over. The next packet of the program carries what comes after the last one that passed through.

        It is due when that speaker's next packet should be there, with as much patience as their network has needed:
        listeners are used to that.
        """
        due, leap = now, 0
        position = max((arrival.end for arrival in passing.passed), default=None)
        if position is not None:
            delay = max(passing.arrivals.required_delay, passing.reorder.delay)
            expected = (position + delay) / OPUS_CLOCK_RATE_HZ
            due = min(max(now, expected), now + MAX_PATIENCE_S)
            if now - expected > MAX_CATCH_UP_FRAMES * FRAME_S:  # a pause
                leap = int((now - expected) / FRAME_S) * FRAME_TICKS
        mix = _Mix(due)
        passing.balance.gain_db = 0.0  # as they have been heard
        channel = mix.channels[passing] = Channel(passing.arrivals, passing.balance)
        if position is not None:
            recent = [arrival for arrival in passing.passed if arrival.end > position - WARM_UP_TICKS]
            channel.playout.begin_after(recent, position=position + leap)
            mix.went_on_from = passing
        for arrival in passing.reorder.take_all():
            channel.playout.insert(arrival)
        self.program.begin_mix(due=due, leap_ticks=leap)
        self._passing = None
        self.mixes += 1
        return mix

    # The mix

    def _make_frame(self, mix: _Mix, now: float) -> ProgramPacket:
        frames = [self._read(mix, speaker, channel, now) for speaker, channel in mix.channels.items()]
        mixed = mix.mixer.mix(mix.channels.values(), frames)
        mix.due += FRAME_S
        self.mixed_packets += 1
        return self.program.mixed(mixed.payload, mixed.audio_level, now=now)

    def _read(self, mix: _Mix, speaker: _Speaker, channel: Channel, now: float) -> Pcm:
        playout = channel.playout
        if speaker is mix.went_on_from:
            # What the mixer delays must have gone in before the first packet comes out.
            mix.went_on_from = None
            history = playout.history
            pcm = playout.read(mix.mixer.delay_ticks + FRAME_TICKS, due=mix.due)
            mix.mixer.prime(np.concatenate((history, pcm[:-FRAME_TICKS])))
            return pcm[-FRAME_TICKS:]
        return playout.read(FRAME_TICKS, due=mix.due, extra=self._aim(mix, playout, now))

    def _aim(self, mix: _Mix, playout: Playout, now: float) -> int:
        """With one speaker left: bring the mix to a boundary of their packets, by playing so many samples a frame more
        or less."""
        alone = mix.alone_for(now)
        if alone < ALONE_S:
            playout.follow()
            return 0
        if alone < ALONE_S + DRAIN_S and playout.excess(due=mix.due) > TOO_SHORT_TICKS:
            playout.drain()
            return 0
        playout.hold()
        off = playout.off_grid(playout.position - mix.mixer.delay_ticks)
        if off and playout.quiet:
            playout.shift(-off)
            return 0
        return max(-MAX_BEND, min(MAX_BEND, -off))

    def _retire(self, mix: _Mix, now: float) -> None:
        """Let go of the channels of those who are not live any more; the last one may stay, quiet as it is."""
        over = [speaker for speaker in mix.channels if not speaker.is_live(now)]
        if over and len(over) == len(mix.channels):
            last = max(over, key=lambda speaker: speaker.audible_at)
            if last.arrives(now) or not mix.channels[last].playout.silent:
                over.remove(last)
        for speaker in over:
            self._release(mix, speaker)
        if len(mix.channels) != 1:
            mix.alone_since = None
        elif mix.alone_since is None:
            mix.alone_since = now

    def _release(self, mix: _Mix, speaker: _Speaker) -> None:
        channel = mix.channels.pop(speaker, None)
        if channel is not None:
            mix.mixer.release(channel, due=mix.due)
        if mix.went_on_from is speaker:
            mix.went_on_from = None

    def _hand_over(self, mix: _Mix, now: float) -> list[ProgramPacket]:
        """Go back to pass-through if the one speaker who is left can go on seamlessly with a packet of theirs, or if
        that has not come about for too long. Nothing if not yet."""
        waited = mix.alone_for(now) - ALONE_S
        if waited < 0:
            return []
        ((speaker, channel),) = mix.channels.items()
        playout = channel.playout
        heard = playout.position - mix.mixer.delay_ticks
        packets = playout.packets_from(heard)
        patience_is_over = waited >= MAX_ALONE_S
        if packets is None and patience_is_over:
            packets = playout.packets_after(heard)
        if not packets:
            return []
        seamless = channel.balance.is_unity and (playout.quiet or waited >= PAUSE_WAIT_S)
        if not seamless and not patience_is_over:
            return []
        self._mix, self._passing = None, speaker
        speaker.passed.clear()
        first, *others = packets
        out = self._send(speaker, [first], now, goes_on=True)
        return out + self._send(speaker, speaker.reorder.go_on(others, now=now), now)

    def _skip_what_is_too_late(self, mix: _Mix, now: float) -> None:
        """After a stall of our own: what should have gone out long ago is left out."""
        late = int((now - mix.due) / FRAME_S)
        if late > MAX_CATCH_UP_FRAMES:
            mix.due += late * FRAME_S
            self.program.leap(late * FRAME_TICKS)


def _is_audible(arrival: Arrival) -> bool:
    if arrival.dtx or len(arrival.packet.payload) <= SILENT_BYTES:
        return False
    return arrival.level is None or arrival.level & 0x7F < QUIET_LEVEL
