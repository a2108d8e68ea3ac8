"""Numbers and times as a person reads them. Everything returns finished text.

Words follow `[report] language`; how numbers and dates are written follows `[report] locale` by Babel's copy
of the Unicode CLDR. A page has a hundred thousand numbers, so the signs are looked up once per locale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from reports.translation import ENGLISH, _, in_language, plural

if TYPE_CHECKING:
    from babel import Locale
    from babel.dates import DateTimePattern

MISSING = "–"
DEFAULT_LOCALE = "en_GB"
_locale: ContextVar[str] = ContextVar("locale", default=DEFAULT_LOCALE)


@contextmanager
def localised(locale: str, language: str = ENGLISH) -> Iterator[None]:
    """Write numbers and dates in this block as `locale` ("de_DE", "en_US") does, and words in `language`."""
    before = _locale.set(locale)
    try:
        with in_language(language):
            yield
    finally:
        _locale.reset(before)


@dataclass(frozen=True, slots=True)
class Signs:
    """How a locale writes numbers. The digits are always 0 to 9, also where others are usual."""

    decimal: str
    thousands: str
    before_percent: str
    after_percent: str


def signs() -> Signs:
    """The signs of the locale in force."""
    return _signs(_locale.get())


@cache
def _signs(locale: str) -> Signs:
    found = _babel(locale)
    symbols = found.number_symbols.get("latn") or _babel(DEFAULT_LOCALE).number_symbols["latn"]
    percent = found.percent_formats[None]
    return Signs(symbols["decimal"], symbols["group"], percent.prefix[0], percent.suffix[0])


@cache
def _babel(locale: str) -> Locale:
    from babel import Locale

    return Locale.parse(locale)


@cache
def _pattern(locale: str, skeleton: str) -> DateTimePattern:
    """The locale's way to write the fields of a CLDR skeleton."""
    from babel.dates import match_skeleton

    known = _babel(locale).datetime_skeletons
    found: DateTimePattern = known[match_skeleton(skeleton, known, allow_different_fields=True)]
    return found


def _written(at: date, skeleton: str) -> str:
    locale = _locale.get()
    return _pattern(locale, skeleton).apply(at, _babel(locale))


def _numeral(value: float, form: str) -> str:
    """`form` is a format of Python; its point and commas become the locale's signs."""
    here = signs()
    text = f"{value:{form}}"
    if here.decimal == "." and here.thousands == ",":
        return text
    return text.translate({ord("."): here.decimal, ord(","): here.thousands})


