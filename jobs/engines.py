"""The local engine: maps the pure analysis over recordings in a pool of processes.

A recording can crash a decoder or hang it. Whatever happens to a worker, the others finish: when a
worker dies, the recordings that were in flight are tried again one at a time in a process of their
own; one that kills its process again is the culprit and becomes a Failure.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from callanalytics.config import Settings
from callanalytics.errors import RecordingError, WorkerDied
from callanalytics.records import CallAnalysis, Candidate, Failure, Outcome

# In flight per worker: enough to keep it busy, few enough to bound memory and what a crash repeats.
QUEUED_PER_WORKER = 2
POLL_S = 0.25

Analyze = Callable[[Candidate], CallAnalysis]
# Called once in every worker to load what the analysis needs; must be picklable.
Prepare = Callable[[], Analyze]
StopRequested = Callable[[], bool]


def n_workers(settings: Settings) -> int:
    """Processes to use: the setting, or one per core that we may run on."""
    return settings.engine.workers or len(os.sched_getaffinity(0))


def analyze_all(
    candidates: Sequence[Candidate],
    prepare: Prepare,
    *,
    workers: int,
    hung_after_s: float,
    stop_requested: StopRequested = lambda: False,
) -> Iterator[Outcome]:
    """Outcomes in the order they are ready. Stops early, without loss, when asked to.

    A worker that works on one recording for `hung_after_s` is taken for hung and killed. `prepare` must
    be known to succeed (load the models once in the driver first): a worker that cannot start looks
    like one that crashed.
    """
    pending = list(reversed(candidates))
    suspects: list[Candidate] = []
    while (pending or suspects) and not stop_requested():
        alone = bool(suspects)
        batch, n_processes = (suspects, 1) if alone else (pending, workers)
        crashed = yield from _drain(batch, prepare, n_processes, hung_after_s, stop_requested)
        if not alone:
            suspects = crashed
        elif crashed:  # exactly one was in flight
            yield _died(crashed[0])


def _drain(
    todo: list[Candidate],
    prepare: Prepare,
    n_processes: int,
    hung_after_s: float,
    stop_requested: StopRequested,
) -> Generator[Outcome, None, list[Candidate]]:
    """Work off `todo` (from its end) until it is empty, a worker dies or a stop is requested.

    Returns the recordings that were in flight when a worker died.
    """
    context = multiprocessing.get_context("spawn")
    depth = n_processes * QUEUED_PER_WORKER if n_processes > 1 else 1
    queued = depth // n_processes  # a recording may wait for the ones before it on the same worker
    pool = ProcessPoolExecutor(n_processes, context, initializer=_start, initargs=(prepare,))
    flying: dict[Future[Outcome], tuple[Candidate, float]] = {}
    try:
        while (todo or flying) and not stop_requested():
            while todo and len(flying) < depth:
                future = pool.submit(_analyze_one, todo[-1])  # raises when the pool is broken
                flying[future] = (todo.pop(), time.monotonic())
            done, _ = wait(flying, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                del flying[future]
                yield outcome
            now = time.monotonic()
            if any(now - since > hung_after_s * queued for _, since in flying.values()):
                _kill(pool)
    except BrokenProcessPool:
        return [candidate for candidate, _ in flying.values()]
    finally:
        if flying:
            _kill(pool)
        pool.shutdown(wait=not flying, cancel_futures=True)
    return []


def _kill(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: they hold nothing that is not computed again."""
    for process in list((pool._processes or {}).values()):
        process.kill()


_analyze: Analyze | None = None  # set once per worker process


def _start(prepare: Prepare) -> None:
    """Start a worker: load the models once."""
    global _analyze  # noqa: PLW0603 - a worker process has one job for its whole life
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _analyze = prepare()


def _analyze_one(candidate: Candidate) -> Outcome:
    """In a worker: one recording."""
    assert _analyze is not None  # noqa: S101 - set by _start
    return outcome_of(_analyze, candidate)


def outcome_of(analyze: Analyze, candidate: Candidate) -> Outcome:
    """The pure function on one recording, with its typed errors turned into data."""
    try:
        return analyze(candidate)
    except RecordingError as problem:
        return Failure(candidate, stage="decode", reason=problem.reason, detail=str(problem))
    except Exception as problem:  # one bad file never stops the rest
        detail = f"unexpected {type(problem).__name__}: {problem}. Please report this with the file."
        return Failure(candidate, stage="analyze", reason="error", detail=detail)


def _died(candidate: Candidate) -> Failure:
    name = candidate.recording.path.name
    detail = f"{name}: the worker process died or hung twice on this file. Check the file with a player."
    return Failure(candidate, stage="analyze", reason=WorkerDied.reason, detail=detail)
