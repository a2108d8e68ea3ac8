"""What a job of the schedule is, as a command line of our own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.workspace import Workspace

# A night that was missed is caught up from its day on, but no further back than this.
CATCH_UP_DAYS = 31
CLI_NAMES = {"health": "doctor"}


def errand(
    job: str,
    due_at: datetime,
    *,
    settings: Settings,
    config: Path | None,
    workspace: Workspace,
    good_at: datetime | None,
) -> list[str]:
    """What to run for a job that is due: an argument list, never a shell line.

    `good_at` is the time of the last night that ended well; the next one begins there.
    """
    zone = settings.schedule_zone
    good_on = good_at.astimezone(zone).date() if good_at else None
    window = _window(due_at.astimezone(zone).date(), good_on)
    return command_of(job, window, settings=settings, config=config, workspace=workspace)


def command_of(
    job: str, window: Sequence[str], *, settings: Settings, config: Path | None, workspace: Workspace
) -> list[str]:
    """The argument list of a job; `window` has the words that a run alone takes."""
    words = [sys.executable, "-m", "callanalytics", CLI_NAMES.get(job, job)]
    if job == "run":
        words += window
    if job == "report":
        words += ["--since", settings.schedule.report_since]
    if job == "purge":
        words += ["--older-than", settings.schedule.purge_older_than]
    if config is not None:
        words += ["--config", str(config)]
    return [*words, "--out", str(workspace)]


def _window(today: date, good_on: date | None) -> list[str]:
    """Every day since the last good night, so that a missed night is made up for."""
    since = good_on or today - timedelta(days=1)
    if since >= today:  # more than one run a day
        return ["--since", today.isoformat()]
    since = max(since, today - timedelta(days=CATCH_UP_DAYS))
    return ["--since", since.isoformat(), "--until", today.isoformat()]
