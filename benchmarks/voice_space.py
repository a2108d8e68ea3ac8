"""Fit how voice prints vary between the moods of a speaker and between speakers, from CREMA-D and EMO-DB.

    python benchmarks/voice_space.py CORPORA --cache FOLDER [--write]

CORPORA is a folder with `crema-d/AudioWAV` and `emodb/wav`. What is embedded is kept in FOLDER, so that a
second call goes on. With --write the fit replaces the one that `callanalytics.diarize.clustering` loads. Both
corpora allow weights fitted on them to be shipped.

Speakers differ by their telephone lines, too: in most sets every speaker has a line of their own. And acted
anger is milder than people are, so that some of it is made harsher (`shouted`) and counts as further moods.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from built_calls import RATE_HZ, Line, through, voiced

from callanalytics.diarize import SpeechModels, clustering
from callanalytics.diarize.clustering import VoiceSpace
from callanalytics.diarize.embedding import piece_sums
from ensemble.inference.spectrogram import kaldi_log_mels

# Coding of the recorder, and whether speakers have lines of their own.
SETS = (
    *((coding, True) for coding in ("pcm", "gsm", "amr-5.9", "mp3-8")),
    *((coding, False) for coding in ("pcm", "mp3-8")),
)
N_CLIPS = 5  # per speaker, mood and set, about 10 s
N_SHOUTS = 2  # further moods of every speaker
ANGRY = ("ANG", "W")
WITHIN_SHRINKAGE = 0.4  # towards a sphere: 80 speakers do not fill 192 dimensions
BETWEEN_SHRINKAGE = 0.1
N_DIMENSIONS = 50


def clips_by_mood(corpora: Path) -> dict[str, dict[str, list[Path]]]:
    """Files of every speaker by mood: CREMA-D's 1001_DFA_ANG_XX, EMO-DB's 03a01Fa."""
    found: dict[str, dict[str, list[Path]]] = {}
    for path in sorted((corpora / "crema-d" / "AudioWAV").iterdir()):
        speaker, _, mood, _ = path.stem.split("_")
        found.setdefault(f"crema-d-{speaker}", {}).setdefault(mood, []).append(path)
    for path in sorted((corpora / "emodb" / "wav").iterdir()):
        found.setdefault(f"emodb-{path.stem[:2]}", {}).setdefault(path.stem[5], []).append(path)
    return {
        speaker: {mood: paths for mood, paths in moods.items() if len(paths) > 1}
        for speaker, moods in found.items()
    }


def shouted(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An angry clip (n,) at 8 kHz made harsher: up to two semitones higher, driven, less low and more high.

    From calm to angry the bands under 300 Hz fall by 8 to 21 dB against the middle (mean of CREMA-D, EMO-DB),
    with 3 to 10 dB of deviation between speakers, and those over 2.8 kHz rise by 0 to 5 dB with 4 to 7.
    """
    steps = rng.uniform(1.0, 1.15) * np.arange(int(len(samples) / 1.15))
    higher = np.interp(steps, np.arange(len(samples)), samples / max(1e-5, float(samples.std())))
    drive = rng.uniform(0.2, 0.8)
    knots_hz = (0, 150, 300, 600, 1200, 2400, 4000)
    tilt_db = rng.uniform(0, 1) * np.array([-8, -8, -5, -2, 0, 2, 3])
    bends_db = tilt_db + rng.normal(0, 1, len(knots_hz)) * np.array([6, 6, 4, 1.5, 1, 2.5, 4.5])
    response = np.fft.irfft(10 ** (np.interp(np.linspace(0, RATE_HZ / 2, 65), knots_hz, bends_db) / 20))
    bend = np.fft.fftshift(response) * np.hanning(len(response))
    return np.convolve(np.tanh(higher * drive) / drive, bend, "same")


def telephone_speech(
    paths: list[Path], is_shouted: bool, coding: str, line: Line | None, rng: np.random.Generator
) -> np.ndarray:
    """Clips of one mood without their quiet ends, at various levels, with line noise, decoded again: (n,)."""
    pieces = []
    for path in rng.choice(np.array(paths, dtype=object), min(N_CLIPS, len(paths)), replace=False):
        samples = voiced(path)
        if len(samples) >= RATE_HZ / 2:
            samples = shouted(samples, rng) if is_shouted else samples
            pieces.append(samples * 10 ** (rng.uniform(-28, -16) / 20) / max(1e-4, float(samples.std())))
    sound = np.concatenate(pieces).astype(np.float32)
    floor_db = (-85, -65) if line else (-65, -50)
    sound = line.carried(sound, rng) if line else sound
    noisy = sound + rng.normal(0, 10 ** (rng.uniform(*floor_db) / 20), len(sound))
    return through(np.clip(noisy, -1, 1).astype(np.float32), coding)[0]


def mood_prints(corpora: Path, coding: str, own_lines: bool, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """One print (192,) per speaker and mood, and whose each is."""
    path = cache / f"space-{coding}-{'own' if own_lines else 'same'}-line.npz"
    if not path.exists():
        rng = np.random.default_rng([1, SETS.index((coding, own_lines))])
        printer = SpeechModels().printer
        found, speakers = [], []
        for speaker, moods in clips_by_mood(corpora).items():
            line = Line.drawn(rng) if own_lines else None
            heard = [(paths, False) for paths in moods.values()]
            heard += [(moods[mood], True) for mood in ANGRY if mood in moods] * N_SHOUTS
            for paths, is_shouted in heard:
                mels = kaldi_log_mels(telephone_speech(paths, is_shouted, coding, line, rng))
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
    """The space of the chosen speakers from `mood_prints` of several sets.

    Within a speaker is what scatters around the speaker's mean in the same set, since a call has one coding
    and a party one line.
    """
    rest, means, n_moods = [], [], []
    for all_prints, all_speakers in sets:
        kept = np.array([chosen(speaker) for speaker in all_speakers])
        prints, speakers = all_prints[kept], all_speakers[kept]
        corpus = np.array([speaker.split("-")[0] for speaker in speakers])
        for name in np.unique(corpus):  # each corpus has its own microphone
            prints[corpus == name] -= prints[corpus == name].mean(axis=0)
        for name in np.unique(speakers):
            own = prints[speakers == name]
            rest.append(own - own.mean(axis=0))
            means.append(own.mean(axis=0))
            n_moods.append(len(own))
    scatter = np.concatenate(rest)
    within = scatter.T @ scatter / (len(scatter) - len(means))
    between = np.cov(np.stack(means).T) - within / np.mean(n_moods)
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
    sets = [mood_prints(arguments.corpora, *which, arguments.cache) for which in SETS]
    space = fit(sets)
    n_speakers = len({str(speaker) for _, speakers in sets for speaker in speakers})
    print(f"{n_speakers} speakers, {len(sets)} sets; between / moods: {space.between[:5].round(2)} ...")
    if arguments.write:
        target = Path(clustering.__file__).with_name("voice_space.npz")
        np.savez(target, projection=space.projection, between=space.between)
        print(f"wrote {target.name}, {target.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
