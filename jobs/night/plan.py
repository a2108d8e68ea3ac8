"""What a night has to do: the recordings of its window without those that are done or given up."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from callanalytics.analysis.words import TRANSCRIPT_SUFFIXES
from callanalytics.config import Settings
from callanalytics.config.call_settings import BESIDE
from callanalytics.config.window import Window
from callanalytics.errors import UsageError
from callanalytics.ingest import Discovered, EarlierRun, find_recordings
from callanalytics.ingest.completeness import stem_of_pair
from callanalytics.ingest.object_store import is_remote
from callanalytics.records import FoundRecording
from callanalytics.store import RunCounts, Store
from callanalytics.store.reader import known_places, read_analysis
from callanalytics.store.recordings import done_among, given_up_among, known_files
from jobs.night import RunOptions
from jobs.publishing import kept_clips


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
    transcripts = Transcripts(settings)
    return [
        replace(
            found,
            transcripts=transcripts.of(
                found.recording.paths,
                (found.recording.recording_id, found.recording.call_id, found.facts.external_id),
            ),
        )
        for found in recordings
    ]


class Transcripts:
    """The transcripts that lie in the places of the settings, by the names that their recordings have.

    Raises:
        UsageError: a folder of transcripts does not exist.
    """

    def __init__(self, settings: Settings) -> None:
        self._beside: dict[Path, dict[str, list[Path]]] | None = None
        if BESIDE in settings.words.transcripts:
            self._beside = {}
        for folder in settings.transcript_folders:
            if not folder.is_dir():
                raise UsageError(f"{folder}: no such folder. Correct transcripts in [words] of config.toml.")
        self._known = _names(
            path for folder in settings.transcript_folders for path in _files_below(folder.resolve())
        )

    def of(self, paths: Sequence[Path], ids: Sequence[str | None]) -> tuple[Path, ...]:
        """Those of a recording with these files and ids, by their real folder: a link that comes later in the
        place of one is not followed. Whether one is a transcript, its content tells."""
        stems = [path.stem for path in paths]
        pair = [stem_of_pair(stem) for stem in stems] if len(stems) > 1 else []
        names = [path.name for path in paths] + stems + pair + [name for name in ids if name]
        found: list[Path] = []
        for name in dict.fromkeys(name.lower() for name in names):
            found += self._known.get(name, ())
            for folder in dict.fromkeys(path.parent for path in paths if not is_remote(path)):
                if self._beside is not None:
                    if folder not in self._beside:
                        self._beside[folder] = _names(_files_in(folder.resolve()))
                    found += self._beside[folder].get(name, ())
        return tuple(dict.fromkeys(sorted(found, key=_rank)))


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


EARLIEST = datetime(1, 1, 1, tzinfo=UTC)  # a window may begin there
_WITHOUT_WORDS = """
SELECT a.analysis_key, a.run_id, a.recording_id, a.call_id, c.external_id
FROM base.analyses a JOIN base.ensembles e USING (ensemble_id) JOIN base.calls c USING (call_id)
WHERE e.promoted AND NOT coalesce(a.words_whole, false) AND c.started_at >= ? AND c.started_at < ?
ORDER BY a.analysis_key
"""


def take_late_transcripts(store: Store, settings: Settings, window: Window) -> int:
    """Give words to calls that were analysed before their transcript came; returns to how many.

    Looks at the calls of the window and of `lookback_days` before it. They are assessed again with the words,
    by the rules in force, and nothing is inferred. Clips that a newly flagged call would have are not cut.

    Raises:
        UsageError: a folder of transcripts does not exist.
        StoreError: the database refuses.
    """
    if not settings.words.transcripts:
        return 0
    from callanalytics.analysis.call import with_words
    from callanalytics.analysis.words.sides import placed_transcript

    since = window.since - min(timedelta(days=settings.discovery.lookback_days), window.since - EARLIEST)
    rows = store.rows(_WITHOUT_WORDS, [since, window.until])
    places = known_places(store, [recording_id for _, _, recording_id, *_ in rows])
    transcripts = Transcripts(settings)
    n_taken = 0
    for key, run_id, recording_id, call_id, external_id in rows:
        paths = list(places.get(recording_id, {}))
        found = transcripts.of(paths, (recording_id, call_id, external_id))
        if not found:
            continue
        call = read_analysis(store, key)
        words = placed_transcript(
            found,
            call.speech,
            max_bytes=settings.words.max_transcript_bytes,
            follow_links=settings.discovery.follow_links,
            beside={path.parent for path in paths},
        )
        if words.utterances or words.note not in (None, call.words.note):
            kept = with_words(call, words, settings)
            store.write([replace(kept, clips=kept_clips(store.workspace, kept))], run_id)
            n_taken += bool(words.utterances)
    return n_taken
