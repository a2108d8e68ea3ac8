"""Trends (trends.html): the four weeks up to the newest call of the window, with intervals and counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from reports.formatting import count, percent, short_day, weekdays, whole_number
from reports.pages.agents import FLAGGED_COLUMNS, MIN_AGENT_CALLS, agent_file, flagged_cells, read_agents
from reports.parts import charts
from reports.parts.charts import Point, Square
from reports.parts.emotions import DATED, NO_QUEUE, share_chart, shares_of
from reports.report_source import Row, Source
from reports.views import SHARE_COLUMNS, Cell, Chart, Table, numbers, share_cells

MAX_PANELS = 9

_FLAGGED = """
SELECT day, count(*) AS n, count(*) FILTER (WHERE flagged) / count(*) AS share,
    wilson_low(share, n) AS low, wilson_high(share, n) AS high
FROM call_summary WHERE day >= $first AND day <= $last GROUP BY day ORDER BY day
"""
_BY_DAY = """
SELECT c.day AS grouped, e.emotion::VARCHAR AS emotion, sum(e.seconds) AS seconds,
    list(DISTINCT c.call_id) AS call_ids
FROM base.call_emotions e JOIN call_summary c USING (analysis_key)
WHERE c.day >= $first AND c.day <= $last AND e.role = 'caller' AND e.emotion IS NOT NULL AND e.seconds > 0
GROUP BY c.day, e.emotion ORDER BY c.day, e.emotion
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


@dataclass(frozen=True, slots=True)
class Trends:
    """trends.html"""

    text: str
    charts: tuple[Chart, ...] = ()
    agents: Table | None = None
    agents_text: str = ""


def read_trends(source: Source, *, linked: bool = True) -> Trends:
    """Assemble the page. With a single day of calls there is no trend and the page says so.

    Args:
        linked: there are pages of agents to link.
    """
    first, last = source.four_weeks()
    flagged = source.rows(_FLAGGED, first=first, last=last)
    if len(flagged) < 2:
        return Trends("There are not two days with calls yet. Trends appear with the second day.")
    begin, end = flagged[0]["day"], flagged[-1]["day"]
    days = [begin + timedelta(days=i) for i in range((end - begin).days + 1)]
    found = (
        _flagged_chart(flagged, days),
        _emotion_chart(source, days),
        _hours_chart(source, first, last),
        _queues_chart(source, days),
        _quality_chart(source, first, last, days),
    )
    return Trends(
        text=f"{count(sum(row['n'] for row in flagged), 'call')} on {count(len(flagged), 'day')}, "
        f"{short_day(begin)} to {short_day(end)}. Intervals are 95% (Wilson) with calls as the sample.",
        charts=tuple(chart for chart in found if chart is not None),
        agents=_agents(source, linked),
        agents_text=f"By name, never ranked: calls differ by queue and hour, and anger is seldom about "
        f"the person who answers. Agents with fewer than {MIN_AGENT_CALLS} calls are left out.",
    )


def _ceiling(shares: Sequence[float]) -> float:
    """A round upper end of an axis for shares."""
    most = max(shares, default=0.0)
    return next((c for c in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75) if most <= c), 1.0)


def _share_cells(row: Row) -> tuple[Cell, ...]:
    return share_cells(row["n"], row["share"], row["low"], row["high"])


def _flagged_chart(flagged: Sequence[Row], days: Sequence[date]) -> Chart:
    points = [Point(short_day(r["day"]), r["share"], r["low"], r["high"], r["n"]) for r in flagged]
    rows = [(Cell(short_day(row["day"])), *_share_cells(row)) for row in flagged]
    ceiling = _ceiling([p.high for p in points])
    return Chart(
        title="Flagged calls by day",
        text="Share of calls flagged on each day (dot) with its 95% interval (bar).",
        svg=charts.points(points, [short_day(d) for d in days], ceiling=ceiling),
        table=Table("Share of calls flagged", ("Day", *SHARE_COLUMNS), rows),
    )


def _emotion_chart(source: Source, days: Sequence[date]) -> Chart | None:
    rows = source.rows(_BY_DAY, first=days[0], last=days[-1])
    if not rows:
        return None
    shares = shares_of({**row, "grouped": short_day(row["grouped"])} for row in rows)
    groups = [short_day(day) for day in days]
    return share_chart("How callers sounded by day", "day", "Day", shares, groups, upright=True)


