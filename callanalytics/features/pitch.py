"""Pitch of many frames at once, by normalised autocorrelation.

After Boersma, "Accurate short-term analysis of the fundamental frequency" (IFA Proceedings 17, 1993):
the autocorrelation of a windowed frame divided by that of its window, its highest peak, a small
preference for short lags. In place of his path search there is a second pass in which each segment is
searched only around the quartiles of its first pass (De Looze & Hirst, Speech Prosody 2008), which
removes most octave errors and needs no loop over frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from callanalytics.features.frames import FRAME, N_FFT, RATE_HZ, Stack
from callanalytics.records import FloatArray

if TYPE_CHECKING:
    from callanalytics.features.frames import IntArray

MIN_F0_HZ, MAX_F0_HZ = 65.0, 500.0
# Boersma has 0.45, 0.01 and 30 dB; these agree better with librosa's pyin on real calls and on emotional
# speech brought to 8 kHz, where noise and hum are the trouble.
VOICING_THRESHOLD = 0.55
OCTAVE_COST = 0.03  # per octave
SILENCE_DB = 25.0  # frames this far below the segment's loudest are not voiced
LOW_CUT_HZ = 100.0  # below lie hum and rumble; a telephone carries no fundamental there, only its harmonics
FLOOR_OF_Q25, CEILING_OF_Q75 = 0.75, 1.8  # of the first pass; De Looze & Hirst: 0.75 and 1.5
N_LAGS = N_FFT - FRAME + 1
_SHORTEST = int(RATE_HZ / MAX_F0_HZ)
_LONGEST = min(N_LAGS - 2, int(np.ceil(RATE_HZ / MIN_F0_HZ)))


@dataclass(frozen=True, slots=True)
class Pitch:
    """Per frame: f0_hz float32 (n,), NaN where unvoiced; periodicity float32 (n,), the height of the
    autocorrelation peak, which is the share of periodic power (0 where unvoiced)."""

    f0_hz: FloatArray
    periodicity: FloatArray


def periodic_hann(n: int) -> FloatArray:
    """The window of scipy and librosa for spectra."""
    window: FloatArray = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)
    return window


def autocorrelation_matrix() -> npt.NDArray[np.float64]:
    """(n_bins, N_LAGS): a power spectrum times this is the autocorrelation of the frame over that of
    its window (Wiener-Khinchin), without what lies below LOW_CUT_HZ."""
    window_power = np.abs(np.fft.rfft(periodic_hann(FRAME), N_FFT)) ** 2
    window_acf = np.fft.irfft(window_power, N_FFT)[:N_LAGS]
    bins, lags = np.arange(N_FFT // 2 + 1), np.arange(N_LAGS)
    both_sides = np.full(len(bins), 2.0 / N_FFT)
    both_sides[[0, -1]] = 1.0 / N_FFT
    both_sides[bins * RATE_HZ / N_FFT < LOW_CUT_HZ] = 0.0
    cosines = np.cos(2 * np.pi * np.outer(bins, lags) / N_FFT)
    return np.asarray(both_sides[:, None] * cosines * (window_acf[0] / window_acf))


def track(stack: Stack, autocorrelation: FloatArray) -> Pitch:
    """Track the pitch of every frame.

    Args:
        stack: the segments.
        autocorrelation: (n_frames, N_LAGS), a product with `autocorrelation_matrix`.
    """
    energy = np.maximum(autocorrelation[:, :1], np.float32(1e-12))
    acf: FloatArray = np.divide(autocorrelation, energy, dtype=np.float32)
    at = acf[:, _SHORTEST : _LONGEST + 1]
    before, after = acf[:, _SHORTEST - 1 : _LONGEST], acf[:, _SHORTEST + 1 : _LONGEST + 2]
    is_peak = (at >= before) & (at > after)
    lags = np.arange(_SHORTEST, _LONGEST + 1, dtype=np.float32)
    # Heights are compared between the samples (parabola): else twice the period, which may fall nearer to
    # a whole lag, would win over the period itself.
    bend = np.maximum(2 * at - before - after, np.float32(1e-9))
    height = at + (before - after) ** 2 / (8 * bend) - np.float32(OCTAVE_COST) * np.log2(lags / _SHORTEST)
    score: FloatArray = np.where(is_peak, height, np.float32(-1.0)).astype(np.float32, copy=False)

    loudest = np.maximum.reduceat(stack.frame_db, stack.first_frame)[stack.segment]
    loud = stack.frame_db > loudest - np.float32(SILENCE_DB)
    f0_hz, periodicity = _best(acf, score)
    voiced = loud & (periodicity >= VOICING_THRESHOLD)

    n_segments = len(stack.n_frames)
    first_pass = np.where(voiced, f0_hz, np.float32(np.nan))
    q25, q75 = segment_quantiles(first_pass, stack.segment, n_segments, (0.25, 0.75))
    shortest = RATE_HZ / np.nan_to_num(CEILING_OF_Q75 * q75, nan=MAX_F0_HZ)
    longest = RATE_HZ / np.nan_to_num(FLOOR_OF_Q25 * q25, nan=MIN_F0_HZ)
    allowed = (lags >= shortest[:, None]) & (lags <= longest[:, None])  # (n_segments, n_lags)
    score[~allowed[stack.segment]] = -1.0
    f0_hz, periodicity = _best(acf, score)
    voiced = loud & (periodicity >= VOICING_THRESHOLD)
    return Pitch(np.where(voiced, f0_hz, np.float32(np.nan)), np.where(voiced, periodicity, np.float32(0.0)))


def _best(acf: FloatArray, score: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Frequency and height of the best peak of each frame, found between the lags by a parabola."""
    choice = np.argmax(score, axis=1)
    rows = np.arange(len(acf))
    lag = choice + _SHORTEST
    before, at, after = acf[rows, lag - 1], acf[rows, lag], acf[rows, lag + 1]
    curvature = np.minimum(before - 2 * at + after, np.float32(-1e-9))
    shift = np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)
    height = np.where(score[rows, choice] > -1.0, at - 0.25 * (before - after) * shift, 0.0)
    frequency: FloatArray = (RATE_HZ / (lag + shift)).astype(np.float32)
    return frequency, np.clip(height, 0.0, 1.0).astype(np.float32)


