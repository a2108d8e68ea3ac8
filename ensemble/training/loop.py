"""The epochs of one member, and the members one after the other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip
from ensemble.corpora.speakers import refuse_leak
from ensemble.inference.device import prepare_device
from ensemble.members import make_member
from ensemble.model_errors import TrainingError
from ensemble.training.calibration import validate
from ensemble.training.checkpoint import Start, begin_from, resume, save_state, settings_hash, start_of
from ensemble.training.examples import BatchAugment, Batches, Examples, prepare
from ensemble.training.spectrogram_cache import Extracted
from ensemble.training.teachers import load_teacher, taught
from ensemble.training.training_settings import TrainSettings

if TYPE_CHECKING:
    import torch

PLATEAU_EPOCHS = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a training after an epoch. UARs are of the averaged weights, telephone, 0..1 or None."""

    member: str
    epoch: int
    n_epochs: int
    loss: float
    uar_clip: float | None
    uar_speaker: float | None
    left_s: float


News = Progress | Extracted | str
"""What a training tells: how far it is, or a line for a person."""


def train_ensemble(
    clips: Sequence[Clip],
    validation_speakers: frozenset[str],
    settings: TrainSettings,
    *,
    folder: Path,
    cache: Path,
    start: Path | None = None,
    babble_speakers: frozenset[str] | None = None,
    say: Callable[[News], None] = lambda _: None,
) -> Examples:
    """Train every member of ``settings.trained`` into ``folder/<member>``; after a kill, go on where it was.

    Args:
        clips: All clips, with labels of the settings.
        validation_speakers: Held out; may be empty for the final training.
        settings: How to train.
        folder: Gets one folder per member.
        cache: Folder of the spectrogram cache.
        start: Folder of an ensemble to begin from.
        babble_speakers: As in :func:`prepare`.
        say: Called with the progress.

    Returns:
        The examples that it was trained on and validated with.

    Raises:
        LeakError: when a speaker is in training and in validation.
        TrainingError: when the clips do not suffice, or a checkpoint is of other settings or clips.
        ModelMissing, ModelIncompatible: when a teacher is not there or not one.
        DeviceMissing: when torch does not see the device.
    """
    prepare_device(settings.device)
    for teacher in settings.teachers:
        load_teacher(teacher)  # a wrong file is found before hours of work
    speakers = frozenset(clip.speaker for clip in clips) - validation_speakers
    examples = prepare(clips, speakers, settings, cache, babble_speakers=babble_speakers, say=say)
    examples = taught(examples, settings.teachers, speakers, cache, say)
    training, validation = examples.of(speakers), examples.of(validation_speakers)
    if validation_speakers and not len(validation):
        raise TrainingError(
            f"none of the clips of {', '.join(sorted(validation_speakers))} can be used, so that nobody "
            f"validates; the first: {examples.unusable[0].path}: {examples.unusable[0].reason}"
        )
    for name in settings.trained:
        begin = start_of(start, name) if start else None
        train_member(name, examples, training, validation, settings, folder / name, say, start=begin)
    return examples


