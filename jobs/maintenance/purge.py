"""Forget old calls: rows, evidence clips, pages, reviews on their way and what a retraining cut from them.

Original recordings are never touched.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.config.window import parse_age
from callanalytics.errors import LockHeld, StoreError
from callanalytics.store import open_locked, publish
from callanalytics.store.publish import change_published, compact, compact_unpublished
from callanalytics.store.remove import Expired, forget_calls, forget_clips, older_than
from callanalytics.workspace import Workspace, file_lock
from jobs.publishing import Pages
from jobs.reviews.queue import GoneReviews, about_gone_calls, forget_reviews, left_unfinished

# Only such a name is joined to a path; ids in the database are made of a hash.
_CALL_ID = re.compile(r"[0-9a-f]{8,64}")
# What is in the making and older than this (pages, a review) was left by a process that was killed.
_LEFT_AFTER_S = 3600.0


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
    that the gate holds back stays unpublished. Once any call goes, so do all clips and hearings in
    OUT/training: the next retraining makes them anew.

    Raises:
        UsageError: nothing here yet, or a limit that is no age in days or weeks and no time that is over.
        LockHeld: a run is at work, or a training, which may listen to clips of these calls.
        StoreError, ReportError: files or databases cannot be written.
    """
    now = now or datetime.now(UTC)
    before = parse_age(limit, zone=settings.time.zone_info, now=now)
    workspace.require_results("purge")
    rows_too = not audio_only
    with (
        _no_training(workspace, wanted=rows_too and not dry_run),
        open_locked(workspace) as store,
    ):
        expired = older_than(store, before)
        clips, pages = _clips(workspace, expired), _pages(workspace, expired) if rows_too else []
        training = _training(workspace) if rows_too and expired.call_ids else []
        reviews = about_gone_calls(store, workspace, expired.call_ids) if rows_too else GoneReviews(0, {})
        found = Purged(
            before=before,
            n_calls=0 if audio_only else len(expired.call_ids),
            n_quarantined=0 if audio_only else expired.n_quarantined,
            n_clips=sum(len(list(folder.iterdir())) for folder in clips),
            n_pages=len(pages),
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
        _remove([*clips, *_other_folders(workspace), *training], [*pages, *_other_files(workspace)], reviews)
        forget = partial(forget_clips if audio_only else forget_calls, before=before)
        forget(store)
        if not audio_only:
            remove_leftovers(workspace)
        if workspace.held:  # what people see loses the calls too, and does not gain the night
            if not audio_only:
                compact_unpublished(store)
            change_published(workspace, forget)
        elif audio_only:
            publish(store)
        else:
            compact(store)
    if not stays:  # the pages may name calls that are gone
        report.write_again(shown, now=now)
    freed = found.n_bytes_freed if audio_only else max(size_before - _size([workspace.folder]), 0)
    return Purged(**{**asdict(found), "n_bytes_freed": freed})


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
def _no_training(workspace: Workspace, *, wanted: bool) -> Iterator[None]:
    """Keep trainings away: one at work has cut clips from calls that may have to go, or hears some here."""
    locks = (workspace.training.retrain_lock_file, workspace.training.lock_file)
    with ExitStack() as held_locks:
        for lock in locks if wanted and locks[0].parent.is_dir() else ():
            try:
                held_locks.enter_context(file_lock(lock))
            except LockHeld as problem:
                raise LockHeld(
                    f"A training may be listening to calls that are to go. Nothing was purged. {problem} "
                    "Then purge again."
                ) from None
        yield


def _training(workspace: Workspace) -> list[Path]:
    """Clips that a retraining cut from reviewed calls (or began to), and what it heard of any clips."""
    clips = workspace.training.reviewed_clips
    folders = [clips, clips.with_name(f".{clips.name}.part"), workspace.training.cache]
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]


def _clips(workspace: Workspace, expired: Expired) -> list[Path]:
    root = workspace.clips
    folders = [root / call_id for call_id in expired.call_ids if _CALL_ID.fullmatch(call_id)]
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]


def _pages(workspace: Workspace, expired: Expired) -> list[Path]:
    root = workspace.call_pages
    pages = [root / f"{call_id}.html" for call_id in expired.call_ids if _CALL_ID.fullmatch(call_id)]
    return [page for page in pages if page.is_file()]


def _other_folders(workspace: Workspace) -> list[Path]:
    """Forms of the report beside the pages: they may hold any call and are written again on request."""
    folder = workspace.redacted_reports
    return [folder] if folder.is_dir() and not folder.is_symlink() else []


def _other_files(workspace: Workspace) -> list[Path]:
    beside = ("report.html", "report-redacted.html", "email*.txt", "email*.html")
    return [
        path for root in (workspace.folder, workspace.reports) for name in beside for path in root.glob(name)
    ]


def _remove(folders: list[Path], files: list[Path], reviews: GoneReviews) -> None:
    try:
        forget_reviews(reviews)
        for folder in folders:
            shutil.rmtree(folder)
        for file in files:
            file.unlink(missing_ok=True)
    except OSError as problem:
        raise StoreError(
            f"{problem.filename}: cannot be removed ({problem.strerror}). "
            "Correct its permissions and purge again: what is gone stays gone."
        ) from problem


def remove_leftovers(workspace: Workspace) -> None:
    """What killed processes left behind may hold rows and pages of any call."""
    for folder in (*workspace.work_dir.glob("*.duckdb.tmp"), workspace.changing):
        shutil.rmtree(folder, ignore_errors=True)
    for pattern in ("*.restoring", "*.compacting"):
        for unfinished in workspace.work_dir.glob(pattern):
            unfinished.unlink(missing_ok=True)
    for building in workspace.reports.glob(".building-*"):
        if time.time() - building.stat().st_mtime > _LEFT_AFTER_S:
            shutil.rmtree(building, ignore_errors=True)
    for review in left_unfinished(workspace):
        with suppress(FileNotFoundError):  # finished meanwhile
            if time.time() - review.stat().st_mtime > _LEFT_AFTER_S:
                review.unlink()


def _size(roots: list[Path]) -> int:
    """Bytes of all files under some folders."""
    return sum(p.lstat().st_size for root in roots for p in root.rglob("*") if p.is_file())
