"""Remove calls with every row about them: purged ones, and earlier versions of a recording.

A recording that was appended to, repaired or completed is the same call: its rows replace the old ones.
The same path again means a new version of the call. Only where the recorder's own ids differ, or the calls
started half a day apart or more, a recorder has used the name again: then both calls stay.

The bytes of deleted rows go with `publish.compact`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from callanalytics.records import CallRows
from callanalytics.store.recordings import file_frame, keep_files
from callanalytics.store.writer import DERIVED, Store

# More than any error of a zone can shift a start; less than lies between two nights.
REUSED_AFTER = timedelta(hours=12)

# What is known under a path of the new recordings: by the names that the file system has (`was`), else
# (remote recordings, a working database made anew) by those that people see.
_EARLIER = """
WITH near AS (
    SELECT call_id, recording_id, path, started_at, external_id FROM base.calls
    WHERE started_at BETWEEN $1 AND $2
),
fresh AS (SELECT b.raw, b.shown, b.was, n.* FROM batch_new b JOIN near n USING (recording_id)),
owner AS (
    SELECT was AS old_id, fresh.* FROM fresh WHERE was IS NOT NULL
    UNION SELECT known.recording_id, fresh.* FROM fresh JOIN near known ON known.path = fresh.shown
)
SELECT o.call_id, o.recording_id, any_value(c.call_id), list(c.raw) FROM owner c JOIN near o
    ON o.recording_id = c.old_id AND o.recording_id != c.recording_id
WHERE abs(epoch(o.started_at) - epoch(c.started_at)) < $3
    AND coalesce(o.external_id = c.external_id, true)
GROUP BY ALL
"""
_NAMES = """
WITH gone AS (
    SELECT call_id, recording_id, unnest(r.paths) AS path FROM base.calls JOIN base.recordings r
        USING (call_id, recording_id) WHERE {calls}
    UNION SELECT NULL, recording_id, path FROM base.quarantine WHERE {quarantined}
)
SELECT g.*, f.path FROM gone g LEFT JOIN base.files f USING (recording_id)
"""
# A file that was hashed but never got a row of its own is as old as its last change.
_OLD_FILES = """
DELETE FROM base.files WHERE make_timestamp_ns(mtime_ns) < ?::TIMESTAMP AND recording_id NOT IN
    (SELECT recording_id FROM base.recordings UNION ALL SELECT recording_id FROM base.quarantine)
"""
# Hashed by a run that was killed before it analysed them, say: those that have left meanwhile go.
_UNREAD_FILES = """
SELECT path FROM base.files WHERE recording_id NOT IN
    (SELECT recording_id FROM base.recordings UNION ALL SELECT recording_id FROM base.quarantine)
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which calls are to go: before a moment, one by the head of its id, a caller's by hash, an agent's."""

    by: Literal["older_than", "call", "caller", "agent"]
    value: datetime | str
    counted_from: datetime | None = None
    """The clock that an age was counted back from; None where people named a date or calls."""

    @property
    def before(self) -> datetime | None:
        """The moment, when the calls before one are to go."""
        return self.value if isinstance(self.value, datetime) else None

    @property
    def calls(self) -> str:
        """SQL condition on a row of base.calls, with one parameter: the value."""
        conditions = {"older_than": "started_at < ?", "call": "starts_with(call_id, ?)"}
        return conditions.get(self.by, "caller_hash = ?" if self.by == "caller" else "agent_id = ?")

    @property
    def quarantined(self) -> str:
        """The same for base.quarantine, which knows callers only by the alias in the path, and no agents."""
        conditions = {"older_than": "started_at < ?", "caller": "contains(path, 'caller~' || left(?, 8))"}
        return conditions.get(self.by, "? IS NULL")


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows of a selection: calls by id, how many quarantined recordings, what names them, where they lie."""

    call_ids: tuple[str, ...]
    n_quarantined: int
    names: tuple[bytes, ...]  # their ids and the names of their files
    paths: tuple[bytes, ...]  # of the recordings, as the file system has them


def select(store: Store, selection: Selection) -> Selected:
    """Find the calls and quarantined recordings of a selection."""
    value = selection.value
    calls = store.rows(
        f"SELECT call_id FROM base.calls WHERE {selection.calls} ORDER BY started_at, call_id",  # noqa: S608
        [value],
    )
    ((n_quarantined,),) = store.rows(
        f"SELECT count(*) FROM base.quarantine WHERE {selection.quarantined}",  # noqa: S608
        [value],
    )
    named: set[bytes] = set()
    paths: set[bytes] = set()
    sql = _NAMES.format(calls=selection.calls, quarantined=selection.quarantined)
    for call_id, recording_id, path, raw in store.rows(sql, [value, value]):
        named |= {text.encode() for text in (call_id, recording_id) if text}
        named |= {os.path.basename(name) for name in ((path or "").encode(), raw or b"")}  # noqa: PTH119 - bytes
        paths |= {raw} if raw else set()
    ids = tuple(call_id for (call_id,) in calls)
    return Selected(ids, int(n_quarantined), tuple(named - {b""}), tuple(sorted(paths)))


