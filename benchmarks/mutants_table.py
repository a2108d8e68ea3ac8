"""The table of `make mutants`: how many small changes of each module the tests noticed, and which not.

    python benchmarks/mutants_table.py [--survivors MODULE]

Reads what mutmut keeps in `mutants/`. A change that no chosen test runs counts as not noticed, one under
which the tests ran without end as noticed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "mutants"
KILLED = {
    1,
    3,
    24,
    36,
    152,
    255,
    -24,
    37,
}  # exit codes: failed tests, time-outs, failed types
SURVIVED, NO_TESTS = {0}, {5, 33}


def counts(file: Path) -> tuple[Counter[str], list[str]]:
    """Mutants of one module by what became of them, and the names of those that were not noticed."""
    kinds: Counter[str] = Counter()
    missed = []
    for name, code in json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"].items():
        kind = (
            "not run"
            if code is None
            else "missed"
            if code in SURVIVED | NO_TESTS
            else "noticed"
            if code in KILLED
            else "odd"
        )
        kinds[kind] += 1
        missed += [name] if kind == "missed" else []
    return kinds, missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--survivors", metavar="MODULE", help="show the changes that were not noticed there")
    given = parser.parse_args()
    print("| module | changes | noticed | not noticed | share |\n| --- | --- | --- | --- | --- |")
    total: Counter[str] = Counter()
    for file in sorted(FOLDER.rglob("*.meta")):
        kinds, missed = counts(file)
        module = str(file.relative_to(FOLDER)).removesuffix(".meta")
        n_run = kinds["noticed"] + kinds["missed"]
        if not n_run:
            continue
        total += kinds
        rest = f", {kinds['not run']} not run" if kinds["not run"] else ""
        odd = f", {kinds['odd']} broken" if kinds["odd"] else ""
        print(
            f"| `{module}` | {n_run}{rest}{odd} | {kinds['noticed']} | {kinds['missed']} "
            f"| {kinds['noticed'] / n_run:.1%} |"
        )
        if given.survivors and given.survivors in module:
            for name in missed:
                subprocess.run([sys.executable, "-m", "mutmut", "show", name], check=False)
    n_run = total["noticed"] + total["missed"]
    if n_run:
        print(f"| all | {n_run} | {total['noticed']} | {total['missed']} | {total['noticed'] / n_run:.1%} |")


if __name__ == "__main__":
    main()
