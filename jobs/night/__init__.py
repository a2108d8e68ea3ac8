"""What one run is asked to do, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the workers come through here, and their start is waited for
    from callanalytics.config import Settings
    from callanalytics.config.window import Window
    from callanalytics.ingest.kinds import SkipCount
    from callanalytics.records import Failure, FoundRecording
    from callanalytics.store import RunCounts

JSON_COUNTS = ("n_found", "n_new", "n_done", "n_skipped", "n_quarantined", "audio_s")

# (stage, done, total, note): total is 0 while it is unknown.
OnProgress = Callable[[str, int, int, str], None]


def quiet(stage: str, done: int, total: int, note: str) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one `run` was asked to do; everything else is in the settings."""

    since: str | None = None
    until: str | None = None
    inputs: tuple[Path, ...] = ()  # empty: the settings' inputs
    out: Path | None = None  # None: the settings' folder
    limit: int | None = None
    workers: int | None = None
    device: str | None = None  # None: the settings'
    force: bool = False
    dry_run: bool = False
    settle_s: float | None = None  # None: the settings'
    fail_on_empty: bool = False
    no_gate: bool = False


def as_asked(settings: Settings, options: RunOptions) -> Settings:
    """The settings with what the options say in their place."""
    if options.settle_s is not None:
        discovery = settings.discovery.model_copy(update={"settle_s": options.settle_s})
        settings = settings.model_copy(update={"discovery": discovery})
    if options.device is not None:
        engine = settings.engine.model_copy(update={"device": options.device})
        settings = settings.model_copy(update={"engine": engine})
    return settings


@dataclass(frozen=True, slots=True)
class FlaggedCall:
    """A flagged call in the window of a run, by the name of its file for people."""

    call_id: str
    path: str
    reasons: tuple[str, ...]
    is_new: bool  # this run analysed it


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. The counts and the fields up to `report` are the object that `run --json` prints."""

    counts: RunCounts
    wall_s: float
    exit_code: int
    database: str
    report: str
    window: Window
    planned: tuple[FoundRecording, ...] | None  # of a dry run: what would be analysed
    failures: tuple[Failure, ...]
    skips: tuple[SkipCount, ...]  # files passed over
    again: tuple[str, ...]  # the words of this run, without its window
    report_stays: bool  # nothing is in the window, so that the pages show what they showed before
    flagged: tuple[FlaggedCall, ...]  # in the window, the most frustrated first, whenever they were analysed
    held: tuple[str, ...]  # why the gate held the results back; empty when they were published

    def to_json(self) -> dict[str, object]:
        """The last line of `run --json`; scripts of others depend on its names."""
        return {
            **{name: getattr(self.counts, name) for name in JSON_COUNTS},
            **{name: getattr(self, name) for name in ("wall_s", "exit_code", "database", "report")},
            "n_with_words": self.counts.n_with_words,
            "words_notes": dict(sorted(self.counts.words_notes.items())),
            "skipped_files": [skip.to_json() for skip in self.skips],
        }
