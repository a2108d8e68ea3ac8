"""Pitch of many frames at once, by normalised autocorrelation.

After Boersma, "Accurate short-term analysis of the fundamental frequency" (IFA Proceedings 17, 1993):
the autocorrelation of a windowed frame divided by that of its window, its highest peak, a small
preference for shorter lags. In place of his path search there is a second pass in which each segment is
searched only around its own first-pass quartiles (De Looze & Hirst, Speech Prosody 2008), which removes
most octave errors and needs no loop over frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from callanalytics.records import FloatArray

    IntArray = npt.NDArray[np.intp]

MIN_F0_HZ, MAX_F0_HZ = 65.0, 500.0
VOICING_THRESHOLD = 0.45  # Boersma 1993
OCTAVE_COST = 0.01  # per octave, Boersma 1993
SILENCE_DB = 30.0  # frames this far below the segment's loudest are not voiced (0.03 of its amplitude)
HUM_HZ = 60.0  # below lie mains hum and offset, no voice of a telephone
FLOOR_OF_Q25, CEILING_OF_Q75 = 0.75, 1.8  # of the first pass; a little above De Looze & Hirst's 1.5


@dataclass(frozen=True, slots=True)
class Pitch:
    """Per frame: f0_hz float32 (n,), NaN where unvoiced; strength float32 (n,), 0..1, the height of
    the autocorrelation peak, which is the share of periodic power."""

    f0_hz: FloatArray
    strength: FloatArray


def window_autocorrelation(window: FloatArray, n_fft: int, n_lags: int) -> FloatArray:
    """Autocorrelation of the analysis window at lags 0..n_lags - 1, 1 at lag 0."""
    power = np.abs(np.fft.rfft(window, n_fft)) ** 2
    found = np.fft.irfft(power, n_fft)[:n_lags]
    normalised: FloatArray = (found / found[0]).astype(np.float32)
    return normalised


def track(
    power: FloatArray,
    frame_db: FloatArray,
    first_frame: IntArray,
    window_acf: FloatArray,
    sample_rate_hz: int,
) -> Pitch:
    """Pitch of consecutive frames of several segments.

    power: float32 (n, n_fft // 2 + 1) power spectra of windowed frames, where n_fft is at least the
    frame plus the longest lag. frame_db: (n,) levels. first_frame: (n_segments,) where each segment
    starts. window_acf: from `window_autocorrelation`, as many lags as are to be looked at.
    """
    import scipy.fft

    n, n_bins = power.shape
    n_fft, n_lags = 2 * (n_bins - 1), len(window_acf)
    low_bins = int(np.ceil(HUM_HZ * n_fft / sample_rate_hz))
    voiced_band = power.copy()
    voiced_band[:, :low_bins] = 0.0
    acf = scipy.fft.irfft(voiced_band, n_fft, axis=1)[:, :n_lags]
    acf /= np.maximum(acf[:, :1], np.float32(1e-12)) * window_acf

    shortest = int(np.floor(sample_rate_hz / MAX_F0_HZ))
    longest = min(n_lags - 2, int(np.ceil(sample_rate_hz / MIN_F0_HZ)))
    middle = acf[:, shortest : longest + 1]
    is_peak = (middle >= acf[:, shortest - 1 : longest]) & (middle > acf[:, shortest + 1 : longest + 2])
    lags = np.arange(shortest, longest + 1)
    cost = (OCTAVE_COST * np.log2(lags / shortest)).astype(np.float32)
    score = np.where(is_peak, middle - cost, np.float32(-1.0))

    per_segment = np.diff(np.append(first_frame, n))
    segment = np.repeat(np.arange(len(first_frame)), per_segment)
    loud = frame_db > np.maximum.reduceat(frame_db, first_frame)[segment] - SILENCE_DB
    f0_hz, strength = _best(acf, score, shortest, sample_rate_hz)
    voiced = loud & (strength >= VOICING_THRESHOLD)

    q25, q75 = segment_quantiles(np.where(voiced, f0_hz, np.nan), segment, len(first_frame), (0.25, 0.75))
    fastest = sample_rate_hz / np.nan_to_num(CEILING_OF_Q75 * q75, nan=MAX_F0_HZ)
    slowest = sample_rate_hz / np.nan_to_num(FLOOR_OF_Q25 * q25, nan=MIN_F0_HZ)
    outside = (lags < fastest[segment, None]) | (lags > slowest[segment, None])
    score[outside] = -1.0
    f0_hz, strength = _best(acf, score, shortest, sample_rate_hz)
    voiced = loud & (strength >= VOICING_THRESHOLD)
    return Pitch(np.where(voiced, f0_hz, np.float32(np.nan)), np.where(voiced, strength, np.float32(0.0)))


def _best(
    acf: FloatArray, score: FloatArray, shortest: int, sample_rate_hz: int
) -> tuple[FloatArray, FloatArray]:
    """Frequency and height of the best peak of each frame, between the lags by a parabola."""
    choice = np.argmax(score, axis=1)
    rows = np.arange(len(acf))
    lag = choice + shortest
    before, at, after = acf[rows, lag - 1], acf[rows, lag], acf[rows, lag + 1]
    curvature = np.minimum(before - 2 * at + after, np.float32(-1e-9))
    shift = np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)
    height = np.where(score[rows, choice] > -1.0, at - 0.25 * (before - after) * shift, np.float32(0.0))
    frequency: FloatArray = (sample_rate_hz / (lag + shift)).astype(np.float32)
    return frequency, np.clip(height, 0.0, 1.0).astype(np.float32)


def segment_quantiles(
    values: FloatArray, segment: IntArray, n_segments: int, quantiles: tuple[float, ...]
) -> list[FloatArray]:
    """Quantiles of the finite values of each segment (linear between ranks), NaN where there are none.

    values: (n,); segment: (n,) ascending index of the segment of each value.
    """
    finite = np.isfinite(values)
    kept, owner = values[finite], segment[finite]
    order = np.lexsort((kept, owner))
    ranked = kept[order]
    count = np.bincount(owner, minlength=n_segments)
    first = np.concatenate(([0], np.cumsum(count)[:-1]))
    found: list[FloatArray] = []
    for quantile in quantiles:
        if ranked.size == 0:
            found.append(np.full(n_segments, np.nan, dtype=np.float32))
            continue
        rank = quantile * np.maximum(count - 1, 0)
        below = np.floor(rank).astype(np.intp)
        above = np.minimum(below + 1, np.maximum(count - 1, 0))
        share = (rank - below).astype(np.float32)
        top = ranked.size - 1
        low, high = ranked[np.minimum(first + below, top)], ranked[np.minimum(first + above, top)]
        value = low + share * (high - low)
        found.append(np.where(count > 0, value, np.nan).astype(np.float32))
    return found
