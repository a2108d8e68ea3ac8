"""Purging: what is old is gone from every byte of the results, what is new is as it was."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from command_line import run_command
from fixture_calls import ENSEMBLE_ID, LABELS, MEMBERS, ZONE, plausible_calls, plausible_failures

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings, TimeSettings
from callanalytics.config.window import Window
from callanalytics.errors import ClockDoubtful, LockHeld, ReportError, StoreError, UsageError
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt
from callanalytics.records import Role
from callanalytics.store import Correction, Review, RunCounts, Store, open_work, publish
from callanalytics.store.publish import compact
from callanalytics.store.recordings import done_among
from callanalytics.store.remove import Selection
from callanalytics.workspace import Workspace, file_lock
from jobs.maintenance.purge import purge, selection_of, verify_erasures
from jobs.maintenance.status import read_status, render_status
from jobs.publishing import Pages, ReportWindow
from jobs.reviews.queue import put, read_reviews, take_in, waiting
from jobs.reviews.relabel import relabel
from reports.outputs.folder import build_reports

SETTINGS = Settings(time=TimeSettings(zone=ZONE))
NOW = datetime(2025, 4, 2, 3, 0, tzinfo=UTC)
MARK = "MarkOfAnOldCall"


def older(words: str) -> Selection:
    return selection_of(SETTINGS, Workspace(Path()), older_than=words, now=NOW)


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of the results for each test."""
    return shutil.copytree(made, tmp_path / "out")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days of calls; those of the first two days carry a mark wherever text can be."""
    calls = [_marked(call) if _is_old(call) else call for call in plausible_calls(4, 3)]
    failure = plausible_failures()[0]
    old_failure = replace(
        failure,
        detail=f"{MARK} detail",
        found=replace(
            failure.found,
            recording=replace(failure.found.recording, recording_id="e" * 64, paths=(Path(f"/x/{MARK}bad"),)),
            facts=replace(failure.found.facts, started_at=calls[0].facts.started_at),
        ),
    )
    folder = tmp_path_factory.mktemp("made") / "out"
    with open_work(Workspace(folder)) as store:
        store.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
        store.promote_ensemble(ENSEMBLE_ID)
        window = Window(NOW - timedelta(days=4), NOW)
        run_id = store.begin_run(window, ENSEMBLE_ID, "0.1.0")
        store.write(calls, run_id)
        store.write(calls, run_id)  # what was replaced leaves bytes behind too
        store.quarantine([old_failure, failure], run_id)
        for call in calls:
            key = call.recording.call_id
            store.review(Review(key, "confirm", note=f"{MARK} note" if _is_old(call) else "a note"))
            store.correct(Correction(key, swap_roles=False, note=f"{MARK}" if _is_old(call) else "b"))
            for clip in call.clips:
                place = folder / "reports" / "clips" / key / clip.name
                place.parent.mkdir(parents=True)
                place.write_bytes(clip.content)
        store.end_run(run_id, RunCounts(), exit_code=0)
        publish(store)
    build_reports(
        folder / "callanalytics.duckdb", folder / "reports", settings=SETTINGS, window=window, now=NOW,
        clips_dir=folder / "reports" / "clips",
    )  # fmt: skip
    return folder


def _is_old(call: CallAnalysis) -> bool:
    return call.facts.started_at < NOW - timedelta(days=2)


def _marked(call: CallAnalysis) -> CallAnalysis:
    name = call.recording.path.name
    return replace(
        call,
        recording=replace(call.recording, paths=(Path(f"/calls/{MARK}-{name}"),)),
        facts=replace(call.facts, agent_name=f"{MARK} Agent", queue=f"{MARK}queue", external_id=f"{MARK}1"),
    )


def found_in(out: Path, words: list[str]) -> set[tuple[str, str]]:
    """(file, word) for every file under `out` whose bytes or name hold one of the words."""
    hits = set()
    for path in out.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for word in words:
            if word.encode() in content or word in str(path.relative_to(out)):
                hits.add((str(path.relative_to(out)), word))
    return hits


def rows(out: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    with duckdb.connect(out / "callanalytics.duckdb", read_only=True) as reader:
        return reader.execute(sql, list(values)).fetchall()


def old_and_new() -> tuple[list[CallAnalysis], list[CallAnalysis]]:
    calls = plausible_calls(4, 3)
    return [call for call in calls if _is_old(call)], [call for call in calls if not _is_old(call)]


def test_nothing_of_an_old_call_is_left_in_any_byte(out: Path) -> None:
    old, new = old_and_new()
    assert len(old) == len(new) == 6
    ids = [call.recording.call_id for call in old] + [call.recording.recording_id for call in old]
    words = [MARK, "e" * 64, *ids]
    before = found_in(out, words)
    databases = {"callanalytics.duckdb", ".work/callanalytics-work.duckdb"}
    for word in (MARK, ids[0]):  # the search can find what it looks for
        assert databases <= {file for file, found in before if found == word}
    assert any(file.startswith("reports/") for file, _ in before)

    done = purge(SETTINGS, Workspace(out), older("2d"), now=NOW)

    assert found_in(out, words) == set()
    assert (done.n_calls, done.n_quarantined) == (6, 1)
    assert done.n_clips == sum(len(call.clips) for call in old) > 0


def test_the_pages_of_a_run_out_of_time_are_written_anew(out: Path) -> None:
    with open_work(Workspace(out)) as store:
        store.connection.execute("UPDATE base.runs SET exit_code = 7")
    purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert found_in(out / "reports", [MARK]) == set()


def test_a_run_that_found_nothing_and_left_the_pages_does_not_empty_them(out: Path) -> None:
    with open_work(Workspace(out)) as store:
        run_id = store.begin_run(Window(NOW, NOW + timedelta(days=1)), ENSEMBLE_ID, "0.1.0")
        store.end_run(run_id, RunCounts(), exit_code=4)
    purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    index = (out / "reports" / "calls" / "index.html").read_text(encoding="utf-8")
    assert any(call.recording.call_id in index for call in old_and_new()[1])


@pytest.fixture
def held_out(out: Path) -> Path:
    """The results with one more call, of a night that the gate holds back."""
    (extra,) = plausible_calls(1, 1)
    facts = replace(extra.facts, started_at=NOW - timedelta(hours=5))
    extra = replace(extra, recording=replace(extra.recording, recording_id="f" * 64), facts=facts)
    with open_work(Workspace(out)) as store:
        window = Window(NOW - timedelta(days=1), NOW)
        store.write([extra], store.begin_run(window, ENSEMBLE_ID, "0.1.0"))
    Workspace(out).hold(2, window.since, window.until, ["too few"])
    assert rows(out, "SELECT count(*) FROM calls") == [(12,)]
    return out


def test_a_purge_takes_old_calls_from_what_people_see_and_leaves_a_held_night_held(held_out: Path) -> None:
    old, _ = old_and_new()
    words = [MARK, "e" * 64, *(call.recording.recording_id for call in old)]
    done = purge(SETTINGS, Workspace(held_out), older("2d"), now=NOW)
    assert done.n_calls == 6
    assert found_in(held_out, words) == set()
    assert rows(held_out, "SELECT count(*), count(*) FILTER (recording_id = repeat('f', 64)) FROM calls") == [
        (6, 0)
    ]
    assert "NOT PUBLISHED" in render_status(read_status(Workspace(held_out)), UTC)
    assert not (held_out / ".work" / "changing").exists()
    with open_work(Workspace(held_out)) as store:
        assert store.unpublished
        assert done_among(store, ["f" * 64], ENSEMBLE_ID)


def test_clips_go_from_what_people_see_while_a_night_is_held(held_out: Path) -> None:
    old, _ = old_and_new()
    ids = [call.recording.call_id for call in old]
    cut = "SELECT count(*) FROM evidence WHERE clip IS NOT NULL AND call_id IN (SELECT unnest(?))"
    assert rows(held_out, cut, ids) != [(0,)]
    purge(SETTINGS, Workspace(held_out), older("2d"), audio_only=True, now=NOW)
    assert rows(held_out, cut, ids) == [(0,)]
    assert rows(held_out, "SELECT count(*) FROM calls") == [(12,)]


def test_a_purge_that_the_disk_cut_short_while_a_night_is_held_is_finished_by_the_next(
    held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            purge(SETTINGS, Workspace(held_out), older("2d"), now=NOW)
    assert rows(held_out, "SELECT count(*) FROM calls") == [(12,)]
    purge(SETTINGS, Workspace(held_out), older("2d"), now=NOW)
    assert found_in(held_out, [MARK]) == set()
    assert rows(held_out, "SELECT count(*) FROM calls") == [(6,)]


def test_an_exchange_of_sides_does_not_publish_a_held_night(held_out: Path) -> None:
    _, new = old_and_new()
    index = (held_out / "reports" / "index.html").read_bytes()
    for call in new:
        try:
            done = relabel(SETTINGS, Workspace(held_out), call.recording.call_id)
        except UsageError:
            continue  # one with nobody known
        assert not done.published
        break
    else:
        pytest.fail("no call could be relabelled")
    assert rows(held_out, "SELECT count(*) FROM calls") == [(12,)]
    assert rows(held_out, "SELECT count(*) FROM base.corrections WHERE swap_roles") == [(0,)]
    assert (held_out / "reports" / "index.html").read_bytes() == index
    with open_work(Workspace(held_out)) as store:
        assert any(correction.swap_roles for correction in store.corrections().values())


def test_forms_of_the_report_for_mail_go_too(out: Path) -> None:
    names = ("report.html", "report-redacted.html", "email.txt", "reports/email.html")
    for name in names:
        (out / name).write_text("a call of long ago", encoding="utf-8")
    (out / "reports-redacted" / "calls").mkdir(parents=True)
    (out / "notes.html").write_text("my own", encoding="utf-8")
    purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert not [name for name in (*names, "reports-redacted") if (out / name).exists()]
    assert (out / "notes.html").exists()


def test_what_is_new_stays_as_it_was(out: Path) -> None:
    _, new = old_and_new()
    views = ("call_summary", "segment_emotions", "predictions", "call_measures", "reviews", "evidence")
    ids = [call.recording.call_id for call in new]
    asked = [f"FROM {view} WHERE call_id IN (SELECT unnest(?)) ORDER BY ALL" for view in views]
    before = [rows(out, sql, ids) for sql in asked]
    purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert [rows(out, sql, ids) for sql in asked] == before
    assert all(before)
    assert rows(out, "SELECT count(*) FROM calls") == [(6,)]
    assert rows(out, "SELECT path FROM quarantine") != []
    for call in new:
        for clip in call.clips:
            assert (out / "reports" / "clips" / call.recording.call_id / clip.name).exists()
    index = (out / "reports" / "index.html").read_text()
    assert any(key in index for key in ids)


def test_the_next_run_goes_on_from_what_is_left(out: Path) -> None:
    purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    with open_work(Workspace(out)) as store:
        assert len(store.rows("FROM base.analyses")) == 6
        window = Window(NOW - timedelta(days=4), NOW)
        store.write(plausible_calls(4, 3), store.begin_run(window, ENSEMBLE_ID, "0.1.0"))
        publish(store)
    assert rows(out, "SELECT count(*) FROM call_summary") == [(12,)]


def test_audio_only_removes_the_clips_and_says_so_in_the_rows(out: Path) -> None:
    old, _ = old_and_new()
    ids = [call.recording.call_id for call in old]
    cut = "SELECT count(*) FROM evidence WHERE clip IS NOT NULL AND call_id IN (SELECT unnest(?))"
    assert rows(out, cut, ids) != [(0,)]
    moments = rows(out, "SELECT call_id, start_s, words FROM evidence ORDER BY ALL")
    done = purge(SETTINGS, Workspace(out), older("2d"), audio_only=True, now=NOW)
    assert done.n_calls == done.n_pages == 0 < done.n_clips
    assert rows(out, cut, ids) == [(0,)]
    assert rows(out, "SELECT call_id, start_s, words FROM evidence ORDER BY ALL") == moments
    assert rows(out, "SELECT count(*) FROM calls") == [(12,)]
    for key in ids:
        assert not (out / "reports" / "clips" / key).exists()
        assert f"clips/{key}" not in (out / "reports" / "index.html").read_text()


def test_a_dry_run_counts_and_changes_nothing(out: Path) -> None:
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    shown = purge(SETTINGS, Workspace(out), older("2d"), dry_run=True, now=NOW)
    unlike = {".work/run.lock"}
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    changed = {str(p.relative_to(out)) for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    assert changed <= unlike
    done = purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert replace(done, n_bytes_freed=0, dry_run=True) == replace(shown, n_bytes_freed=0)


def test_a_purge_cut_short_is_finished_by_the_next(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the files are written anew: rows are gone, bytes not; then there is room."""
    with monkeypatch.context() as patched:

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert found_in(out, [MARK])
    assert rows(out, "SELECT count(*) FROM calls") == [(12,)]  # the last published file is intact
    again = purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert again.n_calls == 0
    assert found_in(out, [MARK]) == set()
    assert rows(out, "SELECT count(*) FROM calls") == [(6,)]


