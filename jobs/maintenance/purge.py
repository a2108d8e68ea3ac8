"""Remove old calls: rows, evidence clips, pages, reviews in the queue and what a retraining cut from them.

Original recordings are never touched.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.config.window import is_age, parse_age
from callanalytics.errors import ClockDoubtful, LockHeld, StoreError, UsageError, remedy
from callanalytics.ingest.recorders.phone_numbers import (
    HASH_BYTES,
    hash_number,
    load_or_make_salt,
    salt_of_results,
    significant_digits,
)
from callanalytics.records.text import counted
from callanalytics.store import Store, open_locked, publish
from callanalytics.store.publish import change_published, compact, compact_unpublished
from callanalytics.store.remove import Selected, Selection, forget_calls, forget_clips, select
from callanalytics.workspace import Workspace, file_lock, write_whole
from jobs.publishing import Pages, unnamed_clips
from jobs.reviews.queue import GoneReviews, about_gone_calls, forget_reviews
from jobs.scheduler.state import forget_reasons

# Only such a name is joined to a path; ids in the database are made of a hash.
_CALL_ID = re.compile(r"[0-9a-f]{8,64}")
# Forms of the report for mail, in the output folder or beside the pages: they may hold any call.
_FORMS = ("report.html", "report-redacted.html", "email*.txt", "email*.html")
# Lines of the log of erasures are signed one over the other with a key made from the secret of the folder:
# one that was changed, taken out or put in is found. The last ones can be cut off unseen.
_SIGNATURE = "signature"
# An age is counted back from the clock of this machine, which is believed where the newest call lies no
# further behind it than half the age, within these bounds.
_QUIET_AT_LEAST, _QUIET_AT_MOST = timedelta(days=7), timedelta(days=31)
# Calls of the future say nothing of the clock.
_NEWEST = """
WITH known AS (SELECT started_at FROM base.calls UNION ALL SELECT started_at FROM base.quarantine)
SELECT max(started_at) FROM known WHERE started_at <= ?
"""


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge removed, or would remove."""

    by: str  # older_than, call, caller or agent
    before: datetime | None
    n_calls: int
    n_quarantined: int
    n_clips: int
    n_pages: int
    n_reviews: int  # that waited for a run, or were refused by one
    n_training_clips: int  # that the last retraining cut from reviewed calls
    n_damaged: int  # files of databases that could not be read and were moved away
    n_originals: int  # recordings of these calls that lie where they were found
    n_bytes_freed: int
    audio_only: bool
    dry_run: bool

    def to_json(self) -> dict[str, object]:
        """The object that `purge --json` prints."""
        return {**asdict(self), "before": self.before.isoformat() if self.before else None}


def selection_of(
    settings: Settings,
    workspace: Workspace,
    *,
    older_than: str | None = None,
    call: str | None = None,
    caller: str | None = None,
    agent: str | None = None,
    now: datetime | None = None,
) -> Selection:
    """The selection of what the command line says, which must be one thing.

    ``caller`` is a number, in any spelling, or its hash as the results have it.

    Raises:
        UsageError: none or several are given, no age in days or weeks and no time that is over, or no number.
        StoreError: the secret that numbers are hashed with cannot be read.
    """
    told = {"older_than": older_than, "call": call, "caller": caller, "agent": agent}
    given = [(by, value) for by, value in told.items() if value is not None]
    if len(given) != 1:
        raise UsageError("Give one of --older-than, --call, --caller and --agent.")
    ((by, value),) = given
    if by == "older_than":
        now = now or datetime.now(UTC)
        moment = parse_age(value, zone=settings.time.zone_info, now=now)
        return Selection("older_than", moment, now if is_age(value) else None)
    if by == "caller":
        if re.fullmatch(rf"[0-9a-f]{{{2 * HASH_BYTES}}}", value):
            return Selection("caller", value)
        if not significant_digits(value):
            raise UsageError(
                "--caller is no number and no hash: give the number, or caller_hash of the results."
            )
        workspace.require_results("purge")
        salt = salt_of_results(workspace.folder / settings.privacy.salt_file)
        return Selection("caller", hash_number(value, salt) or "")
    if by == "call" and not _CALL_ID.fullmatch(value):
        raise UsageError(f"--call {value!r} is no id of a call: give at least 8 of its letters and digits.")
    return Selection("call" if by == "call" else "agent", value)


