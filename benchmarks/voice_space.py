"""Fit how voice prints vary between the moods of a speaker and between speakers, from CREMA-D and EMO-DB.

    python benchmarks/voice_space.py CORPORA --cache FOLDER [--write]

CORPORA is a folder with `crema-d/AudioWAV` and `emodb/wav`. What is embedded is kept in FOLDER, so that a
second call goes on. With --write the fit replaces the one that `callanalytics.diarize.clustering` loads. Both
corpora allow weights fitted on them to be shipped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from built_calls import RATE_HZ, through, voiced

from callanalytics.diarize import SpeechModels, clustering
from callanalytics.diarize.clustering import VoiceSpace
from callanalytics.diarize.embedding import piece_sums
from ensemble.inference.spectrogram import kaldi_log_mels

CODINGS = ("pcm", "gsm", "amr-5.9", "mp3-8", "opus-8")
N_CLIPS = 5  # per speaker, mood and coding, about 10 s
WITHIN_SHRINKAGE = 0.3  # towards a sphere: 80 speakers do not fill 192 dimensions
BETWEEN_SHRINKAGE = 0.1
N_DIMENSIONS = 40
N_MOODS = 6


def clips_by_mood(corpora: Path) -> dict[tuple[str, str], list[Path]]:
    """Files of every speaker and mood: CREMA-D's 1001_DFA_ANG_XX, EMO-DB's 03a01Fa."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted((corpora / "crema-d" / "AudioWAV").iterdir()):
        speaker, _, mood, _ = path.stem.split("_")
        found.setdefault((f"crema-d-{speaker}", mood), []).append(path)
    for path in sorted((corpora / "emodb" / "wav").iterdir()):
        found.setdefault((f"emodb-{path.stem[:2]}", path.stem[5]), []).append(path)
    return {key: paths for key, paths in found.items() if len(paths) > 1}


def telephone_speech(paths: list[Path], coding: str, rng: np.random.Generator) -> np.ndarray:
    """Clips of one mood without their quiet ends, at various levels, with line noise, decoded again: (n,)."""
    pieces = []
    for path in rng.choice(np.array(paths, dtype=object), min(N_CLIPS, len(paths)), replace=False):
        samples = voiced(path)
        if len(samples) >= RATE_HZ / 2:
            samples = samples * 10 ** (rng.uniform(-28, -16) / 20) / max(1e-4, samples.std())
            pieces.append(samples + rng.normal(0, 10 ** (-rng.uniform(50, 65) / 20), len(samples)))
    return through(np.concatenate(pieces).astype(np.float32), coding)[0]


def mood_prints(corpora: Path, coding: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """One print (192,) per speaker and mood, and whose each is."""
    path = cache / f"space-{coding}.npz"
    if not path.exists():
        rng = np.random.default_rng([1, CODINGS.index(coding)])
        printer = SpeechModels().printer
        found, speakers = [], []
        for (speaker, _), paths in clips_by_mood(corpora).items():
            mels = kaldi_log_mels(telephone_speech(paths, coding, rng))
            hidden = printer.extract(mels, np.arange(len(mels)))
            everything = piece_sums(hidden, np.array([0]), np.array([len(mels)]))
            found.append(printer.whole(everything, np.ones((1, 1), np.bool_))[0])
            speakers.append(speaker)
        np.savez(path, prints=np.stack(found), speakers=np.array(speakers))
    with np.load(path) as kept:
        return kept["prints"], kept["speakers"]


def fit(
    sets: Sequence[tuple[np.ndarray, np.ndarray]], chosen: Callable[[str], bool] = lambda speaker: True
) -> VoiceSpace:
    """The space of the chosen speakers from `mood_prints` through several codings.

    Within a speaker is what scatters around the speaker's mean in the same coding, since a call has one.
    """
    rest, n_free, means = [], 0, dict[str, list[np.ndarray]]()
    for all_prints, all_speakers in sets:
        kept = np.array([chosen(speaker) for speaker in all_speakers])
        prints, speakers = all_prints[kept], all_speakers[kept]
        corpus = np.array([speaker.split("-")[0] for speaker in speakers])
        for name in np.unique(corpus):  # each corpus has its own microphone
            prints[corpus == name] -= prints[corpus == name].mean(axis=0)
        for name in np.unique(speakers):
            own = prints[speakers == name]
            rest.append(own - own.mean(axis=0))
            n_free += len(own) - 1
            means.setdefault(name, []).append(own.mean(axis=0))
    scatter = np.concatenate(rest)
    within = scatter.T @ scatter / n_free
    between = np.cov(np.stack([np.mean(m, axis=0) for m in means.values()]).T)
    between -= within / N_MOODS / np.sqrt(len(sets))  # the moods are the same through every coding
    sphere = np.eye(len(within)) / len(within)
    within = (1 - WITHIN_SHRINKAGE) * within + WITHIN_SHRINKAGE * np.trace(within) * sphere
    between = (1 - BETWEEN_SHRINKAGE) * between + BETWEEN_SHRINKAGE * np.trace(between) * sphere
    size, axes = np.linalg.eigh(within)
    whiten = axes / np.sqrt(size) @ axes.T
    size, axes = np.linalg.eigh(whiten @ between @ whiten)
    order = np.argsort(-size)[:N_DIMENSIONS]
    return VoiceSpace(
        (whiten @ axes[:, order]).astype(np.float32), np.maximum(size[order], 1e-3).astype(np.float32)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    sets = [mood_prints(arguments.corpora, coding, arguments.cache) for coding in CODINGS]
    space = fit(sets)
    n_speakers = len({str(speaker) for _, speakers in sets for speaker in speakers})
    print(f"{n_speakers} speakers, {len(sets)} codings; between / moods: {space.between[:5].round(2)} ...")
    if arguments.write:
        target = Path(clustering.__file__).with_name("voice_space.npz")
        np.savez(target, projection=space.projection, between=space.between)
        print(f"wrote {target.name}, {target.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
