"""Tests can fail, know no private name of the product, and do not import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from honesty import ROOT, asserting_helpers, private_names, private_uses, python_files, unable_to_fail

TESTS = ROOT / "tests"


def test_every_test_can_fail() -> None:
    helpers = asserting_helpers(TESTS / "support")
    files = [path for path in python_files(TESTS) if path.name.startswith("test_")]
    assert len(files) > 50
    assert [str(finding) for path in files for finding in unable_to_fail(path, helpers)] == []


def test_no_test_knows_a_private_name() -> None:
    private = private_names()
    assert len(private) > 300
    files = [path for path in python_files(TESTS) if path.stem != Path(__file__).stem]
    assert [str(finding) for path in files for finding in private_uses(path, private)] == []


def test_no_test_imports_another_test() -> None:
    modules = {path.stem for path in python_files(TESTS) if path.name.startswith("test_")}
    found = {
        f"{path.relative_to(TESTS)} imports {name}"
        for path in python_files(TESTS)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (a.name if isinstance(node, ast.Import) else node.module or "" for a in node.names)
        if name.rsplit(".", 1)[-1] in modules
    }
    assert found == set()


CANNOT_FAIL = """
for name in found.items():
    assert name
---
for name in sorted(found):
    for other in (1, 2):
        assert name == other
---
assert all(name for name in found)
---
assert not any(name.bad for name in found)
---
assert not [name for name in found if name.bad]
---
if found:
    assert found[0]
---
run(found)
---
assert found == found
---
assert (found, "a tuple holds")
---
assert len(found) >= 0
---
assert found or True
---
with open(found) as file:
    for line in file:
        assert line
"""
CAN_FAIL = """
for name in ("a", "b"):
    assert name in found
---
assert len(found) == 3
for name in found:
    assert name
---
assert found
assert all(name for name in found.values())
---
assert not [name for name in range(3) if name in found]
---
for number in range(3):
    assert number in found
---
if found:
    assert found[0]
else:
    assert found is None
---
with pytest.raises(ValueError):
    run(found)
---
subprocess.run(found, check=True)
---
expected = {"a": 1}
for name, value in expected.items():
    assert found[name] == value
---
check(found)
"""


def bodies(text: str) -> list[str]:
    return [body.strip() for body in text.split("---")]


def written(folder: Path, body: str) -> Path:
    lines = ["def check(found):", "    assert found", "", "def test_it(found):"]
    path = folder / "test_it.py"
    path.write_text("\n".join([*lines, *(f"    {line}" for line in body.splitlines())]), encoding="utf-8")
    return path


@pytest.mark.parametrize("body", bodies(CANNOT_FAIL))
def test_what_cannot_fail_is_found(body: str, tmp_path: Path) -> None:
    assert [finding.test for finding in unable_to_fail(written(tmp_path, body), frozenset())][:1] == [
        "test_it"
    ]


@pytest.mark.parametrize("body", bodies(CAN_FAIL))
def test_what_can_fail_is_left_alone(body: str, tmp_path: Path) -> None:
    assert list(unable_to_fail(written(tmp_path, body), frozenset())) == []


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("from jobs.night.run import _made_up", ["_made_up"]),
        ("found._made_up", ["_made_up"]),
        ('patched.setattr("jobs.night.run._made_up", 1)', ["jobs.night.run._made_up"]),
        ('patched.setattr(run, "_made_up", 1)', ["_made_up"]),
        ('code = "import jobs; jobs.run._made_up()"', ["_made_up"]),
        ("self._made_up = found", []),
        ("scheduler._process_jobs()", []),
    ],
)
def test_private_names_are_found(body: str, names: list[str], tmp_path: Path) -> None:
    found = private_uses(written(tmp_path, body), frozenset({"_made_up"}))
    assert [finding.what.split()[1].rstrip(",") for finding in found] == names
