"""`callanalytics schedule`: the scheduler as a process, until a signal, with settings read anew."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.errors import ConfigError, UsageError
from callanalytics.workspace import Workspace, file_lock, make_private_dir
from jobs.scheduler.command_lines import JobCommands
from jobs.scheduler.scheduler import HEAVY, LIGHT, Scheduler
from jobs.scheduler.state import SchedulerState

log = logging.getLogger("callanalytics.schedule")

POLL_S = 2.0
METRICS_EVERY_S = 60.0
TAIL_BYTES = 4000
INTERRUPTED = 143


class ChildProcesses:
    """Runs one child process per job at a time; its output is in `folder/<job>.log`, of its last run only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._cancelled: set[str] = set()  # asked to stop between planning and starting
        self._closed = False
        self._guard = threading.Lock()

    def __call__(self, job: str, command: Sequence[str]) -> tuple[int, str]:
        """Run a command and wait: exit code (negative: killed by that signal), its last line of output."""
        make_private_dir(self.folder)
        path = self.folder / f"{job}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as output:
            with self._guard:
                if self._closed or job in self._cancelled:
                    self._cancelled.discard(job)
                    return INTERRUPTED, "not started: the schedule was stopping"
                # A session of its own: Ctrl-C at the terminal reaches the schedule, which asks the child.
                process = self._running[job] = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                code = process.wait()
            finally:
                with self._guard:
                    del self._running[job]
        return code, f"{_last_line(path)} [{path}]"

    def stop(self, job: str | None = None) -> None:
        """Ask the process of a job to end at its next safe point; without a job all, and start no more."""
        with self._guard:
            self._closed |= job is None
            if job is not None and job not in self._running:
                self._cancelled.add(job)
            for name, process in self._running.items():
                if job in (None, name):
                    process.terminate()


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as output:
            output.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = output.read().decode("utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return "its output was removed by a purge"
    filled = [line.strip() for line in lines if line.strip()]
    return filled[-1][:300] if filled else "no output"


def now_utc() -> datetime:
    """The clock of the schedule."""
    return datetime.now(UTC)


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
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # its warnings come as events, logged by us
    with file_lock(workspace.schedule_lock):
        state = SchedulerState(workspace.schedule_state)
        if state.damaged:
            log.error("the scheduler state was damaged; it is now %s and a new one begins", state.damaged)
        executors = {HEAVY: ThreadPoolExecutor(1), LIGHT: ThreadPoolExecutor(1)}
        aps = BackgroundScheduler(timezone=UTC, executors=executors)
        commands = JobCommands(settings, config, workspace)
        launch = ChildProcesses(workspace.logs)
        scheduler = Scheduler(aps, state, commands, launch=launch, clock=now_utc)
        loop = _Loop(scheduler, load, say)
        handlers = {
            signal.SIGTERM: loop.on_stop,
            signal.SIGINT: loop.on_stop,
            signal.SIGHUP: loop.on_reload,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            scheduler.apply(settings)
            aps.start()
            scheduler.write_metrics()
            loop.run()
            log.info("stopping: waiting for the running job to reach a safe point")
            aps.pause()
            scheduler.stop()
            # Not aps.shutdown(wait=True): it waits with locks held that an ending job asks for.
            for executor in executors.values():
                executor.shutdown(wait=True)
            aps.shutdown(wait=False)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    log.info("stopped")


@dataclass(slots=True)
class _Loop:
    """Waits for signals and changes of the config file; handlers only set what the loop takes in."""

    scheduler: Scheduler
    load: Callable[[], Settings]
    say: Callable[[str], None]
    stop: bool = False
    reload: bool = False
    woken: threading.Event = field(default_factory=threading.Event)

    def on_stop(self, *_: object) -> None:
        """SIGTERM, SIGINT."""
        self.stop = True
        self.woken.set()

    def on_reload(self, *_: object) -> None:
        """SIGHUP."""
        self.reload = True
        self.woken.set()

    def run(self) -> None:
        """Say when what runs next, then wait until asked to stop."""
        self._say_next_times()
        version, alive_at = self._version(), now_utc()
        while not self.stop:
            self.woken.wait(POLL_S)
            self.woken.clear()
            found = self._version()
            if self.reload or found != version:
                self.reload, version = False, found
                self._reload()
            now = now_utc()
            if abs((now - alive_at).total_seconds()) >= METRICS_EVERY_S:
                if now < alive_at:
                    log.warning("the clock was set back: everything is planned again")
                    self.scheduler.apply(self.scheduler.settings)
                alive_at = now
                self.scheduler.write_metrics()
                self.scheduler.aps.wakeup()  # the machine may have slept, or its clock been set

    def _reload(self) -> None:
        """Plan by the new settings; ones that cannot be used leave the old in force."""
        try:
            self.scheduler.apply(self.load())
        except (ConfigError, UsageError) as problem:
            log.error("the changed settings cannot be used, the old ones stay in force: %s", problem)
            return
        log.info("settings read again")
        self._say_next_times()

    def _say_next_times(self) -> None:
        for line in self.scheduler.next_times():
            self.say(line)

    def _version(self) -> tuple[int, int] | None:
        """Changes whenever the config file does."""
        config = self.scheduler.commands.config
        try:
            stat = config.stat() if config else None
        except OSError:
            return None
        return (stat.st_mtime_ns, stat.st_size) if stat else None
