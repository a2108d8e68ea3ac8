"""Build the folder of the demonstration: speak, mix, write, date, and put it in place in one step."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from callanalytics.demo.mix import mix_call
from callanalytics.demo.recorder_files import Take, write_take
from callanalytics.demo.script import Call, calls
from callanalytics.demo.synthetic_voices import speak_calls
from callanalytics.errors import UsageError
from callanalytics.records import FloatArray

__all__ = ["DemoSummary", "build_demo"]

# Lists the files that the demonstration made, so that no file of anybody else is ever removed.
MARKER_NAME = ".callanalytics-demo"
AREA_CODES = ("202", "203", "212")
MAX_DAYS_BEFORE = len(AREA_CODES) - 1


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What was built. Paths are absolute."""

    folder: Path
    n_calls: int  # calls that can be analysed
    n_files: int  # audio files: a pair counts twice, broken ones count, sidecars do not
    broken: tuple[Path, ...]  # cut off on purpose
    upset: tuple[Path, ...]  # the caller gets louder, faster and higher from the middle on


def build_demo(
    out: Path,
    *,
    day: date,
    zone: ZoneInfo,
    n_days_before: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> DemoSummary:
    """Fill `out` with calls of `day` (local times of `zone`). The same day gives the same bytes.

    Args:
        out: a folder that is missing, empty, or a former demonstration, which is replaced.
        day: date of the calls.
        zone: of their times.
        n_days_before: also calm calls of so many days before, at most `MAX_DAYS_BEFORE`, by other callers;
            then parcels are late on the last day, so that something has changed.
        on_progress: called with calls done and calls in all.

    Raises:
        UsageError: `out` holds something that the demonstration did not make, or cannot be written.
        CallAnalyticsError: the speech synthesiser is missing or fails.
    """
    folder = out.resolve()
    _refuse_foreign(folder)
    wanted = _wanted(day, n_days_before)
    texts = {index: call for _day, index, call in wanted}
    speech = dict(zip(texts, speak_calls(tuple(texts.values())), strict=True))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the last step is a rename on one file system.
        workshop = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            summary = _fill(workshop / "demo", folder, speech, wanted, zone, on_progress)
            if folder.exists():
                folder.rename(workshop / "former")
            (workshop / "demo").rename(folder)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
    except OSError as problem:
        raise UsageError(
            f"{folder}: the demonstration cannot be written ({problem.strerror or problem}). "
            "Give --out a folder on a disk with 20 MB free where you may write."
        ) from None
    return summary


def _wanted(day: date, n_days_before: int) -> list[tuple[date, int, Call]]:
    """The calls to make, each with its day and its place in the script, the last day first.

    Every day has callers of its own: their numbers have another area code.
    """
    return [
        (day - timedelta(days=days_ago), index, replace(call, number=AREA_CODES[days_ago] + call.number[3:]))
        for days_ago in range(n_days_before + 1)
        for index, call in enumerate(calls())
        if call.is_made(days_ago, n_days_before)
    ]


def _fill(
    root: Path,
    folder: Path,
    speech: dict[int, list[FloatArray]],
    wanted: Sequence[tuple[date, int, Call]],
    zone: ZoneInfo,
    on_progress: Callable[[int, int], None] | None,
) -> DemoSummary:
    """Write every call below `root`, which becomes `folder`. speech: of each place in the script."""
    root.mkdir()
    n_files = 0
    broken: list[Path] = []
    upset: list[Path] = []
    for n_done, (day, index, call) in enumerate(wanted, start=1):
        sides = mix_call(call, speech[index], np.random.default_rng([day.toordinal(), index]))
        take = Take(call, index, datetime.combine(day, call.at, tzinfo=zone), sides)
        files = write_take(root, take)
        n_files += len(files)
        for kind, chosen in ((broken, call.broken), (upset, call.upset)):
            kind.extend(folder / file.relative_to(root) for file in files if chosen)
        for file in files:
            # As if the recorder had closed it: nothing looks as if it were still being written.
            os.utime(file, (take.ended_at.timestamp(),) * 2)
        if on_progress:
            on_progress(n_done, len(wanted))
    _write_marker(root)
    n_calls = sum(not call.broken for _day, _index, call in wanted)
    return DemoSummary(folder, n_calls, n_files, tuple(broken), tuple(upset))


def _write_marker(root: Path) -> None:
    """List what was made, one path a line, below a line for people."""
    title = "# Synthetic calls made by `callanalytics demo`. The folder is replaced when it runs again."
    (root / MARKER_NAME).write_text("\n".join([title, *sorted(_files(root))]) + "\n", encoding="utf-8")


def _files(root: Path) -> set[str]:
    """Files below `root`, as paths relative to it; links are not followed."""
    found = (Path(parent, name) for parent, _, names in os.walk(root) for name in names)
    return {file.relative_to(root).as_posix() for file in found}


def _refuse_foreign(folder: Path) -> None:
    """Raise UsageError unless `folder` is missing, empty or only holds a former demonstration."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder}: is a file, expected a folder to fill. Give --out another name.")
    marker = folder / MARKER_NAME
    made = set(marker.read_text(encoding="utf-8").splitlines()) if marker.is_file() else set()
    foreign = sorted(_files(folder) - made - {MARKER_NAME})
    if foreign:
        raise UsageError(
            f"{folder}: holds files that the demonstration did not make ({len(foreign)}), for example "
            f"{foreign[0]}. Give --out a new or empty folder."
        )
