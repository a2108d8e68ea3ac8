"""Labels that people gave: a training corpus out of reviewed segments."""

from __future__ import annotations

import json
from pathlib import Path

import click

from jobs.cli.console import say
from jobs.cli.options import config_option, folder_type, json_option, out_option


@click.group()
def labels() -> None:
    """What reviewers heard, as a corpus to train on."""


@labels.command()
@click.argument("folder", type=folder_type)
@click.option("--consent", is_flag=True, help="Say that these callers' voices may be trained on.")
@click.option("--licence", default="internal use only", show_default=True, help="Written into the manifest.")
@json_option
@out_option
@config_option
def export(
    folder: Path, consent: bool, licence: str, as_json: bool, out: Path | None, config: Path | None
) -> None:
    """Cut reviewed segments from their recordings: WAV files and a manifest, callers only, speaker-safe."""
    from callanalytics.config import load_config
    from jobs.reviews.export import export_labels

    settings = load_config(config)
    made = export_labels(settings, out or settings.out_dir, folder, consent=consent, licence=licence)
    if as_json:
        print(json.dumps(made.to_json()))
        return
    counts = ", ".join(f"{n} {emotion}" for emotion, n in made.emotions.items())
    splits = ", ".join(f"{n} {split}" for split, n in made.splits.items())
    say(f"{made.n_clips} clips of {made.n_speakers} speakers: {counts} ({splits})")
    for reason, n in made.left_out.items():
        say(f"  left out: {n} {reason}")
    say(f"Train on it: callanalytics retrain --corpus {made.manifest}")
