"""Longer, shorter, and bent by a hair: pitch stays and nothing clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac_media.mix.timescale import FADE, best_match, resample, splice
from lac_media.opus import Pcm
from tests.mix.hearing import splatter, tone
from tests.mix.show import RATE


def sines(*hertz: float, seconds: float = 0.5) -> Pcm:
    t = np.arange(int(seconds * RATE)) / RATE
    mono = sum(0.2 * np.sin(2 * np.pi * f * t) for f in hertz).astype(np.float32)  # type: ignore[union-attr]
    return np.stack((mono, mono), axis=1)


@pytest.mark.parametrize("hertz", [70.0, 110.0, 440.0, 1234.5])
@pytest.mark.parametrize(("low", "high"), [(120, 960), (-960, -120)])
def test_a_period_more_or_less_is_not_heard(hertz: float, low: int, high: int) -> None:
    pcm = sines(hertz)
    match = best_match(pcm, 12_000, low, high)
    assert match.likeness > 0.99
    changed = splice(pcm, 12_000, match.offset)
    assert len(changed) == len(pcm) - match.offset
    assert splatter(changed).max() < 2e-4
    assert tone(changed, hertz) == pytest.approx(0.2, rel=0.05)


def test_a_voice_of_many_overtones_finds_its_pitch() -> None:
    pcm = sines(*(130.0 * n for n in range(1, 12)))
    match = best_match(pcm, 10_000, 120, 960)
    period = RATE / 130
    assert min(abs(match.offset - k * period) for k in (1, 2)) < 2
    assert match.likeness > 0.98


def test_silence_may_be_cut_by_as_much_as_is_asked() -> None:
    pcm = np.zeros((5000, 2), np.float32)
    assert best_match(pcm, 2000, 120, 960) == (960, 1.0)
    assert best_match(pcm, 2000, -960, -120) == (-960, 1.0)


@pytest.mark.parametrize("extra", [-8, -1, 0, 1, 8])
def test_bending_plays_on_without_a_seam(extra: int) -> None:
    pcm = sines(440, seconds=1.0)
    at, parts = 100, []
    for _ in range(40):
        parts.append(resample(pcm[at - 1 : at + 960 + extra + 2], 960))
        at += 960 + extra
    bent = np.concatenate(parts)
    assert len(bent) == 40 * 960
    assert splatter(bent).max() < 2e-4
    assert tone(bent, 440 * (960 + extra) / 960) == pytest.approx(0.2, rel=0.02)


@given(st.integers(0, 2**32), st.integers(-900, 900), st.integers(1, 300), st.integers(FADE, 500))
def test_a_match_is_always_within_what_was_asked_for(seed: int, low: int, span: int, width: int) -> None:
    pcm = np.random.default_rng(seed).standard_normal((4000, 2)).astype(np.float32)
    match = best_match(pcm, 1000, low, low + span, width)
    assert low <= match.offset <= low + span
    assert -1.001 <= match.likeness <= 1.001
