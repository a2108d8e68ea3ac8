"""Changes of spectrogram batches at every training step: cheap, batched, drawn from a seed.

Sources: SpecAugment (Park et al. 2019); mixup (Zhang et al. 2018); vocal-tract length perturbation
(Jaitly and Hinton 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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


class BatchAugment:
    """SpecAugment, warping, tilt and mixup on (n, time, bands) float32 torch batches; seeded."""

    def __init__(self, settings: BatchSettings, seed: int) -> None:
        import torch

        self.settings = settings
        self.rng = torch.Generator().manual_seed(seed)

    def __call__(
        self, batch: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor, *, mix: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """New (batch, mask, targets); ``mask`` is (n, time), ``targets`` (n, classes) shares."""
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
