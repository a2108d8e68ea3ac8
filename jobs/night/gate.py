"""The gate between a night's work and what people see: does this night look like a night?

A recorder that stopped, a folder that was not mounted, a format that changed: such a night is analysed
and committed, but not published, so that nobody reads an empty Monday as a quiet one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median
from zoneinfo import ZoneInfo

from callanalytics.config import GateSettings
from callanalytics.config.window import Window, day_start
from callanalytics.store import RunCounts, Store

HISTORY_WEEKS = 8
# Fewer days of the same weekday say nothing about what is usual.
MIN_SAME_WEEKDAYS = 3
# A longer window is no night: somebody looks back, and knows it.
MAX_DAYS = 31

CALLS_PER_DAY = """
SELECT day, count(*) FROM (
    SELECT started_local::DATE AS day FROM base.calls
    UNION ALL
    SELECT started_local::DATE FROM base.quarantine
    WHERE recording_id NOT IN (SELECT recording_id FROM base.calls)
) WHERE day >= ? AND day < ? GROUP BY day
"""


@dataclass(frozen=True, slots=True)
class Night:
    """What the gate assesses."""

    counts: RunCounts
    days: tuple[date, ...]  # whole local days of the window
    per_day: Mapping[date, int]  # recordings known by local day, the window's days and the weeks before


def night_of(store: Store, window: Window, zone: ZoneInfo, counts: RunCounts) -> Night:
    """Gather what the gate needs to know from the working database."""
    days = whole_days(window, zone)
    per_day: dict[date, int] = {}
    if days:
        first = days[0] - timedelta(weeks=HISTORY_WEEKS)
        last = days[-1] + timedelta(days=1)
        rows = store.connection.execute(CALLS_PER_DAY, [first, last]).fetchall()
        per_day = {day: int(n) for day, n in rows}
    return Night(counts, days, per_day)


def whole_days(window: Window, zone: ZoneInfo) -> tuple[date, ...]:
    """Local days that lie whole in the window; none when there are too many."""
    first = window.since.astimezone(zone).date()
    if window.since > day_start(first, zone):
        first += timedelta(days=1)
    n_days = (window.until.astimezone(zone).date() - first).days
    return tuple(first + timedelta(days=i) for i in range(n_days)) if 0 < n_days <= MAX_DAYS else ()


def reasons_to_hold(settings: GateSettings, night: Night) -> list[str]:
    """Why this night should not be published, in words; nothing when it may be."""
    return [*_volume(settings, night), *_failures(settings, night), *_budget(settings, night)]


def _volume(settings: GateSettings, night: Night) -> list[str]:
    """All days of the window together, and the newest by itself, which good days before it would hide.

    Not every day by itself: a holiday would hold back every night whose window still reaches it.
    """
    for days in (night.days, night.days[-1:]):
        usual = expected(night, days)
        found = sum(night.per_day.get(day, 0) for day in days)
        if usual is None or usual < settings.min_calls or found >= settings.min_volume_share * usual:
            continue
        span = days[0].strftime("%A %Y-%m-%d")
        if len(days) > 1:
            span += f" to {days[-1].strftime('%A %Y-%m-%d')}"
        return [
            f"{found} recordings of {span} where about {usual:.0f} are usual: less than "
            f"{settings.min_volume_share:.0%}. Is a recorder down, or a folder not mounted?"
        ]
    return []


def expected(night: Night, days: Sequence[date]) -> float | None:
    """Usual recordings of days of the window: medians of the weeks before; None when too little is known.

    Days without any recording count as zero from the first day that had one. The median, because a
    single holiday or outage among eight weeks must not move it.
    """
    before = [day for day in night.per_day if day not in night.days]
    if not days or not before:
        return None
    first, total = min(before), 0.0
    for day in days:
        weeks = [day - timedelta(weeks=w) for w in range(1, HISTORY_WEEKS + 1)]
        known = [night.per_day.get(w, 0) for w in weeks if w >= first and w not in night.days]
        if len(known) < MIN_SAME_WEEKDAYS:
            return None
        total += median(known)
    return total


def _failures(settings: GateSettings, night: Night) -> list[str]:
    n_failed = night.counts.n_quarantined
    tried = night.counts.n_done + n_failed
    if tried < settings.min_calls or n_failed <= settings.max_failed_share * tried:
        return []
    return [
        f"{n_failed} of {tried} recordings could not be analysed, more than "
        f"{settings.max_failed_share:.0%}. The quarantine says why."
    ]


def _budget(settings: GateSettings, night: Night) -> list[str]:
    wanted, n_left = night.counts.n_new, night.counts.n_left
    done_share = 1 - n_left / wanted if wanted else 1.0
    if not n_left or done_share >= settings.min_done_share:
        return []
    return [
        f"the time budget was used with {done_share:.0%} of {wanted} recordings done, less than "
        f"{settings.min_done_share:.0%}. Run again to go on, or raise [engine] time_budget_s"
    ]
