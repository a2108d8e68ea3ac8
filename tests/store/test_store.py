"""The results database: what is written is what is read, nothing is doubled, nothing half done is seen."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from fixture_calls import (
    ENSEMBLE_ID,
    LABELS,
    MEMBERS,
    SHADOW_ID,
    assessed,
    fill,
    plausible_calls,
    plausible_failures,
)

from callanalytics import records
from callanalytics.analysis.assess import CallAssessment
from callanalytics.analysis.call import CallAnalysis
from callanalytics.analysis.frustration import Curve
from callanalytics.config.window import Window
from callanalytics.errors import StoreError, UsageError
from callanalytics.store import Correction, RunCounts, Store, open_work, publish
from callanalytics.store.comments import RELATIONS
from callanalytics.store.reader import read_call
from callanalytics.store.recordings import done_among, given_up_among
from callanalytics.store.schema import Descriptors, Migration, relations, shipped_migrations
from callanalytics.workspace import Workspace
from ensemble.labels import EMOTIONS


def count(store: Store, relation: str) -> int:
    row = store.connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    assert row is not None
    return int(row[0])


def one(store: Store, sql: str, *values: object) -> object:
    row = store.connection.execute(sql, list(values)).fetchone()
    assert row is not None
    return row[0]


def begin(store: Store) -> int:
    now = datetime(2026, 3, 31, tzinfo=UTC)
    store.register_ensemble(ENSEMBLE_ID, {"name": "x"}, LABELS, MEMBERS)
    store.promote_ensemble(ENSEMBLE_ID)
    return store.begin_run(Window(now - timedelta(days=1), now), ENSEMBLE_ID, "0.1.0")


def end(store: Store, run_id: int, exit_code: int = 3) -> None:
    store.end_run(run_id, RunCounts(n_found=2, n_new=2, n_quarantined=2), exit_code=exit_code)


@pytest.fixture(scope="module")
def calls() -> list[CallAnalysis]:
    return plausible_calls(3, 4)


@pytest.fixture
def store(tmp_path: Path):
    with open_work(Workspace(tmp_path / "out")) as opened:
        yield opened


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory):
    with open_work(Workspace(tmp_path_factory.mktemp("filled") / "out")) as opened:
        fill(opened)
        yield opened


def named(relation: tuple[str, str, str]) -> str:
    schema, name, _ = relation
    return name if schema == "main" else f"{schema}.{name}"


# Shape


def test_every_table_view_and_column_has_a_comment(filled: Store) -> None:
    bare = filled.connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
        " AND database_name = current_database()"
    ).fetchall()
    bare += filled.connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL"
        " UNION ALL SELECT table_name FROM duckdb_tables() WHERE NOT internal AND comment IS NULL"
    ).fetchall()
    assert bare == []
    # The catalogue lists view columns at all, so that the assertion above means something.
    n_view_columns = one(filled, "SELECT count(*) FROM duckdb_columns() WHERE table_name = 'call_summary'")
    assert n_view_columns == 41
    assert set(RELATIONS) <= {named(r) for r in relations(filled.connection)}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("emotion", EMOTIONS),
        ("role", tuple(records.Role)),
        ("direction", tuple(records.Direction)),
        ("time_source", tuple(records.TimeSource)),
        ("channel_layout", tuple(records.ChannelLayout)),
        ("role_source", tuple(records.RoleSource)),
        ("sound", tuple(records.Sound)),
    ],
)
def test_sql_types_hold_exactly_the_words_of_python(
    filled: Store, name: str, values: tuple[str, ...]
) -> None:
    assert one(filled, f"SELECT enum_range(NULL::{name})") == [str(value) for value in values]


def test_views_that_scripts_depend_on_begin_with_their_columns(filled: Store) -> None:
    def columns(relation: str) -> list[str]:
        return filled.connection.sql(f"FROM {relation}").columns

    assert columns("call_summary")[:13] == [
        *(
            "call_id",
            "path",
            "started_at",
            "started_at_source",
            "duration_s",
            "channel_layout",
            "role_source",
        ),
        *("agent_id", "queue", "n_segments", "frustration_score", "flagged", "reasons"),
    ]
    assert columns("segment_emotions")[:10] == [
        *("call_id", "path", "role", "speaker", "start_s", "end_s", "emotion", "confidence", "agreement"),
        "abstain_reason",
    ]
    assert columns("quarantine")[:4] == ["path", "stage", "reason", "attempts"]


def test_every_view_can_be_read_on_an_empty_database(store: Store) -> None:
    read = {
        named(relation): store.connection.sql(f"FROM {named(relation)}").pl()
        for relation in relations(store.connection)
    }
    assert len(read) > 20
    assert all(frame.width for frame in read.values())


# Writing


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
        assessment=CallAssessment(Curve(nobody, nobody, 0.0, nobody, nobody), (), (), False),
    )  # fmt: skip
    store.write([silent], begin(store))
    row = store.connection.execute(
        "SELECT n_segments, labelled_s, frustration_peak_s, reasons FROM call_summary"
    ).fetchall()
    assert row == [(0, 0.0, None, [])]
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
import os, sys, pathlib
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from fixture_calls import *
from callanalytics.store import open_work
from callanalytics.workspace import Workspace
import callanalytics.store.writer as writer
store = open_work(Workspace(pathlib.Path({str(tmp_path / "out")!r})))
calls = plausible_calls(3, 2)
store.register_ensemble(ENSEMBLE_ID, {{}}, LABELS, MEMBERS)
store.promote_ensemble(ENSEMBLE_ID)
run = store.begin_run(Window(calls[0].facts.started_at, calls[-1].facts.started_at), ENSEMBLE_ID, "0")
store.write(calls[0:2], run)
store.write(calls[2:4], run)
insert = store._insert
def insert_and_die(frames, run_id):
    insert(frames, run_id)
    os.kill(os.getpid(), 9)
store._insert = insert_and_die
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
        no_hint = {"channel_roles": (), "channel_roles_source": records.RoleSource.NONE}
        assert found.facts == replace(call.facts, recorder_confidence=pytest.approx(0.9), **no_hint)
        assert found.segments == tuple(
            replace(s, overlap_share=pytest.approx(s.overlap_share)) for s in call.segments
        )
        assert found.speech.turns == call.speech.turns
        assert found.speech.roles == call.speech.roles
        for name in ("probabilities", "mean_probabilities", "emotion_index", "top_index", "agreement"):
            assert np.array_equal(getattr(found.votes, name), getattr(call.votes, name)), name
        assert found.votes.abstain_reason == call.votes.abstain_reason
        assert np.array_equal(found.features.values, call.features.values, equal_nan=True)
    before = _contents(store)
    judged = [
        replace(
            read_call(store, call.recording.call_id),
            assessment=call.assessment,
            clips=call.clips,
        )
        for call in calls
    ]
    store.write(judged, run_id)
    assert _contents(store) == before


def test_a_call_that_is_not_there_or_not_alone_cannot_be_read(
    store: Store, calls: list[CallAnalysis]
) -> None:
    store.write(calls, begin(store))
    with pytest.raises(UsageError, match="no call 'nobody'"):
        read_call(store, "nobody")
    with pytest.raises(UsageError, match="Give more of the id"):
        read_call(store, "")


# Hostile text

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


def test_a_run_that_left_some_for_later_did_not_cover_its_window(store: Store) -> None:
    for n_found, exit_code in ((4, 3), (5, 3), (4, 7)):
        counts = RunCounts(n_found, n_new=2, n_done=1, n_skipped=2, n_quarantined=1)
        store.end_run(begin(store), counts, exit_code=exit_code)
    begin(store)
    ended_well = [well for *_, well in store.earlier_runs()]
    assert ended_well == [False, False, False, True], "newest first: killed, out of time, limited, whole"


# Quarantine


def test_failing_again_counts_attempts_until_it_is_given_up(store: Store) -> None:
    failures = plausible_failures()
    ids = {f.found.recording.recording_id for f in failures}
    first = begin(store)
    store.quarantine(failures, first)
    store.quarantine(failures, begin(store))
    assert given_up_among(store, ids, 2) == set(), "a run that was killed is tried again, not counted"
    end(store, first)
    end(store, first + 1)
    first_seen = one(store, "SELECT min(first_seen_at)::VARCHAR FROM quarantine")
    store.quarantine(failures, begin(store))
    assert given_up_among(store, {*ids, "f" * 64}, 2) == ids
    assert given_up_among(store, ["f" * 64], 2) == set(), "only those asked about"
    assert one(store, "SELECT min(first_seen_at)::VARCHAR FROM quarantine") == first_seen
    rows = store.connection.execute("SELECT stage, reason, attempts FROM quarantine ORDER BY ALL").fetchall()
    assert rows == [("decode", "not_audio", 2), ("decode", "truncated", 2)]


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


# Ensembles, people, files


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


def test_an_unknown_ensemble_cannot_be_promoted(store: Store) -> None:
    begin(store)
    with pytest.raises(StoreError, match="not registered"):
        store.promote_ensemble("nobody")
    assert one(store, "SELECT ensemble_id FROM ensembles WHERE promoted") == ENSEMBLE_ID


def test_corrections_are_remembered_and_the_newest_counts(store: Store) -> None:
    store.correct(Correction("abc", swap_roles=True, corrected_by="eve"))
    store.correct(Correction("abc", swap_roles=False, note="was right after all"))
    assert store.corrections() == {"abc": Correction("abc", swap_roles=False, note="was right after all")}


# Publishing


def test_publishing_replaces_the_copy_while_an_analyst_writes_to_it(
    tmp_path: Path, calls: list[CallAnalysis]
) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        run_id = begin(store)
        store.write(calls[:2], run_id)
        published = publish(store)
        analyst = duckdb.connect(published)
        analyst.execute("CREATE TABLE notes AS SELECT 'mine' AS note")
        analyst.execute("BEGIN")
        analyst.execute("INSERT INTO notes VALUES ('not committed')")
        store.write(calls[2:4], run_id)
        assert publish(store) == published
        assert analyst.execute("SELECT count(*) FROM call_summary").fetchone() == (2,)
        analyst.execute("COMMIT")
        analyst.close()
        with duckdb.connect(published, read_only=True) as reader:
            assert reader.execute("SELECT count(*) FROM call_summary").fetchone() == (4,)
        assert sorted(file.name for file in out.iterdir()) == [".work", "callanalytics.duckdb"]


def test_files_and_folders_are_for_their_owner_only(tmp_path: Path, calls: list[CallAnalysis]) -> None:
    out = tmp_path / "out"
    umask = os.umask(0o000)
    try:
        with open_work(Workspace(out)) as store:
            store.write(calls[:1], begin(store))
            publish(store)
            for path in (out, *out.rglob("*")):
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode == (0o700 if path.is_dir() else 0o600), f"{path} {mode:o}"
    finally:
        os.umask(umask)


def test_a_failed_publishing_keeps_the_last_copy(
    tmp_path: Path, calls: list[CallAnalysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:1], begin(store))
        published = publish(store)
        content = published.read_bytes()
        store.write(calls, begin(store))

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(StoreError, match="No space left"):
                publish(store)
        assert published.read_bytes() == content
        assert not (out / ".work" / "publishing.duckdb").exists()
        publish(store)
        with duckdb.connect(published, read_only=True) as reader:
            assert reader.execute("SELECT count(*) FROM call_summary").fetchone() == (len(calls),)


def test_a_lost_working_database_goes_on_from_the_published_copy(
    tmp_path: Path, calls: list[CallAnalysis]
) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:2], begin(store))
        publish(store)
    Workspace(out).work_database.unlink()
    with open_work(Workspace(out)) as store:
        assert count(store, "base.analyses") == 2
        store.write(calls, begin(store))
        assert count(store, "call_summary") == len(calls)


@pytest.mark.parametrize("step", ["write", "publish"])
def test_a_full_disk_loses_nothing_that_was_committed(tmp_path: Path, step: str) -> None:
    """Files may not grow any more, as on a full disk: one clear error, and the next run completes."""
    out = tmp_path / "out"
    program = f"""
