"""The systems of the studies on one set of clips: by their documents' splits, and by speaker.

Each fold of each system is one JSON file, named by everything it depends on, written by rename: a bench
that was killed goes on with the first fold that is missing, and a table can be made at any time from what
is there. ``quick`` shortens trainings and says so in every row; ``full`` is as the documents have it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble.baselines.encoders import campplus_states, fingerprint, hidden_states, whisper_states
from ensemble.baselines.fitting import Trained, fit, logits_of, size_of, smote, train
from ensemble.baselines.networks import NETWORKS, count_parameters
from ensemble.baselines.protocol import (
    Part,
    labels_of,
    part_by_speaker,
    part_of_document,
    published_folds,
    relabelled,
)
from ensemble.baselines.study_features import FEATURES, Feature, load_features
from ensemble.baselines.systems import Classical, Network, System
from ensemble.corpora import Clip, clips_hash
from ensemble.inference.vote import calibrate_mean, count_votes, softmax
from ensemble.model_errors import CorpusError, ModelMissing, TrainingError

Float = NDArray[np.float32]
Int = NDArray[np.int64]
Protocol = Literal["random", "speaker"]
PROTOCOLS: tuple[Protocol, ...] = ("random", "speaker")
"""``random`` is the split of the system's own document; ``speaker`` the published folds by speaker."""
FORMAT = 2
"""Raise it when a network or the way of training changes: folds on disk are of the old one."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Limits that shorten a bench; None leaves a system what its document has."""

    name: str
    max_epochs: int | None = None
    max_trials: int | None = None
    max_voters: int | None = None


EFFORTS = {"full": Effort("full"), "quick": Effort("quick", 12, 6, 3)}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a bench runs under besides systems and clips. ``cache`` holds features, ``folder`` the folds."""

    folder: Path
    cache: Path
    effort: Effort = EFFORTS["full"]
    seed: int = 1
    device: str = "cpu"
    bf16: bool = False
    checkpoint: Path | None = None
    """wav2vec 2.0 folder; None lets a small random model stand in."""
    teacher: Path | None = None
    """Safetensors of the first blocks of a Whisper encoder; without it those systems cannot run."""


def run(
    system: System,
    protocol: Protocol,
    clips: Sequence[Clip],
    setting: Setting,
    *,
    max_folds: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Every fold of ``system`` under ``protocol``, JSON-ready; folds that are on disk are not run again.

    ``max_folds`` stops after as many folds (the rest stays to be run).

    Raises:
        CorpusError: when the clips do not suit the protocol, or one cannot be decoded.
        TrainingError: when a loss is not finite or a package of the extra ``bench`` is missing.
        ModelError: when the wav2vec 2.0 folder holds no such model.
    """
    clips, labels, splits = plan(system, protocol, clips)
    where = place(system, protocol, clips, setting)
    data: Data | None = None
    found = []
    for number, split in enumerate(splits[:max_folds]):
        path = where / f"fold-{number}.json"
        if path.is_file():
            found.append(json.loads(path.read_text(encoding="utf-8")))
            continue
        say(f"{system.name}, {protocol}, fold {number + 1} of {len(splits)}")
        data = data or Data.load(system, clips, labels, setting)
        fold = _fold(system, data, split, setting)
        fold |= {"n_folds": len(splits), "labels": list(labels), "effort": setting.effort.name}
        where.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(fold) + "\n", encoding="utf-8")
        unfinished.replace(path)
        found.append(fold)
    return found


def plan(
    system: System, protocol: Protocol, clips: Sequence[Clip]
) -> tuple[list[Clip], tuple[str, ...], list[Callable[[int, int], Part]]]:
    """(clips under the protocol's labels, labels, one function (n_copies, voter) -> Part per fold)."""
    if protocol == "random":
        kept, labels = relabelled(clips, system.own)
        return kept, labels, [lambda n, voter: part_of_document(kept, system.own, n, voter)]
    kept = list(clips)
    folds = published_folds(kept)

    def split(number: int) -> Callable[[int, int], Part]:
        return lambda n, voter: part_by_speaker(kept, folds[number], n, number, voter)

    return kept, labels_of(kept), [split(number) for number in range(len(folds))]


def place(system: System, protocol: Protocol, clips: Sequence[Clip], setting: Setting) -> Path:
    """Folder of the folds: another system, clip, label, effort, seed or checkpoint has another."""
    defined = asdict(system)
    for name in ("title", "figure", "differs", *(["own"] if protocol == "speaker" else [])):
        del defined[name]
    versions = [FEATURES[name].version for name in system.features if name in FEATURES]
    weights = fingerprint(setting.checkpoint) if uses_wav2vec(system) else None
    if {"whisper", "campplus"} & set(system.features):
        weights = _feature(system.features[0], setting).name
    effort = asdict(setting.effort)
    key = json.dumps([FORMAT, defined, protocol, clips_hash(clips), effort, setting.seed, weights, versions])
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return setting.folder / "folds" / f"{system.name}-{protocol}-{setting.effort.name}-{digest}"


def uses_wav2vec(system: System) -> bool:
    """Whether a wav2vec 2.0 checkpoint matters to it."""
    return "wav2vec" in system.features or system.name == "wav2vec-tuned"


