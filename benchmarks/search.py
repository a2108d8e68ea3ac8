"""How long a search takes, and what a large manifest costs.

    python benchmarks/search.py --scratch FOLDER

Prints CPU seconds of this process, which a busy machine does not change much, and memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from callanalytics.config import RecorderSettings, Settings
from callanalytics.config.window import Window
from callanalytics.ingest import Discovered, find_recordings
from callanalytics.ingest.listing import FileKey, KnownFile, SettledCall, nothing_known
from callanalytics.ingest.recorders.facts import FactReader

NOW = datetime.now(UTC)
WINDOW = Window(NOW - timedelta(days=3), NOW)
SALT = b"of no secret at all"
ROW = (
    "2026-11-{day:02d} 08:34:12,K{n},20255{n:05d},600,in,SIP/9,{n},60,ANSWERED,1795163{n:09d}.4,"
    "q-600-{n}.wav,billing\n"
)


def make_files(folder: Path, n: int, n_bytes: int, *, age_s: float) -> Path:
    """`n` files of `n_bytes`, each another content, a thousand a folder."""
    at = time.time() - age_s
    for number in range(n):
        path = folder / f"{number // 1000:03d}" / f"q-600-2025{number:06d}-{NOW:%Y%m%d}-083412-{number}.1.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(8, "little") * (n_bytes // 8))
        os.utime(path, (at, at))
    return folder


def all_known(keys: Sequence[FileKey]) -> Mapping[FileKey, KnownFile]:
    """Every file was analysed before."""
    return {key: KnownFile(key[0], SettledCall(key[0], NOW - timedelta(hours=3))) for key in keys}


def search(folder: Path, *, known: bool) -> None:
    """Search once and print how long it took."""
    started, cpu = time.perf_counter(), time.process_time()
    found: Discovered = find_recordings(
        [folder],
        Settings(),
        window=WINDOW,
        now=NOW,
        salt=SALT,
        known=all_known if known else nothing_known,
        name_skipped=False,
    )
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - started
    print(f"{folder.name}: {found.n_found} found, {cpu_s:.1f} s of CPU, {wall_s:.1f} s by the clock")


def manifest(folder: Path, megabytes: int) -> None:
    """Load a manifest of this size and look up 10,000 recordings in it."""
    path, n_rows = folder / "cdr.csv", 0
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        stream.write("calldate,clid,src,dst,dcontext,channel,duration,billsec,disposition,uniqueid,")
        stream.write("recordingfile,cc_queue\n")
        while stream.tell() < megabytes * 1_000_000 if n_rows % 10_000 == 0 else True:
            stream.write(ROW.format(n=n_rows, day=n_rows % 28 + 1))
            n_rows += 1
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    table = RecorderSettings(name="pbx", kind="generic", manifest=path.name)
    cpu = time.process_time()
    reader = FactReader(Settings(folder=folder, recorder=(table,)), SALT)
    loaded_s = time.process_time() - cpu
    n_known = sum(
        reader.read(Path(f"/calls/q-600-{number}.wav"), NOW).queue == "billing"
        for number in range(0, n_rows, max(1, n_rows // 10_000))
    )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    found_s = time.process_time() - cpu - loaded_s
    print(f"manifest: {megabytes} MB, {n_rows} rows: {loaded_s:.1f} s of CPU, {peak_mb:.0f} MB", end=" ")
    print(f"({before_mb:.0f} MB before); {n_known} recordings found in {found_s:.1f} s")


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True, help="empty folder for files; 1.3 GB")
    parser.add_argument("--known", type=int, default=100_000)
    parser.add_argument("--new", type=int, default=10_000)
    parser.add_argument("--manifest-mb", type=int, default=1_000)
    arguments = parser.parse_args()
    manifest(arguments.scratch, arguments.manifest_mb)
    search(make_files(arguments.scratch / "known", arguments.known, 8, age_s=7_200), known=True)
    search(make_files(arguments.scratch / "new", arguments.new, 20_000, age_s=7_200), known=False)
    search(make_files(arguments.scratch / "young", arguments.new, 20_000, age_s=60), known=False)


if __name__ == "__main__":
    main()
