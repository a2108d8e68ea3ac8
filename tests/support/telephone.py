"""Telephone sound with known truth, built from arithmetic: a talker, tones, music, line noise, mu-law."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
RATE_HZ = 8000
MUSIC_WITHIN_S = (0.31, 0.275)
"""How much later than music its span begins, and earlier it ends. The rule asks for 85 % of a window of 3 s
(94 frames), so the first that fulfils it lies 33 frames inside; it is widened by 23, which leaves 10 frames;
at the end one less, since a window of an even number of frames has one frame more after its middle."""


def silence(seconds: float) -> FloatArray:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def tone(frequencies_hz: tuple[float, ...], seconds: float, level: float = 0.1) -> FloatArray:
    at_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (level * sum(np.sin(2 * np.pi * hz * at_s) for hz in frequencies_hz)).astype(np.float32)


def music(seconds: float) -> FloatArray:
    """Chords of a second, each note with five harmonics, decaying."""
    at_s = np.arange(RATE_HZ) / RATE_HZ
    chords = []
    for root_hz in np.resize([220.0, 262.0, 294.0, 247.0], int(np.ceil(seconds))):
        notes = [root_hz * ratio * k for ratio in (1, 1.26, 1.5) for k in range(1, 6)]
        parts = [np.sin(2 * np.pi * hz * at_s) / (1 + i % 5) for i, hz in enumerate(notes)]
        chords.append(0.06 * np.exp(-2 * at_s) * np.sum(parts, axis=0))
    return np.concatenate(chords)[: round(seconds * RATE_HZ)].astype(np.float32)


def noisy(samples: FloatArray, rng: np.random.Generator, level: float = 1e-3) -> FloatArray:
    return (samples + level * rng.standard_normal(samples.shape)).astype(np.float32)


def mu_law(samples: FloatArray) -> FloatArray:
    """Through the 8-bit telephone codec and back."""
    clipped = np.clip(samples, -1, 1)
    code = np.round(127 * np.sign(clipped) * np.log1p(255 * np.abs(clipped)) / np.log(256)) / 127
    return (np.sign(code) * (256 ** np.abs(code) - 1) / 255).astype(np.float32)
