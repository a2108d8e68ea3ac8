"""Reading the published database for the app: a list of calls, one call, what was said about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.records import ChannelLayout, Role, Segment
from callanalytics.store.query import Published
from reports.call_rows import CallData, load_calls
from reports.pages.call_page import CallPage, read_call_pages
from reports.report_source import Row, Source

_CALL_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
PAGE_ROWS = 50

SORTS = {
    "when": "started_at",
    "queue": "queue",
    "agent": "coalesce(agent_name, agent_id)",
    "length": "duration_s",
    "score": "frustration_score",
}
"""What the list can be ordered by -> SQL. Agents are ordered by name, never by a score of theirs."""


_COUNT = "SELECT count(*) AS n FROM call_summary s WHERE {where}"
_LIST = """
SELECT call_id, path, started_local, queue, agent_id, agent_name, duration_s, frustration_score, flagged,
    reasons, EXISTS (FROM reviews r WHERE r.call_id = s.call_id) AS reviewed
FROM call_summary s WHERE {where}
ORDER BY {order}, started_at DESC, call_id
LIMIT $n_rows OFFSET $n_before
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to list. `text` is looked for in call id, path, queue and agent; dates are local days."""

    text: str = ""
    queues: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None  # inclusive
    flagged_only: bool = False
    unreviewed_only: bool = False
    least_score: float = 0.0
    sort: str = "score"
    descending: bool = True
    page: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of calls, and how many there are."""

    rows: tuple[Row, ...]
    n_found: int
    n_all: int


@dataclass(frozen=True, slots=True)
class OpenedCall:
    """A call with its finished page and the rows behind it."""

    page: CallPage
    data: CallData
    reviews: tuple[Row, ...]


@contextmanager
def reading(database: Path, settings: Settings) -> Iterator[Source]:
    """The published file as the reports read it, for a moment.

    Raises UsageError when there is none yet and StoreError when it cannot be read.
    """
    now = datetime.now(UTC).astimezone(settings.time.zone_info)
    with Published(database) as published:
        yield Source(published, settings, datetime.min.replace(tzinfo=UTC), now, now, None, "")


def list_calls(database: Path, settings: Settings, wanted: Wanted) -> Listed:
    """The calls that are wanted, one page of them. Raises as `reading` does."""
    where, values = _conditions(wanted)
    order = f"{SORTS[wanted.sort]} {'DESC' if wanted.descending else 'ASC'} NULLS LAST"
    paged = {**values, "n_rows": PAGE_ROWS, "n_before": PAGE_ROWS * max(0, wanted.page)}
    with reading(database, settings) as source:
        n_all = source.rows("SELECT count(*) AS n FROM call_summary")[0]["n"]
        n_found = source.rows(_COUNT.format(where=where), **values)[0]["n"]
        rows = source.rows(_LIST.format(where=where, order=order), **paged)
    return Listed(tuple(rows), n_found, n_all)


def _conditions(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    """The WHERE clause and its values; nothing of a person's typing gets into the text."""
    parts, values = ["true"], dict[str, Any]()
    if wanted.text.strip():
        parts.append(
            "contains(lower(concat_ws(' ', call_id, path, queue, agent_id, agent_name, external_id)), $text)"
        )
        values["text"] = wanted.text.strip().lower()
    if wanted.queues:
        parts.append("coalesce(queue, '') IN (SELECT unnest($queues))")
        values["queues"] = list(wanted.queues)
    if wanted.since:
        parts.append("day >= $since")
        values["since"] = wanted.since
    if wanted.until:
        parts.append("day <= $until")
        values["until"] = wanted.until
    if wanted.flagged_only:
        parts.append("flagged")
    if wanted.unreviewed_only:
        parts.append("NOT EXISTS (FROM reviews r WHERE r.call_id = s.call_id)")
    if wanted.least_score > 0:
        parts.append("frustration_score >= $least")
        values["least"] = wanted.least_score
    return " AND ".join(parts), values


def queues_and_days(database: Path, settings: Settings) -> tuple[list[str], date | None, date | None]:
    """Every queue by name ('' for none), the first and the last day. Raises as `reading` does."""
    with reading(database, settings) as source:
        queues = source.rows("SELECT DISTINCT coalesce(queue, '') AS queue FROM call_summary ORDER BY 1")
        (days,) = source.rows("SELECT min(day) AS first, max(day) AS last FROM call_summary")
    return [row["queue"] for row in queues], days["first"], days["last"]


def open_call(database: Path, settings: Settings, call_id: str) -> OpenedCall:
    """Everything stored about one call. Raises UsageError when there is no such call, else as `reading`."""
    with reading(database, settings) as source:
        key = _analysis_key(source, call_id)
        page = next(iter(read_call_pages(source, [key], frozenset(), frozenset())))
        data = load_calls(source, [key])[key]
        reviews = source.rows(
            "SELECT * EXCLUDE (reviewed_at) FROM reviews WHERE call_id = $call_id ORDER BY review_id",
            call_id=call_id,
        )
    return OpenedCall(page, data, tuple(reviews))


def promoted_labels(database: Path, settings: Settings) -> tuple[str, ...]:
    """What the ensemble behind the published results can say; empty when none is promoted."""
    with reading(database, settings) as source:
        rows = source.rows("SELECT labels::VARCHAR[] AS labels FROM ensembles WHERE promoted LIMIT 1")
    return tuple(rows[0]["labels"]) if rows else ()


def call_paths(database: Path, call_id: str) -> list[Path]:
    """The file or files of a call. Raises UsageError when there is no such call, else as `reading`."""
    with reading(database, Settings()) as source:
        key = _analysis_key(source, call_id)
        rows = source.rows(
            "SELECT r.paths FROM recordings r JOIN analyses a USING (recording_id)"
            " WHERE a.analysis_key = $key",
            key=key,
        )
    return [Path(path) for path in rows[0]["paths"]]


def call_segments(
    database: Path, settings: Settings, call_id: str
) -> tuple[tuple[Segment, ...], ChannelLayout]:
    """The stored segments of a call and how its voices lie. Raises as `open_call`."""
    with reading(database, settings) as source:
        key = _analysis_key(source, call_id)
        rows = source.rows(
            "SELECT segment, speaker, role::VARCHAR AS role, channel, start_s, end_s, overlap_share"
            " FROM segments WHERE call_id = $call_id ORDER BY segment",
            call_id=call_id,
        )
        layouts = source.rows(
            "SELECT channel_layout::VARCHAR AS layout FROM analyses WHERE analysis_key = $key", key=key
        )
    segments = tuple(
        Segment(
            index=row["segment"],
            speaker=row["speaker"],
            role=Role(row["role"]),
            channel=row["channel"],
            start_s=row["start_s"],
            end_s=row["end_s"],
            overlap_share=row["overlap_share"],
        )
        for row in rows
    )
    return segments, ChannelLayout(layouts[0]["layout"])


def _analysis_key(source: Source, call_id: str) -> int:
    rows = (
        source.rows("SELECT analysis_key FROM analyses WHERE call_id = $call_id", call_id=call_id)
        if _CALL_ID.fullmatch(call_id)
        else []
    )
    if not rows:
        raise UsageError("There is no such call in the published database. It may have been replaced.")
    return int(rows[0]["analysis_key"])
