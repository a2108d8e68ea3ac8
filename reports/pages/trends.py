"""Trends (trends.html): the four weeks up to the newest call of the window, with intervals and counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta

from reports import formatting as words
from reports.formatting import count, interval, percent, whole_number
from reports.pages.agents import MIN_AGENT_CALLS, agent_file, read_agents
from reports.parts import charts
from reports.parts.charts import Point, Share, Square
from reports.parts.emotions import DATED, NO_QUEUE, share_chart
from reports.report_source import Row, Source
from reports.views import Cell, Chart, Table, Trends

MAX_PANELS = 9

_FLAGGED = """
SELECT day, count(*) AS n, count(*) FILTER (WHERE flagged) / count(*) AS share,
    wilson_low(share, n) AS low, wilson_high(share, n) AS high
FROM call_summary WHERE day >= $first AND day <= $last GROUP BY day ORDER BY day
"""
_BY_DAY = """
SELECT c.day AS day, e.emotion::VARCHAR AS emotion, sum(e.seconds) AS seconds,
    list(DISTINCT c.call_id) AS call_ids
FROM base.call_emotions e JOIN call_summary c USING (analysis_key)
WHERE c.day >= $first AND c.day <= $last AND e.role = 'caller' AND e.emotion IS NOT NULL AND e.seconds > 0
GROUP BY ALL
"""
# Angry (anger or disgust) share of callers' labelled speech in a group of calls.
_ANGRY = """
SELECT {group}, count(DISTINCT c.call_id) AS n,
    coalesce(sum(e.seconds) FILTER (WHERE e.emotion IN ('anger', 'disgust')), 0) / sum(e.seconds) AS share,
    wilson_low(share, n) AS low, wilson_high(share, n) AS high
FROM base.call_emotions e JOIN call_summary c USING (analysis_key)
WHERE c.day >= $first AND c.day <= $last AND e.role = 'caller' AND e.emotion IS NOT NULL AND e.seconds > 0
    {only}
