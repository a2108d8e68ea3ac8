"""Small changes of the pure modules, and which of them the tests notice: `make mutants`.

    python benchmarks/mutants.py [--module PART] [--tests FILE...] [--sample N] [--quick S]
        [--survivors] [--table]

mutmut makes the changes ([tool.mutmut] in pyproject.toml names modules and tests) and numbers them; all
of a module are in one file, so that a process can go from one to the next. mutmut itself starts pytest anew
for each. Here one process runs them all: only the tests that reach the changed function, the quickest first,
and before them those that have noticed another change of it. Each test that failed is run again without the
change; if it fails then, too, the process has been spoilt and is replaced. With --quick,
tests that took longer in an earlier run are left out: what only they notice counts as not noticed.

What was noticed is kept in `mutants/noticed.json` while the function stays as it is; what was not noticed is
tried again the next time. A change that no chosen test reaches counts as not noticed, and so does one with
which all tests pass; one under which a test does not end counts as noticed. `mutmut show NAME` shows one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "mutants"
RESULTS = FOLDER / "noticed.json"
SECONDS = FOLDER / "seconds.json"  # of processor time that each test took
LEARNT = FOLDER / "learnt.json"  # which tests reach which functions, of the run at work
SPOILT = 75  # exit code: go on in a new process
LONGEST_CPU_S = 20.0
PATIENCE = 5.0  # times as long as all tests of a function take without a change, and it does not end
ASKED = "MUTANTS_OF"  # environment: a part of the names of the modules to work on
SAMPLE = "MUTANTS_SAMPLE"  # environment: of each module so many changes, drawn with SEED; 0 for all
QUICK = "MUTANTS_QUICK_S"  # environment: a test that took longer is left out
SEED = 1
PACKAGES = ("callanalytics", "ensemble", "jobs", "reports")


def kept() -> dict[str, str]:
    """Name of each change that was run -> verdict: noticed, missed, endless or unreached."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def known() -> dict[str, str]:
    """Name of each change -> module file, in the order of the files."""
    names = {}
    for meta in sorted(FOLDER.rglob("*.meta")):
        about = json.loads(meta.read_text(encoding="utf-8"))
        names |= dict.fromkeys(about["exit_code_by_key"], str(meta.relative_to(FOLDER)).removesuffix(".meta"))
    return names


def seconds_known() -> dict[str, float]:
    """Name of each test -> processor seconds that it took, with the processes that it started."""
    return json.loads(SECONDS.read_text(encoding="utf-8")) if SECONDS.exists() else {}


