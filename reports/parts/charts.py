"""Statistical charts as inline SVG, made at build time by Altair and vl-convert. No network, no script.

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
from reports.parts.drawing import draw

# From the baseline upwards: what needs attention first, what recedes last.
STACK = ("anger", "disgust", "fear", "sad", "surprise", "boredom", "happy", "calm", "neutral")
# A bar of fewer calls than this is drawn pale: its share is hardly more than an anecdote.
FEW_CALLS = 5
# More bars side by side have no figures at their ends: the figures would collide.
MAX_COUNTED_BARS = 16
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
    """A share with its 95% interval at one day, of one panel (a queue)."""

    group: str
    share: float
    low: float
    high: float
    n_calls: int
    panel: str = ""


@dataclass(frozen=True, slots=True)
class Square:
    """One field of a heat map."""

    column: str
    row: str
    share: float
    n_calls: int


def stacked(shares: Sequence[Share], groups: Sequence[str], *, upright: bool) -> str:
    """One bar per group (in the given order, empty ones stay empty), the number of calls at its end.

    upright: columns from left to right instead of bars from top to bottom.
    """
    import altair as alt

    bars_of = [{**asdict(s), "order": STACK.index(s.emotion), "few": s.n_calls < FEW_CALLS} for s in shares]
    counts = {s.group: s.n_calls for s in shares}
    shown = counts if len(groups) <= MAX_COUNTED_BARS else {}
    ends_of = [{"group": group, "label": _short(n), "end": 1.0} for group, n in shown.items()]
    names = alt.Axis(
        values=_thinned(groups) if upright else list(groups),
        title=None,
        labelAngle=0,
        labelLimit=LABEL_LIMIT_PX,
        ticks=False,
        domain=False,
    )
    scale = alt.Scale(domain=list(groups), paddingInner=0.22)
    group: dict[str, Any] = {
        "field": "group",
        "type": "ordinal",
        "sort": list(groups),
        "scale": scale,
        "axis": names,
    }
    length: dict[str, Any] = {"type": "quantitative", "axis": _percent_axis(title=None)}

    def placed(**across: Any) -> dict[str, Any]:
        if upright:
            return {"x": alt.X(**group), "y": alt.Y(**length, **across)}
        return {"y": alt.Y(**group), "x": alt.X(**length, **across)}

    bars = (
        _chart(bars_of)
        .mark_bar(stroke="var(--paper)", strokeWidth=1)
        .encode(
            **placed(field="share", stack="zero", scale=alt.Scale(domain=[0, 1])),
            color=_emotion_fills([s.emotion for s in shares]),
            order=alt.Order("order:Q"),
            opacity=alt.condition("datum.few", alt.value(0.5), alt.value(1)),
        )
    )
    beside = {"dy": -8} if upright else {"dx": 6, "align": "left"}
    numbers = (
        _chart(ends_of)
        .mark_text(fontSize=11, color="var(--ink-2)", **beside)
        .encode(**placed(field="end"), text="label:N")
    )
    size = {"width": 450, "height": 190} if upright else {"width": 360, "height": 30 * len(groups)}
    return _svg((bars + numbers if shown else bars).properties(**size))


def _short(n: int) -> str:
    """A number of calls that fits above a narrow column."""
    return whole_number(n) if n < 1000 else f"{number(n / 1000)}k"


def rolling_lines(
    found: Sequence[Point],
    groups: Sequence[str],
    *,
    ceiling: float,
    daily: Sequence[Point] = (),
    panels: bool = False,
) -> str:
    """Rolling shares as a line with its interval shaded, `daily` ones as dots; all on the same axes.

    Args:
        panels: a small panel for each `Point.panel`.
    """
    import altair as alt

    newest = {p.panel: p.group for p in found}
    values = [
        {**asdict(p), "high": min(p.high, ceiling), "of": of, "newest": newest.get(p.panel) == p.group}
        for of, points in (("week", found), ("day", daily))
        for p in points
    ]
    base = _chart(values).encode(
        x=_ordered("group", groups, _dates(groups, n_dates=3 if panels else 9)),
        y=_upwards("share:Q", ceiling),
    )
    week = base.transform_filter("datum.of == 'week'")
    day = base.transform_filter("datum.of == 'day'")
    panel = (
        week.mark_area(color="var(--accent)", opacity=0.16).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
        + day.mark_point(filled=True, size=24, color="var(--ink-3)", opacity=0.8)
        + week.mark_line(color="var(--accent)", strokeWidth=2.2)
        + week.transform_filter("datum.newest").mark_point(
            filled=True, size=44, color="var(--accent)", opacity=1
        )
    )
    if panels:
        return _svg(_panels(panel.properties(width=150, height=84), label_px=185, sort=None))
    return _svg(panel.properties(width=450, height=180))


def heat_map(
    squares: Sequence[Square], columns: Sequence[str], rows: Sequence[str], *, ceiling: float
) -> str:
    """A field per column and row: darker is more, the percentage stands in it, empty fields stay empty."""
    import altair as alt

    bare = alt.Axis(labelAngle=0, ticks=False, domain=False, labelLimit=LABEL_LIMIT_PX)
    values = [
        {**asdict(s), "label": f"{100 * s.share:.0f}", "dark": s.share > 0.55 * ceiling} for s in squares
    ]
    base = _chart(values).encode(
        x=_ordered("column", columns, bare), y=_ordered("row", rows, bare, channel=alt.Y)
    )
    fields = base.mark_rect(color="var(--c-anger)", cornerRadius=2).encode(
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, ceiling], range=[0.06, 1]), legend=None)
    )
    text = base.mark_text(fontSize=10).encode(
        text="label:N",
        color=alt.condition("datum.dark", alt.value("var(--c-anger-ink)"), alt.value("var(--ink)")),
    )
    return _svg((fields + text).properties(width=27 * len(columns), height=25 * len(rows)))


def lines(found: Sequence[Point], groups: Sequence[str]) -> str:
    """Shares over time as one line per panel, all on the scale 0..1."""
    panel = (
        _chart([asdict(p) for p in found])
        .mark_line(**_dotted_line("var(--accent)", dot_size=26))
        .encode(x=_ordered("group", groups, _dates(groups, n_dates=3)), y=_upwards("share:Q", 1))
    )
    return _svg(_panels(panel.properties(width=150, height=100), label_px=165, sort=None))


def _chart(values: list[dict[str, Any]]) -> Any:
    import altair as alt

    return alt.Chart(alt.InlineData(values=values))


def _ordered(field: str, values: Sequence[str], axis: Any, *, channel: Any = None) -> Any:
    """A place for each value, in the given order and also where there is nothing to show."""
    import altair as alt

    scale = alt.Scale(domain=list(values))
    return (channel or alt.X)(f"{field}:O", title=None, sort=list(values), scale=scale, axis=axis)


def _upwards(field: str, ceiling: float | None = None) -> Any:
    import altair as alt

    scale = alt.Undefined if ceiling is None else alt.Scale(domain=[0, ceiling])
    return alt.Y(field, title=None, axis=_percent_axis(), scale=scale)


def _dates(groups: Sequence[str], n_dates: int = 9) -> Any:
    import altair as alt

    return alt.Axis(
        labelAngle=0,
        values=_thinned(groups, n_dates),
        ticks=False,
        labelOverlap="parity",
        labelSeparation=4,
    )


def _thinned(groups: Sequence[str], n_dates: int = 9) -> list[str]:
    """The labels that fit side by side under an upright chart: hours stand closer than dates."""
    most = 24 if max(map(len, groups), default=0) <= 2 else n_dates
    step = max(1, -(-len(groups) // most))
    return list(groups)[::-step]


def _percent_axis(**more: Any) -> Any:
    import altair as alt

    return alt.Axis(format=".0%", tickCount=4, domain=False, ticks=False, **more)


def _dotted_line(color: str, *, dot_size: int) -> dict[str, Any]:
    dot = {"filled": True, "color": color, "size": dot_size, "opacity": 1}
    return {"color": color, "strokeWidth": 2, "point": dot}


def _panels(panel: Any, *, label_px: int, **facet: Any) -> Any:
    """The panel once for each value of `panel`, three side by side."""
    import altair as alt

    header = alt.Header(
        title=None, labelLimit=label_px, labelColor="var(--ink)", labelFontSize=12, labelAnchor="start"
    )
    return panel.facet(facet=alt.Facet("panel:N", header=header, **facet), columns=3, spacing=24)


def _emotion_fills(emotions: Sequence[str]) -> Any:
    import altair as alt

    present = [e for e in STACK if e in set(emotions)]
    scale = alt.Scale(domain=present, range=[f"url(#fill-{e})" for e in present])
    return alt.Color("emotion:N", scale=scale, legend=None)


def _svg(chart: Any) -> str:
    """Draw a chart. The renderer escapes the text of the data.

    Screen readers skip the drawing and get its caption and table instead.
    """
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
    markup = draw(
        spec,
        {
            "decimal": here.decimal,
            "thousands": here.thousands,
            "grouping": [3],
            "currency": ["", ""],
            "percent": here.after_percent or here.before_percent,
        },
    )
    head, _, body = markup.partition(">")
    width, box = (re.search(rf'\b{name}="([-\d. ]+)"', head) for name in ("width", "viewBox"))
    if width is None or box is None:
        raise ValueError(f"the drawing has no size: {head}")
    # Ids of the renderer (clip paths) would repeat from chart to chart; nothing here needs clipping.
    body = re.sub(r' clip-path="url\(#clip\d+\)"', "", body)
    body = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", body)
    return f'<svg viewBox="{box[1]}" style="width:{width[1]}px" aria-hidden="true" focusable="false">{body}'
