"""Open the working database of an output folder: the only file that a run writes its results to.

And tell whether a database file is whole, held by somebody, or has a log beside it that is not its own.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.errors import StoreError, remedy
from callanalytics.store.schema import (
    Descriptors,
    Migration,
    is_outdated,
    quoted,
    shipped_migrations,
    upgrade,
)
from callanalytics.store.writer import Store
from callanalytics.workspace import DATABASE_NAME, Workspace

if TYPE_CHECKING:
    import duckdb

_PATIENCE_S = 3.0
_TRY_AGAIN_S = 0.1


def open_work(
    workspace: Workspace,
    *,
    migrations: Sequence[Migration] | None = None,
    descriptors: Descriptors | None = None,
) -> Store:
    """Open the working database for writing; make it, or bring it up to date, first.

    When only the published copy is left (somebody cleaned up `.work`), work goes on from that copy, so
    that the next publishing does not lose what it holds.

    Raises:
        StoreError: it is damaged, in use by another process, from a newer version, not writable, or older
            than what is published.
    """
    import duckdb

    database = workspace.work_database
    try:
        workspace.make()
        _restore(workspace.database, database)
    except OSError as problem:
        raise StoreError(
            f"{problem.filename or database}: cannot be made ({problem.strerror}). "
            f"{remedy(problem)} and do the same again."
        ) from problem
    connection = _connect(workspace)
    store = Store(connection, workspace)
    known = migrations or shipped_migrations(), descriptors or Descriptors.current()
    try:
        if is_outdated(connection, *known):
            store.note_unpublished("bring the database up to date")
        upgrade(connection, *known)
        check_not_older(connection, workspace)
    except duckdb.Error as problem:  # what the file says of itself cannot be read
        connection.close()
        raise unusable(workspace, problem) from problem
    except BaseException:
        connection.close()
        raise
    store.keep_private()
    return store


@contextmanager
def open_locked(workspace: Workspace, *, patience_s: float | None = None) -> Iterator[Store]:
    """Open the working database for the only job that writes in the workspace.

    Raises:
        LockHeld: another job writes there.
        StoreError: as `open_work` does.
    """
    with workspace.lock(patience_s=patience_s), open_work(workspace) as store:
        yield store


def _restore(published: Path, database: Path) -> None:
    if database.exists():
        return
    for log in database.parent.glob(f"{database.name}.wal*"):
        log.unlink()  # of a file that is gone: nobody can read it, and it fits no other
    if not published.exists():
        return
    partial = database.with_suffix(".restoring")
    shutil.copyfile(published, partial)
    partial.chmod(0o600)
    partial.replace(database)


def _connect(workspace: Workspace) -> duckdb.DuckDBPyConnection:
    import duckdb

    try:
        connection = _patiently(workspace.work_database)
        connection.execute("SET enable_progress_bar = false")  # it would go to standard output
        # Writing the log back costs more the larger the file is: at ten million segments, every 16 MB (the
        # default) would take half of a run's time in the writer. A killed run's log is replayed in seconds.
        connection.execute("SET checkpoint_threshold = '512MB'")
        # A batch is small: handing it to more threads costs more than they gain (benchmarks/RESULTS.md), and
        # the cores belong to the workers. Publishing takes them all, see `publish`.
        connection.execute("SET threads = 1")
        # The default, 80 % of the machine, is for a database that is alone on it: at 43 million segments the
        # writer's cache had grown to 19 GB and the kernel killed it. It only appends and needs no cache.
        connection.execute("SET memory_limit = '25%'")
        # Nothing that a name or a metadata field says may ever make the database open another file.
        connection.execute("SET autoinstall_known_extensions = false")
        connection.execute("SET autoload_known_extensions = false")
    except duckdb.Error as problem:
        raise unusable(workspace, problem) from problem
    return connection


def unusable(workspace: Workspace, problem: Exception) -> StoreError:
    """The error of a working database that cannot be opened, with a way out that works as printed."""
    database = workspace.work_database
    reason = next(iter(str(problem).splitlines()), type(problem).__name__)
    if held_elsewhere(problem):
        advice = "Another process has it open: end that one, or wait for it."
    else:
        advice = f"If it is damaged, {_way_out(workspace)}"
    return StoreError(f"{database}: the working database cannot be read. {reason} {advice}")


def _way_out(workspace: Workspace) -> str:
    database, aside = workspace.work_database, workspace.damaged.absolute()
    files = f"{shlex.quote(str(database.absolute()))}*"  # with its logs
    then = f"goes on from the published {DATABASE_NAME}" if workspace.database.exists() else "begins anew"
    return (
        f"move it and its log ({database.name}.wal) away, and the next run {then}:\n"
        f"  mkdir -p {shlex.quote(str(aside))} && mv {files} {shlex.quote(str(aside))}\n"
        "The next purge deletes that folder: copy what you want to keep."
    )


def check_not_older(connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    """Refuse a working database that lacks the newest run that is published, such as one from a backup.

    Publishing it would take away what people see, and calls whose recordings are gone for good. Runs are
    never deleted.

    Raises:
        StoreError: it does.
    """
    import duckdb

    published = workspace.database
    newest = "SELECT run_id, epoch_us(started_at) FROM base.runs ORDER BY run_id DESC LIMIT 1"
    try:
        if not published.exists() or log_of(published).exists():
            return
        with duckdb.connect(published, read_only=True) as reader:
            runs = reader.execute(newest).fetchall()
    except (duckdb.Error, OSError):  # it is damaged, or somebody writes to it: publishing replaces it
        return
    known = "SELECT count(*) FROM base.runs WHERE run_id = ? AND epoch_us(started_at) = ?"
    for run_id, started_us in runs:
        if connection.execute(known, [run_id, started_us]).fetchall() == [(0,)]:
            at = datetime.fromtimestamp(started_us / 1e6, UTC)
            raise StoreError(
                f"{workspace.work_database}: the working database is older than what is published, or of "
                f"another output folder: it has no run {run_id} of {at:%Y-%m-%d %H:%M} UTC. To publish it "
                f"would take results away. Put the newer one back, or {_way_out(workspace)}"
            )


def _patiently(database: Path) -> duckdb.DuckDBPyConnection:
    """Open for writing; somebody who only looks into the file is given some seconds to close it."""
    import duckdb

    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return duckdb.connect(database)
        except duckdb.IOException as problem:
            if not held_elsewhere(problem) or time.monotonic() >= deadline:
                raise
            time.sleep(_TRY_AGAIN_S)


# Files ------------------------------------------------------------------------------------------------------


def held_elsewhere(problem: BaseException | None) -> bool:
    """Whether DuckDB refused to open a file because another process has it open (for writing)."""
    import duckdb

    # Other failures to open are of the same type; its words begin the message, before any path.
    return isinstance(problem, duckdb.IOException) and str(problem).startswith("IO Error: Could not set lock")


def is_damage(problem: BaseException) -> bool:
    """Whether DuckDB met bytes that it did not write: a checksum that differs, a structure it cannot read.

    Damage has no type of its own: it is raised as the base class, or as one of those that mean a fault in
    DuckDB itself. A full disk, a lock and too little memory have types of their own.
    """
    import duckdb

    return type(problem) is duckdb.Error or isinstance(
        problem, (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
    )


def read_whole(connection: duckdb.DuckDBPyConnection) -> None:
    """Read every block of every table, which verifies their checksums (about 1 GB a second on one core).

    Raises:
        duckdb.Error: a block is damaged.
    """
    tables = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables()"
        " WHERE database_name = current_database() AND NOT temporary ORDER BY ALL"
    ).fetchall()
    for schema, table in tables:
        # The last value needs all rows; counts, least and greatest are answered from statistics.
        connection.execute(f"SELECT last(COLUMNS(*)) FROM {quoted(schema)}.{quoted(table)}").fetchall()  # noqa: S608


def check_no_log(database: Path) -> None:
    """Refuse a published file that a log lies beside.

    It is published without one. DuckDB cannot tell whether a log belongs to it (only formats since 1.4 can)
    and applies it: rows meant for an older file, or somebody's own, would be read as results.

    Raises:
        StoreError: there is a log.
    """
    log = log_of(database)
    if log.exists():
        raise StoreError(
            f"{log}: the log of a session that wrote to a published file, and does not match the one here. "
            "The next run removes it."
        )


def log_of(database: Path) -> Path:
    """The file beside a database that holds what DuckDB has not yet written into it."""
    return database.with_name(database.name + ".wal")
