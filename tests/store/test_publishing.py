"""The published copy: replaced whole, private, and nothing is lost on a full disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from fixture_calls import (
    ENSEMBLE_ID,
    plausible_calls,
    plausible_failures,
)
from stores import begin, count, one

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings
from callanalytics.errors import StoreError
from callanalytics.store import Correction, Review, Store, open_work, publish
from callanalytics.store.publish import change_published, compact, mend_published
from callanalytics.store.query import run_query
from callanalytics.store.recordings import done_among
from callanalytics.store.remove import Selection, forget_calls, forget_clips
from callanalytics.workspace import DATABASE_NAME, Workspace
from jobs.maintenance.doctor import Finding, examine
from jobs.night import RunOptions
from jobs.night.run import run_night

pytestmark = pytest.mark.usefixtures("analysed_here")


def test_publishing_replaces_the_copy_while_an_analyst_writes_to_it(
    tmp_path: Path, calls: list[CallAnalysis]
) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        run_id = begin(store)
        store.write(calls[:2], run_id)
        published = publish(store)
        published.chmod(0o600)  # it is read-only, but the owner of a file may change that
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


def published_rows(database: Path) -> dict[str, str]:
    """All rows of all tables but those that are never published, as text: NaN is no NaN."""
    with duckdb.connect(database, read_only=True) as reader:
        tables = reader.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        shown = sorted(name for (name,) in tables if name not in ("files", "agent_voices"))
        return {name: str(reader.execute(f"FROM base.{name} ORDER BY ALL").fetchall()) for name in shown}


def working_rows(store: Store, scratch: Path) -> dict[str, str]:
    """The same of the working database, as it is."""
    store.connection.execute("CHECKPOINT")
    return published_rows(Path(shutil.copyfile(store.database, scratch / "working-copy.duckdb")))


@pytest.fixture(scope="module")
def made_twice(tmp_path_factory: pytest.TempPathFactory, calls: list[CallAnalysis]) -> Path:
    out = tmp_path_factory.mktemp("twice") / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:10], begin(store))
        publish(store)
        store.write(calls[10:11], begin(store))
        publish(store)
    return out


@pytest.fixture
def published_twice(tmp_path: Path, made_twice: Path):
    """Ten calls are published, an eleventh too since; its file before the last lies ready."""
    with open_work(Workspace(shutil.copytree(made_twice, tmp_path / "out"))) as store:
        yield store


def test_only_what_changed_is_written(
    published_twice: Store, calls: list[CallAnalysis], tmp_path: Path
) -> None:
    store, workspace = published_twice, published_twice.workspace
    flagged = next(call.recording.call_id for call in calls if call.clips)
    newest = calls[11].recording.call_id
    keys = []
    changes: dict[str, Callable[[], object]] = {
        "rows of few": lambda: (
            store.quarantine(plausible_failures(), begin(store)),
            store.review(Review(flagged, "confirm")),
            store.correct(Correction(flagged, swap_roles=True)),
        ),
        "one of these, no clips, a new call": lambda: (
            store.correct(Correction(flagged, swap_roles=False)),
            forget_clips(store, Selection("call", flagged)),
            store.write(calls[11:12], begin(store)),
        ),
        "another call under its key": lambda: (
            keys.append(one(store, "SELECT max(analysis_key) FROM base.analyses")),
            forget_calls(store, Selection("call", newest)),
            store.write(calls[:1], begin(store)),
            keys.append(one(store, "SELECT max(analysis_key) FROM base.analyses")),
        ),
    }
    for number, (name, change) in enumerate(changes.items(), start=2):
        change()
        before = workspace.database.read_bytes()
        with workspace.database.open("rb") as reader:
            publish(store)
            assert json.loads(workspace.generations.read_text())["n_since_whole"] == number, name
            assert published_rows(workspace.database) == working_rows(store, tmp_path), name
            assert reader.read() == before, f"{name}: a reader keeps what was open"
    assert keys[0] == keys[1]


def touched(workspace: Workspace) -> None:
    workspace.previous.chmod(0o600)
    with duckdb.connect(workspace.previous) as somebody:
        somebody.execute("DELETE FROM base.calls")


def linked(workspace: Workspace) -> None:
    """As by a backup, or by a publishing that was killed between the link and the rename."""
    workspace.previous.unlink()
    os.link(workspace.database, workspace.previous)


def rotten(workspace: Workspace) -> None:
    times = workspace.previous.stat()
    damage_a_row(workspace.previous, "base.segments")
    os.utime(workspace.previous, ns=(times.st_atime_ns, times.st_mtime_ns))


def rotten_published(workspace: Workspace) -> None:
    """It would be the previous one after the next publishing."""
    times = workspace.database.stat()
    damage_a_row(workspace.database, "base.segments")
    os.utime(workspace.database, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not mend_published(workspace)


@pytest.mark.parametrize("doubt", [touched, linked, rotten, rotten_published])
def test_where_anything_is_in_doubt_all_is_copied(
    published_twice: Store, tmp_path: Path, doubt: Callable[[Workspace], None]
) -> None:
    store, workspace = published_twice, published_twice.workspace
    doubt(workspace)
    before = workspace.database.read_bytes()
    with workspace.database.open("rb") as reader:
        publish(store)
        assert json.loads(workspace.generations.read_text())["n_since_whole"] == 0
        assert reader.read() == before
    for database in (workspace.database, workspace.previous):
        assert published_rows(database) == working_rows(store, tmp_path)


def test_a_file_that_somebody_still_reads_is_not_changed(published_twice: Store, tmp_path: Path) -> None:
    """Also one that takes no lock, such as a copy for a backup: it began to read two publishings ago."""
    store, workspace = published_twice, published_twice.workspace
    with workspace.database.open("rb") as backup:
        before = workspace.database.read_bytes()
        publish(store)
        publish(store)
        assert backup.read() == before
    assert published_rows(workspace.database) == working_rows(store, tmp_path)


def test_files_and_folders_are_for_their_owner_only(tmp_path: Path, calls: list[CallAnalysis]) -> None:
    out = tmp_path / "out"
    umask = os.umask(0o000)
    try:
        with open_work(Workspace(out)) as store:
            store.write(calls[:1], begin(store))
            publish(store)
            for path in (out, *out.rglob("*")):
                mode = stat.S_IMODE(path.stat().st_mode)
                file_mode = 0o400 if path.name in (DATABASE_NAME, "previous.duckdb") else 0o600
                assert mode == (0o700 if path.is_dir() else file_mode), f"{path} {mode:o}"
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


OLDEST_CLIENT = "1.2.0"
OLD_CLIENT = """
import duckdb, json, sys
with duckdb.connect(sys.argv[1], read_only=True) as client:
    views = client.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    counts = {}
    for (view,) in views:
        client.execute(f"CREATE OR REPLACE TEMP TABLE whole AS FROM {view}")  # computes every column
        counts[view] = client.execute("SELECT count(*) FROM whole").fetchone()[0]
    print(json.dumps({"version": duckdb.__version__, "counts": counts}))
