"""Words for a stretch of time -> a half-open window in UTC. The clock is passed in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from callanalytics.errors import UsageError

_AGO = re.compile(r"(\d{1,6})\s*([mhdw])")
FIRST_DAY = "1970-01-01"
LAST_DAY = "9999-12-30"  # a day less than Python has: midnight of it is a time in every zone
_UNIT = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
KNOWN_WORDS = "yesterday, today, now, 36h, 7d, 2w, 2026-11-01, 2026-11-01T08:30, 2026-11-01T08:30+01:00"


@dataclass(frozen=True, slots=True)
class Window:
    """Calls that start in [since, until); both are UTC."""

    since: datetime
    until: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.since <= moment < self.until


def parse_window(since: str | None, until: str | None, *, zone: ZoneInfo, now: datetime) -> Window:
    """Read `--since` and `--until`.

    "yesterday" alone is that calendar day of `zone`, which may have 23 or 25 hours; any other start
    without an end reaches to now. Days count from local midnight ("7d" is 7 calendar days back to the
    same wall clock), hours are elapsed hours. Without any words: yesterday.

    Raises:
        UsageError: words that say no time, or a window that is empty.
    """
    if since is None and until is None:
        since = "yesterday"
    start = _moment(since, zone=zone, now=now) if since is not None else datetime(1970, 1, 1, tzinfo=UTC)
    if until is not None:
        end = _moment(until, zone=zone, now=now)
    elif since is not None and since.strip().lower() == "yesterday":
        end = day_start(now.astimezone(zone).date(), zone)
    else:
        end = now.astimezone(UTC)
    if start >= end:
        raise UsageError(
            f"--since {since} ({start:%Y-%m-%d %H:%M} UTC) is not before --until {until or 'now'} "
            f"({end:%Y-%m-%d %H:%M} UTC). Give an earlier start or a later end."
        )
    return Window(start, end)


def parse_stored_window(since: str | None, until: str | None, *, zone: ZoneInfo, now: datetime) -> Window:
    """Read `--since` and `--until` of a command about calls that are stored: without words, all of them.

    Also those after now: when they were stored the clock may have been ahead of what it says since.

    Raises:
        UsageError: words that say no time, or a window that is empty.
    """
    return parse_window(since or FIRST_DAY, until or LAST_DAY, zone=zone, now=now)


def parse_age(words: str, *, zone: ZoneInfo, now: datetime) -> datetime:
    """Read `--older-than`: an age in days or weeks ("365d", "52w"), or a day or a time that is over.

    What is older than this is deleted for good, so nothing is taken that may mean something else: "12m" is
    minutes in `--since`, and people write it for months.

    Raises:
        UsageError: any other words, or a moment that is not over.
    """
    if not (is_age(words) or re.fullmatch(r"\d{4}-.*", words.strip())):
        raise UsageError(
            f"{words!r} says no time to delete by. Give days or weeks (365d or 52w) or a date (2026-01-31)."
        )
    before = _moment(words, zone=zone, now=now)
    if before >= now:
        raise UsageError(
            f"{words!r} ({before:%Y-%m-%d %H:%M} UTC) is not over: every call is older. Give an earlier time."
        )
    return before


def is_age(words: str) -> bool:
    """Whether words for :func:`parse_age` are counted back from the clock, and are no date."""
    return re.fullmatch(r"\d{1,6}\s*[dw]", words.strip().lower()) is not None


def local_to_utc(moment: datetime, zone: ZoneInfo) -> datetime:
    """A wall-clock time of `zone` in UTC.

    Of a repeated hour (autumn) the first pass is meant; a time that the clock skips (spring) is read
    as if the clock had not been changed yet, which lands just after the gap.
    """
    return moment.replace(tzinfo=zone, fold=0).astimezone(UTC)


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a local day in UTC: midnight, or what follows where the clock skips midnight."""
    return local_to_utc(datetime.combine(day, time()), zone)


def _moment(words: str, *, zone: ZoneInfo, now: datetime) -> datetime:
    text = words.strip().lower()
    today = now.astimezone(zone).date()
    if text == "now":
        return now.astimezone(UTC)
    if text in {"today", "yesterday"}:
        return day_start(today - timedelta(days=text == "yesterday"), zone)
    try:
        if ago := _AGO.fullmatch(text):
            return _ago(int(ago[1]), ago[2], zone, now)
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return day_start(date.fromisoformat(text), zone)
        moment = datetime.fromisoformat(words.strip())
        return moment.astimezone(UTC) if moment.tzinfo else local_to_utc(moment, zone)
    except (ValueError, OverflowError) as problem:
        raise UsageError(f"{words!r} says no time ({problem}). Known are: {KNOWN_WORDS}.") from None


def _ago(count: int, unit: str, zone: ZoneInfo, now: datetime) -> datetime:
    step = timedelta(**{_UNIT[unit]: count})
    if unit in "mh":
        return (now - step).astimezone(UTC)
    return local_to_utc(now.astimezone(zone).replace(tzinfo=None) - step, zone)
