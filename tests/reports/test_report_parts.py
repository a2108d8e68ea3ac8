"""The parts of the pages that are pure: words, strips, curves, colours, charts, periods."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reports
from callanalytics.config import DEFAULT_RULES, ReportSettings
from ensemble.labels import EMOTIONS, SHARED_SIX
from reports import formatting, timeline
from reports.palette import LETTERS, legend
from reports.parts import charts
from reports.parts.charts import Point, Share, Square
from reports.parts.ensemble_card import claims, leaves
from reports.parts.measure_names import beside_rule, range_with_unit, rule_text, with_unit
from reports.report_source import earlier_periods
from reports.timeline import Span

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (42.9, "0:42"), (725, "12:05"), (3723, "1:02:03"), (-1, "0:00")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert formatting.clock(seconds) == shown


@pytest.mark.parametrize("seconds", [59.6, 60.4, 277.7, 401.6, 3599.9])
def test_the_length_of_a_call_is_the_one_under_its_drawing(seconds: float) -> None:
    """4:37 at the end of the timeline and in the table stood beside 4 min 38 s in the card."""
    minutes, rest = (int(part) for part in formatting.clock(max(60, seconds)).split(":"))
    assert formatting.length(seconds) == f"{minutes} min" + (f" {rest} s" if rest else "")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0%"), (0.0004, "under 0.1%"), (0.031, "3.1%"), (0.5, "50%"), (0.9999, "over 99.9%"), (1, "100%")],
)
def test_percent_never_rounds_something_to_nothing(share: float, shown: str) -> None:
    assert formatting.percent(share) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.374, "37%"), (0.376, "38%"), (0.0314, "3.1%"), (0.0316, "3.2%"), (0.996, "100%"), (0.994, "99%")],
)
def test_percent_is_rounded_to_the_nearest_and_not_cut_off(share: float, shown: str) -> None:
    assert formatting.percent(share) == shown


@pytest.mark.parametrize(
    ("since", "until", "now", "shown"),
    [
        ("2025-03-31", "2025-04-01", "2025-04-01T06", "yesterday"),
        ("2025-03-31", "2025-04-01T06", "2025-04-01T06", "since yesterday"),
        ("2025-03-30", "2025-03-31", "2025-04-01T06", "on Sun, 30 Mar 2025"),
        ("2025-03-25", "2025-04-01", "2025-04-01T06", "from 25 March to 31 March 2025"),
        ("2024-12-30", "2025-01-02", "2025-04-01T06", "from 30 December 2024 to 1 January 2025"),
        ("2000-01-01", "2025-04-01T06", "2025-04-01T06", "since Sat, 1 Jan 2000"),
        (
            "2025-03-01T18",
            "2025-03-02T06",
            "2025-04-01T06",
            "from Sat, 1 Mar 2025, 18:00 to Sun, 2 Mar 2025, 06:00",
        ),
    ],
)
def test_a_window_in_words(since: str, until: str, now: str, shown: str) -> None:
    read = [datetime.fromisoformat(text).replace(tzinfo=BERLIN) for text in (since, until, now)]
    assert formatting.window_text(*read) == shown


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        ("en_GB", ["3.1%", "1,204 calls", "+1.9 semitones", "Fri, 20 Nov 2026, 14:32", "20 Nov", "Mon"]),
        (
            "en_US",
            ["3.1%", "1,204 calls", "+1.9 semitones", "Fri, Nov 20, 2026, 2:32\u202fPM", "Nov 20", "Mon"],
        ),
        (
            "de_DE",
            ["3,1\xa0%", "1.204 calls", "+1,9 semitones", "Fr., 20. Nov. 2026, 14:32", "20. Nov.", "Mo."],
        ),
        (
            "fr",
            ["3,1\xa0%", "1\u202f204 calls", "+1,9 semitones", "ven. 20 nov. 2026, 14:32", "20 nov.", "lun."],
        ),
    ],
)
def test_dates_and_numbers_follow_the_locale(locale: str, shown: list[str]) -> None:
    at = datetime(2026, 11, 20, 14, 32)
    with formatting.localised(locale):
        assert [
            formatting.percent(0.031),
            formatting.calls_text(1204),
            with_unit("pitch_rise_st", 1.94),
            formatting.moment(at),
            formatting.short_day(at),
            formatting.weekdays()[0],
        ] == shown
    assert formatting.percent(0.031) == "3.1%"


def test_an_unknown_locale_is_refused() -> None:
    with pytest.raises(ValueError, match="no such locale"):
        ReportSettings(locale="xx_YY")


def test_the_period_before_keeps_to_calendar_days_when_the_clocks_change() -> None:
    since = datetime(2025, 3, 31, tzinfo=BERLIN)  # the day after the change
    found = earlier_periods(since, since + timedelta(days=1))
    before, last_week = found
    assert before.since == datetime(2025, 3, 30, tzinfo=BERLIN)
    assert before.until == since
    assert last_week.since == datetime(2025, 3, 24, tzinfo=BERLIN)


def test_a_long_window_is_not_compared_with_an_overlapping_week() -> None:
    since = datetime(2025, 3, 1, tzinfo=BERLIN)
    found = earlier_periods(since, since + timedelta(days=10))
    (before,) = found
    assert before.until == since


def test_a_window_as_long_as_the_calendar_is_compared_with_nothing() -> None:
    since = datetime(1000, 1, 1, tzinfo=BERLIN)
    found = earlier_periods(since, datetime(2026, 1, 1, tzinfo=BERLIN))
    assert found == ()


def test_rules_are_read_with_units() -> None:
    assert rule_text(DEFAULT_RULES[0]) == "caller: frustration at its peak at least 42%, in the whole call"
    assert rule_text(DEFAULT_RULES[5]) == "longest silence at least 45 s, in the whole call"
    assert with_unit("pitch_rise_st", 1.94) == "+1.9 semitones"
    assert range_with_unit("pitch_rise_st", -0.2, 1.94) == "-0.2 to +1.9 semitones"
    assert range_with_unit("talk_s", 3.7, 91.0) == "3.7 s to 1 min 31 s"
    assert range_with_unit("anger_share", 0.1, 0.5) == "10% to 50%"


turns = st.lists(
    st.tuples(
        st.sampled_from(["agent", "caller"]),
        st.floats(0, 100, allow_nan=False),
        st.floats(0.1, 30, allow_nan=False),
    ).map(lambda t: (t[0], t[1], t[1] + t[2])),
    max_size=20,
)


def covered(spans: list[tuple[float, float]], at_s: float) -> bool:
    return any(start <= at_s < end for start, end in spans)


def seconds(mark: timeline.Mark, duration_s: float) -> tuple[float, float]:
    start = float(mark.x.rstrip("%")) / 100 * duration_s
    return start, start + float(mark.width.rstrip("%")) / 100 * duration_s


@given(turns)
def test_silence_and_overtalk_are_where_they_are(found: list[tuple[str, float, float]]) -> None:
    duration_s = 140.0
    silent = [seconds(m, duration_s) for m in timeline.silences(found, [], duration_s)]
    both = [seconds(m, duration_s) for m in timeline.overtalk(found, duration_s)]
    agent = [(s, e) for role, s, e in found if role == "agent"]
    caller = [(s, e) for role, s, e in found if role == "caller"]
    edge_s = 0.02  # places are rounded to 0.01 %
    for at_s in np.arange(0.05, duration_s, 0.5):
        if any(abs(at_s - edge) < edge_s for pair in agent + caller for edge in pair):
            continue
        assert covered(both, at_s) == (covered(agent, at_s) and covered(caller, at_s))
        if covered(silent, at_s):
            assert not covered(agent + caller, at_s)


def test_neighbours_of_one_emotion_are_one_run_and_narrow_runs_have_no_letter() -> None:
    spans = [
        Span("caller", 0, 3, "anger"),
        Span("caller", 3.2, 6, "anger"),
        Span("caller", 6, 6.5, None),
        Span("agent", 1, 4, "sad"),
    ]
    runs = timeline.lane("caller", spans, 60.0).runs
    assert [(run.badge.letter, run.letter) for run in runs] == [("A", "A"), ("–", "")]
    assert (runs[0].x, runs[0].width) == ("0.00%", "10.00%")
    assert runs[0].title == "0:00 to 0:06: anger"


def test_an_unknown_side_gets_a_lane_of_its_own() -> None:
    assert [lane.name for lane in timeline.lanes([], 60.0)] == ["Caller", "Agent"]
    unknown, caller = Span("unknown", 0, 3, "sad"), Span("caller", 3, 6, "sad")
    assert [lane.name for lane in timeline.lanes([unknown], 60.0)] == ["Unknown"], (
        "nobody knows who is silent"
    )
    assert [lane.name for lane in timeline.lanes([unknown, caller], 60.0)] == ["Caller", "Unknown"]
    two = [caller, Span("unknown", 0, 3, "sad", "Voice 1"), Span("unknown", 6, 9, "sad", "Voice 2")]
    lanes = timeline.lanes(two, 60.0)
    assert [(lane.name, len(lane.runs)) for lane in lanes] == [("Caller", 1), ("Voice 1", 1), ("Voice 2", 1)]


def test_the_curve_is_filled_only_above_the_threshold() -> None:
    curve = timeline.frustration([0, 10, 20], [0.0, 1.0, 0.0], 20.0, 0.5)
    xs = [float(x) for x, _ in re.findall(r"([\d.]+) ([\d.]+)", curve.above)]
    ys = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", curve.above)]
    assert max(ys) == 50.0
    assert min(ys) == 0.0
    assert {250.0, 750.0} <= set(xs), "the crossings are exact"
    assert curve.peak_text == "100% at 0:10"
    assert timeline.frustration([0, 10], [0.1, 0.2], 20.0, 0.5).above == ""
    assert timeline.frustration([], [], 20.0, None).line == ""


def test_ticks_do_not_collide_at_the_end() -> None:
    for duration_s in (4.0, 59.0, 61.0, 601.0, 7201.0, 14_000.0):
        found = timeline.ticks(duration_s, 6)
        places = [float(tick.x.rstrip("%")) for tick in found]
        assert places == sorted(places)
        assert len(found) <= 9
        assert all(later - earlier > 8 for earlier, later in pairwise(places))


def test_a_card_may_say_anything() -> None:
    good = {
        "trained_on": ["a", "b"],
        "n_training_clips": 5505,
        "n_training_speakers": 71,
        "scores": {"headline": {"test": "held-out speakers", "uar": 0.36}},
    }
    assert [(f.name, f.value, f.note) for f in claims(good)] == [
        ("Trained on", "a and b", "5,505 clips of 71 speakers"),
        ("Mean recall in its test", "36%", "held-out speakers"),
    ]
    for odd in (None, [], "x", {"trained_on": 3, "scores": [1]}, {"scores": {"headline": {"uar": "high"}}}):
        assert list(claims(odd)) == []
    found = dict(leaves({"members": [{"name": "cnn", "weight": 1.0}], "shape": list(range(64))}, ()))
    assert found["members › cnn › weight"] == "1"
    assert found["shape"] == "64 entries"


def test_chart_labels_are_text() -> None:
    name = "<script>alert(1)</script>"
    svg = charts.stacked([Share(name, "anger", 1.0, 3)], [name], upright=False)
    assert "<script" not in svg
    assert "url(#fill-anger)" in svg
    assert not re.search(r"https?://(?!www\.w3\.org)", svg)


def test_bars_are_as_long_as_their_shares() -> None:
    shares = [Share("09", "sad", 0.25, 4), Share("09", "anger", 0.75, 4), Share("11", "calm", 1.0, 1200)]
    svg = ElementTree.fromstring(charts.stacked(shares, ["09", "10", "11"], upright=True))
    bars = [(r.get("fill"), float(r.get("y", "")), float(r.get("height", ""))) for r in svg.iter("rect")]
    # From the baseline upwards, whatever the order they come in; nothing where there were no calls.
    assert bars == [
        ("url(#fill-anger)", 47.5, 142.5),
        ("url(#fill-sad)", 0.0, 47.5),
        ("url(#fill-calm)", 0.0, 190.0),
    ]
    assert [r.get("opacity") for r in svg.iter("rect")] == ["0.5", "0.5", None], "few calls are pale"
    texts = [t.text for t in svg.iter("text")]
    assert texts == ["0%", "20%", "40%", "60%", "80%", "100%", "4", "1.2k", "09", "10", "11"]
    with formatting.localised("de_DE", "de"):
        assert ">20\xa0%<" in charts.stacked(shares, ["09"], upright=True)


def test_panels_keep_their_order_and_dates_do_not_meet() -> None:
    days = [f"{day} March" for day in range(1, 31)]
    points = [Point(day, 0.1, 0.05, 0.2, 9, panel) for panel in ("sales", "billing") for day in days]
    svg = ElementTree.fromstring(charts.rolling_lines(points, days, ceiling=0.2, panels=True))
    texts = [t.text for t in svg.iter("text") if "%" not in str(t.text)]
    assert texts == ["sales", "10 March", "30 March", "billing", "10 March", "30 March"]
    long = "a queue of a very long name that nobody reads"
    assert "…</text>" in charts.heat_map([Square("09", long, 0.1, 3)], ["09"], [long], ceiling=0.2)


def test_every_emotion_has_its_letter_pattern_and_colours() -> None:
    folder = Path(reports.__file__).parent / "templates"
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    patterns = folder.joinpath("patterns.html").read_text(encoding="utf-8")
    assert set(LETTERS) == set(EMOTIONS) == set(charts.STACK)
    assert len(set(LETTERS.values())) == len(EMOTIONS)
    for shown in legend(EMOTIONS):
        assert f'id="fill-{shown.key}"' in patterns
        assert f".b-{shown.key} " in style
        assert len(re.findall(rf"--c-{shown.key}:", style)) >= 2, "light and dark"


def theme(dark: bool) -> dict[str, np.ndarray]:
    """sRGB 0..1 of every colour variable of a theme."""
    style = Path(reports.__file__).parent.joinpath("templates", "style.css").read_text(encoding="utf-8")
    light, _, rest = style.partition("@media (prefers-color-scheme: dark)")
    found = re.findall(r"--([\w-]+): (#[0-9a-f]{6});", rest.split("*, ::before")[0] if dark else light)
    return {name: np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for name, code in found}


def linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(a: np.ndarray, b: np.ndarray) -> float:
    """WCAG 2 contrast ratio."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    high, low = sorted((float(linear(c) @ weights) + 0.05 for c in (a, b)), reverse=True)
    return high / low


# Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009) 1291-1298, severity 1.0.
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
# Ottosson's OKLab: perceived differences are roughly Euclidean, 0.02 is just noticeable.
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def lab(rgb: np.ndarray, vision: np.ndarray) -> np.ndarray:
    seen = np.clip(vision @ linear(rgb), 0, 1)
    return np.asarray(TO_LAB @ np.cbrt(TO_LMS @ seen))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("vision", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["usual", "protan", "deutan"])
def test_emotions_stay_apart_for_everybody(dark: bool, vision: np.ndarray) -> None:
    colours = theme(dark)
    seen = {e: lab(colours[f"c-{e}"], vision) for e in SHARED_SIX}
    apart = {(e, other): np.linalg.norm(seen[e] - seen[other]) for e, other in combinations(SHARED_SIX, 2)}
    assert min(apart.values()) > 0.08, apart


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_badges_can_be_read(dark: bool) -> None:
    colours = theme(dark)
    for shown in legend(EMOTIONS):
        ratio = contrast(colours[f"c-{shown.key}"], colours[f"c-{shown.key}-ink"])
        assert ratio >= 4.5, f"{shown.name}: {ratio:.1f}"
    for paper in ("paper", "card", "soft"):
        for ink in ("ink", "ink-2", "accent", "warn"):
            assert contrast(colours[paper], colours[ink]) >= 4.5, f"{ink} on {paper}"


