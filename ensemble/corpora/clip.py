"""Clips of labelled speech, their sound whatever the container, and which of them can be used."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.model_errors import CorpusError, WaveformError

AUDIO_SUFFIXES = frozenset(
    {".wav", ".opus", ".ogg", ".oga", ".flac", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".wma"}
    | {".amr", ".gsm", ".avi", ".mp4", ".webm", ".mkv"}
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled utterance. ``speaker`` is unique over corpora; times are seconds into the file.

    ``channel`` counts from 0; None is the mean of all channels.
    """

    path: Path
    corpus: str
    emotion: str
    speaker: str
    sex: str | None = None
    sentence: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    split: str | None = None
    votes: tuple[float, ...] | None = None
    """Share of voice-only raters for each of EMOTIONS, when the corpus has them."""
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A file of the corpus that is not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Clips of one corpus in sorted order and what could not be used."""

    name: str
    clips: tuple[Clip, ...]
    unusable: tuple[Unusable, ...] = ()

    def counts(self) -> dict[str, int]:
        """Clips per emotion, and unusable files per reason (prefixed ``unusable:``)."""
        found = Counter(clip.emotion for clip in self.clips)
        found.update(f"unusable: {each.reason}" for each in self.unusable)
        return dict(sorted(found.items()))


def made(name: str, folder: Path, clips: Sequence[Clip], unusable: Sequence[Unusable]) -> Corpus:
    """The corpus of what was found in ``folder``.

    Raises:
        CorpusError: when that is no clip at all.
    """
    if not clips:
        raise CorpusError(f"{folder}: no clip of {name} found ({len(unusable)} files not understood)")
    return Corpus(name, tuple(clips), tuple(unusable))


def audio_files(folder: Path) -> Iterator[Path]:
    """Every audio file below a folder, sorted; hidden ones are no part of a corpus."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def keep_emotions(corpus: Corpus, labels: Iterable[str]) -> Corpus:
    """The corpus with only the clips of these labels; the others become unusable, with that reason."""
    wanted = frozenset(labels)
    kept = tuple(clip for clip in corpus.clips if clip.emotion in wanted)
    dropped = tuple(
        Unusable(clip.path, f"{clip.emotion} is not among the labels")
        for clip in corpus.clips
        if clip.emotion not in wanted
    )
    return replace(corpus, clips=kept, unusable=corpus.unusable + dropped)


MAX_CLIP_S = 60.0
SILENT_PEAK = 1e-3
"""A clip that never exceeds this (-60 dBFS) is silent and teaches nothing."""


def decode_clip(clip: Clip, sample_rate_hz: int) -> NDArray[np.float32]:
    """Mono float32 audio (n,) of a clip at the asked rate.

    Raises:
        CorpusError: when it cannot be decoded, is empty, or is over a minute (an utterance is not).
    """
    import soundfile as sf
    import soxr

    try:
        with sf.SoundFile(clip.path) as file:
            rate_hz = file.samplerate
            start, end = _part(clip, rate_hz, file.frames)
            if start:
                file.seek(start)  # of a call of an hour only the clip is read
            samples = file.read(end - start, dtype="float32", always_2d=True)
    except (sf.LibsndfileError, OSError, TypeError) as error:  # TypeError: raw samples say no rate
        samples, rate_hz = _decode_with_ffmpeg(clip.path, error)
        start, end = _part(clip, rate_hz, len(samples))
        samples = samples[start:end]
    if clip.channel is not None and clip.channel >= samples.shape[1]:
        raise CorpusError(f"{clip.path}: has no channel {clip.channel}, it has {samples.shape[1]}")
    mono = samples.mean(axis=1) if clip.channel is None else samples[:, clip.channel]
    if rate_hz != sample_rate_hz and mono.size:
        mono = soxr.resample(mono, rate_hz, sample_rate_hz)
    if not mono.size:
        raise CorpusError(f"{clip.path}: holds no audio between the clip's start and end")
    audio: NDArray[np.float32] = np.clip(np.nan_to_num(mono), -1.0, 1.0).astype(np.float32)
    return audio


_held: dict[tuple[str, int], tuple[NDArray[np.float32], ...]] = {}
_lock = threading.Lock()


def decoded_clips(clips: Sequence[Clip], sample_rate_hz: int) -> tuple[NDArray[np.float32], ...]:
    """The sound of every clip, held until another set is asked for: decoding is a third of an extraction."""
    key = content_key(clips), sample_rate_hz
    with _lock:
        if key not in _held:
            _held.clear()
            _held[key] = tuple(decode_clip(clip, sample_rate_hz) for clip in clips)
        return _held[key]


def forget_sound() -> None:
    """Give back the memory of :func:`decoded_clips`, where nobody will ask for the same clips again."""
    with _lock:
        _held.clear()


def _part(clip: Clip, rate_hz: int, n_there: int) -> tuple[int, int]:
    """First sample of the clip in its file and the one after its last."""
    longest_s = n_there / rate_hz
    start = round(min(clip.start_s or 0.0, longest_s) * rate_hz)
    end = n_there if clip.end_s is None else round(min(clip.end_s, longest_s) * rate_hz)
    if end - start > MAX_CLIP_S * rate_hz:
        raise CorpusError(f"{clip.path}: {(end - start) / rate_hz:.0f} s long; cut it to utterances first")
    return start, end


