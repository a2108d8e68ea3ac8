"""The command line: parse, load the settings, call one job, print, exit.

Exit codes: 0 all done; 1 fatal; 2 usage or config; 3 committed, some files quarantined; 4 no files
(with --fail-on-empty); 5 another run holds the lock; 6 model missing or incompatible; 7 time budget
used, resumable; 130/143 interrupted, committed work kept. Angry callers are no error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from callanalytics import __version__
from callanalytics.console import closing_words, progress, say
from callanalytics.errors import CallAnalyticsError

MODEL_EXIT_CODE = 6

folder_type = click.Path(path_type=Path)
config_option = click.option("--config", type=folder_type, help="Settings file (default: ./config.toml).")
out_option = click.option("--out", type=folder_type, help="Folder of the results (default: [paths] out).")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object for machines.")
quiet_option = click.option("--quiet", is_flag=True, help="Say nothing but errors.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="callanalytics")
def cli() -> None:
    """Emotion analytics for recorded calls: who spoke, how it sounded, which callers were frustrated."""


@cli.command()
@click.option("--since", help="Start: yesterday, 7d, 36h, a date or a time (default: yesterday).")
@click.option("--until", help="End, exclusive, in the same words (default: now).")
@click.option("--input", "inputs", type=folder_type, multiple=True, help="Folder or file; may be repeated.")
@out_option
@config_option
@click.option("--limit", type=click.IntRange(min=1), help="Analyse at most this many recordings.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes (default: one per core).")
@click.option("--force", is_flag=True, help="Analyse again what is done already.")
@click.option("--dry-run", is_flag=True, help="Show what would be analysed and write nothing.")
@click.option("--fail-on-empty", is_flag=True, help="Exit 4 when the window holds no recording.")
@json_option
@quiet_option
def run(config: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Analyse the recordings of a window: the nightly job."""
    from callanalytics.config import load_config
    from jobs.nightly import RunOptions, run_night

    settings = load_config(config)
    with progress(quiet or as_json) as on_progress:
        result = run_night(settings, RunOptions(**options), on_progress=on_progress)
    if as_json:
        print(json.dumps(result.to_json()))
    else:
        say(closing_words(result), quiet=quiet)
    sys.exit(result.exit_code)


@cli.command()
@click.option(
    "--out", type=folder_type, default=Path("demo-calls"), show_default=True, help="Folder to fill."
)
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Day of the calls (default: yesterday).")
@config_option
@quiet_option
def demo(out: Path, day: Any, config: Path | None, quiet: bool) -> None:
    """Make a small demonstration of calls, dated yesterday."""
    from datetime import datetime, timedelta

    from callanalytics.config import load_config
    from callanalytics.demo import build_demo

    zone = load_config(config).time.zone_info
    chosen = day.date() if day else datetime.now(zone).date() - timedelta(days=1)
    with progress(quiet) as on_progress:
        summary = build_demo(
            out,
            day=chosen,
            zone=zone,
            on_progress=lambda done, total: on_progress("Making demonstration calls", done, total, ""),
        )
    say(f"{summary.n_calls} calls of {chosen} in {summary.folder}", quiet=quiet)


@cli.group()
def ingest() -> None:
    """Look at recordings without running a model."""


@ingest.command()
@click.argument("paths", type=folder_type, nargs=-1, required=True)
@config_option
@json_option
def check(paths: tuple[Path, ...], config: Path | None, as_json: bool) -> None:
    """Show what each file parses to, by which recorder, and which names nothing matched."""
    from callanalytics.config import load_config
    from callanalytics.ingest_check import check_paths, render_checked

    checked = check_paths(paths, load_config(config))
    if as_json:
        for row in checked:
            print(json.dumps(row.to_dict()))
    else:
        print(render_checked(checked))


@cli.command()
@click.argument("sql")
@click.option("--format", "style", type=click.Choice(["table", "csv", "json"]), default="table")
@click.option("--max-rows", type=click.IntRange(min=1), help="Stop after this many rows.")
@out_option
@config_option
def query(sql: str, style: str, max_rows: int | None, out: Path | None, config: Path | None) -> None:
    """Ask the published database in SQL."""
    from callanalytics.store.query import render, run_query

    print(render(run_query(_database(out, config), sql, max_rows=max_rows), style), end="")


@cli.command()
@json_option
@out_option
@config_option
def schema(as_json: bool, out: Path | None, config: Path | None) -> None:
    """Print the tables, views and columns of the published database with their comments."""
    from callanalytics.store.query import describe_schema, render_schema

    tables = describe_schema(_database(out, config))
    print(json.dumps(tables, indent=2) if as_json else render_schema(tables))


@cli.command()
@json_option
@out_option
@config_option
def status(as_json: bool, out: Path | None, config: Path | None) -> None:
    """Show the last runs, the quarantine and whether a run is at work."""
    from callanalytics.config import load_config
    from jobs.status import read_status, render_status

    settings = load_config(config)
    found = read_status(out or settings.out_dir)
    print(json.dumps(found) if as_json else render_status(found))


