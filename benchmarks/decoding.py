"""How fast are decoding and describing? Prints audio seconds per CPU second of one thread, format by format.

    python benchmarks/decoding.py [--minutes 30]

Sound is noise shaped like speech, built here; "x" figures depend on the machine, so compare them within
one run. Features are compared with librosa doing the same on the same sound.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
from formats import FORMATS, FloatArray

from callanalytics.audio import decode_recording
from callanalytics.config import AudioSettings
from callanalytics.features import extract
from callanalytics.records import Role, Segment

REPEATS = 3
SEGMENT_S = 3.0


def speechlike(seconds: float, rate_hz: int, n_channels: int, rng: np.random.Generator) -> FloatArray:
    """(n, n_channels): a buzz of 150 Hz under noise, swelling four times a second."""
    at_s = np.arange(round(10.0 * rate_hz)) / rate_hz
    buzz = sum(np.sin(2 * np.pi * 150 * k * at_s) / k for k in range(2, 20))
    sound = (buzz + 0.3 * rng.standard_normal(len(at_s))) * (0.1 + np.sin(np.pi * 4 * at_s) ** 2)
    ten_seconds = (0.1 * sound / sound.std()).astype(np.float32)
    one = np.tile(ten_seconds, int(np.ceil(seconds / 10)))[: round(seconds * rate_hz)]
    return np.stack([one] * n_channels, axis=1)


def best_cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of the fastest of a few runs."""
    found = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def decoding(minutes: float, rng: np.random.Generator) -> None:
    print(f"{'decoding':<16}{'channels':>9}{'rate Hz':>9}{'x real time':>13}{'MB / hour':>11}")
    for name, (build, rate_hz, n_channels, _) in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            build(path, speechlike(minutes * 60, rate_hz, n_channels, rng), rate_hz)
            cpu_s = best_cpu_s(lambda path=path: decode_recording([path], AudioSettings()))
            mb_per_hour = path.stat().st_size / 1e6 * 60 / minutes
        print(f"{name:<16}{n_channels:>9}{rate_hz:>9}{minutes * 60 / cpu_s:>13,.0f}{mb_per_hour:>11.1f}")


def describing(minutes: float, rng: np.random.Generator) -> None:
    sound = speechlike(minutes * 60, 8000, 1, rng).T.copy()
    n_segments = int(minutes * 60 / SEGMENT_S)
    segments = [
        Segment(i, "speaker_0", Role.CALLER, 0, i * SEGMENT_S, (i + 1) * SEGMENT_S, 0.0)
        for i in range(n_segments)
    ]
    extract(sound, 8000, segments[:10])
    ours_s = best_cpu_s(lambda: extract(sound, 8000, segments))
    print(f"\nfeatures, all {len(segments)} segments: {minutes * 60 / ours_s:,.0f} x real time of speech")

    some = segments[: max(10, n_segments // 20)]
    with_librosa(sound[0], some[:2])  # compiles
    theirs_s = best_cpu_s(lambda: with_librosa(sound[0], some)) / len(some) * n_segments
    print(
        f"librosa, segment by segment: {minutes * 60 / theirs_s:,.0f} x; "
        f"ours is {theirs_s / ours_s:,.1f} times as fast"
    )


def with_librosa(sound: FloatArray, segments: list[Segment]) -> None:
    """The same descriptors by librosa's functions, pitch by its yin (pyin is 50 times slower still)."""
    import librosa

    for segment in segments:
        y = sound[round(segment.start_s * 8000) : round(segment.end_s * 8000)]
        size = {"n_fft": 512, "hop_length": 128}
        magnitude = np.abs(librosa.stft(y, **size))
        mel_db = librosa.power_to_db(librosa.feature.melspectrogram(S=magnitude**2, sr=8000, n_mels=40))
        librosa.feature.delta(librosa.feature.mfcc(S=mel_db, n_mfcc=13))
        librosa.onset.onset_strength(S=mel_db, sr=8000)
        librosa.feature.chroma_stft(S=magnitude**2, sr=8000, n_fft=512, tuning=0.0)
        librosa.feature.spectral_centroid(S=magnitude, sr=8000)
        librosa.feature.spectral_bandwidth(S=magnitude, sr=8000)
        librosa.feature.spectral_rolloff(S=magnitude, sr=8000)
        librosa.feature.rms(y=y, frame_length=384, hop_length=128)
        librosa.feature.zero_crossing_rate(y, frame_length=384, hop_length=128)
        librosa.yin(y, fmin=65, fmax=500, sr=8000, frame_length=512, hop_length=128)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="length of every test recording")
    minutes = parser.parse_args().minutes
    generator = np.random.default_rng(1)
    decoding(minutes, generator)
    describing(minutes, generator)
