"""How the voices lie in the audio: true stereo, one signal twice, or one dead channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callanalytics.diarize.vad import FRAME_SAMPLES, SAMPLE_RATE_HZ, SILENCE_DB, FloatArray
from callanalytics.records import ChannelLayout

# A channel is dead when its loudest second of frames stays below this...
_DEAD_DB = -60.0
# ...or when its loudest second is this much below that of the other side: line noise and leak only.
_DEAD_BELOW_OTHER_DB = 45.0
# Share of the power of one channel that the scaled other one explains before they are one signal.
# Two sides of a call with strong leak explain well under half; a stereo codec leaves 1-2 % noise.
_SAME_SIGNAL_SHARE = 0.95
_MAX_SHIFT_SAMPLES = round(0.02 * SAMPLE_RATE_HZ)
_PROBE_SAMPLES = 10 * SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout, and the channel to listen to when only one carries voices (else 0)."""

    kind: ChannelLayout
    channel: int = 0


def find_layout(samples: FloatArray, levels_db: FloatArray, hint: ChannelLayout | None) -> Layout:
    """Decide how the voices lie.

    Args:
        samples: (1 or 2, n).
        levels_db: (1 or 2, n_frames) frame levels of the same audio.
        hint: PAIR when the channels came from two files; kept unless one of them is dead.
    """
    if samples.shape[0] == 1:
        return Layout(ChannelLayout.MONO)
    loudest = [_loudest_second_db(levels) for levels in levels_db]
    louder = int(np.argmax(loudest))
    quieter = loudest[1 - louder]
    if quieter < max(_DEAD_DB, loudest[louder] - _DEAD_BELOW_OTHER_DB):
        return Layout(ChannelLayout.ONE_SIDED, louder)
    if _same_signal(samples, levels_db):
        return Layout(ChannelLayout.FAKE_STEREO, louder)
    return Layout(ChannelLayout.PAIR if hint is ChannelLayout.PAIR else ChannelLayout.STEREO)


def _loudest_second_db(levels_db: FloatArray) -> float:
    """Level reached by the loudest 31 frames (1 s), or by half of them in a shorter recording."""
    n = len(levels_db)
    if n == 0:
        return SILENCE_DB
    rank = min(SAMPLE_RATE_HZ // FRAME_SAMPLES, max(1, n // 2))
    return float(np.partition(levels_db, n - rank)[n - rank])


def _same_signal(samples: FloatArray, levels_db: FloatArray) -> bool:
    """Whether both channels carry one signal, possibly scaled, inverted or shifted by up to 20 ms.

    Probed where each channel is loudest: two voices cannot both explain each other there.
    """
    return all(_explained_share(samples, _loudest_start(levels)) > _SAME_SIGNAL_SHARE for levels in levels_db)


def _loudest_start(levels_db: FloatArray) -> int:
    """First sample of the 10 s with the most power."""
    power = 10.0 ** (levels_db.astype(np.float64) / 10)
    width = min(len(power), _PROBE_SAMPLES // FRAME_SAMPLES)
    sums = np.cumsum(np.concatenate([[0.0], power]))
    return int(np.argmax(sums[width:] - sums[:-width])) * FRAME_SAMPLES


def _explained_share(samples: FloatArray, start: int) -> float:
    """Highest squared correlation of the two channels over the shifts, in one 10 s stretch."""
    left, right = samples[:, start : start + _PROBE_SAMPLES].astype(np.float64)
    left, right = left - left.mean(), right - right.mean()
    size = 1 << (len(left) + _MAX_SHIFT_SAMPLES).bit_length()
    crossed = np.fft.irfft(np.fft.rfft(left, size) * np.conj(np.fft.rfft(right, size)), size)
    near = np.concatenate([crossed[: _MAX_SHIFT_SAMPLES + 1], crossed[-_MAX_SHIFT_SAMPLES:]])
    power = float(left @ left) * float(right @ right)
    return float(np.max(near**2) / power) if power > 0 else 0.0
