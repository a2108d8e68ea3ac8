"""Voice profiles of agents: list them, delete them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.cli.console import say
from jobs.cli.options import in_workspace, json_option

if TYPE_CHECKING:
    from callanalytics.workspace import Workspace


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
            f"{voice.agent}  (recorder {voice.recorder})  {voice.n_calls} calls, "
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
    say(f"{whose} is deleted ({n_calls} calls). Turn voice_profiles off to learn no new one.")
