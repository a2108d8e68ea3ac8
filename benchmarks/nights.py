"""Nights of recordings for the benchmarks: real calls, or speech-like sound, coded as recorders code them.

No two recordings have the same content, since the same content twice is one call: each starts at another
place of its source and is a little louder or quieter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE_HZ = 8_000
FloatArray = NDArray[np.float32]
# (extension, container, coding) in turn: most recorders write mu-law WAV or MP3, some Opus.
STEREO_CODINGS = (("wav", "WAV", "ULAW"), ("wav", "WAV", "ULAW"), ("opus", "OGG", "OPUS"))
MONO_CODINGS = (("mp3", "MP3", "MPEG_LAYER_III"), ("mp3", "MP3", "MPEG_LAYER_III"), ("opus", "OGG", "OPUS"))
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Night:
    """A folder of recordings."""

    folder: Path
    n_calls: int
    audio_s: float


def source_calls(data: Path | None) -> list[FloatArray]:
    """Two-channel calls, float32 (n, 2) at 8 kHz: those of the data folder, else synthetic ones."""
    found = sorted((data / "calls").glob("*/stereo/*.wav")) if data else []
    found += sorted((data / "calls").glob("*/*_stereo.wav")) if data else []
    calls = []
    for path in found:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        if rate_hz == RATE_HZ and samples.shape[1] == 2:
            calls.append(samples)
    return calls or list(_synthetic_calls(4, 120.0))


def _synthetic_calls(n: int, seconds: float) -> Iterator[FloatArray]:
    """Two voices in turns: a buzz whose pitch and level move, with pauses. Speech only to a machine."""
    rng = np.random.default_rng(20260101)
    at_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    for _ in range(n):
        sides = []
        for side, pitch_hz in enumerate((125.0, 210.0)):
            phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + 0.1 * np.sin(at_s * (1.3 + side)))) / RATE_HZ
            buzz = sum(np.sin(k * phase) / k for k in range(1, 16))
            syllables = np.sin(np.pi * 4 * at_s) ** 2 * ((at_s // 5) % 2 == side)
            sides.append(0.1 * buzz * syllables + 0.001 * rng.standard_normal(len(at_s)))
        yield np.stack(sides, axis=1).astype(np.float32)


def build_night(
    folder: Path, hours: float, sources: Sequence[FloatArray], *, stereo: bool, seed: int = 1
) -> Night:
    """Fill `folder` with about `hours` of recordings, dated two days ago."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    codings = STEREO_CODINGS if stereo else MONO_CODINGS
    audio_s, n_calls = 0.0, 0
    while audio_s < hours * 3600:
        source = sources[n_calls % len(sources)]
        samples = np.roll(source, int(rng.integers(len(source))), axis=0) * np.float32(rng.uniform(0.6, 1.0))
        extension, container, coding = codings[n_calls % len(codings)]
        path = folder / f"20260301-{n_calls // 3600:02d}{n_calls // 60 % 60:02d}{n_calls % 60:02d}_{n_calls}"
        write_call(
            path.with_suffix(f".{extension}"), samples if stereo else samples.mean(axis=1), container, coding
        )
        audio_s += len(samples) / RATE_HZ
        n_calls += 1
    return Night(folder, n_calls, audio_s)


def write_call(path: Path, samples: FloatArray, container: str, coding: str) -> None:
    """Write one recording, old enough to be settled."""
    soundfile.write(path, samples, RATE_HZ, format=container, subtype=coding)
    settled = time.time() - 2 * _DAY_S
    os.utime(path, (settled, settled))


def long_call(path: Path, hours: float, sources: Sequence[FloatArray]) -> float:
    """One stereo mu-law call of `hours`, joined from the sources; returns its seconds."""
    n_wanted = round(hours * 3600 * RATE_HZ)
    n_done = 0
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, subtype="ULAW", format="WAV") as target:
        while n_done < n_wanted:
            for source in sources:
                target.write(source[: n_wanted - n_done])
                n_done += len(source[: n_wanted - n_done])
    settled = time.time() - 2 * _DAY_S
    os.utime(path, (settled, settled))
    return n_done / RATE_HZ
