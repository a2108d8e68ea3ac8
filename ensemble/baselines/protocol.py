"""Who is trained on, who decides when to stop, who is tested on.

Two protocols: a document's own (nearly always a random split, where the same speakers are in training and
test), and by speaker with the corpora's published folds. In both, early stopping and tuning see the
validation part only; test clips are never seen before the end, and are never augmented except where a
document split its augmented copies at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble.baselines.systems import OwnProtocol
from ensemble.corpora import RAVDESS_FOLDS, Clip, speaker_folds
from ensemble.labels import EMOTIONS
from ensemble.model_errors import CorpusError

Int = NDArray[np.int64]
N_FOLDS = {"crema-d": 6, "emodb": 8, "tess": 2}
"""Folds by speaker of the corpora whose split is not listed clip by clip; five for any other."""
VALIDATION_SPEAKERS_SHARE = 0.12


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one training: item = clip * n_copies + copy. No item and no test clip is in two of them."""

    training: Int
    validation: Int
    test: Int


def relabelled(clips: Sequence[Clip], own: OwnProtocol) -> tuple[list[Clip], tuple[str, ...]]:
    """Clips under the document's labels (merged, others left out) and those labels, in one order."""
    merged = [replace(clip, emotion=own.merge.get(clip.emotion, clip.emotion)) for clip in clips]
    kept = [clip for clip in merged if not own.labels or clip.emotion in own.labels]
    return kept, labels_of(kept)


def labels_of(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The labels that occur, in the order of EMOTIONS. Raises CorpusError for fewer than two."""
    found = {clip.emotion for clip in clips}
    if len(found) < 2:
        raise CorpusError(f"{len(clips)} clips with labels {sorted(found)}: at least two emotions are needed")
    return tuple(emotion for emotion in EMOTIONS if emotion in found)


def published_folds(clips: Sequence[Clip]) -> list[frozenset[str]]:
    """Test speakers of each fold: a corpus's published folds, pooled fold by fold over several corpora."""
    per_corpus: list[list[tuple[str, ...]]] = []
    for corpus in sorted({clip.corpus for clip in clips}):
        own = [clip for clip in clips if clip.corpus == corpus]
        there = {clip.speaker for clip in own}
        listed = [fold for fold in RAVDESS_FOLDS if set(fold) <= there] if corpus == "ravdess" else []
        if len(listed) != len(RAVDESS_FOLDS):
            listed = speaker_folds(own, min(N_FOLDS.get(corpus, 5), len(there)))
        per_corpus.append(list(listed))
    # TESS has two speakers only: beside other corpora it is tested on in the first two folds.
    n_folds = max(len(folds) for folds in per_corpus)
    return [frozenset(s for folds in per_corpus if i < len(folds) for s in folds[i]) for i in range(n_folds)]


def part_by_speaker(
    clips: Sequence[Clip], test_speakers: frozenset[str], n_copies: int, seed: int, voter: int = 0
) -> Part:
    """Speakers never cross. Each ``voter`` validates on speakers of its own among the training ones.

    With too few speakers to spare one, validation is a stratified sixth of the training clips.
    """
    training_speakers = sorted({clip.speaker for clip in clips} - test_speakers)
    is_test = np.array([clip.speaker in test_speakers for clip in clips])
    if len(training_speakers) >= 3:
        order = np.random.default_rng(seed).permutation(training_speakers)
        n = max(1, round(VALIDATION_SPEAKERS_SHARE * len(order)))
        chosen = {str(s) for s in np.roll(order, -n * voter)[:n]}
        is_validation = np.array([clip.speaker in chosen for clip in clips])
    else:
        is_validation = np.zeros(len(clips), dtype=bool)
        rest = np.flatnonzero(~is_test)
        emotions = [clips[i].emotion for i in rest.tolist()]
        is_validation[_stratified(rest, emotions, 1 / 6, seed + voter)[1]] = True
    return Part(
        _all_copies(np.flatnonzero(~is_test & ~is_validation), n_copies),
        np.flatnonzero(is_validation) * n_copies,
        np.flatnonzero(is_test) * n_copies,
    )


def part_of_document(clips: Sequence[Clip], own: OwnProtocol, n_copies: int, voter: int = 0) -> Part:
    """The document's split; ``speaker``: the last speaker is the test, as study 004 took the tenth."""
    if own.kind == "speaker":
        last = max(clip.speaker for clip in clips)
        return part_by_speaker(clips, frozenset({last}), n_copies, own.seed, voter)
    emotions = [clip.emotion for clip in clips]
    items = np.arange(len(clips), dtype=np.int64) * n_copies
    if own.copies_before_split:
        items = np.arange(len(clips) * n_copies, dtype=np.int64)
        emotions = [emotion for emotion in emotions for _ in range(n_copies)]
    of_item = dict(zip(items.tolist(), emotions, strict=True))
    rest, test = _stratified(items, emotions, own.test_share, own.seed)
    share = own.validation_share / (1 - own.test_share)
    training, validation = _stratified(rest, [of_item[i] for i in rest.tolist()], share, own.seed + voter)
    if not own.copies_before_split:
        training = _all_copies(training // n_copies, n_copies)
    return Part(training, validation, test)


def _all_copies(clips: Int, n_copies: int) -> Int:
    items: Int = (clips[:, None] * n_copies + np.arange(n_copies)).reshape(-1)
    return items


def _stratified(items: Int, emotions: Sequence[str], share: float, seed: int) -> tuple[Int, Int]:
    from sklearn.model_selection import train_test_split

    try:
        rest, taken = train_test_split(
            items, test_size=round(share * len(items)), stratify=emotions, random_state=seed
        )
    except ValueError as error:
        raise CorpusError(
            f"{len(items)} clips cannot be split {1 - share:.0%}/{share:.0%} by emotion: {error}"
        ) from error
    return np.sort(rest), np.sort(taken)
