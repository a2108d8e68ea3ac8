"""Clips with their views, targets and speakers: the input of training and validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, Unusable, usable_clips_cached
from ensemble.corpora.speakers import refuse_untrained
from ensemble.inference.spectrogram import Reference, reference_of
from ensemble.labels import EMOTIONS
from ensemble.training.spectrogram_cache import Extracted, View, ViewCache, standard_views
from ensemble.training.training_settings import TrainSettings

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Examples:
    """Clips with their views and targets. Arrays are in the order of ``clips``."""

    clips: tuple[Clip, ...]
    views: tuple[View, ...]
    names: tuple[str, ...]
    by_speaker: tuple[bool, ...]
    """Per view: a speaker's clips share a channel there, so they say something about each other."""
    targets: Float
    """(n, k) shares of each label."""
    truth: NDArray[np.int64]
    voices: dict[str, NDArray[np.int64]]
    """Indices of every clip of each speaker."""
    reference: Reference
    unusable: tuple[Unusable, ...]

    def view(self, name: str) -> View:
        """The view of that name."""
        return self.views[self.names.index(name)]

    def of(self, speakers: frozenset[str]) -> NDArray[np.int64]:
        """Indices of the clips of these speakers, in order."""
        return np.array([i for i, clip in enumerate(self.clips) if clip.speaker in speakers], dtype=np.int64)


def prepare(
    clips: Sequence[Clip],
    training_speakers: frozenset[str],
    settings: TrainSettings,
    cache: Path,
    *,
    babble_speakers: frozenset[str] | None = None,
    say: Callable[[Extracted], None] = lambda _: None,
) -> Examples:
    """Decode clips, extract their views and index them.

    Args:
        clips: All clips, of training and validation.
        training_speakers: Whose statistics make up the reference.
        settings: Labels, views and front end; views are extracted in ``n_threads`` processes.
        cache: Folder of the spectrogram cache.
        babble_speakers: Speakers that babble is made of (None: the training ones).
        say: Called with the progress.

    Raises:
        TrainingError: when a label of the settings has no training clip, or a process was lost.
    """
    front = settings.front
    kept, waves, unusable = usable_clips_cached(clips, front.sample_rate_hz, cache)
    wanted = standard_views(settings.n_augmented, 0)
    views = ViewCache(kept, front, cache, training_speakers if babble_speakers is None else babble_speakers)
    extracted = views.all_views(wanted, waves, n_processes=settings.n_threads, say=say)
    truth = np.array([settings.labels.index(c.emotion) for c in kept], dtype=np.int64)
    voices: dict[str, list[int]] = {}
    for index, clip in enumerate(kept):
        voices.setdefault(clip.speaker, []).append(index)
    by_voice = {speaker: np.array(indices, dtype=np.int64) for speaker, indices in voices.items()}
    refuse_untrained(settings.labels, [clip for clip in kept if clip.speaker in training_speakers])
    names = tuple(view.name for view in wanted)
    telephone = extracted[names.index("telephone")]
    reference = reference_of(
        [telephone.statistics(by_voice[s]) for s in sorted(by_voice) if s in training_speakers]
    )
    targets = np.stack([_target(c, settings) for c in kept])
    by_speaker = tuple(view.by_speaker for view in wanted)
    return Examples(kept, extracted, names, by_speaker, targets, truth, by_voice, reference, unusable)


def _target(clip: Clip, settings: TrainSettings) -> Float:
    own = np.array([label == clip.emotion for label in settings.labels], dtype=np.float32)
    if clip.votes is not None and settings.votes_share > 0:
        votes = np.array([clip.votes[EMOTIONS.index(label)] for label in settings.labels], dtype=np.float32)
        if votes.sum() > 0:
            own = (1 - settings.votes_share) * own + settings.votes_share * votes / votes.sum()
    return ((1 - settings.smoothing) * own + settings.smoothing / len(own)).astype(np.float32)
