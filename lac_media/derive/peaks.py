"""The waveform, as players draw it: the lowest and the highest sample of every tenth of a second.

The form is that of BBC's audiowaveform, version 2, which peaks.js and wavesurfer.js read: both channels together, 8
bits, `samples_per_pixel` 4,800 at 48 kHz, `data` = [min, max, min, max, ...]. An hour is 36,000 pixels, some 200 KB of
JSON.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lac_media.derive.audio import SAMPLE_RATE_HZ, Block

SAMPLES_PER_PIXEL = 4800
_FULL_SCALE = 127


class PeakMeter:
    """Takes blocks of any length; pixels do not depend on how they were cut."""

    def __init__(self) -> None:
        self._rest: NDArray[np.float32] = np.zeros((0, 2), np.float32)
        self._pixels: list[NDArray[np.int8]] = []
        #: Samples so far.
        self.ticks = 0

    def add(self, block: Block) -> None:
        self.ticks += len(block)
        samples = np.concatenate((self._rest, block)) if len(self._rest) else block
        whole = len(samples) // SAMPLES_PER_PIXEL * SAMPLES_PER_PIXEL
        if whole:
            self._measure(samples[:whole].reshape(-1, SAMPLES_PER_PIXEL * samples.shape[1]))
        self._rest = samples[whole:].copy()

    def result(self) -> dict[str, Any]:
        """After the last block."""
        if len(self._rest):
            self._measure(self._rest.reshape(1, -1))
            self._rest = self._rest[:0]
        data = np.concatenate(self._pixels).reshape(-1) if self._pixels else np.zeros(0, np.int8)
        return {
            "version": 2,
            "channels": 1,
            "sample_rate": SAMPLE_RATE_HZ,
            "samples_per_pixel": SAMPLES_PER_PIXEL,
            "bits": 8,
            "length": len(data) // 2,
            "data": data.tolist(),
        }

    def _measure(self, pixels: NDArray[np.float32]) -> None:
        bounds = np.stack((pixels.min(axis=1), pixels.max(axis=1)), axis=1)
        self._pixels.append(np.clip(np.rint(bounds * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE).astype(np.int8))
