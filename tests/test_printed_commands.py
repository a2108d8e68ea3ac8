"""Every command that the product prints runs as printed, whatever folder it is pasted in."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import click
import duckdb
import pytest
from command_line import run_command

from jobs.cli.main import cli


@pytest.fixture
def results(plausible_out: Path, tmp_path: Path) -> Path:
    """A published folder of one's own, with a blank in its name as people have them."""
    return shutil.copytree(plausible_out, tmp_path / "night out")


def one_call(results: Path) -> str:
    with duckdb.connect(str(results / "callanalytics.duckdb"), read_only=True) as connection:
        ((call_id,),) = connection.execute("SELECT min(call_id) FROM calls").fetchall()
    return str(call_id)


def printed(text: str) -> list[list[str]]:
    """The command lines in a text, each to the end of its line, without what follows in brackets."""
    lines = re.findall(r"callanalytics (?=[a-z])(.*)", text)
    return [shlex.split(re.sub(r"   \(.*", "", line).rstrip(").")) for line in lines]


def test_commands_in_messages_run_as_printed(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_id = one_call(results)
    told = [
        run_command("relabel", "ffffff", "--swap", "--out", results, expect=2).stderr,
        run_command("review", "ffffff", "--verdict", "confirm", "--out", results, expect=2).stderr,
        run_command(
            *("review", call_id, "--segment", 9999, "--verdict", "confirm", "--out", results), expect=2
        ).stderr,
        run_command("review", "next", "--out", results).stdout,
        run_command("ensemble", "promote", "shipped", "--force", "--out", results).stderr,
        run_command("ensemble", "rollback", "--out", results).stderr,
    ]
    assert all(told)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    commands = [words for text in told for words in printed(text)]
    assert len(commands) >= 8, commands
    for words in commands:
        assert str(results) in words, f"says where the results lie: {words}"
        if words[0] == "backfill" or words[:2] == ["ensemble", "rollback"]:
            # Nothing is left to undo by now, and scoring takes its time: those are read, not run.
            command = cli.get_command(click.Context(cli), words[0])
            assert command is not None
            command.make_context(words[0], words[1:])
            continue
        run_command(*words)
    assert list(elsewhere.iterdir()) == [], "nothing was made where they were pasted"


def test_no_message_prints_a_command_without_its_folder() -> None:
    """In the code: a command that takes --out is printed by `Workspace.command`, never spelled out."""
    root = Path(__file__).parents[1]
    spelled_out = re.compile(
        r"""(?<![\w`"/.])callanalytics (query|relabel|review|backfill|retrain|status|export|ensemble)\b"""
    )
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for package in ("callanalytics", "ensemble", "jobs", "reports")
        for path in sorted((root / package).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if spelled_out.search(line) and not line.lstrip().startswith("#")
    ]
    # Words about a command in general (placeholders, docstrings) have capitals or backticks in them.
    assert [line for line in found if not re.search(r"[A-Z]{2,}|`", line)] == []
