"""Levels move gently, and nothing clips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lac_media.mix.loudness import (
    CEILING,
    LOOKAHEAD,
    MAX_GAIN_DB,
    SLEW_DB_PER_S,
    Balance,
    Limiter,
    common_loudness,
    decibels,
    gain_towards,
)
from lac_media.opus import Pcm
from tests.mix.hearing import splatter
from tests.mix.show import RATE, Wave, sine

FRAME = 960
FRAME_S = 0.02


def frame(wave: Wave, number: int) -> Pcm:
    mono = wave((number * FRAME + np.arange(FRAME)) / RATE).astype(np.float32)
    return np.stack((mono, mono), axis=1)


def balanced(waves: list[Wave], seconds: float) -> tuple[list[Balance], list[Pcm]]:
    balances = [Balance() for _ in waves]
    out: list[list[Pcm]] = [[] for _ in waves]
    for number in range(round(seconds / FRAME_S)):
        common = common_loudness(balances)
        for balance, wave, frames in zip(balances, waves, out, strict=True):
            pcm = frame(wave, number)
            balance.measure(pcm, FRAME_S)
            before = balance.gain_db
            frames.append(balance.apply(pcm, gain_towards(balance, common), FRAME_S))
            assert abs(balance.gain_db - before) <= SLEW_DB_PER_S * FRAME_S + 1e-9
    return balances, [np.concatenate(frames) for frames in out]


def test_a_loud_and_a_soft_speaker_meet_halfway() -> None:
    balances, (loud, soft) = balanced([sine(300, 0.4), sine(500, 0.1)], 6.0)
    assert decibels(loud[-RATE:]) == pytest.approx(decibels(soft[-RATE:]), abs=0.2)
    assert [balance.gain_db for balance in balances] == [pytest.approx(-6, abs=0.2), pytest.approx(6, abs=0.2)]
    assert splatter(loud)[10:].max() < 1e-4


def test_nobody_is_moved_further_than_the_bound() -> None:
    balances, _ = balanced([sine(300, 0.8), sine(500, 0.01)], 10.0)
    assert [balance.gain_db for balance in balances] == [pytest.approx(-MAX_GAIN_DB), pytest.approx(MAX_GAIN_DB)]


def test_a_speaker_alone_is_left_as_they_are() -> None:
    for amplitude in (0.9, 0.01):
        (balance,), _ = balanced([sine(300, amplitude)], 3.0)
        assert balance.is_unity


def test_noise_in_pauses_is_not_pumped_up() -> None:
    """Half a second of speech, half of a room's noise."""
    rng = np.random.default_rng(1)
    pausing = lambda t: np.where(t % 1.0 < 0.5, sine(300)(t), 0.004 * rng.standard_normal(len(t)))  # noqa: E731
    balances, _ = balanced([pausing, sine(500)], 20.0)
    assert all(abs(balance.gain_db) < 1.5 for balance in balances)


def test_only_noise_is_never_made_louder() -> None:
    rng = np.random.default_rng(1)
    balances, _ = balanced([lambda t: 0.002 * rng.standard_normal(len(t)), sine(500)], 5.0)
    assert balances[0].gain_db == 0.0
    assert balances[0].loudness is None


def test_who_moves_away_from_the_microphone_is_followed_in_the_end() -> None:
    balances, _ = balanced([lambda t: np.where(t < 3, 1, 0.05) * sine(300, 0.4)(t), sine(500, 0.1)], 60.0)
    assert balances[0].gain_db > 3.0


def test_below_the_ceiling_the_limiter_only_delays() -> None:
    limiter = Limiter()
    pcm = np.concatenate([frame(sine(440, 0.9), n) for n in range(20)])
    out = np.concatenate([limiter.process(pcm[n : n + FRAME]) for n in range(0, len(pcm), FRAME)])
    assert np.array_equal(out[LOOKAHEAD:], pcm[:-LOOKAHEAD])
    assert limiter.limited_frames == 0


def test_a_mix_that_is_too_loud_is_turned_down_without_a_click() -> None:
    limiter = Limiter()
    loud = lambda t: np.where((t > 0.2) & (t < 0.5), 3.0, 0.5) * sine(440, 1.0)(t)  # noqa: E731
    pcm = np.concatenate([frame(loud, n) for n in range(60)])
    out = np.concatenate([limiter.process(pcm[n : n + FRAME]) for n in range(0, len(pcm), FRAME)])
    assert np.abs(out).max() <= CEILING + 1e-6
    assert np.abs(out[int(0.3 * RATE) : int(0.5 * RATE)]).max() > 0.9 * CEILING
    assert np.allclose(out[-RATE // 10 + LOOKAHEAD :], pcm[-RATE // 10 : -LOOKAHEAD], atol=1e-6), "and lets go again"


@given(st.lists(arrays(np.float32, (FRAME, 2), elements=st.floats(-8, 8, width=32)), min_size=1, max_size=4))
def test_whatever_goes_in_no_sample_is_above_the_ceiling(frames: list[Pcm]) -> None:
    limiter = Limiter()
    for pcm in (*frames, np.zeros((FRAME, 2), np.float32)):
        out = limiter.process(pcm)
        assert out.shape == pcm.shape
        assert out.dtype == np.float32
        assert float(np.abs(out).max()) <= CEILING + 1e-5
