"""The local engine: maps the pure analysis over recordings in a pool of processes.

A recording can crash a decoder or hang it. Whatever happens to a worker, the others finish: when a
worker dies, the recordings that were in flight are tried again one at a time in a process of their
own; one that kills its process again is the culprit and becomes a Failure.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from callanalytics.config import Settings
from callanalytics.errors import EngineError, OutOfMemory, RecordingError, WorkerDied
from callanalytics.records import CallRows, Failure, FoundRecording, Outcome
from jobs.night.limits import limit_memory, limit_of_memory

# In flight per worker: enough to keep it busy, few enough to bound memory and what a crash repeats.
QUEUED_PER_WORKER = 2
POLL_S = 0.25
JOIN_S = 5.0
# How libraries say that memory ran out, those that do not raise MemoryError.
_NO_MEMORY = ("bad_alloc", "Failed to allocate memory", "Cannot allocate memory")

# One thread a worker: more would compete for the same cores, and sum in another order, so that the last
# digits of a result would depend on the machine. Ray pins its workers the same way.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Analyze = Callable[[FoundRecording], CallRows]
# Called once in every worker to load what the analysis needs; must be picklable.
Prepare = Callable[[], Analyze]
StopRequested = Callable[[], bool]


@dataclass(frozen=True)
class LoadPacked:
    """Loads the night's analysis in a worker; imported there, so that the driver stays light."""

    settings: Settings
    ensemble_dir: Path

    def __call__(self) -> Analyze:
        """The analysis of one recording, as rows."""
        from callanalytics.analysis.call import load_analysis
        from callanalytics.store.rows import pack

        analyze = load_analysis(self.settings, self.ensemble_dir)
        return lambda found: pack(analyze(found))


class FirstWorker:
    """A pool of which the first worker loads the models while its caller looks for recordings.

    What fails in it is not told: the one that is started in its place will tell.
    """

    def __init__(self, prepare: Prepare, n_processes: int, *, memory_limited: bool = True) -> None:
        """Nothing is started yet: a run that finds nothing new needs no worker."""
        self._prepare = prepare
        self._n_processes = n_processes
        self._limited = memory_limited
        self._started: _Started | None = None
        self._is_due = True

    def start(self) -> None:
        """Start the worker, once."""
        if self._is_due:
            self._is_due = False
            pool = _new_pool(self._prepare, self._n_processes, limited=self._limited, says_why=False)
            self._started = _Started(pool, pool.submit(_say_ready))

    def take(self, prepare: Prepare, stop_requested: StopRequested) -> _Started | None:
        """The pool, once its worker has loaded just that; None when it did not, and when it was taken."""
        started = self._started
        if started is None or prepare != self._prepare:
            return None
        while not (started.ready.done() or stop_requested()):
            wait([started.ready], timeout=POLL_S)
        if started.ready.done() and started.ready.exception() is not None:
            return None
        self._started = None
        return started

    def __enter__(self) -> FirstWorker:
        return self

    def __exit__(self, *_: object) -> None:
        """End it where it was not taken."""
        if self._started is not None:
            _kill(self._started.pool)
            self._started.pool.shutdown(wait=False)


class _Started(NamedTuple):
    """A pool and the first answer of its first worker."""

    pool: ProcessPoolExecutor
    ready: Future[None]


def _new_pool(
    prepare: Prepare, n_processes: int, *, limited: bool, says_why: bool = True
) -> ProcessPoolExecutor:
    for name in _ONE_THREAD:  # read by libraries when a worker loads them, before `_start` is called
        os.environ.setdefault(name, "1")
    n_sharing = n_processes if limited else 0
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        n_processes, context, initializer=_start, initargs=(prepare, n_sharing, says_why)
    )


def n_workers(settings: Settings) -> int:
    """Processes to use: the setting, or one per core that we may run on."""
    return settings.engine.workers or len(os.sched_getaffinity(0))


