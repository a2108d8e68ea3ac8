"""The members, by name: adding one is one module and one entry here.

Two kinds. Those of ``MEMBERS`` are trained here, whole. ``VOICE_MEMBER`` is a head on the frozen voice
network that diarization uses (:mod:`ensemble.members.campplus`); it sees another spectrogram, Kaldi's.

Every member is a ``torch.nn.Module``, ``Cnn(n_mels, n_classes)`` in the module ``cnn``, whose
``forward(mel, mask)`` takes a normalised log-mel (n, time, n_mels) float32 and a mask (n, time) of 1 for
frames that exist and 0 for padding, and returns logits (n, n_classes) float32. Padding changes no result.
``pooled(mel, mask)`` gives what its ``head`` makes them of, (n, width): the centred heads
(:mod:`ensemble.inference.vote`) see that minus the voice's own baseline.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

MEMBERS: tuple[str, ...] = ("cnn", "crnn", "vit")
"""Module names below this package, in the order members vote and are stored."""
VOICE_MEMBER = "campplus"
VOICE_WEIGHT = 2.0
"""Votes of the voice network's member against 1 of each other (chosen on CREMA-D's validation speakers)."""


def is_member(name: str) -> bool:
    """Whether ``name`` is an architecture, or one with the number of its seed (``cnn-2``)."""
    return name == VOICE_MEMBER or re.fullmatch(rf"({'|'.join(MEMBERS)})(-[1-9]\d{{0,2}})?", name) is not None


def architecture_of(name: str) -> str:
    """``cnn-2`` and ``cnn`` are both a ``cnn``."""
    return name.partition("-")[0]


def make_member(name: str, n_mels: int, n_classes: int) -> nn.Module:
    """A new, untrained member.

    Raises:
        KeyError: with the known names, for any other name.
    """
    if (architecture := architecture_of(name)) not in MEMBERS:
        raise KeyError(f"member {name!r} is not known; known are {', '.join(MEMBERS)}")
    kind = getattr(import_module(f"ensemble.members.{architecture}"), architecture.capitalize())
    member: nn.Module = kind(n_mels, n_classes)
    return member


def load_member(weights: Path, name: str, n_mels: int, n_classes: int) -> nn.Module:
    """A member with trained weights (safetensors), in evaluation mode on the CPU."""
    from safetensors.torch import load_file

    module = make_member(name, n_mels, n_classes)
    module.load_state_dict(load_file(weights))
    return module.eval()
