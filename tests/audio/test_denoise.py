"""Noise reduction: less noise, the same speech, channels apart, silence kept, long calls without seams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.audio.noise_reduction import BLOCK_S, denoise

RATE_HZ = 8000


def voice(seconds: float) -> np.ndarray:
    """A voice-like sound that comes and goes, so that a band is alone for a good part of the time."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(2, 14))
    return (0.1 * sound * (np.sin(2 * np.pi * 0.4 * t) > 0.2)).astype(np.float32)


def test_noise_in_the_pauses_goes_down_and_the_voice_stays() -> None:
    clean = voice(20)
    noise = np.random.default_rng(1).normal(0, 0.01, clean.size).astype(np.float32)
    cleaned = denoise((clean + noise)[None], RATE_HZ)[0]
    quiet = np.convolve(np.abs(clean), np.ones(800), "same") == 0
    before, after = noise[quiet].std(), cleaned[quiet].std()
    assert after < 0.5 * before, "6 dB or more"
    assert np.corrcoef(clean[~quiet], cleaned[~quiet])[0, 1] > 0.98


def test_channels_do_not_mix_and_the_input_is_left_alone() -> None:
    rng = np.random.default_rng(2)
    both = np.stack([voice(5), rng.normal(0, 0.05, 5 * RATE_HZ).astype(np.float32)])
    kept = both.copy()
    cleaned = denoise(both, RATE_HZ)
    assert np.array_equal(both, kept)
    assert np.array_equal(cleaned[0], denoise(both[:1], RATE_HZ)[0])
    assert cleaned.dtype == np.float32
    assert cleaned.shape == both.shape


def test_masked_stretches_stay_silent() -> None:
    sound = np.random.default_rng(3).normal(0, 0.02, 20 * RATE_HZ).astype(np.float32)
    sound[5 * RATE_HZ : 15 * RATE_HZ] = 0
    cleaned = denoise(sound[None], RATE_HZ)[0]
    assert np.abs(cleaned[5 * RATE_HZ + 300 : 15 * RATE_HZ - 300]).max() < 1e-7
    assert cleaned[: 5 * RATE_HZ].std() < 0.6 * sound[: 5 * RATE_HZ].std(), "zeros are no noise floor"


def test_no_seam_where_blocks_meet() -> None:
    sound = voice(BLOCK_S + 10)
    sound += np.random.default_rng(4).normal(0, 0.005, sound.size).astype(np.float32)
    cleaned = denoise(sound[None], RATE_HZ)[0]
    seam = round(BLOCK_S * RATE_HZ)
    steps = np.abs(np.diff(cleaned))
    assert steps[seam - 2 : seam + 2].max() <= steps.max() * 0.9 or steps[seam - 1] < 0.1


@pytest.mark.parametrize("n", [0, 1, 100, 511, 512, 513])
def test_very_short_sound(n: int) -> None:
    assert denoise(np.full((2, n), 0.1, np.float32), RATE_HZ).shape == (2, n)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9000), st.sampled_from([0.0, 1e-9, 1e-3, 1.0]))
def test_anything_stays_finite_and_no_louder(seed: int, n: int, scale: float) -> None:
    sound = (np.random.default_rng(seed).uniform(-1, 1, n) * scale).astype(np.float32)
    cleaned = denoise(sound[None], RATE_HZ)
    assert np.isfinite(cleaned).all()
    assert np.abs(cleaned).max() <= 1.5 * scale
