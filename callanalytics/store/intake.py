"""Files and failures -> columns: what a run notes about recordings besides their analysis."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from callanalytics.records import Candidate, Failure
from callanalytics.store.rows import known_number
from callanalytics.store.text import display_text, optional_text

_FAILURE = {
    **dict.fromkeys(("path", "stage", "reason", "detail", "recording_id"), pl.String()),
    "n_bytes": pl.Int64(),
    "started_at": pl.Datetime("us", "UTC"),
    **dict.fromkeys(("started_at_source", "zone", "queue"), pl.String()),
    "expected_duration_s": pl.Float64(),
}
_FILE = {"path": pl.Binary(), "n_bytes": pl.Int64(), "mtime_ns": pl.Int64(), "recording_id": pl.String()}


def failure_frame(failures: Sequence[Failure]) -> pl.DataFrame:
    """Rows for the quarantine, one per path: the last failure of a path counts."""
    rows = {}
    for failure in failures:
        recording, facts = failure.candidate.recording, failure.candidate.facts
        path = display_text(str(recording.path))
        rows[path] = (
            *(path, failure.stage, failure.reason, display_text(failure.detail), recording.recording_id),
            *(recording.n_bytes, facts.started_at, facts.started_at_source.value, facts.zone),
            *(optional_text(facts.queue), known_number(facts.expected_duration_s)),
        )
    return pl.DataFrame(list(rows.values()), schema=_FAILURE, orient="row")


def file_frame(candidates: Sequence[Candidate]) -> pl.DataFrame:
    """Single files that are still what they were when their content was hashed.

    The files of a pair are left out: a pair's id is not the hash of either file.
    """
    rows = {}
    for candidate in candidates:
        recording = candidate.recording
        if len(recording.paths) != 1:
            continue
        try:
            found = recording.path.stat()
        except OSError:
            continue  # gone again; the analysis will say so
        changed_at = datetime.fromtimestamp(found.st_mtime_ns / 1e9, tz=UTC)
        same_time = abs((changed_at - recording.modified_at).total_seconds()) < 0.001
        if found.st_size == recording.n_bytes and same_time:
            path = os.fsencode(recording.path)
            rows[path] = (path, found.st_size, found.st_mtime_ns, recording.recording_id)
    return pl.DataFrame(list(rows.values()), schema=_FILE, orient="row")
