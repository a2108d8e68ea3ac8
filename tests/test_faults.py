"""What must survive: kill -9, signals, a second run, open databases. Real processes, real files."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from short_calls import call, command, environment, night_args, results, rows, short_calls

N_BROKEN = 2


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
    call(*night_args(first, before))
    shutil.copytree(before, undisturbed)
    started = time.monotonic()
    call(*night_args(both, undisturbed), expect=3)
    wall_s = time.monotonic() - started
    expected = results(undisturbed / "callanalytics.duckdb")
    assert len(expected["calls"]) == n - N_BROKEN
    return Nights(first, both, before, expected, wall_s)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    return build_nights(tmp_path_factory.mktemp("nights"), 10)


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
        code = running.wait(timeout=120)
    finally:
        running.kill()
        running.wait()
    deadline = time.monotonic() + 30
    while (left := processes_with(tag)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, f"still running after their driver was gone: {left}"
    return code


def processes_with(tag: str) -> list[int]:
    """Processes of ours, by a word in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if tag.encode() in (folder / "environ").read_bytes() and "\nState:\tZ" not in (
                folder / "status"
            ).read_text(encoding="utf-8"):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return found


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
    call(*night_args(nights.both, out), expect=3)
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
    check_moments(nights, tmp_path, [signal.SIGKILL], 3, seed=1)


def test_an_interrupted_run_keeps_its_work_and_the_next_completes(nights: Nights, tmp_path: Path) -> None:
    check_moments(nights, tmp_path, [signal.SIGTERM, signal.SIGINT], 2, seed=2)


@pytest.mark.slow
def test_a_run_of_40_calls_killed_at_50_moments(tmp_path: Path) -> None:
    check_moments(build_nights(tmp_path, 40), tmp_path, [signal.SIGKILL], 50, seed=3)


@pytest.mark.slow
def test_a_run_of_40_calls_interrupted_at_20_moments(tmp_path: Path) -> None:
    check_moments(build_nights(tmp_path, 40), tmp_path, [signal.SIGTERM, signal.SIGINT], 20, seed=4)
