"""Which ensembles there are, and which one the night uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from callanalytics.errors import UsageError
from jobs.cli.console import print_table, say
from jobs.cli.options import (
    folder_type,
    json_option,
    named_or_in_use,
    with_settings,
)

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace


@click.group()
def ensemble() -> None:
    """Which ensembles there are, and which one the night uses."""


@ensemble.command("list")
@with_settings
@json_option
def list_(settings: Settings, workspace: Workspace, as_json: bool) -> None:
    """Every ensemble kept, its test score, and which one is in use."""
    from ensemble.inference.card import fingerprint, read_card
    from ensemble.inference.registry import headline
    from jobs.active_ensemble import in_use, registry

    kept = registry(workspace)
    current = in_use(settings, workspace)
    folders = {name: kept.folder(name) for name in ("shipped", *kept.ids())}
    if not any(_same(folder, current) for folder in folders.values()):
        folders[str(current)] = current  # the one that [emotion] ensemble names
    rows: list[dict[str, Any]] = []
    for name, folder in folders.items():
        card = read_card(folder)
        score = headline(card)
        rows.append(
            {
                "ensemble": name,
                "id": fingerprint(card),
                "in_use": _same(folder, current),
                "members": [str(m["name"]) for m in card["members"]],
                "uar": score[1] if score else None,
                "test": score[0] if score else None,
                "made_at": card.get("made_at"),
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    shown = [
        (
            ("* " if row["in_use"] else "  ") + str(row["ensemble"]),
            str(row["id"]),
            ", ".join(row["members"]),
            "-" if row["uar"] is None else f"{row['uar']:.1%}",
            str(row["test"] or "-"),
            str(row["made_at"] or "-"),
        )
        for row in rows
    ]
    print_table(("ensemble", "id", "members", "UAR", "on", "made"), shown, title="* is in use")


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


@ensemble.command()
@click.argument("name", default="")
@click.option("--html", type=folder_type, help="Write the card as a page, where a training left its results.")
@with_settings
@json_option
def show(name: str, html: Path | None, settings: Settings, workspace: Workspace, as_json: bool) -> None:
    """The card of an ensemble (default: the one in use): data, score, limits; all of it with --json."""
    from ensemble.evaluation.model_card import card_page, facts
    from ensemble.inference.card import read_card

    folder = named_or_in_use(name or None, settings, workspace)
    card = read_card(folder)
    if html:
        html.write_text(card_page("model-card.html", card, _results(folder)), encoding="utf-8")
        say(f"Card: {html}")
    elif as_json:
        print(json.dumps(card))
    else:
        print_table(("entry", "value"), [*facts(card), *_score_and_limits(card)], title=str(folder))


def _results(folder: Path) -> dict[str, Any]:
    """What `train` and `evaluate` measured of an ensemble and left beside its card."""
    path = folder / "results.json"
    if not path.is_file():
        raise UsageError(
            f"{path}: not there, so no page can be drawn: only the folder of a training holds it. The page "
            "of the shipped ensemble is docs/model-card.html of the source; make one of any other with "
            "callanalytics evaluate --ensemble ID --corpus PATH --card FOLDER."
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _score_and_limits(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The score that a card is judged by and what it warns of, as (entry, value)."""
    from ensemble.inference.registry import headline

    score = headline(card)
    scored = [("score", f"UAR {score[1]:.1%} on {score[0]}")] if score else []
    return [*scored, *(("limit", str(limit)) for limit in card.get("limits", ()))]


@ensemble.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Also when its score is worse or missing.")
@click.option("--note", default="", help="Why, kept in the history.")
@with_settings
def promote(name: str, force: bool, note: str, settings: Settings, workspace: Workspace) -> None:
    """Put an ensemble to use from the next run on: an id, 'shipped', or a folder to take in first."""
    from jobs.active_ensemble import refuse_where_fixed, registry

    refuse_where_fixed(settings, "promote")
    kept = registry(workspace)
    if (Path(name) / "card.json").is_file():
        name = kept.add(Path(name))
    done = kept.promote(name, force=force, note=note)
    say(promoted_words(done.ensemble_id, workspace))


def promoted_words(ensemble_id: str, workspace: Workspace) -> str:
    """What a promotion changes, and what to do so that no call is missing."""
    shadow = workspace.command("backfill", "--ensemble", ensemble_id, "--shadow")
    return (
        f"{ensemble_id} is in use from the next run on. That run hides calls that it has not analysed yet.\n"
        f"  So that none is missing, first: {shadow}\n"
        f"  Or after that run:              {workspace.command('backfill')}\n"
        f"  Undo it:                        {workspace.command('ensemble', 'rollback')}"
    )


@ensemble.command()
@with_settings
def rollback(settings: Settings, workspace: Workspace) -> None:
    """Undo the last promotion."""
    from jobs.active_ensemble import refuse_where_fixed, registry

    refuse_where_fixed(settings, "roll back")
    kept = registry(workspace)
    kept.rollback()
    past = kept.history()
    name = past[-1].ensemble_id if past else "shipped"
    say(
        f"{name} is in use from the next run on. That run shows again what it has analysed and hides other "
        f"calls, until: {workspace.command('backfill')}"
    )


@ensemble.command()
@click.argument("one")
@click.argument("other")
@with_settings
@json_option
def compare(one: str, other: str, settings: Settings, workspace: Workspace, as_json: bool) -> None:
    """What differs between two ensembles: their cards, and labels and flags of calls both have analysed."""
    from ensemble.inference.card import fingerprint, read_card
    from ensemble.inference.registry import compare as compare_cards
    from jobs.models.compare import compare_ensembles, render_comparison

    folders = [named_or_in_use(name, settings, workspace) for name in (one, other)]
    ids = [fingerprint(read_card(folder)) for folder in folders]
    differing = compare_cards(*folders)
    published = workspace.database
    calls = compare_ensembles(published, *ids) if published.is_file() else None
    if as_json:
        print(json.dumps({"cards": differing, "calls": calls.to_json() if calls else None}))
        return
    print_table(("entry", one, other), [(k, str(a), str(b)) for k, a, b in differing], title="Cards")
    if calls:
        print(render_comparison(calls))
