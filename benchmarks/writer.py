"""Where does the one writer saturate? Feeds it made-up calls as fast as it takes them.

    python benchmarks/writer.py --segments 2_000_000 --out DIR

The driver's whole work per call is timed: a result arrives as pools and Ray send it (Arrow in an envelope),
is unpacked and committed in the batches of a night. At every tenth of the way the pace so far is
printed, then what publishing costs at the end, and for comparison the same rows written as Parquet files by
one process without a database, which any number of writers could do side by side.

Calls come from benchmarks/store.py; making them up is not counted. Times are a thread's own, so that other
work on the machine does not count.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from pyarrow import parquet
from store import ENSEMBLE_ID, FIRST, LABELS, MEMBERS, N_DAYS, calls, templates

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.records import CallRows
from callanalytics.store import Store, open_work, publish
from callanalytics.store.rows import as_stream, naming_frames, pack, unpack
from callanalytics.workspace import Workspace
from jobs.night.run import BATCH_CALLS

STEPS = 10


def sent(models: list[CallAnalysis], n_segments: int) -> Iterator[CallRows]:
    """Calls as workers send them. Rows that do not name their call are packed once a template."""
    packed: dict[int, CallRows] = {}
    for call in calls(models, n_segments):
        rest = packed.get(id(call.segments)) or packed.setdefault(id(call.segments), pack(call))
        yield replace(
            rest,
            recording=call.recording,
            started_at=call.facts.started_at,
            tables=rest.tables | {name: as_stream(frame) for name, frame in naming_frames(call).items()},
        )


def feed(store: Store, n_segments: int) -> float:
    """Write calls; returns segments per second of the driver over the whole way."""
    models = templates(Settings())
    store.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
    store.promote_ensemble(ENSEMBLE_ID)
    run_id = store.begin_run(Window(FIRST, FIRST.replace(year=FIRST.year + 1)), ENSEMBLE_ID, "0")
    source = sent(models, n_segments)
    n_done, n_calls, spent_s, wall_s, audio_s = 0, 0, 0.0, 0.0, 0.0
    at_mark = (0, 0.0)
    print(f"{'segments':>12}{'segments/s':>12}{'calls/s':>9}{'audio h/h':>11}{'unpack':>8}{'MB':>8}")
    unpacked_s = 0.0
    while batch := list(islice(source, BATCH_CALLS)):
        parcels = [pickle.dumps(call, protocol=5) for call in batch]
        began, began_wall = time.process_time(), time.perf_counter()
        arrived: list[CallRows] = [pickle.loads(parcel) for parcel in parcels]
        unpacked_s += time.process_time() - began
        store.append(arrived, run_id)
        spent_s += time.process_time() - began
        wall_s += time.perf_counter() - began_wall
        n_calls += len(batch)
        n_done += sum(call.n_segments for call in batch)
        audio_s += sum(call.duration_s for call in batch)
        if n_done - at_mark[0] >= n_segments / STEPS:
            pace = (n_done - at_mark[0]) / (spent_s - at_mark[1])
            size_mb = store.database.stat().st_size / 1e6
            print(
                f"{n_done:>12,}{pace:>12,.0f}{pace * n_calls / n_done:>9.0f}{pace * audio_s / n_done:>11,.0f}"
                f"{unpacked_s / spent_s:>8.0%}{size_mb:>8,.0f}",
                flush=True,
            )
            at_mark = (n_done, spent_s)
    print(
        f"all: {n_done / spent_s:,.0f} segments a second of thread time, {n_done / wall_s:,.0f} by the clock"
    )
    return n_done / spent_s


def published(store: Store, out: Path, n_segments: int) -> None:
    size, free = store.database.stat().st_size, shutil.disk_usage(out).free
    if free < 1.1 * size:
        print(f"not published: a copy of {size / 1e9:.1f} GB does not fit into {free / 1e9:.1f} GB")
        return
    began, began_wall = time.process_time(), time.perf_counter()
    target = publish(store)
    spent_s, wall_s = time.process_time() - began, time.perf_counter() - began_wall
    n_bytes = target.stat().st_size
    print(f"publishing: {n_segments / spent_s:,.0f} segments a second of thread time, {wall_s:.1f} s in all;")
    print(f"  {n_bytes / n_segments:,.0f} bytes a segment published")


def as_parquet(folder: Path, n_segments: int) -> None:
    """One file per table and batch: what a writer beside others would do."""
    folder.mkdir(parents=True, exist_ok=True)
    source = sent(templates(Settings()), n_segments)
    spent_s, n_done, n_bytes, number = 0.0, 0, 0, 0
    while batch := list(islice(source, BATCH_CALLS * 2)):
        began = time.process_time()
        tables = unpack(dict(enumerate(batch, start=number * BATCH_CALLS * 2)))
        paths = [folder / f"{name}-{number:06d}.parquet" for name in tables]
        for path, table in zip(paths, tables.values(), strict=True):
            parquet.write_table(table, path, compression="zstd")
        spent_s += time.process_time() - began
        n_bytes += sum(path.stat().st_size for path in paths)
        n_done += sum(call.n_segments for call in batch)
        number += 1
        for path in paths:
            path.unlink()
    print(
        f"Parquet: {n_done / spent_s:,.0f} segments a second of thread time, {n_bytes / n_done:,.0f} B each"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True, help="folder of the database; kept")
    options = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, {N_DAYS} days of calls")
    with open_work(Workspace(options.out)) as store:
        feed(store, options.segments)
        published(store, options.out, options.segments)
    as_parquet(options.out / "parquet", min(options.segments, 500_000))
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
