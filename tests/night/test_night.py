"""The night end to end: the real command line, real processes, a real DuckDB file."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import soundfile
from command_line import callanalytics, messages, run_command, run_json
from night_calls import DAY, WINDOW, analysing_here, without_numbers
from short_calls import rows, settle, short_call

from callanalytics.analysis.call import Models, analyze_call
from callanalytics.audio.clips import CONTRAST_NAMES
from callanalytics.config import Settings
from callanalytics.demo import DemoSummary
from callanalytics.demo.script import calls
from callanalytics.records import RoleSource, StatedRoles
from callanalytics.store import Correction, open_work
from callanalytics.workspace import Workspace
from jobs.cli.single_file import found_recording

YESTERDAY = date.today() - timedelta(days=1)


@pytest.fixture
def in_this_process() -> Iterator[None]:
    """For what a night stores: those above it, and of bad files and a used budget, have workers."""
    with analysing_here():
        yield


def test_the_demonstration_is_analysed_and_its_broken_file_quarantined(
    night: tuple[Path, dict[str, Any]], demo: DemoSummary
) -> None:
    out, result = night
    assert result["n_quarantined"] == len(demo.broken)
    assert result["n_done"] == demo.n_calls
    assert result["n_found"] == result["n_done"] + result["n_quarantined"]
    assert Path(result["database"]) == out / "callanalytics.duckdb"
    assert Path(result["report"]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    (path, reason), *_ = rows(out / "callanalytics.duckdb", "SELECT path, reason FROM quarantine")
    assert without_numbers(Path(path).name) == without_numbers(demo.broken[0].name)
    assert reason == "truncated"


def test_every_segment_has_a_label_or_a_reason(night: tuple[Path, dict[str, Any]]) -> None:
    database = night[0] / "callanalytics.duckdb"
    sql = "SELECT count(*), count(emotion), count(abstain_reason) FROM segment_emotions"
    ((n, n_labelled, n_abstained),) = rows(database, sql)
    assert n > 100
    assert n_labelled + n_abstained == n
    assert n_labelled > n / 4


def test_times_and_agents_come_from_the_names(night: tuple[Path, dict[str, Any]]) -> None:
    database = night[0] / "callanalytics.duckdb"
    days = rows(database, "SELECT DISTINCT CAST(started_at AT TIME ZONE 'UTC' AS DATE) FROM call_summary")
    assert days == [(DAY,)]
    ((n_dated, n_agents),) = rows(
        database,
        "SELECT count(*) FILTER (started_at_source <> 'file_time'), count(agent_id) FROM call_summary",
    )
    assert n_dated >= 8
    assert n_agents >= 3


def test_the_upset_callers_are_flagged_and_nobody_else(
    night: tuple[Path, dict[str, Any]], demo: DemoSummary
) -> None:
    """As frustrated, and a caller who is loud from the first word on is not: a voice is its own measure."""
    judged = rows(
        night[0] / "callanalytics.duckdb",
        "SELECT path, flagged, call_id IN (SELECT call_id FROM escalations WHERE rule = 'frustrated')"
        " FROM call_summary",
    )
    upset = {without_numbers(path.name) for path in demo.upset}
    assert {without_numbers(Path(path).name) for path, flagged, _ in judged if flagged} == upset
    assert {without_numbers(Path(path).name) for path, _, frustrated in judged if frustrated} == upset
    loud = next(number for number, call in enumerate(calls()) if call.slug == "moving-house")
    assert [flagged for path, flagged, _ in judged if f"GUID_{5500 + loud}_" in path] == [False]


def test_running_again_does_nothing_twice(
    night: tuple[Path, dict[str, Any]], demo: DemoSummary, tmp_path: Path
) -> None:
    out, first = shutil.copytree(night[0], tmp_path / "out"), night[1]
    counts = "SELECT (SELECT count(*) FROM call_summary), (SELECT count(*) FROM segment_emotions)"
    before = rows(out / "callanalytics.duckdb", counts)
    again = run_json(*WINDOW, "--input", demo.folder, "--out", out, expect=3)
    assert again["n_done"] == 0
    assert again["n_skipped"] == first["n_done"]
    assert rows(out / "callanalytics.duckdb", counts) == before
    settled = run_json(*WINDOW, "--input", demo.folder, "--out", out)
    assert settled["n_quarantined"] == 0, "a file that failed max_attempts times is left alone"
    said = messages("run", *WINDOW, "--input", demo.folder, "--out", out)
    assert f"Nothing new: {first['n_done']} calls as analysed before, 1 given up (see quarantine)." in said
    assert "earlier version gave up" not in said
    with open_work(Workspace(out)) as store:
        store.connection.execute("UPDATE base.runs SET settings = '{\"recipe\": 1}'")
    planned = messages("run", *WINDOW, "--input", demo.folder, "--out", out, "--dry-run")
    assert "To try once more: 1 recording that an earlier version gave up." in planned
    said = messages("run", *WINDOW, "--input", demo.folder, "--out", out)
    assert "Tried once more: 1 recording that an earlier version gave up." in said
    assert "quarantined 1." in said
    assert "1 given up (see quarantine)." in messages("run", *WINDOW, "--input", demo.folder, "--out", out)


@pytest.mark.usefixtures("in_this_process")
def test_another_window_gets_its_own_report_even_when_nothing_is_new(
    night: tuple[Path, dict[str, Any]], demo: DemoSummary, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(night[0], out)
    before = Path(out / "reports" / "index.html").read_text(encoding="utf-8")
    empty = ("--since", "2001-01-01", "--until", "2001-01-02", "--input", demo.folder, "--out", out)
    pages = sorted((out / "reports" / "calls").iterdir())
    run_json(*empty, "--fail-on-empty", expect=4)
    assert Path(out / "reports" / "index.html").read_text(encoding="utf-8") == before
    assert sorted((out / "reports" / "calls").iterdir()) == pages
    assert run_json(*empty)["n_found"] == 0
    assert Path(out / "reports" / "index.html").read_text(encoding="utf-8") == before, "nothing is in it"


def test_query_schema_status_and_report_answer(night: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = shutil.copytree(night[0], tmp_path / "out")
    answer = callanalytics(
        "query", "SELECT count(*) AS n FROM call_summary", "--format", "json", "--out", out
    )
    assert json.loads(answer)[0]["n"] >= 8
    assert "frustration_score" in callanalytics("schema", "--out", out)
    assert json.loads(callanalytics("status", "--json", "--out", out))["runs"]
    callanalytics("report", *WINDOW, "--out", out)
    assert "nothing" in messages("query", "SELECT * FROM nothing", "--out", out)


@pytest.mark.usefixtures("in_this_process")
def test_relabel_swaps_without_inference_and_is_remembered(
    night: tuple[Path, dict[str, Any]], demo: DemoSummary, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(night[0], out)
    database = out / "callanalytics.duckdb"
    ((call_id, score),) = rows(
        database,
        "SELECT call_id, frustration_score FROM call_summary ORDER BY 2 DESC NULLS LAST LIMIT 1",
    )
    state = (
        "SELECT segment, role, emotion, confidence FROM segment_emotions "
        f"WHERE call_id = '{call_id}' ORDER BY segment"
    )
    before = rows(database, state)
    moments = f"SELECT rule, start_s, clip FROM evidence WHERE call_id = '{call_id}' ORDER BY ALL"
    to_hear = rows(database, moments)
    assert any(clip for *_, clip in to_hear)
    said = messages("relabel", call_id[:10], "--swap", "--out", out)
    assert f"run --since {DAY} --until {DAY + timedelta(days=1)} --force --out" in said
    swapped = rows(database, state)
    assert [(n, e, c) for n, _, e, c in swapped] == [(n, e, c) for n, _, e, c in before]
    assert {(a[1], b[1]) for a, b in zip(before, swapped, strict=True)} == {
        ("agent", "caller"),
        ("caller", "agent"),
    }
    ((source, now_score),) = rows(
        database,
        f"SELECT role_source, frustration_score FROM call_summary WHERE call_id = '{call_id}'",
    )
    assert source == "correction"
    assert now_score < score
    callanalytics("relabel", call_id, "--swap", "--out", out)
    assert rows(database, state) == before
    assert rows(database, moments) == to_hear, "clips that are there are played again"
    callanalytics("relabel", call_id, "--swap", "--out", out)
    inputs = [word for path in demo.upset for word in ("--input", path)]  # not the whole demonstration
    assert run_json(*WINDOW, *inputs, "--out", out, "--force", "--workers", 1)["n_done"] == 2
    assert [row[:2] for row in rows(database, state)] == [row[:2] for row in swapped], "a later run keeps it"
    # The agent had been judged without `campplus`: as the caller the voice has the vote of all.
    asked = (
        "SELECT DISTINCT role, count(p.emotion) > 0 FROM predictions p "
        f"JOIN segment_emotions USING (call_id, segment) WHERE call_id = '{call_id}' AND member = 'campplus' "
        "GROUP BY role ORDER BY role"
    )
    assert rows(database, asked) == [("agent", False), ("caller", True)]
    callanalytics("relabel", "ffffffff", "--swap", "--out", out, expect=2)


def test_a_corrected_call_that_is_heard_anew_has_moments_with_sound(demo: DemoSummary) -> None:
    """The recorder lays the sides out wrongly, and a person has said so: the clips are the caller's."""
    settings, models = Settings(), Models.load(None)
    found = found_recording([demo.upset[0]], settings)
    right = analyze_call(found, settings, models)
    assert right.clips
    side_of = {t.channel: right.speech.roles[t.speaker] for t in right.speech.turns}
    wrongly = StatedRoles(RoleSource.RECORDER, (side_of[0].other, side_of[1].other), 0.999, "your settings")
    wrong = replace(found.facts, stated_roles=(wrongly,))
    unflagged = analyze_call(replace(found, facts=wrong), settings, models).clips
    assert {clip.name for clip in unflagged} <= {*CONTRAST_NAMES}, "of a call below the rule, to review"
    corrected = analyze_call(replace(found, facts=wrong, corrected=()), settings, models)
    assert [clip.name for clip in corrected.clips] == [clip.name for clip in right.clips]


