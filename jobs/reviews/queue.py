"""The review queue: reviews wait in small files for the end of the next run, which publishes them.

Every review takes this way, whether the command line or the review app gives it. So each shows at once what
was given in the other, no review fails because a run is at work, and nobody writes into the file that people
have open. A file holds one JSON object a line: one review, or a whole import. It is there whole or not at
all, and its reviews are committed in one transaction. What no longer fits by then (the call was purged, the
rule no longer fires) is kept in `refused` with the reason.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, TextIO

from callanalytics.errors import StoreError, UsageError
from callanalytics.store import Review, Store
from callanalytics.workspace import Workspace, make_private_dir, write_whole

_log = logging.getLogger(__name__)

REFUSED = "refused"
MAX_BYTES = 65_536  # of a review
MAX_REVIEWS = 100_000  # of an import
_TEXTS = ("rule", "emotion", "reviewer", "note")


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of the waiting reviews."""

    n_taken: int
    refused: tuple[str, ...]  # why, one per review


def put(workspace: Workspace, reviews: Sequence[Review]) -> None:
    """Leave reviews for the next run, in one file.

    Raises:
        UsageError: one is too long; then nothing is left.
    """
    now = datetime.now(UTC)
    lines = [_line(review, now) for review in reviews]
    make_private_dir(workspace.review_queue)
    kind = ".json" if len(lines) == 1 else ".jsonl"
    _write(workspace.review_queue / f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}{kind}", lines)


def check_length(review: Review) -> None:
    """Raise UsageError when a review is longer than the queue takes."""
    _line(review, datetime.now(UTC))


def _line(review: Review, now: datetime) -> str:
    entry = asdict(replace(review, reviewed_at=review.reviewed_at or now))
    entry["reviewed_at"] = entry["reviewed_at"].isoformat()
    line = json.dumps(entry)  # in ASCII, without line breaks
    if len(line) > MAX_BYTES:
        raise UsageError(
            f"the review takes {len(line):,} bytes, and {MAX_BYTES:,} bytes is the most: shorten its note."
        )
    return line


def _write(path: Path, lines: Sequence[str]) -> None:
    write_whole(path, "".join(f"{line}\n" for line in lines), durable=True)


def waiting(workspace: Workspace) -> list[Path]:
    """Files of the waiting reviews, oldest first."""
    return _files(workspace.review_queue)


def waiting_reviews(workspace: Workspace) -> list[Review]:
    """Every review that no run has taken in yet, oldest first."""
    found: list[Review] = []
    for path in waiting(workspace):
        try:
            found += read_reviews(path)
        except UsageError:  # taken in at this moment, or no review: the next run says so
            continue
    return found


def take_back(workspace: Workspace, *, call_id: str = "", reviewer: str | None = None) -> list[Review]:
    """Remove what was given last and waits still: one review, or the whole of an import.

    Args:
        call_id: only of a review of this call as a whole; an import is then left.
        reviewer: only what this person gave, None for what was given without a name.

    Returns:
        The reviews that are gone; none where no such review waits.
    """
    for path in reversed(waiting(workspace)):
        with _held(path) as is_there:
            if not is_there:
                continue
            try:
                reviews = read_reviews(path)
            except UsageError:  # no reviews: the next run says so
                continue
            if any(review.reviewer != reviewer for review in reviews):
                continue
            whole = len(reviews) == 1 and reviews[0].rule is None and reviews[0].segment is None
            if call_id and not (whole and reviews[0].call_id == call_id):
                continue
            path.unlink(missing_ok=True)
            return reviews
    return []


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Keep others from taking a file in, or back, meanwhile; whether it is there still.

    Where the file system has no locks, a review that is taken back in the moment of a run's end may stay.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield os.fstat(descriptor).st_nlink > 0
    finally:
        os.close(descriptor)


def _files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.json"), *folder.glob("*.jsonl")])


def read_reviews(path: Path) -> list[Review]:
    """The reviews in a file, at least one. Raises UsageError when it is no such file."""
    try:
        # A named pipe would keep the open itself waiting, and the night with it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8") as file:  # noqa: PTH123
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("no file")
            reviews = [_review(json.loads(line)) for line in _lines(path, file)]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as problem:
        raise UsageError(f"{path.name}: not reviews ({problem})") from None
    if not reviews:
        raise UsageError(f"{path.name}: holds no review")
    return reviews


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_BYTES + 2):
        number += 1
        if len(line) > MAX_BYTES + 1 or number > MAX_REVIEWS:
            raise UsageError(
                f"{path.name}, line {number}: longer than {MAX_BYTES} characters, or more than {MAX_REVIEWS} "
                "reviews"
            )
        yield line