import os, resource, sys, pathlib
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from fixture_calls import *
from callanalytics.errors import StoreError
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace
out = pathlib.Path({str(out)!r})
calls = plausible_calls(8, 4)
store = open_work(Workspace(out))
store.register_ensemble(ENSEMBLE_ID, {{}}, LABELS, MEMBERS)
store.promote_ensemble(ENSEMBLE_ID)
run = store.begin_run(Window(calls[0].facts.started_at, calls[-1].facts.started_at), ENSEMBLE_ID, "0")
store.write(calls[:4], run)
publish(store)
if {step!r} == "publish":
    store.write(calls[4:], run)
limit = 64 * 1024 if {step!r} == "publish" else 400_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    if {step!r} == "write":
        store.write(calls[4:], run)
    else:
        publish(store)
except StoreError as problem:
    print(problem)
    os._exit(7)
"""
    full = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert full.returncode == 7, full.stdout + full.stderr
    assert "committed work is kept" in full.stdout
    with duckdb.connect(out / "callanalytics.duckdb", read_only=True) as reader:
        assert reader.execute("SELECT count(*) FROM call_summary").fetchone() == (4,)
    expected = plausible_calls(8, 4)
    with open_work(Workspace(out)) as store:
        kept = 4 if step == "write" else len(expected)
        assert count(store, "call_summary") == kept
        done = done_among(store, [call.recording.recording_id for call in expected], ENSEMBLE_ID)
        store.write([call for call in expected if call.recording.recording_id not in done], begin(store))
        publish(store)
    with duckdb.connect(out / "callanalytics.duckdb", read_only=True) as reader:
        assert reader.execute("SELECT count(*) FROM call_summary").fetchone() == (len(expected),)


# Versions


def test_an_older_file_is_upgraded_and_keeps_its_rows(tmp_path: Path, calls: list[CallAnalysis]) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:2], begin(store))
    shipped = shipped_migrations()
    last = shipped[-1].version
    newer = (
        *shipped,
        Migration(last + 1, "moods", "ALTER TABLE base.quarantine ADD COLUMN mood VARCHAR;  -- How it felt"),
    )
    with open_work(Workspace(out), migrations=newer) as store:
        assert count(store, "call_summary") == 2
        steps = store.connection.execute("SELECT version, name FROM schema_version ORDER BY 1").fetchall()
        assert steps == [(m.version, m.name) for m in newer]
        comments = "SELECT DISTINCT comment FROM duckdb_columns() WHERE column_name = 'mood'"
        assert store.rows(comments) == [("How it felt",)]
    with pytest.raises(StoreError, match=rf"schema version {last + 1}.*up to {last}.*newer"):
        open_work(Workspace(out))
    with open_work(Workspace(out), migrations=newer) as store:
        assert count(store, "call_summary") == 2


def test_migrations_are_numbered_without_gaps() -> None:
    assert [m.version for m in shipped_migrations()] == list(range(1, len(shipped_migrations()) + 1))


def test_reviews_of_the_first_version_keep_their_meaning(tmp_path: Path) -> None:
    """A file of version 1, with verdicts in its words, says the same after the upgrade."""
    out = tmp_path / "out"
    database = Workspace(out).work_database
    database.parent.mkdir(parents=True)
    first = shipped_migrations()[0]
    with duckdb.connect(database) as old:
        old.execute(first.sql.replace("{n_features}", str(len(Descriptors.current().names))))
        old.execute("INSERT INTO base.schema_version VALUES (1, 'schema', now())")
        for number, verdict in enumerate(("right", "wrong", "unsure")):
            old.execute(
                "INSERT INTO base.reviews VALUES (?, 'abc', 'a rule', ?, 'eve', 'words', now())",
                [number, verdict],
            )
    with open_work(Workspace(out)) as store:
        rows = store.connection.execute(
            "SELECT review_id, rule, verdict::VARCHAR, segment, reviewer, note FROM reviews ORDER BY 1"
        ).fetchall()
        publish(store)
    expected = enumerate(("confirm", "reject", "unsure"))
    assert rows == [(number, "a rule", word, None, "eve", "words") for number, word in expected]


def test_descriptors_in_a_table_of_their_own_move_to_their_segments(tmp_path: Path) -> None:
    """A file of version 5 kept them apart, in any order, and knew fewer of them."""
    out = tmp_path / "out"
    database = Workspace(out).work_database
    database.parent.mkdir(parents=True)
    with duckdb.connect(database) as old:
        for migration in shipped_migrations()[:5]:
            old.execute(migration.sql.replace("{n_features}", "2"))
            old.execute("INSERT INTO base.schema_version VALUES (?, ?, now())", [migration.version, "old"])
        old.execute("INSERT INTO base.feature_names VALUES (0, 'loudness_db'), (1, 'f0_median_hz')")
        places = ((2, 0), (1, 1), (1, 0))
        for key, segment in places:
            old.execute(
                "INSERT INTO base.segments VALUES (?, ?, 'a', 'caller', 0, 1, 2, 0, NULL, NULL, NULL, NULL,"
                " false, NULL, [0, 0, 0, 0, 0, 0, 1, 0, 0])",
                [key, segment],
            )
        for key, segment in reversed(places):
            old.execute("INSERT INTO base.features VALUES (?, ?, ?)", [key, segment, [key, segment]])
    names = Descriptors.current().names
    with open_work(Workspace(out)) as store:
        rows = store.connection.execute(
            "SELECT analysis_key, segment, descriptors FROM base.segments ORDER BY ALL"
        ).fetchall()
    found = [
        (key, segment, d[names.index("loudness_db")], d[names.index("f0_median_hz")])
        for key, segment, d in rows
    ]
    assert found == [(1, 0, 1, 0), (1, 1, 1, 1), (2, 0, 2, 0)]


def test_a_failing_upgrade_changes_nothing(tmp_path: Path, calls: list[CallAnalysis]) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:2], begin(store))
    shipped = shipped_migrations()
    bad = (*shipped, Migration(shipped[-1].version + 1, "bad", "DROP TABLE base.reviews; SELECT nonsense"))
    with pytest.raises(StoreError, match=r"migration \d+ \(bad\).*nothing was changed"):
        open_work(Workspace(out), migrations=bad)
    with open_work(Workspace(out)) as store:
        assert count(store, "base.reviews") == 0
        assert count(store, "call_summary") == 2


def test_descriptors_that_change_keep_what_both_versions_know(
    tmp_path: Path, calls: list[CallAnalysis]
) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:1], begin(store))
        n = count(store, "segment_features")
    now = Descriptors.current()
    later = Descriptors(("brand_new", "loudness_db"), {**now.comments, "brand_new": "not measured before"})
    with open_work(Workspace(out), descriptors=later) as store:
        rows = store.connection.execute(
            "SELECT brand_new, loudness_db FROM segment_features ORDER BY segment"
        ).fetchall()
        assert len(rows) == n
        assert np.allclose([row[1] for row in rows], calls[0].features.column("loudness_db"))
        assert {row[0] for row in rows} == {None}


def test_a_damaged_working_database_is_named_with_a_way_out(tmp_path: Path) -> None:
    database = Workspace(tmp_path / "out").work_database
    database.parent.mkdir(parents=True)
    database.write_bytes(b"this is not a database" * 1000)
    with pytest.raises(StoreError, match="move it away"):
        open_work(Workspace(tmp_path / "out"))


def test_a_second_writer_is_told_who_holds_the_file(store: Store) -> None:
    program = (
        "import pathlib, sys; from callanalytics.store import open_work\n"
        "from callanalytics.workspace import Workspace\n"
        f"open_work(Workspace(pathlib.Path({str(store.database.parents[1])!r})))"
    )
    second = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "StoreError" in second.stderr
    assert "Another process has it open" in second.stderr
