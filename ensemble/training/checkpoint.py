"""The state of a training on disk: saved whole, resumed only with the same settings and clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import clips_hash
from ensemble.inference.card import read_card
from ensemble.members import architecture_of
from ensemble.model_errors import TrainingError
from ensemble.training.examples import Examples
from ensemble.training.training_settings import TrainSettings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Start:
    """Weights (safetensors) that a member begins from, and the label of each row of their head."""

    weights: Path
    labels: tuple[str, ...]


def settings_hash(
    settings: TrainSettings,
    examples: Examples,
    training: NDArray[np.int64],
    validation: NDArray[np.int64],
    start: Start | None,
) -> str:
    """Hash that a checkpoint must have to be resumed; threads and device do not count.

    Clips count with their speaker and label: names alone are the same for every speaker of some corpora.
    """
    chosen = asdict(replace(settings, n_threads=0, device="", members=()))
    clips = [clips_hash([examples.clips[i] for i in rows]) for rows in (training, validation)]
    targets = hashlib.sha256(examples.targets[training].tobytes()).hexdigest()
    if examples.lessons is not None:
        targets += hashlib.sha256(examples.lessons[training].tobytes()).hexdigest()
    began = hashlib.sha256(start.weights.read_bytes()).hexdigest() if start else None
    return hashlib.sha256(json.dumps([chosen, clips, targets, began], default=str).encode()).hexdigest()


def save_state(
    folder: Path,
    metadata: dict[str, str],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
) -> None:
    """Write ``state.safetensors``: everything needed to go on after an epoch."""
    from safetensors.torch import save_file

    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    unfinished = folder / "state.part"
    save_file({k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()}, unfinished, metadata)
    # One rename: a kill at any moment leaves the old or the new state, never half of one.
    unfinished.replace(folder / "state.safetensors")


def resume(
    folder: Path,
    agrees: str,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
) -> tuple[int, float, int, float]:
    """(epochs done, best score, epochs since, rate factor); loads what ``folder`` has into the arguments.

    Raises:
        TrainingError: when the checkpoint there is of other settings or clips.
    """
    import torch
    from safetensors import safe_open

    path = folder / "state.safetensors"
    if not path.is_file():
        return 0, -1.0, 0, 1.0
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        if metadata["agrees"] != agrees:
            raise TrainingError(
                f"{path} is of other settings or clips; train into another folder or delete it"
            )
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 safe_open is not iterable
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for key, value in average.items():
        value.copy_(tensors[f"average.{key}"])
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, field = key.split(".")
            states.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    # The fused kernel walks memory: moments must lie in memory as their channels-last weights do.
    for weight, state in optimizer.state.items():
        for field_name, value in list(state.items()):
            if value.shape == weight.shape:
                state[field_name] = torch.empty_like(weight).copy_(value)
    best, factor = float(metadata["best"]), float(metadata.get("factor", 1))
    return int(metadata["epoch"]), best, int(metadata["stale"]), factor


def begin_from(model: torch.nn.Module, labels: Sequence[str], start: Start) -> None:
    """Take over weights: the whole body, and of the head the rows of emotions that both know.

    Raises:
        TrainingError: when they are of another architecture or front end.
    """
    from safetensors.torch import load_file

    weights, own = load_file(start.weights), model.state_dict()

    def fits(key: str) -> bool:
        shape = own[key].shape
        wanted = (len(start.labels), *shape[1:]) if key.startswith("head.") else shape
        return key in weights and weights[key].shape == wanted

    if differ := [key for key in own if not fits(key)]:
        raise TrainingError(
            f"{start.weights}: weights of another architecture or sample rate "
            f"({', '.join(differ[:3])} differ); begin from an ensemble with this member at this --sample-rate"
        )
    both = [label for label in labels if label in start.labels]
    here, there = [labels.index(label) for label in both], [start.labels.index(label) for label in both]
    for key, value in own.items():
        if key.startswith("head."):
            value[here] = weights[key][there]
        else:
            value.copy_(weights[key])


def start_of(ensemble: Path, member: str) -> Start:
    """A member's weights in an ensemble's folder; another seed begins from its architecture's.

    Raises:
        TrainingError: when there are none.
    """
    own = ensemble / f"{member}.safetensors"
    weights = own if own.is_file() else ensemble / f"{architecture_of(member)}.safetensors"
    if not weights.is_file():
        raise TrainingError(f"{ensemble}: has no weights of {member}; leave it out of --members")
    return Start(weights, tuple(read_card(ensemble)["labels"]))
