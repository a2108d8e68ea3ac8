"""What earlier runs know of a file, asked for by name, size and time of change: it is not read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

FileKey = tuple[str, int, int]  # path, bytes, time of change in ns


class SettledCall(NamedTuple):
    """A call about which nothing is left to do."""

    recording_id: str
    started_at: datetime


class KnownFile(NamedTuple):
    """A file that has not changed since it was read."""

    content_id: str  # SHA-256 of its content
    settled: SettledCall | None = None  # the call that it holds, alone or with the other side of its pair


# Many keys at once -> what is known of some of them.
AskKnown = Callable[[Sequence[FileKey]], Mapping[FileKey, KnownFile]]


def nothing_known(keys: Sequence[FileKey]) -> Mapping[FileKey, KnownFile]:
    """Every file is new."""
    return {}
