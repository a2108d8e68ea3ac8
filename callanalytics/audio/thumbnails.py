"""Pictures of a flagged call's sound for its page: a waveform and a log-mel spectrogram per channel.

Drawn while the call is decoded anyway, because the report reads no recordings: they may be gone by then.
Both have a fixed number of columns however long the call is, so a picture costs some ten milliseconds and
at most 23 kB. The bands are those of the ensemble's members (ensemble/inference/spectrogram.py).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from callanalytics.audio.samples import frames_at, give_back
from callanalytics.records import Audio, Clip, FloatArray
from ensemble.inference.spectrogram import FrontEnd, mel_matrix

N_COLUMNS = 800
N_BANDS = 56
# Frames of 32 ms taken of each column: all of a short call, an even sample of a long one.
FRAMES_PER_COLUMN = 8
FRAMES_AT_ONCE = 512  # all of them, in pieces and powers, would take 30 MB
RANGE_DB = 55.0  # what is quieter than the loudest spot by more is white
N_GREYS = 16  # 4 bits a pixel
LEVELS = 255  # of the waveform


def call_pictures(audio: Audio, channels: Sequence[int]) -> tuple[Clip, ...]:
    """`waveform-<channel>.json` and `spectrogram-<channel>.png` of each channel, for the whole call.

    The waveform is {"peaks": [...]}: the largest magnitude in each column, 0..255 of full scale. The
    spectrogram is dark where there is energy, low notes at the bottom.
    """
    found = []
    for channel in channels:
        samples = audio.samples[channel]
        peaks = json.dumps({"peaks": waveform(samples).tolist()}, separators=(",", ":")).encode()
        give_back(samples)
        image = png(spectrogram(samples, audio.sample_rate_hz))
        found += [
            Clip(f"waveform-{channel}.json", 0.0, audio.duration_s, peaks),
            Clip(f"spectrogram-{channel}.png", 0.0, audio.duration_s, image),
        ]
    return tuple(found)


def waveform(samples: FloatArray) -> NDArray[np.uint8]:
    """Largest magnitude per column. samples: (n,) in -1..1; returns (n_columns,) of 0..255."""
    edges = _edges(len(samples))
    # Both signs apart: a call of hours has no copy to spare.
    peaks = np.maximum(np.maximum.reduceat(samples, edges[:-1]), -np.minimum.reduceat(samples, edges[:-1]))
    shown: NDArray[np.uint8] = np.rint(np.minimum(peaks, 1.0) * LEVELS).astype(np.uint8)
    return shown


def spectrogram(samples: FloatArray, sample_rate_hz: int) -> NDArray[np.uint8]:
    """Grey levels 0 (silent) to 15 (loudest), (N_BANDS, n_columns), the lowest band in the last row."""
    from scipy.fft import rfft

    front = FrontEnd(sample_rate_hz=sample_rate_hz, n_mels=N_BANDS)
    edges = _edges(len(samples))
    inside = (np.arange(FRAMES_PER_COLUMN) + 0.5) / FRAMES_PER_COLUMN
    centre = edges[:-1, None] + inside * np.diff(edges)[:, None]  # (n_columns, frames)
    first = np.clip(centre - front.window / 2, 0, max(0, len(samples) - front.window)).astype(np.intp)
    short = max(0, front.window - len(samples))
    padded = np.pad(samples, (0, short)) if short else samples
    window = np.hanning(front.window).astype(np.float32)
    power = np.empty((first.size, front.n_fft // 2 + 1), dtype=np.float32)
    for at in range(0, first.size, FRAMES_AT_ONCE):
        block = slice(at, at + FRAMES_AT_ONCE)
        spectrum = rfft(frames_at(padded, first.reshape(-1)[block], front.window) * window, front.n_fft)
        power[block] = spectrum.real**2 + spectrum.imag**2
    mel = (power @ mel_matrix(front)).reshape(len(edges) - 1, FRAMES_PER_COLUMN, N_BANDS).mean(axis=1)
    db = 10 * np.log10(mel + 1e-12)
    level = np.clip((db - db.max()) / RANGE_DB + 1.0, 0.0, 1.0)
    if mel.max() <= 1e-10:
        level = np.zeros_like(level)
    shown: NDArray[np.uint8] = np.rint(level.T[::-1] * (N_GREYS - 1)).astype(np.uint8)
    return shown


def _edges(n: int) -> NDArray[np.intp]:
    """Where the columns begin and end, in samples; a very short sound has fewer columns."""
    return np.linspace(0, n, min(N_COLUMNS, n) + 1).astype(np.intp)


def png(levels: NDArray[np.uint8]) -> bytes:
    """Grey levels 0..15, (height, width) -> a PNG of 4 bits a pixel, dark where the level is high."""
    height, width = levels.shape
    ink = np.pad((N_GREYS - 1) - levels, ((0, 0), (0, width % 2)))
    rows = (ink[:, 0::2] << 4 | ink[:, 1::2]).astype(np.uint8)
    # Every row begins with the number of its filter: none.
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 9)
    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, content) for kind, content in parts)


def _part(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
