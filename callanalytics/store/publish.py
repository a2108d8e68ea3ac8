"""Publish the results: a compact copy beside the working database, put in place by one rename.

Who has the old copy open keeps reading the old one; who opens it next reads the new one. Nobody ever
sees half a file, and nobody who holds it open, even for writing, can delay a run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.errors import StoreError
from callanalytics.store.open import DATABASE_NAME, WORK_DIR
from callanalytics.store.schema import first_value, quoted
from callanalytics.store.writer import Store, unpublished_mark

if TYPE_CHECKING:
    import duckdb

_PARTIAL_NAME = "publishing.duckdb"


def publish(store: Store, out_dir: Path) -> Path:
    """Copy the working database to `out_dir/callanalytics.duckdb`; returns that path.

    Raises:
        StoreError: it could not be written (disk full, permissions); the last copy is untouched.
    """
    with _partial_copy(store, out_dir) as (partial, target):
        _put_in_place(partial, target)
        unpublished_mark(store.database).unlink(missing_ok=True)
    return target


def compact(store: Store, out_dir: Path) -> Path:
    """Publish, and write the working database anew too: bytes of deleted rows are in neither file then.

    The store is closed. Raises StoreError as `publish` does; both files are then as they were, or new.
    """
    fresh = store.database.with_suffix(".compacting")
    with _partial_copy(store, out_dir, fresh) as (partial, target):
        store.close()
        _put_in_place(fresh, store.database)
        _put_in_place(partial, target)
        unpublished_mark(store.database).unlink(missing_ok=True)
    return target


@contextmanager
def _partial_copy(store: Store, out_dir: Path, fresh: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """A compact copy of the working database, to be put in place, and its place.

    `fresh`: also one of everything there, which the published one is not: it lacks the files' own names.
    """
    import duckdb

    target = out_dir / DATABASE_NAME
    partial = out_dir / WORK_DIR / _PARTIAL_NAME  # same file system, in a folder that nobody else may enter
    try:
        _remove(partial)
        if fresh is not None:
            _remove(fresh)
            _copy(store.connection, fresh, private=True)
            fresh.chmod(0o600)
            _flush(fresh)
        _copy(store.connection, partial, private=False)
        partial.chmod(0o600)
        _flush(partial)
        yield partial, target
    except (duckdb.Error, OSError) as problem:
        raise StoreError(
            f"{target}: could not be published, the last published copy is unchanged. {problem} "
            "Free disk space or correct permissions and run again: committed work is kept."
        ) from problem
    finally:
        with suppress(OSError):
            _remove(partial)
            if fresh is not None:
                _remove(fresh)


def _put_in_place(fresh: Path, target: Path) -> None:
    fresh.replace(target)
    # The log of somebody's writing to the old file does not fit the new one and would stop readers.
    _wal(target).unlink(missing_ok=True)
    _flush(target.parent)


def _copy(connection: duckdb.DuckDBPyConnection, partial: Path, *, private: bool) -> None:
    source = quoted(first_value(connection, "SELECT current_database()"))
    # ATTACH takes no parameter for the file; a quote in the folder's name is doubled.
    literal = "'" + str(partial).replace("'", "''") + "'"
    connection.execute("DETACH DATABASE IF EXISTS published")  # left by a disk that was full
    connection.execute(f"ATTACH {literal} AS published")
    try:
        connection.execute("RESET threads")
        connection.execute(f"COPY FROM DATABASE {source} TO published" + ("" if private else " (SCHEMA)"))
        for schema, table in () if private else _shown_tables(connection):
            name = f"{quoted(schema)}.{quoted(table)}"
            connection.execute(f"INSERT INTO published.{name} FROM {source}.{name}")
        connection.execute("CHECKPOINT published")
    finally:
        connection.execute("SET threads = 1")
        connection.execute("DETACH published")


def _shown_tables(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """All tables but the voices of agents, and names as the file system has them: callers' numbers."""
    return connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database()"
        " AND NOT internal AND NOT temporary"
        " AND (schema_name, table_name) NOT IN (('base', 'files'), ('base', 'agent_voices'))"
    ).fetchall()


def _wal(database: Path) -> Path:
    return database.with_name(database.name + ".wal")


def _remove(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _wal(partial).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Make sure that a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
