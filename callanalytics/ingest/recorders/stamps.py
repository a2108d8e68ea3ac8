"""Dates and times as file names write them, with the zone and the half of the day that stand beside them.

Sources: ISO 8601 basic and extended forms with `-`, `_` or `.` for the colon that file systems refuse; names
of zones as in RFC 2822, section 4.3, and of Central Europe, Japan, Moscow and Sydney.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import PurePath
from zoneinfo import ZoneInfo

from callanalytics.config.window import local_to_utc
from callanalytics.records.text import TimeDoubt

UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
# Digits of an id are no date: a UUID, or hexadecimal digits with a letter among them.
_ID = re.compile(rf"{UUID}|(?<![0-9A-Za-z])(?=\d*[a-fA-F])[0-9a-fA-F]{{16,}}(?![0-9A-Za-z])")

# Minutes east of Greenwich. The zone of the setting counts first where it calls itself so (CST, IST, BST).
_ZONES = {
    "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
    "CET": 60, "MEZ": 60, "CEST": 120, "MESZ": 120, "EET": 120, "EEST": 180, "MSK": 180, "JST": 540,
    "AEST": 600, "AEDT": 660,
}  # fmt: skip
_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
_MONTH = rf"(?P<name>{'|'.join(_MONTHS)})[a-z]*"

# Ways to write a day that are made ISO before stamps are looked for.
_YEAR_FIRST = re.compile(r"(?<![\d+])(20\d\d)([_.])(\d\d)\2(\d\d)(?!\d)")
_DAY_FIRST = re.compile(r"(?<![\d+])(\d{1,2})([-_.])(\d{1,2})\2(20\d\d)(?=[-_. T]{1,3}\d)")
_NAMED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<!\d)(?P<day>\d{{1,2}})[-_. ]?{_MONTH}[-_. ]{{0,2}}(?P<year>20\d\d)(?=[-_. T]{{1,3}}\d)",
        rf"(?<!\d)(?P<year>20\d\d)[-_. ]?{_MONTH}[-_. ]?(?P<day>\d{{1,2}})(?=[-_. T]{{1,3}}\d)",
        rf"(?<![a-z]){_MONTH}[-_. ]?(?P<day>\d{{1,2}})[-_, ]{{1,2}}(?P<year>20\d\d)(?=[-_. T]{{1,3}}\d)",
    )
)
_STAMP = re.compile(
    r"""(?:(?P<utc>GMT|UTC)[-_ ]?|(?<![\d+]))
    (?P<date>20\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01]))
    (?:[-_ ](?P<who>[1-9]\d{2,4})[-_ ](?=[0-2]\d(?:[0-5]\d[0-5]\d|(?P<gap>[-:.])[0-5]\d(?P=gap)[0-5]\d)(?!\d))
      |(?P<between>T|_at_|\ at\ |[-_.\ ]{0,3}))
    (?:(?P<hour>[01]\d|2[0-3])|(?<=[-_.\ ])(?P<short>\d)(?=[-:.]\d\d(?:[-:.]\d\d)?[-_.\s]?[AaPp]\.?\s?[Mm])
      |(?<=[_\ ])(?P<single>\d)(?=(?P<mark>[-:.])\d\d(?P=mark)\d\d(?!\d)))
    [-_:.h]?(?P<minute>[0-5]\d)
    (?:[-_:.m]?(?P<second>[0-5]\d)
      (?:[.,](?P<fraction>\d{3}|\d{6}|\d{1,9}(?=Z|[+-]\d\d))(?!\d)
        |(?:[-_](?=\d{3}Z)|(?<=\d{14}))(?P<ms>\d{3})(?!\d))?)?
    (?!\d)
    (?:[-_.\s]?(?P<half>[AaPp])\.?\s?[Mm](?![A-Za-z0-9])\.?)?
    (?:(?P<z>Z)(?![A-Za-z0-9])
      |[-_\ (]{0,2}(?P<world>UTC|GMT)(?P<east>[+-]\d{1,2}(?:[:_.]?\d\d)?(?!\d))?(?![A-Za-z0-9])
      |[_\ ]?(?P<offset>[+-]\d\d[:_-]?\d\d(?!\d)|\+\d\d(?!\d))
      |[-_\ (]{0,2}(?P<named>ZONES)(?![A-Za-z0-9])
    )?""".replace("ZONES", "|".join((*_ZONES, "IST", "BST"))),
    re.VERBOSE,
)
# A day without a time that is read, and seconds or milliseconds since 1970.
_DAY = re.compile(
    r"(?<!\d)(?:(?P<year>20\d\d)(?P<gap>[-_./]?)(?P<month>\d\d)(?P=gap)(?P<day>\d\d)"
    r"|(?P<first>\d\d)(?P<mark>[-_.]?)(?P<second>\d\d)(?P=mark)(?P<last>20\d\d)"
    r"|(?P<epoch>1[3-9]\d{8})(?:\d{3})?)(?!\d)"
)
_CLOCK = re.compile(r"(?:[01]\d|2[0-3])[0-5]\d")


@dataclass(frozen=True, slots=True)
class Stamp:
    """One date with a time; `who` stood between the two, `doubt` says what may be read in two ways."""

    at: datetime  # UTC
    who: str | None = None
    doubt: str | None = None


def stamps_in(name: str, zone: ZoneInfo) -> tuple[list[Stamp], str, str | None]:
    """The stamps of a name in their order, the name without them and without ids, and a doubt.

    A bare stamp is local time of `zone`. A day that may be day or month first is none, and the doubt says so.
    """
    text = _with_iso_days(_ID.sub("|", name))
    found: list[Stamp] = []
    rest, end = "", 0
    for match in _STAMP.finditer(text):
        if (stamp := _read(match, zone)) is not None:
            found.append(stamp)
            rest, end = f"{rest}{text[end : match.start()]}|", match.end()
    doubt = next((stamp.doubt for stamp in found if stamp.doubt), None)
    if not found and (unclear := _DAY_FIRST.search(text)):
        doubt = TimeDoubt.DAY_OR_MONTH.format(day=unclear[0])
    elif len(found) > 1 and found[1].at < found[0].at:
        doubt = doubt or TimeDoubt.STAMPS_TURNED
    return found, rest + text[end:], doubt


def days_in(path: PurePath, stem: str, zone: ZoneInfo) -> list[date]:
    """The days that a name and its nearest folders may state without a time that is read, all readings."""
    days: list[date] = []
    for found in _DAY.finditer(_ID.sub("|", "/".join((*path.parent.parts[-3:], stem)))):
        if found["epoch"]:
            days.append(datetime.fromtimestamp(int(found["epoch"]), zone).date())
            continue
        readings = [(found["year"], found["month"], found["day"])]
        if found["last"]:  # Americans write the month first
            first, second = found["first"], found["second"]
            readings = [(found["last"], second, first), (found["last"], first, second)]
        for parts in readings:
            with suppress(ValueError):
                days.append(date(*map(int, parts)))
    return days


def iso_stamp(text: str) -> str:
    """Digits of a stamp (YYYYMMDDHHMM or ...SS, any separators) as ISO text."""
    d = re.sub(r"\D", "", text)
    seconds = f":{d[12:14]}" if len(d) >= 14 else ""
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[8:10]}:{d[10:12]}{seconds}"


def _with_iso_days(text: str) -> str:
    text = _YEAR_FIRST.sub(r"\1-\3-\4", text)
    text = _DAY_FIRST.sub(_day_first, text)
    for pattern in _NAMED:
        text = pattern.sub(
            lambda m: f"{m['year']}-{_MONTHS[m['name'].lower()]:02d}-{int(m['day']):02d}", text
        )
    return text


def _day_first(match: re.Match[str]) -> str:
    """DD.MM.YYYY; with other separators Americans write the month first, so one part must be above 12."""
    day, month = int(match[1]), int(match[3])
    if day <= 12 < month:
        day, month = month, day
    elif month > 12 or (match[2] != "." and day <= 12 and day != month):
        return match[0]
    return f"{match[4]}-{month:02d}-{day:02d}"


def _read(match: re.Match[str], zone: ZoneInfo) -> Stamp | None:
    hour = int(match["hour"] or match["short"] or match["single"])
    if match["half"] and hour <= 12:  # also 0:05 PM, as Japan writes it
        hour = hour % 12 + (12 if match["half"] in "Pp" else 0)
    micros = int((match["fraction"] or match["ms"] or "0")[:6].ljust(6, "0"))
    day = match["date"].replace("-", "")
    try:
        local = datetime(
            int(day[:4]),
            int(day[4:6]),
            int(day[6:]),
            hour,
            int(match["minute"]),
            int(match["second"] or 0),
            micros,
        )
    except ValueError:
        return None
    minutes, doubt = _offset(match, local, zone)
    if minutes is None:
        at = local_to_utc(local, zone)
    else:
        at = local.replace(tzinfo=timezone(timedelta(minutes=minutes))).astimezone(UTC)
    if _CLOCK.fullmatch(match["who"] or ""):
        doubt = TimeDoubt.TIME_OR_NUMBER
    return Stamp(at, match["who"], doubt)


def _offset(match: re.Match[str], local: datetime, zone: ZoneInfo) -> tuple[int | None, str | None]:
    """Minutes east of Greenwich (None: local time of `zone`), and a doubt."""
    if match["named"]:
        if match["named"] == local.replace(tzinfo=zone).tzname():
            return None, None
        known = _ZONES.get(match["named"])
        doubt = TimeDoubt.ZONE_OF_SEVERAL.format(zone=match["named"])
        return known, doubt if known is None else None
    written = match["east"] or match["offset"]
    if written is None:
        return (0 if match["utc"] or match["z"] or match["world"] else None), None
    digits = re.sub(r"\D", "", written)
    hours, minutes = (int(digits[:-2]), int(digits[-2:])) if len(digits) > 2 else (int(digits), 0)
    east = (60 * hours + minutes) * (-1 if written[0] == "-" else 1)
    if minutes % 15 or not -12 * 60 <= east <= 14 * 60:
        return None, None
    if match["offset"] and written[0] == "-" and match["between"] != "T":
        # A hyphen may also separate a counter or an extension from the time.
        before = match.string[match.start() : match.start("offset")].rstrip("_ ")
        if not (len(written) == 5 and digits[0] == "0"):
            return None, None
        if "-" in before:
            return None, TimeDoubt.MAYBE_OFFSET.format(written=written)
    return east, None


# Between the opening of a channel and its recording; a later start is believed only where the epoch says so.
USUAL = timedelta(minutes=30)
LONGEST = timedelta(hours=4)
MOMENT = timedelta(seconds=30)  # by which two clocks and a ringing phone may differ
_NEAR = timedelta(minutes=2)


def reconciled(stamp: object, epoch: int, zone: ZoneInfo) -> dict[str, object]:
    """The start of a call whose name holds a local stamp (ISO text without a zone) and a UTC epoch.

    The epoch is when the call began and the stamp when its recording did. Returns `started_at`, and
    `zone_note` or `conflict` where they do not agree.
    """
    opened_at = datetime.fromtimestamp(epoch, UTC)
    try:
        local = datetime.fromisoformat(str(stamp))
    except ValueError:
        said = {} if stamp is None else {"zone_note": TimeDoubt.NO_TIME.format(stamp=stamp)}
        return {"started_at": opened_at, **said}
    shift = local.replace(tzinfo=UTC) - opened_at
    if not timedelta(hours=-12) - USUAL <= shift <= timedelta(hours=14) + USUAL:
        note = TimeDoubt.EPOCH_AFAR.format(epoch=epoch, stamp=stamp)
        return {"started_at": local_to_utc(local, zone), "conflict": note}
    # Of a repeated hour the pass that the epoch fits.
    passes = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    at = min(passes, key=lambda moment: abs(moment - opened_at))
    later = at - opened_at
    if abs(later) <= USUAL:
        return {"started_at": at}
    beyond = later % USUAL  # zones differ by half hours: what is left is the time until the recording
    if USUAL < later <= LONGEST and _NEAR < beyond < USUAL - _NEAR:
        return {
            "started_at": at,
            "zone_note": TimeDoubt.RECORDED_LATER.format(later=later, zone=zone.key),
        }
    if beyond > USUAL - _NEAR:
        beyond -= USUAL
    note = TimeDoubt.OTHER_ZONE.format(stamp=stamp, zone=zone.key)
    return {"started_at": opened_at + beyond, "zone_note": note}
