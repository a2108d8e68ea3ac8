"""Retraining on a made-up corpus: promotes what is better, keeps what is not, goes on after a kill."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner
from command_line import callanalytics, run_command
from killer import KillAt
from short_calls import call
from tiny_corpus import write_tiny_manifest

pytest.importorskip("torch")

from callanalytics.config import RetrainSettings, Settings, settings_from
from callanalytics.errors import LockHeld, StoreError, UsageError
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace, file_lock, write_whole
from ensemble.corpora import read_corpus
from ensemble.evaluation.paired import Difference
from ensemble.inference.ensemble import SHIPPED
from ensemble.inference.registry import Registry
from ensemble.model_errors import CorpusError
from ensemble.training import Progress, TrainSettings
from jobs.active_ensemble import in_use, registry
from jobs.cli.main import cli
from jobs.models.retrain import decide, read_history, retrain
from jobs.models.splits import require_corpora, split_speakers

TRAINING = TrainSettings(
    labels=("anger", "sad"),
    members=("cnn",),
    n_epochs=4,
    batch=8,
    n_augmented=1,
    n_coded=0,
    n_threads=1,
    warmup_epochs=0.2,
    ema=0.5,
    learning_rate=3e-3,
)
PLAN = RetrainSettings()


def write_corpus(folder: Path, *, shuffled: bool = False) -> Path:
    """Sixteen voices with a split; anger is fast, bright and high, sadness slow and dark."""
    rng = np.random.default_rng(2)
    folder.mkdir(parents=True)
    t, rows = np.arange(6400) / 8000, []
    for speaker in range(16):
        for take in range(4):
            for emotion, pitch, tilt, rhythm in (("anger", 240, 0.5, 7), ("sad", 110, 2.0, 2)):
                hz = pitch * (1 + 0.08 * rng.standard_normal()) * (0.8 + 0.03 * speaker)
                wave = sum(np.sin(2 * np.pi * hz * k * t + take) / k**tilt for k in range(1, 9))
                wave = 0.1 * wave * (1 + np.sin(2 * np.pi * rhythm * t)) + 0.002 * rng.standard_normal(t.size)
                name = f"{speaker}-{take}-{emotion}.wav"
                sf.write(folder / name, np.clip(wave, -1, 1), 8000)
                split = "test" if speaker < 6 else "validation" if speaker < 8 else "train"
                label = (
                    emotion if not shuffled or split != "train" else ("anger", "sad")[int(rng.integers(2))]
                )
                rows.append((name, label, f"v{speaker}", split))
    with (folder / "made.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "emotion", "speaker", "split"), *rows])
    return folder / "made.csv"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "made")


def run(out: Path, manifest: Path, **changes: object):
    values = {"plan": PLAN, **changes}
    return retrain(Settings(folder=out.parent), Workspace(out), [read_corpus(manifest)], TRAINING, **values)


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory, manifest: Path):
    out, lines = tmp_path_factory.mktemp("first") / "out", []
    return out, run(out, manifest, say=lines.append), lines


def test_what_is_clearly_better_is_promoted_and_remembered(retrained) -> None:
    out, done, lines = retrained
    (test,) = done.tests
    assert test.low > 0
    assert test.n_speakers == 6
    assert done.promoted, done.reason
    assert in_use(Settings(), Workspace(out)).name == done.candidate_id
    assert "difference" in registry(Workspace(out)).history()[-1].note
    assert Path(done.card).is_file()
    (row,) = read_history(Workspace(out))
    assert row["candidate_id"] == done.candidate_id
    assert "8 speakers train, 2 validate, 6 test" in lines[0]


def test_rolled_back_in_one_step(retrained, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(retrained[0], out)
    assert registry(Workspace(out)).rollback() == SHIPPED


def test_nothing_equal_is_promoted_over_itself(retrained, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(retrained[0], out)
    again = run(out, manifest)
    assert not again.promoted
    assert again.reason.startswith("kept: not better")
    assert in_use(Settings(), Workspace(out)).name == retrained[1].candidate_id
    assert len(read_history(Workspace(out))) == 2


def test_the_same_data_again_trains_nothing(retrained, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(retrained[0], out)
    registry(Workspace(out)).rollback()
    lines: list[str] = []
    epochs: list[object] = []
    again = run(out, manifest, say=lines.append, on_news=epochs.append)
    assert again == retrained[1]
    assert lines[0].startswith("Nothing new since")
    assert not epochs
    stricter = run(out, manifest, plan=RetrainSettings(margin=1.0), on_news=epochs.append)
    assert not epochs, "another margin decides anew without training anew"
    assert not stricter.promoted


def test_in_use_is_said_only_of_what_is(
    retrained, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(retrained[0], out)
    name = retrained[1].candidate_id
    monkeypatch.chdir(tmp_path)
    # The same retraining as before; the command has no options for one as small.
    monkeypatch.setattr(
        "jobs.models.retrain.retrain", lambda *given, say, **more: run(out, manifest, say=say)
    )
    words = ("retrain", "--corpus", str(manifest), "--labels", "anger,sad", "--out", str(out))

    def said() -> tuple[str, bool]:
        shown, as_json = (CliRunner().invoke(cli, [*words, *more]) for more in ((), ("--json",)))
        assert (shown.exit_code, as_json.exit_code) == (0, 0), shown.output
        printed = json.loads(as_json.stdout)
        assert printed["promoted"], "what was decided"
        return shown.stderr, printed["in_use"]

    registry(Workspace(out)).rollback()
    text, in_use_now = said()
    assert "Nothing new since" in text
    assert f"was promoted then and is not in use now. Use it: callanalytics ensemble promote {name}" in text
    assert "In use from" not in text
    assert "rollback" not in text
    assert not in_use_now
    shutil.rmtree(out / "ensembles" / name)
    text, in_use_now = said()
    assert "was promoted then; its folder is gone since" in text
    assert "rollback" not in text
    assert not in_use_now
    for decision in (out / "training").glob("retrain-*/decision.json"):
        decision.unlink()
    text = CliRunner().invoke(cli, words).stderr
    assert f"{name} is in use from the next run on" in text
    assert "backfill --ensemble" in text


def test_torn_notes_are_named_with_what_to_do(retrained, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(retrained[0], out)
    history = out / "training" / "history.jsonl"
    whole = history.read_text()
    history.write_text(whole + whole[:40])  # by a disk that was full
    assert len(read_history(Workspace(out))) == 1
    for torn in ("3\n", '["at", "candidate_id", "words"]\n', '{"at": "2026"}\n', "\0\n"):
        history.write_text(whole + torn)
        with pytest.raises(StoreError, match=r"history\.jsonl, line 2: .*Remove that line"):
            read_history(Workspace(out))
    history.write_text(whole)
    registry(Workspace(out)).rollback()
    (decision,) = (out / "training").glob("retrain-*/decision.json")
    whole = decision.read_text()
    for torn in (whole[:40], "", "[]", '{"margin": 0.01}', whole.replace('"tests": [', '"tests": [3, ')):
        decision.write_text(torn)
        with pytest.raises(StoreError, match=r"decision\.json: .*Remove the file"):
            run(out, manifest)
    decision.unlink()
    epochs: list[object] = []
    assert run(out, manifest, on_news=epochs.append).promoted
    assert not epochs, "decided anew, not trained anew"


class KilledError(Exception):
    pass


def test_goes_on_after_a_kill(retrained, manifest: Path, tmp_path: Path) -> None:
    def kill(progress) -> None:
        if isinstance(progress, Progress) and progress.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        run(tmp_path / "out", manifest, on_news=kill)
    assert in_use(Settings(), Workspace(tmp_path / "out")) == SHIPPED
    epochs: list[int] = []
    done = run(
        tmp_path / "out",
        manifest,
        on_news=lambda p: epochs.append(p.epoch if isinstance(p, Progress) else p.n_done),
    )
    assert epochs == [3, 4]
    assert done.candidate_id == retrained[1].candidate_id, "as if nothing had happened"


@pytest.mark.parametrize("point", ["add", "decide", "promote", "note"])
def test_a_kill_while_it_decides_is_made_good_by_the_next(
    retrained, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    out, first = shutil.copytree(retrained[0], tmp_path / "out"), retrained[1]
    (decision,) = (out / "training").glob("retrain-*/decision.json")
    for made in (decision, out / "training" / "history.jsonl"):
        made.unlink()
    shutil.rmtree(out / "ensembles")

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    def written(path: Path, *rest: object, **more: object) -> None:
        if path.name == {"decide": "decision.json", "note": "history.jsonl"}.get(point):
            raise KilledError
        write_whole(path, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr("jobs.models.retrain.write_whole", written)
        if point in {"add", "promote"}:
            patched.setattr(Registry, point, killed)
        with pytest.raises(KilledError):
            run(out, manifest)
    lines: list[str] = []
    epochs: list[object] = []
    done = run(out, manifest, say=lines.append, on_news=epochs.append)
    assert (done.candidate_id, done.promoted, epochs) == (first.candidate_id, True, [])
    had_decided = point in {"promote", "note"}
    assert lines[0 if had_decided else 1].startswith("Finishes the" if had_decided else "Trained before")
    assert [row["candidate_id"] for row in read_history(Workspace(out))] == [first.candidate_id]
    assert [p.ensemble_id for p in registry(Workspace(out)).history()] == [first.candidate_id]


HEADS = ("--heads", "--epochs", "1", "--margin", "1.0", "--threads", "1")
WHOLE = ("--no-heads", "--epochs", "2", "--members", "cnn", "--labels", "anger,sad", "--threads", "1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "kill", "said"),
    [
        (HEADS, KillAt("os.rename", "pooled-clean"), "interrupted"),
        (HEADS, KillAt("open", "model-card.html"), "interrupted"),
        (HEADS, KillAt("open", "/trained"), "interrupted"),
        (HEADS, KillAt("os.rename", "arriving"), "Trained before"),
        (HEADS, KillAt("os.rename", "history.jsonl"), "Finishes the retraining"),
        (WHOLE, KillAt("os.rename", "state.safetensors", 2), "interrupted"),
        (WHOLE, KillAt("open", r"retrain-.*/ensemble/card\.json"), "interrupted"),
        (WHOLE, KillAt("os.rename", "decision.json"), "Trained before"),
    ],
    ids=str,
)
def test_a_killed_command_goes_on_and_says_so(
    tmp_path: Path, options: tuple[str, ...], kill: KillAt, said: str
) -> None:
    made = write_tiny_manifest(tmp_path / "corpus")
    command = ("retrain", "--corpus", made, *options, "--out", tmp_path / "out")
    done = call(*command, env=kill.environment(tmp_path / "killer"), expect=None)
    assert done.returncode == -signal.SIGKILL, f"{kill} never came: {done.returncode}\n{done.stderr}"
    assert said in run_command(*command).stderr
    workspace = Workspace(tmp_path / "out")
    (row,) = read_history(workspace)
    assert registry(workspace).ids() == (row["candidate_id"],)
    assert "Nothing new since" in run_command(*command).stderr or row["promoted"]


@pytest.mark.usefixtures("impatient")
def test_one_at_a_time_and_not_where_the_ensemble_is_fixed(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "training").mkdir(parents=True)
    with file_lock(tmp_path / "out" / "training" / "retrain.lock"), pytest.raises(LockHeld):
        run(tmp_path / "out", manifest)
    fixed = settings_from({"emotion": {"ensemble": "mine"}}, source="config.toml", folder=tmp_path)
    with pytest.raises(UsageError, match="fixes the ensemble"):
        retrain(fixed, Workspace(tmp_path / "out"), [read_corpus(manifest)], TRAINING, plan=PLAN)


@pytest.mark.usefixtures("impatient")
def test_a_second_retraining_leaves_the_clips_of_the_first_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    with open_work(workspace) as store:
        publish(store)
    clip = workspace.training.reviewed_clips / "clip.wav"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"read by the first")
    command = ("retrain", "--reviewed", "--out", workspace)
    with file_lock(workspace.training.retrain_lock_file):
        assert "--consent" in run_command(*command, expect=2).stderr
        assert "retrain.lock" in run_command(*command, "--consent", expect=5).stderr
    assert clip.exists()


def test_reviewed_calls_without_results_make_no_folder(tmp_path: Path) -> None:
    plan = RetrainSettings(reviewed=True, consent=True)
    with pytest.raises(UsageError):
        retrain(Settings(folder=tmp_path), Workspace(tmp_path / "out"), [], TRAINING, plan=plan)
    assert not (tmp_path / "out").exists()


def test_the_history_names_no_call(
    retrained, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It outlives every purge. The ids are printed while it works, and by `ensemble compare`."""
    out = tmp_path / "out"
    shutil.copytree(retrained[0], out)
    registry(Workspace(out)).rollback()
    (decision,) = (out / "training").glob("retrain-*/decision.json")
    decision.unlink()
    change = SimpleNamespace(call_id="0123456789abcdef", started_local="", reasons=())
    found = SimpleNamespace(
        n_calls=9, n_flagged_a=2, n_flagged_b=2, newly_flagged=(change,), no_longer_flagged=()
    )
    monkeypatch.setattr("jobs.models.backfill.backfill", lambda *_, **__: SimpleNamespace(published=True))
    monkeypatch.setattr("jobs.models.compare.compare_ensembles", lambda *_: found)
    (out / "callanalytics.duckdb").touch()
    lines: list[str] = []
    done = run(out, manifest, say=lines.append)
    assert change.call_id in "".join(lines)
    assert done.shadow["n_newly_flagged"] == 1
    assert read_history(Workspace(out))[-1]["shadow"] == done.shadow
    assert change.call_id not in (out / "training" / "history.jsonl").read_text()


