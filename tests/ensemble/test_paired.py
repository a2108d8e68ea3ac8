"""The paired bootstrap: right on known cases, by speaker, and honest about too few of them."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.evaluation.paired import paired_difference


def made(n_speakers, n_clips, right_a, right_b, seed=0):
    """Truth and two guesses over two labels, each right with a given probability."""
    rng = np.random.default_rng(seed)
    truth = np.tile([0, 1], n_speakers * n_clips // 2)
    speakers = [f"s{i // n_clips}" for i in range(len(truth))]
    guesses = [np.where(rng.random(len(truth)) < p, truth, 1 - truth) for p in (right_a, right_b)]
    return truth, *guesses, speakers


def test_a_clear_gain_has_an_interval_above_zero():
    found = paired_difference("t", *made(30, 20, 0.6, 0.8))
    assert 0.1 < found.low < found.difference < found.high < 0.3
    assert found.difference == pytest.approx(found.uar_b - found.uar_a)
    assert found.enough


def test_the_same_guesses_differ_by_nothing_at_all():
    truth, a, _, speakers = made(10, 10, 0.7, 0.7)
    found = paired_difference("t", truth, a, a, speakers)
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_no_gain_covers_zero_about_as_often_as_promised():
    covered = 0
    for seed in range(60):
        found = paired_difference("t", *made(25, 8, 0.7, 0.7, seed), n_draws=400)
        covered += found.low <= 0 <= found.high
    assert covered >= 52


def test_clips_of_one_speaker_count_as_one():
    """A gain that one of eight speakers alone brings is no gain."""
    truth, a, _, speakers = made(8, 40, 0.7, 0.7)
    b = a.copy()
    first = np.array([s == "s0" for s in speakers])
    b[first] = truth[first]
    found = paired_difference("t", truth, a, b, speakers)
    assert found.difference > 0.02
    assert found.low <= 0.001


def test_an_unknown_label_is_wrong_and_few_speakers_are_said():
    truth = np.array([0, 1, 0, 1])
    found = paired_difference("t", truth, np.array([-1, -1, -1, -1]), truth, ["a", "a", "b", "b"])
    assert (found.uar_a, found.uar_b) == (0, 1)
    assert not found.enough
    with pytest.raises(ValueError, match="no clips"):
        paired_difference("t", truth[:0], truth[:0], truth[:0], [])