"""


def storage_version(database: Path) -> tuple[str, int]:
    """The version that the file names, by DuckDB and by the number in its header."""
    with duckdb.connect(database, read_only=True) as reader:
        (tags,) = reader.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchall()[0]
    header = database.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    return tags["storage_version"], int.from_bytes(header[12:20], "little")


def test_published_files_have_the_format_that_older_clients_read(
    tmp_path: Path, calls: list[CallAnalysis]
) -> None:
    workspace = Workspace(tmp_path / "out")
    with open_work(workspace) as store:
        store.write(calls[:2], begin(store))
        assert storage_version(publish(store)) == ("v1.2.0+", 65)
    change_published(workspace, lambda copy: copy.review(Review(calls[0].recording.call_id, "confirm")))
    assert storage_version(workspace.database) == ("v1.2.0+", 65)
    with duckdb.connect(workspace.database, read_only=True) as reader:
        assert reader.execute("SELECT count(*) FROM reviews").fetchone() == (1,)
    with open_work(workspace) as store:
        compact(store)
    assert storage_version(workspace.database) == ("v1.2.0+", 65)


@pytest.mark.slow
def test_the_oldest_client_reads_every_view(tmp_path: Path, filled: Store) -> None:
    published = publish(filled)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", f"duckdb=={OLDEST_CLIENT}"]
    installed = subprocess.run(install, check=False, capture_output=True, text=True)
    if installed.returncode != 0:
        pytest.skip(f"duckdb {OLDEST_CLIENT} cannot be installed (no network?): {installed.stderr[-300:]}")
    asked = subprocess.run(
        [python, "-c", OLD_CLIENT, str(published)], check=False, capture_output=True, text=True
    )
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    with duckdb.connect(published, read_only=True) as reader:
        views = reader.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        expected = {view: reader.sql(f"FROM {view}").count("*").fetchall()[0][0] for (view,) in views}
    assert len(expected) > 40
    assert answer == {"version": OLDEST_CLIENT, "counts": expected}


@pytest.mark.parametrize("step", ["write", "publish"])
def test_a_full_disk_loses_nothing_that_was_committed(tmp_path: Path, step: str) -> None:
    """Files may not grow any more, as on a full disk: one clear error, and the next run completes."""
    out = tmp_path / "out"
    program = f"""
