"""Comparing two ensembles: counts that can be done by hand, on the calls that both analysed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fixture_calls import ENSEMBLE_ID, LABELS, MEMBERS, SHADOW_ID, assessed, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config.window import Window
from callanalytics.errors import UsageError
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace
from jobs.models.compare import Comparison, compare_ensembles, render_comparison

N_BOTH = 12


def other_opinion(call: CallAnalysis) -> CallAnalysis:
    """Every third label is anger, every abstention is sad, and every flag is turned."""
    index = call.votes.emotion_index.copy()
    index[index < 0] = LABELS.index("sad")
    index[::3] = LABELS.index("anger")
    found = call.assessment
    turned = assessed(call, flagged=not found.flagged, escalations=() if found.flagged else found.escalations)
    return replace(
        turned,
        ensemble_id=SHADOW_ID,
        votes=replace(call.votes, emotion_index=index, abstain_reason=(None,) * len(index)),
    )


@pytest.fixture(scope="module")
def calls() -> list[CallAnalysis]:
    return plausible_calls(4, 4)


@pytest.fixture(scope="module")
def database(calls: list[CallAnalysis], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare") / "out"
    others = [other_opinion(call) for call in calls[:N_BOTH]]
    moved = [replace(s, end_s=s.end_s - 0.5) for s in others[0].segments]
    others[0] = replace(others[0], segments=tuple(moved))  # cut in another way: cannot be paired
    with open_work(Workspace(out)) as store:
        for ensemble_id in (ENSEMBLE_ID, SHADOW_ID):
            store.register_ensemble(ensemble_id, {}, LABELS, MEMBERS)
        store.promote_ensemble(ENSEMBLE_ID)
        window = Window(calls[0].facts.started_at, calls[-1].facts.started_at)
        run_id = store.begin_run(window, ENSEMBLE_ID, "0.1.0")
        store.write(calls, run_id)
        store.write(others, run_id)
        return publish(store)


@pytest.fixture(scope="module")
def found(database: Path) -> Comparison:
    return compare_ensembles(database, ENSEMBLE_ID, SHADOW_ID)


def test_the_matrix_counts_every_segment_once(found: Comparison, calls: list[CallAnalysis]) -> None:
    n: Counter[tuple[str | None, str | None]] = Counter()
    seconds: Counter[tuple[str | None, str | None]] = Counter()
    for call in calls[1:N_BOTH]:
        other = other_opinion(call)
        for i, segment in enumerate(call.segments):
            pair = tuple(LABELS[x] if x >= 0 else None for x in (
                call.votes.emotion_index[i], other.votes.emotion_index[i]))  # fmt: skip
            n[pair] += 1  # type: ignore[index]
            seconds[pair] += segment.duration_s  # type: ignore[index, assignment]
    assert {(cell.a, cell.b): cell.n_segments for cell in found.matrix} == dict(n)
    assert {(cell.a, cell.b): cell.seconds for cell in found.matrix} == pytest.approx(dict(seconds))
    assert found.changed_s == pytest.approx(
        sum(s for (a, b), s in seconds.items() if a and b and a != b)  # type: ignore[misc]
    )
    assert found.gained_s == pytest.approx(sum(s for (a, _), s in seconds.items() if a is None))
    assert found.lost_s == 0.0
    assert found.unmatched_s == pytest.approx(sum(s.duration_s for s in calls[0].segments), abs=1e-3)


def test_every_turned_flag_is_named(found: Comparison, calls: list[CallAnalysis]) -> None:
    shared = calls[:N_BOTH]
    flagged = {call.recording.call_id for call in shared if call.assessment.flagged}
    calm = {call.recording.call_id for call in shared if not call.assessment.flagged}
    assert found.n_calls == N_BOTH
    assert {change.call_id for change in found.no_longer_flagged} == flagged
    assert {change.call_id for change in found.newly_flagged} == calm
    assert (found.n_flagged_a, found.n_flagged_b) == (len(flagged), len(calm))
    assert all(change.reasons for change in found.no_longer_flagged)


def test_rules_are_counted_on_the_shared_calls_only(found: Comparison, calls: list[CallAnalysis]) -> None:
    fired = Counter(e.rule for call in calls[:N_BOTH] for e in call.assessment.escalations)
    calm = [call for call in calls[:N_BOTH] if not call.assessment.flagged]
    stayed = Counter(e.rule for call in calm for e in call.assessment.escalations)
    assert {rule.rule: rule.n_a for rule in found.rules} == dict(fired)
    assert {r.rule: r.n_b for r in found.rules if r.n_b} == dict(stayed)
    assert {r.rule: r.n_both for r in found.rules if r.n_both} == dict(stayed)


def test_an_ensemble_agrees_with_itself(database: Path) -> None:
    same = compare_ensembles(database, ENSEMBLE_ID, ENSEMBLE_ID)
    assert (same.changed_s, same.gained_s, same.lost_s, same.unmatched_s) == (0, 0, 0, 0)
    assert same.newly_flagged == same.no_longer_flagged == ()
    assert same.n_calls == 16


def test_it_is_shown_as_text_and_as_json(found: Comparison, database: Path) -> None:
    text = render_comparison(found)
    assert f"12 calls analysed by both, {found.seconds / 60:,.1f} minutes" in text
    assert f"Newly flagged by b: {len(found.newly_flagged)}" in text
    assert found.newly_flagged[0].call_id in text
    assert "other segments and are left out" in text
    again = json.loads(json.dumps(found.to_json()))
    assert len(again["newly_flagged"]) == len(found.newly_flagged)
    assert sum(cell["seconds"] for cell in again["matrix"]) == pytest.approx(found.seconds)


def test_without_shared_calls_it_says_how_to_get_some(database: Path, tmp_path: Path) -> None:
    nothing = compare_ensembles(database, ENSEMBLE_ID, "unknown")
    assert nothing.n_calls == 0
    assert "backfill --ensemble" in render_comparison(nothing)
    with pytest.raises(UsageError, match="no results here yet"):
        compare_ensembles(tmp_path / "none.duckdb", "a", "b")
