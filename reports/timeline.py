"""The timeline of a call as finished SVG geometry: who sounded how, when, and how frustrated.

Horizontal places are percentages of the recording, so that a timeline fills any width without stretching
letters and patterns. Curves are paths in a box of 1000 x 100 (y downwards) that the page scales.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from callanalytics.diarize.segments import merge_intervals
from reports.formatting import clock, from_to, length, score_text
from reports.palette import Badge, badge
from reports.translation import _, marked

FloatArray = npt.NDArray[np.float64]

BOX_WIDTH = 1000.0
BOX_HEIGHT = 100.0
# Neighbouring segments of one emotion that lie closer than this are drawn as one run.
JOIN_S = 1.0
# A run narrower than this share of the timeline has no room for its letter.
LETTER_SHARE = 0.028
# Silences shorter than this are the pauses of any conversation (the threshold of `n_long_silences`).
SILENCE_S = 3.0
# Labels of lines closer than this share of the curve's height would cover each other.
LABEL_SHARE = 0.14
# A label above this height (of 100, downwards) is where the name of the curve would stand.
TOP_LABEL = 45.0
SOUND_NAMES = {"music": marked("music"), "tone": marked("tone"), "masked": marked("masked")}
ROLE_NAMES = {"caller": marked("Caller"), "agent": marked("Agent"), "unknown": marked("Unknown")}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one side of a call with the emotion it was labelled with (None: no label)."""

    role: str
    start_s: float
    end_s: float
    emotion: str | None
    voice: str = ""  # name of one of several voices of unknown side, which have a lane each


@dataclass(frozen=True, slots=True)
class Run:
    """A drawn stretch: `x` and `width` are SVG percentages."""

    x: str
    width: str
    middle: str
    badge: Badge
    letter: str  # empty when there is no room
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Silence, overtalk, music, tone or masked sound: `kind` is the CSS class suffix."""

    x: str
    width: str
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One side of the call."""

    name: str
    role: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A time under the timeline. `anchor` keeps the outer ones inside."""

    x: str
    label: str
    anchor: str


@dataclass(frozen=True, slots=True)
class RuleLine:
    """Where a rule on the curve starts: `path` in the 1000 x 100 box; `y` of 100 is the place of its label.

    `text` is empty where the label would lie on that of another line.
    """

    path: str
    y: str
    text: str


@dataclass(frozen=True, slots=True)
class Curve:
    """Frustration over time as path data in the 1000 x 100 box. Empty paths when nothing is known."""

    line: str
    area: str
    above: str  # the part of the area over the threshold
    rules: tuple[RuleLine, ...]
    peak_x: str
    peak_share: str  # of the height, from the top
    peak_text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything a timeline draws, and the same as a text for those who cannot see it."""

    lanes: tuple[Lane, ...]
    marks: tuple[Mark, ...]
    curve: Curve
    ticks: tuple[Tick, ...]
    text: str
    duration_s: str = ""

    @property
    def name_low(self) -> bool:
        """Whether the name of the curve stands at its foot, since the label of a rule takes the top."""
        return any(rule.text and float(rule.y) < TOP_LABEL for rule in self.curve.rules)


def place(at_s: float, duration_s: float) -> str:
    """Where a time lies along the timeline, as an SVG percentage."""
    return f"{100 * min(max(at_s / duration_s, 0.0), 1.0):.2f}%" if duration_s > 0 else "0%"


def lane(
    role: str, spans: Iterable[Span], duration_s: float, *, join_s: float = JOIN_S, voice: str = ""
) -> Lane:
    """The runs of one side, or of one voice of unknown side; neighbours of one emotion are joined."""
    runs: list[Span] = []
    for span in sorted((s for s in spans if (s.role, s.voice) == (role, voice)), key=lambda s: s.start_s):
        last = runs[-1] if runs else None
        if last and last.emotion == span.emotion and span.start_s - last.end_s <= join_s:
            runs[-1] = replace(last, end_s=max(last.end_s, span.end_s))
        else:
            runs.append(span)
    return Lane(voice or _(ROLE_NAMES[role]), role, tuple(_run(run, duration_s) for run in runs))


