"""How right is who is the agent, and how well does its confidence say so?

    python benchmarks/roles.py DATA [--calls 40] [--cache FOLDER] [--fit]
    python benchmarks/roles.py DATA --transfers [--calls 10]

DATA holds `calls/` and `corpora/`. Service calls are built of acted clips, in stereo and as their mono mix,
and analysed without any hint: the agent greets in one to three sentences, or after a short "hello?" of the
other side, and both take turns, a fifth of them beginning before the other has finished. CREMA-D and EMO-DB
voices choose the weights of the talk in `callanalytics/diarize/roles.py` (`--fit` prints them); RAVDESS and
nEMO voices only report. What was found is kept in --cache: a run of the same code goes on where it stopped.

With --transfers the calls are passed on to a second agent in the middle. Right is a speaker of its own
for each agent, both called agent, and the caller called so.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import soundfile as sf
import soxr

from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.quality import Quality
from callanalytics.diarize.roles import LAPSE_OF_TALK, possible_callers, talk_clues, voice_sides
from callanalytics.records import Role, Turn

RATE_HZ = 8000
N_BINS = 10
SHRINKAGE = 0.3
DEVELOPMENT, TEST = ("crema-d", "emodb"), ("ravdess", "nemo")
OPENINGS = ("sentence", "greeting", "hello")
FloatArray = np.ndarray


@dataclass(frozen=True)
class Built:
    """A built call and who truly spoke when: turns of "agent", "caller", and "second" after a transfer."""

    name: str
    samples: FloatArray  # (2, n): the agent on channel `agent_channel`
    agent_channel: int
    truth: tuple[Turn, ...]


@dataclass(frozen=True)
class Heard:
    """What the diarization made of a call: its turns, and which of its speakers truly is the agent."""

    name: str
    turns: tuple[Turn, ...]
    agent: str | None  # None where fewer than two voices were found
    right: bool  # it is called so
    confidence: float


def clips_by_speaker(data: Path, corpus: str) -> dict[str, list[Path]]:
    """Clips of every speaker."""
    found: dict[str, list[Path]] = {}
    root = data / "corpora" / corpus
    if corpus == "nemo":
        with (root / "data.tsv").open(encoding="utf-8") as stream:
            for row in csv.DictReader(stream, delimiter="\t"):
                path = root / "samples" / Path(row["file_id"]).name
                found.setdefault(row["speaker_id"], []).append(path)
        return found
    folder, speaker = {
        "crema-d": ("AudioWAV/*", slice(0, 4)),
        "emodb": ("wav/*", slice(0, 2)),
        "ravdess": ("Actor_*/*", slice(-2, None)),
    }[corpus]
    for path in sorted(root.glob(folder)):
        found.setdefault(path.stem[speaker], []).append(path)
    return found


def read_clip(path: Path) -> FloatArray:
    """(n,) float32 at 8 kHz without its quiet ends, at one level."""
    samples, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    samples = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
    level_db = 20 * np.log10(np.sqrt(np.convolve(samples**2, np.ones(400) / 400, "same")) + 1e-6)
    floor_db = min(max(np.percentile(level_db, 10) + 8, level_db.max() - 30), level_db.max() - 6)
    loud = np.flatnonzero(level_db > floor_db)
    samples = samples[loud[0] : loud[-1] + 1]
    return (samples / max(1e-4, float(samples.std()))).astype(np.float32)


def build_call(
    name: str, clips: dict[str, list[Path]], rng: np.random.Generator, passed_on: bool = False
) -> Built:
    """One service call of 16 to 30 turns, in which a second agent may take over in the middle."""
    agent, caller, *second = rng.choice(sorted(clips), 3 if passed_on else 2, replace=False)
    opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
    longest = {"agent": int(rng.integers(1, 4)), "caller": int(rng.integers(1, 4))}
    if opening == "sentence":
        longest = {"agent": 1, "caller": 1}
    plan = [("agent", int(rng.integers(2, 4)) if opening != "sentence" else 1)]
    for number in range(int(rng.integers(15, 30))):
        who = "agent" if number % 2 else "caller"
        plan.append((who, int(rng.integers(1, longest[who] + 1))))
    gain = {who: 10 ** (rng.uniform(-26, -18) / 20) for who in longest}
    voices = {"agent": agent, "caller": caller}
    if second:
        voices["second"], longest["second"], gain["second"] = second[0], longest["agent"], gain["agent"]
        plan = [
            ("second" if who == "agent" and 2 * turn > len(plan) else who, n)
            for turn, (who, n) in enumerate(plan)
        ]
    pieces: list[tuple[str, float, FloatArray]] = []
    at_s = float(rng.uniform(0.3, 1.5))
    if opening == "hello":
        hello = read_clip(rng.choice(clips[caller]))[: round(rng.uniform(0.35, 0.6) * RATE_HZ)]
        pieces.append(("caller", at_s, hello))
        at_s += len(hello) / RATE_HZ + float(rng.uniform(0.2, 0.8))
    for who, n_clips in plan:
        for _ in range(n_clips):
            clip = read_clip(rng.choice(clips[voices[who]]))
            pieces.append((who, at_s, clip))
            at_s += len(clip) / RATE_HZ + float(rng.uniform(0.1, 0.45))
        at_s += -float(rng.uniform(0.2, 0.9)) if rng.random() < 0.2 else float(rng.uniform(0.05, 0.7))
    side = int(rng.integers(2))
    sound = np.zeros((2, round((at_s + 3) * RATE_HZ)), np.float32)
    truth = []
    for who, start_s, clip in pieces:
        channel = 1 - side if who == "caller" else side
        first = round(start_s * RATE_HZ)
        sound[channel, first : first + len(clip)] += clip * gain[who] * 10 ** (rng.uniform(-2, 2) / 20)
        truth.append(Turn(who, channel, start_s, start_s + len(clip) / RATE_HZ))
    sound += rng.normal(0, 10 ** (-rng.uniform(52, 62) / 20), sound.shape).astype(np.float32)
    return Built(f"{name}-{opening}", sound, side, tuple(truth))


def through_mu_law(samples: FloatArray) -> FloatArray:
    clipped = np.clip(samples, -1, 1)
    code = np.round(127 * np.sign(clipped) * np.log1p(255 * np.abs(clipped)) / np.log(256)) / 127
    return (np.sign(code) * (256 ** np.abs(code) - 1) / 255).astype(np.float32)


def built_calls(data: Path, corpora: Sequence[str], n_calls: int) -> Iterator[Built]:
    """`n_calls` of each corpus; each has its own seed, so that more calls leave the first as they were."""
    for corpus in corpora:
        clips = clips_by_speaker(data, corpus)
        for number in range(n_calls):
            rng = np.random.default_rng([20261128, len(corpus), number])
            yield build_call(f"{corpus}-{number:03d}", clips, rng)


def real_calls(data: Path) -> Iterator[Built]:
    """HarperValleyBank: caller left, agent right."""
    root = data / "calls" / "harper-valley"
    for path in sorted((root / "stereo").glob("*.wav")):
        lines = (line.split() for line in (root / "rttm" / f"{path.stem}.rttm").read_text().splitlines())
        truth = tuple(Turn(f[7], 0, float(f[3]), float(f[3]) + float(f[4])) for f in lines if f)
        yield Built(f"real-{path.stem}", sf.read(path, dtype="float32")[0].T, 1, truth)


def shared_s(turns: Sequence[Turn], others: Sequence[Turn]) -> float:
    """Seconds during which turns of both lists are spoken (turns of one list are taken as disjoint)."""
    return sum(max(0.0, min(a.end_s, b.end_s) - max(a.start_s, b.start_s)) for a in turns for b in others)


def hear(call: Built, layout: str, models: SpeechModels) -> Heard:
    """Diarize one layout without any hint and find which speaker truly is the agent."""
    sound = call.samples if layout == "stereo" else call.samples.sum(axis=0, keepdims=True)
    if not call.name.startswith("real"):
        sound = through_mu_law(sound)
    elif layout == "mono":
        sound = sound / 2
    found = diarize(np.ascontiguousarray(sound), RATE_HZ, models=models)
    mine = [turn for turn in call.truth if turn.speaker == "agent"]
    theirs = [turn for turn in call.truth if turn.speaker != "agent"]

    def agency(speaker: str) -> float:
        spoken = [turn for turn in found.turns if turn.speaker == speaker]
        seconds = sum(turn.duration_s for turn in spoken)
        return (shared_s(spoken, mine) - shared_s(spoken, theirs)) / max(seconds, 1e-9)

    agent = max(found.speakers, key=agency) if len(found.speakers) > 1 else None
    right = found.roles.get(agent) is Role.AGENT
    return Heard(f"{call.name}-{layout}", found.turns, agent, right, found.role_confidence)


def heard_calls(
    calls: Iterator[Built], layout: str, models: SpeechModels, cache: Path | None
) -> Iterator[Heard]:
    """The same for many calls, taken from the cache where they are in it."""
    for call in calls:
        kept = cache / f"{call.name}-{layout}.json" if cache else None
        if kept and kept.exists():
            row = json.loads(kept.read_text(encoding="utf-8"))
            yield Heard(**row | {"turns": tuple(Turn(**turn) for turn in row["turns"])})
            continue
        heard = hear(call, layout, models)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(asdict(heard)), encoding="utf-8")
        yield heard


def calibration_error(confidence: FloatArray, right: FloatArray) -> float:
    """Expected calibration error over ten bins from 0.5 to 1 (Guo et al., ICML 2017)."""
    of_bin = np.minimum(((confidence - 0.5) * 2 * N_BINS).astype(int), N_BINS - 1)
    gaps = [
        abs(float(confidence[of_bin == k].mean() - right[of_bin == k].mean())) * (of_bin == k).sum()
        for k in set(of_bin.tolist())
    ]
    return float(sum(gaps)) / len(confidence)


def report(title: str, calls: Sequence[Heard]) -> None:
    """Roles right of all calls, and of those in which two voices or more were found, and calibration."""
    told = [call for call in calls if call.agent is not None]
    confidence = np.array([call.confidence for call in told])
    right = np.array([call.right for call in told], float)
    print(
        f"{title:28s} roles right {int(right.sum())}/{len(calls)}   of those with two voices "
        f"{100 * right.mean():5.1f} %   confidence {confidence.mean():.3f}   "
        f"ECE {calibration_error(confidence, right):.3f}",
        flush=True,
    )


def fit(calls: Sequence[Heard]) -> FloatArray:
    """Weights of the clues of the talk, by logistic regression with lapses and a little shrinkage."""
    from scipy.optimize import minimize

    clues = []
    for call in calls:
        sides = voice_sides(call.turns)
        if call.agent not in sides:
            continue
        spoken = [replace(t, speaker=str(sides[t.speaker])) for t in call.turns if t.speaker in sides]
        way = 1 if str(sides[call.agent]) == spoken[0].speaker else -1
        clues.append(way * np.array(talk_clues(spoken)))
    rows = np.array(clues)

    def loss(weights: FloatArray) -> float:
        right = LAPSE_OF_TALK / 2 + (1 - LAPSE_OF_TALK) / (1 + np.exp(-(rows @ weights)))
        return float(-np.log(right).sum() + SHRINKAGE * (weights**2).sum() / 2)

    return np.asarray(minimize(loss, np.zeros(rows.shape[1]), method="BFGS").x)


@dataclass(frozen=True)
class PassedOn:
    """What was found of a call with two agents and a caller: roles of whom each is heard as, and notes."""

    apart: bool  # the agents are two speakers
    right: bool  # and both are called agents, the caller the caller
    noted: bool  # more voices, mixed ones, or that there may be more
    caller_is_agent: bool  # what is heard of the caller is not assessed as the caller's


def hear_transfer(call: Built, layout: str, models: SpeechModels) -> PassedOn:
    """Diarize a call that is passed on."""
    sound = call.samples if layout == "stereo" else call.samples.sum(axis=0, keepdims=True)
    found = diarize(np.ascontiguousarray(through_mu_law(sound)), RATE_HZ, models=models)

    def heard_as(who: str) -> str:
        mine = [turn for turn in call.truth if turn.speaker == who]
        own_s = {
            name: shared_s([t for t in found.turns if t.speaker == name], mine) for name in found.speakers
        }
        return max(own_s, key=lambda name: own_s[name])

    agent, second, caller = (heard_as(who) for who in ("agent", "second", "caller"))
    apart = len({agent, second, caller}) == 3
    called = found.roles[agent], found.roles[second], found.roles[caller]
    right = apart and called == (Role.AGENT, Role.AGENT, Role.CALLER)
    notes = {Quality.ONE_VOICE, Quality.THREE_VOICES, Quality.MIXED_VOICES, Quality.MAYBE_PASSED_ON}
    noted = bool(notes & set(found.quality))
    return PassedOn(apart, right, noted, caller not in possible_callers(found) and called[2] is Role.AGENT)


def report_transfers(data: Path, n_calls: int, models: SpeechModels) -> None:
    """A line for each layout and corpus."""
    for layout in ("stereo", "mono"):
        for corpus in (*DEVELOPMENT, *TEST):
            clips = clips_by_speaker(data, corpus)
            calls = []
            for number in range(n_calls):
                rng = np.random.default_rng([20261129, len(corpus), number])
                built = build_call(f"{corpus}-{number:03d}", clips, rng, passed_on=True)
                calls.append(hear_transfer(built, layout, models))
            told = " ".join(
                f"{title} {sum(getattr(call, name) for call in calls)}"
                for title, name in (("agents apart", "apart"), ("roles right", "right"), ("noted", "noted"))
            )
            lost = sum(not call.apart and not call.noted for call in calls)
            exchanged = sum(call.caller_is_agent for call in calls)
            print(
                f"{layout}, {corpus:9s} of {n_calls}: {told}   one agent and nothing noted {lost}   "
                f"caller taken for an agent only {exchanged}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--calls", type=int, default=40, help="built calls of each corpus")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--fit", action="store_true", help="print the weights of the talk")
    parser.add_argument("--transfers", action="store_true", help="calls that are passed on to a second agent")
    arguments = parser.parse_args()
    data, models = arguments.data, SpeechModels.load(n_threads=1)
    if arguments.transfers:
        report_transfers(data, arguments.calls, models)
        return
    development: list[Heard] = []
    for layout in ("stereo", "mono"):
        for title, corpora in (("development", DEVELOPMENT), ("test", TEST)):
            every = []
            for corpus in corpora:
                built = built_calls(data, [corpus], arguments.calls)
                heard = list(heard_calls(built, layout, models, arguments.cache))
                report(f"{layout}, {corpus}", heard)
                every += heard
            report(f"{layout}, {title}", every)
            development += every if title == "development" else []
        report(f"{layout}, real", list(heard_calls(real_calls(data), layout, models, arguments.cache)))
    if arguments.fit:
        print("weights", np.round(fit(development), 2))


if __name__ == "__main__":
    main()
