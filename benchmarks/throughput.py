"""How fast is a night? Builds one, runs the real `callanalytics run` on it, and the peers on the same calls.

    python benchmarks/throughput.py [--data FOLDER] [--hours 1] [--parts stereo,mono,workers]

Parts: `stereo` and `mono` (audio hours per hour, share of each stage, memory), `workers` (1 against 2),
`ray` (the local pool against Ray), `device` (ONNX on the processor against torch on --device), `long` (one
call of 3 h), `first` (one call from start to report), `known` (nothing new over --known files), `publish` (a
night of 10,000 segments where --kept are kept, against copying all), `peers` (openSMILE eGeMAPS, librosa with
eager torch, wav2vec2-base, against one worker of ours). `record.py` puts a table into RESULTS.md.

Thread time is what the processes really used, so it is steadier than the clock on a machine that does other
work too; ratios within one run are what counts. The load at the start and the end is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nights import Night, build_night, long_call, source_calls

BENCHMARKS = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    # The run takes place in a folder without a config.toml: built-in settings.
    "PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]),
}
POLL_S = 0.05


@dataclass(frozen=True)
class Ran:
    """One child process and those it started."""

    wall_s: float
    thread_s: float  # user and system, of all its processes
    driver_mb: float  # highest resident memory
    worker_mb: float  # of the largest of the processes it started
    said: str


@dataclass(frozen=True)
class Arguments:
    data: Path | None
    hours: float
    known: int
    kept: int
    workers: int
    device: str
    scratch: Path


def run_child(command: list[str], cwd: Path) -> Ran:
    """Run to the end. Raises CalledProcessError unless it exits with 0 or 3."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as child:
        peaks: dict[int, float] = {}
        watcher = threading.Thread(target=_watch, args=(child, peaks))
        watcher.start()
        said = child.stdout.read() if child.stdout else ""
        child.wait()
        watcher.join()
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode not in (0, 3):
        raise subprocess.CalledProcessError(child.returncode, command, said)
    thread_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    driver_mb = peaks.pop(child.pid, 0.0)
    return Ran(wall_s, thread_s, driver_mb, max(peaks.values(), default=0.0), said)


def _watch(child: subprocess.Popen[str], peaks: dict[int, float]) -> None:
    """Highest resident memory in MB of the child and of the processes below it, by id."""
    while child.poll() is None:
        family = [child.pid]
        for pid in family:
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            family += [int(number) for number in children.split()]
            high = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
            if high:
                peaks[pid] = int(high[0]) / 1000
        time.sleep(POLL_S)


def night_run(night: Night, out: Path, *, workers: int, more: tuple[str, ...] = ()) -> Ran:
    command = [
        sys.executable,
        "-m",
        "callanalytics",
        "run",
        "--since",
        "2000-01-01",
        "--json",
        "--no-gate",
    ]
    command += ["--input", str(night.folder), "--out", str(out), "--workers", str(workers), *more]
    return run_child(command, out.parent)


def measured_run(arguments: Arguments, kind: str) -> None:
    """Whole run of one kind of call."""
    folder = arguments.scratch / kind
    night = build_night(
        folder / "calls", arguments.hours, source_calls(arguments.data), stereo=kind == "stereo"
    )
    ran = night_run(night, folder / "out", workers=arguments.workers)
    result = json.loads(ran.said)
    print(f"\n{kind}: {night.n_calls} calls, {night.audio_s / 3600:.2f} h, {arguments.workers} workers")
    print(f"  {result['n_done']} done, {result['n_quarantined']} quarantined")
    print(f"  {night.audio_s / ran.wall_s:8.0f} x real time by the clock")
    print(f"  {night.audio_s / ran.thread_s:8.0f} x real time per core (all processes' thread time)")
    print(f"  {ran.worker_mb:8.0f} MB largest worker, {ran.driver_mb:.0f} MB driver")
    for stage, share in stage_shares(folder / "out", ran.thread_s).items():
        print(f"  {share:8.1%} {stage}")


