"""The scheduler: APScheduler starts the jobs of `[schedule]` as child processes of our own command line.

APScheduler 3 fires at due times, merges times that piled up, keeps a job from overlapping itself and refuses
what is later than its grace period. Added here are a memory across restarts (`state`), retries, and the order
among heavy jobs: they share one thread, so that a run and a retraining are never at work together, and a
retraining, which goes on where it stopped, is preempted when the night is due.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
)
from apscheduler.triggers.base import BaseTrigger

from callanalytics.config import Settings
from callanalytics.config.cron import parse_cron
from jobs.scheduler.command_lines import JobCommands
from jobs.scheduler.monitoring import ping, show_time, write_textfile
from jobs.scheduler.notify import tell_of_job
from jobs.scheduler.state import JobEnd, JobRecord, Outcome, SchedulerState

log = logging.getLogger("callanalytics.schedule")

GOOD_CODES = frozenset({0, 3, 4})  # all done; some files quarantined; nothing to do
# A crash, a full disk, a held lock, a killed process may pass; wrong settings, a missing model, a used
# time budget, a closed gate and a doubtful clock (2, 6, 7, 8, 9) are the same a quarter of an hour later.
RETRY_CODES = frozenset({1, 5, 130, 143})
HELD_CODE = 8  # the gate
HEAVY, LIGHT = "heavy", "light"  # executors: one thread each
_LOG_LEVELS: dict[Outcome, int] = {
    "good": logging.INFO,
    "preempted": logging.INFO,
    "delayed": logging.WARNING,
    "interrupted": logging.WARNING,
}


class DueTimes(BaseTrigger):  # type: ignore[misc] # APScheduler has no types
    """The times of a cron expression in a zone, see `Cron.after`; for APScheduler, as a trigger."""

    def __init__(self, cron: str, zone: ZoneInfo) -> None:
        self.cron = parse_cron(cron)
        self.zone = zone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The first time after the previous one; without a previous one, the first that is not over."""
        return self.after(previous_fire_time or now - timedelta(microseconds=1))

    def after(self, moment: datetime) -> datetime:
        """The first time after a moment, in UTC."""
        return self.cron.after(moment, self.zone)


class Launch(Protocol):
    """How the command of a job is run (see `ChildProcesses`)."""

    def __call__(self, job: str, command: Sequence[str]) -> tuple[int, str]:
        """Run and wait: exit code (negative: killed by that signal) and its last line of output."""

    def stop(self, job: str | None = None) -> None:
        """Ask the child process of a job, or every one, to end at its next safe point."""


