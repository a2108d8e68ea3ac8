"""Frustration of one voice, the caller's or one that may be, over time and as one score. No I/O.

Acted speech teaches a recogniser that loud is angry, so its word alone is not trusted:
networks trained on acted anger follow loudness and lose much of their accuracy on real calls.
Three things must come together, each measured against the caller's own calmer speech of this call:

1. *evidence*: calibrated probability of anger (and, with less weight, disgust), above the caller's
   own usual level in this call;
2. *arousal*: louder and higher than the caller's calm reference, in dB and semitones;
3. *persistence*: a running mean over `smoothing_s` seconds of the caller's speech, so that one loud
   word does not make a frustrated caller.

The call's score is the peak of the running mean. A caller who is loud and calm from start to end is
their own reference and scores low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from callanalytics.config import FrustrationSettings
from callanalytics.records import Role, Segment

FloatArray = npt.NDArray[np.float32]

# Arousal is 0.5 at a rise of this many dB, or of this many semitones, over the calm reference. Chosen with
# the softness below on built calls, see docs/explanation/flags.md.
HALF_AROUSAL_DB = 8.0
HALF_AROUSAL_ST = 6.0
# Acted anger makes the ensemble surer than a caller should: evidence is softened by this temperature.
EVIDENCE_TEMPERATURE = 1.5


@dataclass(frozen=True, slots=True)
class Curve:
    """Frustration over the segments of one voice.

    at_s: (n,) segment midpoints. level: (n,) smoothed 0..1.
    score: peak of level; None where nothing that the voice said could be classified.
    loudness_rise_db, pitch_rise_st: (n,) against the calm reference, NaN where unknown.
    voice: the speaker whose segments these are, who may be the caller; None for who is called the caller.
    calm: places of the segments that are the calm reference, the calmest first; empty where it is not known.
    """

    at_s: FloatArray
    level: FloatArray
    score: float | None
    loudness_rise_db: FloatArray
    pitch_rise_st: FloatArray
    voice: str | None = None
    calm: tuple[int, ...] = ()

    @property
    def peak_s(self) -> float | None:
        """When the level is highest, None without a score."""
        return None if self.score is None else float(self.at_s[int(np.argmax(self.level))])

    @property
    def role(self) -> Role:
        """Role of the measures of the voice: caller, or unknown."""
        return Role.CALLER if self.voice is None else Role.UNKNOWN


def is_of_voice(segment: Segment, voice: str | None) -> bool:
    """Whether a segment is of a speaker, or of the caller where that is None."""
    return segment.role is Role.CALLER if voice is None else segment.speaker == voice


def frustration_curve(
    start_s: FloatArray,
    end_s: FloatArray,
    anger: FloatArray,
    disgust: FloatArray,
    loudness_db: FloatArray,
    pitch_hz: FloatArray,
    settings: FrustrationSettings,
) -> Curve:
    """Frustration of one voice from its segments, in time order; all arrays are (n,).

    anger, disgust: calibrated mean probabilities 0..1. pitch_hz: median voiced pitch, NaN unvoiced.
    """
    n = len(start_s)
    empty = np.zeros(0, dtype=np.float32)
    if n == 0:
        return Curve(empty, empty, None, empty, empty)
    seconds = np.maximum(end_s - start_s, 1e-3)
    evidence = np.clip(settings.anger_weight * anger + settings.disgust_weight * disgust, 0.0, 1.0)
    calm = _calm_reference(seconds, (evidence, loudness_db, pitch_hz), settings.baseline_s)
    usual = float(np.average(evidence[calm], weights=seconds[calm]))
    loudness_rise_db = loudness_db - np.nanmedian(loudness_db[calm])
    pitch_rise_st = _semitones(pitch_hz, calm)
    arousal = _arousal(loudness_rise_db, pitch_rise_st)
    # Evidence above the usual level, rescaled so that certainty of anger is still 1.
    above = np.clip((evidence - usual) / max(1.0 - usual, 1e-3), 0.0, 1.0)
    level = _running_mean(np.sqrt(above * arousal), start_s, seconds, settings.smoothing_s)
    return Curve(
        at_s=((start_s + end_s) / 2).astype(np.float32),
        level=level.astype(np.float32),
        score=float(level.max()),
        loudness_rise_db=loudness_rise_db.astype(np.float32),
        pitch_rise_st=pitch_rise_st.astype(np.float32),
        calm=tuple(int(place) for place in calm),
    )


def evidence_probabilities(
    mean_probabilities: FloatArray, labels: tuple[str, ...], neutral_share: float
) -> FloatArray:
    """The vote's probabilities (n, k) as evidence of a *change* in one voice, rows sum to 1.

    How common neutral speech is (`[emotion] neutral_share`) matters for naming one segment and not for
    comparing a caller with themselves, so that weight is taken out again; then softened.
    """
    if not len(mean_probabilities) or "neutral" not in labels:
        return mean_probabilities
    weight = np.full(len(labels), (1 - neutral_share) / (len(labels) - 1))
    weight[labels.index("neutral")] = neutral_share
    log = np.log(np.maximum(mean_probabilities, 1e-9) / weight) / EVIDENCE_TEMPERATURE
    shares = np.exp(log - log.max(axis=1, keepdims=True))
    result: FloatArray = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def _calm_reference(
    seconds: FloatArray, signs: tuple[FloatArray, ...], baseline_s: float
) -> npt.NDArray[np.intp]:
    """Indices of the calmest `baseline_s` seconds (at most half) of the caller's speech.

    Calmest by the mean rank over the signs (evidence, loudness, pitch), so that one sign that is wrong
    about this voice cannot make the shouting the reference. An unknown value ranks in the middle.
    """
    middle = [
        np.where(np.isfinite(sign), sign, np.nanmedian(sign)) if np.isfinite(sign).any() else sign * 0
        for sign in signs
    ]
    order = np.argsort(np.sum([_ranks(np.nan_to_num(sign)) for sign in middle], axis=0), kind="stable")
    budget = min(baseline_s, float(seconds.sum()) / 2)
    n_calm = int(np.searchsorted(np.cumsum(seconds[order]), budget)) + 1
    return order[:n_calm]


def _ranks(value: FloatArray) -> npt.NDArray[np.float64]:
    """Ranks from 0, equal values sharing their mean rank, (n,)."""
    _, place, count = np.unique(value, return_inverse=True, return_counts=True)
    last = np.cumsum(count) - 1
    ranks: npt.NDArray[np.float64] = (last - (count - 1) / 2)[place]
    return ranks


def _semitones(pitch_hz: FloatArray, calm: npt.NDArray[np.intp]) -> FloatArray:
    """Pitch above the median of the calm reference in semitones, NaN where unvoiced or unknown."""
    known = pitch_hz[calm][np.isfinite(pitch_hz[calm]) & (pitch_hz[calm] > 0)]
    if not len(known):
        return np.full(len(pitch_hz), np.nan, dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        rise: FloatArray = (12.0 * np.log2(pitch_hz / np.median(known))).astype(np.float32)
    return np.where(np.isfinite(rise), rise, np.nan).astype(np.float32)


def _arousal(loudness_rise_db: FloatArray, pitch_rise_st: FloatArray) -> FloatArray:
    """Logistic of the two rises together: 0.5 when their sum is one half-arousal step."""
    loud = np.nan_to_num(loudness_rise_db, nan=0.0) / HALF_AROUSAL_DB
    high = np.nan_to_num(pitch_rise_st, nan=0.0) / HALF_AROUSAL_ST
    exponent = np.minimum(-4.0 * (loud + high - 1.0), 80.0)  # beyond, exp overflows and the result is 0
    result: FloatArray = (1.0 / (1.0 + np.exp(exponent))).astype(np.float32)
    return result


def _running_mean(value: FloatArray, start_s: FloatArray, seconds: FloatArray, width_s: float) -> FloatArray:
    """Mean over the caller's speech of the last `width_s` seconds *of speech*, weighted by duration.

    Less speech than `width_s` so far counts as calm: the start of a call cannot be a peak by itself.
    """
    spoken = np.concatenate(([0.0], np.cumsum(seconds)))
    mass = np.concatenate(([0.0], np.cumsum(value * seconds)))
    since = np.interp(spoken[1:] - width_s, spoken, mass, left=0.0)
    result: FloatArray = ((mass[1:] - since) / width_s).astype(np.float32)
    return result
