from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from click.testing import CliRunner
from tiny_corpus import small_whisper

from ensemble.baselines.bench import Effort, Setting, place, run
from ensemble.baselines.protocol import part_by_speaker, part_of_document, published_folds, relabelled
from ensemble.baselines.results_table import ensemble_rows, ordered, result_of, row_of, table_page
from ensemble.baselines.study_features import FEATURES, extract_copy, load_features
from ensemble.baselines.systems import SYSTEMS, Classical, Network, OwnProtocol
from ensemble.corpora import RAVDESS_FOLDS, Clip, read_corpus
from ensemble.labels import SHARED_SEVEN
from ensemble.model_errors import CorpusError, ModelIncompatible, ModelMissing

pytestmark = pytest.mark.usefixtures("librosa_ready")
SHORT = Effort("short", 2, 1, 2)


def made_up(n_speakers: int = 6, n_each: int = 4) -> list[Clip]:
    emotions = ("anger", "calm", "neutral", "sad")
    return [
        Clip(Path(f"{s}-{e}-{i}.wav"), "made", e, f"made/{s}")
        for s in range(n_speakers)
        for e in emotions
        for i in range(n_each)
    ]


def network_of(name: str, shape: tuple[int, ...], n_classes: int) -> torch.nn.Module:
    from ensemble.baselines.networks import NETWORKS

    learner = SYSTEMS[name].learner
    assert isinstance(learner, Network)
    return NETWORKS[learner.network]([shape], n_classes, None)


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones named as RAVDESS names its clips: each emotion has its own pitch, so it can be learnt."""
    folder = tmp_path_factory.mktemp("ravdess")
    rng = np.random.default_rng(3)
    t = np.arange(16_000) / 16_000
    for actor in range(1, 6):
        for code, pitch_hz in (("01", 150), ("04", 400), ("05", 900)):
            for repetition in range(1, 5):
                wave = 0.3 * np.sin(2 * np.pi * (pitch_hz + 5 * actor) * t) + 0.01 * rng.standard_normal(
                    16_000
                )
                sf.write(folder / f"03-01-{code}-01-01-{repetition:02d}-{actor:02d}.wav", wave, 16_000)
    return folder


# The documents print these numbers of parameters: (all, trainable), with the features they print.
@pytest.mark.parametrize(
    ("name", "shape", "n_classes", "expected"),
    [
        ("lstm", (160,), 8, (305_864, 305_864)),
        ("cnn", (160,), 8, (166_984, 166_088)),
        ("cnn-lstm", (160,), 8, (378_344, 377_448)),
        ("deep-conv", (2376,), 7, (7_193_223, 7_188_871)),
    ],
)
def test_networks_have_the_parameters_of_their_documents(
    name: str, shape: tuple[int, ...], n_classes: int, expected: tuple[int, int]
) -> None:
    from ensemble.baselines.networks import count_parameters

    assert count_parameters(network_of(name, shape, n_classes)) == expected


def test_the_cnn_lstm_follows_the_layer_table() -> None:
    network = network_of("cnn-lstm", (160,), 8).eval()
    shapes = []
    x = torch.zeros(2, 160)
    for module in network.children():
        x = module(x)
        if type(module).__name__ in {"Conv1d", "MaxPool1d", "KerasLstm", "Linear"}:
            shapes.append(tuple(x.shape[1:]))
    # The document's table, with channels before time.
    table = [
        (64, 160),
        (64, 80),
        (128, 80),
        (128, 40),
        (256, 40),
        (256, 20),
        (128, 20),
        (64,),
        (64,),
        (32,),
        (8,),
    ]
    assert shapes == table


def test_an_lstm_adds_its_one_bias_like_torchs_two() -> None:
    from ensemble.baselines.networks import KerasLstm

    ours = KerasLstm(3, 5, sequences=True)
    theirs = torch.nn.LSTM(3, 5, batch_first=True)
    weights = ours.state_dict()
    inputs, states = weights["lstm.weight_ih_l0"], weights["lstm.weight_hh_l0"]
    theirs.load_state_dict(
        {
            "weight_ih_l0": inputs[:, :-1],
            "weight_hh_l0": states,
            "bias_ih_l0": inputs[:, -1],
            "bias_hh_l0": torch.zeros(20),
        }
    )
    x = torch.randn(2, 7, 3)
    torch.testing.assert_close(ours(x.transpose(1, 2)).transpose(1, 2), theirs(x)[0])


def test_a_network_starts_as_the_library_of_its_document_does() -> None:
    torch.manual_seed(0)
    ours = network_of("mel-cnn", (128, 200), 8)  # the document names PyTorch
    torch.manual_seed(0)
    theirs = torch.nn.Conv2d(1, 16, 3)
    assert torch.equal(next(ours.parameters()), theirs.weight)
    weight, bias = list(network_of("deep-conv", (2376,), 7).parameters())[:2]
    assert not bias.any()  # Keras: zero biases, Glorot-uniform weights
    limit = (6 / (5 * (1 + 512))) ** 0.5
    assert 0.9 * limit < weight.abs().max() <= limit


@pytest.mark.parametrize("voter", [0, 1, 2])
def test_speakers_never_cross(voter: int) -> None:
    clips = made_up()
    part = part_by_speaker(clips, frozenset({"made/0"}), 3, seed=1, voter=voter)
    sides = [{clips[i // 3].speaker for i in side} for side in (part.training, part.validation, part.test)]
    assert sides[2] == {"made/0"}
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]
    assert not (part.test % 3).any()
    assert not (part.validation % 3).any()
    assert len(part.training) == 3 * sum(clip.speaker in sides[0] for clip in clips)


def test_each_voter_validates_on_other_speakers() -> None:
    clips = made_up()
    parts = [part_by_speaker(clips, frozenset({"made/0"}), 1, seed=1, voter=v) for v in range(3)]
    assert len({clips[part.validation[0]].speaker for part in parts}) == 3


def test_a_lone_training_speaker_still_leaves_validation_clips() -> None:
    clips = made_up(n_speakers=2, n_each=8)
    part = part_by_speaker(clips, frozenset({"made/0"}), 1, seed=1)
    assert {clips[i].speaker for i in part.validation} == {"made/1"}
    assert not set(part.training) & set(part.validation)


@pytest.mark.parametrize("leaky", [False, True])
def test_copies_stay_with_their_clip_unless_the_document_split_them(leaky: bool) -> None:
    clips = made_up()
    part = part_of_document(clips, OwnProtocol(copies_before_split=leaky), n_copies=4)
    assert not set(part.training) & set(part.test)
    shared = {i // 4 for i in part.training} & {i // 4 for i in part.test}
    assert bool(shared) == leaky


def test_the_shares_of_a_random_split() -> None:
    clips = made_up(10, 10)
    part = part_of_document(clips, SYSTEMS["mel-cnn"].own, n_copies=1)
    assert [len(part.training), len(part.validation), len(part.test)] == [280, 60, 60]
    assert {clips[i].emotion for i in part.test} == {"anger", "calm", "neutral", "sad"}


def test_seven_classes_take_calm_for_neutral() -> None:
    kept, labels = relabelled(made_up(), OwnProtocol(merge={"calm": "neutral"}, labels=SHARED_SEVEN))
    assert labels == ("anger", "neutral", "sad")
    assert len(kept) == len(made_up())


def test_folds_are_the_published_ones() -> None:
    clips = [Clip(Path("x"), "ravdess", "sad", speaker) for fold in RAVDESS_FOLDS for speaker in fold]
    clips += [Clip(Path("x"), "tess", "sad", "tess/OAF"), Clip(Path("x"), "tess", "sad", "tess/YAF")]
    folds = published_folds(clips)
    assert folds[0] == {*RAVDESS_FOLDS[0], "tess/OAF"}
    assert folds[4] == set(RAVDESS_FOLDS[4])


def test_features_come_back_from_parquet_as_they_were(ravdess: Path, tmp_path: Path) -> None:
    clips = read_corpus(ravdess, "ravdess").clips[:5]
    feature = FEATURES["means-162-augmented"]
    first = load_features(feature, clips, tmp_path)
    (path,) = tmp_path.glob("*.parquet")
    stamp = path.stat().st_mtime_ns
    np.testing.assert_array_equal(load_features(feature, clips, tmp_path), first)
    assert path.stat().st_mtime_ns == stamp
    assert first.shape == (5, 3, 162)
    assert not np.allclose(first[:, 0], first[:, 1])
    load_features(replace(feature, version=2), clips, tmp_path)
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorpusError, match="delete it"):
        load_features(feature, clips, tmp_path)


@pytest.mark.parametrize("name", [n for n in FEATURES if n != "means-162-augmented"])
@pytest.mark.parametrize("kind", ["silence", "blip", "long"])
def test_a_feature_has_one_shape_and_is_finite(name: str, kind: str, rng: np.random.Generator) -> None:
    feature = FEATURES[name]
    n = {"silence": feature.sample_rate_hz, "blip": 900, "long": 6 * feature.sample_rate_hz}[kind]
    wave = np.zeros(n) if kind == "silence" else 0.2 * rng.standard_normal(n)
    clip = Clip(Path("03-01-05-01-02-01-12.wav"), "ravdess", "anger", "ravdess/12", "female")
    shapes = {
        "means-160": (160,),
        "means-162": (162,),
        "means-180": (180,),
        "frames-2376": (2376,),
        "samples": (90_002,),
        "mfcc-80": (80,),
        "mel-200": (128, 200),
        "mfcc-sequence": (40, 300),
        "spectrogram": (200, 300),
        "wave-16k": (54_560,),
    }
    values = extract_copy(feature, "clean", wave.astype(np.float32), clip, 1)
    assert values.shape == shapes[name]
    assert np.isfinite(values).all()


def test_raw_samples_do_not_tell_the_emotion_of_the_name() -> None:
    wave = np.ones(3000, dtype=np.float32)
    told = [
        FEATURES["samples"].extract(wave, Clip(Path(f"03-01-{code}-01-02-01-12.wav"), "r", "sad", "r/12"))
        for code in ("04", "05")
    ]
    np.testing.assert_array_equal(told[0], told[1])


def test_focal_loss_is_the_documents() -> None:
    from ensemble.baselines.fitting import focal

    # p = 0.5: 0.25 * 0.5^2 * ln 2
    assert float(focal(torch.tensor(np.log(2)))) == pytest.approx(0.25 * 0.25 * np.log(2))


def test_training_stops_on_validation_and_keeps_the_best_epoch(rng: np.random.Generator) -> None:
    from ensemble.baselines.fitting import logits_of, train

    torch.manual_seed(1)
    truth = np.repeat([0, 1], 60)
    values = (rng.standard_normal((120, 6)) + 1.2 * truth[:, None]).astype(np.float32)
    values[100:] = -values[100:]  # test rows, turned round: they must not be looked at
    rows = rng.permutation(100)
    settings = Network("made here", max_epochs=200, batch=16, learning_rate=0.05, stop_epochs=4)
    network = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    scores: list[float] = []
    went = train(
        network,
        [values],
        truth,
        rows[:70],
        rows[70:],
        settings,
        seed=1,
        say=lambda *told: scores.append(told[2]),
    )
    assert went.n_epochs < 200
    assert scores[went.best_epoch - 1] == max(scores)
    assert went.n_epochs == went.best_epoch + 4
    assert (logits_of(network, [values], rows[70:]).argmax(axis=1) == truth[rows[70:]]).mean() > 0.9


def test_normalisation_has_settled_after_an_epoch_of_few_steps(rng: np.random.Generator) -> None:
    """Loud features and two steps: moments that move by 1 % a step would still be those of silence."""
    from ensemble.baselines.fitting import train

    truth = np.repeat([0, 1], 40)
    values = (100 + 20 * rng.standard_normal((80, 16)) + 30 * truth[:, None]).astype(np.float32)
    norm = torch.nn.BatchNorm1d(16)
    network = torch.nn.Sequential(norm, torch.nn.Linear(16, 2))
    settings = Network("made here", max_epochs=1, batch=32)
    train(network, [values], truth, np.arange(0, 80, 2), np.arange(1, 80, 2), settings, seed=1)
    assert norm.running_mean is not None
    np.testing.assert_allclose(norm.running_mean.numpy(), values[::2].mean(axis=0), rtol=0.1)


def test_smote_fills_up_the_smaller_classes(rng: np.random.Generator) -> None:
    pytest.importorskip("imblearn", reason="imbalanced-learn is in the extra callanalytics[bench]")
    from ensemble.baselines.fitting import smote

    values, truth = smote(
        rng.standard_normal((13, 4)).astype(np.float32), np.array([0] * 10 + [1] * 3), seed=1
    )
    assert np.bincount(truth).tolist() == [10, 10]
    assert values.dtype == np.float32


@pytest.mark.parametrize("reduce", [(), ("pca",), ("lda",), ("pca", "lda")])
def test_tuned_trees_learn_and_see_no_test_row(reduce: tuple[str, ...], rng: np.random.Generator) -> None:
    pytest.importorskip("optuna", reason="optuna is in the extra callanalytics[bench]")
    from ensemble.baselines.fitting import fit, size_of

    truth = np.arange(120) % 3
    values = (rng.standard_normal((120, 10)) + 2 * truth[:, None]).astype(np.float32)
    values[90:] = np.nan  # a look at them would fail
    settings = Classical("forest", reduce, n_trials=2)  # type: ignore[arg-type]
    pipeline, went = fit(settings, values, truth, np.arange(60), np.arange(60, 90), n_trials=2, seed=1)
    assert (pipeline.predict(values[60:90]) == truth[60:90]).mean() > 0.7
    assert size_of(pipeline) > 100
    assert went.n_epochs == 2


def test_a_bench_goes_on_where_it_was(ravdess: Path, tmp_path: Path) -> None:
    clips = read_corpus(ravdess, "ravdess").clips
    setting = Setting(tmp_path, tmp_path / "cache", SHORT)
    system = SYSTEMS["mfcc-mlp"]
    first = run(system, "speaker", clips, setting, max_folds=2)
    said: list[str] = []
    folds = run(system, "speaker", clips, setting, say=said.append)
    assert len(folds) == 5
    assert len(said) == 3  # only what was missing
    assert folds[:2] == first
    assert sorted(name for fold in folds for name in fold["clips"]) == sorted(c.path.name for c in clips)
    result = result_of(folds, system, "speaker")
    assert result is not None
    assert result.uar > 0.9  # three tones are easy
    assert result.split == "by speaker"
    assert place(system, "speaker", clips, setting) != place(system, "random", clips, setting)
    assert place(system, "speaker", clips[1:], setting) != place(system, "speaker", clips, setting)


def test_the_command_writes_the_table_in_three_forms(ravdess: Path, tmp_path: Path) -> None:
    from jobs.cli.bench_commands import bench

    out = tmp_path / "<out>"
    options = ["seeds", "--corpus", f"ravdess={ravdess}", "--out", str(out), "--threads", "1"]
    done = CliRunner().invoke(
        bench, [*options, "--systems", "mfcc-mlp,cnn", "--effort", "quick", "--folds", "1"]
    )
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in json.loads((out / "seeds.json").read_text())["rows"]}
    assert rows["cnn"]["random"]["n_parameters"] > 100_000
    assert rows["cnn"]["random"]["split"].startswith("RANDOM")
    assert rows["mfcc-mlp"]["speaker"]["n_done"] == 1
    assert rows["deep-conv"]["random"] is None
    page, text = (out / "seeds.html").read_text(), (out / "seeds.md").read_text()
    for written in (page, text):
        assert "Random split: the same speakers are in training and in test" in written
        assert "1 of 5 folds" in written
        assert "points below its document" in written or "points above its document" in written
        assert "quick" in written
    assert "<out>" not in page
    assert "http" not in page
    assert "<script" not in page


def test_an_unknown_system_is_a_usage_error(ravdess: Path) -> None:
    from jobs.cli.bench_commands import bench

    done = CliRunner().invoke(bench, ["seeds", "--corpus", str(ravdess), "--systems", "magic"])
    assert done.exit_code == 2
    assert "cnn-lstm" in done.output


def test_our_ensemble_stands_in_its_own_rows() -> None:
    report = {
        "n": 4,
        "wa": 0.75,
        "uar": 0.75,
        "confusion": [[2, 0], [1, 1]],
        "interval_95": {"uar": [0.6, 0.9]},
        "member_uar": {"cnn": 0.7, "vit": 0.6},
    }
    found = {
        "split": "by speaker",
        "labels": ["anger", "sad"],
        "n_folds": 5,
        "clean": {"clip": report, "speaker": {**report, "uar": 0.8}},
    }
    rows = ensemble_rows(found, {"cnn": 10, "vit": 20})
    worse = row_of(SYSTEMS["cnn"], None, None, checkpoint=False)
    assert [row.name for row in ordered([worse, *rows])] == ["ensemble (speaker)", "ensemble (clip)", "cnn"]
    assert rows[0].speaker is not None
    assert rows[0].speaker.n_parameters == 30
    leaky = ensemble_rows({**found, "split": "RANDOM: speakers are in training and test"}, {})
    assert leaky[0].speaker is None
    assert leaky[0].random is not None
    assert "RANDOM" in leaky[0].random.split
    assert "80.0" in table_page("seeds.md", rows, {"Clips": "4"})
    assert "not from scratch" not in table_page("seeds.md", rows, {})
    begun = ensemble_rows({**found, "begun_from": "3a3e"}, {})
    told = table_page("seeds.md", begun, {})
    assert "not from scratch: every fold begins from the weights of ensemble 3a3e" in told
    of_heads = {"heads_of": "7c38", "left_out": ["cnn"], "beside": ["emodb"]}
    heads = ensemble_rows({**found, **of_heads}, {})
    assert heads[0].name == "ensemble, heads (clip)"
    told = table_page("seeds.md", heads, {})
    assert "heads alone: the bodies of ensemble 7c38" in told
    assert "in every fold; left out, since trained on these clips: cnn; trained beside emodb" in told
    assert "&lt;b&gt;" in table_page("seeds.html", rows, {"Clips": "<b>"})


def test_rows_say_when_the_checkpoint_was_a_stand_in() -> None:
    row = row_of(SYSTEMS["wav2vec-forest"], None, None, checkpoint=False)
    assert any("random weights" in note for note in row.notes)
    assert not row_of(SYSTEMS["wav2vec-forest"], None, None, checkpoint=True).notes


def test_a_checkpoint_folder_is_heard(tmp_path: Path, rng: np.random.Generator) -> None:
    pytest.importorskip("transformers", reason="transformers is in callanalytics[bench]")
    from ensemble.baselines.encoders import fingerprint, hidden_states, load
    from ensemble.baselines.networks import NETWORKS

    model = load(None)
    model.save_pretrained(tmp_path)
    clip = Clip(Path("x.wav"), "made", "sad", "made/1")
    wave = rng.standard_normal(30_000).astype(np.float32)
    states = hidden_states(tmp_path).extract(wave, clip)
    with torch.inference_mode():
        expected = model(torch.from_numpy(FEATURES["wave-16k"].extract(wave, clip))[None]).last_hidden_state[
            0
        ]
    np.testing.assert_allclose(states, expected.numpy(), atol=1e-5)
    assert states.shape == (170, 64)
    assert fingerprint(tmp_path) != fingerprint(None)
    tuned = NETWORKS["tuned_wav2vec"]([(54_560,)], 4, tmp_path)
    front = {n: p for n, p in tuned.named_parameters() if "feature_extractor" in n}
    assert front
    assert not any(p.requires_grad for p in front.values())
    assert tuned(torch.zeros(2, 4000)).shape == (2, 4)


def ctranslate2_tensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors of the encoder in a model file of CTranslate2, by name."""
    kinds = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    tensors = {}
    with path.open("rb") as file:

        def numbers(form: str) -> tuple[int, ...]:
            return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))

        def name() -> str:
            return file.read(numbers("H")[0]).rstrip(b"\0").decode()

        numbers("I")
        name()
        numbers("I")
        for _ in range(numbers("I")[0]):
            of, shape = name(), numbers("I" * numbers("B")[0])
            kind, n_bytes = kinds[numbers("B")[0]], numbers("I")[0]
            tensors[of] = np.frombuffer(file.read(n_bytes), kind).reshape(shape)
    return {of[8:].replace("/", "."): t for of, t in tensors.items() if of.startswith("encoder/") and t.ndim}


