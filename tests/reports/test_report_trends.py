"""Means of seven days, and the day since when a share is clearly higher or lower."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pytest
from report_sites import Site, settings

from callanalytics.config.window import Window
from reports.pages.trends import read_trends
from reports.parts import charts
from reports.parts.changes import (
    Z_CALLS,
    Z_SPEECH,
    DayTotals,
    change_interval,
    find_change,
    rolling,
    wilson,
)
from reports.parts.charts import Point
from reports.report_source import open_source

FIRST = date(2025, 3, 1)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def series(
    rng: np.random.Generator, chances: list[float], *, speech: bool, per_day: int = 12
) -> list[DayTotals]:
    """Days of calls, each a case by chance; `speech`: a case is angry in about half of its speech."""
    found = []
    for number, chance in enumerate(chances):
        case = rng.random(per_day) < chance
        if speech:
            all_s = rng.uniform(30, 60, per_day)
            angry_s = all_s * np.where(case, rng.beta(4, 5, per_day), rng.beta(1.5, 10, per_day))
            found.append(DayTotals(day(number), float(angry_s.sum()), float(all_s.sum()), per_day))
        else:
            found.append(DayTotals(day(number), float(case.sum()), per_day, per_day))
    return found


def test_a_mean_of_seven_days_is_of_seven_days() -> None:
    days = [DayTotals(day(i), float(i), 10.0, 10) for i in (*range(8), 20)]
    found = rolling(days)
    assert [(r.day, r.n_calls) for r in found[-3:]] == [(day(6), 70), (day(7), 70), (day(20), 10)]
    assert found[-2].share == pytest.approx(sum(range(1, 8)) / 70)
    assert found[-2].low < found[-2].share < found[-2].high


def test_intervals_are_those_of_the_database() -> None:
    views = files("callanalytics.store").joinpath("views.sql").read_text(encoding="utf-8")
    connection = duckdb.connect()
    connection.execute(views[: views.index("-- Zeros all along")])
    found = connection.execute(
        "SELECT wilson_low(0.2, 50), wilson_high(0.2, 50), change_low(0.2, 50, 0.1, 40),"
        " change_high(0.2, 50, 0.1, 40)"
    ).fetchone()
    assert found == pytest.approx((*wilson(0.2, 50), *change_interval(0.2, 50, 0.1, 40)))


@pytest.mark.parametrize(("speech", "z"), [(False, Z_CALLS), (True, Z_SPEECH)])
def test_steady_shares_do_not_change(speech: bool, z: float) -> None:
    rng = np.random.default_rng(3)
    found = [find_change(series(rng, [0.15] * 28, speech=speech), z) for _ in range(200)]
    assert sum(change is not None for change in found) <= 8, "4 %"


@pytest.mark.parametrize(("speech", "z"), [(False, Z_CALLS), (True, Z_SPEECH)])
def test_a_change_is_found_on_its_day(speech: bool, z: float) -> None:
    rng = np.random.default_rng(4)
    up = [find_change(series(rng, [0.1] * 21 + [0.75] * 7, speech=speech), z) for _ in range(100)]
    near = [c for c in up if c is not None and c.up and abs((c.day - day(21)).days) <= 1]
    assert len(near) > 85
    down = find_change(series(rng, [0.75] * 21 + [0.1] * 14, speech=speech), z)
    assert down is not None
    assert not down.up


def test_few_days_and_few_calls_are_no_change() -> None:
    rng = np.random.default_rng(5)
    assert find_change(series(rng, [0.0] * 2 + [1.0] * 2, speech=False), Z_CALLS) is None
    assert find_change(series(rng, [0.0] * 10 + [1.0] * 10, speech=False, per_day=1), Z_CALLS) is None
    assert find_change([], Z_CALLS) is None


def test_days_of_two_years_are_two_days(anew: Site, tmp_path: Path) -> None:
    """One of them was drawn in the place of the other, and the axis named no year."""
    database = tmp_path / "callanalytics.duckdb"
    shutil.copyfile(anew.database, database)
    with duckdb.connect(database) as connection:
        days = connection.execute("SELECT DISTINCT day FROM call_summary ORDER BY day DESC").fetchall()
        moved = [f"{c} = {c} - INTERVAL 365 DAY" for c in ("started_at", "started_local")]
        connection.execute(f"UPDATE base.calls SET {', '.join(moved)} WHERE started_local < ?", [days[3][0]])
        before = connection.execute("SELECT DISTINCT day FROM call_summary ORDER BY day").fetchall()
        assert (before[-1][0] - before[0][0]).days > 365
    until = datetime.combine(before[-1][0] + timedelta(days=1), datetime.min.time(), UTC)
    window = Window(until - timedelta(days=1), until)
    with open_source(database, settings(), window, until, clips_dir=None, clips_href="") as source:
        trends = read_trends(source)
    assert f"{before[0][0]:%-d %b %Y} to {before[-1][0]:%-d %b %Y}" in trends.text
    (flagged,) = [chart for chart in trends.charts if chart.text.endswith("Dots are single days.")]
    *dots, newest = [float(x) for x in re.findall(r'<circle cx="([0-9.]+)"', flagged.svg)]
    assert len(dots) == len(before)
    assert dots == sorted(dots)
    assert newest == dots[-1]
    gaps = np.diff(dots) / np.array([(b[0] - a[0]).days for a, b in pairwise(before)])
    assert gaps == pytest.approx(gaps.mean(), rel=0.05), "as far apart as the days are"


@pytest.mark.parametrize("panels", [False, True])
def test_the_last_date_under_an_axis_is_not_cut(panels: bool) -> None:
    days = [f"{day(i):%-d %b %Y}" for i in range(400)]
    line = [Point(name, 0.1, 0.0, 0.2, 9) for name in days]
    svg = charts.rolling_lines(line, days, ceiling=1.0, panels=panels)
    (width,) = re.findall(r'viewBox="0 0 (\d+) ', svg)
    moved = sum(float(x) for x in re.findall(r"translate\(([0-9.]+),", svg))
    (middle,) = re.findall(rf'<text x="([0-9.]+)"[^>]*>{days[-1]}<', svg)
    half = 0.5 * len(days[-1]) * 0.55 * 11  # of the 11 px that a label is high
    assert moved + float(middle) + half <= float(width)


@pytest.mark.parametrize("panels", [False, True])
def test_a_line_of_seven_days_breaks_where_its_means_share_no_day(panels: bool) -> None:
    days = [f"{day(i):%-d %b %Y}" for i in range(100)]
    known = [0, 1, 8, 9, 17, 80, 81]  # 2 to 7 are six days; 10 to 16 are seven
    svg = charts.rolling_lines(
        [Point(days[i], 0.1, 0.0, 0.2, 9) for i in known], days, ceiling=1.0, panels=panels
    )
    lines = re.findall(r'<path d="([^"Z]+)" fill="none" stroke="var\(--accent\)"', svg)
    assert [line.count("L") + 1 for line in lines] == [4, 2, 2], "17 by itself is a dot: there and back"
    assert len(set(lines[1][1:].split("L"))) == 1
