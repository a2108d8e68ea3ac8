"""Status: drift is said when there is some, and older files without the view are no trouble."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from fixture_calls import fill, plausible_calls

from callanalytics.errors import LockHeld
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace, file_lock, lock_holder
from jobs.maintenance.status import read_status, render_status

ROW = {"measure": "label_mix", "value": 0.4, "usual": 0.05, "n_crossed": 4, "n_days": 7, "retrain": True}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("status") / "out"
    with open_work(Workspace(folder)) as store:
        fill(store, plausible_calls())
        publish(store)
    return folder


def test_steady_calls_say_nothing_of_drift(out: Path) -> None:
    status = read_status(Workspace(out))
    assert {row["measure"] for row in status["drift"]} >= {"label_mix", "codec_mix", "confidence"}
    assert "Drift" not in render_status({**status, "drift": [{**ROW, "n_crossed": 0, "retrain": False}]})


def test_drift_is_said_and_suggests_retraining_only_when_it_lasts(out: Path) -> None:
    status = read_status(Workspace(out))
    text = render_status({**status, "drift": [ROW]})
    assert "label_mix: 0.4, usual 0.05; beyond its threshold on 4 of 7 days  MOVED" in text
    assert "callanalytics retrain" in text
    once = render_status({**status, "drift": [{**ROW, "n_crossed": 1, "retrain": False}]})
    assert "Drift" in once
    assert "callanalytics retrain" not in once


def test_a_file_of_an_earlier_version_has_no_drift_yet(out: Path, tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "callanalytics.duckdb").write_bytes((out / "callanalytics.duckdb").read_bytes())
    with duckdb.connect(str(tmp_path / "callanalytics.duckdb")) as connection:
        connection.execute("DROP VIEW drift_now")
    assert read_status(Workspace(tmp_path))["drift"] == []
    render_status(read_status(Workspace(tmp_path)))


def test_a_first_run_that_was_killed_before_its_tables_leaves_nothing_to_tell(tmp_path: Path) -> None:
    database = Workspace(tmp_path / "out").work_database
    database.parent.mkdir(parents=True)
    duckdb.connect(database).close()
    status = read_status(Workspace(tmp_path / "out"))
    assert status["database"] is None
    assert status["totals"] == {}
    assert render_status(status)
    with open_work(Workspace(tmp_path / "out")):
        pass
    assert read_status(Workspace(tmp_path / "out"))["totals"]["n_calls"] == 0


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "callanalytics", *map(str, words)]


def test_looking_all_the_time_disturbs_no_run(tmp_path: Path) -> None:
    """Two who look in a loop, as monitors do, beside runs of an empty folder."""
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    look = (
        "import sys; from pathlib import Path; from jobs.maintenance.status import read_status\n"
        "from callanalytics.workspace import Workspace\n"
        "print('looking', flush=True)\n"
        "while True: read_status(Workspace(Path(sys.argv[1])))"
    )
    run = command("run", "--since", "yesterday", "--input", tmp_path / "in", "--out", out, "--quiet")
    assert subprocess.run(run, check=False).returncode == 0
    watchers = [
        subprocess.Popen([sys.executable, "-c", look, str(out)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for watcher in watchers:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "looking\n"
        done = [subprocess.run(run, capture_output=True, text=True, check=False) for _ in range(4)]
        assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 4
        assert all(watcher.poll() is None for watcher in watchers), "looking never fails either"
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()
    status = read_status(Workspace(out))
    assert [run["exit_code"] for run in status["runs"]] == [0] * 5
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


def test_a_run_that_was_killed_is_shown_as_not_ended(tmp_path: Path) -> None:
    with open_work(Workspace(tmp_path / "out")) as store:
        fill(store, plausible_calls())
        publish(store)
    code = (
        "import os, sys; from pathlib import Path; from datetime import UTC, datetime, timedelta\n"
        "from callanalytics.store import open_work; from callanalytics.config.window import Window\n"
        "from callanalytics.workspace import Workspace\n"
        "store = open_work(Workspace(Path(sys.argv[1]))); now = datetime.now(UTC)\n"
        "store.begin_run(Window(now - timedelta(days=1), now), store.promoted_ensemble(), '0')\n"
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert killed.returncode == -9
    status = read_status(Workspace(tmp_path / "out"))
    assert status["runs"][0]["exit_code"] is None
    assert "not ended" in render_status(status)


def test_a_published_file_that_cannot_be_read_is_said_and_the_rest_told(tmp_path: Path) -> None:
    with open_work(Workspace(tmp_path / "out")) as store:
        fill(store, plausible_calls())
        publish(store).write_bytes(b"damaged" * 1000)
    status = read_status(Workspace(tmp_path / "out"))
    assert "NOT READABLE" in render_status(status)
    assert status["totals"]["n_calls"] == len(plausible_calls())