def pitch_columns(stack: Stack, pitch: Pitch) -> dict[str, FloatArray]:
    """Pitch, voicing and harmonicity of each segment; NaN where no frame is voiced."""
    voiced = np.isfinite(pitch.f0_hz)
    count = np.add.reduceat(voiced.astype(np.float32), stack.first_frame)

    def voiced_mean(per_frame: FloatArray) -> FloatArray:
        total = np.add.reduceat(np.where(voiced, per_frame, np.float32(0.0)), stack.first_frame)
        return np.where(count > 0, total / np.maximum(count, 1.0), np.nan).astype(np.float32)

    semitones = 12 * np.log2(np.where(voiced, pitch.f0_hz, np.float32(1.0)))
    middle = np.nan_to_num(voiced_mean(semitones))[stack.segment]
    # Boersma 1993: the peak's height r is the periodic share of the power, so HNR = r / (1 - r).
    share = np.clip(pitch.periodicity, 1e-4, 1 - 1e-4)
    n_segments = len(stack.n_frames)
    median, low, high = segment_quantiles(pitch.f0_hz, stack.segment, n_segments, (0.5, 0.05, 0.95))
    return {
        "f0_median_hz": median,
        "f0_mean_hz": voiced_mean(pitch.f0_hz),
        "f0_std_st": np.sqrt(voiced_mean((semitones - middle) ** 2)),
        "f0_range_st": 12 * np.log2(high / low),
        "voiced_share": count / stack.n_frames.astype(np.float32),
        "hnr_db": voiced_mean(10 * np.log10(share / (1 - share))),
    }


def segment_quantiles(
    values: FloatArray, segment: IntArray, n_segments: int, quantiles: tuple[float, ...]
) -> list[FloatArray]:
    """Quantiles of the finite values of each segment (linear between ranks), NaN where there are none.

    Args:
        values: (n,), NaN where undefined.
        segment: (n,) the segment of each value.
        n_segments: of the result.
        quantiles: 0..1.

    Returns:
        One float32 (n_segments,) per quantile.
    """
    finite = np.isfinite(values)
    kept, owner = values[finite], segment[finite]
    if kept.size == 0:
        return [np.full(n_segments, np.nan, dtype=np.float32) for _ in quantiles]
    ranked = kept[np.lexsort((kept, owner))]
    count = np.bincount(owner, minlength=n_segments)
    first = np.minimum(np.cumsum(count) - count, kept.size - 1)
    found: list[FloatArray] = []
    for quantile in quantiles:
        rank = quantile * np.maximum(count - 1, 0)
        below = np.floor(rank).astype(np.intp)
        low = ranked[first + below]
        high = ranked[first + np.minimum(below + 1, np.maximum(count - 1, 0))]
        value = low + (rank - below) * (high - low)
        found.append(np.where(count > 0, value, np.nan).astype(np.float32))
    return found
