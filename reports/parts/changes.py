"""Shares over time: means of seven days, and the day since when a share is clearly higher or lower. Pure.

The sample is calls, not segments or days: segments of one call are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from math import sqrt

ROLLING_DAYS = 7
Z_95 = 1.9599640
# How clear a change must be whose day is the best of many. With 1.96 a steady share of calls "changes" in 20
# to 40 % of simulated series, with 3.29 (99.9 %) in 1 to 3 %. A share of speech varies far less from call to
# call than its interval allows, which takes every call as wholly angry or not: with 1.96 none changes.
# tests/reports/test_report_trends.py simulates both.
Z_CALLS = 3.2905267
Z_SPEECH = Z_95
# On either side of a change: fewer days are a bad day, fewer calls an anecdote.
MIN_CHANGE_DAYS = 3
MIN_CHANGE_CALLS = 20


@dataclass(frozen=True, slots=True)
class DayTotals:
    """One day: `part` of `whole` (calls or seconds), in `n_calls` calls."""

    day: date
    part: float
    whole: float
    n_calls: int


@dataclass(frozen=True, slots=True)
class RollingShare:
    """The share of up to `ROLLING_DAYS` days that end on `day`, with its 95% interval."""

    day: date
    share: float
    low: float
    high: float
    n_calls: int


@dataclass(frozen=True, slots=True)
class Change:
    """A share since `day` against the days before."""

    day: date
    now: float
    before: float

    @property
    def up(self) -> bool:
        """Whether the share is higher since then."""
        return self.now > self.before


def wilson(share: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Interval of a share of `n` calls. Source: E. B. Wilson, JASA 22 (1927) 209-212."""
    middle = share + z**2 / (2 * n)
    half = z * sqrt((share * (1 - share) + z**2 / (4 * n)) / n)
    return max(0.0, (middle - half) / (1 + z**2 / n)), min(1.0, (middle + half) / (1 + z**2 / n))


def change_interval(
    now: float, n_now: float, before: float, n_before: float, z: float = Z_95
) -> tuple[float, float]:
    """Interval of `now - before`. Source: R. G. Newcombe, Statist. Med. 17 (1998) 873-890, method 10."""
    (low_now, high_now), (low_before, high_before) = wilson(now, n_now, z), wilson(before, n_before, z)
    change = now - before
    return (
        change - sqrt((now - low_now) ** 2 + (high_before - before) ** 2),
        change + sqrt((high_now - now) ** 2 + (before - low_before) ** 2),
    )


def rolling(days: Sequence[DayTotals]) -> list[RollingShare]:
    """The share of the last seven days, for each day with calls; at the beginning of as many as there are."""
    found = []
    for last, today in enumerate(days):
        week = [d for d in days[: last + 1] if (today.day - d.day).days < ROLLING_DAYS]
        whole, n_calls = sum(d.whole for d in week), sum(d.n_calls for d in week)
        if whole > 0:
            share = min(1.0, sum(d.part for d in week) / whole)
            found.append(RollingShare(today.day, share, *wilson(share, n_calls), n_calls))
    return found


def find_change(days: Sequence[DayTotals], z: float) -> Change | None:
    """The day since when the share differs most clearly from before, None where no day is clear enough.

    One change is looked for: every day with enough days and calls on either side is tried, and the one with
    the largest change against the width of its interval is taken.

    Args:
        z: `Z_CALLS` for a share of calls, `Z_SPEECH` for a share of speech.
    """
    parts, wholes, calls = (
        [0.0, *accumulate(getattr(d, name) for d in days)] for name in ("part", "whole", "n_calls")
    )
    best: tuple[float, Change] | None = None
    for first in range(MIN_CHANGE_DAYS, len(days) - MIN_CHANGE_DAYS + 1):
        n_before, n_now = calls[first], calls[-1] - calls[first]
        if min(n_before, n_now) < MIN_CHANGE_CALLS or wholes[first] <= 0 or wholes[-1] <= wholes[first]:
            continue
        before = min(1.0, parts[first] / wholes[first])
        now = min(1.0, (parts[-1] - parts[first]) / (wholes[-1] - wholes[first]))
        low, high = change_interval(now, n_now, before, n_before, z)
        if low <= 0 <= high:
            continue
        clearness = abs(now - before) / (high - low)
        if best is None or clearness > best[0]:
            best = clearness, Change(days[first].day, now, before)
    return best[1] if best else None
