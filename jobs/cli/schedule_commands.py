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
    from jobs.scheduler.service import keep_schedule
    from jobs.scheduler.units import cron_lines, systemd_units

    settings = load_config(config)
    found = find_config(config)
    workspace = Workspace((out or settings.out_dir).resolve())
    if style is not None:
        lines = {"systemd": systemd_units, "cron": cron_lines}[style]
        print(lines(settings, found, workspace), end="")
        return
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    path = found.resolve() if found else None
    keep_schedule(lambda: load_config(path), workspace=workspace, config=path, say=partial(print, flush=True))
