"""The clock through the real command: both changes of daylight saving, a file from the future, a new zone."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import run_json
from short_calls import rows, settle, short_call

from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.store import RunCounts, open_work
from callanalytics.workspace import Workspace
from jobs.night import RunOptions
from jobs.night.plan import search

pytestmark = pytest.mark.usefixtures("analysed_here")

# Berlin: 2025-03-30 has 23 hours (02:00 becomes 03:00), 2025-10-26 has 25 (03:00 becomes 02:00).
SPRING = ("20250329-233000", "20250330-003000", "20250330-015959", "20250330-023000", "20250330-235900")
AFTER_SPRING = ("20250331-000000",)
AUTUMN = ("20251026-000000", "20251026-023000", "20251026-235900")
AFTER_AUTUMN = ("20251027-000500",)
SECOND_PASS_AT = datetime(2025, 10, 26, 1, 30, tzinfo=UTC)  # 02:30 for the second time


def config(folder: Path, zone: str) -> Path:
    path = folder / f"{zone.replace('/', '-')}.toml"
    path.write_text(f'[time]\nzone = "{zone}"\n', encoding="utf-8")
    return path


def test_every_call_falls_into_one_night_whatever_the_clock_does(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    stamps = (*SPRING, *AFTER_SPRING, *AUTUMN, *AFTER_AUTUMN)
    for number, stamp in enumerate(stamps):
        short_call(folder / f"{stamp}_{number:03d}.wav", number, seconds=2.5)
    second_pass = f"q-100-200-20251026-023000-{int(SECOND_PASS_AT.timestamp())}.7.wav"
    short_call(folder / second_pass, 50, seconds=2.5)
    short_call(folder / "future.wav", 60, seconds=2.5)
    settle(folder)
    ahead = time.time() + 3 * 86_400
    os.utime(folder / "future.wav", (ahead, ahead))
    berlin, out = config(tmp_path, "Europe/Berlin"), tmp_path / "out"

    def night(since: str, until: str, settings: Path = berlin) -> dict[str, Any]:
        words = ("--since", since, "--until", until, "--input", folder, "--out", out, "--config", settings)
        return run_json(*words, "--workers", 1)

    assert night("2025-03-30", "2025-03-31")["n_done"] == 4, "a day of 23 hours"
    assert night("2025-10-26", "2025-10-27")["n_done"] == 4, "a day of 25 hours"
    database = out / "callanalytics.duckdb"
    local = "SELECT started_local::VARCHAR, epoch(started_at)::BIGINT FROM call_summary ORDER BY started_at"
    passes = [at for told, at in rows(database, local) if told == "2025-10-26 02:30:00"]
    assert len(passes) == 2
    assert passes[1] - passes[0] == 3600, "both passes of the repeated hour are told apart"
    assert ("2025-03-30 03:30:00",) in {(told,) for told, _ in rows(database, local)}, "a time that never was"
    # All the rest, in another zone: nothing is done twice.
    rest = night("2025-01-01", "now", config(tmp_path, "America/New_York"))
    # Also the file from the future: a clock was wrong, and it is dated by when it arrived.
    assert rest["n_skipped"] + rest["n_done"] == len(stamps) + 2
    assert rest["n_skipped"] == 8
    assert rows(database, "SELECT count(*), count(DISTINCT call_id) FROM call_summary") == [(12, 12)]
    zones = rows(database, "SELECT zone, count(*) FROM calls GROUP BY ALL ORDER BY ALL")
    assert zones == [("America/New_York", 4), ("Europe/Berlin", 8)], "each keeps the zone it was read in"
    assert rows(database, "SELECT count(*) FROM call_summary WHERE path LIKE '%future%'") == [(1,)]


def test_a_file_that_came_late_is_found_also_when_the_clock_was_ahead_in_the_night_before(
    tmp_path: Path, empty_out: Path
) -> None:
    """Nothing "came after" a run that began next year by its own clock."""
    out, folder = shutil.copytree(empty_out, tmp_path / "out"), tmp_path / "calls"
    folder.mkdir()
    short_call(folder / "20250326-101112_late.wav", 1)
    settle(folder)
    now = datetime(2025, 3, 29, 2, 0, tzinfo=UTC)
    with open_work(Workspace(out)) as store:
        run_id = store.begin_run(Window(now - timedelta(days=4), now - timedelta(days=2)), "e", "0.1.0")
        store.end_run(run_id, RunCounts(), exit_code=0)
        store.connection.execute("UPDATE base.runs SET started_at = now() + INTERVAL 1 YEAR")
        todo = search(
            store, Settings(), RunOptions(), [folder], Window(now - timedelta(days=1), now),
            ensemble_id="e", salt=b"", now=datetime.now(UTC), on_progress=lambda done, total: None,
        )  # fmt: skip
    assert [each.recording.path.name for each in todo.recordings] == ["20250326-101112_late.wav"]
