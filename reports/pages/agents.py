"""Pages about the *callers* of one agent (agents/<name>.html), never about the agent, and never a ranking.

How people sound who reach one agent can point to a product, a queue or an hour; it does not tell how
somebody works. So every share stands with its number of calls and interval, and beside the callers of the
same queues; agents with few calls have no page; nothing is sorted by a share.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.formatting import (
    calls_text,
    counted,
    from_to,
    interval,
    joined,
    percent,
    short_day,
    whole_number,
)
from reports.pages.calls_table import call_table
from reports.parts.charts import Share
from reports.parts.emotions import no_queue, share_chart
from reports.report_source import Row, Source
from reports.translation import _
from reports.views import Cell, Chart, Table, Tile, numbers

# Below this many calls an agent's share is an anecdote and is not shown.
MIN_AGENT_CALLS = 20
MAX_FLAGGED = 50


_AGENTS = """
WITH period AS (
    SELECT agent_id, agent_name, coalesce(queue, '') AS queue, flagged
    FROM call_summary WHERE day >= $first AND day <= $last
), per_queue AS (
    SELECT queue, count(*) AS n, count(*) FILTER (WHERE flagged) AS n_flagged FROM period GROUP BY queue
), around AS (
    SELECT agent_id, sum(q.n) AS n, sum(q.n_flagged) / sum(q.n) AS share, list_sort(list(queue)) AS queues,
        wilson_low(sum(q.n_flagged) / sum(q.n), sum(q.n)) AS low,
        wilson_high(sum(q.n_flagged) / sum(q.n), sum(q.n)) AS high
    FROM (SELECT DISTINCT agent_id, queue FROM period) JOIN per_queue q USING (queue) GROUP BY agent_id
), mine AS (
    SELECT agent_id, any_value(agent_name) AS agent_name, count(*) AS n,
        count(*) FILTER (WHERE flagged) AS n_flagged, n_flagged / n AS share
    FROM period WHERE agent_id IS NOT NULL GROUP BY agent_id HAVING n >= $least
)
SELECT m.*, wilson_low(m.share, m.n) AS low, wilson_high(m.share, m.n) AS high,
    a.queues, a.n AS n_around, a.share AS share_around, a.low AS low_around, a.high AS high_around
FROM mine m JOIN around a USING (agent_id) ORDER BY coalesce(agent_name, agent_id), agent_id
"""
_EMOTIONS = """
SELECT c.agent_id, coalesce(c.queue, '') AS queue, e.emotion::VARCHAR AS emotion, sum(e.seconds) AS seconds
FROM base.call_emotions e JOIN call_summary c USING (analysis_key)
WHERE c.day >= $first AND c.day <= $last AND e.role = 'caller' AND e.emotion IS NOT NULL AND e.seconds > 0
GROUP BY ALL ORDER BY ALL
"""
_WEEKS = """
SELECT agent_id, (day - $first) // 7 AS week, min(day) AS first_day, max(day) AS last_day, count(*) AS n,
    count(*) FILTER (WHERE flagged) AS n_flagged, n_flagged / n AS share, wilson_low(share, n) AS low,
    wilson_high(share, n) AS high
FROM call_summary WHERE day >= $first AND day <= $last AND agent_id IN (SELECT unnest($agents))
GROUP BY agent_id, week ORDER BY agent_id, week
"""
_FLAGGED = """
SELECT agent_id, call_id, started_local, queue, duration_s, frustration_score, reasons
FROM call_summary
WHERE day >= $first AND day <= $last AND flagged AND agent_id IN (SELECT unnest($agents))
QUALIFY row_number() OVER (PARTITION BY agent_id ORDER BY started_at DESC, call_id) <= $most
ORDER BY agent_id, started_at DESC, call_id
"""


@dataclass(frozen=True, slots=True)
class AgentPage:
    """agents/<file_name>: how the callers of one agent sounded."""

    file_name: str
    headline: str
    text: str
    tiles: tuple[Tile, ...]
    emotions: Chart | None
    weeks: Table
    flagged: Table
    unlinked: str  # why some of those calls have no link


def read_agents(source: Source) -> list[Row]:
    """Agents with enough calls in the four weeks, in order of name."""
    first, last = source.four_weeks()
    return source.rows(_AGENTS, first=first, last=last, least=MIN_AGENT_CALLS)


def agent_file(agent_id: str) -> str:
    """File name of an agent's page: ids are free text, so a digest of it."""
    return f"{hashlib.sha256(agent_id.encode(errors='replace')).hexdigest()[:16]}.html"


