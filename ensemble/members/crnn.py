"""CRNN: four convolutions, a GRU in both directions, attentive statistics pooling.

Convolution before recurrence after Trigeorgis et al. (2016); pooling of Okabe et al. (2018). Plain
convolutions: depthwise-separable ones were no faster on a CPU and learnt more slowly
(benchmarks/RESULTS.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ensemble.members.blocks import AttentiveStatistics, ConvStep


class Crnn(nn.Module):
    """(n, time, n_mels) to (n, n_classes)."""

    def __init__(self, n_mels: int, n_classes: int, width: int = 128) -> None:
        super().__init__()
        self.stem = ConvStep(1, 24, (2, 2))
        self.step1 = ConvStep(24, 48, (2, 2))
        self.step2 = ConvStep(48, 80, (2, 1))
        self.step3 = ConvStep(80, 112, (2, 1))
        self.flatten = nn.Sequential(nn.Linear(112 * (n_mels // 16), width), nn.LayerNorm(width), nn.SiLU())
        self.drop = nn.Dropout(0.1)
        self.forwards = nn.GRU(width, width, batch_first=True)
        self.backwards = nn.GRU(width, width, batch_first=True)
        self.pool = AttentiveStatistics(2 * width)
        self.head = nn.Sequential(nn.Dropout(0.25), nn.Linear(4 * width, n_classes))

    def pooled(self, mel: Tensor, mask: Tensor) -> Tensor:
        """What the head sees, (n, width): mel (n, time, n_mels) with mask (n, time) pooled over time."""
        x = mel.transpose(1, 2)[:, None]  # (n, 1, bands, time)
        x, mask = self.stem(x, mask)
        x, mask = self.step1(x, mask)
        x, mask = self.step2(x, mask)
        x, mask = self.step3(x, mask)  # (n, 112, 4, time / 4)
        x = self.drop(self.flatten(x.flatten(1, 2).transpose(1, 2)).float())
        # The backward direction must start at each clip's own end, not at the padding's.
        at = mask.cumsum(dim=1) * mask + (1 - mask)
        mirror = (
            (mask.sum(dim=1, keepdim=True) - at).clamp(min=0).long()[:, :, None].expand(-1, -1, x.shape[2])
        )
        with torch.autocast("cpu", enabled=False):
            ahead, _ = self.forwards(x)
            back, _ = self.backwards(x.gather(1, mirror))
        both = torch.cat([ahead, back.gather(1, mirror)], dim=2) * mask[:, :, None]
        found: Tensor = self.pool(both, mask)
        return found

    def forward(self, mel: Tensor, mask: Tensor) -> Tensor:
        """Logits (n, n_classes) of the same."""
        logits: Tensor = self.head(self.pooled(mel, mask))
        return logits
