"""What an ear would complain about, in numbers."""

from __future__ import annotations

import numpy as np

from lac_media.opus import Pcm
from lac_media.parameters import OPUS_CLOCK_RATE_HZ

WINDOW = 1024
HOP = 256


def splatter(pcm: Pcm, *, above_hz: float = 4000.0) -> np.ndarray:
    """Per hop of 5.3 ms, the RMS of what lies above a frequency: a click is the only thing there when low tones are
    played."""
    mono = pcm.mean(axis=1)
    window = np.blackman(WINDOW)
    first_bin = int(above_hz * WINDOW / OPUS_CLOCK_RATE_HZ)
    frames = np.lib.stride_tricks.sliding_window_view(mono, WINDOW)[::HOP] * window
    power = np.abs(np.fft.rfft(frames, axis=1)[:, first_bin:]) ** 2
    return np.sqrt(2 * power.sum(axis=1)) / WINDOW


def steps(pcm: Pcm) -> np.ndarray:
    """Per sample, how far it is from the one before."""
    return np.abs(np.diff(pcm.mean(axis=1)))


def tone(pcm: Pcm, hertz: float, *, spread_hz: float = 0.0) -> float:
    """The amplitude of a sine at this frequency, or the strongest within the spread around it."""
    mono = pcm.mean(axis=1) * np.hanning(len(pcm))
    t = np.arange(len(mono)) / OPUS_CLOCK_RATE_HZ
    candidates = np.arange(hertz - spread_hz, hertz + spread_hz + 0.1, 1.0)
    return float(max(abs(mono @ np.exp(-2j * np.pi * f * t)) for f in candidates)) * 4 / len(mono)


def times(values: np.ndarray, bound: float, hop: int = HOP) -> list[float]:
    """When the values exceed the bound, in seconds."""
    return [round(float(n) * hop / OPUS_CLOCK_RATE_HZ, 2) for n in np.flatnonzero(values > bound)]
