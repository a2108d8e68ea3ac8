"""Which ensemble labelled, in a sentence and as a card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reports.formatting import counted, day, joined, percent
from reports.palette import badge
from reports.report_source import Row, Source
from reports.translation import _
from reports.views import Cell, Fact, Table

# Deeper parts of a card are for programs; the page shows the leaves above this depth.
MAX_DEPTH = 3
MAX_CARD_ROWS = 120
MAX_LISTED = 12

_PROMOTED = """
SELECT ensemble_id, labels::VARCHAR[] AS labels, members, card::VARCHAR AS card,
    coalesce(promoted_at, registered_at) AT TIME ZONE $zone AS in_use_since
FROM ensembles WHERE promoted ORDER BY promoted_at DESC LIMIT 1
"""


def _promoted(source: Source) -> Row | None:
    return next(iter(source.rows(_PROMOTED, zone=source.settings.time.zone_info.key)), None)


@dataclass(frozen=True, slots=True)
class EnsembleFacts:
    """Which ensemble labelled, in a sentence and as facts."""

    text: str
    facts: tuple[Fact, ...]


def ensemble_facts(source: Source) -> EnsembleFacts:
    """The promoted ensemble: everything on these pages was labelled by it."""
    row = _promoted(source)
    if row is None:
        return EnsembleFacts(_("No ensemble has labelled calls in this database yet."), ())
    return EnsembleFacts(
        text=counted(
            "Every label is the vote of the {n} model of one ensemble.",
            "Every label is a majority vote of the {n} models of one ensemble.",
            len(row["members"]),
        ),
        facts=(
            Fact(_("Ensemble"), row["ensemble_id"]),
            Fact(_("In use since"), day(row["in_use_since"])),
            Fact(_("Models"), joined(row["members"])),
            Fact(_("Emotions it knows"), joined([badge(label).name for label in row["labels"]])),
            *claims(json.loads(row["card"])),
        ),
    )


def claims(card: Any) -> Iterator[Fact]:
    """What the card says about training and tests. Cards are files: nothing in them is taken for granted."""
    if not isinstance(card, dict):
        return
    corpora = card.get("trained_on")
    if isinstance(corpora, list) and corpora:
        clips, speakers = card.get("n_training_clips", ""), card.get("n_training_speakers", "")
        known = isinstance(clips, int) and isinstance(speakers, int)
        note = ""
        if known:
            note = _("{clips} of {speakers}").format(
                clips=counted("{n} clip", "{n} clips", int(clips)),
                speakers=counted("{n} speaker", "{n} speakers", int(speakers)),
            )
        yield Fact(_("Trained on"), joined([str(corpus) for corpus in corpora]), note)
    scores = card.get("scores")
    headline = scores.get("headline") if isinstance(scores, dict) else None
    if isinstance(headline, dict) and isinstance(headline.get("uar"), float):
        yield Fact(_("Mean recall in its test"), percent(headline["uar"]), str(headline.get("test", "")))


def ensemble_card(source: Source) -> Table:
    """The card that came with the weights, as name and value."""
    row = _promoted(source)
    found = leaves(json.loads(row["card"]), ()) if row else []
    rows = [(Cell(name), Cell(value)) for name, value in found[:MAX_CARD_ROWS]]
    return Table(
        _("What the ensemble's card says"), (_("Entry"), _("Value")), rows, empty=_("It came without a card.")
    )


def leaves(value: Any, path: tuple[str, ...]) -> list[tuple[str, str]]:
    """Nested objects as (dotted name, text) pairs; lists of plain values are one entry."""
    if isinstance(value, dict) and len(path) < MAX_DEPTH:
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, str(key)))]
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        return [leaf for item in value for leaf in leaves(item, (*path, str(item["name"])))]
    name = " › ".join(part.replace("_", " ") for part in path) or "card"
    if (
        isinstance(value, list)
        and len(value) <= MAX_LISTED
        and not any(isinstance(v, dict | list) for v in value)
    ):
        return [(name, ", ".join(map(str, value)))]
    if isinstance(value, dict | list):
        return [(name, counted("{n} entry", "{n} entries", len(value)))]
    if isinstance(value, float):
        return [(name, f"{value:.4g}")]
    return [(name, "–" if value is None else str(value))]
