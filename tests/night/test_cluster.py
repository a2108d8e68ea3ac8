"""The Ray engine: same rows as the local one, and nothing lost. Slow tests run a real cluster of two nodes.

The others drive the same code with `FakeRay`: actors are objects, answers are computed when they are asked
for, and a recording's name says whether its worker dies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import found_recording, prepare, prepare_small

from callanalytics import __version__
from callanalytics.config import EngineSettings, Settings
from callanalytics.errors import EngineError, UsageError
from callanalytics.records import Failure, Outcome
from ensemble.inference.ensemble import SHIPPED
from jobs.night import ray_engine as cluster

ROOT = Path(__file__).parents[2]


class Lost(Exception):
    """As ray.exceptions.RayActorError."""


class FakeRay:
    """The part of Ray that the engine uses, without processes."""

    exceptions = SimpleNamespace(RayError=Lost)

    def __init__(
        self, cores: int, *, gpus: int = 0, lose: tuple[str, ...] = (), losses: int = 1, starts: bool = True
    ) -> None:
        self.cores, self.gpus, self.starts = cores, gpus, starts
        self.booked_gpus: list[float] = []
        self.losses_left = dict.fromkeys(lose, losses)
        self.in_flight: dict[int, int] = {}
        self.most_in_flight = 0
        self.killed = 0
        self.n_asked = 0  # for their version

    def is_initialized(self) -> bool:
        return True

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "this")

    def nodes(self) -> list[dict[str, Any]]:
        resources = {"other": {"CPU": 99.0}, "this": {"CPU": float(self.cores)}}
        return [{"NodeID": name, "Resources": of} for name, of in resources.items()]

    def put(self, value: Any) -> Any:
        return value

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cores)} | ({"GPU": float(self.gpus)} if self.gpus else {})

    def remote(self, **_: Any) -> Any:
        def options(num_gpus: float) -> Any:
            self.booked_gpus.append(num_gpus)
            return SimpleNamespace(remote=lambda prepare: FakeActor(self, actors[0], prepare))

        actors: list[Any] = []
        return lambda actor_class: actors.append(actor_class) or SimpleNamespace(options=options)

    def wait(self, answers: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return answers[-1:], answers[:-1]

    def get(self, answer: Any) -> Any:
        return answer()

    def kill(self, actor: Any) -> None:
        self.killed += 1
        self.in_flight.pop(id(actor), None)


class FakeActor:
    def __init__(self, ray: FakeRay, actor_class: Any, load: Any) -> None:
        self.ray, self.worker = ray, actor_class(load)
        self.version = SimpleNamespace(remote=self._ask)
        self.analyze = SimpleNamespace(remote=self._submit)
        self.dead = False

    def _ask(self) -> Any:
        self.ray.n_asked += 1
        return self._version

    def _version(self) -> str:
        if not self.ray.starts:
            raise Lost("out of memory")
        return __version__

    def _submit(self, found: Any) -> Any:
        counts = self.ray.in_flight
        counts[id(self)] = counts.get(id(self), 0) + 1
        self.ray.most_in_flight = max(self.ray.most_in_flight, sum(counts.values()))

        def answer() -> Outcome:
            name = found.recording.path.name
            if self.dead or self.ray.losses_left.get(name, 0) > 0:
                if not self.dead:
                    self.ray.losses_left[name] -= 1
                self.dead = True
                raise Lost(name)
            counts[id(self)] -= 1
            outcome: Outcome = self.worker.analyze(found)
            return outcome

        return answer


def outcomes(
    monkeypatch: pytest.MonkeyPatch, ray: FakeRay, names: list[str], **more: Any
) -> dict[str, Outcome]:
    monkeypatch.setitem(sys.modules, "ray", ray)
    options = {"address": "", "workers": 0, "hung_after_s": 60.0, **more}
    found = cluster.analyze_on_ray([found_recording(name) for name in names], prepare, **options)
    return {o.found.recording.path.name if isinstance(o, Failure) else str(o): o for o in found}


NAMES = [f"good{i}" for i in range(20)]


def test_every_recording_comes_back_once_and_few_are_out_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(cores=3)
    found = outcomes(monkeypatch, ray, [*NAMES, "truncated"])
    assert sorted(found) == sorted([*NAMES, "truncated"])
    assert isinstance(found["truncated"], Failure)
    assert ray.most_in_flight <= 3 * 2


def test_what_a_lost_worker_had_in_hand_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcomes(monkeypatch, FakeRay(cores=2, lose=("good3", "good9"), losses=2), NAMES)
    assert sorted(found) == sorted(NAMES)
    assert not any(isinstance(outcome, Failure) for outcome in found.values())


def test_a_file_that_takes_every_worker_with_it_is_given_up_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcomes(monkeypatch, FakeRay(cores=2, lose=("good3",), losses=99), NAMES)
    failures = {name: o.reason for name, o in found.items() if isinstance(o, Failure)}
    assert sorted(found) == sorted(NAMES)
    assert failures == {"good3": "worker_died"}


def test_a_cluster_on_which_nothing_starts_is_an_error_and_no_quarantine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(EngineError, match="No Ray worker can start: out of memory"):
        outcomes(monkeypatch, FakeRay(cores=2, starts=False), NAMES)


def test_a_node_with_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "__version__", "0.0.0-other")
    monkeypatch.setattr(cluster.Worker, "version", lambda self: __version__)
    with pytest.raises(EngineError, match=r"this machine has 0\.0\.0-other"):
        outcomes(monkeypatch, FakeRay(cores=1), NAMES)


def test_a_stop_ends_early_and_kills_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(cores=2)
    monkeypatch.setitem(sys.modules, "ray", ray)
    seen: list[Outcome] = []
    for outcome in cluster.analyze_on_ray(
        [found_recording(name) for name in NAMES],
        prepare,
        address="",
        workers=0,
        hung_after_s=60,
        stop_requested=lambda: len(seen) >= 3,
    ):
        seen.append(outcome)
    assert 3 <= len(seen) < len(NAMES)
    assert ray.killed == 2


def test_workers_on_gpus_book_equal_parts_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(cores=5, gpus=2)
    assert sorted(outcomes(monkeypatch, ray, NAMES, on_gpu=True)) == sorted(NAMES)
    assert set(ray.booked_gpus) == {0.3333}  # three on one, two on the other
    outcomes(monkeypatch, without := FakeRay(cores=5, gpus=2), NAMES)
    assert set(without.booked_gpus) == {0}


@given(workers=st.integers(1, 1000), gpus=st.integers(1, 64))
def test_the_parts_of_gpus_let_every_worker_in(workers: int, gpus: int) -> None:
    steps = round(10_000 * cluster.gpu_share(workers, gpus))  # Ray counts in these
    assert 1 <= steps <= 10_000
    assert gpus * (10_000 // steps) >= workers


@pytest.mark.parametrize(("workers", "n_sharing"), [(0, 4), (2, 2), (9, 4)])
def test_each_worker_has_its_share_of_the_memory_of_its_machine(
    monkeypatch: pytest.MonkeyPatch, workers: int, n_sharing: int
) -> None:
    monkeypatch.setitem(sys.modules, "ray", FakeRay(cores=4))
    limits: list[int] = []
    monkeypatch.setattr(cluster, "limit_memory", limits.append)
    cluster.in_its_share(prepare, workers)
    assert limits == [n_sharing]
    for device, is_limited in (("cpu", True), ("cuda", False), ("cuda:1", False)):
        settings = Settings(engine=EngineSettings(device=device))
        made = cluster.carried(settings, SHIPPED, workers)
        assert (getattr(made, "func", None) is cluster.in_its_share) == is_limited


def test_a_cluster_without_the_gpu_that_is_asked_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "NO_CORE_S", 0.0)
    with pytest.raises(EngineError, match="no GPU"):
        outcomes(monkeypatch, FakeRay(cores=4), NAMES, on_gpu=True)


def test_a_cluster_that_loses_all_its_nodes_is_an_error_though_workers_wait_for_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone(FakeRay):
        """One node; all are gone when its worker has started, and new workers never do."""

        def wait(self, answers: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
            if self.cores:
                self.cores = 0
                return super().wait(answers)
            return [], answers

    monkeypatch.setattr(cluster, "NO_CORE_S", 0.05)
    monkeypatch.setattr(cluster, "RESIZE_S", 0.01)
    with pytest.raises(EngineError, match="no core for"):
        outcomes(monkeypatch, Gone(cores=1), NAMES)


def test_an_answer_lost_on_its_way_is_found_out_by_sending_something(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(FakeRay):
        """One worker, whose answer nobody misses until something more is sent to it."""

        n_waits = 0

        def wait(self, answers: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
            self.n_waits += 1
            assert self.n_waits < 100_000, "it only waits"
            if self.in_flight and self.n_asked == 1:
                return [], answers
            return super().wait(answers)

    monkeypatch.setattr(cluster, "KNOCK_S", 0.02)
    found = outcomes(monkeypatch, ray := Cut(cores=1, lose=("good0",)), NAMES)
    assert sorted(found) == sorted(NAMES)
    assert not any(isinstance(outcome, Failure) for outcome in found.values())
    assert ray.n_asked >= 3  # both workers when they began, and the first once more


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"\.\[ray\]"):
        list(cluster.analyze_on_ray([], prepare, address="", workers=0, hung_after_s=1))
    assert Settings(engine=EngineSettings(kind="ray")).engine.address == ""


# A real cluster: a head without cores and two nodes of one core, each in processes of its own. ------------


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install callanalytics[ray]")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]))
    import ray
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100_000_000}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    made.nodes_with_cores = [made.add_node(num_cpus=1, **small) for _ in range(2)]
    made.add = lambda: made.add_node(num_cpus=1, **small)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_a_node_killed_in_the_middle_loses_nothing(ray_cluster: Any) -> None:
    names = [f"slowly{i}" for i in range(40)]
    done: list[str] = []
    for outcome in cluster.analyze_on_ray(
        [found_recording(name) for name in names],
        prepare,
        address=ray_cluster.address,
        workers=0,
        hung_after_s=60,
    ):
        assert not isinstance(outcome, Failure)
        done.append(str(outcome))
        if len(done) == 5:
            ray_cluster.remove_node(ray_cluster.nodes_with_cores[0], allow_graceful=False)
        if len(done) == 10:
            ray_cluster.add()
    assert sorted(done) == sorted(names)


@pytest.mark.slow
def test_a_crash_on_the_cluster_costs_only_the_file_that_crashes(ray_cluster: Any) -> None:
    names = [*(f"good{i}" for i in range(6)), "crash", *(f"fine{i}" for i in range(6))]
    found = cluster.analyze_on_ray(
        [found_recording(n) for n in names], prepare, address=ray_cluster.address, workers=0, hung_after_s=60
    )
    by_name = {o.found.recording.path.name if isinstance(o, Failure) else str(o): o for o in found}
    assert sorted(by_name) == sorted(names)
    assert [name for name, o in by_name.items() if isinstance(o, Failure)] == ["crash"]


@pytest.mark.slow
def test_a_recording_that_wants_too_much_memory_costs_only_itself(ray_cluster: Any) -> None:
    names = [*(f"good{i}" for i in range(4)), "greedy", *(f"fine{i}" for i in range(4))]
    found = cluster.analyze_on_ray(
        [found_recording(n) for n in names],
        partial(cluster.in_its_share, prepare_small, 0),
        address=ray_cluster.address,
        workers=0,
        hung_after_s=60,
    )
    by_name = {o.found.recording.path.name if isinstance(o, Failure) else str(o): o for o in found}
    assert sorted(by_name) == sorted(names)
    failures = [(name, o.reason) for name, o in by_name.items() if isinstance(o, Failure)]
    assert failures == [("greedy", "out_of_memory")]


def run_night(inputs: str, out: Path, engine: str, **environment: str) -> dict[str, Any]:
    config = out.with_suffix(".toml")
    config.write_text(f"[engine]\n{engine}\n", encoding="utf-8")
    command = [sys.executable, "-m", "callanalytics", "run", "--since", "2000-01-01", "--json"]
    command += ["--config", str(config), "--input", inputs, "--out", str(out)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def rows_of(out: Path) -> dict[str, list[Any]]:
    """What a night found out, without when and where it was computed."""
    import duckdb

    questions = {
        "turns": "SELECT recording_id, t.* EXCLUDE analysis_key FROM base.turns t JOIN base.analyses USING"
        " (analysis_key) ORDER BY ALL",
        "segments": "SELECT recording_id, s.* EXCLUDE analysis_key FROM base.segments s JOIN base.analyses"
        " USING (analysis_key) ORDER BY ALL",
        "call_measures": "SELECT recording_id, m.* EXCLUDE analysis_key FROM base.call_measures m"
        " JOIN base.analyses USING (analysis_key) ORDER BY ALL",
    }
    with duckdb.connect(str(out / "callanalytics.duckdb"), read_only=True) as connection:
        return {name: connection.execute(question).fetchall() for name, question in questions.items()}


@pytest.fixture
def real_calls(data_dir: Path, tmp_path: Path) -> Path:
    """A folder of a few real calls, old enough to be settled."""
    folder = tmp_path / "calls"
    folder.mkdir()
    settled = time.time() - 86_400
    for path in sorted((data_dir / "calls").glob("*/*/*.wav"))[:6]:
        copy = folder / f"{path.parent.name}_{path.name}"
        copy.write_bytes(path.read_bytes())
        os.utime(copy, (settled, settled))
    return folder


@pytest.mark.slow
def test_the_cluster_gives_the_same_rows_as_the_local_engine(
    ray_cluster: Any, real_calls: Path, tmp_path: Path
) -> None:
    one = run_night(str(real_calls), tmp_path / "local", 'kind = "local"\nworkers = 1')
    two = run_night(str(real_calls), tmp_path / "ray", f'kind = "ray"\naddress = "{ray_cluster.address}"')
    assert one["n_done"] == two["n_done"] == 6
    assert rows_of(tmp_path / "local") == rows_of(tmp_path / "ray")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server on this machine and an empty bucket in it."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install callanalytics[s3]")
    server_module = pytest.importorskip("moto.server", reason="no S3 server: pip install 'moto[server]'")
    server = server_module.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import fsspec

    store = fsspec.filesystem("s3", skip_instance_cache=True)
    store.mkdir("calls")
    yield store
    server.stop()


@pytest.mark.slow
def test_recordings_in_s3_give_the_rows_of_the_same_files(
    bucket: Any, ray_cluster: Any, real_calls: Path, tmp_path: Path
) -> None:
    for path in real_calls.iterdir():
        bucket.put(str(path), f"calls/march/{path.name}")
    engine = f'kind = "ray"\naddress = "{ray_cluster.address}"'
    no_wait = f"{engine}\n[discovery]\nsettle_s = 0"
    local = run_night(str(real_calls), tmp_path / "local", 'kind = "local"\nworkers = 1')
    stored = run_night("s3://calls/march", tmp_path / "ray", no_wait)
    assert stored["n_done"] == local["n_done"] == 6
    again = run_night("s3://calls/march", tmp_path / "ray", no_wait)
    assert (again["n_done"], again["n_skipped"]) == (0, 6)

    def without_ids(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {name: sorted(map(repr, (row[1:] for row in found))) for name, found in rows.items()}

    assert without_ids(rows_of(tmp_path / "local")) == without_ids(rows_of(tmp_path / "ray"))
