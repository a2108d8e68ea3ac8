"""Trends (trends.html): all days up to the newest call of the window, and what has changed in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from reports.formatting import (
    calls_text,
    counted,
    date_text,
    from_to,
    percent,
    short_day,
    weekday,
    weekdays,
    whole_number,
)
from reports.pages.agents import MIN_AGENT_CALLS, agent_file, flagged_cells, flagged_columns, read_agents
from reports.parts import charts
from reports.parts.changes import (
    ROLLING_DAYS,
    Z_CALLS,
    Z_SPEECH,
    Change,
    DayTotals,
    RollingShare,
    find_change,
    rolling,
    wilson,
)
from reports.parts.charts import Point, Square
from reports.parts.emotions import DATED, no_queue, share_chart, shares_of
from reports.report_source import Row, Source
from reports.translation import _
from reports.views import Cell, Chart, Table, numbers, share_cells, share_columns

MAX_PANELS = 9
# Bars of more days than these would be dust: weeks instead.
MAX_BAR_DAYS = 31
# Mean agreement of the last seven days against the days before: a smaller change is steady. Our own choice.
STEADY_AGREEMENT = 0.05
# Fewer calls at a weekday and hour are no finding.
MIN_HOUR_CALLS = 10

_FLAGGED = """
SELECT day, count(*) AS n, count(*) FILTER (WHERE flagged) AS n_flagged, n_flagged / n AS share,
    wilson_low(share, n) AS low, wilson_high(share, n) AS high
FROM call_summary WHERE day >= $first AND day <= $last GROUP BY day ORDER BY day
"""
_EMOTIONS = """
SELECT {group} AS grouped, e.emotion::VARCHAR AS emotion, sum(e.seconds) AS seconds,
    list(DISTINCT c.call_id) AS call_ids
FROM base.call_emotions e JOIN call_summary c USING (analysis_key)
WHERE c.day >= $first AND c.day <= $last AND e.role = 'caller' AND e.emotion IS NOT NULL AND e.seconds > 0
GROUP BY ALL ORDER BY ALL
"""
# Angry (anger or disgust) share of callers' labelled speech in a group of calls.
_ANGRY = """
SELECT {group}, count(DISTINCT c.call_id) AS n,
    coalesce(sum(e.seconds) FILTER (WHERE e.emotion IN ('anger', 'disgust')), 0) AS angry_s,
    sum(e.seconds) AS all_s, angry_s / all_s AS share,
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

    headline: str
    text: str
    charts: tuple[Chart, ...] = ()
    agents: Table | None = None
    agents_text: str = ""


@dataclass(frozen=True, slots=True)
class Days:
    """The calendar days of the trends, from the first with calls to the last."""

    first: date
    last: date

    @property
    def all(self) -> list[date]:
        """Every day, also those without calls."""
        return [self.first + timedelta(days=i) for i in range((self.last - self.first).days + 1)]

    @property
    def texts(self) -> list[str]:
        """Every day as the axes name it."""
        return [self.text(day) for day in self.all]

    def text(self, day: date) -> str:
        """One of them, as nothing else is called: with its year where that is not clear."""
        return short_day(day) if self.last - self.first < timedelta(days=365) else date_text(day)


def read_trends(source: Source, *, linked: bool = True) -> Trends:
    """Assemble the page. With a single day of calls there is no trend and the page says so.

    Args:
        linked: there are pages of agents to link.
    """
    first, last = source.all_days()
    flagged = source.rows(_FLAGGED, first=first, last=last)
    if len(flagged) < 2:
        text = _("There are not two days with calls yet. Trends appear with the second day.")
        return Trends(_("No trend yet"), text)
    days = Days(flagged[0]["day"], flagged[-1]["day"])
    queues = _queues_chart(source, days)
    found = (
        queues,
        _flagged_chart(flagged, days),
        _emotion_chart(source, days),
        _hours_chart(source, days),
        _quality_chart(source, days),
    )
    shown = tuple(chart for chart in found if chart is not None)
    changed = next((chart.title for chart in shown if chart.changed), "")
    return Trends(
        headline=changed or _("Nothing has clearly changed"),
        text=_("{calls} on {days}, {span}. Intervals are 95% (Wilson) with calls as the sample.").format(
            calls=calls_text(sum(row["n"] for row in flagged)),
            days=counted("{n} day", "{n} days", len(flagged)),
            span=from_to(days.text(days.first), days.text(days.last)),
        ),
        charts=shown,
        agents=_agents(source, linked),
        agents_text=_(
            "By name, never ranked: calls differ by queue and hour, and anger is seldom about the person who "
            "answers. Four weeks; agents with fewer than {n} calls are left out."
        ).format(n=MIN_AGENT_CALLS),
    )


