"""The list of a window's calls (calls/index.html), and which of them get a page of their own."""

from __future__ import annotations

from dataclasses import dataclass

from reports.formatting import count, whole_number
from reports.parts.call_parts import call_table, page_name
from reports.report_source import Source
from reports.views import Table

_CHOSEN = """
SELECT analysis_key, call_id FROM call_summary WHERE started_at >= $since AND started_at < $until
QUALIFY flagged OR row_number() OVER (
    ORDER BY flagged DESC, frustration_score DESC NULLS LAST, call_id
) <= $most
"""
_LISTED = """
SELECT call_id, started_local, queue, agent_id, agent_name, duration_s, direction::VARCHAR AS direction,
    frustration_score, flagged, n_segments, labelled_s / nullif(segments_s, 0) AS labelled_share
FROM call_summary WHERE started_at >= $since AND started_at < $until AND call_id IN (SELECT unnest($ids))
ORDER BY started_at, call_id
"""


def choose_calls(source: Source) -> dict[int, str]:
    """analysis_key -> call_id of the calls with a page: all flagged ones, then by score up to the limit."""
    rows = source.in_window(_CHOSEN, most=source.settings.report.max_call_pages)
    return {row["analysis_key"]: row["call_id"] for row in rows if page_name(row["call_id"])}


@dataclass(frozen=True, slots=True)
class CallList:
    """calls/index.html"""

    text: str
    table: Table


def read_call_list(source: Source, pages: frozenset[str]) -> CallList:
    """The calls that have a page, in order of time."""
    (calls,) = source.in_window(
        "SELECT count(*) AS n FROM call_summary WHERE started_at >= $since AND started_at < $until"
    )
    rows = source.in_window(_LISTED, ids=sorted(pages))
    text = f"{count(len(rows), 'call')} of this window"
    if calls["n"] > len(rows):
        text = (
            f"{whole_number(len(rows))} of {count(calls['n'], 'call')} of this window: all flagged ones, and "
            "the highest scores of the others ([report] max_call_pages sets how many)"
        )
    columns = ("When", "Score", "Flag", "Queue", "Agent", "Direction", "Length", "Labelled")
    empty = "No call of this window was analysed."
    table = call_table("Calls in order of time", columns, rows, pages, sortable=True, empty=empty)
    return CallList(f"{text}.", table)
