"""What validation speakers are for: UAR of weights, temperature, output bias, thresholds for abstaining.

Everything here is measured or fitted on validation speakers only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble.inference.spectrogram import voice_norm
from ensemble.inference.vote import Rule, Thresholds, calibrate_mean, count_votes, softmax
from ensemble.members import make_member
from ensemble.training.examples import Examples, pad
from ensemble.training.training_settings import TrainSettings

if TYPE_CHECKING:
    import torch

Float = NDArray[np.float32]
Int = NDArray[np.int64]


def fit_temperature(probabilities: Float, truth: Int, weights: NDArray[np.floating] | None = None) -> float:
    """Temperature of the members' mean (m, n, k) with the least negative log-likelihood of ``truth`` (n,).

    ``weights`` as in :func:`ensemble.inference.vote.calibrate_mean`.

    Temperature scaling (Guo et al. 2017), after averaging; a bounded scan, so
    it cannot diverge: 0.2 to 5 in steps of 1 %.
    """
    grid = np.exp(np.arange(np.log(0.2), np.log(5.0), 0.01))
    rows = np.arange(len(truth))
    losses = [
        -np.log(np.maximum(calibrate_mean(probabilities, t, weights)[rows, truth], 1e-9)).mean() for t in grid
    ]
    return float(grid[int(np.argmin(losses))])


def fit_bias(logits: Float, truth: Int) -> Float:
    """What to add to logits (n, k) for the best likelihood with every label equally common; (k,), mean 0.

    Convex; labels weigh alike whatever their counts. Plain gradient steps. A label that ``truth`` (n,)
    never has keeps 0: likelihood would take it away from the ensemble altogether.
    """
    counts = np.bincount(truth, minlength=logits.shape[1]).astype(np.float64)
    occurs = counts > 0
    weight = 1 / counts[truth]
    weight /= weight.sum()
    wanted = np.bincount(truth, weights=weight, minlength=logits.shape[1])[occurs]
    bias = np.zeros(int(occurs.sum()))
    for _ in range(500):
        bias -= 3.0 * (weight @ softmax(logits[:, occurs] + bias) - wanted)
    whole: Float = np.zeros(logits.shape[1], dtype=np.float32)
    whole[occurs] = bias - bias.mean()
    return whole


def expected_calibration_error(confidence: Float, right: NDArray[np.bool_], n_bins: int = 15) -> float:
    """ECE with equal-width bins (Naeini et al. 2015): mean distance of confidence from accuracy, 0..1."""
    bins = reliability(confidence, right, n_bins)
    return float(sum(share * abs(stated - accuracy) for stated, accuracy, share in bins))


def perfect_calibration_error(confidence: Float, n_draws: int = 100, seed: int = 0) -> float:
    """ECE that perfectly calibrated confidences like these would show by chance, 0..1.

    With few clips the ECE of a perfect ensemble is far from 0 (Roelofs et al. 2022): what is
    measured only says something beside this.
    """
    rng = np.random.default_rng(seed)
    draws = rng.random((n_draws, len(confidence))) < confidence
    return float(np.mean([expected_calibration_error(confidence, right) for right in draws]))


def reliability(
    confidence: Float, right: NDArray[np.bool_], n_bins: int = 15
) -> list[tuple[float, float, float]]:
    """(mean confidence, accuracy, share of the clips) of each equal-width bin that is not empty."""
    which = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    bins = (which == index for index in np.unique(which))
    return [(float(confidence[b].mean()), float(right[b].mean()), float(b.mean())) for b in bins]


def coverage_curve(
    confidence: Float, right: NDArray[np.bool_], coverages: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)
) -> list[tuple[float, float]]:
    """(coverage, accuracy): accuracy among the most confident share of the clips."""
    order = np.argsort(-confidence, kind="stable")
    upto = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    return [(c, float(upto[max(round(c * len(order)), 1) - 1])) for c in coverages]


def choose_thresholds(
    probabilities: Float,
    truth: Int,
    temperature: float,
    precision: float,
    *,
    rule: Rule = "majority",
    weights: NDArray[np.floating] | None = None,
    least_covered: float = 0.3,
) -> Thresholds:
    """Thresholds of confidence and agreement naming the most clips with ``precision`` of them right.

    When no pair reaches the precision while naming ``least_covered`` of the
    clips, the most precise pair that still names that many is taken, and the
    card's ``precision`` says what it reached.
    """
    mean = calibrate_mean(probabilities, temperature, weights)
    top, agreement, _ = count_votes(probabilities, mean, rule, weights)
    confidence = mean[np.arange(len(top)), top]
    right = top == truth
    best: tuple[bool, float, float, float, float] | None = None
    for least_agreement in np.unique(agreement):
        for least_confidence in np.arange(0.20, 0.90, 0.01):
            named = (confidence >= least_confidence) & (agreement >= least_agreement - 1e-6)
            if named.mean() < least_covered:
                break
            reached = float(right[named].mean())
            good = reached >= precision
            # Enough precision: as many as can be named. Not enough: as precise as can be.
            merit = float(named.mean()) if good else reached
            found = (good, merit, float(least_confidence), float(least_agreement), reached)
            if best is None or found[:2] > best[:2]:
                best = found
    if best is None:
        return Thresholds(precision=float(right.mean()))
    # Downwards: 2 of 3 members must reach what two thirds were rounded to.
    least_agreement = math.floor(best[3] * 1e4) / 1e4
    return Thresholds(round(best[2], 4), least_agreement, precision=round(best[4], 4))


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