GROUP BY ALL ORDER BY ALL
"""
_QUALITY = """
SELECT day, sum(n_segments) AS n, avg(mean_agreement) AS agreement, avg(abstained_share) AS abstained
FROM vote_quality WHERE day >= $first AND day <= $last AND role = 'caller' GROUP BY day ORDER BY day
"""
_DRIFT = """
SELECT day, any_value(distance) AS distance, max(n_calls) AS n FROM label_drift
WHERE day >= $first AND day <= $last AND n_usual_calls > 0 GROUP BY day ORDER BY day
"""


def read_trends(source: Source, *, linked: bool = True) -> Trends:
    """Assemble the page. With a single day of calls there is no trend and the page says so.

    linked: there are pages of agents to link.
    """
    first, last = source.four_weeks()
    flagged = source.rows(_FLAGGED, first=first, last=last)
    if len(flagged) < 2:
        return Trends(
            words="There are not two days with calls yet. Trends appear with the second day.",
            charts=(),
            agents=None,
            agents_words="",
        )
    days = [
        flagged[0]["day"] + timedelta(days=i)
        for i in range((flagged[-1]["day"] - flagged[0]["day"]).days + 1)
    ]
    found = (
        _flagged_chart(flagged, days),
        _emotion_chart(source, days),
        _hours_chart(source, first, last),
        _queues_chart(source, days),
        _quality_chart(source, first, last, days),
    )
    return Trends(
        words=f"{count(sum(row['n'] for row in flagged), 'call')} on {count(len(flagged), 'day')}, "
        f"{_day(days[0])} to {_day(days[-1])}. Intervals are 95% (Wilson) with calls as the sample.",
        charts=tuple(chart for chart in found if chart is not None),
        agents=_agents(source, linked),
        agents_words=f"By name, never ranked: calls differ by queue and hour, and anger is seldom about "
        f"the person who answers. Agents with fewer than {MIN_AGENT_CALLS} calls are left out.",
    )


def _day(day: date) -> str:
    return words.short_day(day)


def _ceiling(shares: Sequence[float]) -> float:
    """A round upper end of an axis for shares."""
    most = max(shares, default=0.0)
    return next((c for c in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75) if most <= c), 1.0)


def _flagged_chart(flagged: Sequence[Row], days: Sequence[date]) -> Chart:
    points = [Point(_day(r["day"]), r["share"], r["low"], r["high"], r["n"]) for r in flagged]
    ceiling = _ceiling([p.high for p in points])
    return Chart(
        title="Flagged calls by day",
        words="Share of calls flagged on each day (dot) with its 95% interval (bar).",
        svg=charts.points(points, [_day(d) for d in days], ceiling=ceiling),
        table=_table("Share of calls flagged", "Day", points),
    )


def _table(caption: str, column: str, points: Sequence[Point]) -> Table:
    rows = tuple(
        (
            Cell(p.group),
            Cell(whole_number(p.n_calls), number=True),
            Cell(percent(p.share), number=True),
            Cell(interval(p.low, p.high), number=True),
        )
        for p in points
    )
    return Table(caption, (column, "Calls", "Share", "95% interval"), rows)


def _emotion_chart(source: Source, days: Sequence[date]) -> Chart | None:
    rows = source.rows(_BY_DAY, first=days[0], last=days[-1])
    if not rows:
        return None
    seconds: dict[date, float] = defaultdict(float)
    calls: dict[date, set[str]] = defaultdict(set)
    for row in rows:
        seconds[row["day"]] += row["seconds"]
        calls[row["day"]] |= set(row["call_ids"])
    shares = [
        Share(_day(r["day"]), r["emotion"], r["seconds"] / seconds[r["day"]], len(calls[r["day"]]))
        for r in rows
    ]
    groups = [_day(d) for d in days]
    return share_chart(
        "How callers sounded by day", "day", "Day", shares, groups, charts.stacked_columns(shares, groups)
    )


def _hours_chart(source: Source, first: date, last: date) -> Chart | None:
    rows = source.rows(
        _ANGRY.format(group="c.weekday AS weekday, c.hour AS hour", only=DATED), first=first, last=last
    )
    if not rows:
        return None
    weekdays = words.weekdays()
    hours = [f"{h:02d}" for h in range(min(r["hour"] for r in rows), max(r["hour"] for r in rows) + 1)]
    squares = [Square(f"{r['hour']:02d}", weekdays[r["weekday"] - 1], r["share"], r["n"]) for r in rows]
    table = Table(
        "Angry share of callers' speech by weekday and hour",
        ("Weekday", "Hour", "Calls", "Share", "95% interval"),
        tuple(
            (
                Cell(weekdays[r["weekday"] - 1]),
                Cell(f"{r['hour']:02d}"),
                Cell(whole_number(r["n"]), number=True),
                Cell(percent(r["share"]), number=True),
                Cell(interval(r["low"], r["high"]), number=True),
            )
            for r in rows
        ),
    )
    return Chart(
        title="When callers sound angry",
        words="Percentage of callers' labelled speech that sounds angry or disgusted, by weekday and "
        "local hour. Empty fields had no calls with a known time.",
        svg=charts.heat_map(squares, hours, weekdays, ceiling=_ceiling([s.share for s in squares])),
        table=table,
    )


def _queues_chart(source: Source, days: Sequence[date]) -> Chart | None:
    """The newest days against as many days before, per queue on one scale."""
    half = min(14, len(days) // 2)
    if half < 2:
        return None
    rows = source.rows(
        _ANGRY.format(group="coalesce(c.queue, '') AS queue, c.day AS day", only=""),
        first=days[-2 * half],
        last=days[-1],
    )
    n_calls: dict[str, int] = defaultdict(int)
    for row in rows:
        n_calls[row["queue"]] += row["n"]
    busiest = sorted(n_calls, key=lambda queue: (-n_calls[queue], queue))[:MAX_PANELS]
    newest = days[-half:]
    points = []
    for row in rows:
        if row["queue"] in busiest:
            earlier = row["day"] < newest[0]
            shown = row["day"] + timedelta(days=half) if earlier else row["day"]
            panel = row["queue"] or NO_QUEUE
            points.append(Point(_day(shown), row["share"], row["low"], row["high"], row["n"], panel, earlier))
    if not any(not p.earlier for p in points):
        return None
    table = Table(
        "Angry share of callers' speech by queue and day",
        ("Queue", "Day", "Calls", "Share", "95% interval"),
        tuple(
            (
                Cell(row["queue"] or NO_QUEUE),
                Cell(_day(row["day"])),
                Cell(whole_number(row["n"]), number=True),
                Cell(percent(row["share"]), number=True),
                Cell(interval(row["low"], row["high"]), number=True),
            )
            for row in rows
            if row["queue"] in busiest
        ),
    )
    return Chart(
        title="Queue by queue",
        words=f"Angry share of callers' speech, {_day(newest[0])} to {_day(newest[-1])} (solid, its 95% "
        f"interval shaded), and the {count(half, 'day')} before (dashed grey), all on one scale.",
        svg=charts.small_multiples(
            points, [_day(d) for d in newest], ceiling=_ceiling([p.share for p in points])
        ),
        table=table,
    )


def _quality_chart(source: Source, first: date, last: date, days: Sequence[date]) -> Chart | None:
    rows = source.rows(_QUALITY, first=first, last=last)
    if not rows:
        return None
    drift = {row["day"]: row for row in source.rows(_DRIFT, first=first, last=last)}
    points = [
        Point(_day(row["day"]), row[key], 0.0, 0.0, int(row["n"]), panel)
        for key, panel in (
            ("agreement", "Agreement"),
            ("abstained", "Without a label"),
        )
        for row in rows
        if row[key] is not None
    ]
    points += [
        Point(_day(day), row["distance"], 0.0, 0.0, int(row["n"]), "Label drift")
        for day, row in drift.items()
        if row["distance"] is not None
    ]
    table = Table(
        "Agreement, labels left out and label drift by day",
        ("Day", "Segments", "Agreement", "Without label", "Distance from the four weeks before"),
        tuple(
            (
                Cell(_day(row["day"])),
                Cell(whole_number(int(row["n"])), number=True),
                Cell(percent(row["agreement"]), number=True),
                Cell(percent(row["abstained"]), number=True),
                Cell(
                    percent(drift[row["day"]]["distance"]) if row["day"] in drift else words.MISSING,
                    number=True,
                ),
            )
            for row in rows
        ),
    )
    return Chart(
        title="Are the labels steady?",
        words="Mean agreement of the models, the share of callers' speech left without a label, and label "
        "drift: the share of labels that would have to change for a day to look like the four weeks before. "
        "A jump without a reason in the business points to the recordings or the models.",
        svg=charts.lines(points, [_day(d) for d in days]),
        table=table,
    )


def _agents(source: Source, linked: bool) -> Table | None:
    rows = read_agents(source)
    if not rows:
        return None
    return Table(
        "How often callers were flagged, by the agent who answered, in order of name",
        ("Agent", "Calls", "Flagged", "Share", "95% interval"),
        tuple(
            (
                Cell(
                    row["agent_name"] or row["agent_id"],
                    href=f"agents/{agent_file(row['agent_id'])}" if linked else "",
                ),
                Cell(whole_number(row["n"]), number=True),
                Cell(whole_number(row["n_flagged"]), number=True),
                Cell(percent(row["share"]), number=True),
                Cell(interval(row["low"], row["high"]), number=True),
            )
            for row in rows
        ),
    )