def _ceiling(shares: Iterable[float]) -> float:
    """A round upper end of an axis for shares."""
    most = max(shares, default=0.0)
    return next((c for c in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75) if most <= c), 1.0)


def _share_cells(row: Row) -> tuple[Cell, ...]:
    return share_cells(row["n"], row["share"], row["low"], row["high"])


def _points(found: Iterable[RollingShare], days: Days, panel: str = "") -> list[Point]:
    return [Point(days.text(r.day), r.share, r.low, r.high, r.n_calls, panel) for r in found]


def _rolling_text(what: str) -> str:
    """What a line of rolling means shows."""
    return _("{what}: the line is the share of the last {n} days, its 95% interval shaded.").format(
        what=what, n=ROLLING_DAYS
    )


def _flagged_chart(flagged: Sequence[Row], days: Days) -> Chart:
    totals = [DayTotals(r["day"], r["n_flagged"], r["n"], r["n"]) for r in flagged]
    change = find_change(totals, Z_CALLS)
    title = _("The share of flagged calls has not clearly changed")
    if change is not None:
        text = (
            _("More calls are flagged since {day}") if change.up else _("Fewer calls are flagged since {day}")
        )
        title = text.format(day=days.text(change.day))
    line = _points(rolling(totals), days)
    daily = [Point(days.text(r["day"]), r["share"], r["low"], r["high"], r["n"]) for r in flagged]
    text = _rolling_text(_("Share of calls flagged"))
    return Chart(
        title=title,
        text=text + " " + _("Dots are single days."),
        svg=charts.rolling_lines(
            line,
            days.texts,
            ceiling=_ceiling([*(p.share for p in daily), *(p.high for p in line)]),
            daily=daily,
        ),
        table=Table(
            _("Share of calls flagged"),
            (_("Day"), *share_columns()),
            [(Cell(days.text(row["day"])), *_share_cells(row)) for row in flagged],
        ),
        over_time=True,
        changed=change is not None,
    )


