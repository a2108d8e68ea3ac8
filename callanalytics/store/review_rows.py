"""Reviews of calls, rules and segments by people, checked against what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callanalytics.errors import UsageError
from callanalytics.records.text import display_text, optional_text
from callanalytics.workspace import Workspace
from ensemble.labels import EMOTIONS

if TYPE_CHECKING:
    import duckdb

VERDICTS = ("confirm", "reject", "unsure")
_N_NUMBERS = 2**31  # a greater one is no segment's, and none that DuckDB takes


@dataclass(frozen=True, slots=True)
class Review:
    """A person's verdict on a call, on one of its rules, or on one of its segments.

    Of a call or a rule, "confirm" means worth flagging and "reject" means not; of a segment, that the
    voted emotion is right or not. `emotion` is what the reviewer heard in the segment.
    """

    call_id: str
    verdict: str
    rule: str | None = None
    segment: int | None = None
    emotion: str | None = None
    reviewer: str | None = None
    note: str | None = None
    reviewed_at: datetime | None = None  # None: now; tz-aware otherwise


def check_review(connection: duckdb.DuckDBPyConnection, review: Review) -> None:
    """Check a review without writing it; works on the published file too.

    Raises:
        UsageError: `insert_review` would raise it.
    """
    _checked(connection, review)


def insert_review(connection: duckdb.DuckDBPyConnection, review: Review, review_id: int) -> None:
    """Append one review, inside a transaction of the caller.

    Raises:
        UsageError: no such call, rule, segment, verdict or emotion; or they do not go together.
    """
    place, emotion = _checked(connection, review)
    connection.execute(
        "INSERT INTO base.reviews (review_id, call_id, rule, segment, verdict, emotion, voted, channel,"
        " start_s, end_s, reviewer, note, reviewed_at) VALUES"
        " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, coalesce(?, now()))",
        [
            *(review_id, review.call_id, review.rule, review.segment, review.verdict, emotion, place.voted),
            *(place.channel, place.start_s, place.end_s),
            *(optional_text(review.reviewer), optional_text(review.note), review.reviewed_at),
        ],
    )


def _checked(connection: duckdb.DuckDBPyConnection, review: Review) -> tuple[_Place, str | None]:
    """Place of the reviewed segment, and the emotion that the person heard in it."""
    _check_words(review)
    _check_call(connection, review)
    place = _Place() if review.segment is None else _place(connection, review)
    if review.verdict == "confirm" and review.segment is not None:
        return place, _confirmed(review, place)
    return place, review.emotion


@dataclass(frozen=True, slots=True)
class _Place:
    """Place of a segment in the recording and its vote; all None for a whole call."""

    voted: str | None = None
    channel: int | None = None
    start_s: float | None = None
    end_s: float | None = None


def _check_words(review: Review) -> None:
    if review.verdict not in VERDICTS:
        raise UsageError(f"verdict {review.verdict!r}: expected one of {', '.join(VERDICTS)}.")
    if review.emotion is not None and review.emotion not in EMOTIONS:
        raise UsageError(f"emotion {review.emotion!r}: expected one of {', '.join(EMOTIONS)}.")
    if review.emotion is not None and review.segment is None:
        raise UsageError("An emotion is heard in a segment: say which with its number.")
    if review.rule is not None and review.segment is not None:
        raise UsageError("A review is about a rule or about a segment, not both: write two.")


def _check_call(connection: duckdb.DuckDBPyConnection, review: Review) -> None:
    if not _rows(connection, "SELECT 1 FROM base.calls WHERE call_id = ?", review.call_id):
        raise UsageError(
            f"no call {display_text(review.call_id)!r}. "
            f"List them with: {_query(connection, 'FROM call_summary')}"
        )
    if review.rule is None:
        return
    fired = [
        r for (r,) in _rows(connection, "SELECT rule FROM escalations WHERE call_id = ?", review.call_id)
    ]
    if review.rule not in fired:
        raise UsageError(
            f"call {review.call_id}: rule {display_text(review.rule)!r} did not fire on it. "
            f"Fired: {', '.join(fired) or 'none'}."
        )


def _place(connection: duckdb.DuckDBPyConnection, review: Review) -> _Place:
    sql = (
        "SELECT s.emotion::VARCHAR, s.channel, s.start_s, s.end_s FROM base.segments s"
        " WHERE s.analysis_key = (SELECT analysis_key FROM analyses WHERE call_id = ?) AND s.segment = ?"
    )
    known = review.segment in range(_N_NUMBERS)
    rows = _rows(connection, sql, review.call_id, review.segment) if known else []
    if not rows:
        listing = _query(connection, f"FROM segment_emotions WHERE call_id = '{review.call_id}'")
        raise UsageError(f"call {review.call_id}: no segment {review.segment}. List them with: {listing}")
    return _Place(*rows[0])


def _query(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The command that asks the same results."""
    ((database,),) = _rows(
        connection, "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    )
    return Workspace.containing(Path(database)).command("query", sql)


def _confirmed(review: Review, place: _Place) -> str:
    """The emotion of a confirmed segment: the voted one, which there must be."""
    if place.voted is None:
        raise UsageError(
            f"call {review.call_id}, segment {review.segment}: the ensemble abstained, there is no emotion "
            "to confirm. Reject it and name the emotion you hear."
        )
    if review.emotion not in (None, place.voted):
        raise UsageError(
            f"call {review.call_id}, segment {review.segment}: the vote is {place.voted}; hearing "
            f"{review.emotion} is a reject."
        )
    return place.voted


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = connection.execute(sql, list(parameters)).fetchall()
    return rows
