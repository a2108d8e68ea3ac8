"""The voice network as a member sees it: padding changes nothing, and ONNX answers as torch does."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.inference.device import voice_body
from ensemble.inference.spectrogram import voice_spectra
from ensemble.inference.vote import calibrate_mean, vote


def test_what_is_pooled_is_of_the_frames_that_exist():
    rng = np.random.default_rng(1)
    lengths = (1, 37, 250)
    mels = [rng.normal(0, 2, (n, 80)).astype(np.float32) for n in lengths]
    batch = np.full((3, 250, 80), 7, np.float32)  # padding is whatever it is
    mask = np.zeros((3, 250), np.float32)
    for row, mel in enumerate(mels):
        batch[row, : len(mel)], mask[row, : len(mel)] = mel, 1
    answers = [voice_body(1, device)(batch, mask) for device in ("cpu", "cpu:0")]
    np.testing.assert_allclose(*answers, atol=2e-3)
    for row, mel in enumerate(mels):
        alone = voice_body(1, "cpu")(mel[None], np.ones((1, len(mel)), np.float32))
        np.testing.assert_allclose(alone[0], answers[0][row], atol=2e-3)


@pytest.mark.parametrize("n_samples", [0, 1, 199, 200, 279, 280, 8000])
def test_frames_are_counted_before_they_are_made(n_samples):
    seen = voice_spectra([np.ones(n_samples, np.float32)])
    assert seen.of(0).shape == (seen.n_frames[0], 80)


def test_a_weight_counts_in_ballots_and_in_the_mean():
    probabilities = np.array([[[0.7, 0.3]], [[0.7, 0.3]], [[0.05, 0.95]]], np.float32)
    labels, names = ("anger", "neutral"), ("a", "b", "c")
    votes = vote(probabilities, labels, names, rule="weighted", weights=np.array([1.0, 1.0, 3.0]))
    assert votes.emotion(0) == "neutral"
    assert votes.confidence[0] == pytest.approx((0.3 + 0.3 + 3 * 0.95) / 5, abs=1e-6)
    np.testing.assert_allclose(calibrate_mean(probabilities, 1.0), probabilities.mean(axis=0), atol=1e-6)
