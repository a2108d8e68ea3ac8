"""Publish what changed: the published file before the last one is brought up to date and takes its place.

    OUT/callanalytics.duckdb    what people read
    OUT/.work/previous.duckdb   what they read before; out of reach, and changed when nobody has it open

An analysis and all that hangs on it is named by its key and revision, so that two lists of these say what to
delete and what to add. Whatever is in doubt is no error: the caller then publishes a whole copy.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callanalytics.store.open import log_of
from callanalytics.store.schema import first_value, quoted
from callanalytics.store.writer import DERIVED, Store
from callanalytics.workspace import Workspace, read_object, write_whole

if TYPE_CHECKING:
    import duckdb

    Ranges = list[tuple[int, int]]

_log = logging.getLogger(__name__)

# Earlier rows that each publication compares with the working database: about 0.5 s of one core.
_COMPARED_BYTES = 128 << 20
# Rows of analyses that a file may have held for each that it holds: deleted ones leave holes.
_MOST_ROWS_EVER = 1.25
_COPIED_AT_ONCE = 1 << 30
_OF_CALLS = ("calls", "recordings")  # written and deleted together with an analysis of the call
# Which rows to delete there and which to add from here: of analyses, of calls, of tables of few rows.
_OTHER_KEYS = (
    "analysis_key IN (SELECT analysis_key FROM stale)",
    "analysis_key IN (SELECT analysis_key FROM fresh)",
)
_OTHER_CALLS = (
    "call_id IN (SELECT call_id FROM stale UNION ALL SELECT call_id FROM fresh)"
    " OR call_id NOT IN (SELECT call_id FROM {here})",
    "call_id NOT IN (SELECT call_id FROM {there})",
)
_OTHER_ROWS = (
    "hash(whole_row) NOT IN (SELECT hash(whole_row) FROM {here} AS whole_row)",
    "hash(whole_row) NOT IN (SELECT hash(whole_row) FROM {there} AS whole_row)",
)
# The voices of agents, and names as the file system has them: callers' numbers.
_PRIVATE = ("files", "agent_voices")


def publish_changes(store: Store) -> bool:
    """Bring the previous file up to date and publish it; False where a whole copy is needed instead."""
    import duckdb

    workspace, partial = store.workspace, store.workspace.publishing
    try:
        remove_database(partial)
        if not _is_untouched(workspace):
            return False
        workspace.previous.replace(partial)
        partial.chmod(0o600)
        with all_threads(store.connection):
            fresh = _brought_up_to_date(store.connection, partial)
            if fresh is None:
                return False
            partial.chmod(0o400)
            flush(partial)
            if not _is_equal(store.connection, partial, _to_compare(store, partial, fresh)):
                _log.warning("%s: differs from the working database and is published whole", partial)
                return False
        _swap(workspace, partial)
    except (duckdb.Error, OSError) as problem:
        _log.warning("%s: publishing only what changed failed (%s); all is copied", partial, problem)
        return False
    finally:
        with suppress(OSError):
            remove_database(partial)
    return True


def keep_second(workspace: Workspace) -> None:
    """After a whole copy: keep a second one of the published file for the next publishing.

    Without one (a full disk), the next publishing copies everything again.
    """
    forget_previous(workspace)
    try:
        with workspace.database.open("rb") as source, workspace.previous.open("xb") as target:
            os.fchmod(target.fileno(), 0o400)
            # Of a file system that can, the copy shares its blocks and costs nothing.
            while os.copy_file_range(source.fileno(), target.fileno(), _COPIED_AT_ONCE):
                pass
            os.fsync(target.fileno())
        _note(workspace, [_identity(workspace.database), _identity(workspace.previous)], 0)
    except OSError as problem:
        _log.warning("%s: cannot be kept (%s); the next publishing copies all", workspace.previous, problem)
        forget_previous(workspace)


def forget_previous(workspace: Workspace) -> None:
    """Remove the previous file, so that the next publishing writes a whole copy. Raises no error."""
    for path in (workspace.previous, workspace.generations):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _is_untouched(workspace: Workspace) -> bool:
    """Whether the previous file is as it was published, and nobody has it open or linked."""
    try:
        descriptor = os.open(workspace.previous, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        noted = (read_object(workspace.generations) or {}).get("files", [])
        # A lease for writing is granted to the only one who has a file open: no DuckDB, and no backup either.
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return _identity(workspace.previous) in noted and os.fstat(descriptor).st_nlink == 1
    except OSError:  # it is open, or this file system does not know (a share)
        return False
    finally:
        os.close(descriptor)


def _identity(path: Path) -> list[int]:
    """What changes when a file is written to."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def _note(workspace: Workspace, files: list[list[int]], n_since_whole: int) -> None:
    note = f'{{"files": {files}, "n_since_whole": {n_since_whole}}}\n'
    write_whole(workspace.generations, note)


