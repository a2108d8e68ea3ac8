"""Training, validation and test speakers: published splits, our own, folds, and the refusal of a leak."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from ensemble.corpora.clip import Clip, Corpus
from ensemble.model_errors import CorpusError, LeakError, TrainingError

RAVDESS_FOLDS: tuple[tuple[str, ...], ...] = tuple(
    tuple(f"ravdess/{actor}" for actor in fold.split())
    for fold in ("04 10 12 14", "08 09 19 23", "03 05 07 24", "02 15 16 18", "06 13 17 22")
)
"""The five EmoBox folds (test actors) whose actors are all at hand."""

CREMA_D_VALIDATION: tuple[str, ...] = tuple(
    f"crema-d/{actor}" for actor in (1009, 1011, 1022, 1034, 1039, 1047, 1066, 1070, 1082)
)
"""Validation speakers of the EVAR split."""

EVERY = 8
"""Without a published split every eighth speaker (in sorted order) of a corpus validates."""
FOLDS = {"crema-d": 6}
"""Neighbouring groups of sorted speakers, for corpora that are not left out one speaker at a time."""
MOST_FOLDS = 12


def split_by_speaker(
    clips: Sequence[Clip], test_speakers: Iterable[str]
) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """(training, test): every clip of a named speaker is test, every other training.

    ``test_speakers`` are ``corpus/id``.

    Raises:
        LeakError: when one of them has no clip here (a misspelt name would silently train on it).
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


def refuse_untrained(labels: Sequence[str], training: Sequence[Clip]) -> None:
    """Check that every label has a clip to learn it from.

    Raises:
        TrainingError: naming those that have none, and the labels that would do.
    """
    there = {clip.emotion for clip in training}
    if missing := [label for label in labels if label not in there]:
        raise TrainingError(
            f"no training clip of {', '.join(missing)}: add a corpus that has it, or train without: "
            f"--labels {','.join(label for label in labels if label in there)}"
        )


def speaker_folds(clips: Sequence[Clip], n_folds: int) -> list[tuple[str, ...]]:
    """Speakers in sorted order, cut into ``n_folds`` neighbouring groups.

    Raises:
        CorpusError: unless there are at least two folds and a speaker for each.
    """
    speakers = sorted({clip.speaker for clip in clips})
    if not 2 <= n_folds <= len(speakers):
        raise CorpusError(f"{n_folds} folds of {len(speakers)} speakers; give 2 to {len(speakers)}")
    return [tuple(str(s) for s in part) for part in np.array_split(np.array(speakers), n_folds)]


def speakers_of(corpus: Corpus) -> tuple[str, ...]:
    """Every speaker of a corpus, sorted."""
    return tuple(sorted({clip.speaker for clip in corpus.clips}))


def validation_speakers(corpora: Sequence[Corpus]) -> frozenset[str]:
    """Speakers to hold out: a corpus's ``split`` column, else its published set, else every eighth.

    Whoever a corpus marks is held out, a whole corpus of them too. Of those that mark nobody only the largest
    corpus validates, so that a small one gives all its speakers to training; further ones where they have an
    emotion that nobody else validates: an ensemble cannot be calibrated on an emotion it has no clip of. Whom
    a corpus marks for training stays there unless nobody else is left.

    Raises:
        CorpusError: when nobody can be held out, or nobody would train.
    """
    held = {speaker for corpus in corpora for speaker in _marked(corpus)}
    if held and not any(set(speakers_of(corpus)) - held for corpus in corpora):
        raise CorpusError("every speaker is marked for validation: nobody is left to train on")
    clips = [clip for corpus in corpora for clip in corpus.clips]
    unvalidated = {clip.emotion for clip in clips} - {clip.emotion for clip in clips if clip.speaker in held}
    largest = max(corpora, key=lambda c: len(c.clips))
    unmarked = sorted((c for c in corpora if not _marked(c)), key=lambda c: (_has_split(c), -len(c.clips)))
    for corpus in unmarked:
        everybody = speakers_of(corpus)
        published = {s for s in CREMA_D_VALIDATION if s in everybody}
        chosen = published or set(everybody[EVERY // 2 :: EVERY])
        theirs = {clip.emotion for clip in corpus.clips if clip.speaker in chosen}
        wanted = not held if _has_split(corpus) else (corpus is largest or unvalidated & theirs)
        if wanted and len(chosen) < len(everybody):
            held |= chosen
            unvalidated -= theirs
    if not held:
        raise CorpusError(
            "no corpus has speakers enough to hold some out: name them by --validation, "
            f"or give a corpus of at least {EVERY} speakers"
        )
    return frozenset(held)


def _marked(corpus: Corpus) -> set[str]:
    return {clip.speaker for clip in corpus.clips if clip.split == "validation"}


def _has_split(corpus: Corpus) -> bool:
    return any(clip.split for clip in corpus.clips)


def without_test(corpora: Sequence[Corpus]) -> tuple[Corpus, ...]:
    """The corpora without the speakers of whom ``split`` keeps a clip for a test; empty ones go."""
    left = []
    for corpus in corpora:
        tested = {clip.speaker for clip in corpus.clips if clip.split == "test"}
        left.append(replace(corpus, clips=tuple(c for c in corpus.clips if c.speaker not in tested)))
    return tuple(corpus for corpus in left if corpus.clips)


def never_validated(corpora: Sequence[Corpus], held_out: frozenset[str]) -> tuple[str, ...]:
    """Emotions of the corpora that no speaker held out has, sorted."""
    clips = [clip for corpus in corpora for clip in corpus.clips]
    validated = {clip.emotion for clip in clips if clip.speaker in held_out}
    return tuple(sorted({clip.emotion for clip in clips} - validated))


def folds_of(corpora: Sequence[Corpus], how: str) -> list[tuple[str, ...]]:
    """Test speakers of each fold.

    ``how``: ``published`` (RAVDESS: the EmoBox actor folds; CREMA-D: six groups of sorted speakers;
    others: one speaker at a time, at most twelve groups), ``speaker`` (one speaker at a time),
    ``corpus`` (one corpus at a time), or a number of groups.

    Raises:
        CorpusError: when they cannot be made.
    """
    clips = [clip for corpus in corpora for clip in corpus.clips]
    everybody = sorted({clip.speaker for clip in clips})
    if how == "corpus":
        if len(corpora) < 2:
            raise CorpusError("leaving one corpus out needs at least two corpora; give --corpus again")
        return [speakers_of(corpus) for corpus in corpora]
    if how == "speaker":
        return speaker_folds(clips, len(everybody))
    if how == "published":
        if len(corpora) != 1:
            raise CorpusError("published folds are of one corpus; give one, or --folds corpus or a number")
        known = set(chain.from_iterable(RAVDESS_FOLDS))
        if known <= set(everybody):
            return list(RAVDESS_FOLDS)
        return speaker_folds(clips, FOLDS.get(corpora[0].name, min(len(everybody), MOST_FOLDS)))
    if not how.isdigit():
        raise CorpusError(f"folds {how!r} are not 'published', 'speaker', 'corpus' or a number")
    return speaker_folds(clips, int(how))