def test_whisper_blocks_answer_as_another_program_does(
    data_dir: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="ctranslate2 is in callanalytics[words]")
    folder = data_dir / "words/tiny.en"
    if not (folder / "model.bin").is_file():
        pytest.skip("no words/tiny.en among the real data")
    from safetensors.torch import save_file

    from ensemble.baselines.encoders import load_whisper, whisper_log_mels

    tensors = {k: torch.from_numpy(v.copy()) for k, v in ctranslate2_tensors(folder / "model.bin").items()}
    save_file(tensors, tmp_path / "tiny.safetensors")
    blocks = load_whisper(tmp_path / "tiny.safetensors")
    wave = 0.1 * rng.standard_normal(8 * 16_000).astype(np.float32)
    mels = whisper_log_mels(wave)[None]
    with torch.inference_mode():
        last = blocks(torch.from_numpy(mels))[-1]
        ours = torch.nn.functional.layer_norm(
            last,
            (blocks.width,),
            tensors["layer_norm.gamma"].float(),
            tensors["layer_norm.beta"].float(),
        )
    model = ctranslate2.models.Whisper(str(folder), compute_type="float32", intra_threads=1)
    theirs = np.array(model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(mels))))
    assert blocks.n_blocks == 4
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-3)
    assert theirs.std() > 0.5


