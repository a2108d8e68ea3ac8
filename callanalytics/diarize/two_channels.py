"""Two-channel recordings: true stereo or not, and the speech of each channel without the other side's leak.

A headset, a handset or a hybrid lets one voice into the other's channel, delayed and 10 to 40 dB
down; voice activity alone counts it as speech (68 % error on calls with bleed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callanalytics.diarize.vad import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE_HZ, SILENCE_DB, IntArray, above
from callanalytics.records import BoolArray, ChannelLayout, FloatArray

# Two thresholds of Silero's authors: enter at 0.5, leave 0.15 lower.
ON, OFF = 0.5, 0.35
# Speech of one person stays within this many dB below their loud frames (the 90th percentile).
_SPEECH_RANGE_DB = 35.0
# Both people of a call are audible: the quieter one's loud frames are at most this far below.
_SIDE_RANGE_DB = 20.0
# Without proof of leak a frame is still dropped when the other side is this much louder.
_MASKING_DB = 20.0
_LEAK_MARGIN_DB = 6.0
_LEAK_CORRELATION = 0.5
_LEAK_PROBES = 40
_PROBE_FRAMES = round(0.5 / FRAME_S)
_MAX_DELAY_SAMPLES = round(0.25 * SAMPLE_RATE_HZ)
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


@dataclass(frozen=True, slots=True)
class SideActivity:
    """Which frames of which side hold its own voice.

    active: (2, n_frames) bool. leak_db: per receiving channel, how far the other side's voice
    arrives below itself; None where no leak was found.
    """

    active: BoolArray
    leak_db: tuple[float | None, float | None]


def side_activity(samples: FloatArray, levels_db: FloatArray, probability: FloatArray) -> SideActivity:
    """Own speech of both channels: (2, n) samples, (2, n_frames) levels and speech probabilities."""
    speech = np.stack([above(p, on=ON, off=OFF) for p in probability])
    speech &= levels_db > _speech_floors_db(levels_db, speech)[:, None]
    active = speech.copy()
    leaks: list[float | None] = []
    for side in (0, 1):
        other = 1 - side
        leak_db = _leak_db(samples, levels_db, speech, into=side)
        leaks.append(leak_db)
        threshold_db = _MASKING_DB if leak_db is None else min(leak_db - _LEAK_MARGIN_DB, _MASKING_DB)
        # The echo of a frame reaches into the next ones.
        loudest = np.maximum.reduce([_later(levels_db[other], by) for by in (0, 1, 2, 4, 6)])
        active[side] &= levels_db[side] > loudest - threshold_db
    return SideActivity(active, (leaks[0], leaks[1]))


def _later(levels_db: FloatArray, n_frames: int) -> FloatArray:
    """The levels `n_frames` later, the first one held at the start."""
    return levels_db[np.maximum(0, np.arange(len(levels_db)) - n_frames)]


def _speech_floors_db(levels_db: FloatArray, speech: BoolArray) -> FloatArray:
    """Per channel, the level below which a frame is not that person's speech."""
    loud = np.array(
        [np.percentile(db[m], 90) if m.any() else -np.inf for db, m in zip(levels_db, speech, strict=True)]
    )
    loud = np.maximum(loud, loud.max() - _SIDE_RANGE_DB)
    floors: FloatArray = (loud - _SPEECH_RANGE_DB).astype(np.float32)
    return floors


def _leak_db(samples: FloatArray, levels_db: FloatArray, speech: BoolArray, *, into: int) -> float | None:
    """How far below itself the other side's voice arrives in channel `into`; None without leak.

    Proof is waveform correlation: in half-second probes where the other side is louder and both
    channels seem to speak, the best correlation over delays up to 250 ms.
    """
    other = 1 - into
    both = speech[into] & speech[other] & (levels_db[other] > levels_db[into] + _LEAK_MARGIN_DB)
    starts = _probe_starts(both)
    if len(starts) == 0:
        return None
    length = _PROBE_FRAMES * FRAME_SAMPLES
    at = starts[:, None] * FRAME_SAMPLES + np.arange(length)
    # The last frame of a recording may be cut short: its end is held.
    sent, got = (samples[side].take(at, mode="clip").astype(np.float64) for side in (other, into))
    sent -= sent.mean(axis=1, keepdims=True)
    got -= got.mean(axis=1, keepdims=True)
    size = 1 << (length + _MAX_DELAY_SAMPLES).bit_length()
    crossed = np.fft.irfft(np.fft.rfft(got, size) * np.conj(np.fft.rfft(sent, size)), size)
    delayed = np.abs(crossed[:, :_MAX_DELAY_SAMPLES]).max(axis=1)
    power = np.sqrt((sent**2).sum(axis=1) * (got**2).sum(axis=1))
    correlation = delayed / np.maximum(power, 1e-12)
    if float(np.median(correlation)) < _LEAK_CORRELATION:
        return None
    ratio = (sent**2).sum(axis=1) / np.maximum((got**2).sum(axis=1), 1e-12)
    return float(np.median(10 * np.log10(ratio[correlation >= _LEAK_CORRELATION])))


def _probe_starts(both: BoolArray) -> IntArray:
    """Up to `_LEAK_PROBES` first frames, spread over the call, of half seconds mostly in `both`."""
    n_probes = len(both) // _PROBE_FRAMES
    share = both[: n_probes * _PROBE_FRAMES].reshape(n_probes, _PROBE_FRAMES).mean(axis=1)
    found = np.flatnonzero(share >= 0.5)
    if len(found) > _LEAK_PROBES:
        found = found[np.linspace(0, len(found) - 1, _LEAK_PROBES).astype(np.int64)]
    return found * _PROBE_FRAMES
