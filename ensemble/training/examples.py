"""Clips decoded, heard and indexed: all that training and validation look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, Unusable
from ensemble.inference.spectrogram import Reference, everybody
from ensemble.labels import EMOTIONS
from ensemble.model_errors import TrainingError
from ensemble.training.dataset import usable_clips_cached
from ensemble.training.spectrogram_cache import Heard, Hearing, Listened, listen_to_all, standard_hearings
from ensemble.training.training_settings import TrainSettings

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Examples:
    """Heard clips with what training needs of them. Arrays are in the order of ``clips``."""

    clips: tuple[Clip, ...]
    hearings: tuple[Heard, ...]
    names: tuple[str, ...]
    by_speaker: tuple[bool, ...]
    """Per hearing: a speaker's clips share a line there, so they say something about each other."""
    targets: Float
    """(n, k) shares of each label."""
    truth: NDArray[np.int64]
    voices: dict[str, NDArray[np.int64]]
    """Indices of every clip of each speaker."""
    reference: Reference
    unusable: tuple[Unusable, ...]

    def hearing(self, name: str) -> Heard:
        """The hearing of that name."""
        return self.hearings[self.names.index(name)]

    def of(self, speakers: frozenset[str]) -> NDArray[np.int64]:
        """Indices of the clips of these speakers, in order."""
        return np.array([i for i, clip in enumerate(self.clips) if clip.speaker in speakers], dtype=np.int64)


def prepare(
    clips: Sequence[Clip],
    training_speakers: frozenset[str],
    settings: TrainSettings,
    cache: Path,
    *,
    hearings: tuple[Hearing, ...] | None = None,
    babblers: frozenset[str] | None = None,
    say: Callable[[Listened], None] = lambda _: None,
) -> Examples:
    """Decode, hear and index clips; what cannot be used is listed, and statistics are of training speakers.

    ``babblers`` are the speakers that babble is made of (None: the training ones). Clips are heard in
    ``settings.n_threads`` processes and ``say`` is told how far that is.
    Raises TrainingError when a label of the settings has no training clip.
    """
    front = settings.front
    kept, waves, unusable = usable_clips_cached(clips, front.sample_rate_hz, cache)
    wanted = hearings or standard_hearings(settings.n_augmented, 0)
    voices_of_babble = training_speakers if babblers is None else babblers
    heard = listen_to_all(
        kept, waves, wanted, front, cache, voices_of_babble, n_processes=settings.n_threads, say=say
    )
    truth = np.array([settings.labels.index(c.emotion) for c in kept], dtype=np.int64)
    voices: dict[str, list[int]] = {}
    for index, clip in enumerate(kept):
        voices.setdefault(clip.speaker, []).append(index)
    by_voice = {speaker: np.array(indices, dtype=np.int64) for speaker, indices in voices.items()}
    missing = [
        label
        for k, label in enumerate(settings.labels)
        if not any(truth[i] == k for s in by_voice if s in training_speakers for i in by_voice[s])
    ]
    if missing:
        raise TrainingError(
            f"no training clip of {', '.join(missing)}: add a corpus that has it or drop the label"
        )
    names = tuple(h.name for h in wanted)
    telephone = heard[names.index("telephone")] if "telephone" in names else heard[0]
    reference = everybody(
        [telephone.statistics(by_voice[s]) for s in sorted(by_voice) if s in training_speakers]
    )
    targets = np.stack([_target(c, settings) for c in kept])
    return Examples(
        kept, heard, names, tuple(h.by_speaker for h in wanted), targets, truth, by_voice, reference, unusable
    )


def _target(clip: Clip, settings: TrainSettings) -> Float:
    own = np.array([label == clip.emotion for label in settings.labels], dtype=np.float32)
    if clip.votes is not None and settings.votes_share > 0:
        votes = np.array([clip.votes[EMOTIONS.index(label)] for label in settings.labels], dtype=np.float32)
        if votes.sum() > 0:
            own = (1 - settings.votes_share) * own + settings.votes_share * votes / votes.sum()
    return ((1 - settings.smoothing) * own + settings.smoothing / len(own)).astype(np.float32)