def _decode_with_ffmpeg(path: Path, first_error: Exception) -> tuple[NDArray[np.float32], int]:
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp")
            pieces = [
                out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)
            ]
            rate_hz = stream.rate
    except (av.FFmpegError, IndexError, ValueError, OSError) as error:
        raise CorpusError(f"{path}: unreadable ({first_error}; {error})") from error
    if not pieces:
        raise CorpusError(f"{path}: holds no audio")
    joined: NDArray[np.float32] = np.concatenate(pieces, axis=1).T.astype(np.float32)
    return joined, int(rate_hz)


def usable_clips(
    clips: Sequence[Clip], sample_rate_hz: int
) -> tuple[tuple[Clip, ...], tuple[NDArray[np.float32], ...], tuple[Unusable, ...]]:
    """(usable clips, their audio, the others): unreadable, silent, or the same audio as another clip.

    Of the same audio under one label the first is used, under two labels none. Order is that of ``clips``.
    """
    waves: dict[int, NDArray[np.float32]] = {}
    reasons: dict[int, str] = {}
    same: dict[bytes, list[int]] = {}
    for k, clip in enumerate(clips):
        try:
            wave = decode_clip(clip, sample_rate_hz)
        except (CorpusError, WaveformError) as error:
            reasons[k] = f"unreadable: {error}"
            continue
        if np.abs(wave).max() < SILENT_PEAK:
            reasons[k] = "silent"
            continue
        alike = same.setdefault(hashlib.sha256(wave.tobytes()).digest(), [])
        alike.append(k)
        if len(alike) == 1:
            waves[k] = wave
    for first, *others in same.values():
        reasons |= dict.fromkeys(others, f"same audio as {clips[first].path.name}")
        labels = sorted({clips[k].emotion for k in (first, *others)})
        if len(labels) > 1:
            reasons |= {k: f"one sound under the labels {' and '.join(labels)}" for k in (first, *others)}
            del waves[first]
    return (
        tuple(clips[k] for k in waves),
        tuple(waves.values()),
        tuple(Unusable(clips[k].path, reasons[k]) for k in sorted(reasons)),
    )


def usable_clips_cached(
    clips: Sequence[Clip], sample_rate_hz: int, cache: Path
) -> tuple[tuple[Clip, ...], Callable[[], Sequence[NDArray[np.float32]]], tuple[Unusable, ...]]:
    """As :func:`usable_clips`, remembering the verdicts in ``cache``; decodes only when asked for audio."""
    path = cache / f"usable2-{sample_rate_hz}-{content_key(clips)[:16]}.json"
    if path.is_file():
        reasons: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        good = tuple(c for i, c in enumerate(clips) if str(i) not in reasons)
        bad = tuple(Unusable(clips[int(i)].path, reason) for i, reason in reasons.items())
        return good, partial(decoded_clips, good, sample_rate_hz), bad
    good, waves, bad = usable_clips(clips, sample_rate_hz)
    with _lock:
        _held.clear()
        _held[content_key(good), sample_rate_hz] = waves
    index = {id(clip): i for i, clip in enumerate(clips)}
    kept = {index[id(clip)] for clip in good}
    lost = (i for i in range(len(clips)) if i not in kept)
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    found = {str(i): u.reason for i, u in zip(lost, bad, strict=True)}
    unfinished.write_text(json.dumps(found), encoding="utf-8")
    unfinished.replace(path)  # a kill at any moment leaves no half of it
    return good, partial(decoded_clips, good, sample_rate_hz), bad


def clips_hash(clips: Sequence[Clip]) -> str:
    """Hash of what was labelled how: names, sizes, labels, speakers; not where the files lie."""
    rows = [
        (c.path.name, c.path.stat().st_size, c.emotion, c.speaker, c.start_s, c.end_s)
        + (() if c.channel is None else (c.channel,))
        for c in clips
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def content_key(clips: Sequence[Clip]) -> str:
    """As :func:`clips_hash`, and when each file changed: other sound of the same name and size is another."""
    changed = [c.path.stat().st_mtime_ns for c in clips]
    return hashlib.sha256(json.dumps([clips_hash(clips), changed]).encode()).hexdigest()


def without_copies(corpora: Sequence[Corpus]) -> list[Corpus]:
    """The corpora with every sound once: of files with the same bytes the first stays, over all corpora.

    A sound under two labels says nothing for certain and could be in training and in test: all of it goes.
    Only files of one size are read, about 1 GB a second. Empty files are left to who decodes them.
    """
    files: dict[int, set[Path]] = defaultdict(set)
    for corpus in corpora:
        for clip in corpus.clips:
            files[clip.path.stat().st_size].add(clip.path)
    content = {
        path: _digest(path) if size and len(alike) > 1 else str(path)
        for size, alike in files.items()
        for path in alike
    }
    same: dict[tuple[object, ...], list[Clip]] = defaultdict(list)
    for corpus in corpora:
        for clip in corpus.clips:
            same[content[clip.path], clip.channel, clip.start_s, clip.end_s].append(clip)
    reasons = {id(clip): why for clips in same.values() for clip, why in _superfluous(clips)}
    return [
        replace(
            corpus,
            clips=tuple(clip for clip in corpus.clips if id(clip) not in reasons),
            unusable=corpus.unusable
            + tuple(Unusable(clip.path, reasons[id(clip)]) for clip in corpus.clips if id(clip) in reasons),
        )
        for corpus in corpora
    ]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _superfluous(clips: Sequence[Clip]) -> list[tuple[Clip, str]]:
    """Which clips of one sound are not used, and why."""
    labels = sorted({clip.emotion for clip in clips})
    if len(labels) > 1:
        return [(clip, f"one sound under the labels {' and '.join(labels)}") for clip in clips]
    return [(clip, "copy of another file") for clip in clips[1:]]
