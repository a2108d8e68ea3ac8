"""Publish the results: a compact copy beside the working database, put in place by one rename.

Who has the old copy open keeps reading the old one; who opens it next reads the new one. Nobody ever
sees half a file, and nobody who holds it open, even for writing, can delay a run.
"""

from __future__ import annotations

import os
import shutil
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
    with _partial_copy(store, out_dir) as (partial, target):
        store.close()
        fresh = store.database.with_suffix(".compacting")
        try:
            shutil.copyfile(partial, fresh)
            fresh.chmod(0o600)
            _flush(fresh)
            _put_in_place(fresh, store.database)
        finally:
            fresh.unlink(missing_ok=True)
        _put_in_place(partial, target)
        unpublished_mark(store.database).unlink(missing_ok=True)
    return target


@contextmanager
def _partial_copy(store: Store, out_dir: Path) -> Iterator[tuple[Path, Path]]:
    """A compact copy of the working database, to be put in place, and its place."""
    import duckdb

    target = out_dir / DATABASE_NAME
    partial = out_dir / WORK_DIR / _PARTIAL_NAME  # same file system, in a folder that nobody else may enter
    try:
        _remove(partial)
        _copy(store.connection, partial)
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


def _put_in_place(fresh: Path, target: Path) -> None:
    fresh.replace(target)
    # The log of somebody's writing to the old file does not fit the new one and would stop readers.
    _wal(target).unlink(missing_ok=True)
    _flush(target.parent)


def _copy(connection: duckdb.DuckDBPyConnection, partial: Path) -> None:
    source = quoted(first_value(connection, "SELECT current_database()"))
    # ATTACH takes no parameter for the file; a quote in the folder's name is doubled.
    literal = "'" + str(partial).replace("'", "''") + "'"
    connection.execute("DETACH DATABASE IF EXISTS published")  # left by a disk that was full
    connection.execute(f"ATTACH {literal} AS published")
    try:
        connection.execute(f"COPY FROM DATABASE {source} TO published")
        connection.execute("CHECKPOINT published")
    finally:
        connection.execute("DETACH published")


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
