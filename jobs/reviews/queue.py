"""Reviews on their way into the database: a small file each, taken in by whoever holds the run lock.

One review is a JSON object (`.json`), an import one object a line (`.jsonl`): a file is there whole or not at
all, and what is in it is taken in in one transaction.

So a review never fails because the night is at work, and never writes into the file that people have open.
What cannot be taken in (the call was purged, the rule no longer fires) is kept in `refused` with the reason.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from callanalytics.errors import UsageError
from callanalytics.store import Review, Store
from callanalytics.workspace import Workspace, make_private_dir

REFUSED = "refused"
MAX_BYTES = 65_536  # of a review
MAX_REVIEWS = 100_000  # of an import
_TEXTS = ("call_id", "verdict", "rule", "emotion", "reviewer", "note")


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of the waiting reviews."""

    n_taken: int
    refused: tuple[str, ...]  # why, one per review


def put(workspace: Workspace, reviews: Sequence[Review]) -> Path:
    """Leave reviews for the next one who holds the run lock; returns their one file.

    Raises UsageError when one is too long; then nothing is left.
    """
    now = datetime.now(UTC)
    lines = [_line(review, now) for review in reviews]
    make_private_dir(workspace.review_queue)
    kind = ".json" if len(lines) == 1 else ".jsonl"
    return _write(workspace.review_queue / f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}{kind}", lines)


def check_length(review: Review) -> None:
    """Raise UsageError when a review is longer than the inbox takes."""
    _line(review, datetime.now(UTC))


def _line(review: Review, now: datetime) -> str:
    told = asdict(replace(review, reviewed_at=review.reviewed_at or now))
    told["reviewed_at"] = told["reviewed_at"].isoformat()
    line = json.dumps(told)  # in ASCII, without line breaks
    if len(line) > MAX_BYTES:
        raise UsageError(
            f"the review takes {len(line):,} bytes, and {MAX_BYTES:,} bytes is the most: shorten its note."
        )
    return line


def _write(target: Path, lines: Sequence[str]) -> Path:
    unfinished = target.with_name(f".{target.stem}.part")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{line}\n" for line in lines)
    return unfinished.rename(target)


def waiting(workspace: Workspace) -> list[Path]:
    """Files of the waiting reviews, oldest first."""
    return _files(workspace.review_queue)


def _files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.json"), *folder.glob("*.jsonl")])


def read_reviews(path: Path) -> list[Review]:
    """The reviews in a file, at least one. Raises UsageError when it is no such file."""
    if path.suffix != ".jsonl":
        return [read_review(path)]
    try:
        with path.open(encoding="utf-8") as file:
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


def read_review(path: Path) -> Review:
    """The review in a file. Raises UsageError when it is none."""
    try:
        if path.stat().st_size > MAX_BYTES + 1:  # and a line break
            raise UsageError(f"{path.name}: larger than {MAX_BYTES} bytes, that is no review")
        told = json.loads(path.read_text(encoding="utf-8"))
        return _review(told)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as problem:
        raise UsageError(f"{path.name}: not a review ({problem})") from None


def _review(told: Mapping[str, Any]) -> Review:
    if not isinstance(told, dict) or not set(told) <= {field.name for field in fields(Review)}:
        raise ValueError("unknown entries")
    texts = {name: told.get(name) for name in _TEXTS}
    if not all(value is None or isinstance(value, str) for value in texts.values()):
        raise ValueError("an entry that should be text is not")
    segment = told.get("segment")
    if segment is not None and (isinstance(segment, bool) or not isinstance(segment, int)):
        raise ValueError("segment is no number")
    at = datetime.fromisoformat(told["reviewed_at"]) if told.get("reviewed_at") else None
    if at is not None and at.tzinfo is None:
        raise ValueError("reviewed_at has no zone")
    return Review(
        told["call_id"], told["verdict"], **{n: texts[n] for n in _TEXTS[2:]}, segment=segment, reviewed_at=at
    )


def take_in(store: Store, workspace: Workspace) -> TakenIn:
    """Put the waiting reviews into the working database. The caller holds the run lock.

    A file goes only after its reviews are committed: what a crash interrupts is taken in twice, which
    changes nothing, since the newest review of a thing counts. Those of an import that no longer fit are
    set aside, the others of it are taken.
    """
    n_taken, refused = 0, list[str]()
    for path in waiting(workspace):
        try:
            reviews = read_reviews(path)
        except UsageError as problem:
            refused.append(str(problem))
            path.replace(_refused(path, [str(problem)]))
            continue
        unfit = _keep_fitting(store, reviews)
        if unfit:
            now = datetime.now(UTC)
            reasons = [reason for _, reason in unfit]
            refused += reasons
            _write(_refused(path, reasons), [_line(review, now) for review, _ in unfit])
        n_taken += len(reviews) - len(unfit)
        path.unlink(missing_ok=True)
    return TakenIn(n_taken, tuple(refused))


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


def about_gone_calls(store: Store, workspace: Workspace, call_ids: Collection[str]) -> GoneReviews:
    """Waiting and refused reviews of calls that are to go, or that are gone.

    What cannot be read as reviews counts when it names a call that is to go.
    """
    told: dict[Path, list[Review]] = {}
    rest: dict[Path, Sequence[Review]] = {}
    n = 0
    for path in (*_files(workspace.review_queue), *_files(workspace.review_queue / REFUSED)):
        try:
            told[path] = read_reviews(path)
        except UsageError:
            if path.is_file() and any(call_id.encode() in path.read_bytes() for call_id in call_ids):
                rest[path], n = (), n + 1
    known = {
        call_id
        for (call_id,) in store.connection.execute(
            "SELECT call_id FROM base.calls WHERE call_id IN (SELECT unnest(?::VARCHAR[]))",
            [sorted({review.call_id for reviews in told.values() for review in reviews})],
        ).fetchall()
    } - set(call_ids)
    for path, reviews in told.items():
        stay = [review for review in reviews if review.call_id in known]
        if len(stay) < len(reviews):
            rest[path], n = stay, n + len(reviews) - len(stay)
    return GoneReviews(n, rest)


def forget_reviews(gone: GoneReviews) -> None:
    """Remove them from their files, and why any was refused: a reason may name a call."""
    now = datetime.now(UTC)
    for path, stay in gone.rest.items():
        path.with_suffix(".txt").unlink(missing_ok=True)
        if stay:
            _write(path, [_line(review, now) for review in stay])
        else:
            path.unlink(missing_ok=True)


def left_unfinished(workspace: Workspace) -> list[Path]:
    """Reviews that are being written, or that a killed process began."""
    return list(workspace.review_queue.glob(".*.part"))


def _refused(path: Path, reasons: Sequence[str]) -> Path:
    """Where a file goes that is not taken in; the reasons lie beside it."""
    folder = path.parent / REFUSED
    make_private_dir(folder)
    told = folder / f"{path.stem}.txt"
    told.write_text("\n".join(reasons) + "\n", encoding="utf-8")
    told.chmod(0o600)
    return folder / path.name
