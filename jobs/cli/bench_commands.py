"""Comparing and looking: bench seeds, explore."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.console import say
from jobs.cli.options import folder_type, json_option, quiet_option, training_device_option

if TYPE_CHECKING:
    from ensemble.baselines.bench import Setting
    from ensemble.baselines.results_table import Row
    from ensemble.corpora import Clip


@click.group()
def bench() -> None:
    """Compare systems on labelled corpora."""


@bench.command()
@click.option(
    "--corpus", "corpora", multiple=True, required=True, metavar="[NAME=]PATH", help="May be repeated."
)
@click.option(
    "--protocol",
    type=click.Choice(["random", "speaker", "both"]),
    default="both",
    show_default=True,
    help="random: the split of each document, where speakers leak; speaker: unknown speakers.",
)
@click.option("--systems", help="Names joined by commas (default: all).")
@click.option("--effort", type=click.Choice(["quick", "full"]), default="full", show_default=True)
@click.option("--folds", type=click.IntRange(min=1), help="At most this many folds of each.")
@click.option(
    "--wav2vec", type=folder_type, help="Checkpoint folder (else a random stand-in, and it says so)."
)
@click.option(
    "--teacher",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Safetensors of a Whisper encoder's first blocks (else its systems are left out).",
)
@click.option(
    "--crossval",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="crossval.json of our ensemble; repeatable.",
)
@click.option("--out", type=folder_type, default=Path("seeds"), show_default=True, help="Folder to fill.")
@training_device_option
@click.option(
    "--bf16",
    is_flag=True,
    help="Train networks in bfloat16: 2 to 3 times as fast on GPUs and CPUs with AVX-512 BF16.",
)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--table-only", is_flag=True, help="Run nothing; write the table of what has run.")
@json_option
@quiet_option
def seeds(
    corpora: tuple[str, ...],
    protocol: str,
    systems: str | None,
    effort: str,
    folds: int | None,
    wav2vec: Path | None,
    teacher: Path | None,
    crossval: tuple[Path, ...],
    out: Path,
    device: str,
    bf16: bool,
    threads: int,
    table_only: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Every system of the studies: its document's figure, ours by its protocol, ours on unknown speakers."""
    import torch

    from callanalytics.workspace import TrainingFolder
    from ensemble.baselines.bench import EFFORTS, PROTOCOLS, Setting, run
    from ensemble.baselines.systems import SYSTEMS
    from ensemble.inference.device import prepare_device
    from ensemble.model_errors import EnsembleError

    prepare_device(device)
    there = [name for name, each in SYSTEMS.items() if teacher or "whisper" not in each.features]
    chosen = systems.split(",") if systems else there
    if unknown := sorted(set(chosen) - set(SYSTEMS)):
        raise click.BadParameter(
            f"{', '.join(unknown)}: known are {', '.join(SYSTEMS)}", param_hint="--systems"
        )
    torch.set_num_threads(threads)
    cache = TrainingFolder(out).cache
    clips, n_unusable = _usable(corpora, cache)
    say(f"{len(clips)} clips, {n_unusable} unusable", quiet=quiet or as_json)
    setting = Setting(
        out, cache, EFFORTS[effort], device=device, bf16=bf16, checkpoint=wav2vec, teacher=teacher
    )
    problems = []
    for name in () if table_only else chosen:
        for each in PROTOCOLS:
            if protocol not in (each, "both"):
                continue
            try:
                run(
                    SYSTEMS[name],
                    each,
                    clips,
                    setting,
                    max_folds=folds,
                    say=lambda s: say(s, quiet=quiet or as_json),
                )
            except EnsembleError as error:
                problems.append(f"{name}, {each}: {error}")
    rows = _rows(clips, setting, crossval)
    about = {
        "Clips": f"{len(clips)} of {', '.join(sorted({c.corpus for c in clips}))}, "
        f"{len({c.speaker for c in clips})} speakers; {n_unusable} files unusable",
        "Unknown speakers": "published folds, speakers never cross; stopping and tuning on validation only",
        "Training": "networks keep the epoch of the best validation accuracy and normalise by the mean of an "
        "epoch; seconds per fold as measured, on machines that may have had other work beside it",
        "Command": _command(corpora, (effort, folds, bf16), (wav2vec, teacher), crossval, out),
    }
    _write(rows, about, out)
    for problem in problems:
        say(f"Not run: {problem}")
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        say(f"Table: {out / 'seeds.html'}, {out / 'seeds.md'}, {out / 'seeds.json'}", quiet=quiet)
    raise SystemExit(1 if problems else 0)