def test_whisper_mels_are_those_of_another_program(rng: np.random.Generator) -> None:
    theirs = pytest.importorskip("faster_whisper.feature_extractor", reason="it is in callanalytics[words]")
    from ensemble.baselines.encoders import whisper_log_mels

    wave = 0.1 * rng.standard_normal(48_000).astype(np.float32)
    expected = theirs.FeatureExtractor()(wave, padding=0)
    np.testing.assert_allclose(whisper_log_mels(wave), expected, atol=1e-4)


def test_whisper_features_are_of_the_clips_own_frames(tmp_path: Path, rng: np.random.Generator) -> None:
    from ensemble.baselines.encoders import load_whisper, whisper_log_mels, whisper_states

    path = small_whisper(tmp_path / "teacher.safetensors")
    clip = Clip(Path("x.wav"), "made", "sad", "made/1")
    wave = 0.1 * rng.standard_normal(9_600).astype(np.float32)
    feature = whisper_states(path)
    found = feature.extract(wave, clip)
    assert found.shape == (2 * 2 * 64,)
    with torch.inference_mode():
        states = load_whisper(path)(torch.from_numpy(whisper_log_mels(np.pad(wave, (0, 8_000))))[None])
    np.testing.assert_allclose(found[:64], states[0][0, :30].mean(dim=0), atol=1e-5)
    long = np.concatenate([wave, 0.1 * rng.standard_normal(90_000).astype(np.float32)])
    cut = feature.extract(long[: 80 * 320 - 8_000], clip)
    np.testing.assert_array_equal(feature.extract(long, clip), cut)
    other = small_whisper(tmp_path / "other.safetensors", n_blocks=1)
    assert whisper_states(other).name != feature.name


