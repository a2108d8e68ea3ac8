"""Pictures of sound, as in the studies: waveform, spectrogram, MFCC and augmentations, on one page.

Pictures are drawn here as SVG paths and PNG images inside the page: no script, no request to anywhere.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray

from ensemble.baselines.study_features import AUGMENTATIONS
from ensemble.corpora import Clip, Corpus, decode_clip
from ensemble.evaluation.model_card import render_template
from ensemble.model_errors import CorpusError

Float = NDArray[np.float32]
RATE_HZ = 16_000
MAX_FILE_S = 20.0
"""Only this much of a file is shown: a call of an hour is no picture."""
COLOURS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], dtype=float)
"""Five stops of matplotlib's inferno map: even in lightness, readable in grey."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One way of seeing a sound. ``image`` is a data URL, or empty where ``path`` is an SVG path."""

    title: str
    image: str = ""
    path: str = ""
    top: str = ""
    bottom: str = ""


@dataclass(frozen=True, slots=True)
class Sound:
    """One clip and its pictures."""

    name: str
    title: str
    seconds: float
    pictures: tuple[Picture, ...]


def pictures_of(wave: Float) -> tuple[Picture, ...]:
    """Waveform, mel spectrogram and MFCC of ``wave`` at RATE_HZ."""
    mel = librosa.feature.melspectrogram(y=wave, sr=RATE_HZ, n_fft=640, hop_length=160, n_mels=96)
    mel_db = librosa.power_to_db(mel, ref=np.max)
    mfcc = librosa.feature.mfcc(S=mel_db, n_mfcc=40)
    # Each coefficient in its own range: the first would leave no colour for the others.
    mfcc = (mfcc - mfcc.mean(axis=1, keepdims=True)) / (mfcc.std(axis=1, keepdims=True) + 1e-6)
    return (
        Picture("Waveform", path=waveform_path(wave), top="1", bottom="-1"),
        Picture("Mel spectrogram, 80 dB", coloured(mel_db, -80.0, 0.0), top="8 kHz", bottom="0"),
        Picture("40 MFCC, each in its own range", coloured(mfcc, -2.5, 2.5), top="40", bottom="1"),
    )


def augmented(wave: Float, seed: int = 1) -> tuple[Picture, ...]:
    """Waveform and spectrogram of each augmentation of the studies."""
    out: list[Picture] = []
    for name, changes in AUGMENTATIONS.items():
        changed, rng = wave, np.random.default_rng(seed)
        for change in changes:
            changed = change(changed, RATE_HZ, rng)
        shape, mel, _ = pictures_of(changed)
        seconds = len(changed) / RATE_HZ
        out.append(Picture(f"{name}, {seconds:.2f} s", path=shape.path, top="1", bottom="-1"))
        out.append(Picture(f"{name}: mel spectrogram", mel.image, top="8 kHz", bottom="0"))
    return tuple(out)


def explore_file(path: Path) -> tuple[list[Sound], str]:
    """A file's pictures and its augmentations, and a heading; at most MAX_FILE_S of it.

    Raises:
        CorpusError: when it cannot be decoded or is too short.
    """
    wave = decode_clip(Clip(path, "file", "", "", end_s=MAX_FILE_S), RATE_HZ)
    _refuse_short(path, wave)
    pictures = (*pictures_of(wave), *augmented(wave))
    return [Sound(path.name, path.name, len(wave) / RATE_HZ, pictures)], path.name


def explore_corpus(corpus: Corpus) -> tuple[list[Sound], str]:
    """One clip per emotion, all of one speaker where one has them all; the first also augmented.

    Raises:
        CorpusError: when no clip can be shown.
    """
    chosen = _one_per_emotion(corpus.clips)
    sounds = []
    for number, clip in enumerate(chosen):
        wave = decode_clip(clip, RATE_HZ)
        _refuse_short(clip.path, wave)
        pictures = pictures_of(wave) + (augmented(wave) if number == 0 else ())
        title = f"{clip.emotion}, {clip.speaker}"
        sounds.append(Sound(clip.path.name, title, len(wave) / RATE_HZ, pictures))
    return sounds, f"{corpus.name}: {len(corpus.clips)} clips"


def counts_of(corpus: Corpus) -> list[tuple[str, int, float]]:
    """(emotion, clips, share of the most common emotion's) in the order of emotions."""
    counts = {e: n for e, n in corpus.counts().items() if not e.startswith("unusable")}
    return [(emotion, n, n / max(counts.values())) for emotion, n in counts.items()]


def _one_per_emotion(clips: Sequence[Clip]) -> list[Clip]:
    by_speaker: dict[str, dict[str, Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, {}).setdefault(clip.emotion, clip)
    richest = max(sorted(by_speaker), key=lambda speaker: len(by_speaker[speaker]))
    first = dict(by_speaker[richest])
    for clip in clips:
        first.setdefault(clip.emotion, clip)
    return [first[emotion] for emotion in sorted(first)]


def _refuse_short(path: Path, wave: Float) -> None:
    if len(wave) < RATE_HZ // 10:
        raise CorpusError(
            f"{path}: {len(wave) / RATE_HZ:.3f} s is too short for a picture; give 0.1 s or more"
        )


def waveform_path(wave: Float, width: int = 600) -> str:
    """SVG path of the lowest and highest sample of each of ``width`` columns, in a 600 x 100 view."""
    edges = np.linspace(0, len(wave), min(width, len(wave)) + 1).astype(int)[:-1]
    high, low = np.maximum.reduceat(wave, edges), np.minimum.reduceat(wave, edges)
    x = np.arange(len(edges)) * 600 / len(edges)
    points = [f"{a:.1f},{50 - 50 * b:.1f}" for a, b in zip(x, high, strict=True)]
    points += [f"{a:.1f},{50 - 50 * b:.1f}" for a, b in zip(x[::-1], low[::-1], strict=True)]
    return "M" + "L".join(points) + "Z"


def coloured(values: Float, low: float, high: float) -> str:
    """Data URL of a PNG of ``values`` (rows, columns), first row at the bottom, from dark to bright."""
    share = np.clip((values[::-1] - low) / (high - low), 0, 1) * (len(COLOURS) - 1)
    stops = np.arange(len(COLOURS))
    rgb = np.stack([np.interp(share, stops, COLOURS[:, c]) for c in range(3)], axis=2).astype(np.uint8)
    rows, columns, _ = rgb.shape
    # Each row of a PNG begins with the number of its filter; 0 is none.
    scanlines = np.concatenate([np.zeros((rows, 1), np.uint8), rgb.reshape(rows, -1)], axis=1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines.tobytes(), 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def page(sounds: Sequence[Sound], heading: str, counts: Sequence[tuple[str, int, float]] = ()) -> str:
    """One self-contained HTML page."""
    return render_template(
        "ensemble.baselines", "explore.html", sounds=sounds, heading=heading, counts=counts
    )
