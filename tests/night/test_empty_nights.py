"""A run that finds nothing says what it saw, how to go on, and leaves the last report."""

from __future__ import annotations

import os
import shlex
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
from command_line import messages, run_command, run_json
from short_calls import rows, short_call

pytestmark = pytest.mark.usefixtures("analysed_here")

OLD_S = 7_200.0


def put(path: Path, content: bytes = b"", *, days: float = 0.0) -> Path:
    """A file of some kind, or a short call, last changed a while ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if content:
        path.write_bytes(content)
    else:
        short_call(path, hash(path.name) % 1000, 5.0)
    then = time.time() - OLD_S - 86_400 * days
    os.utime(path, (then, then))
    return path


def printed(text: str) -> list[list[str]]:
    """The commands in a text."""
    lines = (line.partition(": callanalytics ")[2] for line in text.splitlines())
    return [shlex.split(line) for line in lines if line]


def test_an_empty_folder_is_said_to_be_one_and_the_window_is_told_in_the_zone(tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    (tmp_path / "config.toml").write_text('[time]\nzone = "America/New_York"\n')
    said = messages(
        "run", "--input", tmp_path / "calls", "--out", tmp_path / "out", "--workers", 1,
        "--since", "2025-03-27", "--until", "2025-03-28", "--config", tmp_path / "config.toml",
    )  # fmt: skip
    assert "Window 2025-03-27 00:00 EDT to 2025-03-28 00:00 EDT: 0 recordings found." in said
    assert "Nothing that could be a recording was seen there" in said


def test_what_lies_outside_the_window_is_said_and_the_printed_command_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "calls of March", tmp_path / "out"
    put(folder / "20250219-101500_2025550143.wav")
    put(folder / "20260301-090000_2025550144.wav")
    tomorrow = date.today() + timedelta(days=1)
    put(folder / f"{tomorrow + timedelta(days=1):%Y%m%d}-090000_2025550145.wav")
    put(folder / "call.raw", b"\1\2\3\4" * 999)
    said = messages("run", "--input", folder, "--out", out, "--workers", 1)
    assert "0 recordings found" in said
    assert "\n  3 lie outside the window, 19 Feb 2025 to " in said
    assert "\n  1 of a kind that is not searched: .raw 1\n" in said
    page = (out / "reports" / "index.html").read_text(encoding="utf-8")
    assert "received" not in page
    assert "The newest run saw files that it passed over: 3 lie outside the window, 19 Feb 2025 to " in page
    ((words),) = printed(said)
    assert words[words.index("--since") + 1] == "2025-02-19"
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    assert run_json(*words[1:], "--workers", 1)["n_done"] == 3
    assert list(elsewhere.iterdir()) == []
    database = out / "callanalytics.duckdb"
    assert rows(database, "SELECT run_id, reason, kind, n_files FROM skipped_files ORDER BY ALL") == [
        (1, "ignored", ".raw", 1),
        (1, "outside_window", "", 3),
        (2, "ignored", ".raw", 1),
    ]
    assert rows(database, "SELECT min(earliest_at)::DATE::VARCHAR FROM skipped_files") == [("2025-02-19",)]


def test_a_report_stays_until_something_is_in_the_window(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    put(folder / "20260301-090000_2025550144.wav")
    where = ("--input", folder, "--out", out, "--workers", 1)
    march = ("--since", "2026-03-01", "--until", "2026-03-02", *where)
    april = ("--since", "2026-04-01", "--until", "2026-04-02", *where)
    assert run_json(*march)["n_done"] == 1
    index = out / "reports" / "index.html"
    before = index.read_text(encoding="utf-8")
    said = messages("run", *april)
    assert "(as it was: nothing is in this window)" in said
    assert index.read_text(encoding="utf-8") == before
    (folder / "20260301-090000_2025550144.wav").unlink()
    again = run_json("--since", "2026-02-01", "--until", "2026-03-02", *where)
    assert again["n_found"] == 0
    assert index.read_text(encoding="utf-8") != before, "its calls are known, though their files are gone"


def test_files_that_may_still_be_written_are_said_and_can_be_taken(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    with put(folder / "call.wav").open("ab"):
        os.utime(folder / "call.wav")
        where = ("--since", "1d", "--input", folder, "--out", out)
        found = run_json(*where)
        (skipped,) = found["skipped_files"]
        assert (skipped["reason"], skipped["n_files"], skipped["kind"]) == ("settling", 1, "")
        said = run_command("run", *where, "--dry-run").stderr
        assert "\n  1 may still be written\n" in said
        ((words),) = printed(said)
        assert words[words.index("--settle") + 1] == "0"
        assert run_json(*words[1:], "--workers", 1)["n_done"] == 1
    assert run_json(*where)["n_skipped"] == 1


def test_an_empty_folder_passes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    put(tmp_path / "in" / "notes.json", b"{}")
    said = messages("run", "--input", tmp_path / "in", "--out", tmp_path / "out")
    assert "Passed over" not in said
    page = (tmp_path / "out" / "reports" / "index.html").read_text(encoding="utf-8")
    assert "No recording of this window is known.<" in page
    health = (tmp_path / "out" / "reports" / "health.html").read_text(encoding="utf-8")
    assert "The newest run passed over nothing." in health
