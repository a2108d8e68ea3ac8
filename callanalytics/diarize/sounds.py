"""What is on a channel besides voices: payment masking, tones, music."""

from __future__ import annotations

import numpy as np

from callanalytics.records import Sound, SoundSpan
from callanalytics.speech import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE_HZ, BoolArray, FloatArray, runs

# Lost packets leave shorter runs of zeros; nobody reads out a card number in less.
_MIN_MASK_S = 1.0
# Voice-over-IP gaps and synthetic speech fall to exact zeros at every pause: then zeros mean nothing.
_HABIT_RUN_S = 0.1
_HABIT_EVERY_S = 10.0
# Band of the telephone channel where tones are looked for, and the grid of 15.6 Hz.
_FFT_SIZE = 512
_AUDIBLE_DB = -55.0
_TONE_SHARE = 0.85
_TONE_MIN_S = 0.4
_MUSIC_WINDOW_S = 4.0
_MUSIC_SHARE = 0.75
_MUSIC_MIN_S = 3.0


def find_sounds(
    samples: FloatArray, levels_db: FloatArray, probability: FloatArray, channels: tuple[int, ...]
) -> tuple[SoundSpan, ...]:
    """Spans of masking, tones and music per channel, by start.

    Args:
        samples: (n_channels, n) at 8 kHz.
        levels_db, probability: (n_channels, n_frames) level and speech probability of the frames.
    """
    spans: list[SoundSpan] = []
    for row, channel in enumerate(channels):
        spans += _masked(samples[row], channel)
        spans += _tones(samples[row], levels_db[row], channel)
    return tuple(sorted(spans, key=lambda span: (span.start_s, span.channel)))


def blocked_frames(spans: tuple[SoundSpan, ...], channel: int, n_frames: int) -> BoolArray:
    """Frames of a channel that lie in one of its spans: no speech there."""
    blocked = np.zeros(n_frames, np.bool_)
    for span in spans:
        if span.channel == channel:
            blocked[round(span.start_s / FRAME_S) : round(span.end_s / FRAME_S)] = True
    return blocked


def _masked(samples: FloatArray, channel: int) -> list[SoundSpan]:
    """Runs of exact zeros of a second or more amid sound, on a channel that is not used to them."""
    zero = runs(samples == 0)
    length_s = (zero[:, 1] - zero[:, 0]) / SAMPLE_RATE_HZ
    n = len(samples)
    inner = (zero[:, 0] > 0) & (zero[:, 1] < n)
    n_pauses = np.count_nonzero(inner & (length_s >= _HABIT_RUN_S))
    if n_pauses > max(3.0, n / SAMPLE_RATE_HZ / _HABIT_EVERY_S):
        return []
    return [
        SoundSpan(Sound.MASKED, channel, float(start) / SAMPLE_RATE_HZ, float(end) / SAMPLE_RATE_HZ)
        for start, end in zero[inner & (length_s >= _MIN_MASK_S)]
    ]


def _tones(samples: FloatArray, levels_db: FloatArray, channel: int) -> list[SoundSpan]:
    """One or two steady frequencies that hold nearly all the power."""
    n_frames = len(levels_db) - 1
    loud = np.flatnonzero(levels_db[:n_frames] > _AUDIBLE_DB)
    pure = np.zeros(len(levels_db), np.bool_)
    pitch = np.zeros(len(levels_db), np.int64)
    if n_frames < 2 or len(loud) == 0:
        return []
    window = np.hanning(_FFT_SIZE).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FFT_SIZE)[::FRAME_SAMPLES]
    loud = loud[loud < len(frames)]
    for first in range(0, len(loud), 4096):
        at = loud[first : first + 4096]
        power = np.abs(np.fft.rfft(frames[at] * window, axis=1)) ** 2
        total = power.sum(axis=1)
        rows = np.arange(len(at))
        held = np.zeros(len(at))
        peak = power.argmax(axis=1)
        pitch[at] = peak
        for _ in range(2):
            top = power.argmax(axis=1)
            for shift in (-2, -1, 0, 1, 2):
                bins = np.clip(top + shift, 0, power.shape[1] - 1)
                held += power[rows, bins]
                power[rows, bins] = 0
        pure[at] = held > 0.97 * total
    steady = np.zeros(len(pure), np.bool_)
    steady[1:] = np.abs(np.diff(pitch)) <= 1
    spans = []
    for start, end in runs(pure & steady):
        if (end - start) * FRAME_S >= _TONE_MIN_S:
            spans.append(SoundSpan(Sound.TONE, channel, float(start) * FRAME_S, float(end) * FRAME_S))
    return spans
