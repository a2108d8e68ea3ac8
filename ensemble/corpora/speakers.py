"""Who is in training and who in test: splits by speaker, published ones, and the refusal of a leak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ensemble.corpora.clip import Clip
from ensemble.model_errors import CorpusError, LeakError

RAVDESS_FOLDS: tuple[tuple[str, ...], ...] = tuple(
    tuple(f"ravdess/{actor}" for actor in fold.split())
    for fold in ("04 10 12 14", "08 09 19 23", "03 05 07 24", "02 15 16 18", "06 13 17 22")
)
"""The five EmoBox folds (test actors) whose actors are all at hand."""

CREMA_D_VALIDATION: tuple[str, ...] = tuple(
    f"crema-d/{actor}" for actor in (1009, 1011, 1022, 1034, 1039, 1047, 1066, 1070, 1082)
)
"""Validation speakers of the EVAR split."""


def split_by_speaker(
    clips: Sequence[Clip], test_speakers: Iterable[str]
) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """(training, test): every clip of a named speaker is test, every other training.

    ``test_speakers`` are ``corpus/id``. Raises LeakError when one of them has
    no clip here (a misspelt name would silently train on it).
    """
    wanted = frozenset(test_speakers)
    missing = wanted - {clip.speaker for clip in clips}
    if missing:
        raise LeakError(f"speakers {sorted(missing)} have no clip here: check the names before training")
    return (
        tuple(clip for clip in clips if clip.speaker not in wanted),
        tuple(clip for clip in clips if clip.speaker in wanted),
    )


def refuse_leak(training: Sequence[Clip], test: Sequence[Clip]) -> None:
    """Raise LeakError when a speaker or a file is on both sides."""
    shared = {clip.speaker for clip in training} & {clip.speaker for clip in test}
    if shared:
        raise LeakError(f"speakers {sorted(shared)} are in training and in test; split by speaker")
    files = {clip.path for clip in training} & {clip.path for clip in test}
    if files:
        raise LeakError(f"{len(files)} files are in training and in test, the first {min(files)}")


def speaker_folds(clips: Sequence[Clip], n_folds: int) -> list[tuple[str, ...]]:
    """Speakers in sorted order cut into ``n_folds`` neighbouring groups (the folds of the corpora README)."""
    speakers = sorted({clip.speaker for clip in clips})
    if not 2 <= n_folds <= len(speakers):
        raise CorpusError(f"{n_folds} folds of {len(speakers)} speakers; give 2 to {len(speakers)}")
    return [tuple(str(s) for s in part) for part in np.array_split(np.array(speakers), n_folds)]
