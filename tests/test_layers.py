"""The layout: imports go one way, folders and modules stay small, the light commands stay light."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ensemble", "callanalytics", "reports", "jobs")
"""From the bottom to the top: each may import itself and those before it."""
COMMAND_LINE = ROOT / "callanalytics" / "__main__.py"  # `python -m callanalytics`, the one exception
MOST_ENTRIES = {"jobs": 10, "reports": 14, "ensemble": 14, "callanalytics": 14}
MOST_FILES, MOST_MODULES, MOST_LINES, MOST_OUTS = 20, 250, 400, 40

HEAVY = {
    *(
        "apprise",
        "apscheduler",
        "av",
        "babel",
        "duckdb",
        "fsspec",
        "jinja2",
        "librosa",
        "numba",
        "numpy",
    ),
    *("onnx", "onnxruntime", "pandas", "polars", "pyarrow", "pydantic", "ray", "rich", "safetensors"),
    *("scipy", "sklearn", "soundfile", "streamlit", "torch", "transformers"),
    *("ctranslate2", "faster_whisper", "tokenizers"),
}
"""What takes long to import. No command loads any of it before it has something to do."""


def modules(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts)


ALL = [path for package in PACKAGES for path in modules(package)]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in ALL}


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a module imports, lazily or not; `from a import b` gives `a.b`."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: our imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# Imports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    above = set(PACKAGES[PACKAGES.index(package) + 1 :])
    files = modules(package)
    assert len(files) > 10
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        if path != COMMAND_LINE
        for name in imported(path)
        if name.split(".")[0] in above
    }
    assert wrong == set()


def test_the_exception_only_starts_the_command_line() -> None:
    assert set(imported(COMMAND_LINE)) == {"jobs.cli.main.main"}
    assert len(COMMAND_LINE.read_text(encoding="utf-8").splitlines()) < 10


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_of_a_package_import_one_way(package: str) -> None:
    """Each folder, and each module beside the folders, is one node; imports for types count too."""
    below: dict[str, set[str]] = {}
    for path in modules(package):
        own = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        for name in imported(path):
            top, other, *_ = [*name.split("."), ""]
            place = ROOT / package / other
            if top == package and other != own and (place.is_dir() or place.with_suffix(".py").exists()):
                below.setdefault(own, set()).add(other)
    assert below
    try:
        TopologicalSorter(below).prepare()
    except CycleError as circle:
        pytest.fail(f"a circle: {' <- '.join(circle.args[1])}")


# Sizes ---------------------------------------------------------------------------------------------------


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")


@pytest.mark.parametrize(("package", "most"), MOST_ENTRIES.items())
def test_a_package_has_few_doors(package: str, most: int) -> None:
    assert 3 < len(entries(ROOT / package)) <= most, entries(ROOT / package)


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in ALL}
    files = {str(f.relative_to(ROOT)): sum(path.is_file() for path in f.iterdir()) for f in folders}
    assert len(files) > 20
    assert {name: n for name, n in files.items() if n > MOST_FILES} == {}


def test_modules_are_few_and_short() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in ALL}
    assert 100 < len(lines) <= MOST_MODULES
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_no_name_of_a_file_occurs_twice() -> None:
    names = Counter(path.name for path in ALL if path.name not in {"__init__.py", "__main__.py"})
    assert {name: n for name, n in names.items() if n > 1} == {}


def test_all_python_is_in_the_four_packages() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["setup.py"], "the build's hook, and nothing else"


# One object for the output folder ------------------------------------------------------------------------


def test_few_functions_are_given_the_output_folder() -> None:
    """`callanalytics.workspace.Workspace` is passed on instead."""
    takers = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in ALL
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.arg) and node.arg == "out"
    ]
    assert len(takers) <= MOST_OUTS, takers


WORKSPACE = ROOT / "callanalytics" / "workspace.py"


def joined(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every constant that is joined to a path by `/` or `joinpath`, part by part."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "joinpath"
        ):
            parts = node.args
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield from ((node.lineno, word) for word in part.value.split("/"))


def test_paths_below_the_output_folder_are_written_in_one_place() -> None:
    named = {
        word
        for node in TREES[WORKSPACE].body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for word in str(node.value.value).split("/")
        if re.fullmatch(r"\.?[a-z][\w.-]+", word)
    }
    # Any report has a first page, any training its run and its cache, wherever it lies.
    kept = (named | {word for _, word in joined(TREES[WORKSPACE])}) - {"index.html", "run", "cache"}
    assert {".work", "reports"} <= kept
    elsewhere = {
        f"{path.relative_to(ROOT)}:{line} {word}"
        for path in ALL
        if path != WORKSPACE
        for line, word in joined(TREES[path])
        if word in kept
    }
    assert elsewhere == set()


# Light commands ------------------------------------------------------------------------------------------

# One interpreter that forks for each command, loads it with its help, and tells what came in.
LOADS = f"""
import contextlib, io, json, os, sys
import click
from jobs.cli.main import cli
context = click.Context(cli)
names = cli.list_commands(context)
for name in names:
    if os.fork() == 0:
        command = cli.get_command(context, name)
        words = [[name], *([name, more] for more in getattr(command, "commands", ()))]
        for line in words:
            with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
                cli.main([*line, "--help"])
            assert "Usage: " in said.getvalue(), line
        loaded = {{module.partition(".")[0] for module in sys.modules}}
        print(json.dumps([name, sorted(loaded & {HEAVY!r})]), flush=True)
        os._exit(0)
    _, status = os.wait()
    assert status == 0, name
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_command_loads_anything_heavy_before_it_has_to() -> None:
    from jobs.cli.main import COMMANDS

    loaded = dict(json.loads(line) for line in run_python(LOADS).splitlines())
    assert loaded == {name: [] for name in COMMANDS}
    assert len(loaded) > 20


def test_the_night_needs_no_torch() -> None:
    code = "from callanalytics.analysis.call import load_analysis; from callanalytics.config import Settings"
    code += "; load_analysis(Settings(), None); import sys; print(*sys.modules)"
    loaded = set(run_python(code).split())
    assert {"onnxruntime", "numpy"} <= loaded
    assert not loaded & {"torch", "librosa", "sklearn", "faster_whisper", "ctranslate2", "tokenizers"}
    assert not {name for name in loaded if name.startswith("callanalytics.analysis.words.")}
