"""Acoustic descriptors of every segment, for SQL: one short-time Fourier transform serves them all.

Frames are 48 ms every 16 ms (Hann), FFT 512 at 8 kHz: three frames of 16 ms long enough for a 65 Hz
voice, zero-padded so that the autocorrelation taken from the same spectrum does not wrap around.
Frames of many segments are stacked and reduced together; no Python runs per frame. Spectral centroid,
bandwidth, roll-off, zero-crossing rate, RMS, MFCC, deltas, chroma and flux equal librosa's (a test
proves it on the same frames); pitch is in `pitch.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from callanalytics.filterbanks import N_FFT, N_MELS, filter_banks
from callanalytics.pitch import segment_quantiles, track, window_autocorrelation
from callanalytics.records import Features, Segment

if TYPE_CHECKING:
    from callanalytics.records import FloatArray

    IntArray = npt.NDArray[np.intp]
    BoolArray = npt.NDArray[np.bool_]

RATE_HZ = 8_000
HOP = 128  # 16 ms
FRAME = 3 * HOP  # 48 ms: three periods of a 62.5 Hz voice (Boersma 1993)
N_MFCC = 13
N_CHROMA = 12
FLOOR_DB = -100.0
BLOCK_FRAMES = 2_048  # frames worked on at once: their spectra fit the L2 or L3 cache
ROLLOFF_SHARE = 0.85
DELTA_WIDTH = 9  # frames, librosa's default

_SPECTRAL_COMMENTS = {
    "zcr_share": "share of neighbouring samples that differ in sign, mean over frames",
    "centroid_hz": "spectral centroid in Hz, mean over frames (librosa.feature.spectral_centroid)",
    "bandwidth_hz": "spread of the spectrum around its centroid in Hz, mean over frames",
    "rolloff_hz": "frequency in Hz below which 85 % of the spectral magnitude lies, mean over frames",
    "flux_db": "mean rise of the mel spectrum from frame to frame in dB (librosa.onset.onset_strength)",
}
FEATURE_COMMENTS: dict[str, str] = {
    "loudness_db": "RMS level of the whole segment in dB relative to full scale",
    "loudness_max_db": "RMS level of the loudest frame (48 ms) in dB relative to full scale",
    "loudness_std_db": "standard deviation of the frame levels in dB",
    "loudness_lufs": "gated, K-weighted loudness in LUFS after ITU-R BS.1770",
    "peak_db": "highest absolute sample in dB relative to full scale",
    "f0_median_hz": "median pitch of the voiced frames in Hz, NULL or NaN when nothing is voiced",
    "f0_mean_hz": "mean pitch of the voiced frames in Hz, NaN when nothing is voiced",
    "f0_std_st": "standard deviation of the pitch in semitones, NaN when nothing is voiced",
    "f0_range_st": "pitch range between the 5th and the 95th percentile in semitones, NaN when unvoiced",
    "voiced_share": "share of frames with a pitch, 0 to 1",
    "hnr_db": "harmonics-to-noise ratio of the voiced frames in dB, NaN when nothing is voiced",
    "syllable_rate_hz": "loudness peaks of voiced frames per second, a proxy of the speaking rate",
    **_SPECTRAL_COMMENTS,
    **{
        f"mfcc_{i + 1:02d}_mean": f"mean of librosa's MFCC {i} (power in dB, 40 mel bands)"
        for i in range(N_MFCC)
    },
    **{f"mfcc_{i + 1:02d}_std": f"standard deviation of librosa's MFCC {i}" for i in range(N_MFCC)},
    **{f"mfcc_{i + 1:02d}_delta_mean": f"mean slope of MFCC {i} per frame of 16 ms" for i in range(N_MFCC)},
    **{
        f"mfcc_{i + 1:02d}_delta_std": f"standard deviation of the slope of MFCC {i} per frame of 16 ms"
        for i in range(N_MFCC)
    },
    **{
        f"chroma_{i + 1:02d}_mean": f"mean energy of pitch class {name}, 0 to 1, the strongest of a frame is 1"
        for i, name in enumerate(("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"))
    },
}
FEATURE_NAMES: tuple[str, ...] = tuple(FEATURE_COMMENTS)


def extract(samples: FloatArray, sample_rate_hz: int, segments: Sequence[Segment]) -> Features:
    """Describe each segment on its own channel.

    samples: float32 (n_channels, n_samples), -1..1, at 8 kHz. Returns Features with the names of
    FEATURE_NAMES, float32 (n_segments, len(FEATURE_NAMES)). Undefined values (the pitch of an
    unvoiced segment, the slope of one shorter than 9 frames) are NaN; everything else is finite,
    levels are not below -100 dB. The mean of each segment (a DC offset) is removed first.

    Raises ValueError for another sampling rate: the audio is decoded to 8 kHz.
    """
    if sample_rate_hz != RATE_HZ:
        raise ValueError(f"features are defined at {RATE_HZ} Hz, found {sample_rate_hz} Hz: decode first")
    values = np.full((len(segments), len(FEATURE_NAMES)), np.nan, dtype=np.float32)
    for first, last in _groups(segments):
        stack = _stack(samples, segments[first:last])
        columns = _describe(stack)
        for index, name in enumerate(FEATURE_NAMES):
            values[first:last, index] = columns[name]
    return Features(names=FEATURE_NAMES, values=values)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Several segments as hops of HOP samples one after the other.

    hops: float32 (n_hops, HOP). A frame is three hops in a row of one segment. `frame_hop` (n_frames,)
    is the hop where each frame starts; `first_frame`, `n_frames` (n_segments,) where its frames lie.
    """

    hops: FloatArray
    first_hop: IntArray
    frame_hop: IntArray
    first_frame: IntArray
    n_frames: IntArray
    duration_s: FloatArray

    @property
    def segment(self) -> IntArray:
        """Segment of each frame, (n_frames,)."""
        return np.repeat(np.arange(len(self.n_frames)), self.n_frames)


