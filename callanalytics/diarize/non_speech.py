"""What is on a channel besides voices: payment masking, tones, music.

All three are decided from the spectrum of 64 ms windows every 32 ms, without a model:
a *tone* is one or two steady frequencies that hold nearly all the power (ring-back, busy, DTMF, fax);
*music* is sound whose spectral peaks stand still for notes at a time and which never pauses as speech
does, though somebody may speak over it; *masking* is a run of exact zeros on a channel that is not used
to them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from callanalytics.diarize.vad import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE_HZ, IntArray, runs, widen
from callanalytics.records import BoolArray, FloatArray, Sound, SoundSpan

Bins = npt.NDArray[np.int16]  # FFT bins

# Lost packets leave shorter runs of zeros; nobody reads out a card number in less.
_MIN_MASK_S = 1.0
# Voice-over-IP gaps and synthetic speech fall to exact zeros at every pause: then zeros mean nothing.
_HABIT_RUN_S = 0.1
_HABIT_EVERY_S = 10.0
_FFT_SIZE = 512  # 15.6 Hz a bin; a tone fills five of them through the Hann window
_AUDIBLE_DB = -50.0
_LOWEST_TONE_BIN = 16  # 250 Hz: below, a voice's own pitch can stand alone
_TONE_SHARE = 0.95
_MIN_TONE_S = 0.25
# DTMF (ITU-T Q.23): one low and one high frequency, at least 40 ms, so two windows in a row.
_DTMF_LOW_HZ = (697, 770, 852, 941)
_DTMF_HIGH_HZ = (1209, 1336, 1477, 1633)
_MIN_DTMF_FRAMES = 2
# Music: share of windows in about 3 s that are loud, and of their peaks that stand still.
_MUSIC_WINDOW_S = 3.0
_MUSIC_LOUD_SHARE = 0.85
_MUSIC_STILL_SHARE = 0.5
_MUSIC_DROP_DB = 25.0
_N_PEAKS = 6
_STILL_FRAMES = 4  # 128 ms: longer than a voice holds its harmonics within one bin
_MIN_MUSIC_S = 4.0
_CLEAR_SPEECH = 0.9  # a frame that the voice detector is this sure of is not looked at
_BLOCK = 1024
ZERO_BLOCK = 1 << 20


def find_non_speech(
    samples: FloatArray, levels_db: FloatArray, probability: FloatArray, channels: tuple[int, ...]
) -> tuple[SoundSpan, ...]:
    """Spans of masking, tones and music, by start.

    Args:
        samples: (n_channels, n) at 8 kHz.
        levels_db, probability: (n_channels, n_frames) level and speech probability of the frames.
        channels: what the rows are called in the spans.
    """
    spans: list[SoundSpan] = []
    for row, channel in enumerate(channels):
        spans += [SoundSpan(Sound.MASKED, channel, a, b) for a, b in _masked(samples[row])]
        peaks, share = _peaks(samples[row], levels_db[row], probability[row])
        tone = _tone_frames(peaks, share)
        spans += [SoundSpan(Sound.TONE, channel, a, b) for a, b in _spans(tone)]
        music = _music_frames(peaks, levels_db[row]) & ~widen(tone, round(0.5 / FRAME_S))
        spans += [SoundSpan(Sound.MUSIC, channel, a, b) for a, b in _spans(music) if b - a >= _MIN_MUSIC_S]
    return tuple(sorted(spans, key=lambda span: (span.start_s, span.channel)))


def covered_frames(spans: tuple[SoundSpan, ...], shape: tuple[int, ...]) -> tuple[BoolArray, BoolArray]:
    """Frames (n_channels, n_frames) that hide all voices, as masking and tones do, and frames of music.

    Args:
        spans: what was found, each on a channel of the shape.
        shape: (n_channels, n_frames).
    """
    blocked, music = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    for span in spans:
        frames = music if span.kind is Sound.MUSIC else blocked
        frames[span.channel, round(span.start_s / FRAME_S) : round(span.end_s / FRAME_S)] = True
    return blocked, music


def _spans(mask: BoolArray) -> list[tuple[float, float]]:
    return [(round(float(a) * FRAME_S, 3), round(float(b) * FRAME_S, 3)) for a, b in runs(mask)]


def _masked(samples: FloatArray) -> list[tuple[float, float]]:
    """Runs of exact zeros of a second or more amid sound, on a channel that is not used to them."""
    zero = _zero_runs(samples)
    length_s = (zero[:, 1] - zero[:, 0]) / SAMPLE_RATE_HZ
    inner = (zero[:, 0] > 0) & (zero[:, 1] < len(samples))
    n_pauses = np.count_nonzero(inner & (length_s >= _HABIT_RUN_S))
    sounding_s = len(samples) / SAMPLE_RATE_HZ - float(length_s.sum())  # a hold says nothing of the pauses
    if n_pauses > max(3.0, sounding_s / _HABIT_EVERY_S):
        return []
    return [
        (float(start) / SAMPLE_RATE_HZ, float(end) / SAMPLE_RATE_HZ)
        for start, end in zero[inner & (length_s >= _MIN_MASK_S)]
    ]


def _zero_runs(samples: FloatArray) -> IntArray:
    """Half-open (start, end) samples of every run of `_HABIT_RUN_S` or more of exact zeros.

    Found block by block, since calls can be hours long and quantised sound is full of single zeros.
    """
    found: list[IntArray] = []
    begun: list[int] = []  # where the run began that the last block ended in
    for first in range(0, len(samples), ZERO_BLOCK):
        zero = samples[first : first + ZERO_BLOCK] == 0
        edges = np.concatenate([begun, np.flatnonzero(np.diff(zero, prepend=bool(begun))) + first])
        begun = edges[-1:].astype(int).tolist() if zero[-1] else []
        pairs = edges[: len(edges) - len(begun)].astype(np.int64).reshape(-1, 2)
        found.append(pairs[pairs[:, 1] - pairs[:, 0] >= _HABIT_RUN_S * SAMPLE_RATE_HZ])
    if begun and len(samples) - begun[0] >= _HABIT_RUN_S * SAMPLE_RATE_HZ:
        found.append(np.array([[begun[0], len(samples)]]))
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def _peaks(samples: FloatArray, levels_db: FloatArray, probability: FloatArray) -> tuple[Bins, FloatArray]:
    """The strongest spectral bins of every audible frame that is not clearly speech.

    Returns:
        bins: (n_frames, 6) FFT bins, strongest first, -1 where a frame was not looked at.
        share: (n_frames,) of the power that the two strongest bins with their neighbours hold.
    """
    import scipy.fft

    n_frames = len(levels_db)
    bins = np.full((n_frames, _N_PEAKS), -1, np.int16)
    share = np.zeros(n_frames, np.float32)
    if len(samples) < _FFT_SIZE:
        return bins, share
    windows = np.lib.stride_tricks.sliding_window_view(samples, _FFT_SIZE)[::FRAME_SAMPLES]
    looked = np.flatnonzero((levels_db > _AUDIBLE_DB) & (probability < _CLEAR_SPEECH))
    looked = looked[looked < len(windows)]
    hann = np.hanning(_FFT_SIZE).astype(np.float32)
    for first in range(0, len(looked), _BLOCK):
        at = looked[first : first + _BLOCK]
        spectrum = scipy.fft.rfft(windows[at] * hann, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        total = np.maximum(power.sum(axis=1), 1e-20)
        rows = np.arange(len(at))
        held = np.zeros(len(at), np.float32)
        for rank in range(_N_PEAKS):
            top = power.argmax(axis=1)
            bins[at, rank] = top
            around = np.clip(top[:, None] + np.arange(-2, 3), 0, power.shape[1] - 1)
            if rank < 2:
                held += np.take_along_axis(power, around, axis=1).sum(axis=1)
            power[rows[:, None], around] = 0
        share[at] = held / total
    return bins, share


def _tone_frames(bins: Bins, share: FloatArray) -> BoolArray:
    """Frames of steady tones, and of DTMF digits even when they are short."""
    pure = (share > _TONE_SHARE) & (bins[:, 0] >= _LOWEST_TONE_BIN)
    steady = pure.copy()
    steady[1:] &= np.abs(np.diff(bins[:, 0])) <= 1
    pair = np.sort(bins[:, :2], axis=1) * (SAMPLE_RATE_HZ / _FFT_SIZE)
    digit = pure & _near(pair[:, 0], _DTMF_LOW_HZ) & _near(pair[:, 1], _DTMF_HIGH_HZ)
    found = np.zeros(len(pure), np.bool_)
    for mask, shortest in ((steady, round(_MIN_TONE_S / FRAME_S)), (digit, _MIN_DTMF_FRAMES)):
        for start, end in runs(mask):
            if end - start >= shortest:
                found[start:end] = True
    # The windows at both ends hold the tone's edge and are not pure.
    grown: BoolArray = widen(found, 1)
    return grown


def _near(hz: FloatArray, wanted: tuple[int, ...]) -> BoolArray:
    bin_hz = SAMPLE_RATE_HZ / _FFT_SIZE
    near: BoolArray = np.abs(hz[:, None] - np.array(wanted)).min(axis=1) <= bin_hz
    return near


def _music_frames(bins: Bins, levels_db: FloatArray) -> BoolArray:
    """Frames inside stretches of about 3 s without pauses whose peaks stand still."""
    n_frames = len(levels_db)
    width = round(_MUSIC_WINDOW_S / FRAME_S)
    if n_frames < width:
        return np.zeros(n_frames, np.bool_)
    looked = bins[:, 0] >= 0
    # A peak stands still when a bin next to it is a peak in each of the next frames too.
    still = np.ones(bins.shape, np.bool_)
    for later in range(1, _STILL_FRAMES):
        following = np.roll(bins, -later, axis=0)
        following[-later:] = -9
        still &= (np.abs(bins[:, :, None] - following[:, None, :]) <= 1).any(axis=2)
    still_share = (still & looked[:, None]).mean(axis=1)
    audible = levels_db > _AUDIBLE_DB
    loud = audible & (
        levels_db > _moving_mean(np.where(audible, levels_db, _AUDIBLE_DB), width) - _MUSIC_DROP_DB
    )
    dense = _moving_mean((loud & looked).astype(np.float64), width) > _MUSIC_LOUD_SHARE
    held = _moving_mean(still_share, width) > _MUSIC_STILL_SHARE
    return widen(dense & held, width // 4) & widen(looked, 2)


def _moving_mean(values: FloatArray, width: int) -> FloatArray:
    """Mean over `width` frames around each, fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    at = np.arange(len(values))
    begin, end = np.maximum(0, at - width // 2), np.minimum(len(values), at + width - width // 2)
    mean: FloatArray = (sums[end] - sums[begin]) / (end - begin)
    return mean
