"""The command line in this process: what a person types, with exit code and both streams.

A process of its own (`short_calls.call`) costs half a second and more to start; it is for signals, kills,
what is imported, and what a process leaves behind.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobs.cli.main import main


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """The JSON document on the last line of the standard output."""
        return json.loads(self.stdout.splitlines()[-1])


def run_command(*args: object, expect: int | None = 0) -> Done:
    """Run a command through the entry point. Fails with all it said when the exit code differs."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    code: object = "did not end"
    with CliRunner().isolation() as (stdout, stderr, _), pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["callanalytics", *map(str, args)])
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        sys.stdout.flush()
        sys.stderr.flush()
        done = Done(int(str(code)), *(s.getvalue().decode("utf-8", "replace") for s in (stdout, stderr)))
    assert expect is None or done.exit_code == expect, f"exit {code}\n{done.stdout}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
    if "--json" in args and done.stdout:
        broken = broken_contracts([str(word) for word in args], done.stdout)
        assert broken == [], broken
    return done


def callanalytics(*args: object, expect: int = 0) -> str:
    """The standard output of a command."""
    return run_command(*args, expect=expect).stdout


def run_json(*args: object, expect: int = 0) -> dict[str, Any]:
    """The result of a night that prints it as JSON."""
    found: dict[str, Any] = run_command("run", "--json", *args, expect=expect).json()
    return found


def messages(*args: object) -> str:
    """What a command says to a person, whatever its exit code."""
    return run_command(*args, expect=None).stderr


# What `--json` prints --------------------------------------------------------------------------------


@cache
def json_contracts() -> dict[str, Any]:
    """What every command with `--json` prints, and shapes that several share, whose names begin with `$`.

    A shape is one word or several, as in "number|null"; a list of one shape; or an object of shapes, where
    `?` ends a key that may be missing and `*` stands for any other key. {"|": [...]} is one of several.
    A command whose output is one object a line has the shape of a line.
    """
    file = Path(__file__).parents[1] / "data" / "json_contracts.json"
    contracts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return contracts


def broken_contracts(words: list[str], stdout: str) -> list[str]:
    """Where the output of a command with `--json` is not what its contract says."""
    command = next(name for name in json_contracts() if words[: len(name.split())] == name.split())
    try:
        documents = [json.loads(stdout)]
    except ValueError:
        documents = [json.loads(line) for line in stdout.splitlines()]
    shape = json_contracts()[command]
    return [problem for document in documents for problem in _unlike(document, shape, command)]


def _unlike(value: Any, shape: Any, at: str) -> Iterator[str]:
    if isinstance(shape, str) and shape.startswith("$"):
        yield from _unlike(value, json_contracts()[shape], at)
    elif isinstance(shape, str):
        if not any(_is(value, word) for word in shape.split("|")):
            yield f"{at}: {shape} was promised, and {value!r:.40} printed"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{at}: a list was promised, and {value!r:.40} printed"
            return
        for number, each in enumerate(value):
            yield from _unlike(each, shape[0], f"{at}[{number}]")
    elif "|" in shape:
        if all(list(_unlike(value, each, at)) for each in shape["|"]):
            yield f"{at}: {value!r:.40} is none of the shapes that were promised"
    elif not isinstance(value, dict):
        yield f"{at}: an object was promised, and {value!r:.40} printed"
    else:
        known = {key.removesuffix("?"): each for key, each in shape.items()}
        yield from (f"{at}.{key}: missing" for key in shape if key[-1] not in "?*" and key not in value)
        for key, each in value.items():
            if key in known:
                yield from _unlike(each, known[key], f"{at}.{key}")
            elif "*" in shape:
                yield from _unlike(each, shape["*"], f"{at}.{key}")
            else:
                yield f"{at}.{key}: not promised"


def _is(value: object, word: str) -> bool:
    types = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    if word == "any" or isinstance(value, bool):
        return word in {"any", "boolean"}
    return isinstance(value, types[word])  # type: ignore[arg-type]