def _n_frames(n_samples: int) -> int:
    return max(1, 1 + (n_samples - FRAME) // HOP)


def _groups(segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    """Runs of segments with about BLOCK_FRAMES frames together."""
    first, n_frames = 0, 0
    for index, segment in enumerate(segments):
        n_frames += _n_frames(round(segment.duration_s * RATE_HZ))
        if n_frames >= BLOCK_FRAMES:
            yield first, index + 1
            first, n_frames = index + 1, 0
    if first < len(segments):
        yield first, len(segments)


def _stack(samples: FloatArray, segments: Sequence[Segment]) -> _Stack:
    pieces = [
        samples[s.channel, max(0, round(s.start_s * RATE_HZ)) : max(0, round(s.end_s * RATE_HZ))]
        for s in segments
    ]
    n_frames = np.array([_n_frames(len(piece)) for piece in pieces], dtype=np.intp)
    n_hops = n_frames + 2
    first_hop = np.concatenate(([0], np.cumsum(n_hops)[:-1])).astype(np.intp)
    flat = np.zeros(int(n_hops.sum()) * HOP, dtype=np.float32)
    for piece, hop, count in zip(pieces, first_hop, n_hops, strict=True):
        used = piece[: count * HOP]
        if used.size:
            np.subtract(used, used.mean(), out=flat[hop * HOP : hop * HOP + used.size])
    first_frame = np.concatenate(([0], np.cumsum(n_frames)[:-1])).astype(np.intp)
    frame_hop = np.arange(int(n_frames.sum())) + np.repeat(2 * np.arange(len(pieces)), n_frames)
    duration_s = np.array([max(len(piece), 1) / RATE_HZ for piece in pieces], dtype=np.float32)
    return _Stack(flat.reshape(-1, HOP), first_hop, frame_hop, first_frame, n_frames, duration_s)


@dataclass(frozen=True, slots=True)
class _Tables:
    """Constant matrices: everything that is linear in a spectrum is one product."""

    window: FloatArray
    window_acf: FloatArray
    of_power: FloatArray  # (n_bins, N_MELS + N_CHROMA + 1): mel, chroma, K-weighted mean square
    of_magnitude: FloatArray  # (n_bins, 3): sum, first and second moment in kHz
    cosines: FloatArray  # (N_MELS, N_MFCC): orthonormal DCT-II


@cache
def _tables() -> _Tables:
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)  # periodic Hann
    banks = filter_banks(RATE_HZ)
    bins_hz = np.arange(N_FFT // 2 + 1) * RATE_HZ / N_FFT
    both_sides = np.full(len(bins_hz), 2.0)
    both_sides[[0, -1]] = 1.0
    loudness = k_weight(bins_hz) * both_sides / (N_FFT * float(np.sum(window**2)))
    khz = bins_hz / 1000
    order, band = np.arange(N_MFCC)[None, :], np.arange(N_MELS)[:, None]
    cosines = np.sqrt(2 / N_MELS) * np.cos(np.pi * order * (2 * band + 1) / (2 * N_MELS))
    cosines[:, 0] /= np.sqrt(2)
    return _Tables(
        window=window,
        window_acf=window_autocorrelation(window, N_FFT, N_FFT - FRAME + 1),
        of_power=np.column_stack([banks.mel.T, banks.chroma.T, loudness]).astype(np.float32),
        of_magnitude=np.column_stack([np.ones_like(khz), khz, khz**2]).astype(np.float32),
        cosines=cosines.astype(np.float32),
    )


def k_weight(frequency_hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Power response of the K-weighting filter, from the 48 kHz coefficients of ITU-R BS.1770-5."""
    z = np.exp(-2j * np.pi * frequency_hz / 48_000)
    shelf = (1.53512485958697 - 2.69169618940638 * z + 1.19839281085285 * z**2) / (
        1 - 1.69065929318241 * z + 0.73248077421585 * z**2
    )
    high_pass = (1 - 2 * z + z**2) / (1 - 1.99004745483398 * z + 0.99007225036621 * z**2)
    return np.abs(shelf * high_pass) ** 2


def _describe(stack: _Stack) -> dict[str, FloatArray]:
    import scipy.fft

    tables = _tables()
    # A frame is three hops in a row, so a view of the flat signal with a stride of one hop holds them all.
    flat = stack.hops.reshape(-1)
    frames = np.lib.stride_tricks.as_strided(
        flat,
        (len(stack.hops) - 2, FRAME),
        (HOP * flat.itemsize, flat.itemsize),
        writeable=False,
    )[stack.frame_hop]
    spectrum = scipy.fft.rfft(frames * tables.window, N_FFT, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    linear = power @ tables.of_power
    mel, chroma, k_power = np.split(linear, [N_MELS, N_MELS + N_CHROMA], axis=1)

    levels = _levels(stack, k_power[:, 0])
    frame_db = _decibel(_frame_mean_square(stack))
    pitch = track(power, frame_db, stack.first_frame, tables.window_acf, RATE_HZ)
    return {
        **levels,
        "loudness_max_db": np.maximum.reduceat(frame_db, stack.first_frame),
        "loudness_std_db": _spread(stack, frame_db[:, None])[1][:, 0],
        **_pitch_columns(stack, pitch.f0_hz, pitch.strength),
        "syllable_rate_hz": syllable_peaks(frame_db, np.isfinite(pitch.f0_hz), stack.first_frame)
        / stack.duration_s,
        "zcr_share": _zero_crossings(stack),
        **_shape(stack, power),
        **_cepstrum(stack, mel),
        **_chroma(stack, chroma),
    }


def _decibel(power: FloatArray) -> FloatArray:
    """10 log10, not below FLOOR_DB."""
    found: FloatArray = 10 * np.log10(np.maximum(power, np.float32(10 ** (FLOOR_DB / 10))))
    return found


def _mean(stack: _Stack, per_frame: FloatArray) -> FloatArray:
    """Mean over the frames of each segment, (n_segments, ...)."""
    total = np.add.reduceat(per_frame, stack.first_frame, axis=0)
    mean: FloatArray = total / stack.n_frames.reshape(-1, *[1] * (per_frame.ndim - 1)).astype(np.float32)
    return mean


def _spread(stack: _Stack, per_frame: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation over the frames of each segment, each (n_segments, n_columns)."""
    mean = _mean(stack, per_frame)
    return mean, np.sqrt(_mean(stack, (per_frame - mean[stack.segment]) ** 2))


def _frame_mean_square(stack: _Stack) -> FloatArray:
    per_hop = np.einsum("ij,ij->i", stack.hops, stack.hops)
    start = stack.frame_hop
    total: FloatArray = (per_hop[start] + per_hop[start + 1] + per_hop[start + 2]) / np.float32(FRAME)
    return total


def _levels(stack: _Stack, k_power: FloatArray) -> dict[str, FloatArray]:
    n_hops = (stack.n_frames + 2).astype(np.float32)
    per_hop = np.einsum("ij,ij->i", stack.hops, stack.hops)
    mean_square = np.add.reduceat(per_hop, stack.first_hop) / (n_hops * HOP)
    peak = np.maximum.reduceat(np.abs(stack.hops).max(axis=1), stack.first_hop)
    return {
        "loudness_db": _decibel(mean_square),
        "loudness_lufs": _gated_loudness(stack, k_power),
        "peak_db": _decibel(peak**2),
    }


def _gated_loudness(stack: _Stack, k_power: FloatArray) -> FloatArray:
    """BS.1770: means over 400 ms (25 frames), those below -70 LUFS and then those 10 LU below the
    mean of the rest are left out. A block starts at every frame, which is finer than the standard."""
    width = 25
    total = np.concatenate(([0.0], np.cumsum(k_power, dtype=np.float64)))
    frame = np.arange(len(k_power))
    last = (stack.first_frame + stack.n_frames)[stack.segment]
    end = np.minimum(frame + width, last)
    mean_power = (total[end] - total[frame]) / (end - frame)
    whole = (frame + width <= last) | (frame == stack.first_frame[stack.segment])

    def mean_of(kept: BoolArray) -> npt.NDArray[np.float64]:
        count = np.add.reduceat(kept.astype(np.float64), stack.first_frame)
        power = np.add.reduceat(np.where(kept, mean_power, 0.0), stack.first_frame)
        return power / np.maximum(count, 1.0)

    audible = whole & (mean_power > 10 ** ((-70 + 0.691) / 10))
    loud = audible & (mean_power > 0.1 * mean_of(audible)[stack.segment])
    power = mean_of(loud)
    return np.maximum(-0.691 + 10 * np.log10(np.maximum(power, 1e-10)), FLOOR_DB).astype(np.float32)


def _zero_crossings(stack: _Stack) -> FloatArray:
    flat = stack.hops.reshape(-1)
    negative = np.where(np.abs(flat) <= 1e-10, False, np.signbit(flat))
    changed = np.concatenate(([0], np.cumsum(negative[1:] != negative[:-1])))
    start = stack.frame_hop * HOP
    per_frame = (changed[start + FRAME - 1] - changed[start]) / FRAME
    return _mean(stack, per_frame.astype(np.float32))


def _shape(stack: _Stack, power: FloatArray) -> dict[str, FloatArray]:
    """Centroid, bandwidth and roll-off of the magnitude spectrum."""
    magnitude = np.sqrt(power)
    total, first, second = (magnitude @ _tables().of_magnitude).T
    safe = np.maximum(total, np.float32(1e-20))
    centroid_khz = first / safe
    variance = np.maximum(second / safe - centroid_khz**2, 0.0)
    cumulative = np.cumsum(magnitude, axis=1)
    bin_index = np.argmax(cumulative >= np.float32(ROLLOFF_SHARE) * cumulative[:, -1:], axis=1)
    return {
        "centroid_hz": _mean(stack, 1000 * centroid_khz),
        "bandwidth_hz": _mean(stack, 1000 * np.sqrt(variance)),
        "rolloff_hz": _mean(stack, (bin_index * (RATE_HZ / N_FFT)).astype(np.float32)),
    }


def _cepstrum(stack: _Stack, mel: FloatArray) -> dict[str, FloatArray]:
    """MFCC with slopes, and the flux of the same mel spectrum."""
    mel_db = _decibel(mel)
    coefficients = mel_db @ _tables().cosines
    mean, std = _spread(stack, coefficients)
    slope_mean, slope_std = _spread(stack, _slopes(stack, coefficients))
    too_short = stack.n_frames < DELTA_WIDTH
    slope_mean[too_short], slope_std[too_short] = np.nan, np.nan

    rise = np.zeros(len(mel_db), dtype=np.float32)
    rise[1:] = np.maximum(mel_db[1:] - mel_db[:-1], 0.0).mean(axis=1)
    rise[stack.first_frame] = 0.0  # the step from one segment to the next is none
    columns = {"flux_db": _mean(stack, rise)}
    for name, table in (("mean", mean), ("std", std), ("delta_mean", slope_mean), ("delta_std", slope_std)):
        for index in range(N_MFCC):
            columns[f"mfcc_{index + 1:02d}_{name}"] = table[:, index]
    return columns


def _slopes(stack: _Stack, values: FloatArray) -> FloatArray:
    """Least-squares slope over 9 frames, at the ends that of the nearest full window: librosa's delta."""
    half = DELTA_WIDTH // 2
    slope = np.zeros_like(values)
    for step in range(1, half + 1):
        slope[half:-half] += step * (
            values[half + step : len(values) - half + step] - values[half - step : -half - step]
        )
    slope /= 2 * sum(step**2 for step in range(1, half + 1))
    first = stack.first_frame[stack.segment]
    last = first + stack.n_frames[stack.segment] - 1
    inside = np.minimum(np.maximum(np.arange(len(values)), first + half), np.maximum(last - half, first))
    return slope[inside]


def _chroma(stack: _Stack, chroma: FloatArray) -> dict[str, FloatArray]:
    strongest = chroma.max(axis=1, keepdims=True)
    mean = _mean(stack, chroma / np.where(strongest > 0, strongest, np.float32(1.0)))
    return {f"chroma_{i + 1:02d}_mean": mean[:, i] for i in range(N_CHROMA)}


def _pitch_columns(stack: _Stack, f0_hz: FloatArray, strength: FloatArray) -> dict[str, FloatArray]:
    voiced = np.isfinite(f0_hz)
    count = np.add.reduceat(voiced.astype(np.float32), stack.first_frame)
    enough = count > 0

    def voiced_mean(per_frame: FloatArray) -> FloatArray:
        total = np.add.reduceat(np.where(voiced, per_frame, np.float32(0.0)), stack.first_frame)
        return np.where(enough, total / np.maximum(count, 1), np.nan).astype(np.float32)

    semitones = (12 * np.log2(np.where(voiced, f0_hz, np.float32(1.0)))).astype(np.float32)
    centre = np.nan_to_num(voiced_mean(semitones))[stack.segment]
    periodic = np.clip(strength, 1e-6, 1 - 1e-6)
    n_segments = len(stack.n_frames)
    median, low, high = segment_quantiles(f0_hz, stack.segment, n_segments, (0.5, 0.05, 0.95))
    return {
        "f0_median_hz": median,
        "f0_mean_hz": voiced_mean(f0_hz),
        "f0_std_st": np.sqrt(voiced_mean((semitones - centre) ** 2)),
        "f0_range_st": (12 * np.log2(high / low)).astype(np.float32),
        "voiced_share": count / stack.n_frames.astype(np.float32),
        "hnr_db": voiced_mean((10 * np.log10(periodic / (1 - periodic))).astype(np.float32)),
    }


def syllable_peaks(frame_db: FloatArray, voiced: BoolArray, first_frame: IntArray) -> FloatArray:
    """Number of syllable-like peaks of the level in each segment, float32 (n_segments,).

    After de Jong & Wempe, "Praat script to detect syllable nuclei and measure speech rate automatically"
    (Behavior Research Methods 41, 2009): a peak of the smoothed level counts when it is voiced, less than
    25 dB below the segment's loudest, and followed by a dip of at least 2 dB before the next peak.
    """
    n = len(frame_db)
    starts = np.zeros(n, dtype=bool)
    starts[first_frame] = True
    smooth = frame_db.copy()
    inner = ~(starts[1:-1] | starts[2:])  # frames 1..n-2 with both neighbours in the same segment
    smooth[1:-1] = np.where(inner, (frame_db[:-2] + frame_db[1:-1] + frame_db[2:]) / 3, frame_db[1:-1])
    loudest = np.maximum.reduceat(smooth, first_frame)
    segment = np.cumsum(starts) - 1
    top = np.zeros(n, dtype=bool)
    top[1:-1] = inner & (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:])
    top &= voiced & (smooth > loudest[segment] - 25.0)
    peaks = np.flatnonzero(top)
    count: FloatArray = np.zeros(len(first_frame), dtype=np.float32)
    if peaks.size == 0:
        return count
    # Least level from each peak to the next one, or to the end of the segment when it comes first.
    cuts = np.union1d(peaks, first_frame)
    dip = np.minimum.reduceat(smooth, cuts)[np.searchsorted(cuts, peaks)]
    counted = peaks[smooth[peaks] - dip >= 2.0]
    np.add.at(count, segment[counted], 1.0)
    return count
