"""The ranked cards of the morning brief."""

from __future__ import annotations

from dataclasses import dataclass

from reports.call_rows import CallData, load_calls
from reports.formatting import count, length
from reports.parts.call_parts import TIME_SOURCE_TEXT, call_table, page_name, person, summarise_call, voices
from reports.parts.flags import FRUSTRATION_MEASURES, RANKING, rules_on
from reports.report_source import Source
from reports.timeline import JOIN_S
from reports.views import CallSummary, Table

# Cards beyond this many are rows of a table: nobody reads more of them in two minutes.
MAX_CARDS = 50
# Shown when nothing was flagged, so that a person can still check.
N_HIGHEST = 5
# A timeline on a card joins what lies this close in share of the call: less would be dust at that size.
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


@dataclass(frozen=True, slots=True)
class Card:
    """A call on the morning brief."""

    rank: str
    call: CallSummary
    href: str  # empty when the call has no page
    when_note: str  # a warning when the time is only the file's
    queue: str
    agent: str
    length: str
    direction: str
    score_width: str  # empty when the score is not known
    path: str
    voices: str


def read_cards(source: Source, pages: frozenset[str], *, calm: bool, most: int) -> tuple[Card, ...]:
    """Flagged calls as `flags.RANKING` puts them; on a calm window the highest scores of all.

    Args:
        pages: ids of the calls that have a page to link.
    """
    ranked = source.in_window(
        _RANKED.format(ranking=RANKING),
        flagged=not calm,
        most=min(N_HIGHEST, most) if calm else most,
        frustrated=rules_on(source.settings, FRUSTRATION_MEASURES),
    )
    calls = load_calls(source, [row["analysis_key"] for row in ranked])
    return tuple(
        _card(source, calls[row["analysis_key"]], rank, pages) for rank, row in enumerate(ranked, start=1)
    )


def _card(source: Source, call: CallData, rank: int, pages: frozenset[str]) -> Card:
    facts = call.facts
    known = facts["agent_name"] or facts["agent_id"]
    score = facts["frustration_score"]
    join_s = max(JOIN_S, CARD_JOIN_SHARE * facts["duration_s"])
    return Card(
        rank=str(rank),
        call=summarise_call(source, call, root="", n_ticks=6, join_s=join_s),
        href=f"calls/{page_name(call.call_id)}" if call.call_id in pages else "",
        when_note=TIME_SOURCE_TEXT["file_time"] if facts["started_at_source"] == "file_time" else "",
        queue=facts["queue"] or "",
        agent=person(facts["agent_name"], facts["agent_id"]) if known else "",
        length=length(facts["duration_s"]),
        direction="" if facts["direction"] == "unknown" else facts["direction"],
        score_width="" if score is None else f"{100 * score:.1f}%",
        path=facts["path"],
        voices=voices(facts),
    )


def read_more_flagged(source: Source, pages: frozenset[str]) -> Table:
    """The flagged calls that have no card, as rows."""
    found = source.in_window(
        _MORE.format(ranking=RANKING),
        skip=MAX_CARDS,
        frustrated=rules_on(source.settings, FRUSTRATION_MEASURES),
    )
    caption = f"The other {count(len(found), 'flagged call')}"
    columns = ("When", "Score", "Reasons", "Queue", "Agent", "Length")
    return call_table(caption, columns, found, pages, folder="calls/", sortable=True)
