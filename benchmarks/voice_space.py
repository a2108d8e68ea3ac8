"""Fit how voice prints vary between the moods of a speaker and between speakers, from CREMA-D and EMO-DB.

    python benchmarks/voice_space.py CORPORA [--write]

CORPORA is a folder with `crema-d/AudioWAV` and `emodb/wav`. With --write the fit replaces the one that
`callanalytics.diarize.clustering` loads. Both corpora allow weights fitted on them to be shipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from callanalytics.diarize import SpeechModels, clustering
from callanalytics.diarize.embedding import log_mels, piece_sums

N_CLIPS = 10  # per speaker and mood, about 14 s
WITHIN_SHRINKAGE = 0.5  # towards a sphere: 80 speakers do not fill 192 dimensions
BETWEEN_SHRINKAGE = 0.1
N_DIMENSIONS = 40
RATE_HZ = 8000


def clips_by_mood(corpora: Path) -> dict[tuple[str, str], list[Path]]:
    """Files of every speaker and mood: CREMA-D's 1001_DFA_ANG_XX, EMO-DB's 03a01Fa."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted((corpora / "crema-d" / "AudioWAV").iterdir()):
        speaker, _, mood, _ = path.stem.split("_")
        found.setdefault((f"cr{speaker}", mood), []).append(path)
    for path in sorted((corpora / "emodb" / "wav").iterdir()):
        found.setdefault((f"em{path.stem[:2]}", path.stem[5]), []).append(path)
    return {key: paths for key, paths in found.items() if len(paths) > 1}


def telephone_speech(paths: list[Path], rng: np.random.Generator) -> np.ndarray:
    """Clips of one mood without their quiet ends, at various levels, with line noise, in mu-law."""
    pieces = []
    for path in rng.choice(np.array(paths, dtype=object), min(N_CLIPS, len(paths)), replace=False):
        samples, rate_hz = sf.read(path, dtype="float32")
        samples = soxr.resample(samples, rate_hz, RATE_HZ)
        level = np.sqrt(np.convolve(samples**2, np.ones(400) / 400, "same")) + 1e-6
        level_db = 20 * np.log10(level)
        floor_db = min(max(np.percentile(level_db, 10) + 8, level_db.max() - 30), level_db.max() - 6)
        loud = np.flatnonzero(level_db > floor_db)
        samples = samples[loud[0] : loud[-1] + 1]
        if len(samples) < RATE_HZ / 2:
            continue
        samples = samples * 10 ** (rng.uniform(-28, -16) / 20) / max(1e-4, samples.std())
        pieces.append(samples + rng.normal(0, 10 ** (-rng.uniform(50, 65) / 20), len(samples)))
    speech = np.clip(np.concatenate(pieces), -1, 1)
    compressed = np.round(127 * np.sign(speech) * np.log1p(255 * np.abs(speech)) / np.log(256)) / 127
    return (np.sign(compressed) * (256 ** np.abs(compressed) - 1) / 255).astype(np.float32)


def fit(prints: np.ndarray, speakers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projection (192, d) that whitens the scatter of one speaker, and the variances between speakers."""
    names, counts = np.unique(speakers, return_counts=True)
    means = np.stack([prints[speakers == name].mean(axis=0) for name in names])
    rest = np.concatenate([prints[speakers == name] - mean for name, mean in zip(names, means, strict=True)])
    within = rest.T @ rest / (len(rest) - len(names))
    between = np.cov(means.T) - within / counts.mean()
    sphere = np.eye(len(within)) / len(within)
    within = (1 - WITHIN_SHRINKAGE) * within + WITHIN_SHRINKAGE * np.trace(within) * sphere
    between = (1 - BETWEEN_SHRINKAGE) * between + BETWEEN_SHRINKAGE * np.trace(between) * sphere
    size, axes = np.linalg.eigh(within)
    whiten = axes / np.sqrt(size) @ axes.T
    size, axes = np.linalg.eigh(whiten @ between @ whiten)
    order = np.argsort(-size)[:N_DIMENSIONS]
    return (whiten @ axes[:, order]).astype(np.float32), np.maximum(size[order], 1e-3).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    printer = SpeechModels().printer
    prints, speakers = [], []
    for (speaker, _), paths in clips_by_mood(arguments.corpora).items():
        mels = log_mels(telephone_speech(paths, rng))
        hidden = printer.extract(mels, np.arange(len(mels)))
        everything = piece_sums(hidden, np.array([0]), np.array([len(mels)]))
        prints.append(printer.whole(everything, np.array([True])))
        speakers.append(speaker)
    corpus = np.array([speaker[:2] for speaker in speakers])
    found = np.stack(prints)
    for name in np.unique(corpus):  # each corpus has its own microphone
        found[corpus == name] -= found[corpus == name].mean(axis=0)
    projection, between = fit(found, np.array(speakers))
    print(f"{len(found)} moods of {len(set(speakers))} speakers; between / moods: {between[:5].round(2)} ...")
    if arguments.write:
        target = Path(clustering.__file__).with_name("voice_space.npz")
        np.savez(target, projection=projection, between=between)
        print(f"wrote {target.name}, {target.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
