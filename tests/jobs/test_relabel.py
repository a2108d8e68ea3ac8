"""Exchanged sides: they stay whichever ensemble is visible, and the pages stay those of the last run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from short_calls import settle, short_calls

from callanalytics.config import EmotionSettings, Settings
from callanalytics.store import open_work, publish
from callanalytics.store.reader import read_analysis
from callanalytics.workspace import Workspace
from ensemble.inference.ensemble import SHIPPED
from jobs.models.backfill import backfill
from jobs.night import RunOptions, RunResult
from jobs.night.run import run_night
from jobs.reviews.relabel import relabel

pytestmark = pytest.mark.usefixtures("analysed_here")

N_CALLS = 2


def _using(ensemble: Path) -> Settings:
    return Settings(emotion=EmotionSettings(ensemble=str(ensemble)))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls whose sides are known: the recorder says so beside them."""
    folder = short_calls(tmp_path_factory.mktemp("in") / "calls", N_CALLS)
    for path in sorted(folder.glob("*.wav")):
        path.with_suffix(".json").write_text('{"agent_channel": "right"}')
    settle(folder)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped members with another temperature: another ensemble."""
    folder = tmp_path_factory.mktemp("ensemble") / "other"
    shutil.copytree(SHIPPED, folder)
    card = json.loads((folder / "card.json").read_text())
    card["temperature"] *= 2
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def made(calls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One night whose sides are known."""
    out = tmp_path_factory.mktemp("night") / "out"
    assert _night(Settings(), calls, out).counts.n_done == N_CALLS
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "out")


def _night(settings: Settings, calls: Path, out: Path, *, force: bool = False) -> RunResult:
    options = RunOptions(since="2d", inputs=(calls,), out=out, workers=1, force=force)
    result = run_night(settings, options)
    # A run ends early, without an error, when somebody ends the tests with a signal.
    assert result.exit_code == 0, f"exit {result.exit_code}: {result.counts}"
    return result


def rows(out: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(out / "callanalytics.duckdb", read_only=True) as reader:
        return reader.execute(sql).fetchall()


def _sides(out: Path, call_id: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """What people see of who says what in a call, and what is kept as corrected."""
    seen = f"SELECT start_s, role::VARCHAR FROM segments WHERE call_id = '{call_id}' ORDER BY ALL"
    kept = f"SELECT swap_roles FROM corrections WHERE call_id = '{call_id}'"
    return rows(out, seen), rows(out, kept)


def _other_way(sides: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    other = {"agent": "caller", "caller": "agent"}
    return sorted((start_s, other.get(role, role)) for start_s, role in sides)


def _one_call(out: Path) -> str:
    ((call_id,),) = rows(out, "SELECT min(call_id) FROM segments WHERE role = 'agent'")
    return str(call_id)


def _put_back(out: Path, ensemble_id: str, call_id: str) -> Callable[[], None]:
    """A stored analysis as it is now, to be put back later: an earlier version left it as it was."""
    with open_work(Workspace(out)) as store:
        ((key, run_id),) = store.rows(
            "SELECT analysis_key, run_id FROM base.analyses WHERE ensemble_id = ? AND call_id = ?",
            [ensemble_id, call_id],
        )
        call = read_analysis(store, key)

    def put_back() -> None:
        with open_work(Workspace(out)) as store:
            store.write([call], run_id)
            publish(store)

    return put_back


def test_exchanged_sides_stay_when_a_shadow_becomes_visible(out: Path, calls: Path, other: Path) -> None:
    call_id = _one_call(out)
    before, _ = _sides(out, call_id)
    backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    relabel(Settings(), Workspace(out), call_id)
    assert _sides(out, call_id) == (_other_way(before), [(True,)])
    settings = _using(other)
    _night(settings, calls, out)
    assert _sides(out, call_id) == (_other_way(before), [(True,)])
    _night(settings, calls, out, force=True)
    assert _sides(out, call_id) == (_other_way(before), [(True,)])
    relabel(settings, Workspace(out), call_id)  # taken back, for every ensemble
    assert _sides(out, call_id) == (before, [(False,)])
    _night(Settings(), calls, out)
    assert _sides(out, call_id) == (before, [(False,)])


def test_exchanged_sides_stay_when_the_earlier_ensemble_is_used_again(
    out: Path, calls: Path, other: Path
) -> None:
    call_id = _one_call(out)
    before, _ = _sides(out, call_id)
    settings = _using(other)
    assert _night(settings, calls, out).counts.n_done == N_CALLS
    relabel(settings, Workspace(out), call_id)
    _night(Settings(), calls, out)
    assert _sides(out, call_id) == (_other_way(before), [(True,)])


@pytest.mark.slow
def test_a_correction_that_an_earlier_version_lost_is_kept_when_it_is_made_again(
    out: Path, calls: Path, other: Path
) -> None:
    call_id = _one_call(out)
    before, _ = _sides(out, call_id)
    shadow = backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    put_back = _put_back(out, shadow.ensemble_id, call_id)
    relabel(Settings(), Workspace(out), call_id)
    put_back()
    settings = _using(other)
    _night(settings, calls, out)
    assert _sides(out, call_id) == (before, [(True,)])  # as it was left: nothing but this test's own doing
    relabel(settings, Workspace(out), call_id)
    assert _sides(out, call_id) == (_other_way(before), [(True,)])
    for ensemble in (settings, Settings()):
        _night(ensemble, calls, out, force=True)
        assert _sides(out, call_id) == (_other_way(before), [(True,)])


def test_another_ensemble_scores_the_sides_as_corrected(out: Path, calls: Path, other: Path) -> None:
    call_id = _one_call(out)
    before, _ = _sides(out, call_id)
    ((first,),) = rows(out, "SELECT ensemble_id FROM ensembles WHERE promoted")
    put_back = _put_back(out, first, call_id)
    relabel(Settings(), Workspace(out), call_id)
    put_back()  # what a backfill begins from is not as corrected
    backfill(Settings(), Workspace(out), str(other), shadow=True, workers=1)
    _night(_using(other), calls, out)
    assert _sides(out, call_id) == (_other_way(before), [(True,)])
    sources = f"SELECT role_source::VARCHAR FROM analyses WHERE call_id = '{call_id}'"
    assert rows(out, sources) == [("correction",)]


def test_a_caller_who_was_taken_for_the_agent_has_every_members_vote_once_analysed_again(
    out: Path, calls: Path
) -> None:
    call_id = _one_call(out)
    not_asked = (
        "SELECT count(*) FROM predictions JOIN segments USING (call_id, segment)"
        f" WHERE call_id = '{call_id}' AND role = '{{}}' AND predictions.emotion IS NULL"
    )
    assert rows(out, not_asked.format("caller")) == [(0,)]
    assert rows(out, not_asked.format("agent")) > [(0,)]
    assert relabel(Settings(), Workspace(out), call_id).was_taken_for_the_agent
    assert rows(out, not_asked.format("caller")) > [(0,)]
    assert not relabel(Settings(), Workspace(out), call_id).was_taken_for_the_agent
    relabel(Settings(), Workspace(out), call_id)
    _night(Settings(), calls, out, force=True)
    assert rows(out, not_asked.format("caller")) == [(0,)]
