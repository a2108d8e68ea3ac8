"""Look up files and recordings in the database, only those at hand.

A database of years knows many millions of files; a night brings some thousands.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import polars as pl

from callanalytics.analysis import RECIPE
from callanalytics.config.window import Window
from callanalytics.errors import UnreadableFile
from callanalytics.ingest.kinds import SkipCount
from callanalytics.ingest.listing import FileKey, KnownFile, SettledCall
from callanalytics.ingest.object_store import is_remote
from callanalytics.records import Failure, FoundRecording, Recording
from callanalytics.records.text import display_text, optional_text
from callanalytics.store.rows import frame_of, known_number
from callanalytics.store.writer import Store

_KNOWN = """
SELECT f.row, k.content_id, k.recording_id, epoch_us(any_value(c.started_at))
FROM batch_keys f JOIN base.files k USING (path, n_bytes, mtime_ns)
LEFT JOIN base.analyses a ON a.recording_id = k.recording_id AND a.ensemble_id = $1 AND a.recipe >= $2
LEFT JOIN base.calls c ON c.call_id = a.call_id
GROUP BY ALL
"""
_KEY = {"path": pl.Binary, "n_bytes": pl.Int64, "mtime_ns": pl.Int64}
_FILE = _KEY | {"recording_id": pl.String, "content_id": pl.String}


def known_files(
    store: Store, keys: Sequence[FileKey], *, ensemble_id: str | None
) -> dict[FileKey, KnownFile]:
    """Select the files that were read before and have not changed; with `ensemble_id`, the calls that
    it has labelled by today's recipe are settled."""
    paths, sizes, times = zip(*keys, strict=True) if keys else ((), (), ())
    columns = dict(zip(_KEY, (list(map(os.fsencode, paths)), sizes, times), strict=True))
    frame = pl.DataFrame(columns, schema=_KEY)
    with store.registered({"keys": frame.with_row_index("row")}):
        rows = store.rows(_KNOWN, [ensemble_id, RECIPE])
    return {
        keys[row]: KnownFile(
            content_id,
            None
            if start_us is None
            else SettledCall(recording_id, datetime.fromtimestamp(start_us / 1e6, UTC)),
        )
        for row, content_id, recording_id, start_us in rows
    }


def done_among(store: Store, recording_ids: Collection[str], ensemble_id: str) -> set[str]:
    """Select the recordings that this ensemble has labelled by today's recipe."""
    return _ids(
        store,
        "SELECT recording_id FROM base.analyses WHERE ensemble_id = ? AND recipe >= ?"
        " AND recording_id IN (SELECT unnest(?::VARCHAR[]))",
        [ensemble_id, RECIPE, list(recording_ids)],
    )


def given_up_among(
    store: Store, recording_ids: Collection[str], max_attempts: int
) -> tuple[set[str], set[str]]:
    """Select the recordings that failed so often that they are given up; they stay listed.

    Never those that cannot be read: a folder without permission or a store that does not answer says nothing
    about a recording, and calls behind it must not be passed over in silence.

    Returns:
        Those that today's recipe tried, which are not tried again, and those that only an earlier one did:
        it may have refused what is read today, so they are due once more.
    """
    rows = store.rows(
        "SELECT q.recording_id, coalesce((r.settings->>'recipe')::INTEGER, 0) FROM base.quarantine q"
        " LEFT JOIN base.runs r USING (run_id) WHERE q.attempts >= ? AND q.reason != ?"
        " AND q.recording_id IN (SELECT unnest(?::VARCHAR[]))",
        [max_attempts, UnreadableFile.reason, list(recording_ids)],
    )
    given_up = {recording_id for recording_id, recipe in rows if recipe >= RECIPE}
    return given_up, {recording_id for recording_id, _ in rows} - given_up


def knows_of(store: Store, window: Window) -> bool:
    """Whether a call of this window, or a file that could not be analysed, is in the database."""
    return bool(
        store.rows(
            "SELECT 1 FROM (SELECT started_at FROM base.calls UNION ALL"
            " SELECT started_at FROM base.quarantine) WHERE started_at >= ? AND started_at < ? LIMIT 1",
            [window.since, window.until],
        )
    )


