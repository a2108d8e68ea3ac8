"""The studies' networks that are no chain of layers: co-attention of three inputs, fine-tuned wav2vec 2.0.

Every function here takes the shapes of a system's features, the number of labels and the wav2vec 2.0
folder, and returns a module whose ``forward`` takes one tensor per feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ensemble.baselines.network import recurrent
from ensemble.baselines.wav2vec import load

Shapes = Sequence[tuple[int, ...]]


class AlexNetEncoder(nn.Module):
    """The convolutions of AlexNet (Krizhevsky et al. 2012), untrained: (n, 1, 256, 384) to (n, 256)."""

    size = (256, 384)
    width = 256

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.Conv2d(1, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(n, 256)."""
        out: Tensor = self.steps(image).flatten(2).mean(dim=2)
        return out


class VitEncoder(nn.Module):
    """A small ViT (Dosovitskiy et al. 2021), untrained: 196 patches of (n, 1, 224, 224), a class token."""

    size = (224, 224)
    width = 192

    def __init__(self, n_layers: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, self.width, 16, stride=16)
        self.token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.position = nn.Parameter(torch.randn(1, 197, self.width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            self.width, 3, 4 * self.width, 0.1, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, n_layers, nn.LayerNorm(self.width), enable_nested_tensor=False
        )

    def forward(self, image: Tensor) -> Tensor:
        """(n, 192)."""
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        out: Tensor = self.layers(x)[:, 0]
        return out


class CoAttention(nn.Module):
    """Zou et al. (2022): spectrogram and MFCC say which moments of wav2vec 2.0 count; all are joined."""

    def __init__(self, encoder: AlexNetEncoder | VitEncoder, shapes: Shapes, n_classes: int) -> None:
        super().__init__()
        _, (n_mfcc, _), (n_steps, width) = shapes
        self.encoder = encoder
        self.image = nn.Sequential(nn.Dropout(0.1), nn.Linear(encoder.width, 128), nn.ReLU())
        self.lstm = nn.LSTM(n_mfcc, 256, 2, batch_first=True, bidirectional=True, dropout=0.5)
        self.mfcc = nn.Sequential(nn.Dropout(0.1), nn.Linear(512, 128), nn.ReLU())
        self.attend = nn.Linear(256, n_steps)
        self.wave = nn.Sequential(nn.Dropout(0.1), nn.Linear(width, 128), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(384, 128), nn.ReLU(), nn.Linear(128, n_classes))

    def forward(self, spectrogram: Tensor, mfcc: Tensor, states: Tensor) -> Tensor:
        """Logits of (n, bins, frames), (n, mfcc, frames) and (n, steps, width)."""
        image = nn.functional.interpolate(
            spectrogram[:, None], size=self.encoder.size, mode="bilinear", align_corners=False
        )
        seen = self.image(self.encoder(image))
        heard = self.mfcc(recurrent(self.lstm, mfcc.transpose(1, 2))[0].mean(dim=1))
        weight = torch.softmax(self.attend(torch.cat([seen, heard], dim=1)), dim=1)
        told = self.wave((weight[:, None] @ states).squeeze(1))
        out: Tensor = self.head(torch.cat([seen, heard, told], dim=1))
        return out


def coattention_alexnet(shapes: Shapes, n_classes: int, folder: Path | None) -> nn.Module:
    """The published system, over frozen wav2vec 2.0 states."""
    return CoAttention(AlexNetEncoder(), shapes, n_classes)


def coattention_vit(shapes: Shapes, n_classes: int, folder: Path | None) -> nn.Module:
    """Study 004's: a ViT in AlexNet's place."""
    return CoAttention(VitEncoder(), shapes, n_classes)


class TunedWav2Vec(nn.Module):
    """wav2vec 2.0 with a linear head over the mean state; the convolutional front stays as pre-trained."""

    def __init__(self, n_classes: int, folder: Path | None) -> None:
        super().__init__()
        self.model = load(folder)
        self.model.feature_extractor.requires_grad_(False)
        self.head = nn.LazyLinear(n_classes)
        with torch.no_grad():
            self(torch.zeros(1, 1600))  # the width is the checkpoint's

    def forward(self, wave: Tensor) -> Tensor:
        """Logits of (n, samples)."""
        out: Tensor = self.head(self.model(wave).last_hidden_state.mean(dim=1))
        return out


def tuned_wav2vec(shapes: Shapes, n_classes: int, folder: Path | None) -> nn.Module:
    """The fine-tuned form."""
    return TunedWav2Vec(n_classes, folder)


MODULES = {f.__name__: f for f in (coattention_alexnet, coattention_vit, tuned_wav2vec)}
"""By the name a system's file gives."""
