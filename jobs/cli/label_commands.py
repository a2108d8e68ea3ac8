"""Labels that people gave: a training corpus out of reviewed segments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.console import say
from jobs.cli.options import folder_type, json_option, with_settings

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace


@click.group()
def labels() -> None:
    """What reviewers heard, as a corpus to train on."""


@labels.command()
@click.argument("folder", type=folder_type)
@click.option("--consent", is_flag=True, help="Say that these callers' voices may be trained on.")
@click.option("--licence", default="internal use only", show_default=True, help="Written into the manifest.")
@json_option
@with_settings
def export(
    folder: Path, consent: bool, licence: str, as_json: bool, settings: Settings, workspace: Workspace
) -> None:
    """Cut reviewed segments from their recordings: WAV files and a manifest, callers only, speaker-safe."""
    from jobs.reviews.export import export_labels

    made = export_labels(settings, workspace, folder, consent=consent, licence=licence)
    if as_json:
        print(json.dumps(made.to_json()))
        return
    counts = ", ".join(f"{n} {emotion}" for emotion, n in made.emotions.items())
    splits = ", ".join(f"{n} {split}" for split, n in made.splits.items())
    say(f"{made.n_clips} clips of {made.n_speakers} speakers: {counts} ({splits})")
    for reason, n in made.left_out.items():
        say(f"  left out: {n} {reason}")
    command = workspace.command("retrain", "--corpus", str(Path(made.manifest).absolute()))
    say(f"Train on it: {command}")