def note_skips(store: Store, run_id: int, skips: Sequence[SkipCount]) -> None:
    """Note what a run passed over. It is shown where it differs from what the run before passed over."""
    rows = store.rows(
        "SELECT reason, kind, n_files FROM base.skipped_files WHERE run_id ="
        " (SELECT max(run_id) FROM base.runs WHERE run_id < ?)",
        [run_id],
    )
    is_new = {(skip.reason, skip.kind, skip.n_files) for skip in skips} != set(rows)
    if not skips and not is_new:
        return
    with store.transaction("note what was passed over", shown=is_new):
        for skip in skips:
            store.connection.execute(
                "INSERT INTO base.skipped_files VALUES (?, ?, ?, ?, ?, ?)", [run_id, *skip]
            )


def remember_files(store: Store, recordings: Sequence[FoundRecording]) -> None:
    """Remember the content hash of files, so that an unchanged file is not read again.

    A file whose content is no longer what was analysed under its name goes to `store.replaced` and is
    noted when the new content is analysed (`replace_earlier`), so that a killed run forgets nothing.
    """
    frame = file_frame([found.recording for found in recordings])
    if frame.is_empty():
        return
    with store.transaction("remember files", shown=False):
        with store.registered({"files": frame}):
            changed = store.rows(
                "SELECT f.path, k.recording_id FROM batch_files f JOIN base.files k USING (path)"
                " WHERE k.recording_id != f.recording_id"
            )
        if changed:
            analysed = _ids(
                store,
                "SELECT recording_id FROM base.recordings WHERE recording_id IN"
                " (SELECT unnest(?::VARCHAR[]))",
                [[recording_id for _, recording_id in changed]],
            )
            store.replaced = {path: old for path, old in changed if old in analysed}
            frame = frame.filter(~frame["path"].is_in(list(store.replaced)))
        keep_files(store, frame)


def keep_files(store: Store, frame: pl.DataFrame) -> None:
    """Note which recording lies under each path, see `file_frame`."""
    if frame.is_empty():
        return
    with store.transaction("remember files", shown=False), store.registered({"files": frame}):
        # Replacing rows by equal ones would cost seconds when nothing is new.
        store.connection.execute(
            "INSERT OR REPLACE INTO base.files BY NAME SELECT * FROM batch_files f WHERE NOT EXISTS"
            " (FROM base.files k WHERE k.path = f.path AND k.n_bytes = f.n_bytes"
            " AND k.mtime_ns = f.mtime_ns AND k.recording_id = f.recording_id"
            " AND k.content_id = f.content_id)"
        )


def _ids(store: Store, sql: str, parameters: list[object]) -> set[str]:
    return {str(row[0]) for row in store.rows(sql, parameters)}


def file_frame(recordings: Sequence[Recording]) -> pl.DataFrame:
    """Files, also those of pairs, that are still what they were when their content was hashed.

    Of recordings behind URLs, what their store listed: names for people may lack a caller's number, and
    who opens one again needs the name it has.
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


# What an interrupted run (killed, or ended by a signal) tried is tried by the next one for the first time.
QUARANTINE = """
INSERT OR REPLACE INTO base.quarantine BY NAME
SELECT f.* EXCLUDE zone, f.started_at AT TIME ZONE f.zone AS started_local, $1 AS run_id,
    CASE WHEN q.recording_id IS DISTINCT FROM f.recording_id THEN 1
        WHEN coalesce(r.exit_code, 128) >= 128 THEN q.attempts
        ELSE q.attempts + 1 END AS attempts,
    CASE WHEN q.recording_id = f.recording_id THEN q.first_seen_at ELSE now() END AS first_seen_at,
    now() AS last_seen_at
FROM batch_failures f LEFT JOIN base.quarantine q USING (path) LEFT JOIN base.runs r ON r.run_id = q.run_id
"""


def failure_frame(failures: Sequence[Failure]) -> pl.DataFrame:
    """Rows for the quarantine, one per path: the last failure of a path counts."""
    rows = {}
    for failure in failures:
        recording, facts = failure.found.recording, failure.found.facts
        rows[recording.shown] = {
            "path": recording.shown,
            "stage": failure.stage,
            "reason": failure.reason,
            "detail": display_text(facts.hide(failure.detail)),
            "recording_id": recording.recording_id,
            "n_bytes": recording.n_bytes,
            "started_at": facts.started_at,
            "started_at_source": facts.started_at_source.value,
            "zone": facts.zone,
            "queue": optional_text(facts.queue),
            "expected_duration_s": known_number(facts.expected_duration_s),
        }
    return frame_of(list(rows.values()))
