"""The published database, opened read-only, with the window that a report is about."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from callanalytics.config import Settings
from callanalytics.errors import ReportError, StoreError, UsageError
from callanalytics.store.query import Published, Row
from reports.formatting import weekday

if TYPE_CHECKING:
    import duckdb

__all__ = ["Period", "Row", "Source", "WindowLike", "open_source"]


class WindowLike(Protocol):
    """A half-open time window, both ends with a zone."""

    @property
    def since(self) -> datetime: ...  # noqa: D102
    @property
    def until(self) -> datetime: ...  # noqa: D102


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
    out_option: str = ""  # what `callanalytics review` must be told to find this database

    def rows(self, sql: str, **values: object) -> list[Row]:
        """The rows of a query as dictionaries, as `Published.rows` finds them."""
        return self.published.rows(sql, **values)

    def in_window(self, sql: str, **values: object) -> list[Row]:
        """`rows` for a query that uses $since and $until."""
        return self.rows(sql, since=self.since, until=self.until, **values)

    def four_weeks(self) -> tuple[date, date]:
        """First and last day of the trends: the 28 days up to the newest call before the window's end."""
        (newest,) = self.rows(
            "SELECT max(day) AS day FROM call_summary WHERE started_at < $until", until=self.until
        )
        last: date = newest["day"] or self.until.date()
        return last - timedelta(days=27), last

    def earlier(self) -> tuple[Period, ...]:
        """What the window is compared with: the stretch just before, and the same days a week earlier.

        Days are days of the calendar, so that a change of the clocks moves nothing by an hour.
        """
        span = self.until.replace(tzinfo=None) - self.since.replace(tzinfo=None)
        whole_days = timedelta(days=-(-span // timedelta(days=1)))
        if self.since.replace(tzinfo=None) - datetime.min <= whole_days:
            return ()  # the calendar begins too late
        one_day = whole_days <= timedelta(days=1)
        before = Period(
            self.since - whole_days,
            self.until - whole_days,
            "the day before" if one_day else "the period before",
        )
        if whole_days > timedelta(days=3):
            return (before,)
        week = timedelta(days=7)
        name = f"{weekday(self.since - week)} last week" if one_day else "the same days last week"
        return before, Period(self.since - week, self.until - week, name)


LEFT_OUT = "left out"
# What --redact leaves out is hidden from every query: a temporary view stands before the one of its name.
REDACTED = (
    """CREATE TEMP VIEW call_summary AS SELECT * REPLACE (
        '' AS path, NULL::VARCHAR AS agent_id, NULL::VARCHAR AS agent_name, NULL::VARCHAR AS team,
        NULL::VARCHAR AS caller_hash, NULL::VARCHAR AS external_id
    ) FROM {catalog}.main.call_summary""",
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
    window: WindowLike,
    now: datetime,
    *,
    clips_dir: Path | None,
    clips_href: str,
    redact: bool = False,
) -> Iterator[Source]:
    """Open the published file for reading. redact: with `REDACTED` instead of what names people.

    Raises:
        ReportError: the file is missing or is no database of ours.
    """
    zone = settings.time.zone_info
    try:
        with Published(database) as published:
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
