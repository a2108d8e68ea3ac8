"""Files and failures -> columns: what a run notes about recordings besides their analysis."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from callanalytics.ingest.object_store import is_remote
from callanalytics.records import Failure, Recording
from callanalytics.store.rows import known_number
from callanalytics.text import display_text, optional_text

_FAILURE = {
    **dict.fromkeys(("path", "stage", "reason", "detail", "recording_id"), pl.String()),
    "n_bytes": pl.Int64(),
    "started_at": pl.Datetime("us", "UTC"),
    **dict.fromkeys(("started_at_source", "zone", "queue"), pl.String()),
    "expected_duration_s": pl.Float64(),
}
_FILE = {"path": pl.Binary(), "n_bytes": pl.Int64(), "mtime_ns": pl.Int64()}
_FILE |= {"recording_id": pl.String(), "content_id": pl.String()}


def failure_frame(failures: Sequence[Failure]) -> pl.DataFrame:
    """Rows for the quarantine, one per path: the last failure of a path counts."""
    rows = {}
    for failure in failures:
        recording, facts = failure.candidate.recording, failure.candidate.facts
        path, detail = recording.shown, display_text(facts.hide(failure.detail))
        rows[path] = (
            *(path, failure.stage, failure.reason, detail, recording.recording_id),
            *(recording.n_bytes, facts.started_at, facts.started_at_source.value, facts.zone),
            *(optional_text(facts.queue), known_number(facts.expected_duration_s)),
        )
    return pl.DataFrame(list(rows.values()), schema=_FAILURE, orient="row")


def file_frame(recordings: Sequence[Recording]) -> pl.DataFrame:
    """Files, also those of pairs, that are still what they were when their content was hashed.

    Of recordings behind URLs, what their store listed: names for people may lack a caller's number, and
    who wants to hear one again needs the name it has.
    """
    rows = {}
    for recording in recordings:
        if all(map(is_remote, recording.paths)):
            changed_ns = round(recording.modified_at.timestamp() * 1e9)
            for path, content_id in zip(recording.paths, recording.content_ids, strict=False):
                name = os.fsencode(path)
                rows[name] = (name, recording.n_bytes, changed_ns, recording.recording_id, content_id)
            continue
        try:
            found = [path.stat() for path in recording.paths]
        except OSError:
            continue  # gone again; the analysis will say so
        changed_at = datetime.fromtimestamp(max(facts.st_mtime_ns for facts in found) / 1e9, tz=UTC)
        same_time = abs((changed_at - recording.modified_at).total_seconds()) < 0.001
        if sum(facts.st_size for facts in found) != recording.n_bytes or not same_time:
            continue
        contents = recording.content_ids or (recording.recording_id,) * (len(found) == 1)
        for path, facts, content_id in zip(recording.paths, found, contents, strict=False):
            name = os.fsencode(path)
            rows[name] = (name, facts.st_size, facts.st_mtime_ns, recording.recording_id, content_id)
    return pl.DataFrame(list(rows.values()), schema=_FILE, orient="row")
