"""How right is who spoke when, and who is the agent? Figures: benchmarks/RESULTS.md.

    python benchmarks/diarization.py DATA [--calls 12] [--speed-minutes 10]
    python benchmarks/diarization.py DATA --matrix FOLDER [--calls 12] [--planted 30] [--sounds pcm gsm ...]

DATA holds `calls/`, `diarization/` and `corpora/`. Error
rates are those of pyannote.metrics with overlap scored; its `collar` is a total width, so "0.25" below, a
quarter of a second on each side of a border, is collar=0.5. Built calls are made here from clips of
CREMA-D and RAVDESS speakers, who act six to eight emotions: harder for voice prints than real calls.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import soundfile as sf
import soxr
import voice_matrix
from built_calls import bridged
from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate

from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.segments import speaker_names
from callanalytics.records import Diarization, Role

RATE_HZ = 8000


@dataclass(frozen=True)
class Example:
    """One recording with its truth. `agent` is the reference name of the agent, when there is one."""

    name: str
    samples: np.ndarray  # (n_channels, n) float32 at 8 kHz
    truth: Annotation
    agent: str | None = None


def read(path: Path) -> np.ndarray:
    """(n_channels, n) float32 at 8 kHz."""
    samples, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    if rate_hz != RATE_HZ:
        samples = np.clip(soxr.resample(samples, rate_hz, RATE_HZ), -1, 1)
    return np.ascontiguousarray(samples.T, dtype=np.float32)


def annotation(turns: list[tuple[float, float, str]]) -> Annotation:
    result = Annotation()
    for number, (start_s, end_s, speaker) in enumerate(turns):
        result[Segment(start_s, end_s), number] = speaker
    return result


def from_rttm(path: Path) -> Annotation:
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return annotation(
        [(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in lines if f and f[0] == "SPEAKER"]
    )


def found_turns(found: Diarization) -> Annotation:
    names = speaker_names(found)
    return annotation([(t.start_s, t.end_s, names[t.speaker]) for t in found.turns])


def real_calls(data: Path, folder: str) -> list[Example]:
    """HarperValleyBank, `folder` "stereo" or "mono"."""
    root = data / "calls" / "harper-valley"
    return [
        Example(path.stem, read(path), from_rttm(root / "rttm" / f"{path.stem}.rttm"), "agent")
        for path in sorted((root / folder).glob("*.wav"))
    ]


def with_leak(samples: np.ndarray, leak_db: float) -> np.ndarray:
    """Each side hears the other 40 ms late and `leak_db` down."""
    late = np.roll(samples[::-1], round(0.04 * RATE_HZ), axis=1)
    return (samples + 10 ** (-leak_db / 20) * late).astype(np.float32)


def repair_shop(data: Path, models: SpeechModels) -> list[Example]:
    """The four-minute call as a mono mix; its truth is what we hear on its separate channels."""
    stereo = read(data / "calls" / "aws-auto-repairs" / "Auto_Repairs_40_UTC_stereo.wav")
    sides = diarize(stereo, RATE_HZ, models=models)
    turns = [(t.start_s, t.end_s, ("caller", "agent")[t.channel]) for t in sides.turns]
    return [Example("auto-repairs", stereo.mean(axis=0, keepdims=True), annotation(turns), "agent")]


def meetings(data: Path) -> list[Example]:
    return [
        Example(path.stem, read(path), from_rttm(path.with_suffix(".rttm")))
        for path in sorted((data / "diarization" / "ami").glob("*.flac"))
    ]


def corpus_clips(data: Path, corpus: str) -> dict[tuple[str, str], list[Path]]:
    """Clips by (speaker, sex)."""
    found: dict[tuple[str, str], list[Path]] = {}
    if corpus == "crema-d":
        table = next((data / "corpora" / corpus).rglob("VideoDemographics.csv"))
        with table.open(encoding="utf-8") as stream:
            sex = {row["ActorID"]: row["Sex"][0] for row in csv.DictReader(stream)}
        for path in sorted((data / "corpora" / corpus / "AudioWAV").iterdir()):
            found.setdefault((path.name[:4], sex[path.name[:4]]), []).append(path)
    else:
        for path in sorted((data / "corpora" / corpus).glob("Actor_*/*")):
            actor = path.stem[-2:]
            found.setdefault((actor, "M" if int(actor) % 2 else "F"), []).append(path)
    return found


def without_ends(samples: np.ndarray) -> np.ndarray:
    """Cut the quiet ends: below 8 dB over the clip's noise, or 30 dB under its peak."""
    level_db = 20 * np.log10(np.sqrt(np.convolve(samples**2, np.ones(400) / 400, "same")) + 1e-6)
    floor_db = min(max(np.percentile(level_db, 10) + 8, level_db.max() - 30), level_db.max() - 6)
    loud = np.flatnonzero(level_db > floor_db)
    return samples[loud[0] : loud[-1] + 1]


