"""Calibration: the temperature is found again, thresholds reach their precision."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.inference.vote import calibrate_mean, count_votes, softmax, vote
from ensemble.training.calibration import (
    choose_thresholds,
    coverage_curve,
    expected_calibration_error,
    fit_bias,
    fit_temperature,
    perfect_calibration_error,
    reliability,
)


def opinions(rng, n=6000, spread=2.0, sharpness=1.0):
    """Three equal members whose stated probabilities are true at sharpness 1."""
    logits = rng.standard_normal((n, 6)) * spread
    true = softmax(logits).astype(np.float64)
    truth = (true.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return np.repeat(softmax(logits * sharpness)[None], 3, axis=0), truth


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_the_temperature_undoes_over_and_underconfidence(rng, sharpness):
    probabilities, truth = opinions(rng, sharpness=sharpness)
    temperature = fit_temperature(probabilities, truth)
    assert temperature == pytest.approx(sharpness, rel=0.08)
    mean = calibrate_mean(probabilities, temperature)
    top = mean.argmax(axis=1)
    error = expected_calibration_error(mean[np.arange(len(top)), top], top == truth)
    assert error < 0.025


def test_ece_of_known_answers():
    confidence = np.array([0.9] * 10 + [0.6] * 10, dtype=np.float32)
    right = np.array([True] * 9 + [False] + [True] * 6 + [False] * 4)
    assert expected_calibration_error(confidence, right) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(confidence, np.zeros(20, bool)) == pytest.approx(0.75, abs=1e-6)
    assert sum(share for _, _, share in reliability(confidence, right)) == pytest.approx(1)


def test_full_confidence_falls_in_the_last_bin():
    assert reliability(np.ones(3, np.float32), np.ones(3, bool)) == [(1, 1, 1)]


def test_the_most_confident_are_more_often_right(rng):
    probabilities, truth = opinions(rng)
    mean = calibrate_mean(probabilities, 1.0)
    curve = coverage_curve(mean.max(axis=1), mean.argmax(axis=1) == truth)
    accuracies = [accuracy for _, accuracy in curve]
    assert curve[0][0] == 1.0
    assert accuracies == sorted(accuracies)


def test_thresholds_reach_the_precision_and_name_as_many_as_they_can(rng):
    probabilities, truth = opinions(rng)
    limits = choose_thresholds(probabilities, truth, 1.0, precision=0.8)
    mean = calibrate_mean(probabilities, 1.0)
    top, agreement, _ = count_votes(probabilities, mean)
    confidence = mean.max(axis=1)
    named = (confidence >= limits.confidence) & (agreement >= limits.agreement - 1e-6)
    assert (top == truth)[named].mean() >= 0.8
    assert named.mean() > 0.3
    looser = confidence >= limits.confidence - 0.02
    assert (top == truth)[looser].mean() < 0.8


def test_an_unreachable_precision_is_told(rng):
    probabilities, truth = opinions(rng, spread=0.3)
    limits = choose_thresholds(probabilities, truth, 1.0, precision=0.99)
    assert limits.precision < 0.99


def test_the_bias_takes_a_push_towards_a_label_out(rng):
    probabilities, truth = opinions(rng)
    logits = np.log(probabilities[0]) + np.array([1.5, 0, 0, -1.0, 0, 0], dtype=np.float32)
    before = np.mean([(logits.argmax(1) == truth)[truth == k].mean() for k in range(6)])
    bias = fit_bias(logits, truth)
    after = np.mean([((logits + bias).argmax(1) == truth)[truth == k].mean() for k in range(6)])
    assert after > before + 0.03
    assert bias[0] == pytest.approx(-1.5 + 0.5 / 6, abs=0.2)
    assert bias[3] == pytest.approx(1.0 + 0.5 / 6, abs=0.2)


def test_a_label_that_validation_never_has_keeps_its_place(rng):
    probabilities, truth = opinions(rng)
    occurs = truth != 5
    bias = fit_bias(np.log(probabilities[0][occurs]), truth[occurs])
    assert bias[5] == 0
    assert abs(float(bias[:5].mean())) < 1e-6


@pytest.mark.parametrize("n_members", [3, 6, 7, 9])
def test_the_agreement_that_was_chosen_is_enough(n_members):
    # Two thirds or more agree and are right; fewer are wrong: two thirds must be enough.
    n_agree = -(-2 * n_members // 3)
    right = np.eye(4, dtype=np.float32)[[0] * n_agree + [1] * (n_members - n_agree)]
    wrong = np.eye(4, dtype=np.float32)[np.arange(n_members) % 3]
    members = np.stack([right] * 60 + [wrong] * 40, axis=1) * 0.9 + 0.1 / 4
    truth = np.array([0] * 60 + [3] * 40)
    limits = choose_thresholds(members, truth, 1.0, precision=0.9)
    said = vote(members, ("a", "b", "c", "d"), tuple("123456789"[:n_members]), thresholds=limits)
    assert (said.emotion_index[:60] == 0).all()
    assert (said.emotion_index[60:] == -1).all()


def test_few_clips_look_badly_calibrated_even_when_they_are_not(rng):
    confidence = rng.uniform(0.3, 0.95, 4000).astype(np.float32)
    few, many = (perfect_calibration_error(confidence[:n]) for n in (400, 4000))
    assert few > 0.03 > many
    right = rng.random(4000) < confidence
    assert expected_calibration_error(confidence, right) == pytest.approx(many, abs=0.01)
