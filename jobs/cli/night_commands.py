"""The night and what prepares it: init, run, demo, ingest check, relabel."""

from __future__ import annotations

import json
import os
import shlex
import sys
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.console import closing_words, held_back, progress, say
from jobs.cli.options import (
    config_option,
    device_option,
    folder_type,
    json_option,
    out_option,
    quiet_option,
    with_settings,
)

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace
    from jobs.night import RunOptions
    from jobs.night.local_engine import FirstWorker


MOST_CHECKED = 20
"""Files that `init` shows; `ingest check` shows all."""


@click.command()
@click.option("--calls", multiple=True, help="Folder or URL of recordings; may be repeated.")
@click.option("--results", "--out", "out", help="Folder of the results (default: callanalytics-out).")
@click.option("--zone", help="Time zone of the recordings, as Europe/Berlin (default: this machine's).")
@click.option(
    "--config", type=folder_type, default=Path("config.toml"), show_default=True, help="File to write."
)
@click.option("--force", is_flag=True, help="Replace the file when it is there.")
def init(calls: tuple[str, ...], out: str | None, zone: str | None, config: Path, force: bool) -> None:
    """Write config.toml: three questions, or these options. Then show what the names of the files say."""
    import tomllib

    from callanalytics.config import settings_from
    from callanalytics.config.call_settings import machine_zone
    from callanalytics.errors import UsageError
    from callanalytics.ingest.check import check_paths, render_checked
    from callanalytics.workspace import write_whole

    if config.exists() and not force:
        raise UsageError(f"{config}: is there already. Edit it, or give --force to replace it.")
    calls = calls or (click.prompt("Folder (or URL) of the recordings", err=True),)
    out = out or click.prompt("Folder for the results", default="callanalytics-out", err=True)
    zone = zone or click.prompt("Time zone of the recordings", default=machine_zone(), err=True)
    inputs = [place if "://" in place else str(Path(place).expanduser().absolute()) for place in calls]
    for place in inputs:
        if "://" not in place and not Path(place).exists():
            raise UsageError(f"{place}: no such folder. Give --calls a folder that is there.")
    lines = (
        "# Settings of callanalytics; every key: docs/reference/configuration.md",
        "[paths]",
        f"inputs = [{', '.join(json.dumps(place, ensure_ascii=False) for place in inputs)}]",
        f"out = {json.dumps(out, ensure_ascii=False)}",
        "",
        "[time]",
        f"zone = {json.dumps(zone, ensure_ascii=False)}",
    )
    text = "\n".join(lines) + "\n"
    settings = settings_from(tomllib.loads(text), source=str(config), folder=config.absolute().parent)
    write_whole(config.absolute(), text)
    say(f"Written: {config}")
    print(render_checked(check_paths(settings.input_dirs, settings), MOST_CHECKED))
    given = "" if config == Path("config.toml") else f" --config {shlex.quote(str(config))}"
    say(f"Next: callanalytics run{given}")


