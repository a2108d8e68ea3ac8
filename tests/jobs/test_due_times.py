"""When a cron expression comes due, against an enumeration of every minute; and `schedule --next`."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from command_line import callanalytics, run_command
from numpy.typing import NDArray

from callanalytics.config.cron import Cron, parse_cron
from jobs.scheduler.scheduler import DueTimes

Minutes = NDArray[np.int64]  # since 1970
AROUND = 2 * 24 * 60  # minutes that are looked at before and after

ZONES = (
    *("UTC", "Europe/Berlin", "Europe/London", "Atlantic/Azores", "America/New_York", "America/St_Johns"),
    *("America/Havana", "America/Santiago", "America/Asuncion", "America/Nuuk", "Africa/Cairo"),
    *("Africa/Casablanca", "Asia/Beirut", "Asia/Gaza", "Asia/Jerusalem", "Asia/Kolkata"),
    *("Australia/Lord_Howe", "Australia/Sydney", "Pacific/Auckland", "Pacific/Chatham"),
)
CRONS = (
    *("0 0 * * *", "5 0 * * *", "30 0 * * *", "55 0 * * *", "0 1 * * *", "30 1 * * *", "0 2 * * *"),
    *("15 2 * * *", "30 2 * * *", "59 2 * * *", "0 3 * * *", "30 23 * * *", "59 23 * * *", "0 0 1 * *"),
    *("0 0 15 * *", "30 0 31 * *", "0 2 29 2 *", "0 0 * * 0", "30 2 * * 7", "0 1 * * sun", "30 23 * * sat"),
    *("0 22 * * mon-fri", "0 0 * 3,10 *", "0 0 25-31 3,10 sun-sat", "*/10 2 * * *", "*/20 0-3 * * 0"),
    *("0 */6 * * *", "30 1-22/3 * * *", "5 * * * *", "*/15 * * * *"),
)
NAMES = {name: n for n, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}


def test_the_sweep_is_as_large_as_it_says() -> None:
    assert (len(set(ZONES)), len(set(CRONS))) == (20, 30)


# The enumeration, which shares nothing with the code under test -------------------------------------------


def offsets(zone: str, first: date, last: date) -> tuple[Minutes, Minutes]:
    """Every minute of UTC from a day until another and AROUND, and what the clock shows then."""
    begin, end = (int(datetime(d.year, d.month, d.day, tzinfo=UTC).timestamp()) // 60 for d in (first, last))
    utc = np.arange(begin - AROUND, end + AROUND)
    info, epoch = ZoneInfo(zone), datetime(1970, 1, 1, tzinfo=UTC)
    ahead = [
        (epoch + timedelta(minutes=m)).astimezone(info).utcoffset() // timedelta(minutes=1)  # type: ignore[operator]
        for m in utc.tolist()
    ]
    return utc, utc + np.array(ahead)


def named(word: str, lowest: int, highest: int) -> set[int]:
    """The values of one field."""
    found: set[int] = set()
    for part in word.split(","):
        span, *step = part.split("/")
        ends = [
            NAMES.get(end) if end in NAMES else int(end)
            for end in span.replace("*", f"{lowest}-{highest}").split("-")
        ]
        found |= set(range(ends[0], ends[-1] + 1, int(step[0]) if step else 1))  # type: ignore[operator, arg-type]
    return found


def calendar_fields(shown: Minutes) -> list[NDArray[np.int8]]:
    """Minute, hour, day of the month, month and weekday of times of a clock."""
    days = shown.astype("datetime64[m]").astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    fields = (
        shown % 60,
        shown // 60 % 24,
        (days - months).astype(int) + 1,
        months.astype(int) % 12 + 1,
        (days.astype(int) + 4) % 7,  # 1970-01-01 was a Thursday
    )
    return [field.astype(np.int8) for field in fields]


def named_times(cron: str, fields: list[NDArray[np.int8]]) -> NDArray[np.bool_]:
    """Which times of a clock an expression names."""
    limits = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    wanted = [named(word, *limit) for word, limit in zip(cron.split(), limits, strict=True)]
    wanted[4] = {value % 7 for value in wanted[4]}
    masks = [np.isin(field, sorted(values)) for field, values in zip(fields, wanted, strict=True)]
    return np.logical_and.reduce(masks)


class Enumeration:
    """Every minute that the clock of a zone shows from a day until another, and every one of the calendar."""

    def __init__(self, zone: str, first: date, last: date) -> None:
        self.utc, shown = offsets(zone, first, last)
        self.first_minute, self.end_minute = self.utc[AROUND], self.utc[-AROUND]
        self.present, self.place = np.unique(shown, return_index=True)  # of a time shown twice, the first
        self.calendar = np.arange(self.present[0], self.present[-1])
        self.fields, self.fields_shown = calendar_fields(self.calendar), calendar_fields(shown)

    def times(self, cron: str) -> list[int]:
        """The minutes of UTC at which an expression comes due."""
        wanted = self.calendar[named_times(cron, self.fields)]
        before = np.searchsorted(self.present, wanted, side="right") - 1  # the last shown, up to this one
        # A time that is skipped comes so long after the last one that is shown.
        due = self.utc[self.place[before]] + (wanted - self.present[before])
        if cron.split()[1] == "*":
            due = np.append(due, self.utc[named_times(cron, self.fields_shown)])  # also the second pass
        within = (due >= self.first_minute) & (due < self.end_minute)
        return [int(minute) for minute in np.unique(due[within])]


def computed(cron: str, zone: str, first: date, last: date) -> list[int]:
    """The same by the code under test."""
    due_times, minutes = DueTimes(cron, ZoneInfo(zone)), []
    moment = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(minutes=1)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC)
    while (moment := due_times.after(moment)) < end:
        assert moment.second == moment.microsecond == 0
        minutes.append(int(moment.timestamp()) // 60)
    return minutes


def differing(zone: str, crons: tuple[str, ...], first: date, last: date) -> dict[str, Any]:
    """Expressions whose times differ from the enumeration, with those that are in one of both only."""
    enumeration, found = Enumeration(zone, first, last), {}
    for cron in crons:
        expected = enumeration.times(cron)
        assert expected, f"{cron} never comes: it tests nothing"
        times = computed(cron, zone, first, last)
        if times != expected:
            odd = sorted(set(times) ^ set(expected))
            found[cron] = [str(np.datetime64(minute, "m")) for minute in odd][:5]
    return found


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "America/Nuuk"])
def test_the_times_of_a_year_are_those_of_the_enumeration(zone: str) -> None:
    crons = tuple(cron for cron in CRONS if cron != "0 2 29 2 *")
    assert differing(zone, crons, date(2026, 1, 1), date(2027, 1, 1)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_the_times_of_three_years_are_those_of_the_enumeration(zone: str) -> None:
    assert differing(zone, CRONS, date(2026, 1, 1), date(2029, 1, 1)) == {}


def test_a_day_that_is_skipped_whole() -> None:
    """Samoa had no 30 December 2011. Its times fall on the same ones of the 31st and come once."""
    crons = ("0 0 * * *", "30 2 * * fri", "0 0 30 * *", "*/15 * * * *")
    assert differing("Pacific/Apia", crons, date(2011, 12, 1), date(2012, 2, 1)) == {}


# Named cases ----------------------------------------------------------------------------------------------


def coming(cron: str, zone: str, first: str, n_times: int) -> list[str]:
    """The times from a local midnight on, as the clock of the zone shows them."""
    due_times, info = DueTimes(cron, ZoneInfo(zone)), ZoneInfo(zone)
    moment = datetime.fromisoformat(first).replace(tzinfo=info).astimezone(UTC) - timedelta(microseconds=1)
    found = []
    for _ in range(n_times):
        moment = due_times.after(moment)
        found.append(f"{moment.astimezone(info):%m-%d %H:%M}")
    return found


@pytest.mark.parametrize("minute", range(0, 60, 5))
def test_the_day_after_the_spring_change_has_its_night(minute: int) -> None:
    times = coming(f"{minute} 0 * * *", "Europe/Berlin", "2026-03-28", 4)
    assert times == [f"03-{day} 00:{minute:02d}" for day in (28, 29, 30, 31)]


@pytest.mark.parametrize(
    ("cron", "n_times"), [("0 0 1 * *", 12), ("0 0 * * 1", 52), ("30 0 * * 0", 52), ("0 0 * * *", 365)]
)
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Santiago", "Asia/Beirut", "Africa/Cairo"])
def test_no_month_week_or_day_of_2026_is_left_out(cron: str, n_times: int, zone: str) -> None:
    times = coming(cron, zone, "2026-01-01", n_times + 1)
    assert len({time[:5] for time in times[:-1]}) == n_times
    assert times[n_times][:5] < times[n_times - 1][:5], (
        "the last one is of the next year, the one before is not"
    )


@pytest.mark.parametrize(
    ("zone", "cron", "times"),
    [
        ("Africa/Cairo", "0 0 * * *", ["04-23 00:00", "04-24 01:00", "04-25 00:00"]),
        ("America/Santiago", "0 0 * * *", ["09-05 00:00", "09-06 01:00", "09-07 00:00"]),
        ("Asia/Beirut", "0 0 * * *", ["03-28 00:00", "03-29 01:00", "03-30 00:00"]),
        ("Asia/Beirut", "0 0,1 * * *", ["03-28 00:00", "03-28 01:00", "03-29 01:00", "03-30 00:00"]),
        ("Australia/Lord_Howe", "15 2 * * *", ["10-03 02:15", "10-04 02:45", "10-05 02:15"]),
        ("Australia/Lord_Howe", "45 1 * * *", ["04-04 01:45", "04-05 01:45", "04-06 01:45"]),
        ("Europe/Berlin", "30 2 * * *", ["03-28 02:30", "03-29 03:30", "03-30 02:30"]),
        ("Europe/Berlin", "30 2 * * *", ["10-24 02:30", "10-25 02:30", "10-26 02:30"]),
        ("America/Nuuk", "30 23 * * *", ["03-27 23:30", "03-29 00:30", "03-29 23:30"]),
    ],
)
def test_a_change_of_the_clock(zone: str, cron: str, times: list[str]) -> None:
    assert coming(cron, zone, f"2026-{times[0][:5]}", len(times)) == times


def test_a_time_that_comes_twice_comes_the_first_time_and_every_hour_both_times() -> None:
    before = datetime(2026, 10, 24, 23, 59, tzinfo=UTC)
    night, hourly = (DueTimes(cron, ZoneInfo("Europe/Berlin")) for cron in ("30 2 * * *", "30 * * * *"))
    assert night.after(before) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert night.after(datetime(2026, 10, 25, 0, 30, tzinfo=UTC)) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert hourly.after(datetime(2026, 10, 25, 0, 30, tzinfo=UTC)) == datetime(
        2026, 10, 25, 1, 30, tzinfo=UTC
    )


def test_the_rare_day() -> None:
    """1900, 2100 and 2200 have no 29 February."""
    zone = ZoneInfo("UTC")
    found = parse_cron("0 3 29 2 *").after(datetime(2096, 2, 29, 3, tzinfo=UTC), zone)
    assert found == datetime(2104, 2, 29, 3, tzinfo=UTC)


def test_apscheduler_asks_for_the_first_time_and_the_next() -> None:
    due_times, now = DueTimes("0 2 * * *", ZoneInfo("UTC")), datetime(2026, 3, 1, 2, tzinfo=UTC)
    assert due_times.get_next_fire_time(None, now) == now
    assert due_times.get_next_fire_time(now, now) == now + timedelta(days=1)


# Expressions ----------------------------------------------------------------------------------------------

EVERY = {
    **{"minutes": tuple(range(60)), "hours": tuple(range(24)), "days": tuple(range(1, 32))},
    **{"months": tuple(range(1, 13)), "weekdays": tuple(range(7))},
}


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("* * * * *", {}),
        ("0 2 * * *", {"minutes": (0,), "hours": (2,)}),
        ("59 23 31 12 *", {"minutes": (59,), "hours": (23,), "days": (31,), "months": (12,)}),
        ("*/20 1-3 * * *", {"minutes": (0, 20, 40), "hours": (1, 2, 3)}),
        ("5/25 8-20/6 * * *", {"minutes": (5, 30, 55), "hours": (8, 14, 20)}),
        ("3,1,1,50/9 */23 * * *", {"minutes": (1, 3, 50, 59), "hours": (0, 23)}),
        ("* * * JAN,mar-May *", {"months": (1, 3, 4, 5)}),
        ("* * 1/10 dec *", {"days": (1, 11, 21, 31), "months": (12,)}),
        ("* * * * sun,Tue-THU", {"weekdays": (0, 2, 3, 4)}),
        ("* * * * 5-7", {"weekdays": (0, 5, 6)}),
        ("* * * * sat/1", {"weekdays": (0, 6)}),
        ("* * */1 * 1-5", {"weekdays": (1, 2, 3, 4, 5)}),
        ("* * 29 2 *", {"days": (29,), "months": (2,)}),
        ("* * 30,31 2,4 *", {"days": (30, 31), "months": (2, 4)}),
    ],
)
def test_an_expression_names_its_values(text: str, fields: dict[str, tuple[int, ...]]) -> None:
    assert parse_cron(text) == Cron(text, **{**EVERY, **fields})
    assert parse_cron(text).every_hour == ("hours" not in fields)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "0 2 * *",
            "'0 2 * *' has 4 fields, cron has five: minute hour day month weekday, as \"0 2 * * *\"",
        ),
        ("0 2 * * * *", "'0 2 * * * *' has 6 fields, cron has five: minute hour day month weekday, "),
        ("60 2 * * *", "minute '60' is not a value from 0 to 59"),
        ("0 24 * * *", "hour '24' is not a value from 0 to 23"),
        ("0 2 0 * *", "day '0' is not a value from 1 to 31"),
        ("0 2 32 * *", "day '32' is not a value from 1 to 31"),
        ("0 2 * 13 *", "month '13' is not a value from 1 to 12"),
        ("0 2 * mai *", "month 'mai' is not a value from 1 to 12"),
        ("0 2 * * 8", "weekday '8' is not a value from 0 to 7"),
        ("0 2 * * jan", "weekday 'jan' is not a value from 0 to 7"),
        ("0 2 * * mon-", "weekday '' is not a value from 0 to 7"),
        ("*/0 2 * * *", "minute '0' is not a value from 1 to 59"),
        ("*/60 2 * * *", "minute '60' is not a value from 1 to 59"),
        ("*/ 2 * * *", "minute '' is not a value from 1 to 59"),
        ("0 2 */jan * *", "day 'jan' is not a value from 1 to 31"),
        ("1, 2 * * *", "minute '' is not a value from 0 to 59"),
        ("-1 2 * * *", "minute '' is not a value from 0 to 59"),
        ("1234567890 2 * * *", "minute '1234567890' is not a value from 0 to 59"),
        ("0000000060 2 * * *", "minute '0000000060' is not a value from 0 to 59"),
        ("\u0663 2 * * *", "minute '\u0663' is not a value from 0 to 59"),
        ("0 5-3 * * *", "hour '5-3' runs backwards; list its values with commas"),
        ("0 2 * * sat-sun", "weekday 'sat-sun' runs backwards; list its values with commas"),
        (
            "0 2 1 * mon",
            "'0 2 1 * mon' limits both the day of the month and the weekday; cron programs disagree on what "
            "that means: leave one of them *",
        ),
        ("0 2 1-30 * 1-6", "'0 2 1-30 * 1-6' limits both the day of the month and the weekday; "),
        ("0 2 31 apr,jun *", "'0 2 31 apr,jun *' never comes: no month that it names has a day 31"),
        ("0 2 30 2 *", "'0 2 30 2 *' never comes: no month that it names has a day 30"),
        ("0 2 31 9,11 *", "'0 2 31 9,11 *' never comes: no month that it names has a day 31"),
    ],
)
def test_what_is_no_expression_is_said_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_cron(text)
    assert str(caught.value).startswith(words)
    assert str(caught.value) == words or words.endswith(" ")


@pytest.mark.parametrize("month", [1, 3, 5, 7, 8, 10, 12])
def test_the_last_day_of_the_long_months_comes(month: int) -> None:
    assert parse_cron(f"0 2 31 {month} *").days == (31,)


@pytest.mark.parametrize(
    ("text", "calendar"),
    [
        ("0 2 * * *", "*-*-* 02:00:00 Europe/Berlin"),
        ("5,50 */12 1,15 2 *", "*-02-01,15 00,12:05,50:00 Europe/Berlin"),
        ("* * * * *", "*-*-* *:*:00 Europe/Berlin"),
        ("30 22 * * sun,mon-wed,7", "Sun,Mon,Tue,Wed *-*-* 22:30:00 Europe/Berlin"),
        ("30 22 * * 0-5", "Sun,Mon,Tue,Wed,Thu,Fri *-*-* 22:30:00 Europe/Berlin"),
    ],
)
def test_the_same_times_for_systemd(text: str, calendar: str) -> None:
    assert parse_cron(text).on_calendar("Europe/Berlin") == calendar


def test_after_the_last_time_of_a_day_comes_the_first_of_the_next_that_is_named() -> None:
    """Minute by minute over three weeks, also at the very times and a microsecond beside them."""
    zone = ZoneInfo("UTC")
    expression = parse_cron("0,30 5,20 * * mon,thu")
    first = datetime(2026, 3, 1, tzinfo=UTC)
    due = [
        first + timedelta(days=day, hours=hour, minutes=minute)
        for day in range(30)
        if (first + timedelta(days=day)).isoweekday() in (1, 4)
        for hour in (5, 20)
        for minute in (0, 30)
    ]
    moments = [at + timedelta(microseconds=by) for at in due[:-1] for by in (-1, 0, 1)]
    moments += [first + timedelta(minutes=37 * n) for n in range(700)]
    expected = [next(at for at in due if at > moment) for moment in moments]
    assert [expression.after(moment, zone) for moment in moments] == expected


# schedule --next ------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config file without a folder of recordings."""
    path = tmp_path / "config.toml"
    path.write_text(
        '[schedule]\nzone = "Europe/Berlin"\nrun = "30 0 * * *"\nreport = "0 0 1 * *"\nhealth = ""\n'
    )
    return path


