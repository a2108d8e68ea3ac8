"""Votes: ties, abstaining, rules, calibration of the mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ensemble.inference.vote import ABSTAIN_REASONS, Thresholds, softmax, vote

LABELS = ("anger", "happy", "neutral")
NAMES = ("a", "b", "c")


def cast(rows: list[list[float]], **options):
    """One segment, one row of probabilities per member."""
    return vote(np.array(rows, dtype=np.float32)[:, None, :], LABELS, NAMES[: len(rows)], **options)


def test_two_members_outvote_a_surer_third():
    votes = cast([[0.4, 0.35, 0.25], [0.4, 0.35, 0.25], [0.02, 0.97, 0.01]])
    assert votes.emotion(0) == "anger"
    assert not votes.tie_broken[0]
    assert votes.agreement[0] == pytest.approx(2 / 3)
    assert votes.confidence[0] == pytest.approx((0.4 + 0.4 + 0.02) / 3, abs=1e-5)


def test_a_three_way_tie_goes_to_the_highest_mean():
    votes = cast([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])
    assert votes.emotion(0) == "happy"
    assert votes.tie_broken[0]
    assert votes.agreement[0] == pytest.approx(1 / 3)


def test_a_tie_is_only_between_the_tied_labels():
    rows = [[0.5, 0.45, 0.05], [0.5, 0.45, 0.05], [0.0, 0.45, 0.55], [0.0, 0.45, 0.55]]
    votes = vote(np.array(rows, dtype=np.float32)[:, None, :], LABELS, ("a", "b", "c", "d"))
    # happy has the highest mean, but nobody voted for it
    assert votes.emotion(0) == "neutral"
    assert votes.tie_broken[0]


def test_soft_and_weighted_voting_can_differ_from_the_majority():
    rows = [[0.4, 0.35, 0.25], [0.4, 0.35, 0.25], [0.02, 0.97, 0.01]]
    assert cast(rows, rule="soft").emotion(0) == "happy"
    assert cast(rows, rule="weighted", weights=np.array([1, 1, 3])).emotion(0) == "happy"
    with pytest.raises(ValueError, match="3 weights"):
        cast(rows, rule="weighted", weights=np.array([1.0]))
    with pytest.raises(ValueError, match="not one of"):
        cast(rows, rule="loudest")


def test_abstaining_gives_no_emotion_but_keeps_the_top_label():
    limits = Thresholds(confidence=0.5, agreement=0.6)
    unsure = cast([[0.4, 0.3, 0.3]] * 3, thresholds=limits)
    assert unsure.emotion(0) is None
    assert unsure.emotion_index[0] == -1
    assert unsure.abstain_reason == ("low_confidence",)
    assert unsure.top_index[0] == 0
    torn = cast([[0.9, 0.1, 0.0], [0.1, 0.2, 0.7], [0.9, 0.1, 0.0]], thresholds=Thresholds(agreement=0.9))
    assert torn.abstain_reason == ("low_agreement",)
    agreed = cast([[0.9, 0.05, 0.05]] * 3, thresholds=limits)
    assert agreed.emotion(0) == "anger"
    assert agreed.abstain_reason == (None,)


@pytest.mark.parametrize(("agreement", "reason"), [(0.39, None), (0.4, None), (0.41, "low_agreement")])
def test_an_agreement_at_the_threshold_is_enough(agreement: float, reason: str | None) -> None:
    """Two of five members agree. The shipped card asks for 0.4, so exactly this decides its labels."""
    rows = [[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.1, 0.0, 0.9], [0.0, 0.8, 0.2]]
    probabilities = np.array(rows, dtype=np.float32)[:, None, :]
    votes = vote(probabilities, LABELS, tuple("abcde"), thresholds=Thresholds(agreement=agreement))
    assert votes.agreement[0] == pytest.approx(0.4)
    assert votes.abstain_reason == (reason,)


def test_too_little_speech_is_the_reason_given_first():
    votes = cast([[0.4, 0.3, 0.3]] * 3, thresholds=Thresholds(confidence=0.9), withheld=("too_short",))
    assert votes.abstain_reason == ("too_short",)


def test_temperature_moves_confidence_and_never_the_vote():
    rows = [[0.6, 0.3, 0.1]] * 3
    cold, warm = cast(rows, temperature=0.5), cast(rows, temperature=3.0)
    assert cold.confidence[0] > 0.6 > warm.confidence[0]
    assert cold.emotion(0) == warm.emotion(0) == "anger"


def test_no_segments_give_no_votes():
    votes = vote(np.zeros((3, 0, 3), np.float32), LABELS, NAMES, thresholds=Thresholds(confidence=0.5))
    assert len(votes) == 0
    assert votes.abstain_reason == ()


@given(arrays(np.float32, (3, 5, 3), elements=st.floats(-30, 30, width=32)))
def test_every_vote_holds_the_rules(logits):
    probabilities = softmax(logits)
    votes = vote(probabilities, LABELS, NAMES, thresholds=Thresholds(confidence=0.5, agreement=0.6))
    np.testing.assert_allclose(votes.mean_probabilities.sum(axis=1), 1, atol=1e-5)
    choices = probabilities.argmax(axis=2)
    for i in range(5):
        counts = np.bincount(choices[:, i], minlength=3)
        assert counts[votes.top_index[i]] == counts.max()
        assert votes.agreement[i] == pytest.approx(counts[votes.top_index[i]] / 3)
        assert (votes.emotion_index[i] == -1) == (votes.abstain_reason[i] is not None)
        assert votes.abstain_reason[i] is None or votes.abstain_reason[i] in ABSTAIN_REASONS
        assert votes.tie_broken[i] == ((counts == counts.max()).sum() > 1)


def test_expecting_neutral_speech_weighs_opinions_by_bayes_rule() -> None:
    from ensemble.inference.vote import expect

    labels = ("anger", "neutral", "sad")
    said = np.array([[[0.6, 0.3, 0.1]]], dtype=np.float32)
    weighed = expect(said, labels, 0.8)
    assert weighed[0, 0] == pytest.approx(np.array([0.06, 0.24, 0.01]) / 0.31, abs=1e-5)
    assert expect(said, labels, 1 / 3) == pytest.approx(said, abs=1e-6)
    assert expect(said, ("anger", "fear", "sad"), 0.8) is said
    with pytest.raises(ValueError, match="neutral_share"):
        expect(said, labels, 1.0)


def test_the_expected_share_counts_once_whatever_the_temperature(rng) -> None:
    from callanalytics.analysis.frustration import EVIDENCE_TEMPERATURE, evidence_probabilities

    labels = ("anger", "disgust", "neutral", "sad")
    members = rng.dirichlet(np.ones(4), (5, 300)).astype(np.float32)
    plain = vote(members, labels, tuple("abcde"), temperature=0.68)
    weighed = vote(members, labels, tuple("abcde"), temperature=0.68, neutral_share=0.7)
    prior = np.array([0.1, 0.1, 0.7, 0.1])
    by_hand = plain.mean_probabilities * prior
    by_hand /= by_hand.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weighed.mean_probabilities, by_hand, atol=1e-5)
    # A member's choice is the same before and after its own opinion is sharpened.
    sharp = members ** (1 / 0.68) * prior
    assert (weighed.probabilities.argmax(axis=2) == sharp.argmax(axis=2)).all()
    # What compares a caller with themselves sees none of the weight.
    softened = plain.mean_probabilities ** (1 / EVIDENCE_TEMPERATURE)
    softened /= softened.sum(axis=1, keepdims=True)
    evidence = evidence_probabilities(weighed.mean_probabilities, labels, 0.7)
    np.testing.assert_allclose(evidence, softened, atol=1e-4)
