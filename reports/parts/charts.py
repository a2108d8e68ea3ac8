"""Statistical charts as inline SVG, written here: no library, no network, no script.

Fills are the page's own patterns and colours (`url(#fill-anger)`, `var(--ink-2)`), so that one drawing
serves the light and the dark theme and print. Every chart's numbers also stand in a table (views.Chart);
screen readers skip the drawing and get its caption and table instead.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from reports.formatting import number, plain_number, signs, whole_number
from reports.parts.changes import ROLLING_DAYS

# From the baseline upwards: what needs attention first, what recedes last.
STACK = ("anger", "disgust", "fear", "sad", "surprise", "boredom", "happy", "calm", "neutral")
# A bar of fewer calls than this is drawn pale: its share is hardly more than an anecdote.
FEW_CALLS = 5
# More bars side by side have no figures at their ends: the figures would collide.
MAX_COUNTED_BARS = 16
# Labels longer than this many pixels are cut with an ellipsis; the table has the whole name.
LABEL_LIMIT_PX = 150

_FONT_PX, _PANEL_FONT_PX, _FIELD_FONT_PX = 11, 12, 10
_GAP_PX = 6  # between an axis and its labels
_APART_PX = 4  # between labels side by side
_EDGE_PX = 4  # around a drawing
_BELOW_PX = 20  # the labels under an axis
_HALF_DATE_PX = 16  # by which the last one may always stand out
_BAR_OF_STEP = 0.78
_PANELS_ABREAST = 3
_BETWEEN_PANELS_PX = 24
_OVER_PANEL_PX = 22  # its name


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
    width, height = (450, 190) if upright else (360, 30 * len(groups))
    step = (width if upright else height) / max(len(groups), 1)
    thick = _BAR_OF_STEP * step
    middle = _middles(groups, step * len(groups))
    counts = {s.group: s.n_calls for s in shares}
    drawn = _grid(1.0, width, height) if upright else _grid_across(width, height)
    reached = dict.fromkeys(groups, 0.0)
    for share in sorted(shares, key=lambda s: STACK.index(s.emotion)):
        if share.group not in middle:
            continue
        start, end = reached[share.group], reached[share.group] + share.share
        reached[share.group] = end
        across = middle[share.group] - thick / 2
        box = (
            (across, height * (1 - end), thick, height * (end - start))
            if upright
            else (width * start, across, width * (end - start), thick)
        )
        pale = ' opacity="0.5"' if share.n_calls < FEW_CALLS else ""
        drawn += _box(*box, f'fill="url(#fill-{share.emotion})" stroke="var(--paper)"{pale}')
    for group, n in counts.items() if len(groups) <= MAX_COUNTED_BARS else ():
        if group in middle:
            at = (middle[group], -5.0) if upright else (width + _GAP_PX, middle[group] + 4)
            drawn += _text(_short(n), *at, anchor="middle" if upright else "start")
    if upright:
        drawn += _names_below(groups, _thinned(groups), width, height)
        right = _reached(groups, width)
        return _svg(drawn, left=_widest(_percents(1.0)), top=_FONT_PX + 5, right=right, bottom=height)
    names = {group: _cut(group, LABEL_LIMIT_PX, _FONT_PX) for group in groups}
    for group, name in names.items():
        drawn += _text(name, -_GAP_PX, middle[group] + 4, anchor="end")
    ends = _widest(map(_short, counts.values()))
    return _svg(drawn, left=_widest(names.values()), top=0, right=width + ends, bottom=height)


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

    The line breaks where so many days have no calls that the shares on both sides share no day.

    Args:
        groups: every day, also those without calls.
        panels: a small panel for each `Point.panel`.
    """
    width, height = (150, 84) if panels else (450, 180)
    middle = _middles(groups, width)
    place = {group: day for day, group in enumerate(groups)}

    def up(share: float) -> float:
        return height * (1 - min(share, ceiling) / ceiling)

    def run_of_days(points: Sequence[Point]) -> str:
        line = [(middle[p.group], up(p.share)) for p in points]
        upper = [(middle[p.group], up(p.high)) for p in points]
        lower = [(middle[p.group], up(p.low)) for p in points]
        area = f'<path d="{_path([*upper, *reversed(lower)])}Z" fill="var(--accent)" opacity="0.16"/>'
        return area + _line(line if len(line) > 1 else line * 2, 2.2)  # of one day a dot

    def panel(points: Sequence[Point]) -> str:
        begins = [
            at
            for at, p in enumerate(points)
            if not at or place[p.group] - place[points[at - 1].group] > ROLLING_DAYS
        ]
        runs = [points[begin:end] for begin, end in pairwise([*begins, len(points)])]
        dots = _dots(
            [(middle[p.group], up(p.share)) for p in daily], 2.4, 'fill="var(--ink-3)" opacity="0.8"'
        )
        newest = _dots([(middle[p.group], up(p.share)) for p in points[-1:]], 3.3, 'fill="var(--accent)"')
        return dots + "".join(map(run_of_days, runs)) + newest

    if panels:
        return _panels(found, panel, groups, ceiling=ceiling, width=width, height=height)
    drawn = _grid(ceiling, width, height) + panel(found)
    drawn += _names_below(groups, _thinned(groups), width, height)
    right = _reached(groups, width)
    return _svg(drawn, left=_widest(_percents(ceiling)), top=_GAP_PX, right=right, bottom=height)


