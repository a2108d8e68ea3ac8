"""Spectrograms of all clips in several augmented views, kept on disk.

A *view* is one pass of :func:`ensemble.training.augmentation.augment` over all clips with one list of seeds.
Training mixes several views, so a clip comes through many channels without paying for the augmentation in
every epoch. Files are ``.npy`` and JSON, named by a hash of everything that went in, and never part of the
package.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, decoded_clips
from ensemble.corpora.clip import content_key
from ensemble.inference.spectrogram import FrontEnd, Statistics, extract
from ensemble.model_errors import TrainingError
from ensemble.training.augmentation import (
    CLEAN,
    TELEPHONE,
    AugmentSettings,
    augment,
    channel_level,
    coded_speech,
)

CACHE_FORMAT = 5
DONE = "done.json"
"""Written last: a view with it is whole."""
ARRAYS = ("frames", "starts", "n_active", "total", "squares")
MANY_CLIPS = 400
"""From here on extraction takes longer than starting a process that does it (some 15 ms a clip)."""


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """How one view of every clip is made.

    ``by_speaker``: one channel per speaker, as in a call, so that the speaker's clips
    keep their levels against each other; else every clip has a channel of its own.
    """

    name: str
    augmentation: AugmentSettings
    by_speaker: bool
    seed: int

    def key(self) -> dict[str, object]:
        """Entries of the cache's key: names as in caches that are there."""
        names = {"name": self.name, "by_speaker": self.by_speaker, "seed": self.seed}
        line = asdict(self.augmentation)
        if not self.augmentation.codings:
            del line["codings"]
        return {**names, "line": line}


@dataclass(frozen=True, slots=True)
class View:
    """All clips in one view: decibel frames end to end and statistics per clip.

    ``frames`` float16 (total frames, n_mels); clip i is ``frames[starts[i]:starts[i + 1]]``.
    ``n_active`` float64 (n,); ``total`` and ``squares`` float64 (n, n_mels).
    """

    frames: NDArray[np.float16]
    starts: NDArray[np.int64]
    n_active: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def clip(self, index: int) -> NDArray[np.float32]:
        """Frames of clip ``index``, (n_frames, n_mels) float32 dB."""
        return self.frames[self.starts[index] : self.starts[index + 1]].astype(np.float32)

    def statistics(self, indices: Sequence[int] | NDArray[np.intp]) -> Statistics:
        """Sum of the statistics of these clips."""
        i = np.asarray(indices)
        return Statistics(
            float(self.n_active[i].sum()), self.total[i].sum(axis=0), self.squares[i].sum(axis=0)
        )


@dataclass(frozen=True, slots=True)
class Extracted:
    """Progress: how many of the views that a training needs are there."""

    n_done: int
    n_views: int


def standard_views(
    n_augmented: int, seed: int, n_coded: int = 0, sample_rate_hz: int = 8000
) -> tuple[ViewSettings, ...]:
    """Clean, telephone, ``n_augmented`` random ones (by speaker and by clip in turn), ``n_coded`` recordings.

    In each of the last every speaker has another of the codings in which recorders keep speech.
    """
    return (
        ViewSettings("clean", CLEAN, True, seed),
        ViewSettings("telephone", TELEPHONE, True, seed),
        *(
            ViewSettings(f"augmented-{i}", AugmentSettings(), i % 2 == 0, seed + 1000 * (i + 1))
            for i in range(n_augmented)
        ),
        *(
            ViewSettings(f"coded-{i}", coded_speech(sample_rate_hz), True, seed + 1000 * (i + 1) + 500)
            for i in range(n_coded)
        ),
    )


