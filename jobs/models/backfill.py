"""Score old calls with another ensemble, beside what is there: same voices and segments, new votes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings
from callanalytics.config.window import parse_stored_window
from callanalytics.errors import RecordingChanged, UnreadableFile, UsageError
from callanalytics.ingest.locate import RecordingGone, locate
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt
from callanalytics.records import CallRows, FoundRecording, Recording
from callanalytics.records.text import counted
from callanalytics.store import Store, open_locked
from callanalytics.store.reader import known_places, read_analysis
from callanalytics.workspace import Workspace
from ensemble.inference.device import prepare_device
from ensemble.inference.ensemble import Ensemble, load_ensemble
from jobs.active_ensemble import in_use, named
from jobs.night import OnProgress
from jobs.night.limits import StopWatch
from jobs.night.local_engine import Analyze, analyze_all, n_workers
from jobs.publishing import show, write_clips
from jobs.reviews.relabel import with_corrections

# Stored analyses are read, and new ones committed, this many calls at a time.
CHUNK_CALLS = 256

# Of every call that the ensemble has not analysed, the analysis to begin from: the newest of the promoted
# ensemble, else the newest.
_UNSCORED = """
SELECT call_id, arg_max(a.analysis_key, (e.promoted, a.analysis_key)),
    arg_max(a.run_id, (e.promoted, a.analysis_key))
