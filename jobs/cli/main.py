"""The command line: parse, load the settings, call one job, print, exit.

Exit codes: 0 all done; 1 fatal; 2 usage or config; 3 committed, some files quarantined; 4 no files
(with --fail-on-empty); 5 another run holds the lock; 6 model missing or incompatible; 7 time budget
used, resumable; 8 the gate held the night back, nothing published; 130/143 interrupted, committed work
kept. Angry callers are no error.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from types import FrameType
from typing import NoReturn

import click

from callanalytics import __version__
from callanalytics.errors import CallAnalyticsError, ExtraMissing, UsageError, remedy
from callanalytics.records.text import did_you_mean, display_text, without_secrets
from jobs.cli.console import paint

MODEL_EXIT_CODE = 6

GROUPS = {
    "Night": {
        "init": "night_commands",
        "run": "night_commands",
        "schedule": "schedule_commands",
        "notify": "schedule_commands",
        "ingest": "night_commands",
        "demo": "night_commands",
    },
    "Look": {
        "status": "result_commands",
        "report": "result_commands",
        "query": "result_commands",
        "schema": "result_commands",
        "search": "result_commands",
        "analyze": "single_file_commands",
        "classify": "single_file_commands",
        "diarize": "single_file_commands",
        "export": "maintenance_commands",
    },
    "Review": {
        "open": "app_commands",
        "app": "app_commands",
        "review": "review_commands",
        "relabel": "night_commands",
        "rejudge": "maintenance_commands",
        "labels": "review_commands",
    },
    "Models": {
        "ensemble": "ensemble_commands",
        "backfill": "maintenance_commands",
        "retrain": "retrain_commands",
        "train": "training_commands",
        "calibrate": "training_commands",
        "evaluate": "training_commands",
        "crossval": "training_commands",
        "bench": "bench_commands",
        "explore": "bench_commands",
    },
    "Maintain": {
        "doctor": "result_commands",
        "purge": "maintenance_commands",
        "voices": "maintenance_commands",
    },
}
"""Which module of :mod:`jobs.cli` has each command, by group and in the order of ``--help``."""

COMMANDS = {name: module for group in GROUPS.values() for name, module in group.items()}


NEEDS = {
    "demo": ("demo", ("espeakng_loader",)),
    "retrain": ("train", ("torch", "sklearn", "onnx")),
    "train": ("train", ("torch", "sklearn", "onnx")),
    "calibrate": ("train", ("sklearn",)),
    "evaluate": ("train", ("sklearn",)),
    "crossval": ("train", ("torch", "sklearn")),
    "bench": ("bench", ("torch", "sklearn", "librosa")),
    "explore": ("train", ("librosa",)),
}
"""What commands need beyond a night: the extra that installs it, and modules of it. Known before any work."""


class Commands(click.Group):
    """Imports a command's module when the command is asked for, so that none pays for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: D102 click's own
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: D102
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"jobs.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def resolve_command(  # noqa: D102
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        extra, modules = NEEDS.get(name or "", ("", ()))
        missing = [module for module in modules if find_spec(module) is None]
        if missing and not {"-h", "--help"} & set(rest):
            raise ExtraMissing(
                f"{name} needs {', '.join(missing)}, which a night does not need and is not installed: "
                f"pip install 'callanalytics[{extra}]'"
            )
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: D102
        width = formatter.width - 6 - max(map(len, COMMANDS))
        for group, names in GROUPS.items():
            commands = ((name, self.get_command(ctx, name)) for name in names)
            rows = [(name, command.get_short_help_str(width)) for name, command in commands if command]
            with formatter.section(group):
                formatter.write_dl(rows)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="callanalytics")
def cli() -> None:
    """Emotion analytics for recorded calls: who spoke, how it sounded, which callers were frustrated."""


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGINT arrived: what is open is closed on the way out."""


# What arrived: DuckDB makes a RuntimeError of its own of an exception that a handler raises.
_signals: list[int] = []


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _signals.append(number)
    raise Interrupted


def main() -> NoReturn:
    """Entry point: run a command and turn every failure into one message and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        cli.main(standalone_mode=False)
        sys.exit(0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as problem:
        _end(_explained(problem), problem.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _end_interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except CallAnalyticsError as problem:
        _end(str(problem), problem.exit_code)
    except OSError as problem:
        if _signals:
            _end_interrupted()
        if os.environ.get("CALLANALYTICS_DEBUG"):
            raise
        where = f"{problem.filename}: " if problem.filename else ""
        why = problem.strerror or type(problem).__name__
        _end(f"{where}{why}. {remedy(problem)} and run again: committed work is kept.", 1)
    except MemoryError:
        _end(
            "memory ran out. Give the process more (ulimit -v, the limit of its container), or use fewer "
            "[engine] workers, and run again: committed work is kept.",
            1,
        )
    except Exception as problem:
        if _signals:
            _end_interrupted()
        if os.environ.get("CALLANALYTICS_DEBUG"):
            raise
        if (code := _ensemble_exit_code(problem)) is not None:
            _end(str(problem), code)
        _end(
            f"unexpected {type(problem).__name__}: {problem}\n"
            "Run again with CALLANALYTICS_DEBUG=1 to see where, and report it.",
            1,
        )
    finally:
        _let_signals_end()


def _ensemble_exit_code(problem: Exception) -> int | None:
    """6 for a model that is missing or does not fit, 2 for a GPU that is not there, 1 for corpora and
    trainings, None for anything else."""
    from ensemble.model_errors import DeviceMissing, EnsembleError, ModelError

    if isinstance(problem, ModelError):
        return MODEL_EXIT_CODE
    if isinstance(problem, DeviceMissing):
        return UsageError.exit_code
    return 1 if isinstance(problem, EnsembleError) else None


def _let_signals_end() -> None:
    """All is closed: who asks again need not wait for the rest, and nothing is to be told."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _end_interrupted() -> NoReturn:
    _let_signals_end()
    _end("interrupted; committed work is kept", 128 + (_signals[0] if _signals else signal.SIGINT))


def _explained(problem: click.ClickException) -> str:
    """What click found wrong, what was probably meant, and where to read more."""
    text = problem.format_message()
    if not isinstance(problem, click.UsageError) or problem.ctx is None:
        return text
    command = problem.ctx.command
    if isinstance(command, click.Group) and "'" in text and text.startswith("No such command"):
        text += did_you_mean(text.split("'")[1], command.list_commands(problem.ctx))
    return f"{text}\nHelp: {problem.ctx.command_path} --help"


def _end(message: str, code: int) -> NoReturn:
    # Names and addresses in it are of others.
    shown = "\n".join(map(display_text, without_secrets(message).split("\n")))
    print(f"{paint('callanalytics:', 'bad', sys.stderr)} {shown}", file=sys.stderr)
    sys.exit(code)
