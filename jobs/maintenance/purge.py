"""Remove old calls: rows, evidence clips, pages, reviews in the queue and what a retraining cut from them.

Original recordings are never touched.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.config.window import parse_age
from callanalytics.errors import LockHeld, StoreError
from callanalytics.store import open_locked, publish
from callanalytics.store.publish import change_published, compact, compact_unpublished
from callanalytics.store.remove import forget_calls, forget_clips, older_than
from callanalytics.workspace import Workspace, file_lock
from jobs.publishing import Pages, unnamed_clips
from jobs.reviews.queue import GoneReviews, about_gone_calls, forget_reviews
from jobs.scheduler.state import forget_reasons

# Only such a name is joined to a path; ids in the database are made of a hash.
_CALL_ID = re.compile(r"[0-9a-f]{8,64}")
# Forms of the report for mail, in the output folder or beside the pages: they may hold any call.
_FORMS = ("report.html", "report-redacted.html", "email*.txt", "email*.html")


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge removed, or would remove."""

    before: datetime
    n_calls: int
    n_quarantined: int
    n_clips: int
    n_pages: int
    n_reviews: int  # that waited for a run, or were refused by one
    n_training_clips: int  # that the last retraining cut from reviewed calls
    n_bytes_freed: int
    audio_only: bool
    dry_run: bool

    def to_json(self) -> dict[str, object]:
        """The object that `purge --json` prints."""
        return {**asdict(self), "before": self.before.isoformat()}


