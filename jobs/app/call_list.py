"""The list of calls with every text finished for its template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.app.published import PAGE_ROWS, Listed, Wanted
from reports.formatting import MISSING, clock, count, moment, percent
from reports.parts.call_parts import person
from reports.report_source import Row


@dataclass(frozen=True, slots=True)
class Column:
    """A column head. `sort` is empty where it cannot be sorted by, `order` says how it is."""

    title: str
    sort: str
    order: str
    number: bool = False


@dataclass(frozen=True, slots=True)
class ListedCall:
    """A row."""

    call_id: str
    when: str
    queue: str
    agent: str
    length: str
    score: str
    flagged: bool
    reasons: str
    reviewed: str


def list_view(listed: Listed, wanted: Wanted) -> dict[str, Any]:
    """What list.html prints."""
    order = "descending" if wanted.descending else "ascending"

    def column(title: str, sort: str = "", *, number: bool = False) -> Column:
        return Column(title, sort, order if sort == wanted.sort else "", number)

    return {
        "found": _found(listed),
        "columns": (
            *(column("When", "when"), column("Frustration", "score", number=True)),
            *(column("Length", "length", number=True), column("Queue", "queue"), column("Agent", "agent")),
            *(column("Reasons"), column("Reviewed")),
        ),
        "rows": [_row(row) for row in listed.rows],
        "page": wanted.page,
        "n_pages": -(-listed.n_found // PAGE_ROWS),
    }


def _found(listed: Listed) -> str:
    if listed.n_all == 0:
        return "No call has been analysed yet."
    if listed.n_found == 0:
        return f"None of {count(listed.n_all, 'call')} is like that. Loosen the filters."
    if listed.n_found == listed.n_all:
        return count(listed.n_all, "call")
    return f"{listed.n_found:,} of {count(listed.n_all, 'call')}"


def _row(row: Row) -> ListedCall:
    return ListedCall(
        call_id=row["call_id"],
        when=moment(row["started_local"]),
        queue=row["queue"] or MISSING,
        agent=person(row["agent_name"], row["agent_id"]),
        length=clock(row["duration_s"]),
        score=percent(row["frustration_score"]),
        flagged=row["flagged"],
        reasons="; ".join(row["reasons"]),
        reviewed="yes" if row["reviewed"] else "",
    )
