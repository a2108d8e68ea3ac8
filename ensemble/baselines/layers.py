"""Layers as the studies' listings name them (Keras), as plain data; ``network.py`` builds them.

Convolutions keep the length (``same`` padding) and are followed by ReLU, as in every listing of the studies.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conv:
    """Conv1D over time."""

    filters: int
    kernel: int = 3


@dataclass(frozen=True, slots=True)
class Conv2:
    """Conv2D over bands and time."""

    filters: int
    kernel: int = 3


@dataclass(frozen=True, slots=True)
class Norm:
    """Batch normalisation."""


@dataclass(frozen=True, slots=True)
class Relu:
    """ReLU on its own; a convolution or dense layer before it has ``Norm`` in between."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Maximum over ``size`` steps every ``stride``; ``same`` keeps ceil(length / stride), else floor."""

    size: int = 2
    stride: int = 2
    same: bool = False


@dataclass(frozen=True, slots=True)
class Pool2:
    """Maximum over squares of 2 x 2."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Dropout."""

    share: float


@dataclass(frozen=True, slots=True)
class Lstm:
    """LSTM with one bias, as Keras has; its last state, or all of them with ``sequences``."""

    units: int
    sequences: bool = False
    both_ways: bool = False


@dataclass(frozen=True, slots=True)
class Gru:
    """GRU (reset after, two biases); its last state, or all of them with ``sequences``."""

    units: int
    sequences: bool = False
    both_ways: bool = False


@dataclass(frozen=True, slots=True)
class Attend:
    """Additive attention over time (Bahdanau et al. 2015): a weighted mean of the states."""

    hidden: int = 64


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean over time, or over bands and time."""


@dataclass(frozen=True, slots=True)
class Flatten:
    """All values in one row."""


@dataclass(frozen=True, slots=True)
class Dense:
    """Fully connected, with ReLU unless ``linear``."""

    units: int
    linear: bool = False


Layer = Conv | Conv2 | Norm | Relu | Pool | Pool2 | Drop | Lstm | Gru | Attend | Mean | Flatten | Dense
