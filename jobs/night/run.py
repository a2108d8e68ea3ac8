"""The night: find new recordings, analyse them, commit in batches, publish, report."""

from __future__ import annotations

import gc
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from callanalytics import __version__
from callanalytics.analysis import RECIPE
from callanalytics.config import Settings
from callanalytics.config.window import Window, parse_window
from callanalytics.errors import EngineError, StoreError, UsageError, remedy
from callanalytics.ingest.object_store import is_remote, path_of, url_of
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt
from callanalytics.records import CallRows, Failure, FoundRecording, Outcome
from callanalytics.store import Store, open_work, publish
from callanalytics.store.publish import is_published
from callanalytics.store.recordings import knows_of, note_skips, remember_files
from callanalytics.store.remove import replace_earlier
from callanalytics.store.voice_profiles import learn
from callanalytics.workspace import Workspace
from ensemble.inference.device import prepare_device
from ensemble.inference.ensemble import Ensemble, load_ensemble
from jobs.active_ensemble import in_use
from jobs.maintenance.voices import with_profiles
from jobs.night import FlaggedCall, OnProgress, RunOptions, RunResult, as_asked, quiet
from jobs.night.gate import night_of, reasons_to_hold
from jobs.night.limits import StopWatch
from jobs.night.local_engine import FirstWorker, LoadPacked, analyze_all, n_workers
from jobs.night.plan import Todo, search, take_late_transcripts, with_transcripts
from jobs.publishing import (
    Pages,
    ReportWindow,
    keep_nearest,
    load_ahead,
    remove_clips,
    unnamed_clips,
    write_clips,
)
from jobs.reviews.queue import take_in
from jobs.reviews.relabel import with_corrections

# Outcomes are committed when this many wait, or after this time: a crash repeats no more than that.
BATCH_CALLS = 256
BATCH_S = 10.0

_log = logging.getLogger(__name__)
EMPTY_CODE = 4
HELD_CODE = 8
SIGNAL_CODES = 128  # exit codes above it
_FLAGGED = """
SELECT call_id, path, reasons, run_id FROM call_summary
WHERE flagged AND started_at >= ? AND started_at < ? ORDER BY frustration_score DESC NULLS LAST, call_id
"""


def run_night(
    settings: Settings,
    options: RunOptions,
    *,
    now: datetime | None = None,
    on_progress: OnProgress = quiet,
    first: FirstWorker | None = None,
) -> RunResult:
    """Run one window from files to the published database and the report. `first`: a worker started ahead.

    Safe to repeat: what is done is skipped, what failed is tried again up to `max_attempts`.

    Raises:
        UsageError: nothing to search, or a window that makes no sense.
        LockHeld: another run works on this output folder.
        StoreError, ReportError: results cannot be written.
        ensemble.model_errors.ModelError: the ensemble, or the model of words, cannot be loaded.
        ensemble.model_errors.DeviceMissing: a GPU was asked for that this machine has not.
    """
    started = time.monotonic()
    settings = as_asked(settings, options)
    if settings.engine.kind == "local":
        prepare_device(settings.engine.device)
    now = now or datetime.now(UTC)
    window = parse_window(options.since, options.until, zone=settings.time.zone_info, now=now)
    inputs = options.inputs or settings.input_dirs
    if not inputs:
        raise UsageError("No folder to search: give --input FOLDER, or set inputs in [paths] of config.toml.")
    if settings.words_model is not None:
        from callanalytics.analysis.words.recogniser import load_model

        load_model(settings.words_model)  # in a worker it would look like one that cannot start
    workspace = Workspace(options.out or settings.out_dir)
    if options.dry_run and not workspace.work_database.exists():
        with tempfile.TemporaryDirectory() as scratch:  # a dry run leaves nothing behind
            planned = run_night(
                settings,
                replace(options, out=_fresh(Workspace(Path(scratch)))),
                now=now,
                on_progress=on_progress,
            )
        return replace(planned, database=str(workspace.database), report=str(workspace.report_index))
    try:
        workspace.make()
        with workspace.lock(), _tidied(workspace) as store:
            workspace.note_zone(settings.time.zone_info)
            night = _Night(settings, options, window, workspace, store, on_progress, first)
            return night.run(inputs, now, started)
    except OSError as problem:
        raise StoreError(
            f"{problem.filename or workspace}: cannot be written ({problem.strerror or problem}). "
            f"{remedy(problem)} and run again: what is committed is kept, "
            "what people see is unchanged."
        ) from problem


