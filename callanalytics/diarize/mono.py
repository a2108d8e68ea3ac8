"""Who spoke when on one channel: speech, voice prints, clustering, overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callanalytics.diarize import segmentation
from callanalytics.diarize.clusters import cluster_voices
from callanalytics.diarize.embedding import HOP_SAMPLES, log_mels
from callanalytics.diarize.models import SpeechModels
from callanalytics.speech import (
    FRAME_S,
    SAMPLE_RATE_HZ,
    BoolArray,
    FloatArray,
    IntArray,
    above,
    runs,
)

ON, OFF = 0.5, 0.35
_WINDOW_STEP_S = 10.0
_PIECE_S = 1.5
_OVERLAP_PROBABILITY = 0.5
_SPEECH_RANGE_DB = 40.0


@dataclass(frozen=True, slots=True)
class Voices:
    """Which frames hold which voice.

    active: (n_speakers, n_frames) bool; prints: (n_speakers, 192) float32 unit vectors.
    """

    active: BoolArray
    prints: FloatArray


def separate_voices(
    samples: FloatArray,
    levels_db: FloatArray,
    probability: FloatArray,
    blocked: BoolArray,
    models: SpeechModels,
) -> Voices:
    """Find the 1 to 4 speakers of one channel.

    Args:
        samples: (n,) at 8 kHz.
        levels_db, probability: (n_frames,) level and speech probability per 32 ms frame.
        blocked: (n_frames,) frames of tones, music or masking: no speech there.
    """
    n_frames = len(levels_db)
    local = _local_speakers(samples, n_frames, models)
    speech = above(probability, on=ON, off=OFF) | (local.speech > 0.5)
    speech &= ~blocked
    if not speech.any():
        return Voices(np.zeros((0, n_frames), np.bool_), np.zeros((0, 192), np.float32))
    speech &= levels_db > np.percentile(levels_db[speech], 90) - _SPEECH_RANGE_DB
    pieces = _pieces(speech, local.change)
    prints = _piece_prints(samples, pieces, models)
    labels, centres = cluster_voices(prints, pieces[:, 1] - pieces[:, 0])
    active = np.zeros((len(centres), n_frames), np.bool_)
    for (start, end), label in zip(pieces, labels, strict=True):
        active[label, start:end] = speech[start:end]
    if len(centres) == 2:
        active |= (local.overlap > _OVERLAP_PROBABILITY) & speech
    return Voices(active, centres)


@dataclass(frozen=True, slots=True)
class _Local:
    speech: FloatArray
    overlap: FloatArray
    change: BoolArray  # the loudest local speaker is another one than in the frame before


def _local_speakers(samples: FloatArray, n_frames: int, models: SpeechModels) -> _Local:
    step = round(_WINDOW_STEP_S * SAMPLE_RATE_HZ)
    starts = list(range(0, max(1, len(samples)), step))
    found = models.segmenter.windows(samples, starts)
    speech = 1 - found[:, :, 0]
    overlap = found[:, :, 4:].sum(axis=2)
    loudest = (found @ segmentation.POWERSET).argmax(axis=2)
    # Nearest network frame of every 32 ms frame.
    middle_s = (np.arange(n_frames) + 0.5) * FRAME_S
    window = np.minimum((middle_s // _WINDOW_STEP_S).astype(np.int64), len(starts) - 1)
    inside_s = middle_s - window * _WINDOW_STEP_S
    frame = np.rint((inside_s - segmentation.FRAME_CENTRE_S) / segmentation.FRAME_STEP_S).astype(np.int64)
    frame = np.clip(frame, 0, segmentation.N_FRAMES - 1)
    who = loudest[window, frame] + segmentation.N_LOCAL * window
    change = np.append(False, (who[1:] != who[:-1]) & (window[1:] == window[:-1]))
    return _Local(speech[window, frame], overlap[window, frame], change)


def _pieces(speech: BoolArray, change: BoolArray) -> IntArray:
    """Stretches of speech without a change of local speaker, cut to about 1.5 s: (n, 2) frames."""
    longest = round(_PIECE_S / FRAME_S)
    pieces = []
    for start, end in runs(speech):
        borders = [start, *(start + np.flatnonzero(change[start:end])).tolist(), end]
        for a, b in zip(borders[:-1], borders[1:], strict=True):
            if b > a:
                edges = np.linspace(a, b, -(-(b - a) // longest) + 1).round().astype(np.int64)
                pieces.extend(zip(edges[:-1], edges[1:], strict=True))
    return np.array(pieces, dtype=np.int64)


def _piece_prints(samples: FloatArray, pieces: IntArray, models: SpeechModels) -> FloatArray:
    """Voice print around the middle of every piece, (n, 192)."""
    features = log_mels(samples)
    length = round(_PIECE_S * SAMPLE_RATE_HZ / HOP_SAMPLES)
    if len(features) < length:
        features = np.resize(features, (length, features.shape[1]))
    middle = (pieces.mean(axis=1) * FRAME_S * SAMPLE_RATE_HZ / HOP_SAMPLES).astype(np.int64)
    starts = np.clip(middle - length // 2, 0, len(features) - length)
    return models.printer.prints(features[starts[:, None] + np.arange(length)])