def _hours_chart(source: Source, first: date, last: date) -> Chart | None:
    sql = _ANGRY.format(group="c.weekday AS weekday, c.hour AS hour", only=DATED)
    rows = source.rows(sql, first=first, last=last)
    if not rows:
        return None
    names = weekdays()
    hours = [f"{h:02d}" for h in range(min(r["hour"] for r in rows), max(r["hour"] for r in rows) + 1)]
    squares = [Square(f"{r['hour']:02d}", names[r["weekday"] - 1], r["share"], r["n"]) for r in rows]
    cells = [
        (Cell(square.row), Cell(square.column), *_share_cells(row))
        for square, row in zip(squares, rows, strict=True)
    ]
    return Chart(
        title="When callers sound angry",
        text="Percentage of callers' labelled speech that sounds angry or disgusted, by weekday and "
        "local hour. Empty fields had no calls with a known time.",
        svg=charts.heat_map(squares, hours, names, ceiling=_ceiling([s.share for s in squares])),
        table=Table(
            "Angry share of callers' speech by weekday and hour", ("Weekday", "Hour", *SHARE_COLUMNS), cells
        ),
    )


def _queues_chart(source: Source, days: Sequence[date]) -> Chart | None:
    """The newest days against as many days before, per queue on one scale."""
    half = min(14, len(days) // 2)
    if half < 2:
        return None
    sql = _ANGRY.format(group="coalesce(c.queue, '') AS queue, c.day AS day", only="")
    found = source.rows(sql, first=days[-2 * half], last=days[-1])
    n_calls: dict[str, int] = defaultdict(int)
    for row in found:
        n_calls[row["queue"]] += row["n"]
    busiest = sorted(n_calls, key=lambda queue: (-n_calls[queue], queue))[:MAX_PANELS]
    rows = [row for row in found if row["queue"] in busiest]
    newest = days[-half:]
    points = []
    for row in rows:
        # Days of the period before lie under the newest ones, so that the two lines can be compared.
        earlier = row["day"] < newest[0]
        shown = row["day"] + timedelta(days=half) if earlier else row["day"]
        panel = row["queue"] or NO_QUEUE
        points.append(
            Point(short_day(shown), row["share"], row["low"], row["high"], row["n"], panel, earlier)
        )
    if all(p.earlier for p in points):
        return None
    cells = [
        (Cell(row["queue"] or NO_QUEUE), Cell(short_day(row["day"])), *_share_cells(row)) for row in rows
    ]
    ceiling = _ceiling([p.share for p in points])
    return Chart(
        title="Queue by queue",
        text=f"Angry share of callers' speech, {short_day(newest[0])} to {short_day(newest[-1])} (solid, its "
        f"95% interval shaded), and the {count(half, 'day')} before (dashed grey), all on one scale.",
        svg=charts.small_multiples(points, [short_day(d) for d in newest], ceiling=ceiling),
        table=Table(
            "Angry share of callers' speech by queue and day", ("Queue", "Day", *SHARE_COLUMNS), cells
        ),
    )


def _quality_chart(source: Source, first: date, last: date, days: Sequence[date]) -> Chart | None:
    rows = source.rows(_QUALITY, first=first, last=last)
    if not rows:
        return None
    drift = source.rows(_DRIFT, first=first, last=last)
    distance = {row["day"]: row["distance"] for row in drift}
    panels = (("agreement", "Agreement", rows), ("abstained", "Without a label", rows))
    points = [
        Point(short_day(row["day"]), row[key], 0.0, 0.0, int(row["n"]), panel)
        for key, panel, found in (*panels, ("distance", "Label drift", drift))
        for row in found
        if row[key] is not None
    ]
    cells = [
        (
            Cell(short_day(row["day"])),
            *numbers(
                whole_number(int(row["n"])),
                percent(row["agreement"]),
                percent(row["abstained"]),
                percent(distance.get(row["day"])),
            ),
        )
        for row in rows
    ]
    return Chart(
        title="Are the labels steady?",
        text="Mean agreement of the models, the share of callers' speech left without a label, and label "
        "drift: the share of labels that would have to change for a day to look like the four weeks before. "
        "A jump without a reason in the business points to the recordings or the models.",
        svg=charts.lines(points, [short_day(d) for d in days]),
        table=Table(
            "Agreement, labels left out and label drift by day",
            ("Day", "Segments", "Agreement", "Without label", "Distance from the four weeks before"),
            cells,
        ),
    )


def _agents(source: Source, linked: bool) -> Table | None:
    rows = [
        (
            Cell(
                row["agent_name"] or row["agent_id"],
                href=f"agents/{agent_file(row['agent_id'])}" if linked else "",
            ),
            *flagged_cells(row),
        )
        for row in read_agents(source)
    ]
    caption = "How often callers were flagged, by the agent who answered, in order of name"
    return Table(caption, ("Agent", *FLAGGED_COLUMNS), rows) if rows else None
