"""Listings of layers as torch modules: same shapes, same number of parameters, same initial weights.

Most listings are Keras's: differences of the two libraries that matter for the count and the training are
settled its way. An LSTM has one bias per gate, weights start Glorot-uniform with the forget gate open.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ensemble.baselines import layers as spec
from ensemble.baselines.system import Library
from ensemble.model_errors import TrainingError


class SamePool(nn.Module):
    """Max pooling to ceil(length / stride), padded as TensorFlow pads; (n, c, time)."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, ceil(time / stride))."""
        time = x.shape[2]
        missing = max((-(-time // self.stride) - 1) * self.stride + self.size - time, 0)
        x = nn.functional.pad(x, (missing // 2, missing - missing // 2), value=float("-inf"))
        return nn.functional.max_pool1d(x, self.size, self.stride)


def recurrent(cell: nn.Module, x: Tensor) -> tuple[Tensor, Any]:
    """States and last state of an LSTM or GRU over float32 (n, time, c), also under autocast.

    bfloat16 gains nothing in a loop over time steps and CPUs train none in it.
    """
    with torch.autocast(x.device.type, enabled=False):
        states, last = cell(x.float())
    return states, last


class KerasLstm(nn.Module):
    """LSTM over (n, c, time) with a single bias: the weight of one more input that is always 1."""

    def __init__(self, n_in: int, units: int, sequences: bool, both_ways: bool) -> None:
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
                    weight[units : 2 * units, -1] = 1.0  # torch's order of gates: input, forget, cell, output

    def forward(self, x: Tensor) -> Tensor:
        """(n, units, time) with ``sequences``, else (n, units); twice the units both ways."""
        x = nn.functional.pad(x.transpose(1, 2), (0, 1), value=1.0)
        states, (last, _) = recurrent(self.lstm, x)
        out: Tensor = states.transpose(1, 2) if self.sequences else last.transpose(0, 1).flatten(1)
        return out


class KerasGru(nn.Module):
    """GRU over (n, c, time)."""

    def __init__(self, n_in: int, units: int, sequences: bool, both_ways: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(n_in, units, batch_first=True, bidirectional=both_ways)
        self.sequences = sequences

    def forward(self, x: Tensor) -> Tensor:
        """(n, units, time) with ``sequences``, else (n, units); twice the units both ways."""
        states, last = recurrent(self.gru, x.transpose(1, 2))
        out: Tensor = states.transpose(1, 2) if self.sequences else last.transpose(0, 1).flatten(1)
        return out


class Attention(nn.Module):
    """(n, c, time) to (n, c): states weighed by a small perceptron's softmax over time."""

    def __init__(self, n_in: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(n_in, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """The weighted mean."""
        weight = torch.softmax(self.score(x.transpose(1, 2)), dim=1)  # (n, time, 1)
        return (x @ weight).squeeze(2)


class Average(nn.Module):
    """Mean over everything behind the channels; (n, c, ...) to (n, c)."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean."""
        return x.flatten(2).mean(dim=2)


def build(
    layers: Sequence[spec.Layer], shape: tuple[int, ...], n_classes: int, library: Library = "keras"
) -> nn.Module:
    """The network of ``layers`` over features of ``shape``, ending in ``n_classes`` logits.

    ``library`` says whose initial weights it has. ``shape`` is (values,) for a vector,
    which Conv and Lstm read as one channel over that many steps, (channels, time) for a sequence, or
    (bands, time) for an image. Raises TrainingError when a layer does
    not fit what comes before it.
    """
    modules: list[nn.Module] = []
    deep = isinstance(layers[0], spec.Conv | spec.Lstm | spec.Gru | spec.Conv2)
    if deep and len(shape) == (2 if isinstance(layers[0], spec.Conv2) else 1):
        modules.append(nn.Unflatten(1, (1, shape[0])))
        shape = (1, *shape)
    for layer in (*layers, spec.Dense(n_classes, linear=True)):
        made, shape = _make(layer, shape)
        modules += made
    network = nn.Sequential(*modules)
    for module in network.modules() if library == "keras" else ():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = 1e-3
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _make(layer: spec.Layer, shape: tuple[int, ...]) -> tuple[list[nn.Module], tuple[int, ...]]:
    match layer, shape:
        case spec.Conv(filters, kernel), (n_in, time):
            return [nn.Conv1d(n_in, filters, kernel, padding="same"), nn.ReLU()], (filters, time)
        case spec.Conv2(filters, kernel), (n_in, bands, time):
            # The study's order is convolution, normalisation, ReLU: its file lists the ReLU.
            return [nn.Conv2d(n_in, filters, kernel, padding="same")], (filters, bands, time)
        case spec.Norm(), (n_in, *rest):
            norm = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[len(rest)]
            return [norm(n_in)], shape
        case spec.Relu(), _:
            return [nn.ReLU()], shape
        case spec.Pool(size, stride, True), (n_in, time):
            return [SamePool(size, stride)], (n_in, -(-time // stride))
        case spec.Pool(size, stride, False), (n_in, time):
            return [nn.MaxPool1d(size, stride)], (n_in, (time - size) // stride + 1)
        case spec.Pool2(), (n_in, bands, time):
            return [nn.MaxPool2d(2)], (n_in, bands // 2, time // 2)
        case spec.Drop(share), _:
            return [nn.Dropout(share)], shape
        case (spec.Lstm() | spec.Gru()) as cell, (n_in, time):
            width = cell.units * (1 + cell.both_ways)
            kind = KerasLstm if isinstance(cell, spec.Lstm) else KerasGru
            made = kind(n_in, cell.units, cell.sequences, cell.both_ways)
            return [made], ((width, time) if cell.sequences else (width,))
        case spec.Attend(hidden), (n_in, _):
            return [Attention(n_in, hidden)], (n_in,)
        case spec.Mean(), (n_in, _, *_):
            return [Average()], (n_in,)
        case spec.Flatten(), _:
            return [nn.Flatten()], (prod(shape),)
        case spec.Dense(units, linear), (n_in,):
            dense = nn.Linear(n_in, units)
            return ([dense] if linear else [dense, nn.ReLU()]), (units,)
    raise TrainingError(f"layer {layer} cannot follow features of shape {shape}; check the system's layers")


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """(all, trainable), counted as Keras does: batch normalisation's running moments are among all."""
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    fixed = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    moments = sum(b.numel() for name, b in network.named_buffers() if "running_" in name)
    return trainable + fixed + moments, trainable
