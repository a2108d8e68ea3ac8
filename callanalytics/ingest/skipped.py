"""What a search passes over: how much of it, why, and which, where somebody asks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is no candidate: still settling, outside the window, a duplicate, ..."""

    path: Path
    reason: str
    detail: str = ""


@dataclass(slots=True)
class SetAside:
    """Counts by reason. The files are kept only with `named`: a folder may hold those of many years."""

    named: bool
    counts: Counter[str] = field(default_factory=Counter)
    files: list[SkippedFile] = field(default_factory=list)

    def add(self, path: Path, reason: str, detail: str = "", *, n: int = 1) -> None:
        """Note a file, or `n` things in it."""
        self.counts[reason] += n
        if self.named:
            self.files.append(SkippedFile(path, reason, detail))
