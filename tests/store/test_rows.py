"""What is written is what is read, nothing is doubled, hostile names are only text."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixture_calls import (
    ENSEMBLE_ID,
    LABELS,
    MEMBERS,
    assessed,
    plausible_calls,
    plausible_failures,
)
from stores import begin, count, named, one

from callanalytics import records
from callanalytics.analysis.assess import CallAssessment
from callanalytics.analysis.call import CallAnalysis
from callanalytics.analysis.frustration import Curve
from callanalytics.errors import StoreError, UsageError
from callanalytics.records import TimeSource
from callanalytics.store import Store, open_work
from callanalytics.store.reader import read_call
from callanalytics.store.recordings import done_among
from callanalytics.store.schema import relations
from callanalytics.workspace import Workspace
from ensemble.labels import EMOTIONS


def test_what_was_analysed_is_what_is_read(store: Store, calls: list[CallAnalysis]) -> None:
    store.write(calls, begin(store))
    assert len(calls) == 12
    for call in calls:
        key = call.recording.call_id
        segments = store.connection.execute(
            "SELECT start_s, end_s, role::VARCHAR, emotion::VARCHAR, confidence, agreement, abstain_reason"
            " FROM segment_emotions WHERE call_id = ? ORDER BY segment",
            [key],
        ).fetchall()
        votes = call.votes
        for i, (segment, row) in enumerate(zip(call.segments, segments, strict=True)):
            index = int(votes.emotion_index[i])
            assert row[:4] == (
                *(segment.start_s, segment.end_s, segment.role.value),
                LABELS[index] if index >= 0 else None,
            )
            assert row[4:6] == pytest.approx((votes.confidence[i], votes.agreement[i]), abs=1e-6)
            assert row[6] == votes.abstain_reason[i]
            assert (row[3] is None) == (row[6] is not None)
        members = store.connection.execute(
            "SELECT member, probabilities FROM predictions WHERE call_id = ? AND segment = 3", [key]
        ).fetchall()
        assert [member for member, _ in members] == list(MEMBERS)
        wide = [EMOTIONS.index(label) for label in LABELS]
        for m, (_, probabilities) in enumerate(members):
            assert np.allclose(np.array(probabilities)[wide], votes.probabilities[m, 3])
            assert sum(probabilities) == pytest.approx(1.0, abs=1e-5)
        measured = store.connection.execute(
            "SELECT value FROM call_measures WHERE call_id = ? AND name = 'talk_s' AND role = 'caller'"
            " AND period = 'call'",
            [key],
        ).fetchone()
        expected = next(m.value for m in call.assessment.measures if (m.name, m.role, m.period) == (
            "talk_s", records.Role.CALLER, "call"))  # fmt: skip
        assert measured == (pytest.approx(expected),)


def test_a_pitch_that_nobody_knows_is_null_and_the_others_are_kept(
    store: Store, calls: list[CallAnalysis]
) -> None:
    store.write(calls[:1], begin(store))
    rows = store.connection.execute(
        "SELECT f0_median_hz, loudness_db FROM segment_features ORDER BY segment"
    ).fetchall()
    pitch = calls[0].features.column("f0_median_hz")
    loudness = calls[0].features.column("loudness_db")
    assert [row[0] for row in rows] == [None if np.isnan(hz) else pytest.approx(hz) for hz in pitch]
    assert np.allclose([row[1] for row in rows], loudness)


def test_writing_again_replaces_and_never_doubles(store: Store, calls: list[CallAnalysis]) -> None:
    run_id = begin(store)
    store.write(calls, run_id)
    before = {named(r): count(store, named(r)) for r in relations(store.connection)}
    store.write(calls, begin(store))
    store.write([calls[0], calls[0]], begin(store))
    after = {named(r): count(store, named(r)) for r in relations(store.connection)}
    for relation in ("runs", "base.runs", "run_health"):
        before.pop(relation)
        after.pop(relation)
    assert after == before
    assert before["segments"] == sum(len(call.segments) for call in calls)
    assert before["predictions"] == len(MEMBERS) * before["segments"]


def test_a_replaced_call_shows_its_new_result_only(store: Store, calls: list[CallAnalysis]) -> None:
    run_id = begin(store)
    store.write(calls, run_id)
    quiet = assessed(calls[0], score=0.123, flagged=False, escalations=())
    store.write([quiet], run_id)
    key = quiet.recording.call_id
    rows = store.connection.execute(
        "SELECT frustration_score, flagged, reasons FROM call_summary WHERE call_id = ?", [key]
    ).fetchall()
    assert rows == [(pytest.approx(0.123), False, [])]
    assert one(store, "SELECT count(*) FROM escalations WHERE call_id = ?", key) == 0


def test_a_segment_that_nobody_classified_has_no_probabilities(
    store: Store, calls: list[CallAnalysis]
) -> None:
    votes = calls[0].votes
    none = np.zeros_like(votes.mean_probabilities)
    unheard = replace(votes, mean_probabilities=none, probabilities=np.zeros_like(votes.probabilities))
    store.write([replace(calls[0], votes=unheard)], begin(store))
    assert store.rows("SELECT DISTINCT anger, boredom FROM segment_probabilities") == [(None, None)]
    for view in ("votes", "predictions"):
        assert store.rows(f"SELECT DISTINCT probabilities FROM {view}") == [(None,)]


def test_a_member_that_was_not_asked_has_no_opinion_and_is_not_said_to_disagree(
    store: Store, calls: list[CallAnalysis]
) -> None:
    call = calls[0]
    shares, agents = call.votes.probabilities.copy(), [s.role is records.Role.AGENT for s in call.segments]
    shares[0, agents] = 0
    store.write([replace(call, votes=replace(call.votes, probabilities=shares))], begin(store))
    mine, others = MEMBERS[0], MEMBERS[1]
    n_opinions = "SELECT count(emotion), count(*) FROM predictions WHERE member = ?"
    assert store.connection.execute(n_opinions, [mine]).fetchone() == (agents.count(False), len(agents))
    labelled = [call.votes.emotion(i) is not None for i in range(len(agents))]
    n_compared = "SELECT sum(n_segments) FROM member_agreement WHERE member = ?"
    asked = sum(named and not agent for named, agent in zip(labelled, agents, strict=True))
    assert store.connection.execute(n_compared, [mine]).fetchone() == (asked,)
    assert store.connection.execute(n_compared, [others]).fetchone() == (sum(labelled),)
    assert 0 < asked < sum(labelled)


def test_a_call_dated_by_its_file_is_in_no_hour(store: Store, calls: list[CallAnalysis]) -> None:
    undated = replace(calls[1], facts=replace(calls[1].facts, started_at_source=TimeSource.FILE_TIME))
    store.write([calls[0], undated], begin(store))
    hours = store.rows("SELECT DISTINCT hour, n_calls FROM emotion_by_hour WHERE role = 'caller'")
    assert hours == [(9, 1)]
    days = store.rows("SELECT DISTINCT n_calls FROM emotion_by_day WHERE role = 'caller'")
    assert days == [(2,)]


def test_a_call_without_speech_is_a_row_without_segments(store: Store, calls: list[CallAnalysis]) -> None:
    call = calls[0]
    nobody = np.zeros(0, dtype=np.float32)
    silent = replace(
        call,
        segments=(),
        features=replace(call.features, values=call.features.values[:0]),
        votes=replace(
            call.votes,
            probabilities=call.votes.probabilities[:, :0],
            mean_probabilities=call.votes.mean_probabilities[:0],
            **{name: getattr(call.votes, name)[:0] for name in (
                "emotion_index", "top_index", "confidence", "agreement", "tie_broken", "abstain_reason")},
        ),
        speech=replace(call.speech, turns=()),
        assessment=CallAssessment(Curve(nobody, nobody, None, nobody, nobody), (), (), False),
    )  # fmt: skip
    store.write([silent], begin(store))
    row = store.connection.execute(
        "SELECT n_segments, labelled_s, frustration_score, frustration_peak_s, reasons FROM call_summary"
    ).fetchall()
    assert row == [(0, 0.0, None, None, [])]
    store.write([silent, calls[1]], begin(store))
    assert count(store, "segments") == len(calls[1].segments)


def test_a_batch_is_all_or_nothing(store: Store, calls: list[CallAnalysis]) -> None:
    run_id = begin(store)
    store.write(calls[:1], run_id)
    broken = replace(
        calls[1],
        speech=replace(calls[1].speech, layout=_NotALayout()),  # type: ignore[arg-type]
    )
    with pytest.raises(StoreError, match="nothing of it was kept"):
        store.write([calls[2], broken], run_id)
    assert count(store, "call_summary") == 1
    assert count(store, "calls") == 1
    store.write(calls[2:], run_id)  # the store is usable after a refusal
    assert count(store, "call_summary") == len(calls) - 1


class _NotALayout:
    value = "octophonic"


def test_the_writer_leaves_the_machines_memory_to_the_workers(store: Store) -> None:
    """The database's default, 80 % of the machine, was used up at 43 million segments."""
    words = store.connection.execute("SELECT current_setting('memory_limit')").fetchone()
    assert words is not None
    number, unit = str(words[0]).split()
    limit = float(number) * 1024 ** ("KiB", "MiB", "GiB", "TiB").index(unit) * 1024
    assert limit <= 0.3 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_committed_batches_survive_a_kill(tmp_path: Path) -> None:
    """A process is killed while it writes its third batch; the two before are there, the third is not."""
    program = f"""
import contextlib, os, sys, pathlib
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from fixture_calls import *
from callanalytics.store import open_work
from callanalytics.workspace import Workspace
store = open_work(Workspace(pathlib.Path({str(tmp_path / "out")!r})))
calls = plausible_calls(3, 2)
store.register_ensemble(ENSEMBLE_ID, {{}}, LABELS, MEMBERS)
store.promote_ensemble(ENSEMBLE_ID)
run = store.begin_run(Window(calls[0].facts.started_at, calls[-1].facts.started_at), ENSEMBLE_ID, "0")
store.write(calls[0:2], run)
store.write(calls[2:4], run)
registered = store.registered
@contextlib.contextmanager
def registered_until_killed(frames):
    with registered(frames):
        yield  # the rows are inserted, and not committed yet
        os.kill(os.getpid(), 9)
store.registered = registered_until_killed
store.write(calls[4:6], run)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    expected = plausible_calls(3, 2)
    with open_work(Workspace(tmp_path / "out")) as store:
        done = done_among(store, [call.recording.recording_id for call in expected], ENSEMBLE_ID)
        assert done == {call.recording.recording_id for call in expected[:4]}
        assert count(store, "segments") == sum(len(call.segments) for call in expected[:4])
        assert one(store, "SELECT state FROM run_health") == "unfinished"
        todo = [call for call in expected if call.recording.recording_id not in done]
        store.write(todo, begin(store))
        resumed = _contents(store)
    with open_work(Workspace(tmp_path / "undisturbed")) as store:
        store.write(expected, begin(store))
        assert _contents(store) == resumed


def _contents(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Rows of the views of results, without keys that depend on the order of arrival."""
    hidden = {"analysis_key", "run_id", "analysed_at"}
    names = ("call_summary", "segment_emotions", "predictions", "segment_features", "call_measures",
             "escalations", "call_emotions", "turns", "sounds", "member_agreement", "coverage")  # fmt: skip
    found = {}
    for name in names:
        columns = [f'"{c}"::VARCHAR' for c in store.connection.sql(f"FROM {name}").columns if c not in hidden]
        found[name] = store.connection.sql(f"SELECT {', '.join(columns)} FROM {name} ORDER BY ALL").fetchall()
    return found


