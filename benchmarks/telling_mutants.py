"""Twenty small changes of behaviour, each of which the tests must notice: `make telling-mutants`.

Each stands for something that must never break unseen, and most of them once did: a suite is worth what it
catches. They are made in a temporary copy, one at a time, and only the tests named with them are run. This is
quick enough for every change; `make mutants` makes all changes of the pure modules and takes hours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
COPIED = ("callanalytics", "ensemble", "jobs", "reports", "tests", "config.toml", "pyproject.toml")
FAILED, PASSED = 1, 0  # exit codes of pytest


@dataclass(frozen=True)
class Mutant:
    """`old`, which occurs once in the file, becomes `new`, and one of the `tests` must fail."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "the temperatures of the card are ignored by the vote",
        "ensemble/inference/ensemble.py",
        "temperature=temperature,",
        "temperature=1.0,",
        ("tests/ensemble/test_predict.py::test_the_vote_is_calibrated_by_the_temperatures_of_the_card",),
    ),
    Mutant(
        "every segment is a stranger's",
        "callanalytics/analysis/assess.py",
        "[s.speaker for s in segments],",
        "None,",
        ("tests/analysis/test_assess.py::test_the_segments_of_a_voice_are_voted_on_together",),
    ),
    Mutant(
        "a voice that may not be assessed is shown to the ensemble",
        "callanalytics/analysis/assess.py",
        "classified = np.array(allowed, dtype=bool)",
        "classified = np.ones(len(allowed), dtype=bool)",
        ("tests/analysis/test_assess.py::test_of_a_role_that_is_left_out_there_is_no_opinion",),
    ),
    Mutant(
        "exactly the agreement asked for abstains",
        "ensemble/inference/vote.py",
        "agreement[i] < limit.agreement - 1e-6",
        "agreement[i] <= limit.agreement + 1e-6",
        ("tests/ensemble/test_vote.py::test_an_agreement_at_the_threshold_is_enough",),
    ),
    Mutant(
        "frustration of a period counts everything after its start",
        "callanalytics/analysis/measures.py",
        "inside = (curve.at_s >= begin) & (curve.at_s < finish)",
        "inside = curve.at_s >= begin",
        ("tests/analysis/test_measures.py::test_frustration_of_a_period_is_that_of_its_own_segments",),
    ),
    Mutant(
        "a rule needs more than its threshold",
        "callanalytics/analysis/escalation.py",
        "value < rule.at_least",
        "value <= rule.at_least",
        ("tests/analysis/test_measures.py::test_a_rule_is_fulfilled_from_its_threshold_on",),
    ),
    Mutant(
        "what is not known is a score of zero",
        "callanalytics/analysis/assess.py",
        "score=curve.score if assessed.any() else None",
        "score=curve.score if assessed.any() else 0.0",
        ("tests/analysis/test_assess.py",),
    ),
    Mutant(
        "tones do not keep frames from being speech",
        "callanalytics/diarize/__init__.py",
        "np.where(blocked, 0, probability)",
        "probability",
        ("tests/diarize/test_turn_times.py::test_tones_and_music_are_no_turns_whatever_the_detector_says",),
    ),
    Mutant(
        "turns are one frame late",
        "callanalytics/diarize/vad.py",
        "starts[kept], ends[kept]",
        "starts[kept] + FRAME_S, ends[kept] + FRAME_S",
        ("tests/diarize/test_turn_times.py",),
    ),
    Mutant(
        "one signal on both channels is two people",
        "callanalytics/diarize/two_channels.py",
        "if delay is not None:",
        "if False:",
        ("tests/diarize/test_two_channels.py::test_a_codec_on_one_side_hides_no_copy",),
    ),
    Mutant(
        "a file that waited in the last run is lost",
        "callanalytics/ingest/__init__.py",
        "settled_at = listed.arrived_at + timedelta(seconds=settings.settle_s)",
        "settled_at = listed.arrived_at",
        ("tests/ingest/test_settling.py::test_a_file_that_waited_in_the_last_run_is_taken_by_the_next",),
    ),
    Mutant(
        "the tag of a store is ignored",
        "callanalytics/ingest/object_store.py",
        "for key in _TAGS if facts.get(key)",
        "for key in () if facts.get(key)",
        ("tests/ingest/test_remote.py::test_the_tag_of_a_store_tells_contents_apart_and_nothing_else_does",),
    ),
    Mutant(
        "a window holds its end",
        "callanalytics/config/window.py",
        "self.since <= moment < self.until",
        "self.since <= moment <= self.until",
        ("tests/test_window.py",),
    ),
    Mutant(
        "missed nights are made up for without end",
        "jobs/scheduler/command_lines.py",
        "since = max(since, today - timedelta(days=CATCH_UP_DAYS))",
        "since = min(since, today)",
        ("tests/jobs/test_command_lines.py::test_missed_nights_are_made_up_for_31_days_back",),
    ),
    Mutant(
        "who was in flight beside a crash is quarantined with it",
        "jobs/night/local_engine.py",
        "            suspects = drain.crashed",
        "            yield from (_died(found, drain.cause) for found in drain.crashed)",
        ("tests/night/test_engines.py::test_a_crash_costs_only_the_file_that_crashes",),
    ),
    Mutant(
        "the gate lets a night without calls through",
        "jobs/night/gate.py",
        "found >= settings.min_volume_share * usual",
        "found >= 0",
        ("tests/night/test_gate.py::test_a_usual_night_passes_and_an_almost_empty_one_does_not",),
    ),
    Mutant(
        "percentages are cut off",
        "reports/formatting.py",
        "    return _percent(share, 1 if 0 < share < 0.0995 else 0)",
        "    return _percent(int(share * 100) / 100, 0)",
        ("tests/reports/test_report_parts.py::test_percent_is_rounded_to_the_nearest_and_not_cut_off",),
    ),
    Mutant(
        "pages escape nothing",
        "reports/render.py",
        'jinja2.select_autoescape(("html",), default=False)',
        "False",
        ("tests/reports/test_hostile_text.py",),
    ),
    Mutant(
        "a key of a command's JSON has another name",
        "jobs/maintenance/purge.py",
        "return {**asdict(self), ",
        'return {**asdict(self), "n_removed": self.n_calls, ',
        ("tests/test_json_contracts.py",),
    ),
    Mutant(
        "speakers who test are trained on too",
        "jobs/models/splits.py",
        "if clip.speaker not in held_out]",
        "]",
        ("tests/jobs/test_training_split.py",),
    ),
)


