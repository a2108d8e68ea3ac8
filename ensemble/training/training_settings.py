"""Settings of a training run, and the two ready-made choices."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ensemble.inference.spectrogram import FrontEnd
from ensemble.labels import SHARED_SIX
from ensemble.members import MEMBERS, VOICE_MEMBER


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """Changes of spectrogram batches; probabilities and sizes, 0 switches off."""

    time_masks: int = 2
    time_mask_frames: int = 12
    band_masks: int = 1
    band_mask_bands: int = 8
    warp: float = 0.3
    warp_bands: float = 2.5
    mixup: float = 0.2
    mixup_alpha: float = 0.3
    tilt: float = 0.2
    """Share of clips given a random spectral slope of up to 0.4 standard deviations."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything a training run depends on besides the clips; stored in the card."""

    labels: tuple[str, ...] = SHARED_SIX
    members: tuple[str, ...] = MEMBERS
    seed: int = 1
    n_epochs: int = 60
    batch: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.03
    warmup_epochs: float = 2.0
    ema: float = 0.998
    smoothing: float = 0.05
    focal: float = 0.0
    """Focusing exponent of focal loss (Lin et al. 2017); 0 is cross-entropy."""
    votes_share: float = 0.2
    """Weight of the raters' votes in the target, where a corpus has them; the rest is the label."""
    n_augmented: int = 6
    clean_share: float = 0.25
    telephone_share: float = 0.35
    """Shares of examples from the clean and the plain telephone view; the rest is augmented."""
    teachers: tuple[str, ...] = ()
    """Names of teachers: see :mod:`ensemble.training.teachers`."""
    lesson_weight: float = 1.0
    """Weight of the squared error of a lesson against the labels' cross-entropy."""
    n_coded: int = 3
    coded_share: float = 0.3
    """Share of all examples from views in the codings of recorders (MP3, Opus, AMR, GSM)."""
    paste: float = 0.10
    """Share of clips joined to a neutral clip of the same speaker (CopyPaste, Pappagari et al. 2021)."""
    calm_known: float = 0.3
    """Share of clips whose speaker is known by neutral and happy clips only, as in most real calls."""
    handset: float = 0.3
    """Share of clips with the response of a random handset: smooth, up to about 12 dB."""
    crop_s: float = 2.2
    speaker_norm: bool = True
    """False leaves every clip with its own shrunk statistics: the ablation."""
    mix_until: float = 0.85
    """Mixup stops after this share of the epochs."""
    schedule: Literal["cosine", "plateau"] = "cosine"
    """``plateau`` halves the rate after every four epochs without a better validation UAR."""
    validate_every: int = 1
    """Epochs between two looks at the validation speakers; the last is always looked at."""
    patience_epochs: int = 0
    """Stop after this many epochs without a better validation UAR; 0 never stops early."""
    batch_augment: BatchSettings = field(default_factory=BatchSettings)
    front: FrontEnd = field(default_factory=FrontEnd)
    n_threads: int = 2
    device: str = "cpu"
    half: bool = True
    """bfloat16 autocast in the convolutions and linear layers (2x on CPUs with AVX-512 BF16)."""

    @property
    def trained(self) -> tuple[str, ...]:
        """The members whose bodies are trained: all but the voice network's."""
        return tuple(name for name in self.members if name != VOICE_MEMBER)


PRESETS = {"quick": replace(TrainSettings(), n_epochs=6, n_augmented=2, n_coded=1), "night": TrainSettings()}
