"""From trained members to an ensemble folder: safetensors, ONNX and a card.

The TorchScript exporter is used on purpose: the dynamo one has given graphs
that run and are wrong. Parity with torch is checked here on the spectrograms
given and again by a test on real audio.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.inference.card import CARD_FORMAT, fingerprint
from ensemble.inference.ensemble import _onnx_member
from ensemble.inference.spectrogram import FrontEnd, Reference
from ensemble.inference.vote import Rule, Thresholds
from ensemble.members import make_member
from ensemble.model_errors import ModelIncompatible

PARITY = 1e-4
"""Largest allowed difference of logits between torch and ONNX Runtime."""


def export_member(
    weights: Path,
    architecture: str,
    n_labels: int,
    front: FrontEnd,
    folder: Path,
    name: str,
    examples: Sequence[NDArray[np.float32]],
) -> dict[str, Any]:
    """Write ``name.safetensors`` and ``name.onnx`` and return the card's entry.

    ``examples`` are normalised spectrograms (time, n_mels), better real than
    random. Raises ModelIncompatible when ONNX Runtime differs from torch by
    more than PARITY on any of them, alone or padded.
    """
    import torch
    from safetensors.torch import load_file

    model = make_member(architecture, front.n_mels, n_labels)
    model.load_state_dict(load_file(weights))
    model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    tensors, graph = folder / f"{name}.safetensors", folder / f"{name}.onnx"
    shutil.copyfile(weights, tensors)
    mel, mask = torch.zeros(2, 200, front.n_mels), torch.ones(2, 200)
    axes = {"mel": {0: "n", 1: "time"}, "mask": {0: "n", 1: "time"}, "logits": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (mel, mask),
            str(graph),
            dynamo=False,
            opset_version=17,
            input_names=["mel", "mask"],
            output_names=["logits"],
            dynamic_axes=axes,
        )
    worst = parity(model, graph, examples)
    if worst > PARITY:
        raise ModelIncompatible(
            f"{graph}: differs from torch by {worst:.2g}, more than {PARITY}; not exported"
        )
    return {
        "name": name,
        "architecture": architecture,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "safetensors": tensors.name,
        "safetensors_sha256": _sha256(tensors),
        "onnx": graph.name,
        "onnx_sha256": _sha256(graph),
        "onnx_parity": worst,
        "weight": 1.0,
    }


def parity(model: Any, graph: Path, examples: Sequence[NDArray[np.float32]]) -> float:
    """Largest difference of logits between torch, examples alone, and ONNX Runtime on the padded batch."""
    import torch

    from ensemble.training import pad

    run = _onnx_member(graph, 1)
    mel, mask = pad(examples)
    together = run(mel, mask)
    with torch.inference_mode():
        alone = [model(torch.from_numpy(e)[None], torch.ones(1, len(e))).numpy()[0] for e in examples]
    return float(np.abs(np.stack(alone) - together).max())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_card(
    folder: Path,
    *,
    labels: tuple[str, ...],
    members: Sequence[Mapping[str, Any]],
    front: FrontEnd,
    reference: Reference,
    temperature: float,
    thresholds: Thresholds,
    rule: Rule = "majority",
    about: Mapping[str, object],
) -> str:
    """Write ``card.json`` beside the weights; returns the ensemble's id.

    ``about`` is everything that does not change an answer: training data and
    its hash, settings, seed, code version, scores, limits, licence.
    """
    card: dict[str, Any] = {
        "format": CARD_FORMAT,
        "labels": list(labels),
        "rule": rule,
        "temperature": temperature,
        "thresholds": asdict(thresholds),
        "members": [dict(member) for member in members],
        "front_end": front.to_card(),
        "reference": {
            "shape_db": [round(float(v), 4) for v in reference.shape_db],
            "deviation_db": [round(float(v), 4) for v in reference.deviation_db],
        },
        **about,
    }
    card["ensemble_id"] = fingerprint(card)
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return str(card["ensemble_id"])
