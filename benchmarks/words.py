"""Word error of recognised words, quotes against a reference, and what "moments" costs a night.

    python benchmarks/words.py --data DATA --model FOLDER

Calls: `calls/harper-valley` (CC BY 4.0), whose people transcribed both sides. Words of the reference have the
time of their utterance. Numbers are masked on both sides before words are compared. The cost is of calls that
are all made to be flagged, against the same calls without words, in turn in one process: seconds of the
processor, which other work on the machine changes less than seconds of the clock.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from callanalytics.analysis.call import CallAnalysis, Models, analyze_call
from callanalytics.analysis.words import Word
from callanalytics.analysis.words.masking import MASK, mask_numbers
from callanalytics.config import DEFAULT_RULES, Settings, WordsSettings
from callanalytics.ingest import recording_from_files

FLAGGED_SHARE = 0.05


@dataclass(frozen=True)
class Said:
    text: str
    start_s: float
    end_s: float


def words_of(text: str) -> list[str]:
    masked = [word.text for word in mask_numbers([Word(part) for part in text.split()]) if word is not None]
    return re.findall(r"\[number\]|[\w']+", " ".join(masked).lower())


def reference(path: Path) -> dict[str, list[Said]]:
    """Words by role, each with the time of its utterance; noises and what nobody understood left out."""
    sides: dict[str, list[Said]] = {"agent": [], "caller": []}
    for line in sorted(json.loads(path.read_text(encoding="utf-8")), key=lambda line: line["offset_ms"]):
        start_s = line["offset_ms"] / 1000
        text = re.sub(r"[\[<][^\]>]*[\]>]", " ", line["human_transcript"])
        end_s = start_s + line["duration_ms"] / 1000
        sides[line["speaker_role"]] += [Said(word, start_s, end_s) for word in words_of(text)]
    return sides


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
    n_words = n_errors = n_same = n_near = n_side = 0
    for path in sorted((data / "calls" / "harper-valley" / "stereo").glob("*.wav")):
        found = recording_from_files([path], settings, now=datetime.now(UTC))
        call = analyze_call(found, settings, models)
        sides = reference(path.parents[1] / "transcript" / f"{path.stem}.json")
        errors, total = 0, 0
        for role, wanted in sides.items():
            distance, pairs = aligned(wanted, heard(call, role))
            other = aligned(wanted, heard(call, "caller" if role == "agent" else "agent"))[1]
            errors, total = errors + distance, total + len(wanted)
            n_same += len(pairs)
            n_near += sum(away_s(*pair) <= 1.0 for pair in pairs)
            n_side += len(pairs) > len(other)
        n_words, n_errors = n_words + total, n_errors + errors
        print(f"{path.stem}: {errors} of {total} words wrong, {100 * errors / total:.1f} %")
    print(f"word error {100 * n_errors / n_words:.1f} % of {n_words} words (goal: at most 18)")
    print(f"{n_near} of {n_same} right words within 1 s of their utterance; {n_side} of 10 sides right")


def cost(data: Path, settings: Settings, models: Models) -> None:
    """Seconds of the same calls without and with words of their moments."""
    rules = tuple(
        rule.model_copy(update={"at_least": -1e9, "min_evidence_s": 0.0}) for rule in DEFAULT_RULES[:4]
    )
    flagging = settings.model_copy(
        update={"rule": rules, "words": settings.words.model_copy(update={"what": "moments"})}
    )
    paths = sorted((data / "calls" / "harper-valley" / "stereo").glob("*.wav"))
    paths += sorted((data / "calls" / "aws-auto-repairs").glob("*_stereo.wav"))
    plain_s = words_s = 0.0
    n_moments = 0
    for path in paths:
        found = recording_from_files([path], settings, now=datetime.now(UTC))
        began = time.process_time()
        analyze_call(found, flagging, replace(models, recogniser=None))
        between = time.process_time()
        call = analyze_call(found, flagging, models)
        plain, more = between - began, time.process_time() - between - (between - began)
        plain_s, words_s = plain_s + plain, words_s + more
        moments = {e.start_s for found in call.assessment.escalations for e in found.evidence}
        n_moments += len(moments)
        print(
            f"{path.stem}, {call.audio.duration_s:.0f} s, {len(moments)} moments: {plain:.2f} s, with words "
            f"{more:.2f} s more"
        )
    growth = FLAGGED_SHARE * words_s / plain_s
    print(f"{len(paths)} calls, {n_moments} moments: {plain_s:.1f} s, with words {words_s:.1f} s more")
    print(f"a night with {FLAGGED_SHARE:.0%} such calls: {100 * growth:.1f} % more (goal: at most 3)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    given = parser.parse_args()
    words = WordsSettings(model=str(given.model.resolve()), what="all", language="en")
    settings = Settings(words=words)
    models = Models.load(None, settings=settings)  # with what a first call costs once, in `compare`
    compare(given.data, settings, models)
    cost(given.data, settings, models)


if __name__ == "__main__":
    main()
