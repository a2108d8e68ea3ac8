"""What an operator wants to know in the morning: last runs, quarantine, is a run at work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from callanalytics.store import DATABASE_NAME, work_database
from callanalytics.store.query import render, run_query
from jobs.gate import held
from jobs.lock import lock_holder
from jobs.watch import read_schedule, render_schedule

RUNS_SQL = """
SELECT run_id, started_at, ended_at, n_found, n_done, n_skipped, n_quarantined, audio_s, exit_code
FROM runs ORDER BY started_at DESC LIMIT 10
"""
QUARANTINE_SQL = "SELECT path, stage, reason, attempts FROM quarantine ORDER BY last_seen_at DESC LIMIT 10"
VIEWS_SQL = "SELECT view_name FROM duckdb_views() WHERE NOT internal"
TOTALS_SQL = """
SELECT count(*) AS n_calls, coalesce(sum(duration_s), 0) / 3600 AS hours,
       count(*) FILTER (flagged) AS n_flagged FROM call_summary
"""


def read_status(out: Path) -> dict[str, Any]:
    """Plain values: is a run at work, the schedule, totals, the last runs, the newest quarantined files."""
    lock = out / ".work" / "run.lock"
    running = lock_holder(lock)
    database = out / DATABASE_NAME
    # A run that changed nothing is not published: while nobody writes, the working file knows more.
    if running is None and work_database(out).exists():
        database = work_database(out)
    # A first run that was killed before it made its tables leaves a file without any view.
    views = {row["view_name"] for row in _rows(database, VIEWS_SQL)} if database.exists() else set()
    status: dict[str, Any] = {
        "out": str(out),
        "running": running,
        "database": str(database) if views else None,
        "totals": {},
        "runs": [],
        "quarantine": [],
        "drift": [],
        "schedule": read_schedule(out),
        "held": held(out),
    }
    if views:
        status["totals"] = _rows(database, TOTALS_SQL)[0]
        status["runs"] = _rows(database, RUNS_SQL)
        status["quarantine"] = _rows(database, QUARANTINE_SQL)
        # A file published by an earlier version has no such view until the next run.
        if "drift_now" in views:
            status["drift"] = _rows(database, "FROM drift_now")
    return status


def _rows(database: Path, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(render(run_query(database, sql, max_rows=None), "json"))
    return rows


def render_status(status: dict[str, Any]) -> str:
    """The status as lines for a person."""
    lines = [f"Results: {status['out']}"]
    lines.append(f"At work: {status['running']}" if status["running"] else "At work: nothing")
    if status["schedule"]:
        lines += render_schedule(status["schedule"])
    if status["held"]:
        lines.append(f"NOT PUBLISHED since {status['held']['held_at']}: the gate held a night back")
        lines += [f"  {reason}" for reason in status["held"]["reasons"]]
    if status["database"] is None:
        return "\n".join([*lines, "No database yet: run `callanalytics run --input FOLDER` first."])
    totals = status["totals"]
    lines.append(f"Calls:   {totals['n_calls']} ({totals['hours']:.1f} h), {totals['n_flagged']} flagged")
    lines.append("Last runs:")
    for row in status["runs"]:
        state = "not ended" if row["exit_code"] is None else f"exit {row['exit_code']}"
        lines.append(
            f"  {row['started_at']}  {state:>9}  found {row['n_found']}, done {row['n_done']}, "
            f"skipped {row['n_skipped']}, quarantined {row['n_quarantined']}"
        )
    lines += _drift_lines(status["drift"])
    if status["quarantine"]:
        lines.append("Quarantine (newest):")
        lines += [f"  {q['path']}: {q['reason']} ({q['attempts']} attempts)" for q in status["quarantine"]]
    return "\n".join(lines)


def _drift_lines(drift: list[dict[str, Any]]) -> list[str]:
    """What drifted in the newest days (see the view drift_now), and what to do about it."""
    moved = [row for row in drift if row["n_crossed"]]
    if not moved:
        return []
    lines = ["Drift of the newest days with calls against the four weeks before:"]
    lines += [
        f"  {row['measure']}: {row['value']:.3g}, usual {row['usual']:.3g}; beyond its threshold on "
        f"{row['n_crossed']} of {row['n_days']} days" + ("  MOVED" if row["retrain"] else "")
        for row in moved
    ]
    if any(row["retrain"] for row in moved):
        lines.append("  Hear some calls (callanalytics review next), then think of: callanalytics retrain")
    return lines
