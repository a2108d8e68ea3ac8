"""Standard terms of the field in code, messages and documents, not the metaphors that they replaced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("callanalytics", "ensemble", "jobs", "reports", "docs", "benchmarks")
SUFFIXES = {".py", ".sql", ".toml", ".md", ".html", ".css", ".js", ".json", ".txt", ".yml"}
# What is not to be written -> what to write. Only words that mean nothing else in this project.
WORDS = {
    r"babblers?": "babble speakers",
    r"errands?": "job, command line",
    r"beacon": "monitoring",
    r"log_?book": "scheduler state",
    r"listening[ _-]room": "review app",
    r"set[ _]aside": "skipped",
    r"promise[ds]?(?:_s)?|promising": "declared duration, guarantee",
    r"to mend": "a problem, to fix",
    r"in_?box": "review queue",
    r"judge?ments?": "CallAssessment, assess",
    r"hearings|hearing_\w+|\w+_hearing": "view",
    r"intake": "rows",
    r"supersed(?:e|es|ed|ing)": "replace",
    r"gave[ _]way": "preempted",
}
# Keys of `ingest check --json` and `run --json`, which others script against; and a former name, which old
# state files have and the changelog tells.
KEPT = re.compile(r"""["'`](?:set_aside|gave_way)["'`]""")
PATTERN = re.compile(rf"(?i:(?<![a-z])(?:{'|'.join(WORDS)})(?![a-z]))|\bMEND\b")


def texts() -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    found += [path for path in ROOT.iterdir() if path.suffix in SUFFIXES]
    # A migration names what a database was made with; callers in the demonstration talk as people do.
    return [path for path in found if not {"migrations", "weights", "calls.toml"} & set(path.parts)]


def test_the_words_that_were_replaced_do_not_come_back() -> None:
    paths = texts()
    assert len(paths) > 250
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in PATTERN.finditer(KEPT.sub("", line))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text", ["set_aside = 1", "Judgement", "n_hearings", "3 to mend.", "promised_s", "MEND  x"]
)
def test_the_words_are_found(text: str) -> None:
    assert PATTERN.search(text)
