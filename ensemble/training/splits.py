"""Who is held out: validation speakers and cross-validation folds, chosen the same way every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from ensemble.corpora import CREMA_D_VALIDATION, RAVDESS_FOLDS, Corpus, speaker_folds
from ensemble.model_errors import CorpusError

EVERY = 8
"""Without a published split every eighth speaker (in sorted order) of a corpus validates."""
FOLDS = {"crema-d": 6}
"""Neighbouring groups of sorted speakers, for corpora that are not left out one speaker at a time."""
MOST_FOLDS = 12


def speakers_of(corpus: Corpus) -> tuple[str, ...]:
    """Every speaker of a corpus, sorted."""
    return tuple(sorted({clip.speaker for clip in corpus.clips}))


def validation_speakers(corpora: Sequence[Corpus]) -> frozenset[str]:
    """Speakers to hold out: a corpus's ``split`` column, else its published set, else every eighth.

    Whoever a corpus marks is held out, a whole corpus of them too. Of those that mark nobody only the largest
    corpus validates, so that a small one gives all its speakers to training; further ones where they have an
    emotion that nobody else validates: an ensemble cannot be calibrated on what it never hears. Whom a corpus
    marks for training stays there unless nobody else is left. Raises CorpusError when nobody can be held out,
    or nobody would train.
    """
    held = {speaker for corpus in corpora for speaker in _marked(corpus)}
    if held and not any(set(speakers_of(corpus)) - held for corpus in corpora):
        raise CorpusError("every speaker is marked for validation: nobody is left to train on")
    clips = [clip for corpus in corpora for clip in corpus.clips]
    unheard = {clip.emotion for clip in clips} - {clip.emotion for clip in clips if clip.speaker in held}
    largest = max(corpora, key=lambda c: len(c.clips))
    unmarked = sorted((c for c in corpora if not _marked(c)), key=lambda c: (_told(c), -len(c.clips)))
    for corpus in unmarked:
        everybody = speakers_of(corpus)
        published = {s for s in CREMA_D_VALIDATION if s in everybody}
        chosen = published or set(everybody[EVERY // 2 :: EVERY])
        theirs = {clip.emotion for clip in corpus.clips if clip.speaker in chosen}
        wanted = not held if _told(corpus) else (corpus is largest or unheard & theirs)
        if wanted and len(chosen) < len(everybody):
            held |= chosen
            unheard -= theirs
    if not held:
        raise CorpusError(
            "no corpus has speakers enough to hold some out: name them by --validation, "
            f"or give a corpus of at least {EVERY} speakers"
        )
    return frozenset(held)


def _marked(corpus: Corpus) -> set[str]:
    return {clip.speaker for clip in corpus.clips if clip.split == "validation"}


def _told(corpus: Corpus) -> bool:
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
    heard = {clip.emotion for clip in clips if clip.speaker in held_out}
    return tuple(sorted({clip.emotion for clip in clips} - heard))


def folds_of(corpora: Sequence[Corpus], how: str) -> list[tuple[str, ...]]:
    """Test speakers of each fold.

    ``how``: ``published`` (RAVDESS: the EmoBox actor folds; CREMA-D: six groups of sorted speakers;
    others: one speaker at a time, at most twelve groups), ``speaker`` (one speaker at a time),
    ``corpus`` (one corpus at a time), or a number of groups. Raises CorpusError when they cannot be made.
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
