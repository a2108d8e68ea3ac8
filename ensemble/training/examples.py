"""Clips with their views, targets and speakers: the input of training and validation; epochs of batches.

An epoch draws clips, views and speaker statistics from a seed and changes the spectrograms. Sources:
SpecAugment (Park et al. 2019); mixup (Zhang et al. 2018); vocal-tract length perturbation (Jaitly and Hinton
2013); CopyPaste (Pappagari et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, Unusable, usable_clips_cached
from ensemble.corpora.speakers import refuse_untrained
from ensemble.inference.spectrogram import Reference, reference_of, voice_norm
from ensemble.labels import EMOTIONS
from ensemble.training.spectrogram_cache import Extracted, View, ViewCache, standard_views
from ensemble.training.training_settings import BatchSettings, TrainSettings

if TYPE_CHECKING:
    import torch

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
    lessons: Float | None = None
    """(n, components) of the teachers, zeros for who does not train; None without teachers."""

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
    wanted = standard_views(settings.n_augmented, 0, settings.n_coded, front.sample_rate_hz)
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


class Batches:
    """Normalised, padded training batches of one epoch; every draw from one generator.

    Targets are shares of the labels and then, where there are teachers, the clip's lesson.
    """

    def __init__(
        self, examples: Examples, training: NDArray[np.int64], settings: TrainSettings, epoch: int
    ) -> None:
        self.examples, self.settings = examples, settings
        self.rng = np.random.default_rng([settings.seed, epoch])
        self.order = epoch_order(examples, training, self.rng)
        names = examples.names
        shares = np.full(len(names), 0.0)
        augmented = [i for i, name in enumerate(names) if name.startswith("augmented")]
        coded = [i for i, name in enumerate(names) if name.startswith("coded")]
        fixed = {"clean": settings.clean_share, "telephone": settings.telephone_share}
        for name, share in fixed.items():
            if name in names:
                shares[names.index(name)] = share
        if coded:
            shares *= 1 - settings.coded_share
            shares[coded] = settings.coded_share / len(coded)
        shares[augmented] = (1 - shares.sum()) / max(len(augmented), 1)
        self.shares = shares / shares.sum()
        neutral = settings.labels.index("neutral") if "neutral" in settings.labels else -1
        happy = settings.labels.index("happy") if "happy" in settings.labels else neutral
        self.neutral = {s: i[examples.truth[i] == neutral] for s, i in examples.voices.items()}
        self.calm = {s: i[np.isin(examples.truth[i], (neutral, happy))] for s, i in examples.voices.items()}

    def __len__(self) -> int:
        return (len(self.order) + self.settings.batch - 1) // self.settings.batch

    def __iter__(self) -> Any:
        size = self.settings.batch
        pool = size * 12
        for start in range(0, len(self.order), pool):
            some = [self._one(int(i)) for i in self.order[start : start + pool]]
            some.sort(key=lambda item: len(item[0]))
            parts = [some[i : i + size] for i in range(0, len(some), size)]
            for which in self.rng.permutation(len(parts)):
                mels, targets = zip(*parts[which], strict=True)
                yield (*pad(mels), np.stack(targets))

    def _one(self, index: int) -> tuple[Float, Float]:
        s, rng, examples = self.settings, self.rng, self.examples
        which = rng.choice(len(self.shares), p=self.shares)
        view = examples.views[which]
        speaker = examples.clips[index].speaker
        known = [index]
        n_known = int(rng.choice((0, 2, 6, 20, 80), p=(0.3, 0.1, 0.1, 0.2, 0.3)))
        if s.speaker_norm and n_known and examples.by_speaker[which]:
            voice = examples.voices[speaker]
            if rng.random() < s.calm_known:
                # A caller is mostly calm: the statistics of a call are not those of six acted emotions.
                quiet = (self.neutral if rng.random() < 0.5 else self.calm)[speaker]
                voice = quiet if len(quiet) else voice
            known += [int(i) for i in rng.choice(voice, min(n_known, len(voice)), replace=False)]
        statistics = view.statistics(known)
        mean, deviation = voice_norm(statistics, examples.reference, s.front)
        if rng.random() < s.handset:
            # A handset colours the clip and the statistics alike, so only what shrinking leaves is view.
            n_s = statistics.n_frames * s.front.hop_s
            left = s.front.shrink_s / (n_s + s.front.shrink_s)
            mean = mean - handset_response_db(s.front.n_mels, rng) * left
        mel = view.clip(index)
        if rng.random() < s.paste and len(self.neutral[speaker]):
            other = view.clip(int(rng.choice(self.neutral[speaker])))
            mel = np.concatenate([mel, other] if rng.random() < 0.5 else [other, mel])
            longest = round(1.4 * s.crop_s / s.front.hop_s)
        else:
            longest = round(s.crop_s / s.front.hop_s)
        if len(mel) > longest:
            first = int(rng.integers(len(mel) - longest + 1))
            mel = mel[first : first + longest]
        target = examples.targets[index]
        if examples.lessons is not None:
            target = np.concatenate([target, examples.lessons[index]])
        return (mel - mean) / deviation, target


def epoch_order(
    examples: Examples, training: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """About ``len(training)`` clips, rarer classes and smaller corpora more often (inverse square root)."""
    clips = [examples.clips[i] for i in training]
    sizes: dict[object, int] = {}
    for clip, index in zip(clips, training, strict=True):
        for key in (clip.corpus, int(examples.truth[index])):
            sizes[key] = sizes.get(key, 0) + 1
    weight = np.array(
        [
            (sizes[c.corpus] * sizes[int(examples.truth[i])]) ** -0.5
            for c, i in zip(clips, training, strict=True)
        ]
    )
    shuffled = rng.permutation(len(training))
    # Systematic sampling: every clip comes its expected number of times, rounded up or down.
    upto = np.cumsum(weight[shuffled] * len(training) / weight.sum())
    picks = np.searchsorted(upto, np.arange(len(training)) + rng.random(), side="left")
    chosen: NDArray[np.int64] = training[shuffled[np.minimum(picks, len(training) - 1)]]
    return chosen[rng.permutation(len(chosen))]


def handset_response_db(n_mels: int, rng: np.random.Generator) -> Float:
    """A random smooth frequency response: a tilt of up to 8 dB either way, a wave of up to 4 dB; mean 0."""
    band = np.linspace(-1, 1, n_mels)
    wave = np.sin(np.pi * rng.uniform(0.5, 1.5) * band + rng.uniform(0, 2 * np.pi))
    response = rng.uniform(-8, 8) * band + rng.uniform(0, 4) * wave
    centred: Float = (response - response.mean()).astype(np.float32)
    return centred


def pad(mels: Sequence[Float]) -> tuple[Float, Float]:
    """Zero-padded (n, longest, n_mels) float32 and its mask (n, longest) of ones where frames exist."""
    longest = max(len(mel) for mel in mels)
    batch = np.zeros((len(mels), longest, mels[0].shape[1]), dtype=np.float32)
    mask = np.zeros((len(mels), longest), dtype=np.float32)
    for row, mel in enumerate(mels):
        batch[row, : len(mel)] = mel
        mask[row, : len(mel)] = 1
    return batch, mask


class BatchAugment:
    """SpecAugment, warping, tilt and mixup on (n, time, bands) float32 torch batches; seeded."""

    def __init__(self, settings: BatchSettings, seed: int) -> None:
        import torch

        self.settings = settings
        self.rng = torch.Generator().manual_seed(seed)

    def __call__(
        self, batch: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor, *, mix: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """New (batch, mask, targets); ``mask`` is (n, time), ``targets`` (n, width) mix as the sounds do."""
        import torch

        s, rng = self.settings, self.rng
        n, n_frames, n_bands = batch.shape
        chosen = (torch.rand(n, 1, generator=rng) < s.warp).float()
        shift = (torch.rand(n, 1, generator=rng) * 2 - 1) * s.warp_bands * chosen
        at = (torch.arange(n_bands) + shift * torch.linspace(0.6, 1.4, n_bands)).clamp(0, n_bands - 1.001)
        low = at.long()
        part = (at - low)[:, None, :]
        index = low[:, None, :].expand(n, n_frames, n_bands)
        batch = (1 - part) * batch.gather(2, index) + part * batch.gather(2, index + 1)
        slope = (torch.rand(n, 1, 1, generator=rng) * 2 - 1) * 0.4
        slope = slope * (torch.rand(n, 1, 1, generator=rng) < s.tilt)
        batch = batch + slope * torch.linspace(-1, 1, n_bands)
        hole = torch.ones(n, n_frames, n_bands)
        for _ in range(s.band_masks):
            hole = hole * self._gap(n, n_bands, s.band_mask_bands)[:, None, :]
        for _ in range(s.time_masks):
            hole = hole * self._gap(n, n_frames, s.time_mask_frames)[:, :, None]
        batch = batch * hole
        if mix and s.mixup > 0:
            # Close to Beta(alpha, alpha) folded to its larger half, but drawn from this generator.
            weight = 1 - 0.5 * torch.rand(n, generator=rng) ** (1 / s.mixup_alpha)
            weight = torch.where(torch.rand(n, generator=rng) < s.mixup, weight, torch.ones(n))
            other = torch.randperm(n, generator=rng)
            batch = weight[:, None, None] * batch + (1 - weight)[:, None, None] * batch[other]
            mask = torch.maximum(mask, mask[other] * (weight < 1)[:, None])
            targets = weight[:, None] * targets + (1 - weight)[:, None] * targets[other]
        return batch * mask[:, :, None], mask, targets

    def _gap(self, n: int, length: int, most: int) -> torch.Tensor:
        import torch

        width = torch.rand(n, 1, generator=self.rng) * most
        start = torch.rand(n, 1, generator=self.rng) * (length - width)
        at = torch.arange(length)
        return ((at < start) | (at >= start + width)).float()
