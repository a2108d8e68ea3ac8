"""Telling the outside how the schedule does: a Prometheus textfile, and a ping after the night.

The textfile is for node_exporter's textfile collector; the ping is a plain HTTP GET for a dead man's
switch that raises the alarm when it stays away. Both are off unless config.toml names them.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from callanalytics.workspace import write_whole
from jobs.scheduler.state import JobNote

Metric = tuple[str, str, str, dict[str, float]]


def metrics_text(jobs: Mapping[str, JobNote], now: datetime) -> str:
    """The textfile: one gauge or counter per job and thing, Unix seconds for times."""
    tables: tuple[Metric, ...] = (
        ("alive_timestamp_seconds", "gauge", "When the scheduler last said so.", {}),
        (
            *("job_last_good_timestamp_seconds", "gauge", "Due time of the last run that ended well."),
            {name: note.good_at.timestamp() for name, note in jobs.items() if note.good_at},
        ),
        (
            *("job_next_timestamp_seconds", "gauge", "When the job runs next."),
            {name: note.next_at.timestamp() for name, note in jobs.items() if note.next_at},
        ),
        (
            *("job_running", "gauge", "1 while the job runs."),
            {name: float(note.running_since is not None) for name, note in jobs.items()},
        ),
        (
            "job_last_exit_code",
            "gauge",
            "Exit code of the last run.",
            {n: float(j.exit_code) for n, j in jobs.items() if j.exit_code is not None},
        ),
        (
            *("job_good_total", "counter", "Runs that ended well."),
            {n: float(j.n_good) for n, j in jobs.items()},
        ),
        (*("job_failed_total", "counter", "Runs given up."), {n: float(j.n_failed) for n, j in jobs.items()}),
        (
            *("job_missed_total", "counter", "Runs beyond their grace."),
            {n: float(j.n_missed) for n, j in jobs.items()},
        ),
    )
    lines = []
    for name, kind, words, values in tables:
        lines += [f"# HELP callanalytics_{name} {words}", f"# TYPE callanalytics_{name} {kind}"]
        if name == "alive_timestamp_seconds":
            lines.append(f"callanalytics_{name} {now.timestamp():.0f}")
        lines += [f'callanalytics_{name}{{job="{job}"}} {value:.0f}' for job, value in sorted(values.items())]
    return "\n".join(lines) + "\n"


def write_textfile(path: Path, jobs: Mapping[str, JobNote], now: datetime) -> str | None:
    """Write the textfile; words about what went wrong, None when nothing did."""
    try:
        # Read by the exporter, which is another user; it holds counts and times only.
        write_whole(path, metrics_text(jobs, now), mode=0o644)
    except OSError as problem:
        return f"[schedule] textfile {path}: cannot be written ({problem.strerror})"
    return None


def ping(url: str, timeout_s: float) -> str | None:
    """GET the address (checked to be http or https by the settings); words about a failure, else None."""
    request = urllib.request.Request(url, headers={"User-Agent": "callanalytics"})  # noqa: S310 see above
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            answer.read(1)
    except (urllib.error.URLError, OSError, ValueError) as problem:
        return f"ping failed: {problem}"  # the address may hold a secret: it is not repeated
    return None
