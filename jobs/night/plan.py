"""What a night has to do: the recordings of its window without those that are done or given up."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.ingest.discovery import Discovered, EarlierRun, find_recordings
from callanalytics.records import FoundRecording
from callanalytics.store import RunCounts, Store
from callanalytics.store.recordings import done_among, given_up_among, known_files
from jobs.night.result import RunOptions


@dataclass(frozen=True, slots=True)
class Todo:
    """What was found and what of it is still to do."""

    found: Discovered  # without the failures that were given up
    recordings: list[FoundRecording]  # to analyse, at most `limit`
    counts: RunCounts  # of the search; the run goes on counting in it


def search(
    store: Store,
    settings: Settings,
    options: RunOptions,
    inputs: Iterable[Path],
    window: Window,
    *,
    ensemble_id: str,
    salt: bytes,
    now: datetime,
    on_progress: Callable[[int, int], None],
) -> Todo:
    """Find the recordings of the window; what this ensemble has labelled and what was given up is skipped.

    What an earlier recipe gave up is tried once more. With `force` nothing is skipped. Raises what
    `find_recordings` raises, and StoreError.
    """
    with _no_garbage_collection():
        found = find_recordings(
            tuple(inputs),
            settings,
            window=window,
            now=now,
            salt=salt,
            known=partial(known_files, store, ensemble_id=None if options.force else ensemble_id),
            # A clock that was ahead: what came since then is told by no comparison of times.
            earlier=[
                EarlierRun(Window(a, b), at, well and at <= now) for a, b, at, well in store.earlier_runs()
            ],
            name_skipped=False,
            on_progress=on_progress,
        )
    if options.force:
        return _todo(found, found.recordings[: options.limit], found.n_found)
    every = [*found.recordings, *(failure.found for failure in found.failures)]
    ids = [each.recording.recording_id for each in every]
    done = done_among(store, ids, ensemble_id)
    given_up, due_again = given_up_among(store, ids, settings.engine.max_attempts)
    settled = done | given_up
    todo = [c for c in found.recordings if c.recording.recording_id not in settled]
    failures = tuple(f for f in found.failures if f.found.recording.recording_id not in given_up)
    n_skipped = found.n_settled + len(every) - len(todo) - len(failures)
    todo, n_given_up = todo[: options.limit], len(given_up - done)
    left = replace(found, failures=failures)
    tried = {each.recording.recording_id for each in (*todo, *(failure.found for failure in failures))}
    return _todo(
        left,
        todo,
        found.n_found,
        n_skipped=n_skipped,
        n_given_up=n_given_up,
        n_tried_anew=len(tried & due_again),
    )


def _todo(found: Discovered, recordings: Sequence[FoundRecording], n_found: int, **skipped: int) -> Todo:
    n_new = len(recordings) + len(found.failures)
    return Todo(found, list(recordings), RunCounts(n_found=n_found, n_new=n_new, **skipped))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """What a search finds stays and holds no cycles: to look for some among 100,000 files costs a seventh."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