@pytest.mark.parametrize("dark", [False, True])
def test_anger_stands_out_and_neutral_recedes(dark: bool) -> None:
    colours = theme(dark)
    against_card = {e: contrast(colours["card"], colours[f"c-{e}"]) for e in SHARED_SIX}
    assert min(against_card, key=lambda e: against_card[e]) == "neutral"
    assert against_card["anger"] >= 3


@pytest.mark.parametrize(
    ("score", "threshold", "text"),
    [
        (0.377, 0.38, "37.7%"),
        (0.3799, 0.38, "under 38%"),
        (0.38, 0.38, "38%"),
        (0.384, 0.38, "38%"),
        (0.37, 0.38, "37%"),
        (0.377, None, "38%"),
        (None, 0.38, "not known"),
    ],
)
def test_a_score_under_its_rule_is_not_written_like_the_rule(
    score: float | None, threshold: float | None, text: str
) -> None:
    assert formatting.score_text(score, threshold) == text


@pytest.mark.parametrize(("value", "text"), [(7.96, "under +8.0 dB"), (8.0, "+8.0 dB"), (7.9, "+7.9 dB")])
def test_what_was_measured_under_a_rule_is_not_written_like_the_rule(value: float, text: str) -> None:
    louder = next(rule for rule in DEFAULT_RULES if rule.name == "louder")
    assert beside_rule(louder, value) == text
