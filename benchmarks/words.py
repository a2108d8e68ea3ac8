"""Word error of recognised words, quotes against a reference, and what "moments" costs a night.

    python benchmarks/words.py --data DATA --model FOLDER [--hours 4]

Calls: `calls/harper-valley` (CC BY 4.0), whose people transcribed both sides. Each utterance of the reference
has its time; a machine timed its words, and where it found as many words as people did, each has a time of
its own. Numbers are masked on both sides before words are compared, in the reference once utterance by
utterance and once as the product does it, in which one number spoken in three utterances is one.

The cost is seconds of the processor, which other work on the machine changes less than seconds of the clock:
of calls that are all made to be flagged, against the same calls without words, in turn in one process; and of
whole nights of `--hours` with the model loaded, of which 5 % are flagged, in turn with and without words.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from nights import build_night, source_calls
from throughput import run_child

from callanalytics.analysis.call import CallAnalysis, Models, analyze_call
from callanalytics.analysis.words import Word
from callanalytics.analysis.words.masking import MASK, mask_numbers
from callanalytics.config import DEFAULT_RULES, Settings, WordsSettings
from callanalytics.ingest import recording_from_files
from callanalytics.records import FoundRecording

FLAGGED_SHARE = 0.05
ROUNDS = 3
RIGHT_S = 1.0


@dataclass(frozen=True)
class Said:
    text: str
    start_s: float  # of its utterance
    end_s: float
    own_s: tuple[float, float] | None = None  # start and end of the word itself, where it is known


def words_of(text: str) -> list[str]:
    masked = [word.text for word in mask_numbers([Word(part) for part in text.split()]) if word is not None]
    return re.findall(r"\[number\]|[\w']+", " ".join(masked).lower())


def reference(path: Path) -> dict[str, list[Said]]:
    """Words by role, each with the time of its utterance; noises and what nobody understood left out."""
    sides: dict[str, list[Said]] = {"agent": [], "caller": []}
    for start_s, end_s, line in utterances(path):
        text = re.sub(r"[\[<][^\]>]*[\]>]", " ", line["human_transcript"])
        sides[line["speaker_role"]] += [Said(word, start_s, end_s) for word in words_of(text)]
    return sides


def reference_as_one(path: Path) -> dict[str, list[Said]]:
    """The same with the numbers of a side masked as the product masks them, and with times of words."""
    sides: dict[str, list[Said]] = {"agent": [], "caller": []}
    for role, side in sides.items():
        flat: list[Word] = []
        own: list[tuple[float, float] | None] = []
        for start_s, end_s, line in utterances(path):
            if line["speaker_role"] != role:
                continue
            texts = line["human_transcript"].split()
            at_ms = list(zip(line["word_offsets_ms"], line["word_durations_ms"], strict=True))
            timed = len(at_ms) == len(texts)
            for number, text in enumerate(texts):
                if re.fullmatch(r"[\[<].*[\]>]", text):
                    continue
                first_s = start_s + at_ms[number][0] / 1000 if timed else 0.0
                own.append((first_s, first_s + at_ms[number][1] / 1000) if timed else None)
                flat.append(Word(text, start_s, end_s))
        for word, of_word in zip(mask_numbers(flat), own, strict=True):
            if word is not None:
                known = None if word.text == MASK else of_word  # a number is of several words
                for part in words_of(word.text):
                    side.append(Said(part, word.start_s or 0.0, word.end_s or 0.0, known))
    return sides


def utterances(path: Path) -> list[tuple[float, float, dict[str, Any]]]:
    lines = sorted(json.loads(path.read_text(encoding="utf-8")), key=lambda line: line["offset_ms"])
    return [
        (line["offset_ms"] / 1000, (line["offset_ms"] + line["duration_ms"]) / 1000, line) for line in lines
    ]


def heard(call: CallAnalysis, role: str) -> list[Said]:
    found = []
    for utterance in call.words.utterances:
        if utterance.role == role:
            for word, at_s in zip(utterance.words, utterance.word_start_s, strict=True):
                parts = [MASK] if MASK in word else re.findall(r"[\w']+", word.lower())
                found += [Said(part, at_s, at_s) for part in parts]
    return found


def aligned(wanted: Sequence[Said], found: Sequence[Said]) -> tuple[int, list[tuple[Said, Said]]]:
    """Edit distance in words, and the pairs that are the same word."""
    rows = [list(range(len(found) + 1))]
    for i, a in enumerate(wanted, start=1):
        row = [i]
        for j, b in enumerate(found, start=1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a.text != b.text)))
        rows.append(row)
    pairs, i, j = [], len(wanted), len(found)
    while i and j:
        same = wanted[i - 1].text == found[j - 1].text
        if rows[i][j] == rows[i - 1][j - 1] + (not same):
            if same:
                pairs.append((wanted[i - 1], found[j - 1]))
            i, j = i - 1, j - 1
        elif rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return rows[-1][-1], pairs[::-1]


def away_s(wanted: Said, found: Said) -> float:
    return max(wanted.start_s - found.start_s, found.start_s - wanted.end_s, 0.0)


def compare(data: Path, settings: Settings, models: Models) -> None:
    n_words = n_errors = n_side = n_errors_as_one = n_words_as_one = 0
    pairs_by_line: list[tuple[Said, Said]] = []
    pairs_as_one: list[tuple[Said, Said]] = []
    for path in bank_calls(data):
        call = analyze_call(found_in(path, settings), settings, models)
        transcript = path.parents[1] / "transcript" / f"{path.stem}.json"
        errors, total = 0, 0
        for role, wanted in reference(transcript).items():
            distance, pairs = aligned(wanted, heard(call, role))
            other = aligned(wanted, heard(call, "caller" if role == "agent" else "agent"))[1]
            errors, total = errors + distance, total + len(wanted)
            pairs_by_line += pairs
            n_side += len(pairs) > len(other)
        for role, wanted in reference_as_one(transcript).items():
            distance, pairs = aligned(wanted, heard(call, role))
            n_errors_as_one, n_words_as_one = n_errors_as_one + distance, n_words_as_one + len(wanted)
            pairs_as_one += pairs
        n_words, n_errors = n_words + total, n_errors + errors
        print(f"{path.stem}: {errors} of {total} words wrong, {100 * errors / total:.1f} %")
    print(f"word error {100 * n_errors / n_words:.1f} % of {n_words} words (goal: at most 18)")
    print(f"{n_side} of 10 sides right")
    print_times("right words", pairs_by_line)
    print(f"numbers masked as one: word error {100 * n_errors_as_one / n_words_as_one:.1f} %")
    print_times("right words, numbers masked as one", pairs_as_one)


def quotes(data: Path, settings: Settings, models: Models) -> None:
    """The words of moments alone: are they where and by whom they were said?"""
    flagging = all_flagged(settings)
    pairs: list[tuple[Said, Said]] = []
    n_heard = 0
    for path in bank_calls(data):
        call = analyze_call(found_in(path, flagging), flagging, models)
        sides = reference_as_one(path.parents[1] / "transcript" / f"{path.stem}.json")
        for role, wanted in sides.items():
            found = heard(call, role)
            n_heard += len(found)
            pairs += aligned_nearest(wanted, found)
    print(f"moments alone: {n_heard} words heard, {len(pairs)} of them right in role and words")
    print_times("right words of moments", pairs)


def aligned_nearest(wanted: Sequence[Said], found: Sequence[Said]) -> list[tuple[Said, Said]]:
    """As `aligned`, for a part of a call: only the utterances within 5 s of what was heard are compared.

    The edit distance alone would give a word of a moment to any of the same words of the whole call.
    """
    pairs: list[tuple[Said, Said]] = []
    group: list[Said] = []
    for number, word in enumerate(found, start=1):
        group.append(word)
        if number == len(found) or found[number].start_s - word.start_s > 5.0:
            near = [w for w in wanted if away_s(w, group[0]) <= 5.0 or away_s(w, group[-1]) <= 5.0]
            near = [w for w in wanted if near and near[0].start_s <= w.start_s <= near[-1].start_s]
            pairs += aligned(near, group)[1]
            group = []
    return pairs


def print_times(what: str, pairs: Sequence[tuple[Said, Said]]) -> None:
    far = [(wanted, found) for wanted, found in pairs if away_s(wanted, found) > RIGHT_S]
    print(f"{len(pairs) - len(far)} of {len(pairs)} {what} within {RIGHT_S:g} s of their utterance")
    for wanted, found in far:
        print(
            f"  not: {wanted.text!r} of {wanted.start_s:.2f} to {wanted.end_s:.2f} s at {found.start_s:.2f} s"
        )
    own = [
        (max(wanted.own_s[0] - found.start_s, found.start_s - wanted.own_s[1], 0.0), wanted, found)
        for wanted, found in pairs
        if wanted.own_s is not None
    ]
    if own:
        near = sum(away <= RIGHT_S for away, *_ in own)
        print(f"{near} of {len(own)} {what} within {RIGHT_S:g} s of the word's own time")
        for away, wanted, found in own:
            if away > RIGHT_S and wanted.own_s is not None:
                print(f"  not: {wanted.text!r} of {wanted.own_s[0]:.2f} s at {found.start_s:.2f} s")


def bank_calls(data: Path) -> list[Path]:
    return sorted((data / "calls" / "harper-valley" / "stereo").glob("*.wav"))


def found_in(path: Path, settings: Settings) -> FoundRecording:
    return recording_from_files([path], settings, now=datetime.now(UTC))


def all_flagged(settings: Settings) -> Settings:
    """Words of moments, and rules that always fire."""
    rules = tuple(
        rule.model_copy(update={"at_least": -1e9, "min_evidence_s": 0.0}) for rule in DEFAULT_RULES[:4]
    )
    words = settings.words.model_copy(update={"what": "moments"})
    return settings.model_copy(update={"rule": rules, "words": words})


def load_s(model: Path) -> float:
    """Seconds of the processor for loading the model in a process that analyses calls."""
    code = (
        "import sys, time; from pathlib import Path; import callanalytics.analysis.call as _;"
        " from callanalytics.analysis.words.recogniser import load_model; began = time.process_time();"
        " load_model(Path(sys.argv[1])); print(time.process_time() - began)"
    )
    return statistics.median(
        float(
            subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, check=True).stdout
        )
        for _ in range(ROUNDS)
    )


def cost(data: Path, settings: Settings, models: Models, model: Path) -> None:
    """Seconds of the same calls without and with words of their moments."""
    flagging = all_flagged(settings)
    without = replace(models, recogniser=None)
    paths = bank_calls(data) + sorted((data / "calls" / "aws-auto-repairs").glob("*_stereo.wav"))
    plain_s = words_s = audio_s = 0.0
    n_moments = 0
    for path in paths:
        found = found_in(path, settings)
        took: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(2 * ROUNDS):
            with_words = turn % 4 in (1, 2)  # without, with, with, without, ...
            began = time.process_time()
            call = analyze_call(found, flagging, models if with_words else without)
            took[with_words].append(time.process_time() - began)
        plain = statistics.median(took[False])
        more = statistics.median(took[True]) - plain
        plain_s, words_s = plain_s + plain, words_s + more
        audio_s += call.audio.duration_s
        moments = {e.start_s for found in call.assessment.escalations for e in found.evidence}
        n_moments += len(moments)
        print(
            f"{path.stem}, {call.audio.duration_s:.0f} s, {len(moments)} moments: {plain:.2f} s, with words "
            f"{more:.2f} s more"
        )
    growth = FLAGGED_SHARE * words_s / plain_s
    print(f"{len(paths)} calls, {n_moments} moments: {plain_s:.1f} s, with words {words_s:.1f} s more")
    print(f"a night with {FLAGGED_SHARE:.0%} such calls: {100 * growth:.1f} % more (goal: at most 3)")
    loading_s = load_s(model)
    print(f"loading the model: {loading_s:.2f} s, of the driver and of each worker that wants words")
    for hours in (1, 4, 8, 24):
        night_s = plain_s * hours * 3600 / audio_s
        more = growth + 3 * loading_s / night_s
        print(f"by arithmetic, {hours} h of calls, two workers, with loading: {100 * more:.1f} % more")


def whole_nights(data: Path, model: Path, hours: float) -> None:
    """`callanalytics run` without and with words, in turn; the models' loading and the start are in it."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        night = build_night(scratch / "calls", hours, source_calls(data), stereo=True)
        peaks = scratch / "peaks"
        seconds(scratch, night.folder, peaks, rule(-1e9))
        with duckdb.connect(str(peaks / "callanalytics.duckdb"), read_only=True) as connection:
            (threshold,) = connection.execute(
                f"SELECT quantile_cont(value, {1 - FLAGGED_SHARE}) FROM escalations"
            ).fetchall()[0]
        took: dict[str, list[float]] = {"without": [], "with": []}
        words = f'[words]\nmodel = "{model}"\nwhat = "moments"\nlanguage = "en"\n'
        for number in range(ROUNDS):
            for kind in ("without", "with") if number % 2 else ("with", "without"):
                config = words * (kind == "with") + rule(threshold)
                out = scratch / f"{kind}-{number}"
                took[kind].append(seconds(scratch, night.folder, out, config))
        with duckdb.connect(str(scratch / "with-0" / "callanalytics.duckdb"), read_only=True) as connection:
            n_flagged, n_with_words = connection.execute(
                "SELECT count(*) FILTER (flagged), (SELECT count(DISTINCT call_id) FROM utterances)"
                " FROM call_summary"
            ).fetchall()[0]
    plain, more = (statistics.median(took[kind]) for kind in ("without", "with"))
    shown = {kind: ", ".join(f"{s:.1f}" for s in found) for kind, found in took.items()}
    print(
        f"{night.n_calls} calls, {night.audio_s / 3600:.1f} h: {n_flagged} flagged, {n_with_words} with words"
    )
    print(f"processor seconds without words {shown['without']}; with {shown['with']}")
    print(f"a whole night with words of moments: {100 * (more / plain - 1):.1f} % more (goal: at most 3)")


def rule(threshold: float) -> str:
    return (
        '[[rule]]\nname = "loud"\nmeasure = "frustration_peak"\nreason = "x"\n'
        f"at_least = {threshold!r}\nmin_evidence_s = 0.0\n"
    )


def seconds(scratch: Path, calls: Path, out: Path, config: str) -> float:
    settings = out.with_suffix(".toml")
    settings.write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "callanalytics", "run", "--since", "2000-01-01", "--workers", "2"]
    command += ["--config", str(settings), "--input", str(calls), "--out", str(out)]
    return run_child(command, scratch).thread_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=0.0, help="of whole nights; 0: none")
    given = parser.parse_args()
    model = given.model.resolve()
    words = WordsSettings(model=str(model), what="all", language="en")
    settings = Settings(words=words)
    models = Models.load(None, settings=settings)  # with what a first call costs once, in `compare`
    compare(given.data, settings, models)
    quotes(given.data, settings, models)
    cost(given.data, settings, models, model)
    if given.hours:
        whole_nights(given.data.resolve(), model, given.hours)


if __name__ == "__main__":
    main()
