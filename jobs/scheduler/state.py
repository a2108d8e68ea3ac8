"""What the scheduler remembers across restarts: up to when each job is settled, and how its last runs ended.

One JSON file, replaced whole. APScheduler's persistent stores pickle their jobs, and no pickle is loaded from
disk here. The jobs themselves are in config.toml, so that a restart needs no more than the time up to which
each one is settled: what came due since then is made up for within its grace period.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field, TypeAdapter, with_config

from callanalytics.workspace import make_private_dir, write_whole

N_ENDS_KEPT = 200
FORGOTTEN = "(removed by a purge)"

# How a due time of a job ended. Version 0.1.0 wrote other names for three of them.
Outcome = Literal["good", "failed", "retrying", "missed", "delayed", "interrupted", "preempted"]
_FORMER_NAMES = {"again": "retrying", "waits": "delayed", "gave_way": "preempted"}


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class JobEnd:
    """How one run of a job ended, or why there was none. Times are UTC."""

    job: str
    due_at: AwareDatetime
    started_at: AwareDatetime | None
    ended_at: AwareDatetime
    state: Annotated[Outcome, BeforeValidator(lambda name: _FORMER_NAMES.get(name, name))]
    exit_code: int | None
    reason: Annotated[str, Field(alias="words")]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is known of a job. Times are UTC.

    `settled_at`: everything that came due until then is done, failed for good or missed. `due_at` and
    `running_since` are set while it runs; `good_at` is the due time of the last run that ended well.
    """

    when: str
    settled_at: AwareDatetime
    next_at: AwareDatetime | None = None
    due_at: AwareDatetime | None = None
    running_since: AwareDatetime | None = None
    good_at: AwareDatetime | None = None
    exit_code: int | None = None
    attempts: int = 0
    n_good: int = 0
    n_failed: int = 0
    n_missed: int = 0


@dataclass(slots=True)
class Contents:
    """What the file holds: jobs by name, ends oldest first."""

    jobs: dict[str, JobRecord] = field(default_factory=dict)
    ends: list[JobEnd] = field(default_factory=list)
    format: Literal[1] = 1

    def to_text(self) -> str:
        """The file's text: JSON with times in ISO 8601."""
        plain = _CONTENTS.dump_python(self, by_alias=True)
        return json.dumps(plain, default=datetime.isoformat, indent=1) + "\n"


_CONTENTS = TypeAdapter(Contents)


def read_state(path: Path) -> Contents:
    """Read the file. Raises ValueError when it is no state, OSError when it cannot be read."""
    return _CONTENTS.validate_json(path.read_bytes())


def forget_reasons(path: Path, names: Collection[bytes], before: datetime | None) -> None:
    """Take out of the file what jobs said that is old or names a call that goes. Raises OSError.

    A scheduler at work takes that over when it writes the file next.
    """
    try:
        contents = read_state(path)
    except FileNotFoundError:
        return
    except ValueError:  # the scheduler will move it away and begin anew
        path.unlink()
        return
    ends = [
        replace(end, reason=FORGOTTEN)
        if (before and end.ended_at < before) or any(name in end.reason.encode() for name in names)
        else end
        for end in contents.ends
    ]
    if ends != contents.ends:
        write_whole(path, replace(contents, ends=ends).to_text(), durable=True)


class SchedulerState:
    """The file, for the one scheduler that writes it. Safe across threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: Path | None = None  # where a file that could not be understood was moved to
        self._lock = threading.Lock()
        self._version = _version(path)
        try:
            self._contents = read_state(path)
        except FileNotFoundError:
            self._contents = Contents()
        except ValueError:
            self.damaged = path.replace(path.with_suffix(".damaged"))
            self._contents = Contents()

    @property
    def jobs(self) -> dict[str, JobRecord]:
        """The scheduled jobs by name."""
        return self._contents.jobs

    @property
    def ends(self) -> list[JobEnd]:
        """The last ends of all jobs, oldest first."""
        return self._contents.ends

    def update(self, job: str, **changes: Any) -> JobRecord:
        """Change fields of a job's record and write the file."""
        with self._lock:
            self.jobs[job] = replace(self.jobs[job], **changes)
            self._write()
            return self.jobs[job]

    def begin(self, job: str, when: str, now: datetime) -> JobRecord:
        """The record of a job; a new one, or one whose times were changed, is settled until now."""
        with self._lock:
            known = self.jobs.get(job)
            if known is None:
                self.jobs[job] = JobRecord(when, now)
            elif known.when != when:
                self.jobs[job] = replace(known, when=when, settled_at=now, attempts=0)
            self._write()
            return self.jobs[job]

    def forget_future(self, job: str, now: datetime) -> bool:
        """Remove times to come, which a clock that was ahead has left. Whether there were any.

        A job that counts as settled until 2036 would not be due before. When it was last good is lost.
        """
        known = self.jobs[job]
        changes: dict[str, datetime | None] = {
            name: min(moment, now)
            for name in ("settled_at", "due_at", "running_since")
            if (moment := getattr(known, name)) and moment > now
        }
        if known.good_at and known.good_at > now:
            changes["good_at"] = None
        if changes:
            self.update(job, **changes)
        return bool(changes)

    def keep_only(self, jobs: frozenset[str]) -> None:
        """Forget the records of jobs that are no longer scheduled."""
        with self._lock:
            self._contents.jobs = {name: record for name, record in self.jobs.items() if name in jobs}
            self._write()

    def add(self, end: JobEnd) -> None:
        """Add an end to the list; the oldest beyond N_ENDS_KEPT go."""
        with self._lock:
            self._contents.ends = [*self.ends, end][-N_ENDS_KEPT:]
            self._write()

    def _write(self) -> None:
        make_private_dir(self.path.parent)
        if _version(self.path) != self._version:
            self._take_over_forgotten()
        write_whole(self.path, self._contents.to_text(), durable=True)
        self._version = _version(self.path)

    def _take_over_forgotten(self) -> None:
        """Forget the reasons that a purge has taken out of the file; all else in it is ours."""
        try:
            found = read_state(self.path).ends
        except (OSError, ValueError):
            return
        forgotten = {(end.job, end.due_at, end.ended_at) for end in found if end.reason == FORGOTTEN}
        self._contents.ends = [
            replace(end, reason=FORGOTTEN) if (end.job, end.due_at, end.ended_at) in forgotten else end
            for end in self.ends
        ]


def _version(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced; None without one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
