"""Fit when a recording is a conversation of two voices, on built calls of development speakers.

    python benchmarks/voice_count.py CORPORA --cache FOLDER [--cycles 2] [--equal-lines 0.3]

CORPORA is a folder with `crema-d` and `emodb`. Calls of one, two and three voices are built, coded, decoded
and embedded once each (about a second of one core a call) and kept in FOLDER, so that a second call goes on.
Every call is divided in a voice space fitted on all speakers but its own. Prints what goes into
`callanalytics.diarize.conversation`, and how many calls are told right at which `conversation_share`, each by
weights that were fitted on four fifths of the calls, without it. With --equal-lines every party has a line of
their own but in that share of the calls, where all have the same; keep these in another FOLDER.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from built_calls import (
    CODINGS,
    DEVELOPMENT,
    Plan,
    Speaker,
    build_call,
    choose_speakers,
    corpus_speakers,
    through,
)
from sklearn.linear_model import LogisticRegression
from voice_space import SETS, fit, mood_prints

from callanalytics.diarize import SpeechModels
from callanalytics.diarize.clustering import Division, Speech
from callanalytics.diarize.embedding import Pieces
from callanalytics.diarize.non_speech import covered_frames, find_non_speech
from callanalytics.diarize.one_channel import SpeechPieces, embed_speech
from callanalytics.diarize.vad import FRAME_S, frame_levels_db

EMODB_SHARE = 0.15
SHARES = (0.5, 0.8, 0.9, 0.95)


def plans() -> list[Plan]:
    """One cycle: 22 calls of two voices, 10 of one, 4 of three."""
    found = []
    for pairing in ("same", "mixed"):
        for moods, n in (("any", 2), ("turning", 3), ("calm", 2)):
            found += [Plan("conversation", moods, 2, pairing)] * n
        found += [Plan("lopsided", moods, 2, pairing) for moods in ("calm", "turning")]
        found += [Plan("conversation", "calm", 2, pairing, 12, 25)]
        found += [Plan("conversation", "turning", 2, pairing, 15, 30)]
    for moods in ("any", "turning", "turning", "calm"):
        found += [
            Plan("message", moods, 1, longest_s=70),
            Plan("one_sided", moods, 1, shortest_s=40, longest_s=150),
        ]
    found += [Plan("transfer", moods, 3, shortest_s=50) for moods in ("calm", "turning")]
    found += [Plan("conversation", moods, 3, shortest_s=50) for moods in ("any", "calm")]
    # One voice that talks over itself in ever new moods, so that overlap alone does not decide.
    return found + [Plan("conversation", "any", 1)] * 2


@dataclass(frozen=True)
class Built:
    """An embedded call and what is true of it."""

    pieces: SpeechPieces
    facts: dict[str, object]

    @property
    def n_voices(self) -> int:
        return len({name for _, _, name in self.facts["spoken"]})


def embed(samples: np.ndarray, models: SpeechModels) -> SpeechPieces:
    """Pieces of (1, n) samples, as the product makes them."""
    levels_db = frame_levels_db(samples)
    probability = models.detector.probabilities(samples, levels_db)
    sounds = find_non_speech(samples, levels_db, probability, (0,))
    blocked, music = (frames[0] for frames in covered_frames(sounds, levels_db.shape))
    return embed_speech(samples[0], levels_db[0], probability[0], blocked, music, models)


def save(path: Path, built: Built) -> None:
    pieces, sums = built.pieces, built.pieces.sums
    arrays = {name: getattr(pieces, name) for name in ("span", "prints", "local_speaker", "overlap")}
    arrays |= {name: getattr(sums, name) for name in ("n_rows", "total", "squares")}
    half = path.with_suffix(".half")
    with half.open("wb") as stream:
        np.savez(stream, facts=json.dumps(built.facts), **arrays)
    half.rename(path)


def load(path: Path) -> Built:
    with np.load(path) as kept:
        sums = Pieces(kept["n_rows"], kept["total"], kept["squares"])
        pieces = SpeechPieces(kept["span"], kept["prints"], sums, kept["local_speaker"], kept["overlap"])
        return Built(pieces, json.loads(str(kept["facts"])))


def halves(corpora: Path) -> list[list[list[Speaker]]]:
    """Speakers by half and corpus: every other one."""
    found = [corpus_speakers(corpora, corpus) for corpus in DEVELOPMENT]
    return [[speakers[half::2] for speakers in found] for half in (0, 1)]


def prepare(corpora: Path, cache: Path, n_cycles: int, equal_lines: float | None) -> None:
    """Build and embed what is not in the cache."""
    models, speakers, cycle = SpeechModels.load(n_threads=1), halves(corpora), plans()
    for number in range(n_cycles * len(cycle)):
        for at, coding in enumerate(CODINGS):
            path = cache / f"{coding}-{number:04d}.npz"
            if path.exists():
                continue
            plan, half = cycle[number % len(cycle)], (number + number // len(cycle)) % 2
            rng = np.random.default_rng([number, at])
            in_emodb = plan.n_speakers < 3 and rng.random() < EMODB_SHARE
            chosen = choose_speakers(speakers[half][in_emodb], plan, rng)
            samples, spoken = build_call(plan, chosen, rng, equal_lines)
            facts = {"coding": coding, "shape": plan.shape, "moods": plan.moods, "pairing": plan.pairing}
            facts |= {"number": number, "half": half, "spoken": spoken}
            save(path, Built(embed(through(samples, coding), models), facts))


def wrong_share(built: Built, labels: np.ndarray) -> float:
    """Part of the speech that a division in two gives to the other of two voices."""
    begin_s, end_s = built.pieces.span.T * FRAME_S
    names = sorted({name for _, _, name in built.facts["spoken"]})
    own_s = np.zeros((len(names), len(begin_s)))
    for start_s, stop_s, name in built.facts["spoken"]:
        inside_s = np.minimum(stop_s, end_s) - np.maximum(start_s, begin_s)
        own_s[names.index(name)] += np.maximum(inside_s, 0)
    whose = own_s.argmax(axis=0)
    differs = (end_s - begin_s) @ (whose != labels) / (end_s - begin_s).sum()
    return float(min(differs, 1 - differs))


def fit_weights(calls: list[tuple[Built, Division]]) -> np.ndarray:
    """Intercept and weights."""
    terms = np.array([division.evidence.terms for _, division in calls])
    scale = terms.std(axis=0)
    two = np.array([built.n_voices > 1 for built, _ in calls])
    fitted = LogisticRegression(class_weight="balanced").fit(terms / scale, two)
    return np.append(fitted.intercept_, fitted.coef_[0] / scale)


def odds(division: Division, weights: np.ndarray) -> float:
    return float(weights[0] + weights[1:] @ division.evidence.terms)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--cycles", type=int, default=2, help="of 38 calls through each of nine codings")
    parser.add_argument("--equal-lines", type=float, help="share of calls whose parties have equal lines")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    prepare(arguments.corpora, arguments.cache, arguments.cycles, arguments.equal_lines)
    sets = [mood_prints(arguments.corpora, *which, arguments.cache) for which in SETS]
    printer = SpeechModels().printer
    calls = []
    for path in sorted(arguments.cache.glob("*-????.npz")):
        built = load(path)
        whole = partial(printer.whole, built.pieces.sums)
        own = {name for _, _, name in built.facts["spoken"]}
        space = fit(sets, lambda name, own=own: name not in own)
        speech = Speech(built.pieces.prints, built.pieces.rhythm, space, whole)
        if division := speech.likeliest():
            calls.append((built, division))
    report(calls)


def report(calls: list[tuple[Built, Division]]) -> None:
    fifth = np.array([built.facts["number"] % 5 for built, _ in calls])
    found = np.zeros(len(calls))
    wrong = np.zeros(len(calls))
    for left_out in range(5):
        weights = fit_weights([call for call, part in zip(calls, fifth, strict=True) if part != left_out])
        for at in np.flatnonzero(fifth == left_out):
            built, division = calls[at]
            found[at], wrong[at] = odds(division, weights), wrong_share(built, division.labels)
    groups = defaultdict(list)
    for at, (built, _) in enumerate(calls):
        n = min(built.n_voices, 3)
        for name in (
            built.facts["coding"],
            f"{built.facts['shape']} {built.facts['moods']} {built.facts['pairing']}",
        ):
            groups[n, name].append(at)
        groups[n, "all"].append(at)
    print(
        "voices  calls" + " " * 31 + "n  right at a share of " + " ".join(map(str, SHARES)) + "  wrong part"
    )
    for (n, name), at in sorted(groups.items()):
        right = [np.mean((found[at] + np.log(s / (1 - s)) > 0) == (n > 1)) for s in SHARES]
        part = f"{np.mean(wrong[at]):.3f}" if n == 2 else ""
        print(f"{n:6d}  {name:30s} {len(at):6d}  " + " ".join(f"{r:.3f}" for r in right) + f"  {part}")
    weights = fit_weights(calls)
    print(f"_AT_EVEN_ODDS = {weights[0]:.2f}")
    print("_WEIGHTS = (" + ", ".join(f"{w:.3f}" for w in weights[1:]) + ")")


if __name__ == "__main__":
    main()
