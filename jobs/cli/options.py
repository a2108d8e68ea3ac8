"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ensemble.inference.device import PATTERN as DEVICE_PATTERN

folder_type = click.Path(path_type=Path)
config_option = click.option("--config", type=folder_type, help="Settings file (default: ./config.toml).")
out_option = click.option("--out", type=folder_type, help="Folder of the results (default: [paths] out).")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object for machines.")
quiet_option = click.option("--quiet", is_flag=True, help="Say nothing but errors.")


def _a_device(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(DEVICE_PATTERN, value):
        raise click.BadParameter(f"{value!r} is none of cpu, cuda, cuda:1")
    return value


training_device_option = click.option(
    "--device", default="cpu", show_default=True, callback=_a_device, help="cpu, cuda or cuda:1."
)
device_option = click.option(
    "--device", callback=_a_device, help="cpu, cuda or cuda:1 (default: [engine] device)."
)


def database(out: Path | None, config: Path | None) -> Path:
    """The published database of the output folder."""
    from callanalytics.config import load_config
    from callanalytics.store import DATABASE_NAME

    return (out or load_config(config).out_dir) / DATABASE_NAME


def results_folder(out: Path | None, config: Path | None) -> Path:
    """The output folder: the one given, else that of the settings."""
    from callanalytics.config import load_config

    return out or load_config(config).out_dir


def named_or_in_use(name: str | None, out: Path | None, config: Path | None) -> Path:
    """Folder of an ensemble: an id, a folder or ``shipped``; without a name the one in use."""
    from callanalytics.config import load_config
    from jobs.active_ensemble import in_use, named

    settings = load_config(config)
    folder = out or settings.out_dir
    return named(name, folder) if name else in_use(settings, folder)
