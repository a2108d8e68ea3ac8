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


def at_temperature(votes, temperature, weights):
    """The mean of the members, calibrated: softmax of its logarithm by a temperature, (n, k)."""
    mean = np.average(votes.probabilities, axis=0, weights=weights)
    mean = np.log(np.maximum(mean, 1e-9)) / temperature
    return np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)


def test_the_vote_is_calibrated_by_the_temperatures_of_the_card(shipped, clips):
    """One of clips alone, one of voices that have a baseline. Both differ from 1, so each is seen."""
    alone, known = shipped.card["temperature"], shipped.card["heads"]["temperature"]
    assert abs(alone - 1) > 0.03 < abs(known - 1)
    votes = shipped.vote(clips, abstain=False)
    np.testing.assert_allclose(
        votes.mean_probabilities, at_temperature(votes, alone, shipped.weights), atol=1e-5
    )
    together = shipped.vote(clips, ["x"] * len(clips), abstain=False)
    np.testing.assert_allclose(
        together.mean_probabilities, at_temperature(together, known, shipped.weights), atol=1e-5
    )
    halved = replace(shipped, temperature=alone / 2)
    np.testing.assert_allclose(
        halved.vote(clips).mean_probabilities, at_temperature(votes, alone / 2, shipped.weights), atol=1e-5
    )


def test_gain_of_the_recorder_does_not_matter(shipped, clips):
    loud = shipped.vote(clips, ["x"] * len(clips), abstain=False).probabilities
    soft = [clip * np.float32(0.2) for clip in clips]
    quiet = shipped.vote(soft, ["x"] * len(clips), abstain=False).probabilities
    in_bits = np.array(shipped.on_voice)  # rounding of 8 bits falls otherwise
    np.testing.assert_allclose(loud[~in_bits], quiet[~in_bits], atol=0.05)
    np.testing.assert_allclose(loud[in_bits], quiet[in_bits], atol=0.2)


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
    assert len(shipped.vote([])) == len(shipped.vote([], [], by_all=[])) == 0


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