def _run(span: Span, duration_s: float) -> Run:
    shown = badge(span.emotion)
    share = (span.end_s - span.start_s) / duration_s if duration_s > 0 else 0.0
    return Run(
        x=place(span.start_s, duration_s),
        width=place(span.end_s - span.start_s, duration_s),
        middle=place((span.start_s + span.end_s) / 2, duration_s),
        badge=shown,
        letter=shown.letter if share >= LETTER_SHARE else "",
        title=f"{from_to(clock(span.start_s), clock(span.end_s))}: {shown.name}",
    )


def lanes(spans: Sequence[Span], duration_s: float, *, join_s: float = JOIN_S) -> tuple[Lane, ...]:
    """Caller and agent; where voices have no known side theirs, and of the others those that speak.

    An empty lane says that a side is silent, which nobody knows while its voice may be an unknown one.
    """
    spoke = {span.role for span in spans}
    unknown = dict.fromkeys(span.voice for span in spans if span.role == "unknown")
    known = [role for role in ("caller", "agent") if role in spoke or not unknown]
    return (
        *(lane(role, spans, duration_s, join_s=join_s) for role in known),
        *(lane("unknown", spans, duration_s, join_s=join_s, voice=voice) for voice in unknown),
    )


def silences(
    turns: Sequence[tuple[str, float, float]],
    busy: Sequence[tuple[float, float]],
    duration_s: float,
) -> tuple[Mark, ...]:
    """Stretches of at least `SILENCE_S` in which nobody speaks and nothing plays.

    turns: (role, start_s, end_s). busy: music, tones and masked stretches.
    """
    edges = sorted([(start, end) for who, start, end in turns] + list(busy))
    marks, busy_until = [], 0.0
    for start, end in [*edges, (duration_s, duration_s)]:
        if start - busy_until >= SILENCE_S:
            marks.append(_mark("silence", busy_until, start, duration_s, _("nobody speaks")))
        busy_until = max(busy_until, end)
    return tuple(marks)


def overtalk(turns: Sequence[tuple[str, float, float]], duration_s: float) -> tuple[Mark, ...]:
    """Stretches in which both sides speak."""
    agent, caller = (
        merge_intervals([(s, e) for r, s, e in turns if r == role]) for role in ("agent", "caller")
    )
    marks, i, j = [], 0, 0
    while i < len(agent) and j < len(caller):
        begin, finish = max(agent[i][0], caller[j][0]), min(agent[i][1], caller[j][1])
        if finish > begin:
            marks.append(_mark("overtalk", begin, finish, duration_s, _("both speak")))
        i, j = (i + 1, j) if agent[i][1] < caller[j][1] else (i, j + 1)
    return tuple(marks)


def sound_marks(sounds: Sequence[tuple[str, float, float]], duration_s: float) -> tuple[Mark, ...]:
    """Music, tones and masked stretches. sounds: (kind, start_s, end_s)."""
    return tuple(
        _mark(kind, start, end, duration_s, _(SOUND_NAMES.get(kind, kind))) for kind, start, end in sounds
    )


def _mark(kind: str, start_s: float, end_s: float, duration_s: float, what: str) -> Mark:
    return Mark(
        x=place(start_s, duration_s),
        width=place(end_s - start_s, duration_s),
        kind=kind,
        title=_("{at}: {what} for {length}").format(
            at=clock(start_s), what=what, length=length(end_s - start_s)
        ),
    )


def ticks(duration_s: float, n_most: int) -> tuple[Tick, ...]:
    """Round times along the call, at most `n_most` steps, and the end."""
    steps = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    step = next((s for s in steps if duration_s / s <= n_most), steps[-1])
    # A tick too close to the end would collide with the length of the call.
    inner = [at for at in np.arange(0, duration_s, step) if duration_s - at > 0.7 * step]
    found = [Tick(place(at, duration_s), clock(at), "start" if at == 0 else "middle") for at in inner]
    return (*found, Tick("100%", clock(duration_s), "end"))


