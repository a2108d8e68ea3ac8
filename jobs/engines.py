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
from functools import partial
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.errors import RecordingError, WorkerDied
from callanalytics.records import CallAnalysis, Candidate, Failure, Outcome

# In flight per worker: enough to keep it busy, few enough to bound memory and what a crash repeats.
QUEUED_PER_WORKER = 2
# A recording may take this long beyond its decoding limit before its worker is taken for hung.
ANALYSIS_GRACE_S = 600.0
POLL_S = 0.25

StopRequested = Callable[[], bool]


def n_workers(settings: Settings) -> int:
    """Processes to use: the setting, or one per core that we may run on."""
    return settings.engine.workers or len(os.sched_getaffinity(0))


def analyze_all(
    candidates: Sequence[Candidate],
    settings: Settings,
    ensemble_dir: Path | None,
    *,
    workers: int,
    stop_requested: StopRequested = lambda: False,
) -> Iterator[Outcome]:
    """Outcomes in the order they are ready. Stops early, without loss, when asked to.

    Raises what loading the models raises (ensemble.errors.ModelError): that is no fault of a file.
    """
    pending = list(reversed(candidates))
    suspects: list[Candidate] = []
    while (pending or suspects) and not stop_requested():
        alone = bool(suspects)
        batch, n_processes = (suspects, 1) if alone else (pending, workers)
        crashed = yield from _drain(batch, settings, ensemble_dir, n_processes, stop_requested)
        if not alone:
            suspects = crashed
        elif crashed:  # exactly one was in flight
            yield _died(crashed[0])


def _drain(
    todo: list[Candidate],
    settings: Settings,
    ensemble_dir: Path | None,
    n_processes: int,
    stop_requested: StopRequested,
) -> Generator[Outcome, None, list[Candidate]]:
    """Work off `todo` (from its end) until it is empty, a worker dies or a stop is requested.

    Returns the recordings that were in flight when a worker died.
    """
    context = multiprocessing.get_context("spawn")
    depth = n_processes * QUEUED_PER_WORKER if n_processes > 1 else 1
    hung_after_s = settings.audio.decode_timeout_s + ANALYSIS_GRACE_S
    pool = ProcessPoolExecutor(n_processes, context, initializer=_prepare, initargs=(settings, ensemble_dir))
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
            if any(now - since > hung_after_s * QUEUED_PER_WORKER for _, since in flying.values()):
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


_analyze: Callable[[Candidate], CallAnalysis] | None = None  # set once per worker process


def _prepare(settings: Settings, ensemble_dir: Path | None) -> None:
    """Start a worker: load the models once, on one thread each."""
    global _analyze  # noqa: PLW0603 - a worker process has one job for its whole life
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from callanalytics.analyze import Models, analyze_call

    models = Models.load(ensemble_dir, n_threads=1)
    _analyze = partial(analyze_call, settings=settings, models=models)


def _analyze_one(candidate: Candidate) -> Outcome:
    """In a worker: the pure function, with its typed errors turned into data."""
    assert _analyze is not None  # noqa: S101 - set by _prepare
    try:
        return _analyze(candidate)
    except RecordingError as problem:
        return Failure(candidate, stage="decode", reason=problem.reason, detail=str(problem))
    except Exception as problem:  # one bad file never stops the rest
        detail = f"unexpected {type(problem).__name__}: {problem}. Please report this with the file."
        return Failure(candidate, stage="analyze", reason="error", detail=detail)


def _died(candidate: Candidate) -> Failure:
    name = candidate.recording.path.name
    detail = f"{name}: the worker process died or hung twice on this file. Check the file with a player."
    return Failure(candidate, stage="analyze", reason=WorkerDied.reason, detail=detail)
