"""Forget calls: every row about them goes, in one transaction. The bytes go with `compact`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from callanalytics.store.writer import DERIVED, Store

# A file that was hashed but never got a row of its own is as old as its last change.
_FILES = """
DELETE FROM base.files WHERE recording_id IN (SELECT recording_id FROM doomed_recordings)
    OR (make_timestamp_ns(mtime_ns) < ?::TIMESTAMP AND recording_id NOT IN
        (SELECT recording_id FROM base.recordings UNION ALL SELECT recording_id FROM base.quarantine))
"""


@dataclass(frozen=True, slots=True)
class Doomed:
    """What is older than the limit: calls by id, and how many quarantined recordings."""

    call_ids: tuple[str, ...]
    n_quarantined: int


def older_than(store: Store, before: datetime) -> Doomed:
    """Calls and quarantined recordings that started before a moment."""
    calls = store.connection.execute(
        "SELECT call_id FROM base.calls WHERE started_at < ? ORDER BY started_at, call_id", [before]
    ).fetchall()
    ((n_quarantined,),) = store.connection.execute(
        "SELECT count(*) FROM base.quarantine WHERE started_at < ?", [before]
    ).fetchall()
    return Doomed(tuple(call_id for (call_id,) in calls), int(n_quarantined))


def forget_calls(store: Store, before: datetime) -> None:
    """Delete every row about calls and quarantined recordings that started before a moment.

    Runs and ensembles stay: they name no call. Raises StoreError when the database refuses.
    """
    run = store.connection.execute
    with store.transaction("purge old calls"):
        run("CREATE TEMP TABLE doomed AS SELECT call_id FROM base.calls WHERE started_at < ?", [before])
        run(
            "CREATE TEMP TABLE doomed_recordings AS"
            " SELECT recording_id FROM base.recordings WHERE call_id IN (FROM doomed)"
            " UNION SELECT recording_id FROM base.analyses WHERE call_id IN (FROM doomed)"
            " UNION SELECT recording_id FROM base.quarantine WHERE started_at < ?",
            [before],
        )
        for table in DERIVED:
            run(
                f"DELETE FROM base.{table} WHERE analysis_key IN"  # noqa: S608
                " (SELECT analysis_key FROM base.analyses WHERE call_id IN (FROM doomed))"
            )
        run("DELETE FROM base.quarantine WHERE started_at < ?", [before])
        for table in ("reviews", "corrections", "agent_voices", "recordings", "calls"):
            run(f"DELETE FROM base.{table} WHERE call_id IN (FROM doomed)")  # noqa: S608
        run(_FILES, [before])
        run("DROP TABLE doomed_recordings")
        run("DROP TABLE doomed")


def forget_clips(store: Store, before: datetime) -> None:
    """Say of every call that started before a moment that no clip of it is left."""
    with store.transaction("forget old clips"):
        store.connection.execute(
            "UPDATE base.escalations SET evidence = list_transform(evidence,"
            " lambda moment: struct_update(moment, clip := NULL::VARCHAR))"
            " WHERE len(list_filter(evidence, lambda moment: moment.clip IS NOT NULL)) > 0"
            " AND analysis_key IN (SELECT analysis_key FROM base.analyses JOIN base.calls USING (call_id)"
            " WHERE started_at < ?)",
            [before],
        )
