"""CNN: a small residual network over the spectrogram, pooled by mean and maximum.

After the residual networks of He et al. (2016), shrunk for speech of a few
seconds; mean and max pooling as in PANNs (Kong et al. 2020).
"""

from __future__ import annotations

from torch import Tensor, nn

from ensemble.members.blocks import ConvStep, mean_and_max


class Residual(nn.Module):
    """Two 3 x 3 steps around a shortcut; (n, c, bands, time) stays."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvStep(width, width, (1, 1))
        self.second = ConvStep(width, width, (1, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x plus the two steps; same shape."""
        y, _ = self.first(x, mask)
        y, _ = self.second(y, mask)
        out: Tensor = x + y
        return out


class Cnn(nn.Module):
    """(n, time, n_mels) to (n, n_classes)."""

    def __init__(self, n_mels: int, n_classes: int) -> None:
        super().__init__()
        self.down1 = ConvStep(1, 24, (2, 2))
        self.down2 = ConvStep(24, 48, (2, 2))
        self.down3 = ConvStep(48, 80, (2, 1))
        self.down4 = ConvStep(80, 112, (2, 2))
        self.deep1, self.deep2 = Residual(112), Residual(112)
        self.mix = nn.Linear(112 * (n_mels // 16), 192)
        self.head = nn.Sequential(nn.Dropout(0.25), nn.Linear(2 * 192, n_classes))

    def pooled(self, mel: Tensor, mask: Tensor) -> Tensor:
        """What the head sees, (n, width): mel (n, time, n_mels) with mask (n, time) pooled over time."""
        x = mel.transpose(1, 2)[:, None]  # (n, 1, bands, time)
        x, mask = self.down1(x, mask)
        x, mask = self.down2(x, mask)
        x, mask = self.down3(x, mask)
        x, mask = self.down4(x, mask)
        x = self.deep2(self.deep1(x, mask), mask)  # (n, 112, 4, time / 8)
        x = nn.functional.silu(self.mix(x.flatten(1, 2).transpose(1, 2)))
        return mean_and_max(x, mask)

    def forward(self, mel: Tensor, mask: Tensor) -> Tensor:
        """Logits (n, n_classes) of the same."""
        logits: Tensor = self.head(self.pooled(mel, mask))
        return logits