def test_what_is_no_whisper_encoder_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from ensemble.baselines.encoders import load_whisper

    with pytest.raises(ModelMissing, match="no such file"):
        load_whisper(tmp_path / "none.safetensors")
    tensors = load_file(small_whisper(tmp_path / "teacher.safetensors"))
    del tensors["layer_1.ffn.linear_1.bias"]
    save_file(tensors, tmp_path / "torn.safetensors")
    with pytest.raises(ModelIncompatible, match=r"layer_1\.ffn\.linear_1\.bias"):
        load_whisper(tmp_path / "torn.safetensors")


def test_real_encoders_stand_beside_the_studies_and_say_what_they_are(ravdess: Path, tmp_path: Path) -> None:
    clips = read_corpus(ravdess).clips
    teacher = small_whisper(tmp_path / "teacher.safetensors")
    without = Setting(tmp_path, tmp_path / "cache", SHORT)
    with pytest.raises(ModelMissing, match="--teacher"):
        run(SYSTEMS["whisper-logistic"], "speaker", clips, without)
    setting = replace(without, teacher=teacher)
    for name in ("whisper-logistic", "campplus-forest"):
        folds = run(SYSTEMS[name], "speaker", clips, setting, max_folds=1)
        assert np.mean(np.array(folds[0]["truth"]) == folds[0]["guess"]) > 0.6  # three pitches
    row = row_of(SYSTEMS["campplus-forest"], None, None, checkpoint=False)
    assert any(note.startswith("CAM++ (3D-Speaker, Apache-2.0)") for note in row.notes)
    assert place(SYSTEMS["whisper-forest"], "speaker", clips, setting) != place(
        SYSTEMS["whisper-forest"],
        "speaker",
        clips,
        replace(setting, teacher=small_whisper(tmp_path / "b", 1)),
    )


