"""Command lines of the scheduled jobs, and the same schedule as systemd units or a crontab."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.config.cron import parse_cron
from callanalytics.errors import UsageError
from callanalytics.workspace import Workspace

# Missed nights are made up for from the first of them on, but no further back than this.
CATCH_UP_DAYS = 31
# Of systemd and cron, which do not say which nights were missed. Recordings that are done are skipped, so
# looking back costs a search only.
FIXED_WINDOW = ("--since", "7d", "--until", "today", "--quiet")
COMMAND_OF_JOB = {"health": "doctor"}  # the others are commands of the same name


@dataclass(frozen=True, slots=True)
class JobCommands:
    """The command lines of one installation, which is its settings, their file and its output folder."""

    settings: Settings
    config: Path | None
    workspace: Workspace

    def check(self) -> None:
        """Raise UsageError when no job has a time, or the night has no folder to search."""
        settings = self.settings
        crons = settings.schedule.crons()
        if not crons:
            raise UsageError(
                f"{settings.source}: [schedule] schedules nothing. Give at least one job a time."
            )
        if "run" in crons and not settings.input_dirs:
            raise UsageError(
                f"{settings.source}: [paths] inputs is empty: the night would search nothing. Set inputs in "
                "config.toml of this folder, or in a file that you name with --config."
            )

    def when_due(self, job: str, due_at: datetime, last_good_at: datetime | None) -> list[str]:
        """The argument list of a job that came due; a night begins at the last one that ended well."""
        zone = self.settings.schedule_zone
        last_good_on = last_good_at.astimezone(zone).date() if last_good_at else None
        return self.of(job, _window(due_at.astimezone(zone).date(), last_good_on))

    def of(self, job: str, window: Sequence[str]) -> list[str]:
        """The argument list of a job, never a shell line; only a run takes the options of the window."""
        options: dict[str, Sequence[str]] = {
            "run": window,
            "report": ["--since", self.settings.schedule.report_since],
            "purge": ["--older-than", self.settings.schedule.purge_older_than],
        }
        config = ["--config", str(self.config)] if self.config else []
        command = COMMAND_OF_JOB.get(job, job)
        program = [sys.executable, "-m", "callanalytics", command]
        return [*program, *options.get(job, ()), *config, "--out", str(self.workspace)]


def _window(today: date, last_good_on: date | None) -> list[str]:
    """Every day since the last good night, so that a missed night is made up for."""
    since = last_good_on or today - timedelta(days=1)
    if since >= today:  # more than one run a day
        return ["--since", today.isoformat()]
    since = max(since, today - timedelta(days=CATCH_UP_DAYS))
    return ["--since", since.isoformat(), "--until", today.isoformat()]


def systemd_units(commands: JobCommands) -> str:
    """A oneshot service and a timer for each job, each under the name of its file.

    `Persistent=` makes up for a night when the machine was off; the run lock keeps jobs apart.
    """
    settings = commands.settings
    folder = str(settings.folder.resolve()).replace("%", "%%")
    parts = []
    for job, cron in settings.schedule.crons().items():
        command = " ".join(_systemd_word(word) for word in commands.of(job, FIXED_WINDOW))
        parts.append(
            f"# /etc/systemd/system/callanalytics-{job}.service\n"
            f"[Unit]\nDescription=callanalytics {job}\n\n"
            "[Service]\nType=oneshot\nNice=10\nUMask=0077\n"
            # Some files quarantined and an empty night are no failures.
            "SuccessExitStatus=3 4\n"
            f"WorkingDirectory={folder}\n"
            f"ExecStart={command}\n"
        )
        parts.append(
            f"# /etc/systemd/system/callanalytics-{job}.timer\n"
            f"[Unit]\nDescription=When to callanalytics {job}\n\n"
            f"[Timer]\nOnCalendar={parse_cron(cron).on_calendar(str(settings.schedule_zone))}\n"
            "Persistent=true\n\n"
            "[Install]\nWantedBy=timers.target\n"
        )
    return "\n".join(parts)


def cron_lines(commands: JobCommands) -> str:
    """A crontab. CRON_TZ is understood by cronie and others, not by Debian's cron: there set TZ of cron."""
    lines = [f"CRON_TZ={commands.settings.schedule_zone}"]
    for job, cron in commands.settings.schedule.crons().items():
        command = shlex.join(commands.of(job, FIXED_WINDOW)).replace("%", r"\%")
        lines.append(f"{cron} {command}")
    return "\n".join(lines) + "\n"


def _systemd_word(word: str) -> str:
    """One argument for ExecStart=: % and $ doubled, quoted when it has anything but plain characters."""
    plain = word.replace("%", "%%").replace("$", "$$")
    if all(c.isalnum() or c in "/-_.:,=+@%$" for c in plain):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
