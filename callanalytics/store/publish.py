"""Publish the results: a file beside the working database, put in place by one rename.

Who has the old copy open keeps reading the old one; who opens it next reads the new one. Nobody ever
sees half a file, and nobody who holds it open, even for writing, can delay a run.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.errors import StoreError, UsageError, remedy
from callanalytics.store.generations import (
    all_threads,
    attached,
    flush,
    forget_previous,
    keep_second,
    publish_changes,
    put_in_place,
    remove_database,
    shown_tables,
)
from callanalytics.store.open import held_elsewhere, is_damage, log_of, open_work, read_whole, unusable
from callanalytics.store.query import open_published
from callanalytics.store.schema import first_value, quoted
from callanalytics.store.writer import Store
from callanalytics.workspace import Workspace

if TYPE_CHECKING:
    import duckdb

_log = logging.getLogger(__name__)

# The oldest format that holds the tables without growing: every DuckDB since 1.2 (2025) reads it, and
# business tools lag years behind. The working database is ours alone and stays in the newest.
STORAGE_VERSION = "v1.2.0"


def publish(store: Store) -> Path:
    """Bring what people open up to the working database; returns that path.

    What changed is written, or everything where that cannot be told (see `generations`).

    Raises:
        StoreError: it could not be written (disk full, permissions); the last copy is untouched.
    """
    if not publish_changes(store):
        _publish_whole(store, store.workspace)
    _note_published(store.workspace)
    return store.workspace.database


def _publish_whole(store: Store, workspace: Workspace) -> None:
    forget_previous(workspace)  # its room may be needed
    target = workspace.database
    with _fresh_copy(store, workspace.publishing, target, private=False) as partial:
        put_in_place(partial, target)
    keep_second(workspace)


def compact(store: Store) -> Path:
    """Publish a whole copy, and write the working database anew too: no file keeps bytes of deleted rows.

    The store is closed.

    Raises:
        StoreError: as `publish` does; both files are then as they were, or new.
    """
    workspace = store.workspace
    target = workspace.database
    forget_previous(workspace)
    with (
        _fresh_copy(store, workspace.compacting, store.database, private=True) as fresh,
        _fresh_copy(store, workspace.publishing, target, private=False) as partial,
    ):
        store.close()
        put_in_place(fresh, store.database)
        put_in_place(partial, target)
    _note_published(workspace)
    keep_second(workspace)
    return target


def _note_published(workspace: Workspace) -> None:
    with suppress(OSError):  # it is published all the same, and with the mark there once more by the next run
        workspace.unpublished_mark.unlink(missing_ok=True)


def compact_unpublished(store: Store) -> None:
    """Write the working database anew and publish nothing of it. The store is closed.

    Raises:
        StoreError: as `publish` does.
    """
    with _fresh_copy(store, store.workspace.compacting, store.database, private=True) as fresh:
        store.close()
        put_in_place(fresh, store.database)


def mend_published(workspace: Workspace) -> bool:
    """Check whether the published copy can be read to its end; one that cannot has to be published anew.

    Who still has an older copy open for writing leaves a log under the name that the new copy has now, and
    DuckDB would apply it to the new one. A log beside a file that nobody holds is removed.
    """
    whole = _is_mended(workspace.database)
    if not whole:
        forget_previous(workspace)  # the damaged file would become the previous one
    return whole


def is_published(store: Store) -> bool:
    """Whether the published copy is whole and, when nothing is due, what was published last.

    One that was put back from a backup lacks analyses or reviews, and has to be published anew.
    """
    import duckdb

    if not mend_published(store.workspace):
        return False
    try:
        same = is_same(store.workspace, store.connection)
    except (duckdb.Error, StoreError, UsageError):
        return False
    if not same:
        _log.warning("%s: not what was published last; it is published anew", store.workspace.database)
    return same


def is_same(workspace: Workspace, working: duckdb.DuckDBPyConnection) -> bool:
    """Whether the published copy holds the analyses and reviews of the working database, and no other.

    Raises:
        duckdb.Error, StoreError, UsageError: one of them cannot be read, or is not there.
    """
    asked = (
        "SELECT count(*), sum((hash(analysis_key, revision) >> 1)::HUGEINT) FROM base.analyses",
        "SELECT count(*), sum((hash(whole_row) >> 1)::HUGEINT) FROM base.reviews AS whole_row",
    )
    with open_published(workspace.database) as published:
        return all(published.execute(sql).fetchall() == working.execute(sql).fetchall() for sql in asked)


def _is_mended(database: Path) -> bool:
    try:
        return _is_whole(database)
    except StoreError as problem:
        if held_elsewhere(problem.__cause__) or not log_of(database).exists():
            return False
    log_of(database).unlink(missing_ok=True)
    try:
        return _is_whole(database)
    except StoreError:
        return False


def _is_whole(database: Path) -> bool:
    """Check whether there is a published file, and read it to its end.

    Raises:
        StoreError: it cannot be opened.
    """
    import duckdb

    if not database.exists():
        return False
    with open_published(database) as connection:
        try:
            read_whole(connection)
        except duckdb.Error:
            return False
    return True


def change_published(workspace: Workspace, change: Callable[[Store], None]) -> None:
    """Change what people see by itself, when what waits in the working database must not be seen yet.

    Nothing is done when there is no published copy.

    Raises:
        StoreError: as `publish` does.
    """
    published = workspace.database
    if not published.exists():
        return
    if not mend_published(workspace):
        raise StoreError(
            f"{published}: is damaged, and is as it was. The next run that publishes writes it anew."
        )
    aside = Workspace(workspace.changing)
    try:
        shutil.rmtree(aside.folder, ignore_errors=True)  # left by a process that was killed
        aside.make()
        shutil.copyfile(published, aside.database)
        with open_work(aside) as copy:
            change(copy)
            _publish_whole(copy, workspace)
    except OSError as problem:
        raise StoreError(
            f"{published}: cannot be changed ({problem.strerror}), it is as it was. "
            f"{remedy(problem)} and try again."
        ) from problem
    finally:
        shutil.rmtree(aside.folder, ignore_errors=True)


@contextmanager
def _fresh_copy(store: Store, partial: Path, target: Path, *, private: bool) -> Iterator[Path]:
    """A compact copy of the working database, to be put in the place of `target`.

    `private`: of everything there; the published one lacks the files' own names and agents' voices.
    """
    import duckdb

    try:
        remove_database(partial)
        _copy(store.connection, partial, private=private)
        # Read-only for people: who opens it for writing would leave a log beside it, which a version before
        # 1.4 (its format does not name the file of a log) applies to the copy that takes its place.
        partial.chmod(0o600 if private else 0o400)
        flush(partial)
        with duckdb.connect(partial, read_only=True) as written:
            read_whole(written)
        yield partial
    except (duckdb.Error, OSError) as problem:
        if is_damage(problem):
            raise unusable(store.workspace, problem) from problem
        raise StoreError(
            f"{target}: could not be published, the last published copy is unchanged. {problem} "
            f"{remedy(problem)} and run again: committed work is kept."
            if not private
            else f"{target}: could not be written anew. {problem} {remedy(problem)} and do the same again."
        ) from problem
    finally:
        with suppress(OSError):
            remove_database(partial)


def _copy(connection: duckdb.DuckDBPyConnection, partial: Path, *, private: bool) -> None:
    source = quoted(first_value(connection, "SELECT current_database()"))
    version = None if private else STORAGE_VERSION
    with all_threads(connection), attached(connection, partial, version):
        connection.execute(f"COPY FROM DATABASE {source} TO published" + ("" if private else " (SCHEMA)"))
        for schema, table in () if private else shown_tables(connection):
            name = f"{quoted(schema)}.{quoted(table)}"
            connection.execute(f"INSERT INTO published.{name} FROM {source}.{name}")
        connection.execute("CHECKPOINT published")
