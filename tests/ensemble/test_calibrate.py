"""Calibration: the temperature is found again, thresholds reach their precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.corpora import Clip
from ensemble.inference.spectrogram import FrontEnd, Reference, Statistics, voice_norm
from ensemble.inference.vote import calibrate_mean, count_votes, softmax, vote
from ensemble.members import make_member
from ensemble.training import TrainSettings
from ensemble.training.calibration import (
    choose_thresholds,
    coverage_curve,
    expected_calibration_error,
    fit_bias,
    fit_temperature,
    normalised,
    perfect_calibration_error,
    predict_logits,
    reliability,
    unweighted_recall,
    validate,
)
from ensemble.training.examples import Examples


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


def test_the_bins_of_reliability_hold_their_lower_border_and_not_their_upper():
    confidence = np.array([0.0, 0.0625, 0.125, 0.5, 0.56, 0.9, 1.0], dtype=np.float32)
    right = np.array([False, True, True, False, True, True, True])
    found = reliability(confidence, right, n_bins=8)
    expected = [(0.03125, 0.5, 2 / 7), (0.125, 1.0, 1 / 7), (0.53, 0.5, 2 / 7), (0.95, 1.0, 2 / 7)]
    assert found == [pytest.approx(row, abs=1e-6) for row in expected]
    by_hand = (2 * abs(0.03125 - 0.5) + abs(0.125 - 1) + 2 * abs(0.53 - 0.5) + 2 * abs(0.95 - 1)) / 7
    assert expected_calibration_error(confidence, right, n_bins=8) == pytest.approx(by_hand, abs=1e-6)
    assert len(reliability(np.array([0.8, 0.9], np.float32), np.ones(2, bool), n_bins=8)) == 2, "the last two"
    thirds = np.array([0.01, 0.06, 0.07], dtype=np.float32)  # on either side of 1/15
    assert len(reliability(thirds, np.ones(3, bool))) == 2


def test_accuracy_of_the_most_confident_by_hand():
    """Ten clips, two of them equally sure: the earlier one is named first."""
    confidence = np.array([0.1, 0.9, 0.8, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.7], dtype=np.float32)
    right = np.array([0, 1, 1, 0, 1, 0, 0, 1, 0, 1], dtype=bool)
    assert coverage_curve(confidence, right) == [
        *((1.0, 0.5), (0.9, pytest.approx(5 / 9)), (0.8, 0.625)),
        *((0.7, pytest.approx(4 / 7)), (0.5, 0.8), (0.3, pytest.approx(2 / 3))),
    ]
    assert coverage_curve(confidence, right, (0.2, 0.04)) == [(0.2, 1.0), (0.04, 1.0)]
    alike = coverage_curve(np.full(100, 0.5, np.float32), np.arange(100) < 50, (0.5,))
    assert alike == [(0.5, 1.0)]


def test_of_many_equally_sure_clips_the_earlier_ones_are_named_first(rng):
    levels = rng.integers(0, 4, 999)
    right = rng.random(999) < 0.5
    first = sorted(range(999), key=lambda i: -levels[i])[:500]
    ((_, accuracy),) = coverage_curve((levels / 4).astype(np.float32), right, (500 / 999,))
    assert accuracy == pytest.approx(right[first].mean(), abs=1e-9)


def test_chance_alone_is_measured_the_same_each_time(rng):
    confidence = rng.uniform(0.3, 0.95, 200).astype(np.float32)
    drawn = np.random.default_rng(7).random((40, 200)) < confidence
    by_hand = np.mean([expected_calibration_error(confidence, right) for right in drawn])
    assert perfect_calibration_error(confidence, 40, 7) == pytest.approx(by_hand)
    plain = perfect_calibration_error(confidence)
    assert plain == perfect_calibration_error(confidence, 100, 0)
    assert plain != perfect_calibration_error(confidence, 99, 0)


@pytest.mark.parametrize(("sharpness", "temperature"), [(0.01, 0.2), (60.0, 5.0)])
def test_a_temperature_stays_within_a_fifth_and_five(rng, sharpness, temperature):
    assert fit_temperature(*opinions(rng, 800, sharpness=sharpness)) == pytest.approx(temperature, rel=0.011)


def different(rng, n=1500):
    """Three members who err on their own, and the truth."""
    _, truth = opinions(rng, n)
    logits = rng.standard_normal((3, n, 6)) + 1.2 * np.eye(6)[truth]
    return softmax(logits), truth


@pytest.mark.parametrize("least_covered", [0.3, 0.6])
@pytest.mark.parametrize(("precision", "is_reached"), [(0.6, True), (0.8, True), (0.999, False)])
def test_no_other_pair_of_thresholds_is_better(rng, precision, is_reached, least_covered):
    """Of those that name enough with the precision the one that names most, else the most precise."""
    probabilities, truth = different(rng)
    limits = choose_thresholds(probabilities, truth, 1.0, precision, least_covered=least_covered)
    mean = calibrate_mean(probabilities, 1.0)
    top, agreement, _ = count_votes(probabilities, mean)
    confidence, right = mean[np.arange(len(top)), top], top == truth

    def scored(least_confidence, least_agreement):
        named = (confidence >= least_confidence) & (agreement >= least_agreement - 1e-6)
        return float(named.mean()), float(right[named].mean()) if named.any() else 0.0

    pairs = [scored(c, a) for c in np.arange(0.20, 0.90, 0.01) for a in (1 / 3, 2 / 3, 1.0)]
    enough = [(share, reached) for share, reached in pairs if share >= least_covered]
    good = [(share, reached) for share, reached in enough if reached >= precision]
    assert bool(good) is is_reached
    share, reached = scored(limits.confidence, limits.agreement)
    assert limits.precision == pytest.approx(reached, abs=1e-4)
    if good:
        assert share == max(share for share, _ in good)
        at = choose_thresholds(probabilities, truth, 1.0, reached, least_covered=least_covered)
        above = choose_thresholds(probabilities, truth, 1.0, reached + 1e-9, least_covered=least_covered)
        assert scored(at.confidence, at.agreement) == (share, reached)
        assert scored(above.confidence, above.agreement)[0] < share
    else:
        assert reached == max(reached for _, reached in enough)


def test_thresholds_are_those_of_the_rule_and_its_weights(rng):
    """A member that only guesses, and has no weight, spoils nothing."""
    probabilities, truth = different(rng)
    probabilities[2] = softmax(4 * rng.standard_normal((len(truth), 6)))
    weights = np.array([1.0, 1.0, 1e-6])
    chosen = {"rule": "weighted", "weights": weights}
    limits = choose_thresholds(probabilities, truth, 0.7, precision=0.7, **chosen)
    said = vote(probabilities, tuple("abcdef"), tuple("123"), temperature=0.7, thresholds=limits, **chosen)
    named = said.emotion_index >= 0
    assert (said.emotion_index == truth)[named].mean() == pytest.approx(limits.precision, abs=1e-4)
    assert limits.precision >= 0.7
    assert named.mean() > choose_share(probabilities, truth, 0.7)


def choose_share(probabilities, truth, precision):
    """The share that is named where every member has one vote."""
    limits = choose_thresholds(probabilities, truth, 0.7, precision=precision)
    said = vote(probabilities, tuple("abcdef"), tuple("123"), temperature=0.7, thresholds=limits)
    return (said.emotion_index >= 0).mean()


def test_recall_is_that_of_the_labels_that_occur():
    truth, guess = np.array([0, 0, 0, 2, 2]), np.array([0, 0, 1, 2, 1])
    assert unweighted_recall(truth, guess) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_without_any_confidence_no_threshold_is_chosen(rng):
    """All six labels alike: no clip reaches the least confidence that is tried, 0.2."""
    shares = np.full((3, 12, 6), 1 / 6, np.float32)
    shares[:, :, 0] += 0.001
    shares /= shares.sum(axis=2, keepdims=True)
    limits = choose_thresholds(shares, np.arange(12) % 4, 1.0, precision=0.9)
    assert (limits.confidence, limits.agreement, limits.precision) == (0.0, 0.0, 0.25)
    assert (
        choose_thresholds(np.eye(6, dtype=np.float32)[None, [0] * 9], np.zeros(9, int), 1.0, 0.9).agreement
        == 1.0
    )


class Bands:
    """One view of seven clips: level and number of frames differ."""

    def __init__(self, n_bands=2):
        rng = np.random.default_rng(2)
        self.mels = [
            rng.normal(-40 - 3 * i, 4, (5 + 3 * (i % 3), n_bands)).astype(np.float32) for i in range(7)
        ]

    def clip(self, index):
        return self.mels[index]

    def statistics(self, indices):
        frames = np.concatenate([self.mels[i] for i in indices]).astype(np.float64)
        return Statistics(float(len(frames)), frames.sum(axis=0), (frames**2).sum(axis=0))


def seven_clips(n_bands):
    """Clips of speakers a, a, b, a, b, b, a in the labels of SETTINGS, of which the first two are calm."""
    speakers = "aabbaba"
    clips = tuple(Clip(Path(f"{i}.wav"), "mine", "sad", who) for i, who in enumerate(speakers))
    voices = {who: np.array([i for i, s in enumerate(speakers) if s == who]) for who in "ab"}
    other, telephone = Bands(n_bands), Bands(n_bands)
    other.mels = [mel + 50 for mel in other.mels]
    shape_db = np.linspace(2, -2, n_bands, dtype=np.float32)
    reference = Reference(shape_db, 6 + shape_db / 4)
    truth = np.array([0, 1, 2, 2, 2, 0, 1])
    return Examples(
        clips, (other, telephone), ("clean", "telephone"), (True, True), np.eye(3, dtype=np.float32)[truth],
        truth, voices, reference, (),
    )  # fmt: skip


@pytest.fixture
def seven():
    return seven_clips(2)


SETTINGS = TrainSettings(labels=("neutral", "happy", "sad"))


@pytest.mark.parametrize(
    ("known", "own"),
    [
        ("clip", {0: [0], 1: [1], 2: [2], 3: [3], 5: [5]}),
        ("speaker", {0: [0, 1], 1: [0, 1], 2: [2, 3, 5], 3: [2, 3, 5], 5: [2, 3, 5]}),
        ("calm", {0: [0, 1], 1: [0, 1], 2: [5], 3: [5], 5: [5]}),
    ],
)
def test_validation_normalises_by_what_is_known_of_the_speaker_and_by_no_other_clip(seven, known, own):
    indices = np.array([0, 1, 2, 3, 5])
    found = normalised(seven, "telephone", indices, known, SETTINGS)
    assert len(found) == 5
    view = seven.view("telephone")
    for mel, index in zip(found, indices.tolist(), strict=True):
        mean, deviation = voice_norm(view.statistics(own[index]), seven.reference, SETTINGS.front)
        np.testing.assert_allclose(mel, (view.clip(index) - mean) / deviation, atol=1e-5)
    alone = replace(SETTINGS, speaker_norm=False)
    for one, other in zip(
        normalised(seven, "telephone", indices, known, alone),
        normalised(seven, "telephone", indices, "clip", SETTINGS),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_speaker_without_calm_clips_is_normalised_by_all(seven):
    only = np.array([2, 3])
    calm, every = (normalised(seven, "clean", only, known, SETTINGS) for known in ("calm", "speaker"))
    assert len(calm) == 2
    for one, other in zip(calm, every, strict=True):
        np.testing.assert_array_equal(one, other)


def test_logits_come_in_the_order_of_the_clips_and_see_no_padding():
    import torch

    class Means(torch.nn.Module):
        """Mean of each band over the frames that there are."""

        def forward(self, mels, mask):
            assert not self.training
            return (mels * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)

    mels = Bands().mels
    found = predict_logits(Means(), mels, batch=3)
    np.testing.assert_allclose(found, [mel.mean(axis=0) for mel in mels], atol=1e-4)
    assert found.dtype == np.float32


def test_a_network_is_asked_about_64_clips_at_once_the_shortest_first():
    import torch

    class Counts(torch.nn.Module):
        shapes: tuple[tuple[int, int], ...] = ()

        def forward(self, mels, mask):
            self.shapes += (tuple(mels.shape[:2]),)
            return mels.sum(dim=1)

    model, lengths = Counts(), np.random.default_rng(4).permutation(np.arange(1, 131))
    mels = [np.full((n, 2), 1.0, np.float32) for n in lengths]
    found = predict_logits(model, mels)
    np.testing.assert_allclose(found, np.stack([lengths, lengths], axis=1))
    assert model.shapes == ((64, 64), (64, 128), (2, 130))


def test_weights_are_validated_on_each_clip_alone_and_on_the_speakers_clips():
    import torch

    settings = replace(SETTINGS, front=FrontEnd(n_mels=64))
    seven, indices = seven_clips(64), np.arange(7)
    torch.manual_seed(3)
    model = make_member("cnn", 64, 3)
    expected = tuple(
        unweighted_recall(
            seven.truth,
            predict_logits(model, normalised(seven, "telephone", indices, known, settings)).argmax(axis=1),
        )
        for known in ("clip", "speaker")
    )
    assert validate("cnn", model.state_dict(), seven, indices, settings) == expected
    assert validate("cnn", model.state_dict(), seven, indices[:0], settings) == (None, None)