def through_mu_law(samples: np.ndarray) -> np.ndarray:
    clipped = np.clip(samples, -1, 1)
    code = np.round(127 * np.sign(clipped) * np.log1p(255 * np.abs(clipped)) / np.log(256)) / 127
    return (np.sign(code) * (256 ** np.abs(code) - 1) / 255).astype(np.float32)


def build_call(
    clips: dict[tuple[str, str], list[Path]],
    speakers: list[tuple[str, str]],
    rng: np.random.Generator,
    duration_s: float = 90.0,
) -> tuple[np.ndarray, Annotation]:
    """Speakers in turn, one to three clips each; a third of the changes overlap by about a second."""
    n = round(duration_s * RATE_HZ)
    samples = np.zeros(n, np.float32)
    spoken: list[tuple[float, float, str]] = []
    level = {s: 10 ** (rng.uniform(-26, -18) / 20) for s in speakers}
    at, who = round(rng.uniform(0.5, 2) * RATE_HZ), 0
    while at < n - 3 * RATE_HZ:
        speaker = speakers[who]
        for _ in range(rng.integers(1, 4)):
            clip = without_ends(read(clips[speaker][rng.integers(len(clips[speaker]))])[0])
            clip = clip * level[speaker] * 10 ** (rng.uniform(-2, 2) / 20) / max(1e-4, clip.std())
            if at + len(clip) > n:
                break
            samples[at : at + len(clip)] += clip
            spoken.append((at / RATE_HZ, (at + len(clip)) / RATE_HZ, "".join(speaker)))
            at += len(clip) + round(rng.uniform(0.1, 0.45) * RATE_HZ)
        gap_s = -rng.uniform(0.6, 1.6) if rng.random() < 0.35 and spoken else rng.uniform(0.1, 0.9)
        at = max(0, at + round(gap_s * RATE_HZ))
        others = [k for k in range(len(speakers)) if k != who]
        who = int(rng.choice(others)) if others else 0
    samples += rng.normal(0, 10 ** (-58 / 20), n).astype(np.float32)
    return through_mu_law(samples)[None], annotation(bridged(spoken))


def built_calls(data: Path, corpus: str, n_calls: int, n_speakers: int, kind: str) -> list[Example]:
    """`kind` is "same" (one sex), "mixed" (both) or "any"."""
    rng = np.random.default_rng(20260101 + n_speakers)
    clips = corpus_clips(data, corpus)
    found = []
    for number in range(n_calls):
        pool = [s for s in clips if kind != "same" or s[1] == "MF"[number % 2]]
        while True:
            chosen = [pool[k] for k in rng.choice(len(pool), n_speakers, replace=False)]
            if kind != "mixed" or len({sex for _, sex in chosen}) == 2:
                break
        samples, truth = build_call(clips, chosen, rng)
        found.append(Example(f"{corpus}-{kind}-{n_speakers}-{number}", samples, truth))
    return found


def overlap_share(truth: Annotation) -> float:
    """Part of the spoken time (union) during which two or more talk."""
    spoken_s = truth.get_timeline().support().duration()
    return truth.get_overlap().duration() / spoken_s