def heat_map(
    squares: Sequence[Square], columns: Sequence[str], rows: Sequence[str], *, ceiling: float
) -> str:
    """A field per column and row: darker is more, the percentage stands in it, empty fields stay empty."""
    wide, high = 27, 25
    width, height = wide * len(columns), high * len(rows)
    across, down = _middles(columns, width), _middles(rows, height)
    drawn = ""
    for square in squares:
        x, y = across[square.column], down[square.row]
        shade = 0.06 + 0.94 * min(square.share / ceiling, 1.0)
        field = f'rx="2" fill="var(--c-anger)" opacity="{shade:.3f}"'
        drawn += _box(x - wide / 2, y - high / 2, wide, high, field)
        ink = "var(--c-anger-ink)" if square.share > 0.55 * ceiling else "var(--ink)"
        label = f"{100 * square.share:.0f}"
        drawn += _text(label, x, y + 3.5, more=f' font-size="{_FIELD_FONT_PX}" fill="{ink}"')
    names = {row: _cut(row, LABEL_LIMIT_PX, _FONT_PX) for row in rows}
    for row, name in names.items():
        drawn += _text(name, -_GAP_PX, down[row] + 4, anchor="end")
    drawn += _names_below(columns, columns, width, height)
    return _svg(drawn, left=_widest(names.values()), top=0, right=width, bottom=height)


def lines(found: Sequence[Point], groups: Sequence[str]) -> str:
    """Shares over time as one line per panel, all on the scale 0..1."""
    width, height = 150, 100
    middle = _middles(groups, width)

    def panel(points: Sequence[Point]) -> str:
        line = [(middle[p.group], height * (1 - p.share)) for p in points]
        return _line(line, 2) + _dots(line, 2.5, 'fill="var(--accent)"')

    return _panels(found, panel, groups, ceiling=1.0, width=width, height=height)