def clock(seconds: float) -> str:
    """A place in a recording: 0:42, 12:05, 1:02:03."""
    whole = max(0, int(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def length(seconds: float | None) -> str:
    """A duration: 38 s, 6 min 42 s, 2 h 5 min; days stay hours. From a minute on, cut off as by `clock`."""
    if seconds is None:
        return MISSING
    whole = round(seconds) if seconds < 59.5 else max(60, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    hours = whole_number(minutes // 60)
    return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"


def percent(share: float | None) -> str:
    """A share 0..1 as 42%, 3.1%, under 0.1%."""
    if share is None:
        return MISSING
    if 0 < share < 0.001:
        return _("under {share}").format(share=_percent(0.001, 1))
    if 0.999 < share < 1:
        return _("over {share}").format(share=_percent(0.999, 1))
    return _percent(share, 1 if 0 < share < 0.0995 else 0)


def score_text(score: float | None, threshold: float | None = None) -> str:
    """The score of a call; not known where no voice that may be the caller's was assessed.

    One under the `threshold` of its rule is never written as the same percentage: 37.7% beside 38%.
    """
    if score is None:
        return _("not known")
    if threshold is None or score >= threshold or percent(score) != percent(threshold):
        return percent(score)
    closer = _percent(score, 1)
    same = closer == _percent(threshold, 1)
    return _("under {share}").format(share=percent(threshold)) if same else closer


def _percent(share: float, digits: int) -> str:
    here = signs()
    return f"{here.before_percent}{_numeral(100 * share, f'.{digits}f')}{here.after_percent}"


def interval(low: float | None, high: float | None) -> str:
    """The 95% interval of a share."""
    return MISSING if low is None or high is None else from_to(percent(low), percent(high))


def from_to(first: str, last: str) -> str:
    """From one value to another: 3% to 9%, 25 Mar to 31 Mar."""
    return _("{first} to {last}").format(first=first, last=last)


def counted(one: str, many: str, n: int, **values: str) -> str:
    """`one` or `many`, with `n` written out for its {n}: 1 call, 3 calls, 1,204 calls."""
    return plural(one, many, n).format(n=whole_number(n), **values)


def calls_text(n: int) -> str:
    """1 call, 1,204 calls."""
    return counted("{n} call", "{n} calls", n)


def whole_number(n: int) -> str:
    """1,204"""
    return _numeral(n, ",d")


def number(value: float | None, digits: int = 1) -> str:
    """A plain number with thousands separators."""
    return MISSING if value is None else _numeral(value, f",.{digits}f")


def plain_number(value: float) -> str:
    """As short as it goes: 0.25, 1, 8."""
    return _numeral(value, "g")


def signed(value: float, digits: int = 1) -> str:
    """A change: +1.9, -0.2."""
    return _numeral(value, f"+,.{digits}f")


def joined(parts: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    if len(parts) < 2:
        return "".join(parts)
    return _("{list} and {last}").format(list=", ".join(parts[:-1]), last=parts[-1])


def plain(name: str) -> str:
    """An identifier of the database for people: `file_time` -> file time."""
    return name.replace("_", " ")


def day(at: date) -> str:
    """Fri, 20 Nov 2026."""
    return _written(at, "yMMMEd")


def date_text(at: date) -> str:
    """20 Nov 2026."""
    return _written(at, "yMMMd")


def short_day(at: date) -> str:
    """20 Nov."""
    return _written(at, "MMMd")


def weekdays() -> tuple[str, ...]:
    """Mon to Sun."""
    names = _babel(_locale.get()).days["format"]["abbreviated"]
    return tuple(names[i] for i in range(7))


def weekday(at: date) -> str:
    """Friday."""
    return str(_babel(_locale.get()).days["format"]["wide"][at.weekday()])


def moment(at: datetime) -> str:
    """Fri, 20 Nov 2026, 14:32."""
    locale = _locale.get()
    return f"{day(at)}, {_babel(locale).time_formats['short'].apply(at.time(), _babel(locale))}"


def window_text(since: datetime, until: datetime, now: datetime) -> str:
    """When a window was, as the end of a sentence. All three in the zone of the reader.

    `until` is exclusive. "yesterday", "on Fri, 20 Nov 2026", "from ... to ...".
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    whole_days = _is_midnight(since) and _is_midnight(until)
    last = until - timedelta(microseconds=1)
    if since.date() == (midnight - timedelta(days=1)).date() and _is_midnight(since):
        if whole_days and until.date() == midnight.date():
            return _("yesterday")
        if until >= now - timedelta(minutes=5):
            return _("since yesterday")
    if whole_days and since.date() == last.date():
        return _("on {day}").format(day=day(since))
    if whole_days:
        first = _written(since, "MMMMd") if since.year == last.year else _long_day(since)
        return _("from {first} to {last}").format(first=first, last=_long_day(last))
    if until >= now - timedelta(minutes=5):
        return _("since {day}").format(day=day(since) if _is_midnight(since) else moment(since))
    return _("from {first} to {last}").format(first=moment(since), last=moment(until))


def _long_day(at: date) -> str:
    """20 November 2026."""
    locale = _locale.get()
    return str(_babel(locale).date_formats["long"].apply(at, _babel(locale)))


def _is_midnight(at: datetime) -> bool:
    return (at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0)