def stage_shares(out: Path, thread_s: float) -> dict[str, float]:
    """Share of a run's thread time by stage: the workers' own clocks, then publishing and pages done again.

    The workers' clocks count waiting too, so on a loaded machine the shares are scaled to what was used.
    """
    rows = stage_seconds(out)
    again = {
        "publish": "import time; from pathlib import Path\n"
        "from callanalytics.store import open_work, publish\n"
        "from callanalytics.workspace import Workspace\n"
        "with open_work(Workspace(Path({out!r}))) as store:\n"
        " t = time.process_time(); publish(store); print(time.process_time() - t)",
        "report": "import subprocess, sys, resource\n"
        "subprocess.run([sys.executable, '-m', 'callanalytics', 'report', '--out', {out!r},"
        " '--since', '2000-01-01'], stdout=subprocess.DEVNULL, check=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)",
    }
    driver = {
        name: float(run_child([sys.executable, "-c", code.format(out=str(out))], out.parent).said)
        for name, code in again.items()
    }
    analysed = sum(rows.values())
    left = max(thread_s - sum(driver.values()), 0.0)
    shares = {name: min(1.0, left / analysed) * seconds / thread_s for name, seconds in rows.items()}
    shares |= {name: seconds / thread_s for name, seconds in driver.items()}
    shares["start, discovery, writing and the rest"] = max(0.0, 1 - sum(shares.values()))
    return shares


def stage_seconds(out: Path) -> dict[str, float]:
    """Seconds of all workers by stage, by their own clocks, the longest first."""
    import duckdb

    with duckdb.connect(str(out / "callanalytics.duckdb"), read_only=True) as connection:
        return dict(
            connection.execute(
                "SELECT entry.key, sum(entry.value) FROM (SELECT unnest(map_entries(stage_wall_s)) AS entry"
                " FROM base.analyses) GROUP BY ALL ORDER BY 2 DESC"
            ).fetchall()
        )


def two_workers(arguments: Arguments) -> None:
    folder = arguments.scratch / "workers"
    night = build_night(folder / "calls", arguments.hours, source_calls(arguments.data), stereo=True, seed=2)
    one, two = (night_run(night, folder / f"out{n}", workers=n) for n in (1, 2))
    print(f"\nworkers, {night.audio_s / 3600:.2f} h stereo: 2 are {one.wall_s / two.wall_s:.2f} x 1")
    print(
        f"  ({one.wall_s:.1f} and {two.wall_s:.1f} s; of threads {one.thread_s:.1f} and {two.thread_s:.1f} s)"
    )


def on_ray(arguments: Arguments) -> None:
    """The pool of processes against Ray started on this machine for the run, as many workers each."""
    folder = arguments.scratch / "ray"
    night = build_night(folder / "calls", arguments.hours, source_calls(arguments.data), stereo=True, seed=5)
    small = build_night(folder / "small", 0.05, source_calls(arguments.data), stereo=True, seed=6)
    spent: dict[str, tuple[Ran, Ran]] = {}
    for kind in ("local", "ray"):
        config = folder / f"{kind}.toml"
        config.write_text(f'[engine]\nkind = "{kind}"\n')
        more = ("--config", str(config))
        start = night_run(small, folder / f"small_{kind}", workers=arguments.workers, more=more)
        spent[kind] = (night_run(night, folder / kind, workers=arguments.workers, more=more), start)
    (local, local_start), (ray, ray_start) = spent["local"], spent["ray"]
    print(f"\nray, {night.audio_s / 3600:.2f} h stereo, {arguments.workers} workers:")
    print(f"  {ray.wall_s / local.wall_s - 1:8.1%} more time by the clock than the local pool, all in")
    without = (ray.wall_s - ray_start.wall_s) / (local.wall_s - local_start.wall_s) - 1
    print(f"  {without:8.1%} more without the start ({small.audio_s / 60:.0f} min of calls taken off each)")
    print(f"  ({local.wall_s:.1f} and {ray.wall_s:.1f} s; the start {local_start.wall_s:.1f}", end="")
    print(f" and {ray_start.wall_s:.1f} s)")


def on_device(arguments: Arguments) -> None:
    """The whole night and its two heavy stages, on the processor and on the device."""
    from ensemble.inference.device import prepare_device
    from ensemble.model_errors import DeviceMissing

    try:
        prepare_device(arguments.device)
    except DeviceMissing as problem:
        print(f"\ndevice: not measured: {problem}")
        return
    for kind in ("stereo", "mono"):
        folder = arguments.scratch / f"device_{kind}"
        night = build_night(
            folder / "calls", arguments.hours, source_calls(arguments.data), stereo=kind == "stereo", seed=7
        )
        ran: dict[str, Ran] = {}
        stage_s: dict[str, dict[str, float]] = {}
        for device in ("cpu", arguments.device):
            out = folder / device.replace(":", "_")
            ran[device] = night_run(night, out, workers=arguments.workers, more=("--device", device))
            stage_s[device] = stage_seconds(out)
        cpu, other = ran["cpu"], ran[arguments.device]
        print(f"\ndevice {arguments.device} against cpu, {kind}, {night.audio_s / 3600:.2f} h:", end="")
        print(f" the night {cpu.wall_s / other.wall_s:.2f} x as fast", end="")
        print(f" ({other.wall_s:.1f} and {cpu.wall_s:.1f} s), a worker {other.worker_mb:.0f} MB")
        for stage in ("diarize", "vote"):
            print(f"  {stage_s['cpu'][stage] / stage_s[arguments.device][stage]:8.2f} x {stage}")


