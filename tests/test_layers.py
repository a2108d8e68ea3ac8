"""Imports go one way, and the light commands stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("callanalytics", "ensemble", "jobs", "reports")
# package -> our packages it may import.
ALLOWED = {
    "ensemble": {"ensemble"},
    "callanalytics": {"callanalytics", "ensemble"},
    "reports": {"reports", "callanalytics", "ensemble"},
    "jobs": {"jobs", "reports", "callanalytics", "ensemble"},
}
COMMAND_LINE = {"callanalytics/__main__.py"}  # `python -m callanalytics`


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found & set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): extra
        for path in (ROOT / package).rglob("*.py")
        if str(path.relative_to(ROOT)) not in COMMAND_LINE
        and (extra := imported_packages(path) - ALLOWED[package])
    }
    assert not wrong


def loaded_after(code: str) -> set[str]:
    report = "; import sys; print(' '.join(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_loads_nothing_heavy() -> None:
    heavy = {
        "numpy",
        "torch",
        "librosa",
        "duckdb",
        "polars",
        "onnxruntime",
        "scipy",
        "pydantic",
        "rich",
        "sklearn",
    }
    assert not loaded_after("import jobs.cli.main") & heavy


def test_the_night_needs_no_torch() -> None:
    code = "from callanalytics.analysis.call import load_analysis; from callanalytics.config import Settings"
    code += "; load_analysis(Settings(), None)"
    assert not loaded_after(code) & {"torch", "librosa", "sklearn"}


def test_all_python_is_in_the_four_packages() -> None:
    assert not list(ROOT.glob("*.py"))
