"""Backfill: another ensemble's votes on calls of earlier nights, unseen until it is promoted."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import soundfile
from command_line import run_command

from callanalytics.config import EmotionSettings, EngineSettings, Settings
from callanalytics.errors import LockHeld, UsageError
from callanalytics.workspace import Workspace
from ensemble.inference.ensemble import SHIPPED
from ensemble.model_errors import ModelMissing
from jobs.models.backfill import backfill, render_backfilled
from jobs.models.compare import compare_ensembles
from jobs.night import RunOptions, RunResult
from jobs.night.run import run_night

pytestmark = pytest.mark.usefixtures("analysed_here")

NOW = datetime.now(UTC)
N_CALLS = 3


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stereo calls with voice-like sound on both sides, one with a name that is no UTF-8."""
    folder = tmp_path_factory.mktemp("calls")
    for number, name in enumerate((b"one.wav", b"two.wav", b"thr\xe9e.wav")):
        _call(folder / name.decode("utf-8", "surrogateescape"), seed=number)
    return folder


def _call(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = np.arange(8000 * 16) / 8000
    voice = sum(np.sin(2 * np.pi * (130 + 20 * seed) * k * t) / k for k in range(1, 12))
    sides = [voice * (np.sin(2 * np.pi * 0.1 * t) * sign > 0) for sign in (1, -1)]
    with path.open("wb") as stream:
        sound = 0.05 * np.stack(sides, axis=1) + rng.normal(0, 1e-3, (len(t), 2))
        soundfile.write(stream, sound, 8000, subtype="PCM_16", format="WAV")
    old = (NOW - timedelta(hours=2 + seed)).timestamp()
    os.utime(path, (old, old))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped members with another temperature and without thresholds: another ensemble."""
    folder = tmp_path_factory.mktemp("ensemble") / "other"
    shutil.copytree(SHIPPED, folder)
    card = json.loads((folder / "card.json").read_text())
    card["temperature"] *= 2
    card["thresholds"]["confidence"] = 0.0
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def made(calls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One night of the shipped ensemble."""
    out = tmp_path_factory.mktemp("night") / "out"
    done = _night(Settings(), calls, out)
    assert (done.counts.n_done, done.exit_code) == (N_CALLS, 0)
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "out")


def _night(settings: Settings, calls: Path, out: Path, **options: Any) -> RunResult:
    return run_night(settings, RunOptions(since="2d", inputs=(calls,), out=out, workers=1, **options))


def rows(out: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(out / "callanalytics.duckdb", read_only=True) as reader:
        return reader.execute(sql).fetchall()


def brief(out: Path) -> str:
    """The first page of the report."""
    return (out / "reports" / "index.html").read_text(encoding="utf-8")


VISIBLE = (
    "SELECT call_id, start_s, role::VARCHAR, emotion::VARCHAR, confidence FROM segment_emotions ORDER BY ALL"
)


def test_a_shadow_is_beside_what_is_visible_until_it_is_promoted(out: Path, calls: Path, other: Path) -> None:
    before = rows(out, VISIBLE)
    done = backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    assert (done.n_todo, done.n_done, done.missing, done.failed, done.exit_code) == (
        N_CALLS,
        N_CALLS,
        (),
        (),
        0,
    )
    assert rows(out, VISIBLE) == before
    shadows = f"SELECT count(*) FROM base.analyses WHERE ensemble_id = '{done.ensemble_id}'"
    assert rows(out, shadows) == [(N_CALLS,)]

    ((promoted,),) = rows(out, "SELECT ensemble_id FROM ensembles WHERE promoted")
    compared = compare_ensembles(out / "callanalytics.duckdb", promoted, done.ensemble_id)
    assert compared.n_calls == N_CALLS
    assert compared.unmatched_s == 0.0  # the same segments, by construction
    assert compared.n_segments == len(before) > 0

    # Promoted, the next night shows it: old calls by backfill, without analysing anything again.
    settings = Settings(emotion=EmotionSettings(ensemble=str(other)))
    night = _night(settings, calls, out)
    assert (night.counts.n_done, night.counts.n_skipped) == (0, N_CALLS)
    after = rows(out, VISIBLE)
    assert [row[:3] for row in after] == [row[:3] for row in before]
    assert after != before
    assert rows(out, "SELECT DISTINCT ensemble_id FROM call_summary") == [(done.ensemble_id,)]


def test_what_backfill_stores_is_what_a_night_would_have_found(
    out: Path, calls: Path, other: Path, tmp_path: Path
) -> None:
    backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    settings = Settings(emotion=EmotionSettings(ensemble=str(other)))
    _night(settings, calls, out)
    _night(settings, calls, tmp_path / "fresh")
    assert rows(out, VISIBLE) == rows(tmp_path / "fresh", VISIBLE)
    for view in ("call_measures", "escalations", "predictions", "call_emotions"):
        sql = f"FROM {view} ORDER BY ALL"
        assert rows(out, sql) == rows(tmp_path / "fresh", sql)


def test_a_new_ensemble_in_the_night_hides_old_calls_until_backfill(
    out: Path, other: Path, tmp_path: Path
) -> None:
    settings = Settings(emotion=EmotionSettings(ensemble=str(other)))
    (tmp_path / "no calls").mkdir()
    night = _night(settings, tmp_path / "no calls", out)
    assert night.counts.n_found == 0
    assert rows(out, "SELECT count(*) FROM call_summary") == [(0,)]
    assert rows(out, "SELECT sum(n_other_ensemble) FROM coverage") == [(N_CALLS,)]
    assert "No calls were analysed" in brief(out)
    done = backfill(settings, Workspace(out), None, shadow=False, workers=1)
    assert done.n_done == N_CALLS
    assert rows(out, "SELECT count(*) FROM call_summary") == [(N_CALLS,)]
    assert "No calls were analysed" not in brief(out)


def test_a_shadow_leaves_the_pages_as_they_are(out: Path, other: Path) -> None:
    before = (out / "reports" / "index.html").stat().st_mtime_ns
    backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    assert (out / "reports" / "index.html").stat().st_mtime_ns == before


def test_again_does_nothing_twice(out: Path, other: Path) -> None:
    first = backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    again = backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    assert (first.n_already, again.n_todo, again.n_done, again.n_already) == (0, 0, 0, N_CALLS)


def test_a_clock_that_was_set_back_leaves_no_call_out(out: Path, other: Path) -> None:
    earlier = NOW - timedelta(days=3000)
    done = backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1, now=earlier)
    assert (done.n_todo, done.n_done) == (N_CALLS, N_CALLS)


