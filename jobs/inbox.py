"""Reviews on their way into the database: one small JSON file each, taken in by whoever holds the run lock.

So a review never fails because the night is at work, and never writes into the file that people have open.
What cannot be taken in (the call was purged, the rule no longer fires) is kept in `refused` with the reason.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callanalytics.errors import UsageError
from callanalytics.store import Review, Store
from callanalytics.store.open import WORK_DIR, make_private_dir

MAX_BYTES = 65_536
REFUSED = "refused"
_TEXTS = ("call_id", "verdict", "rule", "emotion", "reviewer", "note")


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of the waiting reviews."""

    n_taken: int
    refused: tuple[str, ...]  # why, one per review


def inbox_dir(out: Path) -> Path:
    """Where reviews wait."""
    return out / WORK_DIR / "reviews"


def put(out: Path, review: Review) -> Path:
    """Leave a review for the next one who holds the run lock; returns its file."""
    for folder in (out, out / WORK_DIR, inbox_dir(out)):
        make_private_dir(folder)
    now = datetime.now(UTC)
    told = asdict(replace(review, reviewed_at=review.reviewed_at or now))
    told["reviewed_at"] = told["reviewed_at"].isoformat()
    name = f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
    unfinished = inbox_dir(out) / f".{name}.part"
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(told, file)
    return unfinished.rename(inbox_dir(out) / f"{name}.json")


def waiting(out: Path) -> list[Path]:
    """Files of the waiting reviews, oldest first."""
    return sorted(inbox_dir(out).glob("*.json"))


def read_review(path: Path) -> Review:
    """The review in a file. Raises UsageError when it is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
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


def take_in(store: Store, out: Path, paths: Sequence[Path] | None = None) -> TakenIn:
    """Put the waiting reviews into the working database. The caller holds the run lock.

    A file goes only after its review is committed: what a crash interrupts is taken in twice, which
    changes nothing, since the newest review of a thing counts.
    """
    n_taken, refused = 0, []
    for path in waiting(out) if paths is None else paths:
        try:
            store.review(read_review(path))
        except UsageError as problem:
            refused.append(str(problem))
            _refuse(path, str(problem))
        else:
            n_taken += 1
            path.unlink(missing_ok=True)
    return TakenIn(n_taken, tuple(refused))


def about_gone_calls(store: Store, out: Path, doomed: Collection[str]) -> list[Path]:
    """Waiting and refused reviews of calls that are to go, or that are gone.

    What cannot be read as a review counts when it names a call that is to go.
    """
    told: dict[Path, str] = {}
    found = []
    for path in (*waiting(out), *sorted((inbox_dir(out) / REFUSED).glob("*.json"))):
        try:
            told[path] = read_review(path).call_id
        except UsageError:
            if path.is_file() and any(call_id.encode() in path.read_bytes() for call_id in doomed):
                found.append(path)
    known = {
        call_id
        for (call_id,) in store.connection.execute(
            "SELECT call_id FROM base.calls WHERE call_id IN (SELECT unnest(?::VARCHAR[]))",
            [sorted(set(told.values()))],
        ).fetchall()
    }
    return found + [path for path, call_id in told.items() if call_id in doomed or call_id not in known]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files of reviews, and first those that say why a review was refused."""
    return [path.with_suffix(".txt") for path in paths] + list(paths)


def left_unfinished(out: Path) -> list[Path]:
    """Reviews that are being written, or that a killed process began."""
    return list(inbox_dir(out).glob(".*.part"))


def _refuse(path: Path, reason: str) -> None:
    folder = path.parent / REFUSED
    make_private_dir(folder)
    path.replace(folder / path.name)
    (folder / f"{path.stem}.txt").write_text(reason + "\n", encoding="utf-8")
    (folder / f"{path.stem}.txt").chmod(0o600)
