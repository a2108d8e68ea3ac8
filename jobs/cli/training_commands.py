"""Making and measuring ensembles: train, calibrate, evaluate, crossval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from jobs.cli.console import print_table, say
from jobs.cli.options import (
    folder_type,
    in_workspace,
    json_option,
    named_or_in_use,
    quiet_option,
    with_settings,
)
from jobs.cli.training_options import (
    columns_option,
    corpus_option,
    counted,
    named_corpora,
    ordinary_option,
    train_settings,
    training_options,
    training_shown,
    work_folder,
)

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace
    from ensemble.corpora import Corpus
    from ensemble.inference.ensemble import Ensemble

ensemble_option = click.option(
    "--ensemble", "name", help="Id, folder or 'shipped' (default: the one in use)."
)


@click.command()
@corpus_option
@columns_option
@training_options
@click.option("--validation", multiple=True, help="Speaker held out, as corpus/id; may be repeated.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="campplus|PATH",
    help="Network of others that the bodies learn from beside the labels: the voice network, or the "
    "safetensors of a Whisper encoder's first blocks; may be repeated. In training only.",
)
@click.option("--start", help="Ensemble to begin from (id, folder or 'shipped').")
@ordinary_option
@click.option("--consent", is_flag=True, help="Say that the callers of --ordinary may be trained on.")
@click.option("--precision", type=click.FloatRange(0, 1), default=0.8, show_default=True)
@click.option("--everyone", is_flag=True, help="Then train again on all speakers, with what was chosen.")
@click.option("--licence", default="", help="Written into the card.")
@click.option("--note", default="", help="Written into the card.")
@click.option("--dry-run", is_flag=True, help="Show what would be trained on and write nothing.")
@with_settings
@json_option
@quiet_option
def train(
    corpora: tuple[str, ...],
    columns: dict[str, str],
    validation: tuple[str, ...],
    teachers: tuple[str, ...],
    start: str | None,
    ordinary: tuple[Path, ...],
    consent: bool,
    precision: float,
    everyone: bool,
    licence: str,
    note: str,
    dry_run: bool,
    settings: Settings,
    workspace: Workspace,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train the members on labelled corpora, calibrate them, write the card, keep them in the registry."""
    from callanalytics.workspace import file_lock
    from ensemble.corpora import keep_emotions, split_by_speaker
    from ensemble.corpora.speakers import (
        never_validated,
        refuse_untrained,
        speakers_of,
        validation_speakers,
        without_test,
    )
    from ensemble.evaluation.model_card import member_table, score_table
    from ensemble.train_ensemble import train_from_corpora
    from jobs.active_ensemble import named, registry
    from jobs.models.ordinary import ordinary_talk

    read = named_corpora(corpora, columns)
    training_settings = replace(train_settings(options, read, default_labels="six"), teachers=teachers)
    known = [keep_emotions(corpus, training_settings.labels) for corpus in read]
    usable = without_test(known)
    held_out = frozenset(validation) or validation_speakers(usable)
    for corpus in usable:
        say(counted(corpus), quiet=quiet)
    n_speakers = sum(len(speakers_of(c)) for c in usable) - len(held_out)
    say(f"{n_speakers} speakers train, {len(held_out)} validate: {', '.join(sorted(held_out))}", quiet=quiet)
    if n_test := sum(len(c.clips) for c in known) - sum(len(c.clips) for c in usable):
        say(f"{n_test} clips marked as test are left out", quiet=quiet)
    if missing := never_validated(usable, held_out):
        say(
            f"Nobody held out has {', '.join(missing)}: confidence there is not calibrated. Hold out a "
            "speaker who has: --validation corpus/id",
            quiet=quiet,
        )
    training, _ = split_by_speaker([clip for corpus in usable for clip in corpus.clips], held_out)
    refuse_untrained(training_settings.labels, training)
    for teacher in teachers:
        from ensemble.training.teachers import load_teacher

        say(f"Teacher: {load_teacher(teacher).about}", quiet=quiet)
    if dry_run:
        say("Dry run: nothing was trained or written.", quiet=quiet)
        return
    talk = ordinary_talk(
        ordinary, settings, workspace, consent=consent, say=lambda line: say(line, quiet=quiet)
    )
    work = work_folder(options, workspace)
    with file_lock(work.lock_file), training_shown(quiet or as_json) as show:
        made = train_from_corpora(
            usable,
            held_out,
            training_settings,
            folder=work.run,
            cache=work.cache,
            start=named(start, workspace) if start else None,
            precision=precision,
            everyone=everyone,
            licence=licence,
            note=note,
            ordinary=talk,
            say=show,
        )
        ensemble_id = registry(workspace).add(made)
    results = json.loads((made / "results.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps({"ensemble_id": ensemble_id, "folder": str(made), "results": results}))
        return
    print_table(*score_table(results), title=f"Ensemble {ensemble_id}: the vote, percent")
    print_table(*member_table(results), title="UAR of each member, of soft voting and of the vote")
    say(
        f"Card: {made / 'model-card.html'}\nUse it: {workspace.command('ensemble', 'promote', ensemble_id)}",
        quiet=quiet,
    )


@click.command()
@corpus_option
@columns_option
@ensemble_option
@click.option("--speaker", "speakers", multiple=True, help="Only these speakers, as corpus/id.")
@click.option("--validation", is_flag=True, help="Only speakers whom it was not trained on.")
@click.option(
    "--condition",
    "--line",
    "conditions",
    multiple=True,
    type=click.Choice(["clean", "telephone", "gsm"]),
    help="Channel condition; may be repeated.",
)
@click.option(
    "--card",
    type=folder_type,
    help="Folder for results.json and the model card; figures of other corpora of the same ensemble stay.",
)
@with_settings
@json_option
def evaluate(
    corpora: tuple[str, ...],
    columns: dict[str, str],
    name: str | None,
    speakers: tuple[str, ...],
    validation: bool,
    conditions: tuple[str, ...],
    card: Path | None,
    settings: Settings,
    workspace: Workspace,
    as_json: bool,
) -> None:
    """Measure an ensemble on labelled corpora: every channel condition side by side, intervals by speaker."""
    from ensemble.corpora import keep_emotions
    from ensemble.evaluation import evaluate as measure
    from ensemble.evaluation.model_card import member_table, score_table, write_card_pages
    from ensemble.inference.ensemble import load_ensemble

    ensemble = load_ensemble(named_or_in_use(name, settings, workspace))
    read = [keep_emotions(corpus, ensemble.labels) for corpus in named_corpora(corpora, columns)]
    only = frozenset(speakers) or None
    if validation and not only:
        only = _not_trained_on(ensemble, read)
    if only:
        there = {clip.speaker for corpus in read for clip in corpus.clips}
        if missing := only - there:
            named = f"{', '.join(sorted(missing))} (for example {min(there)})"
            raise click.BadParameter(f"no clip of {named}", param_hint="--speaker")
        read = [c for c in read if any(clip.speaker in only for clip in c.clips)]
    results = measure(ensemble, read, speakers=only, conditions=conditions or ("clean", "telephone"))
    if card:
        write_card_pages(card, ensemble.card, {**_measured_before(card, ensemble), **results})
        say(f"Card: {card / 'model-card.html'}")
    if as_json:
        print(json.dumps(results))
        return
    print_table(*score_table(results), title=f"Ensemble {ensemble.ensemble_id}: the vote, percent")
    print_table(*member_table(results), title="UAR of each member, of soft voting and of the vote")


@click.command()
@corpus_option
@columns_option
@ensemble_option
@click.option(
    "--speaker",
    "speakers",
    multiple=True,
    help="As corpus/id (default: all whom it was not trained on).",
)
@click.option("--precision", type=click.FloatRange(0, 1), default=0.8, show_default=True)
@click.option("--work", type=folder_type, help="Cache and result (default: OUT/training).")
@with_settings
@json_option
@quiet_option
def calibrate(
    corpora: tuple[str, ...],
    columns: dict[str, str],
    name: str | None,
    speakers: tuple[str, ...],
    precision: float,
    work: Path | None,
    settings: Settings,
    workspace: Workspace,
    as_json: bool,
    quiet: bool,
) -> None:
    """Calibrate the vote without the voice network's member, in a minute: older ensembles have no such one.

    That vote is for voices that are surely the agent's. The ensemble itself is not trained again.
    """
    from callanalytics.workspace import file_lock
    from ensemble.evaluation.model_card import BY_STATISTICS
    from ensemble.inference.ensemble import load_ensemble
    from ensemble.train_ensemble import calibrate_trained_alone
    from jobs.active_ensemble import registry

    start = named_or_in_use(name, settings, workspace)
    read = named_corpora(corpora, columns)
    held_out = frozenset(speakers) or _not_trained_on(load_ensemble(start), read)
    place = work_folder({"work": work}, workspace)
    with file_lock(place.lock_file):
        more = {"folder": place.folder / "calibrated", "cache": place.cache, "start": start}
        made = calibrate_trained_alone(
            read, held_out, precision=precision, say=lambda line: say(line, quiet=quiet), **more
        )
        ensemble_id = registry(workspace).add(made)
    card = json.loads((made / "card.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps({"ensemble_id": ensemble_id, "folder": str(made), **card["trained_alone"]}))
        return
    found = card["trained_alone"]["centred"]
    rows = [(how, f"{found[f'uar_{how}']:.1%}", f"{found[f'ece_{how}']:.1%}") for how in BY_STATISTICS]
    print_table(("known", "UAR", "ECE"), rows, title=f"Ensemble {ensemble_id}: the trained members alone")
    say(f"Use it: {workspace.command('ensemble', 'promote', ensemble_id)}", quiet=quiet)


def _measured_before(folder: Path, ensemble: Ensemble) -> dict[str, Any]:
    """Results of the same ensemble that are in a card's folder; none where it was another's or is empty."""
    path = folder / "results.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise click.UsageError(f"{path} is not JSON ({error}); remove it or name another --card") from error
    same = isinstance(found, dict) and found.get("ensemble_id") == ensemble.ensemble_id
    return found if same else {}


def _not_trained_on(ensemble: Ensemble, corpora: Sequence[Corpus]) -> frozenset[str]:
    """Speakers of the corpora whom no training of the ensemble had, as far as its card says."""
    from ensemble.inference.card import known_speakers

    everybody = frozenset(clip.speaker for corpus in corpora for clip in corpus.clips)
    if unknown := everybody - known_speakers(ensemble.card, everybody):
        return unknown
    names = ", ".join(corpus.name for corpus in corpora)
    raise click.UsageError(
        f"Ensemble {ensemble.ensemble_id} was trained on every speaker of {names}, as far as its card says: "
        "nobody is left to test on. Give another corpus, or name speakers by --speaker corpus/id."
    )


@click.command()
@corpus_option
@columns_option
@training_options
@click.option(
    "--folds", default="published", show_default=True, help="published, speaker, corpus, or a number."
)
@click.option("--split", type=click.Choice(["speaker", "random"]), default="speaker", show_default=True)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Repeat; medians.")
@click.option("--start", help="Weights to begin each fold from: an ensemble trained on OTHER corpora.")
@click.option("--heads", is_flag=True, help="Train only heads, on the frozen bodies of --start (or shipped).")
@click.option(
    "--beside",
    multiple=True,
    metavar="[NAME=]PATH",
    help="With --heads: a corpus that every fold is trained on and none tested on.",
)
@in_workspace
@json_option
@quiet_option
def crossval(
    corpora: tuple[str, ...],
    columns: dict[str, str],
    folds: str,
    split: str,
    seeds: int,
    start: str | None,
    heads: bool,
    beside: tuple[str, ...],
    workspace: Workspace,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Cross-validate by speaker: each fold trained afresh, nothing chosen on its test speakers."""
    from callanalytics.workspace import file_lock
    from ensemble.corpora import keep_emotions
    from ensemble.corpora.speakers import folds_of
    from ensemble.crossval import crossval as cross
    from ensemble.crossval import crossval_heads, fold_table, median_table
    from ensemble.evaluation import refuse_names
    from jobs.active_ensemble import named

    if (beside and not heads) or (heads and split != "speaker"):
        raise click.UsageError("--heads has folds by speaker only, and --beside needs --heads")
    read = named_corpora(corpora, columns)
    settings = train_settings(options, read, default_labels="native" if folds != "corpus" else "six")
    usable = [keep_emotions(corpus, settings.labels) for corpus in read]
    for corpus in usable:
        say(counted(corpus), quiet=quiet)
    clips = [clip for corpus in usable for clip in corpus.clips]
    others = [keep_emotions(corpus, settings.labels) for corpus in named_corpora(beside, columns)]
    refuse_names([*usable, *others])
    name = "-".join([*(c.name for c in usable), *(["heads"] if heads else []), *(c.name for c in others)])
    work, found = work_folder(options, workspace), []
    for seed in range(settings.seed, settings.seed + seeds):
        with file_lock(work.lock_file), training_shown(quiet or as_json) as show:
            more: dict[str, Any] = {
                "folder": work.folder / f"crossval-{name}-{split}-{seed}",
                "cache": work.cache,
                "say": show,
            }
            told = (folds_of(usable, folds), replace(settings, seed=seed))
            if heads:
                everything = [*clips, *(clip for corpus in others for clip in corpus.clips)]
                only = settings.members if options["members"] else None
                bodies = named(start or "shipped", workspace)
                found.append(crossval_heads(everything, *told, start=bodies, members=only, **more))
            else:
                whole: Literal["speaker", "random"] = "random" if split == "random" else "speaker"
                begin = named(start, workspace) if start else None
                found.append(cross(clips, *told, split=whole, start=begin, **more))
    if as_json:
        print(json.dumps(found))
        return
    for result in found:
        print_table(*fold_table(result), title=f"Seed {result['seed']}, split {result['split']}, percent")
    if len(found) > 1:
        print_table(*median_table(found), title=f"Median of {len(found)} seeds, percent")