def test_recordings_that_are_gone_or_others_are_named(
    out: Path, calls: Path, other: Path, tmp_path: Path
) -> None:
    moved = {}
    try:
        for name in ("one.wav", "two.wav"):
            moved[name] = (calls / name).rename(tmp_path / name)
        _call(calls / "two.wav", seed=77)  # another recording under the old name
        done = backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    finally:
        for name, path in moved.items():
            path.replace(calls / name)
    assert (done.n_done, done.exit_code) == (1, 3)
    assert [(call.path, call.reason) for call in done.missing] == [(str(calls / "one.wav"), "missing")]
    assert [(call.path, call.reason) for call in done.failed] == [(str(calls / "two.wav"), "changed")]
    text = render_backfilled(done)
    assert "1 call: recording is gone" in text
    assert "another recording lies here now" in text
    assert rows(out, "SELECT count(*) FROM quarantine") == [(0,)]


@pytest.mark.usefixtures("impatient")
def test_what_cannot_be_meant_is_refused(out: Path, other: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--shadow"):
        backfill(Settings(), Workspace(out), str(other), shadow=False)
    with pytest.raises(UsageError, match="no results here"):
        backfill(Settings(), Workspace(tmp_path / "typo"), None, shadow=True)
    with pytest.raises(ModelMissing):
        backfill(Settings(), Workspace(out), "nobody", shadow=True)
    with Workspace(out).lock(), pytest.raises(LockHeld):
        backfill(Settings(), Workspace(out), str(other), shadow=True)


def test_a_used_time_budget_ends_with_7_and_keeps_what_is_done(out: Path, other: Path) -> None:
    settings = Settings(engine=EngineSettings(time_budget_s=0.001))
    done = backfill(settings, Workspace(out), str(other), shadow=True, workers=1)
    assert (done.exit_code, done.n_done, done.n_todo) == (7, 0, N_CALLS)


def test_while_a_night_is_held_scores_are_kept_and_not_published(out: Path, other: Path) -> None:
    Workspace(out).hold(1, NOW - timedelta(days=1), NOW, ["too few"])
    before = (out / "callanalytics.duckdb").read_bytes()
    arguments = ["backfill", "--ensemble", str(other), "--shadow", "--workers", "1", "--out", str(out)]
    done = run_command(*arguments)
    assert "not published: the gate holds a night back" in done.stderr
    assert (out / "callanalytics.duckdb").read_bytes() == before
    Workspace(out).release()
    again = backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    assert (again.n_already, again.published) == (N_CALLS, True)


def test_the_command_takes_a_window(out: Path, other: Path) -> None:
    arguments = ["backfill", "--ensemble", str(other), "--shadow", "--until", str(date(2020, 1, 1))]
    assert run_command(*arguments, "--out", out, "--json").json()["n_todo"] == 0


def test_recordings_behind_urls_are_scored_and_named_when_gone_or_others(
    other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    monkeypatch.chdir("/")  # fsspec takes what follows local:// from here, in the workers too
    started = NOW - timedelta(hours=5)
    calls, out = tmp_path / "stored", tmp_path / "out"
    calls.mkdir()
    named = f"external-200-493012345678-{started:%Y%m%d-%H%M%S}-{started.timestamp():.0f}.1.wav"
    for number, name in enumerate(("one.wav", "two.wav", named)):
        _call(calls / name, seed=number)
    night = _night(Settings(), Path(f"local:/{calls}"), out)
    assert (night.counts.n_done, night.exit_code) == (N_CALLS, 0)
    seen = [path for (path,) in rows(out, "SELECT path FROM calls")]
    assert not any("493012345678" in path for path in seen), "known, and not shown"

    away = (calls / "one.wav").rename(tmp_path / "one.wav")
    was = (calls / "two.wav").read_bytes()
    _call(calls / "two.wav", seed=77)
    done = backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    assert (done.n_done, done.exit_code) == (1, 3)
    assert [(Path(call.path).name, call.reason) for call in done.missing] == [("one.wav", "missing")]
    assert [(Path(call.path).name, call.reason) for call in done.failed] == [("two.wav", "changed")]

    away.rename(calls / "one.wav")
    (calls / "two.wav").write_bytes(was)
    old = (NOW - timedelta(hours=3)).timestamp()
    os.utime(calls / "two.wav", (old, old))  # a store without tags knows its objects by their time
    again = backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    assert (again.n_done, again.n_already, again.missing, again.failed) == (2, 1, (), ())
