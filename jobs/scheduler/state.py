"""What the scheduler must not forget: when each job was last settled, and how its last runs ended.

One JSON file, replaced by rename. APScheduler's persistent stores pickle their jobs, and this house
loads no pickles from disk; the jobs themselves are in config.toml anyway, so that the time up to which
each one is settled is all that a restart needs: what came due since then is caught up within its grace.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from callanalytics.workspace import Workspace, make_private_dir, write_whole

FORMAT = 1
ENDS_KEPT = 200

State = Literal["good", "failed", "again", "missed", "waits", "interrupted", "gave_way"]


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How one run of a job ended, or why there was none. Times are tz-aware UTC."""

    job: str
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime
    state: State
    exit_code: int | None
    words: str


@dataclass(frozen=True, slots=True)
class JobNote:
    """What is known of a job.

    `settled_at`: everything that came due until then is done, failed for good or missed. `due_at` and
    `running_since` are set while it runs; `good_at` is the due time of the last run that ended well.
    """

    when: str
    settled_at: datetime
    next_at: datetime | None = None
    due_at: datetime | None = None
    running_since: datetime | None = None
    good_at: datetime | None = None
    exit_code: int | None = None
    attempts: int = 0
    n_good: int = 0
    n_failed: int = 0
    n_missed: int = 0


class Logbook:
    """The file, for the scheduler that writes it (see `read_logbook` for others). Safe across threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.jobs: dict[str, JobNote] = {}
        self.ends: list[JobEnd] = []
        self.set_aside: Path | None = None  # where a damaged file was moved to
        self._read()

    def note(self, job: str, change: Callable[[JobNote], JobNote]) -> JobNote:
        """Change what is known of a job and write it down."""
        with self._lock:
            self.jobs[job] = change(self.jobs[job])
            self._write()
            return self.jobs[job]

    def begin(self, job: str, when: str, now: datetime) -> JobNote:
        """The note of a job; a new one, or one whose times were changed, is settled until now."""
        with self._lock:
            known = self.jobs.get(job)
            if known is None:
                self.jobs[job] = JobNote(when, now)
            elif known.when != when:
                self.jobs[job] = replace(known, when=when, settled_at=now, attempts=0)
            self._write()
            return self.jobs[job]

    def back_to(self, job: str, now: datetime) -> bool:
        """Take times to come, which a clock that was ahead has left, out of a note. Whether there were any.

        What is settled until 2036 would not be due before. When it was last good is not known then.
        """
        known = self.jobs[job]
        good_at = known.good_at if known.good_at and known.good_at <= now else None
        began = known.running_since and min(known.running_since, now)
        due_at = known.due_at and min(known.due_at, now)
        changed = replace(
            known,
            settled_at=min(known.settled_at, now),
            good_at=good_at,
            due_at=due_at,
            running_since=began,
        )
        if changed == known:
            return False
        self.note(job, lambda _: changed)
        return True

    def keep_only(self, jobs: frozenset[str]) -> None:
        """Forget the next times of jobs that are no longer scheduled."""
        with self._lock:
            self.jobs = {name: note for name, note in self.jobs.items() if name in jobs}
            self._write()

    def end(self, end: JobEnd) -> None:
        """Add an end to the list; the oldest beyond ENDS_KEPT go."""
        with self._lock:
            self.ends = [*self.ends, end][-ENDS_KEPT:]
            self._write()

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            if told["format"] != FORMAT:
                raise ValueError(f"format {told['format']}")
            self.jobs = {name: _note(row) for name, row in told["jobs"].items()}
            self.ends = [_end(row) for row in told["ends"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            self.set_aside = self.path.with_suffix(".damaged")
            self.path.replace(self.set_aside)
            self.jobs, self.ends = {}, []

    def _write(self) -> None:
        make_private_dir(self.path.parent)
        told = {
            "format": FORMAT,
            "jobs": {name: asdict(note) for name, note in self.jobs.items()},
            "ends": [asdict(end) for end in self.ends],
        }
        write_whole(self.path, json.dumps(told, default=_iso, indent=1) + "\n")


def read_logbook(workspace: Workspace) -> dict[str, Any] | None:
    """The logbook as plain values for `status`, None when there is none or it cannot be read."""
    try:
        told = json.loads(workspace.schedule_state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and told.get("format") == FORMAT else None


def _iso(moment: object) -> str:
    if not isinstance(moment, datetime):
        raise TypeError(f"{moment!r} is no time")
    return moment.isoformat()


def _note(row: dict[str, Any]) -> JobNote:
    return JobNote(**_with_times(row, JobNote))


def _end(row: dict[str, Any]) -> JobEnd:
    return JobEnd(**_with_times(row, JobEnd))


def _with_times(row: dict[str, Any], kind: type[JobNote] | type[JobEnd]) -> dict[str, Any]:
    """The row with every `_at` (and `running_since`) read as a time. Raises as `_read` expects."""
    known = {field.name for field in fields(kind)}
    if not set(row) <= known:
        raise ValueError(f"unknown entries {sorted(set(row) - known)}")
    times = {n for n in known if n.endswith("_at") or n == "running_since"}
    return {n: datetime.fromisoformat(v) if n in times and v is not None else v for n, v in row.items()}