@dataclass(frozen=True, slots=True)
class Data:
    """Features of a system: one array (n_clips * n_copies, ...) per feature, and the truth of each row."""

    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    inputs: tuple[Float, ...]
    truth: Int
    n_copies: int

    @classmethod
    def load(cls, system: System, clips: Sequence[Clip], labels: tuple[str, ...], setting: Setting) -> Data:
        """Extract the features of ``system``, or read them from the cache."""
        arrays = [load_features(_feature(name, setting), clips, setting.cache) for name in system.features]
        n_copies = arrays[0].shape[1]
        truth = np.repeat([labels.index(clip.emotion) for clip in clips], n_copies).astype(np.int64)
        inputs = tuple(values.reshape(-1, *values.shape[2:]) for values in arrays)
        return cls(tuple(clips), labels, inputs, truth, n_copies)


def _feature(name: str, setting: Setting) -> Feature:
    if name == "wav2vec":
        return hidden_states(setting.checkpoint)
    if name == "whisper":
        if setting.teacher is None:
            raise ModelMissing("no Whisper encoder: give its safetensors by --teacher")
        return whisper_states(setting.teacher)
    if name == "campplus":
        return campplus_states()
    return FEATURES[name]


def _fold(system: System, data: Data, split: Callable[[int, int], Part], setting: Setting) -> dict[str, Any]:
    """Train and test one fold: who was tested, what they were, what was guessed, and at what price."""
    effort = setting.effort
    learner = system.learner
    parts = [split(data.n_copies, 0)]
    if isinstance(learner, Network):
        learner = replace(
            learner, max_epochs=min(learner.max_epochs, effort.max_epochs or learner.max_epochs)
        )
        n_voters = min(learner.n_voters, effort.max_voters or learner.n_voters)
        parts = [split(data.n_copies, voter) for voter in range(n_voters)]
        opinions = [_network(system, learner, data, part, setting, i) for i, part in enumerate(parts)]
    else:
        n_trials = min(learner.n_trials, learner.n_trials if effort.max_trials is None else effort.max_trials)
        opinions = [_classical(learner, data, parts[0], setting, n_trials)]
    probabilities = np.stack([opinion.probabilities for opinion in opinions])
    top, _, _ = count_votes(probabilities, calibrate_mean(probabilities, 1.0))
    test = parts[0].test
    return {
        "clips": [data.clips[item // data.n_copies].path.name for item in test],
        "speakers": [data.clips[item // data.n_copies].speaker for item in test],
        "truth": data.truth[test].tolist(),
        "guess": top.tolist(),
        "voter_guesses": probabilities.argmax(axis=2).tolist() if len(opinions) > 1 else [],
        "n_training": [len(part.training) for part in parts],
        "n_validation": [len(part.validation) for part in parts],
        "n_parameters": opinions[0].n_parameters,
        "n_epochs": [opinion.trained.n_epochs for opinion in opinions],
        "best_epoch": [opinion.trained.best_epoch for opinion in opinions],
        "training_accuracy": [opinion.trained.training_accuracy for opinion in opinions],
        "train_s": sum(opinion.trained.seconds for opinion in opinions),
        "device": setting.device,
        "bf16": setting.bf16 and isinstance(learner, Network),
    }


@dataclass(frozen=True, slots=True)
class _Opinion:
    """A trained model's probabilities (n_test, k) and its price."""

    probabilities: Float
    n_parameters: int
    trained: Trained


def _network(
    system: System, learner: Network, data: Data, part: Part, setting: Setting, voter: int
) -> _Opinion:
    inputs, truth, training = data.inputs, data.truth, part.training
    if system.scale:
        inputs = tuple(_standardised(values, training) for values in inputs)
    if learner.balance == "smote":
        if len(inputs) != 1:
            raise TrainingError(f"{system.name}: SMOTE fills up one feature, not {len(inputs)}")
        grown, labels = smote(inputs[0][training], truth[training], setting.seed)
        training = np.arange(len(truth), len(truth) + len(grown))
        inputs, truth = (np.concatenate([inputs[0], grown]),), np.concatenate([truth, labels])
    seed, device = setting.seed + 1000 * voter, setting.device
    torch.manual_seed(seed)
    shapes = [values.shape[1:] for values in inputs]
    network = NETWORKS[learner.network](shapes, len(data.labels), setting.checkpoint)
    rows = (training, part.validation)
    trained = train(network, inputs, truth, *rows, learner, seed=seed, device=device, bf16=setting.bf16)
    logits = logits_of(network, inputs, part.test, device)
    return _Opinion(softmax(logits), count_parameters(network)[0], trained)


def _standardised(values: Float, training: Int) -> Float:
    from sklearn.preprocessing import StandardScaler

    flat = values.reshape(len(values), -1)
    out: Float = StandardScaler().fit(flat[training]).transform(flat).astype(np.float32)
    return out.reshape(values.shape)


def _classical(learner: Classical, data: Data, part: Part, setting: Setting, n_trials: int) -> _Opinion:
    if len(data.inputs) != 1:
        raise CorpusError(f"a classical learner takes one feature, not {len(data.inputs)}")
    values = data.inputs[0].reshape(len(data.truth), -1)
    pipeline, trained = fit(
        learner, values, data.truth, part.training, part.validation, n_trials=n_trials, seed=setting.seed
    )
    probabilities = np.zeros((len(part.test), len(data.labels)), dtype=np.float32)
    probabilities[:, pipeline.classes_] = pipeline.predict_proba(values[part.test])
    return _Opinion(probabilities, size_of(pipeline), trained)


def finished(
    system: System, protocol: Protocol, clips: Sequence[Clip], setting: Setting
) -> list[dict[str, Any]]:
    """The folds that are on disk, in order; empty when the clips do not suit the protocol."""
    try:
        kept, _, splits = plan(system, protocol, clips)
        where = place(system, protocol, kept, setting)
    except (CorpusError, ModelMissing):
        return []
    paths = [where / f"fold-{number}.json" for number in range(len(splits))]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
