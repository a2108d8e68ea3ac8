"""What a night has to do: the recordings of its window without those that are done or given up."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from callanalytics.analysis.words import TRANSCRIPT_SUFFIXES
from callanalytics.config import Settings
from callanalytics.config.call_settings import BESIDE
from callanalytics.config.window import Window
from callanalytics.errors import UsageError
from callanalytics.ingest.completeness import stem_of_pair
from callanalytics.ingest.discovery import Discovered, EarlierRun, find_recordings
from callanalytics.ingest.object_store import is_remote
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


def _todo(
    found: Discovered,
    recordings: Sequence[FoundRecording],
    n_found: int,
    n_skipped: int = 0,
    n_given_up: int = 0,
    n_tried_anew: int = 0,
) -> Todo:
    counts = RunCounts(
        n_found=n_found,
        n_new=len(recordings) + len(found.failures),
        n_skipped=n_skipped,
        n_given_up=n_given_up,
        n_tried_anew=n_tried_anew,
    )
    return Todo(found, list(recordings), counts)


# How the name of a transcript goes on after that of its recording or contact.
_MORE_OF_A_NAME = re.compile(
    r"[._-](?:transcript(?:ion)?|analysis|words|captions|subtitles|whisperx?|diari[sz]ed)(?:[._-].*)?$"
)


def with_transcripts(recordings: Sequence[FoundRecording], settings: Settings) -> list[FoundRecording]:
    """The recordings, each with the transcripts that `[words] transcripts` has of it.

    One belongs to the recording whose name, name without extension, recorder's id or hash it has for a name;
    "_transcript", "_analysis" and the like may follow. JSON goes before captions, these before text.

    Raises:
        UsageError: a folder of transcripts does not exist.
    """
    if not settings.words.transcripts:
        return list(recordings)
    folders = settings.transcript_folders
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder. Correct transcripts in [words] of config.toml.")
    known = _names(path for folder in folders for path in _files_below(folder))
    beside: dict[Path, dict[str, list[Path]]] = {}

    def found(recording: FoundRecording) -> tuple[Path, ...]:
        paths = list[Path]()
        for name in _names_of(recording):
            paths += known.get(name, ())
            for path in recording.recording.paths if BESIDE in settings.words.transcripts else ():
                if not is_remote(path):
                    if path.parent not in beside:
                        beside[path.parent] = _names(_files_in(path.parent))
                    paths += beside[path.parent].get(name, ())
        # Files of ours that are recordings, or a sidecar that states facts, are told by their content.
        return tuple(dict.fromkeys(sorted(paths, key=_rank)))

    return [replace(recording, transcripts=found(recording)) for recording in recordings]


def _names_of(found: FoundRecording) -> tuple[str, ...]:
    recording, facts = found.recording, found.facts
    stems = [path.stem for path in recording.paths]
    pair = [stem_of_pair(stem) for stem in stems] if len(stems) > 1 else []
    names = [path.name for path in recording.paths] + stems + pair
    names += [recording.recording_id, recording.call_id, *([facts.external_id] if facts.external_id else [])]
    return tuple(dict.fromkeys(name.lower() for name in names))


def _names(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """The transcripts by every name that their recording may have."""
    names: dict[str, list[Path]] = {}
    for path in paths:
        if path.suffix.lower() in TRANSCRIPT_SUFFIXES:
            stem = path.stem.lower()
            for name in dict.fromkeys((stem, _MORE_OF_A_NAME.sub("", stem))):
                names.setdefault(name, []).append(path)
    return names


def _rank(path: Path) -> tuple[int, str]:
    return TRANSCRIPT_SUFFIXES.index(path.suffix.lower()), str(path)


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # the recording in it says what is wrong
        return []


def _files_below(folder: Path) -> Iterator[Path]:
    for name, _, files in os.walk(folder):
        yield from (Path(name, file) for file in sorted(files))


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