def test_an_id_that_is_a_path_removes_nothing_outside(out: Path) -> None:
    precious = out.parent / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    with open_work(Workspace(out)) as store:
        store.connection.execute(
            "UPDATE base.calls SET call_id = '../../../precious' WHERE started_at ="
            " (SELECT min(started_at) FROM base.calls)"
        )
    purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert (precious / "file").read_text() == "keep"


def test_reviews_on_their_way_go_with_their_calls_and_others_stay(out: Path) -> None:
    old, new = ([call.recording.call_id for call in calls] for calls in old_and_new())
    unfinished = out / ".work" / "reviews" / ".20250301.part"
    with open_work(Workspace(out)) as store:
        for key in (old[0], new[0]):  # refused: the rule never fired
            note = f"{MARK} refused" if key in old else "r"
            put(Workspace(out), [Review(key, "reject", rule="no_such_rule", note=note)])
        take_in(store, Workspace(out))
        # By hand: half a file, a call that was never there, and what a killed process left behind.
        (unfinished.parent / "refused" / "half.json").write_text(f'{{"call_id": "{old[1]}", "note": "{MARK}')
        put(Workspace(out), [Review("0" * 16, "reject", note=f"{MARK} purged before")])
        unfinished.write_text(MARK)
        os.utime(unfinished, (0, 0))
    for key in (old[0], new[0]):  # they wait for a run that is at work
        put(Workspace(out), [Review(key, "reject", note=f"{MARK} waits" if key in old else "waits")])
    put(
        Workspace(out),
        [Review(key, "reject", note=MARK if key in old else "of an import") for key in (*old[:2], *new)],
    )
    shown = purge(SETTINGS, Workspace(out), older("2d"), dry_run=True, now=NOW)
    done = purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert found_in(out, [MARK, *old]) == set()
    assert done.n_reviews == shown.n_reviews == 6
    alone, imported = map(read_reviews, waiting(Workspace(out)))
    assert [review.call_id for review in alone] == [new[0]]
    assert [review.call_id for review in imported] == new
    (kept,) = (out / ".work" / "reviews" / "refused").glob("*.json")
    assert [review.call_id for review in read_reviews(kept)] == [new[0]]
    assert "no_such_rule" in kept.with_suffix(".txt").read_text()


