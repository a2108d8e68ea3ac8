"""Cron expressions as cron(5) reads them: five fields, checked, spelt out, and the times that they name.

APScheduler's own reading differs in ways that have skipped people's nights: it counts weekdays from Monday
(its issue 286), it wants day of month *and* weekday where cron(5) takes either, and after a change of the
clock it steps over midnight, and so over a day, a week or a month.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from callanalytics.config.window import local_to_utc

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days of each month, in a leap year
# field -> lowest value, highest value, words for the lowest and what follows
FIELDS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "minute": (0, 59, ()),
    "hour": (0, 23, ()),
    "day": (1, 31, ()),
    "month": (1, 12, MONTHS),
    "weekday": (0, 7, WEEKDAYS),  # 0 and 7 are Sunday
}


@dataclass(frozen=True, slots=True)
class Cron:
    """A checked expression; every field lists its values, weekdays as 0 (Sunday) to 6."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @property
    def every_hour(self) -> bool:
        """Whether it runs around the clock, and so also in both passes of a repeated hour."""
        return len(self.hours) == 24

    def after(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The first time after a moment, in UTC. The calendar of `zone` is walked day by day.

        Each time on the calendar comes once, read as RFC 5545, 3.3.5 has it. One that the clock shows twice
        in autumn comes the first time. One that it skips in spring comes as if it had not been changed yet:
        02:30 at 03:30. A cron of every hour (`every_hour`) also runs in the second pass.

        Raises:
            OverflowError: the calendar ends, in the year 9999.
        """
        today = moment.astimezone(zone).date()
        n = -1  # yesterday's skipped times, and its second pass, may still be to come
        while (due_at := self._first_on(today + timedelta(n), zone, moment)) is None:
            n += 1
        # Skipped times of a day may come after the first ones of the next.
        return min(due_at, self._first_on(today + timedelta(n + 1), zone, moment) or due_at)

    def _first_on(self, day: date, zone: ZoneInfo, moment: datetime) -> datetime | None:
        if not (day.day in self.days and day.month in self.months and day.isoweekday() % 7 in self.weekdays):
            return None
        times = _times_on(self, day, zone)
        place = bisect_right(times, moment)
        return times[place] if place < len(times) else None

    def on_calendar(self, zone: str) -> str:
        """The same times for systemd's `OnCalendar=`."""
        names = [WEEKDAYS[d].capitalize() for d in self.weekdays]
        days = f"{','.join(names)} " if len(names) < 7 else ""
        month, day = _listed(self.months, 12), _listed(self.days, 31)
        return f"{days}*-{month}-{day} {_listed(self.hours, 24)}:{_listed(self.minutes, 60)}:00 {zone}"


@lru_cache(maxsize=64)  # of a job that runs every minute, the times of a day are asked for 1440 times
def _times_on(cron: Cron, day: date, zone: ZoneInfo) -> list[datetime]:
    """When the times that a cron names on one day of the calendar come, in UTC and in order."""
    found = set()
    for hour, minute in itertools.product(cron.hours, cron.minutes):
        shown = datetime.combine(day, time(hour, minute))
        found.add(first := local_to_utc(shown, zone))
        second = shown.replace(tzinfo=zone, fold=1).astimezone(UTC)
        if cron.every_hour and second > first:  # it is before the first where the clock skips this time
            found.add(second)
    return sorted(found)


def _listed(values: tuple[int, ...], n_possible: int) -> str:
    return "*" if len(values) == n_possible else ",".join(f"{value:02d}" for value in values)


def parse_cron(text: str) -> Cron:
    """Check an expression such as "30 2 * * mon-fri" and spell it out.

    Raises:
        ValueError: not five fields, a value out of range, both a day of month and a weekday, or a day that
            never comes (31 April).
    """
    parts = text.split()
    if len(parts) != len(FIELDS):
        raise ValueError(
            f'{text!r} has {len(parts)} fields, cron has five: minute hour day month weekday, as "0 2 * * *"'
        )
    values = {name: _values(name, word) for name, word in zip(FIELDS, parts, strict=True)}
    weekdays = tuple(sorted({day % 7 for day in values["weekday"]}))
    if len(values["day"]) < 31 and len(weekdays) < 7:
        raise ValueError(
            f"{text!r} limits both the day of the month and the weekday; cron programs disagree on what "
            "that means: leave one of them *"
        )
    if min(values["day"]) > max(_LONGEST[month - 1] for month in values["month"]):
        raise ValueError(f"{text!r} never comes: no month that it names has a day {min(values['day'])}")
    return Cron(text, values["minute"], values["hour"], values["day"], values["month"], weekdays)


def _values(field: str, word: str) -> tuple[int, ...]:
    """Every value that one field names."""
    lowest, highest, names = FIELDS[field]
    found: set[int] = set()
    for part in word.lower().split(","):
        span, _, step_word = part.partition("/")
        step = _number(field, step_word, 1, highest, ()) if "/" in part else 1
        first_word, dash, last_word = span.partition("-")
        if span == "*":
            first, last = lowest, highest
        else:
            first = _number(field, first_word, lowest, highest, names)
            last = _number(field, last_word, lowest, highest, names) if dash else first
            if "/" in part and not dash:
                last = highest
        if last < first:
            raise ValueError(f"{field} {span!r} runs backwards; list its values with commas")
        found |= set(range(first, last + 1, step))
    return tuple(sorted(found))


def _number(field: str, word: str, lowest: int, highest: int, names: tuple[str, ...]) -> int:
    if word in names:
        return names.index(word) + lowest
    if not (word.isascii() and word.isdigit() and len(word) < 10 and lowest <= int(word) <= highest):
        raise ValueError(f"{field} {word!r} is not a value from {lowest} to {highest}")
    return int(word)
