"""What the spectrum looks like: centroid, bandwidth, roll-off, zero crossings, MFCC, flux, chroma.

Each equals librosa's descriptor of the same frames (tests/audio/test_features.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from callanalytics.features.descriptors import N_MFCC
from callanalytics.features.frames import FRAME, HOP, N_FFT, RATE_HZ, Stack, decibel
from callanalytics.features.loudness import k_weight
from callanalytics.features.pitch import autocorrelation_matrix, periodic_hann
from callanalytics.records import FloatArray

N_MELS, N_CHROMA = 40, 12
FILTER_BANKS = Path(__file__).with_name("filterbanks.npz")
ROLLOFF_SHARE = 0.85  # librosa's default
DELTA_FRAMES = 9  # librosa's default
ZERO = 1e-10  # librosa takes samples this small as zero when it counts crossings


@dataclass(frozen=True, slots=True)
class Spectra:
    """What the descriptors need of each frame, float32 (n_frames, ...)."""

    power: FloatArray  # (n_frames, N_FFT // 2 + 1)
    mel: FloatArray  # (n_frames, N_MELS)
    chroma: FloatArray  # (n_frames, N_CHROMA)
    k_power: FloatArray  # (n_frames,) K-weighted mean square
    autocorrelation: FloatArray  # (n_frames, n_lags), of the windowed frame, not normalised


@dataclass(frozen=True, slots=True)
class _Tables:
    """Everything that is linear in a spectrum is one matrix product."""

    window: FloatArray
    of_power: FloatArray  # (n_bins, N_MELS + N_CHROMA + 1 + n_lags)
    of_magnitude: FloatArray  # (n_bins, 3): sum, first and second moment in kHz
    cosines: FloatArray  # (N_MELS, N_MFCC): orthonormal DCT-II


@cache
def _tables() -> _Tables:
    window = periodic_hann(FRAME)
    # librosa's mel (Slaney) and chroma (Ellis, A at 440 Hz) filters; importing librosa for two small matrices
    # costs a worker 1 s and 130 MB. benchmarks/filterbanks.py makes the file.
    with np.load(FILTER_BANKS, allow_pickle=False) as banks:
        mel, chroma = banks["mel"], banks["chroma"]  # (N_MELS, n_bins), (N_CHROMA, n_bins)
    bins_hz = np.arange(N_FFT // 2 + 1) * RATE_HZ / N_FFT
    both_sides = np.full(len(bins_hz), 2.0)
    both_sides[[0, -1]] = 1.0
    mean_square = k_weight(bins_hz) * both_sides / (N_FFT * float(np.sum(window**2)))  # Parseval
    khz = bins_hz / 1000  # keeps the second moment within what float32 resolves
    order, band = np.arange(N_MFCC)[None, :], np.arange(N_MELS)[:, None]
    cosines = np.sqrt(2 / N_MELS) * np.cos(np.pi * order * (2 * band + 1) / (2 * N_MELS))
    cosines[:, 0] /= np.sqrt(2)
    parts = [mel.T, chroma.T, mean_square[:, None], autocorrelation_matrix()]
    return _Tables(
        window=window,
        of_power=np.hstack(parts).astype(np.float32),
        of_magnitude=np.column_stack([np.ones_like(khz), khz, khz**2]).astype(np.float32),
        cosines=cosines.astype(np.float32),
    )


def spectra(stack: Stack) -> Spectra:
    """One Fourier transform and one matrix product for everything."""
    import scipy.fft

    tables = _tables()
    spectrum = scipy.fft.rfft(stack.windowed(tables.window), axis=1, overwrite_x=True)
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    columns = power @ tables.of_power
    mel, chroma, k_power, autocorrelation = np.split(columns, np.cumsum([N_MELS, N_CHROMA, 1]), axis=1)
    return Spectra(power, mel, chroma, k_power[:, 0], autocorrelation)


def zero_crossings(stack: Stack) -> FloatArray:
    """Share of sign changes, mean over the frames of each segment (librosa.feature.zero_crossing_rate)."""
    flat = stack.hops.reshape(-1)
    negative = flat < -ZERO
    changed = np.concatenate(([0], np.cumsum(negative[1:] != negative[:-1])))
    at = stack.frame_hop * HOP
    return stack.mean(((changed[at + FRAME - 1] - changed[at]) / FRAME).astype(np.float32))


def shape(stack: Stack, power: FloatArray) -> dict[str, FloatArray]:
    """Centroid, bandwidth and roll-off of the magnitude spectrum, means over frames."""
    magnitude = np.sqrt(power)
    total, first, second = (magnitude @ _tables().of_magnitude).T
    total = np.maximum(total, np.float32(1e-20))  # silence has its centroid at 0
    centroid_khz = first / total
    variance = np.maximum(second / total - centroid_khz**2, np.float32(0.0))
    np.cumsum(magnitude, axis=1, out=magnitude)
    reached = magnitude >= np.float32(ROLLOFF_SHARE) * magnitude[:, -1:]
    rolloff_hz = (np.argmax(reached, axis=1) * (RATE_HZ / N_FFT)).astype(np.float32)
    return {
        "centroid_hz": 1000 * stack.mean(centroid_khz),
        "bandwidth_hz": 1000 * stack.mean(np.sqrt(variance)),
        "rolloff_hz": stack.mean(rolloff_hz),
    }


def cepstrum(stack: Stack, mel: FloatArray) -> dict[str, FloatArray]:
    """MFCC and their slopes, and the flux of the same mel spectrum (librosa.onset.onset_strength)."""
    mel_db = decibel(mel)
    rise = np.zeros(len(mel_db), dtype=np.float32)
    rise[1:] = np.maximum(mel_db[1:] - mel_db[:-1], 0.0).mean(axis=1)
    rise[stack.first_frame] = 0.0  # from one segment to the next is no rise
    columns = {"flux_db": stack.mean(rise)}

    coefficients = mel_db @ _tables().cosines
    mean, std = stack.spread(coefficients)
    slope_mean, slope_std = stack.spread(_slopes(stack, coefficients))
    undefined = stack.n_frames < DELTA_FRAMES
    slope_mean[undefined], slope_std[undefined] = np.nan, np.nan
    tables = {"mean": mean, "std": std, "delta_mean": slope_mean, "delta_std": slope_std}
    for kind, table in tables.items():
        columns |= {f"mfcc_{i + 1:02d}_{kind}": table[:, i] for i in range(N_MFCC)}
    return columns


def _slopes(stack: Stack, values: FloatArray) -> FloatArray:
    """Least-squares slope over 9 frames; at the ends that of the nearest whole window (librosa's delta)."""
    half = DELTA_FRAMES // 2
    n = len(values)
    slope = np.zeros_like(values)
    if n < DELTA_FRAMES:
        return slope
    for step in range(1, half + 1):
        later, earlier = values[half + step : n - half + step], values[half - step : n - half - step]
        slope[half : n - half] += np.float32(step) * (later - earlier)
    slope /= np.float32(2 * sum(step**2 for step in range(1, half + 1)))
    first = stack.first_frame[stack.segment]
    last = first + stack.n_frames[stack.segment] - 1
    nearest = np.maximum(np.minimum(np.arange(n), last - half), np.minimum(first + half, last))
    at_nearest: FloatArray = slope[nearest]
    return at_nearest


def chroma_means(stack: Stack, chroma: FloatArray) -> dict[str, FloatArray]:
    """Pitch classes, each frame scaled so that its strongest is 1 (librosa.feature.chroma_stft)."""
    strongest = chroma.max(axis=1, keepdims=True)
    smallest = np.finfo(np.float32).tiny
    chroma /= np.where(strongest > smallest, strongest, np.float32(1.0))
    mean = stack.mean(chroma)
    return {f"chroma_{i + 1:02d}_mean": mean[:, i] for i in range(N_CHROMA)}