@cli.command()
@json_option
@out_option
@config_option
def doctor(as_json: bool, out: Path | None, config: Path | None) -> None:
    """Check decoders, weights, disk, zone and database, each with a fix."""
    from callanalytics.config import load_config
    from jobs.doctor import examine, render_findings

    settings = load_config(config)
    findings = examine(settings, out or settings.out_dir)
    print(json.dumps([f.to_dict() for f in findings]) if as_json else render_findings(findings))
    sys.exit(0 if all(f.ok for f in findings) else 1)


@cli.command()
@click.option("--since", help="Start of the window (default: yesterday).")
@click.option("--until", help="End of the window, exclusive (default: now).")
@out_option
@config_option
def report(since: str | None, until: str | None, out: Path | None, config: Path | None) -> None:
    """Write the HTML report of a window from the published database."""
    from datetime import UTC, datetime

    from callanalytics.config import load_config
    from callanalytics.window import parse_window
    from reports.build import build_reports

    settings = load_config(config)
    now = datetime.now(UTC)
    folder = (out or settings.out_dir) / "reports"
    page = build_reports(
        _database(out, config),
        folder,
        settings=settings,
        window=parse_window(since, until, zone=settings.time.zone_info, now=now),
        now=now,
        clips_dir=folder / "clips",
    )
    say(f"Report: {page}")


@cli.command()
@click.argument("call_id")
@click.option("--swap", is_flag=True, required=True, help="Exchange agent and caller.")
@out_option
@config_option
def relabel(call_id: str, swap: bool, out: Path | None, config: Path | None) -> None:
    """Correct who is agent and who is caller in a call, without inference; remembered on re-runs."""
    from callanalytics.config import load_config
    from jobs.relabel import relabel as exchange

    settings = load_config(config)
    call = exchange(settings, out or settings.out_dir, call_id, by=os.environ.get("USER"))
    mark = "flagged" if call.flagged else "not flagged"
    say(
        f"{call.recording.call_id}: agent and caller exchanged; "
        f"frustration {call.frustration_score:.0%}, {mark}. Write the pages again with: callanalytics report"
    )


@cli.command()
@click.argument("file", type=folder_type, nargs=-1, required=True)
@config_option
@json_option
def analyze(file: tuple[Path, ...], config: Path | None, as_json: bool) -> None:
    """Analyse one call (one file, or the two files of a pair) without a database."""
    from callanalytics.config import load_config
    from jobs.single import analyze_file, call_as_dict, render_call

    analysis = analyze_file(file, load_config(config))
    print(json.dumps(call_as_dict(analysis)) if as_json else render_call(analysis))


@cli.command()
@click.argument("paths", type=folder_type, nargs=-1, required=True)
@click.option("--no-abstain", is_flag=True, help="Always name an emotion.")
@click.option("--by-folder", is_flag=True, help="The clips of one folder share a speaker.")
@config_option
@json_option
def classify(
    paths: tuple[Path, ...], no_abstain: bool, by_folder: bool, config: Path | None, as_json: bool
) -> None:
    """Label whole clips with the ensemble."""
    from callanalytics.config import load_config
    from jobs.single import classify_clips, render_clip

    found_bad = False
    for row in classify_clips(paths, load_config(config), by_folder=by_folder, abstain=not no_abstain):
        found_bad |= bool(row.get("error"))
        print(json.dumps(row) if as_json else render_clip(row), flush=True)
    sys.exit(3 if found_bad else 0)


@cli.command()
@click.argument("file", type=folder_type)
@click.option("--rttm", required=True, help="File to write, or - for standard output.")
@config_option
def diarize(file: Path, rttm: str, config: Path | None) -> None:
    """Write who speaks when as RTTM: agent, caller or speaker_N."""
    from callanalytics.config import load_config
    from jobs.single import diarize_file

    text = diarize_file(file, load_config(config))
    if rttm == "-":
        print(text, end="")
    else:
        Path(rttm).write_text(text, encoding="utf-8")


def _database(out: Path | None, config: Path | None) -> Path:
    """The published database of the output folder."""
    from callanalytics.config import load_config
    from callanalytics.store import DATABASE_NAME

    return (out or load_config(config).out_dir) / DATABASE_NAME


def main() -> NoReturn:
    """Entry point: run a command and turn every failure into one message and an exit code."""
    try:
        cli.main(standalone_mode=False)
        sys.exit(0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as problem:
        problem.show()
        sys.exit(problem.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _end("interrupted; committed work is kept", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except CallAnalyticsError as problem:
        _end(str(problem), problem.exit_code)
    except Exception as problem:
        if os.environ.get("CALLANALYTICS_DEBUG"):
            raise
        if _is_model_error(problem):
            _end(str(problem), MODEL_EXIT_CODE)
        _end(
            f"unexpected {type(problem).__name__}: {problem}\n"
            "Run again with CALLANALYTICS_DEBUG=1 to see where, and report it.",
            1,
        )


def _is_model_error(problem: Exception) -> bool:
    from ensemble.errors import ModelError

    return isinstance(problem, ModelError)


def _end(message: str, code: int) -> NoReturn:
    print(f"callanalytics: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
