"""What `schedule --print` prints is accepted by systemd, by cron and by our own command line."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from command_line import callanalytics, messages, run_command

from callanalytics.config import JOB_NAMES, Settings
from callanalytics.config.cron import parse_cron
from callanalytics.workspace import Workspace
from jobs.cli.main import cli
from jobs.scheduler.command_lines import COMMAND_OF_JOB, JobCommands

COMMANDS = [COMMAND_OF_JOB.get(job, job) for job in JOB_NAMES]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config file that schedules every job, in a folder with an awkward name."""
    folder = tmp_path / "50% off; $HOME"
    folder.mkdir()
    times = "\n".join(f'{job} = "30 {hour} * * 1-5"' for hour, job in enumerate(JOB_NAMES))
    path = folder / "config.toml"
    path.write_text(
        f'[paths]\ninputs = ["calls"]\nout = "out"\n[schedule]\nzone = "Europe/Berlin"\n{times}\n',
        encoding="utf-8",
    )
    return path


def accepted(words: list[str], config: Path) -> str:
    """The command that an argument list starts; raises click's UsageError when it is refused."""
    assert words[:3] == [sys.executable, "-m", "callanalytics"]
    assert words[-4:] == ["--config", str(config), "--out", str(config.parent / "out")]
    command = cli.get_command(click.Context(cli), words[3])
    assert command is not None
    command.make_context(words[3], words[4:])
    return words[3]


@pytest.mark.parametrize(("days_ago", "since"), [(30, "2026-10-02"), (31, "2026-10-01"), (32, "2026-10-01")])
def test_missed_nights_are_made_up_for_31_days_back(tmp_path: Path, days_ago: int, since: str) -> None:
    due_at = datetime(2026, 11, 1, 2, 30, tzinfo=UTC)
    commands = JobCommands(Settings(), None, Workspace(tmp_path))
    words = commands.when_due("run", due_at, due_at - timedelta(days=days_ago))
    assert words[words.index("--since") + 1] == since
    assert words[words.index("--until") + 1] == "2026-11-01"


def test_every_line_for_cron_parses(config: Path) -> None:
    zone, *lines = callanalytics("schedule", "--print", "cron", "--config", config).splitlines()
    assert zone == "CRON_TZ=Europe/Berlin"
    assert [line.split()[:5] for line in lines] == [f"30 {hour} * * 1-5".split() for hour in range(5)]
    words = [shlex.split(line.split(maxsplit=5)[5].replace(r"\%", "%")) for line in lines]
    assert [accepted(command, config) for command in words] == COMMANDS
    assert all(line.count("%") == line.count(r"\%") > 0 for line in lines), "cron reads % as a line break"


def test_every_command_for_systemd_parses(config: Path) -> None:
    units = callanalytics("schedule", "--print", "systemd", "--config", config)
    starts = [line for line in units.splitlines() if line.startswith("ExecStart=")]
    plain = [line.removeprefix("ExecStart=").replace("%%", "%").replace("$$", "$") for line in starts]
    assert [accepted(shlex.split(line), config) for line in plain] == COMMANDS


def test_units_are_accepted_by_systemd(config: Path, tmp_path: Path) -> None:
    text = callanalytics("schedule", "--print", "systemd", "--config", config)
    assert "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 00:30:00 Europe/Berlin" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    folder, name = tmp_path / "units", ""
    folder.mkdir()
    for line in text.splitlines(keepends=True):
        name = Path(line.split()[1]).name if line.startswith("# /etc") else name
        with (folder / name).open("a") as file:
            file.write(line)
    units = sorted(map(str, folder.iterdir()))
    assert len(units) == 2 * len(JOB_NAMES)
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if str(folder) in line or "callanalytics" in line] == []


@pytest.mark.parametrize("style", ["systemd", "cron"])
def test_a_schedule_that_can_only_fail_is_not_printed(
    style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run_command("schedule", "--print", style, expect=2)
    assert refused.stdout == ""
    assert "built-in defaults: [paths] inputs is empty" in refused.stderr
    assert "--config" in refused.stderr, "what to do"
    (tmp_path / "config.toml").write_text('[schedule]\nrun = ""\nhealth = ""\n')
    assert "schedules nothing" in messages("schedule", "--print", style)
    (tmp_path / "config.toml").write_text('[schedule]\nrun = ""\npurge = "0 5 * * *"\n')
    assert "purge" in callanalytics("schedule", "--print", style), "a purge needs no recordings"


def test_cron_fields_are_spelt_out() -> None:
    assert parse_cron("*/15 9-17/4 * jan,mar *").hours == (9, 13, 17)
    assert parse_cron("0 0 * * sun").weekdays == parse_cron("0 0 * * 7").weekdays == (0,)
    assert parse_cron("0 0 * * 5-7").weekdays == (0, 5, 6)
    assert parse_cron("0 */6 * * *").on_calendar("UTC") == "*-*-* 00,06,12,18:00:00 UTC"
