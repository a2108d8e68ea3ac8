"""Voice prints in order of time to speakers: how many there are, and which piece is whose.

Speakers of one call take turns, so the pieces form a hidden Markov model whose states are speakers:
a sticky chain with one Gaussian per speaker around its mean voice print. Expectation-maximisation
runs from several starts (Ward clustering, the signs of the leading principal components) at once,
and the likeliest result wins; one start alone sometimes splits loud from calm instead of one voice
from the other (benchmarks/RESULTS.md). The number of speakers is found by adding one more as long as the
groups look like voices rather than like moods of one: by how far apart they lie, each pooled as a whole,
in what is known of voices in general (`VoiceSpace`), and for a third voice by how much likelier the call
becomes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from callanalytics.diarize.vad import IntArray
from callanalytics.records import BoolArray, FloatArray

DoubleArray = npt.NDArray[np.float64]

MAX_SPEAKERS = 4
_MAX_CLUSTERED = 1500
_MIN_SPEAKER_S = 2.0
_MIN_PIECES = 3
# Inverse variance of a unit-length print of 1.5 s around its speaker's mean.
_PRECISION = 200.0
_STAY = 0.7  # probability that the next piece, about 1 s on, is the same speaker's
_ROUNDS = 6
_N_COMPONENTS = 4
# Every two speakers are two voices at even odds or better. A third one needs more, since a false one tears a
# caller's emotions apart: the odds of the nearest pair and the log-likelihood that the call gains per second
# of talk, weighed by logistic regression on built calls of other speakers than those that the space then in
# use was fitted on (benchmarks/RESULTS.md).
_FURTHER_GAIN_S = 2.8
_FURTHER_VOICE = 33.6
# Gap between two groups, in standard deviations, that no change of mood reaches; in smaller groups it
# comes out too wide, because their own few pieces lay the line it is measured along.
_CLEAR_GAP = 7.0
_CLEAR_GAP_S = 6.0
_N_SEEDS = 7
# Both chosen on calls built of other speakers than those that the space then in use was fitted on
# (benchmarks/RESULTS.md). A group mixes moods, so it is off by less than one mood is; and the print of ten
# seconds is off by as much as a mood.
_MOOD_SHARE = 0.5
_AS_FAR_AS_A_MOOD_S = 10.0

Whole = Callable[[BoolArray], FloatArray]


@dataclass(frozen=True)
class VoiceSpace:
    """How much moods move one voice's print, and how much voices differ, in general.

    Two covariances of voice prints, between the moods of a speaker and between speakers (Kenny: "Bayesian
    speaker verification with heavy-tailed priors", Odyssey 2010; here in the plain Gaussian two-covariance
    form), fitted by `benchmarks/voice_space.py` on CREMA-D and EMO-DB, whose speakers say things in anger,
    fear, joy and sadness: so the part of a print that mood moves weighs little here.

    projection: (192, d), makes the covariance between moods the identity; between: (d,) variances.
    """

    projection: FloatArray
    between: FloatArray

    @classmethod
    def load(cls) -> VoiceSpace:
        """The shipped fit."""
        with np.load(Path(__file__).with_name("voice_space.npz"), allow_pickle=False) as fit:
            return cls(fit["projection"], fit["between"])

    def two_voices(self, one: FloatArray, one_s: float, other: FloatArray, other_s: float) -> float:
        """Log-likelihood ratio that prints (192,) of so many seconds are of two speakers, not one.

        Only their difference counts, so the channel of the call cancels out.
        """
        seconds = 1 / max(1e-3, one_s) + 1 / max(1e-3, other_s)
        same = 2 * _MOOD_SHARE + _AS_FAR_AS_A_MOOD_S * seconds
        apart = same + 2 * self.between
        difference = (one - other) @ self.projection
        return float(0.5 * np.sum(np.log(same / apart) + difference**2 * (1 / same - 1 / apart)))


def cluster_voices(
    prints: FloatArray, weight_s: DoubleArray, space: VoiceSpace, whole: Whole
) -> tuple[IntArray, FloatArray]:
    """Group voice prints by speaker.

    Args:
        prints: (n, 192) of unit length, in order of time, n >= 1.
        weight_s: (n,) seconds of speech that each stands for.
        space: what is known of voices in general.
        whole: the print (192,) of a group, given as a mask (n,), pooled as one.

    Returns:
        labels (n,) 0..k-1 and mean prints (k, 192) of unit length; k is 1 to 4.
    """
    chosen = np.arange(len(prints))
    if len(prints) > _MAX_CLUSTERED:
        chosen = np.linspace(0, len(prints) - 1, _MAX_CLUSTERED).astype(np.int64)

    def whole_of_chosen(mask: BoolArray) -> FloatArray:
        among_all = np.zeros(len(prints), np.bool_)
        among_all[chosen[mask]] = True
        return whole(among_all)

    labels = _count_and_divide(prints[chosen], weight_s[chosen], space, whole_of_chosen)
    n_speakers = int(labels.max()) + 1
    if len(chosen) < len(prints):
        weight = _weight(weight_s)
        centred = (prints - prints[chosen].mean(axis=0)).astype(np.float64) * np.sqrt(_PRECISION)
        means = _means(centred[chosen], weight[chosen], _certain(labels, n_speakers)[None])
        labels = _posterior(centred, weight, means)[0][0].argmax(axis=1)
    centres = np.stack([weight_s[labels == k] @ prints[labels == k] for k in range(n_speakers)])
    return labels, (centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)).astype(
        np.float32
    )


def _count_and_divide(prints: FloatArray, weight_s: DoubleArray, space: VoiceSpace, whole: Whole) -> IntArray:
    """Labels of as many speakers as there is evidence for.

    The prints beside their projection divide best; whether there is a second voice is decided on a division
    by the prints alone, because one that was made in the space looks far apart in it (all measured).
    """
    plain = prints * np.float32(np.sqrt(_PRECISION))
    labels = np.zeros(len(prints), np.int64)
    if len(prints) < 2 * _MIN_PIECES:
        return labels
    halves, _ = partition(plain, weight_s, 2)
    if not _are_two_voices(prints, weight_s, halves, space, whole):
        return labels
    both = np.concatenate([plain, prints @ space.projection], axis=1)
    talk_s = float(_weight(weight_s).sum())
    labels, likelihood = partition(both, weight_s, 2)
    for n_speakers in range(3, MAX_SPEAKERS + 1):
        if len(prints) < n_speakers * _MIN_PIECES:
            break
        tried, likelier = partition(both, weight_s, n_speakers)
        gain_per_s = (likelier - likelihood) / talk_s
        apart = _least_apart(weight_s, tried, n_speakers, space, whole)
        if apart < 0 or apart + _FURTHER_GAIN_S * gain_per_s < _FURTHER_VOICE:
            break
        labels, likelihood = tried, likelier
    return labels


def _are_two_voices(
    prints: FloatArray, weight_s: DoubleArray, halves: IntArray, space: VoiceSpace, whole: Whole
) -> bool:
    apart = _least_apart(weight_s, halves, 2, space, whole)
    if apart > 0 or apart == -np.inf:
        return apart > 0
    least_s = np.bincount(halves, weights=weight_s).min()
    return bool(least_s >= _CLEAR_GAP_S and _gap(prints[halves == 0], prints[halves == 1]) > _CLEAR_GAP)


def _least_apart(
    weight_s: DoubleArray, labels: IntArray, n_speakers: int, space: VoiceSpace, whole: Whole
) -> float:
    """Log-likelihood ratio that the two nearest groups are two voices; -inf when one is too small."""
    seconds = np.bincount(labels, weights=weight_s, minlength=n_speakers)
    if np.bincount(labels, minlength=n_speakers).min() < _MIN_PIECES or seconds.min() < _MIN_SPEAKER_S:
        return -np.inf
    groups = [whole(labels == k) for k in range(n_speakers)]
    return min(
        space.two_voices(groups[a], seconds[a], groups[b], seconds[b])
        for a, b in combinations(range(n_speakers), 2)
    )


def partition(features: FloatArray, weight_s: DoubleArray, n_speakers: int) -> tuple[IntArray, float]:
    """The likeliest labels 0..n_speakers-1 and their log-likelihood (up to a constant of the call).

    Args:
        features: (n, d), scaled so that one voice varies by about 1 in each, n >= n_speakers.
        weight_s: (n,) seconds that each stands for.
    """
    centred = (features - features.mean(axis=0)).astype(np.float64)
    weight = _weight(weight_s)
    starts = _starts(centred, n_speakers) if n_speakers > 1 else np.zeros((1, len(centred)), np.int64)
    return _maximise(centred, weight, starts, n_speakers)


def _weight(weight_s: DoubleArray) -> DoubleArray:
    weight: DoubleArray = np.clip(weight_s, 0.2, 1.0)
    return weight


def _starts(centred: DoubleArray, n_speakers: int) -> IntArray:
    """Divisions (n_starts, n) to start from."""
    from scipy.cluster import hierarchy

    blurred = (np.roll(centred, 1, axis=0) + 2 * centred + np.roll(centred, -1, axis=0)) / 4
    tree = hierarchy.linkage(blurred, "ward")
    starts = [
        hierarchy.fcluster(t, n_speakers, "maxclust") - 1 for t in (hierarchy.linkage(centred, "ward"), tree)
    ]
    if n_speakers == 2:
        components = np.linalg.svd(centred, full_matrices=False)[0][:, :_N_COMPONENTS]
        starts += [(component > 0).astype(np.int64) for component in components.T]
    fine = hierarchy.fcluster(tree, _N_SEEDS, "maxclust") - 1
    seeds = np.stack([blurred[fine == k].mean(axis=0) for k in range(int(fine.max()) + 1)])
    for picked in combinations(range(len(seeds)), n_speakers):
        means = seeds[list(picked)]
        starts.append((centred @ means.T - 0.5 * (means**2).sum(axis=1)).argmax(axis=1))
    return np.stack(starts)


def _gap(one: FloatArray, other: FloatArray) -> float:
    """Distance of two groups along the line through their means, in pooled standard deviations."""
    direction = one.mean(axis=0) - other.mean(axis=0)
    direction /= max(float(np.linalg.norm(direction)), 1e-9)
    a, b = one @ direction, other @ direction
    return float((a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 2 + 1e-6))


def _maximise(
    centred: DoubleArray, weight: DoubleArray, starts: IntArray, n_speakers: int
) -> tuple[IntArray, float]:
    """Likeliest labels (n,) after expectation-maximisation from all (n_starts, n) starts."""
    share = np.stack([_certain(start, n_speakers) for start in starts])
    likelihood = np.zeros(len(starts))
    for _ in range(_ROUNDS):
        share, likelihood = _posterior(centred, weight, _means(centred, weight, share))
    best = int(np.argmax(likelihood))
    labels: IntArray = share[best].argmax(axis=1)
    return labels, float(likelihood[best])


def _certain(labels: IntArray, n_speakers: int) -> DoubleArray:
    share = np.full((len(labels), n_speakers), 0.02 / max(1, n_speakers - 1))
    share[np.arange(len(labels)), labels] = 0.98
    return share


def _means(centred: DoubleArray, weight: DoubleArray, share: DoubleArray) -> DoubleArray:
    """Mean print per start and speaker, shrunk to the call's mean as by one piece: (s, k, 192)."""
    weighted = share * weight[:, None]
    sums = weighted.transpose(0, 2, 1) @ centred
    means: DoubleArray = sums / (weighted.sum(axis=1)[..., None] + 1.0)
    return means


