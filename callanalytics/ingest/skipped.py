"""What a search passes over, and why: counted by reason and kind, listed by name where that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from callanalytics.text import display_text

MAX_KINDS = 50  # of one reason: names may end in anything
OTHER_KINDS = "others"
_MAX_KIND_CHARS = 12  # a longer ending is no kind of file


class SkipCount(NamedTuple):
    """How many files of one kind were passed over for one reason, and the times of the first and the last."""

    reason: str  # closed word: settling, outside_window, ignored, not_included, excluded, duplicate, ...
    kind: str  # extension with its dot, empty where there is none or it does not matter
    n_files: int
    earliest_at: datetime | None
    latest_at: datetime | None

    def to_json(self) -> dict[str, object]:
        """Plain values; times in ISO format."""
        return {
            key: value.isoformat() if isinstance(value, datetime) else value
            for key, value in self._asdict().items()
        }


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that a search passes over: still settling, outside the window, a duplicate, ..."""

    path: Path
    reason: str
    detail: str = ""


@dataclass(slots=True)
class Skipped:
    """Counts of one search. Files are listed only with `named`: a folder may hold those of many years."""

    named: bool
    files: list[SkippedFile] = field(default_factory=list)
    _counts: dict[tuple[str, str], SkipCount] = field(default_factory=dict)
    _n_kinds: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        path: Path,
        reason: str,
        detail: str = "",
        *,
        kind: str = "",
        at: datetime | None = None,
        n: int = 1,
    ) -> None:
        """Note a file, or `n` things in it; `at` is the time that explains the reason."""
        known = self._counts.get((reason, kind))
        if known is None:
            n_kinds = self._n_kinds[reason] = self._n_kinds.get(reason, 0) + 1
            if n_kinds > MAX_KINDS:
                kind = OTHER_KINDS
            known = self._counts.get((reason, kind), SkipCount(reason, kind, 0, at, at))
        earliest_at, latest_at = known.earliest_at, known.latest_at
        if at is not None:
            earliest_at = at if earliest_at is None else min(earliest_at, at)
            latest_at = at if latest_at is None else max(latest_at, at)
        self._counts[reason, kind] = SkipCount(reason, kind, known.n_files + n, earliest_at, latest_at)
        if self.named:
            self.files.append(SkippedFile(path, reason, detail))

    @property
    def counts(self) -> tuple[SkipCount, ...]:
        """By reason, the most frequent kinds first."""
        return tuple(
            sorted(self._counts.values(), key=lambda count: (count.reason, -count.n_files, count.kind))
        )


def kind_of(name: str) -> str:
    """The extension of a name, for people: ``.mka``; empty where there is none."""
    stem, dot, ending = name.rpartition(".")
    if not stem or not dot or not ending or len(ending) > _MAX_KIND_CHARS:
        return ""
    return display_text(f".{ending.lower()}")