def test_a_call_read_back_is_the_call_that_was_written(store: Store, calls: list[CallAnalysis]) -> None:
    run_id = begin(store)
    store.write(calls, run_id)
    for call in calls:
        found = read_call(store, call.recording.call_id[:12])
        assert found.recording == call.recording
        # Which channel is whose is in the turns; the hint of the recorder is not stored.
        assert found.facts == replace(call.facts, recorder_confidence=pytest.approx(0.9), stated_roles=())
        assert found.segments == tuple(
            replace(s, overlap_share=pytest.approx(s.overlap_share)) for s in call.segments
        )
        assert found.audio == call.audio
        assert found.speech.turns == call.speech.turns
        assert found.speech.sounds == call.speech.sounds
        assert found.speech.role_evidence == call.speech.role_evidence
        assert np.array_equal(found.assessment.curve.level, call.assessment.curve.level)
        assert found.speech.roles == call.speech.roles
        for name in ("probabilities", "mean_probabilities", "emotion_index", "top_index", "agreement"):
            assert np.array_equal(getattr(found.votes, name), getattr(call.votes, name)), name
        assert found.votes.abstain_reason == call.votes.abstain_reason
        assert np.array_equal(found.features.values, call.features.values, equal_nan=True)
    before = _contents(store)
    assessed_again = [
        replace(
            read_call(store, call.recording.call_id),
            assessment=call.assessment,
            clips=call.clips,
        )
        for call in calls
    ]
    store.write(assessed_again, run_id)
    assert _contents(store) == before


