"""Votes: from every member's probabilities to one label or an abstention. No torch.

Majority vote with the design's tie rule: of the labels with the most votes the
one with the highest mean probability wins. Soft voting (mean probability) and
weighted voting (members count by weight, in ballots and mean) are options.

Centred heads: what members pool of a segment, minus the voice's own calm speech.

A recogniser of acted speech mistakes how a person always sounds for how they feel. So each member has a
second linear head that sees its pooled features minus the mean of the voice's calm reference: the segments
that the members, heard one by one, find most neutral, up to ``calm_s`` seconds and at most half of what the
voice says. A short reference is shrunk by ``n / (n + shrink_s)`` with n seconds, as the band shapes are. A
head is linear, so a baseline is subtracted from what it answers and pooled features are never kept.

A voice with one segment has no baseline; the members' own heads answer for it.

A member that was not asked of a segment has no opinion of it: its probabilities there are 0. It counts
neither in ballots nor in mean and agreement; the weights hold among those that were asked.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensemble.inference.card import checked_file
from ensemble.model_errors import ModelIncompatible

Float = NDArray[np.float32]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Temperature = float | NDArray[np.float64]
"""One for all segments, or one for each, (n,)."""
Rule = Literal["majority", "soft", "weighted"]
RULES: tuple[Rule, ...] = ("majority", "soft", "weighted")

TOO_SHORT, NOT_SPEECH = "too_short", "not_speech"
LOW_CONFIDENCE, LOW_AGREEMENT = "low_confidence", "low_agreement"
ABSTAIN_REASONS: tuple[str, ...] = (TOO_SHORT, NOT_SPEECH, LOW_CONFIDENCE, LOW_AGREEMENT)
"""Every reason for abstaining; the first that applies is given."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Below these the ensemble names no emotion; chosen on validation speakers for ``precision``."""

    confidence: float = 0.0
    agreement: float = 0.0
    shortest_s: float = 0.4
    """Speech shorter than this says too little (and members were never trained on it)."""
    quietest_db: float = -65.0
    """A segment whose loudest 20 ms stay below this (dBFS) is not speech."""
    precision: float | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperatures of a vote, of the members' own heads and of the centred ones, and its thresholds."""

    temperature: float
    heads_temperature: float
    thresholds: Thresholds

    @classmethod
    def from_card(cls, entry: Mapping[str, Any]) -> Calibration:
        """Of a card's entry; what it holds beside is for people."""
        temperatures = float(entry["temperature"]), float(entry["heads_temperature"])
        return cls(*temperatures, Thresholds(**entry["thresholds"]))


@dataclass(frozen=True, slots=True)
class Votes:
    """What the ensemble says of n segments: m members, k labels.

    ``probabilities`` float32 (m, n, k): each member's own softmax, not
    calibrated; 0 where it was not asked. ``mean_probabilities`` float32 (n, k): their mean, calibrated
    by temperature; rows sum to 1. Both are weighed as by :func:`expect` where
    that was asked for. ``emotion_index`` int64 (n,): the named label, -1 where
    the ensemble abstains. ``top_index`` int64 (n,): the label it would name
    without abstaining. ``confidence`` float32 (n,): calibrated mean
    probability of the top label. ``agreement`` float32 (n,): share of the members
    asked whose own first choice is the top label. ``tie_broken`` bool (n,).
    ``abstain_reason``: None or one of ABSTAIN_REASONS per segment.
    ``neutral_share``: what they were weighed by; None where it is not known or they were not.
    """

    labels: tuple[str, ...]
    member_names: tuple[str, ...]
    probabilities: Float
    mean_probabilities: Float
    emotion_index: Int
    top_index: Int
    confidence: Float
    agreement: Float
    tie_broken: Bool
    abstain_reason: tuple[str | None, ...]
    neutral_share: float | None = None

    def __len__(self) -> int:
        return len(self.top_index)

    def emotion(self, index: int) -> str | None:
        """The named emotion of segment ``index``, or None where the ensemble abstains."""
        named = int(self.emotion_index[index])
        return None if named < 0 else self.labels[named]