def test_a_folder_without_safe_weights_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is in callanalytics[bench]")
    from ensemble.baselines.encoders import load

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelMissing, match="safetensors"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["coattention_alexnet", "coattention_vit"])
def test_coattention_joins_three_inputs(name: str) -> None:
    from ensemble.baselines.networks import NETWORKS

    shapes = [(200, 300), (40, 300), (170, 64)]
    network = NETWORKS[name](shapes, 4, None).eval()
    logits = network(*(torch.randn(2, *shape) for shape in shapes))
    assert logits.shape == (2, 4)
    assert torch.isfinite(logits).all()


def test_listing_the_systems_loads_nothing_heavy() -> None:
    code = "import ensemble.baselines.systems, sys; print({'torch', 'librosa', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SYSTEMS))
@pytest.mark.parametrize("protocol", ["random", "speaker"])
def test_every_system_runs_on_the_layout_of_iemocap(
    name: str, protocol: str, tmp_path_factory: pytest.TempPathFactory, rng: np.random.Generator
) -> None:
    if {"wav2vec", "wave-16k"} & set(SYSTEMS[name].features):
        pytest.importorskip("transformers", reason="transformers is in callanalytics[bench]")
    folder = tmp_path_factory.mktemp("iemocap")
    t = np.arange(16_000) / 16_000
    for session in range(1, 3):
        wavs = folder / f"Session{session}/sentences/wav/Ses0{session}F_impro01"
        labels = folder / f"Session{session}/dialog/EmoEvaluation"
        wavs.mkdir(parents=True)
        labels.mkdir(parents=True)
        lines = []
        for number in range(48):
            code, pitch_hz = (("ang", 900), ("hap", 600), ("neu", 300), ("sad", 150))[number % 4]
            who = "FM"[number // 4 % 2]
            utterance = f"Ses0{session}F_impro01_{who}{number:03d}"
            wave = 0.3 * np.sin(2 * np.pi * pitch_hz * t) + 0.02 * rng.standard_normal(16_000)
            sf.write(wavs / f"{utterance}.wav", wave, 16_000)
            lines.append(f"[{number}.0 - {number + 1}.0]\t{utterance}\t{code}\t[2.5, 2.5, 2.5]")
        (labels / f"Ses0{session}F_impro01.txt").write_text("\n".join(lines) + "\n")
    clips = read_corpus(folder, "iemocap").clips
    cache = tmp_path_factory.getbasetemp() / "cache"
    teacher = small_whisper(folder / "teacher.safetensors")
    setting = Setting(folder / "out", cache, Effort("short", 1, 1, 2), teacher=teacher)
    (fold,) = run(SYSTEMS[name], protocol, clips, setting, max_folds=1)  # type: ignore[arg-type]
    assert len(fold["guess"]) == len(fold["truth"]) > 0
