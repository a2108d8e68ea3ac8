"""The studies' networks, one function each: same shapes, parameter counts and initial weights as documented.

Every function takes the shapes of a system's features, the number of labels and the wav2vec 2.0 folder, and
returns a module whose ``forward`` takes one float32 tensor per feature and gives logits (n, n_classes).
Tensors are (n, channels, time); a vector of means is read as one channel over that many steps. Raise
:data:`ensemble.baselines.bench.FORMAT` when one of them changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ensemble.baselines.encoders import load

Shapes = Sequence[tuple[int, ...]]


class SamePool(nn.Module):
    """Maximum over 5 steps every 2, to ceil(time / 2), padded as TensorFlow's ``same``; (n, c, time)."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, ceil(time / 2))."""
        time = x.shape[2]
        missing = max((-(-time // 2) - 1) * 2 + 5 - time, 0)
        x = nn.functional.pad(x, (missing // 2, missing - missing // 2), value=float("-inf"))
        return nn.functional.max_pool1d(x, 5, 2)


def recurrent(cell: nn.Module, x: Tensor) -> tuple[Tensor, Any]:
    """States and last state of an LSTM or GRU over float32 (n, time, c), also under autocast.

    bfloat16 gains nothing in a loop over time steps and CPUs train none in it.
    """
    with torch.autocast(x.device.type, enabled=False):
        states, last = cell(x.float())
    return states, last


class KerasLstm(nn.Module):
    """LSTM over (n, c, time) with Keras's single bias: the weight of one more input that is always 1."""

    def __init__(self, n_in: int, units: int, *, sequences: bool = False, both_ways: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_in + 1, units, bias=False, batch_first=True, bidirectional=both_ways)
        self.sequences = sequences
        with torch.no_grad():
            for name, weight in self.lstm.named_parameters():
                if name.startswith("weight_hh"):
                    for gate in weight.chunk(4):
                        nn.init.orthogonal_(gate)
                else:
                    nn.init.xavier_uniform_(weight[:, :-1])
                    weight[:, -1] = 0.0
                    # Keras opens the forget gate; torch's order of gates: input, forget, cell, output.
                    weight[units : 2 * units, -1] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """(n, units, time) with ``sequences``, else (n, units); twice the units both ways."""
        x = nn.functional.pad(x.transpose(1, 2), (0, 1), value=1.0)
        states, (last, _) = recurrent(self.lstm, x)
        out: Tensor = states.transpose(1, 2) if self.sequences else last.transpose(0, 1).flatten(1)
        return out


class BiGru(nn.Module):
    """States of a GRU in both directions; (n, c, time) to (n, 2 * units, time)."""

    def __init__(self, n_in: int, units: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, units, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 2 * units, time)."""
        return recurrent(self.gru, x.transpose(1, 2))[0].transpose(1, 2)


class Attention(nn.Module):
    """Additive attention (Bahdanau et al. 2015); (n, c, time) to its weighted mean over time (n, c)."""

    def __init__(self, n_in: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(n_in, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c)."""
        weight = torch.softmax(self.score(x.transpose(1, 2)), dim=1)  # (n, time, 1)
        return (x @ weight).squeeze(2)


class Average(nn.Module):
    """Mean over everything behind the channels; (n, c, ...) to (n, c)."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c)."""
        return x.flatten(2).mean(dim=2)


def conv(n_in: int, n_out: int, kernel: int = 3) -> tuple[nn.Module, nn.Module]:
    """Convolution over time that keeps the length, then ReLU, as in every listing of the studies."""
    return nn.Conv1d(n_in, n_out, kernel, padding="same"), nn.ReLU()


def dense(n_in: int, n_out: int) -> tuple[nn.Module, nn.Module]:
    """A linear layer and ReLU."""
    return nn.Linear(n_in, n_out), nn.ReLU()


def one_channel() -> nn.Module:
    """(n, ...) to (n, 1, ...)."""
    return nn.Unflatten(1, (1, -1))


def as_keras(*steps: nn.Module) -> nn.Module:
    """A chain that starts as Keras's layers do: Glorot-uniform weights, zero biases, its epsilon."""
    network = nn.Sequential(*steps)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eps = 1e-3
        if isinstance(module, nn.Conv1d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def lstm(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 000: LSTM 256, dense 128 and 64; 305,864 parameters with 8 classes."""
    return as_keras(
        one_channel(), KerasLstm(1, 256), *dense(256, 128), *dense(128, 64), nn.Linear(64, n_classes)
    )


def cnn(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 000: three Conv1D (64, 128, 256), dropout 50 %; 166,984 parameters with 8 classes."""
    return as_keras(
        one_channel(),
        *(*conv(1, 64), nn.BatchNorm1d(64), nn.MaxPool1d(2), nn.Dropout(0.5)),
        *(*conv(64, 128), nn.BatchNorm1d(128), nn.MaxPool1d(2), nn.Dropout(0.5)),
        *(*conv(128, 256), nn.BatchNorm1d(256), nn.MaxPool1d(2), nn.Dropout(0.5)),
        *(Average(), *dense(256, 128), nn.Dropout(0.5), *dense(128, 64), nn.Linear(64, n_classes)),
    )


def cnn_lstm(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 000: the document's layer table, 378,344 parameters with 8 classes."""
    return as_keras(
        one_channel(),
        *(*conv(1, 64), nn.BatchNorm1d(64), nn.MaxPool1d(2)),
        *(*conv(64, 128), nn.BatchNorm1d(128), nn.MaxPool1d(2), nn.Dropout(0.3)),
        *(*conv(128, 256), nn.BatchNorm1d(256), nn.MaxPool1d(2)),
        *(KerasLstm(256, 128, sequences=True), KerasLstm(128, 64)),
        *(*dense(64, 64), nn.Dropout(0.3), *dense(64, 32), nn.Dropout(0.3), nn.Linear(32, n_classes)),
    )


def means_cnn(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 001: the notebook's four Conv1D."""
    length = -(-shapes[0][0] // 16)
    return as_keras(
        one_channel(),
        *(*conv(1, 256, 5), SamePool(), *conv(256, 256, 5), SamePool()),
        *(*conv(256, 128, 5), SamePool(), nn.Dropout(0.2), *conv(128, 64, 5), SamePool()),
        *(nn.Flatten(), *dense(64 * length, 32), nn.Dropout(0.3), nn.Linear(32, n_classes)),
    )


def means_cnn_deep(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 001: described (more layers, more dropout, batch normalisation), not listed."""
    widths = (1, 512, 256, 256, 128, 64)
    steps: list[nn.Module] = [one_channel()]
    for n_in, n_out in pairwise(widths):
        drop = nn.Dropout(0.3 if n_out == widths[-1] else 0.2)
        steps += (*conv(n_in, n_out, 5), nn.BatchNorm1d(n_out), SamePool(), drop)
    length = -(-shapes[0][0] // 32)
    steps += (nn.Flatten(), *dense(64 * length, 64), nn.BatchNorm1d(64), nn.Dropout(0.3))
    return as_keras(*steps, nn.Linear(64, n_classes))


def mel_cnn(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 002: four Conv2D blocks (16 to 128); written in PyTorch, so with its initial weights."""
    steps: list[nn.Module] = [one_channel()]
    for n_in, n_out in ((1, 16), (16, 32), (32, 64), (64, 128)):
        steps += (nn.Conv2d(n_in, n_out, 3, padding="same"), nn.BatchNorm2d(n_out), nn.ReLU())
        steps += (nn.MaxPool2d(2), nn.Dropout(0.1))
    return nn.Sequential(*steps, Average(), nn.Dropout(0.4), nn.Linear(128, n_classes))


def conv_lstm(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 003: the text's Conv1D+LSTM."""
    return as_keras(
        *(one_channel(), *conv(1, 128), *conv(128, 256), KerasLstm(256, 128), nn.Dropout(0.3)),
        *(*dense(128, 64), nn.Dropout(0.3), nn.Linear(64, n_classes)),
    )


def deep_conv(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 003: the printed summary, 7,193,223 parameters with 7 classes."""
    length = -(-shapes[0][0] // 32)
    return as_keras(
        one_channel(),
        *(*conv(1, 512, 5), nn.BatchNorm1d(512), SamePool()),
        *(*conv(512, 512, 5), nn.BatchNorm1d(512), SamePool(), nn.Dropout(0.2)),
        *(*conv(512, 256, 5), nn.BatchNorm1d(256), SamePool()),
        *(*conv(256, 256, 3), nn.BatchNorm1d(256), SamePool(), nn.Dropout(0.2)),
        *(*conv(256, 128, 3), nn.BatchNorm1d(128), SamePool(), nn.Dropout(0.2)),
        *(nn.Flatten(), *dense(128 * length, 512), nn.BatchNorm1d(512), nn.Linear(512, n_classes)),
    )


def bilstm_attention(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 003, next step: BiLSTM with attention."""
    return as_keras(
        *(KerasLstm(shapes[0][0], 128, sequences=True, both_ways=True), nn.Dropout(0.3), Attention(256)),
        *(*dense(256, 64), nn.Dropout(0.3), nn.Linear(64, n_classes)),
    )


def gru_cnn_attention(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 003, next step: GRU-CNN with attention."""
    return as_keras(
        *(*conv(shapes[0][0], 128, 5), nn.BatchNorm1d(128), nn.MaxPool1d(2)),
        *(*conv(128, 128, 5), nn.BatchNorm1d(128), nn.MaxPool1d(2), nn.Dropout(0.3)),
        *(BiGru(128, 128), Attention(256), *dense(256, 64), nn.Dropout(0.3), nn.Linear(64, n_classes)),
    )


class AlexNetEncoder(nn.Module):
    """The convolutions of AlexNet (Krizhevsky et al. 2012), untrained: (n, 1, 256, 384) to (n, 256)."""

    size = (256, 384)
    width = 256

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            *(nn.Conv2d(1, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
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
        self.image = nn.Sequential(nn.Dropout(0.1), *dense(encoder.width, 128))
        self.lstm = nn.LSTM(n_mfcc, 256, 2, batch_first=True, bidirectional=True, dropout=0.5)
        self.mfcc = nn.Sequential(nn.Dropout(0.1), *dense(512, 128))
        self.attend = nn.Linear(256, n_steps)
        self.wave = nn.Sequential(nn.Dropout(0.1), *dense(width, 128))
        self.head = nn.Sequential(nn.Dropout(0.1), *dense(384, 128), nn.Linear(128, n_classes))

    def forward(self, spectrogram: Tensor, mfcc: Tensor, states: Tensor) -> Tensor:
        """Logits of (n, bins, frames), (n, mfcc, frames) and (n, steps, width)."""
        image = nn.functional.interpolate(
            spectrogram[:, None], size=self.encoder.size, mode="bilinear", align_corners=False
        )
        by_image = self.image(self.encoder(image))
        by_mfcc = self.mfcc(recurrent(self.lstm, mfcc.transpose(1, 2))[0].mean(dim=1))
        weight = torch.softmax(self.attend(torch.cat([by_image, by_mfcc], dim=1)), dim=1)
        by_wave = self.wave((weight[:, None] @ states).squeeze(1))
        out: Tensor = self.head(torch.cat([by_image, by_mfcc, by_wave], dim=1))
        return out


def coattention_alexnet(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 004: the published system, over frozen wav2vec 2.0 states."""
    return CoAttention(AlexNetEncoder(), shapes, n_classes)


def coattention_vit(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 004: a ViT in AlexNet's place."""
    return CoAttention(VitEncoder(), shapes, n_classes)


class TunedWav2Vec(nn.Module):
    """wav2vec 2.0 with a linear head over the mean state; the convolutional front stays as pre-trained."""

    def __init__(self, n_classes: int, checkpoint: Path | None) -> None:
        super().__init__()
        self.model = load(checkpoint)
        self.model.feature_extractor.requires_grad_(False)
        self.head = nn.LazyLinear(n_classes)
        with torch.no_grad():
            self(torch.zeros(1, 1600))  # the width is the checkpoint's

    def forward(self, wave: Tensor) -> Tensor:
        """Logits of (n, samples)."""
        out: Tensor = self.head(self.model(wave).last_hidden_state.mean(dim=1))
        return out


def tuned_wav2vec(shapes: Shapes, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """Study 000: the fine-tuned form."""
    return TunedWav2Vec(n_classes, checkpoint)


NETWORKS: Mapping[str, Callable[[Shapes, int, Path | None], nn.Module]] = {
    make.__name__: make
    for make in (
        *(lstm, cnn, cnn_lstm, tuned_wav2vec, means_cnn, means_cnn_deep, mel_cnn, conv_lstm, deep_conv),
        *(bilstm_attention, gru_cnn_attention, coattention_alexnet, coattention_vit),
    )
}
"""By the name that a system gives."""


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """(all, trainable), counted as Keras does: batch normalisation's running moments are among all."""
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    fixed = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    moments = sum(b.numel() for name, b in network.named_buffers() if "running_" in name)
    return trainable + fixed + moments, trainable
