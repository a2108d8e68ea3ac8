"""Lines and branches that the default suite takes, by module, as coverage.py counts both together.

    python benchmarks/covered.py                              what was recorded last: the end of `make test`
    python benchmarks/covered.py MEASURED.json                what was measured: the end of `make coverage`
    python benchmarks/covered.py MEASURED.json SLOW.json      what only the tests of the second run take

SLOW.json is of `python -m pytest -m "slow or data" --cov --cov-report=json:SLOW.json`. A module of the night
of which less than `LEAST` percent are taken makes the exit status 1.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NIGHT = ("callanalytics/", "ensemble/inference/", "jobs/night/", "reports/")
LEAST = 85.0
COUNTS = ("covered_lines", "covered_branches", "num_statements", "num_branches")


def share(*summaries: dict[str, Any]) -> float:
    """Percent of all lines and branches of some modules; 100 of nothing."""
    lines, branches, of_lines, of_branches = (sum(each[name] for each in summaries) for name in COUNTS)
    return 100 * (lines + branches) / (of_lines + of_branches) if of_lines else 100.0


def modules(measured: Path) -> dict[str, dict[str, Any]]:
    """What coverage.py found, by module."""
    return json.loads(measured.read_text(encoding="utf-8"))["files"]


def summary(files: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The night, its modules under `LEAST` and its least covered ones; the rest, and its modules under it."""
    of = {name: share(found["summary"]) for name, found in files.items()}
    for title, chosen in (
        ("the night", [name for name in of if name.startswith(NIGHT)]),
        ("all else", [name for name in of if not name.startswith(NIGHT)]),
    ):
        whole = share(*(files[name]["summary"] for name in chosen))
        under = sorted((name for name in chosen if of[name] < LEAST), key=of.__getitem__)
        least = min(chosen, key=of.__getitem__)
        yield (
            f"{title}: {whole:.1f} % of lines and branches in {len(chosen)} modules, "
            f"{len(under)} under {LEAST:.0f} %; the least {of[least]:.1f} % ({least})"
        )
        yield from (f"  {of[name]:5.1f} %  {name}" for name in under)


def only_there(files: dict[str, dict[str, Any]], slow: dict[str, dict[str, Any]]) -> Iterator[str]:
    """By module: lines and branches that only the second run takes."""
    for name in sorted(files):
        missing, found = files[name], slow.get(name, {})
        lines = sorted(set(missing["missing_lines"]) & set(found.get("executed_lines", ())))
        branches = {tuple(arc) for arc in missing["missing_branches"]}
        branches &= {tuple(arc) for arc in found.get("executed_branches", ())}
        if lines or branches:
            yield f"  {name}: lines {spans(lines) or 'none'}; {len(branches)} branches"


def spans(lines: Sequence[int]) -> str:
    """Line numbers in order, those that follow each other as one span: `3, 7-9`."""
    found: list[list[int]] = []
    for line in lines:
        if found and line == found[-1][-1] + 1:
            found[-1][1:] = [line]
        else:
            found.append([line])
    return ", ".join("-".join(map(str, span)) for span in found)


def recorded() -> Iterator[str]:
    """The block `coverage` of RESULTS.md in short, and how many modules have changed since."""
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- coverage -->\n(.*?)<!-- /coverage -->", text, re.DOTALL)
    if block is None:
        raise SystemExit("benchmarks/RESULTS.md has no block `coverage`")
    commit, day = re.search(r"\| (\w+)\+?, ([\d-]+) \|", block[1]).groups()
    packages = {name.split("/")[0] for name in NIGHT}
    git = ["git", "-C", str(ROOT), "diff", "--name-only", commit, "--", *packages]
    since = ""
    with suppress(OSError, subprocess.CalledProcessError):  # without git, or without its history
        changed = subprocess.run(git, capture_output=True, text=True, check=True).stdout.splitlines()
        since = f"; changed since: {sum(name.endswith('.py') for name in changed)} of the modules"
    yield f"Coverage, measured at {commit} on {day}{since}. `make coverage` measures it again."
    yield from (line for line in block[1].splitlines() if line.startswith(("the night:", "all else:")))


def main() -> int:
    """Print what is asked for."""
    given = [Path(name) for name in sys.argv[1:]]
    if not given:
        print("\n".join(recorded()))
        return 0
    files = modules(given[0])
    if len(given) > 1:
        print("Only slow tests, or tests with the data of others, take:")
        print("\n".join(only_there(files, modules(given[1]))))
        return 0
    print("\n".join(summary(files)))
    night = [share(found["summary"]) for name, found in files.items() if name.startswith(NIGHT)]
    return int(min(night) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