def train_member(  # noqa: PLR0915 one loop, read from top to bottom
    name: str,
    examples: Examples,
    training: NDArray[np.int64],
    validation: NDArray[np.int64],
    settings: TrainSettings,
    folder: Path,
    say: Callable[[Progress], None] = lambda _: None,
    *,
    start: Start | None = None,
) -> Path:
    """Train one member and return the path of its averaged weights (safetensors).

    With the same seed, clips and thread count the result is the same.

    Args:
        name: An architecture, or one with a number (``cnn-2``): the same from another seed.
        examples: Clips, views and targets.
        training: Indices of the training clips, (n,) int64.
        validation: Indices of the validation clips; with none, the last epoch is kept.
        settings: How to train.
        folder: Where the checkpoint lies; one of the same settings and clips is resumed.
        say: Called after each epoch.
        start: Weights to begin from: a second round at a lower learning rate, or an ensemble fitted to one's
            own labelled calls.

    Raises:
        LeakError: when a speaker is on both sides.
        TrainingError: when the checkpoint is of other settings or clips, or the loss is not finite.
    """
    import torch
    from safetensors.torch import save_file

    refuse_leak([examples.clips[i] for i in training], [examples.clips[i] for i in validation])
    folder.mkdir(parents=True, exist_ok=True)
    best_path = folder / "best.safetensors"
    agrees = settings_hash(settings, examples, training, validation, start)
    torch.set_num_threads(settings.n_threads)
    if number := name.partition("-")[2]:
        settings = replace(settings, seed=settings.seed + 1000 * int(number))
    if settings.schedule == "plateau" and not len(validation):
        raise TrainingError(
            f"{name}: a plateau is seen on validation speakers and there are none; use cosine"
        )
    torch.manual_seed(settings.seed)
    model = make_member(name, settings.front.n_mels, len(settings.labels)).to(settings.device)
    if start is not None:
        begin_from(model, settings.labels, start)
    n_labels, has_lessons = len(settings.labels), examples.lessons is not None
    if examples.lessons is not None:  # a second head, saved with the state only
        model.lesson = _lesson_head(model, examples.lessons.shape[1]).to(settings.device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        _decay_groups(model, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.98), fused=True
    )
    average = {key: value.detach().clone() for key, value in model.state_dict().items()}
    first, best, stale, factor = resume(folder, agrees, model, optimizer, average)
    if settings.patience_epochs and stale >= settings.patience_epochs:
        return best_path  # it had ended here
    n_steps = settings.n_epochs * -(-len(training) // settings.batch)
    step = first * -(-len(training) // settings.batch)
    durations: list[float] = []
    for epoch in range(first, settings.n_epochs):
        started = time.monotonic()
        torch.manual_seed(settings.seed * 100_003 + epoch)
        change = BatchAugment(settings.batch_augment, settings.seed * 100_003 + epoch)
        mix = epoch < settings.mix_until * settings.n_epochs
        losses = []
        model.train()
        for arrays in Batches(examples, training, settings, epoch):
            mel, mask, target = change(*(torch.from_numpy(a) for a in arrays), mix=mix)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * factor * _schedule(step, n_steps, settings)
            with torch.autocast(settings.device.split(":")[0], torch.bfloat16, enabled=settings.half):
                pooled = model.pooled(mel.to(settings.device), mask.to(settings.device))
                logits, said = model.head(pooled), model.lesson(pooled) if has_lessons else None
            target = target.to(settings.device)
            loss = _loss(logits.float(), target[:, :n_labels], settings.focal)
            if said is not None:
                loss = (
                    loss
                    + settings.lesson_weight * ((said.float() - target[:, n_labels:]) ** 2).sum(dim=1).mean()
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            step += 1
            _average(average, model, min(settings.ema, (1 + step) / (10 + step)))
            losses.append(loss.item())
        if not np.isfinite(losses).all():
            raise TrainingError(
                f"{name}: the loss became {losses[-1]} in epoch {epoch + 1}; lower learning_rate"
            )
        own = {key: value for key, value in average.items() if not key.startswith("lesson.")}
        looked = (epoch + 1) % settings.validate_every == 0 or epoch + 1 == settings.n_epochs
        seen = validation if looked else validation[:0]
        uar_clip, uar_speaker = validate(name, own, examples, seen, settings)
        score = (uar_clip or 0.0) + (uar_speaker or 0.0)
        # Without validation speakers the last epoch is the one to keep.
        if not len(validation) or (looked and score >= best):
            best, stale = score, 0
            save_file({k: v.contiguous().cpu() for k, v in own.items()}, best_path)
        elif looked:
            stale += 1
            if settings.schedule == "plateau" and stale % PLATEAU_EPOCHS == 0:
                factor /= 2
        state = {"epoch": str(epoch + 1), "best": repr(best), "stale": str(stale), "factor": repr(factor)}
        save_state(folder, {"agrees": agrees, **state}, model, optimizer, average)
        durations.append(time.monotonic() - started)
        left_s = float(np.mean(durations)) * (settings.n_epochs - epoch - 1)
        progress = Progress(
            name, epoch + 1, settings.n_epochs, float(np.mean(losses)), uar_clip, uar_speaker, left_s
        )
        with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(progress)) + "\n")
        say(progress)
        if settings.patience_epochs and stale >= settings.patience_epochs:
            break
    return best_path


def _lesson_head(model: torch.nn.Module, n_components: int) -> torch.nn.Module:
    """It says nothing at first, so that it does not shake a body that begins from trained weights."""
    import torch

    width = int(model.head[1].in_features)  # type: ignore[index, union-attr]
    last = torch.nn.Linear(width, n_components)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    return torch.nn.Sequential(torch.nn.BatchNorm1d(width, affine=False), last)


def _decay_groups(model: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def _schedule(step: int, n_steps: int, settings: TrainSettings) -> float:
    """Linear warm-up, then a half cosine down to 1 %, or level where validation decides."""
    warm = settings.warmup_epochs * n_steps / max(settings.n_epochs, 1)
    if step < warm:
        return (step + 1) / (warm + 1)
    if settings.schedule == "plateau":
        return 1.0
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(n_steps - warm, 1))))


def _loss(logits: torch.Tensor, target: torch.Tensor, focal: float) -> torch.Tensor:
    import torch

    log_p = torch.log_softmax(logits, dim=1)
    if focal > 0:
        log_p = log_p * (1 - log_p.exp()) ** focal
    return -(target * log_p).sum(dim=1).mean()


def _average(average: dict[str, torch.Tensor], model: torch.nn.Module, keep: float) -> None:
    import torch

    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                average[key].lerp_(value, 1 - keep)
            else:
                average[key].copy_(value)