def test_the_coming_times_of_every_job(config: Path) -> None:
    text = callanalytics("schedule", "--next", 3, "--from", "2026-03-29", "--config", config)
    assert text.splitlines() == [
        "run      Sun 2026-03-29 00:30 +0100",
        "run      Mon 2026-03-30 00:30 +0200",
        "run      Tue 2026-03-31 00:30 +0200",
        "report   Wed 2026-04-01 00:00 +0200",
        "report   Fri 2026-05-01 00:00 +0200",
        "report   Mon 2026-06-01 00:00 +0200",
    ]
    assert list(config.parent.iterdir()) == [config], "it writes nothing"


def test_the_coming_times_for_machines(config: Path) -> None:
    options = ("--next", 2, "--json", "--from", "2026-03-29", "--config", config)
    assert [json.loads(line) for line in callanalytics("schedule", *options).splitlines()] == [
        {"job": "run", "at": "2026-03-29T00:30:00+01:00"},
        {"job": "run", "at": "2026-03-30T00:30:00+02:00"},
        {"job": "report", "at": "2026-04-01T00:00:00+02:00"},
        {"job": "report", "at": "2026-05-01T00:00:00+02:00"},
    ]


def test_the_first_time_of_a_day_without_midnight(config: Path) -> None:
    config.write_text('[schedule]\nzone = "Africa/Cairo"\nrun = "0 0 * * *"\nhealth = ""\n')
    text = callanalytics("schedule", "--next", 1, "--json", "--from", "2026-04-24", "--config", config)
    assert json.loads(text) == {"job": "run", "at": "2026-04-24T01:00:00+03:00"}


