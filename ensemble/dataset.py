"""Corpora heard through the front end, several times over, kept on disk.

A *hearing* is one pass over all clips with one list of seeds for
:func:`ensemble.augment.augment`. Training mixes several hearings, so a clip is
seen on many lines without paying for the augmentation in every epoch. Files
are ``.npy`` and JSON, named by a hash of everything that went in, and never
part of the package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.augment import CLEAN, TELEPHONE, LineSettings, augment, line_level
from ensemble.corpora import Clip, Unusable, decode_clip
from ensemble.errors import CorpusError, WaveformError
from ensemble.spectrogram import FrontEnd, Statistics, hear

SILENT_PEAK = 1e-3
"""A clip that never exceeds this (-60 dBFS) is silent and teaches nothing."""
CACHE_FORMAT = 4


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


def usable_clips(
    clips: Sequence[Clip], sample_rate_hz: int
) -> tuple[tuple[Clip, ...], tuple[NDArray[np.float32], ...], tuple[Unusable, ...]]:
    """Decode; set aside what is unreadable, silent or the same audio as an earlier clip, with the reason."""
    kept: list[Clip] = []
    waves: list[NDArray[np.float32]] = []
    unusable: list[Unusable] = []
    seen: dict[bytes, Path] = {}
    for clip in clips:
        try:
            wave = decode_clip(clip, sample_rate_hz)
        except (CorpusError, WaveformError) as error:
            unusable.append(Unusable(clip.path, f"unreadable: {error}"))
            continue
        digest = hashlib.sha256(wave.tobytes()).digest()
        if np.abs(wave).max() < SILENT_PEAK:
            unusable.append(Unusable(clip.path, "silent"))
        elif digest in seen:
            unusable.append(Unusable(clip.path, f"same audio as {seen[digest].name}"))
        else:
            seen[digest] = clip.path
            kept.append(clip)
            waves.append(wave)
    return tuple(kept), tuple(waves), tuple(unusable)


def usable_clips_cached(
    clips: Sequence[Clip], sample_rate_hz: int, cache: Path
) -> tuple[tuple[Clip, ...], Callable[[], Sequence[NDArray[np.float32]]], tuple[Unusable, ...]]:
    """As :func:`usable_clips`, remembering the verdicts in ``cache``; decodes only when asked for audio."""
    path = cache / f"usable-{sample_rate_hz}-{_content_key(clips)[:16]}.json"
    if path.is_file():
        reasons: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        good = tuple(c for i, c in enumerate(clips) if str(i) not in reasons)
        bad = tuple(Unusable(clips[int(i)].path, reason) for i, reason in reasons.items())
        return good, lambda: [decode_clip(c, sample_rate_hz) for c in good], bad
    good, waves, bad = usable_clips(clips, sample_rate_hz)
    index = {id(clip): i for i, clip in enumerate(clips)}
    kept = {index[id(clip)] for clip in good}
    lost = (i for i in range(len(clips)) if i not in kept)
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    told = {str(i): u.reason for i, u in zip(lost, bad, strict=True)}
    unfinished.write_text(json.dumps(told), encoding="utf-8")
    unfinished.replace(path)  # a kill at any moment leaves no half of it
    return good, lambda: waves, bad


def clips_hash(clips: Sequence[Clip]) -> str:
    """Hash of what was labelled how: names, sizes, labels, speakers; not where the files lie."""
    rows = [(c.path.name, c.path.stat().st_size, c.emotion, c.speaker, c.start_s, c.end_s) for c in clips]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _content_key(clips: Sequence[Clip]) -> str:
    """As :func:`clips_hash`, and when each file changed: other sound of the same name and size is another."""
    changed = [c.path.stat().st_mtime_ns for c in clips]
    return hashlib.sha256(json.dumps([clips_hash(clips), changed]).encode()).hexdigest()


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
    key = json.dumps(
        [CACHE_FORMAT, _content_key(clips), asdict(hearing), front.to_card(), sorted(babblers)],
        sort_keys=True,
    ).encode()
    folder = cache / f"{hearing.name}-{hashlib.sha256(key).hexdigest()[:16]}"
    names = ("frames", "starts", "n_active", "total", "squares")
    if not (folder / "done.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        heard = _listen(clips, waves(), hearing, front, babblers)
        for name in names:
            np.save(folder / f"{name}.npy", getattr(heard, name))
        (folder / "done.json").write_bytes(key)
    return Heard(*(np.load(folder / f"{name}.npy") for name in names))


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