def purge(
    settings: Settings,
    workspace: Workspace,
    selection: Selection,
    *,
    audio_only: bool = False,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Purged:
    """Remove the calls of a selection.

    Files go first and rows after them, so that what was cut short is found and finished by the next
    purge; then both databases are written anew, so that nothing of the calls is left in their bytes.
    Whoever holds an old published file open keeps it until they close it; exports are not touched. A night
    that the gate holds back stays unpublished. Once any call goes, so do all clips and spectrograms
    in OUT/training: the next retraining makes them anew. Damaged databases that were moved to
    OUT/.work/damaged go with every purge of rows. What was erased is noted by counts in a signed log.

    Raises:
        UsageError: nothing here yet, or a head of an id that several calls have.
        LockHeld: a run is at work, or a training, which may read clips of these calls.
        ClockDoubtful: an age is counted back from a clock that lies far beyond every call.
        StoreError, ReportError: files or databases cannot be written.
    """
    now = now or datetime.now(UTC)
    workspace.require_results("purge")
    rows_too = not audio_only
    with (
        _no_training(workspace) if rows_too and not dry_run else nullcontext(),
        open_locked(workspace) as store,
    ):
        expired = _expired(settings, store, selection)
        expired_ids = [call_id for call_id in expired.call_ids if _CALL_ID.fullmatch(call_id)]
        clips = _folders(workspace.clips_of(call_id) for call_id in expired_ids) + unnamed_clips(store)
        pages, training, damaged, reviews = list[Path](), list[Path](), list[Path](), GoneReviews(0, {})
        if rows_too:
            pages = [workspace.call_pages / f"{call_id}.html" for call_id in expired_ids]
            training = _training(workspace) if expired.call_ids else []
            damaged = _folders([workspace.damaged])  # nobody can say which calls they name
            reviews = about_gone_calls(store, workspace, expired.call_ids)
        found = Purged(
            by=selection.by,
            before=selection.before,
            n_calls=len(expired.call_ids) if rows_too else 0,
            n_quarantined=expired.n_quarantined if rows_too else 0,
            n_clips=sum(len(list(folder.iterdir())) for folder in clips),
            n_pages=sum(page.is_file() for page in pages),
            n_reviews=reviews.n,
            n_training_clips=len(list(workspace.training.reviewed_clips.glob("*.wav"))) if training else 0,
            n_damaged=sum(path.is_file() for folder in damaged for path in folder.rglob("*")),
            n_originals=sum(os.path.lexists(path) for path in expired.paths),
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
        folders = [*clips, *training, *damaged, *_folders([workspace.redacted_reports])]
        if rows_too:
            folders += workspace.folder.glob("*.duckdb.tmp")  # what a query had no memory for
        with _removing():
            forget_reviews(reviews)
            for folder in folders:
                shutil.rmtree(folder)
            passing = _passing(workspace, expired.names, selection.before) if rows_too else []
            for file in (*pages, *passing, *_forms(workspace)):
                file.unlink(missing_ok=True)
            workspace.remove_leftovers()
            if rows_too:
                forget_reasons(workspace.schedule_state, expired.names, selection.before)
        forget = partial(forget_clips if audio_only else forget_calls, selection=selection)
        forget(store)
        if workspace.held:  # what people see loses the calls too, and does not gain the night
            if rows_too:
                compact_unpublished(store)
            change_published(workspace, forget)
        elif rows_too:
            compact(store)
        else:
            publish(store)
        _remove_late(workspace, expired.call_ids if rows_too else ())
        _note(settings, workspace, found, now)
    if not stays:  # the pages may name calls that are gone
        report.write_again(shown, now=now)
    if audio_only:
        return found
    return replace(found, n_bytes_freed=max(size_before - _size([workspace.folder]), 0))


def render_purged(done: Purged) -> str:
    """What went, in a few lines."""
    verb = "Would remove" if done.dry_run else "Removed"
    what = counted(done.n_clips, "clip")
    if not done.audio_only:
        rows = f"{counted(done.n_calls, 'call')}, {counted(done.n_quarantined, 'quarantined recording')}"
        what = f"{rows}, {what}, {counted(done.n_pages, 'page')}"
        what += f", {counted(done.n_reviews, 'review')} not taken in" if done.n_reviews else ""
        what += f", {counted(done.n_training_clips, 'training clip')}" if done.n_training_clips else ""
        what += f", {done.n_damaged:,} files of damaged databases" if done.n_damaged else ""
    size = f" {done.n_bytes_freed / 1e6:,.1f} MB freed." if not done.dry_run else ""
    kept = "Original recordings, exports and exported corpora are not touched."
    of = {
        "call": "of this call",
        "caller": "of this caller",
        "agent": "of this agent (quarantined recordings are not known by agent)",
    }
    whose = f"of calls before {done.before:%Y-%m-%d %H:%M} UTC" if done.before else of[done.by]
    if done.n_originals and not done.before and not done.audio_only:
        kept += (
            f" Still lying where they were found: {done.n_originals:,}. Delete them there, or a run whose "
            "window holds them analyses them again."
        )
    return f"{verb} {what} {whose}.{size} {kept}"


def _expired(settings: Settings, store: Store, selection: Selection) -> Selected:
    """What is to go, where that is certain; else UsageError or ClockDoubtful."""
    if selection.before and selection.counted_from:
        _believe(selection.counted_from, selection.before, settings, store)
    expired = select(store, selection)
    if selection.by == "call" and len(expired.call_ids) > 1:
        raise UsageError(f"{len(expired.call_ids)} calls have ids that begin like this: give all of the id.")
    return expired


def _believe(clock: datetime, before: datetime, settings: Settings, store: Store) -> None:
    """Raise ClockDoubtful where a clock, from which ``before`` was counted back, lies far beyond every call.

    What runs say of themselves is no evidence: the last one may have begun by the same clock.
    """
    ((newest,),) = store.rows(_NEWEST, [clock])
    if newest and clock - newest > min(max((clock - before) / 2, _QUIET_AT_LEAST), _QUIET_AT_MOST):
        says, of, day = (f"{t.astimezone(settings.time.zone_info):%Y-%m-%d}" for t in (clock, newest, before))
        raise ClockDoubtful(
            f"This machine's clock says {says}, the newest call is of {of}. With a clock that is ahead, "
            "calls would go that are not old: nothing was purged. If it is right, name the day instead: "
            f"--older-than {day}"
        )


def _note(settings: Settings, workspace: Workspace, done: Purged, now: datetime) -> None:
    """Add a line to the log of erasures; the nightly purge that found nothing is none."""
    if done.by == "older_than" and not (done.n_calls or done.n_quarantined or done.n_clips):
        return
    counted = ("by", "audio_only", "n_calls", "n_quarantined", "n_clips", "n_pages", "n_reviews")
    facts = {name: value for name, value in done.to_json().items() if name in counted}
    salt = load_or_make_salt(workspace.folder / settings.privacy.salt_file)
    with _removing():
        append_erasure(workspace.erasures, salt, now, facts)


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


def _passing(workspace: Workspace, names: Collection[bytes], before: datetime | None) -> list[Path]:
    """The sound of calls that the app plays, logs that are old or name a call that is to go, and the file
    that was published before the last: killed before the end, the next publishing writes a whole copy.

    Who has such a file open keeps it until they close it.
    """
    logs = [path for path in (*workspace.logs.glob("*"), workspace.damaged_state) if path.exists()]
    until_s = before.timestamp() if before else 0.0
    old = [log for log in logs if log.stat().st_mtime < until_s or _names_any(log, names)]
    return [*old, *_played(workspace), workspace.previous]


def _played(workspace: Workspace) -> list[Path]:
    """The sound of calls that the app plays."""
    return [path for path in workspace.playing.rglob("*") if path.is_file()]


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


def _remove_late(workspace: Workspace, call_ids: Collection[str]) -> None:
    """Remove what came meanwhile: until the rows were gone, the app played the calls and took verdicts."""
    with _removing():
        forget_reviews(about_gone_calls(None, workspace, call_ids))
        for sound in _played(workspace):
            sound.unlink(missing_ok=True)


@contextmanager
def _removing() -> Iterator[None]:
    """Turn an OSError of the block into a StoreError."""
    try:
        yield
    except OSError as problem:
        raise StoreError(
            f"{problem.filename}: cannot be removed ({problem.strerror}). "
            f"{remedy(problem)} and purge again: what is gone stays gone."
        ) from problem


def _size(roots: list[Path]) -> int:
    """Bytes of all files under some folders."""
    return sum(p.lstat().st_size for root in roots for p in root.rglob("*") if p.is_file())


def append_erasure(path: Path, salt: bytes, now: datetime, facts: dict[str, object]) -> None:
    """Add a signed line. ``facts`` are counts and kinds, never ids, names or numbers. Raises OSError.

    A damaged line stays where it is, for `verify_erasures` to find; what comes after it is noted as well.
    """
    lines = _lines(path)
    before = _signature_in(lines[-1]) if lines else ""
    body = json.dumps({"at": now.astimezone(UTC).isoformat(timespec="seconds"), **facts}, sort_keys=True)
    signed = json.dumps({**json.loads(body), _SIGNATURE: _sign(salt, before, body)}, sort_keys=True)
    write_whole(path, "".join(f"{line}\n" for line in (*lines, signed)), durable=True)


def _signature_in(line: str) -> str:
    try:
        return str(json.loads(line)[_SIGNATURE])
    except (ValueError, KeyError, TypeError):
        return ""


def verify_erasures(path: Path, salt: bytes) -> tuple[int, int | None]:
    """How many lines there are, and the number of the first whose signature does not hold (from 1)."""
    before = ""
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        try:
            facts = json.loads(line)
            signature = str(facts.pop(_SIGNATURE))
        except (ValueError, KeyError, TypeError, AttributeError):
            return len(lines), number
        if not hmac.compare_digest(signature, _sign(salt, before, json.dumps(facts, sort_keys=True))):
            return len(lines), number
        before = signature
    return len(lines), None


def _sign(salt: bytes, before: str, body: str) -> str:
    key = hashlib.blake2b(key=salt[:64], person=b"erasures").digest()
    return hmac.new(key, f"{before}\n{body}".encode(), hashlib.sha256).hexdigest()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
