"""The schedule as a process: signals, changed settings, status, metrics and pings."""

from __future__ import annotations

import http.server
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from callanalytics.config import load_config
from callanalytics.errors import ConfigError
from callanalytics.workspace import Workspace
from jobs.maintenance.status import read_status, render_status
from jobs.scheduler.monitoring import metrics_text, ping, read_schedule, write_textfile
from jobs.scheduler.service import ChildProcesses
from jobs.scheduler.state import JobEnd, JobRecord, SchedulerState

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.05)


def write_config(folder: Path, run: str, extra: str = "") -> Path:
    (folder / "calls").mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_text(
        f'[paths]\ninputs = ["calls"]\nout = "out"\n[schedule]\nhealth = ""\nrun = "{run}"\n{extra}'
    )
    return path


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A schedule at work, with a night due every minute and a textfile."""
    config = write_config(tmp_path, "* * * * *", 'textfile = "night.prom"\n')
    output = (tmp_path / "output.txt").open("w")
    command = [sys.executable, "-m", "callanalytics", "schedule", "--config", str(config)]
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()
    output.close()


def test_it_starts_reloads_is_monitored_and_stops(started: subprocess.Popen[str], tmp_path: Path) -> None:
    output, out = tmp_path / "output.txt", tmp_path / "out"
    until(lambda: "next" in output.read_text())
    status = read_status(Workspace(out))["schedule"]
    assert status["healthy"], status
    assert f"process {started.pid}" in status["alive"]
    assert "callanalytics_alive_timestamp_seconds" in (tmp_path / "night.prom").read_text()
    second = subprocess.run(started.args, capture_output=True, text=True, check=False)  # type: ignore[arg-type]
    assert second.returncode == 5, "one schedule per output folder"
    write_config(tmp_path, "nonsense")
    started.send_signal(signal.SIGHUP)
    until(lambda: "the old ones stay in force" in output.read_text())
    write_config(tmp_path, "30 4 * * *")
    until(lambda: "04:30" in output.read_text())
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=60) == 0
    assert not read_status(Workspace(out))["schedule"]["healthy"], "it is not running any more"


@pytest.mark.slow
def test_a_due_night_runs_as_a_child_process(started: subprocess.Popen[str], tmp_path: Path) -> None:
    def n_good() -> int:
        found = read_schedule(Workspace(tmp_path / "out"))
        return found["jobs"]["run"]["n_good"] if found else 0

    until(lambda: n_good() >= 1, 120)
    assert (tmp_path / "out" / "callanalytics.duckdb").exists()
    assert 'job_last_exit_code{job="run"} 0' in (tmp_path / "night.prom").read_text()


def test_a_child_process_is_asked_to_end_and_its_output_is_kept(tmp_path: Path) -> None:
    children = ChildProcesses(tmp_path / "logs")
    assert (
        children("report", [sys.executable, "-c", "print('a'); print('oh no'); raise SystemExit(1)"])[0] == 1
    )
    assert (tmp_path / "logs" / "report.log").read_text() == "a\noh no\n"
    answer: list[tuple[int, str]] = []
    waiter = threading.Thread(
        target=lambda: answer.append(
            children("run", [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"])
        )
    )
    waiter.start()
    until(
        lambda: (tmp_path / "logs" / "run.log").exists() and "up" in (tmp_path / "logs/run.log").read_text()
    )
    children.stop()
    waiter.join(10)
    assert answer[0][0] == -signal.SIGTERM
    assert answer[0][1].startswith("up")
    assert children("run", ["/bin/true"])[0] == 143, "nothing starts any more"


def test_status_tells_what_failed_and_what_comes(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    state = SchedulerState(workspace.schedule_state)
    due = NOW - timedelta(hours=10)
    state.begin("run", "0 2 * * * UTC", due)
    state.update("run", next_at=NOW + timedelta(hours=14), n_failed=1)
    state.add(JobEnd("run", due, due, due, "failed", 1, "disk full"))
    schedule = read_schedule(workspace, NOW)
    assert schedule is not None
    assert "run of 2026-03-03 02:00 UTC failed: disk full" in schedule["problems"]
    assert schedule["jobs"]["run"]["next_at"] == "2026-03-04T02:00:00+00:00"
    assert {"job", "due_at", "started_at", "ended_at", "state", "exit_code", "words"} == set(
        schedule["ends"][0]
    )
    text = render_status(read_status(workspace), ZoneInfo("Europe/Berlin"))
    assert "Schedule: NOT HEALTHY; not running" in text
    assert "next 2026-03-04 03:00 CET, never good yet" in text
    assert "  2026-03-03 03:00 CET  run      failed      disk full" in text
    state.update("run", settled_at=NOW, next_at=NOW - timedelta(hours=1), good_at=NOW)
    problems = read_schedule(workspace, NOW)["problems"]  # type: ignore[index]
    assert problems[1:] == ["run was due 2026-03-03 11:00 UTC and has not started"], "good since then"
    assert read_schedule(Workspace(tmp_path / "elsewhere")) is None


def test_metrics_are_whole_and_readable_by_others(tmp_path: Path) -> None:
    jobs = {"run": JobRecord("0 2 * * * UTC", NOW, next_at=NOW, good_at=NOW, exit_code=3, n_missed=2)}
    assert write_textfile(tmp_path / "a.prom", jobs, NOW) is None
    text = (tmp_path / "a.prom").read_text()
    assert text == metrics_text(jobs, NOW)
    at = f"{NOW.timestamp():.0f}"
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        f"callanalytics_alive_timestamp_seconds {at}",
        f'callanalytics_job_last_good_timestamp_seconds{{job="run"}} {at}',
        f'callanalytics_job_next_timestamp_seconds{{job="run"}} {at}',
        'callanalytics_job_running{job="run"} 0',
        'callanalytics_job_last_exit_code{job="run"} 3',
        'callanalytics_job_good_total{job="run"} 0',
        'callanalytics_job_failed_total{job="run"} 0',
        'callanalytics_job_missed_total{job="run"} 2',
    ]
    assert (tmp_path / "a.prom").stat().st_mode & 0o777 == 0o644
    assert "cannot be written" in str(write_textfile(tmp_path / "no" / "a.prom", jobs, NOW))


def test_ping_gets_the_address_and_gives_up_in_time() -> None:
    asked: list[str] = []
    given_up = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path == "/slow" and not given_up.wait(30):
                asked.append("waited to the end")
            self.send_response(500 if self.path == "/bad" else 200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    assert ping(f"{address}/secret", 5) is None
    assert "500" in str(ping(f"{address}/bad", 5))
    problem = str(ping(f"{address}/slow", 0.3))
    given_up.set()
    assert "timed out" in problem
    assert "slow" not in problem, "the address may be a secret"
    assert asked == ["/secret", "/bad", "/slow"]
    server.shutdown()


@pytest.mark.parametrize(
    "words", ["0 2 * *", "61 * * * *", "0 2 1 * 1", "0 2 * * fri-mon", "* * * * 9", "0 0 */0 * *"]
)
def test_a_wrong_cron_expression_names_the_key(tmp_path: Path, words: str) -> None:
    with pytest.raises(ConfigError, match=r"\[schedule\]: run = "):
        load_config(write_config(tmp_path, words))


def test_addresses_other_than_http_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="https://"):
        load_config(write_config(tmp_path, "0 2 * * *", 'ping_url = "file:///etc/passwd"\n'))
