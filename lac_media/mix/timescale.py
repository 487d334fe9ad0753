"""Making audio longer or shorter without changing its pitch (WSOLA), and by a hair with it (resampling).

All work on `Pcm`, float32 of shape (samples, 2). Offsets and widths are samples at 48 kHz.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lac_media.opus.library import Pcm

#: How far a cross-fade reaches: 5 ms. Also the stretch whose likeness is compared.
FADE = 240
#: The search is coarse first, in steps of this many samples.
_COARSE = 4
#: What counts as silence, as a sum of squares per sample.
_SILENCE = 1e-9


class Match(NamedTuple):
    """`likeness` is the normalised correlation, -1 to 1."""

    offset: int
    likeness: float


@lru_cache(maxsize=16)
def ramp(length: int) -> Pcm:
    """Rising from 0 towards 1, shape (length, 1). Shared: not to be written to."""
    rising: Pcm = np.linspace(0.0, 1.0, length, endpoint=False, dtype=np.float32)[:, np.newaxis]
    rising.flags.writeable = False
    return rising


def best_match(pcm: Pcm, at: int, low: int, high: int, width: int = FADE) -> Match:
    """Where in `[at + low, at + high]` the audio goes on most like it does at `at`.

    `width` samples must be there from `at + low` to after `at + high`. Silence matches itself at the farthest offset.
    """
    template = pcm[at : at + width].sum(axis=1)
    region = pcm[at + low : at + high + width].sum(axis=1)
    energy = float(template @ template)
    if energy + float(region @ region) <= _SILENCE * (width + len(region)):
        return Match(high if high > 0 else low, 1.0)
    steps = (high - low) // _COARSE
    first = low
    if steps >= 1 and width >= _COARSE:
        short = template[: width - width % _COARSE].reshape(-1, _COARSE).sum(axis=1)
        long = region[: len(region) - len(region) % _COARSE].reshape(-1, _COARSE).sum(axis=1)
        first = low + _COARSE * int(np.argmax(_likeness(long, short)))
    # Then every sample around it.
    start = max(low, first - _COARSE)
    end = min(high, first + _COARSE)
    fine = _likeness(region[start - low : end - low + width], template)
    best = int(np.argmax(fine))
    return Match(start + best, float(fine[best]))


def splice(pcm: Pcm, at: int, offset: int, width: int = FADE) -> Pcm:
    """Go over, within `width` samples from `at` on, to the audio at `at + offset`: shorter by `offset`, longer if that
    is negative."""
    up = ramp(width)
    joint = pcm[at : at + width] * (1.0 - up) + pcm[at + offset : at + offset + width] * up
    return np.concatenate((pcm[:at], joint, pcm[at + offset + width :]))


def resample(pcm: Pcm, count: int) -> Pcm:
    """`count` samples in place of `len(pcm) - 3`, by cubic interpolation. One sample before the stretch and two after
    it are context. For changes below one per cent: there is no filter against aliasing."""
    where = np.arange(count, dtype=np.float64) * ((len(pcm) - 3) / count)
    index = where.astype(np.intp)
    t = (where - index).astype(np.float32)[:, np.newaxis]
    p0, p1, p2, p3 = pcm[index], pcm[index + 1], pcm[index + 2], pcm[index + 3]
    # Catmull-Rom.
    out: Pcm = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return out


def _likeness(region: Pcm, template: Pcm) -> Pcm:
    """Normalised correlation of `template` with each stretch of `region` (both one-dimensional)."""
    products = np.correlate(region, template, "valid")
    sums = np.concatenate((np.zeros(1), np.cumsum(np.square(region, dtype=np.float64))))
    energies = sums[len(template) :] - sums[: -len(template)]
    norm = np.sqrt(np.maximum(energies * float(template @ template), 1e-12))
    likeness: Pcm = products / norm
    return likeness
