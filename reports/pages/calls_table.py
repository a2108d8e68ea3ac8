"""Tables of calls, the list of a window's calls (calls/index.html), and which calls have a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from reports.formatting import MISSING, calls_text, clock, counted, moment, percent, score_text, whole_number
from reports.parts.call_parts import VERDICTS, page_name, peak_threshold, person
from reports.parts.flags import FRUSTRATION_MEASURES, RANKING, rules_on, stored_text
from reports.report_source import Row, Source
from reports.translation import _, marked
from reports.views import Cell, Table, sorted_number

# A browser still sorts and filters so many rows at once; all of them are in the database.
MAX_ROWS = 10_000

_CHOSEN = """
SELECT analysis_key, call_id FROM call_summary WHERE started_at >= $since AND started_at < $until
QUALIFY flagged OR row_number() OVER (
    ORDER BY flagged DESC, frustration_score DESC NULLS LAST, call_id
) <= $most
"""
# The newest verdict of a person about each call as a whole.
VERDICT = """
(SELECT arg_max(r.verdict, r.review_id)::VARCHAR FROM reviews r
 WHERE r.call_id = s.call_id AND r.segment IS NULL AND r.rule IS NULL)
"""
_LISTED = """
SELECT call_id, path, started_local, queue, agent_id, agent_name, duration_s,
    direction::VARCHAR AS direction, frustration_score, flagged, reasons, {verdict} AS verdict
FROM call_summary s WHERE started_at >= $since AND started_at < $until
ORDER BY {ranking} LIMIT $most
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
    """The calls of the window, the worst first; those of `pages` lead to their page."""
    (calls,) = source.in_window(
        "SELECT count(*) AS n FROM call_summary WHERE started_at >= $since AND started_at < $until"
    )
    rows = source.in_window(
        _LISTED.format(verdict=VERDICT, ranking=RANKING),
        most=MAX_ROWS,
        frustrated=rules_on(source.settings, FRUSTRATION_MEASURES),
    )
    text = _("{calls} of this window, flagged ones first.").format(calls=calls_text(calls["n"]))
    if calls["n"] > len(rows):
        text += " " + _("Listed are the first {n}; all of them are in the database.").format(
            n=whole_number(len(rows))
        )
    n_paged = sum(row["call_id"] in pages for row in rows)
    if n_paged < len(rows):
        text += " " + counted(
            "{n} of them has a page: all flagged ones, and the highest scores of the others "
            "([report] max_call_pages sets how many).",
            "{n} of them have a page: all flagged ones, and the highest scores of the others "
            "([report] max_call_pages sets how many).",
            n_paged,
        )
    columns = ("When", "Flag", "Score", "Why", "Queue", "Agent", "Length", "Recording", "Reviewed")
    table = call_table(
        _("Calls, the worst first"),
        columns,
        rows,
        pages,
        rule_at=peak_threshold(source.settings),
        sortable=True,
        choices=("Flag", "Queue", "Why", "Reviewed"),
        empty=_("No call of this window was analysed."),
    )
    return CallList(text, table)


# The columns that tables of calls choose from: rows of call_summary, each with its text.
_COLUMNS: dict[str, Callable[[Row], Cell]] = {
    marked("When"): lambda row: Cell(moment(row["started_local"]), row["started_local"].isoformat()),
    marked("Score"): lambda row: sorted_number(
        score_text(row["frustration_score"], row["rule_at"]),
        "-1" if row["frustration_score"] is None else f"{row['frustration_score']:.6f}",
    ),
    marked("Flag"): lambda row: Cell("⚑" if row["flagged"] else ""),
    "": lambda row: Cell(_("flagged") if row["flagged"] else ""),
    marked("Why"): lambda row: Cell("; ".join(map(stored_text, row["reasons"])), long=True),
    marked("Queue"): lambda row: Cell(row["queue"] or MISSING),
    marked("Agent"): lambda row: Cell(person(row["agent_name"], row["agent_id"])),
    marked("Direction"): lambda row: Cell("" if row["direction"] == "unknown" else _(row["direction"])),
    marked("Length"): lambda row: sorted_number(clock(row["duration_s"]), f"{row['duration_s']:.1f}"),
    marked("Labelled"): lambda row: sorted_number(
        percent(row["labelled_share"]), f"{row['labelled_share'] or 0:.6f}"
    ),
    marked("Recording"): lambda row: Cell(recording_name(row)),
    marked("Reviewed"): lambda row: Cell(_(VERDICTS[row["verdict"]]) if row["verdict"] else ""),
}
DIRECTIONS = (marked("inbound"), marked("outbound"), marked("internal"))


def recording_name(row: Row) -> str:
    """What tells two rows apart: the name of the file, or the id of the call where there is none."""
    return PurePosixPath(row["path"]).name or str(row["call_id"])


def call_table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Row],
    pages: frozenset[str],
    *,
    rule_at: float | None = None,
    folder: str = "",
    sortable: bool = False,
    choices: Sequence[str] = (),
    empty: str = "",
) -> Table:
    """A row per call, of which the first cell leads to its page.

    Args:
        columns: names out of `_COLUMNS`, whose fields the rows must have.
        pages: ids of the calls that have a page to link.
        rule_at: where the rule on the caller's peak frustration starts, where rows may have scores below it.
        folder: the way to the folder of those pages.
        choices: columns by whose values the page's script lets people filter.
    """

    def cells(row: Row) -> Iterator[Cell]:
        row = {**row, "rule_at": rule_at}
        for place, column in enumerate(columns):
            cell = _COLUMNS[column](row)
            linked = place == 0 and row["call_id"] in pages
            href = f"{folder}{page_name(row['call_id'])}" if linked else ""
            yield replace(cell, sort=cell.sort if sortable else "", href=href)

    return Table(
        caption,
        tuple(_(column) if column else "" for column in columns),
        [tuple(cells(row)) for row in rows],
        sortable=sortable,
        choices=tuple(columns.index(column) for column in choices),
        empty=empty,
    )
