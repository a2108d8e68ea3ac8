"""The working database during a run. One writer; every batch is one transaction."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from callanalytics.errors import StoreError, remedy
from callanalytics.records.text import display_text, optional_text
from callanalytics.store.review_rows import Review, insert_review
from callanalytics.store.schema import Streamed, first_value
from callanalytics.store.summary import read_summary, write_summary
from callanalytics.workspace import Workspace

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from callanalytics.analysis.call import CallAnalysis
    from callanalytics.config.window import Window
    from callanalytics.records import CallRows, Failure

# Everything that hangs on an analysis and is replaced with it; the first as the workers send it.
_SENT = ("turns", "sounds", "segments", "predictions", "call_measures", "escalations", "utterances")
DERIVED = (*_SENT, "call_emotions", "member_tallies", "call_levels", "analyses")


@dataclass(frozen=True, slots=True)
class Correction:
    """Correction of a call by a person; every later analysis keeps it."""

    call_id: str
    swap_roles: bool
    corrected_by: str | None = None
    note: str | None = None


@dataclass(slots=True)
class RunCounts:
    """Counts of one run, from its search to its last commit."""

    n_found: int = 0  # recordings of the window: new, left by `--limit` and skipped
    n_new: int = 0  # to analyse, or to list as unreadable
    n_done: int = 0
    n_skipped: int = 0  # done before, or given up
    n_quarantined: int = 0
    audio_s: float = 0.0  # of the calls that are done
    n_flagged: int = 0
    n_given_up: int = 0  # of the skipped: files that failed `max_attempts` times
    n_tried_anew: int = 0  # of the new: files that an earlier recipe gave up
    n_with_words: int = 0  # of the done
    n_late_words: int = 0  # calls of earlier runs whose transcript came only now
    words_notes: Counter[str] = field(default_factory=Counter)  # why calls have no words, or not all

    @property
    def n_left(self) -> int:
        """New recordings that were not reached."""
        return self.n_new - self.n_done - self.n_quarantined


class Store:
    """The open working database (see `open_work`). Not for use by several threads at once.

    All methods raise StoreError when the database refuses (disk full, damaged file); what was
    committed before stays.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
        self.connection = connection
        self.workspace = workspace
        # Path -> the analysed recording that lay there before its content changed, of `known.remember_files`.
        self.replaced: dict[bytes, str] = {}
        self._in_transaction = False
        self._summary_is_old = read_summary(workspace) is None

    @property
    def database(self) -> Path:
        """The file that is open."""
        return self.workspace.work_database

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave a summary for `status` and close the file; safe to call twice."""
        self._leave_summary()
        self.connection.close()

    def _leave_summary(self) -> None:
        if self._summary_is_old:
            write_summary(self.connection, self.workspace)
        self._summary_is_old = False

    # Runs ------------------------------------------------------------------------------------------

    def begin_run(
        self, window: Window, ensemble_id: str, version: str, *, settings: Mapping[str, object] | None = None
    ) -> int:
        """Note that a run has started; its number goes with everything it writes."""
        with self.transaction("note the start of the run", shown=False):
            run_id = self._next("runs", "run_id")
            self.connection.execute(
                "INSERT INTO base.runs (run_id, started_at, since_at, until_at, ensemble_id, version, host,"
                " pid, settings) VALUES (?, now(), ?, ?, ?, ?, ?, ?, ?)",
                [
                    *(run_id, window.since, window.until, ensemble_id, version),
                    *(display_text(socket.gethostname()), os.getpid()),
                    json.dumps(settings, default=str) if settings is not None else None,
                ],
            )
        self._leave_summary()  # if this run is killed, `status` shows that it has not ended
        return run_id

    def earlier_runs(self) -> list[tuple[datetime, datetime, datetime, bool]]:
        """List past runs, newest first: start and end of the window, start, whether it ended well.

        That is: it did all there was, quarantined some, or found nothing (exit 0, 3, 4). One that had a
        `--limit` and left some did not.
        """
        rows = self.rows(
            "SELECT epoch_us(since_at), epoch_us(until_at), epoch_us(started_at),"
            " coalesce(exit_code IN (0, 3, 4) AND n_done + n_skipped + n_quarantined >= n_found, false)"
            " FROM base.runs ORDER BY started_at DESC LIMIT 1000",
            [],
        )
        times = [([datetime.fromtimestamp(us / 1e6, UTC) for us in row[:3]], row[3]) for row in rows]
        return [(since, until, began, ended_well) for (since, until, began), ended_well in times]

    def end_run(self, run_id: int, counts: RunCounts, *, exit_code: int) -> None:
        """Note how a run ended. A run without an end was killed."""
        with self.transaction("note the end of the run", shown=False):
            self.connection.execute(
                "UPDATE base.runs SET ended_at = now(), n_found = ?, n_new = ?, n_done = ?, n_skipped = ?,"
                " n_quarantined = ?, audio_s = ?, exit_code = ? WHERE run_id = ?",
                [
                    *(counts.n_found, counts.n_new, counts.n_done, counts.n_skipped, counts.n_quarantined),
                    *(counts.audio_s, exit_code, run_id),
                ],
            )

    # Results ---------------------------------------------------------------------------------------

    def write(self, batch: Sequence[CallAnalysis], run_id: int) -> None:
        """Store some analyses made in this process, see `append`."""
        from callanalytics.store.rows import pack

        self.append([pack(call) for call in batch], run_id)

    def append(self, batch: Sequence[CallRows], run_id: int) -> None:
        """Store the rows of some calls in one transaction.

        What is there for the same call and ensemble is replaced, so that running again never doubles;
        a recording that succeeds leaves the quarantine.
        """
        from callanalytics.store.rows import unpack

        newest = {(call.recording.call_id, call.ensemble_id): call for call in batch}
        if not newest:
            return
        with self.transaction(f"write {len(newest)} calls"):
            first_key = self._next("analyses", "analysis_key")
            tables = unpack(dict(enumerate(newest.values(), start=first_key)))
            self._forget(newest)
            with self.registered(tables):
                self._insert(tables, run_id)
            paths = [path for call in newest.values() for path in call.recording.all_shown]
            self.connection.execute(
                "DELETE FROM base.quarantine WHERE recording_id IN (SELECT unnest(?::VARCHAR[]))"
                " OR path IN (SELECT unnest(?::VARCHAR[]))",
                [[call.recording.recording_id for call in newest.values()], paths],
            )

    def _forget(self, wanted: Mapping[tuple[str, str], CallRows]) -> None:
        """Delete earlier results of the same calls and ensembles."""
        calls, ensembles = [list(column) for column in zip(*wanted, strict=True)]
        old = self.connection.execute(
            "SELECT analysis_key FROM base.analyses WHERE (call_id, ensemble_id) IN"
            " (SELECT (unnest(?::VARCHAR[]), unnest(?::VARCHAR[])))",
            [calls, ensembles],
        ).fetchall()
        if not old:
            return
        keys = [key for (key,) in old]
        for table in DERIVED:
            self.connection.execute(
                f"DELETE FROM base.{table} WHERE analysis_key IN (SELECT unnest(?::INTEGER[]))",  # noqa: S608
                [keys],
            )

    def _insert(self, tables: Mapping[str, pl.DataFrame], run_id: int) -> None:
        from callanalytics.store.rows import CALL_EMOTIONS, CALL_LEVELS, MEMBER_TALLIES, NOTE_RULES

        run = self.connection.execute
        run("INSERT OR REPLACE INTO base.recordings BY NAME FROM batch_recordings")
        run(
            "INSERT OR REPLACE INTO base.calls BY NAME SELECT * EXCLUDE fact_sources,"
            " started_at AT TIME ZONE zone AS started_local, map_from_entries(fact_sources) AS fact_sources"
            " FROM batch_calls"
        )
        run(
            "INSERT INTO base.analyses BY NAME SELECT * EXCLUDE stage_wall_s, ? AS run_id,"
            " now() AS analysed_at, map_from_entries(stage_wall_s) AS stage_wall_s, uuid() AS revision"
            " FROM batch_analyses",
            [run_id],
        )
        if "rule_sets" in tables:
            run(NOTE_RULES)
        for table in _SENT:
            if table in tables:
                run(f"INSERT INTO base.{table} BY NAME FROM batch_{table}")
        if "segments" in tables:
            for sums in (CALL_EMOTIONS, MEMBER_TALLIES, CALL_LEVELS):
                run(sums)

    @contextlib.contextmanager
    def registered(self, frames: Mapping[str, pl.DataFrame]) -> Iterator[None]:
        """Frames as tables `batch_<name>` while the block runs."""
        for name, frame in frames.items():
            self.connection.register(f"batch_{name}", Streamed(frame))
        try:
            yield
        finally:
            for name in frames:
                self.connection.unregister(f"batch_{name}")

    # Quarantine --------------------------------------------------------------------------------------

    def quarantine(self, failures: Sequence[Failure], run_id: int) -> None:
        """List recordings that could not be analysed; one that fails again counts an attempt more.

        A file whose content has changed since begins at one attempt.
        """
        from callanalytics.store.recordings import QUARANTINE, failure_frame

        if not failures:
            return
        frame = failure_frame(failures)
        with self.transaction(f"quarantine {frame.height} recordings"), self.registered({"failures": frame}):
            self.connection.execute(QUARANTINE, [run_id])

    # Ensembles ---------------------------------------------------------------------------------------

    def register_ensemble(
        self, ensemble_id: str, card: Mapping[str, object], labels: Sequence[str], members: Sequence[str]
    ) -> None:
        """Note an ensemble that labels calls; again is no change except for its card."""
        with self.transaction("register the ensemble", shown=False):
            self.connection.execute(
                "INSERT INTO base.ensembles VALUES (?, ?::VARCHAR[]::emotion[], ?, ?, now(), false, NULL)"
                " ON CONFLICT DO UPDATE SET card = excluded.card",
                [ensemble_id, list(labels), list(members), json.dumps(card, default=str)],
            )

    def promoted_ensemble(self) -> str | None:
        """The ensemble that the views show."""
        return next(iter(self._ids("SELECT ensemble_id FROM base.ensembles WHERE promoted")), None)

    def promote_ensemble(self, ensemble_id: str) -> bool:
        """Make this the only ensemble that the views show. True when it was not before."""
        if self.promoted_ensemble() == ensemble_id:
            return False
        with self.transaction("promote the ensemble"):
            known = self._ids("SELECT ensemble_id FROM base.ensembles")
            if ensemble_id not in known:
                raise StoreError(
                    f"Ensemble {ensemble_id} cannot be promoted: it is not registered in {self.database}. "
                    f"Registered are: {', '.join(sorted(known)) or 'none'}."
                )
            self.connection.execute(
                "UPDATE base.ensembles SET promoted = (ensemble_id = $1),"
                " promoted_at = CASE WHEN ensemble_id = $1 THEN now() ELSE promoted_at END"
                " WHERE promoted != (ensemble_id = $1)",
                [ensemble_id],
            )
        return True

    # People --------------------------------------------------------------------------------------------

    def correct(self, correction: Correction) -> None:
        """Remember a correction by a person; the newest one about a call counts."""
        said = (optional_text(correction.corrected_by), optional_text(correction.note))
        with self.transaction("remember the correction"):
            self.connection.execute(
                "INSERT OR REPLACE INTO base.corrections VALUES (?, ?, ?, ?, now())",
                [correction.call_id, correction.swap_roles, *said],
            )

    def corrections(self) -> dict[str, Correction]:
        """All corrections by call."""
        rows = self.rows("SELECT call_id, swap_roles, corrected_by, note FROM base.corrections")
        return {row[0]: Correction(*row) for row in rows}

    def review(self, review: Review) -> int:
        """Keep what a person says about a call, a rule or a segment; returns the number of the review.

        Raises:
            UsageError: no such call, rule, segment, verdict or emotion; or they do not go together.
        """
        with self.transaction("keep the review"):
            review_id = self._next("reviews", "review_id")
            insert_review(self.connection, review, review_id)
        return review_id

    # Inside --------------------------------------------------------------------------------------------

    @property
    def unpublished(self) -> bool:
        """True when something that the views show was committed since the last publishing."""
        return self.workspace.unpublished_mark.exists()

    @contextlib.contextmanager
    def transaction(self, purpose: str, *, shown: bool = True) -> Iterator[None]:
        """All or nothing; a refusal of the database becomes a StoreError that names the purpose.

        Inside another transaction it is part of that one. `shown`: it changes what the views show. That is
        noted in a file before it begins, so that it is published also when this process is killed first.
        """
        import duckdb

        if self._in_transaction:
            yield
            return
        if shown:
            self.note_unpublished(purpose)
        self._in_transaction = self._summary_is_old = True
        try:
            self.connection.execute("BEGIN")
            yield
            self.connection.execute("COMMIT")
        except duckdb.Error as problem:
            self._roll_back()
            raise StoreError(
                f"{self.database}: could not {purpose}; nothing of it was kept. {problem} "
                "Check free disk space and run again: committed work is kept."
            ) from problem
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._in_transaction = False
        self.keep_private()

    def note_unpublished(self, purpose: str) -> None:
        """Note that publishing is due; before the change that makes it so. Raises StoreError."""
        mark = self.workspace.unpublished_mark
        try:
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as problem:
            raise StoreError(
                f"{mark}: could not be made, to {purpose} ({problem.strerror}). "
                f"{remedy(problem)} and run again: committed work is kept."
            ) from problem

    def _roll_back(self) -> None:
        import duckdb

        with contextlib.suppress(duckdb.Error):  # it may have done so by itself
            self.connection.execute("ROLLBACK")

    def keep_private(self) -> None:
        """Only the owner may read the database and its log, whatever the umask is."""
        for file in (self.database, self.database.with_name(self.database.name + ".wal")):
            if file.exists():
                file.chmod(0o600)

    def _next(self, table: str, key: str) -> int:
        newest = first_value(self.connection, f"SELECT max({key}) FROM base.{table}")  # noqa: S608
        return int(newest or 0) + 1

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query of the working database."""
        import duckdb

        try:
            rows: list[tuple[Any, ...]] = self.connection.execute(sql, parameters).fetchall()
        except duckdb.Error as problem:
            raise StoreError(f"{self.database}: cannot be read. {problem}") from problem
        return rows

    def _ids(self, sql: str) -> set[str]:
        return {str(row[0]) for row in self.rows(sql)}
