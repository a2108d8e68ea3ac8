"""The Ray engine: maps the same pure analysis over recordings on the machines of a Ray cluster.

One actor a core loads the models once. The driver gives each actor at most two recordings, takes results
as they come and is the only writer. Nodes may join and leave: a new core gets an actor, and what a lost
actor had in hand is done again elsewhere.
"""

from __future__ import annotations

import math
import os
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from callanalytics import __version__
from callanalytics.config import Settings
from callanalytics.errors import EngineError, UsageError, WorkerDied
from callanalytics.records import Failure, FoundRecording, Outcome
from jobs.night.limits import limit_memory
from jobs.night.local_engine import (
    POLL_S,
    QUEUED_PER_WORKER,
    Analyze,
    LoadPacked,
    Prepare,
    StopRequested,
    outcome_of,
)

# A recording that takes this many workers with it is the culprit. One more than on one machine, since
# nobody can tell a crash from a machine that was switched off.
MAX_LOST_WORKERS = 3
# Workers that may fail to start, none having started, before the run gives up.
MAX_FAILED_STARTS = 3
# Without any core for this long the cluster is taken for gone.
NO_CORE_S = 300.0
RESIZE_S = 5.0
# Where a network was cut while an answer was on its way, the worker gives the connection up, and the driver,
# which only waits, is not told. Whatever it sends finds that out at once.
KNOCK_S = 20.0
_STORE_BYTES = 256_000_000  # results are small; Ray's own default is 30 % of the memory


def carried(settings: Settings, ensemble_dir: Path, workers: int) -> Prepare:
    """Loads the analysis on any machine: the ensemble's files travel with it.

    `workers` as in `analyze_on_ray`: each takes no more than its share of its machine's memory. On a GPU
    there is no limit, since its driver reserves more than that.
    """
    files = {path.name: path.read_bytes() for path in ensemble_dir.iterdir() if path.is_file()}
    load = partial(_load_carried, settings, files)
    return load if settings.engine.device.startswith("cuda") else partial(in_its_share, load, workers)


def in_its_share(prepare: Prepare, workers: int) -> Analyze:
    """In a worker: load the analysis, then limit the memory by how many workers this machine may have."""
    import ray

    analyze = prepare()
    here = ray.get_runtime_context().get_node_id()
    cores = [int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["NodeID"] == here]
    n_sharing = max([1, *cores])
    limit_memory(min(n_sharing, workers or n_sharing))
    return analyze


def _load_carried(settings: Settings, files: dict[str, bytes]) -> Analyze:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return LoadPacked(settings, Path(folder))()


def analyze_on_ray(
    recordings: Sequence[FoundRecording],
    prepare: Prepare,
    *,
    address: str,
    workers: int,
    on_gpu: bool = False,
    hung_after_s: float,
    stop_requested: StopRequested = lambda: False,
) -> Iterator[Outcome]:
    """Outcomes in the order they are ready. Stops early, without loss, when asked to.

    Args:
        recordings: the recordings; their paths must be URLs or lie where every node sees them.
        prepare: loads the analysis in a worker; must be picklable, see `carried`.
        address: of a cluster ("auto", "host:6379", "ray://host:10001"); "" starts Ray on this machine.
        workers: 0 = one per core of the cluster, also of nodes that join later.
        on_gpu: workers share the cluster's GPUs evenly; nodes without one get no work.
        hung_after_s: a worker this long at one recording is ended.
        stop_requested: asked several times a second.

    Raises:
        UsageError: Ray is not installed.
        EngineError: no cluster, no workers, or another version of callanalytics on a node.
    """
    try:
        import ray
    except ImportError:
        raise UsageError(
            '[engine] kind = "ray" needs Ray. In the checkout: pip install ".[ray]", or set kind = "local".'
        ) from None
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address, workers)
    pool = _Pool(ray, list(recordings), prepare, workers, on_gpu, hung_after_s)
    try:
        while not pool.is_done() and not stop_requested():
            yield from pool.step()
    finally:
        pool.close()
        if ours:
            ray.shutdown()


