"""ViT: a transformer over full-height strips of the spectrogram after a convolutional stem.

After ViT (Dosovitskiy et al. 2021) with a convolutional stem (Xiao et al.
2021) and strips of all bands instead of squares, as AST-like models on little
data want. Positions come from a depthwise convolution over time (Chu et al.
2021), so any length works without a table of positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ensemble.members.blocks import ConvStep, mean_and_max


class Layer(nn.Module):
    """Pre-norm attention and perceptron; (n, time, d) stays."""

    def __init__(self, width: int, n_heads: int, drop: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``bias`` (n, 1, 1, time) is 0 for frames that exist and very negative for padding."""
        n, time, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, time, 3, self.n_heads, width // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (n, heads, time, d / heads)
        weight = torch.softmax(q @ k.transpose(2, 3) * (width // self.n_heads) ** -0.5 + bias, dim=3)
        x = x + self.drop(self.join((weight @ v).transpose(1, 2).reshape(n, time, width)))
        out: Tensor = x + self.drop(self.mlp(self.norm2(x)))
        return out


class Vit(nn.Module):
    """(n, time, n_mels) to (n, n_classes)."""

    def __init__(self, n_mels: int, n_classes: int, width: int = 128, n_layers: int = 4) -> None:
        super().__init__()
        self.stem1 = ConvStep(1, 16, (2, 2))
        self.stem2 = ConvStep(16, 32, (2, 2))
        self.strip = nn.Linear(32 * (n_mels // 4), width)
        self.position = nn.Conv1d(width, width, 9, padding=4, groups=width)
        self.layers = nn.ModuleList(Layer(width, 4, 0.1) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Dropout(0.25), nn.Linear(2 * width, n_classes))

    def pooled(self, mel: Tensor, mask: Tensor) -> Tensor:
        """What the head sees, (n, width): mel (n, time, n_mels) with mask (n, time) pooled over time."""
        x = mel.transpose(1, 2)[:, None]  # (n, 1, bands, time)
        x, mask = self.stem1(x, mask)
        x, mask = self.stem2(x, mask)  # (n, 32, 16, time / 4)
        x = self.strip(x.flatten(1, 2).transpose(1, 2)) * mask[:, :, None]
        x = x + self.position(x.transpose(1, 2)).transpose(1, 2)
        bias = -1e4 * (1 - mask)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        return mean_and_max(self.norm(x), mask)

    def forward(self, mel: Tensor, mask: Tensor) -> Tensor:
        """Logits (n, n_classes) of the same."""
        logits: Tensor = self.head(self.pooled(mel, mask))
        return logits