def one_long_call(arguments: Arguments) -> None:
    folder = arguments.scratch / "long"
    (folder / "calls").mkdir(parents=True)
    seconds = long_call(folder / "calls" / "20260301-090000_1.wav", 3.0, source_calls(arguments.data))
    ran = night_run(Night(folder / "calls", 1, seconds), folder / "out", workers=1)
    samples_mb = seconds * 8_000 * 2 * 4 / 1e6
    print(f"\nlong: a stereo call of 3 h, {samples_mb:.0f} MB of samples:")
    print(f"  {ran.worker_mb:8.0f} MB worker, {ran.worker_mb / samples_mb:.2f} of its samples")
    print(
        f"  {seconds / ran.wall_s:8.0f} x real time by the clock, {seconds / ran.thread_s:.0f} x of threads"
    )


def first_result(arguments: Arguments) -> None:
    folder = arguments.scratch / "first"
    night = build_night(folder / "calls", 0.01, source_calls(arguments.data)[:1], stereo=True)
    ran = night_run(night, folder / "out", workers=1, more=("--limit", "1"))
    print(f"\nfirst: one call from start to its page in {ran.wall_s:.1f} s ({ran.thread_s:.1f} s of threads)")


def nothing_new(arguments: Arguments) -> None:
    """A run over files that are all known and done. The rows come by SQL, the files are real but tiny."""
    folder = arguments.scratch / "known"
    night = build_night(folder / "calls", 0.01, source_calls(arguments.data)[:1], stereo=True)
    night_run(night, folder / "out", workers=1)
    settled = time.time() - 2 * 86_400
    for number in range(arguments.known):
        path = folder / "calls" / f"{number % 100:02d}" / f"20260302-{number % 86_400:06d}_{number}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (settled, settled))
    _settle(folder)
    night_run(night, folder / "out", workers=1)  # draws the pages of what was noted
    ran = night_run(night, folder / "out", workers=1)
    result = json.loads(ran.said)
    print(f"\nknown: {result['n_skipped']} known files, {result['n_new']} new: {ran.wall_s:.1f} s ", end="")
    print(f"({ran.thread_s:.1f} s thread, driver {ran.driver_mb:.0f} MB)")


def _settle(folder: Path) -> None:
    """Note every tiny file as hashed and its recording as done, and publish that."""
    import duckdb
    import polars as pl

    from callanalytics.store import open_work, publish
    from callanalytics.workspace import Workspace

    rows = []
    for path in (folder / "calls").glob("*/*.wav"):
        facts = path.stat()
        content = f"{path.stem:0>64}"
        rows.append((os.fsencode(path), facts.st_size, facts.st_mtime_ns, content, content))
    columns = ["path", "n_bytes", "mtime_ns", "recording_id", "content_id"]
    files = pl.DataFrame(rows, schema=columns, orient="row")
    with duckdb.connect(str(Workspace(folder / "out").work_database)) as connection:
        connection.register("files", files)
        connection.execute("INSERT INTO base.files BY NAME SELECT * FROM files")
        connection.execute(
            "INSERT INTO base.calls SELECT c.* REPLACE (f.recording_id AS recording_id,"
            " f.recording_id AS call_id) FROM (SELECT * FROM base.calls LIMIT 1) AS c, files AS f"
        )
        connection.execute(
            "INSERT INTO base.analyses SELECT a.* REPLACE (a.analysis_key + f.n AS analysis_key,"
            " f.recording_id AS recording_id, f.recording_id AS call_id)"
            " FROM (SELECT * FROM base.analyses LIMIT 1) AS a,"
            " (SELECT recording_id, 1000 + row_number() OVER () AS n FROM files) AS f"
        )
        connection.execute(
            "INSERT INTO base.recordings SELECT r.* REPLACE (f.recording_id AS recording_id)"
            " FROM (SELECT * FROM base.recordings LIMIT 1) AS r, files AS f"
        )
    with open_work(Workspace(folder / "out")) as store:
        publish(store)


N_PUBLISHED = 3
NIGHT_SEGMENTS = 10_000