def measure(title: str, examples: list[Example], models: SpeechModels, details: bool) -> None:
    """One line of figures over all examples, summed before dividing."""
    parts = {collar: np.zeros(4) for collar in (0.5, 0.0)}
    n_roles, right_roles, right_counts = 0, 0, 0
    for example in examples:
        found = diarize(example.samples, RATE_HZ, models=models)
        guess, length_s = found_turns(found), example.samples.shape[1] / RATE_HZ
        for collar in parts:
            metric = DiarizationErrorRate(collar=collar, skip_overlap=False)
            error = metric(example.truth, guess, uem=Segment(0, length_s), detailed=True)
            keys = ("missed detection", "false alarm", "confusion", "total")
            now = np.array([error[key] for key in keys])
            parts[collar] += now
            if collar and details:
                rate = 100 * now / now[3]
                print(
                    f"    {example.name:28s} {rate[:3].sum():5.1f}  miss {rate[0]:.1f} fa {rate[1]:.1f} "
                    f"conf {rate[2]:.1f}  speakers {len(found.speakers)}  role {found.role_confidence:.2f}"
                )
        n_true = len(example.truth.labels())
        right_counts += len(found.speakers) == n_true
        if example.agent is not None:
            n_roles += 1
            mapping = DiarizationErrorRate(collar=0.5).optimal_mapping(example.truth, guess)
            agent = next((name for name in guess.labels() if name == Role.AGENT), None)
            right_roles += agent is not None and mapping.get(agent) == example.agent
    with_collar, without = parts[0.5], parts[0.0]
    rate = 100 * with_collar / with_collar[3]
    roles = f"  roles {right_roles}/{n_roles}" if n_roles else ""
    overlap = np.mean([overlap_share(example.truth) for example in examples])
    print(
        f"{title:34s} DER {rate[:3].sum():5.1f} (0.25) {100 * without[:3].sum() / without[3]:5.1f} (0)   "
        f"miss {rate[0]:4.1f}  false alarm {rate[1]:4.1f}  confusion {rate[2]:4.1f}   "
        f"speakers {right_counts}/{len(examples)}{roles}   overlap {overlap:.0%}",
        flush=True,
    )


def measure_speed(title: str, samples: np.ndarray, minutes: float, models: SpeechModels) -> None:
    """Seconds of one core for an hour of audio, whole step, after a warm-up; best of two."""
    n = round(minutes * 60 * RATE_HZ)
    long = np.ascontiguousarray(np.tile(samples, (1, -(-n // samples.shape[1])))[:, :n])
    diarize(samples, RATE_HZ, models=models)
    spent = []
    for _ in range(2):
        start = time.process_time()
        diarize(long, RATE_HZ, models=models)
        spent.append(time.process_time() - start)
    factor = minutes * 60 / min(spent)
    print(f"{title:34s} {factor:6.0f} x real time, {3600 / factor:5.1f} s per hour of audio", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--calls", type=int, default=12, help="built calls of each kind")
    parser.add_argument("--planted", type=int, default=30, help="with --matrix: calls to be flagged or not")
    parser.add_argument("--speed-minutes", type=float, default=10.0)
    parser.add_argument("--details", action="store_true", help="a line for every recording")
    parser.add_argument(
        "--matrix", type=Path, help="only built calls through all codings and layouts; kept in this folder"
    )
    parser.add_argument(
        "--sounds", nargs="+", choices=voice_matrix.SOUNDS, default=voice_matrix.SOUNDS, help="with --matrix"
    )
    parser.add_argument("--workers", type=int, default=2, help="with --matrix: processes")
    arguments = parser.parse_args()
    if arguments.matrix:
        voice_matrix.run(
            arguments.data,
            arguments.matrix,
            n_calls=arguments.calls,
            n_planted=arguments.planted,
            sounds=arguments.sounds,
            n_workers=arguments.workers,
        )
        return
    data, models = arguments.data, SpeechModels.load(n_threads=1)
    stereo, mono = real_calls(data, "stereo"), real_calls(data, "mono")
    shop = repair_shop(data, models)
    measure("real calls, stereo", stereo, models, arguments.details)
    for leak_db in (12, 24):
        leaky = [replace(e, samples=with_leak(e.samples, leak_db)) for e in stereo]
        measure(f"real calls, stereo, leak -{leak_db} dB", leaky, models, arguments.details)
    measure("real calls, mono", mono, models, arguments.details)
    measure("repair shop, mono mix", shop, models, arguments.details)
    measure("AMI meetings", meetings(data), models, arguments.details)
    for corpus in ("crema-d", "ravdess"):
        for n_speakers, kind in ((2, "same"), (2, "mixed"), (1, "any"), (3, "any")):
            examples = built_calls(data, corpus, arguments.calls, n_speakers, kind)
            measure(f"built, {corpus}, {n_speakers} {kind}", examples, models, arguments.details)
    stereo_shop = read(data / "calls" / "aws-auto-repairs" / "Auto_Repairs_40_UTC_stereo.wav")
    measure_speed("speed, stereo", stereo_shop, arguments.speed_minutes, models)
    measure_speed("speed, mono", shop[0].samples, arguments.speed_minutes, models)


if __name__ == "__main__":
    main()
