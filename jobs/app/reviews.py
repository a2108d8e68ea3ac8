"""What people say about calls on the way to the next run: a small file each, never the published database."""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_FOLDER = Path(".work") / "reviews"


def record_review(
    out_dir: Path,
    call_id: str,
    verdict: str,
    segment: int | None = None,
    emotion: str | None = None,
    note: str | None = None,
) -> None:
    """Put one review where the next run takes it in; works while a run is at work. Raises OSError."""
    folder = out_dir / _FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    review = {
        **{"call_id": call_id, "verdict": verdict, "segment": segment, "emotion": emotion, "note": note},
        "reviewed_at": datetime.now(UTC).isoformat(),
    }
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
    unfinished = folder / f".{name}.part"
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(review, stream)
    unfinished.rename(folder / f"{name}.json")


def waiting_reviews(out_dir: Path, call_id: str) -> list[dict[str, Any]]:
    """Reviews of a call that no run has taken in yet, oldest first."""
    found = []
    for path in sorted((out_dir / _FOLDER).glob("*.json")):
        try:
            review = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # taken in this moment
        if isinstance(review, dict) and review.get("call_id") == call_id:
            found.append(review)
    return found