def read_agent_pages(source: Source, pages: frozenset[str]) -> Iterator[AgentPage]:
    """A page per agent with enough calls. `pages` are the ids of the calls that have a page."""
    agents = read_agents(source)
    first, last = source.four_weeks()
    chosen = {"agents": [row["agent_id"] for row in agents], "first": first, "last": last}
    weeks = _by_agent(source.rows(_WEEKS, **chosen) if agents else [])
    flagged = _by_agent(source.rows(_FLAGGED, **chosen, most=MAX_FLAGGED) if agents else [])
    spoken = source.rows(_EMOTIONS, first=first, last=last) if agents else []
    for agent in agents:
        name = agent["agent_name"] or agent["agent_id"]
        yield AgentPage(
            file_name=agent_file(agent["agent_id"]),
            headline=_("Callers of {agent}").format(agent=name),
            text=_(
                "{calls}, {days}, in {queues}. Intervals are 95% (Wilson) with calls as the sample."
            ).format(
                calls=calls_text(agent["n"]),
                days=from_to(short_day(first), short_day(last)),
                queues=joined([queue or no_queue() for queue in agent["queues"]]),
            ),
            tiles=_tiles(agent),
            emotions=_emotions(agent, spoken),
            weeks=_weeks(weeks.get(agent["agent_id"], [])),
            flagged=call_table(
                _("Flagged calls, the newest first"),
                ("When", "Why", "Queue", "Length", "Score"),
                flagged.get(agent["agent_id"], []),
                pages,
                folder="../calls/",
                empty=_("No call of these four weeks was flagged."),
            ),
            unlinked=_unlinked(flagged.get(agent["agent_id"], []), pages),
        )


def _unlinked(rows: Sequence[Row], pages: frozenset[str]) -> str:
    """Why calls of the four weeks have no page: the report is about fewer days."""
    n = sum(row["call_id"] not in pages for row in rows)
    if not n:
        return ""
    return counted(
        "{n} of them has no link, since it lies outside the days of this report: `callanalytics report "
        "--since 28d` writes its page, too.",
        "{n} of them have no link, since they lie outside the days of this report: `callanalytics report "
        "--since 28d` writes their pages, too.",
        n,
    )


def _by_agent(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["agent_id"]].append(row)
    return found


def _tiles(agent: Row) -> tuple[Tile, ...]:
    return (
        Tile(_("Calls"), whole_number(agent["n"]), (_("in four weeks"),)),
        Tile(
            _("Flagged"),
            whole_number(agent["n_flagged"]),
            (
                _("{share} of calls, 95% interval {interval}").format(
                    share=percent(agent["share"]), interval=interval(agent["low"], agent["high"])
                ),
            ),
        ),
        Tile(
            _("Flagged in the same queues"),
            percent(agent["share_around"]),
            (
                _("of {calls} of all agents, 95% interval {interval}").format(
                    calls=calls_text(int(agent["n_around"])),
                    interval=interval(agent["low_around"], agent["high_around"]),
                ),
            ),
        ),
    )


def _emotions(agent: Row, spoken: Sequence[Row]) -> Chart | None:
    """How the agent's callers sounded, beside all callers of the same queues."""
    mine = [row for row in spoken if row["agent_id"] == agent["agent_id"]]
    if not mine:
        return None
    around = [row for row in spoken if row["queue"] in set(agent["queues"])]
    these, others = _("these callers"), _("same queues")
    shares = [*_shares(these, mine, agent["n"]), *_shares(others, around, int(agent["n_around"]))]
    return share_chart(
        _("How these callers sounded"),
        _("Emotion share by callers"),
        _("Callers"),
        shares,
        (these, others),
        upright=False,
    )


def _shares(group: str, rows: Sequence[Row], n_calls: int) -> list[Share]:
    seconds: dict[str, float] = defaultdict(float)
    for row in rows:
        seconds[row["emotion"]] += row["seconds"]
    all_s = sum(seconds.values())
    return [Share(group, emotion, part / all_s, n_calls) for emotion, part in seconds.items()]


def _weeks(rows: Sequence[Row]) -> Table:
    return Table(
        _("Week by week"),
        (_("Days"), *flagged_columns()),
        [
            (Cell(from_to(short_day(row["first_day"]), short_day(row["last_day"]))), *flagged_cells(row))
            for row in rows
        ],
    )


def flagged_columns() -> tuple[str, ...]:
    """The heads over `flagged_cells`."""
    return _("Calls"), _("Flagged"), _("Share"), _("95% interval")


def flagged_cells(row: Row) -> tuple[Cell, ...]:
    """The cells under `flagged_columns`."""
    return numbers(
        whole_number(row["n"]),
        whole_number(row["n_flagged"]),
        percent(row["share"]),
        interval(row["low"], row["high"]),
    )
