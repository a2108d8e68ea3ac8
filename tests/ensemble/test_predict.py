"""The shipped ensemble at work: parity, independence of batch mates, abstaining, refusals, classify."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from ensemble.corpora import CREMA_D_VALIDATION
from ensemble.inference.card import fingerprint, known_speakers
from ensemble.inference.classify import classify_paths
from ensemble.inference.ensemble import SHIPPED, load_ensemble
from ensemble.labels import EMOTIONS, SHARED_SIX
from ensemble.model_errors import ModelIncompatible, ModelMissing, WaveformError


def babble(rng, seconds):
    """Harmonics, rhythm and noise: nothing like a person, but not silence."""
    t = np.arange(round(seconds * 8000)) / 8000
    pitch = 120 + 60 * rng.random() + 20 * np.sin(2 * np.pi * 2 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / 8000
    tone = sum(np.sin(k * phase) / k for k in range(1, 10))
    wave = tone * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)) * 0.08 + rng.standard_normal(t.size) * 0.002
    return wave.astype(np.float32)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(5)
    return [babble(rng, s) for s in (0.6, 1.1, 2.0, 2.0, 3.3, 4.0, 9.5, 0.8, 2.7)]


def test_the_shipped_ensemble_is_small_complete_and_says_what_it_is(shipped):
    assert shipped.labels == SHARED_SIX
    assert shipped.member_names[:3] == ("cnn", "crnn", "vit")
    assert shipped.sample_rate_hz == 8000
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) <= 25e6
    assert {p.suffix for p in SHIPPED.iterdir()} <= {".onnx", ".safetensors", ".json"}
    assert set(shipped.card["trained_on"]) == {"crema-d", "emodb"}
    assert 0 < max(entry["n_parameters"] for entry in shipped.card["members"]) < 1_500_000
    assert shipped.card["ensemble_id"] == shipped.ensemble_id


def test_votes_have_their_documented_shapes(shipped, clips):
    votes = shipped.vote(clips)
    m, n, k = len(shipped.member_names), len(clips), len(SHARED_SIX)
    assert votes.probabilities.shape == (m, n, k)
    assert votes.mean_probabilities.shape == (n, k)
    np.testing.assert_allclose(votes.probabilities.sum(axis=2), 1, atol=1e-5)
    for values in (votes.emotion_index, votes.top_index, votes.confidence, votes.agreement, votes.tie_broken):
        assert values.shape == (n,)
    assert votes.probabilities.dtype == votes.confidence.dtype == np.float32


def test_batch_mates_do_not_matter(shipped, clips):
    together = shipped.vote(clips).probabilities
    backwards = shipped.vote(clips[::-1]).probabilities[:, ::-1]
    alone = np.concatenate([shipped.vote([clip]).probabilities for clip in clips], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(together, backwards, atol=1e-4)


def test_spectrograms_that_are_not_held_are_made_again_and_the_same(shipped, clips, monkeypatch):
    at_once = shipped.vote(clips, ["one"] * len(clips))
    monkeypatch.setattr("ensemble.inference.spectrogram.HELD_FRAMES", 0)
    again = shipped.vote(clips, ["one"] * len(clips))
    np.testing.assert_array_equal(again.probabilities, at_once.probabilities)


def test_a_shared_speaker_matters_and_known_statistics_do_the_same(shipped, clips):
    alone = shipped.vote(clips).probabilities
    shared = shipped.vote(clips, ["x"] * len(clips)).probabilities
    assert np.abs(alone - shared).max() > 1e-3
    known = shipped.statistics(clips)
    by_bands = replace(shipped, heads=None)  # one clip has no calm speech to be compared with
    one = by_bands.vote([clips[2]], ["x"], known={"x": known}).probabilities[:, 0]
    np.testing.assert_allclose(one, by_bands.vote(clips, ["x"] * len(clips)).probabilities[:, 2], atol=1e-4)


def at_temperature(votes, temperature):
    """The mean of the members, calibrated: softmax of its logarithm by a temperature, (n, k)."""
    mean = np.log(np.maximum(votes.probabilities.mean(axis=0, dtype=np.float64), 1e-9)) / temperature
    return np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)


def test_the_vote_is_calibrated_by_the_temperatures_of_the_card(shipped, clips):
    """One of clips alone, one of voices that have a baseline. Both differ from 1, so each is seen."""
    alone, known = shipped.card["temperature"], shipped.card["heads"]["temperature"]
    assert abs(alone - 1) > 0.03 < abs(known - 1)
    votes = shipped.vote(clips, abstain=False)
    np.testing.assert_allclose(votes.mean_probabilities, at_temperature(votes, alone), atol=1e-5)
    together = shipped.vote(clips, ["x"] * len(clips), abstain=False)
    np.testing.assert_allclose(together.mean_probabilities, at_temperature(together, known), atol=1e-5)
    halved = replace(shipped, temperature=alone / 2)
    np.testing.assert_allclose(
        halved.vote(clips).mean_probabilities, at_temperature(votes, alone / 2), atol=1e-5
    )


def test_gain_of_the_recorder_does_not_matter(shipped, clips):
    loud = shipped.vote(clips, ["x"] * len(clips), abstain=False).probabilities
    soft = [clip * np.float32(0.2) for clip in clips]
    quiet = shipped.vote(soft, ["x"] * len(clips), abstain=False).probabilities
    np.testing.assert_allclose(loud, quiet, atol=0.05)


def test_silence_and_snippets_are_not_labelled(shipped, clips):
    waves = [np.zeros(16000, np.float32), clips[2][:1200], np.zeros(0, np.float32), clips[2]]
    votes = shipped.vote(waves)
    assert votes.abstain_reason[:3] == ("not_speech", "too_short", "too_short")
    assert votes.emotion(0) is votes.emotion(1) is None
    named = shipped.vote(waves, abstain=False)
    assert all(named.emotion(i) in SHARED_SIX for i in range(4))


def test_silence_says_nothing_of_the_voice_it_lies_beside(shipped, clips):
    alone = shipped.vote(clips, ["x"] * len(clips))
    hiss = np.full(24000, 1e-5, np.float32)
    beside = shipped.vote([*clips, hiss, hiss], ["x"] * (len(clips) + 2))
    np.testing.assert_allclose(beside.probabilities[:, : len(clips)], alone.probabilities, atol=1e-5)
    assert shipped.vote([hiss], ["x"]).abstain_reason == ("not_speech",)


def test_one_trained_on_each_clip_alone_makes_nothing_of_speakers(shipped, clips):
    without_speakers = replace(shipped, speaker_norm=False)
    shared = without_speakers.vote(clips, ["x"] * len(clips), known={"x": shipped.statistics(clips)})
    np.testing.assert_array_equal(shared.probabilities, shipped.vote(clips).probabilities)
    without = {**shipped.card, "speaker_norm": False}
    assert fingerprint(without) != fingerprint(dict(shipped.card)) == shipped.ensemble_id


def test_the_shipped_card_names_its_training_speakers(shipped):
    trained = set(shipped.card["heard_speakers"])
    assert len(trained) == shipped.card["n_training_speakers"] == 71
    assert not trained & set(CREMA_D_VALIDATION)
    asked = frozenset({"crema-d/1002", "crema-d/1009", "ravdess/01"})
    assert known_speakers(shipped.card, asked) == {"crema-d/1002"}


def test_nothing_gives_nothing(shipped):
    assert len(shipped.vote([])) == 0


def test_nan_is_refused_and_lengths_must_match(shipped, clips):
    with pytest.raises(WaveformError, match="NaN"):
        shipped.vote([np.full(8000, np.nan, np.float32)])
    with pytest.raises(ValueError, match="2 speakers for 1"):
        shipped.vote(clips[:1], ["a", "b"])


def test_torch_is_not_needed_on_the_cpu():
    code = (
        "import sys, numpy as np; from ensemble.inference.ensemble import load_ensemble;"
        "load_ensemble().vote([np.ones(8000, np.float32) * 0.1]);"
        "assert not {'torch', 'librosa', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_onnx_and_torch_agree_on_made_up_audio(shipped, clips):
    torch_side = load_ensemble(device="cpu:0")
    np.testing.assert_allclose(
        shipped.vote(clips).probabilities, torch_side.vote(clips).probabilities, atol=1e-4
    )


def test_onnx_and_torch_agree_on_real_audio(shipped, data_dir):
    files = sorted((data_dir / "calls").rglob("*.wav"))[:3]
    waves = []
    assert len(files) == 3
    for file in files:
        samples, rate = sf.read(file, dtype="float32", always_2d=True)
        assert rate == 8000
        waves += [samples[start : start + 20000, 0] for start in range(0, 160000, 20000)]
    torch_side = load_ensemble(device="cpu:0")
    ours, theirs = shipped.vote(waves, [0] * len(waves)), torch_side.vote(waves, [0] * len(waves))
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-4)
    assert ours.probabilities.std(axis=1).min() > 1e-4


def copy_of_shipped(folder):
    for file in SHIPPED.iterdir():
        shutil.copy(file, folder)
    return folder


def test_a_missing_or_changed_file_is_refused(tmp_path):
    with pytest.raises(ModelMissing, match=r"card\.json"):
        load_ensemble(tmp_path)
    folder = copy_of_shipped(tmp_path)
    graph = folder / "cnn.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelIncompatible, match=r"cnn\.onnx"):
        load_ensemble(folder)
    graph.unlink()
    with pytest.raises(ModelMissing, match=r"cnn\.onnx"):
        load_ensemble(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"labels": ["anger", "joy"]},
        {"front_end": {"sample_rate_hz": 16000}},
    ],
)
def test_a_card_of_another_kind_is_refused(tmp_path, change):
    folder = copy_of_shipped(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **change}))
    with pytest.raises(ModelIncompatible):
        load_ensemble(folder)


def test_a_file_name_in_a_card_cannot_leave_its_folder(tmp_path):
    folder = copy_of_shipped(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    card["members"][0]["onnx"] = "../cnn.onnx"
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelIncompatible, match="no file beside the card"):
        load_ensemble(folder)


def test_the_id_changes_with_anything_that_changes_answers(tmp_path, shipped):
    folder = copy_of_shipped(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "temperature": card["temperature"] + 0.1}))
    assert load_ensemble(folder).ensemble_id != shipped.ensemble_id
    (folder / "card.json").write_text(json.dumps({**card, "made_at": "another day"}))
    assert load_ensemble(folder).ensemble_id == shipped.ensemble_id


def test_classify_gives_one_plain_object_per_clip(shipped, clips, tmp_path):
    for name, wave in {"a/2.wav": clips[2], "a/1.wav": clips[4], "b/x.wav": clips[5]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sf.write(tmp_path / name, wave, 8000)
    (tmp_path / "b" / "broken.wav").write_bytes(b"not audio")
    (tmp_path / "b" / ".hidden.wav").write_bytes(b"not audio")
    (tmp_path / "b" / "notes.txt").write_text("not audio")

    def decode(path):
        return sf.read(path, dtype="float32")[0]

    rows = list(classify_paths([tmp_path], decode, shipped, by_folder=False, abstain=False))
    names = [r["path"].removeprefix(f"{tmp_path}/") for r in rows]
    assert names == ["a/1.wav", "a/2.wav", "b/broken.wav", "b/x.wav"]
    for row in rows:
        json.dumps(row)
        if row["path"].endswith("broken.wav"):
            assert row["error"]
            assert row["emotion"] is None
            continue
        keys = {"path", "emotion", "confidence", "agreement", "probabilities", "members", "abstain_reason"}
        assert set(row) == keys
        assert row["emotion"] in EMOTIONS
        assert set(row["members"]) == set(shipped.member_names)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    together = list(classify_paths([tmp_path], decode, shipped, by_folder=True, abstain=False))
    assert together[0]["members"] != rows[0]["members"]
    direct = shipped.vote([clips[4], clips[2]], ["f", "f"], abstain=False)
    assert together[0]["emotion"] == direct.emotion(0)
    assert together[0]["confidence"] == pytest.approx(float(direct.confidence[0]), abs=1e-3)