FROM base.analyses a JOIN base.calls c USING (call_id) JOIN base.ensembles e USING (ensemble_id)
WHERE c.started_at >= ? AND c.started_at < ?
GROUP BY call_id, c.started_at HAVING NOT bool_or(a.ensemble_id = ?)
ORDER BY c.started_at, call_id
"""
_N_SCORED = """
SELECT count(*) FROM base.analyses JOIN base.calls c USING (call_id)
WHERE c.started_at >= ? AND c.started_at < ? AND ensemble_id = ?
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
class _AnalysedRecording(FoundRecording):
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
    any. Safe to repeat and to stop: scored calls are committed and skipped the next time. Recordings that are
    gone are named, and their calls stay as they are.

    Args:
        ensemble_name: An id of the registry, a folder or `shipped`; None for the ensemble in use.
        since: Start of the window of calls, as in `run --since`; None for all.
        until: Its end, exclusive; None for none: a clock that was set back leaves no call out.
        workers: Processes; None for what the settings say.

    Raises:
        UsageError: no results here, a window that says no time, or no shadow for an ensemble not promoted.
        LockHeld: a run is at work.
        StoreError, ReportError: results cannot be written.
        ensemble.model_errors.ModelError: no such ensemble, or it cannot be loaded.
        ensemble.model_errors.DeviceMissing: the settings want a GPU that this machine has not.
    """
    started = time.monotonic()
    now = now or datetime.now(UTC)
    window = parse_stored_window(since, until, zone=settings.time.zone_info, now=now)
    workspace.require_results("score again")
    prepare_device(settings.engine.device)  # in a worker it would look like one that cannot start
    folder = named(ensemble_name, workspace) if ensemble_name else in_use(settings, workspace)
    ensemble = load_ensemble(folder)
    with open_locked(workspace) as store:
        _check_visible(store, ensemble.ensemble_id, shadow)
        store.register_ensemble(
            ensemble.ensemble_id, dict(ensemble.card), ensemble.labels, ensemble.member_names
        )
        asked = [window.since, window.until, ensemble.ensemble_id]
        todo = [_Todo(*row) for row in store.rows(_UNSCORED, asked)]
        ((n_already,),) = store.rows(_N_SCORED, asked)
        scoring = _Scoring(settings, store, folder, workers or n_workers(settings), on_progress)
        with StopWatch(settings.engine.time_budget_s) as watch:
            scoring.run(todo, watch.requested)
            exit_code = watch.exit_code(len(todo) - scoring.n_seen) or (3 if scoring.failed else 0)
        on_progress("publish", 0, 0, "")
        visible = store.promoted_ensemble() == ensemble.ensemble_id
        published = show(store, settings, now=now, pages=visible)
    return Backfilled(
        ensemble_id=ensemble.ensemble_id,
        since=window.since,
        until=window.until,
        n_todo=len(todo),
        n_done=scoring.n_done,
        n_already=n_already,
        missing=tuple(scoring.missing),
        failed=tuple(scoring.failed),
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


@dataclass(frozen=True, slots=True)
class _Todo:
    """A call to score: the analysis to begin from, and the run that made it."""

    call_id: str
    analysis_key: int
    run_id: int


@dataclass(slots=True)
class _Scoring:
    """A backfill in progress: the only writer of its output folder."""

    settings: Settings
    store: Store
    folder: Path  # of the ensemble
    n_workers: int
    on_progress: OnProgress
    n_done: int = 0
    missing: list[NotScored] = field(default_factory=list)
    failed: list[NotScored] = field(default_factory=list)

    @property
    def n_seen(self) -> int:
        """Calls that are scored or cannot be."""
        return self.n_done + len(self.missing) + len(self.failed)

    def run(self, todo: Sequence[_Todo], stop_requested: Callable[[], bool]) -> None:
        """Score and commit in chunks; what is committed stays when asked to stop."""
        self.on_progress("analyse", 0, len(todo), "")
        for start in range(0, len(todo), CHUNK_CALLS):
            if stop_requested():
                return
            self._score_chunk(todo[start : start + CHUNK_CALLS], len(todo), stop_requested)

    def _score_chunk(self, chunk: Sequence[_Todo], n_all: int, stop_requested: Callable[[], bool]) -> None:
        run_ids = {call.call_id: call.run_id for call in chunk}
        found = with_corrections(list(self._located(chunk)), self.store)
        outcomes = analyze_all(
            found,
            partial(_prepare, self.settings, self.folder),
            workers=min(self.n_workers, max(len(found), 1)),
            hung_after_s=self.settings.engine.recording_timeout_s,
            stop_requested=stop_requested,
            memory_limited=not self.settings.engine.device.startswith("cuda"),
        )
        scored: dict[int, list[CallRows]] = {}
        for outcome in outcomes:
            if isinstance(outcome, CallRows):
                scored.setdefault(run_ids[outcome.recording.call_id], []).append(outcome)
                self.n_done += 1
            else:
                self._leave_out(outcome.found.recording, outcome.reason, outcome.detail)
            self.on_progress("analyse", self.n_seen, n_all, "")
        for calls in scored.values():
            for call in calls:
                write_clips(self.store.workspace, call)
        with self.store.transaction("write scored calls"):
            for run_id, calls in scored.items():
                self.store.append(calls, run_id)

    def _located(self, chunk: Sequence[_Todo]) -> Iterator[_AnalysedRecording]:
        """Calls whose recording is still there; the others are left out."""
        calls = [read_analysis(self.store, call.analysis_key) for call in chunk]
        known = known_places(self.store, [call.recording.recording_id for call in calls])
        salt = load_or_make_salt(self.store.workspace.folder / self.settings.privacy.salt_file)
        for call in calls:
            stored = call.recording
            shown = tuple(map(str, stored.paths))
            places = known.get(stored.recording_id)
            try:
                # The workers check the content of the file, and what lies behind URLs, many at a time.
                paths = locate(
                    stored.recording_id, shown, salt, self.settings.audio, places, trust_known=True
                )
            except UnreadableFile as problem:
                self._leave_out(stored, problem.reason, str(problem))
            else:
                yield _AnalysedRecording(replace(stored, paths=paths, shown_paths=shown), call.facts, call)

    def _leave_out(self, recording: Recording, reason: str, detail: str) -> None:
        calls = self.missing if reason == RecordingGone.reason else self.failed
        calls.append(NotScored(recording.call_id, recording.shown, reason, detail))


def _prepare(settings: Settings, folder: Path) -> Analyze:
    """Load the ensemble in a worker."""
    return partial(_score, settings=settings, ensemble=load_ensemble(folder, device=settings.engine.device))


def _score(found: FoundRecording, settings: Settings, ensemble: Ensemble) -> CallRows:
    """In a worker: check that the recording is what it was, then vote and assess."""
    from callanalytics.analysis.call import call_as_corrected, vote_again
    from callanalytics.ingest import recording_id_at
    from callanalytics.store.rows import pack

    assert isinstance(found, _AnalysedRecording)  # noqa: S101 - only such are sent
    recording = found.recording
    try:
        recording_id = recording_id_at(recording.paths, settings, now=datetime.now(UTC))
    except FileNotFoundError:
        raise RecordingGone("The recording is gone from its store.") from None
    if recording_id != recording.recording_id:
        name = Path(recording.shown).name
        raise RecordingChanged(f"{name}: another recording lies here now. Nothing was scored.")
    call = replace(call_as_corrected(found.call, found.corrected), recording=recording)
    return pack(vote_again(call, settings, ensemble))


def render_backfilled(done: Backfilled) -> str:
    """What was scored, and which calls could not be."""
    lines = [
        f"{done.n_done:,} of {counted(done.n_todo, 'call')} scored by ensemble {done.ensemble_id}"
        f" ({done.n_already:,} were before)."
    ]
    for what, calls in (("recording is gone", done.missing), ("failed", done.failed)):
        lines += [f"{counted(len(calls), 'call')}: {what}"] if calls else []
        lines += [f"  {call.call_id}  {call.path}  {call.detail}" for call in calls[:20]]
        lines += [f"  and {len(calls) - 20:,} more; all of them with --json"] if len(calls) > 20 else []
    return "\n".join(lines)