def _posterior(
    centred: DoubleArray, weight: DoubleArray, means: DoubleArray
) -> tuple[DoubleArray, DoubleArray]:
    """Forward-backward over the pieces, all starts at once: shares (s, n, k), log-likelihood (s,)."""
    n_starts, n_speakers, _ = means.shape
    score = (centred @ means.reshape(-1, means.shape[2]).T).reshape(-1, n_starts, n_speakers)
    score -= 0.5 * (means**2).sum(axis=2)
    score *= weight[:, None, None]
    top = score.max(axis=2, keepdims=True)
    emission = np.exp(score - top)
    # stay + move / (k - 1) for the others == change + (stay - change) on the same speaker
    change = (1 - _STAY) / max(1, n_speakers - 1) if n_speakers > 1 else 0.0
    extra = (_STAY if n_speakers > 1 else 1.0) - change
    forward = np.empty_like(emission)
    total = np.empty((len(centred), n_starts, 1))
    belief = np.full((n_starts, n_speakers), 1 / n_speakers)
    for at, seen in enumerate(emission):
        belief = belief * seen
        total[at] = belief.sum(axis=1, keepdims=True)
        belief = belief / total[at]
        forward[at] = belief
        belief = change + extra * belief
    backward = np.ones_like(emission)
    later = np.ones((n_starts, n_speakers))
    for at in range(len(centred) - 1, 0, -1):
        reached = later * emission[at] / total[at]
        later = change * reached.sum(axis=1, keepdims=True) + extra * reached
        backward[at - 1] = later
    share = (forward * backward).transpose(1, 0, 2)
    likelihood: DoubleArray = (np.log(total) + top).sum(axis=(0, 2))
    return share / share.sum(axis=2, keepdims=True), likelihood