class _Night:
    """One run in progress: the only writer of its output folder."""

    def __init__(
        self,
        settings: Settings,
        options: RunOptions,
        window: Window,
        workspace: Workspace,
        store: Store,
        on_progress: OnProgress,
        first: FirstWorker | None,
    ) -> None:
        self.settings = settings
        self.options = options
        self.window = window
        self.workspace = workspace
        self.store = store
        self.on_progress = on_progress
        self.first = first
        self.failures: list[Failure] = []
        self.replaced: tuple[str, ...] = ()  # calls of which a newer version was analysed
        self.earliest = window.since
        self.held: tuple[str, ...] = ()
        self.report_stays = False

    def run(self, inputs: Iterable[Path], now: datetime, started: float) -> RunResult:
        ensemble_dir = in_use(self.settings, self.workspace)
        ensemble = load_ensemble(ensemble_dir)
        todo = search(
            self.store,
            self.settings,
            self.options,
            inputs,
            self.window,
            ensemble_id=ensemble.ensemble_id,
            salt=self._salt(),
            now=now,
            on_progress=self._searched,
        )
        self.counts = todo.counts
        gc.freeze()  # what was found stays and holds no cycles: not looked through again
        try:
            return self._answer(todo, ensemble, ensemble_dir, now, started)
        finally:
            gc.unfreeze()

    def _searched(self, n_done: int, n_wanted: int) -> None:
        if self.first is not None:  # something is new, so a worker is needed
            self.first.start()
        self.on_progress("search", n_done, n_wanted, "")

    def _salt(self) -> bytes:
        """The secret for callers' numbers. A new one in place of one that is gone is told."""
        path = self.workspace.folder / self.settings.privacy.salt_file
        hashed = "SELECT 1 FROM base.calls WHERE caller_hash IS NOT NULL LIMIT 1"
        if not path.exists() and self.store.rows(hashed):
            _log.warning(
                "%s is gone and is made anew: callers of earlier nights are not known again, nor found by "
                "`purge --caller NUMBER`. Restore it from a backup and run again with --force.",
                path,
            )
        return load_or_make_salt(path)

    def _answer(
        self, todo: Todo, ensemble: Ensemble, ensemble_dir: Path, now: datetime, started: float
    ) -> RunResult:
        """Do what is still to do of what was found, publish and report."""
        if self.options.dry_run:
            return self._result(todo, self._empty_code(), started)
        with StopWatch(self.settings.engine.time_budget_s) as watch:
            self._work(todo, ensemble, ensemble_dir, watch)
            exit_code = self._gated(self._exit_code(watch.exit_code(self.counts.n_left)))
        self._finish(exit_code, now)
        return self._result(todo, exit_code, started)

    def _work(
        self,
        todo: Todo,
        ensemble: Ensemble,
        ensemble_dir: Path,
        watch: StopWatch,
    ) -> None:
        """Analyse and commit."""
        self.store.register_ensemble(
            ensemble.ensemble_id, dict(ensemble.card), ensemble.labels, ensemble.member_names
        )
        # Another ensemble than before changes every view, also when no call is new.
        self.store.promote_ensemble(ensemble.ensemble_id)
        take_in(self.store, self.workspace)  # before a call that they are about is replaced
        remember_files(self.store, todo.found.recordings)
        self.run_id = self.store.begin_run(
            self.window, ensemble.ensemble_id, __version__, settings={"recipe": RECIPE}
        )
        note_skips(self.store, self.run_id, todo.found.skips)
        self.counts.n_late_words = take_late_transcripts(self.store, self.settings, self.window)
        self._commit(list(todo.found.failures))
        waiting: list[Outcome] = []
        committed_at = time.monotonic()
        recordings = with_corrections(with_transcripts(todo.recordings, self.settings), self.store)
        if self.settings.privacy.voice_profiles:
            recordings = with_profiles(recordings, self.store)
        outcomes = self._outcomes(recordings, ensemble_dir, watch)
        self.on_progress("analyse", 0, len(recordings), "")
        for n_ready, outcome in enumerate(outcomes, start=1):
            waiting.append(outcome)
            self.on_progress("analyse", n_ready, len(recordings), _describe(outcome))
            if len(waiting) >= BATCH_CALLS or time.monotonic() - committed_at >= BATCH_S:
                self._commit(waiting)
                waiting = []
                committed_at = time.monotonic()
        self._commit(waiting)
        if self.counts.n_left and not watch.requested():
            raise EngineError(
                f"Of {self.counts.n_new} recordings {self.counts.n_left} came back neither analysed nor "
                "quarantined: a fault of callanalytics. What is committed is kept; run again, which takes up "
                "the rest and publishes, and report this."
            )

    def _outcomes(
        self, recordings: list[FoundRecording], ensemble_dir: Path, watch: StopWatch
    ) -> Iterator[Outcome]:
        """What the engine of the settings makes of the recordings, as it gets ready."""
        engine = self.settings.engine
        hung_after_s = engine.recording_timeout_s
        if engine.kind == "ray":
            from jobs.night.ray_engine import analyze_on_ray, carried

            workers = self.options.workers or engine.workers
            return analyze_on_ray(
                recordings,
                carried(self.settings, ensemble_dir, workers),
                address=engine.address,
                workers=workers,
                on_gpu=engine.device.startswith("cuda"),
                hung_after_s=hung_after_s,
                stop_requested=watch.requested,
            )
        if recordings:
            load_ahead()
        return analyze_all(
            recordings,
            LoadPacked(self.settings, ensemble_dir),
            workers=min(self.options.workers or n_workers(self.settings), max(len(recordings), 1)),
            hung_after_s=hung_after_s,
            stop_requested=watch.requested,
            memory_limited=not engine.device.startswith("cuda"),
            first=self.first,
        )

    def _commit(self, outcomes: list[Outcome]) -> None:
        """Write one batch in one transaction; clips first, so that no row names a missing clip."""
        done = [o for o in outcomes if isinstance(o, CallRows)]
        failed = [o for o in outcomes if isinstance(o, Failure)]
        for call in done:
            write_clips(self.workspace, call)
        if done:
            with self.store.transaction(f"write {len(done)} calls"):
                self.store.append(done, self.run_id)
                self.replaced += replace_earlier(self.store, done)
                if self.settings.privacy.voice_profiles:
                    learn(self.store, done, self.run_id)
        if failed:
            self.store.quarantine(failed, self.run_id)
        self.counts.n_done += len(done)
        self.earliest = min([self.earliest, *(call.started_at for call in done)])
        self.counts.n_flagged += sum(call.flagged for call in done)
        self.counts.n_with_words += sum(call.has_words for call in done)
        self.counts.words_notes.update(call.words_note for call in done if call.words_note)
        self.counts.audio_s += sum(call.duration_s for call in done)
        self.counts.n_quarantined += len(failed)
        self.failures += failed

    def _exit_code(self, stopped: int | None) -> int:
        if stopped is not None:
            return stopped
        if self.failures:
            return 3
        return self._empty_code()

    def _empty_code(self) -> int:
        return EMPTY_CODE if not self.counts.n_found and self.options.fail_on_empty else 0

    def _gated(self, exit_code: int) -> int:
        """The exit code after the gate, which does not assess what a signal cut short."""
        gate = self.settings.gate
        if self.options.no_gate or not gate.enabled or exit_code > SIGNAL_CODES:
            return exit_code
        night = night_of(self.store, self.window, self.settings.time.zone_info, self.counts)
        self.held = tuple(reasons_to_hold(gate, night))
        return HELD_CODE if self.held else exit_code

    def _finish(self, exit_code: int, now: datetime) -> None:
        self.store.end_run(self.run_id, self.counts, exit_code=exit_code)
        keep_nearest(self.store, self.window)
        # What is to be published anew need not be read before.
        whole = self.store.unpublished or is_published(self.store)
        if self.held:
            self.workspace.hold(self.run_id, self.window.since, self.window.until, self.held)
            return
        # Not only what this run changed: an earlier one may have been killed, or its disk been full.
        self._publish(whole)
        # Then reviews given while this run was at work: whatever is wrong with one, the night is published.
        # Until they are published, too, everybody sees them in the queue.
        if take_in(self.store, self.workspace).n_taken:
            self._publish(True)
        self.workspace.release()
        # The report shows the window asked for, also when nothing in it is new. Where nothing at all is in
        # it, the pages of the last night are worth more than empty ones.
        is_empty = not self.counts.n_found and not knows_of(self.store, self.window)
        self.report_stays = is_empty and self.workspace.report_index.exists()
        pages = Pages(self.workspace, self.settings)
        if not self.report_stays and not pages.are_current(self.window):
            self.on_progress("report", 0, 0, "")
            # Calls whose files came late lie before the window, and the report shows them too.
            shown = Window(min(self.earliest, self.window.since), self.window.until)
            pages.write(ReportWindow(shown, self.window.since), now=now)

    def _publish(self, whole: bool) -> None:
        """Publish what is not yet, or a copy in place of one that is damaged."""
        if self.store.unpublished or not whole:
            self.on_progress("publish", 0, 0, "")
            publish(self.store)
            remove_clips(self.workspace, self.replaced)

    def _flagged(self) -> Iterator[FlaggedCall]:
        since = min(self.earliest, self.window.since)
        for call_id, path, reasons, run_id in self.store.rows(_FLAGGED, [since, self.window.until]):
            yield FlaggedCall(call_id, path, tuple(reasons), run_id == self.run_id)

    def _result(self, todo: Todo, exit_code: int, started: float) -> RunResult:
        return RunResult(
            counts=replace(self.counts, audio_s=round(self.counts.audio_s, 3)),
            wall_s=round(time.monotonic() - started, 3),
            exit_code=exit_code,
            database=str(self.workspace.database),
            report=str(self.workspace.report_index),
            window=self.window,
            planned=tuple(todo.recordings) if self.options.dry_run else None,
            failures=tuple(self.failures),
            skips=todo.found.skips,
            again=_words(self.settings, self.options),
            report_stays=self.report_stays,
            flagged=() if self.options.dry_run else tuple(self._flagged()),
            held=self.held,
        )


