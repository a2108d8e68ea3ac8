"""The schedule by a fake clock: weeks, both clock changes, runs that are too long, crashes, retries."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import apscheduler.executors.base
import apscheduler.schedulers.base
import pytest
from apscheduler.events import EVENT_JOB_ERROR
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.base import BaseScheduler

from callanalytics.config import JOB_NAMES, Settings, settings_from
from callanalytics.errors import ConfigError, UsageError
from callanalytics.workspace import Workspace
from jobs.scheduler.command_lines import JobCommands
from jobs.scheduler.monitoring import read_schedule
from jobs.scheduler.scheduler import HEAVY, LIGHT, DueTimes, Scheduler
from jobs.scheduler.state import JobEnd, SchedulerState

BERLIN = ZoneInfo("Europe/Berlin")


class Clock:
    """A clock that only moves when the test says so; APScheduler reads it too."""

    def __init__(self, start: datetime) -> None:
        self.now = start

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(datetime(2026, 3, 2, 12, tzinfo=UTC))

    class FakeDatetime(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return clock.now.astimezone(tz)

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", FakeDatetime)
    monkeypatch.setattr(apscheduler.executors.base, "datetime", FakeDatetime)
    return clock


class Manual(BaseScheduler):  # type: ignore[misc]
    """APScheduler without its thread: the test turns the crank."""

    def wakeup(self) -> None:
        pass

    def shutdown(self, wait: bool = True) -> None:
        for executor in self._executors.values():  # as jobs/scheduler/service.py: not with the locks held
            executor.shutdown(wait)
        super().shutdown(wait=False)


class Deferred(BaseExecutor):  # type: ignore[misc]
    """Runs what was submitted, in order, when the test says: as one thread would, without a thread."""

    waiting: list[tuple[Any, Any]]

    def _do_submit_job(self, job: Any, run_times: Any) -> None:
        self.__dict__.setdefault("waiting", []).append((job, run_times))

    def flush(self) -> None:
        while self.__dict__.get("waiting"):
            job, run_times = self.waiting.pop(0)
            events = run_job(job, "default", run_times, "apscheduler")
            if any(event.code == EVENT_JOB_ERROR for event in events):
                raise events[0].exception
            self._run_job_success(job.id, events)


class Fake:
    """Instead of child processes: remembers when what was run, and does what the test says."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ran: list[tuple[str, datetime]] = []
        self.commands: list[list[str]] = []
        self.stopped: list[str | None] = []
        self.takes: dict[str, timedelta] = {}
        self.codes: list[int] = []  # of the next runs; then 0

    def __call__(self, job: str, command: Sequence[str]) -> tuple[int, str]:
        self.ran.append((job, self.clock.now))
        self.commands.append(list(command))
        self.clock.now += self.takes.get(job, timedelta(minutes=5))
        return (self.codes.pop(0) if self.codes else 0), "words"

    def stop(self, job: str | None = None) -> None:
        self.stopped.append(job)

    def times(self, job: str = "run", zone: ZoneInfo = BERLIN) -> list[str]:
        return [at.astimezone(zone).strftime("%m-%d %H:%M") for name, at in self.ran if name == job]


def settings_with(folder: Path, **schedule: object) -> Settings:
    table = {"run": "30 2 * * *", "health": "", "zone": "Europe/Berlin", **schedule}
    return settings_from(
        {"schedule": table, "paths": {"inputs": ["calls"]}}, source="config.toml", folder=folder
    )


def start(
    clock: Clock, launch: Any, settings: Settings, *, threads: bool = False
) -> tuple[Scheduler, Manual]:
    executor = (lambda: ThreadPoolExecutor(1)) if threads else Deferred
    aps = Manual(timezone=UTC, executors={HEAVY: executor(), LIGHT: executor()})
    workspace = Workspace(settings.folder)
    state = SchedulerState(workspace.schedule_state)
    commands = JobCommands(settings, None, workspace)
    scheduler = Scheduler(aps, state, commands, launch=launch, clock=clock)
    scheduler.apply(settings)
    aps.start()
    return scheduler, aps