def purge(
    settings: Settings,
    workspace: Workspace,
    limit: str,
    *,
    audio_only: bool = False,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Purged:
    """Remove calls that started longer ago than `limit` ("365d", "52w", or before a date).

    Files go first and rows after them, so that what was cut short is found and finished by the next
    purge; then both databases are written anew, so that nothing of the calls is left in their bytes.
    Whoever holds an old published file open keeps it until they close it; exports are not touched. A night
    that the gate holds back stays unpublished. Once any call goes, so do all clips and spectrograms
    in OUT/training: the next retraining makes them anew.

    Raises:
        UsageError: nothing here yet, or a limit that is no age in days or weeks and no time that is over.
        LockHeld: a run is at work, or a training, which may read clips of these calls.
        StoreError, ReportError: files or databases cannot be written.
    """
    now = now or datetime.now(UTC)
    before = parse_age(limit, zone=settings.time.zone_info, now=now)
    workspace.require_results("purge")
    rows_too = not audio_only
    with (
        _no_training(workspace) if rows_too and not dry_run else nullcontext(),
        open_locked(workspace) as store,
    ):
        expired = older_than(store, before)
        expired_ids = [call_id for call_id in expired.call_ids if _CALL_ID.fullmatch(call_id)]
        clips = _folders(workspace.clips_of(call_id) for call_id in expired_ids) + unnamed_clips(store)
        pages, training, reviews = list[Path](), list[Path](), GoneReviews(0, {})
        if rows_too:
            pages = [workspace.call_pages / f"{call_id}.html" for call_id in expired_ids]
            training = _training(workspace) if expired.call_ids else []
            reviews = about_gone_calls(store, workspace, expired.call_ids)
        found = Purged(
            before=before,
            n_calls=len(expired.call_ids) if rows_too else 0,
            n_quarantined=expired.n_quarantined if rows_too else 0,
            n_clips=sum(len(list(folder.iterdir())) for folder in clips),
            n_pages=sum(page.is_file() for page in pages),
            n_reviews=reviews.n,
            n_training_clips=len(list(workspace.training.reviewed_clips.glob("*.wav"))) if training else 0,
            n_bytes_freed=_size(clips),
            audio_only=audio_only,
            dry_run=dry_run,
        )
        if dry_run:
            return found
        size_before = _size([workspace.folder])
        # What an earlier purge could not finish counts as something to remove.
        report = Pages(workspace, settings)
        stays = not (expired.call_ids or expired.n_quarantined or store.unpublished) and report.are_whole
        shown = report.window(store)
        if not stays:
            report.mark_out_of_date()
        folders = [*clips, *training, *_folders([workspace.redacted_reports])]
        if rows_too:
            folders += workspace.folder.glob("*.duckdb.tmp")  # what a query had no memory for
        with _removing():
            forget_reviews(reviews)
            for folder in folders:
                shutil.rmtree(folder)
            passing = _passing(workspace, expired.names, before) if rows_too else []
            for file in (*pages, *passing, *_forms(workspace)):
                file.unlink(missing_ok=True)
            workspace.remove_leftovers()
            if rows_too:
                forget_reasons(workspace.schedule_state, expired.names, before)
        forget = partial(forget_clips if audio_only else forget_calls, before=before)
        forget(store)
        if workspace.held:  # what people see loses the calls too, and does not gain the night
            if rows_too:
                compact_unpublished(store)
            change_published(workspace, forget)
        elif rows_too:
            compact(store)
        else:
            publish(store)
    if not stays:  # the pages may name calls that are gone
        report.write_again(shown, now=now)
    if audio_only:
        return found
    return replace(found, n_bytes_freed=max(size_before - _size([workspace.folder]), 0))


def render_purged(done: Purged) -> str:
    """What went, in a few lines."""
    verb = "Would remove" if done.dry_run else "Removed"
    what = f"{done.n_clips:,} clips"
    if not done.audio_only:
        rows = f"{done.n_calls:,} calls, {done.n_quarantined:,} quarantined recordings"
        what = f"{rows}, {what}, {done.n_pages:,} pages"
        what += f", {done.n_reviews:,} reviews not taken in" if done.n_reviews else ""
        what += f", {done.n_training_clips:,} training clips" if done.n_training_clips else ""
    size = f" {done.n_bytes_freed / 1e6:,.1f} MB freed." if not done.dry_run else ""
    kept = "Original recordings, exports and exported corpora are not touched."
    return f"{verb} {what} of calls before {done.before:%Y-%m-%d %H:%M} UTC.{size} {kept}"


@contextmanager
def _no_training(workspace: Workspace) -> Iterator[None]:
    """Keep trainings away: one at work has cut clips from calls that may have to go, or reads some here."""
    training = workspace.training
    with ExitStack() as held_locks:
        for lock in (training.retrain_lock_file, training.lock_file) if training.folder.is_dir() else ():
            try:
                held_locks.enter_context(file_lock(lock))
            except LockHeld as problem:
                raise LockHeld(
                    f"A training may be reading calls that are to go. Nothing was purged. {problem} "
                    "Then purge again."
                ) from None
        yield


def _training(workspace: Workspace) -> list[Path]:
    """Clips that a retraining cut from reviewed calls, and spectrograms of any clips."""
    return _folders([workspace.training.reviewed_clips, workspace.training.cache])


def _passing(workspace: Workspace, names: Collection[bytes], before: datetime) -> list[Path]:
    """The sound of calls that the app plays, and logs that are old or name a call that is to go.

    Who has such a file open keeps it until they close it.
    """
    logs = [*workspace.logs.glob("*"), *workspace.damaged_files()]
    old = [log for log in logs if log.stat().st_mtime < before.timestamp() or _names_any(log, names)]
    return [*old, *(path for path in workspace.playing.rglob("*") if path.is_file())]


def _names_any(file: Path, names: Collection[bytes]) -> bool:
    content = file.read_bytes()
    return any(name in content for name in names)


def _folders(paths: Iterable[Path]) -> list[Path]:
    """Those that are there; a link in place of one is not followed."""
    return [path for path in paths if path.is_dir() and not path.is_symlink()]


def _forms(workspace: Workspace) -> list[Path]:
    """Other forms of the report, which are made again on request."""
    roots = (workspace.folder, workspace.reports)
    return [form for root in roots for name in _FORMS for form in root.glob(name)]


@contextmanager
def _removing() -> Iterator[None]:
    """Turn an OSError of the block into a StoreError."""
    try:
        yield
    except OSError as problem:
        raise StoreError(
            f"{problem.filename}: cannot be removed ({problem.strerror}). "
            "Correct its permissions and purge again: what is gone stays gone."
        ) from problem


def _size(roots: list[Path]) -> int:
    """Bytes of all files under some folders."""
    return sum(p.lstat().st_size for root in roots for p in root.rglob("*") if p.is_file())
