"""Every `--json` prints what its contract in `tests/data/json_contracts.json` says: keys and types.

Scripts of others depend on them. Other tests that run a command with `--json` in this process hold its output
against the same file (`command_line.run_command`); here run all that need no training.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import broken_contracts, json_contracts, run_command
from short_calls import night_args, short_calls

from jobs.cli.main import cli

TRAINING = {"train", "calibrate", "evaluate", "crossval", "bench seeds"}
"""These train or need a corpus: tests/ensemble/test_training_commands.py and test_baselines.py run them."""
ELSEWHERE = {"labels export": "tests/jobs/test_labels.py"}


def with_json(command: click.Command, name: str = "") -> Iterator[str]:
    """The names of all commands that have the option `--json`."""
    if any("--json" in parameter.opts for parameter in command.params):
        yield name
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            yield from with_json(below, f"{name} {word}".strip())


COMMANDS = list(with_json(cli))


def test_every_command_with_json_has_a_contract() -> None:
    assert len(COMMANDS) > 20
    assert {name for name in json_contracts() if not name.startswith("$")} == set(COMMANDS)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_calls(tmp_path_factory.mktemp("json") / "calls", 2, n_broken=1)


@pytest.fixture(scope="module")
def out(plausible_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(plausible_out, tmp_path_factory.mktemp("json") / "out")


def lines(name: str, out: Path, calls: Path, tmp_path: Path) -> tuple[object, ...]:
    """A command line that prints as much as it can on the plausible calls, or on short ones."""
    whole = sorted(calls.rglob("*.wav"))[-1]
    return {
        "run": night_args(calls, tmp_path / "out")[1:],
        "ingest check": (calls,),
        "schedule": ("--next", 2),
        "review next": ("--count", 3, "--out", out),
        "voices forget": ("--all", "--out", out),
        "voices list": ("--out", out),
        "status": ("--out", out),
        "purge": ("--older-than", "2025-03-20", "--dry-run", "--out", out),
        "export": (tmp_path / "export", "--out", out),
        "backfill": ("--ensemble", "shipped", "--shadow", "--until", "2020-01-01", "--out", out),
        "rejudge": ("--dry-run", "--out", out),
        "search": ("supervisor", "--out", out),
        "schema": ("--out", out),
        "doctor": ("--out", out),
        "analyze": (whole,),
        "classify": (calls,),
        "retrain": ("--history", "--out", out),
        "ensemble compare": ("shipped", "shipped", "--out", out),
        "ensemble list": ("--out", out),
        "ensemble show": ("shipped", "--out", out),
    }[name]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {*TRAINING, *ELSEWHERE}])
def test_a_command_prints_what_its_contract_says(name: str, out: Path, calls: Path, tmp_path: Path) -> None:
    words = [*name.split(), *lines(name, out, calls, tmp_path)]
    done = run_command(*words, "--json", expect=None)
    assert done.exit_code in {0, 1, 3}, done.stderr
    assert broken_contracts(name.split(), done.stdout) == []
    assert done.stdout.strip() or name == "retrain"


SHOWN: dict[str, Any] = {
    "purge": {
        **dict.fromkeys(("n_calls", "n_quarantined", "n_clips", "n_pages", "n_reviews"), 0),
        **dict.fromkeys(("n_training_clips", "n_damaged", "n_originals", "n_bytes_freed"), 0),
        **{"by": "call", "before": None, "audio_only": False, "dry_run": True},
    },
    "voices list": [
        {
            **{"recorder": "pbx", "agent": "7", "n_calls": 2, "newest_run_id": 1},
            **dict.fromkeys(("first_at", "newest_at"), str(datetime(2026, 1, 1, tzinfo=UTC))),
        }
    ],
    "voices forget": {"agent": None, "n_calls": 2},
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_contract_notices_keys_and_types(name: str) -> None:
    words = name.split()
    assert broken_contracts(words, json.dumps(SHOWN[name])) == []
    (row,) = SHOWN[name] if isinstance(SHOWN[name], list) else [SHOWN[name]]
    for key in row:
        without = {k: v for k, v in row.items() if k != key}
        other = {**row, key: ["a list"]}
        more = {**row, f"{key}_too": row[key]}
        for changed in (without, other, more):
            document = [changed] if isinstance(SHOWN[name], list) else changed
            assert broken_contracts(words, json.dumps(document)) != [], changed
