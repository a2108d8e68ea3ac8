"""Transcripts on their way through a night: stored, published, searched, hidden and purged."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import callanalytics, run_command
from short_calls import call, night_args, rows, settle, short_call
from spoken_calls import Spoken, spoken_call

from callanalytics.records import Role

pytestmark = pytest.mark.usefixtures("analysed_here")

CALLER = "This is outrageous, I want to speak to your supervisor, my card is 4111 1111 1111 1111"
AGENT = "I am sorry, one moment please"
CONFIG = """
[time]
zone = "UTC"
[words]
transcripts = ["beside", "transcripts"]
[[recorder]]
name = "test"
kind = "template"
template = "call-{CALLID}"
channels = ["caller", "agent"]
[[rule]]
name = "asks_for_supervisor"
measure = "phrase"
phrases = ["supervisor"]
at_least = 1
reason = "caller asks for a supervisor"
[[rule]]
name = "no_greeting"
measure = "phrase"
role = "agent"
phrases = ["good morning"]
negate = true
at_least = 1
weight = 0.1
reason = "agent does not greet"
[[rule]]
name = "frustrated"
measure = "frustration_peak"
at_least = 0.9
reason = "caller sounds frustrated"
"""


def transcript(said: Sequence[Spoken]) -> str:
    """What was said, with the labels exchanged."""
    segments = [
        {
            "start": line.start_s,
            "end": line.end_s,
            "text": line.text,
            "speaker": "AGENT" if line.role is Role.CALLER else "CUSTOMER",
        }
        for line in said
    ]
    return json.dumps({"segments": segments})


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("words")
    calls = folder / "calls"
    calls.mkdir()
    said = [
        spoken_call(calls / f"call-{number}.wav", f"C: {CALLER}", f"A: {AGENT}", seed=number)
        for number in range(6)
    ]
    (calls / "call-0.json").write_text(transcript(said[0]))
    (calls / "call-1.json").write_text('{"agent_id": "anna"}')  # a sidecar, no transcript
    (calls / "call-2_transcript.json").write_text("{")
    (folder / "transcripts" / "november").mkdir(parents=True)
    (folder / "transcripts" / "november" / "call-3_analysis_2026-11-28T10:00:00Z.json").write_text(
        transcript(said[3])
    )
    far = {"segments": [{"start": 500, "end": 900, "text": "hello"}]}
    (folder / "transcripts" / "call-4.json").write_text(json.dumps(far))
    settle(calls)
    (folder / "config.toml").write_text(CONFIG)
    out = folder / "out"
    result = night_json(*night_args(calls, out, "--config", folder / "config.toml", "--workers", 1, "--json"))
    return out, result


def night_json(*args: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(callanalytics(*args).splitlines()[-1])
    return found


def said(out: Path) -> list[tuple[Any, ...]]:
    return rows(
        out / "callanalytics.duckdb",
        "SELECT c.path, u.role, u.text, u.source FROM utterances u JOIN calls c USING (call_id)"
        " ORDER BY c.path, start_s",
    )


def test_transcripts_are_found_by_name_placed_and_masked(night: tuple[Path, dict[str, Any]]) -> None:
    out, result = night
    found = [(Path(path).name, *more) for path, *more in said(out)]
    masked = "This is outrageous, I want to speak to your supervisor, my card is [number]"
    expected = [("caller", masked, "whisper"), ("agent", AGENT, "whisper")]
    assert found == [(f"call-{n}.wav", *row) for n in (0, 3) for row in expected]
    assert result["n_with_words"] == 2
    assert result["words_notes"] == {"other_call": 1, "unknown_format": 1}
    assert result["n_done"] == 6


def test_notes_say_why_a_call_has_no_words(night: tuple[Path, dict[str, Any]]) -> None:
    sql = "SELECT c.path, a.words_whole, a.words_note FROM analyses a JOIN calls c USING (call_id) ORDER BY 1"
    found = [
        (Path(path).name, whole, note) for path, whole, note in rows(night[0] / "callanalytics.duckdb", sql)
    ]
    assert found == [
        ("call-0.wav", True, None),
        ("call-1.wav", False, None),
        ("call-2.wav", False, "unknown_format"),
        ("call-3.wav", True, None),
        ("call-4.wav", False, "other_call"),
        ("call-5.wav", False, None),
    ]


def test_rules_on_phrases_flag_and_quote(night: tuple[Path, dict[str, Any]]) -> None:
    database = night[0] / "callanalytics.duckdb"
    sql = "SELECT DISTINCT e.rule, e.reason, e.value FROM escalations e ORDER BY 1"
    quote = "… to speak to your supervisor, my card is [number]"
    assert rows(database, sql) == [
        ("asks_for_supervisor", f"caller asks for a supervisor: “{quote}”", 1.0),
        ("no_greeting", "agent does not greet", 0.0),
    ]
    assert rows(database, "SELECT count(*) FROM call_summary WHERE flagged") == [(2,)]
    moments = rows(database, "SELECT start_s, end_s, words FROM evidence WHERE rule = 'asks_for_supervisor'")
    assert [words for *_, words in moments] == [f"caller says “{quote}”"] * 2
    assert all(start_s == pytest.approx(1.6, abs=0.1) and end_s > 3 for start_s, end_s, _ in moments)


def test_search_ranks_and_narrows(night: tuple[Path, dict[str, Any]]) -> None:
    out, _ = night
    found = json.loads(callanalytics("search", "SUPERVISOR", "--json", "--out", out))
    assert [(row["role"], row["start_s"]) for row in found] == [("caller", pytest.approx(1.6, abs=0.1))] * 2
    assert found[0]["score"] > 0
    best = json.loads(callanalytics("search", "sorry supervisor card", "--json", "--out", out))
    assert [row["role"] for row in best] == ["caller", "caller", "agent", "agent"]
    assert len(json.loads(callanalytics("search", "sorry", "--role", "agent", "--json", "--out", out))) == 2
    assert json.loads(callanalytics("search", "sorry", "--role", "caller", "--json", "--out", out)) == []
    assert len(json.loads(callanalytics("search", "your supervisor", "--exact", "--json", "--out", out))) == 2
    assert json.loads(callanalytics("search", "supervisor your", "--exact", "--json", "--out", out)) == []
    assert json.loads(callanalytics("search", "sorry", "--until", "2001-01-01", "--json", "--out", out)) == []
    assert "your supervisor" in callanalytics("search", "supervisor", "--limit", 1, "--out", out)
    assert "no word" in run_command("search", "?!", "--out", out, expect=2).stderr


def test_search_finds_calls_that_were_stored_before_the_clock_was_set_back(tmp_path: Path) -> None:
    calls, out = tmp_path / "calls", tmp_path / "out"
    calls.mkdir()
    short_call(calls / "20980327-092510-Later.wav", 0, 4.0)
    said = [
        {"start": 0.2, "end": 1.8, "text": "the walrus is here", "speaker": "one"},
        {"start": 2.2, "end": 3.8, "text": "yes it is", "speaker": "two"},
    ]
    (calls / "20980327-092510-Later.json").write_text(json.dumps({"segments": said}))
    settle(calls)
    (tmp_path / "config.toml").write_text('[words]\ntranscripts = ["beside"]\n')
    more = ("--until", "2099-01-01", "--config", tmp_path / "config.toml", "--workers", 1)
    callanalytics(*night_args(calls, out, *more))
    found = json.loads(callanalytics("search", "walrus", "--json", "--out", out))
    assert [row["started_local"][:4] for row in found] == ["2098"]
    assert json.loads(callanalytics("search", "walrus", "--until", "now", "--json", "--out", out)) == []


def test_no_number_of_a_transcript_is_in_any_byte(night: tuple[Path, dict[str, Any]]) -> None:
    content = {path: path.read_bytes() for path in night[0].rglob("*") if path.is_file()}
    assert any(b"supervisor" in data for data in content.values())
    # Two groups, since four digits alone also stand in hashes.
    assert [path for path, data in content.items() if re.search(rb"4111\W?1111", data)] == []


def test_a_redacted_report_holds_no_word(night: tuple[Path, dict[str, Any]]) -> None:
    out, _ = night
    callanalytics("report", "--redact", "--since", "2000-01-01", "--out", out)
    pages = [path.read_text(encoding="utf-8") for path in (out / "reports-redacted").rglob("*.html")]
    assert len(pages) > 2
    assert not any("to speak to" in page or "one moment please" in page for page in pages)
    assert any("caller asks for a supervisor" in page.lower() for page in pages)


def test_no_word_of_a_purged_call_is_left(night: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = shutil.copytree(night[0], tmp_path / "out")
    ids = rows(out / "callanalytics.duckdb", "SELECT DISTINCT call_id FROM utterances")
    for (call_id,) in ids:
        callanalytics("purge", "--call", call_id, "--out", out)
    assert said(out) == []
    left = [path for path in out.rglob("*") if path.is_file() and b"to speak to" in path.read_bytes()]
    assert left == []


def test_analysing_one_file_takes_the_transcript_beside_it(
    night: tuple[Path, dict[str, Any]],
) -> None:
    calls = night[0].parent / "calls"
    config = calls.parent / "config.toml"
    found = json.loads(callanalytics("analyze", calls / "call-0.wav", "--config", config, "--json"))
    assert [(u["role"], u["source"]) for u in found["utterances"]] == [
        ("caller", "whisper"),
        ("agent", "whisper"),
    ]
    assert found["flagged"]
    config_without = calls.parent / "plain.toml"
    config_without.write_text(CONFIG.replace('["beside", "transcripts"]', "[]"))
    shown = callanalytics("analyze", calls / "call-0.wav", "--config", config_without)
    assert re.search(
        r"caller +This is outrageous, I want to speak to your supervisor, my card is \[number\]\n", shown
    )
    assert "Words from a transcript of Whisper" in shown
    silent = json.loads(callanalytics("analyze", calls / "call-5.wav", "--config", config, "--json"))
    assert (silent["utterances"], silent["words_note"]) == ([], None)


def test_relabelling_moves_the_words(night: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = shutil.copytree(night[0], tmp_path / "out")
    ((call_id,),) = rows(out / "callanalytics.duckdb", "SELECT min(call_id) FROM utterances")
    config = night[0].parent / "config.toml"
    callanalytics("relabel", call_id, "--swap", "--out", out, "--config", config)
    sql = f"SELECT role FROM utterances WHERE call_id = '{call_id}' ORDER BY start_s"
    assert rows(out / "callanalytics.duckdb", sql) == [("agent",), ("caller",)]
    assert rows(
        out / "callanalytics.duckdb", f"SELECT rule FROM escalations WHERE call_id = '{call_id}'"
    ) == [("no_greeting",)]


def test_without_words_nothing_of_them_is_read_or_imported(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()
    said = spoken_call(calls / "call-0.wav", f"C: {CALLER}")
    (calls / "call-0.json").write_text(transcript(said))
    settle(calls)
    # The run and its worker tell what they import.
    words = night_args(calls, tmp_path / "out", "--workers", 1, "--json")
    done = call(*words, env={"PYTHONPROFILEIMPORTTIME": "1"})
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["n_done"], result["n_with_words"], result["words_notes"]) == (1, 0, {})
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "callanalytics.analysis.call" in imported
    assert not [
        name for name in imported if re.match(r"faster_whisper|ctranslate2|tokenizers|.*\.words\.", name)
    ]


def test_a_folder_of_transcripts_that_is_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    short_call(tmp_path / "calls" / "call-0.wav", 0)
    settle(tmp_path / "calls")
    (tmp_path / "config.toml").write_text('[words]\ntranscripts = ["nowhere"]\n')
    args = night_args(tmp_path / "calls", tmp_path / "out", "--config", tmp_path / "config.toml")
    assert "nowhere: no such folder" in run_command(*args, expect=2).stderr


def test_the_page_of_a_call_quotes_and_transcribes(night: tuple[Path, dict[str, Any]]) -> None:
    out, _ = night
    ((call_id,),) = rows(out / "callanalytics.duckdb", "SELECT min(call_id) FROM utterances")
    page = (out / "reports" / "calls" / f"{call_id}.html").read_text(encoding="utf-8")
    assert '<h2 id="words">What was said</h2>' in page
    (start_s,) = re.findall(
        r'data-start="([\d.]+)" data-end="[\d.]+"><span class="at">[^<]*</span> <b>Agent', page
    )
    assert float(start_s) > 5
    assert "numbers are masked" in page
    assert "from a transcript of Whisper" in page
    assert "my card is [number]" in page
    assert re.search(
        r"disagree at 0:01: “This is outrageous, I want to speak …”, and the voice is calm", page
    )


def test_a_page_says_why_a_transcript_was_not_used(night: tuple[Path, dict[str, Any]]) -> None:
    out, _ = night
    sql = "SELECT call_id FROM analyses WHERE words_note = 'other_call'"
    ((call_id,),) = rows(out / "callanalytics.duckdb", sql)
    page = (out / "reports" / "calls" / f"{call_id}.html").read_text(encoding="utf-8")
    assert "The transcript is of another call" in page
    plain = "SELECT call_id FROM analyses WHERE words_note IS NULL AND NOT words_whole"
    for (other,) in rows(out / "callanalytics.duckdb", plain):
        assert "What was said" not in (out / "reports" / "calls" / f"{other}.html").read_text(
            encoding="utf-8"
        )


def test_a_transcript_that_comes_late_is_taken_by_the_next_run(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()
    lines = spoken_call(calls / "call-0.wav", f"C: {CALLER}", f"A: {AGENT}")
    settle(calls)
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.replace('"beside", "transcripts"', '"beside"'))
    out = tmp_path / "out"
    args = night_args(calls, out, "--config", config, "--workers", 1)
    callanalytics(*args)
    assert said(out) == []
    (calls / "call-0.json").write_text(transcript(lines))
    assert "1 call of earlier runs" in run_command(*args).stderr + run_command("status", "--out", out).stdout
    assert [role for _, role, *_ in said(out)] == ["caller", "agent"]
    assert rows(out / "callanalytics.duckdb", "SELECT flagged FROM call_summary") == [(True,)]
    assert rows(out / "callanalytics.duckdb", "SELECT count(*) FROM analyses") == [(1,)]
    assert "earlier runs" not in run_command(*args).stderr