def test_what_the_voice_network_is_not_asked_of_is_calibrated_by_itself(tmp_path, shipped, clips):
    """Temperatures and thresholds of the card's entry; the segments of other voices are as without it."""
    told, speakers = [False, True] * (len(clips) // 2), ["x", "y"] * (len(clips) // 2)
    clips = clips[: len(told)]
    network, sure = shipped.member_names.index("campplus"), np.array(told)
    whole = shipped.vote(clips, speakers)
    for which in (None, speakers):  # own heads and centred ones
        votes = shipped.vote(clips, which, by_all=told)
        alone = shipped.trained_alone
        temperature = alone.temperature if which is None else alone.heads_temperature
        assert votes.probabilities[network].any(axis=1).tolist() == told
        trained = np.delete(votes.probabilities, network, axis=0)[:, ~sure].mean(axis=0)
        expected = trained ** (1 / temperature)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(votes.mean_probabilities[~sure], expected, atol=1e-5)
        too_unsure = votes.confidence[~sure] < alone.thresholds.confidence
        reasons = [votes.abstain_reason[i] for i in np.flatnonzero(~sure)]
        assert [reason == "low_confidence" for reason in reasons] == list(too_unsure)
    np.testing.assert_allclose(votes.mean_probabilities[sure], whole.mean_probabilities[sure], atol=1e-6)

    folder = copy_of_shipped(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    for entry in (None, {**card["trained_alone"], "temperature": 3.0}):
        (folder / "card.json").write_text(json.dumps({**card, "trained_alone": entry}))
        assert load_ensemble(folder).ensemble_id != shipped.ensemble_id
    assert not np.allclose(
        load_ensemble(folder).vote(clips, by_all=told).confidence, shipped.vote(clips, by_all=told).confidence
    )
    del card["trained_alone"]  # one of an earlier version: everybody has the vote of all
    (folder / "card.json").write_text(json.dumps(card))
    earlier = load_ensemble(folder).vote(clips, speakers, by_all=told)
    np.testing.assert_array_equal(earlier.probabilities, whole.probabilities)
    assert earlier.abstain_reason == whole.abstain_reason
    bodies = [m for m in card["members"] if "body_sha256" not in m]
    for wrong in ({"members": bodies, "trained_alone": entry}, {"trained_alone": {"temperature": 1.0}}):
        (folder / "card.json").write_text(json.dumps({**card, **wrong}))
        with pytest.raises(ModelIncompatible, match=r"trained_alone|heads_temperature|heads"):
            load_ensemble(folder)


# Every number in a card ------------------------------------------------------------------------------------

CHANGED = {
    "temperature": 1.5,
    "thresholds.confidence": 0.99,
    "thresholds.agreement": 0.6,
    "thresholds.shortest_s": 1.3,
    "thresholds.quietest_db": -10.0,
    "members.weight": 3.0,
    "front_end.sample_rate_hz": 11025,
    "front_end.window_s": 0.02,
    "front_end.hop_s": 0.012,
    "front_end.n_fft": 256,
    "front_end.low_hz": 200.0,
    "front_end.high_hz": 3000.0,
    "front_end.range_db": 20.0,
    "front_end.active_db": 6.0,
    "front_end.margin_s": 0.0,
    "front_end.shrink_s": 60.0,
    "reference.shape_db": 3.0,
    "reference.deviation_db": 3.0,
    "heads.temperature": 1.5,
    "heads.calm_s": 0.5,
    "heads.shrink_s": 30.0,
}
TOLD = {
    "thresholds.precision": "what the thresholds were chosen for",
    "front_end.n_mels": "the members have as many inputs",
    "members.n_parameters": "counted",
    "members.onnx_parity": "measured",
}


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """A folder with two members, whose weights count, and a function that loads it with another card."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("crnn.onnx", "crnn-2.onnx", "heads.safetensors"):
        shutil.copy(SHIPPED / name, folder)
    card = json.loads((SHIPPED / "card.json").read_text())
    card |= {"rule": "weighted", "members": [m for m in card["members"] if m["architecture"] == "crnn"]}
    del card["trained_alone"]  # a test of its own, below

    def load(part=None, key=None, value=None):
        changed = json.loads(json.dumps(card))
        place = changed if part is None else changed[part]
        place = place[0] if isinstance(place, list) else place
        if key is not None:
            place[key] = [x + value for x in place[key]] if isinstance(place[key], list) else value
        (folder / "card.json").write_text(json.dumps(changed))
        return load_ensemble(folder)

    return card, load


def test_no_number_of_a_card_is_left_out(of_two):
    def numbers(entry):
        return [
            k for k, v in entry.items() if isinstance(v, (int, float)) or k in ("shape_db", "deviation_db")
        ]

    card, _ = of_two
    parts = ("thresholds", "front_end", "reference", "heads")
    named = [f"{part}.{key}" for part in parts for key in numbers(card[part])]
    named += [f"members.{key}" for key in numbers(card["members"][0])]
    assert sorted([*CHANGED, *TOLD]) == sorted([*named, "temperature"])


@pytest.fixture(scope="module")
def answers(of_two, clips):
    """What an ensemble says of clips between silences, alone and as one voice; the ensemble of the card."""
    silent_ends = [np.pad(clip, 2400) for clip in clips[:5]]

    def said(ensemble):
        both = ensemble.vote(silent_ends), ensemble.vote(silent_ends, ["x"] * 5)
        sure = [np.round(votes.mean_probabilities, 3).tolist() for votes in both]
        return sure, [(votes.top_index.tolist(), votes.abstain_reason) for votes in both]

    plain = of_two[1]()
    return said, plain, said(plain)


@pytest.mark.parametrize("name", CHANGED)
def test_a_number_of_a_card_changes_its_answers_and_its_id(of_two, answers, name):
    (_, load), (said, plain, said_by_plain) = of_two, answers
    part, _, key = name.rpartition(".")
    changed = load(part or None, key, CHANGED[name])
    assert said(changed) != said_by_plain
    assert changed.ensemble_id != plain.ensemble_id


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
    assert together[0]["confidence"] == pytest.approx(float(direct.confidence[0]), abs=0.03)
