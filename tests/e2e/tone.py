"""Known tones as test audio, and the frequency of what came out at the other end."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE_HZ = 48_000


def tone(frequency_hz: float, seconds: float, *, level: float = 0.4, start_s: float = 0.0) -> npt.NDArray[np.float32]:
    """Mono float32 in [-1, 1] at 48 kHz. `start_s` continues the phase of an earlier piece."""
    at = start_s + np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (level * np.sin(2 * np.pi * frequency_hz * at)).astype(np.float32)


def write_tone(path: Path, frequency_hz: float, seconds: float = 10.0, *, level: float = 0.4) -> Path:
    """A 16-bit mono WAV whose end joins its beginning, for players that repeat it."""
    whole_periods = round(frequency_hz * seconds) / frequency_hz
    samples = (tone(frequency_hz, whole_periods, level=level) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes(samples.tobytes())
    return path


def dominant_frequency_hz(samples: npt.NDArray[np.float32], rate_hz: int = RATE_HZ) -> float:
    """The strongest frequency in mono float32 samples; 0.0 for silence (below -60 dBFS)."""
    if not len(samples) or np.sqrt(np.mean(samples**2)) < 1e-3:
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate_hz)[int(np.argmax(spectrum))])


def purity(samples: npt.NDArray[np.float32], frequency_hz: float, rate_hz: int = RATE_HZ) -> float:
    """How much of the power lies within 3 Hz of a frequency, of seconds of mono float32: where a piece is missing or
    comes twice the tone has a leap in its phase, and its power lies elsewhere."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    near = np.abs(np.fft.rfftfreq(len(samples), 1 / rate_hz) - frequency_hz) <= 3.0
    return float(power[near].sum() / max(power.sum(), 1e-12))
