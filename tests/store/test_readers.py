"""People who read while the night publishes: the old file stays whole, the next open is the new one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from fixture_calls import ENSEMBLE_ID, LABELS, MEMBERS, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.errors import StoreError
from callanalytics.store import Store, open_work, publish
from callanalytics.store.parquet import export
from callanalytics.store.publish import mend_published
from callanalytics.store.query import run_query
from callanalytics.workspace import Workspace
from jobs.night import RunOptions
from jobs.night.run import run_night

pytestmark = pytest.mark.usefixtures("analysed_here")

N_NIGHTS = 3
# A notebook: opened once, asked again and again, in a process of its own. Without a cache and from the
# first row to the last, so that every answer is read from the file.
NOTEBOOK = """
import duckdb, sys
results = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
results.execute("SET enable_external_file_cache = false")
results.execute("SET enable_progress_bar = false")
print("open", flush=True)
for line in sys.stdin:
    rows = results.execute(
        "SELECT (SELECT count(*) FROM call_summary), (SELECT sum(hash(s)) FROM segment_emotions s),"
        " (SELECT sum(hash(p)) FROM predictions p), (SELECT sum(hash(f)) FROM segment_features f)"
    ).fetchall()
    if sys.argv[2] == "write":
        results.execute("CREATE TABLE IF NOT EXISTS mine (note VARCHAR)")
        results.execute("INSERT INTO mine VALUES ('kept in the old file')")
    print(*rows[0], flush=True)
"""


class Notebook:
    """Somebody with the published file open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("ask\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


@contextmanager
def notebook(database: Path, how: str) -> Iterator[Notebook]:
    command = [sys.executable, "-c", NOTEBOOK, str(database), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"  # before anybody puts another file there
        yield Notebook(process)
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def calls() -> list[CallAnalysis]:
    return plausible_calls(N_NIGHTS, 5)


@pytest.fixture
def store(empty_out: Path, tmp_path: Path) -> Iterator[Store]:
    with open_work(Workspace(shutil.copytree(empty_out, tmp_path / "out"))) as opened:
        opened.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
        opened.promote_ensemble(ENSEMBLE_ID)
        yield opened


def night(store: Store, calls: list[CallAnalysis], number: int) -> Path:
    """Write one night's calls and publish; returns the published file."""
    mine = calls[number * 5 : number * 5 + 5]
    window = Window(mine[0].facts.started_at, mine[-1].facts.started_at)
    store.write(mine, store.begin_run(window, ENSEMBLE_ID, "0.1.0"))
    return publish(store)


@pytest.mark.parametrize("how", ["read", "write"])
def test_a_notebook_open_for_nights_reads_one_night_and_disturbs_none(
    store: Store, calls: list[CallAnalysis], how: str
) -> None:
    database = night(store, calls, 0)
    with notebook(database, how) as early:
        first = early.ask()
        assert first.startswith("5 ")
        for number in range(1, N_NIGHTS):
            assert night(store, calls, number) == database
            assert early.ask() == first  # the whole old file, read again
            with notebook(database, "read") as late:
                assert late.ask().startswith(f"{5 * (number + 1)} ")
    # What the writer left beside the old file does not trouble whoever comes next.
    n_calls = run_query(database, "SELECT count(*) AS n FROM call_summary", max_rows=None).item()
    assert n_calls == 5 * N_NIGHTS
    assert run_query(database, "FROM duckdb_tables() WHERE table_name = 'mine'", max_rows=None).is_empty()


def test_many_readers_at_once_read_the_same(store: Store, calls: list[CallAnalysis]) -> None:
    database = night(store, calls, 0)
    with notebook(database, "read") as one, notebook(database, "read") as other:
        assert one.ask() == other.ask()


def test_who_writes_to_the_published_file_keeps_other_readers_out_until_the_next_night(
    store: Store, calls: list[CallAnalysis]
) -> None:
    database = night(store, calls, 0)
    with notebook(database, "write") as holder:
        holder.ask()
        with pytest.raises(StoreError, match="Close it there"):
            run_query(database, "SELECT 1", max_rows=None)
        night(store, calls, 1)
        assert run_query(database, "SELECT count(*) AS n FROM calls", max_rows=None).item() == 10


def test_the_log_of_a_session_with_an_old_file_is_gone_after_the_next_run_also_when_nothing_is_new(
    tmp_path: Path,
) -> None:
    (tmp_path / "in").mkdir()
    out, options = tmp_path / "out", RunOptions(inputs=(tmp_path / "in",), out=tmp_path / "out")
    assert run_night(Settings(), options).exit_code == 0
    database = out / "callanalytics.duckdb"
    with notebook(database, "write") as analyst:
        Workspace(out).unpublished_mark.touch()
        assert run_night(Settings(), options).exit_code == 0  # a new file lies there now
        analyst.ask()
        with pytest.raises(StoreError, match="does not match the one here"):
            run_query(database, "SELECT 1", max_rows=None)
        published = database.stat().st_ino
        assert run_night(Settings(), options).exit_code == 0
        assert run_query(database, "SELECT 1", max_rows=None).item() == 1
        assert database.stat().st_ino == published, "the file itself was well"


def test_rows_in_the_log_of_an_older_file_are_never_read_as_results(
    store: Store, calls: list[CallAnalysis], tmp_path: Path
) -> None:
    database = night(store, calls, 0)
    with notebook(database, "write") as analyst:
        night(store, calls, 1)
        analyst.ask()  # the first word written: its log gets the name that the new file's would have
        with pytest.raises(StoreError, match="does not match the one here"):
            run_query(database, "FROM mine", max_rows=None)
        with pytest.raises(StoreError, match="does not match the one here"):
            export(database, tmp_path / "parquet")
        assert mend_published(store.workspace)
        assert run_query(database, "SELECT count(*) AS n FROM calls", max_rows=None).item() == 10
        assert run_query(database, "FROM duckdb_tables() WHERE table_name = 'mine'", max_rows=None).is_empty()


def test_a_published_file_that_cannot_be_opened_is_published_anew(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    options = RunOptions(inputs=(tmp_path / "in",), out=tmp_path / "out")
    run_night(Settings(), options)
    database = tmp_path / "out" / "callanalytics.duckdb"
    database.write_bytes(b"damaged" * 1000)
    with pytest.raises(StoreError, match="The next run publishes it anew"):
        run_query(database, "SELECT 1", max_rows=None)
    assert run_night(Settings(), options).exit_code == 0
    assert run_query(database, "SELECT count(*) FROM calls", max_rows=None).item() == 0


def test_one_process_sees_the_new_file_once_it_has_closed_the_old_one(
    store: Store, calls: list[CallAnalysis]
) -> None:
    """A process that has the path open gets the same open file again, as docs/reference/sql.md says."""
    database = night(store, calls, 0)
    held = duckdb.connect(database, read_only=True)
    night(store, calls, 1)
    assert held.execute("SELECT count(*) FROM calls").fetchone() == (5,)
    with duckdb.connect(database, read_only=True) as again:
        assert again.execute("SELECT count(*) FROM calls").fetchone() == (5,)
    held.close()
    with duckdb.connect(database, read_only=True) as fresh:
        assert fresh.execute("SELECT count(*) FROM calls").fetchone() == (10,)
