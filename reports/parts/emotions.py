"""Emotion shares by hour and by queue, as charts with their tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from reports.formatting import percent, whole_number
from reports.palette import badge
from reports.parts.charts import FEW_CALLS, MAX_COUNTED_BARS, STACK, Share, stacked
from reports.report_source import Row, Source
from reports.translation import _
from reports.views import Cell, Chart, Table, numbers

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


def no_queue() -> str:
    """What calls without a queue are listed under."""
    return _("no queue known")


def side_of(source: Source) -> str:
    """Whose speech the charts show: callers, unless no caller could be told from the agent."""
    seconds = {row["role"]: row["seconds"] for row in source.in_window(_SIDE)}
    return "unknown" if not seconds.get("caller") and seconds.get("unknown") else "caller"


def side_text(side: str) -> str:
    """Whose speech the charts show, for people."""
    if side == "caller":
        return _("Share of the callers' labelled speech; speech without a label is left out.")
    return _("Callers and agents could not be told apart, so this is the labelled speech of both.")


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
        _(
            "{share} of the labelled speech is labelled {emotion}. That is more likely a mismatch between "
            "the models and these recordings than how people spoke. Compare a few calls by ear."
        ).format(share=percent(most.share), emotion=badge(most.emotion).name),
    )


def share_by_hour(source: Source, side: str) -> Chart | None:
    """Emotion share by local hour of the day."""
    found = source.in_window(_SHARES.format(group="c.hour", only=DATED), role=side)
    if not found:
        return None
    hours = {row["grouped"] for row in found}
    groups = [f"{hour:02d}" for hour in range(min(hours), max(hours) + 1)]
    shares = shares_of({**row, "grouped": f"{row['grouped']:02d}"} for row in found)
    return share_chart(
        _("By hour"),
        _("Emotion share by hour of the day (local time)"),
        _("Hour"),
        shares,
        groups,
        upright=True,
    )


def share_by_queue(source: Source, side: str) -> Chart | None:
    """Emotion share by queue: the busiest ones, the rest together."""
    found = source.in_window(_SHARES.format(group="c.queue", only=""), role=side)
    if not found:
        return None
    busiest = [row["queue"] for row in source.in_window(_QUEUES, most=MAX_QUEUES)]
    others = _("other queues")
    names = {queue: queue or no_queue() for queue in busiest}
    shares = shares_of({**row, "grouped": names.get(row["grouped"], others)} for row in found)
    present = {share.group for share in shares}
    groups = [g for g in (*dict.fromkeys(names.values()), others) if g in present]
    return share_chart(
        _("By queue"),
        _("Emotion share by queue, the busiest first"),
        _("Queue"),
        shares,
        groups,
        upright=False,
    )


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
    title: str,
    by: str,
    column: str,
    shares: Sequence[Share],
    groups: Sequence[str],
    *,
    upright: bool,
    over_time: bool = False,
    changed: bool = False,
) -> Chart:
    """A stacked bar per group with its table.

    Args:
        by: what is shown by what, for caption and table.
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
    return Chart(
        title=title,
        text=" ".join(_bar_texts(by, shares, groups)),
        svg=stacked(shares, groups, upright=upright),
        table=Table(by, (column, _("Calls"), *(badge(e).name for e in emotions)), rows),
        legend=tuple(badge(e) for e in emotions),
        over_time=over_time,
        changed=changed,
    )


def _bar_texts(by: str, shares: Sequence[Share], groups: Sequence[str]) -> Iterator[str]:
    """What the bars show, and what their figures and paleness mean."""
    yield f"{by}."
    if len(groups) <= MAX_COUNTED_BARS:
        yield _("The figure at each bar is its number of calls.")
    if any(s.n_calls < FEW_CALLS for s in shares):
        yield _("Bars of fewer than {few} calls are pale.").format(few=FEW_CALLS)
