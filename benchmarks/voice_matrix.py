"""Built calls through every coding, in noise and with spoilt channels: voices, their division, and flags.

    python benchmarks/diarization.py DATA --matrix FOLDER [--calls 12] [--planted 30] [--sounds pcm gsm ...]

The calls are of RAVDESS and nEMO speakers, on whom nothing is fitted; those with a caller who turns angry
are of `benchmarks/escalation.py`. What is done is kept in FOLDER, a line a call, so that a second run goes
on, also with more calls or other sounds. A call takes about 0.6 processor seconds, the whole table of 2,400
about half an hour of one core.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import soundfile
from built_calls import (
    CODINGS,
    RATE_HZ,
    TEST,
    Plan,
    Speaker,
    build_sides,
    choose_speakers,
    corpus_speakers,
    late,
    through,
    with_line_noise,
    with_noise,
)
from escalation import Built, planted_call, recording_of
from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate
from sklearn.metrics import roc_auc_score

from callanalytics.analysis.call import load_analysis
from callanalytics.config import Settings
from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.quality import Quality

NAMES = "matrix.jsonl"
NOISES = ("20 dB", "10 dB", "5 dB")
# With a channel for each side; the others are made of the mono call.
OF_SIDES = ("stereo", "echo 250 ms")
SOUNDS = (*CODINGS, *NOISES, *OF_SIDES, "noise side", "doubled 100 ms")
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
PLANTED = "planted"


@dataclass(frozen=True)
class Task:
    """One call to be made and heard."""

    kind: str  # of `KINDS`, or `PLANTED`
    sound: str  # coding, noise or layout
    number: int


@dataclass(frozen=True)
class Row:
    """What was found in one call of `KINDS`, and what is true."""

    kind: str
    sound: str
    number: int
    n_voices: int
    n_found: int
    noted: bool  # one_voice, three_voices, mixed_voices or maybe_passed_on
    total_s: float
    missed_s: float
    false_s: float
    confused_s: float


@dataclass(frozen=True)
class Planted:
    """What was found in one call whose caller turns angry, or does not."""

    kind: str
    sound: str
    number: int
    angry: bool
    score: float  # -1 without one: it ranks below all others
    flagged: bool
    n_found: int


def run(
    data: Path, folder: Path, *, sounds: Sequence[str], n_calls: int, n_planted: int, n_workers: int
) -> None:
    """Do what is not in the folder yet, all kinds of the first call first, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAMES
    rows = [_row(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    done = {Task(row.kind, row.sound, row.number) for row in rows}
    tasks = [
        task
        for number in range(max(n_calls, n_planted))
        for sound in sounds
        for kind in [*KINDS, PLANTED]
        if number < (n_planted if kind == PLANTED else n_calls)
        and (task := Task(kind, sound, number)) not in done
    ]
    with ProcessPoolExecutor(n_workers) as pool, path.open("a") as stream:
        for row in pool.map(partial(_heard, data / "corpora"), tasks):
            rows.append(row)
            stream.write(json.dumps(asdict(row)) + "\n")
            stream.flush()
    _print(rows, sounds)


def _row(fields: dict[str, object]) -> Row | Planted:
    return Planted(**fields) if fields["kind"] == PLANTED else Row(**fields)


def _heard(corpora: Path, task: Task) -> Row | Planted:
    return _planted(corpora, task) if task.kind == PLANTED else _measured(corpora, task)


_models = cache(partial(SpeechModels.load, n_threads=1))
_analysis = cache(lambda: load_analysis(Settings(), None))


@cache
def _speakers(corpora: Path, corpus: str) -> list[Speaker]:
    return corpus_speakers(corpora, corpus)


def as_recorded(sides: np.ndarray, sound: str, rng: np.random.Generator) -> np.ndarray:
    """Samples (1 or 2, n) of a coding, noise or layout from the two sides (2, n) of a call."""
    if sound in OF_SIDES:
        echo = 10**-0.5 * late(sides[::-1], 250) if sound != "stereo" else 0
        return np.clip(sides + echo, -1, 1).astype(np.float32)
    mix = np.clip(sides.sum(axis=0), -1, 1).astype(np.float32)
    if sound == "noise side":
        return np.stack([mix, rng.uniform(-0.006, 0.006, len(mix)).astype(np.float32)])
    if sound == "doubled 100 ms":
        return np.stack([mix, late(mix, 100)])
    if sound.endswith(" dB"):
        return with_noise(mix, float(sound.removesuffix(" dB")), rng)[None]
    return through(mix, sound)


def _measured(corpora: Path, task: Task) -> Row:
    plan = KINDS[task.kind]
    speakers = _speakers(corpora, TEST[task.number % len(TEST)])
    # The same call for every sound, so that columns can be compared.
    rng = np.random.default_rng([task.number, list(KINDS).index(task.kind), 9])
    sides, spoken = build_sides(plan, choose_speakers(speakers, plan, rng), rng)
    heard = as_recorded(with_line_noise(sides, rng), task.sound, rng)
    found = diarize(heard, RATE_HZ, models=_models())
    truth, guess = Annotation(), Annotation()
    for place, (start_s, end_s, name) in enumerate(spoken):
        truth[Segment(start_s, end_s), place] = name
    for place, turn in enumerate(found.turns):
        guess[Segment(turn.start_s, turn.end_s), place] = turn.speaker
    metric = DiarizationErrorRate(collar=0.5, skip_overlap=False)
    error = metric(truth, guess, uem=Segment(0, heard.shape[1] / RATE_HZ), detailed=True)
    parts = (float(error[name]) for name in ("total", "missed detection", "false alarm", "confusion"))
    notes = {Quality.ONE_VOICE, Quality.THREE_VOICES, Quality.MIXED_VOICES, Quality.MAYBE_PASSED_ON}
    noted = bool(notes & set(found.quality))
    n_found = len(found.speakers)
    return Row(task.kind, task.sound, task.number, len(truth.labels()), n_found, noted, *parts)


def _planted(corpora: Path, task: Task) -> Planted:
    rng = np.random.default_rng([task.number, 9])
    sides, angry, loud = planted_call(rng, corpora / "ravdess", task.number)
    heard = as_recorded(sides, task.sound, rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "call.wav")
        soundfile.write(path, heard.T, RATE_HZ, subtype="PCM_16")
        layout = "stereo" if task.sound in OF_SIDES else "mono"
        call = _analysis()(recording_of(Built(path, layout, angry, loud)))
    score = call.assessment.curve.score
    n_found = len(call.speech.speakers)
    return Planted(
        PLANTED,
        task.sound,
        task.number,
        angry,
        -1.0 if score is None else float(score),
        bool(call.assessment.flagged),
        n_found,
    )


def _print(rows: Sequence[Row | Planted], sounds: Sequence[str]) -> None:
    """One table: a column a sound. Voices counted right by kind, then errors, then planted calls."""
    columns = ["all", *sounds]
    rows = [row for row in rows if row.sound in sounds]
    print(f"| what, in % | {' | '.join(columns)} | n |")
    print("|---|" + "---|" * (len(columns) + 1))

    def line(name: str, chosen: list, figure) -> None:
        of_column = [[row for row in chosen if column in ("all", row.sound)] for column in columns]
        if chosen:
            cells = [figure(cell) if cell else "" for cell in of_column]
            print(f"| {name} | {' | '.join(cells)} | {len(chosen)} |")

    heard = [row for row in rows if isinstance(row, Row)]
    planted = [row for row in rows if isinstance(row, Planted)]
    right = partial(_share, lambda row: row.n_found == row.n_voices)
    for kind in KINDS:
        line(f"counted right: {kind}", [row for row in heard if row.kind == kind], right)
    for n, name in ((1, "one voice"), (2, "two voices"), (3, "three voices")):
        line(f"**counted right: {name}**", [row for row in heard if row.n_voices == n], right)
    two = [row for row in heard if row.n_voices == 2]
    line("two voices taken for one", two, partial(_share, lambda row: row.n_found == 1))
    line("wrong count noted in `quality`", [r for r in heard if r.n_found != r.n_voices], _share_noted)
    for name, part in (("missed", "missed_s"), ("false speech", "false_s"), ("confusion", "confused_s")):
        line(f"two voices: {name}", two, partial(_rate, part))
    line("planted: two voices found", planted, partial(_share, lambda row: row.n_found == 2))
    line("planted: ROC-AUC", planted, _auc)
    line("planted: recall", planted, lambda c: _share(lambda r: r.flagged, [r for r in c if r.angry]))
    line("planted: precision", planted, lambda c: _share(lambda r: r.angry, [r for r in c if r.flagged]))


def _share(is_so, cell: Sequence) -> str:
    return f"{100 * np.mean([is_so(row) for row in cell]):.0f}" if cell else ""


_share_noted = partial(_share, lambda row: row.noted)


def _rate(part: str, cell: Sequence[Row]) -> str:
    return f"{100 * sum(getattr(row, part) for row in cell) / sum(row.total_s for row in cell):.1f}"


def _auc(cell: Sequence[Planted]) -> str:
    angry = [row.angry for row in cell]
    return f"{100 * roc_auc_score(angry, [row.score for row in cell]):.1f}" if len(set(angry)) > 1 else ""
