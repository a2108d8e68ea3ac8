"""From trained members to an ensemble folder: calibrate on validation speakers, export, write the card."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.inference.calibration import (
    choose_thresholds,
    expected_calibration_error,
    fit_bias,
    fit_temperature,
)
from ensemble.inference.card import read_card, trained_on
from ensemble.inference.vote import Thresholds, calibrate_mean, count_votes, softmax
from ensemble.members import make_member
from ensemble.training import Examples, TrainSettings, normalised, predict_logits, unweighted_recall
from ensemble.training.dataset import clips_hash
from ensemble.training.export_ensemble import export_member, write_card


@dataclass(frozen=True, slots=True)
class Fit:
    """What validation speakers decided, and how well it went there (telephone, clip and speaker alike)."""

    temperature: float
    thresholds: Thresholds
    test: str
    """Whose voices, over what line: scores of different tests are never compared."""
    uar_clip: float
    uar_speaker: float
    ece: float
    n_clips: int


def fit_on_validation(
    weights: Mapping[str, Path],
    examples: Examples,
    validation: NDArray[np.int64],
    settings: TrainSettings,
    precision: float,
) -> Fit:
    """Temperature and thresholds from validation speakers over the telephone.

    ``weights`` are member name to safetensors; the member's architecture is the
    name up to a dash (``cnn-2`` is a CNN). Both ways of knowing the speaker
    are pooled, because the night meets both.
    """
    import torch
    from safetensors.torch import load_file

    heard = examples.hearing("telephone")
    truth = examples.truth[validation]
    by_known = {}
    torch.set_num_threads(settings.n_threads)
    for known in ("clip", "speaker"):
        mels = normalised(examples, heard, validation, known, settings)
        rows = []
        for name, path in weights.items():
            model = make_member(architecture_of(name), settings.front.n_mels, len(settings.labels))
            model.load_state_dict(load_file(path))
            rows.append(softmax(predict_logits(model, mels)))
        by_known[known] = np.stack(rows)
    pooled, twice = np.concatenate(list(by_known.values()), axis=1), np.concatenate([truth, truth])
    temperature = fit_temperature(pooled, twice)
    thresholds = choose_thresholds(pooled, twice, temperature, precision)
    mean = calibrate_mean(pooled, temperature)
    top, _, _ = count_votes(pooled, mean)
    uars = {
        known: unweighted_recall(truth, count_votes(p, calibrate_mean(p, temperature))[0])
        for known, p in by_known.items()
    }
    ece = expected_calibration_error(mean[np.arange(len(top)), top], top == twice)
    return Fit(
        temperature,
        thresholds,
        _name_of_test(examples, validation),
        uars["clip"],
        uars["speaker"],
        ece,
        len(validation),
    )


def _name_of_test(examples: Examples, validation: NDArray[np.int64]) -> str:
    clips = [examples.clips[i] for i in validation]
    speakers = sorted({clip.speaker for clip in clips})
    corpora = " and ".join(sorted({clip.corpus for clip in clips}))
    mark = hashlib.sha256(json.dumps([clips_hash(clips), speakers]).encode()).hexdigest()[:8]
    return f"{corpora}: {len(speakers)} speakers held out ({mark}), telephone, normalised by speaker"


def fit_biases(
    weights: Mapping[str, Path],
    examples: Examples,
    validation: NDArray[np.int64],
    settings: TrainSettings,
) -> dict[str, NDArray[np.float32]]:
    """What to add to each member's logits (k,) so that it no longer favours a label.

    Bias-corrected scaling (Alexandari et al. 2020): one number a label, fitted on
    validation speakers over the telephone by likelihood. Acted corpora rated by
    ear push towards anger and neutral; this takes the push out.
    """
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(settings.n_threads)
    heard = examples.hearing("telephone")
    mels = [
        mel
        for known in ("clip", "speaker")
        for mel in normalised(examples, heard, validation, known, settings)
    ]
    truth = np.tile(examples.truth[validation], 2)
    biases = {}
    for name, path in weights.items():
        model = make_member(architecture_of(name), settings.front.n_mels, len(settings.labels))
        model.load_state_dict(load_file(path))
        biases[name] = fit_bias(predict_logits(model, mels), truth)
    return biases


def add_biases(
    weights: Mapping[str, Path], biases: Mapping[str, NDArray[np.float32]], folder: Path
) -> dict[str, Path]:
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


def architecture_of(member: str) -> str:
    """``cnn-2`` and ``cnn`` are both a ``cnn``."""
    return member.partition("-")[0]


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
    whom it heard, they have heard. Raises ModelIncompatible when an
    exported graph does not agree with torch on real spectrograms.
    """
    some = training[:: max(1, len(training) // 8)][:8]
    mels = normalised(examples, examples.hearing("telephone"), some, "clip", settings)
    entries: Sequence[Mapping[str, Any]] = [
        export_member(path, architecture_of(name), len(settings.labels), settings.front, folder, name, mels)
        for name, path in weights.items()
    ]
    clips = [examples.clips[i] for i in training]
    begun = read_card(start) if start else {}
    heard = {clip.speaker for clip in clips}
    listed = {"heard_speakers": sorted(heard.union(begun.get("heard_speakers", ())))}
    if begun and "heard_speakers" not in begun:
        listed = {}  # a card from before speakers were listed has heard all of its corpora, and so has this
    told: dict[str, object] = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "begun_from": begun.get("ensemble_id"),
        "trained_on": sorted({clip.corpus for clip in clips} | trained_on(begun)),
        **listed,
        "n_training_clips": len(clips),
        "n_training_speakers": len(heard),
        "data_hash": clips_hash(clips),
        "unusable": [[u.path.name, u.reason] for u in examples.unusable],
        "settings": asdict(settings),
        "speaker_norm": settings.speaker_norm,
        "validation": asdict(fit),
        "scores": {
            "headline": {"test": fit.test, "uar": fit.uar_speaker},
        },
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
        about=told,
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
