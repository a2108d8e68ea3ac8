"""The log of what was erased: signed lines that count and name nobody.

Each line is signed with a key made from the secret of the output folder, together with the signature of the
line before it: a line that was changed, taken out or put in is found. The last lines can be cut off
unseen, so keep a copy of the newest signature where that matters.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path

from callanalytics.workspace import write_whole

_SIGNATURE = "signature"


def append_erasure(path: Path, salt: bytes, now: datetime, facts: dict[str, object]) -> None:
    """Add a signed line. ``facts`` are counts and kinds, never ids, names or numbers. Raises OSError."""
    lines = _lines(path)
    before = json.loads(lines[-1]).get(_SIGNATURE, "") if lines else ""
    body = json.dumps({"at": now.astimezone(UTC).isoformat(timespec="seconds"), **facts}, sort_keys=True)
    signed = json.dumps({**json.loads(body), _SIGNATURE: _sign(salt, before, body)}, sort_keys=True)
    write_whole(path, "".join(f"{line}\n" for line in (*lines, signed)), durable=True)


def verify_erasures(path: Path, salt: bytes) -> tuple[int, int | None]:
    """How many lines there are, and the number of the first whose signature does not hold (from 1)."""
    before = ""
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        try:
            facts = json.loads(line)
            signature = str(facts.pop(_SIGNATURE))
        except (ValueError, KeyError, AttributeError):
            return len(lines), number
        if not hmac.compare_digest(signature, _sign(salt, before, json.dumps(facts, sort_keys=True))):
            return len(lines), number
        before = signature
    return len(lines), None


def _sign(salt: bytes, before: str, body: str) -> str:
    key = hashlib.blake2b(key=salt[:64], person=b"erasures").digest()
    return hmac.new(key, f"{before}\n{body}".encode(), hashlib.sha256).hexdigest()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
