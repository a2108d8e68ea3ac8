"""The schedule as a process: signals, changed settings, status, metrics, pings, units."""

from __future__ import annotations

import http.server
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from callanalytics.config import load_config
from callanalytics.config.cron import parse_cron
from callanalytics.errors import ConfigError
from callanalytics.workspace import Workspace
from jobs.maintenance.status import read_status, render_status
from jobs.scheduler.child_processes import Children
from jobs.scheduler.health_check import read_schedule
from jobs.scheduler.monitoring import metrics_text, ping, write_textfile
from jobs.scheduler.state import JobEnd, JobNote, Logbook
from jobs.scheduler.units import cron_lines, systemd_units

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
    told = (tmp_path / "told.txt").open("w")
    command = [sys.executable, "-m", "callanalytics", "schedule", "--config", str(config)]
    process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT, text=True)
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()
    told.close()


def test_it_starts_reloads_is_watched_and_stops(started: subprocess.Popen[str], tmp_path: Path) -> None:
    told, out = tmp_path / "told.txt", tmp_path / "out"
    until(lambda: "next" in told.read_text())
    status = read_status(Workspace(out))["schedule"]
    assert status["healthy"], status
    assert f"process {started.pid}" in status["alive"]
    assert "callanalytics_alive_timestamp_seconds" in (tmp_path / "night.prom").read_text()
    second = subprocess.run(started.args, capture_output=True, text=True, check=False)  # type: ignore[arg-type]
    assert second.returncode == 5, "one schedule per output folder"
    write_config(tmp_path, "nonsense")
    started.send_signal(signal.SIGHUP)
    until(lambda: "the old ones stay in force" in told.read_text())
    write_config(tmp_path, "30 4 * * *")
    until(lambda: "04:30" in told.read_text())
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


def test_a_child_is_asked_to_end_and_what_it_said_is_kept(tmp_path: Path) -> None:
    children = Children(tmp_path / "logs")
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
    book = Logbook(Workspace(tmp_path).schedule_state)
    book.begin("run", "0 2 * * * UTC", NOW - timedelta(days=2))
    due = NOW - timedelta(hours=10)
    book.note("run", lambda n: JobNote(n.when, due, next_at=NOW + timedelta(hours=14), n_failed=1))
    book.end(JobEnd("run", due, due, due, "failed", 1, "disk full"))
    told = read_schedule(Workspace(tmp_path), NOW)
    assert told is not None
    assert [p for p in told["problems"] if "disk full" in p]
    text = render_status(read_status(Workspace(tmp_path)))
    assert "NOT WELL" in text
    assert "next 2026-03-04T02:00" in text
    book.note("run", lambda n: JobNote(n.when, NOW, next_at=NOW - timedelta(hours=1), good_at=NOW))
    problems = read_schedule(Workspace(tmp_path), NOW)["problems"]  # type: ignore[index]
    assert not [p for p in problems if "disk full" in p], "a later good night outdates it"
    assert [p for p in problems if "has not started" in p]
    assert read_schedule(Workspace(tmp_path / "elsewhere")) is None


def test_metrics_are_whole_and_readable_by_others(tmp_path: Path) -> None:
    jobs = {"run": JobNote("0 2 * * * UTC", NOW, next_at=NOW, good_at=NOW, exit_code=3, n_missed=2)}
    text = metrics_text(jobs, NOW)
    assert f'callanalytics_job_last_good_timestamp_seconds{{job="run"}} {NOW.timestamp():.0f}' in text
    assert 'callanalytics_job_missed_total{job="run"} 2' in text
    assert write_textfile(tmp_path / "a.prom", jobs, NOW) is None
    assert (tmp_path / "a.prom").read_text() == text
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
def test_wrong_cron_words_name_the_key(tmp_path: Path, words: str) -> None:
    with pytest.raises(ConfigError, match=r"\[schedule\]: run = "):
        load_config(write_config(tmp_path, words))


def test_addresses_other_than_http_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="https://"):
        load_config(write_config(tmp_path, "0 2 * * *", 'ping_url = "file:///etc/passwd"\n'))


def test_units_are_accepted_by_systemd(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with 100%"
    folder.mkdir()
    config = write_config(folder, "30 2 * * 1-5", 'report = "0 6 1 * *"\nzone = "Europe/Berlin"\n')
    text = systemd_units(load_config(config), config, Workspace(folder / "out"))
    assert "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 02:30:00 Europe/Berlin" in text
    assert f'"{folder}/out"'.replace("%", "%%") in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units, name = tmp_path / "units", ""
    units.mkdir()
    for line in text.splitlines(keepends=True):
        name = Path(line.split()[1]).name if line.startswith("# /etc") else name
        with (units / name).open("a") as file:
            file.write(line)
    names = sorted(str(p) for p in units.iterdir())
    assert len(names) == 4
    done = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False)
    assert not [
        x for x in (done.stdout + done.stderr).splitlines() if str(units) in x or "callanalytics" in x
    ]


def test_crontab_lines_escape_what_cron_would_read(tmp_path: Path) -> None:
    folder = tmp_path / "50% off; rm -rf"
    folder.mkdir()
    config = write_config(folder, "0 2 * * *")
    zone, line = cron_lines(load_config(config), config, Workspace(folder / "out")).splitlines()
    assert zone == "CRON_TZ=UTC"
    assert line.startswith("0 2 * * * ")
    assert r"50\% off; rm -rf/out'" in line


def test_cron_words_are_spelt_out() -> None:
    assert parse_cron("*/15 9-17/4 * jan,mar *").hours == (9, 13, 17)
    assert parse_cron("0 0 * * sun").weekdays == parse_cron("0 0 * * 7").weekdays == (0,)
    assert parse_cron("0 0 * * 5-7").weekdays == (0, 5, 6)
    assert parse_cron("0 */6 * * *").on_calendar("UTC") == "*-*-* 00,06,12,18:00:00 UTC"


def test_print_says_units(tmp_path: Path) -> None:
    config = write_config(tmp_path, "0 2 * * *")
    command = [
        sys.executable,
        "-m",
        "callanalytics",
        "schedule",
        "--print",
        "systemd",
        "--config",
        str(config),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "callanalytics-run.timer" in done.stdout
    assert json.dumps(str(tmp_path / "out")).strip('"') in done.stdout
