"""Score old calls with another ensemble, beside what is there: same voices and segments, new votes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings
from callanalytics.config.window import Window, parse_window
from callanalytics.errors import UnreadableFile, UsageError
from callanalytics.ingest.locate import RecordingGone, locate
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt
from callanalytics.records import CallRows, FoundRecording, Recording
from callanalytics.store import Store, open_locked
from callanalytics.store.reader import known_places, read_analysis
from callanalytics.workspace import Workspace
from ensemble.inference.device import prepare_device
from ensemble.inference.ensemble import Ensemble, load_ensemble
from jobs.active_ensemble import in_use, named
from jobs.night.local_engine import Analyze, analyze_all, n_workers
from jobs.night.result import OnProgress
from jobs.night.stopping import StopWatch
from jobs.publishing import show, write_clips
from jobs.reviews.relabel import with_corrections

# Stored analyses are read, and new ones committed, this many calls at a time.
CHUNK_CALLS = 256

# The newest analysis of every call, that of the promoted ensemble before others, unless the wanted
# ensemble has one already.
_UNSCORED = """
SELECT arg_max(a.analysis_key, (e.promoted, a.analysis_key)) AS analysis_key
FROM base.analyses a JOIN base.calls c USING (call_id) JOIN base.ensembles e USING (ensemble_id)
WHERE c.started_at >= ? AND c.started_at < ?
GROUP BY call_id, c.started_at HAVING NOT bool_or(a.ensemble_id = ?)
ORDER BY c.started_at, call_id
"""


@dataclass(frozen=True, slots=True)
class NotScored:
    """A call that could not be scored, and why. `path` is where its recording was."""

    call_id: str
    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What a backfill did. The fields up to `database` are the object that `backfill --json` prints."""

    ensemble_id: str
    since: datetime
    until: datetime
    n_todo: int
    n_done: int
    n_already: int
    missing: tuple[NotScored, ...]
    failed: tuple[NotScored, ...]
    exit_code: int
    wall_s: float
    published: bool  # not while the gate holds a night back
    database: str

    def to_json(self) -> dict[str, object]:
        """The object that `backfill --json` prints."""
        return {**asdict(self), "since": self.since.isoformat(), "until": self.until.isoformat()}


@dataclass(frozen=True, slots=True)
class _Scored(FoundRecording):
    """A recording with its stored analysis, on its way to a worker."""

    call: CallAnalysis


def backfill(
    settings: Settings,
    workspace: Workspace,
    ensemble_name: str | None,
    *,
    shadow: bool,
    since: str | None = None,
    until: str | None = None,
    workers: int | None = None,
    now: datetime | None = None,
    on_progress: OnProgress = lambda stage, done, total, note: None,
) -> Backfilled:
    """Let an ensemble (default: the one in use) vote on calls that others have analysed, and publish.

    While the gate holds a night back the scores are kept and not published.

    With `shadow` its results stay invisible in the views until it is promoted and a run has begun;
    without, it must be the one whose results are visible, and the pages are written again, if there are
    any. Safe to repeat and to stop: scored calls are
    committed and skipped the next time. Recordings that are gone are named, and their calls stay as
    they are.

    Raises:
        UsageError: no results here, words that say no time, or no shadow for an ensemble not promoted.
        LockHeld: a run is at work.
        StoreError, ReportError: results cannot be written.
        ensemble.errors.ModelError: no such ensemble, or it cannot be loaded.
        ensemble.errors.DeviceMissing: the settings want a GPU that this machine has not.
    """
    started = time.monotonic()
    now = now or datetime.now(UTC)
    window = parse_window(since or "1970-01-01", until, zone=settings.time.zone_info, now=now)
    if not workspace.work_database.exists() and not workspace.database.exists():
        raise UsageError(
            f"{workspace}: no results here to score again. Give --out the folder of the results."
        )
    prepare_device(settings.engine.device)  # in a worker it would look like one that cannot start
    folder = named(ensemble_name, workspace) if ensemble_name else in_use(settings, workspace)
    ensemble = load_ensemble(folder)
    with open_locked(workspace) as store:
        _check_visible(store, ensemble.ensemble_id, shadow)
        store.register_ensemble(
            ensemble.ensemble_id, dict(ensemble.card), ensemble.labels, ensemble.member_names
        )
        job = _Backfill(settings, workspace, store, ensemble, folder, workers, on_progress)
        with StopWatch(settings.engine.time_budget_s) as watch:
            todo = job.todo(window)
            job.work(todo, watch.requested)
            n_left = len(todo) - job.n_done - len(job.failed) - len(job.missing)
            exit_code = watch.exit_code(n_left) or (3 if job.failed else 0)
        on_progress("publish", 0, 0, "")
        visible = store.promoted_ensemble() == ensemble.ensemble_id
        published = show(store, settings, now=now, pages=visible)
        n_already = job.n_already(window)
    return Backfilled(
        ensemble_id=ensemble.ensemble_id,
        since=window.since,
        until=window.until,
        n_todo=len(todo),
        n_done=job.n_done,
        n_already=n_already - job.n_done,
        missing=tuple(job.missing),
        failed=tuple(job.failed),
        exit_code=exit_code,
        wall_s=round(time.monotonic() - started, 3),
        published=published,
        database=str(workspace.database),
    )


