"""The schedule for those who prefer systemd timers or cron to a process in the foreground."""

from __future__ import annotations

import shlex
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.config.cron import parse_cron
from callanalytics.workspace import Workspace
from jobs.scheduler.command_lines import command_of

# Of days, because neither systemd nor cron tells a job which nights were missed. What is done already is
# skipped, so that looking back costs a search only.
RUN_WINDOW = ("--since", "7d", "--until", "today", "--quiet")


def _command(job: str, settings: Settings, config: Path | None, workspace: Workspace) -> list[str]:
    """The argument list of a job, by paths that do not depend on where it is started."""
    found = config.resolve() if config else None
    return command_of(
        job, RUN_WINDOW, settings=settings, config=found, workspace=Workspace(workspace.folder.resolve())
    )


def systemd_units(settings: Settings, config: Path | None, workspace: Workspace) -> str:
    """A oneshot service and a timer for each job, each under the name of its file.

    `Persistent=` makes up for a night when the machine was off; the run lock keeps jobs apart.
    """
    zone = str(settings.schedule_zone)
    parts = []
    for job, words in settings.schedule.crons().items():
        command = " ".join(_systemd_word(word) for word in _command(job, settings, config, workspace))
        parts.append(
            f"# /etc/systemd/system/callanalytics-{job}.service\n"
            f"[Unit]\nDescription=callanalytics {job}\n\n"
            "[Service]\nType=oneshot\nNice=10\nUMask=0077\n"
            # Some files quarantined and an empty night are no failures.
            "SuccessExitStatus=3 4\n"
            f"WorkingDirectory={_systemd_path(settings.folder.resolve())}\n"
            f"ExecStart={command}\n"
        )
        parts.append(
            f"# /etc/systemd/system/callanalytics-{job}.timer\n"
            f"[Unit]\nDescription=When to callanalytics {job}\n\n"
            f"[Timer]\nOnCalendar={parse_cron(words).on_calendar(zone)}\nPersistent=true\n\n"
            "[Install]\nWantedBy=timers.target\n"
        )
    return "\n".join(parts)


def cron_lines(settings: Settings, config: Path | None, workspace: Workspace) -> str:
    """A crontab. CRON_TZ is understood by cronie and others, not by Debian's cron: there set TZ of cron."""
    lines = [f"CRON_TZ={settings.schedule_zone}"]
    for job, words in settings.schedule.crons().items():
        command = shlex.join(_command(job, settings, config, workspace)).replace("%", r"\%")
        lines.append(f"{words} {command}")
    return "\n".join(lines) + "\n"


def _systemd_word(word: str) -> str:
    """One argument for ExecStart=: % and $ doubled, quoted when it has anything but plain characters."""
    plain = word.replace("%", "%%").replace("$", "$$")
    if all(c.isalnum() or c in "/-_.:,=+@%$" for c in plain):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _systemd_path(path: Path) -> str:
    return str(path).replace("%", "%%")
