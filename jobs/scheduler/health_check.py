"""How the schedule does, for `status` and whoever watches it: alive, healthy, what failed, what comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from callanalytics.workspace import Workspace, lock_holder
from jobs.scheduler.state import read_logbook

# A due job starts within seconds; one that has not after this is held up or its thread is gone.
OVERDUE = timedelta(minutes=10)
N_ENDS = 10


def read_schedule(workspace: Workspace, now: datetime | None = None) -> dict[str, Any] | None:
    """Plain values: `alive` (who, or None), `healthy`, `problems` in words, `jobs`, `ends` newest first.

    None when no schedule ever ran here.
    """
    book = read_logbook(workspace)
    if book is None:
        return None
    alive = lock_holder(workspace.schedule_lock)
    jobs = {name: dict(note) for name, note in book["jobs"].items()}
    problems = [] if alive else ["the schedule is not running: start `callanalytics schedule`"]
    for name, note in jobs.items():
        problems += _problems(name, note, book["ends"], now or datetime.now(UTC))
    return {
        "alive": alive,
        "healthy": not problems,
        "problems": problems,
        "jobs": jobs,
        "ends": book["ends"][::-1][:N_ENDS],
    }


def _problems(job: str, note: dict[str, Any], ends: list[dict[str, Any]], now: datetime) -> list[str]:
    """What is wrong with one job now: its last time was not good, or its next one is overdue."""
    found = []
    mine = [end for end in ends if end["job"] == job and end["state"] != "waits"]
    last = mine[-1] if mine else None
    # Good health checks are not in the list of ends: a later good time outdates what is.
    outdated = last and note["good_at"] and _time(note["good_at"]) >= _time(last["due_at"])
    if last and last["state"] in {"failed", "missed", "again"} and not outdated:
        found.append(f"{job} of {last['due_at'][:16]} {last['state']}: {last['words']}")
    next_at = note["next_at"]
    if next_at and note["running_since"] is None and now > _time(next_at) + OVERDUE:
        found.append(f"{job} was due {next_at[:16]} and has not started")
    return found


def render_schedule(told: dict[str, Any]) -> list[str]:
    """The schedule as lines for a person. Times are UTC."""
    state = "healthy" if told["healthy"] else "NOT WELL"
    lines = [f"Schedule: {state}; {told['alive'] or 'not running'}"]
    lines += [f"  ! {words}" for words in told["problems"]]
    for name, note in told["jobs"].items():
        now = f"running since {note['running_since'][:16]}" if note["running_since"] else None
        next_at = f"next {note['next_at'][:16]}" if note["next_at"] else "not planned"
        good = f"last good {note['good_at'][:16]}" if note["good_at"] else "never good yet"
        lines.append(
            f"  {name:<8} {now or next_at}, {good}; {note['n_good']} good, {note['n_failed']} failed, "
            f"{note['n_missed']} missed  ({note['when']})"
        )
    if told["ends"]:
        lines.append("  Last:")
    lines += [
        f"  {e['ended_at'][:16]}  {e['job']:<8} {e['state']:<11} {e['words']}" for e in told["ends"][:5]
    ]
    return lines


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
