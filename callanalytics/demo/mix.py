"""Utterances on a time line: one call as two channels with gaps, overlap, hold music and line noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from callanalytics.demo.script import Between, Call, Interlude
from callanalytics.demo.synthetic_voices import SAMPLE_RATE_HZ
from callanalytics.records import FloatArray, Role

LEAD_S = 0.6  # the recorder starts before anybody speaks ...
TAIL_S = 0.8  # ... and stops after
OVERLAP_S = 0.7
# Pause between two speakers: log-normal, with this median and spread. Chosen to look like the gaps of
# real calls, most of them under a second; not fitted to any.
GAP_MEDIAN_S, GAP_SPREAD, GAP_LIMITS_S = 0.45, 0.45, (0.2, 1.4)
NOISE_DBFS = -58.0
HUM_HZ, HUM_DBFS = 60.0, -66.0
AGENT, CALLER = 0, 1  # channels


def mix_call(call: Call, spoken: list[FloatArray], rng: np.random.Generator) -> FloatArray:
    """Place the utterances of a call in time, with noise, tones and music between them.

    Args:
        call: what happens in which order.
        spoken: its utterances in order, float32 (n,) at 8 kHz.
        rng: for gaps and noise.

    Returns:
        float32 (2, n_samples) at 8 kHz within -1..1: row 0 is the agent, row 1 the caller. A masked stretch
        is exactly zero in both.
    """
    placed, masked, n_samples = _time_line(call, iter(spoken), rng)
    sides = _line_noise(n_samples, rng)
    for channel, start, sound in placed:
        sides[channel, start : start + len(sound)] += sound
    for start, stop in masked:
        sides[:, start:stop] = 0.0
    return np.clip(sides, np.float32(-1), np.float32(1))


Placed = list[tuple[int, int, FloatArray]]  # channel, first sample, sound


def _time_line(
    call: Call, spoken: Iterator[FloatArray], rng: np.random.Generator
) -> tuple[Placed, list[tuple[int, int]], int]:
    """Where every sound starts, which stretches are masked, and how long the call is, in samples."""
    placed: Placed = []
    masked: list[tuple[int, int]] = []
    now = _samples(LEAD_S)
    for event in call.events:
        if isinstance(event, Interlude):
            length = _samples(event.duration_s)
            if event.kind is Between.MASKED:
                masked.append((now + _samples(0.4), now + length))
            elif event.kind in _SOUNDS:
                make, channel = _SOUNDS[event.kind]
                placed.append((channel, now + _samples(0.4), make(length - _samples(0.4))))
            now += length
            continue
        sound = next(spoken)
        if event.overlaps:
            now -= _samples(OVERLAP_S)
        elif placed:
            gap_s = GAP_MEDIAN_S * float(np.exp(GAP_SPREAD * rng.standard_normal()))
            now += _samples(float(np.clip(gap_s, *GAP_LIMITS_S)))
        placed.append((AGENT if event.role is Role.AGENT else CALLER, now, sound))
        now += len(sound)
    return placed, masked, now + _samples(TAIL_S)


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)


def _line_noise(n_samples: int, rng: np.random.Generator) -> FloatArray:
    """Faint hiss on each side, and mains hum on the caller's: float32 (2, n_samples)."""
    noise = rng.standard_normal((2, n_samples)) * 10 ** (NOISE_DBFS / 20)
    at_s = np.arange(n_samples) / SAMPLE_RATE_HZ
    noise[CALLER] += np.sqrt(2) * 10 ** (HUM_DBFS / 20) * np.sin(2 * np.pi * HUM_HZ * at_s)
    return noise.astype(np.float32)


def _ring_back(n_samples: int) -> FloatArray:
    """North American ringing: 440 and 480 Hz, two seconds on and four off (Precise Tone Plan)."""
    at_s = np.arange(n_samples) / SAMPLE_RATE_HZ
    tone = 0.06 * (np.sin(2 * np.pi * 440 * at_s) + np.sin(2 * np.pi * 480 * at_s))
    return np.where(at_s % 6.0 < 2.0, tone, 0.0).astype(np.float32)


# A slow waltz on five notes: (MIDI note of the tune, MIDI notes of the chord) per beat of 0.42 s.
_TUNE = (76, 79, 81, 79, 76, 74, 72, 74, 76, 74, 69, 72, 74, 76, 79, 76, 74, 72, 69, 67, 69, 72, 74, 72)
_CHORDS = ((60, 64, 67), (57, 60, 64), (65, 69, 72), (67, 71, 74))
_BEAT_S = 0.42


def _hold_music(n_samples: int) -> FloatArray:
    """The tune of the waiting line, played on something between a celesta and a lift."""
    music = np.zeros(n_samples + _samples(4.0), dtype=np.float64)
    for beat in range(int(n_samples / SAMPLE_RATE_HZ / _BEAT_S) + 1):
        start = _samples(beat * _BEAT_S)
        notes = [(_TUNE[beat % len(_TUNE)], 1.0)]
        if beat % 3 == 0:
            notes += [(note, 0.55) for note in _CHORDS[beat // 3 % len(_CHORDS)]]
        for note, strength in notes:
            sound = strength * _pluck(440.0 * 2 ** ((note - 69) / 12))
            music[start : start + len(sound)] += sound
    music = music[:n_samples]
    fade = np.minimum(1.0, np.minimum(np.arange(n_samples), np.arange(n_samples)[::-1]) / _samples(0.5))
    faded: FloatArray = (0.22 * fade * music / np.abs(music).max()).astype(np.float32)
    return faded


def _pluck(pitch_hz: float) -> FloatArray:
    """One decaying note with four partials below the edge of the telephone band."""
    at_s = np.arange(_samples(1.8)) / SAMPLE_RATE_HZ
    partials = [(n, 1 / n**1.5) for n in (1, 2, 3, 4) if n * pitch_hz < 3400]
    sound = sum(
        weight * np.sin(2 * np.pi * n * pitch_hz * at_s) * np.exp(-2.2 * n * at_s) for n, weight in partials
    )
    return np.asarray(sound, dtype=np.float32)


# Which sound an interlude makes, and on whose side it is heard.
_SOUNDS: dict[Between, tuple[Callable[[int], FloatArray], int]] = {
    Between.RING: (_ring_back, CALLER),
    Between.MUSIC: (_hold_music, AGENT),
}
