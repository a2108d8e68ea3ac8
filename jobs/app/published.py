"""The published calls for the app: a list of them, one call with its reviews, its segments, its sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from callanalytics.analysis.assess import assess
from callanalytics.analysis.call import CallAnalysis
from callanalytics.analysis.contrast import contrast_of
from callanalytics.audio import decode_recording
from callanalytics.audio.clips import contrast_clip
from callanalytics.config import Settings
from callanalytics.errors import RecordingError, UsageError
from callanalytics.ingest.locate import hide_names, locate
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt
from callanalytics.records import Audio, Clip, Diarization, Segment
from callanalytics.store import Store
from callanalytics.store.query import Published
from callanalytics.store.reader import read_call
from callanalytics.workspace import Workspace
from reports.call_rows import CallData, load_calls
from reports.pages.call_page import CallPage, read_call_pages
from reports.pages.cards import CARD_JOIN_SHARE
from reports.parts.call_parts import summarise_call
from reports.report_source import Row, Source
from reports.timeline import JOIN_S
from reports.views import CallSummary

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


_ANALYSIS = """
SELECT analysis_key, recording_id, paths
FROM analyses JOIN recordings USING (recording_id) WHERE analyses.call_id = $call_id
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to list. `text` is looked for in call id, path, queue, agent and in what is said.

    Dates are local days.
    """

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


@dataclass(frozen=True, slots=True)
class PublishedCalls:
    """The published calls of an output folder.

    Each method opens the published file for a moment, since a run may replace it at any time.

    Raises:
        UsageError: nothing is published yet, or there is no such call.
        StoreError: the published file cannot be read.
    """

    settings: Settings
    workspace: Workspace

    @contextmanager
    def reading(self) -> Iterator[Source]:
        """The published file, for as long as the block runs."""
        now = datetime.now(UTC).astimezone(self.settings.time.zone_info)
        with Published(self.workspace.database) as published:
            yield Source(published, self.settings, datetime.min.replace(tzinfo=UTC), now, now, None, "")

    def find(self, wanted: Wanted) -> Listed:
        """Find the calls that are wanted and return one page of them."""
        where, values = _conditions(wanted)
        order = f"{SORTS[wanted.sort]} {'DESC' if wanted.descending else 'ASC'} NULLS LAST"
        paged = {**values, "n_rows": PAGE_ROWS, "n_before": PAGE_ROWS * max(0, wanted.page)}
        with self.reading() as source:
            n_all = source.rows("SELECT count(*) AS n FROM call_summary")[0]["n"]
            n_found = source.rows(_COUNT.format(where=where), **values)[0]["n"]
            rows = source.rows(_LIST.format(where=where, order=order), **paged)
        return Listed(tuple(rows), n_found, n_all)

    def queues_and_days(self) -> tuple[Sequence[str], date | None, date | None]:
        """Return every queue by name ('' for none), the first and the last day."""
        with self.reading() as source:
            queues = source.rows("SELECT DISTINCT coalesce(queue, '') AS queue FROM call_summary ORDER BY 1")
            (days,) = source.rows("SELECT min(day) AS first, max(day) AS last FROM call_summary")
        return [row["queue"] for row in queues], days["first"], days["last"]

    def labels(self) -> tuple[str, ...]:
        """Return what the ensemble behind the results can say; nothing when none is promoted."""
        with self.reading() as source:
            rows = source.rows("SELECT labels::VARCHAR[] AS labels FROM ensembles WHERE promoted LIMIT 1")
        return tuple(rows[0]["labels"]) if rows else ()

    def open(self, call_id: str) -> OpenedCall:
        """Return everything stored about one call."""
        with self.reading() as source:
            key = _analysis(source, call_id)["analysis_key"]
            page = next(iter(read_call_pages(source, [key], frozenset(), frozenset())))
            data = load_calls(source, [key])[key]
            reviews = source.rows(
                "SELECT * EXCLUDE (reviewed_at) FROM reviews WHERE call_id = $call_id ORDER BY review_id",
                call_id=call_id,
            )
        return OpenedCall(page, data, tuple(reviews))

    def card(self, call_id: str) -> tuple[CallSummary, Row]:
        """Return what the card of a call shows, and its row of call_summary."""
        with self.reading() as source:
            key = _analysis(source, call_id)["analysis_key"]
            call = load_calls(source, [key])[key]
            join_s = max(JOIN_S, CARD_JOIN_SHARE * call.facts["duration_s"])
            return summarise_call(source, call, root="", n_ticks=6, join_s=join_s), call.facts

    def contrast(self, call_id: str) -> tuple[Clip, ...]:
        """Make the contrast clip of a call from its recording; nothing where nobody speaks.

        Raises:
            RecordingError: it is gone, replaced by another one, or cannot be decoded.
        """
        call = self._stored(call_id)
        duration_s, known = call.audio.duration_s, (call.speech, call.segments, call.features, call.votes)
        found = assess(duration_s, *known, self.settings, call.words)
        return contrast_clip(self.audio(call_id), contrast_of(call.segments, found, duration_s))

    def segments(self, call_id: str) -> tuple[tuple[Segment, ...], Diarization]:
        """Return the stored segments of a call and who speaks when."""
        call = self._stored(call_id)
        return call.segments, call.speech

    def _stored(self, call_id: str) -> CallAnalysis:
        with self.reading() as source:
            _analysis(source, call_id)
            return read_call(Store(source.published.connection, self.workspace), call_id)

    def require(self, call_id: str) -> None:
        """Raise UsageError unless there is such a call now."""
        with self.reading() as source:
            _analysis(source, call_id)

    def audio(self, call_id: str) -> Audio:
        """Decode the recording of a call, whatever its files are called.

        A message about them holds their published names, which have no callers' numbers.

        Raises:
            RecordingError: it is gone, replaced by another one, or cannot be decoded.
        """
        with self.reading() as source:
            analysis = _analysis(source, call_id)
        shown: tuple[str, ...] = tuple(analysis["paths"])
        salt = load_or_make_salt(self.workspace.folder / self.settings.privacy.salt_file)
        paths = locate(analysis["recording_id"], shown, salt, self.settings.audio)
        try:
            return decode_recording(paths, self.settings.audio, recording_id=analysis["recording_id"])
        except RecordingError as problem:
            raise type(problem)(hide_names(str(problem), paths, shown)) from None


def _analysis(source: Source, call_id: str) -> Row:
    rows = source.rows(_ANALYSIS, call_id=call_id)
    if not rows:
        raise UsageError("There is no such call in the published database. It may have been replaced.")
    return rows[0]


# What is known of a call, or whole words that are said in it, one after the other.
_TEXT = """(
    contains(lower(concat_ws(' ', call_id, path, queue, agent_id, agent_name, external_id)), $text)
    OR call_id IN (
        SELECT u.call_id FROM utterances u WHERE len(search_terms($text)) > 0 AND contains(
            ' ' || array_to_string(search_terms(u.text), ' ') || ' ',
            ' ' || array_to_string(search_terms($text), ' ') || ' '
        )
    )
)"""


def _conditions(wanted: Wanted) -> tuple[str, dict[str, Any]]:
    """The WHERE clause and its values; nothing of a person's typing gets into the text."""
    parts, values = ["true"], dict[str, Any]()
    if wanted.text.strip():
        parts.append(_TEXT)
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