def run_until(aps: Manual, clock: Clock, end: datetime) -> None:
    """Turn the crank, as the scheduler's own thread does: look, wait, look again."""
    while clock.now < end:
        wait_s = aps._process_jobs()
        flushed_at = clock.now
        for executor in aps._executors.values():
            if isinstance(executor, Deferred):
                executor.flush()
        if clock.now != flushed_at:
            continue
        rest = (end - clock.now).total_seconds()
        clock.now += timedelta(seconds=max(0.001, min(rest, wait_s if wait_s is not None else rest)))


def states(scheduler: Scheduler, job: str = "run") -> list[str]:
    return [end.state for end in scheduler.state.ends if end.job == job]


def test_three_weeks_of_nights_over_the_spring_change(clock: Clock, tmp_path: Path) -> None:
    clock.now = datetime(2026, 3, 20, 12, tzinfo=UTC)
    launch = Fake(clock)
    _, aps = start(clock, launch, settings_with(tmp_path))
    run_until(aps, clock, datetime(2026, 4, 10, 12, tzinfo=UTC))
    times = launch.times()
    assert len(times) == 21
    odd = [t for t in times if not t.endswith("02:30")]
    assert odd == ["03-29 03:30"], "02:30 does not exist that night: it comes an hour later"


def test_the_autumn_change_runs_the_night_once(clock: Clock, tmp_path: Path) -> None:
    clock.now = datetime(2026, 10, 23, 12, tzinfo=UTC)
    launch = Fake(clock)
    _, aps = start(clock, launch, settings_with(tmp_path, health="*/30 * * * *"))
    launch.takes["health"] = timedelta(seconds=1)
    run_until(aps, clock, datetime(2026, 10, 27, 12, tzinfo=UTC))
    assert launch.times() == [f"10-{day} 02:30" for day in range(24, 28)]
    gaps = [b - a for (_, a), (_, b) in zip(launch.ran, launch.ran[1:], strict=False)]
    assert max(gaps) <= timedelta(minutes=31), "a job of every hour runs in both passes"


def test_weekday_numbers_are_those_of_cron(clock: Clock, tmp_path: Path) -> None:
    launch = Fake(clock)
    _, aps = start(clock, launch, settings_with(tmp_path, run="0 4 * * 0"))
    run_until(aps, clock, clock.now + timedelta(days=21))
    assert [at.astimezone(BERLIN).strftime("%a") for _, at in launch.ran] == ["Sun"] * 3


def test_the_window_is_yesterday_and_makes_up_for_missed_nights(clock: Clock, tmp_path: Path) -> None:
    launch = Fake(clock)
    settings = settings_with(tmp_path)
    _, aps = start(clock, launch, settings)
    run_until(aps, clock, datetime(2026, 3, 4, 12, tzinfo=UTC))
    window = [command[command.index("--since") : -2] for command in launch.commands]
    assert window[0] == ["--since", "2026-03-02", "--until", "2026-03-03"]
    assert window[1] == ["--since", "2026-03-03", "--until", "2026-03-04"]
    clock.now = datetime(2026, 3, 9, 12, tzinfo=UTC)  # the machine was off for five nights
    _, aps = start(clock, launch, settings)
    run_until(aps, clock, datetime(2026, 3, 10, 12, tzinfo=UTC))
    assert launch.commands[-1][4:8] == ["--since", "2026-03-04", "--until", "2026-03-10"]
    assert launch.commands[-1][:4] == [launch.commands[0][0], "-m", "callanalytics", "run"]