def test_a_verdict_given_while_its_call_is_purged_goes_too(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = ([call.recording.call_id for call in calls] for calls in old_and_new())

    def compact_late(store: Store) -> Path:  # people see the call until then, and judge it
        put(Workspace(out), [Review(old[0], "confirm", note=MARK)])
        put(Workspace(out), [Review(new[0], "confirm", note="of another call")])
        return compact(store)

    monkeypatch.setattr("jobs.maintenance.purge.compact", compact_late)
    purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert found_in(out, [MARK, *old]) == set()
    (kept,) = map(read_reviews, waiting(Workspace(out)))
    assert [review.call_id for review in kept] == [new[0]]


def test_only_the_clips_go_so_reviews_on_their_way_stay(out: Path) -> None:
    put(Workspace(out), [Review(old_and_new()[0][0].recording.call_id, "reject")])
    purge(SETTINGS, Workspace(out), older("2d"), audio_only=True, now=NOW)
    assert len(waiting(Workspace(out))) == 1


def left_by_training(out: Path) -> list[Path]:
    """What a retraining with reviewed calls leaves behind: clips by name, a manifest, spectrograms."""
    key = old_and_new()[0][0].recording.call_id
    reviewed, cache = out / "training" / "reviewed", out / "training" / "cache" / "clean-1"
    files = [reviewed / f"{key}-0.wav", reviewed / "reviewed.csv", cache / "done.json"]
    files.append(out / "training" / ".reviewed.part" / "1.wav")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{MARK} {key}")
    (out / "training" / "history.jsonl").write_text("{}")
    return files


def test_clips_that_a_retraining_cut_go_when_calls_go(out: Path) -> None:
    files = left_by_training(out)
    purge(SETTINGS, Workspace(out), older("400d"), now=NOW)  # nothing is that old
    assert [file.exists() for file in files] == [True, True, True, False]  # the last was left by a kill
    done = purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert done.n_training_clips == 1
    old = [call.recording.call_id for call in old_and_new()[0]]
    assert found_in(out, [MARK, *old]) == set()
    assert (out / "training" / "history.jsonl").exists()


def test_databases_moved_away_as_damaged_go_with_any_purge(out: Path) -> None:
    """What they name is known to nobody: a call that is only in there can be asked for as well."""
    workspace = Workspace(out)
    work = workspace.work_database
    workspace.damaged.mkdir()
    for name in (work.name, f"{work.name}.wal"):
        shutil.copyfile(work, workspace.damaged / name)
    purge(SETTINGS, workspace, older("365d"), now=NOW, audio_only=True)
    assert len(list(workspace.damaged.iterdir())) == 2
    said = run_command("purge", "--older-than", "2020-01-01", "--dry-run", "--out", out).stderr
    assert "2 files of damaged databases" in said
    assert len(list(workspace.damaged.iterdir())) == 2
    done = purge(SETTINGS, workspace, older("2d"), now=NOW)
    assert done.n_damaged == 2
    old, _ = old_and_new()
    assert found_in(out, [MARK, *(call.recording.call_id for call in old)]) == set()
    assert purge(SETTINGS, workspace, older("2d"), now=NOW).n_damaged == 0


@pytest.mark.parametrize("lock", ["retrain.lock", "train.lock"])
@pytest.mark.usefixtures("impatient")
def test_a_training_at_work_is_not_robbed_of_its_clips(out: Path, lock: str) -> None:
    files = left_by_training(out)
    with file_lock(out / "training" / lock):
        with pytest.raises(LockHeld, match=r"training .* Nothing was purged"):
            purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
        assert purge(SETTINGS, Workspace(out), older("2d"), dry_run=True, now=NOW).n_calls == 6
        purge(SETTINGS, Workspace(out), older("2d"), audio_only=True, now=NOW)
    assert [file.exists() for file in files] == [
        True,
        True,
        True,
        False,
    ]  # the last is nobody's: left by a kill
    assert rows(out, "SELECT count(*) FROM calls") == [(12,)]


def test_a_link_in_place_of_a_clip_folder_is_not_followed(out: Path) -> None:
    old, _ = old_and_new()
    precious = out.parent / "recordings"
    precious.mkdir()
    (precious / "original.wav").write_bytes(b"RIFF")
    link = out / "reports" / "clips" / next(c for c in old if not c.clips).recording.call_id
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(precious)
    purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert (precious / "original.wav").exists()


@pytest.mark.usefixtures("impatient")
def test_a_run_at_work_is_not_disturbed(out: Path) -> None:
    with Workspace(out).lock(), pytest.raises(LockHeld, match="another run"):
        purge(SETTINGS, Workspace(out), older("2d"), now=NOW)


@pytest.mark.parametrize("words", ["a while", "-3d", "", "12m", "36h", "now", "today"])
def test_a_limit_that_says_no_time_is_refused(out: Path, words: str) -> None:
    with pytest.raises(UsageError, match="says no time"):
        purge(SETTINGS, Workspace(out), older(words), now=NOW)


def test_the_command_refuses_months_and_the_future(out: Path) -> None:
    for words in ("12m", "now", "2999-01-01"):
        assert repr(words) in run_command("purge", "--older-than", words, "--out", out, expect=2).stderr
    assert rows(out, "SELECT count(*) FROM calls") == [(12,)]


@pytest.mark.parametrize(("age", "quiet_days"), [("365d", 31), ("20d", 10), ("4d", 7)])
def test_an_age_is_not_counted_back_from_a_clock_that_lies_far_beyond_every_call(
    out: Path, age: str, quiet_days: int
) -> None:
    ((newest,),) = rows(out, "SELECT max(started_at) FROM calls")
    at_most = newest + timedelta(days=quiet_days)
    by = [
        (clock, selection_of(SETTINGS, Workspace(out), older_than=age, now=clock))
        for clock in (at_most - timedelta(hours=1), at_most + timedelta(hours=1))  # days of 23 hours
    ]
    with open_work(Workspace(out)) as store:  # what ran by the same clock is no evidence for it
        run_id = store.begin_run(Window(newest, by[1][0]), ENSEMBLE_ID, "0.1.0")
        store.end_run(run_id, RunCounts(), exit_code=0)
    clips = set((out / "reports" / "clips").iterdir())
    purge(SETTINGS, Workspace(out), by[0][1], dry_run=True, now=by[0][0])
    for options in ({}, {"audio_only": True}, {"dry_run": True}):
        with pytest.raises(ClockDoubtful, match="nothing was purged") as refused:
            purge(SETTINGS, Workspace(out), by[1][1], now=by[1][0], **options)
    assert rows(out, "SELECT count(*) FROM calls") == [(12,)]
    assert set((out / "reports" / "clips").iterdir()) == clips
    day = str(refused.value).rpartition("--older-than ")[2]
    named = selection_of(SETTINGS, Workspace(out), older_than=day, now=by[1][0])
    assert purge(SETTINGS, Workspace(out), named, dry_run=True, now=by[1][0]).before == named.before


def test_a_call_of_the_future_does_not_vouch_for_the_clock(out: Path) -> None:
    clock = NOW + timedelta(days=400)
    with open_work(Workspace(out)) as store:
        newest = "(SELECT max(started_at) FROM base.calls)"
        store.connection.execute(
            f"UPDATE base.calls SET started_at = started_at + INTERVAL 9000 DAY WHERE started_at = {newest}"
        )
    selection = selection_of(SETTINGS, Workspace(out), older_than="365d", now=clock)
    with pytest.raises(ClockDoubtful):
        purge(SETTINGS, Workspace(out), selection, now=clock)


def test_the_command_ends_with_9_where_the_clock_is_doubtful(out: Path) -> None:
    said = run_command("purge", "--older-than", "365d", "--out", out, expect=9)  # the calls are of 2025
    assert "the newest call is of 2025-04-0" in said.stderr
    assert rows(out, "SELECT count(*) FROM calls") == [(12,)]


def test_without_results_there_is_nothing_to_purge(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results here to purge"):
        purge(SETTINGS, Workspace(tmp_path / "typo"), older("2d"), now=NOW)
    assert not (tmp_path / "typo").exists()


def test_one_call_or_all_of_an_agent_go_and_nothing_else(out: Path) -> None:
    calls = rows(out, "SELECT call_id, agent_id FROM calls ORDER BY ALL")
    call_id = str(calls[0][0])
    purge(SETTINGS, Workspace(out), selection_of(SETTINGS, Workspace(out), call=call_id[:8]), now=NOW)
    assert rows(out, "SELECT call_id, agent_id FROM calls ORDER BY ALL") == calls[1:]
    assert found_in(out, [call_id]) == set()
    agent = str(calls[1][1])
    done = purge(SETTINGS, Workspace(out), selection_of(SETTINGS, Workspace(out), agent=agent), now=NOW)
    left = [call for call in calls[1:] if call[1] != agent]
    assert (done.n_calls, rows(out, "SELECT call_id, agent_id FROM calls ORDER BY ALL")) == (
        11 - len(left),
        left,
    )
    assert 0 < len(left) < 11
    assert verify_erasures(out / "erasures.jsonl", load_or_make_salt(out / ".caller-salt")) == (2, None)
    with pytest.raises(UsageError, match="--call '' is no id"):
        selection_of(SETTINGS, Workspace(out), call="")


def test_one_thing_is_purged_at_a_time(out: Path) -> None:
    said = "Give one of --older-than, --call, --caller and --agent."
    assert said in run_command("purge", "--out", out, expect=2).stderr
    assert said in run_command("purge", "--call", "1" * 16, "--agent", "a", "--out", out, expect=2).stderr
    assert "is no number and no hash" in run_command("purge", "--caller", "x", "--out", out, expect=2).stderr
    assert rows(out, "SELECT count(*) FROM calls") == [(12,)]


def test_the_command_prints_what_went(out: Path) -> None:
    arguments = ["purge", "--older-than", "2025-03-31", "--out", out]
    printed = run_command(*arguments, "--json").json()
    assert (printed["n_calls"], printed["dry_run"], printed["audio_only"]) == (6, False, False)
    assert "Would remove 0 calls" in run_command(*arguments, "--dry-run").stderr


def _shown(out: Path) -> set[str]:
    """Calls that the pages name."""
    index = (out / "reports" / "calls" / "index.html").read_text(encoding="utf-8")
    return {call.recording.call_id for call in plausible_calls(4, 3) if call.recording.call_id in index}


def _known_call(out: Path) -> str:
    """A new call of which somebody is known."""
    _, new = old_and_new()
    return next(c.recording.call_id for c in new if {Role.AGENT, Role.CALLER} & set(c.speech.roles.values()))


def _a_run(out: Path, window: Window, exit_code: int | None) -> None:
    with open_work(Workspace(out)) as store:
        run_id = store.begin_run(window, ENSEMBLE_ID, "0.1.0")
        if exit_code is not None:
            store.end_run(run_id, RunCounts(n_found=9, n_new=9), exit_code=exit_code)


LAST_TWO_DAYS = Window(NOW - timedelta(days=2), NOW)


slow = pytest.mark.slow


@pytest.mark.parametrize("exit_code", [0, 143, pytest.param(3, marks=slow), pytest.param(7, marks=slow)])
def test_an_exchange_of_sides_writes_the_pages_of_the_last_run_that_wrote_them(
    out: Path, exit_code: int
) -> None:
    _a_run(out, LAST_TWO_DAYS, exit_code)
    for code in (4, 8, None):  # these wrote none
        _a_run(out, Window(NOW - timedelta(days=9), NOW - timedelta(days=8)), code)
    relabel(SETTINGS, Workspace(out), _known_call(out))
    assert _shown(out) == {call.recording.call_id for call in old_and_new()[1]}


def test_a_purge_keeps_calls_in_the_pages_that_came_late(out: Path) -> None:
    with open_work(Workspace(out)) as store:
        store.connection.execute("UPDATE base.runs SET since_at = until_at - INTERVAL 1 DAY")
    purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert _shown(out) == {call.recording.call_id for call in old_and_new()[1]}


@pytest.mark.parametrize("job", ["relabel", "purge"])
def test_calls_that_came_late_stay_in_the_pages_when_a_later_run_left_them(out: Path, job: str) -> None:
    """A run takes in late calls; the same window again finds nothing new and leaves the pages."""
    last_day = Window(NOW - timedelta(days=1), NOW)
    Pages(Workspace(out), SETTINGS).write(
        ReportWindow(Window(LAST_TWO_DAYS.since, last_day.until), last_day.since), now=NOW
    )
    before = _shown(out)
    assert before == {call.recording.call_id for call in old_and_new()[1]}
    assert Pages(Workspace(out), SETTINGS).are_current(last_day)
    _a_run(out, last_day, 0)
    if job == "relabel":
        relabel(SETTINGS, Workspace(out), _known_call(out))
    else:
        purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert _shown(out) == before


def test_a_purge_of_nothing_leaves_the_pages(out: Path) -> None:
    Pages(Workspace(out), SETTINGS).write(ReportWindow(LAST_TWO_DAYS, LAST_TWO_DAYS.since), now=NOW)
    index = out / "reports" / "index.html"
    before = (index.stat().st_ino, index.stat().st_mtime_ns)
    assert purge(SETTINGS, Workspace(out), older("2001-01-01"), now=NOW).n_calls == 0
    assert (index.stat().st_ino, index.stat().st_mtime_ns) == before


def test_pages_that_a_purge_could_not_write_are_written_by_the_next(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four_days = Window(NOW - timedelta(days=4), NOW)
    Pages(Workspace(out), SETTINGS).write(ReportWindow(four_days, four_days.since), now=NOW)
    with monkeypatch.context() as patched:

        def full(*args: object, **options: object) -> None:
            raise ReportError("No space left on device")

        patched.setattr("reports.outputs.folder.build_reports", full)
        with pytest.raises(ReportError):
            purge(SETTINGS, Workspace(out), older("2d"), now=NOW)
    assert found_in(out / "reports", [MARK])
    assert purge(SETTINGS, Workspace(out), older("2d"), now=NOW).n_calls == 0
    assert found_in(out / "reports", [MARK]) == set()
