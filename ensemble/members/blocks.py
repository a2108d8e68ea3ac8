"""Pieces shared by the members: masked convolution steps and pooling over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvStep(nn.Module):
    """Convolution, batch norm, SiLU over (n, channels, bands, time), padding kept at zero.

    With stride 2 in time, output frame i exists when input frame 2 i does, so
    the mask is simply every second entry.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        stride: tuple[int, int],
        kernel: tuple[int, int] = (3, 3),
        groups: int = 1,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(n_out)
        self.stride_in_time = stride[1]

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(x, mask) at the new resolution; x is zero where the mask is."""
        mask = mask[:, :: self.stride_in_time]
        x = nn.functional.silu(self.norm(self.conv(x)))
        return x * mask[:, None, None, :].to(x.dtype), mask


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling (Okabe et al. 2018): (n, time, d) to (n, 2 d), padding ignored."""

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Weighted mean and deviation over time."""
        x = x.float()
        score = self.score(x).float().squeeze(2) - 1e4 * (1 - mask)
        weight = torch.softmax(score, dim=1)[:, :, None]
        mean = (weight * x).sum(dim=1)
        variance = (weight * (x - mean[:, None, :]) ** 2).sum(dim=1)
        return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)


def mean_and_max(x: Tensor, mask: Tensor) -> Tensor:
    """Mean and maximum over existing frames, (n, time, d) to (n, 2 d)."""
    x = x.float()
    keep = mask[:, :, None]
    mean = (x * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
    return torch.cat([mean, (x - 1e4 * (1 - keep)).amax(dim=1)], dim=1)
