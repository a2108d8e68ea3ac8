"""How loud: RMS level, BS.1770 loudness, peak, and the level's peaks as a proxy of the speaking rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from callanalytics.features.frames import FLOOR_DB, Stack, decibel
from callanalytics.records import FloatArray

if TYPE_CHECKING:
    from callanalytics.features.frames import BoolArray, IntArray

BLOCK_FRAMES = 25  # 400 ms, the gating block of BS.1770
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
OFFSET_LU = -0.691  # of BS.1770, so that a 997 Hz sine at full scale reads -3.01
PEAK_RANGE_DB, DIP_DB = 25.0, 2.0  # de Jong & Wempe 2009


def k_weight(frequency_hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Power response of the K-weighting filter, from the 48 kHz coefficients of ITU-R BS.1770-5."""
    z = np.exp(-2j * np.pi * frequency_hz / 48_000)
    shelf = (1.53512485958697 - 2.69169618940638 * z + 1.19839281085285 * z**2) / (
        1 - 1.69065929318241 * z + 0.73248077421585 * z**2
    )
    high_pass = (1 - 2 * z + z**2) / (1 - 1.99004745483398 * z + 0.99007225036621 * z**2)
    response: npt.NDArray[np.float64] = np.abs(shelf * high_pass) ** 2
    return response


def levels(stack: Stack, k_power: FloatArray) -> dict[str, FloatArray]:
    """Level columns; `k_power` is the K-weighted mean square of each frame, (n_frames,)."""
    return {
        "loudness_db": decibel(stack.mean_square),
        "loudness_max_db": np.maximum.reduceat(stack.frame_db, stack.first_frame),
        "loudness_std_db": stack.spread(stack.frame_db)[1],
        "loudness_lufs": gated_loudness(stack, k_power),
        "peak_db": decibel(stack.peak**2),
    }


def gated_loudness(stack: Stack, k_power: FloatArray) -> FloatArray:
    """BS.1770: the mean over blocks of 400 ms, of which those below -70 LUFS and then those 10 LU below
    the mean of the rest are left out. A block starts at every frame, finer than the standard's 100 ms.
    """
    total = np.concatenate(([0.0], np.cumsum(k_power, dtype=np.float64)))
    frame = np.arange(len(k_power))
    first = stack.first_frame[stack.segment]
    last = first + stack.n_frames[stack.segment]
    end = np.minimum(frame + BLOCK_FRAMES, last)
    block = (total[end] - total[frame]) / (end - frame)
    whole = (frame + BLOCK_FRAMES <= last) | (frame == first)  # a short segment is one block

    def mean_of(kept: BoolArray) -> npt.NDArray[np.float64]:
        count = np.add.reduceat(kept.astype(np.float64), stack.first_frame)
        power = np.add.reduceat(np.where(kept, block, 0.0), stack.first_frame)
        return np.asarray(power / np.maximum(count, 1.0))

    audible = whole & (block > 10 ** ((ABSOLUTE_GATE_LUFS - OFFSET_LU) / 10))
    loud = audible & (block > 10 ** (RELATIVE_GATE_LU / 10) * mean_of(audible)[stack.segment])
    lufs = OFFSET_LU + 10 * np.log10(np.maximum(mean_of(loud), 1e-12))
    return np.maximum(lufs, FLOOR_DB).astype(np.float32)


def syllable_peaks(frame_db: FloatArray, voiced: BoolArray, first_frame: IntArray) -> FloatArray:
    """Number of syllable-like peaks of the level in each segment, float32 (n_segments,).

    After de Jong & Wempe, "Praat script to detect syllable nuclei and measure speech rate automatically"
    (Behavior Research Methods 41, 2009): a peak of the smoothed level counts when it is voiced, less than
    25 dB below the segment's loudest, and followed by a dip of at least 2 dB before the next peak.
    """
    starts = np.zeros(len(frame_db), dtype=bool)
    starts[first_frame] = True
    segment = np.cumsum(starts) - 1
    inner = ~(starts[1:-1] | starts[2:])  # frames with both neighbours in the same segment
    smooth = frame_db.copy()
    smooth[1:-1] = np.where(inner, (frame_db[:-2] + frame_db[1:-1] + frame_db[2:]) / 3, frame_db[1:-1])
    loudest = np.maximum.reduceat(smooth, first_frame)
    top = np.zeros(len(frame_db), dtype=bool)
    top[1:-1] = inner & (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:])
    top &= voiced & (smooth > loudest[segment] - PEAK_RANGE_DB)
    peaks = np.flatnonzero(top)
    if peaks.size == 0:
        return np.zeros(len(first_frame), dtype=np.float32)
    # The lowest level from each peak to the next one, or to the end of its segment.
    cuts = np.union1d(peaks, first_frame)
    dip = np.minimum.reduceat(smooth, cuts)[np.searchsorted(cuts, peaks)]
    counted = segment[peaks[smooth[peaks] - dip >= DIP_DB]]
    return np.bincount(counted, minlength=len(first_frame)).astype(np.float32)