def _panels(
    found: Sequence[Point],
    panel: Callable[[Sequence[Point]], str],
    groups: Sequence[str],
    *,
    ceiling: float,
    width: int,
    height: int,
) -> str:
    """One panel for each value of `Point.panel`, in order of appearance, three side by side."""
    names = list(dict.fromkeys(p.panel for p in found))
    step_x = width + _BETWEEN_PANELS_PX
    step_y = height + _BELOW_PX + _OVER_PANEL_PX
    drawn = ""
    for place, name in enumerate(names):
        row, column = divmod(place, _PANELS_ABREAST)
        inner = _grid(ceiling, width, height, labelled=column == 0)
        inner += panel([p for p in found if p.panel == name])
        title = _cut(name, step_x - _GAP_PX, _PANEL_FONT_PX)
        inner += _text(title, 0, -10, anchor="start", more=f' font-size="{_PANEL_FONT_PX}" fill="var(--ink)"')
        if place + _PANELS_ABREAST >= len(names):  # nothing below it
            inner += _names_below(groups, _thinned(groups, 3), width, height)
        drawn += f'<g transform="translate({column * step_x},{row * step_y})">{inner}</g>'
    n_rows = -(-len(names) // _PANELS_ABREAST)
    right = (min(len(names), _PANELS_ABREAST) - 1) * step_x + _reached(groups, width)
    bottom = (n_rows - 1) * step_y + height
    return _svg(drawn, left=_widest(_percents(ceiling)), top=_OVER_PANEL_PX, right=right, bottom=bottom)


def _middles(groups: Sequence[str], length: float) -> dict[str, float]:
    """The middle of each group's equal part of an axis."""
    return {group: length * (place + 0.5) / len(groups) for place, group in enumerate(groups)}


def _thinned(groups: Sequence[str], n_dates: int = 9) -> list[str]:
    """The labels that fit side by side under an upright chart: hours stand closer than dates."""
    most = 24 if max(map(len, groups), default=0) <= 2 else n_dates
    step = max(1, -(-len(groups) // most))
    return list(groups)[::-step][::-1]


def _steps(ceiling: float) -> list[float]:
    """Round shares from 0 to at most `ceiling`, at most six."""
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if ceiling / s < 5.5)
    return [step * n for n in range(int(ceiling / step + 1e-9) + 1)]


def _percents(ceiling: float) -> list[str]:
    here = signs()
    return [
        f"{here.before_percent}{plain_number(round(100 * share))}{here.after_percent}"
        for share in _steps(ceiling)
    ]


def _grid(ceiling: float, width: float, height: float, *, labelled: bool = True) -> str:
    """Horizontal lines at round shares, with their percentages at the left."""
    drawn = ""
    for share, label in zip(_steps(ceiling), _percents(ceiling), strict=True):
        y = height * (1 - share / ceiling)
        drawn += f'<path d="M0,{_px(y)}h{_px(width)}" stroke="var(--line)"/>'
        drawn += _text(label, -_GAP_PX, y + 3.5, anchor="end") if labelled else ""
    return drawn


def _grid_across(width: float, height: float) -> str:
    """Vertical lines at round shares, with their percentages below."""
    drawn = ""
    for share, label in zip(_steps(1.0), _percents(1.0), strict=True):
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        drawn += f'<path d="M{_px(width * share)},0v{_px(height)}" stroke="var(--line)"/>'
        drawn += _text(label, width * share, height + 15, anchor=anchor)
    return drawn


def _names_below(groups: Sequence[str], chosen: Sequence[str], width: float, height: float) -> str:
    """The chosen labels under an axis; every second before the last is left out until none meets another."""
    middle = _middles(groups, width)
    while any(
        middle[b] - middle[a] < (_text_px(a, _FONT_PX) + _text_px(b, _FONT_PX)) / 2 + _APART_PX
        for a, b in pairwise(chosen)
    ):
        chosen = chosen[::-2][::-1]
    return "".join(_text(name, middle[name], height + 15) for name in chosen)


def _reached(groups: Sequence[str], width: float) -> float:
    """How far an axis reaches with the last label under it, but for the room beside every drawing."""
    last = _middles(groups, width)[groups[-1]] + _text_px(groups[-1], _FONT_PX) / 2
    return max(width, last - _HALF_DATE_PX)


def _line(at: Sequence[tuple[float, float]], stroke_px: float) -> str:
    look = f'fill="none" stroke="var(--accent)" stroke-width="{stroke_px}" stroke-linejoin="round"'
    look += ' stroke-linecap="round"'
    return f'<path d="{_path(at)}" {look}/>'


def _path(at: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_px(x)},{_px(y)}" for x, y in at) if at else ""


def _dots(at: Sequence[tuple[float, float]], radius_px: float, look: str) -> str:
    return "".join(f'<circle cx="{_px(x)}" cy="{_px(y)}" r="{radius_px}" {look}/>' for x, y in at)


def _box(x: float, y: float, width: float, height: float, look: str) -> str:
    return f'<rect x="{_px(x)}" y="{_px(y)}" width="{_px(width)}" height="{_px(height)}" {look}/>'


def _text(text: str, x: float, y: float, *, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _px(value: float) -> str:
    """A length as short as two digits after the point allow."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _cut(text: str, limit_px: float, font_px: float) -> str:
    """The text, or its beginning with an ellipsis."""
    if _text_px(text, font_px) <= limit_px:
        return text
    while text and _text_px(text + "…", font_px) > limit_px:
        text = text[:-1]
    return text.rstrip() + "…"


def _widest(texts: Iterable[str]) -> float:
    """Pixels that the widest text beside an axis takes, with the gap."""
    return max((_text_px(text, _FONT_PX) for text in texts), default=0.0) + _GAP_PX


def _text_px(text: str, font_px: float) -> float:
    """About how wide a text is: advances of a common sans-serif, rather too wide than too narrow."""
    return font_px * sum(map(_advance, text))


def _advance(sign: str) -> float:
    if sign in " .,:;'!|ijl()[]/-":
        return 0.34
    if unicodedata.combining(sign):
        return 0.0
    if unicodedata.east_asian_width(sign) in {"W", "F"}:
        return 1.0
    return 0.78 if sign.isupper() or sign in "mw%@…" else 0.58


def _svg(drawn: str, *, left: float, top: float, right: float, bottom: float) -> str:
    """A drawing whose axes meet at (0, `bottom`), with room for the labels at the left, below and above."""
    shift_x, shift_y = math.ceil(left) + _EDGE_PX, math.ceil(top) + _EDGE_PX
    width = shift_x + math.ceil(right) + _HALF_DATE_PX
    height = shift_y + math.ceil(bottom) + _BELOW_PX + _EDGE_PX
    return (
        f'<svg viewBox="0 0 {width} {height}" style="width:{width}px" aria-hidden="true" focusable="false">'
        f'<g transform="translate({shift_x},{shift_y})" font-family="var(--sans)" font-size="{_FONT_PX}"'
        f' fill="var(--ink-2)">{drawn}</g></svg>'
    )