def forget_calls(store: Store, selection: Selection) -> None:
    """Delete every row about the calls and quarantined recordings of a selection.

    Runs and ensembles stay: they name no call.

    Raises:
        StoreError: the database refuses.
    """
    run = store.connection.execute
    value = selection.value
    with store.transaction("purge calls"):
        run(f"CREATE TEMP TABLE gone AS SELECT call_id FROM base.calls WHERE {selection.calls}", [value])  # noqa: S608
        run(
            "CREATE TEMP TABLE gone_recordings AS"  # noqa: S608
            " SELECT recording_id FROM base.recordings WHERE call_id IN (FROM gone)"
            " UNION SELECT recording_id FROM base.analyses WHERE call_id IN (FROM gone)"
            f" UNION SELECT recording_id FROM base.quarantine WHERE {selection.quarantined}",
            [value],
        )
        if selection.by == "agent":  # also of calls that are gone already
            run("DELETE FROM base.agent_voices WHERE agent = ?", [value])
        run("DELETE FROM base.quarantine WHERE recording_id IN (FROM gone_recordings)")
        _delete_gone(store)
        run("DELETE FROM base.files WHERE recording_id IN (FROM gone_recordings)")
        if selection.before:
            run(_OLD_FILES, [selection.before])
        left = [path for (path,) in store.rows(_UNREAD_FILES) if not os.path.lexists(path)]
        run("DELETE FROM base.files WHERE path IN (SELECT unnest(?::BLOB[]))", [left])
        run("DROP TABLE gone_recordings")


def forget_clips(store: Store, selection: Selection) -> None:
    """Note of every call of a selection that no clip of it is left."""
    changed = (
        "WHERE analysis_key IN (SELECT analysis_key FROM base.escalations JOIN base.analyses"  # noqa: S608
        f" USING (analysis_key) JOIN base.calls USING (call_id) WHERE {selection.calls}"
        " AND len(list_filter(evidence, lambda moment: moment.clip IS NOT NULL)) > 0)"
    )
    with store.transaction("forget clips"):
        run = store.connection.execute
        run(f"UPDATE base.analyses SET revision = uuid() {changed}", [selection.value])  # noqa: S608
        run(
            "UPDATE base.escalations SET evidence = list_transform(evidence,"  # noqa: S608
            f" lambda moment: struct_update(moment, clip := NULL::VARCHAR)) {changed}",
            [selection.value],
        )


def replace_earlier(store: Store, calls: Sequence[CallRows]) -> tuple[str, ...]:
    """Remove earlier versions of calls that were just appended; returns the ids of the calls that went.

    What people said of a whole call or of a rule goes over to the new version. What they said of segments,
    and that its sides are exchanged, was about other sound and goes.

    Raises:
        StoreError: the database refuses.
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
    run = store.connection.execute
    with store.transaction("replace earlier versions of calls"):
        with store.registered({"new": frame}):
            found = run(
                _EARLIER,
                [min(starts) - REUSED_AFTER, max(starts) + REUSED_AFTER, REUSED_AFTER.total_seconds()],
            ).fetchall()
        old = [
            (call_id, recording_id, new_id)
            for call_id, recording_id, new_id, paths in found
            if not _lies_elsewhere(store, recording_id, paths)
        ]
        # Which recording lies there now could not be said before (`remember_files`).
        changed = [
            c.recording for c in calls if any(os.fsencode(p) in store.replaced for p in c.recording.paths)
        ]
        keep_files(store, file_frame(changed))
        for call_id, _, new_id in old:
            review = "UPDATE base.reviews SET call_id = ? WHERE call_id = ? AND segment IS NULL"
            run(review, [new_id, call_id])
        if old:
            call_ids, recording_ids, _ = map(list, zip(*old, strict=True))
            for table in ("quarantine", "files"):
                sql = f"DELETE FROM base.{table} WHERE recording_id IN (SELECT unnest(?::VARCHAR[]))"  # noqa: S608
                run(sql, [recording_ids])
            run("CREATE TEMP TABLE gone AS SELECT unnest(?::VARCHAR[]) AS call_id", [call_ids])
            _delete_gone(store)
    return tuple(call_id for call_id, *_ in old)


def _delete_gone(store: Store) -> None:
    """Delete every row of the calls in the temporary table `gone`, and that table."""
    run = store.connection.execute
    for table in DERIVED:
        run(
            f"DELETE FROM base.{table} WHERE analysis_key IN"  # noqa: S608
            " (SELECT analysis_key FROM base.analyses WHERE call_id IN (FROM gone))"
        )
    for table in ("reviews", "corrections", "agent_voices", "recordings", "calls"):
        run(f"DELETE FROM base.{table} WHERE call_id IN (FROM gone)")  # noqa: S608
    run("DROP TABLE gone")


def _lies_elsewhere(store: Store, recording_id: str, paths: Sequence[bytes]) -> bool:
    """Check whether all of the old recording's content still lies, unchanged, under other paths."""
    rows = store.rows(
        "SELECT path, n_bytes, mtime_ns, content_id FROM base.files WHERE recording_id = ?", [recording_id]
    )
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
