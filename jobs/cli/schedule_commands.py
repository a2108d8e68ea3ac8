"""The schedule: keep it going in the foreground, print it for systemd or cron, or print its coming times."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.options import config_option, out_option, with_settings

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace


@click.command()
@click.option(
    "--print", "style", type=click.Choice(["systemd", "cron"]), help="Print units instead of running."
)
@click.option(
    "--next",
    "n_times",
    type=click.IntRange(min=1),
    help="Print this many coming times of every job instead of running.",
)
@click.option(
    "--from", "day", type=click.DateTime(["%Y-%m-%d"]), help="With --next: from this day on (default: now)."
)
@click.option(
    "--json", "as_json", is_flag=True, help="With --next: one JSON object a line, with the keys job and at."
)
@out_option
@config_option
def schedule(
    style: str | None,
    n_times: int | None,
    day: datetime | None,
    as_json: bool,
    out: Path | None,
    config: Path | None,
) -> None:
    """Run the jobs of [schedule] at their times, in the foreground, until SIGTERM.

    SIGHUP, or a change of the config file, makes it read its settings again. `status` shows what ran,
    what failed, what was missed and what comes next.
    """
    from callanalytics.config import find_config, load_config
    from callanalytics.workspace import Workspace

    if n_times is None and (day is not None or as_json):
        raise click.UsageError("--from and --json go with --next.")
    if n_times is not None and style is not None:
        raise click.UsageError("Give one of --next and --print.")
    settings = load_config(config, out)
    if n_times is not None:
        _print_coming(settings, n_times, day, as_json)
        return
    from jobs.scheduler.command_lines import JobCommands, cron_lines, systemd_units
    from jobs.scheduler.service import keep_schedule

    found = find_config(config)
    path = found.resolve() if found else None  # what is printed or started does not run in this folder
    workspace = Workspace((out or settings.out_dir).resolve())
    if style is not None:
        commands = JobCommands(settings, path, workspace)
        commands.check()
        print({"systemd": systemd_units, "cron": cron_lines}[style](commands), end="")
        return
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    keep_schedule(
        lambda: load_config(path, workspace.folder),
        workspace=workspace,
        config=path,
        say=partial(print, flush=True),
    )


def _print_coming(settings: Settings, n_times: int, day: datetime | None, as_json: bool) -> None:
    """Print the coming times of every job, soonest first, in the zone of the schedule."""
    from callanalytics.config.cron import parse_cron
    from callanalytics.config.window import day_start

    crons, zone = settings.schedule.crons(), settings.schedule_zone
    if not crons:
        raise click.UsageError(
            f"{settings.source}: [schedule] schedules nothing. Give at least one job a time."
        )
    for job, text in crons.items():
        cron = parse_cron(text)
        try:
            at = day_start(day.date(), zone) - timedelta(microseconds=1) if day else datetime.now(UTC)
            for _ in range(n_times):
                at = cron.after(at, zone)
                shown = at.astimezone(zone)
                if as_json:
                    print(json.dumps({"job": job, "at": shown.isoformat()}))
                else:
                    print(f"{job:<8} {shown:%a %Y-%m-%d %H:%M %z}")
        except OverflowError:
            raise click.UsageError(
                f"{job} does not come {n_times} times from there: the calendar has the years 1 to 9999."
            ) from None


@click.command()
@click.option("--since", help="Start of the window (default: yesterday).")
@click.option("--until", help="End of the window, exclusive (default: now, of yesterday its end).")
@click.option("--print", "only_print", is_flag=True, help="Print the paragraph and send nothing.")
@with_settings
def notify(
    since: str | None, until: str | None, only_print: bool, settings: Settings, workspace: Workspace
) -> None:
    """Send the paragraph about a window to everybody of [notify]; after a night it is sent by itself."""
    from callanalytics.config.window import parse_window
    from callanalytics.errors import ConfigError
    from jobs.cli.console import say
    from jobs.scheduler.notify import brief_message, send

    window = parse_window(since, until, zone=settings.time.zone_info, now=datetime.now(UTC))
    message = brief_message(settings, workspace, window)
    if only_print:
        print(f"{message.title}\n\n{message.text}", end="")
        return
    if not settings.notify.urls_from:
        raise ConfigError(f"{settings.source}: [notify] urls_from names nobody. Add a variable, or --print.")
    problems = send(settings.notify.urls_from, message)
    for problem in problems:
        say(problem)
    sys.exit(1 if problems else 0)
