"""Clips heard through the front end, several times over, kept on disk.

A *hearing* is one pass over all clips with one list of seeds for
:func:`ensemble.training.augmentation.augment`. Training mixes several hearings, so a clip is
seen on many lines without paying for the augmentation in every epoch. Files
are ``.npy`` and JSON, named by a hash of everything that went in, and never
part of the package.
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
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, decode_clip
from ensemble.inference.spectrogram import FrontEnd, Statistics, hear
from ensemble.model_errors import TrainingError
from ensemble.training.augmentation import CLEAN, TELEPHONE, LineSettings, augment, line_level
from ensemble.training.dataset import content_key

CACHE_FORMAT = 4
DONE = "done.json"
"""Written last: a hearing with it is whole."""
MANY_CLIPS = 400
"""From here on hearing takes longer than starting a process that does it (some 15 ms a clip)."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """One way of hearing every clip.

    ``by_speaker``: one line per speaker, as in a call, so that the speaker's clips
    keep their levels against each other; else every clip on a line of its own.
    """

    name: str
    line: LineSettings
    by_speaker: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Heard:
    """All clips of one hearing: decibel frames end to end and statistics per clip.

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
class Listened:
    """How many of the hearings that a training needs are there."""

    n_done: int
    n_hearings: int


def standard_hearings(n_augmented: int, seed: int) -> tuple[Hearing, ...]:
    """Clean, telephone, and ``n_augmented`` random ones: by speaker and by clip in turn."""
    return (
        Hearing("clean", CLEAN, True, seed),
        Hearing("telephone", TELEPHONE, True, seed),
        *(
            Hearing(f"augmented-{i}", LineSettings(), i % 2 == 0, seed + 1000 * (i + 1))
            for i in range(n_augmented)
        ),
    )


def listen(
    clips: Sequence[Clip],
    waves: Callable[[], Sequence[NDArray[np.float32]]],
    hearing: Hearing,
    front: FrontEnd,
    cache: Path,
    babblers: frozenset[str],
) -> Heard:
    """Hear every clip, or read an earlier hearing of the same clips and settings from ``cache``.

    ``waves`` is called only when the cache has nothing; same order as ``clips``.
    ``babblers`` are the speakers whose clips may be mixed in as babble: the
    training ones, so that no test voice is ever heard in training.
    """
    folder, key = _place(clips, hearing, front, cache, babblers)
    names = ("frames", "starts", "n_active", "total", "squares")
    if not (folder / DONE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # sums of more threads end in other last digits
            heard = _listen(clips, waves(), hearing, front, babblers)
        for name in names:
            np.save(folder / f"{name}.npy", getattr(heard, name))
        (folder / DONE).write_bytes(key)
    return Heard(*(np.load(folder / f"{name}.npy") for name in names))


def _place(
    clips: Sequence[Clip], hearing: Hearing, front: FrontEnd, cache: Path, babblers: frozenset[str]
) -> tuple[Path, bytes]:
    """Folder of a hearing, and all that it depends on as JSON."""
    key = json.dumps(
        [CACHE_FORMAT, content_key(clips), asdict(hearing), front.to_card(), sorted(babblers)],
        sort_keys=True,
    ).encode()
    return cache / f"{hearing.name}-{hashlib.sha256(key).hexdigest()[:16]}", key


def listen_to_all(
    clips: tuple[Clip, ...],
    waves: Callable[[], Sequence[NDArray[np.float32]]],
    hearings: Sequence[Hearing],
    front: FrontEnd,
    cache: Path,
    babblers: frozenset[str],
    *,
    n_processes: int = 1,
    say: Callable[[Listened], None] = lambda _: None,
) -> tuple[Heard, ...]:
    """Every hearing, as :func:`listen`; ``say`` is told of each that the cache did not have.

    Many clips are heard in ``n_processes`` processes, a hearing each. What is heard does not depend on their
    number. Raises TrainingError when a process is lost, as for lack of memory.
    """
    waves = lru_cache(waves)
    missing = [h for h in hearings if not (_place(clips, h, front, cache, babblers)[0] / DONE).is_file()]
    n_processes = min(n_processes, len(missing)) if len(clips) >= MANY_CLIPS else 1
    n_done = len(hearings) - len(missing)
    if missing:
        say(Listened(n_done, len(hearings)))
    if n_processes > 1:
        tasks = [partial(_listen_elsewhere, clips, h, front, cache, babblers) for h in missing]
        done: Iterator[object] = _in_processes(tasks, n_processes)
    else:
        done = (listen(clips, waves, h, front, cache, babblers) for h in missing)
    for _ in done:
        n_done += 1
        say(Listened(n_done, len(hearings)))
    return tuple(listen(clips, waves, h, front, cache, babblers) for h in hearings)


def _in_processes(tasks: Sequence[Callable[[], None]], n_processes: int) -> Iterator[None]:
    """Once for each task that is done."""
    pool = ProcessPoolExecutor(
        n_processes, multiprocessing.get_context("spawn"), initializer=_end_with_parent
    )
    try:
        for done in as_completed([pool.submit(task) for task in tasks]):
            yield done.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            f"one of {n_processes} processes that heard the clips ended early, mostly for lack of memory; "
            "run it again with --threads 1, it goes on where it was"
        ) from error
    finally:
        for process in list((pool._processes or {}).values()):
            process.kill()  # what it was at is heard again
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


def _listen_elsewhere(
    clips: tuple[Clip, ...], hearing: Hearing, front: FrontEnd, cache: Path, babblers: frozenset[str]
) -> None:
    listen(clips, lambda: _decoded(clips, front.sample_rate_hz), hearing, front, cache, babblers)


@lru_cache(maxsize=1)
def _decoded(clips: tuple[Clip, ...], sample_rate_hz: int) -> tuple[NDArray[np.float32], ...]:
    """Held for the process's next hearing of the same clips."""
    return tuple(decode_clip(clip, sample_rate_hz) for clip in clips)


def _listen(
    clips: Sequence[Clip],
    waves: Sequence[NDArray[np.float32]],
    hearing: Hearing,
    front: FrontEnd,
    babblers: frozenset[str],
) -> Heard:
    babble = [wave for clip, wave in zip(clips, waves, strict=True) if clip.speaker in babblers]
    speakers = {name: i for i, name in enumerate(sorted({clip.speaker for clip in clips}))}
    of: dict[str, list[NDArray[np.float32]]] = {}
    for clip, wave in zip(clips, waves, strict=True):
        of.setdefault(clip.speaker, []).append(wave)
    level = {name: line_level(own) if hearing.by_speaker else None for name, own in of.items()}
    frames, starts, statistics = [], [0], []
    for index, (clip, wave) in enumerate(zip(clips, waves, strict=True)):
        line_seed = hearing.seed + (speakers[clip.speaker] if hearing.by_speaker else 10_000 + index)
        heard_wave = augment(
            wave,
            hearing.line,
            line_seed,
            hearing.seed + 50_000 + index,
            babble,
            front.sample_rate_hz,
            level[clip.speaker],
        )
        mel, known = hear(heard_wave, front)
        frames.append(mel.astype(np.float16))
        starts.append(starts[-1] + len(mel))
        statistics.append(known)
    return Heard(
        np.concatenate(frames),
        np.array(starts),
        np.array([s.n_frames for s in statistics]),
        np.stack([s.total for s in statistics]),
        np.stack([s.squares for s in statistics]),
    )
