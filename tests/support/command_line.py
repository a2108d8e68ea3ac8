"""The command line in this process: what a person types, with exit code and both streams.

A process of its own (`short_calls.call`) costs half a second and more to start; it is for signals, kills,
what is imported, and what a process leaves behind.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass
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
