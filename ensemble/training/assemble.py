"""From trained members to an ensemble folder: calibrate on validation speakers, export, write the card.

The TorchScript exporter is used on purpose: the dynamo one has given graphs that run and are wrong. Parity
with torch is checked here on real spectrograms and again by a test on real audio.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, clips_hash
from ensemble.inference.card import CARD_FORMAT, fingerprint, read_card, trained_on
from ensemble.inference.device import onnx_member
from ensemble.inference.spectrogram import FrontEnd, Reference
from ensemble.inference.vote import Rule, Thresholds, calibrate_mean, count_votes, softmax
from ensemble.members import architecture_of, load_member
from ensemble.model_errors import ModelIncompatible
from ensemble.training.calibration import (
    choose_thresholds,
    expected_calibration_error,
    fit_bias,
    fit_temperature,
    normalised,
    predict_logits,
    unweighted_recall,
)
from ensemble.training.examples import Examples, pad
from ensemble.training.teachers import load_teacher
from ensemble.training.training_settings import TrainSettings

Float = NDArray[np.float32]
PARITY = 1e-4
"""Largest allowed difference of logits between torch and ONNX Runtime."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What validation speakers decided, and the scores there (telephone, clip and speaker alike)."""

    temperature: float
    thresholds: Thresholds
    test: str
    """Whose voices, in which channel: scores of different tests are never compared."""
    uar_clip: float
    uar_speaker: float
    ece: float
    n_clips: int


def validation_logits(
    weights: Mapping[str, Path], examples: Examples, validation: NDArray[np.int64], settings: TrainSettings
) -> dict[str, Float]:
    """Logits (2 n, k) of each member for the n validation clips over the telephone.

    First each clip alone, then normalised by speaker: the night meets both. ``weights`` are safetensors by
    the member's name.
    """
    import torch

    torch.set_num_threads(settings.n_threads)
    mels = [
        mel
        for known in ("clip", "speaker")
        for mel in normalised(examples, "telephone", validation, known, settings)
    ]
    size = (settings.front.n_mels, len(settings.labels))
    return {name: predict_logits(load_member(path, name, *size), mels) for name, path in weights.items()}


def fit_on_validation(
    weights: Mapping[str, Path],
    examples: Examples,
    validation: NDArray[np.int64],
    settings: TrainSettings,
    precision: float,
) -> Fit:
    """Temperature and thresholds from validation speakers over the telephone."""
    truth = examples.truth[validation]
    logits = validation_logits(weights, examples, validation, settings)
    pooled, twice = np.stack([softmax(rows) for rows in logits.values()]), np.tile(truth, 2)
    temperature = fit_temperature(pooled, twice)
    thresholds = choose_thresholds(pooled, twice, temperature, precision)
    mean = calibrate_mean(pooled, temperature)
    top, _, _ = count_votes(pooled, mean)
    ece = expected_calibration_error(mean[np.arange(len(top)), top], top == twice)
    alone, by_speaker = (unweighted_recall(truth, part) for part in np.split(top, 2))
    test = name_of_test([examples.clips[i] for i in validation])
    return Fit(temperature, thresholds, test, alone, by_speaker, ece, len(truth))


def name_of_test(clips: Sequence[Clip]) -> str:
    """Whose voices, with a mark of their clips: scores of different tests are never compared.

    Earlier cards say "telephone, normalised by speaker": there a speaker's codec and band depended on who
    else was in the training, so that one ensemble had 76.5 or 78.7 % in one "test".
    """
    speakers = sorted({clip.speaker for clip in clips})
    corpora = " and ".join(sorted({clip.corpus for clip in clips}))
    mark = hashlib.sha256(json.dumps([clips_hash(clips), speakers]).encode()).hexdigest()[:8]
    return f"{corpora}: {len(speakers)} speakers held out ({mark}), each on a telephone of their own"


def fit_biases(
    weights: Mapping[str, Path], examples: Examples, validation: NDArray[np.int64], settings: TrainSettings
) -> dict[str, Float]:
    """Numbers to add to each member's logits (k,) so that it no longer favours a label.

    Bias-corrected scaling (Alexandari et al. 2020): one number a label, fitted on validation speakers over
    the telephone by likelihood. Acted corpora rated by ear push towards anger and neutral; this removes it.
    """
    truth = np.tile(examples.truth[validation], 2)
    logits = validation_logits(weights, examples, validation, settings)
    return {name: fit_bias(rows, truth) for name, rows in logits.items()}


