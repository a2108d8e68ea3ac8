"""The schedule: APScheduler starts the jobs of `[schedule]` as child processes of our own command line.

What APScheduler 3 does by itself and what is added here: it fires triggers, coalesces what piled up, keeps
a job from overlapping itself and refuses what is later than its grace. Added are a memory across restarts
(see `logbook`), retries, daylight saving without a doubled night, and the order among the heavy jobs: they
share one thread, so that a run and a retraining are never at work together; a retraining, which goes on
where it stopped, gives way when the night is due.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
)

from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.workspace import Workspace
from jobs.scheduler.command_lines import errand
from jobs.scheduler.due_times import NightTrigger
from jobs.scheduler.monitoring import ping, write_textfile
from jobs.scheduler.state import JobEnd, JobNote, Logbook, State

log = logging.getLogger("callanalytics.schedule")

GOOD_CODES = frozenset({0, 3, 4})  # all done; some files quarantined; nothing to do
# A crash, a full disk, a held lock, a killed process may pass; wrong settings, a missing model, a used
# time budget and a closed gate (2, 6, 7, 8) are the same a quarter of an hour later.
RETRY_CODES = frozenset({1, 5, 130, 143})
HELD_CODE = 8  # the gate
HEAVY, LIGHT = "heavy", "light"  # executors: one thread each


class Launch(Protocol):
    """How the command of a job is run (see `children`)."""

    def __call__(self, job: str, command: Sequence[str]) -> tuple[int, str]:
        """Run and wait: exit code (negative: killed by that signal) and the last words it said."""

    def stop(self, job: str | None = None) -> None:
        """Ask the child of a job, or every child, to end at its next safe point."""


class Schedule:
    """The jobs of one output folder in an APScheduler. `scheduler` is started and shut down by the caller."""

    def __init__(
        self,
        scheduler: Any,
        settings: Settings,
        book: Logbook,
        *,
        workspace: Workspace,
        config: Path | None,
        launch: Launch,
        clock: Callable[[], datetime],
    ) -> None:
        self.scheduler = scheduler
        self.settings = settings
        self.book = book
        self.workspace = workspace
        self.config = config
        self.launch = launch
        self.clock = clock
        self.triggers: dict[str, NightTrigger] = {}
        self.stopping = False
        self._at_work: set[str] = set()
        self._giving_way = False
        self._retry_at: dict[str, datetime] = {}
        self._guard = threading.Lock()
        listeners = {
            EVENT_JOB_EXECUTED | EVENT_JOB_ERROR: self._after,
            EVENT_JOB_MISSED: self._missed,
            EVENT_JOB_MAX_INSTANCES: self._waits,
            EVENT_JOB_SUBMITTED: self._submitted,
        }
        for events, listener in listeners.items():
            scheduler.add_listener(listener, events)

    def apply(self, settings: Settings) -> None:
        """Plan the jobs of these settings: at the start, and whenever config.toml has changed.

        A job that came due while nobody was there is planned for that time: APScheduler starts it at
        once when it is within its grace, and reports it as missed when it is not.
        """
        crons = settings.schedule.crons()
        if not crons:
            raise UsageError(
                f"{settings.source}: [schedule] schedules nothing. Give at least one job a time."
            )
        if "run" in crons and not settings.input_dirs:
            raise UsageError(f"{settings.source}: [paths] inputs is empty: the night would search nothing.")
        self.settings = settings
        zone = settings.schedule_zone
        for gone in set(self.triggers) - set(crons):
            self.scheduler.remove_job(gone)
            del self.triggers[gone]
        self.book.keep_only(frozenset(crons))
        for job, words in crons.items():
            trigger = self.triggers[job] = NightTrigger(words, zone)
            note = self.book.begin(job, f"{words} {zone}", self.clock())
            if self.book.back_to(job, self.clock()):
                until = _shown(note.settled_at, settings)
                log.warning("%s was settled until %s: the clock was ahead. It counts from now on", job, until)
                note = self.book.jobs[job]
            if note.running_since is not None and job not in self._at_work:
                note = self._note_crash(job, note)
            self.scheduler.add_job(
                self._work,
                trigger,
                args=[job],
                id=job,
                name=job,
                executor=LIGHT if job == "health" else HEAVY,
                next_run_time=trigger.after(self.clock() if job in self._at_work else note.settled_at),
                misfire_grace_time=max(1, round(settings.schedule.grace_h * 3600)),
                coalesce=True,
                max_instances=1,
                replace_existing=True,
            )
        self._note_next()

    def _note_crash(self, job: str, note: JobNote) -> JobNote:
        """The last scheduler died while this job ran: its time is not settled and comes again."""
        words = f"the scheduler ended while it ran (since {note.running_since:%Y-%m-%d %H:%M} UTC)"
        now = self.clock()
        self._log_end(JobEnd(job, note.due_at or now, note.running_since, now, "interrupted", None, words))
        if note.attempts > self.settings.schedule.retries:
            return self.book.note(job, lambda n: replace(_idle(n), settled_at=n.due_at or now, attempts=0))
        return self.book.note(job, _idle)

    # In an executor's thread ---------------------------------------------------------------------------

    def _work(self, job: str) -> None:
        """Run one job as a child process and settle what became of it."""
        with self._guard:
            if self.stopping:
                return
            self._at_work.add(job)
        started_at = self.clock()
        due_at, n_due = self._due(job, started_at)
        self.book.note(
            job,
            lambda n: replace(n, due_at=due_at, running_since=started_at, attempts=n.attempts + 1),
        )
        if n_due > 1:
            log.warning("%s stands for %d times that came due while it could not run", job, n_due)
        log.info("%s started (due %s)", job, _shown(due_at, self.settings))
        try:
            code, words = self.launch(job, self.command(job, due_at))
        except OSError as problem:
            code, words = 1, f"could not be started: {problem}"
        finally:
            with self._guard:
                self._at_work.discard(job)
        self._settle(job, due_at, started_at, code, words)

    def _due(self, job: str, now: datetime) -> tuple[datetime, int]:
        """The newest unsettled time of a job that is not after now, and how many there are."""
        due_at, n_due = None, 0
        moment = self.triggers[job].after(self.book.jobs[job].settled_at)
        while moment <= now:
            due_at, n_due = moment, n_due + 1
            moment = self.triggers[job].after(moment)
        return due_at or now, n_due

    def _settle(self, job: str, due_at: datetime, started_at: datetime, code: int, words: str) -> None:
        now = self.clock()
        plan = self.settings.schedule
        if code == HELD_CODE and (told := self.workspace.held):
            words = "; ".join(told["reasons"])
        gave_way = job == "retrain" and self._giving_way and code not in GOOD_CODES
        attempts = self.book.jobs[job].attempts
        state: State
        if code in GOOD_CODES:
            state = "good"
            self._settled(job, code, settled_at=due_at, good_at=due_at, n_good=self.book.jobs[job].n_good + 1)
        elif self.stopping or gave_way:
            state = "gave_way" if gave_way and not self.stopping else "interrupted"
            self.book.note(job, lambda n: replace(_idle(n), exit_code=code, attempts=max(n.attempts - 1, 0)))
            self._retry_at[job] = now + timedelta(seconds=1)
        elif self._may_retry(code, attempts, due_at, now):
            state = "again"
            self._retry_at[job] = now + timedelta(seconds=plan.retry_after_s)
            words = f"{words}; again in {plan.retry_after_s / 60:.0f} min ({attempts} of {plan.retries + 1})"
            self.book.note(job, lambda n: replace(_idle(n), exit_code=code))
        else:
            state = "failed"
            self._settled(job, code, settled_at=due_at, n_failed=self.book.jobs[job].n_failed + 1)
        self._giving_way = self._giving_way and job != "retrain"
        self._log_end(JobEnd(job, due_at, started_at, now, state, code, words))

    def _may_retry(self, code: int, attempts: int, due_at: datetime, now: datetime) -> bool:
        plan = self.settings.schedule
        next_at = now + timedelta(seconds=plan.retry_after_s)
        in_time = next_at <= due_at + timedelta(hours=plan.grace_h)
        return (code in RETRY_CODES or code < 0) and attempts <= plan.retries and in_time

    def _settled(self, job: str, code: int, **changes: Any) -> None:
        self.book.note(job, lambda n: replace(_idle(n), exit_code=code, attempts=0, **changes))

    # Events of APScheduler -------------------------------------------------------------------------------

    def _after(self, event: Any) -> None:
        """A job has ended: plan its next time from what is settled, not from what the clock passed."""
        job = event.job_id
        if self.stopping or job not in self.triggers:
            return
        next_at = self._retry_at.pop(job, None) or self.triggers[job].after(self.book.jobs[job].settled_at)
        self.scheduler.modify_job(job, next_run_time=next_at)
        self._note_next()

    def _missed(self, event: Any) -> None:
        due_at = event.scheduled_run_time.astimezone(UTC)
        now = self.clock()
        words = f"missed: it could not start within {self.settings.schedule.grace_h:g} h"
        self.book.note(
            event.job_id,
            lambda n: replace(
                _idle(n), settled_at=max(due_at, n.settled_at), attempts=0, n_missed=n.n_missed + 1
            ),
        )
        self._log_end(JobEnd(event.job_id, due_at, None, now, "missed", None, words))
        self._note_next()

    def _waits(self, event: Any) -> None:
        due_at = event.scheduled_run_times[-1].astimezone(UTC)
        words = "its last run is still at work; it starts when that ends, within its grace"
        self._log_end(JobEnd(event.job_id, due_at, None, self.clock(), "waits", None, words))

    def _submitted(self, event: Any) -> None:
        """The night is due: a retraining at work gives way to it."""
        with self._guard:
            if event.job_id != "run" or "retrain" not in self._at_work:
                return
            self._giving_way = True
        self.launch.stop("retrain")

    # ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Start nothing more and ask what runs to end at its next safe point."""
        with self._guard:
            self.stopping = True
        self.launch.stop()

    def beat(self) -> None:
        """Say that the scheduler lives: the textfile."""
        if path := self.settings.schedule.textfile:
            problem = write_textfile(self.settings.folder / path, self.book.jobs, self.clock())
            if problem:
                log.error(problem)

    def command(self, job: str, due_at: datetime) -> list[str]:
        """What to run for a job, see `errand`."""
        good_at = self.book.jobs["run"].good_at if job == "run" else None
        return errand(
            job, due_at, settings=self.settings, config=self.config, workspace=self.workspace, good_at=good_at
        )

    def _note_next(self) -> None:
        for job in self.scheduler.get_jobs():
            next_at = getattr(job, "next_run_time", None)  # a job that waits for the start has none yet
            moment = next_at.astimezone(UTC) if next_at else None
            if self.book.jobs[job.id].next_at != moment:
                self.book.note(job.id, partial(_with_next, next_at=moment))

    def _log_end(self, end: JobEnd) -> None:
        level = {
            "good": logging.INFO,
            "gave_way": logging.INFO,
            "waits": logging.WARNING,
            "interrupted": logging.WARNING,
        }
        code = "" if end.exit_code is None else f" (exit {end.exit_code})"
        log.log(level.get(end.state, logging.ERROR), "%s %s%s: %s", end.job, end.state, code, end.words)
        if end.job != "health" or end.state != "good":  # four good ones an hour would bury the night's
            self.book.end(end)
        self._ping(end)
        self.beat()

    def _ping(self, end: JobEnd) -> None:
        plan = self.settings.schedule
        url = {"good": plan.ping_url, "failed": plan.ping_failed_url, "missed": plan.ping_failed_url}
        address = url.get(end.state) if end.job == "run" else None
        if address and (problem := ping(address, plan.ping_timeout_s)):
            log.error(problem)


def _idle(note: JobNote) -> JobNote:
    return replace(note, running_since=None)


def _with_next(note: JobNote, next_at: datetime | None) -> JobNote:
    return replace(note, next_at=next_at)


def _shown(moment: datetime, settings: Settings) -> str:
    return f"{moment.astimezone(settings.schedule_zone):%Y-%m-%d %H:%M %Z}"


def next_times(book: Logbook, settings: Settings) -> list[str]:
    """One line per job with its next time in the zone of the schedule, soonest first."""
    planned = sorted((n.next_at, name) for name, n in book.jobs.items() if n.next_at)
    return [f"{name:<8} next {_shown(at, settings)}" for at, name in planned]