import os, resource, sys, pathlib
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from fixture_calls import *
from callanalytics.config import Settings
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


def killed_while_writing(out: Path) -> None:
    """One call is published, another only in the log of the working database, whose writer was killed."""
    program = f"""
import os, pathlib, sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from fixture_calls import *
from stores import begin
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace
calls = plausible_calls(1, 2)
store = open_work(Workspace(pathlib.Path({str(out)!r})))
store.write(calls[:1], begin(store))
publish(store)
store.connection.execute("CHECKPOINT")
store.write(calls[1:], begin(store))
os._exit(9)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    log = Workspace(out).work_database.with_name("callanalytics-work.duckdb.wal")
    assert log.stat().st_size > 0


@pytest.mark.parametrize("advice", ["followed", "only the database is moved"])
@pytest.mark.parametrize("damage", ["no database", "damaged block"])
def test_after_the_printed_advice_a_night_goes_on_from_the_published_file(
    tmp_path: Path, advice: str, damage: str
) -> None:
    out = tmp_path / "it's a locked block"  # the word in a path or in "block" means nothing
    killed_while_writing(out)
    (tmp_path / "in").mkdir()
    options = RunOptions(inputs=(tmp_path / "in",), out=out)
    database = Workspace(out).work_database
    content = bytearray(database.read_bytes())
    content[4096:12288] = bytes(8192)  # both headers
    database.write_bytes(content if damage == "damaged block" else b"this is not a database" * 1000)
    with pytest.raises(StoreError, match="goes on from the published") as caught:
        run_night(Settings(), options)
    message = str(caught.value)
    assert "Another process" not in message
    assert ("in block at" in message) == (damage == "damaged block")
    (command,) = [line.strip() for line in message.splitlines() if line.startswith("  ")]
    if advice == "followed":
        subprocess.run(["/bin/sh", "-c", command], check=True, cwd="/")
        moved = {path.name for path in (out / ".work" / "damaged").iterdir()}
        assert moved == {"callanalytics-work.duckdb", "callanalytics-work.duckdb.wal"}
    else:
        database.rename(tmp_path / "moved")
    assert run_night(Settings(), options).exit_code == 0
    with duckdb.connect(out / "callanalytics.duckdb", read_only=True) as reader:
        assert reader.execute("SELECT count(*) FROM base.analyses").fetchone() == (1,)


def test_a_mark_that_cannot_be_removed_does_not_deny_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that fails after the rename: to say that nothing was published would be untrue."""
    workspace = Workspace(tmp_path)
    unlink = Path.unlink

    def failing(path: Path, *, missing_ok: bool = False) -> None:
        if path == workspace.unpublished_mark:
            raise OSError(errno.EIO, "Input/output error", str(path))
        unlink(path, missing_ok=missing_ok)

    with open_work(workspace) as store:
        store.note_unpublished("test")
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", failing)
            assert publish(store).exists()
        assert store.unpublished, "the next run publishes once more"
        publish(store)
        assert not store.unpublished