def processor_s() -> float:
    """Of this process and those that it waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def drawn(part: str, n: int) -> list[str]:
    """`n` changes of each module with `part` in its path, drawn at random; 0 for all."""
    per_module: dict[str, list[str]] = defaultdict(list)
    for name, file in known().items():
        if re.search(part, file):
            per_module[file].append(name)
    chosen = {
        name
        for names in per_module.values()
        for name in random.Random(SEED).sample(names, min(n or len(names), len(names)))
    }
    return [name for names in per_module.values() for name in names if name in chosen]


def function_of(name: str) -> str:
    """The mangled name of the function that a change is in."""
    return name.rpartition("__mutmut_")[0]


# In the process of pytest ------------------------------------------------------------------------------


class Runner:
    """The collected tests, run again and again."""

    def __init__(self, session: pytest.Session) -> None:
        self._items = session.items
        by_file: dict[Path, list[pytest.Item]] = defaultdict(list)
        for item in session.items:
            by_file[item.path].append(item)
        # What pytest keeps set up depends on the next test: another one of the same file.
        self._beside = {
            item: next((other for other in by_file[item.path] if other is not item), None)
            for item in session.items
        }
        self.said = ""  # by the test that failed last
        self._seconds: dict[pytest.Item, float] = {}
        self._reaching: dict[str, list[pytest.Item]] = defaultdict(list)

    def failed(self, item: pytest.Item) -> bool:
        """Run one test."""
        from _pytest.runner import runtestprotocol

        item.session._setupstate.teardown_exact(item)  # what the last test had and this one has not
        reports = runtestprotocol(item, log=False, nextitem=self._beside[item])
        self.said = "\n".join(str(report.longrepr) for report in reports if report.failed)
        return any(report.failed for report in reports)

    def learn(self) -> None:
        """Run every test once and note which functions it reaches; after a restart that is known."""
        from mutmut.mutation.trampoline import set_mutant_under_test
        from mutmut.state import state

        by_name = {item.nodeid: item for item in self._items}
        if LEARNT.exists():
            self._seconds = {
                by_name[name]: seconds for name, seconds in seconds_known().items() if name in by_name
            }
            for function, names in json.loads(LEARNT.read_text(encoding="utf-8")).items():
                # One that was found to be slow since is left out.
                self._reaching[function] = [by_name[name] for name in names if name in by_name]
            return
        set_mutant_under_test("stats")
        for item in self._items:
            state()._stats.clear()
            begun = processor_s()
            if self.failed(item):
                pytest.exit(f"{item.nodeid} fails without a change:\n{self.said}", returncode=1)
            self._seconds[item] = processor_s() - begun
            for function in state()._stats:
                self._reaching[function].append(item)
        for items in self._reaching.values():
            items.sort(key=lambda item: self._seconds[item])
        took = {item.nodeid: round(seconds, 3) for item, seconds in self._seconds.items()}
        SECONDS.write_text(json.dumps(seconds_known() | took), encoding="utf-8")
        reaching = {function: [item.nodeid for item in items] for function, items in self._reaching.items()}
        LEARNT.write_text(json.dumps(reaching), encoding="utf-8")

    def verdict(self, name: str) -> str:
        """Run the tests that reach a change until one fails. "spoilt": it fails without the change, too."""
        from mutmut.mutation.trampoline import set_mutant_under_test

        items = self._reaching[function_of(name)]
        if not items:
            return "unreached"
        forget()
        set_mutant_under_test(name)
        usual_s = sum(self._seconds[item] for item in items)
        signal.setitimer(signal.ITIMER_PROF, min(LONGEST_CPU_S, 1 + PATIENCE * usual_s))
        try:
            found = next((item for item in items if self.failed(item)), None)
        except TimeoutError:
            found = items[0]
        left_s, _ = signal.setitimer(signal.ITIMER_PROF, 0)
        set_mutant_under_test("")
        forget()
        if found is None:
            return "endless" if not left_s else "missed"
        items.remove(found)
        items.insert(0, found)
        return "spoilt" if self.failed(found) else "noticed" if left_s else "endless"


def forget() -> None:
    """Empty the caches of functions: what they hold was found with another change, or without one."""
    ours = [module for name, module in sys.modules.items() if name.split(".")[0] in PACKAGES]
    for module in ours:
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def out_of_time(*_: object) -> None:
    raise TimeoutError("the test does not end")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is known to be slow."""
    known_s, quick_s = seconds_known(), float(os.environ[QUICK])
    items[:] = [item for item in items if not quick_s or known_s.get(item.nodeid, 0.0) <= quick_s]


