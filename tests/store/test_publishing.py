"""The published copy: replaced whole, private, and nothing is lost on a full disk."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from fixture_calls import (
    ENSEMBLE_ID,
    plausible_calls,
)
from stores import begin, count

from callanalytics.analysis.call import CallAnalysis
from callanalytics.errors import StoreError
from callanalytics.store import Store, open_work, publish
from callanalytics.store.recordings import done_among
from callanalytics.workspace import Workspace


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