def frustration(
    at_s: Sequence[float],
    level: Sequence[float],
    duration_s: float,
    threshold: float | None,
    rules: tuple[RuleLine, ...] = (),
) -> Curve:
    """The caller's frustration (0..1 at segment midpoints) and what lies over the rule's threshold."""
    x = np.asarray(at_s, dtype=float) / max(duration_s, 1e-9) * BOX_WIDTH
    y = np.clip(np.nan_to_num(np.asarray(level, dtype=float)), 0.0, 1.0)
    if not len(x):
        return Curve("", "", "", rules, "", "", "")
    peak = int(np.argmax(y))
    return Curve(
        line=_path(x, y),
        area=_area(x, y, 0.0),
        above="" if threshold is None or y.max() <= threshold else _above(x, y, threshold),
        rules=rules,
        peak_x=place(float(at_s[peak]), duration_s),
        peak_share=f"{1 - float(y[peak]):.4f}",
        peak_text=_("{level} at {at}").format(
            level=score_text(float(y[peak]), threshold), at=clock(float(at_s[peak]))
        ),
    )


# Part of the call that each window of a rule covers, as shares of its length.
WINDOWS = {
    "call": (0.0, 1.0),
    "first_half": (0.0, 0.5),
    "second_half": (0.5, 1.0),
    **{f"q{i + 1}": (i / 4, (i + 1) / 4) for i in range(4)},
}


def rule_lines(rules: Iterable[tuple[float, str, str]]) -> tuple[RuleLine, ...]:
    """Thresholds over the part of the call that each rule looks at, the lowest first.

    rules: (level 0..1, window, label). A label that would lie on the one before is left out.
    """
    lines: list[RuleLine] = []
    labelled = -1.0
    for level, window, text in sorted(rules):
        start, end = WINDOWS[window]
        path = f"M{start * BOX_WIDTH:g} {_down(level):.1f}H{end * BOX_WIDTH:g}"
        shown = level - labelled >= LABEL_SHARE
        labelled = level if shown else labelled
        lines.append(RuleLine(path, f"{_down(level):.1f}", text if shown else ""))
    return tuple(lines)


def step_area(start_s: FloatArray, end_s: FloatArray, value: FloatArray, duration_s: float) -> str:
    """Boxes of height `value` (0..1) from start to end, as one path in the 1000 x 100 box."""
    scale = BOX_WIDTH / max(duration_s, 1e-9)
    boxes = [
        f"M{start * scale:.1f} 100V{_down(height):.1f}H{end * scale:.1f}V100Z"
        for start, end, height in zip(start_s, end_s, value, strict=True)
        if height >= 0.005
    ]
    return "".join(boxes)


def _down(level: float) -> float:
    """0..1 upwards -> y downwards in the box."""
    return BOX_HEIGHT * (1.0 - level)


def _path(x: FloatArray, y: FloatArray) -> str:
    return "M" + "L".join(f"{a:.1f} {_down(b):.1f}" for a, b in zip(x, y, strict=True))


def _area(x: FloatArray, y: FloatArray, floor: float) -> str:
    return f"{_path(x, y)}L{x[-1]:.1f} {_down(floor):.1f}L{x[0]:.1f} {_down(floor):.1f}Z"


def _above(x: FloatArray, y: FloatArray, threshold: float) -> str:
    """The area between curve and threshold where the curve is higher, with exact crossings."""
    gap = y - threshold
    crossing = np.flatnonzero(gap[:-1] * gap[1:] < 0)
    at = x[crossing] + (x[crossing + 1] - x[crossing]) * gap[crossing] / (gap[crossing] - gap[crossing + 1])
    order = np.argsort(np.concatenate((x, at)), kind="stable")
    all_x = np.concatenate((x, at))[order]
    all_y = np.maximum(np.concatenate((y, np.full(len(at), threshold)))[order], threshold)
    return _area(all_x, all_y, threshold)
