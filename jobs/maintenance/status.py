"""What an operator wants to know in the morning: last runs, quarantine, is a run at work."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from callanalytics.errors import StoreError
from callanalytics.store.query import Published, render, run_query
from callanalytics.store.rule_sets import other_rules
from callanalytics.store.summary import QUARANTINE_SQL, RUNS_SQL, TOTALS_SQL, read_summary
from callanalytics.workspace import Workspace, lock_holder
from jobs.scheduler.monitoring import read_schedule, render_schedule, show_time

OUTDATED_SQL = "SELECT count(*) AS n, min(day)::VARCHAR AS first_day FROM outdated_calls HAVING n > 0"
VIEWS_SQL = "SELECT view_name FROM duckdb_views() WHERE NOT internal"


def read_status(workspace: Workspace, rules_id: str | None = None) -> dict[str, Any]:
    """Plain values: is a run at work, the schedule, totals, the last runs, the newest quarantined files.

    The working database is never opened, so that `status` disturbs no run, however often it is called.

    Args:
        rules_id: Of the rules of config.toml; calls that others judged are counted under `other_rules`.
    """
    published, unreadable = _published(workspace.database, rules_id)
    # What was written last, published or not; results of an earlier version have only what is published.
    summary = read_summary(workspace) or published
    database = workspace.database if published else workspace.work_database
    return {
        "out": str(workspace),
        "running": lock_holder(workspace.run_lock),
        "database": str(database) if summary else None,
        "unreadable": unreadable,
        "totals": summary.get("totals", {}),
        "runs": summary.get("runs", []),
        "quarantine": summary.get("quarantine", []),
        "drift": published.get("drift", []),
        "outdated": published.get("outdated", []),
        "other_rules": published.get("other_rules"),
        "schedule": read_schedule(workspace),
        "held": workspace.held,
    }


def _published(database: Path, rules_id: str | None) -> tuple[dict[str, Any], str | None]:
    """What the published file says, and why it says nothing when it cannot be read."""
    if not database.exists():
        return {}, None
    try:
        views = {row["view_name"] for row in _rows(database, VIEWS_SQL)}
        return {
            "totals": _rows(database, TOTALS_SQL)[0],
            "runs": _rows(database, RUNS_SQL),
            "quarantine": _rows(database, QUARANTINE_SQL),
            # A file published by an earlier version has no such views until the next run.
            "drift": _rows(database, "FROM drift_now") if "drift_now" in views else [],
            "outdated": _rows(database, OUTDATED_SQL) if "outdated_calls" in views else [],
            "other_rules": _other_rules(database, rules_id),
        }, None
    except StoreError as problem:
        return {}, str(problem)


def _other_rules(database: Path, rules_id: str | None) -> dict[str, Any] | None:
    if rules_id is None:
        return None
    with Published(database) as published:
        other = other_rules(published, rules_id)
    return {**asdict(other), "text": other.text} if other else None


def _rows(database: Path, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(render(run_query(database, sql, max_rows=None), "json"))
    return rows


def render_status(status: dict[str, Any], zone: tzinfo) -> str:
    """The status as lines for a person, times in `zone`."""
    workspace = Workspace(Path(status["out"]))
    lines = [f"Results: {workspace}, times in {zone}"]
    lines.append(f"At work: {status['running']}" if status["running"] else "At work: nothing")
    if status["schedule"]:
        lines += render_schedule(status["schedule"], zone)
    if status["held"]:
        since = show_time(datetime.fromisoformat(status["held"]["held_at"]), zone)
        lines.append(f"NOT PUBLISHED since {since}: the gate held a night back")
        lines += [f"  {reason}" for reason in status["held"]["reasons"]]
    if status["unreadable"]:
        lines.append(f"NOT READABLE: {status['unreadable']}")
    if status["database"] is None:
        return "\n".join([*lines, "No database yet: the first run makes it."])
    totals = status["totals"]
    lines.append(f"Calls:   {totals['n_calls']} ({totals['hours']:.1f} h), {totals['n_flagged']} flagged")
    for old in status["outdated"]:
        again = workspace.command("run", "--since", old["first_day"])
        lines.append(f"Analysed by an earlier version: {old['n']} calls. Analyse them again: {again}")
    if other := status["other_rules"]:
        lines.append(f"{other['text']} What would change: {workspace.command('rejudge', '--dry-run')}")
    lines.append("Last runs:")
    lines += [_run_line(row, status["running"], zone) for row in status["runs"]]
    lines += _drift_lines(status["drift"], workspace)
    if status["quarantine"]:
        lines.append("Quarantine (newest):")
        lines += [f"  {q['path']}: {q['reason']} ({q['attempts']} attempts)" for q in status["quarantine"]]
    return "\n".join(lines)


def _run_line(row: dict[str, Any], running: str | None, zone: tzinfo) -> str:
    """One run: its counts, or why there are none. `running` is who holds the run lock, and since when."""
    started_at = datetime.fromisoformat(row["started_at"])
    start = f"  {show_time(started_at, zone)}  "
    if row["exit_code"] is not None:
        return (
            f"{start}exit {row['exit_code']}  found {row['n_found']}, done {row['n_done']}, "
            f"done before {row['n_skipped']}, quarantined {row['n_quarantined']}"
        )
    # A run starts after it took the lock: one that began earlier was killed, and another job is at work.
    lock_taken = re.search(r"started (\S+)$", running or "")
    at_work = lock_taken is not None and started_at >= datetime.fromisoformat(lock_taken[1])
    return f"{start}at work" if at_work else f"{start}killed (no end noted)"


def _drift_lines(drift: list[dict[str, Any]], workspace: Workspace) -> list[str]:
    """What drifted in the newest days (the view drift_now), and what to do about it."""
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
        lines += [f"  Review some calls: {workspace.command('review', 'next')}"]
        lines += [f"  Then consider:     {workspace.command('retrain')}"]
    return lines