def _emotion_chart(source: Source, days: Days) -> Chart | None:
    by_week = len(days.all) > MAX_BAR_DAYS
    group = "date_trunc('week', c.day)::DATE" if by_week else "c.day"
    rows = source.rows(_EMOTIONS.format(group=group), first=days.first, last=days.last)
    if not rows:
        return None
    shares = shares_of({**row, "grouped": days.text(row["grouped"])} for row in rows)
    monday = days.first - timedelta(days=days.first.weekday())
    mondays = [monday + timedelta(weeks=i) for i in range((days.last - monday).days // 7 + 1)]
    groups = [days.text(day) for day in mondays] if by_week else days.texts
    caption = _("Emotion share by week, named by its Monday") if by_week else _("Emotion share by day")
    column = _("Week") if by_week else _("Day")
    by_day = source.rows(_angry("c.day AS day"), first=days.first, last=days.last)
    change = find_change(_angry_totals(by_day), Z_SPEECH)
    title = _("How callers sound has not clearly changed")
    if change is not None:
        text = _("Callers sound angrier since {day}") if change.up else _("Callers sound calmer since {day}")
        title = text.format(day=days.text(change.day))
    return share_chart(
        title, caption, column, shares, groups, upright=True, over_time=True, changed=change is not None
    )


def _angry(group: str, only: str = "") -> str:
    return _ANGRY.format(group=group, only=only)


def _angry_totals(rows: Iterable[Row]) -> list[DayTotals]:
    return [DayTotals(row["day"], row["angry_s"], row["all_s"], row["n"]) for row in rows]


def _hours_chart(source: Source, days: Days) -> Chart | None:
    sql = _angry("c.weekday AS weekday, c.hour AS hour", DATED)
    rows = source.rows(sql, first=days.first, last=days.last)
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
        title=_hours_title(rows),
        text=_(
            "Percentage of callers' labelled speech that sounds angry or disgusted, by weekday and local "
            "hour. Empty fields had no calls with a known time."
        ),
        svg=charts.heat_map(squares, hours, names, ceiling=_ceiling(s.share for s in squares)),
        table=Table(
            _("Angry share of callers' speech by weekday and hour"),
            (_("Weekday"), _("Hour"), *share_columns()),
            cells,
        ),
    )


def _hours_title(rows: Sequence[Row]) -> str:
    """The weekday and hour that clearly stand out of all calls; the best of many, so at 99.9 %."""
    usual = sum(row["angry_s"] for row in rows) / sum(row["all_s"] for row in rows)
    clear = [
        row
        for row in rows
        if row["n"] >= MIN_HOUR_CALLS and wilson(row["share"], row["n"], Z_CALLS)[0] > usual
    ]
    if not clear:
        return _("No weekday and hour stands out")
    most = max(clear, key=lambda row: float(row["share"]))
    monday = date(2024, 1, 1)
    return _("Callers sound angriest on {weekday} at {hour}").format(
        weekday=weekday(monday + timedelta(days=most["weekday"] - 1)), hour=f"{most['hour']:02d}:00"
    )


def _queues_chart(source: Source, days: Days) -> Chart | None:
    """A panel per queue, all on the same axes."""
    found = source.rows(
        _angry("coalesce(c.queue, '') AS queue, c.day AS day"), first=days.first, last=days.last
    )
    by_queue: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        by_queue[row["queue"]].append(row)
    if not by_queue:
        return None
    busiest = sorted(by_queue, key=lambda queue: (-sum(row["n"] for row in by_queue[queue]), queue))
    points, cells, changes = [], [], {}
    for queue in busiest[:MAX_PANELS]:
        name = queue or no_queue()
        totals = _angry_totals(by_queue[queue])
        points += _points(rolling(totals), days, name)
        cells += [(Cell(name), Cell(days.text(row["day"])), *_share_cells(row)) for row in by_queue[queue]]
        if (change := find_change(totals, Z_SPEECH)) is not None:
            changes[name] = change
    return Chart(
        title=_queues_title(changes, days),
        text=_rolling_text(_("Angry share of callers' speech by queue, all on one scale")),
        svg=charts.rolling_lines(points, days.texts, ceiling=_ceiling(p.high for p in points), panels=True),
        table=Table(
            _("Angry share of callers' speech by queue and day"),
            (_("Queue"), _("Day"), *share_columns()),
            cells,
        ),
        changed=bool(changes),
    )


def _queues_title(changes: dict[str, Change], days: Days) -> str:
    """The two queues that changed most, as "Billing is up since 26 Mar"."""
    most = sorted(changes.items(), key=lambda item: -abs(item[1].now - item[1].before))[:2]
    texts = [
        (_("{queue} is up since {day}") if change.up else _("{queue} is down since {day}")).format(
            queue=name[:1].upper() + name[1:], day=days.text(change.day)
        )
        for name, change in most
    ]
    return "; ".join(texts) or _("No queue has clearly changed")


def _quality_chart(source: Source, days: Days) -> Chart | None:
    rows = source.rows(_QUALITY, first=days.first, last=days.last)
    if not rows:
        return None
    drift = source.rows(_DRIFT, first=days.first, last=days.last)
    distance = {row["day"]: row["distance"] for row in drift}
    panels = (
        ("agreement", _("Agreement"), rows),
        ("abstained", _("Without a label"), rows),
        ("distance", _("Label drift"), drift),
    )
    points = [
        Point(days.text(row["day"]), row[key], 0.0, 0.0, int(row["n"]), panel)
        for key, panel, found in panels
        for row in found
        if row[key] is not None
    ]
    cells = [
        (
            Cell(days.text(row["day"])),
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
        title=_quality_title(rows, days),
        text=_(
            "Mean agreement of the models, the share of callers' speech left without a label, and label "
            "drift: the share of labels that would have to change for a day to look like the four weeks "
            "before. A jump without a reason in the business points to the recordings or the models."
        ),
        svg=charts.lines(points, days.texts),
        table=Table(
            _("Agreement, labels left out and label drift by day"),
            (
                _("Day"),
                _("Segments"),
                _("Agreement"),
                _("Without a label"),
                _("Distance from the four weeks before"),
            ),
            cells,
        ),
    )


def _quality_title(rows: Sequence[Row], days: Days) -> str:
    """Whether the models agree as before."""
    known = [row for row in rows if row["agreement"] is not None]
    newest = [row for row in known if (days.last - row["day"]).days < ROLLING_DAYS]
    before = [row for row in known if (days.last - row["day"]).days >= ROLLING_DAYS]
    if not newest or not before:
        return _("How steady the labels are")
    now, then = (sum(row["agreement"] for row in part) / len(part) for part in (newest, before))
    if abs(now - then) < STEADY_AGREEMENT:
        return _("The labels are steady")
    return _("The models agree less than before") if now < then else _("The models agree more than before")


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
    caption = _("How often callers were flagged, by the agent who answered, in order of name")
    return Table(caption, (_("Agent"), *flagged_columns()), rows) if rows else None