def _swap(workspace: Workspace, partial: Path) -> None:
    """Put the file in place; the one that was there becomes the previous one."""
    noted = read_object(workspace.generations) or {}
    with suppress(OSError):  # nothing published, or no links here: the next publishing is a whole copy
        os.link(workspace.database, workspace.previous)
    put_in_place(partial, workspace.database)
    files = [_identity(workspace.database), *noted.get("files", [])[:1]]
    _note(workspace, files, int(noted.get("n_since_whole", 0)) + 1)


# Rows -------------------------------------------------------------------------------------------------------


def _brought_up_to_date(connection: duckdb.DuckDBPyConnection, partial: Path) -> Ranges | None:
    """Make the rows of an earlier published file those of the working database.

    Returns:
        The range of keys that was written, an empty list where no analysis is new; None where a whole copy
        is needed: another shape, or too many rows that were replaced.
    """
    source = quoted(first_value(connection, "SELECT current_database()"))
    with attached(connection, partial):
        run = connection.execute
        if _shape(connection, "current_database()") != _shape(connection, "'published'"):
            return None
        for name, of, other in (("fresh", source, "published"), ("stale", "published", source)):
            run(
                f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT analysis_key, call_id"  # noqa: S608
                f" FROM {of}.base.analyses ANTI JOIN {other}.base.analyses USING (analysis_key, revision)"
            )
        ((n_ever, n_fresh, n_wanted),) = run(
            "SELECT (SELECT coalesce(max(rowid) + 1, 0) FROM published.base.analyses),"  # noqa: S608
            f" (SELECT count(*) FROM fresh), (SELECT count(*) FROM {source}.base.analyses)"
        ).fetchall()
        if n_ever + n_fresh > _MOST_ROWS_EVER * n_wanted:
            return None
        run("BEGIN")
        for table in _shown_names(connection):
            _update(connection, table, source)
        run("COMMIT")
        run("CHECKPOINT published")
        ((first, last),) = run("SELECT min(analysis_key), max(analysis_key) FROM fresh").fetchall()
        return [(first, last)] if n_fresh else []


def _update(connection: duckdb.DuckDBPyConnection, table: str, source: str) -> None:
    there, here = f"published.base.{quoted(table)}", f"{source}.base.{quoted(table)}"
    gone, new = _OTHER_KEYS if table in DERIVED else _OTHER_CALLS if table in _OF_CALLS else _OTHER_ROWS
    places = {"{here}": here, "{there}": there}
    for place, name in places.items():
        gone, new = gone.replace(place, name), new.replace(place, name)
    connection.execute(f"DELETE FROM {there} AS whole_row WHERE {gone}")  # noqa: S608
    connection.execute(f"INSERT INTO {there} FROM {here} AS whole_row WHERE {new}")


def _shape(connection: duckdb.DuckDBPyConnection, database: str) -> list[tuple[Any, ...]]:
    """Definitions of the tables, and the fingerprint of views and comments."""
    name = quoted(first_value(connection, f"SELECT {database}"))
    return connection.execute(
        "SELECT schema_name, table_name, sql FROM duckdb_tables()"  # noqa: S608
        f" WHERE database_name = {database} AND NOT internal AND NOT temporary"
        f" UNION ALL SELECT '', name, sha256 FROM {name}.base.definitions ORDER BY ALL"
    ).fetchall()


