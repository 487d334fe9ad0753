"""Loud things to mix, as `Wave`s of time: what overdriven microphones and desks send. Full scale is 1, and nothing goes
beyond the amplitude that is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.mix.show import Wave

Material = Callable[[int, float], Wave]


def voice(seed: int, amplitude: float) -> Wave:
    """A buzz with the melody and the syllables of speech."""
    rng = np.random.default_rng(seed)

    def wave(t: np.ndarray) -> np.ndarray:
        turns = (110 + 25 * (seed % 5)) * t - 5 * np.cos(2 * np.pi * 0.7 * t + seed)
        syllables = np.clip(0.4 + 0.8 * np.sin(2 * np.pi * 3.1 * t + seed), 0, 1)
        return amplitude * np.clip(1 - 2 * (turns % 1) + 0.03 * rng.standard_normal(len(t)), -1, 1) * syllables

    return wave


def harsh(seed: int, amplitude: float) -> Wave:
    """Shouting, with the microphone's gain far too high."""
    shouting, rng = voice(seed, 3.0), np.random.default_rng(seed)
    return lambda t: amplitude * np.clip(shouting(t) + 0.3 * rng.standard_normal(len(t)), -1, 1)


def noise(seed: int, amplitude: float) -> Wave:
    rng = np.random.default_rng(seed)
    return lambda t: amplitude * np.clip(0.4 * rng.standard_normal(len(t)), -1, 1)


def applause(seed: int, amplitude: float) -> Wave:
    """Claps out of silence, at their loudest at once."""
    rng = np.random.default_rng(seed)
    return lambda t: amplitude * np.clip(rng.standard_normal(len(t)), -1, 1) * np.exp(-240 * (t % (0.17 + seed / 97)))


def music(seed: int, amplitude: float) -> Wave:
    """Chords, a drum and a cymbal, four times a second."""
    rng = np.random.default_rng(seed)
    chords = rng.choice([220, 262, 294, 330, 392, 440, 523, 587], (64, 3))

    def wave(t: np.ndarray) -> np.ndarray:
        since, notes = t % 0.25, chords[(4 * t).astype(int) % 64].T
        chord = sum(np.sin(2 * np.pi * h * note * t) / h for note in notes for h in range(1, 7)) * np.exp(-4 * since)
        drum = np.sin(2 * np.pi * 60 * since) * np.exp(-8 * since)
        cymbal = rng.standard_normal(len(t)) * np.exp(-40 * since)
        return amplitude * np.clip(0.3 * chord + 0.6 * drum + 0.5 * cymbal, -1, 1)

    return wave


def square(seed: int, amplitude: float) -> Wave:
    return lambda t: amplitude * np.sign(np.sin(2 * np.pi * (180 + 70 * seed) * t))


MATERIAL: list[Material] = [voice, harsh, noise, applause, music, square]
