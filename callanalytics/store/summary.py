"""A summary for the operator, kept as a small file beside the working database.

Whoever opens the working database, even to read, keeps the run that is about to start out of it. So the one
who writes there leaves this behind, and `status` reads it in place of the database.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from callanalytics.store.schema import fetched
from callanalytics.store.text_tables import render
from callanalytics.workspace import Workspace, read_object, write_whole

if TYPE_CHECKING:
    import duckdb

TOTALS_SQL = """
SELECT count(*) AS n_calls, coalesce(sum(duration_s), 0) / 3600 AS hours,
       count(*) FILTER (flagged) AS n_flagged FROM call_summary
"""
RUNS_SQL = """
SELECT run_id, started_at, ended_at, n_found, n_done, n_skipped, n_quarantined, audio_s, exit_code
FROM runs ORDER BY started_at DESC LIMIT 10
"""
QUARANTINE_SQL = "SELECT path, stage, reason, attempts FROM quarantine ORDER BY last_seen_at DESC LIMIT 10"


_NAMES = (
    {"n_calls", "hours", "n_flagged"},
    {"started_at", "n_found", "n_done", "n_skipped", "n_quarantined", "exit_code"},
    {"path", "reason", "attempts"},
)


def write_summary(connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    """Write the summary of a working database beside it; none rather than an old one when that fails."""
    import duckdb

    path = workspace.summary
    try:
        summary = {
            "totals": _rows(connection, TOTALS_SQL)[0],
            "runs": _rows(connection, RUNS_SQL),
            "quarantine": _rows(connection, QUARANTINE_SQL),
        }
        write_whole(path, json.dumps(summary) + "\n")
    except (duckdb.Error, OSError):  # a full disk, a damaged file: whoever works with it will say so
        with suppress(OSError):
            path.unlink(missing_ok=True)


def read_summary(workspace: Workspace) -> dict[str, Any] | None:
    """Read the summary of a working database: totals, runs, quarantine; None without one."""
    found = read_object(workspace.summary) or {}
    try:
        lists = [[found["totals"]], found["runs"], found["quarantine"]]
        if all(names <= set(row) for names, rows in zip(_NAMES, lists, strict=True) for row in rows):
            return found
    except (KeyError, TypeError):
        pass
    return None


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:  # a cursor has settings of its own
        cursor.execute("SET TimeZone = 'UTC'")
        rows: list[dict[str, Any]] = json.loads(render(fetched(cursor.sql(sql)), "json"))
    return rows
