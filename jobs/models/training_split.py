"""What a retraining learns from and is judged on: who trains, who validates, who tests.

The test speakers are held out here, before training sees anything: a corpus's own `test` split, else every
eighth speaker. Reviewed calls bring a test of their own, the speakers whose names fall into it (`labels`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.store.query import open_published
from callanalytics.workspace import Workspace
from ensemble.corpora import Clip, Corpus, keep_emotions, read_manifest
from ensemble.corpora.speakers import validation_speakers
from ensemble.model_errors import CorpusError
from jobs.reviews.export import MANIFEST, export_labels, require_consent

TEST_EVERY = 8


@dataclass(frozen=True, slots=True)
class Material:
    """Clips by what they are for. No speaker is in two of them. `own_test` are reviewed calls."""

    train: tuple[Corpus, ...]
    validation: frozenset[str]
    test: tuple[Clip, ...]
    own_test: tuple[Clip, ...]


def check(workspace: Workspace, corpora: Sequence[Corpus], *, reviewed: bool, consent: bool) -> None:
    """See that there is something to train on, before anything is made or replaced.

    Raises UsageError: nothing to train on, two corpora of one name, no consent or no results to review.
    """
    if reviewed:
        require_consent(consent)
        with open_published(workspace.database):
            pass
    names = [corpus.name for corpus in corpora] + [Path(MANIFEST).stem] * reviewed
    if not names:
        raise UsageError(
            "Nothing to train on: give --corpus, set corpora in [retrain] of config.toml, or use --reviewed."
        )
    if len(set(names)) < len(names):
        raise UsageError(f"Two corpora have one name ({', '.join(names)}). Name them: --corpus NAME=PATH.")


def collect(
    settings: Settings, workspace: Workspace, corpora: Sequence[Corpus], *, reviewed: bool, consent: bool
) -> tuple[Corpus, ...]:
    """The corpora given and, when wanted, the reviewed segments (exported anew into OUT/training/reviewed).

    The caller holds the lock of retrainings: another one may be listening to the clips that are there.
    Raises UsageError as `check` does, and LockHeld while a run is at work.
    """
    check(workspace, corpora, reviewed=reviewed, consent=consent)
    if not reviewed:
        return tuple(corpora)
    folder = workspace.training.reviewed_clips
    shutil.rmtree(folder, ignore_errors=True)
    export_labels(settings, workspace, folder, consent=consent)
    return (*corpora, read_manifest(folder / MANIFEST))


def divide(corpora: Sequence[Corpus], labels: Sequence[str]) -> Material:
    """Hold out test speakers, then validation speakers, and leave the rest to training.

    Raises CorpusError when nobody is left to train, validate or test on.
    """
    known = [keep_emotions(corpus, labels) for corpus in corpora]
    train: list[Corpus] = []
    test: list[Clip] = []
    own_test: list[Clip] = []
    for corpus in known:
        held = _test_speakers(corpus)
        own = corpus.name == Path(MANIFEST).stem
        (own_test if own else test).extend(clip for clip in corpus.clips if clip.speaker in held)
        rest = tuple(clip for clip in corpus.clips if clip.speaker not in held)
        if rest:
            train.append(replace(corpus, clips=rest))
    if not train or not (test or own_test):
        raise CorpusError("too few speakers to hold some out for a test; give a larger corpus")
    return Material(tuple(train), validation_speakers(train), tuple(test), tuple(own_test))


def _test_speakers(corpus: Corpus) -> frozenset[str]:
    """The speakers of a corpus's `test` split, else every eighth in sorted order."""
    everybody = sorted({clip.speaker for clip in corpus.clips})
    marked = {clip.speaker for clip in corpus.clips if clip.split == "test"}
    if marked or any(clip.split for clip in corpus.clips):
        return frozenset(marked)
    validating: frozenset[str] = frozenset()  # published validation speakers stay what they are
    with contextlib.suppress(CorpusError):  # too few speakers to hold any out
        validating = validation_speakers([corpus])
    free = [speaker for speaker in everybody if speaker not in validating]
    return frozenset(free[::TEST_EVERY]) if len(free) > 1 else frozenset()
