"""Numbers and times as a person reads them. Pure; everything returns finished text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

MISSING = "–"


def clock(seconds: float) -> str:
    """A place in a recording: 0:42, 12:05, 1:02:03."""
    whole = max(0, int(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def length(seconds: float | None) -> str:
    """A duration: 38 s, 6 min 42 s, 2 h 5 min; days stay hours."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60:,} h"


def percent(share: float | None) -> str:
    """A share 0..1 as 42%, 3.1%, under 0.1%."""
    if share is None:
        return MISSING
    if 0 < share < 0.001:
        return "under 0.1%"
    if 0.999 < share < 1:
        return "over 99.9%"
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


def interval(low: float | None, high: float | None) -> str:
    """The 95% interval of a share."""
    return MISSING if low is None or high is None else f"{percent(low)} to {percent(high)}"


def count(n: int, one: str, many: str | None = None) -> str:
    """1 call, 3 calls, 1,204 calls."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def number(value: float | None, digits: int = 1) -> str:
    """A plain number with thousands separators."""
    return MISSING if value is None else f"{value:,.{digits}f}"


def joined(parts: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def plain(word: str) -> str:
    """A closed word of the database for people: `file_time` -> file time."""
    return word.replace("_", " ")


def day(at: datetime) -> str:
    """Fri 20 Nov 2026."""
    return f"{at:%a} {at.day} {at:%b %Y}"


def moment(at: datetime) -> str:
    """Fri 20 Nov 2026, 14:32."""
    return f"{day(at)}, {at:%H:%M}"


def window_words(since: datetime, until: datetime, now: datetime) -> str:
    """When a window was, as the end of a sentence. All three in the zone of the reader.

    `until` is exclusive. "yesterday", "on Fri 20 Nov 2026", "from ... to ...".
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    whole_days = _is_midnight(since) and _is_midnight(until)
    last = until - timedelta(microseconds=1)
    if since.date() == (midnight - timedelta(days=1)).date() and _is_midnight(since):
        if whole_days and until.date() == midnight.date():
            return "yesterday"
        if until >= now - timedelta(minutes=5):
            return "since yesterday"
    if whole_days and since.date() == last.date():
        return f"on {day(since)}"
    if whole_days:
        same_year = since.year == last.year
        return (
            f"from {since.day} {since:%B}{'' if same_year else f' {since.year}'} to {last.day} {last:%B %Y}"
        )
    if until >= now - timedelta(minutes=5):
        return f"since {day(since) if _is_midnight(since) else moment(since)}"
    return f"from {moment(since)} to {moment(until)}"


def _is_midnight(at: datetime) -> bool:
    return (at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0)