def publishing(arguments: Arguments) -> None:
    """Publishing what a night changed, and copying everything that is kept, as the first publishing does."""
    from store import calls, load, multiply, templates

    from callanalytics.config import Settings
    from callanalytics.store import open_work, publish
    from callanalytics.store.rows import pack
    from callanalytics.workspace import Workspace

    models = templates(Settings())
    with open_work(Workspace(arguments.scratch / "publish")) as store:
        load(store, arguments.kept // 10)
        multiply(store, 10)
        ((n_kept, n_calls),) = store.rows(
            "SELECT (SELECT count(*) FROM base.segments), (SELECT count(*) FROM base.calls)"
        )
        whole = _spent(lambda: publish(store))
        nights = []
        for number in range(N_PUBLISHED):
            night = calls(models, NIGHT_SEGMENTS, first=n_calls * (number + 1))
            store.append([pack(call) for call in night], run_id=1)
            nights.append(_spent(lambda: publish(store)))
        size_gb = store.workspace.database.stat().st_size / 1e9
    wall_s, cpu_s = (sorted(column)[N_PUBLISHED // 2] for column in zip(*nights, strict=True))
    print(f"\npublish: {n_kept:,} segments of {n_calls:,} calls kept, {size_gb:.2f} GB published")
    print(f"  {whole[0]:8.1f} s by the clock, {whole[1]:.1f} s of threads: all, and a second file of it")
    print(f"  {wall_s:8.1f} s by the clock, {cpu_s:.1f} s of threads: a night of {NIGHT_SEGMENTS:,}")
    print(f"  {whole[0] / wall_s:8.1f} x as fast by the clock, {whole[1] / cpu_s:.1f} x by threads")


def _spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of this process's threads."""
    wall_s, thread_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall_s, time.process_time() - thread_s


def against_peers(arguments: Arguments) -> None:
    folder = arguments.scratch / "peers"
    night = build_night(folder / "calls", 0.15, source_calls(arguments.data), stereo=True, seed=3)
    ours = night_run(night, folder / "out", workers=1)
    calls = sorted(str(path) for path in night.folder.iterdir())
    peers = json.loads(run_child([sys.executable, str(BENCHMARKS / "peers.py"), *calls], folder).said)
    # A night of minutes is mostly starting up; what an hour more costs is what a night of hours pays.
    half = build_night(folder / "more", 0.6, source_calls(arguments.data), stereo=True, seed=4)
    more = night_run(half, folder / "out_more", workers=1)
    own = (more.thread_s - ours.thread_s) / ((half.audio_s - night.audio_s) / 3600)
    print(
        f"\npeers, {peers['speech_s'] / peers['call_s']:.0%} of {peers['call_s'] / 60:.0f} min are segments"
    )
    print(f"  {own:8.1f} s per hour of stereo calls: the whole run of ours, without its start")
    for name, spent in peers.items():
        if name.endswith("_s"):
            continue
        if isinstance(spent, str):
            print(f"  {name}: {spent}")
        else:
            print(f"  {spent:8.1f} s: {name}; ours is {spent / own:.1f} times as fast")


PARTS: dict[str, Callable[[Arguments], None]] = {
    "stereo": lambda arguments: measured_run(arguments, "stereo"),
    "mono": lambda arguments: measured_run(arguments, "mono"),
    "workers": two_workers,
    "ray": on_ray,
    "device": on_device,
    "long": one_long_call,
    "first": first_result,
    "known": nothing_new,
    "publish": publishing,
    "peers": against_peers,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("CALLANALYTICS_DATA"))
    parser.add_argument("--hours", type=float, default=1.0, help="audio of each night")
    parser.add_argument("--known", type=int, default=100_000)
    parser.add_argument("--kept", type=int, default=1_000_000, help="segments of the part `publish`")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cuda", help="of the part `device`")
    parser.add_argument("--parts", default=",".join(PARTS))
    given = parser.parse_args()
    chosen = given.parts.split(",")
    if wrong := set(chosen) - set(PARTS):
        parser.error(f"no such parts: {', '.join(sorted(wrong))}; there are {', '.join(PARTS)}")
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} at the start", end="")
    print("" if given.data else "; synthetic calls, give --data for real ones")
    with tempfile.TemporaryDirectory() as scratch:
        arguments = Arguments(
            *(given.data, given.hours, given.known, given.kept, given.workers, given.device, Path(scratch))
        )
        for part in chosen:
            PARTS[part](arguments)
            sys.stdout.flush()
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
