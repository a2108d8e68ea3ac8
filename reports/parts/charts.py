"""Statistical charts, drawn at build time by Altair and vl-convert as inline SVG. No network, no script.

Fills are the page's own patterns and colours (`url(#fill-anger)`, `var(--ink-2)`), so that one drawing
serves the light and the dark theme and print. Every chart's numbers also stand in a table (views.Chart).
Importing Altair takes 0.3 s and the first drawing 0.5 s, so it happens only when there is something to draw.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reports.formatting import number, signs, whole_number

# From the baseline upwards: what needs attention first, what recedes last.
STACK = ("anger", "disgust", "fear", "sad", "surprise", "boredom", "happy", "calm", "neutral")
# A bar of fewer calls than this is drawn pale: its share is hardly more than an anecdote.
FEW_CALLS = 5
# Labels longer than this many pixels are cut with an ellipsis; the table has the whole name.
LABEL_LIMIT_PX = 150


@dataclass(frozen=True, slots=True)
class Share:
    """Share of labelled seconds with one emotion in one group (an hour, a day, a queue)."""

    group: str
    emotion: str
    share: float  # 0..1
    n_calls: int


@dataclass(frozen=True, slots=True)
class Point:
    """A share with its 95% interval at one day, of one panel (a queue) and period."""

    group: str
    share: float
    low: float
    high: float
    n_calls: int
    panel: str = ""
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Square:
    """One field of a heat map."""

    column: str
    row: str
    share: float
    n_calls: int


def stacked_columns(shares: Sequence[Share], groups: Sequence[str]) -> str:
    """One column per group (in the given order, empty ones stay empty), the number of calls above it."""
    return _stacked(shares, groups, upright=True)


def stacked_rows(shares: Sequence[Share], groups: Sequence[str]) -> str:
    """One bar per group, from top to bottom, the number of calls at its end."""
    return _stacked(shares, groups, upright=False)


def _stacked(shares: Sequence[Share], groups: Sequence[str], *, upright: bool) -> str:
    import altair as alt

    data = _data(
        [{**asdict(s), "order": STACK.index(s.emotion), "few": s.n_calls < FEW_CALLS} for s in shares]
    )
    counts = {s.group: s.n_calls for s in shares}
    totals = _data([{"group": group, "words": _short(n), "end": 1.0} for group, n in counts.items()])
    labels = alt.Axis(
        values=_thinned(groups) if upright else list(groups),
        title=None,
        labelAngle=0,
        labelLimit=LABEL_LIMIT_PX,
        ticks=False,
        domain=False,
    )
    length_axis = alt.Axis(title=None, format=".0%", tickCount=4, domain=False, ticks=False)
    along: dict[str, Any] = {
        "field": "group",
        "type": "ordinal",
        "sort": list(groups),
        "scale": alt.Scale(domain=list(groups), paddingInner=0.22),
        "axis": labels,
    }
    across: dict[str, Any] = {
        "field": "share",
        "type": "quantitative",
        "stack": "zero",
        "scale": alt.Scale(domain=[0, 1]),
        "axis": length_axis,
    }
    bars = (
        alt.Chart(data)
        .mark_bar(stroke="var(--paper)", strokeWidth=1)
        .encode(
            **_oriented(along, across, upright=upright),
            color=_emotion_fills([s.emotion for s in shares]),
            order=alt.Order("order:Q"),
            opacity=alt.condition("datum.few", alt.value(0.5), alt.value(1)),
        )
    )
    ends: dict[str, Any] = {"field": "end", "type": "quantitative", "axis": length_axis}
    text = {"dy": -8} if upright else {"dx": 6, "align": "left"}
    numbers = (
        alt.Chart(totals)
        .mark_text(fontSize=11 if len(groups) <= 16 else 9, color="var(--ink-2)", **text)
        .encode(**_oriented(along, ends, upright=upright), text="words:N")
    )
    size = {"width": 450, "height": 190} if upright else {"width": 360, "height": 30 * len(groups)}
    return _svg((bars + numbers).properties(**size))


def _short(n: int) -> str:
    """A number of calls that fits above a narrow column."""
    return whole_number(n) if n < 1000 else f"{number(n / 1000)}k"


def _oriented(along: dict[str, Any], across: dict[str, Any], *, upright: bool) -> dict[str, Any]:
    import altair as alt

    if upright:
        return {"x": alt.X(**along), "y": alt.Y(**across)}
    return {"y": alt.Y(**along), "x": alt.X(**across)}


def points(found: Sequence[Point], groups: Sequence[str], *, ceiling: float) -> str:
    """Shares over time with their intervals, one panel."""
    import altair as alt

    base = alt.Chart(_data([asdict(p) for p in found])).encode(x=_time_axis(groups))
    y = alt.Y("share:Q", title=None, scale=alt.Scale(domain=[0, ceiling]), axis=_percent_axis())
    layers = base.mark_rule(color="var(--ink-3)", strokeWidth=2).encode(
        y=alt.Y("low:Q", title=None, axis=_percent_axis()), y2="high:Q"
    ) + base.mark_point(filled=True, size=54, color="var(--c-anger)", opacity=1).encode(y=y)
    return _svg(layers.properties(width=450, height=180))


def small_multiples(found: Sequence[Point], groups: Sequence[str], *, ceiling: float) -> str:
    """One small panel per queue on one scale; the period before as a dashed grey line behind."""
    import altair as alt

    ends = list(dict.fromkeys((groups[0], groups[-1])))
    dates = alt.Axis(values=ends, labelAngle=0, labelFlush=True, ticks=False)
    shown = [{**asdict(p), "high": min(p.high, ceiling)} for p in found]
    base = alt.Chart(_data(shown)).encode(
        x=alt.X("group:O", title=None, sort=list(groups), scale=alt.Scale(domain=list(groups)), axis=dates),
        y=alt.Y("share:Q", title=None, scale=alt.Scale(domain=[0, ceiling]), axis=_percent_axis()),
    )
    band = (
        base.transform_filter("!datum.earlier")
        .mark_area(color="var(--c-anger)", opacity=0.13)
        .encode(y=alt.Y("low:Q", title=None), y2="high:Q")
    )
    before = base.transform_filter("datum.earlier").mark_line(
        color="var(--ink-3)", strokeDash=[4, 3], strokeWidth=1.5
    )
    now = base.transform_filter("!datum.earlier").mark_line(
        color="var(--c-anger)",
        strokeWidth=2,
        point={"filled": True, "color": "var(--c-anger)", "size": 22, "opacity": 1},
    )
    panel = (band + before + now).properties(width=150, height=84)
    header = alt.Header(
        title=None, labelLimit=185, labelColor="var(--ink)", labelFontSize=12, labelAnchor="start"
    )
    return _svg(panel.facet(facet=alt.Facet("panel:N", header=header), columns=3, spacing=24))


def heat_map(
    squares: Sequence[Square], columns: Sequence[str], rows: Sequence[str], *, ceiling: float
) -> str:
    """A field per column and row: darker is more, the percentage stands in it, empty fields stay empty."""
    import altair as alt

    data = _data(
        [{**asdict(s), "words": f"{100 * s.share:.0f}", "dark": s.share > 0.55 * ceiling} for s in squares]
    )
    base = alt.Chart(data).encode(
        x=alt.X(
            "column:O",
            title=None,
            sort=list(columns),
            scale=alt.Scale(domain=list(columns)),
            axis=_bare_axis(),
        ),
        y=alt.Y("row:O", title=None, sort=list(rows), scale=alt.Scale(domain=list(rows)), axis=_bare_axis()),
    )
    fields = base.mark_rect(color="var(--c-anger)", cornerRadius=2).encode(
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, ceiling], range=[0.06, 1]), legend=None)
    )
    text = base.mark_text(fontSize=10).encode(
        text="words:N",
        color=alt.condition("datum.dark", alt.value("var(--c-anger-ink)"), alt.value("var(--ink)")),
    )
    return _svg((fields + text).properties(width=27 * len(columns), height=25 * len(rows)))


def lines(found: Sequence[Point], groups: Sequence[str]) -> str:
    """Shares over time of several panels drawn as lines in one panel each, one scale 0..1."""
    import altair as alt

    base = alt.Chart(_data([asdict(p) for p in found])).mark_line(
        strokeWidth=2,
        color="var(--accent)",
        point={"filled": True, "size": 26, "color": "var(--accent)", "opacity": 1},
    )
    panel = base.encode(
        x=_time_axis(groups, n_dates=3),
        y=alt.Y("share:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=_percent_axis()),
    ).properties(width=150, height=100)
    header = alt.Header(
        title=None, labelLimit=165, labelColor="var(--ink)", labelFontSize=12, labelAnchor="start"
    )
    return _svg(panel.facet(facet=alt.Facet("panel:N", header=header, sort=None), columns=3, spacing=24))


def _time_axis(groups: Sequence[str], n_dates: int = 9) -> Any:
    import altair as alt

    axis = alt.Axis(labelAngle=0, values=_thinned(groups, n_dates), ticks=False)
    return alt.X("group:O", title=None, sort=list(groups), scale=alt.Scale(domain=list(groups)), axis=axis)


def _thinned(groups: Sequence[str], n_dates: int = 9) -> list[str]:
    """The labels that fit side by side under an upright chart: hours stand closer than dates."""
    most = 24 if max(map(len, groups), default=0) <= 2 else n_dates
    return list(groups)[:: max(1, -(-len(groups) // most))]


def _percent_axis() -> Any:
    import altair as alt

    return alt.Axis(format=".0%", tickCount=4, domain=False, ticks=False)


def _bare_axis() -> Any:
    import altair as alt

    return alt.Axis(labelAngle=0, ticks=False, domain=False, labelLimit=LABEL_LIMIT_PX)


def _emotion_fills(emotions: Sequence[str]) -> Any:
    import altair as alt

    present = [e for e in STACK if e in set(emotions)]
    scale = alt.Scale(domain=present, range=[f"url(#fill-{e})" for e in present])
    return alt.Color("emotion:N", scale=scale, legend=None)


def _data(values: list[dict[str, Any]]) -> Any:
    import altair as alt

    return alt.InlineData(values=values)


def _svg(chart: Any) -> str:
    """Draw a chart. Text of the data is escaped by the renderer; the drawing is hidden from screen readers,
    which get the caption and the table instead.
    """
    import vl_convert

    spec = (
        chart.properties(background="transparent", padding=4)
        .configure(aria=False, font="var(--sans)")
        .configure_axis(
            aria=False,
            labelColor="var(--ink-2)",
            labelFontSize=11,
            gridColor="var(--line)",
            domainColor="var(--line)",
            tickColor="var(--line)",
            labelPadding=6,
        )
        .configure_view(stroke=None)
        .to_dict()
    )
    here = signs()
    drawn: str = vl_convert.vegalite_to_svg(
        spec,
        format_locale={
            "decimal": here.decimal,
            "thousands": here.thousands,
            "grouping": [3],
            "currency": ["", ""],
            "percent": here.after_percent or here.before_percent,
        },
    )
    head, _, body = drawn.partition(">")
    width = _attribute(head, "width")
    # Ids of the renderer (clip paths) would repeat from chart to chart; nothing here needs clipping.
    body = re.sub(r' clip-path="url\(#clip\d+\)"', "", body)
    box = _attribute(head, "viewBox")
    return f'<svg viewBox="{box}" style="width:{width}px" aria-hidden="true" focusable="false">' + re.sub(
        r' (?:role|aria-[a-z]+)="[^"]*"', "", body
    )


def _attribute(head: str, name: str) -> str:
    found = re.search(rf'\b{name}="([-\d. ]+)"', head)
    if found is None:
        raise ValueError(f"the drawing has no {name}")
    return found.group(1)