def softmax(logits: NDArray[np.floating]) -> Float:
    """Over the last axis, float32, without overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Float = (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares


def has_opinion(probabilities: Float) -> Bool:
    """Which members have an opinion of which segments, (m, n), by their probabilities (m, n, k)."""
    return np.asarray(probabilities.any(axis=2), dtype=bool)


def expect(
    probabilities: Float,
    labels: tuple[str, ...],
    neutral_share: float,
    temperature: Temperature = 1.0,
) -> Float:
    """Probabilities (..., k) of members trained on every label equally often, where neutral is more common.

    Bayes' rule for a change of the label shares (Saerens, Latinne and Decaestecker 2002): each label is
    weighed by its expected share against the 1/k of training; the emotions share what neutral leaves.
    Probabilities that are still to be divided by a ``temperature`` are weighed so that the expected shares
    have their full weight afterwards, and no more: without it, 70 % neutral would count as 88 % at 0.68.
    Without a neutral label nothing changes.

    Raises:
        ValueError: unless 0 < ``neutral_share`` < 1.
    """
    if not 0 < neutral_share < 1:
        raise ValueError(f"neutral_share {neutral_share} is not between 0 and 1")
    if "neutral" not in labels:
        return probabilities
    weight = np.full(len(labels), (1 - neutral_share) / (len(labels) - 1))
    weight[labels.index("neutral")] = neutral_share
    weighed = probabilities * (weight ** np.asarray(temperature)[..., None]).astype(np.float32)
    shares: Float = weighed / np.maximum(weighed.sum(axis=-1, keepdims=True), 1e-12)
    return shares


def calibrate_mean(
    probabilities: Float, temperature: Temperature, weights: NDArray[np.floating] | None = None
) -> Float:
    """Mean over members (m, n, k) sharpened or softened by a temperature: (n, k), rows sum to 1.

    Members count by ``weights`` (m,); None: alike; without an opinion not at all. The temperature is fitted
    after averaging, because averaging itself softens (Rahaman and Thiery 2021).
    """
    each = _each(weights, len(probabilities))
    mean = np.tensordot(each / each.sum(), probabilities.astype(np.float64), axes=1)
    asked = each @ has_opinion(probabilities) / max(each.sum(), 1e-9)
    mean = np.log(np.maximum(mean / np.maximum(asked, 1e-9)[:, None], 1e-9))
    return softmax(mean / np.asarray(temperature)[..., None])


def _each(weights: NDArray[np.floating] | None, n_members: int) -> NDArray[np.float64]:
    """What each member counts, (m,); 1 without weights."""
    if weights is not None and len(weights) != n_members:
        raise ValueError(f"weighted voting needs {n_members} weights, one a member")
    return np.ones(n_members) if weights is None else np.asarray(weights, dtype=np.float64)


def count_votes(
    probabilities: Float,
    mean_probabilities: Float,
    rule: Rule = "majority",
    weights: NDArray[np.floating] | None = None,
) -> tuple[Int, Float, Bool]:
    """(top_index, agreement, tie_broken), each (n,).

    ``probabilities`` (m, n, k) decide each member's choice, ``mean_probabilities``
    (n, k) break ties. ``weights`` (m,) only for ``weighted``. Members without an opinion do not count.

    Raises:
        ValueError: when they are missing or of another length, or the rule is not one of RULES.
    """
    n_members, n, k = probabilities.shape
    choice, asked = probabilities.argmax(axis=2), has_opinion(probabilities)  # (m, n)
    ballots = np.zeros((n, k))
    if rule not in RULES:
        raise ValueError(f"vote rule {rule!r} is not one of {', '.join(RULES)}")
    if rule == "weighted" and weights is None:
        raise ValueError(f"weighted voting needs {n_members} weights, one a member")
    each = _each(weights if rule == "weighted" else None, n_members)
    for member in range(n_members):
        ballots[np.arange(n), choice[member]] += each[member] * asked[member]
    if rule == "soft":
        top = mean_probabilities.argmax(axis=1)
        tied = np.zeros(n, dtype=bool)
    else:
        leading = np.isclose(ballots, ballots.max(axis=1, keepdims=True))
        top = np.where(leading, mean_probabilities, -1.0).argmax(axis=1)
        tied = leading.sum(axis=1) > 1
    agreement = ((choice == top) & asked).sum(axis=0) / np.maximum(asked.sum(axis=0), 1)
    return top.astype(np.int64), agreement.astype(np.float32), tied


def vote(
    probabilities: Float,
    labels: tuple[str, ...],
    member_names: tuple[str, ...],
    *,
    temperature: Temperature = 1.0,
    thresholds: Thresholds | Sequence[Thresholds] | None = None,
    rule: Rule = "majority",
    weights: NDArray[np.floating] | None = None,
    withheld: tuple[str | None, ...] | None = None,
    neutral_share: float | None = None,
) -> Votes:
    """One vote for each of n segments.

    ``thresholds`` are one for all segments or one for each. None never abstains, unless ``withheld`` gives
    a reason (``too_short``, ``not_speech``) for a segment. ``neutral_share``: see :func:`expect`; None takes
    the probabilities as they are.
    """
    mean = calibrate_mean(probabilities, temperature, weights if rule == "weighted" else None)
    if neutral_share is not None:
        mean = expect(mean, labels, neutral_share)
        probabilities = expect(probabilities, labels, neutral_share, temperature)
    top, agreement, tied = count_votes(probabilities, mean, rule, weights)
    confidence = mean[np.arange(len(top)), top]
    reasons: list[str | None] = list(withheld) if withheld else [None] * len(top)
    if thresholds is not None:
        limits = [thresholds] * len(top) if isinstance(thresholds, Thresholds) else thresholds
        for i, limit in enumerate(limits):
            if reasons[i] is None and confidence[i] < limit.confidence:
                reasons[i] = LOW_CONFIDENCE
            elif reasons[i] is None and agreement[i] < limit.agreement - 1e-6:
                reasons[i] = LOW_AGREEMENT
    named = np.where([reason is None for reason in reasons], top, -1).astype(np.int64)
    shares = (probabilities, mean)
    chosen, sure = (named, top), (confidence, agreement)
    return Votes(labels, member_names, *shares, *chosen, *sure, tied, tuple(reasons), neutral_share)


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
