"""The state of a training on disk: what it must agree with, saved whole, gone on from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble.dataset import clips_hash
from ensemble.errors import TrainingError
from ensemble.train.examples import Examples
from ensemble.train.settings import TrainSettings

if TYPE_CHECKING:
    import torch


def settings_hash(
    settings: TrainSettings,
    examples: Examples,
    training: NDArray[np.int64],
    validation: NDArray[np.int64],
    start: Path | None,
) -> str:
    """What a checkpoint must agree with to be gone on from; threads and device do not count.

    Clips count with their speaker and label: names alone are the same for every speaker of some corpora.
    """
    told = asdict(replace(settings, n_threads=0, device="", members=()))
    heard = [clips_hash([examples.clips[i] for i in rows]) for rows in (training, validation)]
    targets = hashlib.sha256(examples.targets[training].tobytes()).hexdigest()
    began = hashlib.sha256(start.read_bytes()).hexdigest() if start else None
    return hashlib.sha256(json.dumps([told, heard, targets, began], default=str).encode()).hexdigest()


def save_state(
    folder: Path,
    told: dict[str, str],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
) -> None:
    """Write ``state.safetensors``: everything needed to go on after an epoch; ``told`` is its metadata."""
    from safetensors.torch import save_file

    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    unfinished = folder / "state.part"
    save_file({k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()}, unfinished, told)
    # One rename: a kill at any moment leaves the old or the new state, never half of one.
    unfinished.replace(folder / "state.safetensors")


def resume(
    folder: Path,
    agrees: str,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
) -> tuple[int, float, int, float]:
    """(epochs done, best score, epochs since, rate factor); loads what ``folder`` has into the arguments."""
    import torch
    from safetensors import safe_open

    path = folder / "state.safetensors"
    if not path.is_file():
        return 0, -1.0, 0, 1.0
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
        if told["agrees"] != agrees:
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
    return int(told["epoch"]), float(told["best"]), int(told["stale"]), float(told.get("factor", 1))


def begin_from(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Take over weights; a head of other labels stays new."""
    own = model.state_dict()
    known = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    if missing := [key for key in own if key not in known and not key.startswith("head.")]:
        raise TrainingError(f"the weights to begin from are of another architecture: {missing[:3]} differ")
    model.load_state_dict(known, strict=False)


def weights_of(ensemble: Path, member: str) -> Path:
    """A member's weights in an ensemble's folder; another seed begins from its architecture's."""
    own = ensemble / f"{member}.safetensors"
    return own if own.is_file() else ensemble / f"{member.partition('-')[0]}.safetensors"