def analyze_all(
    recordings: Sequence[FoundRecording],
    prepare: Prepare,
    *,
    workers: int,
    hung_after_s: float,
    stop_requested: StopRequested = lambda: False,
    memory_limited: bool = True,
    first: FirstWorker | None = None,
) -> Iterator[Outcome]:
    """Outcomes in the order they are ready. Stops early, without loss, when asked to.

    A worker that works on one recording for `hung_after_s` is taken for hung and killed. `memory_limited`:
    none may take more than its share of the memory; a GPU's driver reserves more than that. `first`: a worker
    started ahead, of use where it was told to load the same.

    Raises:
        EngineError: no worker could start, so that nothing can be said about any recording.
    """
    pending = list(reversed(recordings))
    suspects: list[FoundRecording] = []
    while (pending or suspects) and not stop_requested():
        alone = bool(suspects)
        batch, n_processes = (suspects, 1) if alone else (pending, workers)
        started = first.take(prepare, stop_requested) if first else None
        if started is None:
            pool = _new_pool(prepare, n_processes, limited=memory_limited)
            started = _Started(pool, pool.submit(_say_ready))
        drain = _Drain(batch, started, n_processes, hung_after_s, stop_requested)
        for outcome in drain.outcomes():
            if isinstance(outcome, Failure) and outcome.reason == OutOfMemory.reason and not alone:
                drain.crashed.append(outcome.found)  # without the others beside it, it may fit
            else:
                yield outcome
        if not alone:
            suspects = drain.crashed
        elif drain.crashed:  # exactly one was in flight
            yield _died(drain.crashed[0], drain.cause)


class _Drain:
    """Works off `todo` (from its end) until it is empty, a worker dies or a stop is requested.

    Then `crashed` holds the recordings that were in flight when a worker died, `cause` how it died.
    """

    def __init__(
        self,
        todo: list[FoundRecording],
        started: _Started,
        n_processes: int,
        hung_after_s: float,
        stop_requested: StopRequested,
    ) -> None:
        self.crashed: list[FoundRecording] = []
        self.cause = "died"
        self._todo = todo
        self._stop_requested = stop_requested
        self._depth = n_processes * QUEUED_PER_WORKER if n_processes > 1 else 1
        # A recording may wait for the ones before it on the same worker.
        self._hung_after_s = hung_after_s * (self._depth // n_processes)
        # The answer is first in the queue: known before any recording is. A pool starts a process for what no
        # idle one takes, so that one which was started ahead, for more recordings, has no more than these.
        self._pool, self._ready = started
        self._flying: dict[Future[Outcome], tuple[FoundRecording, float]] = {}

    def outcomes(self) -> Iterator[Outcome]:
        """Outcomes in the order they are ready."""
        ready = self._ready
        workers = _workers_of(self._pool)
        try:
            while (self._todo or self._flying) and not self._stop_requested():
                while self._todo and len(self._flying) < self._depth:
                    future = self._submit(self._todo[-1], workers)
                    self._flying[future] = (self._todo.pop(), time.monotonic())
                    # The pool starts one with each task, and any of them may be the one that dies first.
                    workers = _workers_of(self._pool) or workers
                done, _ = wait(self._flying, timeout=POLL_S, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()
                    del self._flying[future]
                    yield outcome
                if not self._flying:
                    continue
                if ready.done():
                    self._end_the_hung()
                else:  # what waits for the models to load does not hang
                    self._flying = {f: (c, time.monotonic()) for f, (c, _) in self._flying.items()}
        except BrokenProcessPool:
            if not ready.done() or ready.exception() is not None:
                raise EngineError(
                    "The worker processes cannot start: they ended while they loaded the models "
                    f"({_how_they_died(workers)}). Nothing was quarantined. Check free memory and "
                    "`callanalytics doctor`, or use fewer [engine] workers, and run again: what is "
                    "committed is kept."
                ) from None
            self.crashed += [found for found, _ in self._flying.values()]
            if self.cause == "died":
                self.cause = _how_they_died(workers)
        finally:
            if self._flying:
                _kill(self._pool)
            self._pool.shutdown(wait=not self._flying, cancel_futures=True)

    def _submit(self, found: FoundRecording, workers: Sequence[BaseProcess]) -> Future[Outcome]:
        """One more task for the pool, which may start a worker for it. Raises BrokenProcessPool."""
        try:
            return self._pool.submit(_analyze_one, found)
        except (OSError, ValueError) as problem:
            # When a worker has died the pool closes what workers share, also while another one is started.
            deadline = time.monotonic() + JOIN_S
            while workers and all(worker.exitcode is None for worker in workers):
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S / 10)
            raise BrokenProcessPool from problem

    def _end_the_hung(self) -> None:
        now = time.monotonic()
        if any(now - since > self._hung_after_s for _, since in self._flying.values()):
            self.cause = f"was not done after {self._hung_after_s:g} s and was ended"
            _kill(self._pool)


def _how_they_died(workers: Sequence[BaseProcess]) -> str:
    """The exit that no order of ours explains: of the worker that died first."""
    deadline = time.monotonic() + JOIN_S
    while any(worker.exitcode is None for worker in workers) and time.monotonic() < deadline:
        # Not one join: the pool's own thread joins them too, and who comes second is told nothing until
        # the first has noted the exit code.
        time.sleep(POLL_S / 10)
    codes = {worker.exitcode for worker in workers} - {None, 0, -signal.SIGTERM}
    code = min((c for c in codes if c is not None), default=None)
    if code is None:
        return "died"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}" + (", as when memory runs out" if -code == signal.SIGKILL else "")