def difference(name: str, low: float, middle: float, high: float, n_speakers: int = 20) -> Difference:
    return Difference(name, 0.5, 0.5 + middle, middle, low, high, 100, n_speakers)


def test_the_decision() -> None:
    own, corpora = difference("own", 0.02, 0.05, 0.08), difference("corpora", -0.02, 0.0, 0.02)
    assert decide(PLAN.margin, [own, corpora])[0]
    assert not decide(PLAN.margin, [difference("own", -0.001, 0.05, 0.1)])[0], "the interval covers zero"
    assert not decide(PLAN.margin, [difference("own", 0.001, 0.005, 0.01)])[0], "less than the margin"
    worse = difference("corpora", -0.06, -0.04, -0.02)
    promoted, words = decide(PLAN.margin, [own, worse])
    assert not promoted
    assert "clearly worse on corpora" in words
    few = difference("own", 0.1, 0.2, 0.3, n_speakers=3)
    assert not decide(PLAN.margin, [few])[0], "three speakers prove nothing"
    assert decide(PLAN.margin, [few, own])[0], "then the other test decides"


def test_no_speaker_is_on_two_sides(manifest: Path) -> None:
    corpus = read_corpus(manifest)
    split = split_speakers([corpus], ("anger", "sad"))
    sides = (split.training_speakers, split.validation, split.test_speakers)
    assert [len(side) for side in sides] == [8, 2, 6]
    assert frozenset().union(*sides) == {c.speaker for c in corpus.clips}, "16 in all: none twice"
    with pytest.raises(CorpusError):
        split_speakers([corpus], ("fear",))


def test_nothing_to_train_on_and_no_consent_are_said(tmp_path: Path, manifest: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(UsageError, match="Nothing to train on"):
        require_corpora(workspace, [], PLAN)
    with pytest.raises(UsageError, match="--consent"):
        require_corpora(workspace, [], RetrainSettings(reviewed=True))
    corpus = read_corpus(manifest)
    with pytest.raises(UsageError, match="NAME=PATH"):
        require_corpora(workspace, [corpus, corpus], PLAN)


def test_the_command(manifest: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    shutil.copytree(manifest.parent, tmp_path / "made")
    config.write_text('[retrain]\ncorpora = ["made/made.csv"]\npreset = "quick"\n')
    command = ["retrain", "--config", config, "--out", tmp_path / "out"]
    options = ["--epochs", "1", "--members", "cnn", "--labels", "anger,sad", "--threads", "1", "--json"]
    printed = run_command(*command, *options).json()
    assert {"promoted", "in_use", "words", "tests", "shadow"} <= set(printed)
    assert printed["candidate_id"] in callanalytics(*command, "--history")