def test_a_night_missed_while_down_runs_at_the_start_within_its_grace(clock: Clock, tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    start(clock, Fake(clock), settings)
    clock.now = datetime(2026, 3, 3, 6, tzinfo=UTC)  # 07:00 in Berlin: four and a half hours late
    launch = Fake(clock)
    scheduler, aps = start(clock, launch, settings)
    run_until(aps, clock, clock.now + timedelta(hours=12))
    assert launch.times() == ["03-03 07:00"]
    assert states(scheduler) == ["good"]


def test_a_night_beyond_its_grace_is_missed_and_said(clock: Clock, tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    start(clock, Fake(clock), settings)
    clock.now = datetime(2026, 3, 3, 12, tzinfo=UTC)
    launch = Fake(clock)
    scheduler, aps = start(clock, launch, settings)
    run_until(aps, clock, clock.now + timedelta(hours=3))
    assert launch.ran == []
    assert states(scheduler) == ["missed"]
    assert scheduler.state.jobs["run"].n_missed == 1
    run_until(aps, clock, clock.now + timedelta(days=1))
    assert launch.times() == ["03-04 02:30"]


def test_a_run_longer_than_its_interval_is_not_doubled_and_nothing_is_lost(
    clock: Clock, tmp_path: Path
) -> None:
    launch = Fake(clock)
    launch.takes["run"] = timedelta(hours=26)
    _scheduler, aps = start(clock, launch, settings_with(tmp_path))
    run_until(aps, clock, datetime(2026, 3, 6, 12, tzinfo=UTC))
    begun = [at for _, at in launch.ran]
    assert all(b - a >= timedelta(hours=26) for a, b in itertools.pairwise(begun))
    days = [c[c.index("--since") + 1] for c in launch.commands]
    assert days == ["2026-03-02", "2026-03-03", "2026-03-04", "2026-03-05"][: len(days)]
    assert len(days) >= 3


def test_a_job_that_comes_due_while_it_runs_is_delayed(clock: Clock, tmp_path: Path) -> None:
    """With real threads: APScheduler refuses the overlap, and the refused time runs afterwards."""
    release, begun = threading.Event(), threading.Semaphore(0)

    class Slow(Fake):
        def __call__(self, job: str, command: Sequence[str]) -> tuple[int, str]:
            self.ran.append((job, self.clock.now))
            begun.release()
            assert release.wait(10)
            return 0, ""

    launch = Slow(clock)
    scheduler, aps = start(clock, launch, settings_with(tmp_path, run="0 * * * *"), threads=True)
    clock.now = datetime(2026, 3, 2, 13, 0, 1, tzinfo=UTC)
    aps._process_jobs()
    assert begun.acquire(timeout=10)
    clock.now = datetime(2026, 3, 2, 14, 0, 1, tzinfo=UTC)
    aps._process_jobs()
    assert states(scheduler) == ["delayed"]
    assert len(launch.ran) == 1
    release.set()
    until(lambda: states(scheduler)[-1] == "good" and aps.get_job("run").next_run_time <= clock.now)
    aps._process_jobs()
    assert begun.acquire(timeout=10)
    until(lambda: states(scheduler).count("good") == 2)
    aps.shutdown()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_retraining_and_the_night_never_overlap_and_it_is_preempted(clock: Clock, tmp_path: Path) -> None:
    at_work: list[str] = []
    most: list[int] = []
    asked = threading.Event()

    class Both(Fake):
        def __call__(self, job: str, command: Sequence[str]) -> tuple[int, str]:
            at_work.append(job)
            most.append(len(at_work))
            self.ran.append((job, self.clock.now))
            code = 0
            if job == "retrain" and len([j for j, _ in self.ran if j == "retrain"]) == 1:
                assert asked.wait(10)
                code = -15
            at_work.remove(job)
            return code, ""

        def stop(self, job: str | None = None) -> None:
            super().stop(job)
            asked.set()

    launch = Both(clock)
    settings = settings_with(tmp_path, retrain="0 22 * * *")
    scheduler, aps = start(clock, launch, settings, threads=True)
    clock.now = datetime(2026, 3, 2, 21, 0, 1, tzinfo=UTC)
    aps._process_jobs()
    until(lambda: at_work == ["retrain"])
    clock.now = datetime(2026, 3, 3, 1, 30, 1, tzinfo=UTC)
    aps._process_jobs()
    until(lambda: states(scheduler) == ["good"])
    assert launch.stopped == ["retrain"]
    assert states(scheduler, "retrain") == ["preempted"]
    clock.now += timedelta(minutes=1)
    until(lambda: aps.get_job("retrain").next_run_time <= clock.now)
    aps._process_jobs()
    until(lambda: states(scheduler, "retrain")[-1] == "good")
    assert [job for job, _ in launch.ran] == ["retrain", "run", "retrain"]
    assert max(most) == 1
    aps.shutdown()


def test_a_crash_in_the_middle_runs_again_and_not_for_ever(clock: Clock, tmp_path: Path) -> None:
    class PowerCutError(BaseException):
        pass

    class Cut(Fake):
        def __call__(self, job: str, command: Sequence[str]) -> tuple[int, str]:
            super().__call__(job, command)
            raise PowerCutError

    settings = settings_with(tmp_path, retries=1)
    begun = 0
    for _ in range(4):
        launch = Cut(clock)
        _, aps = start(clock, launch, settings)
        due = datetime(2026, 3, 3, 1, 30, tzinfo=UTC)
        with contextlib.suppress(PowerCutError):
            run_until(aps, clock, max(clock.now, due) + timedelta(minutes=9))
        begun += len(launch.ran)
        crashed = json.loads((tmp_path / ".work" / "schedule.json").read_text())
        assert (crashed["jobs"]["run"]["running_since"] is not None) == bool(launch.ran)
    assert begun == 2, "one time and one retry"
    launch = Fake(clock)
    scheduler, aps = start(clock, launch, settings)
    run_until(aps, clock, datetime(2026, 3, 4, 12, tzinfo=UTC))
    assert launch.times() == ["03-04 02:30"]
    assert states(scheduler).count("interrupted") == 2
    assert launch.commands[0][5] == "2026-03-03", "nothing is known to be good: the day before"


def test_what_may_pass_is_tried_again_and_what_may_not_is_not(clock: Clock, tmp_path: Path) -> None:
    launch = Fake(clock)
    launch.codes = [5, -9, 0, 2, 1, 1, 1]
    scheduler, aps = start(clock, launch, settings_with(tmp_path, retry_after_s=600.0))
    run_until(aps, clock, datetime(2026, 3, 5, 12, tzinfo=UTC))
    assert states(scheduler) == ["retrying", "retrying", "good", "failed", "retrying", "retrying", "failed"]
    assert launch.times() == [
        *("03-03 02:30", "03-03 02:45", "03-03 03:00"),
        "03-04 02:30",
        *("03-05 02:30", "03-05 02:45", "03-05 03:00"),
    ]
    assert scheduler.state.jobs["run"].n_failed == 2


def test_a_purge_that_a_doubtful_clock_held_back_waits_for_its_next_day(clock: Clock, tmp_path: Path) -> None:
    """Exit 9: a quarter of an hour later the clock is as doubtful, and who repairs it may take days."""
    launch = Fake(clock)
    launch.codes = [9, 9]
    settings = settings_with(tmp_path, run="", purge="0 4 * * *", retry_after_s=600.0)
    scheduler, aps = start(clock, launch, settings)
    run_until(aps, clock, datetime(2026, 3, 5, 12, tzinfo=UTC))
    assert launch.times("purge") == ["03-03 04:00", "03-04 04:00", "03-05 04:00"]
    assert states(scheduler, "purge") == ["failed", "failed", "good"]
    assert [(end.exit_code, end.reason) for end in scheduler.state.ends[:2]] == [(9, "words")] * 2
    assert {command[3] for command in launch.commands} == {"purge"}


def test_a_retry_never_starts_beyond_the_grace(clock: Clock, tmp_path: Path) -> None:
    launch = Fake(clock)
    launch.codes = [1] * 9
    settings = settings_with(tmp_path, grace_h=1.0, retry_after_s=1200.0, retries=9)
    scheduler, aps = start(clock, launch, settings)
    run_until(aps, clock, datetime(2026, 3, 3, 12, tzinfo=UTC))
    assert launch.times() == ["03-03 02:30", "03-03 02:55", "03-03 03:20"]
    assert states(scheduler) == ["retrying", "retrying", "failed"]


def test_an_interrupted_run_is_taken_up_at_the_next_start(clock: Clock, tmp_path: Path) -> None:
    class Stopped(Fake):
        def __call__(self, job: str, command: Sequence[str]) -> tuple[int, str]:
            super().__call__(job, command)
            scheduler.stop()
            return 143, "interrupted"

    settings = settings_with(tmp_path)
    launch: Fake = Stopped(clock)
    scheduler, aps = start(clock, launch, settings)
    run_until(aps, clock, datetime(2026, 3, 3, 2, tzinfo=UTC))
    assert states(scheduler) == ["interrupted"]
    assert launch.stopped == [None]
    launch = Fake(clock)
    scheduler, aps = start(clock, launch, settings)
    run_until(aps, clock, clock.now + timedelta(hours=8))
    assert launch.times() == ["03-03 03:00"]


def test_changed_settings_are_taken_in_without_running_what_lies_behind(clock: Clock, tmp_path: Path) -> None:
    launch = Fake(clock)
    scheduler, aps = start(clock, launch, settings_with(tmp_path, report="0 5 * * *"))
    run_until(aps, clock, datetime(2026, 3, 3, 12, tzinfo=UTC))
    scheduler.apply(settings_with(tmp_path, run="0 9 * * *"))
    assert set(scheduler.state.jobs) == {"run"}
    run_until(aps, clock, datetime(2026, 3, 4, 12, tzinfo=UTC))
    assert launch.times() == ["03-03 02:30", "03-04 09:00"], "09:00 of the 3rd lay behind the change"
    assert launch.times("report") == ["03-03 05:00"]


def test_settings_that_make_no_schedule_are_refused(clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="schedules nothing"):
        start(clock, Fake(clock), settings_with(tmp_path, run=""))
    settings = settings_from({}, source="config.toml", folder=tmp_path)
    with pytest.raises(UsageError, match="inputs is empty"):
        start(clock, Fake(clock), settings)


def test_good_health_checks_do_not_bury_the_nights(clock: Clock, tmp_path: Path) -> None:
    launch = Fake(clock)
    scheduler, aps = start(clock, launch, settings_with(tmp_path, health="*/15 * * * *"))
    run_until(aps, clock, clock.now + timedelta(days=2))
    assert states(scheduler) == ["good"] * 2
    assert states(scheduler, "health") == []
    assert scheduler.state.jobs["health"].n_good > 180
    assert launch.commands[0][3] == "doctor"


def test_a_clock_that_was_ahead_does_not_stop_the_schedule_for_years(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    today = clock.now
    clock.now = datetime(2036, 3, 2, 12, tzinfo=UTC)
    scheduler, aps = start(clock, Fake(clock), settings_with(tmp_path))
    run_until(aps, clock, clock.now + timedelta(days=2))
    assert scheduler.state.jobs["run"].good_at is not None
    clock.now = today
    launch = Fake(clock)
    scheduler, aps = start(clock, launch, settings_with(tmp_path))
    assert "the clock was ahead" in caplog.text
    assert scheduler.state.jobs["run"].next_at == datetime(2026, 3, 3, 1, 30, tzinfo=UTC)
    run_until(aps, clock, datetime(2026, 3, 4, 12, tzinfo=UTC))
    assert launch.times() == ["03-03 02:30", "03-04 02:30"]
    assert launch.commands[0][4:] == [
        "--since",
        "2026-03-02",
        "--until",
        "2026-03-03",
        "--out",
        str(tmp_path),
    ]


@pytest.mark.parametrize("words", ["0 3 31 4 *", "0 3 30 feb *", "0 3 31 4,6,9,11 *"])
def test_a_date_that_never_comes_is_refused(words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="never comes"):
        settings_with(tmp_path, purge=words)
    assert settings_with(tmp_path, purge="0 3 29 2 *").schedule.purge


RECORD = '{"when": "0 2 * * * UTC", "settled_at": "2026-03-01T02:00:00'


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format": 99, "jobs": {}, "ends": []}',
        f'{{"format": 1, "jobs": {{"run": {RECORD}+00:00", "x": 1}}}}, "ends": []}}',
        f'{{"format": 1, "jobs": {{"run": {RECORD}"}}}}, "ends": []}}',  # no zone
    ],
)
def test_a_damaged_state_is_kept_under_another_name(text: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.make()
    workspace.schedule_state.write_text(text)
    seen = read_schedule(workspace)
    assert seen is not None
    assert not seen["healthy"]
    assert "cannot be read, so what ran is not known" in seen["problems"][0]
    assert workspace.schedule_state.exists(), "who looks leaves it alone"
    state = SchedulerState(workspace.schedule_state)
    assert state.jobs == {}
    assert state.damaged is not None
    assert state.damaged.read_text() == text


def test_the_state_is_private_and_reads_back(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    state = SchedulerState(tmp_path / ".work" / "schedule.json")
    state.begin("run", "0 2 * * * UTC", now)
    state.add(JobEnd("run", now, None, now, "missed", None, "late"))
    again = SchedulerState(state.path)
    assert (again.jobs, again.ends) == (state.jobs, state.ends)
    assert state.path.stat().st_mode & 0o777 == 0o600
    assert state.path.parent.stat().st_mode & 0o777 == 0o700


def test_the_state_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """It had other names for three states."""
    workspace = Workspace(tmp_path)
    state = SchedulerState(workspace.schedule_state)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    for name in ("retrying", "delayed", "preempted"):
        state.add(JobEnd("run", now, None, now, name, None, "text"))  # type: ignore[arg-type]
    text = state.path.read_text()
    for former, name in (("again", "retrying"), ("waits", "delayed"), ("gave_way", "preempted")):
        text = text.replace(f'"state": "{name}"', f'"state": "{former}"')
    state.path.write_text(text)
    assert SchedulerState(state.path).ends == state.ends
    schedule = read_schedule(workspace)
    assert schedule is not None
    assert [end["state"] for end in schedule["ends"]] == ["preempted", "delayed", "retrying"]


def test_due_times_over_ten_years() -> None:
    due_times = DueTimes("30 2 * * *", BERLIN)
    moment, days = datetime(2026, 1, 1, tzinfo=UTC), []
    while len(days) < 3652:
        moment = due_times.after(moment)
        days.append(moment.astimezone(BERLIN).date())
    assert len(set(days)) == len(days), "no day twice"
    assert (days[-1] - days[0]).days == len(days) - 1, "no day left out"


def test_a_held_night_says_why_and_waits_for_a_person(clock: Clock, tmp_path: Path) -> None:
    launch = Fake(clock)
    launch.codes = [8]
    scheduler, aps = start(clock, launch, settings_with(tmp_path))
    Workspace(tmp_path).hold(
        1, clock.now - timedelta(days=1), clock.now, ["3 recordings where 400 are usual"]
    )
    run_until(aps, clock, datetime(2026, 3, 3, 12, tzinfo=UTC))
    (end,) = scheduler.state.ends
    assert (end.state, end.exit_code, end.reason) == ("failed", 8, "3 recordings where 400 are usual")
    run_until(aps, clock, datetime(2026, 3, 4, 12, tzinfo=UTC))
    assert launch.commands[-1][5] == "2026-03-03"


@pytest.mark.parametrize("job", JOB_NAMES)
def test_what_is_started_for_a_job_is_a_command_that_parses(job: str, tmp_path: Path, clock: Clock) -> None:
    import click

    from jobs.cli.main import cli

    scheduler, _ = start(clock, None, settings_with(tmp_path))
    words = scheduler.command(job, clock())[3:]
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None
    # Raises a UsageError for an unknown or missing option.
    command.make_context(words[0], words[1:])
