"""The same sound more than once: in doubled folders, in two corpora, or under two labels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ensemble.corpora.clip import Clip, Corpus, Unusable


def without_copies(corpora: Sequence[Corpus]) -> list[Corpus]:
    """The corpora with every sound once: of files with the same bytes the first stays, over all corpora.

    A sound under two labels says nothing for certain and could be in training and in test: all of it goes.
    Only files of one size are read, about 1 GB a second. Empty files are left to who decodes them.
    """
    files: dict[int, set[Path]] = defaultdict(set)
    for corpus in corpora:
        for clip in corpus.clips:
            files[clip.path.stat().st_size].add(clip.path)
    content = {
        path: _digest(path) if size and len(alike) > 1 else str(path)
        for size, alike in files.items()
        for path in alike
    }
    same: dict[tuple[object, ...], list[Clip]] = defaultdict(list)
    for corpus in corpora:
        for clip in corpus.clips:
            same[content[clip.path], clip.start_s, clip.end_s].append(clip)
    reasons = {id(clip): why for clips in same.values() for clip, why in _superfluous(clips)}
    return [
        replace(
            corpus,
            clips=tuple(clip for clip in corpus.clips if id(clip) not in reasons),
            unusable=corpus.unusable
            + tuple(Unusable(clip.path, reasons[id(clip)]) for clip in corpus.clips if id(clip) in reasons),
        )
        for corpus in corpora
    ]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _superfluous(clips: Sequence[Clip]) -> list[tuple[Clip, str]]:
    """Which clips of one sound are not used, and why."""
    labels = sorted({clip.emotion for clip in clips})
    if len(labels) > 1:
        return [(clip, f"one sound under the labels {' and '.join(labels)}") for clip in clips]
    return [(clip, "copy of another file") for clip in clips[1:]]
