"""Runs, quarantine, ensembles and corrections in the working database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixture_calls import (
    ENSEMBLE_ID,
    LABELS,
    MEMBERS,
    SHADOW_ID,
    assessed,
    plausible_failures,
)
from stores import begin, count, end, one

from callanalytics.analysis import RECIPE
from callanalytics.analysis.call import CallAnalysis, swap_roles
from callanalytics.config import Settings
from callanalytics.errors import StoreError
from callanalytics.store import Correction, RunCounts, Store, open_work
from callanalytics.store.reader import read_call
from callanalytics.store.recordings import done_among, given_up_among
from callanalytics.workspace import Workspace


def test_a_run_that_left_some_for_later_did_not_cover_its_window(store: Store) -> None:
    for n_found, exit_code in ((4, 3), (5, 3), (4, 7)):
        counts = RunCounts(n_found, n_new=2, n_done=1, n_skipped=2, n_quarantined=1)
        store.end_run(begin(store), counts, exit_code=exit_code)
    begin(store)
    ended_well = [well for *_, well in store.earlier_runs()]
    assert ended_well == [False, False, False, True], "newest first: killed, out of time, limited, whole"


def test_failing_again_counts_attempts_until_it_is_given_up(store: Store) -> None:
    failures = plausible_failures()
    ids = {f.found.recording.recording_id for f in failures}
    first = begin(store)
    store.quarantine(failures, first)
    store.quarantine(failures, begin(store))
    assert given_up_among(store, ids, 2) == (set(), set()), (
        "a run that was killed is tried again, not counted"
    )
    end(store, first)
    end(store, first + 1)
    first_seen = one(store, "SELECT min(first_seen_at)::VARCHAR FROM quarantine")
    store.quarantine(failures, begin(store))
    assert given_up_among(store, {*ids, "f" * 64}, 2) == (ids, set())
    assert given_up_among(store, ["f" * 64], 2) == (set(), set()), "only those asked about"
    assert one(store, "SELECT min(first_seen_at)::VARCHAR FROM quarantine") == first_seen
    rows = store.connection.execute("SELECT stage, reason, attempts FROM quarantine ORDER BY ALL").fetchall()
    assert rows == [("decode", "not_audio", 2), ("decode", "truncated", 2)]


def test_what_an_earlier_recipe_gave_up_is_due_once_more(store: Store) -> None:
    """It may have been refused for a reason that the code no longer gives."""
    failures = plausible_failures()
    ids = {f.found.recording.recording_id for f in failures}
    for _ in range(2):
        run_id = begin(store, recipe=RECIPE - 1)
        store.quarantine(failures, run_id)
        end(store, run_id)
    assert given_up_among(store, ids, 3) == (set(), set()), "neither given up nor tried anew"
    assert given_up_among(store, ids, 2) == (set(), ids)
    store.connection.execute("UPDATE base.runs SET settings = NULL")  # as versions before this one wrote them
    assert given_up_among(store, ids, 2) == (set(), ids)
    run_id = begin(store)
    store.quarantine(failures, run_id)
    assert given_up_among(store, ids, 2) == (ids, set()), "once more, not for ever"


def test_a_changed_file_gets_its_attempts_back(store: Store) -> None:
    failure = plausible_failures()[0]
    for run_id in (1, 2):
        store.quarantine([failure], begin(store))
        end(store, run_id)
    assert one(store, "SELECT attempts FROM quarantine") == 2
    recording = replace(failure.found.recording, recording_id="0" * 64)
    store.quarantine([replace(failure, found=replace(failure.found, recording=recording))], begin(store))
    assert store.connection.execute("SELECT attempts, recording_id FROM quarantine").fetchall() == [
        (1, "0" * 64)
    ]


@pytest.mark.parametrize("same", ["content", "path"])
def test_success_leaves_the_quarantine(store: Store, calls: list[CallAnalysis], same: str) -> None:
    failure, call, run_id = plausible_failures()[0], calls[0], begin(store)
    recording = failure.found.recording
    if same == "content":
        call = replace(call, recording=replace(call.recording, recording_id=recording.recording_id))
    else:
        call = replace(call, recording=replace(call.recording, paths=recording.paths))
    store.quarantine(plausible_failures(), run_id)
    store.write([call], run_id)
    assert store.connection.execute("SELECT reason FROM quarantine").fetchall() == [("truncated",)]


def test_only_the_promoted_ensemble_is_visible(
    filled: Store, tmp_path: Path, calls: list[CallAnalysis]
) -> None:
    with open_work(Workspace(tmp_path / "out")) as store:
        run_id = begin(store)
        store.register_ensemble(SHADOW_ID, {}, LABELS, MEMBERS)
        store.write(calls, run_id)
        shadow = [replace(assessed(call, score=0.5), ensemble_id=SHADOW_ID) for call in calls[:3]]
        store.write(shadow, run_id)
        assert count(store, "call_summary") == len(calls)
        assert one(store, "SELECT count(*) FROM call_summary WHERE frustration_score = 0.5") == 0
        ids = [call.recording.recording_id for call in calls]
        assert done_among(store, ids, SHADOW_ID) == set(ids[:3])
        store.promote_ensemble(SHADOW_ID)
        assert one(store, "SELECT count(*) FROM call_summary WHERE frustration_score = 0.5") == 3
        assert count(store, "call_summary") == 3
        assert one(store, "SELECT sum(n_other_ensemble) FROM coverage") == len(calls) - 3
        assert one(store, "SELECT count(*) FROM ensembles WHERE promoted") == 1


def test_what_an_earlier_recipe_made_is_not_done_and_a_correction_does_not_renew_it(
    store: Store, calls: list[CallAnalysis]
) -> None:
    run_id = begin(store)
    store.write([replace(calls[0], recipe=RECIPE - 1), calls[1]], run_id)
    ids = [call.recording.recording_id for call in calls[:2]]
    assert done_among(store, ids, ENSEMBLE_ID) == {ids[1]}
    assert store.rows("SELECT call_id FROM outdated_calls") == [(calls[0].recording.call_id,)]
    stored = read_call(store, calls[0].recording.call_id)
    store.write([swap_roles(stored, Settings())], run_id)
    assert done_among(store, ids, ENSEMBLE_ID) == {ids[1]}
    store.write([calls[0]], run_id)
    assert done_among(store, ids, ENSEMBLE_ID) == set(ids)
    assert store.rows("FROM outdated_calls") == []


def test_an_unknown_ensemble_cannot_be_promoted(store: Store) -> None:
    begin(store)
    with pytest.raises(StoreError, match="not registered"):
        store.promote_ensemble("nobody")
    assert one(store, "SELECT ensemble_id FROM ensembles WHERE promoted") == ENSEMBLE_ID


def test_corrections_are_remembered_and_the_newest_counts(store: Store) -> None:
    store.correct(Correction("abc", swap_roles=True, corrected_by="eve"))
    store.correct(Correction("abc", swap_roles=False, note="was right after all"))
    assert store.corrections() == {"abc": Correction("abc", swap_roles=False, note="was right after all")}