def _check_visible(store: Store, ensemble_id: str, shadow: bool) -> None:
    promoted = store.promoted_ensemble()
    if not shadow and promoted != ensemble_id:
        raise UsageError(
            f"ensemble {ensemble_id} is not the one whose results are visible (that is {promoted}): give "
            "--shadow to score beside it, or promote it and run once first."
        )


class _Backfill:
    """One backfill in progress: the only writer of its output folder."""

    def __init__(
        self,
        settings: Settings,
        workspace: Workspace,
        store: Store,
        ensemble: Ensemble,
        folder: Path,
        workers: int | None,
        on_progress: OnProgress,
    ) -> None:
        self.settings = settings
        self.workspace = workspace
        self.store = store
        self.ensemble = ensemble
        self.folder = folder
        self.workers = workers or n_workers(settings)
        self.on_progress = on_progress
        self.n_done = 0
        self.missing: list[NotScored] = []
        self.failed: list[NotScored] = []

    def todo(self, window: Window) -> list[int]:
        """Keys of the analyses to begin from, oldest call first."""
        rows = self.store.connection.execute(
            _UNSCORED, [window.since, window.until, self.ensemble.ensemble_id]
        ).fetchall()
        return [int(key) for (key,) in rows]

    def n_already(self, window: Window) -> int:
        """Calls of the window that the ensemble has analysed."""
        ((n,),) = self.store.connection.execute(
            "SELECT count(*) FROM base.analyses a JOIN base.calls c USING (call_id)"
            " WHERE a.ensemble_id = ? AND c.started_at >= ? AND c.started_at < ?",
            [self.ensemble.ensemble_id, window.since, window.until],
        ).fetchall()
        return int(n)

    def work(self, todo: Sequence[int], stop_requested: Callable[[], bool]) -> None:
        """Score and commit in chunks; what is committed stays when asked to stop."""
        self.on_progress("analyse", 0, len(todo), "")
        for start in range(0, len(todo), CHUNK_CALLS):
            if stop_requested():
                return
            self._chunk(todo[start : start + CHUNK_CALLS], len(todo), stop_requested)

    def _chunk(self, keys: Sequence[int], n_all: int, stop_requested: Callable[[], bool]) -> None:
        run_ids = dict(
            self.store.connection.execute(
                "SELECT call_id, run_id FROM base.analyses"
                " WHERE analysis_key IN (SELECT unnest(?::INTEGER[]))",
                [list(keys)],
            ).fetchall()
        )
        candidates = with_corrections(list(self._present(keys)), self.store)
        outcomes = analyze_all(
            candidates,
            partial(_prepare, self.settings, self.folder),
            workers=min(self.workers, max(len(candidates), 1)),
            hung_after_s=self.settings.engine.recording_timeout_s,
            stop_requested=stop_requested,
        )
        scored: dict[int, list[CallRows]] = {}
        for outcome in outcomes:
            if isinstance(outcome, CallRows):
                scored.setdefault(run_ids[outcome.recording.call_id], []).append(outcome)
                self.n_done += 1
            else:
                left = self.missing if outcome.reason == RecordingGone.reason else self.failed
                left.append(_not_scored(outcome.found.recording, outcome.reason, outcome.detail))
            n_seen = self.n_done + len(self.failed) + len(self.missing)
            self.on_progress("analyse", n_seen, n_all, "")
        for calls in scored.values():
            for call in calls:
                write_clips(self.workspace, call)
        with self.store.transaction("write scored calls"):
            for run_id, calls in scored.items():
                self.store.append(calls, run_id)

    def _present(self, keys: Sequence[int]) -> Iterator[_Scored]:
        """Calls whose recording is still there; the others are noted as missing."""
        calls = [read_analysis(self.store, key) for key in keys]
        known = known_places(self.store, [call.recording.recording_id for call in calls])
        salt = load_or_make_salt(self.workspace.folder / self.settings.privacy.salt_file)
        for call in calls:
            stored = call.recording
            shown = tuple(map(str, stored.paths))
            try:
                # The workers check the content of the file, and what lies behind URLs, many at a time.
                paths = locate(
                    stored.recording_id,
                    shown,
                    salt,
                    self.settings.audio,
                    known.get(stored.recording_id),
                    trust_known=True,
                )
            except RecordingGone:
                self.missing.append(_not_scored(stored, RecordingGone.reason, "The recording is gone."))
            except UnreadableFile as problem:
                self.failed.append(_not_scored(stored, problem.reason, str(problem)))
            else:
                yield _Scored(replace(stored, paths=paths, shown_paths=shown), call.facts, call)


