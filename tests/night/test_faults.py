"""What must survive: kill -9, signals, a second run, open databases. Real processes, real files."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import run_command
from killer import processes_with
from saboteur import sabotage, with_path
from short_calls import (
    call,
    command,
    environment,
    night_args,
    results,
    rows,
    settle,
    short_call,
    short_calls,
)

pytestmark = pytest.mark.usefixtures("analysed_here")

N_BROKEN = 2
ALONE = ("--workers", 1)
"""For nights that nobody disturbs: one process that loads the models is enough."""


@dataclass(frozen=True)
class Nights:
    """A first night that is published, and what a second one makes of it when nobody disturbs it."""

    first: Path  # recordings of the first night
    both: Path  # those and the ones that came since
    before: Path  # output folder after the first night
    expected: dict[str, list[str]]
    wall_s: float


def build_nights(folder: Path, n: int) -> Nights:
    both = short_calls(folder / "both", n, n_broken=N_BROKEN)
    first = folder / "first"
    first.mkdir()
    for name in ("call-002.wav", "call-003.wav"):
        shutil.copy2(both / name, first / name)
    before, undisturbed = folder / "before", folder / "undisturbed"
    run_command(*night_args(first, before, *ALONE))
    shutil.copytree(before, undisturbed)
    started = time.monotonic()
    call(*night_args(both, undisturbed), expect=3)
    wall_s = time.monotonic() - started
    expected = results(undisturbed / "callanalytics.duckdb")
    assert len(expected["calls"]) == n - N_BROKEN
    return Nights(first, both, before, expected, wall_s)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    return build_nights(tmp_path_factory.mktemp("nights"), 8)


def disturbed(nights: Nights, out: Path, number: int, after_s: float) -> int:
    """Begin the second night and send a signal after a while. Returns the exit code."""
    shutil.copytree(nights.before, out)
    tag = uuid.uuid4().hex
    running = subprocess.Popen(
        command(*night_args(nights.both, out)),
        env=environment(CALLANALYTICS_TEST_TAG=tag),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(after_s)
        running.send_signal(number)
        code = running.wait(timeout=600)  # shared machines stall for minutes
    finally:
        running.kill()
        running.wait()
    deadline = time.monotonic() + 30
    while (left := processes_with(tag)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, f"still running after their driver was gone: {left}"
    return code


def check_readable(out: Path) -> None:
    """What people see is whole: the published file answers, every page that the index links to is there."""
    (n,) = rows(out / "callanalytics.duckdb", "SELECT count(*) FROM call_summary")[0]
    assert n >= 2
    index = (out / "reports" / "index.html").read_text(encoding="utf-8")
    assert index.rstrip().endswith("</html>")
    for page in set(re.findall(r'href="([\w/.-]+\.html)', index)):
        assert (out / "reports" / page).is_file(), page


def check_completed(nights: Nights, out: Path) -> None:
    """One more run gives, row for row, what an undisturbed one gives."""
    work = out / ".work" / "callanalytics-work.duckdb"
    rows_of_runs = "SELECT count(*) FROM base.runs WHERE exit_code = 3"
    n_ended = rows(work, rows_of_runs)[0][0] if work.exists() else 0
    run_command(*night_args(nights.both, out, *ALONE), expect=3)
    found = results(out / "callanalytics.duckdb")
    if n_ended:  # it was done before the signal came: this was one night more, and one attempt more
        found["quarantine"] = [re.sub(r"', 2, '", "', 1, '", row, count=1) for row in found["quarantine"]]
    assert found.keys() == nights.expected.keys()
    for table, expected in nights.expected.items():
        assert found[table] == expected, table
    check_readable(out)
    index = (out / "reports" / "index.html").stat().st_mtime_ns
    assert index >= (out / "callanalytics.duckdb").stat().st_mtime_ns, "the report is of the last database"
    left = [p.name for p in (out / ".work").iterdir()]
    assert not [name for name in left if name.startswith(("publishing", "unpublished"))], left


def check_moments(nights: Nights, folder: Path, numbers: list[int], n_moments: int, seed: int) -> None:
    moments = random.Random(seed)
    for turn in range(n_moments):
        number = numbers[turn % len(numbers)]
        # Stratified, so that few moments too fall into every stage: search, analysis, publishing, pages.
        after_s = (turn + moments.random()) / n_moments * nights.wall_s
        out = folder / f"out-{turn}"
        code = disturbed(nights, out, number, after_s)
        # Before Python can set a handler the signal itself ends it; once all is done nothing does.
        assert code in {128 + number, -number, 3}, f"exit {code} at {after_s:.2f} s"
        check_readable(out)
        check_completed(nights, out)
        shutil.rmtree(out)


def test_a_killed_run_is_completed_by_the_next(nights: Nights, tmp_path: Path) -> None:
    check_moments(nights, tmp_path, [signal.SIGKILL], 2, seed=1)


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_work_and_the_next_completes(nights: Nights, tmp_path: Path) -> None:
    check_moments(nights, tmp_path, [signal.SIGTERM, signal.SIGINT], 2, seed=2)


@pytest.mark.slow
def test_a_run_of_40_calls_killed_at_50_moments(tmp_path: Path) -> None:
    check_moments(build_nights(tmp_path, 40), tmp_path, [signal.SIGKILL], 50, seed=3)


@pytest.mark.slow
def test_a_run_interrupted_at_20_moments(nights: Nights, tmp_path: Path) -> None:
    check_moments(nights, tmp_path, [signal.SIGTERM, signal.SIGINT], 20, seed=4)


# Two at once ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_a_second_run_is_turned_away_and_told_who_works(nights: Nights, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = subprocess.Popen(
        command(*night_args(nights.first, out)), env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        lock = out / ".work" / "run.lock"
        deadline = time.monotonic() + 120
        while not (lock.exists() and lock.read_text(encoding="utf-8")) and time.monotonic() < deadline:
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)  # it must still be at work when the second one looks
        second = run_command(*night_args(nights.first, out), expect=5)
        assert f"process {first.pid} on {socket.gethostname()}" in second.stderr
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=120) == 0
    finally:
        first.kill()
        first.wait()


def test_stale_locks_and_open_sessions_do_not_matter(nights: Nights, tmp_path: Path) -> None:
    """A lock file whose process died, though another process has its number now, and an analyst who has
    the published file open for writing, with a transaction not ended: the run ends as usual."""
    out = tmp_path / "out"
    shutil.copytree(nights.before, out)
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started_at": "2026-01-01T00:00:00+00:00"}
    (out / ".work" / "run.lock").write_text(json.dumps(holder), encoding="utf-8")
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); c.execute('CREATE TABLE mine (n INTEGER)');"
        "c.execute('BEGIN'); c.execute('INSERT INTO mine VALUES (1)'); print('open', flush=True);"
        "sys.stdin.readline(); print(c.execute('SELECT count(*) FROM call_summary').fetchone()[0])"
    )
    analyst = subprocess.Popen(
        [sys.executable, "-c", code, str(out / "callanalytics.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert analyst.stdout is not None
        assert analyst.stdout.readline() == "open\n"
        run_command(*night_args(nights.both, out, *ALONE), expect=3)
        assert results(out / "callanalytics.duckdb")["calls"] == nights.expected["calls"]
        said, _ = analyst.communicate("now\n", timeout=60)
        assert said == "2\n", "who has the old file open keeps reading it"
    finally:
        analyst.kill()
        analyst.wait()
    run_command("query", "SELECT 1", "--out", out)
    check_readable(out)


# A full disk --------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB, or a skip."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs (root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def leave_free(disk: Path, n_bytes: int) -> None:
    """Fill the disk up to so many bytes."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    facts = os.statvfs(disk)
    size = facts.f_bavail * facts.f_frsize - n_bytes
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(size, 1))


