"""Classify whole clips from disk: one plain dict per clip, ready for JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import AUDIO_SUFFIXES
from ensemble.inference.ensemble import Ensemble
from ensemble.inference.vote import Votes

Decode = Callable[[Path], NDArray[np.float32]]
CLIPS_AT_ONCE = 64
FIELDS = ("emotion", "confidence", "agreement", "probabilities", "members", "abstain_reason")


def classify_paths(
    paths: Iterable[Path], decode: Decode, ensemble: Ensemble, by_folder: bool, abstain: bool
) -> Iterator[dict[str, object]]:
    """Classify clips one after the other.

    Args:
        paths: Files, and folders that are walked in sorted order (without hidden files and those that are
            plainly not audio; a file named outright is always tried).
        decode: Gives mono float32 (n,) at the ensemble's rate.
        ensemble: Who votes.
        by_folder: All clips of one folder are one voice.
        abstain: Whether the ensemble may name no emotion.

    Yields:
        ``path`` and FIELDS; a clip that cannot be decoded has ``error``, and the rest null.
    """
    folders: dict[Path, list[Path]] = {}
    for path in walk(paths):
        folders.setdefault(path.parent, []).append(path)
    for folder, files in folders.items():
        step = len(files) if by_folder else CLIPS_AT_ONCE
        for start in range(0, len(files), step):
            yield from _classify(
                files[start : start + step], decode, ensemble, str(folder) if by_folder else None, abstain
            )


def walk(paths: Iterable[Path]) -> Iterator[Path]:
    """Files named, and audio files inside folders named; each once, folders in sorted order."""
    seen: set[Path] = set()
    for path in paths:
        found: Sequence[Path] = [path]
        if path.is_dir():
            found = [
                file
                for file in sorted(path.rglob("*"))
                if file.suffix.lower() in AUDIO_SUFFIXES
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
                and file.is_file()
            ]
        for file in found:
            if file not in seen:
                seen.add(file)
                yield file


def _classify(
    files: Sequence[Path], decode: Decode, ensemble: Ensemble, voice: str | None, abstain: bool
) -> Iterator[dict[str, object]]:
    waves: dict[Path, NDArray[np.float32]] = {}
    errors: dict[Path, str] = {}
    for file in files:
        try:
            wave = np.nan_to_num(np.asarray(decode(file), dtype=np.float32))
        except Exception as error:  # decode is the caller's: one bad clip never stops the rest
            errors[file] = str(error) or type(error).__name__
        else:
            waves[file] = wave
    speakers = None if voice is None else [voice] * len(waves)
    votes = ensemble.vote(list(waves.values()), speakers, abstain=abstain)
    index = {file: i for i, file in enumerate(waves)}
    for file in files:
        if file in errors:
            yield {"path": str(file), **dict.fromkeys(FIELDS), "error": errors[file]}
        else:
            yield {"path": str(file), **dict(zip(FIELDS, _values(votes, index[file]), strict=True))}


def _values(votes: Votes, i: int) -> tuple[object, ...]:
    """Values of FIELDS for segment ``i``."""

    def shares(row: NDArray[np.float32]) -> dict[str, float]:
        return {label: round(float(p), 6) for label, p in zip(votes.labels, row, strict=True)}

    return (
        votes.emotion(i),
        round(float(votes.confidence[i]), 6),
        round(float(votes.agreement[i]), 6),
        shares(votes.mean_probabilities[i]),
        {name: shares(votes.probabilities[m, i]) for m, name in enumerate(votes.member_names)},
        votes.abstain_reason[i],
    )
