"""train, evaluate, crossval and ensemble, as typed by an engineer."""

from __future__ import annotations

import contextlib
import json
import re

import pytest
from command_line import run_command
from tiny_corpus import small_whisper, write_tiny_corpus, write_tiny_manifest

from callanalytics.workspace import file_lock

pytest.importorskip("torch")

OPTIONS = (
    "--epochs",
    "1",
    "--preset",
    "quick",
    "--members",
    "cnn",
    "--labels",
    "anger,sad",
    "--threads",
    "1",
)


def callanalytics(*args, folder, rc=0):
    with contextlib.chdir(folder):
        return run_command(*args, expect=rc)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An output folder after one training; its answer."""
    folder = tmp_path_factory.mktemp("trained")
    corpus = write_tiny_corpus(folder / "corpus")
    args = ("--corpus", corpus, *OPTIONS, "--out", "out", "--validation", "crema-d/1000")
    done = callanalytics("train", *args, "--json", folder=folder)
    return folder, json.loads(done.stdout)


def test_a_dry_run_counts_and_writes_nothing(tmp_path):
    corpus = write_tiny_corpus(tmp_path / "corpus")
    said = callanalytics(
        "train", "--corpus", corpus, *OPTIONS, "--out", "out", "--dry-run", folder=tmp_path
    ).stderr
    assert "crema-d: 48 clips (24 anger, 24 sad)" in said
    assert "5 speakers train, 1 validate: crema-d/1004" in said
    assert not (tmp_path / "out").exists()


def test_a_dry_run_refuses_what_the_training_would(tmp_path):
    write_tiny_corpus(tmp_path / "corpus")
    write_tiny_corpus(tmp_path / "corpus" / "doubled")
    rest = [option for option in OPTIONS if option not in {"--labels", "anger,sad"}]
    args = ("train", "--corpus", "corpus", *rest, "--labels", "anger,fear,sad", "--dry-run")
    refused = callanalytics(*args, folder=tmp_path, rc=1).stderr
    assert "48 unusable: copy of another file" in refused
    assert (
        "no training clip of fear: add a corpus that has it, or train without: --labels anger,sad" in refused
    )
    rows = "".join(
        f"corpus/{p.name};{p.name[9:12].lower()};{p.name[:4]}\n" for p in (tmp_path / "corpus").glob("*.wav")
    )
    (tmp_path / "mine.csv").write_text("Datei;label;wer\n" + rows)
    args = ("train", "--corpus", "mine.csv", *OPTIONS, "--dry-run", "--columns", "path=Datei,speaker=wer")
    assert "mine: 48 clips (24 anger, 24 sad)" in callanalytics(*args, folder=tmp_path).stderr
    wrong = callanalytics(*args[:-1], "Datei", folder=tmp_path, rc=2).stderr
    assert "expected OURS=THEIRS, as in path=file,emotion=label" in wrong


def test_a_teacher_is_named_before_hours_of_training_or_refused(tmp_path):
    corpus = write_tiny_corpus(tmp_path / "corpus")
    small_whisper(tmp_path / "wise.safetensors")
    args = ("train", "--corpus", corpus, *OPTIONS, "--dry-run", "--teacher")
    said = callanalytics(*args, "wise.safetensors", "--teacher", "campplus", folder=tmp_path).stderr
    assert "Teacher: an encoder like Whisper's, licence not known, blocks 1-2, 64 wide" in said
    assert "Teacher: CAM++ (3D-Speaker, Apache-2.0)" in said
    assert (
        "none.safetensors: no such file"
        in callanalytics(*args, "none.safetensors", folder=tmp_path, rc=6).stderr
    )
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    assert "not the first blocks" in callanalytics(*args, "bad.safetensors", folder=tmp_path, rc=6).stderr


def test_training_keeps_the_ensemble_with_its_card(trained):
    folder, answer = trained
    kept = folder / "out/ensembles" / answer["ensemble_id"]
    assert {"card.json", "cnn.onnx", "cnn.safetensors", "results.json", "model-card.html"} <= {
        p.name for p in kept.iterdir()
    }
    assert set(answer["results"]["crema-d"]) >= {"clean", "telephone", "gsm"}
    card = json.loads((kept / "card.json").read_text())
    assert "crema-d: 1 speakers held out" in card["scores"]["headline"]["test"]


def test_evaluate_prints_a_table_and_writes_a_card(trained):
    folder, answer = trained
    args = ("--corpus", folder / "corpus", "--ensemble", answer["ensemble_id"], "--out", "out")
    done = callanalytics("evaluate", *args, "--validation", "--card", "card", folder=folder)
    assert "the vote, percent" in done.stdout
    assert "calm" in done.stdout
    assert "<svg" in (folder / "card/model-card.html").read_text()
    results = json.loads((folder / "card/results.json").read_text())
    assert results["crema-d"]["telephone"]["clip"]["n"] == 8


def test_a_card_keeps_what_was_measured_of_the_same_ensemble(tmp_path):
    write_tiny_manifest(tmp_path)
    copy = tmp_path / "others.csv"
    copy.write_text((tmp_path / "made.csv").read_text())
    args = ("evaluate", "--ensemble", "shipped", "--condition", "telephone", "--card", "card")
    for name in ("made", "others"):
        callanalytics(*args, "--corpus", f"{name}.csv", folder=tmp_path)
    results = json.loads((tmp_path / "card/results.json").read_text())
    assert {"made", "others"} <= set(results)
    card = (tmp_path / "card/model-card.md").read_text()
    assert "| made | telephone | clip |" in card
    assert "| others | telephone | clip |" in card
    (tmp_path / "card/results.json").write_text(json.dumps({**results, "ensemble_id": "another"}))
    callanalytics(*args, "--corpus", "made.csv", folder=tmp_path)
    assert "others" not in json.loads((tmp_path / "card/results.json").read_text())
    (tmp_path / "card/results.json").write_text("{")
    refused = callanalytics(*args, "--corpus", "made.csv", folder=tmp_path, rc=2).stderr
    assert "is not JSON" in refused


def test_a_channel_condition_can_be_named_by_its_old_option_too(trained):
    folder, _ = trained
    args = ("evaluate", "--corpus", folder / "corpus", "--ensemble", "shipped", "--json")
    done = callanalytics(*args, "--condition", "gsm", "--line", "clean", folder=folder)
    assert {"gsm", "clean", "telephone"} & set(json.loads(done.stdout)["crema-d"]) == {"gsm", "clean"}


def test_nobody_whom_it_was_trained_on_passes_for_held_out(trained, tmp_path):
    folder, answer = trained
    only = tmp_path / "corpus"
    only.mkdir()
    for clip in (folder / "corpus").glob("1001_*"):
        (only / clip.name).write_bytes(clip.read_bytes())
    args = ("evaluate", "--corpus", only, "--ensemble", answer["ensemble_id"], "--validation", "--out", "out")
    assert "trained on every speaker of crema-d" in callanalytics(*args, folder=folder, rc=2).stderr


def test_test_clips_of_a_manifest_are_left_out_and_missing_labels_told(tmp_path):
    corpus = write_tiny_corpus(tmp_path / "corpus")
    split = {"1000": "validation", "1001": "test"}
    rows = []
    for clip in sorted(corpus.iterdir()):
        speaker, emotion = clip.name[:4], "anger" if "ANG" in clip.name else "sad"
        if (speaker, emotion) != ("1000", "anger"):
            rows.append(f"corpus/{clip.name},{emotion},{speaker},{split.get(speaker, 'train')}")
    (tmp_path / "mine.csv").write_text("path,emotion,speaker,split\n" + "\n".join(rows) + "\n")
    said = callanalytics("train", "--corpus", "mine.csv", *OPTIONS, "--dry-run", folder=tmp_path).stderr
    assert "4 speakers train, 1 validate: mine/1000" in said
    assert "8 clips marked as test are left out" in said
    assert "Nobody held out has anger" in said


def test_evaluating_a_speaker_who_is_not_there_is_refused(trained):
    folder, _ = trained
    args = ("evaluate", "--corpus", folder / "corpus", "--speaker", "crema-d/none", "--out", "out")
    assert "for example crema-d/1000" in callanalytics(*args, folder=folder, rc=2).stderr


def test_calibrate_keeps_an_ensemble_of_its_own_and_prints_how_sure_it_is(trained):
    folder, _ = trained
    args = ("calibrate", "--corpus", folder / "corpus", "--ensemble", "shipped", "--out", "out")
    answer = json.loads(callanalytics(*args, "--speaker", "crema-d/1000", "--json", folder=folder).stdout)
    card = json.loads((folder / "out/ensembles" / answer["ensemble_id"] / "card.json").read_text())
    assert card["trained_alone"]["heads_temperature"] == answer["heads_temperature"]
    assert answer["centred"]["n_clips"] == 8
    said = callanalytics(*args, "--speaker", "crema-d/1000", folder=folder)
    assert "ensemble promote" in said.stderr
    rows = [line.split() for line in said.stdout.splitlines()]
    assert [row[0] for row in rows if row[1:] and row[1].endswith("%")] == ["clip", "speaker", "calm"]


def test_crossval_by_speaker_and_by_chance(trained):
    folder, _ = trained
    args = ("crossval", "--corpus", folder / "corpus", *OPTIONS, "--folds", "2", "--out", "out")
    done = callanalytics(*args, "--seeds", "2", folder=folder)
    assert "split by speaker" in done.stdout
    assert "Median of 2 seeds" in done.stdout
    random = json.loads(callanalytics(*args, "--split", "random", "--json", folder=folder).stdout)
    assert "RANDOM" in random[0]["split"]


def test_crossval_of_heads_alone(tmp_path):
    write_tiny_manifest(tmp_path)
    args = ("crossval", "--corpus", "made.csv", "--heads", "--members", "campplus", "--folds", "2")
    printed = callanalytics(*args, "--out", "out", folder=tmp_path).stdout
    assert "campplus" in printed
    assert "mean" in printed
    kept = json.loads((tmp_path / "out/training/crossval-made-heads-speaker-1/crossval.json").read_text())
    assert kept["left_out"] == []
    refused = callanalytics(*args, "--split", "random", "--out", "out", folder=tmp_path, rc=2).stderr
    assert "--heads has folds by speaker only" in refused
    wrong = ("crossval", "--corpus", "made.csv", "--beside", "made.csv", "--out", "out")
    assert "--beside needs --heads" in callanalytics(*wrong, folder=tmp_path, rc=2).stderr


def test_list_promote_compare_and_roll_back(trained):
    folder, answer = trained
    name = answer["ensemble_id"]

    def in_use():
        rows = json.loads(callanalytics("ensemble", "list", "--out", "out", "--json", folder=folder).stdout)
        return next(row["ensemble"] for row in rows if row["in_use"])

    assert in_use() == "shipped"
    refused = callanalytics("ensemble", "promote", name, "--out", "out", folder=folder, rc=1)
    assert "Compare them on one test" in refused.stderr
    callanalytics("ensemble", "promote", name, "--out", "out", "--force", folder=folder)
    assert in_use() == name
    assert name in callanalytics("ensemble", "list", "--out", "out", folder=folder).stdout
    shown = callanalytics("ensemble", "show", "--out", "out", folder=folder).stdout
    assert "cnn (" in shown
    differing = callanalytics("ensemble", "compare", "shipped", name, "--out", "out", "--json", folder=folder)
    assert any(row[0] == "labels" for row in json.loads(differing.stdout)["cards"])
    callanalytics("ensemble", "rollback", "--out", "out", folder=folder)
    assert in_use() == "shipped"
    unknown = callanalytics("ensemble", "promote", "nothing", "--out", "out", folder=folder, rc=6)
    assert "no ensemble 'nothing'" in unknown.stderr


def test_the_shipped_card_shows_scores_and_limits_and_says_where_its_page_lies(tmp_path):
    shown = callanalytics("ensemble", "show", "shipped", "--out", "out", folder=tmp_path).stdout
    assert re.search(r"UAR \d\d\.\d% on crema-d", shown)
    assert "Not for judging employees" in shown
    page = ("ensemble", "show", "shipped", "--out", "out", "--html", "card.html")
    refused = callanalytics(*page, folder=tmp_path, rc=2)
    assert "docs/model-card.html" in refused.stderr
    assert "unexpected" not in refused.stderr
    assert not (tmp_path / "card.html").exists()


@pytest.mark.usefixtures("impatient")
def test_what_cannot_be_trained_is_said_before_it_starts(tmp_path):
    corpus = write_tiny_corpus(tmp_path / "corpus")
    common = ("train", "--corpus", corpus, *OPTIONS, "--out", "out")
    wrong = callanalytics(*common, "--validation", "crema-d/9999", folder=tmp_path, rc=1)
    assert "crema-d/9999" in wrong.stderr
    nothing = callanalytics("train", "--corpus", tmp_path / "nothing", folder=tmp_path, rc=1)
    assert "no such folder or manifest" in nothing.stderr
    members = callanalytics(*common, "--members", "cnn,rnn", "--dry-run", folder=tmp_path, rc=2)
    assert "rnn: expected each once of cnn, crnn, vit" in members.stderr
    members = callanalytics(*common, "--members", "cnn,cnn-x", "--dry-run", folder=tmp_path, rc=2)
    assert "cnn-x: expected each once" in members.stderr
    dry = callanalytics(*common, "--validation", "crema-d/9999", "--dry-run", folder=tmp_path, rc=1)
    assert "crema-d/9999" in dry.stderr
    twice = callanalytics(*common, "--corpus", corpus, "--dry-run", folder=tmp_path, rc=1)
    assert "--corpus NAME=PATH" in twice.stderr
    with file_lock(tmp_path / "out" / "training" / "train.lock"):
        busy = callanalytics(*common, folder=tmp_path, rc=5)
    assert "another run is at work" in busy.stderr
    labels = callanalytics("train", "--corpus", corpus, "--labels", "angst", folder=tmp_path, rc=2)
    assert "angst" in labels.stderr
