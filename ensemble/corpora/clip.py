"""Clips, files that cannot be used and why, and the corpus that both make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ensemble.model_errors import CorpusError

AUDIO_SUFFIXES = frozenset(
    {".wav", ".opus", ".ogg", ".oga", ".flac", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".wma"}
    | {".amr", ".gsm", ".avi", ".mp4", ".webm", ".mkv"}
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled utterance. ``speaker`` is unique over corpora; times are seconds into the file.

    ``channel`` counts from 0; None is the mean of all channels.
    """

    path: Path
    corpus: str
    emotion: str
    speaker: str
    sex: str | None = None
    sentence: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    split: str | None = None
    votes: tuple[float, ...] | None = None
    """Share of voice-only raters for each of EMOTIONS, when the corpus has them."""
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A file of the corpus that is not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Clips of one corpus in sorted order and what could not be used."""

    name: str
    clips: tuple[Clip, ...]
    unusable: tuple[Unusable, ...] = ()

    def counts(self) -> dict[str, int]:
        """Clips per emotion, and unusable files per reason (prefixed ``unusable:``)."""
        found = Counter(clip.emotion for clip in self.clips)
        found.update(f"unusable: {each.reason}" for each in self.unusable)
        return dict(sorted(found.items()))


def made(name: str, folder: Path, clips: Sequence[Clip], unusable: Sequence[Unusable]) -> Corpus:
    """The corpus of what was found in ``folder``.

    Raises:
        CorpusError: when that is no clip at all.
    """
    if not clips:
        raise CorpusError(f"{folder}: no clip of {name} found ({len(unusable)} files not understood)")
    return Corpus(name, tuple(clips), tuple(unusable))


def audio_files(folder: Path) -> Iterator[Path]:
    """Every audio file below a folder, sorted; hidden ones are no part of a corpus."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def keep_emotions(corpus: Corpus, labels: Iterable[str]) -> Corpus:
    """The corpus with only the clips of these labels; the others become unusable, with that reason."""
    wanted = frozenset(labels)
    kept = tuple(clip for clip in corpus.clips if clip.emotion in wanted)
    dropped = tuple(
        Unusable(clip.path, f"{clip.emotion} is not among the labels")
        for clip in corpus.clips
        if clip.emotion not in wanted
    )
    return replace(corpus, clips=kept, unusable=corpus.unusable + dropped)
