"""Windows in words, over both changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.config.window import (
    Window,
    day_start,
    local_to_utc,
    parse_age,
    parse_stored_window,
    parse_window,
)
from callanalytics.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "until", "start", "end"),
    [
        (None, None, "2026-11-19T23:00", "2026-11-20T23:00"),
        ("yesterday", None, "2026-11-19T23:00", "2026-11-20T23:00"),
        ("today", None, "2026-11-20T23:00", "2026-11-21T03:00"),
        ("36h", None, "2026-11-19T15:00", "2026-11-21T03:00"),
        ("7d", "2d", "2026-11-14T03:00", "2026-11-19T03:00"),
        ("2026-11-01", "2026-11-02", "2026-10-31T23:00", "2026-11-01T23:00"),
        ("2026-11-01T08:30", "now", "2026-11-01T07:30", "2026-11-21T03:00"),
        ("2026-11-01T08:30Z", "2026-11-01T08:30-05:00", "2026-11-01T08:30", "2026-11-01T13:30"),
        (None, "yesterday", "1970-01-01T00:00", "2026-11-19T23:00"),
    ],
)
def test_words(since: str | None, until: str | None, start: str, end: str) -> None:
    assert parse_window(since, until, zone=BERLIN, now=NOW) == Window(utc(start), utc(end))


def test_stored_calls_have_no_end_at_a_clock_that_may_have_been_set_back() -> None:
    every = parse_stored_window(None, None, zone=BERLIN, now=NOW)
    assert every.since <= utc("1970-01-01T00:00")
    assert utc("9999-01-01T00:00") in every
    assert utc("9999-01-01T00:00") in parse_stored_window("yesterday", None, zone=BERLIN, now=NOW)
    assert parse_stored_window("2d", "today", zone=BERLIN, now=NOW) == parse_window(
        "2d", "today", zone=BERLIN, now=NOW
    )


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-10-26T06:00", 25), ("2026-03-30T06:00", 23), ("2026-06-02T06:00", 24)],
)
def test_yesterday_is_a_calendar_day_whatever_the_clock_did(now: str, hours: int) -> None:
    window = parse_window("yesterday", None, zone=BERLIN, now=utc(now))
    assert window.until - window.since == timedelta(hours=hours)


def test_the_repeated_hour_means_its_first_pass_and_the_skipped_one_lands_after_the_gap() -> None:
    assert local_to_utc(datetime(2026, 10, 25, 2, 30), BERLIN) == utc("2026-10-25T00:30")
    assert local_to_utc(datetime(2026, 3, 29, 2, 30), BERLIN) == utc("2026-03-29T01:30")


def test_a_window_is_half_open() -> None:
    window = parse_window("2026-11-01", "2026-11-02", zone=BERLIN, now=NOW)
    assert window.since in window
    assert window.until not in window


@pytest.mark.parametrize("words", ["", "soon", "7 parsecs", "2026-13-01", "2026-02-30", "999999d", "now"])
def test_nonsense_is_a_usage_error(words: str) -> None:
    with pytest.raises(UsageError):
        parse_window(words, None, zone=BERLIN, now=NOW)


@given(
    st.text(max_size=20) | st.from_regex(r"\d{1,7}[mhdw]", fullmatch=True), st.none() | st.text(max_size=12)
)
def test_any_words_give_a_window_or_a_usage_error(since: str, until: str | None) -> None:
    try:
        window = parse_window(since, until, zone=BERLIN, now=NOW)
    except UsageError:
        return
    assert window.since < window.until


@pytest.mark.parametrize(
    ("words", "before"),
    [
        ("365d", "2025-11-21T03:00"),
        ("52W", "2025-11-22T03:00"),
        ("2026-11-01", "2026-10-31T23:00"),
        ("2026-11-01T08:30Z", "2026-11-01T08:30"),
    ],
)
def test_what_may_be_deleted_by_is_days_weeks_and_what_is_over(words: str, before: str) -> None:
    assert parse_age(words, zone=BERLIN, now=NOW) == utc(before)


@pytest.mark.parametrize(
    "words", ["12m", "36h", "now", "today", "yesterday", "one year", "", "-3d", "2026-99-01"]
)
def test_nothing_is_deleted_by_words_that_may_mean_something_else(words: str) -> None:
    with pytest.raises(UsageError, match="says no time"):
        parse_age(words, zone=BERLIN, now=NOW)


@pytest.mark.parametrize("words", ["0d", "2026-11-22", "2126-01-01"])
def test_a_time_that_is_not_over_would_delete_everything(words: str) -> None:
    with pytest.raises(UsageError, match="every call is older"):
        parse_age(words, zone=BERLIN, now=NOW)


KNOWN = "yesterday, today, now, 36h, 7d, 2w, 2026-11-01, 2026-11-01T08:30, 2026-11-01T08:30+01:00"


def message(since: str | None, until: str | None) -> str:
    with pytest.raises(UsageError) as caught:
        parse_window(since, until, zone=BERLIN, now=NOW)
    return str(caught.value)


def test_what_is_wrong_is_said_with_what_was_read_and_what_to_do() -> None:
    assert message("now", None) == (
        "--since now (2026-11-21 03:00 UTC) is not before --until now (2026-11-21 03:00 UTC). "
        "Give an earlier start or a later end."
    )
    assert message("today", "2d") == (
        "--since today (2026-11-20 23:00 UTC) is not before --until 2d (2026-11-19 03:00 UTC). "
        "Give an earlier start or a later end."
    )
    assert (
        message("soon", None)
        == f"'soon' says no time (Invalid isoformat string: 'soon'). Known are: {KNOWN}."
    )


def test_words_may_have_capitals_and_spaces_around_them() -> None:
    plain = parse_window("yesterday", None, zone=BERLIN, now=NOW)
    assert parse_window(" Yesterday ", None, zone=BERLIN, now=NOW) == plain
    assert parse_window(" 36 H", " NOW ", zone=BERLIN, now=NOW) == Window(utc("2026-11-19T15:00"), NOW)
    assert parse_window(" 2026-11-01T08:30Z ", "Today", zone=BERLIN, now=NOW) == Window(
        utc("2026-11-01T08:30"), utc("2026-11-20T23:00")
    )
    assert parse_age(" 2W ", zone=BERLIN, now=NOW) == utc("2026-11-07T03:00")


@pytest.mark.parametrize(
    ("words", "since"),
    [
        ("90m", "2026-10-26T04:30"),
        ("48h", "2026-10-24T06:00"),  # elapsed hours
        ("2d", "2026-10-24T05:00"),  # the same time of the clock, which was put back since
        ("1w", "2026-10-19T05:00"),
    ],
)
def test_days_are_those_of_the_calendar_and_hours_elapse(words: str, since: str) -> None:
    now = utc("2026-10-26T06:00")
    assert parse_window(words, None, zone=BERLIN, now=now) == Window(utc(since), now)


@pytest.mark.parametrize(
    ("since", "until"),
    [(None, None), ("today", None), ("3h", "1h"), ("2d", "now"), ("2026-11-01T08:30", None)],
)
def test_both_ends_are_utc_whatever_the_clock_that_is_passed_in(since: str | None, until: str | None) -> None:
    window = parse_window(since, until, zone=BERLIN, now=NOW.astimezone(ZoneInfo("Asia/Tokyo")))
    assert window == parse_window(since, until, zone=BERLIN, now=NOW)
    assert (window.since.tzinfo, window.until.tzinfo) == (UTC, UTC)
    assert day_start(NOW.date(), BERLIN).tzinfo is UTC


def test_what_may_not_be_deleted_by_is_said_with_what_may() -> None:
    for words, text in (
        ("12m", "'12m' says no time to delete by. Give days or weeks (365d or 52w) or a date (2026-01-31)."),
        ("0d", "'0d' (2026-11-21 03:00 UTC) is not over: every call is older. Give an earlier time."),
    ):
        with pytest.raises(UsageError) as caught:
            parse_age(words, zone=BERLIN, now=NOW)
        assert str(caught.value) == text