@click.command()
@click.option("--since", help="Start: yesterday, 7d, 36h, a date or a time (default: yesterday).")
@click.option("--until", help="End, exclusive, in the same words (default: now, of yesterday its end).")
@click.option("--input", "inputs", type=folder_type, multiple=True, help="Folder or file; may be repeated.")
@out_option
@config_option
@click.option("--limit", type=click.IntRange(1, 2**62), help="Analyse at most this many recordings.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes (default: one per core).")
@device_option
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(min=0),
    help="Take files this many seconds after their last change; 0 takes all (default: [discovery] settle_s).",
)
@click.option("--force", is_flag=True, help="Analyse again what is done already.")
@click.option("--dry-run", is_flag=True, help="Show what would be analysed and write nothing.")
@click.option("--fail-on-empty", is_flag=True, help="Exit 4 when the window holds no recording.")
@click.option("--no-gate", is_flag=True, help="Publish also what [gate] would hold back.")
@json_option
@quiet_option
def run(config: Path | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Analyse the recordings of a window: the nightly job."""
    from callanalytics.config import load_config
    from jobs.night import RunOptions

    settings, asked = load_config(config, options["out"]), RunOptions(**options)
    with progress(quiet or as_json) as on_progress, _first_worker(settings, asked) as first:
        from jobs.night.run import run_night  # half a second, in which the worker starts

        result = run_night(settings, asked, on_progress=on_progress, first=first)
    if as_json:
        print(json.dumps(result.to_json()))
    else:
        say(closing_words(result, settings.time.zone_info), quiet=quiet)
    if result.planned is None:
        from callanalytics.workspace import Workspace
        from jobs.night.run import SIGNAL_CODES
        from jobs.scheduler.notify import tell_of_run

        workspace = Workspace(Path(result.database).parent)
        shown = result.counts.n_done > 0 and result.exit_code < SIGNAL_CODES
        for problem in tell_of_run(settings, workspace, result.window, held=result.held, published=shown):
            say(problem)
    sys.exit(result.exit_code)


def _first_worker(settings: Settings, options: RunOptions) -> AbstractContextManager[FirstWorker | None]:
    """A worker that loads the models while the run looks for recordings.

    Where nothing was ever analysed it is started at once, else by the run when it has found something new.
    """
    from callanalytics.workspace import Workspace
    from ensemble.model_errors import ModelError
    from jobs.active_ensemble import in_use
    from jobs.night import as_asked
    from jobs.night.local_engine import FirstWorker, LoadPacked, n_workers

    settings = as_asked(settings, options)
    if settings.engine.kind != "local" or options.dry_run:
        return nullcontext()
    workspace = Workspace(options.out or settings.out_dir)
    try:
        ensemble_dir = in_use(settings, workspace)
    except ModelError:  # the run itself says so
        return nullcontext()
    first = FirstWorker(
        LoadPacked(settings, ensemble_dir),
        options.workers or n_workers(settings),
        memory_limited=not settings.engine.device.startswith("cuda"),
    )
    if not workspace.work_database.exists():
        first.start()
    return first


@click.command()
@click.option(
    "--out", type=folder_type, default=Path("demo-calls"), show_default=True, help="Folder to fill."
)
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Day of the calls (default: yesterday).")
@click.option(
    "--days-before",
    type=click.IntRange(0, 2),
    default=0,
    show_default=True,
    help="Also calm calls of so many days before, so that there is something to compare with.",
)
@config_option
@quiet_option
def demo(out: Path, day: Any, days_before: int, config: Path | None, quiet: bool) -> None:
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
            n_days_before=days_before,
            on_progress=lambda done, total: on_progress("Making demonstration calls", done, total, ""),
        )
    days = f"{chosen}" if not days_before else f"{chosen - timedelta(days=days_before)} to {chosen}"
    say(f"{summary.n_calls} calls of {days} in {summary.folder}", quiet=quiet)
    say(
        "Their voices are synthetic (espeak-ng), so the emotions named in them say nothing: look at the "
        "flow, not at the labels.",
        quiet=quiet,
    )


@click.group()
def ingest() -> None:
    """Look at recordings without running a model."""


@ingest.command()
@click.argument("paths", type=folder_type, nargs=-1, required=True)
@config_option
@json_option
def check(paths: tuple[Path, ...], config: Path | None, as_json: bool) -> None:
    """Show what each file parses to, by which recorder, and which names nothing matched."""
    from callanalytics.config import load_config
    from callanalytics.ingest.check import check_paths, render_checked

    checked = check_paths(paths, load_config(config))
    if as_json:
        for row in checked:
            print(json.dumps(row.to_dict()))
    else:
        print(render_checked(checked))


@click.command()
@click.argument("call_id")
@click.option("--swap", is_flag=True, required=True, help="Exchange agent and caller.")
@with_settings
def relabel(call_id: str, swap: bool, settings: Settings, workspace: Workspace) -> None:
    """Correct who is agent and who is caller in a call, without inference; remembered on re-runs."""
    from jobs.reviews.relabel import relabel as exchange
    from reports.formatting import score_text

    done = exchange(settings, workspace, call_id, by=os.environ.get("USER"))
    call = done.call
    mark = "flagged" if call.assessment.flagged else "not flagged"
    say(
        f"{call.recording.call_id}: agent and caller exchanged; "
        f"frustration {score_text(call.assessment.curve.score)}, {mark}"
    )
    if done.was_taken_for_the_agent:
        day = call.facts.started_at.astimezone(settings.time.zone_info).date()
        window = ("--since", str(day), "--until", str(day + timedelta(days=1)))
        say(
            "The caller was taken for the agent and has the vote of the trained members only. All judge when "
            f"the day is analysed again: {workspace.command('run', *window, '--force')}"
        )
    if not done.published:
        say(held_back(workspace))