def shown_tables(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Schema and name of the tables that are published."""
    return connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database()"
        " AND NOT internal AND NOT temporary AND NOT (schema_name = 'base' AND"
        " table_name IN (SELECT unnest(?::VARCHAR[])))",
        [_PRIVATE],
    ).fetchall()


def _shown_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    return [name for _, name in shown_tables(connection)]


# Checks -----------------------------------------------------------------------------------------------------


def _to_compare(store: Store, partial: Path, fresh: Ranges) -> Ranges | None:
    """The range of keys that was written and the one whose turn it is; None for all of a small file.

    After some publications every row has been compared.
    """
    n_shares = math.ceil(partial.stat().st_size / _COMPARED_BYTES)
    if n_shares == 1:
        return None
    turn = int((read_object(store.workspace.generations) or {}).get("n_since_whole", 0)) % n_shares
    share = store.rows(
        "SELECT min(analysis_key), max(analysis_key) FROM (SELECT analysis_key,"
        " ntile(?) OVER (ORDER BY analysis_key) AS share FROM base.analyses) WHERE share = ?"
        " HAVING count(*) > 0",
        [n_shares, turn + 1],
    )
    return [*fresh, *share]


def _is_equal(connection: duckdb.DuckDBPyConnection, partial: Path, ranges: Ranges | None) -> bool:
    """Read what lies in ranges of keys (None: all) from the disk, compare it, and count the rest.

    Raises:
        duckdb.Error: a block is damaged.
    """
    import duckdb

    with duckdb.connect(partial, read_only=True) as written:
        for table in _shown_names(connection):
            rows = f"FROM base.{quoted(table)} AS whole_row"
            content = f"SELECT count(*), sum((hash(whole_row) >> 1)::HUGEINT) {rows}"
            among = "analysis_key BETWEEN ? AND ?"
            if table in _OF_CALLS:
                among = f"call_id IN (SELECT call_id FROM base.analyses WHERE {among})"  # noqa: S608
            asked: list[tuple[str, tuple[int, ...]]] = [(content, ())]
            if ranges is not None and (table in DERIVED or table in _OF_CALLS):
                asked = [(f"SELECT count(*) {rows}", ())]
                asked += [(f"{content} WHERE {among}", keys) for keys in ranges]
            for sql, keys in asked:
                if connection.execute(sql, keys).fetchall() != written.execute(sql, keys).fetchall():
                    return False
    return True


# Files ------------------------------------------------------------------------------------------------------


@contextmanager
def all_threads(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Use every core while the block runs, not the one of the writer."""
    connection.execute("RESET threads")
    try:
        yield
    finally:
        connection.execute("SET threads = 1")


@contextmanager
def attached(
    connection: duckdb.DuckDBPyConnection, partial: Path, storage_version: str | None = None
) -> Iterator[None]:
    """A file, new ones in a given format, as the database `published` while the block runs."""
    # ATTACH takes no parameter for the file; a quote in the folder's name is doubled.
    literal = "'" + str(partial).replace("'", "''") + "'"
    connection.execute("DETACH DATABASE IF EXISTS published")  # left by a disk that was full
    version = f" (STORAGE_VERSION '{storage_version}')" if storage_version else ""
    connection.execute(f"ATTACH {literal} AS published{version}")
    try:
        yield
    except BaseException:
        import duckdb

        with suppress(duckdb.Error):  # none was begun, or it ended by itself
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("DETACH published")


def put_in_place(fresh: Path, target: Path) -> None:
    """Replace a database by another one, durably."""
    if target.is_symlink():
        _log.warning(
            "%s: was a link to %s, and is a file again. What lies there is no longer brought up to date: "
            "delete it, since a purge does not reach it",
            *(target, target.readlink()),
        )
    fresh.replace(target)
    # The log of somebody's writing to the old file does not fit the new one and would stop readers.
    log_of(target).unlink(missing_ok=True)
    flush(target.parent)


def remove_database(path: Path) -> None:
    """Remove a database that is not in use, with its log. Raises OSError."""
    path.unlink(missing_ok=True)
    log_of(path).unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Make sure that a file, or the entries of a folder, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some shares flush no folders
            raise
    finally:
        os.close(descriptor)