@dataclass(frozen=True, slots=True)
class ViewCache:
    """Views of ``clips`` in ``folder``; what is there is read, what is missing extracted.

    ``babble_speakers`` are those whose clips may be mixed in as babble: the training ones, so that no test
    voice is ever part of training.
    """

    clips: tuple[Clip, ...]
    front: FrontEnd
    folder: Path
    babble_speakers: frozenset[str]

    def read_or_extract(
        self, view: ViewSettings, waves: Callable[[], Sequence[NDArray[np.float32]]] | None = None
    ) -> View:
        """One view. ``waves`` gives the audio in the order of ``clips`` (None: decoded here)."""
        folder, key = self._place(view)
        if not (folder / DONE).is_file():
            from threadpoolctl import threadpool_limits

            audio = waves() if waves else decoded_clips(self.clips, self.front.sample_rate_hz)
            folder.mkdir(parents=True, exist_ok=True)
            with threadpool_limits(1):  # sums of more threads end in other last digits
                made = extract_view(self.clips, audio, view, self.front, self.babble_speakers)
            for name in ARRAYS:
                np.save(folder / f"{name}.npy", getattr(made, name))
            (folder / DONE).write_bytes(key)
        return View(*(np.load(folder / f"{name}.npy") for name in ARRAYS))

    def all_views(
        self,
        views: Sequence[ViewSettings],
        waves: Callable[[], Sequence[NDArray[np.float32]]],
        *,
        n_processes: int = 1,
        say: Callable[[Extracted], None] = lambda _: None,
    ) -> tuple[View, ...]:
        """Every view; ``say`` is called for each that the cache did not have.

        Many clips are extracted in ``n_processes`` processes, a view each, with the same result.

        Raises:
            TrainingError: when a process is lost, as for lack of memory.
        """
        missing = [view for view in views if not (self._place(view)[0] / DONE).is_file()]
        n_processes = min(n_processes, len(missing)) if len(self.clips) >= MANY_CLIPS else 1
        n_done = len(views) - len(missing)
        if missing:
            say(Extracted(n_done, len(views)))
        tasks = [partial(self._extract_only, view) for view in missing]
        done = _in_processes(tasks, n_processes) if n_processes > 1 else (task(waves) for task in tasks)
        for _ in done:
            n_done += 1
            say(Extracted(n_done, len(views)))
        return tuple(self.read_or_extract(view, waves) for view in views)

    def _extract_only(
        self, view: ViewSettings, waves: Callable[[], Sequence[NDArray[np.float32]]] | None = None
    ) -> str:
        """As a task: a view is read where it is needed, and not sent between processes."""
        self.read_or_extract(view, waves)
        return view.name

    def _place(self, view: ViewSettings) -> tuple[Path, bytes]:
        """Folder of a view, and all that it depends on as JSON."""
        depends_on = [CACHE_FORMAT, content_key(self.clips), view.key(), self.front.to_card()]
        key = json.dumps([*depends_on, sorted(self.babble_speakers)], sort_keys=True).encode()
        return self.folder / f"{view.name}-{hashlib.sha256(key).hexdigest()[:16]}", key


def _in_processes(tasks: Sequence[Callable[[], str]], n_processes: int) -> Iterator[str]:
    """Yield the result of each task when it is done."""
    pool = ProcessPoolExecutor(
        n_processes, multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )
    try:
        for done in as_completed([pool.submit(task) for task in tasks]):
            yield done.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            f"one of {n_processes} processes that extracted spectrograms ended early, mostly for lack of "
            "memory; run it again with --threads 1, it goes on where it was"
        ) from error
    finally:
        for process in list((pool._processes or {}).values()):
            process.kill()  # its view is extracted again
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """In a process: a parent that is interrupted ends it, one that is killed cannot."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def extract_view(
    clips: Sequence[Clip],
    waves: Sequence[NDArray[np.float32]],
    view: ViewSettings,
    front: FrontEnd,
    babble_speakers: frozenset[str],
) -> View:
    """Augment and extract every clip; nothing is read or written."""
    frames, starts, statistics = [], [0], []
    for changed in augmented(clips, waves, view, front.sample_rate_hz, babble_speakers):
        mel, known = extract(changed, front)
        frames.append(mel.astype(np.float16))
        starts.append(starts[-1] + len(mel))
        statistics.append(known)
    return View(
        np.concatenate(frames),
        np.array(starts),
        np.array([s.n_frames for s in statistics]),
        np.stack([s.total for s in statistics]),
        np.stack([s.squares for s in statistics]),
    )


def augmented(
    clips: Sequence[Clip],
    waves: Sequence[NDArray[np.float32]],
    view: ViewSettings,
    sample_rate_hz: int,
    babble_speakers: frozenset[str],
) -> Iterator[NDArray[np.float32]]:
    """The sound of every clip in a view, in order."""
    babble = [wave for clip, wave in zip(clips, waves, strict=True) if clip.speaker in babble_speakers]
    of: dict[str, list[NDArray[np.float32]]] = {}
    for clip, wave in zip(clips, waves, strict=True):
        of.setdefault(clip.speaker, []).append(wave)
    level = {name: channel_level(own) if view.by_speaker else None for name, own in of.items()}
    for index, (clip, wave) in enumerate(zip(clips, waves, strict=True)):
        yield augment(
            wave,
            view.augmentation,
            # By the speaker's name: whoever else is there, a voice is held out and tested in one channel.
            channel_seed=view.seed + (crc32(clip.speaker.encode()) if view.by_speaker else 10_000 + index),
            clip_seed=view.seed + 50_000 + index,
            babble=babble,
            sample_rate_hz=sample_rate_hz,
            channel_rms=level[clip.speaker],
        )
