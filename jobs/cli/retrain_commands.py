"""Retraining: train on corpora and reviewed calls, promote only what is clearly better."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.console import say
from jobs.cli.ensemble_commands import promoted_words
from jobs.cli.options import json_option, quiet_option, with_settings
from jobs.cli.training_options import members_of, ordinary_option, training_shown

if TYPE_CHECKING:
    from callanalytics.config import RetrainSettings, Settings
    from callanalytics.workspace import Workspace
    from ensemble.corpora import Corpus
    from ensemble.training import TrainSettings


@click.command()
@click.option("--corpus", "corpora", multiple=True, metavar="[NAME=]PATH", help="Default: [retrain] corpora.")
@click.option("--reviewed/--no-reviewed", default=None, help="Also train on reviewed segments.")
@ordinary_option
@click.option("--consent", is_flag=True, help="Say that these callers' voices may be trained on.")
@click.option(
    "--heads/--no-heads",
    default=None,
    help="Learn only the centred heads, in minutes (default: with --reviewed, unless told how to train).",
)
@click.option("--preset", type=click.Choice(["quick", "night"]), help="Default: [retrain] preset.")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs (default: the preset's).")
@click.option("--members", help="Names joined by commas (default: all).")
@click.option("--labels", help="Joined by commas (default: those of the ensemble in use).")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--margin", type=click.FloatRange(0, 1), help="UAR it must gain (default: [retrain] margin).")
@click.option("--no-shadow", is_flag=True, help="Do not score last week with the candidate.")
@click.option("--history", is_flag=True, help="Show every retraining so far, and train nothing.")
@json_option
@quiet_option
@with_settings
def retrain(
    corpora: tuple[str, ...],
    reviewed: bool | None,
    ordinary: tuple[Path, ...],
    consent: bool,
    heads: bool | None,
    margin: float | None,
    no_shadow: bool,
    history: bool,
    as_json: bool,
    quiet: bool,
    settings: Settings,
    workspace: Workspace,
    **options: Any,
) -> None:
    """Train on corpora and reviewed calls; promote only what is better on the same held-out test."""
    from jobs.active_ensemble import is_in_use, registry
    from jobs.models.retrain import read_history
    from jobs.models.retrain import retrain as train_and_decide

    if history:
        _show(read_history(workspace), as_json)
        return
    plan = settings.retrain
    if heads is None and any(options[told] for told in ("preset", "epochs", "members")):
        heads = False  # how members train is told, so they are to be trained
    plan = replace_table(
        plan,
        margin=plan.margin if margin is None else margin,
        reviewed=plan.reviewed if reviewed is None else reviewed,
        ordinary=tuple(str(path.absolute()) for path in ordinary) or plan.ordinary,
        consent=consent or plan.consent,
        heads=plan.heads if heads is None else heads,
    )
    training = _training(options, plan, settings, workspace)
    with training_shown(quiet or as_json) as on_news:
        done = train_and_decide(
            settings,
            workspace,
            _read(corpora, settings),
            training,
            plan=plan,
            shadow=not no_shadow,
            on_news=on_news,
            say=lambda line: say(line, quiet=quiet or as_json),
        )
    used = is_in_use(settings, workspace, done.candidate_id)
    if as_json:
        print(json.dumps({**done.to_json(), "in_use": used}))
        return
    say(f"{done.candidate_id} {done.reason}\nCard: {done.card}", quiet=quiet)
    if done.promoted:
        is_kept = done.candidate_id in registry(workspace).ids()
        say(_standing(done.candidate_id, workspace, used, is_kept), quiet=quiet)


def _standing(candidate_id: str, workspace: Workspace, is_used: bool, is_kept: bool) -> str:
    """Whether what was promoted is in use: a decision made before may have been undone since."""
    if is_used:
        return promoted_words(candidate_id, workspace)
    if is_kept:
        return (
            f"{candidate_id} was promoted then and is not in use now. "
            f"Use it: {workspace.command('ensemble', 'promote', candidate_id)}"
        )
    return f"{candidate_id} was promoted then; its folder is gone since, and another ensemble is in use."


def replace_table(plan: RetrainSettings, **changes: object) -> RetrainSettings:
    """The settings of [retrain] with some changed for this call."""
    return plan.model_copy(update=changes)


def _read(named: tuple[str, ...], settings: Settings) -> list[Corpus]:
    """Corpora of the command line, else those of the config file (relative to it)."""
    from jobs.cli.training_options import named_corpora

    base = Path() if named else settings.folder
    return named_corpora(named or settings.retrain.corpora, base=base)


def _training(
    options: dict[str, Any], plan: RetrainSettings, settings: Settings, workspace: Workspace
) -> TrainSettings:
    from ensemble.inference.card import read_card
    from ensemble.members import VOICE_MEMBER
    from ensemble.training import PRESETS
    from jobs.active_ensemble import in_use

    card = read_card(in_use(settings, workspace))
    labels = options["labels"].split(",") if options["labels"] else card["labels"]
    chosen: dict[str, Any] = {"labels": tuple(labels), "n_threads": options["threads"]}
    if options["epochs"]:
        chosen["n_epochs"] = options["epochs"]
    preset = PRESETS[options["preset"] or plan.preset]
    if options["members"]:
        chosen["members"] = members_of(options["members"])
    elif VOICE_MEMBER in {member["name"] for member in card["members"]} and "neutral" in labels:
        chosen["members"] = (*preset.members, VOICE_MEMBER)
    return replace(preset, **chosen)


def _show(history: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(history))
    elif not history:
        say("Never retrained.")
    else:
        print("\n".join(f"{row['at']}  {row['candidate_id']}  {row['words']}" for row in history))
