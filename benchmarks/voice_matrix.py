"""How many voices are found, and how well they are divided, on built mono calls in all codings and in noise.

    python benchmarks/diarization.py DATA --matrix FOLDER [--quick] [--calls 12]

The calls are of RAVDESS and nEMO speakers, on whom nothing is fitted. What is done is kept in FOLDER, a line
a call, so that a second run goes on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from built_calls import (
    CODINGS,
    RATE_HZ,
    TEST,
    Plan,
    Speaker,
    build_call,
    choose_speakers,
    corpus_speakers,
    through,
    with_noise,
)
from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate

from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.quality import Quality

NAMES = "matrix.jsonl"
QUICK_CODINGS = ("pcm", "gsm", "amr-5.9", "mp3-8", "opus-8")
NOISES_DB = (20, 10, 5)
KINDS = {
    "two, same sex, any mood": Plan("conversation", "any", 2, "same"),
    "two, same sex, one angry late": Plan("conversation", "turning", 2, "same"),
    "two, both sexes, any mood": Plan("conversation", "any", 2, "mixed"),
    "two, both sexes, one angry late": Plan("conversation", "turning", 2, "mixed"),
    "two, one answers only": Plan("lopsided", "turning", 2),
    "one, a message": Plan("message", "any", 1, longest_s=70),
    "one, angry late": Plan("message", "turning", 1, longest_s=70),
    "one side of a call": Plan("one_sided", "turning", 1, shortest_s=40),
    "three, passed on": Plan("transfer", "turning", 3, shortest_s=50),
    "three, any mood": Plan("conversation", "any", 3, shortest_s=50),
}


@dataclass(frozen=True)
class Row:
    """One call: what it is, and what was found."""

    kind: str
    sound: str  # coding, or noise
    number: int
    n_voices: int
    n_found: int
    noted: bool  # one_voice or three_voices
    total_s: float
    missed_s: float
    false_s: float
    confused_s: float


def run(data: Path, folder: Path, *, n_calls: int, quick: bool) -> None:
    """Do what is not in the folder yet, call by call of all kinds, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAMES
    rows = [Row(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row.kind, row.sound, row.number) for row in rows}
    speakers = [corpus_speakers(data / "corpora", corpus) for corpus in TEST]
    models = SpeechModels.load(n_threads=1)
    sounds = [*(QUICK_CODINGS if quick else CODINGS), *(f"{snr} dB" for snr in NOISES_DB)]
    for number in range(n_calls):
        for at, sound in enumerate(sounds):
            for kind in KINDS:
                if (kind, sound, number) not in done:
                    rows.append(_measured(kind, sound, number, at, speakers[number % len(TEST)], models))
                    with path.open("a") as stream:
                        stream.write(json.dumps(asdict(rows[-1])) + "\n")
    _print(rows, sounds)


def _measured(
    kind: str, sound: str, number: int, at: int, speakers: list[Speaker], models: SpeechModels
) -> Row:
    plan = KINDS[kind]
    rng = np.random.default_rng([number, at, list(KINDS).index(kind), 8])
    samples, spoken = build_call(plan, choose_speakers(speakers, plan, rng), rng)
    if sound.endswith(" dB"):
        heard = with_noise(samples, float(sound.removesuffix(" dB")), rng)[None]
    else:
        heard = through(samples, sound)
    found = diarize(heard, RATE_HZ, models=models)
    truth, guess = Annotation(), Annotation()
    for place, (start_s, end_s, name) in enumerate(spoken):
        truth[Segment(start_s, end_s), place] = name
    for place, turn in enumerate(found.turns):
        guess[Segment(turn.start_s, turn.end_s), place] = turn.speaker
    metric = DiarizationErrorRate(collar=0.5, skip_overlap=False)
    error = metric(truth, guess, uem=Segment(0, heard.shape[1] / RATE_HZ), detailed=True)
    parts = (float(error[name]) for name in ("total", "missed detection", "false alarm", "confusion"))
    noted = bool({Quality.ONE_VOICE, Quality.THREE_VOICES} & set(found.quality))
    return Row(kind, sound, number, len(truth.labels()), len(found.speakers), noted, *parts)


def _print(rows: list[Row], sounds: list[str]) -> None:
    """Counted right by kind and sound; then what else is known of each kind."""
    cells = defaultdict(list)
    for row in rows:
        for sound in (row.sound, "all"):
            cells[row.kind, sound].append(row)
            cells[f"all of {min(row.n_voices, 3)}", sound].append(row)
    columns = ["all", *sounds]
    print(
        f"| voices counted right, in % | {' | '.join(columns)} | calls | two as one | noted | confusion % |"
    )
    print("|---|" + "---|" * (len(columns) + 4))
    for kind in [*KINDS, "all of 1", "all of 2", "all of 3"]:
        if not (every := cells[kind, "all"]):
            continue
        shares = [
            f"{100 * np.mean([row.n_found == row.n_voices for row in cell]):.0f}" if cell else ""
            for cell in (cells[kind, column] for column in columns)
        ]
        merged = sum(row.n_found == 1 < row.n_voices for row in every)
        noted = sum(row.noted for row in every)
        confusion = 100 * sum(row.confused_s for row in every) / sum(row.total_s for row in every)
        print(f"| {kind} | {' | '.join(shares)} | {len(every)} | {merged} | {noted} | {confusion:.1f} |")
