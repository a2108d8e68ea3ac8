"""What of a corpus can be heard, and a name for it that changes with its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, Unusable, decode_clip
from ensemble.model_errors import CorpusError, WaveformError

SILENT_PEAK = 1e-3
"""A clip that never exceeds this (-60 dBFS) is silent and teaches nothing."""


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
    path = cache / f"usable-{sample_rate_hz}-{content_key(clips)[:16]}.json"
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


def content_key(clips: Sequence[Clip]) -> str:
    """As :func:`clips_hash`, and when each file changed: other sound of the same name and size is another."""
    changed = [c.path.stat().st_mtime_ns for c in clips]
    return hashlib.sha256(json.dumps([clips_hash(clips), changed]).encode()).hexdigest()
