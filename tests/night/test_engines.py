"""The pool loses nothing: crashes, hangs and stops. Workers here run stand-ins for the analysis."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from short_calls import short_calls
from stand_ins import cannot_load, found_recording, prepare

from callanalytics.config import Settings
from callanalytics.errors import EngineError, LockHeld
from callanalytics.records import Failure, Outcome
from callanalytics.workspace import file_lock, lock_holder
from jobs.night import RunOptions
from jobs.night.limits import StopWatch
from jobs.night.local_engine import FirstWorker, Prepare, analyze_all
from jobs.night.run import run_night


@pytest.mark.usefixtures("impatient")
def test_the_lock_names_its_holder_and_is_free_when_the_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    code = "import sys, time; from pathlib import Path; from callanalytics.workspace import file_lock\n"
    code += "with file_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockHeld, match=f"process {holder.pid} on "), file_lock(path):
            pass
        assert f"process {holder.pid}" in (lock_holder(path) or "")
    finally:
        holder.kill()
        holder.wait()
    with file_lock(path):
        assert f"process {os.getpid()}" in (lock_holder(path) or "")
    assert lock_holder(path) is None


def test_a_signal_asks_to_stop_and_gives_the_exit_code() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopWatch() as watch:
        assert not watch.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert watch.requested()
        assert watch.exit_code(0) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_ends_at_once() -> None:
    with StopWatch():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_time_budget_asks_to_stop() -> None:
    with StopWatch(0.01) as watch:
        time.sleep(0.02)
        assert watch.requested()
        assert watch.exit_code(1) == 7
        assert watch.exit_code(0) is None, "nothing is left to do"


def outcomes(names: list[str], *, workers: int = 2, hung_after_s: float = 60) -> dict[str, Outcome]:
    found = analyze_all(
        [found_recording(n) for n in names], prepare, workers=workers, hung_after_s=hung_after_s
    )
    return {o.found.recording.path.name if isinstance(o, Failure) else str(o): o for o in found}


def test_a_crash_costs_only_the_file_that_crashes() -> None:
    names = [*(f"good{i}" for i in range(6)), "crash", *(f"fine{i}" for i in range(6))]
    found = outcomes(names)
    assert set(found) == set(names)
    failures = {name: o for name, o in found.items() if isinstance(o, Failure)}
    assert {name: failure.reason for name, failure in failures.items()} == {"crash": "worker_died"}
    assert "was killed by SIGSEGV" in failures["crash"].detail, "also while the pool waits for it too"


@pytest.mark.parametrize("problem", [ValueError("bad value(s) in fds_to_keep"), OSError("handle is closed")])
@pytest.mark.parametrize(("load", "n_submitted"), [(cannot_load, 1), (prepare, 2)])
def test_a_worker_that_is_started_while_another_one_dies_costs_no_more(
    problem: Exception, load: Prepare, n_submitted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool closes what it shares with its workers, and a start in that moment fails in its own way."""
    pools: list[Pool] = []

    class Pool(ProcessPoolExecutor):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.n_submitted, self.workers = 0, {}
            pools.append(self)

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            if self is pools[0] and self.n_submitted == n_submitted:
                deadline = time.monotonic() + 30
                while all(worker.exitcode is None for worker in self.workers.values()):
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                raise problem
            self.n_submitted += 1
            future = super().submit(*args, **kwargs)
            self.workers = {**self.workers, **(self._processes or {})}
            return future

    monkeypatch.setattr("jobs.night.local_engine.ProcessPoolExecutor", Pool)
    recordings = [found_recording(name) for name in ("crash", "good")]
    nights = analyze_all(recordings, load, workers=2, hung_after_s=60)
    if load is cannot_load:
        with pytest.raises(EngineError, match="cannot start"):
            list(nights)
    else:
        found = {str(o): o for o in nights}
        assert "good" in found
        assert len(found) == 2


