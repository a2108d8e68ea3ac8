"""Voice prints in order of time to speakers: how many there are, and which piece is whose.

Speakers of one call take turns, so the pieces form a hidden Markov model whose states are speakers:
a sticky chain with one Gaussian per speaker around its mean voice print. Expectation-maximisation
runs from many starts at once (Ward clustering, small groups against all others, the signs of the
leading principal components), since the likeliest division is often one of loud from calm instead of
one voice from the other (benchmarks/RESULTS.md). Whether there are two voices, and which division is
theirs, is weighed in `callanalytics.diarize.conversation`; a further voice is added as long as the
groups look like voices rather than like moods of one: by how far apart they lie, each pooled as a
whole, in what is known of voices in general (`VoiceSpace`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from callanalytics.diarize.conversation import (
    DoubleArray,
    Evidence,
    Rhythm,
    Whole,
    log_odds_of_conversation,
)
from callanalytics.diarize.vad import IntArray
from callanalytics.records import BoolArray, FloatArray

MAX_SPEAKERS = 4
_MAX_CLUSTERED = 1500
_MIN_SPEAKER_S = 2.0
_MIN_PIECES = 3
# Inverse variance of a unit-length print of 1.5 s around its speaker's mean.
_PRECISION = 200.0
_ROUNDS = 6
_N_COMPONENTS = 4
_N_SEEDS = 7
_GROUPS = (3, 4, 6, 8, 10, 14)
# A third voice needs more than a second one, since a false one tears a caller's emotions apart: this
# log-likelihood ratio of the two nearest, and so much talk of its own; from the lower ratio on it is noted.
# Of 254 built calls of two voices 1 comes so far; at 0 it would be 5, three of them callers who turn angry.
# Of 50 of three 16 come so far (at 0 24), and 32 are noted (benchmarks/RESULTS.md).
_FURTHER_VOICE = 3.0
_FURTHER_VOICE_S, _FURTHER_VOICE_SHARE = 5.0, 0.08
_MAYBE_FURTHER = -2.0
# Both chosen on calls built of other speakers than those that the space then in use was fitted on
# (benchmarks/RESULTS.md). A group mixes moods, so it is off by less than one mood is; and the print of ten
# seconds is off by as much as a mood.
_MOOD_SHARE = 0.5
_AS_FAR_AS_A_MOOD_S = 10.0

# How sure a division in two is. Of 174 built calls of development speakers all nine in which over 15 % of the
# speech is with the wrong voice are nearer than this to another division, 49 in all (benchmarks/RESULTS.md).
# And over so much of the speech is seldom one person's: that lane may hold both.
_CLEAR_MARGIN = 4.5
_OTHER_DIVISION_SHARE = 0.15
_UNEVEN_SHARE = 0.7
# Log-odds of a third voice by how the three answer each other, in units of the acoustic ratio, limited.
_THIRD_PARTY = 1.5
_THIRD_PARTY_RANGE = (-6.0, 3.0)


@dataclass(frozen=True)
class VoiceSpace:
    """How much moods move one voice's print, and how much parties differ, in general.

    Two covariances of voice prints, between the moods of a speaker and between parties (Kenny: "Bayesian
    speaker verification with heavy-tailed priors", Odyssey 2010; here in the plain Gaussian two-covariance
    form), fitted by `benchmarks/voice_space.py` on CREMA-D and EMO-DB, whose speakers say things in anger,
    fear, joy and sadness: so the part of a print that mood moves weighs little here. Most parties of the fit
    have a telephone line of their own, as in calls, and some of the anger is made harsher than it was acted.

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

        Only their difference counts, so what the lines of both share cancels out.
        """
        seconds = 1 / max(1e-3, one_s) + 1 / max(1e-3, other_s)
        same = 2 * _MOOD_SHARE + _AS_FAR_AS_A_MOOD_S * seconds
        apart = same + 2 * self.between
        difference = (one - other) @ self.projection
        return float(0.5 * np.sum(np.log(same / apart) + difference**2 * (1 / same - 1 / apart)))


def cluster_voices(
    prints: FloatArray, rhythm: Rhythm, space: VoiceSpace, whole: Whole, conversation_share: float
) -> Grouping:
    """Group voice prints by speaker.

    Args:
        prints: (n, 192) of unit length, in order of time, n >= 1.
        rhythm: when they are spoken.
        space: what is known of voices in general.
        whole: the prints (k, 192) of groups, given as masks (k, n), each pooled as one.
        conversation_share: of such recordings that hold two voices or more, 0..1.

    Returns:
        labels (n,) of one to four voices.
    """
    chosen = np.arange(len(prints))
    if len(prints) > _MAX_CLUSTERED:
        chosen = np.linspace(0, len(prints) - 1, _MAX_CLUSTERED).astype(np.int64)

    speech = Speech(prints, rhythm, space, whole).some(chosen)
    grouping = speech.by_voice(conversation_share)
    n_speakers = int(grouping.labels.max()) + 1
    if len(chosen) < len(prints):
        weight = _weight(rhythm.seconds)
        centred = (prints - prints[chosen].mean(axis=0)).astype(np.float64) * np.sqrt(_PRECISION)
        means = _means(centred[chosen], weight[chosen], _certain(grouping.labels, n_speakers)[None])
        labels = _posterior(centred, weight, means, rhythm.stay)[0][0].argmax(axis=1)
        grouping = replace(grouping, labels=labels)
    return grouping


def mean_prints(prints: FloatArray, weight_s: DoubleArray, labels: IntArray) -> FloatArray:
    """Mean print (k, 192) of unit length of the pieces of each label 0..k-1."""
    n_speakers = int(labels.max()) + 1
    centres = np.stack([weight_s[labels == k] @ prints[labels == k] for k in range(n_speakers)])
    lengths = np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    found: FloatArray = (centres / lengths).astype(np.float32)
    return found


@dataclass(frozen=True)
class Grouping:
    """Whose every piece is: labels (n,) 0..k-1, and what is not sure about it.

    may_be_more: whether one of the voices may be two; in_doubt: whether a voice may hold much of another's.
    """

    labels: IntArray
    may_be_more: bool = False
    in_doubt: bool = False


@dataclass(frozen=True)
class Division:
    """One way to give every piece to one of two voices: labels (n,) 0 or 1, and what speaks for it."""

    labels: IntArray
    evidence: Evidence


@dataclass(frozen=True)
class Speech:
    """The pieces of speech of one recording, or of some of its voices.

    prints: (n, 192) of unit length, in order of time; rhythm: when they are spoken; space: what is known of
    voices in general; whole: the prints (k, 192) of groups, given as masks (k, n), each pooled as one.
    """

    prints: FloatArray
    rhythm: Rhythm
    space: VoiceSpace
    whole: Whole

    def by_voice(self, conversation_share: float) -> Grouping:
        """As many voices as there is evidence for."""
        best = self.likeliest()
        if best is None or log_odds_of_conversation(conversation_share, best.evidence) <= 0:
            return Grouping(np.zeros(len(self.prints), np.int64))
        first = float(self.rhythm.seconds[best.labels == 0].sum() / self.rhythm.seconds.sum())
        in_doubt = best.evidence.margin < _CLEAR_MARGIN or max(first, 1 - first) > _UNEVEN_SHARE
        labels = best.labels
        for n_speakers in range(3, MAX_SPEAKERS + 1):
            evidence, tried = self._one_more(labels, n_speakers)
            least_s = np.bincount(tried, weights=self.rhythm.seconds).min()
            enough_s = max(_FURTHER_VOICE_S, _FURTHER_VOICE_SHARE * float(self.rhythm.seconds.sum()))
            if evidence < _FURTHER_VOICE or least_s < enough_s:
                return Grouping(labels, evidence > _MAYBE_FURTHER, in_doubt)
            labels = tried
        return Grouping(labels, in_doubt=in_doubt)

    def likeliest(self) -> Division | None:
        """The division in two that is preferred, with its margin; None where there is too little speech."""
        divisions = self.divisions()
        if not divisions:
            return None
        best = max(divisions, key=lambda division: division.evidence.preference)
        seconds = self.rhythm.seconds / self.rhythm.seconds.sum()
        elsewhere = [float(seconds[division.labels != best.labels].sum()) for division in divisions]
        margin = min(
            (
                best.evidence.preference - division.evidence.preference
                for division, share in zip(divisions, elsewhere, strict=True)
                if min(share, 1 - share) > _OTHER_DIVISION_SHARE
            ),
            default=math.inf,
        )
        return replace(best, evidence=replace(best.evidence, margin=margin))

    def divisions(self) -> list[Division]:
        """Ways to divide the pieces between two voices: where many starts end.

        The likeliest is often one between the moods of the voice that talks most, so all are weighed.
        """
        if len(self.prints) < 2 * _MIN_PIECES:
            return []
        # The prints beside their projection divide best (benchmarks/RESULTS.md).
        plain = self.prints * np.float32(np.sqrt(_PRECISION))
        features = np.concatenate([plain, self.prints @ self.space.projection], axis=1)
        centred = (features - features.mean(axis=0)).astype(np.float64)
        seconds = self.rhythm.seconds
        weight, stay = _weight(seconds), self.rhythm.stay
        share, likelihood = _maximise(centred, weight, stay, _starts(centred))
        labels = share.argmax(axis=2)
        labels ^= labels[:, :1]
        labels, at = np.unique(labels, axis=0, return_index=True)
        gain = likelihood[at] - _posterior(centred, weight, np.zeros((1, 1, centred.shape[1])), stay)[1]
        n_pieces, second_s = labels.sum(axis=1), labels @ seconds
        enough = np.minimum(n_pieces, labels.shape[1] - n_pieces) >= _MIN_PIECES
        enough &= np.minimum(second_s, seconds.sum() - second_s) >= _MIN_SPEAKER_S
        labels, gain = labels[enough], gain[enough] / weight.sum()
        if len(labels) == 0:
            return []
        groups = self.whole(np.concatenate([labels == 0, labels == 1]))
        return [
            Division(
                row,
                Evidence(
                    self.space.two_voices(one, seconds[row == 0].sum(), other, seconds[row == 1].sum()),
                    float(gained),
                    self.rhythm.overlap_share,
                    self.rhythm.turn_taking(row),
                    self.rhythm.local_speakers(row),
                ),
            )
            for row, gained, one, other in zip(
                labels, gain, groups[: len(labels)], groups[len(labels) :], strict=True
            )
        ]

    def _one_more(self, labels: IntArray, n_speakers: int) -> tuple[float, IntArray]:
        """The division of one voice in two that leaves the nearest two of all voices farthest apart.

        Returns:
            log-likelihood ratio that all are people of their own, and labels 0..n_speakers-1 (n,).
        """
        best, divided, found = -np.inf, 0, labels
        for voice in range(n_speakers - 1):
            inside = np.flatnonzero(labels == voice)
            for division in self.some(inside).divisions():
                tried = labels.copy()
                tried[inside[division.labels == 1]] = n_speakers - 1
                if (
                    division.evidence.acoustic > best
                    and (apart := self._least_apart(tried, n_speakers)) > best
                ):
                    best, divided, found = apart, voice, tried
        if found is labels:
            return best, found
        answers = self.rhythm.third_party(found, divided, n_speakers - 1)
        return best + _THIRD_PARTY * float(np.clip(answers, *_THIRD_PARTY_RANGE)), found

    def some(self, chosen: IntArray) -> Speech:
        """That of some pieces, in order of time."""

        def whole(groups: BoolArray) -> FloatArray:
            among_all = np.zeros((len(groups), len(self.prints)), np.bool_)
            among_all[:, chosen] = groups
            return self.whole(among_all)

        return Speech(self.prints[chosen], self.rhythm.of(chosen), self.space, whole)

    def _least_apart(self, labels: IntArray, n_speakers: int) -> float:
        """Log-likelihood ratio that the two nearest groups are two voices."""
        seconds = np.bincount(labels, weights=self.rhythm.seconds, minlength=n_speakers)
        groups = self.whole(np.arange(n_speakers)[:, None] == labels)
        return min(
            self.space.two_voices(groups[a], seconds[a], groups[b], seconds[b])
            for a, b in combinations(range(n_speakers), 2)
        )


def _weight(seconds: DoubleArray) -> DoubleArray:
    weight: DoubleArray = np.clip(seconds, 0.2, 1.0)
    return weight


def _starts(centred: DoubleArray) -> IntArray:
    """Divisions in two (n_starts, n) to start from."""
    from scipy.cluster import hierarchy

    blurred = (np.roll(centred, 1, axis=0) + 2 * centred + np.roll(centred, -1, axis=0)) / 4
    trees = [hierarchy.linkage(centred, "ward"), hierarchy.linkage(blurred, "ward")]
    starts = [hierarchy.fcluster(tree, 2, "maxclust") - 1 for tree in trees]
    components = np.linalg.svd(centred, full_matrices=False)[0][:, :_N_COMPONENTS]
    starts += [(component > 0).astype(np.int64) for component in components.T]
    fine = hierarchy.fcluster(trees[1], _N_SEEDS, "maxclust") - 1
    seeds = np.stack([blurred[fine == k].mean(axis=0) for k in range(int(fine.max()) + 1)])
    for picked in combinations(range(len(seeds)), 2):
        means = seeds[list(picked)]
        starts.append((centred @ means.T - 0.5 * (means**2).sum(axis=1)).argmax(axis=1))
    # One small group against all others finds the voice that says little.
    for tree in trees:
        for n_groups in _GROUPS:
            group = hierarchy.fcluster(tree, n_groups, "maxclust")
            starts += [(group == k).astype(np.int64) for k in range(1, int(group.max()) + 1)]
    return np.unique(np.stack(starts), axis=0)


def _maximise(
    centred: DoubleArray, weight: DoubleArray, stay: DoubleArray, starts: IntArray
) -> tuple[DoubleArray, DoubleArray]:
    """Shares (s, n, 2) and log-likelihood (s,) after expectation-maximisation from all (s, n) starts."""
    share = np.stack([_certain(start, 2) for start in starts])
    likelihood = np.zeros(len(starts))
    for _ in range(_ROUNDS):
        share, likelihood = _posterior(centred, weight, _means(centred, weight, share), stay)
    return share, likelihood


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
    centred: DoubleArray, weight: DoubleArray, means: DoubleArray, stay: DoubleArray
) -> tuple[DoubleArray, DoubleArray]:
    """Forward-backward over the pieces, all starts at once: shares (s, n, k), log-likelihood (s,).

    `stay` (n - 1,) is the probability that a piece is of the speaker of the piece before.
    """
    n_starts, n_speakers, _ = means.shape
    score = (centred @ means.reshape(-1, means.shape[2]).T).reshape(-1, n_starts, n_speakers)
    score -= 0.5 * (means**2).sum(axis=2)
    score *= weight[:, None, None]
    top = score.max(axis=2, keepdims=True)
    emission = np.exp(score - top)
    # stay + move / (k - 1) for the others == change + (stay - change) on the same speaker
    change = (1 - stay) / (n_speakers - 1) if n_speakers > 1 else np.zeros_like(stay)
    extra = stay - change if n_speakers > 1 else np.ones_like(stay)
    forward = np.empty_like(emission)
    total = np.empty((len(centred), n_starts, 1))
    belief = np.full((n_starts, n_speakers), 1 / n_speakers)
    for at, seen in enumerate(emission):
        if at:
            belief = change[at - 1] + extra[at - 1] * belief
        belief = belief * seen
        total[at] = belief.sum(axis=1, keepdims=True)
        belief = belief / total[at]
        forward[at] = belief
    backward = np.ones_like(emission)
    later = np.ones((n_starts, n_speakers))
    for at in range(len(centred) - 1, 0, -1):
        reached = later * emission[at] / total[at]
        later = change[at - 1] * reached.sum(axis=1, keepdims=True) + extra[at - 1] * reached
        backward[at - 1] = later
    share = (forward * backward).transpose(1, 0, 2)
    likelihood: DoubleArray = (np.log(total) + top).sum(axis=(0, 2))
    return share / share.sum(axis=2, keepdims=True), likelihood
