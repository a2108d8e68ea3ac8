"""What trainings share on the command line: corpora, how members are trained, a bar of epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobs.cli.console import progress, say
from jobs.cli.options import folder_type, training_device_option

if TYPE_CHECKING:
    from callanalytics.workspace import TrainingFolder, Workspace
    from ensemble.corpora import Corpus
    from ensemble.training import News, TrainSettings

Command = TypeVar("Command", bound=Callable[..., Any])

LABELS = {
    "six": ("anger", "disgust", "fear", "happy", "neutral", "sad"),
    "seven": ("anger", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
}

corpus_option = click.option(
    "--corpus",
    "corpora",
    multiple=True,
    required=True,
    metavar="[NAME=]PATH",
    help="Folder as its authors ship it, or of several such, or a CSV or Parquet manifest; may be repeated.",
)


def _columns(_: click.Context, __: click.Parameter, told: str | None) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in (told or "").split(",") if pair]
    if wrong := [ours for ours, equals, theirs in pairs if not equals or not theirs.strip()]:
        raise click.BadParameter(f"{', '.join(wrong)}: expected OURS=THEIRS, as in path=file,emotion=label")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


ordinary_option = click.option(
    "--ordinary",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Calls that are mostly calm, from which it learns what calm sounds like; needs --consent.",
)

columns_option = click.option(
    "--columns",
    callback=_columns,
    metavar="OURS=THEIRS,...",
    help="A manifest's own names for its columns, as in path=file,emotion=label,speaker=spk.",
)


def training_options(command: Command) -> Command:
    """Options that decide how members are trained."""
    for option in reversed(
        (
            click.option(
                "--preset", type=click.Choice(["quick", "night"]), default="night", show_default=True
            ),
            click.option("--labels", default=None, help="six, seven, native, or names joined by commas."),
            click.option("--members", help="Names joined by commas; cnn-2 is a second CNN of another seed."),
            click.option("--epochs", type=click.IntRange(min=1), help="Epochs (default: the preset's)."),
            click.option(
                "--batch", type=click.IntRange(min=2), help="Clips a step (default 64); fewer for few clips."
            ),
            click.option("--seed", type=int, default=1, show_default=True),
            click.option("--schedule", type=click.Choice(["cosine", "plateau"]), help="Of the rate."),
            click.option("--patience", type=click.IntRange(min=0), help="Stop early; 0 never stops."),
            click.option("--focal", type=click.FloatRange(min=0), help="Focal loss exponent; 0 is off."),
            click.option("--no-speaker-norm", is_flag=True, help="Ablation: each clip normalised alone."),
            click.option("--sample-rate", type=click.Choice(["8000", "16000"]), default="8000"),
            click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True),
            training_device_option,
            click.option("--work", type=folder_type, help="Checkpoints and cache (default: OUT/training)."),
        )
    ):
        command = option(command)
    return command


def work_folder(options: dict[str, Any], workspace: Workspace) -> TrainingFolder:
    """Where checkpoints and caches lie."""
    from callanalytics.workspace import TrainingFolder

    chosen: Path | None = options["work"]
    return TrainingFolder(chosen) if chosen else workspace.training


def named_corpora(
    named: Sequence[str], columns: Mapping[str, str] | None = None, *, base: Path = Path()
) -> list[Corpus]:
    """The corpora of ``NAME=PATH`` or paths whose layout is recognised, every sound in them once.

    Paths are relative to ``base``; ``columns`` are a manifest's own names for its columns.
    """
    from ensemble.corpora import LOADERS, read_corpora, without_copies
    from ensemble.evaluation import refuse_names

    read: list[Corpus] = []
    for text in named:
        name, equals, path = text.partition("=")
        known = bool(equals) and (name in LOADERS or (base / path).is_file())
        read += read_corpora(base / (path if known else text), name if known else None, columns)
    refuse_names(read)
    return without_copies(read)


def counted(corpus: Corpus) -> str:
    """Clips per emotion and unusable files per reason, on one line."""
    counts = ", ".join(f"{n} {what}" for what, n in corpus.counts().items())
    return f"{corpus.name}: {len(corpus.clips)} clips ({counts})"


def train_settings(options: dict[str, Any], corpora: Sequence[Corpus], default_labels: str) -> TrainSettings:
    """How to train: the preset, with what was told by options. Raises click.BadParameter."""
    from ensemble.inference.spectrogram import FrontEnd
    from ensemble.labels import EMOTIONS
    from ensemble.training import PRESETS

    told = options["labels"] or default_labels
    there = {clip.emotion for corpus in corpora for clip in corpus.clips}
    native = tuple(emotion for emotion in EMOTIONS if emotion in there)
    labels = native if told == "native" else LABELS.get(told) or tuple(told.split(","))
    if wrong := set(labels) - set(EMOTIONS):
        raise click.BadParameter(f"{', '.join(sorted(wrong))}: expected six, seven, native or of {EMOTIONS}")
    chosen: dict[str, Any] = {
        "labels": labels,
        "seed": options["seed"],
        "n_threads": options["threads"],
        "device": options["device"],
        "speaker_norm": not options["no_speaker_norm"],
        "front": FrontEnd.wide() if options["sample_rate"] == "16000" else FrontEnd(),
    }
    named = {"epochs": "n_epochs", "patience": "patience_epochs"}
    told_too = ("epochs", "batch", "schedule", "patience", "focal")
    chosen |= {named.get(key, key): options[key] for key in told_too if options[key] is not None}
    if options["members"]:
        chosen["members"] = members_of(options["members"])
    return replace(PRESETS[options["preset"]], **chosen)


def members_of(told: str) -> tuple[str, ...]:
    """Names joined by commas. Raises click.BadParameter for one that is no member, or comes twice."""
    from ensemble.members import MEMBERS, is_member

    names = tuple(name.strip() for name in told.split(","))
    if strange := [name for name in names if not is_member(name) or names.count(name) > 1]:
        raise click.BadParameter(
            f"{', '.join(strange)}: expected each once of {', '.join(MEMBERS)}, or with a number as in cnn-2",
            param_hint="--members",
        )
    return names


@contextmanager
def training_shown(quiet: bool) -> Iterator[Callable[[News], None]]:
    """A bar of extracted views, then one a member: epochs, loss, UAR on the validation speakers."""
    from ensemble.training import Extracted

    with progress(quiet) as on_progress:

        def show(p: News) -> None:
            if isinstance(p, str):
                say(p, quiet=quiet)
                return
            if isinstance(p, Extracted):
                on_progress("Extracting spectrograms", p.n_done, p.n_views, "")
                return
            uars = (
                f"{name} {uar:.1%}" for name, uar in (("clip", p.uar_clip), ("speaker", p.uar_speaker)) if uar
            )
            note = ", ".join((f"loss {p.loss:.3f}", *uars, f"{p.left_s / 60:.0f} min left"))
            on_progress(f"Training {p.member}", p.epoch, p.n_epochs, note)

        yield show
