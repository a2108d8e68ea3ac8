"""The schedule: keep it going in the foreground, or print it for systemd or cron."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

import click

from jobs.cli.options import config_option, out_option


@click.command()
@click.option(
    "--print", "style", type=click.Choice(["systemd", "cron"]), help="Print units instead of running."
)
@out_option
@config_option
def schedule(style: str | None, out: Path | None, config: Path | None) -> None:
    """Run the jobs of [schedule] at their times, in the foreground, until SIGTERM.

    SIGHUP, or a change of the config file, makes it read its settings again. `status` shows what ran,
    what failed, what was missed and what comes next.
    """
    from callanalytics.config import find_config, load_config
    from callanalytics.workspace import Workspace
    from jobs.scheduler.command_lines import JobCommands, cron_lines, systemd_units
    from jobs.scheduler.service import keep_schedule

    settings = load_config(config)
    found = find_config(config)
    path = found.resolve() if found else None  # what is printed or started does not run in this folder
    workspace = Workspace((out or settings.out_dir).resolve())
    if style is not None:
        commands = JobCommands(settings, path, workspace)
        commands.check()
        print({"systemd": systemd_units, "cron": cron_lines}[style](commands), end="")
        return
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    keep_schedule(lambda: load_config(path), workspace=workspace, config=path, say=partial(print, flush=True))