def _kill(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: they hold nothing that is not computed again."""
    for process in _workers_of(pool):
        process.kill()


def _workers_of(pool: ProcessPoolExecutor) -> list[BaseProcess]:
    """The processes that it has now: nothing public names them, and nothing before Python 3.14 ends them."""
    return list((pool._processes or {}).values())


_analyze: Analyze | None = None  # set once per worker process


def _start(prepare: Prepare, n_sharing: int, says_why: bool) -> None:
    """Start a worker: load the models once, then limit its memory, which `n_sharing` share (0: no limit)."""
    logging.getLogger("concurrent.futures").disabled = not says_why
    global _analyze  # noqa: PLW0603 - a worker process has one job for its whole life
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    _analyze = prepare()
    if n_sharing:
        limit_memory(n_sharing)


def _end_with_driver() -> None:
    """A driver that is killed cannot end its workers: they would wait for work for ever, models loaded."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _say_ready() -> None:
    """In a worker: nothing, after `_start`."""


def _analyze_one(found: FoundRecording) -> Outcome:
    """In a worker: one recording."""
    assert _analyze is not None  # noqa: S101 - set by _start
    return outcome_of(_analyze, found)


def outcome_of(analyze: Analyze, found: FoundRecording) -> Outcome:
    """The pure function on one recording, with its typed errors turned into data."""
    try:
        return analyze(found)
    except RecordingError as problem:
        return Failure(found, stage="decode", reason=problem.reason, detail=str(problem))
    except Exception as problem:  # one bad file never stops the rest
        if isinstance(problem, MemoryError) or any(words in str(problem) for words in _NO_MEMORY):
            return _out_of_memory(found)
        detail = f"unexpected {type(problem).__name__}: {problem}. Please report this with the file."
        return Failure(found, stage="analyze", reason="error", detail=detail)


def _out_of_memory(found: FoundRecording) -> Failure:
    name, limit = found.recording.path.name, limit_of_memory()
    share = f"; its worker may take {limit / 1e9:.1f} GB" if limit else ""
    detail = (
        f"{name}: memory ran out while it was analysed{share}. Lower [audio] max_duration_s, give the "
        "machine more memory, or use fewer workers."
    )
    return Failure(found, stage="analyze", reason=OutOfMemory.reason, detail=detail)


def _died(found: FoundRecording, cause: str) -> Failure:
    name = found.recording.path.name
    detail = (
        f"{name}: the worker process {cause}, the second time with no other recording beside it. "
        "Check the file with a player."
    )
    return Failure(found, stage="analyze", reason=WorkerDied.reason, detail=detail)