def _tidied(workspace: Workspace) -> Store:
    """The working database, without what a killed run has left beside it and in the clips."""
    workspace.remove_leftovers()
    store = open_work(workspace)
    try:
        remove_clips(workspace, [folder.name for folder in unnamed_clips(store)])
    except BaseException:
        store.close()
        raise
    return store


def _words(settings: Settings, options: RunOptions) -> tuple[str, ...]:
    """The words that make a command of this run, as it runs from any folder: without its window and OUT."""
    places = [path_of(str(path)) for path in options.inputs]
    inputs = [url_of(place) if is_remote(place) else str(place.absolute()) for place in places]
    words = ["run", *(word for place in inputs for word in ("--input", place))]
    if settings.file is not None:
        words += ["--config", str(settings.file.absolute())]
    return tuple(words)


def _fresh(workspace: Workspace) -> Path:
    """An output folder that holds an empty database."""
    open_work(workspace).close()
    return workspace.folder


def _describe(outcome: Outcome) -> str:
    """A few words for the progress line, with the file's name for people."""
    if isinstance(outcome, Failure):
        return f"{Path(outcome.found.recording.shown).name} quarantined: {outcome.reason}"
    mark = "flagged" if outcome.flagged else f"{outcome.n_segments} segments"
    return f"{Path(outcome.recording.shown).name} {mark}"
