"""The published results as Parquet files, partitioned by local day, for tools that read no DuckDB.

    DIR/segment_emotions/day=2026-11-01/data_0.parquet    views with calls, one folder each
    DIR/runs.parquet                                      what belongs to no day
    DIR/export.json                                       what this is, and rows per table

Every export is whole: it is written beside the folder and put in its place by one exchange, so that a
reader sees the old one or the new one, and what was purged is in the next export no more.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.errors import StoreError, UsageError
from callanalytics.store.open import check_no_log
from callanalytics.workspace import folder_in_the_making, make_private_dir

if TYPE_CHECKING:
    import duckdb

MANIFEST = "export.json"
# Views with their own day, views that get it from the call, and views of no day. Rows of one call lie
# together; everything derivable (daily shares, movers, drift) is left to the reader's own sums.
DATED = ("calls", "call_summary", "segment_emotions", "segment_features", "call_emotions")
OF_CALLS = (
    *("segment_probabilities", "predictions", "turns", "sounds", "utterances"),
    *("call_measures", "escalations", "frustration_curve"),
)
UNDATED = ("runs", "ensembles", "recordings", "reviews", "corrections", "quarantine")
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100


@dataclass(frozen=True, slots=True)
class Exported:
    """Folder, size and rows of an export."""

    folder: str
    schema_version: int
    ensemble_id: str | None
    exported_at: str
    n_bytes: int
    n_rows: dict[str, int]


def export(database: Path, folder: Path) -> Exported:
    """Write the views of a published database as Parquet into `folder`, replacing an earlier export.

    Raises:
        UsageError: no database yet, or the folder holds something that is no export.
        StoreError: the database cannot be read or the files cannot be written; an earlier export stays.
    """
    import duckdb

    _check(database, folder)
    try:
        make_private_dir(folder.parent)
        check_no_log(database)
        with folder_in_the_making(folder) as arriving:
            with duckdb.connect(database, read_only=True) as connection:
                done = _write(connection, arriving, folder)
            _put_in_place(arriving, folder)
    except (duckdb.Error, OSError) as problem:
        raise _failed(folder, problem) from problem
    return done


def _failed(folder: Path, problem: Exception) -> StoreError:
    return StoreError(
        f"{folder}: could not be exported, an earlier export is unchanged. {problem} "
        "Check free space and permissions, and that nobody holds the database open for writing."
    )


def _check(database: Path, folder: Path) -> None:
    if not database.is_file():
        raise UsageError(
            f"{database}: no results here yet: run the night first, or give --out another folder."
        )
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder}: is no folder. Give the name of a folder to write to.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise UsageError(
            f"{folder}: holds files that are no export, which would be lost. Give an empty or new folder."
        )


def _write(connection: duckdb.DuckDBPyConnection, arriving: Path, folder: Path) -> Exported:
    connection.execute("SET enable_progress_bar = false")  # it would go to standard output
    connection.execute("SET TimeZone = 'UTC'")
    n_rows: dict[str, int] = {}
    for view in DATED:
        n_rows[view] = _copy_by_day(connection, f"SELECT * FROM {view}", arriving / view)  # noqa: S608
    for view in OF_CALLS:
        sql = f"SELECT v.*, c.day FROM {view} v JOIN calls c USING (call_id)"  # noqa: S608
        n_rows[view] = _copy_by_day(connection, sql, arriving / view)
    for view in UNDATED:
        n_rows[view] = _copy(connection, f"FROM {view}", arriving / f"{view}.parquet", "")
    ((version, ensemble_id),) = connection.execute(
        "SELECT (SELECT max(version) FROM schema_version),"
        " (SELECT any_value(ensemble_id) FROM ensembles WHERE promoted)"
    ).fetchall()
    for path in arriving.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    done = Exported(
        folder=str(folder),
        schema_version=version,
        ensemble_id=ensemble_id,
        exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        n_bytes=sum(path.stat().st_size for path in arriving.rglob("*.parquet")),
        n_rows=n_rows,
    )
    manifest = arriving / MANIFEST
    manifest.write_text(json.dumps(asdict(done), indent=1) + "\n", encoding="utf-8")
    manifest.chmod(0o600)
    return done


def _copy_by_day(connection: duckdb.DuckDBPyConnection, sql: str, target: Path) -> int:
    n_rows = _copy(connection, sql, target, ", PARTITION_BY (day)")
    if n_rows == 0:  # nothing was written: a file of no rows says which columns there are
        folder = target / f"day={datetime.now(UTC):%Y-%m-%d}"
        folder.mkdir(parents=True)
        _copy(connection, f"SELECT * EXCLUDE (day) FROM ({sql})", folder / "data_0.parquet", "")  # noqa: S608
    return n_rows


def _copy(connection: duckdb.DuckDBPyConnection, sql: str, target: Path, options: str) -> int:
    # COPY takes no parameter for the file; a quote in the folder's name is doubled.
    literal = "'" + str(target).replace("'", "''") + "'"
    (row,) = connection.execute(
        f"COPY ({sql}) TO {literal} (FORMAT parquet, COMPRESSION zstd{options})"
    ).fetchall()
    return int(row[0])


def _put_in_place(arriving: Path, folder: Path) -> None:
    """Exchange two folders at once; what was there is then `arriving`."""
    if not folder.exists():
        arriving.rename(folder)
        return
    try:
        _exchange(arriving, folder)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        # Network file systems cannot exchange: for a moment there is no export.
        with folder_in_the_making(folder) as leaving:
            folder.rename(leaving / "earlier")
            arriving.rename(folder)


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, "renameat2 is not in this C library")
    names = (os.fsencode(one), os.fsencode(other))
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(other))
