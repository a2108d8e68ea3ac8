"""Changed rules, applied from what is stored: the same as a forced run, and seen where they wait."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_line import callanalytics, messages, run_command
from fixture_calls import fill, plausible_calls
from short_calls import settle, short_calls

from callanalytics.config import FrustrationSettings, RuleSettings, Settings
from callanalytics.config.window import Window
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace
from jobs.maintenance.status import read_status, render_status
from jobs.models.rejudge import rejudge
from jobs.night import RunOptions
from jobs.night.run import run_night
from reports.report_source import open_source

pytestmark = pytest.mark.usefixtures("analysed_here")

N_CALLS = 3
SOME_TALK = RuleSettings(
    name="talks", measure="talk_share", at_least=0.05, weight=1.0, reason="caller talks {value:.0%}, {at}"
)
SILENT = RuleSettings(
    name="silent", measure="longest_silence_s", role="any", at_least=0.1, reason="{value:.1f} s at {at}"
)
NEVER = RuleSettings(name="never", measure="talk_s", at_least=1e6, reason="{value}")
TALK = Settings(rule=(SOME_TALK, SILENT), frustration=FrustrationSettings(smoothing_s=5.0, baseline_s=4.0))

# What judging makes, without what says when and in which run.
_JUDGED = {
    "analyses": """SELECT call_id, frustration_score, frustration_voice, frustration_peak_s, flagged, reasons,
        frustration_at_s, frustration, rules_id, neutral_share FROM base.analyses ORDER BY call_id""",
    "escalations": """SELECT call_id, e.* EXCLUDE analysis_key FROM base.escalations e
        JOIN base.analyses USING (analysis_key) ORDER BY ALL""",
    "measures": """SELECT call_id, m.* EXCLUDE analysis_key FROM base.call_measures m
        JOIN base.analyses USING (analysis_key) ORDER BY ALL""",
    "votes": "SELECT call_id, segment, emotion, confidence FROM segment_emotions ORDER BY ALL",
}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = short_calls(tmp_path_factory.mktemp("in") / "calls", N_CALLS)
    for path in sorted(folder.glob("*.wav"))[1:]:  # of the first one nobody says who is who
        path.with_suffix(".json").write_text('{"agent_channel": "right"}')
    settle(folder)
    return folder


@pytest.fixture(scope="module")
def made(calls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night that no rule flags."""
    out = tmp_path_factory.mktemp("night") / "out"
    night(Settings(rule=(NEVER,)), calls, out)
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "out")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls of eight days, published before rules were noted."""
    out = tmp_path_factory.mktemp("history") / "out"
    with open_work(Workspace(out)) as store:
        fill(store, plausible_calls(8))
        publish(store)
    return out


def night(settings: Settings, calls: Path, out: Path, *, force: bool = False) -> None:
    result = run_night(settings, RunOptions(since="2d", inputs=(calls,), out=out, workers=1, force=force))
    assert result.counts.n_done == N_CALLS


def rows(out: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(out / "callanalytics.duckdb", read_only=True) as reader:
        return reader.execute(sql).fetchall()


def judged(out: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {name: rows(out, sql) for name, sql in _JUDGED.items()}


def clips(out: Path) -> dict[str, bytes]:
    folder = Workspace(out).clips
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("changed", [TALK, Settings(rule=(SILENT,)), Settings()])
def test_rejudging_equals_a_forced_run(out: Path, calls: Path, tmp_path: Path, changed: Settings) -> None:
    forced = shutil.copytree(out, tmp_path / "forced")
    before = judged(out)
    done = rejudge(changed, Workspace(out), now=datetime(2020, 1, 1, tzinfo=UTC))  # a clock that was set back
    night(changed, calls, forced, force=True)
    assert judged(out) == judged(forced) != before
    assert clips(out) == clips(forced)
    n_flagged = sum(flagged for (flagged,) in rows(out, "SELECT flagged FROM analyses"))
    assert (len(done.came), len(done.went), done.n_calls) == (n_flagged, 0, N_CALLS)
    assert done.published


def test_what_a_gate_holds_back_is_not_called_published(out: Path) -> None:
    workspace = Workspace(out)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    workspace.hold(1, at, at, ("60% of the recordings failed",))
    assert not rejudge(TALK, workspace).published
    assert not rejudge(TALK, workspace).published, "also where nothing is left to judge"


def test_flags_come_and_go_and_reasons_are_named(out: Path) -> None:
    came = rejudge(TALK, Workspace(out))
    assert len(came.came) == N_CALLS
    assert all(call.flagged and call.reasons and not call.reasons_before for call in came.came)
    softer = Settings(rule=(SILENT.model_copy(update={"reason": "quiet"}),), frustration=TALK.frustration)
    reworded = rejudge(softer, Workspace(out))
    assert len(reworded.reworded) == N_CALLS
    assert not reworded.came + reworded.went
    went = rejudge(Settings(rule=(NEVER,)), Workspace(out))
    assert {call.call_id for call in went.went} == {call.call_id for call in came.came}
    assert rows(out, "SELECT count(*) FROM escalations") == [(0,)]


def test_pages_and_clips_follow(out: Path) -> None:
    brief = Workspace(out).report_index
    before = brief.read_text()
    assert not clips(out)
    rejudge(TALK, Workspace(out))
    assert clips(out)
    assert brief.read_text() != before
    assert "s at 0:" in brief.read_text()


def test_a_recording_that_is_gone_is_judged_and_counted(calls: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(calls, tmp_path / "in")
    out = tmp_path / "elsewhere"
    night(Settings(rule=(NEVER,)), moved, out)
    shutil.rmtree(moved)
    done = rejudge(TALK, Workspace(out))
    assert (len(done.came), done.n_without_clips) == (N_CALLS, N_CALLS)
    assert rows(out, "SELECT count(*) FROM evidence WHERE clip IS NOT NULL") == [(0,)]


def test_a_dry_run_says_the_same_and_writes_nothing(out: Path) -> None:
    before = judged(out), clips(out)
    would = rejudge(TALK, Workspace(out), dry_run=True)
    assert (judged(out), clips(out)) == before
    assert not would.published
    done = rejudge(TALK, Workspace(out))
    assert would.came == done.came


def test_again_is_no_change_and_a_window_holds(history: Path, tmp_path: Path) -> None:
    out = shutil.copytree(history, tmp_path / "out")
    late = rejudge(Settings(), Workspace(out), since="2025-04-01")
    assert late.n_calls == 6
    days = rows(out, "SELECT DISTINCT day FROM call_summary WHERE rules_id IS NOT NULL")
    assert days == [(date(2025, 4, 1),)]
    everything = rejudge(Settings(), Workspace(out))
    assert (everything.n_already, everything.n_calls) == (6, 42)
    again = rejudge(Settings(), Workspace(out))
    assert (again.n_calls, again.n_already, again.came, again.went) == (0, 48, (), ())


def test_what_stored_measures_decide_is_what_judging_everything_decides(
    history: Path, tmp_path: Path
) -> None:
    frustrated, *others = Settings().rule
    lower = frustrated.model_copy(update={"at_least": 0.1})
    steps = [
        Settings(rule=(lower, *others[:2])),
        Settings(rule=(others[1], lower, others[0]), frustration=FrustrationSettings(flag_weight=0.5)),
    ]
    quick, whole = (Path(shutil.copytree(history, tmp_path / name)) for name in ("quick", "whole"))
    rejudge(Settings(), Workspace(quick))
    n_looked_at = []
    for changed in steps:
        totals: list[int] = []
        done = rejudge(changed, Workspace(quick), on_progress=lambda _, __, n, ___, t=totals: t.append(n))
        n_looked_at.append(totals[0])
        with duckdb.connect(Workspace(whole).work_database) as database:
            database.execute("UPDATE base.analyses SET rules_id = NULL")
        rejudge(changed, Workspace(whole))
        assert done.n_calls == 48
        assert judged(quick) == judged(whole)
    assert max(n_looked_at) < 30, "the rest has met none of these rules before or now"


def test_votes_keep_the_weight_of_neutral_speech_that_they_were_cast_with(out: Path) -> None:
    """Taking another weight out of them than was put in would make another curve."""
    before = judged(out)
    emotion = Settings().emotion.model_copy(update={"neutral_share": 0.5})
    rejudge(Settings(rule=(SILENT,), emotion=emotion), Workspace(out))
    curves = [row[6:8] for row in judged(out)["analyses"]]
    assert curves == [row[6:8] for row in before["analyses"]]
    assert any(curve for _, curve in curves)


def test_status_and_pages_say_where_rules_changed(out: Path) -> None:
    workspace, made_by = Workspace(out), Settings(rule=(NEVER,))
    assert read_status(workspace, made_by.rule_set.rules_id)["other_rules"] is None
    text = render_status(read_status(workspace, TALK.rule_set.rules_id), UTC)
    assert f"The rules have changed: {N_CALLS} calls were judged by other rules" in text
    assert "rejudge --dry-run" in text
    for settings, n_calls in ((TALK, N_CALLS), (made_by, 0)):
        with source_of(out, settings) as source:
            other = source.other_rules()
        assert (other.n_calls if other else 0) == n_calls


def test_calls_judged_before_rules_were_noted_are_not_called_changed(history: Path) -> None:
    with source_of(history, Settings()) as source:
        other = source.other_rules()
    assert other is not None
    assert other.n_calls == other.n_unknown == 48
    assert "before rules were noted" in other.text


def source_of(out: Path, settings: Settings) -> Any:
    window = Window(datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    database = Workspace(out).database
    return open_source(database, settings, window, window.until, clips_dir=None, clips_href="clips")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "config.toml"
    file.write_text(
        '[[rule]]\nname = "silent"\nmeasure = "longest_silence_s"\nrole = "any"\nat_least = 0.1\n'
        'reason = "{value:.1f} s of silence"\n'
    )
    return file


def test_on_the_command_line(out: Path, config: Path) -> None:
    words = ["rejudge", "--out", out, "--config", config]
    shown = messages(*words, "--dry-run")
    assert "would be judged" in shown
    assert "s of silence" in shown
    assert "Nothing was written" in shown
    assert "rejudge" in callanalytics("status", "--out", out, "--config", config)
    done = json.loads(run_command(*words, "--json").stdout)
    assert done["came"]
    assert {call["flagged"] for call in done["came"]} == {True}
    assert "rejudge" not in callanalytics("status", "--out", out, "--config", config)


def test_the_rules_of_a_call_can_be_read(out: Path) -> None:
    rejudge(TALK, Workspace(out))
    ((n_calls, text),) = rows(out, "SELECT n_calls, rules FROM rule_sets")
    assert n_calls == N_CALLS
    assert [rule["name"] for rule in json.loads(text)["rule"]] == ["talks", "silent"]
    assert json.loads(text)["frustration"]["smoothing_s"] == 5.0