def test_without_a_published_file_the_next_run_begins_anew(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    workspace.make()
    workspace.work_database.write_bytes(b"this is not a database" * 1000)
    with pytest.raises(StoreError, match="the next run begins anew") as caught:
        open_work(workspace)
    subprocess.run(["/bin/sh", "-c", str(caught.value).splitlines()[1]], check=True)
    with open_work(workspace) as store:
        assert count(store, "calls") == 0


def test_a_damaged_published_file_is_not_taken_for_an_open_one(tmp_path: Path) -> None:
    with open_work(Workspace(tmp_path / "block")) as store:
        published = publish(store)
    content = bytearray(published.read_bytes())
    content[4096:12288] = bytes(8192)
    published.write_bytes(content)
    with pytest.raises(StoreError, match=r"in block at .* The next run publishes it anew"):
        run_query(published, "SELECT 1", max_rows=None)


def damage_a_row(database: Path, table: str) -> None:
    """Flip bytes of a block that holds rows; everything that is read to open the file stays whole."""
    with duckdb.connect(database, read_only=True) as connection:
        (block,) = connection.execute(
            f"SELECT max(block_id) FROM pragma_storage_info('{table}') WHERE persistent AND block_id >= 0"
        ).fetchone() or (None,)
    assert block is not None
    content = bytearray(database.read_bytes())
    start = 12_288 + 262_144 * block  # three headers of 4 KB, then blocks
    content[start + 16 : start + 2_016] = bytes(byte ^ 255 for byte in content[start + 16 : start + 2_016])
    database.chmod(0o600)
    database.write_bytes(content)


@pytest.fixture(scope="module")
def two_calls(tmp_path_factory: pytest.TempPathFactory, calls: list[CallAnalysis]) -> Path:
    out = tmp_path_factory.mktemp("two") / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:2], begin(store))
        publish(store)
    return out


@pytest.fixture
def night_of_two_calls(tmp_path: Path, two_calls: Path) -> RunOptions:
    shutil.copytree(two_calls, tmp_path / "out")
    (tmp_path / "in").mkdir()
    return RunOptions(inputs=(tmp_path / "in",), out=tmp_path / "out")


def test_a_run_without_news_publishes_what_an_upgrade_changed(night_of_two_calls: RunOptions) -> None:
    workspace = Workspace(night_of_two_calls.out)
    earlier = "DROP VIEW outdated_calls; UPDATE base.definitions SET sha256 = 'of an earlier version'"
    for database in (workspace.work_database, workspace.database):
        database.chmod(0o600)
        with duckdb.connect(database) as connection:
            connection.execute(earlier)
    assert run_night(Settings(), night_of_two_calls).exit_code == 0
    assert (
        run_query(workspace.database, "SELECT count(*) AS n FROM outdated_calls", max_rows=None).height == 1
    )
    published = workspace.database.stat().st_mtime_ns
    assert run_night(Settings(), night_of_two_calls).exit_code == 0
    assert workspace.database.stat().st_mtime_ns == published, "once is enough"


def test_a_run_without_news_mends_a_damaged_row_of_the_published_file(night_of_two_calls: RunOptions) -> None:
    published = Workspace(night_of_two_calls.out).database
    damage_a_row(published, "base.segments")
    with pytest.raises(StoreError, match=r"Corrupt .* The next run publishes it anew"):
        run_query(published, "SELECT last(COLUMNS(*)) FROM base.segments", max_rows=None)
    assert run_night(Settings(), night_of_two_calls).exit_code == 0
    rows = run_query(published, "SELECT count(*) AS n, last(COLUMNS(*)) FROM base.segments", max_rows=None)
    assert rows["n"].item() > 0


def test_a_link_that_publishing_replaces_is_named_with_what_it_leaves_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(tmp_path / "out")
    with open_work(workspace) as store:
        published = publish(store)
        published.rename(tmp_path / "on another disk")
        published.symlink_to(tmp_path / "on another disk")
        publish(store)
    assert not published.is_symlink()
    assert str(tmp_path / "on another disk") in caplog.text


def wrong_databases(workspace: Workspace) -> list[Finding]:
    return [f for f in examine(Settings(), workspace) if f.name == "database" and not f.ok]


