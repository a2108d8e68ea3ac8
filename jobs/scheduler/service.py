"""`callanalytics schedule`: keeps the schedule going until a signal, and takes in changes of config.toml."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from callanalytics.config import Settings
from callanalytics.errors import ConfigError, UsageError
from callanalytics.workspace import Workspace, file_lock
from jobs.scheduler.child_processes import Children
from jobs.scheduler.scheduler import HEAVY, LIGHT, Schedule, next_times
from jobs.scheduler.state import Logbook

log = logging.getLogger("callanalytics.schedule")

POLL_S = 2.0
BEAT_S = 60.0


def now_utc() -> datetime:
    """The clock of the schedule."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Wishes:
    """What signals asked for; set in handlers, taken in by the loop."""

    stop: bool = False
    reload: bool = False
    rung: threading.Event = field(default_factory=threading.Event)

    def on_stop(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM, SIGINT."""
        self.stop = True
        self.rung.set()

    def on_reload(self, number: int, frame: FrameType | None) -> None:
        """SIGHUP."""
        self.reload = True
        self.rung.set()


def keep_schedule(
    load: Callable[[], Settings], *, workspace: Workspace, config: Path | None, say: Callable[[str], None]
) -> None:
    """Run the schedule until SIGTERM or SIGINT; then wait for the running job to reach a safe point.

    Raises:
        UsageError: nothing is scheduled, or the night has no folder to search.
        LockHeld: another schedule works on this output folder.
    """
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.background import BackgroundScheduler

    settings = load()
    workspace.make()
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # its warnings come as events, in our words
    with file_lock(workspace.schedule_lock):
        book = Logbook(workspace.schedule_state)
        if book.set_aside:
            log.error("the logbook was damaged; it is now %s and a new one begins", book.set_aside)
        children = Children(workspace.logs)
        executors = {HEAVY: ThreadPoolExecutor(1), LIGHT: ThreadPoolExecutor(1)}
        scheduler = BackgroundScheduler(timezone=UTC, executors=executors)
        schedule = Schedule(
            scheduler, settings, book, workspace=workspace, config=config, launch=children, clock=now_utc
        )
        wishes = Wishes()
        handlers = {
            signal.SIGTERM: wishes.on_stop,
            signal.SIGINT: wishes.on_stop,
            signal.SIGHUP: wishes.on_reload,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            schedule.apply(settings)
            scheduler.start()
            schedule.beat()
            for line in next_times(book, settings):
                say(line)
            _watch(schedule, load, config, wishes, say)
            log.info("stopping: waiting for the running job to reach a safe point")
            scheduler.pause()
            schedule.stop()
            # Not scheduler.shutdown(wait=True): it waits with locks held that an ending job asks for.
            for executor in executors.values():
                executor.shutdown(wait=True)
            scheduler.shutdown(wait=False)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    log.info("stopped")


def _watch(
    schedule: Schedule,
    load: Callable[[], Settings],
    config: Path | None,
    wishes: Wishes,
    say: Callable[[str], None],
) -> None:
    """Wait for signals and changes of the config file."""
    seen = _version(config)
    beaten_at = now_utc()
    while not wishes.stop:
        wishes.rung.wait(POLL_S)
        wishes.rung.clear()
        found = _version(config)
        if wishes.reload or found != seen:
            wishes.reload, seen = False, found
            _reload(schedule, load, say)
        if abs((now_utc() - beaten_at).total_seconds()) >= BEAT_S:
            if now_utc() < beaten_at:
                log.warning("the clock was set back: everything is planned again")
                schedule.apply(schedule.settings)
            beaten_at = now_utc()
            schedule.beat()
            schedule.scheduler.wakeup()  # the machine may have slept, or its clock been set


def _version(config: Path | None) -> tuple[int, int] | None:
    try:
        stat = config.stat() if config else None
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size) if stat else None


def _reload(schedule: Schedule, load: Callable[[], Settings], say: Callable[[str], None]) -> None:
    """Plan by the new settings; ones that cannot be used leave the old in force."""
    try:
        schedule.apply(load())
    except (ConfigError, UsageError) as problem:
        log.error("the changed settings cannot be used, the old ones stay in force: %s", problem)
        return
    log.info("settings read again")
    for line in next_times(schedule.book, schedule.settings):
        say(line)