def add_biases(weights: Mapping[str, Path], biases: Mapping[str, Float], folder: Path) -> dict[str, Path]:
    """Members with these output biases added: new safetensors in ``folder``, by member."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    balanced = {}
    for name, path in weights.items():
        tensors = load_file(path)
        tensors["head.1.bias"] += torch.from_numpy(biases[name])
        balanced[name] = folder / f"{name}.safetensors"
        save_file(tensors, balanced[name])
    return balanced


def assemble(
    weights: Mapping[str, Path],
    examples: Examples,
    training: NDArray[np.int64],
    settings: TrainSettings,
    fit: Fit,
    folder: Path,
    about: Mapping[str, object],
    *,
    start: Path | None = None,
) -> str:
    """Export every member into ``folder`` and write its card; returns the ensemble's id.

    ``about`` is added to the card (licence, notes). ``start`` is the ensemble that the members began from:
    its training speakers are theirs too.

    Raises:
        ModelIncompatible: when an exported graph does not agree with torch on real spectrograms.
    """
    some = training[:: max(1, len(training) // 8)][:8]
    mels = normalised(examples, "telephone", some, "clip", settings)
    entries = [
        export_member(path, name, len(settings.labels), settings.front, folder, mels)
        for name, path in weights.items()
    ]
    clips = [examples.clips[i] for i in training]
    teachers = [load_teacher(name).to_card() for name in settings.teachers]
    chosen = replace(settings, teachers=tuple(teacher["name"] for teacher in teachers))  # no paths
    begun = read_card(start) if start else {}
    before = {member["name"]: member.get("taught_by", []) for member in begun.get("members", ())}
    for entry in entries:
        names = [*chosen.teachers, *before.get(entry["name"], before.get(entry["architecture"], []))]
        if names:
            entry["taught_by"] = list(dict.fromkeys(names))
    speakers = {clip.speaker for clip in clips}
    listed = {"heard_speakers": sorted(speakers.union(begun.get("heard_speakers", ())))}
    if begun and "heard_speakers" not in begun:
        listed = {}  # a card without a list stands for all speakers of its corpora, and so must this one
    described: dict[str, object] = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "begun_from": begun.get("ensemble_id"),
        "trained_on": sorted({clip.corpus for clip in clips} | trained_on(begun)),
        **listed,
        "n_training_clips": len(clips),
        "n_training_speakers": len(speakers),
        "data_hash": clips_hash(clips),
        "unusable": [[u.path.name, u.reason] for u in examples.unusable],
        "settings": asdict(chosen),
        "teachers": teachers + [old for old in begun.get("teachers", ()) if old not in teachers],
        "speaker_norm": settings.speaker_norm,
        "validation": asdict(fit),
        "scores": {"headline": {"test": fit.test, "uar": fit.uar_speaker}},
        **about,
    }
    return write_card(
        folder,
        labels=settings.labels,
        members=entries,
        front=settings.front,
        reference=examples.reference,
        temperature=fit.temperature,
        thresholds=fit.thresholds,
        about=described,
    )


def code_version() -> str:
    """Package version, and the commit when this is a checkout."""
    try:
        found = version("callanalytics")
    except PackageNotFoundError:
        found = "unknown"
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 whichever git the person uses
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{found}+{done.stdout.strip()}" if done.returncode == 0 else found


def export_member(
    weights: Path, name: str, n_labels: int, front: FrontEnd, folder: Path, examples: Sequence[Float]
) -> dict[str, Any]:
    """Write ``name.safetensors`` and ``name.onnx`` and return the card's entry.

    ``examples`` are normalised spectrograms (time, n_mels), better real than random.

    Raises:
        ModelIncompatible: when ONNX Runtime differs from torch by more than PARITY on any of them, alone or
            padded.
    """
    import torch

    model = load_member(weights, name, front.n_mels, n_labels)
    folder.mkdir(parents=True, exist_ok=True)
    tensors, graph = folder / f"{name}.safetensors", folder / f"{name}.onnx"
    shutil.copyfile(weights, tensors)
    mel, mask = torch.zeros(2, 200, front.n_mels), torch.ones(2, 200)
    axes = {"mel": {0: "n", 1: "time"}, "mask": {0: "n", 1: "time"}, "logits": {0: "n"}, "pooled": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _with_pooled(model),
            (mel, mask),
            str(graph),
            dynamo=False,
            opset_version=17,
            input_names=["mel", "mask"],
            output_names=["logits", "pooled"],
            dynamic_axes=axes,
        )
    worst = parity(model, graph, examples)
    if worst > PARITY:
        raise ModelIncompatible(
            f"{graph}: differs from torch by {worst:.2g}, more than {PARITY}; not exported"
        )
    return {
        "name": name,
        "architecture": architecture_of(name),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "safetensors": tensors.name,
        "safetensors_sha256": _sha256(tensors),
        "onnx": graph.name,
        "onnx_sha256": _sha256(graph),
        "onnx_parity": worst,
        "weight": 1.0,
    }


def _with_pooled(model: Any) -> Any:
    """A member that also gives what its head sees, for the centred heads."""
    from torch import Tensor, nn

    class WithPooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.member = model

        def forward(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            pooled = self.member.pooled(mel, mask)
            return self.member.head(pooled), pooled

    return WithPooled().eval()


def parity(model: Any, graph: Path, examples: Sequence[Float]) -> float:
    """Largest difference of logits between torch, examples alone, and ONNX Runtime on the padded batch."""
    import torch

    run = onnx_member(graph, 1)
    mel, mask = pad(examples)
    together, _ = run(mel, mask)
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

    ``about`` is everything that does not change an answer: training data and its hash, settings, seed, code
    version, scores, limits, licence.
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
