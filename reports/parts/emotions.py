"""Emotion shares by hour and by queue, as charts with their tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from reports.formatting import percent, whole_number
from reports.palette import BADGES
from reports.parts.charts import FEW_CALLS, STACK, Share, stacked
from reports.report_source import Row, Source
from reports.views import Cell, Chart, Table, numbers

NO_QUEUE = "no queue known"
OTHER_QUEUES = "other queues"
MAX_QUEUES = 12

_SIDE = """
SELECT e.role::VARCHAR AS role, sum(e.seconds) AS seconds
FROM base.call_emotions e JOIN call_summary c USING (analysis_key)
WHERE c.started_at >= $since AND c.started_at < $until AND e.emotion IS NOT NULL GROUP BY ALL
"""
_SHARES = """
SELECT {group} AS grouped, e.emotion::VARCHAR AS emotion, sum(e.seconds) AS seconds,
    list(DISTINCT c.call_id) AS call_ids
FROM base.call_emotions e JOIN call_summary c USING (analysis_key)
WHERE c.started_at >= $since AND c.started_at < $until
    AND e.role = $role AND e.emotion IS NOT NULL AND e.seconds > 0 {only}
GROUP BY grouped, e.emotion ORDER BY grouped, e.emotion
"""
# The time of a file says when it was copied, not when somebody called.
DATED = "AND c.started_at_source <> 'file_time'"
# Studies of real calls find emotion in 10 to 30 % of the turns, so a single emotion that
# fills more than this of everybody's speech says more about the models than about callers.
DOUBTFUL_SHARE = 0.6
DOUBTFUL_FROM_CALLS = 5
_QUEUES = """
SELECT queue FROM call_summary WHERE started_at >= $since AND started_at < $until
GROUP BY queue ORDER BY count(*) DESC, queue LIMIT $most
"""


def side_of(source: Source) -> str:
    """Whose speech the charts show: callers, unless no caller could be told from the agent."""
    seconds = {row["role"]: row["seconds"] for row in source.in_window(_SIDE)}
    return "unknown" if not seconds.get("caller") and seconds.get("unknown") else "caller"


def side_text(side: str) -> str:
    """Whose speech the charts show, for people."""
    if side == "caller":
        return "Share of the callers' labelled speech; speech without a label is left out."
    return "Callers and agents could not be told apart, so this is the labelled speech of both."


def doubts(source: Source, side: str) -> tuple[str, ...]:
    """What speaks against trusting this window's labels, in whole sentences."""
    found = source.in_window(_SHARES.format(group="'all'", only=""), role=side)
    shares = sorted(shares_of(found), key=lambda s: -s.share)
    if not shares or shares[0].n_calls < DOUBTFUL_FROM_CALLS:
        return ()
    most = shares[0]
    if most.emotion in {"neutral", "calm"} or most.share <= DOUBTFUL_SHARE:
        return ()
    return (
        f"{percent(most.share)} of the labelled speech is labelled {most.emotion}. That is more likely a "
        "mismatch between the models and these recordings than how people spoke. Compare a few calls by ear.",
    )


def share_by_hour(source: Source, side: str) -> Chart | None:
    """Emotion share by local hour of the day."""
    found = source.in_window(_SHARES.format(group="c.hour", only=DATED), role=side)
    if not found:
        return None
    hours = {row["grouped"] for row in found}
    groups = [f"{hour:02d}" for hour in range(min(hours), max(hours) + 1)]
    shares = shares_of({**row, "grouped": f"{row['grouped']:02d}"} for row in found)
    return share_chart("By hour", "hour of the day (local time)", "Hour", shares, groups, upright=True)


def share_by_queue(source: Source, side: str) -> Chart | None:
    """Emotion share by queue: the busiest ones, the rest together."""
    found = source.in_window(_SHARES.format(group="c.queue", only=""), role=side)
    if not found:
        return None
    busiest = [row["queue"] for row in source.in_window(_QUEUES, most=MAX_QUEUES)]
    names = {queue: queue or NO_QUEUE for queue in busiest}
    shares = shares_of({**row, "grouped": names.get(row["grouped"], OTHER_QUEUES)} for row in found)
    present = {share.group for share in shares}
    groups = [g for g in (*dict.fromkeys(names.values()), OTHER_QUEUES) if g in present]
    return share_chart("By queue", "queue, the busiest first", "Queue", shares, groups, upright=False)


def shares_of(rows: Iterable[Row]) -> list[Share]:
    """Shares of the emotions within each group, with its number of different calls.

    rows: `grouped`, `emotion`, `seconds` and `call_ids`; several of one group and emotion are added up.
    """
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    calls: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        seconds[row["grouped"]][row["emotion"]] += row["seconds"]
        calls[row["grouped"]] |= set(row["call_ids"])
    return [
        Share(group, emotion, part / sum(parts.values()), len(calls[group]))
        for group, parts in seconds.items()
        for emotion, part in parts.items()
    ]


def share_chart(
    title: str, by: str, column: str, shares: Sequence[Share], groups: Sequence[str], *, upright: bool
) -> Chart:
    """A stacked bar per group with its table.

    Args:
        by: what the groups are, in a sentence.
        column: the head of the groups in the table.
        groups: every group, in order; those without shares stay empty.
        upright: columns from left to right instead of bars from top to bottom.
    """
    present = {s.emotion for s in shares}
    emotions = [e for e in STACK if e in present]
    value = {(s.group, s.emotion): s.share for s in shares}
    n_calls = {s.group: s.n_calls for s in shares}
    rows = [
        (
            Cell(group),
            *numbers(
                whole_number(n_calls.get(group, 0)),
                *(percent(value.get((group, e), 0.0 if group in n_calls else None)) for e in emotions),
            ),
        )
        for group in groups
    ]
    pale = any(s.n_calls < FEW_CALLS for s in shares)
    return Chart(
        title=title,
        text=f"Emotion share by {by}. The figure at each bar is its number of calls"
        + (f"; bars of fewer than {FEW_CALLS} calls are pale." if pale else "."),
        svg=stacked(shares, groups, upright=upright),
        table=Table(f"Emotion share by {by}", (column, "Calls", *emotions), rows),
        legend=tuple(BADGES[e] for e in emotions),
    )
