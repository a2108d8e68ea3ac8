"""Validation: normalised spectrograms as in use, logits, unweighted average recall (UAR)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble.inference.spectrogram import voice_norm
from ensemble.members import make_member
from ensemble.training.batches import pad
from ensemble.training.examples import Examples
from ensemble.training.training_settings import TrainSettings

if TYPE_CHECKING:
    import torch

Float = NDArray[np.float32]


def validate(
    name: str,
    average: dict[str, torch.Tensor],
    examples: Examples,
    validation: NDArray[np.int64],
    settings: TrainSettings,
) -> tuple[float | None, float | None]:
    """UAR of averaged weights, telephone: (each clip alone, normalised by speaker); None without clips."""
    if not len(validation):
        return None, None
    model = make_member(name, settings.front.n_mels, len(settings.labels)).to(settings.device)
    model.load_state_dict(average)
    scores = []
    for known in ("clip", "speaker"):
        mels = normalised(examples, "telephone", validation, known, settings)
        guess = predict_logits(model, mels, settings.device).argmax(axis=1)
        scores.append(unweighted_recall(examples.truth[validation], guess))
    return scores[0], scores[1]


def normalised(
    examples: Examples, view: str, indices: NDArray[np.int64], known: str, settings: TrainSettings
) -> list[Float]:
    """Spectrograms (n_frames, n_mels) of a view as a member takes them, normalised by speaker statistics.

    ``known`` is what statistics come from: ``clip`` (each alone), ``speaker`` (all clips of the speaker in
    ``indices``), ``calm`` (only the speaker's neutral and happy ones, a calm start of a call). Without
    ``settings.speaker_norm`` each is normalised alone.
    """
    clips = examples.view(view)
    known = known if settings.speaker_norm else "clip"
    inside = set(indices.tolist())
    calm = [settings.labels.index(e) for e in ("neutral", "happy") if e in settings.labels]
    out = []
    norms: dict[str, tuple[Float, Float]] = {}
    for index in indices.tolist():
        speaker = examples.clips[index].speaker
        key = str(index) if known == "clip" else speaker
        if key not in norms:
            own = (
                [i for i in examples.voices[speaker].tolist() if i in inside] if known != "clip" else [index]
            )
            if known == "calm":
                own = [i for i in own if examples.truth[i] in calm] or own
            norms[key] = voice_norm(clips.statistics(own), examples.reference, settings.front)
        mean, deviation = norms[key]
        out.append((clips.clip(index) - mean) / deviation)
    return out


def predict_logits(
    model: torch.nn.Module, mels: Sequence[Float], device: str = "cpu", batch: int = 64
) -> Float:
    """Logits (n, k) float32 of normalised spectrograms, batched by similar length."""
    import torch

    order = sorted(range(len(mels)), key=lambda i: len(mels[i]))
    out: list[tuple[list[int], Float]] = []
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            mel, mask = pad([mels[i] for i in part])
            logits = model(torch.from_numpy(mel).to(device), torch.from_numpy(mask).to(device))
            out.append((part, logits.float().cpu().numpy()))
    result = np.zeros((len(mels), out[0][1].shape[1]), dtype=np.float32)
    for part, logits in out:
        result[part] = logits
    return result


def unweighted_recall(truth: NDArray[np.int64], guess: NDArray[np.int64]) -> float:
    """UAR: mean recall over the classes that occur in ``truth``, 0..1."""
    from sklearn.metrics import recall_score

    occurring = np.unique(truth)
    return float(recall_score(truth, guess, labels=occurring, average="macro"))
