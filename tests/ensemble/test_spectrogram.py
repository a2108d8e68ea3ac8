"""The front end: equal to librosa's, blind to gain, shrunk by seconds of speech."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.inference.spectrogram import (
    FrontEnd,
    Reference,
    extract,
    log_mel,
    mel_matrix,
    reference_of,
    voice_norm,
)
from ensemble.model_errors import ModelIncompatible, WaveformError

FRONT = FrontEnd()


def voice(rng, seconds=2.0, pitch_hz=140.0):
    """Harmonics with a syllable rhythm: loud and quiet parts, silence around."""
    t = np.arange(round(seconds * 8000)) / 8000
    tone = sum(np.sin(2 * np.pi * pitch_hz * k * t) / k for k in range(1, 12))
    wave = tone * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * t)) * 0.1 + rng.standard_normal(t.size) * 1e-3
    return wave.astype(np.float32)


@pytest.mark.usefixtures("librosa_ready")
def test_the_mel_matrix_is_librosas():
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=8000, n_fft=512, n_mels=64, fmin=60, fmax=3800)
    np.testing.assert_allclose(mel_matrix(FRONT), theirs.T, atol=1e-7)
    assert (mel_matrix(FRONT).sum(axis=0) > 0).all()


@pytest.mark.usefixtures("librosa_ready")
def test_log_mel_is_librosas(rng):
    librosa = pytest.importorskip("librosa")
    wave = voice(rng)
    ours = log_mel(wave, FRONT)
    power = librosa.feature.melspectrogram(
        y=wave, sr=8000, n_fft=512, win_length=256, hop_length=80, n_mels=64, fmin=60, fmax=3800, center=False
    )
    theirs = 10 * np.log10(np.maximum(power.T, 1e-10))
    theirs = np.maximum(theirs, theirs.max() - FRONT.range_db)
    # librosa centres the 256-sample window inside 512 samples: its frames start 128 samples = 1.6 hops later.
    n = 5 * ((min(len(ours) - 8, len(theirs)) - 1) // 5)
    shifted = log_mel(np.concatenate([wave[128:], np.zeros(128, np.float32)]), FRONT)
    np.testing.assert_allclose(shifted[:n], theirs[:n], atol=0.05)


def test_a_speaker_is_normalised_whatever_the_recorders_gain(rng):
    wave = voice(rng)
    reference = Reference(np.zeros(64, np.float32), np.full(64, 10, np.float32))
    out = []
    for gain in (1.0, 0.05):
        mel, known = extract(wave * np.float32(gain), FRONT)
        mean, deviation = voice_norm(known, reference, FRONT)
        out.append((mel - mean) / deviation)
    np.testing.assert_allclose(out[0], out[1], atol=0.02)


def test_silence_around_speech_is_trimmed_and_not_counted(rng):
    wave = voice(rng)
    padded = np.concatenate([np.zeros(8000, np.float32), wave, np.zeros(12000, np.float32)])
    mel, known = extract(wave, FRONT)
    mel_padded, known_padded = extract(padded, FRONT)
    assert abs(len(mel_padded) - len(mel)) <= 2 * round(FRONT.margin_s / FRONT.hop_s) + 5
    assert known_padded.n_frames == pytest.approx(known.n_frames, abs=5)


def test_statistics_of_two_clips_add_up(rng):
    one, two = (extract(voice(rng, pitch_hz=p), FRONT)[1] for p in (120, 210))
    both = one + two
    assert both.n_frames == one.n_frames + two.n_frames
    np.testing.assert_allclose(both.total, one.total + two.total)


def test_more_speech_means_less_shrinking(rng):
    known = extract(voice(rng), FRONT)[1]
    reference = Reference(np.linspace(5, -5, 64).astype(np.float32), np.full(64, 9, np.float32))
    own_shape = known.total / known.n_frames
    own_shape = own_shape - own_shape.mean()
    distances = []
    minutes = known
    for _ in range(6):
        mean, _ = voice_norm(minutes, reference, FRONT)
        distances.append(float(np.abs(mean - mean.mean() - own_shape).mean()))
        minutes = minutes + minutes
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.2 * distances[0]
    # n / (n + tau), exactly
    n_s = known.n_frames * FRONT.hop_s
    shape = voice_norm(known, reference, FRONT)[0]
    shape = shape - shape.mean()
    expected = (n_s * own_shape + FRONT.shrink_s * reference.shape_db) / (n_s + FRONT.shrink_s)
    np.testing.assert_allclose(shape, expected - expected.mean(), atol=1e-3)


def test_the_reference_is_the_mean_shape_without_level(rng):
    wave = voice(rng)
    quiet, loud = (extract(wave * np.float32(g), FRONT)[1] for g in (0.1, 1.0))
    reference = reference_of([quiet, loud])
    assert reference.shape_db.mean() == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(reference.shape_db, reference_of([loud]).shape_db, atol=0.3)


@pytest.mark.parametrize("samples", [0, 1, 100, 255, 256, 257])
def test_very_short_audio_still_gives_a_frame(samples):
    mel, known = extract(np.full(samples, 0.1, np.float32), FRONT)
    assert mel.shape[1] == 64
    assert len(mel) >= 1
    assert np.isfinite(mel).all()
    assert known.n_frames >= 1


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 100), np.float32), np.array([0.0, np.nan], np.float32), np.zeros(100, np.int16)]
)
def test_what_is_not_audio_is_refused(bad):
    with pytest.raises(WaveformError):
        extract(bad, FRONT)


def test_settings_go_through_a_card_and_strange_ones_are_refused():
    assert FrontEnd.from_card(FRONT.to_card()) == FRONT
    with pytest.raises(ModelIncompatible, match="n_bands"):
        FrontEnd.from_card({**FRONT.to_card(), "n_bands": 3})
