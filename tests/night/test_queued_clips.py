"""Contrast clips beside the report: of calls to review only, and gone with their calls and what they say."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command_line import callanalytics, run_json
from fixture_calls import LAST_DAY, ZONE, plausible_calls
from night_calls import WINDOW
from short_calls import rows, short_calls

from callanalytics.analysis.contrast import N_NEAR, is_control
from callanalytics.audio.clips import CONTRAST_NAMES
from callanalytics.config import Settings, TimeSettings
from callanalytics.config.window import Window
from callanalytics.store import open_work
from callanalytics.store.remove import Selection
from callanalytics.workspace import Workspace, make_private_dir, write_whole
from jobs.maintenance.purge import purge, selection_of
from jobs.publishing import keep_nearest
from jobs.reviews.relabel import relabel

pytestmark = pytest.mark.usefixtures("analysed_here")

SETTINGS = Settings(time=TimeSettings(zone=ZONE))


def contrasts(out: Path) -> set[str]:
    """Calls that have a contrast clip, which has its list beside it."""
    found = {path.parent.name for path in out.rglob("contrast.mp3")}
    assert found == {path.parent.name for path in out.rglob("contrast.json")}
    return found


def test_a_night_makes_them_for_flagged_near_and_control_calls(night: tuple[Path, dict[str, Any]]) -> None:
    out = night[0]
    flagged = {
        call_id for (call_id,) in rows(out / "callanalytics.duckdb", "SELECT call_id FROM frustrated_callers")
    }
    assert len(flagged) >= 2
    found = contrasts(out)
    assert flagged <= found
    below = {call_id for call_id in found - flagged if not is_control(call_id)}
    assert len(below) <= N_NEAR
    for call_id in flagged:
        parts = json.loads((out / "reports" / "clips" / call_id / "contrast.json").read_text())
        assert 10.0 < parts["duration_s"] < 27.0
        assert parts["calm"], "the caller's own calm is heard"
        assert 1 <= len(parts["moments"]) <= 3
        assert (out / "reports" / "clips" / call_id / "contrast.mp3").stat().st_size < 100_000


def test_a_redacted_report_has_none(night: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = shutil.copytree(night[0], tmp_path / "out")
    callanalytics("report", *WINDOW, "--out", out, "--redact")
    redacted = Workspace(out).redacted_reports
    assert list(redacted.rglob("*.html"))
    assert contrasts(redacted) == set()


def test_without_clips_there_are_none(tmp_path: Path) -> None:
    calls = short_calls(tmp_path / "calls", 1)
    config = tmp_path / "config.toml"
    rule = '[[rule]]\nname = "any"\nmeasure = "talk_share"\nat_least = 0.0\nreason = "speaks"\n'
    for n_clips, expected in ((0, 0), (3, 1)):
        config.write_text(f"[report]\nmax_clips_per_call = {n_clips}\n{rule}")
        out = tmp_path / f"out-{n_clips}"
        run_json("--input", calls, "--out", out, "--config", config, "--since", "2020-01-01")
        assert len(rows(out / "callanalytics.duckdb", "FROM frustrated_callers")) == 1
        assert len(contrasts(out)) == expected


@pytest.fixture
def out(plausible_out: Path, tmp_path: Path) -> Path:
    """A copy of the published calls, each with a contrast clip."""
    copied = shutil.copytree(plausible_out, tmp_path / "out")
    for call in plausible_calls():
        folder = Workspace(copied).clips_of(call.recording.call_id)
        make_private_dir(folder)
        for name in CONTRAST_NAMES:
            write_whole(folder / name, b"sound")
    return copied


def test_of_the_calls_below_the_rule_the_nearest_keep_theirs(out: Path) -> None:
    calls = plausible_calls()
    unflagged = [c for c in calls if not c.assessment.flagged and not is_control(c.recording.call_id)]
    assert len(unflagged) > 3 * N_NEAR
    nearest = sorted(unflagged, key=lambda c: c.assessment.curve.score or 0.0, reverse=True)[:N_NEAR]
    with open_work(Workspace(out)) as store:
        keep_nearest(store, Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)))
    rest = {c.recording.call_id for c in unflagged} - {c.recording.call_id for c in nearest}
    assert contrasts(out) == {c.recording.call_id for c in calls} - rest
    assert not any(Workspace(out).clips_of(call_id).exists() for call_id in rest)


def test_calls_outside_the_window_keep_theirs(out: Path) -> None:
    with open_work(Workspace(out)) as store:
        keep_nearest(store, Window(datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)))
    assert len(contrasts(out)) == len(plausible_calls())


@pytest.mark.parametrize("audio_only", [False, True])
def test_a_purge_takes_them(out: Path, audio_only: bool) -> None:
    now = datetime.combine(LAST_DAY, datetime.min.time(), tzinfo=UTC)
    selection: Selection = selection_of(SETTINGS, Workspace(out), older_than="5d", now=now)
    done = purge(SETTINGS, Workspace(out), selection, audio_only=audio_only, now=now)
    old = {c.recording.call_id for c in plausible_calls() if (now - c.facts.started_at).days >= 6}
    assert len(old) > 20
    assert contrasts(out).isdisjoint(old)
    assert contrasts(out)
    assert done.n_clips >= 2 * len(old)


def test_exchanged_sides_have_none_until_the_next_night(out: Path) -> None:
    call_id = next(c.recording.call_id for c in plausible_calls() if c.assessment.flagged)
    relabel(SETTINGS, Workspace(out), call_id)
    assert contrasts(out) == {c.recording.call_id for c in plausible_calls()} - {call_id}
