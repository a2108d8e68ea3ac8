"""What `schedule --print` prints is accepted by our own command line, for every job."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click
import pytest

from callanalytics.config import JOB_NAMES, Settings, load_config
from callanalytics.workspace import Workspace
from jobs.cli.main import cli
from jobs.scheduler.command_lines import CLI_NAMES
from jobs.scheduler.units import cron_lines, systemd_units


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Settings, Path, Workspace]:
    """Settings that schedule every job, their file and an output folder with an awkward name."""
    folder = tmp_path / "50% off; $HOME"
    folder.mkdir()
    times = "\n".join(f'{job} = "0 {hour} * * *"' for hour, job in enumerate(JOB_NAMES))
    config = folder / "config.toml"
    config.write_text(f"[schedule]\n{times}\n", encoding="utf-8")
    return load_config(config), config, Workspace(folder / "out")


def accepted(words: list[str]) -> str:
    """The name of the job that an argument list starts; raises click's UsageError when it is refused."""
    assert words[:3] == [sys.executable, "-m", "callanalytics"]
    command = cli.get_command(click.Context(cli), words[3])
    assert command is not None
    command.make_context(words[3], words[4:])
    return words[3]


def test_every_line_for_cron_parses(planned: tuple[Settings, Path, Workspace]) -> None:
    _, *lines = cron_lines(*planned).splitlines()
    found = [accepted(shlex.split(line.split(maxsplit=5)[5].replace(r"\%", "%"))) for line in lines]
    assert found == [CLI_NAMES.get(job, job) for job in JOB_NAMES]


def test_every_command_for_systemd_parses(planned: tuple[Settings, Path, Workspace]) -> None:
    starts = [line for line in systemd_units(*planned).splitlines() if line.startswith("ExecStart=")]
    plain = [line.removeprefix("ExecStart=").replace("%%", "%").replace("$$", "$") for line in starts]
    assert [accepted(shlex.split(line)) for line in plain] == [CLI_NAMES.get(job, job) for job in JOB_NAMES]
    assert all(str(planned[2]) in shlex.split(line) for line in plain)
