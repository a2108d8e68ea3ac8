"""The published database, opened read-only, with the window that a report is about."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.errors import ReportError, StoreError, UsageError
from callanalytics.store.query import Published, Row
from callanalytics.store.rule_sets import OtherRules, other_rules
from reports.formatting import localised, weekday
from reports.translation import _

if TYPE_CHECKING:
    import duckdb

__all__ = ["Period", "Row", "Source", "earlier_periods", "open_source"]


# Two years: longer lines of days would be dust.
MAX_TREND_DAYS = 731


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open stretch of time, and what to call it."""

    since: datetime
    until: datetime
    name: str


@dataclass(frozen=True)
class Source:
    """Everything a page is made from. `now`, `since` and `until` are in the zone of the settings."""

    published: Published
    settings: Settings
    since: datetime
    until: datetime
    now: datetime
    clips_dir: Path | None  # clips lie in clips_dir/<call_id>/<name>
    clips_href: str  # the same folder, relative to index.html
    redacted: bool = False  # people and files have no names in the connection
    out_option: str = ""  # the option with which `callanalytics review` finds this database

    def rows(self, sql: str, **values: object) -> list[Row]:
        """The rows of a query as dictionaries, as `Published.rows` finds them."""
        return self.published.rows(sql, **values)

    def in_window(self, sql: str, **values: object) -> list[Row]:
        """`rows` for a query that uses $since and $until."""
        return self.rows(sql, since=self.since, until=self.until, **values)

    def all_days(self) -> tuple[date, date]:
        """First and last day of the trends: all up to the newest call before the window's end.

        At most `MAX_TREND_DAYS` of them.
        """
        (found,) = self.rows(
            "SELECT min(day) AS first, max(day) AS last FROM call_summary WHERE started_at < $until",
            until=self.until,
        )
        last: date = found["last"] or self.until.date()
        first: date = found["first"] or last
        return max(first, last - timedelta(days=MAX_TREND_DAYS - 1)), last

    def other_rules(self) -> OtherRules | None:
        """The calls that other rules than those of the settings judged, None where there are none."""
        return other_rules(self.published, self.settings.rule_set.rules_id)

    def four_weeks(self) -> tuple[date, date]:
        """First and last day of the pages of agents: 28 days up to the newest call of the window."""
        (newest,) = self.rows(
            "SELECT max(day) AS day FROM call_summary WHERE started_at < $until", until=self.until
        )
        last: date = newest["day"] or self.until.date()
        return last - timedelta(days=27), last


def earlier_periods(since: datetime, until: datetime) -> tuple[Period, ...]:
    """What a window is compared with: the stretch just before, and the same days a week earlier.

    Days are days of the calendar, so that a change of the clocks moves nothing by an hour. A window of more
    than three days has no week beside it: the two would overlap or nearly so.
    """
    span = until.replace(tzinfo=None) - since.replace(tzinfo=None)
    whole_days = timedelta(days=-(-span // timedelta(days=1)))
    if since.replace(tzinfo=None) - datetime.min <= whole_days:
        return ()  # the calendar begins too late
    one_day = whole_days <= timedelta(days=1)
    week = timedelta(days=7)
    name = _("the day before") if one_day else _("the period before")
    if whole_days == week:
        name = _("the week before")
    before = Period(since - whole_days, until - whole_days, name)
    if whole_days > timedelta(days=3):
        return (before,)
    name = _("the same days last week")
    if one_day:
        name = _("{weekday} last week").format(weekday=weekday(since - week))
    return before, Period(since - week, until - week, name)


_QUOTE = re.compile("“[^”]*”")


def left_out() -> str:
    """What stands for a name that --redact leaves out."""
    return _("left out")


def without_quotes(text: str) -> str:
    """A reason or a moment without what was said, which stands in quotation marks."""
    return _QUOTE.sub(f"[{left_out()}]", text)


# What --redact leaves out is hidden from every query: a temporary view stands before the one of its name.
REDACTED = (
    """CREATE TEMP VIEW call_summary AS SELECT * REPLACE (
        '' AS path, NULL::VARCHAR AS agent_id, NULL::VARCHAR AS agent_name, NULL::VARCHAR AS team,
        NULL::VARCHAR AS caller_hash, NULL::VARCHAR AS external_id,
        list_transform(reasons, lambda reason: regexp_replace(reason, '“[^”]*”', '[left out]', 'g'))
            AS reasons
    ) FROM {catalog}.main.call_summary""",
    "CREATE TEMP VIEW utterances AS FROM {catalog}.main.utterances WHERE false",
    """CREATE TEMP VIEW call_facts AS SELECT * REPLACE (
        '' AS path, NULL::VARCHAR AS agent_id, NULL::VARCHAR AS caller_hash, NULL::VARCHAR AS reviewer,
        list_transform(reasons, lambda reason: regexp_replace(reason, '“[^”]*”', '[left out]', 'g'))
            AS reasons
    ) FROM {catalog}.main.call_facts""",
    "CREATE TEMP VIEW recordings AS SELECT * REPLACE ('' AS path, []::VARCHAR[] AS paths)"
    " FROM {catalog}.main.recordings",
    "CREATE TEMP VIEW quarantine AS SELECT * REPLACE ('' AS path, '' AS detail)"
    " FROM {catalog}.main.quarantine",
    "CREATE TEMP VIEW reviews AS SELECT * REPLACE (NULL::VARCHAR AS reviewer, NULL::VARCHAR AS note)"
    " FROM {catalog}.main.reviews",
)


def _out_option(database: Path, settings: Settings) -> str:
    """` --out FOLDER` for commands that are copied from a page, empty where the settings say the same."""
    folder = database.resolve().parent
    return "" if folder == settings.out_dir.resolve() else f" --out {shlex.quote(str(folder))}"


@contextmanager
def open_source(
    database: Path,
    settings: Settings,
    window: Window,
    now: datetime,
    *,
    clips_dir: Path | None,
    clips_href: str,
    redact: bool = False,
) -> Iterator[Source]:
    """Open the published file for a report, whose numbers and dates follow `[report] locale`.

    Args:
        window: half-open, `since` and `until` with a zone.
        clips_dir: evidence clips as <clips_dir>/<call_id>/<name>, None without sound.
        clips_href: the same folder as pages link it, relative to index.html.
        redact: with `REDACTED` instead of what names people, and without sound.

    Raises:
        ReportError: the file is missing or is no database of ours.
    """
    zone = settings.time.zone_info
    try:
        written = localised(settings.report.written_locale, settings.report.language)
        with Published(database) as published, written:
            if redact:
                _hide_names(published.connection)
            yield Source(
                published=published,
                settings=settings,
                since=window.since.astimezone(zone),
                until=window.until.astimezone(zone),
                now=now.astimezone(zone),
                clips_dir=None if redact else clips_dir,
                clips_href=clips_href,
                redacted=redact,
                out_option="" if redact else _out_option(database, settings),
            )
    except (UsageError, StoreError) as problem:
        raise ReportError(str(problem)) from problem


def _hide_names(connection: duckdb.DuckDBPyConnection) -> None:
    """Put the views of `REDACTED` before the tables and views whose names they have."""
    ((catalog,),) = connection.execute("SELECT current_database()").fetchall()
    quoted = '"' + catalog.replace('"', '""') + '"'
    for view in REDACTED:
        connection.execute(view.format(catalog=quoted))
