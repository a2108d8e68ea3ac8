"""Centred heads: what members pool of a segment, minus the voice's own calm speech. No torch.

A recogniser of acted speech mistakes how a person always sounds for how they feel. So each member has a
second linear head that sees its pooled features minus the mean of the voice's calm reference: the segments
that the members, heard one by one, find most neutral, up to ``calm_s`` seconds and at most half of what the
voice says. A short reference is shrunk by ``n / (n + shrink_s)`` with n seconds, as the band shapes are. A
head is linear, so a baseline is subtracted from what it answers and pooled features are never kept.

A voice with one segment has no baseline; the members' own heads answer for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.inference.card import checked_file
from ensemble.model_errors import ModelIncompatible

Float = NDArray[np.float32]
HEADS_FILE = "heads.safetensors"
CALM_S = 15.0
"""Seconds of calm speech that make a baseline: the calm reference of the frustration curve is as long."""
SHRINK_S = 3.0
"""Seconds of calm speech at which a baseline has half its weight."""


@dataclass(frozen=True, slots=True)
class CentredHeads:
    """The second heads of all members, in their order.

    ``weights`` (k, width) and ``origins`` (width,) float32 of each member; ``biases`` (m, k).
    ``temperature`` calibrates the mean of their answers.
    """

    weights: tuple[Float, ...]
    origins: tuple[Float, ...]
    biases: Float
    temperature: float
    calm_s: float = CALM_S
    shrink_s: float = SHRINK_S

    def offsets(self, member: int, pooled: Float) -> Float:
        """Answers (n, k) of a member's head before baseline and bias, of its pooled features (n, width)."""
        found: Float = np.matmul(pooled - self.origins[member], self.weights[member].T, dtype=np.float32)
        return found

    def only(self, member: int) -> CentredHeads:
        """Those of one member."""
        parts = slice(member, member + 1)
        return CentredHeads(
            self.weights[parts],
            self.origins[parts],
            self.biases[parts],
            self.temperature,
            self.calm_s,
            self.shrink_s,
        )

    def centre(
        self,
        offsets: NDArray[np.float64],
        seconds: NDArray[np.float64],
        neutral: NDArray[np.float64],
        voices: Sequence[Hashable],
        calm: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Logits (m, n, k) minus each voice's baseline, and for which segments (n,) there is one.

        Args:
            offsets: (m, n, k) of :meth:`offsets`.
            seconds: (n,) of speech; segments of 0 are part of no baseline.
            neutral: (n,) probability of neutral speech, each segment by itself.
            voices: Whose segment each is.
            calm: (n,) segments known to be calm; None, or none of a voice: the most neutral ones.
        """
        members: dict[Hashable, list[int]] = {}
        for i, voice in enumerate(voices):
            members.setdefault(voice, []).append(i)
        logits = offsets + self.biases[:, None, :].astype(np.float64)
        has_baseline = np.zeros(len(voices), dtype=bool)
        for own in members.values():
            rows = np.array(own)
            spoken = rows[seconds[rows] > 0]
            if len(spoken) < 2:
                continue
            reference = spoken[calm[spoken]] if calm is not None else spoken[:0]
            if not len(reference):
                reference = self._calmest(spoken, seconds, neutral)
            n_s = float(seconds[reference].sum())
            baseline = offsets[:, reference].mean(axis=1) * (n_s / (n_s + self.shrink_s))
            logits[:, rows] -= baseline[:, None, :]
            has_baseline[rows] = True
        return logits, has_baseline

    def _calmest(
        self, spoken: NDArray[np.intp], seconds: NDArray[np.float64], neutral: NDArray[np.float64]
    ) -> NDArray[np.intp]:
        order = spoken[np.argsort(-neutral[spoken], kind="stable")]
        budget_s = min(self.calm_s, float(seconds[spoken].sum()) / 2)
        return order[: int(np.searchsorted(np.cumsum(seconds[order]), budget_s)) + 1]


def load_heads(folder: Path, card: Mapping[str, Any]) -> CentredHeads | None:
    """The centred heads of an ensemble's folder; None where its card names none.

    Raises:
        ModelMissing: when their file is gone.
        ModelIncompatible: when it is not the one that the card was written for.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if (about := card.get("heads")) is None:
        return None
    path = checked_file(folder, about["safetensors"], about["safetensors_sha256"])
    try:
        tensors = load_file(path)
        names = [member["name"] for member in card["members"]]
        weights, origins, biases = (
            tuple(tensors[f"{name}.{part}"].astype(np.float32) for name in names)
            for part in ("weight", "origin", "bias")
        )
    except (SafetensorError, KeyError) as error:
        raise ModelIncompatible(f"{path}: no centred heads of the card's members ({error})") from error
    return CentredHeads(
        weights, origins, np.stack(biases), float(about["temperature"]), about["calm_s"], about["shrink_s"]
    )


def save_heads(heads: CentredHeads, names: Sequence[str], folder: Path) -> Path:
    """Write ``heads.safetensors`` for the members ``names``; returns its path."""
    from safetensors.numpy import save_file

    tensors = {
        f"{name}.{part}": np.ascontiguousarray(value, dtype=np.float32)
        for name, *values in zip(names, heads.weights, heads.origins, heads.biases, strict=True)
        for part, value in zip(("weight", "origin", "bias"), values, strict=True)
    }
    path = folder / HEADS_FILE
    save_file(tensors, path)
    return path
