"""Measures against scikit-learn, intervals, and the conditions kept apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from ensemble.corpora import read_corpus
from ensemble.evaluation import (
    areas,
    evaluate,
    interval_by_speaker,
    known_clips,
    measures,
    member_probabilities,
    prepare_clips,
    through_channel,
)
from ensemble.evaluation.model_card import card_page
from ensemble.model_errors import CorpusError

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
    assert set(result["clean"]) == {"unusable", "clip", "speaker", "calm"}
    assert len(result["clean"]["unusable"]) == 1
    row = result["telephone"]["clip"]
    assert row["n"] == 12
    assert set(row["members"]) == {"cnn", "crnn", "vit", "crnn-2", "campplus"}
    assert 0 <= row["ece"] <= 1
    assert row["coverage"][0][0] == 1.0
    assert set(row["per_sex_wa"]) == {"male", "female"}
    assert result["clean"]["clip"]["confusion"] != [] != result["clean"]["speaker"]["confusion"]


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