def _not_scored(recording: Recording, reason: str, detail: str) -> NotScored:
    return NotScored(recording.call_id, recording.shown, reason, detail)


def _prepare(settings: Settings, folder: Path) -> Analyze:
    """Load the ensemble in a worker."""
    return partial(_score, settings=settings, ensemble=load_ensemble(folder, device=settings.engine.device))


def _score(candidate: FoundRecording, settings: Settings, ensemble: Ensemble) -> CallRows:
    """In a worker: check that the recording is what it was, then vote and judge."""
    from callanalytics.analysis.call import call_as_corrected, vote_again
    from callanalytics.ingest.discovery import recording_id_at
    from callanalytics.store.rows import pack

    assert isinstance(candidate, _Scored)  # noqa: S101 - only such are sent
    try:
        found = recording_id_at(candidate.recording.paths, settings, now=datetime.now(UTC))
    except FileNotFoundError:
        raise RecordingGone("The recording is gone from its store.") from None
    if found != candidate.recording.recording_id:
        raise UnreadableFile(
            f"{Path(candidate.recording.shown).name}: another recording lies here now. Nothing was scored."
        )
    call = call_as_corrected(candidate.call, candidate.corrected)
    call = replace(call, recording=candidate.recording)
    return pack(vote_again(call, settings, ensemble))


def render_backfilled(done: Backfilled) -> str:
    """What was scored, and which calls could not be."""
    lines = [
        f"{done.n_done:,} of {done.n_todo:,} calls scored by ensemble {done.ensemble_id}"
        f" ({done.n_already:,} were before)."
    ]
    for words, calls in (("recording is gone", done.missing), ("failed", done.failed)):
        lines += [f"{len(calls):,} calls: {words}"] if calls else []
        lines += [f"  {call.call_id}  {call.path}  {call.detail}" for call in calls[:20]]
        lines += [f"  and {len(calls) - 20:,} more; all of them with --json"] if len(calls) > 20 else []
    return "\n".join(lines)