def test_without_a_day_the_times_are_those_after_now(config: Path) -> None:
    begun = datetime.now(UTC)
    lines = callanalytics("schedule", "--next", 20, "--json", "--config", config).splitlines()
    runs = [row["at"] for row in map(json.loads, lines) if row["job"] == "run"]
    times = [datetime.fromisoformat(at) for at in runs]
    assert len(lines) == 40
    assert len(set(times)) == 20
    assert begun < times[0] < begun + timedelta(hours=26)
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--json",), "go with --next"),
        (("--from", "2026-03-29"), "go with --next"),
        (("--next", "2", "--print", "cron"), "one of --next and --print"),
        (("--next", "0"), "0 is not in the range"),
        (("--next", "1", "--from", "29.3.2026"), "does not match the format"),
        (("--next", "3", "--from", "9999-12-31"), "the calendar has the years 1 to 9999"),
    ],
)
def test_options_that_make_no_sense_are_refused(config: Path, options: tuple[str, ...], text: str) -> None:
    done = run_command("schedule", *options, "--config", config, expect=2)
    assert text in done.stderr


def test_an_empty_schedule_is_refused(config: Path) -> None:
    config.write_text('[schedule]\nrun = ""\nhealth = ""\n')
    done = run_command("schedule", "--next", 1, "--config", config, expect=2)
    assert "schedules nothing" in done.stderr


def test_a_reader_that_closes_early_is_no_crash(config: Path) -> None:
    words = [sys.executable, "-m", "callanalytics", "schedule", "--next", "20000", "--config", str(config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"run ")
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
