"""Options that several commands share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.inference.device import PATTERN as DEVICE_PATTERN

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace

folder_type = click.Path(path_type=Path)
config_option = click.option("--config", type=folder_type, help="Settings file (default: ./config.toml).")
_RESULTS = "Folder of the results (default: $CALLANALYTICS_OUT, else [paths] out)."
out_option = click.option("--out", type=folder_type, help=_RESULTS)
# Where a command reads what is there, "out" says the wrong thing: the first name is the one to show.
results_option = click.option("--results", "--out", "out", type=folder_type, help=_RESULTS)
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


def in_workspace(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --results and --config; the command gets the `workspace`. Settings are read only to find it."""

    @functools.wraps(command)
    def called(*args: Any, out: Path | None, config: Path | None, **options: Any) -> Any:
        from callanalytics.config import load_config
        from callanalytics.workspace import Workspace

        return command(*args, workspace=Workspace(out or load_config(config).out_dir), **options)

    return results_option(config_option(called))


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --results and --config; the command gets the `settings` and the `workspace`."""

    @functools.wraps(command)
    def called(*args: Any, out: Path | None, config: Path | None, **options: Any) -> Any:
        from callanalytics.config import load_config
        from callanalytics.workspace import Workspace

        settings = load_config(config, out)
        return command(*args, settings=settings, workspace=Workspace(out or settings.out_dir), **options)

    return results_option(config_option(called))


def named_or_in_use(name: str | None, settings: Settings, workspace: Workspace) -> Path:
    """Folder of an ensemble: an id, a folder or ``shipped``; without a name the one in use."""
    from jobs.active_ensemble import in_use, named

    return named(name, workspace) if name else in_use(settings, workspace)
