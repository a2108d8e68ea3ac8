"""Commands on single files, the doctor, and the manners of the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from command_line import callanalytics
from fixture_calls import plausible_calls, with_sides

from callanalytics.demo import DemoSummary
from callanalytics.records import Role
from ensemble.labels import SHARED_SIX
from jobs.cli.main import cli
from jobs.cli.single_file import call_as_dict, render_call


@pytest.fixture(scope="module")
def calls(demo: DemoSummary) -> Path:
    return demo.folder


@pytest.fixture(scope="module")
def call(calls: Path) -> Path:
    return next((calls / "freepbx").rglob("q-600-2025550112-*.wav"))


def test_classify_prints_one_object_a_line_with_every_opinion(calls: Path) -> None:
    lines = callanalytics(
        "classify", calls / "vicidial", "--json", "--no-abstain", "--by-folder"
    ).splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == 2
    for row in found:
        assert {"path", "emotion", "confidence", "agreement", "probabilities", "members"} <= set(row)
        assert row["emotion"] in SHARED_SIX
        assert set(row["probabilities"]) == set(SHARED_SIX)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert len(row["members"]) >= 3
        for opinion in row["members"].values():
            assert sum(opinion.values()) == pytest.approx(1, abs=1e-3)


def test_classify_goes_on_after_a_bad_clip(call: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    lines = callanalytics("classify", tmp_path / "a.wav", call, "--json", expect=3).splitlines()
    assert [json.loads(line).get("error") is None for line in lines] == [False, True]


def test_diarize_writes_rttm_with_roles(call: Path, tmp_path: Path) -> None:
    text = callanalytics("diarize", call, "--rttm", "-")
    assert {line.split()[7] for line in text.splitlines()} == {"agent", "caller"}
    callanalytics("diarize", call, "--rttm", tmp_path / "x.rttm")
    assert (tmp_path / "x.rttm").read_text() == text


def test_analyze_needs_no_database(call: Path) -> None:
    found = json.loads(callanalytics("analyze", call, "--json"))
    assert found["channel_layout"] == "stereo"
    assert {s["role"] for s in found["segments"]} == {"agent", "caller"}
    text = callanalytics("analyze", call)
    assert "Caller angry or disgusted: " in text
    assert re.search(r"who is who: [^;\n]+, \d+% sure\n", text)
    for internal in ("angry_s", "low_confidence", "overtalk_s", "roles from", "pitch_rise_st"):
        assert internal not in text


def test_one_call_says_whose_score_it_is_or_that_there_is_none() -> None:
    call = max(plausible_calls(2), key=lambda call: call.assessment.curve.score or 0)
    unknown = with_sides(call, speaker_0=Role.UNKNOWN, speaker_1=Role.AGENT)
    found = call_as_dict(unknown)
    assert (found["frustration_voice"], found["flagged"]) == ("speaker_0", True)
    assert f"Frustration {found['frustration_score']:.0%} (one of the voices)  FLAGGED" in render_call(
        unknown
    )
    nobody = with_sides(call, speaker_0=Role.AGENT, speaker_1=Role.AGENT)
    found = call_as_dict(nobody)
    assert (found["frustration_score"], found["frustration_voice"]) == (None, None)
    assert "Frustration not known" in render_call(nobody)


def test_a_moment_within_a_second_is_one_place_and_doubts_are_told() -> None:
    (call, *_) = plausible_calls(1)
    begins = [replace(segment, start_s=38.1, end_s=38.9) for segment in call.segments]
    facts = replace(call.facts, sources={"conflict": "the name states a time after that of the file"})
    text = render_call(replace(call, segments=tuple(begins), facts=facts))
    assert "\n0:38  " in text
    assert "0:38-0:38" not in text
    assert "Note: the name states a time after that of the file\n" in text


def test_analyze_of_a_pair(calls: Path) -> None:
    caller, agent = (next((calls / "pairs").glob(f"*_{side}.wav")) for side in ("caller", "agent"))
    found = json.loads(callanalytics("analyze", caller, agent, "--json"))
    assert found["channel_layout"] == "pair"
    assert found["role_source"] == "name"


def test_doctor_finds_this_machine_ready(calls: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[paths]\ninputs = [{str(calls)!r}]\n")
    findings = json.loads(callanalytics("doctor", "--json", "--config", config))
    assert {f["name"] for f in findings} >= {
        "decoders",
        "ensemble",
        "disk",
        "zone",
        "database",
        "voice models",
    }
    assert all(f["ok"] for f in findings)
    config.write_text("[paths]\ninputs = ['/nowhere']\n[emotion]\nensemble = '/nowhere'\n")
    bad = {f["name"]: f for f in json.loads(callanalytics("doctor", "--json", "--config", config, expect=1))}
    assert not bad["inputs"]["ok"]
    assert not bad["ensemble"]["ok"]
    assert bad["ensemble"]["fix"]


def test_a_missing_ensemble_exits_6(call: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[emotion]\nensemble = 'nowhere'\n")
    callanalytics("analyze", call, "--config", config, expect=6)
    callanalytics("run", "--input", call, "--out", tmp_path / "o", "--config", config, expect=6)


def test_ingest_check_names_recorders_without_a_model(calls: Path) -> None:
    rows = [json.loads(line) for line in callanalytics("ingest", "check", calls, "--json").splitlines()]
    recorders = {row["recorder"] for row in rows if not row["set_aside"]}
    assert {"freepbx", "vicidial", "connect", "genesys", "fusionpbx", "generic"} <= recorders


def test_a_closed_pipe_is_no_error(calls: Path) -> None:
    command = f"{sys.executable} -m callanalytics ingest check {calls} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def every_command() -> dict[str, click.Command]:
    """Every command that can be typed, those of groups by both words."""
    context = click.Context(cli)
    found: dict[str, click.Command] = {}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None, name
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {word}": one for word, one in command.commands.items()}
    return found


def test_help_of_every_command_says_what_it_does() -> None:
    help_of = {name: command.help or "" for name, command in every_command().items()}
    assert {"run", "ensemble promote", "labels export"} <= set(help_of)
    assert [name for name, text in help_of.items() if not text.strip()] == []
    first = {name: text.strip().split("\n\n")[0] for name, text in help_of.items()}
    assert [name for name, text in first.items() if not text.endswith((".", ":"))] == []