def _connect(ray: Any, address: str, workers: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of ours talks to the network
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        else:
            ray.init(
                address="local",
                num_cpus=workers or len(os.sched_getaffinity(0)),
                object_store_memory=_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as problem:
        where = address or "on this machine"
        raise EngineError(
            f"No Ray cluster {where}: {problem}. Check [engine] address and `ray status` there, "
            'or set kind = "local".'
        ) from problem
    finally:
        with suppress(ValueError):  # not the main thread, where Ray sets none either
            signal.signal(signal.SIGTERM, before)  # Ray sets its own; ours ends the night in good order


class Worker:
    """The actor: one process with the models loaded."""

    def __init__(self, prepare: Prepare) -> None:
        self._analyze = prepare()

    def version(self) -> str:
        """Of callanalytics on this node; answered once the models are loaded."""
        return __version__

    def analyze(self, found: FoundRecording) -> Outcome:
        """One recording."""
        return outcome_of(self._analyze, found)


@dataclass
class _Actor:
    handle: Any
    starting: Any | None  # answers when the worker is ready
    flying: deque[tuple[Any, FoundRecording]] = field(
        default_factory=deque
    )  # the first one is being worked on
    since: float = 0.0  # when that one, or the actor, began
    knocked_at: float = 0.0


class _Pool:
    """Recordings waiting, actors, and what each has in hand."""

    def __init__(
        self,
        ray: Any,
        todo: list[FoundRecording],
        prepare: Prepare,
        workers: int,
        on_gpu: bool,
        hung_after_s: float,
    ) -> None:
        self._ray = ray
        self._todo = deque(todo)
        self._prepare = ray.put(prepare)  # sent to each node once
        self._worker = ray.remote(num_cpus=1, max_restarts=0)(Worker)
        self._workers = workers
        self._on_gpu = on_gpu
        self._hung_after_s = hung_after_s
        self._actors: list[_Actor] = []
        self._lost_with: Counter[str] = Counter()
        self._n_ready = 0
        self._n_failed_starts = 0
        self._resized_at = float("-inf")
        self._alive_at = time.monotonic()

    def is_done(self) -> bool:
        return not self._todo and not any(actor.flying for actor in self._actors)

    def step(self) -> Iterator[Outcome]:
        """Resize, hand out, wait a moment for results."""
        self._resize()
        self._hand_out()
        answers = {actor.starting: actor for actor in self._actors if actor.starting is not None}
        # Results of one actor come in order.
        answers |= {actor.flying[0][0]: actor for actor in self._actors if actor.flying}
        if not answers:
            time.sleep(POLL_S)
            return
        ready, _ = self._ray.wait(list(answers), num_returns=len(answers), timeout=POLL_S)
        for answer in ready:
            yield from self._take(answers[answer], answer)
        self._end_the_hung()
        self._knock()

    def close(self) -> None:
        """End all actors: they hold nothing that is not computed again."""
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._actors = []

    def _resize(self) -> None:
        """One actor per core, but no more than there is work. Nodes that joined are found here."""
        now = time.monotonic()
        if now - self._resized_at < RESIZE_S and self._actors:
            return
        self._resized_at = now
        there = self._ray.cluster_resources()
        n_cores, n_gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        if self._on_gpu and not n_gpus:
            n_cores = 0
        n_wanted = min(n_cores, self._workers or n_cores, len(self._todo) + len(self._actors))
        for _ in range(n_wanted - len(self._actors)):
            share = gpu_share(n_wanted, n_gpus) if self._on_gpu else 0
            handle = self._worker.options(num_gpus=share).remote(self._prepare)
            self._actors.append(_Actor(handle, handle.version.remote(), since=now))
        if n_cores:  # actors that wait for a core are no sign of life
            self._alive_at = now
        elif now - self._alive_at > NO_CORE_S:
            raise EngineError(
                f"The Ray cluster has had no {'GPU' if self._on_gpu else 'core'} for {NO_CORE_S:g} s. Start "
                "its nodes and run again: committed work is kept."
            )

    def _hand_out(self) -> None:
        """Keep every ready actor busy, no further ahead than `QUEUED_PER_WORKER`."""
        for depth in range(QUEUED_PER_WORKER):
            for actor in self._actors:
                if self._todo and actor.starting is None and len(actor.flying) == depth:
                    if not actor.flying:
                        actor.since = time.monotonic()
                    found = self._todo.popleft()
                    actor.flying.append((actor.handle.analyze.remote(found), found))

    def _take(self, actor: _Actor, answer: Any) -> Iterator[Outcome]:
        try:
            said = self._ray.get(answer)
        except self._ray.exceptions.RayError as problem:
            yield from self._lose(actor, problem)
            return
        if actor.starting is not None:
            self._check_version(said)
            actor.starting = None
            self._n_ready += 1
            return
        actor.flying.popleft()
        actor.since = time.monotonic()
        yield said

    def _check_version(self, found: str) -> None:
        if found != __version__:
            raise EngineError(
                f"A node of the Ray cluster has callanalytics {found}, this machine has {__version__}. "
                "Install the same version on all of them."
            )

    def _lose(self, actor: _Actor, problem: Exception) -> Iterator[Outcome]:
        """An actor is gone: what it had in hand is done again first, by others."""
        self._actors.remove(actor)
        self._ray.kill(actor.handle)  # where only its answer was lost
        self._resized_at = float("-inf")
        if actor.starting is not None:
            self._n_failed_starts += 1
            if self._n_ready == 0 and self._n_failed_starts >= MAX_FAILED_STARTS:
                raise EngineError(
                    f"No Ray worker can start: {str(problem).strip().splitlines()[-1]}. Check that every "
                    "node has callanalytics and enough memory, and run again: committed work is kept."
                ) from problem
            return
        in_hand = [found for _, found in actor.flying]
        culprit = in_hand[0]
        self._lost_with[culprit.recording.recording_id] += 1
        if self._lost_with[culprit.recording.recording_id] >= MAX_LOST_WORKERS:
            in_hand.remove(culprit)
            yield _gave_up(culprit)
        self._todo.extendleft(reversed(in_hand))

    def _end_the_hung(self) -> None:
        now = time.monotonic()
        for actor in self._actors:
            if actor.flying and now - actor.since > self._hung_after_s:
                self._ray.kill(actor.handle)  # its answer is an error then

    def _knock(self) -> None:
        """Send something to every actor that has not answered for long: its connection may be gone."""
        now = time.monotonic()
        for actor in self._actors:
            is_awaited = actor.flying or actor.starting is not None
            if is_awaited and now - max(actor.since, actor.knocked_at) > KNOCK_S:
                actor.handle.version.remote()  # answered after what it has in hand; nobody waits for it
                actor.knocked_at = now


def gpu_share(n_workers: int, n_gpus: int) -> float:
    """How much of a GPU Ray books for a worker: an equal part that lets all of them in.

    Ray hides the GPUs from a worker that books none, and counts in steps of 0.0001.
    """
    n_sharing = max(1, math.ceil(n_workers / n_gpus))
    return max(1, 10_000 // n_sharing) / 10_000


def _gave_up(found: FoundRecording) -> Failure:
    detail = (
        f"{found.recording.path.name}: {MAX_LOST_WORKERS} Ray workers died or hung at this file. "
        "Check the file with a player."
    )
    return Failure(found, stage="analyze", reason=WorkerDied.reason, detail=detail)
