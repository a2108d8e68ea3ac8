"""Who trains, who validates and who tests in a retraining.

The test speakers are held out here, before training begins: a corpus's own `test` split, else every eighth
speaker. Reviewed calls bring a test of their own, which `jobs.reviews.export` marks.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from callanalytics.config import RetrainSettings, Settings
from callanalytics.errors import UsageError
from callanalytics.store.query import open_published
from callanalytics.workspace import Workspace
from ensemble.corpora import Clip, Corpus, keep_emotions, read_manifest
from ensemble.corpora.speakers import speakers_of, validation_speakers
from ensemble.model_errors import CorpusError
from jobs.reviews.export import MANIFEST, export_labels, require_consent

TEST_EVERY = 8
REVIEWED = Path(MANIFEST).stem  # name of the corpus of reviewed segments


@dataclass(frozen=True, slots=True)
class TrainingSplit:
    """Clips by what they are for. No speaker is in two of them. `reviewed_test` is of reviewed calls."""

    train: tuple[Corpus, ...]
    validation: frozenset[str]
    test: tuple[Clip, ...]
    reviewed_test: tuple[Clip, ...]

    @property
    def training_clips(self) -> list[Clip]:
        """The clips of `train`, of which those of the validation speakers are held out."""
        return [clip for corpus in self.train for clip in corpus.clips]

    @property
    def training_speakers(self) -> frozenset[str]:
        """Whom the networks learn from."""
        return frozenset(clip.speaker for clip in self.training_clips) - self.validation

    @property
    def test_speakers(self) -> frozenset[str]:
        """Whom ensembles are compared on."""
        return frozenset(clip.speaker for clip in (*self.test, *self.reviewed_test))


def require_corpora(workspace: Workspace, corpora: Sequence[Corpus], plan: RetrainSettings) -> None:
    """See that there is something to train on, before anything is made or replaced.

    Raises UsageError: nothing to train on, two corpora of one name, no consent or no results to review.
    """
    if plan.reviewed:
        require_consent(plan.consent)
        with open_published(workspace.database):
            pass
    names = [corpus.name for corpus in corpora] + [REVIEWED] * plan.reviewed
    if not names:
        raise UsageError(
            "Nothing to train on: give --corpus, set corpora in [retrain] of config.toml, or use --reviewed."
        )
    if len(set(names)) < len(names):
        raise UsageError(f"Two corpora have one name ({', '.join(names)}). Name them: --corpus NAME=PATH.")


def collect(
    settings: Settings, workspace: Workspace, corpora: Sequence[Corpus], plan: RetrainSettings
) -> tuple[Corpus, ...]:
    """The corpora given and, when wanted, the reviewed segments (exported anew into OUT/training/reviewed).

    The caller holds the lock of retrainings: another one may be reading the clips that are there.
    Raises LockHeld while a run is at work.
    """
    if not plan.reviewed:
        return tuple(corpora)
    folder = workspace.training.reviewed_clips
    shutil.rmtree(folder, ignore_errors=True)
    export_labels(settings, workspace, folder, consent=plan.consent)
    return (*corpora, read_manifest(folder / MANIFEST))


def split_speakers(corpora: Sequence[Corpus], labels: Sequence[str]) -> TrainingSplit:
    """Hold out test speakers, then validation speakers, and leave the rest to training.

    Raises CorpusError when nobody is left to train, validate or test on.
    """
    train: list[Corpus] = []
    test: list[Clip] = []
    reviewed_test: list[Clip] = []
    for corpus in (keep_emotions(corpus, labels) for corpus in corpora):
        held_out = _test_speakers(corpus)
        held = [clip for clip in corpus.clips if clip.speaker in held_out]
        rest = [clip for clip in corpus.clips if clip.speaker not in held_out]
        (reviewed_test if corpus.name == REVIEWED else test).extend(held)
        if rest:
            train.append(replace(corpus, clips=tuple(rest)))
    if not train or not (test or reviewed_test):
        raise CorpusError("too few speakers to hold some out for a test; give a larger corpus")
    return TrainingSplit(tuple(train), validation_speakers(train), tuple(test), tuple(reviewed_test))


def _test_speakers(corpus: Corpus) -> frozenset[str]:
    """The speakers of a corpus's `test` split, else every eighth in sorted order."""
    if any(clip.split for clip in corpus.clips):
        return frozenset(clip.speaker for clip in corpus.clips if clip.split == "test")
    validating: frozenset[str] = frozenset()  # published validation speakers stay what they are
    with contextlib.suppress(CorpusError):  # too few speakers to hold any out
        validating = validation_speakers([corpus])
    free = [speaker for speaker in speakers_of(corpus) if speaker not in validating]
    return frozenset(free[::TEST_EVERY]) if len(free) > 1 else frozenset()
