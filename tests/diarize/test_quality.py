"""What is noted about the sound of a channel: noise, a narrow band, clipping."""

from __future__ import annotations

import numpy as np
import pytest
from telephone import RATE_HZ, FloatArray, mu_law

from callanalytics.diarize.quality import Quality, sound_quality
from callanalytics.diarize.vad import FRAME_SAMPLES, frame_levels_db
from callanalytics.records import BoolArray

LENGTH_S = 20


@pytest.fixture(scope="module")
def speech() -> tuple[FloatArray, BoolArray]:
    """Bursts of a second with pauses, falling by 6 dB an octave as a voice does; (n,), and where it is."""
    rng = np.random.default_rng(20261128)
    n = LENGTH_S * RATE_HZ
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hz = np.fft.rfftfreq(n, 1 / RATE_HZ)
    spectrum *= (hz > 200) * (hz < 3400) / np.maximum(hz, 200)
    spoken = (np.arange(n) // RATE_HZ) % 2 == 0
    sound = np.fft.irfft(spectrum, n) * spoken
    return (0.1 * sound / sound.std()).astype(np.float32), spoken


def noted(samples: FloatArray, spoken: BoolArray) -> set[Quality]:
    samples = samples.astype(np.float32)
    active = spoken[::FRAME_SAMPLES]
    levels_db = frame_levels_db(samples[None])[0]
    return sound_quality(samples, levels_db, active.astype(np.float32), active)


def below(sound: FloatArray, hz: float) -> FloatArray:
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(len(sound), 1 / RATE_HZ) > hz] = 0
    return np.fft.irfft(spectrum, len(sound))


def test_a_clean_line_has_nothing_to_be_said(speech) -> None:
    assert noted(*speech) == set()
    assert noted(mu_law(speech[0]), speech[1]) == set()


@pytest.mark.parametrize(("snr_db", "is_noted"), [(25, False), (20, False), (10, True), (5, True)])
def test_noise_is_noted_from_15_db_on(speech, rng, snr_db: float, is_noted: bool) -> None:
    sound, spoken = speech
    noise = rng.standard_normal(len(sound)) * sound[spoken].std() * 10 ** (-snr_db / 20)
    assert noted(sound + noise, spoken) == ({Quality.NOISY} if is_noted else set())


@pytest.mark.parametrize(("hz", "is_noted"), [(3400, False), (2500, True), (1500, True)])
def test_a_narrow_band_is_noted(speech, rng, hz: float, is_noted: bool) -> None:
    sound = below(speech[0], hz) + 1e-5 * rng.standard_normal(len(speech[0]))
    assert noted(sound, speech[1]) == ({Quality.LOW_BAND} if is_noted else set())


@pytest.mark.parametrize("gain", [1.0, 0.2])
def test_clipping_is_noted_at_any_level(speech, gain: float) -> None:
    sound, spoken = speech
    assert noted(gain * np.clip(sound, -0.1, 0.1), spoken) == {Quality.CLIPPED}


def test_nothing_is_said_of_less_than_a_second_of_speech(speech) -> None:
    sound, spoken = speech
    assert noted(np.clip(sound, -0.1, 0.1), spoken & (np.arange(len(sound)) < RATE_HZ // 2)) == set()