def _review(entry: Any) -> Review:
    if not isinstance(entry, dict) or not set(entry) <= {field.name for field in fields(Review)}:
        raise ValueError("unknown entries")
    needed = isinstance(entry["call_id"], str) and isinstance(entry["verdict"], str)
    if not needed or not all(isinstance(entry.get(name), str | None) for name in _TEXTS):
        raise ValueError("an entry that should be text is not")
    if type(entry.get("segment")) not in (int, NoneType):  # True is an int too
        raise ValueError("segment is no number")
    at = datetime.fromisoformat(entry["reviewed_at"]) if entry.get("reviewed_at") else None
    if at is not None and at.tzinfo is None:
        raise ValueError("reviewed_at has no zone")
    return Review(**{**entry, "reviewed_at": at})


def take_in(store: Store, workspace: Workspace) -> TakenIn:
    """Put the waiting reviews into the working database. The caller holds the run lock.

    A file goes only after its reviews are committed: what a crash interrupts is taken in twice, which
    changes nothing, since the newest review of a thing counts. Those of an import that no longer fit are
    refused, the others of it are taken. What cannot be read, taken or refused (permissions, a full disk) is
    logged and stays: the night goes on without it.
    """
    n_taken, refused = 0, list[str]()
    for path in waiting(workspace):
        try:
            with _held(path) as is_there:
                if not is_there and not os.path.lexists(path):  # its reviewer took it back
                    continue
                n_fit, reasons = _take_in_file(store, path)
        except (OSError, StoreError) as problem:
            _log.error("%s: cannot be taken in and stays in the queue (%s)", path, problem)
            continue
        n_taken += n_fit
        refused += reasons
    return TakenIn(n_taken, tuple(refused))


def _take_in_file(store: Store, path: Path) -> tuple[int, list[str]]:
    """How many reviews of a file were committed, and why the others were refused.

    Raises OSError, StoreError; then the file is still there.
    """
    try:
        reviews = read_reviews(path)
    except UsageError as problem:
        path.replace(_refused(path, [str(problem)]))
        return 0, [str(problem)]
    unfit = _keep_fitting(store, reviews)
    reasons = [reason for _, reason in unfit]
    if unfit:
        now = datetime.now(UTC)
        _write(_refused(path, reasons), [_line(review, now) for review, _ in unfit])
    path.unlink(missing_ok=True)
    return len(reviews) - len(unfit), reasons


def _keep_fitting(store: Store, reviews: Sequence[Review]) -> list[tuple[Review, str]]:
    """Commit the reviews that fit, together; returns the others, each with the reason."""
    unfit = []
    with store.transaction("keep the reviews"):
        for review in reviews:
            try:
                store.review(review)
            except UsageError as problem:
                unfit.append((review, str(problem)))
    return unfit


@dataclass(frozen=True, slots=True)
class GoneReviews:
    """Reviews of calls that are to go, or that are gone."""

    n: int
    rest: Mapping[Path, Sequence[Review]]  # the files they are in, and what stays of each


def about_gone_calls(store: Store | None, workspace: Workspace, call_ids: Collection[str]) -> GoneReviews:
    """Waiting and refused reviews of calls that are to go, or that are gone: the latter with a store only.

    What cannot be read as reviews counts when it names a call that is to go.
    """
    in_file: dict[Path, list[Review]] = {}
    rest: dict[Path, Sequence[Review]] = {}
    n = 0
    for path in (*_files(workspace.review_queue), *_files(workspace.review_queue / REFUSED)):
        try:
            in_file[path] = read_reviews(path)
        except UsageError:
            if path.is_file() and any(call_id.encode() in path.read_bytes() for call_id in call_ids):
                rest[path], n = (), n + 1
    named = {review.call_id for reviews in in_file.values() for review in reviews}
    if store is not None:
        there = "SELECT call_id FROM base.calls WHERE call_id IN (SELECT unnest(?::VARCHAR[]))"
        named = {call_id for (call_id,) in store.rows(there, [sorted(named)])}
    known = named - set(call_ids)
    for path, reviews in in_file.items():
        stay = [review for review in reviews if review.call_id in known]
        if len(stay) < len(reviews):
            rest[path], n = stay, n + len(reviews) - len(stay)
    return GoneReviews(n, rest)


def forget_reviews(gone: GoneReviews) -> None:
    """Remove them from their files, and why any was refused: a reason may name a call."""
    now = datetime.now(UTC)
    for path, stay in gone.rest.items():
        for folder in (path.parent, path.parent / REFUSED):  # of a run that was killed: before it was moved
            (folder / f"{path.stem}.txt").unlink(missing_ok=True)
        if stay:
            _write(path, [_line(review, now) for review in stay])
        else:
            path.unlink(missing_ok=True)


def _refused(path: Path, reasons: Sequence[str]) -> Path:
    """Where a file goes that is not taken in; the reasons lie beside it."""
    folder = path.parent / REFUSED
    make_private_dir(folder)
    write_whole(folder / f"{path.stem}.txt", "\n".join(reasons) + "\n")
    return folder / path.name