def copy_into(folder: Path) -> Path:
    """A copy of what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".numba", ".hypothesis")
            )
        else:
            shutil.copy(source, folder / name)
    return folder


def run_tests(folder: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and output of pytest in a copy, which stops at the first failure."""
    options = ["-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def noticed(mutant: Mutant, folder: Path) -> str:
    """What is wrong with the tests of a mutant; "" when they pass without it and fail with it."""
    path = folder / mutant.file
    whole = path.read_text(encoding="utf-8")
    if whole.count(mutant.old) != 1:
        return f"{mutant.file} has {mutant.old!r} {whole.count(mutant.old)} times, and once is needed"
    try:
        path.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
        code, said = run_tests(folder, mutant.tests)
    finally:
        path.write_text(whole, encoding="utf-8")
    if code == PASSED:
        return "no test noticed"
    return "" if code == FAILED else f"the tests did not run (exit code {code}):\n{said[-2000:]}"


def main() -> int:
    """Make every mutant; 1 when one of them was not noticed."""
    folders: Queue[Path] = Queue()
    with tempfile.TemporaryDirectory(prefix="mutants-") as made:
        n_workers = len(os.sched_getaffinity(0))
        for number in range(n_workers):
            folders.put(copy_into(Path(made) / str(number)))

        def in_a_copy(mutant: Mutant | None) -> str:
            folder = folders.get()
            try:
                if mutant is not None:
                    return noticed(mutant, folder)
                code, said = run_tests(folder, tuple(dict.fromkeys(t for m in MUTANTS for t in m.tests)))
                return "" if code == PASSED else said[-4000:]
            finally:
                folders.put(folder)

        with ThreadPoolExecutor(n_workers) as pool:
            unchanged, *answers = pool.map(in_a_copy, [None, *MUTANTS])
    if unchanged:
        print(f"The tests fail without a mutant:\n{unchanged}")
        return 1
    for mutant, answer in zip(MUTANTS, answers, strict=True):
        print(f"{'noticed' if not answer else 'MISSED '}  {mutant.what}{': ' * bool(answer)}{answer}")
    n_noticed = answers.count("")
    print(f"{n_noticed} of {len(MUTANTS)} mutants noticed")
    return 0 if n_noticed == len(MUTANTS) else 1


if __name__ == "__main__":
    sys.exit(main())