@pytest.mark.parametrize("problem", [ValueError("no such task"), BlockingIOError("no more processes")])
def test_a_task_that_fails_while_all_workers_live_is_told_as_it_is(
    problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pool(ProcessPoolExecutor):
        def submit(self, task: Any, *args: Any) -> Any:
            if args:
                raise problem
            return super().submit(task, *args)

    monkeypatch.setattr("jobs.night.local_engine.ProcessPoolExecutor", Pool)
    monkeypatch.setattr("jobs.night.local_engine.JOIN_S", 0.1)
    with pytest.raises(type(problem), match=str(problem)):
        list(analyze_all([found_recording("good")], prepare, workers=1, hung_after_s=60))


def test_a_worker_uses_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert set(outcomes(["threads"])) == {"threads 1"}


def test_a_worker_started_ahead_is_taken_where_it_loaded_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    for ahead, is_taken in ((prepare, True), (cannot_load, False)):
        with FirstWorker(ahead, 2) as first:
            assert not multiprocessing.active_children(), "a run that finds nothing new needs none"
            first.start()
            first.start()
            (started,) = multiprocessing.active_children()
            found = analyze_all([found_recording("good")], prepare, workers=1, hung_after_s=60, first=first)
            assert str(next(found)) == "good"
            at_work = {child.pid for child in multiprocessing.active_children()}
            assert (started.pid in at_work and len(at_work) == 1) == is_taken
            assert list(found) == []
        started.join(10)
        assert not multiprocessing.active_children()
    assert capfd.readouterr().err == "", "what fails in it is told by the one in its place"


def test_a_run_starts_a_worker_ahead_only_where_it_found_something_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[FirstWorker] = []

    def start(first: FirstWorker) -> None:
        started.append(first)

    monkeypatch.setattr(FirstWorker, "start", start)
    calls = short_calls(tmp_path / "calls", 1)
    options = RunOptions(since="2d", inputs=(calls,), out=tmp_path / "out", workers=1)
    for n_done in (1, 0):
        started.clear()
        with FirstWorker(prepare, 1) as first:
            result = run_night(Settings(), options, first=first)
        assert (result.counts.n_found, result.counts.n_done) == (1, n_done)
        assert len(started) == n_done


def test_a_hung_file_is_ended_and_named() -> None:
    found = outcomes(["good", "hang", "fine"], hung_after_s=1.0)
    assert set(found) == {"good", "hang", "fine"}
    assert isinstance(found["hang"], Failure)


def test_errors_become_failures_with_their_reason() -> None:
    found = outcomes(["truncated", "bug"], workers=1)
    reasons = {name: o.reason for name, o in found.items() if isinstance(o, Failure)}
    assert reasons == {"truncated": "truncated", "bug": "error"}


def test_a_stop_ends_early_and_keeps_what_is_done() -> None:
    seen: list[Outcome] = []
    todo = [found_recording(f"good{i}") for i in range(50)]
    for outcome in analyze_all(
        todo, prepare, workers=1, hung_after_s=60, stop_requested=lambda: len(seen) >= 3
    ):
        seen.append(outcome)
    assert 3 <= len(seen) < 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_workers_killed_at_random_lose_and_double_nothing(seed: int) -> None:
    """As when the kernel runs out of memory: any worker, at any time, also one that has nothing to do."""
    chance, names, seen = random.Random(seed), [f"slowly{i}" for i in range(30)], []
    todo, n_killed = [found_recording(name) for name in names], 0
    for outcome in analyze_all(todo, prepare, workers=1 + seed % 3, hung_after_s=60):
        seen.append(outcome.found.recording.path.name if isinstance(outcome, Failure) else str(outcome))
        if chance.random() < 0.4:
            time.sleep(chance.uniform(0, 0.5))
            for worker in multiprocessing.active_children()[:1]:  # none where the last one was killed before
                worker.kill()
                n_killed += 1
    assert sorted(seen) == sorted(names)
    assert n_killed


def test_a_recording_that_no_engine_answers_for_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours loses one; if ever something does, no night ends as if all were done."""
    folder = short_calls(tmp_path / "in", 2)
    options = RunOptions(since="2000-01-01", inputs=(folder,), out=tmp_path / "out", workers=1)
    with monkeypatch.context() as patched:
        patched.setattr("jobs.night.run.analyze_all", lambda *_, **__: iter(()))
        with pytest.raises(EngineError, match="Of 2 recordings 2 came back neither"):
            run_night(Settings(), options)
    assert not (tmp_path / "out" / "callanalytics.duckdb").exists()
    assert run_night(Settings(), options).counts.n_done == 2
