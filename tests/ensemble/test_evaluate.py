"""Measures against scikit-learn, intervals, and the conditions kept apart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from ensemble.corpora import Clip, read_corpus
from ensemble.evaluation import (
    Prepared,
    areas,
    evaluate,
    interval_by_speaker,
    known_clips,
    measures,
    member_probabilities,
    prepare_clips,
    report,
    tables_by_speaker,
    through_channel,
)
from ensemble.evaluation.model_card import card_page
from ensemble.inference.spectrogram import FrontEnd, Reference, Statistics, voice_norm
from ensemble.model_errors import CorpusError
from ensemble.training.calibration import (
    coverage_curve,
    expected_calibration_error,
    perfect_calibration_error,
    reliability,
    unweighted_recall,
)

LABELS = ("anger", "fear", "happy", "sad")


@pytest.fixture
def guesses(rng):
    truth = rng.integers(0, 4, 300)
    guess = np.where(rng.random(300) < 0.6, truth, rng.integers(0, 4, 300))
    return truth, guess


def test_measures_are_scikit_learns(guesses, rng):
    metrics = pytest.importorskip("sklearn.metrics")
    truth, guess = guesses
    found = measures(truth, guess, LABELS)
    assert found["wa"] == pytest.approx(metrics.accuracy_score(truth, guess))
    assert found["uar"] == pytest.approx(metrics.balanced_accuracy_score(truth, guess))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(truth, guess, average="macro"))
    assert found["confusion"] == metrics.confusion_matrix(truth, guess).tolist()
    p, r, f, _ = metrics.precision_recall_fscore_support(truth, guess)
    for k, label in enumerate(LABELS):
        row = found["per_class"][label]
        assert (row["precision"], row["recall"], row["f1"]) == pytest.approx((p[k], r[k], f[k]))
    scores = rng.random((300, 4)).astype(np.float32)
    for k, label in enumerate(LABELS):
        expected = metrics.roc_auc_score(truth == k, scores[:, k])
        assert areas(truth, scores, LABELS)[label] == pytest.approx(expected)


def test_a_class_that_never_occurs_does_not_count():
    found = measures(np.array([0, 0, 1]), np.array([0, 2, 1]), LABELS)
    assert found["uar"] == pytest.approx(0.75)
    assert found["per_class"]["sad"]["recall"] is None


def test_intervals_hold_the_score_and_widen_when_speakers_differ(guesses, rng):
    truth, guess = guesses
    speakers = [f"s{i % 10}" for i in range(300)]
    low, high = interval_by_speaker(truth, guess, speakers)["uar"]
    assert low < measures(truth, guess, LABELS)["uar"] < high
    good = np.array([int(s[1:]) < 5 for s in speakers])
    split = np.where(good, truth, (truth + 1) % 4)
    wide_low, wide_high = interval_by_speaker(truth, split, speakers)["uar"]
    assert wide_high - wide_low > 2 * (high - low)


def test_few_speakers_give_no_interval(guesses):
    truth, guess = guesses
    few = [f"s{i % 4}" for i in range(300)]
    assert interval_by_speaker(truth, guess, few) == {"wa": None, "uar": None}
    assert interval_by_speaker(truth, guess, [f"s{i % 5}" for i in range(300)])["uar"]


def test_channel_conditions_differ(rng):
    wave = rng.standard_normal(8000).astype(np.float32) * 0.1
    assert through_channel("clean", wave, 8000) is wave
    assert np.abs(through_channel("telephone", wave, 8000) - through_channel("gsm", wave, 8000)).max() > 1e-4


def test_a_speaker_has_one_channel_and_keeps_loud_and_soft_apart(shipped, tmp_path):
    t = np.arange(9600) / 8000
    wave = 0.02 * sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(1, 8)) * (1 + np.sin(25 * t))
    for name, gain in (("03a01Wa", 8.0), ("03a02Ta", 1.0)):
        sf.write(tmp_path / f"{name}.wav", gain * wave, 8000)
    usable = known_clips(shipped, read_corpus(tmp_path).clips)
    prepared = prepare_clips(shipped, usable, "telephone")
    loud, soft = (mel.max() for mel in prepared.mels)
    assert loud - soft == pytest.approx(18.06, abs=1.0)


def test_ways_of_knowing_a_speaker_share_what_networks_answer_and_change_nothing(shipped, clips, monkeypatch):
    prepared = prepare_clips(shipped, known_clips(shipped, clips.clips), "telephone")
    runs: list[tuple[bool, bool]] = []
    whole = type(shipped).answers

    def counted(self, mels, voice):
        runs.append((mels is not None, voice is not None))
        return whole(self, mels, voice)

    monkeypatch.setattr(type(shipped), "answers", counted)
    answered = {}
    for known in ("clip", "speaker", "calm"):
        found, centred = member_probabilities(shipped, prepared, known, answered)
        expected, same = member_probabilities(shipped, prepared, known)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(centred, same)
    # alone and by the speaker for the members, once for the voice network; without sharing each time
    assert len(answered) == 3
    assert runs.count((False, True)) == 1 + 3
    waves, speakers = prepared.waves, [clip.speaker for clip in prepared.clips]
    by_night = shipped.vote(waves, speakers, abstain=False).probabilities
    np.testing.assert_allclose(by_night, member_probabilities(shipped, prepared, "speaker")[0], atol=1e-4)


@pytest.fixture
def clips(tmp_path, rng):
    t = np.arange(9600) / 8000
    for speaker in ("03", "08"):
        for i, code in enumerate("WEFNTAL"):
            hz = 100 + 40 * i + 30 * (speaker == "08")
            wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 8))
            wave = wave * (1 + np.sin(2 * np.pi * 4 * t)) * 0.05 + 0.001 * rng.standard_normal(t.size)
            sf.write(tmp_path / f"{speaker}a0{i + 1}{code}a.wav", wave, 8000)
    (tmp_path / "09a01Wa.wav").write_bytes(b"broken")
    return read_corpus(tmp_path)


def test_the_same_sound_is_tested_once(shipped, clips):
    again = clips.clips[0].path.with_name("08a09Wb.wav")
    again.write_bytes(clips.clips[0].path.read_bytes())
    result = evaluate(shipped, [read_corpus(again.parent)])["emodb"]
    assert result["clean"]["clip"]["n"] == 12
    assert any("same audio as" in text for text in result["clean"]["unusable"])


def test_a_name_stands_for_one_corpus(shipped, clips):
    with pytest.raises(CorpusError, match="NAME=PATH"):
        evaluate(shipped, [clips, clips])
    with pytest.raises(CorpusError, match="'labels'"):
        evaluate(shipped, [replace(clips, name="labels")])


def test_every_condition_is_reported_apart_and_nothing_is_dropped_unseen(shipped, clips):
    result = evaluate(shipped, [clips])["emodb"]
    assert result["n_other_labels"] == 2
    assert set(result) == {"n_other_labels", "n_unusable", "trained_on", "clean", "telephone"}
    assert (result["n_unusable"], result["trained_on"]) == (len(clips.unusable), True)
    assert result["clean"]["unusable"][0].startswith("09a01Wa.wav: ")
    assert set(result["clean"]) == {"unusable", "clip", "speaker", "calm"}
    assert len(result["clean"]["unusable"]) == 1
    row = result["telephone"]["clip"]
    assert row["n"] == 12
    assert set(row["members"]) == {"cnn", "crnn", "vit", "crnn-2", "campplus"}
    assert 0 <= row["ece"] <= 1
    assert row["coverage"][0][0] == 1.0
    assert set(row["per_sex_wa"]) == {"male", "female"}
    assert result["clean"]["clip"]["confusion"] != [] != result["clean"]["speaker"]["confusion"]


def test_each_condition_and_way_of_knowing_a_speaker_is_reported_by_its_own_answers(
    shipped, clips, monkeypatch
):
    """Networks that answer by the spread of what they see: no two conditions or ways give the same."""

    def answers(self, mels, voice):
        seen = voice if mels is None else mels
        spread = np.array([seen.of(i).std(axis=0)[:6] for i in range(len(seen.n_frames))])
        logits = np.stack([spread * (1 + m) for m in range(len(self.member_names))])
        return logits, -0.5 * logits

    def given(ensemble, clips, probabilities, centred):
        return [ensemble, clips, probabilities.tolist(), centred.tolist()]

    monkeypatch.setattr(type(shipped), "answers", answers)
    monkeypatch.setattr("ensemble.evaluation.report", given)
    found = evaluate(shipped, [clips])["emodb"]
    usable, shown = known_clips(shipped, clips.clips), set()
    for condition in ("clean", "telephone"):
        prepared = prepare_clips(shipped, usable, condition)
        rows = {
            known: given(shipped, prepared.clips, *member_probabilities(shipped, prepared, known))
            for known in ("clip", "speaker", "calm")
        }
        (broken,) = prepared.unusable
        assert found[condition] == {"unusable": [f"09a01Wa.wav: {broken.reason}"], **rows}
        shown |= {str(row[2]) for row in rows.values()}
    assert len(shown) == 6


def test_nothing_to_test_on_is_refused(shipped, clips):
    with pytest.raises(CorpusError, match="none of"):
        evaluate(shipped, [clips], speakers=frozenset({"emodb/99"}))


def test_the_model_card_shows_the_measured_figures_and_asks_nobody(shipped, clips):
    results = evaluate(shipped, [clips], conditions=("telephone",))
    shown = ("emodb", "telephone", "speaker")
    page, text = (card_page(f"model-card.{kind}", shipped.card, results, shown) for kind in ("html", "md"))
    uar = f"{100 * results['emodb']['telephone']['speaker']['uar']:.1f}"
    for found in (page, text):
        assert uar in found
        assert shipped.ensemble_id in found
        assert "http" not in found
        assert "CAM++ (3D-Speaker, Apache-2.0" in found
        assert "its recordings are not published in full" in found
        assert found.count("from scratch") == 4
    assert page.count("<svg") == 2
    assert "<script" not in page


def test_figures_of_classes_by_hand():
    """`fear` never occurs, `happy` is never named, `sad` neither occurs nor is named."""
    found = measures(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1]), LABELS)
    assert found["per_class"] == {
        "anger": {"precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8), "n": 3},
        "fear": {"precision": 0.0, "recall": None, "f1": 0.0, "n": 0},
        "happy": {"precision": None, "recall": 0.0, "f1": 0.0, "n": 1},
        "sad": {"precision": None, "recall": None, "f1": None, "n": 0},
    }
    assert found["confusion"] == [[2, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert (found["n"], found["wa"], found["uar"]) == (4, 0.5, pytest.approx(1 / 3))
    assert found["macro_f1"] == pytest.approx(0.4)


def test_areas_are_of_every_label_that_occurs_and_is_not_alone():
    mean = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]], dtype=np.float32)
    truth = np.array([0, 0, 1])
    assert areas(truth, mean, ("a", "b", "c")[:2]) == {"a": 0.5, "b": 0.5}
    assert areas(np.array([0, 1, 0]), mean, ("a", "b")) == {"a": 1.0, "b": 1.0}
    assert areas(np.zeros(3, dtype=int), mean, ("a", "b")) == {}


def test_an_interval_is_that_of_drawing_whole_speakers(rng):
    truth = rng.integers(0, 3, 240)
    guess = np.where(rng.random(240) < 0.7, truth, 3)
    speakers = rng.integers(0, 6, 240)
    found = interval_by_speaker(truth, guess, speakers.astype(str).tolist(), n_draws=60, seed=4)
    own = [np.flatnonzero(speakers == s) for s in range(6)]
    drawn = [
        np.concatenate([own[who] for who in draw])
        for draw in np.random.default_rng(4).integers(0, 6, (60, 6))
    ]
    was = [np.mean(truth[rows] == guess[rows]) for rows in drawn]
    uars = [np.mean([np.mean(guess[rows][truth[rows] == k] == k) for k in range(3)]) for rows in drawn]
    for name, values in (("wa", was), ("uar", uars)):
        assert found[name] == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    names = speakers.astype(str).tolist()
    plain = interval_by_speaker(truth, guess, names)
    assert plain == interval_by_speaker(truth, guess, names, n_draws=1000, seed=0)
    assert plain != interval_by_speaker(truth, guess, names, n_draws=1001, seed=0)


def test_a_report_holds_every_measure_of_its_votes(shipped, rng):
    labels, n = shipped.labels, 72
    clips = [
        Clip(Path(f"{i}.wav"), "mine", labels[i % 6], f"mine/{i % 7}", sex=("female", "male", None)[i % 3])
        for i in range(n)
    ]
    truth = np.arange(n) % 6
    shares = rng.dirichlet(np.ones(6), (len(shipped.member_names), n)).astype(np.float32)
    shares[:, np.arange(n), truth] += 0.3 * (rng.random(n) < 0.6)
    shares /= shares.sum(axis=2, keepdims=True)
    centred = np.arange(n) % 2 == 0
    found = report(shipped, clips, shares, centred)
    votes = shipped.vote_on(shares, abstain=False, centred=centred)
    named = shipped.vote_on(shares, centred=centred).emotion_index >= 0
    right = votes.top_index == truth
    assert 0 < named.sum() < n

    def scores(guess):
        own = measures(truth, guess, labels)
        return {name: own[name] for name in ("wa", "uar", "macro_f1")}

    speakers, sexes = (
        np.array([str(x) for x in xs]) for xs in zip(*[(c.speaker, c.sex) for c in clips], strict=True)
    )
    assert found == {
        **measures(truth, votes.top_index, labels),
        "interval_95": interval_by_speaker(truth, votes.top_index, speakers.tolist()),
        "auc": areas(truth, votes.mean_probabilities, labels),
        "ece": expected_calibration_error(votes.confidence, right),
        "ece_if_perfect": perfect_calibration_error(votes.confidence),
        "reliability": reliability(votes.confidence, right),
        "coverage": coverage_curve(votes.confidence, right),
        "abstaining": {"coverage": named.mean(), "accuracy": right[named].mean()},
        "tie_broken_share": votes.tie_broken.mean(),
        "members": {name: scores(shares[m].argmax(axis=1)) for m, name in enumerate(shipped.member_names)},
        "soft": scores(votes.mean_probabilities.argmax(axis=1)),
        "per_speaker_wa": {s: right[speakers == s].mean() for s in sorted(set(speakers))},
        "per_sex_wa": {sex: right[sexes == sex].mean() for sex in ("female", "male")},
    }
    assert found["uar"] == pytest.approx(unweighted_recall(truth, votes.top_index))
    unsure = np.full_like(shares, 1 / 6)
    assert report(shipped, clips, unsure, centred)["abstaining"] == {"coverage": 0.0, "accuracy": None}


def test_each_speakers_guesses_are_counted_in_sorted_order():
    speakers, truth, guess = list("babb"), np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    found = tables_by_speaker(truth, guess, speakers, 2)
    assert found.tolist() == [[[0, 0], [0, 1]], [[2, 0], [1, 0]]]
    assert found.dtype == np.int64


@dataclass
class Listening:
    """An ensemble of one member that answers the mean of what it sees, and keeps what it was asked."""

    heads: object | None
    speaker_norm: bool
    asked: list[Any] = field(default_factory=list)
    front, reference = FrontEnd(n_mels=3), Reference(np.float32([1, 0, -1]), np.float32([6, 7, 8]))

    def answers(self, mels, voice):
        (seen,) = [each for each in (mels, voice) if each is not None]
        self.asked.append("members" if voice is None else "voice")
        means = np.array([seen.of(i).mean() for i in range(len(seen.n_frames))])
        assert [len(seen.of(i)) for i in range(len(means))] == list(seen.n_frames)
        logits = means[None, :, None] if voice is None else np.full((1, len(means), 1), 100.0)
        return logits, -logits

    def seconds(self, known):
        return np.array([each.n_frames * 0.01 for each in known])

    def by_voice(self, logits, offsets, voices, seconds, calm):
        np.testing.assert_array_equal(offsets, -logits)
        self.asked.append((voices, seconds.tolist(), None if calm is None else calm.tolist()))
        return logits, np.ones(logits.shape[1], dtype=bool)


SAID = (("a", "neutral"), ("a", "sad"), ("b", "happy"), ("b", "anger"), ("b", "neutral"), ("c", "sad"))


@pytest.mark.parametrize("speaker_norm", [True, False])
@pytest.mark.parametrize(
    ("known", "with_heads", "together"),
    [
        ("clip", False, [[0], [1], [2], [3], [4], [5]]),
        ("clip", True, [[0], [1], [2], [3], [4], [5]]),
        ("speaker", False, [[0, 1]] * 2 + [[2, 3, 4]] * 3 + [[5]]),
        ("speaker", True, [[0, 1]] * 2 + [[2, 3, 4]] * 3 + [[5]]),
        ("calm", False, [[0]] * 2 + [[2, 4]] * 3 + [[5]]),  # who is never calm is taken alone
        ("calm", True, [[0, 1]] * 2 + [[2, 3, 4]] * 3 + [[5]]),
    ],
)
def test_members_see_a_clip_as_what_is_known_of_its_speaker_makes_it(
    rng, known, with_heads, together, speaker_norm
):
    clips = tuple(Clip(Path(f"{i}.wav"), "mine", said, who) for i, (who, said) in enumerate(SAID))
    mels = tuple(rng.normal(-40 - 5 * i, 6, (12 + 9 * i, 3)).astype(np.float32) for i in range(len(clips)))
    own = tuple(Statistics(float(len(m)), m.sum(axis=0), (m**2.0).sum(axis=0)) for m in mels)
    waves = tuple(rng.standard_normal(900).astype(np.float32) for _ in clips)
    ensemble = Listening(object() if with_heads else None, speaker_norm)
    found, centred = member_probabilities(ensemble, Prepared(clips, waves, mels, own, ()), known)
    if not speaker_norm:
        together = [[i] for i in range(len(clips))]
    for i, group in enumerate(together):
        gathered = own[group[0]]
        for other in group[1:]:
            gathered = gathered + own[other]
        mean, deviation = voice_norm(gathered, ensemble.reference, ensemble.front)
        assert found[0, i, 0] == pytest.approx(100 + ((mels[i] - mean) / deviation).mean(), abs=1e-5)
    assert centred.all()
    voices = [who for who, _ in SAID]
    by_voice = speaker_norm and (known == "speaker" or (known == "calm" and with_heads))
    neutral = [said == "neutral" for _, said in SAID]
    seconds = [0.01 * len(mel) for mel in mels]
    asked = (voices if by_voice else None, pytest.approx(seconds), neutral if known == "calm" else None)
    assert ensemble.asked == ["members", "voice", asked]
