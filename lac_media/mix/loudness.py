"""Levels: bringing speakers together gently, and a limiter that lets no peak through.

Loudness is that of speech, measured while somebody speaks; gains move slowly and not far, so nobody hears them move.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from lac_media.mix.timescale import ramp
from lac_media.opus import Pcm

#: Nobody is made louder or softer by more than this, and no faster.
MAX_GAIN_DB = 9.0
SLEW_DB_PER_S = 3.0
#: Below this a frame is not speech, whoever it is; nor is one so far below its speaker's loudness.
GATE_DBFS = -50.0
RELATIVE_GATE_DB = 15.0
#: How fast the measure follows what is louder and what is softer than it is: loudness is that of the syllables, not of
#: the gaps between them. A speaker who has moved away from the microphone, so that all they say is below the gate,
#: sinks slowly until it is not.
_RISE_S = 0.25
_FALL_S = 2.0
_SINK_DB_PER_S = 0.5
#: A gain as near to none as this is none.
UNITY_DB = 0.05

#: No sample goes above this: -0.9 dBFS. What an encoder adds has room above it most of the time (`lac_media.mix.output`
#: sees to the rest).
CEILING = 0.9
#: The limiter looks this far ahead, and delays by as much: 2.5 ms.
LOOKAHEAD = 120
#: How fast it lets go: from half to full in about a tenth of a second.
_RELEASE = 0.5 * LOOKAHEAD / 4800


class Balance:
    """One speaker's gain."""

    def __init__(self) -> None:
        #: dBFS, while they speak; None until they have.
        self.loudness: float | None = None
        self.gain_db = 0.0
        #: Whether the last frame measured was speech.
        self.speaking = False

    def measure(self, pcm: Pcm, seconds: float) -> None:
        """Take one frame, before its gain, into account."""
        level = decibels(pcm)
        known = self.loudness
        self.speaking = level > GATE_DBFS and (known is None or level > known - RELATIVE_GATE_DB)
        if known is None:
            if self.speaking:
                self.loudness = level
        elif self.speaking:
            self.loudness = known + (level - known) * seconds / (_RISE_S if level > known else _FALL_S)
        elif level > GATE_DBFS:
            self.loudness = known - _SINK_DB_PER_S * seconds

    def apply(self, pcm: Pcm, target_db: float, seconds: float) -> Pcm:
        """The frame with its gain, which moves towards the target by what `seconds` allow."""
        before = self.gain_db
        step = SLEW_DB_PER_S * seconds
        self.gain_db += max(-step, min(step, target_db - before))
        if before == self.gain_db == 0.0:
            return pcm
        first, last = 10 ** (before / 20), 10 ** (self.gain_db / 20)
        out: Pcm = pcm * (first + (last - first) * ramp(len(pcm)))
        return out

    @property
    def is_unity(self) -> bool:
        return abs(self.gain_db) <= UNITY_DB


def common_loudness(balances: Collection[Balance]) -> float | None:
    """Where all are to meet: the mean of those who have spoken. A speaker alone thus stays as they are."""
    known = [balance.loudness for balance in balances if balance.loudness is not None]
    return sum(known) / len(known) if known else None


def gain_towards(balance: Balance, common: float | None) -> float:
    """The gain in dB that this speaker is to have in the end."""
    if common is None or balance.loudness is None:
        return 0.0
    return max(-MAX_GAIN_DB, min(MAX_GAIN_DB, common - balance.loudness))


class Limiter:
    """Keeps every sample within `CEILING`; below it nothing is changed. Delays by `LOOKAHEAD`."""

    def __init__(self) -> None:
        self._tail: Pcm = np.zeros((LOOKAHEAD, 2), np.float32)
        self._gain = 1.0
        #: What the block in `_tail` needs.
        self._needed = 1.0
        self.limited_frames = 0

    def process(self, pcm: Pcm) -> Pcm:
        """A frame, its length a multiple of `LOOKAHEAD`; as much comes out."""
        delayed = np.concatenate((self._tail, pcm))
        self._tail = delayed[-LOOKAHEAD:]
        out = np.ascontiguousarray(delayed[:-LOOKAHEAD])
        peaks = np.abs(pcm).reshape(-1, LOOKAHEAD * 2).max(axis=1)
        if self._gain == self._needed == 1.0 and float(peaks.max()) <= CEILING:
            return out
        self.limited_frames += 1
        return out * self._curve(peaks)

    def _curve(self, peaks: Pcm) -> Pcm:
        """The gain of each sample that goes out: straight lines over blocks, at whose ends it satisfies the blocks on
        both sides."""
        gains = [self._gain]
        for peak in peaks:
            following = min(1.0, CEILING / float(peak)) if peak > 0 else 1.0
            gains.append(min(self._needed, following, gains[-1] + _RELEASE))
            self._needed = following
        self._gain = gains[-1]
        points = np.arange(len(gains)) * LOOKAHEAD
        curve = np.interp(np.arange(points[-1]), points, gains)
        out: Pcm = curve.astype(np.float32)[:, np.newaxis]
        return out


def decibels(pcm: Pcm) -> float:
    """The level of a frame in dBFS, a full-scale square wave being 0; -127 for silence."""
    flat = pcm.reshape(-1)
    mean = float(flat @ flat) / max(1, flat.size)
    return 10 * math.log10(mean) if mean > 2e-13 else -127.0