def test_a_full_disk_at_every_stage(nights: Nights, small_disk: Path) -> None:
    """Full while writing, while publishing and while rendering: the run says so, people see what they saw."""
    out = small_disk / "out"
    shutil.copytree(nights.before, out)
    published = out / "callanalytics.duckdb"
    size = published.stat().st_size
    pages = sum(p.stat().st_size for p in (out / "reports").rglob("*") if p.is_file())
    said = {}
    before = results(published)
    for stage, free in (("write", 8_000), ("publish", size * 3 // 4), ("render", pages // 3)):
        if stage == "render":  # published is everything then; only the pages are written anew
            leave_free(small_disk, 40_000_000)
            run_command(*night_args(nights.both, out, *ALONE), expect=None)
            (out / ".work" / "reported.json").unlink()
        if stage == "publish":  # without the one before, which needs room for what is new only, all is copied
            (out / ".work" / "previous.duckdb").unlink()
        leave_free(small_disk, free)
        failed = run_command(*night_args(nights.both, out, *ALONE), expect=None)
        said[stage] = failed.stderr.strip().splitlines()[-1]
        assert failed.exit_code == 1, (stage, said[stage])
        if stage != "render":
            assert results(published) == before
        check_readable(out)
    assert "nothing of it was kept" in said["write"] or "cannot be" in said["write"]
    assert "could not be published, the last published copy is unchanged" in said["publish"]
    assert "report could not be written" in said["render"]
    for words in said.values():
        assert words.startswith("callanalytics: ")
        assert re.search(r"free|disk|space", words, re.IGNORECASE), words
    (small_disk / "ballast").unlink()
    run_command(*night_args(nights.both, out, *ALONE), expect=None)
    found = results(published)
    assert found["calls"] == nights.expected["calls"]
    assert found["segments"] == nights.expected["segments"]
    check_readable(out)


# Workers that die ----------------------------------------------------------------------------------------

LIMITS = """
[audio]
max_duration_s = 20.0
max_bytes = 700000
decode_timeout_s = 3.0
[engine]
workers = 2
"""


def test_what_kills_its_worker_is_quarantined_with_the_reason_and_the_others_finish(tmp_path: Path) -> None:
    """Real crashes in real workers, and each limit of the settings, in one night."""
    folder = short_calls(tmp_path / "in", 4)
    for number, word in enumerate(("segfault", "killed", "memory", "slow")):
        short_call(folder / f"{word}.wav", 100 + number)
    short_call(folder / "long.wav", 200, seconds=21.0)
    short_call(folder / "large.wav", 201, seconds=22.0)
    settle(folder)
    (tmp_path / "config.toml").write_text(LIMITS, encoding="utf-8")
    out = tmp_path / "out"
    arguments = night_args(folder, out, "--config", tmp_path / "config.toml")
    call(*arguments, expect=3, env=sabotage(tmp_path / "saboteur"))
    database = out / "callanalytics.duckdb"
    assert rows(database, "SELECT count(*) FROM call_summary") == [(4,)]
    told = {
        Path(path).stem: (reason, attempts, detail)
        for path, reason, attempts, detail in rows(
            database, "SELECT path, reason, attempts, detail FROM quarantine"
        )
    }
    assert {name: (reason, attempts) for name, (reason, attempts, _) in told.items()} == {
        "segfault": ("worker_died", 1),
        "killed": ("worker_died", 1),
        "memory": ("out_of_memory", 1),
        "slow": ("too_long", 1),
        "long": ("too_long", 1),
        "large": ("too_long", 1),
    }
    assert "SIGSEGV" in told["segfault"][2]
    assert "SIGKILL" in told["killed"][2]
    assert "memory ran out" in told["memory"][2]
    for name, setting in (
        ("slow", "decode_timeout_s"),
        ("long", "max_duration_s"),
        ("large", "max_bytes"),
    ):
        assert setting in told[name][2]


@pytest.mark.slow
def test_an_endless_decode_is_ended(tmp_path: Path) -> None:
    folder = short_calls(tmp_path / "in", 3)
    short_call(folder / "endless.wav", 100)
    settle(folder)
    (tmp_path / "config.toml").write_text(
        "[engine]\nworkers = 2\nrecording_timeout_s = 15.0\n", encoding="utf-8"
    )
    out = tmp_path / "out"
    arguments = night_args(folder, out, "--config", tmp_path / "config.toml")
    call(*arguments, expect=3, env=sabotage(tmp_path / "saboteur"))
    assert rows(out / "callanalytics.duckdb", "SELECT count(*) FROM call_summary") == [(3,)]
    ((reason, detail),) = rows(out / "callanalytics.duckdb", "SELECT reason, detail FROM quarantine")
    assert reason == "worker_died"
    assert "not done after 15 s" in detail


def test_workers_that_cannot_start_quarantine_nothing(nights: Nights, tmp_path: Path) -> None:
    folder = tmp_path / "saboteur"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys\nif '--multiprocessing-fork' in sys.argv: os.abort()\n", encoding="utf-8"
    )
    out = tmp_path / "out"
    failed = call(*night_args(nights.first, out), expect=1, env=with_path(folder))
    assert "worker processes cannot start" in failed.stderr
    assert "SIGABRT" in failed.stderr
    run_command(*night_args(nights.first, out, *ALONE))
