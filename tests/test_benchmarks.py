"""Benchmarks are run by hand and rarely: at least what they import must exist."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("callanalytics", "ensemble", "jobs", "reports")
SCRIPTS = sorted(
    [
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "docs").rglob("*.py"),
        *(ROOT / "tests" / "support").glob("*.py"),
    ]
)


def imported(path: Path) -> list[tuple[str, str]]:
    """(module, name) of everything a script takes from our packages."""
    return [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS
        for alias in node.names
    ]


def exists(module: str, name: str) -> bool:
    return hasattr(import_module(module), name) or find_spec(f"{module}.{name}") is not None


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_exists(path: Path) -> None:
    assert [wanted for wanted in imported(path) if not exists(*wanted)] == []


def test_the_scripts_import_our_packages() -> None:
    assert sum(bool(imported(path)) for path in SCRIPTS) > 8