@pytest.mark.usefixtures("in_this_process")
def test_excluded_agents_are_never_heard(demo: DemoSummary, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[emotion]\nroles = ["caller"]\n')
    out = tmp_path / "out"
    call = demo.upset[0].parent
    run_json(*WINDOW, "--input", call, "--out", out, "--config", config)
    found = rows(
        out / "callanalytics.duckdb",
        "SELECT role, count(emotion), count(*) FILTER (abstain_reason = 'role_excluded') "
        "FROM segment_emotions GROUP BY role",
    )
    by_role = {role: (labelled, excluded) for role, labelled, excluded in found}
    assert by_role["agent"][0] == 0
    assert by_role["agent"][1] > 0
    assert by_role["caller"][0] > 0
    ((opinions,),) = rows(
        out / "callanalytics.duckdb",
        "SELECT count(*) FROM predictions p JOIN segment_emotions s USING (call_id, segment) "
        "WHERE s.role = 'agent' AND p.emotion IS NOT NULL",
    )
    assert opinions == 0


def test_a_dry_run_writes_no_results(demo: DemoSummary, tmp_path: Path) -> None:
    result = run_json(*WINDOW, "--input", demo.folder, "--out", tmp_path / "o", "--dry-run")
    assert result["n_new"] > 8
    assert result["n_done"] == 0
    assert not (tmp_path / "o").exists()


@pytest.mark.usefixtures("in_this_process")
def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    window = ("--since", "yesterday", "--input", tmp_path / "in", "--out", tmp_path / "o")
    assert run_json(*window)["n_found"] == 0
    assert run_json(*window, "--fail-on-empty", expect=4)["n_found"] == 0
    assert run_json(*window, "--fail-on-empty", "--dry-run", expect=4)["n_found"] == 0


def test_a_dry_run_with_nothing_to_do_says_so_and_no_report(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    said = messages("run", "--dry-run", "--quiet", "--input", tmp_path / "in", "--out", tmp_path / "o")
    assert said == ""
    said = messages("run", "--dry-run", "--input", tmp_path / "in", "--out", tmp_path / "o")
    assert "Dry run: 0 recordings would be analysed, nothing was written." in said
    assert "Report" not in said
    assert "Analysed" not in said


def test_usage_errors_are_one_line(tmp_path: Path) -> None:
    for arguments in (
        ("run", "--since", "the day the music died", "--input", tmp_path, "--out", tmp_path / "o"),
        ("run", "--input", tmp_path / "nowhere", "--out", tmp_path / "o"),
        ("run", "--config", tmp_path / "none.toml"),
        ("query", "SELECT 1", "--out", tmp_path / "nothing"),
    ):
        said = run_command(*arguments, expect=2).stderr
        assert said.startswith("callanalytics: ")


def good_call(path: Path) -> None:
    """A stereo call with voice-like sound on both sides."""
    rng = np.random.default_rng(5)
    n = 8000 * 20
    t = np.arange(n) / 8000
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
    sides = np.stack(
        [voice * (np.sin(2 * np.pi * 0.1 * t) > 0), voice * (np.sin(2 * np.pi * 0.1 * t) < 0)], axis=1
    )
    soundfile.write(path, 0.05 * sides + rng.normal(0, 1e-3, sides.shape), 8000, subtype="PCM_16")


def test_bad_files_never_stop_the_good_one(tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    good_call(folder / "good.wav")
    whole = (folder / "good.wav").read_bytes()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is a letter, not a call\n" * 50)
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    header = bytearray(whole)
    header[40:44] = struct.pack("<I", 0)
    (folder / "zero-header.wav").write_bytes(header)
    soundfile.write(folder / "silence.wav", np.zeros(8000), 8000)
    beep = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(1600) / 8000)
    soundfile.write(folder / "beep.wav", beep, 8000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, dtype=np.float32), 8000, subtype="FLOAT")
    (folder / "locked.wav").write_bytes(whole + b"\0")
    (folder / "locked.wav").chmod(0)
    old = time.time() - 3600
    for path in folder.iterdir():
        os.utime(path, (old, old))
    out = tmp_path / "out"
    run_json("--since", "2d", "--input", folder, "--out", out, "--workers", 1, expect=3)
    database = out / "callanalytics.duckdb"
    done = {Path(p).name for (p,) in rows(database, "SELECT path FROM call_summary")}
    bad = {Path(p).name: (r, d) for p, r, d in rows(database, "SELECT path, reason, detail FROM quarantine")}
    assert done | set(bad) == {p.name for p in folder.iterdir()}
    assert done == {"good.wav", "zero-header.wav"}, "a size of 0 states no size"
    assert all(len(detail) > 20 for _, detail in bad.values())


def test_what_a_used_time_budget_left_is_taken_by_the_next_night(tmp_path: Path) -> None:
    """The night of two days ago had no time; the next one looks at yesterday only, and takes it up."""
    folder, out, config = tmp_path / "calls", tmp_path / "out", tmp_path / "config.toml"
    folder.mkdir()
    before, yesterday = (YESTERDAY - timedelta(days=d) for d in (1, 0))
    good_call(folder / f"{before:%Y%m%d}-120000_2025550127-all.wav")
    old = time.time() - 90000  # it was there when the first night looked
    os.utime(folder / f"{before:%Y%m%d}-120000_2025550127-all.wav", (old, old))
    config.write_text("[engine]\ntime_budget_s = 0.001\n", encoding="utf-8")
    where = ("--input", folder, "--out", out, "--workers", "1")
    first = run_json("--since", before, "--until", yesterday, "--config", config, *where, expect=7)
    assert (first["n_new"], first["n_done"]) == (1, 0)
    second = run_json("--since", "yesterday", *where)
    assert (second["n_found"], second["n_done"]) == (1, 1)
    # Nothing is left: a budget that is used is no reason to end with 7.
    window = ("--since", before, "--until", yesterday)
    assert run_json(*window, "--config", config, *where)["n_skipped"] == 1


def check_real(calls: Path, out: Path, n_least: int) -> None:
    arguments = ("--since", "2000-01-01", "--input", calls, "--out", out)
    first = run_json(*arguments)
    assert first["n_quarantined"] == 0
    assert first["n_done"] == first["n_found"] >= n_least
    again = run_json(*arguments)
    assert again["n_done"] == 0
    assert again["n_skipped"] == first["n_done"]


def test_a_real_call_on_two_channels_and_on_one_is_processed(data_dir: Path, tmp_path: Path) -> None:
    for layout in ("stereo", "mono"):
        shortest = min(
            (data_dir / "calls" / "harper-valley" / layout).iterdir(), key=lambda p: p.stat().st_size
        )
        (tmp_path / "in" / layout).mkdir(parents=True)
        shutil.copy2(shortest, tmp_path / "in" / layout)
    settle(tmp_path / "in")
    check_real(tmp_path / "in", tmp_path / "out", 2)


@pytest.mark.slow
def test_real_calls_are_all_processed(data_dir: Path, tmp_path: Path) -> None:
    check_real(data_dir / "calls", tmp_path / "out", 13)


@pytest.mark.slow
def test_a_night_in_torch_stores_what_the_night_in_onnx_stores(
    night: tuple[Path, dict[str, Any]], demo: DemoSummary, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    callanalytics(
        *("run", *WINDOW, "--input", demo.folder, "--out", out),
        *("--limit", 4, "--device", "cpu:0", "--workers", 1),
    )
    with duckdb.connect() as connection:
        for name, folder in (("ours", night[0]), ("theirs", out)):
            connection.execute(f"ATTACH '{folder / 'callanalytics.duckdb'}' AS {name} (READ_ONLY)")
        n_calls, n_segments, n_other, widest = connection.execute(
            "SELECT count(DISTINCT call_id), count(*),"
            " count_if(a.start_s <> b.start_s OR a.role <> b.role OR a.emotion IS DISTINCT FROM b.emotion),"
            " max(abs(a.confidence - b.confidence))"
            " FROM (FROM ours.segments JOIN ours.votes USING (call_id, segment)) AS a"
            " JOIN (FROM theirs.segments JOIN theirs.votes USING (call_id, segment)) AS b"
            " USING (call_id, segment)"
        ).fetchall()[0]
        layouts = connection.execute(
            "SELECT DISTINCT channel_layout::VARCHAR FROM theirs.call_summary ORDER BY ALL"
        ).fetchall()
    assert n_calls == 4
    assert n_segments > 40
    assert layouts == [("mono",), ("stereo",)]
    assert n_other == 0
    assert widest < 1e-4


@pytest.mark.usefixtures("in_this_process")
def test_a_new_version_of_a_recording_replaces_the_old_one_everywhere(tmp_path: Path) -> None:
    """Grown, then completed by the agent's side; another call under another name stays."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    database = out / "callanalytics.duckdb"
    short_call(folder / "grown.wav", 1, seconds=6.0)
    short_call(folder / "other.wav", 2, seconds=5.0)
    short_call(folder / "half_2025550143_caller.wav", 3, seconds=6.0, mono=True)
    settle(folder)

    def night() -> dict[str, Any]:
        return run_json("--since", "2000-01-01", "--input", folder, "--out", out, "--workers", 1)

    assert night()["n_done"] == 3
    ((before,),) = rows(database, "SELECT call_id FROM calls WHERE path LIKE '%grown%'")
    callanalytics("review", before, "--verdict", "confirm", "--out", out)
    with open_work(Workspace(out)) as store:
        store.correct(Correction(before, swap_roles=True))
        store.connection.execute(
            "INSERT INTO base.reviews BY NAME"
            " SELECT * REPLACE (99 AS review_id, 0 AS segment) FROM base.reviews"
        )
    (out / "reports" / "clips" / before).mkdir(parents=True, exist_ok=True)
    short_call(folder / "grown.wav", 1, seconds=12.0)
    short_call(folder / "half_2025550143_agent.wav", 4, seconds=6.0, mono=True)
    settle(folder)

    assert night()["n_done"] == 2
    found = rows(database, "SELECT path, round(duration_s) FROM calls")
    lengths = {re.split(r"[_.]", Path(path).name)[0]: seconds for path, seconds in found}
    assert lengths == {"grown": 12, "other": 5, "half": 6}
    for table in ("recordings", "base.analyses", "base.calls"):
        assert rows(database, f"SELECT count(*) FROM {table}") == [(3,)]
    work = out / ".work" / "callanalytics-work.duckdb"
    ((after,),) = rows(database, "SELECT call_id FROM calls WHERE path LIKE '%grown%'")
    assert rows(database, "SELECT call_id, segment FROM base.reviews") == [(after, None)]
    assert rows(work, "SELECT * FROM base.corrections") == []
    assert rows(work, "SELECT count(DISTINCT recording_id), count(*) FROM base.files") == [(3, 4)]
    assert not (out / "reports" / "clips" / before).exists()
    assert before not in (out / "reports" / "index.html").read_text(encoding="utf-8")
    again = night()
    assert (again["n_done"], again["n_skipped"]) == (0, 3)


@pytest.mark.usefixtures("in_this_process")
def test_a_name_used_again_on_another_day_is_another_call_and_a_copy_keeps_its_own(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    database = out / "callanalytics.duckdb"
    short_call(folder / "line1.wav", 1, seconds=5.0)
    short_call(folder / "kept.wav", 2, seconds=5.0)
    settle(folder)
    two_days_ago = time.time() - 2 * 86_400
    os.utime(folder / "line1.wav", (two_days_ago, two_days_ago))
    args = ("--since", "2000-01-01", "--input", folder, "--out", out, "--workers", 1)
    assert run_json(*args)["n_done"] == 2
    short_call(folder / "line1.wav", 3, seconds=6.0)
    shutil.copy2(folder / "kept.wav", folder / "moved.wav")
    short_call(folder / "kept.wav", 4, seconds=6.0)
    then = time.time() - 7_200
    for name in ("line1.wav", "kept.wav"):
        os.utime(folder / name, (then, then))
    assert run_json(*args)["n_done"] == 2
    assert rows(database, "SELECT round(duration_s), count(*) FROM calls GROUP BY 1 ORDER BY 1") == [
        (5, 2),
        (6, 2),
    ]
    assert run_json(*args)["n_done"] == 0
