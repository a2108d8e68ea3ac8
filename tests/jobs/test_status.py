"""Status: what is at work and what was killed, times with a zone, drift, and files that cannot be read."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest
from command_line import callanalytics, run_command
from fixture_calls import ENSEMBLE_ID, ZONE

from callanalytics.config.window import Window
from callanalytics.errors import LockHeld
from callanalytics.store import open_locked, open_work
from callanalytics.workspace import Workspace, file_lock, lock_holder
from jobs.maintenance.status import read_status, render_status

ROW = {"measure": "label_mix", "value": 0.4, "usual": 0.05, "n_crossed": 4, "n_days": 7, "retrain": True}


@pytest.fixture
def out(plausible_out: Path, tmp_path: Path) -> Path:
    """Results of one finished run, and a config file beside them."""
    (tmp_path / "config.toml").write_text(f'[paths]\nout = "out"\n[time]\nzone = "{ZONE}"\n')
    return shutil.copytree(plausible_out, tmp_path / "out")


def last_runs(out: Path) -> list[str]:
    lines = shown(out)
    return lines[lines.index("Last runs:") + 1 :][:3]


def shown(out: Path) -> list[str]:
    """The lines of `status`."""
    return callanalytics("status", "--config", out.parent / "config.toml").splitlines()


def test_a_run_at_work_and_one_that_was_killed_are_told_apart(out: Path) -> None:
    now = datetime.now(UTC)
    window = Window(now - timedelta(days=1), now)
    with open_locked(Workspace(out)) as store:
        store.begin_run(window, ENSEMBLE_ID, "0")
        store.connection.execute("UPDATE base.runs SET started_at = started_at - INTERVAL 1 HOUR")
        store.begin_run(window, ENSEMBLE_ID, "0")
        at_work, killed, finished = last_runs(out)
    assert at_work.endswith("  at work")
    assert killed.endswith("  killed (no end noted)")
    assert finished.endswith("  exit 3  found 98, done 96, done before 0, quarantined 2")
    assert last_runs(out)[0].endswith("  killed (no end noted)"), "nobody holds the lock any more"
    assert [run["exit_code"] for run in read_status(Workspace(out))["runs"]] == [None, None, 3]
    for line, began in ((at_work, now), (killed, now - timedelta(hours=1))):
        clock = re.match(r"  (\d{4}-\d\d-\d\d \d\d:\d\d) CES?T  ", line)
        assert clock, line
        written = datetime.fromisoformat(clock[1]).replace(tzinfo=ZoneInfo(ZONE))
        assert abs(written - began) < timedelta(minutes=2)


def test_steady_calls_say_nothing_of_drift(out: Path) -> None:
    status = read_status(Workspace(out))
    assert {row["measure"] for row in status["drift"]} >= {"label_mix", "codec_mix", "confidence"}
    steady = {**status, "drift": [{**ROW, "n_crossed": 0, "retrain": False}]}
    assert "Drift" not in render_status(steady, UTC)


def test_drift_is_said_and_suggests_retraining_only_when_it_lasts(out: Path) -> None:
    status = read_status(Workspace(out))
    text = render_status({**status, "drift": [ROW]}, UTC)
    assert "label_mix: 0.4, usual 0.05; beyond its threshold on 4 of 7 days  MOVED" in text
    assert "callanalytics retrain" in text
    once = render_status({**status, "drift": [{**ROW, "n_crossed": 1, "retrain": False}]}, UTC)
    assert "Drift" in once
    assert "callanalytics retrain" not in once


def test_a_file_of_an_earlier_version_has_no_drift_yet(out: Path) -> None:
    with duckdb.connect(out / "callanalytics.duckdb") as connection:
        connection.execute("DROP VIEW drift_now")
    assert read_status(Workspace(out))["drift"] == []
    assert "Drift" not in "\n".join(shown(out))


def test_calls_of_an_earlier_recipe_are_counted_with_the_command_that_analyses_them_again(out: Path) -> None:
    assert "earlier version" not in "\n".join(shown(out))
    with duckdb.connect(out / "callanalytics.duckdb") as connection:
        days = connection.execute(
            "UPDATE base.analyses SET recipe = recipe - 1 WHERE call_id IN ("
            "SELECT call_id FROM call_summary ORDER BY started_at LIMIT 2);"
            "SELECT min(day)::VARCHAR FROM call_summary"
        ).fetchall()
    (line,) = [line for line in shown(out) if "earlier version" in line]
    assert "2 calls" in line
    assert f"callanalytics run --since {days[0][0]}" in line


def test_a_first_run_that_was_killed_before_its_tables_leaves_nothing_to_show(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out")
    workspace.make()
    duckdb.connect(workspace.work_database).close()
    status = read_status(workspace)
    assert (status["database"], status["totals"]) == (None, {})
    assert "No database yet" in render_status(status, UTC)
    with open_work(workspace):
        pass
    assert read_status(workspace)["totals"]["n_calls"] == 0


def test_looking_all_the_time_disturbs_no_run(tmp_path: Path) -> None:
    """Two processes that look in a loop, as monitors do, beside runs of an empty folder."""
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    look = (
        "import sys; from pathlib import Path; from jobs.maintenance.status import read_status\n"
        "from callanalytics.workspace import Workspace\n"
        "print('looking', flush=True)\n"
        "while True: read_status(Workspace(Path(sys.argv[1])))"
    )
    run = ("run", "--since", "yesterday", "--input", tmp_path / "in", "--out", out, "--quiet")
    run_command(*run)
    watchers = [
        subprocess.Popen([sys.executable, "-c", look, str(out)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for watcher in watchers:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "looking\n"
        assert [run_command(*run).stderr for _ in range(3)] == [""] * 3
        assert [watcher.poll() for watcher in watchers] == [None, None], "looking never fails either"
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()
    status = read_status(Workspace(out))
    assert [run["exit_code"] for run in status["runs"]] == [0] * 4
    assert status["running"] is None


def test_a_look_at_the_lock_keeps_nobody_out(tmp_path: Path) -> None:
    """The lock of a run that was killed still names it; who looks takes a shared lock for a moment."""
    path = tmp_path / "run.lock"
    path.write_text('{"pid": 1, "host": "h", "started_at": "then"}', encoding="utf-8")
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert lock_holder(path) is None
        with pytest.raises(LockHeld), file_lock(path, patience_s=0.05):
            pass
        timer = threading.Timer(0.3, fcntl.flock, (other, fcntl.LOCK_UN))
        timer.start()
        with file_lock(path):
            assert lock_holder(path)
        timer.join()
    assert lock_holder(path) is None


def test_a_published_file_that_cannot_be_read_is_said_and_the_rest_shown(out: Path) -> None:
    (out / "callanalytics.duckdb").write_bytes(b"damaged" * 1000)
    assert any(line.startswith("NOT READABLE: ") for line in shown(out))
    assert read_status(Workspace(out))["totals"]["n_calls"] == 96