def test_a_call_that_is_not_there_or_not_alone_cannot_be_read(
    store: Store, calls: list[CallAnalysis]
) -> None:
    store.write(calls, begin(store))
    with pytest.raises(UsageError, match="no call 'nobody'"):
        read_call(store, "nobody")
    with pytest.raises(UsageError, match="Give more of the id"):
        read_call(store, "")


HOSTILE = (
    "it's; DROP TABLE base.calls; --.wav",
    'quote".wav',
    "line\nbreak\x1b[31m.wav",
    os.fsdecode(b"caf\xe9.wav"),
    "\u202ethree.wav",
    "$(rm -rf ~)`.wav",
    "日本語 العربية.wav",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_only_ever_text(store: Store, calls: list[CallAnalysis], name: str) -> None:
    call = calls[0]
    recording = replace(call.recording, paths=(Path("/calls") / name,))
    facts = replace(call.facts, queue=name, agent_id=name, sources={name: name})
    run_id = begin(store)
    store.write([replace(call, recording=recording, facts=facts)], run_id)
    failure = plausible_failures()[0]
    candidate = replace(failure.found, recording=replace(recording, recording_id="f" * 64), facts=facts)
    store.quarantine([replace(failure, found=candidate, detail=name)], run_id)
    rows = store.connection.execute(
        "SELECT path, queue FROM call_summary UNION ALL SELECT path, queue FROM quarantine"
    ).fetchall()
    assert len(rows) == 2
    for path, queue in rows:
        assert path == f"/calls/{queue}"
        assert path.isprintable()
        path.encode("utf-8")
    if name.isprintable():
        assert queue == name
