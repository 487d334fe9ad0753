"""The channels of a mix and their sum: one stereo frame of 20 ms, encoded once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from lac_media.mix.arrivals import Arrivals
from lac_media.mix.loudness import LOOKAHEAD, Balance, Limiter, common_loudness, decibels, gain_towards
from lac_media.mix.output import Output
from lac_media.mix.playout import Playout
from lac_media.mix.timescale import ramp
from lac_media.opus import Pcm
from lac_media.opus.codec import CHANNELS
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import FRAME_20MS_TICKS

FRAME_S = FRAME_20MS_TICKS / OPUS_CLOCK_RATE_HZ
#: Frames that set the encoder up before its first packet goes out.
PRIMING_FRAMES = 4
#: The voice bit of RFC 6464.
_VOICE = 0x80


class MixedFrame(NamedTuple):
    """`audio_level` is the byte of RFC 6464."""

    payload: bytes
    audio_level: int


class Channel:
    """One speaker in a mix. `balance` is what is known of their loudness from before."""

    def __init__(self, arrivals: Arrivals, balance: Balance) -> None:
        self.playout = Playout(arrivals)
        self.balance = balance


class Mixer:
    """What goes out lags `delay_ticks` behind what channels give: the limiter's and the encoder's look-ahead."""

    def __init__(self) -> None:
        self._output = Output()
        self._limiter = Limiter()
        self._first = True
        #: The last frames of those who have left.
        self._leaving: list[Pcm] = []
        self.delay_ticks = self._output.delay_ticks + LOOKAHEAD

    def prime(self, pcm: Pcm) -> None:
        """Set the encoder up with the audio that listeners have just heard otherwise: the end of `pcm`."""
        length = min(len(pcm) // FRAME_20MS_TICKS, PRIMING_FRAMES) * FRAME_20MS_TICKS
        for start in range(len(pcm) - length, len(pcm), FRAME_20MS_TICKS):
            self._output.prime(self._limiter.process(pcm[start : start + FRAME_20MS_TICKS]))

    def release(self, channel: Channel, *, due: float) -> None:
        """The channel ends; it fades out within the next frame."""
        if not channel.playout.silent:
            pcm = channel.playout.read(FRAME_20MS_TICKS, due=due)
            reach = LOOKAHEAD * 4
            pcm[reach:] = 0.0
            pcm[:reach] *= 1.0 - ramp(reach)
            self._leaving.append(channel.balance.apply(pcm, channel.balance.gain_db, 0.0))

    @property
    def releasing(self) -> bool:
        return bool(self._leaving)

    def mix(self, channels: Collection[Channel], frames: Sequence[Pcm]) -> MixedFrame:
        """One packet from one frame of each channel, in the same order."""
        common = common_loudness([channel.balance for channel in channels])
        total: Pcm = np.zeros((FRAME_20MS_TICKS, CHANNELS), np.float32)
        speaking = False
        for channel, pcm in zip(channels, frames, strict=True):
            if channel.playout.silent and not pcm.any():
                continue
            balance = channel.balance
            balance.measure(pcm, FRAME_S)
            speaking = speaking or balance.speaking
            total += balance.apply(pcm, gain_towards(balance, common), FRAME_S)
        for pcm in self._leaving:
            total += pcm
        self._leaving.clear()
        limited = self._limiter.process(total)
        if self._first:
            for heard_before in (channel.playout.heard_before for channel in channels):
                if heard_before is not None:
                    self._output.follow(heard_before)
        payload = self._output.encode(limited, independent=self._first)
        self._first = False
        level = min(127, max(0, round(-decibels(limited))))
        return MixedFrame(payload, level | (_VOICE if speaking else 0))
