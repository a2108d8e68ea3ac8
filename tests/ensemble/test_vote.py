"""Votes: ties, abstaining, rules, calibration of the mean, the files of centred heads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ensemble.inference.vote import (
    ABSTAIN_REASONS,
    CentredHeads,
    Thresholds,
    calibrate_mean,
    count_votes,
    expect,
    load_heads,
    save_heads,
    softmax,
    vote,
)
from ensemble.model_errors import ModelIncompatible

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


def test_a_member_that_was_not_asked_counts_nowhere():
    """Neither as a ballot, nor in the mean, nor among who could agree; the weights hold for the rest."""
    opinions = [[0.2, 0.5, 0.3], [0.1, 0.6, 0.3], [0.7, 0.2, 0.1]]
    weighed = {"rule": "weighted", "weights": np.array([1.0, 1.0, 3.0, 9.0]), "neutral_share": 0.6}
    asked = cast(opinions, **{**weighed, "weights": weighed["weights"][:3]})
    with_silent = np.array([*opinions, [0, 0, 0]], dtype=np.float32)[:, None, :]
    votes = vote(with_silent, LABELS, ("a", "b", "c", "d"), **weighed)
    assert votes.emotion(0) == asked.emotion(0) == "anger"
    np.testing.assert_allclose(votes.mean_probabilities, asked.mean_probabilities, atol=1e-6)
    assert (votes.agreement[0], votes.tie_broken[0]) == (asked.agreement[0], False)
    assert not votes.probabilities[3].any()
    by_members = cast([*opinions[:2], [0, 0, 0]])
    assert (by_members.emotion(0), by_members.agreement[0]) == ("happy", 1)


def test_each_segment_can_have_thresholds_of_its_own():
    rows = np.tile(np.array([0.6, 0.3, 0.1], dtype=np.float32), (2, 2, 1))
    votes = vote(rows, LABELS, ("a", "b"), thresholds=[Thresholds(0.5), Thresholds(0.7)])
    assert votes.abstain_reason == (None, "low_confidence")


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


# Arithmetic, against the same worked out here -------------------------------------------------------------


def test_softmax_of_large_and_of_several_axes() -> None:
    found = softmax(np.array([[[1000.0, 1000.0 - np.log(3)], [-1e6, 0.0]]]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[[0.75, 0.25], [0, 1]]], atol=1e-6)


def test_the_mean_of_the_members_is_weighted_before_the_temperature() -> None:
    members = np.array([[[0.7, 0.2, 0.1]] * 2, [[0.1, 0.6, 0.3]] * 2], np.float32)
    mean = np.array([0.55, 0.3, 0.15])
    per_segment = calibrate_mean(members, np.array([0.5, 2.0]), np.array([3, 1]))
    for row, power in zip(per_segment, (2.0, 0.5), strict=True):
        np.testing.assert_allclose(row, mean**power / (mean**power).sum(), atol=1e-6)
    np.testing.assert_allclose(calibrate_mean(members, 1.0)[0], [0.4, 0.4, 0.2], atol=1e-6)


def test_what_no_member_finds_possible_keeps_a_billionth() -> None:
    found = calibrate_mean(np.array([[[1.0, 0.0]]], np.float32), 3.0)
    assert found[0, 1] == pytest.approx(1e-3 / (1 + 1e-3), rel=1e-3)


@pytest.mark.parametrize("share", [-0.1, 0.0, 1.0, 1.5])
def test_a_share_of_neutral_speech_lies_between_none_and_all(share: float) -> None:
    said = np.full((1, 3), 1 / 3, np.float32)
    with pytest.raises(ValueError, match=rf"^neutral_share {share} is not between 0 and 1$"):
        expect(said, LABELS, share)
    assert expect(said, LABELS, 0.001)[0, 2] == pytest.approx(0.001, rel=1e-3)


def test_each_segment_is_weighed_by_its_own_temperature() -> None:
    said = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]], np.float32)
    found = expect(said, LABELS, 0.8, np.array([1.0, 0.5]))
    for row, power in zip(found, (1.0, 0.5), strict=True):
        by_hand = np.array([0.6, 0.3, 0.1]) * np.array([0.1, 0.1, 0.8]) ** power
        np.testing.assert_allclose(row, by_hand / by_hand.sum(), atol=1e-6)
    assert (expect(np.zeros((1, 3), np.float32), LABELS, 0.8) == 0).all(), "no opinion stays none"


def test_every_rule_counts_by_hand() -> None:
    members = np.array(
        [[[0.5, 0.4, 0.1], [0.8, 0.1, 0.1]], [[0.1, 0.8, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6]] * 2],
        np.float32,
    )
    mean = members.mean(axis=0)
    weights = np.array([0.1, 0.2, 0.3])
    top, agreement, tied = count_votes(members, mean, "weighted", weights)
    assert (top.tolist(), tied.tolist()) == ([2, 2], [False, False])
    np.testing.assert_allclose(agreement, 1 / 3, atol=1e-6)
    assert (top.dtype, agreement.dtype) == (np.int64, np.float32)
    two = np.stack([members[0], members[0], members[1]])
    top, agreement, tied = count_votes(two, mean, "weighted", np.array([0.1, 0.2, 0.1 + 0.2]))
    assert (top.tolist(), tied.tolist()) == ([1, 0], [True, True]), "0.1 and 0.2 are as much as 0.3"
    np.testing.assert_allclose(agreement, [1 / 3, 2 / 3], atol=1e-6)
    top, agreement, tied = count_votes(members, mean, "soft")
    assert (top.tolist(), tied.tolist()) == ([1, 0], [False, False]), "a mean breaks no tie"
    assert count_votes(members, mean, "majority", weights)[0].tolist() == [1, 0], "weights are of one rule"
    top, agreement, tied = count_votes(members[:0], mean)
    assert (top.tolist(), agreement.tolist(), tied.tolist()) == ([1, 0], [0, 0], [True, True])
    assert agreement.dtype == np.float32


def test_a_tie_between_labels_without_any_probability_is_theirs() -> None:
    members = np.array([[[0.4, 0.6, 0.0]], [[0.6, 0.4, 0.0]]], np.float32)
    top, _, _ = count_votes(members, np.array([[0.0, 0.0, 0.0]], np.float32))
    assert top.tolist() == [0]


@pytest.mark.parametrize("weights", [None, np.ones(2), np.ones(4)])
def test_weights_are_one_a_member(weights: np.ndarray | None) -> None:
    members = np.full((3, 1, 3), 1 / 3, np.float32)
    with pytest.raises(ValueError, match=r"^weighted voting needs 3 weights, one a member$"):
        count_votes(members, members[0], "weighted", weights)
    if weights is not None:
        with pytest.raises(ValueError, match=r"^weighted voting needs 3 weights, one a member$"):
            calibrate_mean(members, 1.0, weights)


def test_a_rule_that_there_is_not_is_named_beside_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"^vote rule 'loudest' is not one of majority, soft, weighted$"):
        cast([[1, 0, 0]], rule="loudest")


def test_weights_move_the_mean_only_where_they_count() -> None:
    rows = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]
    weighted = cast(rows, rule="weighted", weights=np.array([3.0, 1.0]), temperature=0.5)
    by_hand = np.array([0.5, 0.4, 0.1]) ** 2
    np.testing.assert_allclose(weighted.mean_probabilities[0], by_hand / by_hand.sum(), atol=1e-5)
    assert weighted.confidence[0] == pytest.approx((by_hand / by_hand.sum())[0], abs=1e-5)
    plain = cast(rows, weights=np.array([3.0, 1.0]))
    np.testing.assert_allclose(plain.mean_probabilities[0], [0.4, 0.5, 0.1], atol=1e-5)


def test_confidence_is_that_of_the_label_with_the_votes_and_not_the_highest() -> None:
    rows = [[0.4, 0.35, 0.25], [0.4, 0.35, 0.25], [0.02, 0.97, 0.01]]
    limits = [Thresholds(confidence=c) for c in (0.27, 0.28)]
    assert [cast(rows, thresholds=each).emotion(0) for each in limits] == ["anger", None]


def test_a_confidence_at_the_threshold_is_enough_and_is_asked_first() -> None:
    rows = [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0]]
    at = float(cast(rows).confidence[0])
    said = [
        cast(rows, thresholds=Thresholds(confidence=c, agreement=a)).abstain_reason[0]
        for c, a in ((at, 0.5), (at + 1e-3, 0.5), (at, 0.6), (at + 1e-3, 0.6))
    ]
    assert said == [None, "low_confidence", "low_agreement", "low_confidence"]


def test_what_is_withheld_has_its_reason_and_the_rest_is_judged() -> None:
    members = np.array([[[0.4, 0.3, 0.3], [0.9, 0.1, 0.0], [0.4, 0.3, 0.3]]] * 3, np.float32)
    votes = vote(
        members, LABELS, NAMES, thresholds=Thresholds(confidence=0.5), withheld=("too_short", None, None)
    )
    assert votes.abstain_reason == ("too_short", None, "low_confidence")
    assert votes.emotion_index.tolist() == [-1, 0, -1]
    assert vote(members, LABELS, NAMES, withheld=(None, "not_speech", None)).abstain_reason == (
        *(None, "not_speech"),
        None,
    )


def test_what_the_votes_were_weighed_by_is_kept_with_them() -> None:
    rows = [[0.6, 0.3, 0.1]] * 2
    weighed = cast(rows, neutral_share=0.7, temperature=0.5)
    assert weighed.neutral_share == 0.7
    assert cast(rows).neutral_share is None
    own = np.array([0.6, 0.3, 0.1]) * np.array([0.15, 0.15, 0.7]) ** 0.5
    np.testing.assert_allclose(weighed.probabilities[:, 0], [own / own.sum()] * 2, atol=1e-6)
    assert (weighed.labels, weighed.member_names) == (LABELS, ("a", "b"))


# Centred heads --------------------------------------------------------------------------------------------


def two_heads() -> CentredHeads:
    """Two members of two and three features, two labels."""
    return CentredHeads(
        (np.array([[1, 0], [0, 1]], np.float32), np.array([[1, 0, 0], [0, 0, 2]], np.float32)),
        (np.array([1, 2], np.float32), np.array([0, 0, 1], np.float32)),
        np.array([[0.5, -0.5], [0.25, 0.0]], np.float32),
        0.8,
        calm_s=3.0,
        shrink_s=1.0,
    )


def test_each_member_answers_by_its_own_head() -> None:
    heads = two_heads()
    np.testing.assert_array_equal(heads.offsets(0, np.array([[3, 5]], np.float32)), [[2, 3]])
    np.testing.assert_array_equal(heads.offsets(1, np.array([[3, 9, 5]], np.float32)), [[3, 8]])
    assert heads.offsets(1, np.ones((1, 3))).dtype == np.float32
    second = heads.only(1)
    np.testing.assert_array_equal(second.offsets(0, np.array([[3, 9, 5]], np.float32)), [[3, 8]])
    assert (len(second.weights), second.biases.tolist()) == (1, [[0.25, 0.0]])
    assert (second.temperature, second.calm_s, second.shrink_s) == (0.8, 3.0, 1.0)


def test_every_voice_has_its_own_calm_speech_subtracted() -> None:
    """Three seconds at most, at most half of what the voice says, the earlier where two are alike."""
    heads = two_heads()
    offsets = np.random.default_rng(3).standard_normal((2, 7, 2))
    seconds = np.array([2.0, 1.0, 5.0, 1.0, 2.0, 0.0, 1.0])
    neutral = np.array([0.2, 0.9, 0.5, 0.5, 0.3, 0.99, 0.1])
    voices = ["a", "a", "lone", "b", "a", "a", "b"]
    logits, has_baseline = heads.centre(offsets, seconds, neutral, voices)
    assert has_baseline.tolist() == [True, True, False, True, True, True, True]
    # Of a, 1, then 4: half of 5 s is reached. Of b, 3: half of 2 s is reached exactly.
    baseline = {"a": offsets[:, [1, 4]].mean(axis=1) * 3 / 4, "b": offsets[:, 3] * 1 / 2, "lone": 0}
    for i, voice in enumerate(voices):
        np.testing.assert_allclose(logits[:, i], offsets[:, i] + heads.biases - baseline[voice], atol=1e-6)
    calm = np.array([False, False, True, False, True, True, False])
    told, _ = heads.centre(offsets, seconds, neutral, voices, calm)
    baseline |= {"a": offsets[:, 4] * 2 / 3}  # known to be calm; of b nothing is, and silence says nothing
    for i, voice in enumerate(voices):
        np.testing.assert_allclose(told[:, i], offsets[:, i] + heads.biases - baseline[voice], atol=1e-6)
    long, _ = heads.centre(offsets[:, :2], np.array([60.0, 60.0]), neutral[:2], ["a", "a"])
    np.testing.assert_allclose(long[:, 0], offsets[:, 0] + heads.biases - offsets[:, 1] * 60 / 61, atol=1e-6)


def test_heads_are_read_as_they_were_written(tmp_path: Path) -> None:
    heads, names = two_heads(), ("cnn", "vit")
    path = save_heads(heads, names, tmp_path)
    about = {
        **{"safetensors": path.name, "safetensors_sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        **{"temperature": 0.8, "calm_s": 3.0, "shrink_s": 1.0},
    }
    card = {"heads": about, "members": [{"name": name} for name in names]}
    read = load_heads(tmp_path, card)
    assert read is not None
    assert (read.temperature, read.calm_s, read.shrink_s) == (0.8, 3.0, 1.0)
    for found, written in ((read.weights, heads.weights), (read.origins, heads.origins)):
        for one, other in zip(found, written, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == np.float32
    np.testing.assert_array_equal(read.biases, heads.biases)
    exchanged = load_heads(tmp_path, {**card, "members": [{"name": name} for name in names[::-1]]})
    assert exchanged is not None
    np.testing.assert_array_equal(exchanged.biases, heads.biases[::-1])
    with pytest.raises(
        ModelIncompatible, match=r"heads\.safetensors: no centred heads of the card's members"
    ):
        load_heads(tmp_path, {**card, "members": [{"name": "crnn"}]})
    path.write_bytes(b"no tensors")
    about["safetensors_sha256"] = hashlib.sha256(b"no tensors").hexdigest()
    with pytest.raises(ModelIncompatible, match="no centred heads of the card's members"):
        load_heads(tmp_path, card)
    assert load_heads(tmp_path, {"members": []}) is None