def pytest_collection_finish() -> None:
    """Hypothesis need not look for the smallest example, and finds the same ones every time."""
    import hypothesis

    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    steady = hypothesis.settings.get_profile("steady")
    hypothesis.settings.register_profile("mutants", steady, phases=phases, database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Instead of running the tests once: with every change that is left to do."""
    signal.signal(signal.SIGPROF, out_of_time)
    runner, done = Runner(session), kept()
    runner.learn()
    spoiling = os.environ.get("MUTANTS_SPOILING", "")
    chosen = drawn(os.environ[ASKED], int(os.environ[SAMPLE]))
    todo = [name for name in chosen if name not in done]
    for number, name in enumerate(todo, start=1):
        verdict = runner.verdict(name)
        if verdict == "spoilt" and name == spoiling:
            verdict = "noticed"  # in a new process, too: a test failed with it
        if verdict == "spoilt":
            RESULTS.write_text(json.dumps(done), encoding="utf-8")
            (FOLDER / "spoiling").write_text(name, encoding="utf-8")
            os._exit(SPOILT)
        done[name] = verdict
        if number % 20 == 0 or number == len(todo):
            RESULTS.write_text(json.dumps(done), encoding="utf-8")
            print(f"{number} of {len(todo)}: {dict(Counter(done.values()))}", file=sys.stderr, flush=True)
    return True


# In the process that was started -----------------------------------------------------------------------


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def generate() -> Any:
    """Make the changes in `mutants/`, and forget the verdicts on functions that have changed since."""
    with inside(ROOT):
        import mutmut.__main__ as tool
        from mutmut.configuration import config

        FOLDER.mkdir(exist_ok=True)
        hashes = FOLDER / "hashes.json"
        before = json.loads(hashes.read_text(encoding="utf-8")) if hashes.exists() else {}
        shutil.rmtree(FOLDER / "tests", ignore_errors=True)
        for path in [each for part in config().source_paths for each in (FOLDER / part).rglob("*.*")]:
            source = ROOT / str(path.relative_to(FOLDER)).removesuffix(".meta")
            if path.is_file() and (path.suffix not in {".py", ".meta"} or not source.exists()):
                path.unlink()  # mutmut renews modules only: this is copied again, or is gone
        os.environ["MUTANT_UNDER_TEST"] = "mutant_generation"
        with contextlib.redirect_stdout(None):
            tool.copy_src_dir()
            tool.copy_also_copy_files()
            tool.create_mutants(1)
        now = {}
        for meta in FOLDER.rglob("*.meta"):
            about = json.loads(meta.read_text(encoding="utf-8"))
            module = str(meta.relative_to(FOLDER)).removesuffix(".py.meta").replace("/", ".")
            now |= {f"{module}.{f}": value for f, value in about["hash_by_function_name"].items()}
        hashes.write_text(json.dumps(now), encoding="utf-8")
        same = {name for name in now if before.get(name) == now[name]}
        verdicts = {
            name: verdict
            for name, verdict in kept().items()
            if function_of(name) in same and verdict in {"noticed", "endless"}
        }
        RESULTS.write_text(json.dumps(verdicts), encoding="utf-8")
        return config()


def work(module: str, tests: list[str], sample: int, quick_s: float) -> int:
    """Run pytest with this file as its plugin, anew when it was spoilt."""
    chosen = generate()
    search = os.pathsep.join([str(FOLDER), str(Path(__file__).parent)])
    LEARNT.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": search, "MUTANT_UNDER_TEST": ""}
    environment |= {ASKED: module, SAMPLE: str(sample), QUICK: str(quick_s)}
    options = ["-q", "-p", "mutants", "-p", "no:xdist", *chosen.pytest_add_cli_args]
    command = [sys.executable, "-m", "pytest", *options]
    command += tests or chosen.pytest_add_cli_args_test_selection
    while True:
        code = subprocess.run(command, cwd=FOLDER, env=environment, check=False).returncode
        if code != SPOILT:
            return code
        environment["MUTANTS_SPOILING"] = (FOLDER / "spoiling").read_text(encoding="utf-8")


def table(module: str) -> Iterator[str]:
    """Lines of a table in Markdown: a module each."""
    done = kept()
    per_module: dict[str, Counter[str]] = defaultdict(Counter)
    for name, file in known().items():
        if re.search(module, file):
            per_module[file][done.get(name, "not run")] += 1
    yield "| module | changes | noticed | not noticed | not reached | share | not run |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    total: Counter[str] = Counter()
    rows = [(f"`{file}`", counts) for file, counts in per_module.items()]
    for counts in per_module.values():
        total += counts
    for title, counts in [*rows, ("all", total)]:
        n_noticed = counts["noticed"] + counts["endless"]
        n_run = counts.total() - counts["not run"]
        share = f"{n_noticed / n_run:.1%}" if n_run else ""
        yield (
            f"| {title} | {n_run} | {n_noticed} | {counts['missed']} | {counts['unreached']} | {share} "
            f"| {counts['not run']} |"
        )


def main() -> int:
    """Work, and print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--module", default="", metavar="PART", help="only modules with this pattern in their path"
    )
    parser.add_argument("--tests", nargs="+", default=[], metavar="FILE", help="instead of those configured")
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="of each module N changes at random"
    )
    parser.add_argument(
        "--quick", type=float, default=0.0, metavar="S", help="leave out tests that took longer"
    )
    parser.add_argument("--survivors", action="store_true", help="also print what was not noticed")
    parser.add_argument("--table", action="store_true", help="run nothing")
    given = parser.parse_args()
    code = 0 if given.table else work(given.module, given.tests, given.sample, given.quick)
    print("\n".join(table(given.module)))
    if given.survivors:
        with inside(ROOT):
            from mutmut.mutation.diff_apply import get_diff_for_mutant

            for name, verdict in kept().items():
                if verdict in {"missed", "unreached"} and re.search(given.module, known()[name]):
                    print(f"\n{verdict}: {name}\n{get_diff_for_mutant(name)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
