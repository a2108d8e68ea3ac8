"""What a person meets on the command line: groups, first steps, names, suggestions, one style of errors."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import callanalytics, messages, run_command
from short_calls import settle, short_calls

from callanalytics.config import load_config
from callanalytics.errors import ConfigError, ExtraMissing
from ensemble.inference.device import prepare_device
from ensemble.model_errors import DeviceMissing
from jobs.cli.console import in_colour, paint
from jobs.cli.main import COMMANDS, GROUPS, NEEDS, cli

pytestmark = pytest.mark.usefixtures("analysed_here")

N_CALLS = "n\n100\n"  # of the fixture, in csv


@pytest.fixture(scope="module")
def results(guide_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(guide_out, tmp_path_factory.mktemp("results") / "out")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    folder = short_calls(tmp_path / "calls", 1)
    settle(folder)
    return folder


def test_a_command_names_the_extra_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.cli.main.find_spec", lambda module: None)
    for command, (extra, modules) in NEEDS.items():
        with pytest.raises(ExtraMissing) as refused:
            cli.main([command], standalone_mode=False)
        assert f"pip install 'callanalytics[{extra}]'" in str(refused.value)
        assert modules[0] in str(refused.value)
        cli.main([command, "--help"], standalone_mode=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceMissing, match=r"callanalytics\[train\]"):
        prepare_device("cuda")


def test_help_has_groups_with_every_command_once() -> None:
    text = callanalytics("--help")
    shown = re.findall(r"^(\w+):\n((?:  .*\n)+)", text, re.MULTILINE)
    groups = {title: re.findall(r"^  (\w+)", lines, re.MULTILINE) for title, lines in shown}
    del groups["Options"]
    assert list(groups) == list(GROUPS) == ["Night", "Look", "Review", "Models", "Maintain"]
    assert [name for names in groups.values() for name in names] == list(COMMANDS)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["rnu"], "Did you mean run?"),
        (["ensembel", "list"], "Did you mean ensemble?"),
        (["ingest", "chekc"], "Did you mean check?"),
    ],
)
def test_a_mistyped_command_is_guessed_in_every_group(words: list[str], meant: str) -> None:
    done = run_command(*words, expect=2)
    assert meant in done.stderr
    assert done.stderr.startswith("callanalytics: No such command")


def test_errors_of_all_kinds_look_alike(tmp_path: Path) -> None:
    for words, code in (
        (["run", "--limit", "none"], 2),
        (["query"], 2),
        (["status", "--config", tmp_path / "none.toml"], 2),
        (["diarize", tmp_path / "none.wav", "--rttm", "-"], 1),
    ):
        done = run_command(*words, expect=code)
        assert done.stderr.startswith("callanalytics: ")
        assert "Usage:" not in done.stderr
    assert "callanalytics run --help" in messages("run", "--limit", "none")


def test_a_mistyped_key_is_guessed(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for text, meant in (
        ("[discovery]\nsetle_s = 1.0\n", "Did you mean settle_s?"),
        ("[frustation]\nflag_weight = 1.0\n", "Did you mean frustration?"),
        ('[[rule]]\nname = "x"\nmesure = "talk_s"\nat_least = 1.0\nreason = ""\n', "Did you mean measure?"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(meant)):
            load_config(file)


def test_init_takes_options_and_shows_what_the_names_say(calls: Path, tmp_path: Path) -> None:
    config = tmp_path / "made.toml"
    words = ["init", "--calls", calls, "--results", "there", "--zone", "Europe/Berlin", "--config", config]
    done = run_command(*words)
    assert "call-000.wav" in done.stdout
    assert "1 recording;" in done.stdout
    assert f"run --config {config}" in done.stderr
    settings = load_config(config)
    assert settings.input_dirs == (calls,)
    assert settings.out_dir == tmp_path / "there"
    assert settings.time.zone == "Europe/Berlin"
    assert "is there already" in messages(*words)
    run_command(*words, "--force")


def test_init_asks_for_what_it_is_not_given(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = {**os.environ, "TZ": "UTC"}
    command = [sys.executable, "-m", "callanalytics", "init"]
    done = subprocess.run(
        command, input=f"{calls}\n\n\n", capture_output=True, text=True, env=env, check=True
    )
    assert done.stderr.count(":") >= 3
    written = tomllib.loads((tmp_path / "config.toml").read_text())
    assert written["paths"] == {"inputs": [str(calls)], "out": "callanalytics-out"}


def test_init_writes_nothing_that_cannot_be_used(calls: Path, tmp_path: Path) -> None:
    config = tmp_path / "made.toml"
    rest = ["--results", "there", "--config", config]
    assert "IANA" in messages("init", "--calls", calls, "--zone", "Mars/Base", *rest)
    assert "no such folder" in messages("init", "--calls", tmp_path / "no", "--zone", "UTC", *rest)
    assert not config.exists()


def test_a_run_names_flagged_calls_and_a_rerun_says_what_stands(calls: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[[rule]]\nname = "any"\nmeasure = "silence_s"\nrole = "any"\nat_least = 0.0\n'
        'reason = "silent {value:.0f} s"\n'
    )
    words = ["run", "--since", "2d", "--input", calls, "--out", tmp_path / "out", "--config", config]
    first = messages(*words, "--workers", 1)
    assert re.search(r"Analysing 1 of 1: call-000.wav flagged", first)
    assert "Flagged in this window: 1 call, 1 of this run" in first
    assert re.search(r"^  call-000\.wav  [0-9a-f]{16}  silent \d+ s$", first, re.MULTILINE)
    again = messages(*words, "--workers", 1)
    assert "Nothing new: 1 call as analysed before" in again
    assert "Flagged in this window: 1 call, 0 of this run" in again
    assert "call-000.wav" in again


def test_results_are_found_by_option_alias_and_variable(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("query", "SELECT count(*) AS n FROM calls", "--format", "csv")
    for place in ("--results", "--out"):
        assert callanalytics(*asked, place, results) == N_CALLS
    monkeypatch.setenv("CALLANALYTICS_OUT", str(results))
    assert callanalytics(*asked) == N_CALLS
    (tmp_path / "config.toml").write_text('[paths]\nout = "elsewhere"\n')
    assert load_config().out_dir == results
    assert "no results here" in messages(*asked, "--results", tmp_path / "none")


def test_schema_of_one_table(results: Path) -> None:
    text = callanalytics("schema", "call_facts", "--results", results)
    assert "frustration_q4" in text
    assert "emotion_by_day" not in text
    assert "Did you mean call_facts" in messages("schema", "call_fact", "--results", results)


def test_a_query_from_a_file_and_from_standard_input(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "q.sql"
    file.write_text("SELECT 42 AS n -- a comment\n")
    given = ("--results", results, "--format", "csv")
    assert callanalytics("query", "-f", file, *given) == "n\n42\n"
    command = [sys.executable, "-m", "callanalytics", "query", "-", *map(str, given)]
    done = subprocess.run(command, input="SELECT 7 AS n", capture_output=True, text=True, check=True)
    assert done.stdout == "n\n7\n"
    assert "one statement" in messages("query", "SELECT 1", "-f", file, *given)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    text = "Results: x\nNOT PUBLISHED since yesterday\nFrustration 80%  FLAGGED"
    shown = in_colour(text, Terminal())
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == text
    assert [line.startswith("\x1b[") for line in shown.split("\n")] == [False, True, True]
    assert in_colour(text, io.StringIO()) == text
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "bad", Terminal()) == "x"


def test_shells_complete_commands() -> None:
    env = {**os.environ, "_CALLANALYTICS_COMPLETE": "bash_complete", "COMP_WORDS": "callanalytics rej"}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['callanalytics']; from jobs.cli.main import main; main()",
        ],
        capture_output=True,
        text=True,
        env={**env, "COMP_CWORD": "1"},
        check=False,
    )
    assert "rejudge" in done.stdout, done


TWICE = """
import atexit, os, signal
from jobs.cli import main
atexit.register(lambda: os.kill(os.getpid(), signal.{name}))
main.cli.main = lambda **_: os.kill(os.getpid(), signal.{name})
main.main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_signal_while_a_command_ends_prints_no_traceback(name: str, is_first: bool) -> None:
    """Also the second one of somebody in a hurry."""
    program = TWICE.format(name=name)
    if is_first:
        program = program.replace("lambda **_: os.kill", "lambda **_: None and os.kill")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ("" if is_first else "callanalytics: interrupted; committed work is kept\n")
    assert done.returncode == -getattr(signal, name)
