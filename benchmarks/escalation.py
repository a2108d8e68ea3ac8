"""Do the shipped rules find the callers who turn angry, and leave the loud and calm ones alone?

Builds telephone calls from RAVDESS speakers, whom no shipped member was trained on: a third of the
callers turn angry for at least 12 s in the second half, the others stay calm, neutral, happy or sad;
some of the calm ones are plainly loud. Every call is made in stereo and in mono and goes through the
real analysis. Prints ROC-AUC of the call score, recall and precision of the flag, and the share of
loud calm callers that were flagged.

    python benchmarks/escalation.py --data ../shared [--calls 60] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import soundfile
from built_calls import sound_of
from sklearn.metrics import roc_auc_score

from callanalytics.analysis.call import CallAnalysis, load_analysis
from callanalytics.config import Settings
from callanalytics.records import (
    CallFacts,
    FoundRecording,
    Recording,
    Role,
    RoleSource,
    StatedRoles,
    TimeSource,
)

RATE_HZ = 8000
CALM = ("01", "02")
NOT_ANGRY = ("03", "04", "08")
ANGRY = ("05",)
LOUD_DB = 10.0


@dataclass(frozen=True)
class Built:
    """One made-up call: where it lies and what is true of it."""

    path: Path
    layout: str
    angry: bool
    loud: bool


def clips_of(actor: Path, codes: tuple[str, ...]) -> list[Path]:
    return [p for p in sorted(actor.iterdir()) if p.name.split("-")[2] in codes]


def voiced(path: Path) -> np.ndarray:
    """A clip without the silence around it, 8 kHz, at its recorded level."""
    sound = sound_of(path)
    frames = sound[: len(sound) // 160 * 160].reshape(-1, 160)
    loud = np.flatnonzero(np.sqrt((frames**2).mean(axis=1)) > 0.02 * np.sqrt((frames**2).mean(axis=1)).max())
    return sound[loud[0] * 160 : (loud[-1] + 1) * 160]


def conversation(
    rng: np.random.Generator, caller: Path, agent: Path, *, angry: bool, gain_db: float
) -> np.ndarray:
    """(2, n): the agent on channel 0, the caller on channel 1, taking turns."""
    calm = [voiced(p) for p in rng.permutation(clips_of(caller, CALM))]
    other = [voiced(p) for p in rng.permutation(clips_of(caller, NOT_ANGRY))[:4]]
    upset = [voiced(p) for p in rng.permutation(clips_of(caller, ANGRY))]
    second = upset if angry else [*calm[6:], *other]
    first = [*calm[:6], *(other[:1] if rng.random() < 0.5 else [])]
    answers = [voiced(p) for p in rng.permutation(clips_of(agent, (*CALM, "03")))]
    level = np.sqrt(np.mean(np.concatenate(calm) ** 2))
    agent_level = np.sqrt(np.mean(np.concatenate(answers) ** 2))
    parts: list[np.ndarray] = []
    for i, words in enumerate([*first, *second]):
        for channel, voice in (
            (0, answers[i % len(answers)] / agent_level),
            (1, words / level * 10 ** (gain_db / 20)),
        ):
            pause = np.zeros((2, int(rng.uniform(0.2, 0.9) * RATE_HZ)), dtype=np.float32)
            turn = np.zeros((2, len(voice)), dtype=np.float32)
            turn[channel] = voice * 10 ** (-28 / 20)
            parts += [pause, turn]
    return np.concatenate(parts, axis=1)


def telephone(rng: np.random.Generator, sound: np.ndarray) -> np.ndarray:
    """Band 300-3400 Hz, line noise at -62 dBFS; the file itself is mu-law."""
    from scipy.signal import butter, sosfilt

    band = butter(4, [300, 3400], "bandpass", fs=RATE_HZ, output="sos")
    noisy = sosfilt(band, sound, axis=1) + rng.normal(0, 10 ** (-62 / 20), sound.shape)
    return np.clip(noisy, -1, 1).astype(np.float32)


def planted_call(rng: np.random.Generator, corpus: Path, number: int) -> tuple[np.ndarray, bool, bool]:
    """(2, n) of a call between two actors of RAVDESS, whether the caller turns angry, and is loud."""
    actors = sorted(corpus.glob("Actor_*"))
    caller, agent = rng.choice(len(actors), 2, replace=False)
    angry, loud = number % 3 == 0, number % 3 == 1
    gain_db = LOUD_DB if loud else float(rng.uniform(-4, 4))
    sides = conversation(rng, actors[caller], actors[agent], angry=angry, gain_db=gain_db)
    return telephone(rng, sides), angry, loud


def build(corpus: Path, folder: Path, n_calls: int, seed: int) -> list[Built]:
    rng = np.random.default_rng(seed)
    built = []
    for i in range(n_calls):
        sound, angry, loud = planted_call(rng, corpus, i)
        for layout in ("stereo", "mono"):
            path = folder / f"call{i:03d}-{layout}.wav"
            written = sound.T if layout == "stereo" else np.clip(sound.sum(axis=0), -1, 1)
            soundfile.write(path, written, RATE_HZ, subtype="ULAW")
            built.append(Built(path, layout, angry, loud))
    return built


def score(built: list[Built]) -> list[CallAnalysis]:
    analyze = load_analysis(Settings(), None)
    return [analyze(recording_of(b)) for b in built]


def recording_of(built: Built) -> FoundRecording:
    """As the search would find it; the sides of a stereo call are stated."""
    now = datetime.now(UTC)
    stated = StatedRoles(RoleSource.RECORDER, (Role.AGENT, Role.CALLER), 0.999, "the benchmark")
    facts = CallFacts(
        "none",
        0.0,
        now,
        TimeSource.FILE_TIME,
        "UTC",
        stated_roles=(stated,) if built.layout == "stereo" else (),
    )
    content = built.path.read_bytes()
    recording = Recording(hashlib.sha256(content).hexdigest(), (built.path,), len(content), now)
    return FoundRecording(recording, facts)


def figures(built: list[Built], calls: list[CallAnalysis], layout: str) -> dict[str, float]:
    chosen = [(b, c) for b, c in zip(built, calls, strict=True) if b.layout == layout]
    angry = np.array([b.angry for b, _ in chosen])
    loud = np.array([b.loud for b, _ in chosen])
    flagged = np.array([c.assessment.flagged for _, c in chosen])
    # A call without a score is never looked at: it ranks below all others.
    scores = np.array([-1.0 if (s := c.assessment.curve.score) is None else s for _, c in chosen])
    return {
        "roc_auc": float(roc_auc_score(angry, scores)),
        "recall": float(flagged[angry].mean()),
        "precision": float(angry[flagged].mean()) if flagged.any() else 0.0,
        "loud_calm_flagged_share": float(flagged[loud].mean()),
        "score_angry_median": float(np.median(scores[angry])),
        "score_calm_median": float(np.median(scores[~angry])),
        "score_calm_95th": float(np.quantile(scores[~angry], 0.95)),
        "score_angry_5th": float(np.quantile(scores[angry], 0.05)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        built = build(options.data / "corpora" / "ravdess", Path(folder), options.calls, options.seed)
        parts = [built[i :: options.workers] for i in range(options.workers)]
        with ProcessPoolExecutor(options.workers) as pool:
            scored = [c for part in pool.map(score, parts) for c in part]
        built = [b for part in parts for b in part]
    result = {layout: figures(built, scored, layout) for layout in ("stereo", "mono")}
    if options.json:
        print(json.dumps(result))
        return
    for layout, row in result.items():
        print(layout, *(f"{name}={value:.3f}" for name, value in row.items()))


if __name__ == "__main__":
    main()
