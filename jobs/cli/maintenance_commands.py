"""Keeping the results in order: purge, export, backfill, rejudge, voices."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from callanalytics.records.text import counted
from jobs.cli.console import held_back, progress, say
from jobs.cli.options import (
    folder_type,
    in_workspace,
    json_option,
    quiet_option,
    with_settings,
)

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace


@click.command()
@click.option(
    "--older-than", help="Calls of an age in days or weeks (365d, 52w), or before a date that is over."
)
@click.option("--call", metavar="ID", help="One call.")
@click.option("--caller", metavar="NUMBER|HASH", help="Every call of a caller.")
@click.option("--agent", metavar="ID", help="Every call of an agent, and the agent's voice profile.")
@click.option("--audio-only", is_flag=True, help="Remove the evidence clips only.")
@click.option("--dry-run", is_flag=True, help="Show what would go and remove nothing.")
@with_settings
@json_option
def purge(
    older_than: str | None,
    call: str | None,
    caller: str | None,
    agent: str | None,
    audio_only: bool,
    dry_run: bool,
    settings: Settings,
    workspace: Workspace,
    as_json: bool,
) -> None:
    """Remove calls from the results for good; original recordings are never touched."""
    from jobs.maintenance.purge import purge as remove
    from jobs.maintenance.purge import render_purged, selection_of

    selection = selection_of(
        settings, workspace, older_than=older_than, call=call, caller=caller, agent=agent
    )
    done = remove(settings, workspace, selection, audio_only=audio_only, dry_run=dry_run)
    if as_json:
        print(json.dumps(done.to_json()))
    else:
        say(render_purged(done))


@click.command()
@click.argument("folder", type=folder_type)
@in_workspace
@json_option
def export(folder: Path, workspace: Workspace, as_json: bool) -> None:
    """Write the published results as Parquet files, partitioned by day."""
    from callanalytics.store.parquet import export as write

    done = write(workspace.database, folder)
    if as_json:
        print(json.dumps(asdict(done)))
    else:
        n_rows = sum(done.n_rows.values())
        say(f"{n_rows:,} rows of {len(done.n_rows)} tables, {done.n_bytes / 1e6:,.1f} MB in {folder}")


@click.command()
@click.option("--ensemble", "name", help="Id, folder or 'shipped' (default: the one in use).")
@click.option("--shadow", is_flag=True, help="Score beside the visible ensemble, unseen until promoted.")
@click.option("--since", help="First call: 7d, a date or a time (default: all).")
@click.option("--until", help="Last call, exclusive (default: none).")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes (default: one per core).")
@with_settings
@json_option
@quiet_option
def backfill(
    name: str | None,
    shadow: bool,
    since: str | None,
    until: str | None,
    workers: int | None,
    settings: Settings,
    workspace: Workspace,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score calls of earlier nights with another ensemble, from their recordings."""
    from jobs.models.backfill import backfill as score
    from jobs.models.backfill import render_backfilled

    with progress(quiet or as_json) as on_progress:
        done = score(
            settings,
            workspace,
            name,
            shadow=shadow,
            since=since,
            until=until,
            workers=workers,
            on_progress=on_progress,
        )
    if as_json:
        print(json.dumps(done.to_json()))
    else:
        say(render_backfilled(done), quiet=quiet)
        if not done.published:
            say(held_back(workspace), quiet=quiet)
    sys.exit(done.exit_code)


@click.command()
@click.option("--since", help="First call: 7d, a date or a time (default: all).")
@click.option("--until", help="Last call, exclusive (default: none).")
@click.option("--dry-run", is_flag=True, help="Say which flags would come and go and write nothing.")
@with_settings
@json_option
@quiet_option
def rejudge(
    since: str | None,
    until: str | None,
    dry_run: bool,
    settings: Settings,
    workspace: Workspace,
    as_json: bool,
    quiet: bool,
) -> None:
    """Apply changed rules of config.toml to the calls that are there, without inference."""
    from jobs.models.rejudge import rejudge as judge_again
    from jobs.models.rejudge import render_rejudged

    with progress(quiet or as_json) as on_progress:
        done = judge_again(
            settings, workspace, since=since, until=until, dry_run=dry_run, on_progress=on_progress
        )
    if as_json:
        print(json.dumps(done.to_json()))
    else:
        say(render_rejudged(done), quiet=quiet)
        if not done.published and not dry_run:
            say(held_back(workspace), quiet=quiet)
    sys.exit(done.exit_code)


@click.group()
def voices() -> None:
    """Voice profiles of agents, kept only with [privacy] voice_profiles = true: list or forget them."""


@voices.command("list")
@json_option
@in_workspace
def list_(as_json: bool, workspace: Workspace) -> None:
    """Whose voice is known, and from how many calls."""
    from jobs.maintenance.voices import known_voices

    known = known_voices(workspace)
    if as_json:
        print(json.dumps([asdict(voice) for voice in known], default=str))
        return
    if not known:
        say("No voice profiles.")
    for voice in known:
        print(
            f"{voice.agent}  (recorder {voice.recorder})  {counted(voice.n_calls, 'call')}, "
            f"newest {voice.newest_at:%Y-%m-%d}, run {voice.newest_run_id}"
        )


@voices.command()
@click.argument("agent", required=False)
@click.option("--all", "everybody", is_flag=True, help="Delete every profile.")
@json_option
@in_workspace
def forget(agent: str | None, everybody: bool, as_json: bool, workspace: Workspace) -> None:
    """Delete the voice profile of AGENT for good: from the working database and the published one."""
    from jobs.maintenance.voices import forget as delete

    if (agent is None) is not everybody:
        raise click.UsageError("Say whose profile to delete: AGENT, or --all for every one.")
    n_calls = delete(workspace, agent)
    if as_json:
        print(json.dumps({"agent": agent, "n_calls": n_calls}))
        return
    whose = "Every voice profile" if agent is None else f"The voice profile of {agent}"
    say(f"{whose} is deleted ({counted(n_calls, 'call')}). Turn voice_profiles off to learn no new one.")
