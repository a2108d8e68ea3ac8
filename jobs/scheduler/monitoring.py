"""The health of the schedule: for `status`, as a Prometheus text file, and as a ping after the night.

The text file is for node_exporter's textfile collector; the ping is a plain HTTP GET for a dead man's switch,
which raises the alarm when it stays away. Both are off unless config.toml names them.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from callanalytics.workspace import Workspace, lock_holder, write_whole
from jobs.scheduler.state import JobEnd, JobRecord, read_state

# A due job starts within seconds; one that has not after this is held up or its thread is gone.
OVERDUE = timedelta(minutes=10)
N_ENDS = 10
N_ENDS_SHOWN = 5

# Name after "callanalytics_", kind, help, value of a job; times as Unix seconds.
_METRICS: tuple[tuple[str, str, str, Callable[[JobRecord], float | None]], ...] = (
    (
        "job_last_good_timestamp_seconds",
        "gauge",
        "Due time of the last run that ended well.",
        lambda job: _unix_s(job.good_at),
    ),
    ("job_next_timestamp_seconds", "gauge", "When the job runs next.", lambda job: _unix_s(job.next_at)),
    ("job_running", "gauge", "1 while the job runs.", lambda job: job.running_since is not None),
    ("job_last_exit_code", "gauge", "Exit code of the last run.", lambda job: job.exit_code),
    ("job_good_total", "counter", "Runs that ended well.", lambda job: job.n_good),
    ("job_failed_total", "counter", "Runs given up.", lambda job: job.n_failed),
    ("job_missed_total", "counter", "Runs beyond their grace.", lambda job: job.n_missed),
)


def _unix_s(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def show_time(moment: datetime, zone: tzinfo) -> str:
    """A time to the minute, with the name of its zone."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"


def read_schedule(workspace: Workspace, now: datetime | None = None) -> dict[str, Any] | None:
    """Plain values: `alive` (who, or None), `healthy`, `problems` as text, `jobs`, `ends` newest first.

    None when no schedule ever ran here.
    """
    alive = lock_holder(workspace.schedule_lock)
    try:
        state = read_state(workspace.schedule_state)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        why = f"{workspace.schedule_state}: cannot be read, so what ran is not known. Restart the schedule."
        return {"alive": alive, "healthy": False, "problems": [why], "jobs": {}, "ends": []}
    problems = [] if alive else ["the schedule is not running: start `callanalytics schedule`"]
    for name, record in state.jobs.items():
        problems += _problems(name, record, state.ends, now or datetime.now(UTC))
    plain = json.loads(state.to_text())
    return {
        "alive": alive,
        "healthy": not problems,
        "problems": problems,
        "jobs": plain["jobs"],
        "ends": plain["ends"][::-1][:N_ENDS],
    }


def _problems(job: str, record: JobRecord, ends: Sequence[JobEnd], now: datetime) -> list[str]:
    """What is wrong with one job now: its last time was not good, or its next one is overdue."""
    problems = []
    last = next((end for end in reversed(ends) if end.job == job and end.state != "delayed"), None)
    # Good health checks are not in the list of ends: a later good time outdates what is.
    outdated = last and record.good_at and record.good_at >= last.due_at
    if last and last.state in {"failed", "missed", "retrying"} and not outdated:
        problems.append(f"{job} of {show_time(last.due_at, UTC)} {last.state}: {last.reason}")
    if record.next_at and record.running_since is None and now > record.next_at + OVERDUE:
        problems.append(f"{job} was due {show_time(record.next_at, UTC)} and has not started")
    return problems


def render_schedule(schedule: Mapping[str, Any], zone: tzinfo) -> list[str]:
    """The schedule as lines for a person, times in `zone`."""

    def shown(moment: str) -> str:
        return show_time(datetime.fromisoformat(moment), zone)

    health = "healthy" if schedule["healthy"] else "NOT HEALTHY"
    lines = [f"Schedule: {health}; {schedule['alive'] or 'not running'}"]
    lines += [f"  ! {problem}" for problem in schedule["problems"]]
    for name, job in schedule["jobs"].items():
        next_run = f"next {shown(job['next_at'])}" if job["next_at"] else "not planned"
        now = f"running since {shown(job['running_since'])}" if job["running_since"] else next_run
        good = f"last good {shown(job['good_at'])}" if job["good_at"] else "never good yet"
        lines.append(
            f"  {name:<8} {now}, {good}; {job['n_good']} good, {job['n_failed']} failed, "
            f"{job['n_missed']} missed  ({job['when']})"
        )
    last = [
        f"  {shown(end['ended_at'])}  {end['job']:<8} {end['state']:<11} {end['words']}"
        for end in schedule["ends"][:N_ENDS_SHOWN]
    ]
    return [*lines, "  Last:", *last] if last else lines


def metrics_text(jobs: Mapping[str, JobRecord], now: datetime) -> str:
    """The text file: one gauge or counter per job and metric, in the Prometheus exposition format."""
    lines = [
        "# HELP callanalytics_alive_timestamp_seconds When the scheduler last said so.",
        "# TYPE callanalytics_alive_timestamp_seconds gauge",
        f"callanalytics_alive_timestamp_seconds {now.timestamp():.0f}",
    ]
    for name, kind, meaning, value_of in _METRICS:
        lines += [f"# HELP callanalytics_{name} {meaning}", f"# TYPE callanalytics_{name} {kind}"]
        lines += [
            f'callanalytics_{name}{{job="{job}"}} {value:.0f}'
            for job, record in sorted(jobs.items())
            if (value := value_of(record)) is not None
        ]
    return "\n".join(lines) + "\n"


def write_textfile(path: Path, jobs: Mapping[str, JobRecord], now: datetime) -> str | None:
    """Write the text file; what went wrong as text, None when nothing did."""
    try:
        # Read by the exporter, which is another user; it holds counts and times only.
        write_whole(path, metrics_text(jobs, now), mode=0o644)
    except OSError as problem:
        return f"[schedule] textfile {path}: cannot be written ({problem.strerror})"
    return None


def ping(url: str, timeout_s: float) -> str | None:
    """GET the address (checked to be http or https by the settings); a failure as text, else None."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "callanalytics"})  # noqa: S310 see above
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            answer.read(1)
    except urllib.error.HTTPError as problem:
        return f"ping failed: the server answers {problem.code}"
    except urllib.error.URLError as problem:
        return f"ping failed: {problem.reason}"
    except http.client.InvalidURL:
        return "ping failed: the address in [schedule] is none"
    except http.client.HTTPException as problem:
        return f"ping failed: what answers there speaks no HTTP ({type(problem).__name__})"
    except (OSError, ValueError) as problem:  # its words may repeat the address, which may hold a secret
        timed_out = "timed out" if isinstance(problem, TimeoutError) else None
        why = timed_out or getattr(problem, "strerror", None) or type(problem).__name__
        return f"ping failed: {why}"
    return None
