"""A recording that was appended to, repaired or completed is the same call: its rows replace the old ones.

The same path again means a new version of the call. Only where the recorder's own ids differ, or the calls
started half a day apart or more, a recorder has used the name again: then both calls stay.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

from callanalytics.records import CallRows
from callanalytics.store.file_rows import file_frame
from callanalytics.store.recordings import keep_files
from callanalytics.store.writer import DERIVED, Store

# More than any error of a zone can shift a start; less than lies between two nights.
REUSED_AFTER = timedelta(hours=12)

# What is known under a path of the new recordings: by the names that the file system has (`was`), else
# (remote recordings, a working database made anew) by those that people see.
_OLD = """
WITH near AS (
    SELECT call_id, recording_id, path, started_at, external_id FROM base.calls
    WHERE started_at BETWEEN $1 AND $2
),
fresh AS (SELECT b.raw, b.shown, b.was, n.* FROM batch_new b JOIN near n USING (recording_id)),
claimed AS (
    SELECT was AS old_id, fresh.* FROM fresh WHERE was IS NOT NULL
    UNION SELECT known.recording_id, fresh.* FROM fresh JOIN near known ON known.path = fresh.shown
)
SELECT o.call_id, o.recording_id, any_value(c.call_id), list(c.raw) FROM claimed c JOIN near o
    ON o.recording_id = c.old_id AND o.recording_id != c.recording_id
WHERE abs(epoch(o.started_at) - epoch(c.started_at)) < $3
    AND coalesce(o.external_id = c.external_id, true)
GROUP BY ALL
"""


def supersede(store: Store, calls: Sequence[CallRows]) -> tuple[str, ...]:
    """Remove earlier versions of calls that were just appended; returns the ids of the calls that went.

    What people said of a whole call or of a rule goes over to the new version. What they said of segments,
    and that its sides are exchanged, was about other sound and goes.

    Raises StoreError when the database refuses.
    """
    import polars as pl

    if not calls:
        return ()
    starts = [call.started_at for call in calls]
    files = [
        (call.recording.recording_id, os.fsencode(path), shown, store.replaced.get(os.fsencode(path)))
        for call in calls
        for path, shown in zip(call.recording.paths, call.recording.all_shown, strict=True)
    ]
    schema = {"recording_id": pl.String, "raw": pl.Binary, "shown": pl.String, "was": pl.String}
    frame = pl.DataFrame(files, schema=schema, orient="row")
    with store.transaction("replace earlier versions of calls"):
        with store.registered({"new": frame}):
            found = store.connection.execute(
                _OLD, [min(starts) - REUSED_AFTER, max(starts) + REUSED_AFTER, REUSED_AFTER.total_seconds()]
            ).fetchall()
        old = {
            (call_id, recording_id): new_id
            for call_id, recording_id, new_id, paths in found
            if not _lies_elsewhere(store, recording_id, paths)
        }
        for (call_id, recording_id), new_id in old.items():
            _replace(store, call_id, recording_id, new_id)
        # Which recording lies there now could not be said before (`remember_files`).
        changed = [
            c.recording for c in calls if any(os.fsencode(p) in store.replaced for p in c.recording.paths)
        ]
        keep_files(store, file_frame(changed))
        gone = [recording_id for _, recording_id in old]
        if gone:
            store.connection.execute(
                "DELETE FROM base.files WHERE recording_id IN (SELECT unnest(?::VARCHAR[]))", [gone]
            )
    return tuple(call_id for call_id, _ in old)


def _lies_elsewhere(store: Store, recording_id: str, paths: Sequence[bytes]) -> bool:
    """Whether all of the old recording's content still lies, unchanged, under other paths than these."""
    rows = store.connection.execute(
        "SELECT path, n_bytes, mtime_ns, content_id FROM base.files WHERE recording_id = ?", [recording_id]
    ).fetchall()
    contents = {content_id for *_, content_id in rows}
    there = set()
    for path, n_bytes, mtime_ns, content_id in rows:
        if path in paths:
            continue
        try:
            found = os.stat(path)  # noqa: PTH116 - bytes
        except OSError:
            continue
        if (found.st_size, found.st_mtime_ns) == (n_bytes, mtime_ns):
            there.add(content_id)
    return bool(contents) and there == contents


def _replace(store: Store, call_id: str, recording_id: str, new_id: str) -> None:
    run = store.connection.execute
    for table in DERIVED:
        run(
            f"DELETE FROM base.{table} WHERE analysis_key IN"  # noqa: S608
            " (SELECT analysis_key FROM base.analyses WHERE call_id = ?)",
            [call_id],
        )
    run("DELETE FROM base.quarantine WHERE recording_id = ?", [recording_id])
    run("UPDATE base.reviews SET call_id = ? WHERE call_id = ? AND segment IS NULL", [new_id, call_id])
    for table in ("reviews", "corrections", "agent_voices", "recordings", "calls"):
        run(f"DELETE FROM base.{table} WHERE call_id = ?", [call_id])  # noqa: S608
