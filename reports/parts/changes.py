"""Shares over time: means of seven days, the day since when a share is clearly higher or lower, what moved.

The sample is calls, not segments or days: segments of one call are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from math import sqrt
from statistics import NormalDist

from reports.formatting import percent, whole_number
from reports.report_source import Period, Source, earlier_periods
from reports.translation import _

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


_MOVERS = """
WITH chosen AS (
    SELECT analysis_key, coalesce(queue, '') AS queue, flagged,
        started_at >= $since AND started_at < $until AS is_now
    FROM call_summary
    WHERE started_at >= $since AND started_at < $until
        OR started_at >= $before_since AND started_at < $before_until
),
spoken AS (
    SELECT queue, is_now, sum(seconds) FILTER (WHERE emotion IN ('anger', 'disgust')) / sum(seconds) AS angry,
        count(DISTINCT analysis_key) AS n
    FROM chosen JOIN base.call_emotions USING (analysis_key)
    WHERE role = 'caller' AND emotion IS NOT NULL AND seconds > 0 GROUP BY ALL
),
counted AS (
    SELECT queue, is_now, count(*) AS n, count(*) FILTER (WHERE flagged) AS n_flagged,
        any_value(angry) AS angry, coalesce(any_value(s.n), 0) AS n_spoken
    FROM chosen LEFT JOIN spoken s USING (queue, is_now) GROUP BY queue, is_now
)
SELECT n.queue, n.n AS n_now, b.n AS n_before, n.n_flagged AS flagged_now, b.n_flagged AS flagged_before,
    coalesce(n.angry, 0) AS angry_now, coalesce(b.angry, 0) AS angry_before, n.n_spoken AS n_spoken_now,
    b.n_spoken AS n_spoken_before
FROM counted n JOIN counted b ON b.queue = n.queue AND n.is_now AND NOT b.is_now
ORDER BY n.queue
"""


@dataclass(frozen=True, slots=True)
class Mover:
    """A queue now and in the period before. `n_...`: calls; shares are of callers' speech, 0..1.

    `flagged`, `angry`: intervals of the change of a share. `angry` is None where callers speak in one of the
    periods only. Flags vary from call to call as coins do, so theirs is of 95 % for all queues together.
    """

    queue: str  # empty for calls without one
    n_now: int
    n_before: int
    flagged_now: int
    flagged_before: int
    angry_now: float
    angry_before: float
    flagged: tuple[float, float]
    angry: tuple[float, float] | None

    @property
    def flags_moved(self) -> bool:
        """Whether the share of flagged calls is clearly another one."""
        return not self.flagged[0] <= 0 <= self.flagged[1]

    @property
    def speech_moved(self) -> bool:
        """Whether the angry share of callers' speech is clearly another one."""
        return self.angry is not None and not self.angry[0] <= 0 <= self.angry[1]

    @property
    def _size(self) -> tuple[bool, float, bool, float]:
        share = self.flagged_now / self.n_now - self.flagged_before / self.n_before
        speech = self.angry_now - self.angry_before
        return self.flags_moved, abs(share) * self.flags_moved, self.speech_moved, abs(speech)


def period_before(source: Source) -> Period | None:
    """What the window is compared with first; None where the calendar begins too late."""
    return next(iter(earlier_periods(source.since, source.until)), None)


def read_movers(source: Source) -> list[Mover]:
    """The queues of the window that also had calls in the period before; who moved most clearly is first."""
    before = period_before(source)
    if before is None:
        return []
    rows = source.in_window(_MOVERS, before_since=before.since, before_until=before.until)
    z_of_all = NormalDist().inv_cdf(1 - 0.025 / max(1, len(rows)))
    found = []
    for row in rows:
        n_spoken = row.pop("n_spoken_now"), row.pop("n_spoken_before")
        shares = row["flagged_now"] / row["n_now"], row["flagged_before"] / row["n_before"]
        flagged = change_interval(shares[0], row["n_now"], shares[1], row["n_before"], z_of_all)
        spoken = row["angry_now"], n_spoken[0], row["angry_before"], n_spoken[1]
        found.append(Mover(**row, flagged=flagged, angry=change_interval(*spoken) if all(n_spoken) else None))
    return sorted(found, key=lambda mover: mover._size, reverse=True)


def moved_text(source: Source, movers: Sequence[Mover]) -> str:
    """What moved most and where, in a sentence; empty where there is nothing to compare with."""
    before = period_before(source)
    if before is None or not movers:
        return ""
    first = movers[0]
    named = {"queue": first.queue[:1].upper() + first.queue[1:], "period": before.name}
    if first.flags_moved:
        numbers = {
            "now": whole_number(first.flagged_now),
            "n_now": whole_number(first.n_now),
            "before": whole_number(first.flagged_before) if first.flagged_before else _("none"),
            "n_before": whole_number(first.n_before),
        }
        if first.queue:
            text = _(
                "{queue} moved most: {now} of its {n_now} calls were flagged, {before} of {n_before} "
                "{period}."
            )
        else:
            text = _(
                "Calls without a queue moved most: {now} of {n_now} were flagged, {before} of {n_before} "
                "{period}."
            )
        return text.format(**named, **numbers)
    if not first.speech_moved:
        return _("No queue clearly moved against {period}.").format(**named)
    if first.queue:
        text = _("{queue} moved most: {now} of its callers' speech sounded angry, {before} {period}.")
    else:
        text = _(
            "Calls without a queue moved most: {now} of the callers' speech sounded angry, {before} {period}."
        )
    return text.format(**named, now=percent(first.angry_now), before=percent(first.angry_before))
