"""The paired bootstrap: right on known cases, by speaker, and honest about too few of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from ensemble.corpora import Clip
from ensemble.evaluation import known_clips, member_probabilities, prepare_clips
from ensemble.evaluation.paired import compare_on, paired_difference
from ensemble.model_errors import CorpusError


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


def test_the_interval_is_that_of_drawing_whole_speakers_together():
    """The same draws by hand, speaker by speaker."""
    truth, a, b, speakers = made(6, 10, 0.6, 0.7, seed=5)
    b[::7] = -1
    truth[-9:] = 2
    found = paired_difference("which", truth, a, b, speakers, n_draws=50, seed=3)

    def recall(guess, rows):
        each = [np.mean(guess[rows][truth[rows] == k] == k) for k in np.unique(truth[rows])]
        return float(np.mean(each))

    every = np.arange(len(truth))
    own = [np.flatnonzero(np.array(speakers) == f"s{i}") for i in range(6)]
    draws = np.random.default_rng(3).integers(0, 6, (50, 6))
    gains = [
        recall(b, rows) - recall(a, rows)
        for rows in (np.concatenate([own[who] for who in draw]) for draw in draws)
    ]
    low, high = np.percentile(gains, [2.5, 97.5])
    expected = {
        **{"test": "which", "uar_a": recall(a, every), "uar_b": recall(b, every)},
        **{"difference": recall(b, every) - recall(a, every), "low": low, "high": high},
        **{"n_clips": 60, "n_speakers": 6},
    }
    assert list(found.to_json()) == list(expected)
    assert found.to_json() == pytest.approx(expected)


def test_it_is_the_same_each_time_with_two_thousand_draws(rng):
    truth, drawn, speakers = rng.integers(0, 3, 400), rng.random((2, 400)), rng.integers(0, 9, 400)
    a, b = (
        np.where(each < share, truth, (truth + 1) % 3) for each, share in zip(drawn, (0.6, 0.7), strict=True)
    )
    case = (truth, a, b, speakers.astype(str).tolist())
    found = paired_difference("t", *case)
    assert found == paired_difference("t", *case, n_draws=2000, seed=0)
    assert found != paired_difference("t", *case, n_draws=2001, seed=0)
    assert found != paired_difference("t", *case, n_draws=2000, seed=1)


@pytest.mark.parametrize(("n_speakers", "enough"), [(4, False), (5, True), (6, True)])
def test_five_speakers_are_enough(n_speakers, enough):
    assert paired_difference("t", *made(n_speakers, 4, 0.5, 0.5), n_draws=9).enough is enough


def test_without_clips_there_is_nothing_to_compare():
    none = np.array([], dtype=np.int64)
    with pytest.raises(ValueError, match=r"^no clips to compare on$"):
        paired_difference("t", none, none, none, [])


def clip(path, speaker, emotion):
    return Clip(path, "mine", emotion, f"mine/{speaker}")


def test_ensembles_are_compared_on_what_both_know_and_what_can_be_read(shipped, tmp_path, rng):
    """The other one knows no sadness and is wrong wherever it says a label that the clips do not have."""
    clips = []
    for speaker in "ab":
        for emotion, hz in (("anger", 260), ("neutral", 120), ("sad", 90)):
            at_s = np.arange(8000) / 8000
            wave = sum(np.sin(2 * np.pi * hz * k * at_s) / k for k in range(1, 8)) * (1 + np.sin(25 * at_s))
            path = tmp_path / f"{speaker}-{emotion}.wav"
            sf.write(path, 0.05 * wave + 0.001 * rng.standard_normal(8000), 8000)
            clips.append(clip(path, speaker, emotion))
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"broken")
    clips.append(clip(broken, "c", "anger"))
    other = replace(shipped, labels=("anger", "disgust", "fear", "happy", "neutral", "surprise"))
    found = compare_on("mine", shipped, other, clips, "clean")
    kept = [each for each in clips[:-1] if each.emotion != "sad"]
    assert (found.test, found.n_clips, found.n_speakers) == ("mine", len(kept), 2)
    prepared = prepare_clips(shipped, known_clips(shipped, kept), "clean")
    top = shipped.vote_on(
        (both := member_probabilities(shipped, prepared, "speaker"))[0], abstain=False, centred=both[1]
    ).top_index
    for labels, uar in ((shipped.labels, found.uar_a), (other.labels, found.uar_b)):
        right = [labels[k] == each.emotion for k, each in zip(top, kept, strict=True)]
        of_label = [
            np.mean([r for r, c in zip(right, kept, strict=True) if c.emotion == e])
            for e in ("anger", "neutral")
        ]
        assert uar == pytest.approx(np.mean(of_label))
    with pytest.raises(CorpusError, match=r"^mine: no clip has an emotion that both ensembles know$"):
        compare_on("mine", shipped, other, [each for each in clips if each.emotion == "sad"], "clean")
    with pytest.raises(CorpusError, match=r"^mine: none of 1 clips can be read$"):
        compare_on("mine", shipped, other, clips[-1:], "clean")
