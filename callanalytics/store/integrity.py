"""Whether a database file is whole, held by somebody, or has a log beside it that is not its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.errors import StoreError
from callanalytics.store.schema import quoted

if TYPE_CHECKING:
    import duckdb


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
