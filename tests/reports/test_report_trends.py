"""Means of seven days, and the day since when a share is clearly higher or lower."""

from __future__ import annotations

from datetime import date, timedelta
from importlib.resources import files

import duckdb
import numpy as np
import pytest

from reports.parts.changes import (
    Z_CALLS,
    Z_SPEECH,
    DayTotals,
    change_interval,
    find_change,
    rolling,
    wilson,
)

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