def test_a_run_without_news_publishes_anew_what_was_put_back_from_a_backup(
    night_of_two_calls: RunOptions, calls: list[CallAnalysis]
) -> None:
    workspace = Workspace(night_of_two_calls.out)
    backup = shutil.copy2(workspace.database, workspace.folder / "backup")
    with open_work(workspace) as store:
        store.write(calls[2:3], begin(store))
        publish(store)
    n_calls = "SELECT count(*) AS n FROM base.calls"
    Path(backup).replace(workspace.database)
    assert run_query(workspace.database, n_calls, max_rows=None)["n"].item() == 2
    (told,) = wrong_databases(workspace)
    assert "not what was published last" in told.found
    assert told.fix == "Run again: it is published anew."
    assert run_night(Settings(), night_of_two_calls).exit_code == 0
    assert run_query(workspace.database, n_calls, max_rows=None)["n"].item() == 3
    assert wrong_databases(workspace) == []
    published = workspace.database.stat().st_mtime_ns
    assert run_night(Settings(), night_of_two_calls).exit_code == 0
    assert workspace.database.stat().st_mtime_ns == published, "once is enough"
    with open_work(workspace) as store:
        store.write(calls[3:4], begin(store))
    assert wrong_databases(workspace) == [], "what waits for its publishing is no fault"


def test_a_working_database_from_a_backup_takes_nothing_away_from_what_is_published(
    night_of_two_calls: RunOptions, calls: list[CallAnalysis]
) -> None:
    workspace = Workspace(night_of_two_calls.out)
    backup = shutil.copy2(workspace.work_database, workspace.folder / "backup")
    with open_work(workspace) as store:
        store.write(calls[2:3], begin(store))
        publish(store)
    Path(backup).replace(workspace.work_database)
    (told,) = wrong_databases(workspace)
    assert "older than what is published" in told.found
    assert "  mkdir -p " in told.fix
    with pytest.raises(StoreError, match=r"has no run 2 of .* goes on from the published") as caught:
        run_night(Settings(), night_of_two_calls)
    (command,) = [line for line in str(caught.value).splitlines() if line.startswith("  ")]
    subprocess.run(["/bin/sh", "-c", command], check=True, cwd="/")
    assert run_night(Settings(), night_of_two_calls).exit_code == 0
    with open_work(workspace) as store:
        assert count(store, "calls") == 3
    n_calls = "SELECT count(*) AS n FROM base.calls"
    assert run_query(workspace.database, n_calls, max_rows=None)["n"].item() == 3


def test_a_damaged_row_of_the_working_database_is_told_with_advice(
    night_of_two_calls: RunOptions, calls: list[CallAnalysis]
) -> None:
    workspace = Workspace(night_of_two_calls.out)
    with open_work(workspace) as store:
        store.write(calls[2:3], begin(store))
    damage_a_row(workspace.work_database, "base.segments")
    before = workspace.database.read_bytes()
    with pytest.raises(StoreError, match="goes on from the published") as caught:
        run_night(Settings(), night_of_two_calls)
    assert workspace.database.read_bytes() == before
    subprocess.run(["/bin/sh", "-c", str(caught.value).splitlines()[1]], check=True)
    assert run_night(Settings(), night_of_two_calls).exit_code == 0


@pytest.mark.parametrize("damaged", [[], ["published"], ["working"], ["published", "working"]])
def test_doctor_reads_every_block_when_asked(night_of_two_calls: RunOptions, damaged: list[str]) -> None:
    workspace = Workspace(night_of_two_calls.out)
    databases = {"published": workspace.database, "working": workspace.work_database}
    for name in damaged:
        damage_a_row(databases[name], "base.segments")
    plain = examine(Settings(), workspace)
    assert "blocks" not in {finding.name for finding in plain}
    found = [finding for finding in examine(Settings(), workspace, deep=True) if finding.name == "blocks"]
    assert {finding.found.split(":")[0]: finding.ok for finding in found} == {
        str(path): name not in damaged for name, path in databases.items()
    }
    assert all(("mv " in f.fix) == (str(workspace.work_database) in f.found) for f in found if not f.ok)


def test_a_second_writer_is_told_who_holds_the_file(store: Store) -> None:
    program = (
        "import pathlib, sys; from callanalytics.store import open_work\n"
        "from callanalytics.workspace import Workspace\n"
        f"open_work(Workspace(pathlib.Path({str(store.database.parents[1])!r})))"
    )
    second = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "StoreError" in second.stderr
    assert "Another process has it open" in second.stderr