class Scheduler:
    """The jobs of one output folder in an APScheduler, which the caller starts and shuts down.

    Args:
        aps: An APScheduler with the executors HEAVY and LIGHT, one thread each.
        state: What is remembered across restarts.
        commands: Settings and the command lines that follow from them.
        launch: Runs a command line and waits for its end.
        clock: The time now, in UTC.
    """

    def __init__(
        self,
        aps: Any,
        state: SchedulerState,
        commands: JobCommands,
        *,
        launch: Launch,
        clock: Callable[[], datetime],
    ) -> None:
        self.aps = aps
        self.state = state
        self.commands = commands
        self.launch = launch
        self.clock = clock
        self.due_times: dict[str, DueTimes] = {}
        self.stopping = False
        self._at_work: set[str] = set()
        self._preempting = False
        self._retry_at: dict[str, datetime] = {}
        self._guard = threading.Lock()
        aps.add_listener(self._on_ended, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
        aps.add_listener(self._on_missed, EVENT_JOB_MISSED)
        aps.add_listener(self._on_overlap, EVENT_JOB_MAX_INSTANCES)
        aps.add_listener(self._on_submitted, EVENT_JOB_SUBMITTED)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.commands.settings

    def apply(self, settings: Settings) -> None:
        """Plan the jobs of these settings: at the start, and whenever config.toml has changed.

        A job that came due while nobody was there is planned for that time: APScheduler starts it at
        once when it is within its grace period, and reports it as missed when it is not.

        Raises UsageError when nothing is scheduled, or the night has no folder to search.
        """
        commands = replace(self.commands, settings=settings)
        commands.check()
        self.commands = commands
        crons, zone = settings.schedule.crons(), settings.schedule_zone
        for gone in set(self.due_times) - set(crons):
            self.aps.remove_job(gone)
            del self.due_times[gone]
        self.state.keep_only(frozenset(crons))
        for job, cron in crons.items():
            due_times = self.due_times[job] = DueTimes(cron, zone)
            record = self._begin(job, f"{cron} {zone}")
            self.aps.add_job(
                self._work,
                due_times,
                args=[job],
                id=job,
                name=job,
                executor=LIGHT if job == "health" else HEAVY,
                next_run_time=due_times.after(self.clock() if job in self._at_work else record.settled_at),
                misfire_grace_time=max(1, round(settings.schedule.grace_h * 3600)),
                coalesce=True,
                max_instances=1,
                replace_existing=True,
            )
        self._note_next_times()

    def _begin(self, job: str, when: str) -> JobRecord:
        """The record of a job that is planned, put right where the clock or the last scheduler failed."""
        now = self.clock()
        settled_at = self.state.begin(job, when, now).settled_at
        if self.state.forget_future(job, now):
            until = show_time(settled_at, self.settings.schedule_zone)
            log.warning("%s was settled until %s: the clock was ahead. It counts from now on", job, until)
        record = self.state.jobs[job]
        if record.running_since is None or job in self._at_work:
            return record
        # The last scheduler died while this job ran: its time is not settled and comes again.
        reason = f"the scheduler ended while it ran (since {show_time(record.running_since, UTC)})"
        due_at = record.due_at or now
        self._add_end(JobEnd(job, due_at, record.running_since, now, "interrupted", None, reason))
        given_up = record.attempts > self.settings.schedule.retries
        changes = {"settled_at": due_at, "attempts": 0} if given_up else {}
        return self.state.update(job, running_since=None, **changes)

    # In an executor's thread ---------------------------------------------------------------------------

    def _work(self, job: str) -> None:
        """Run one job as a child process and settle what became of it."""
        with self._guard:
            if self.stopping:
                return
            self._at_work.add(job)
        started_at = self.clock()
        due_at, n_due = self._due(job, started_at)
        attempts = self.state.jobs[job].attempts + 1
        self.state.update(job, due_at=due_at, running_since=started_at, attempts=attempts)
        if n_due > 1:
            log.warning("%s stands for %d times that came due while it could not run", job, n_due)
        log.info("%s started (due %s)", job, show_time(due_at, self.settings.schedule_zone))
        try:
            code, reason = self.launch(job, self.command(job, due_at))
        except OSError as problem:
            code, reason = 1, f"could not be started: {problem}"
        finally:
            with self._guard:
                self._at_work.discard(job)
        self._settle(job, due_at, started_at, code, reason)

    def _due(self, job: str, now: datetime) -> tuple[datetime, int]:
        """The newest unsettled time of a job that is not after now, and how many there are."""
        due_at, n_due = None, 0
        moment = self.due_times[job].after(self.state.jobs[job].settled_at)
        while moment <= now:
            due_at, n_due = moment, n_due + 1
            moment = self.due_times[job].after(moment)
        return due_at or now, n_due

    def _settle(self, job: str, due_at: datetime, started_at: datetime, code: int, reason: str) -> None:
        """Note how a run ended and when the job comes again."""
        now = self.clock()
        plan, record = self.settings.schedule, self.state.jobs[job]
        retry_after = timedelta(seconds=plan.retry_after_s)
        in_time = now + retry_after <= due_at + timedelta(hours=plan.grace_h)
        may_pass = code in RETRY_CODES or code < 0
        if code == HELD_CODE and (held := self.commands.workspace.held):
            reason = "; ".join(held["reasons"])
        preempted = job == "retrain" and self._preempting
        self._preempting = self._preempting and not preempted
        state: Outcome
        changes: dict[str, Any] = {"settled_at": due_at, "attempts": 0}
        if code in GOOD_CODES:
            state = "good"
            changes |= {"good_at": due_at, "n_good": record.n_good + 1}
        elif self.stopping or preempted:
            state = "interrupted" if self.stopping else "preempted"
            changes = {"attempts": max(record.attempts - 1, 0)}
            self._retry_at[job] = now + timedelta(seconds=1)
        elif may_pass and in_time and record.attempts <= plan.retries:
            state, changes = "retrying", {}
            self._retry_at[job] = now + retry_after
            attempts = f"{record.attempts} of {plan.retries + 1}"
            reason = f"{reason}; again in {plan.retry_after_s / 60:.0f} min ({attempts})"
        else:
            state = "failed"
            changes |= {"n_failed": record.n_failed + 1}
        self.state.update(job, running_since=None, exit_code=code, **changes)
        self._add_end(JobEnd(job, due_at, started_at, now, state, code, reason))

    # Events of APScheduler -------------------------------------------------------------------------------

    def _on_ended(self, event: Any) -> None:
        """A job has ended: plan its next time from what is settled, not from what the clock passed."""
        job = event.job_id
        if self.stopping or job not in self.due_times:
            return
        next_at = self._retry_at.pop(job, None) or self.due_times[job].after(self.state.jobs[job].settled_at)
        self.aps.modify_job(job, next_run_time=next_at)
        self._note_next_times()

    def _on_missed(self, event: Any) -> None:
        """A job could not start within its grace period."""
        job, due_at = event.job_id, event.scheduled_run_time.astimezone(UTC)
        record = self.state.jobs[job]
        settled_at = max(due_at, record.settled_at)
        n_missed = record.n_missed + 1
        self.state.update(job, running_since=None, settled_at=settled_at, attempts=0, n_missed=n_missed)
        reason = f"missed: it could not start within {self.settings.schedule.grace_h:g} h"
        self._add_end(JobEnd(job, due_at, None, self.clock(), "missed", None, reason))
        self._note_next_times()

    def _on_overlap(self, event: Any) -> None:
        """A job came due while it runs."""
        due_at = event.scheduled_run_times[-1].astimezone(UTC)
        reason = "its last run is still at work; it starts when that ends, within its grace"
        self._add_end(JobEnd(event.job_id, due_at, None, self.clock(), "delayed", None, reason))

    def _on_submitted(self, event: Any) -> None:
        """The night is due: a retraining at work is preempted."""
        with self._guard:
            if event.job_id != "run" or "retrain" not in self._at_work:
                return
            self._preempting = True
        self.launch.stop("retrain")

    # ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Start nothing more and ask what runs to end at its next safe point."""
        with self._guard:
            self.stopping = True
        self.launch.stop()

    def write_metrics(self) -> None:
        """Write the Prometheus text file, which also says that the scheduler is alive."""
        if path := self.settings.schedule.textfile:
            problem = write_textfile(self.settings.folder / path, self.state.jobs, self.clock())
            if problem:
                log.error(problem)

    def command(self, job: str, due_at: datetime) -> list[str]:
        """The argument list of a job that came due, see `JobCommands`."""
        return self.commands.when_due(job, due_at, self.state.jobs["run"].good_at if job == "run" else None)

    def next_times(self) -> list[str]:
        """One line per job with its next time in the zone of the schedule, soonest first."""
        planned = sorted((record.next_at, job) for job, record in self.state.jobs.items() if record.next_at)
        zone = self.settings.schedule_zone
        return [f"{job:<8} next {show_time(next_at, zone)}" for next_at, job in planned]

    def _note_next_times(self) -> None:
        for job in self.aps.get_jobs():
            next_at = getattr(job, "next_run_time", None)  # a job that waits for the start has none yet
            moment = next_at.astimezone(UTC) if next_at else None
            if self.state.jobs[job.id].next_at != moment:
                self.state.update(job.id, next_at=moment)

    def _add_end(self, end: JobEnd) -> None:
        """Log, remember and report how a run ended."""
        code = "" if end.exit_code is None else f" (exit {end.exit_code})"
        level = _LOG_LEVELS.get(end.state, logging.ERROR)
        log.log(level, "%s %s%s: %s", end.job, end.state, code, end.reason)
        if end.job != "health" or end.state != "good":  # four good ones an hour would bury the night's
            self.state.add(end)
        plan = self.settings.schedule
        urls = {"good": plan.ping_url, "failed": plan.ping_failed_url, "missed": plan.ping_failed_url}
        url = urls.get(end.state) if end.job == "run" else None
        if url and (problem := ping(url, plan.ping_timeout_s)):
            log.error(problem)
        if end.job != "run" or end.exit_code != HELD_CODE:  # a run tells of the gate by itself
            for problem in tell_of_job(
                self.settings, self.commands.workspace, end.job, end.state, end.reason
            ):
                log.error(problem)
        self.write_metrics()