def _usable(corpora: Sequence[str], cache: Path) -> tuple[tuple[Clip, ...], int]:
    """Clips that can be used, and how many files cannot."""
    from ensemble.corpora import usable_clips_cached
    from jobs.cli.training_options import named_corpora

    clips: list[Clip] = []
    n_unusable = 0
    for corpus in named_corpora(corpora):
        good, _, bad = usable_clips_cached(corpus.clips, 16_000, cache)
        clips += good
        n_unusable += len(bad) + len(corpus.unusable)
    return tuple(clips), n_unusable


def _rows(clips: Sequence[Clip], setting: Setting, crossval: Sequence[Path]) -> list[Row]:
    """Rows of all systems from the folds on disk: of the full effort where there are any, else the quick."""
    from ensemble.baselines.bench import EFFORTS, PROTOCOLS, finished
    from ensemble.baselines.results_table import ensemble_rows, result_of, row_of
    from ensemble.baselines.systems import SYSTEMS

    rows: list[Row] = []
    for system in SYSTEMS.values():
        found: dict[str, Any] = {}
        for protocol in PROTOCOLS:
            for effort in ("full", "quick"):
                folds = finished(system, protocol, clips, replace(setting, effort=EFFORTS[effort]))
                found[protocol] = found.get(protocol) or result_of(folds, system, protocol)
        rows.append(
            row_of(system, found["random"], found["speaker"], checkpoint=setting.checkpoint is not None)
        )
    for path in crossval:
        result = json.loads(path.read_text(encoding="utf-8"))
        rows += ensemble_rows(result, _member_sizes(result))
    return rows


def _member_sizes(result: dict[str, Any]) -> dict[str, int]:
    from ensemble.baselines.networks import count_parameters
    from ensemble.inference.spectrogram import FrontEnd
    from ensemble.members import MEMBERS, make_member

    names = next(iter(result["clean"].values()))["member_uar"]
    kinds = {name: name.partition("-")[0] for name in names}
    return {
        name: count_parameters(make_member(kind, FrontEnd().n_mels, len(result["labels"])))[0]
        for name, kind in kinds.items()
        if kind in MEMBERS
    }


def _command(
    corpora: Sequence[str],
    pace: tuple[str, int | None, bool],
    models: tuple[Path | None, Path | None],
    crossval: Sequence[Path],
    out: Path,
) -> str:
    """The command that completes the table, with folders by their last name only."""
    words = ["callanalytics bench seeds"]
    words += [f"--corpus {Path(c.rpartition('=')[2]).name}" for c in corpora]
    effort, folds, bf16 = pace
    words += [f"--effort {effort}"] + ([f"--folds {folds}"] if folds else []) + (["--bf16"] if bf16 else [])
    for option, path in zip(("--wav2vec", "--teacher"), models, strict=True):
        words += [f"{option} {path.name}"] if path else []
    words += [f"--crossval {path.name}" for path in crossval]
    return " ".join([*words, f"--out {out.name}"])


def _write(rows: Sequence[Row], about: dict[str, str], out: Path) -> None:
    from ensemble.baselines.results_table import table_page

    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("seeds.json", json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"),
        ("seeds.md", table_page("seeds.md", rows, about)),
        ("seeds.html", table_page("seeds.html", rows, about)),
    ):
        unfinished = out / f".{name}.part"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(out / name)


@click.command()
@click.argument("path", metavar="FILE|CORPUS", type=folder_type)
@click.option(
    "--out", type=folder_type, default=Path("explore.html"), show_default=True, help="Page to write."
)
@quiet_option
def explore(path: Path, out: Path, quiet: bool) -> None:
    """Draw waveform, spectrogram, MFCC and augmentations of a file, or per emotion of a corpus, on a page."""
    from ensemble.baselines.explore import counts_of, explore_corpus, explore_file, page
    from ensemble.corpora import read_corpus

    if path.is_dir() or path.suffix in {".csv", ".parquet"}:
        corpus = read_corpus(path)
        sounds, heading = explore_corpus(corpus)
        text = page(sounds, heading, counts_of(corpus))
    else:
        text = page(*explore_file(path))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    say(f"Page: {out}", quiet=quiet)
