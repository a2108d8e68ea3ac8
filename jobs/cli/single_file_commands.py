"""One file at a time, without a database: analyze, classify, diarize."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from jobs.cli.console import in_colour
from jobs.cli.options import config_option, folder_type, json_option


@click.command()
@click.argument("file", type=folder_type, nargs=-1, required=True)
@config_option
@json_option
def analyze(file: tuple[Path, ...], config: Path | None, as_json: bool) -> None:
    """Analyse one call (one file, or the two files of a pair) without a database."""
    from callanalytics.config import load_config
    from jobs.cli.single_file import analyze_file, call_as_dict, render_call

    analysis = analyze_file(file, load_config(config))
    if as_json:
        print(json.dumps(call_as_dict(analysis)))
    else:
        print(in_colour(render_call(analysis), sys.stdout))


@click.command()
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
    from jobs.cli.single_file import classify_clips, render_clip

    found_bad = False
    for row in classify_clips(paths, load_config(config), by_folder=by_folder, abstain=not no_abstain):
        found_bad |= bool(row.get("error"))
        print(json.dumps(row) if as_json else render_clip(row), flush=True)
    sys.exit(3 if found_bad else 0)


@click.command()
@click.argument("file", type=folder_type)
@click.option("--rttm", required=True, help="File to write, or - for standard output.")
@config_option
def diarize(file: Path, rttm: str, config: Path | None) -> None:
    """Write who speaks when as RTTM: agent, caller or speaker_N."""
    from callanalytics.config import load_config
    from jobs.cli.single_file import diarize_file

    text = diarize_file(file, load_config(config))
    if rttm == "-":
        print(text, end="")
    else:
        Path(rttm).write_text(text, encoding="utf-8")
