"""The ranked cards of the morning brief."""

from __future__ import annotations

from reports import formatting as words
from reports import timeline as lanes
from reports.call_rows import CallData, load_calls
from reports.formatting import count, percent
from reports.parts.call_parts import (
    TIME_SOURCE_WORDS,
    call_course,
    call_moments,
    call_reasons,
    call_strip,
    page_name,
    person,
    review_commands,
    review_words,
    voices,
)
from reports.parts.flags import FRUSTRATION_MEASURES, RANKING, rules_on
from reports.report_source import Source
from reports.views import Card, Cell, Table

# Cards beyond this many are rows of a table: nobody reads more of them in two minutes.
MAX_CARDS = 50
# Shown when nothing was flagged, so that a person can still check.
N_HIGHEST = 5
# A strip on a card joins what lies this close in share of the call: less would be dust at that size.
CARD_JOIN_SHARE = 0.006

_RANKED = """
SELECT analysis_key, call_id FROM call_summary s
WHERE started_at >= $since AND started_at < $until AND flagged >= $flagged
ORDER BY {ranking} LIMIT $most
"""
_MORE = """
SELECT call_id, started_local, queue, agent_id, agent_name, duration_s, frustration_score, reasons
FROM call_summary s WHERE started_at >= $since AND started_at < $until AND flagged
ORDER BY {ranking} OFFSET $skip
"""


def read_cards(source: Source, pages: frozenset[str], calm: bool) -> tuple[Card, ...]:
    """Flagged calls as `flags.RANKING` puts them; on a calm window the highest scores of all."""
    ranked = source.in_window(
        _RANKED.format(ranking=RANKING),
        flagged=not calm,
        most=N_HIGHEST if calm else MAX_CARDS,
        frustrated=rules_on(source.settings, FRUSTRATION_MEASURES),
    )
    calls = load_calls(source, [row["analysis_key"] for row in ranked])
    return tuple(
        _card(source, calls[row["analysis_key"]], rank, pages) for rank, row in enumerate(ranked, start=1)
    )


def _card(source: Source, call: CallData, rank: int, pages: frozenset[str]) -> Card:
    facts = call.facts
    score = facts["frustration_score"]
    join_s = max(lanes.JOIN_S, CARD_JOIN_SHARE * facts["duration_s"])
    return Card(
        rank=str(rank),
        call_id=call.call_id,
        href=call_href(call.call_id, pages),
        when=words.moment(facts["started_local"]),
        when_note=TIME_SOURCE_WORDS["file_time"] if facts["started_at_source"] == "file_time" else "",
        queue=facts["queue"] or "",
        agent=person(facts["agent_name"], facts["agent_id"])
        if facts["agent_name"] or facts["agent_id"]
        else "",
        length=words.length(facts["duration_s"]),
        direction="" if facts["direction"] == "unknown" else facts["direction"],
        score=percent(score),
        score_width=f"{100 * score:.1f}%",
        reasons=call_reasons(source, call),
        course=call_course(source, call),
        strip=call_strip(source, call, n_ticks=6, join_s=join_s),
        moments=call_moments(source, call, ""),
        path=facts["path"],
        voices=voices(facts),
        reviewed=review_words(call),
        review=review_commands(source, call),
    )


def call_href(call_id: str, pages: frozenset[str]) -> str:
    """Link from index.html to a call's page, empty when it has none."""
    return f"calls/{page_name(call_id)}" if call_id in pages else ""


def more_flagged(source: Source, pages: frozenset[str]) -> Table:
    """The flagged calls that have no card, as rows."""
    rows = tuple(
        (
            Cell(
                words.moment(row["started_local"]),
                row["started_local"].isoformat(),
                href=call_href(row["call_id"], pages),
            ),
            Cell(percent(row["frustration_score"]), f"{row['frustration_score']:.6f}", True),
            Cell("; ".join(row["reasons"])),
            Cell(row["queue"] or words.MISSING),
            Cell(person(row["agent_name"], row["agent_id"])),
            Cell(words.clock(row["duration_s"]), f"{row['duration_s']:.1f}", True),
        )
        for row in source.in_window(
            _MORE.format(ranking=RANKING),
            skip=MAX_CARDS,
            frustrated=rules_on(source.settings, FRUSTRATION_MEASURES),
        )
    )
    columns = ("When", "Score", "Reasons", "Queue", "Agent", "Length")
    return Table(f"The other {count(len(rows), 'flagged call')}", columns, rows, sortable=True)
