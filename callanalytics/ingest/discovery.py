"""Finds recordings on disk and says what is known of each before any sound is decoded.

A recording is identified by the SHA-256 of its content, so the same audio twice is one recording.
The time of the *call* decides whether it lies in the window. A file that arrived only after the run that
covered its call is still taken for `lookback_days`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from callanalytics.config import DiscoverySettings, Settings
from callanalytics.config.window import Window
from callanalytics.errors import RecordingError, UnreadableFile, UsageError
from callanalytics.ingest.file_cache import AskKnown, FileKey, KnownFile, nothing_known
from callanalytics.ingest.identity import closed, identified, joined, not_read, settled
from callanalytics.ingest.listing import Seen, see, seen_recordings
from callanalytics.ingest.object_store import is_remote, look_up
from callanalytics.ingest.recorders.facts import FactReader
from callanalytics.ingest.skipped import SetAside, SkippedFile
from callanalytics.records import CallFacts, Failure, FoundRecording, Role, RoleSource

# So many recordings are asked about at once: a question costs a look through all files ever known.
ASKED_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a search found: candidates by start time, the files set aside, the ones that cannot be read.

    `set_aside` counts by reason what is no candidate; `skipped` names the files, where it was asked for.
    `n_settled` recordings were wanted, too, but are known and nothing is left to do about them.
    """

    candidates: tuple[FoundRecording, ...]
    skipped: tuple[SkippedFile, ...]
    failures: tuple[Failure, ...]
    set_aside: Mapping[str, int]
    n_settled: int = 0

    @property
    def n_found(self) -> int:
        """Recordings that were wanted, read or not."""
        return len(self.candidates) + len(self.failures) + self.n_settled


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run that is over: which calls it covered, when it looked, and whether it came to its end.

    One that was killed, was held back or used up its time may have left some of its calls.
    """

    window: Window
    started_at: datetime
    ended_well: bool = True


def find_recordings(
    inputs: Sequence[Path],
    settings: Settings,
    *,
    window: Window | None,
    now: datetime,
    salt: bytes,
    known: AskKnown = nothing_known,
    earlier: Sequence[EarlierRun] = (),
    name_skipped: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Discovered:
    """Search files and folders. `known` says what earlier runs know of unchanged files.

    `earlier` lists the runs that are over, so that what came too late for them is found. Without
    `name_skipped` the files that are no candidates are counted and not listed.

    A file or folder that cannot be read becomes a Failure under an id made from its path, since it has no
    content to hash: a night must not pass over calls in silence.

    Raises:
        UsageError: an input does not exist.
        ConfigError: a recorder's template or manifest cannot be used.
    """
    reader = FactReader(settings, salt)
    skipped = SetAside(name_skipped)
    for manifest, n_lines, detail in reader.unread_lines():
        skipped.add(manifest, "manifest_lines_unread", detail, n=n_lines)
    dated: list[tuple[Seen, CallFacts]] = []
    kept: dict[FileKey, KnownFile] = {}
    done: dict[str, Path] = {}  # recording -> where it was found first
    n_settled = 0
    refused: list[tuple[Path, OSError]] = []
    if window is not None:
        lookback = timedelta(days=settings.discovery.lookback_days)
        earlier = [run for run in earlier if window.since - run.window.until < lookback]

    def is_wanted(seen: Seen, started_at: datetime) -> bool:
        wanted = window is None or _wanted(started_at, seen, window, earlier, settings.discovery)
        if not wanted:
            skipped.add(seen.paths[0], "outside_window", f"{started_at:%Y-%m-%d %H:%M %Z}")
        return wanted

    def is_first(seen: Seen, recording_id: str) -> bool:
        first = done.setdefault(recording_id, seen.paths[0])
        if first != seen.paths[0]:
            skipped.add(seen.paths[0], "duplicate", f"same content as {first}")
        return first == seen.paths[0]

    for seen, files in _with_known(seen_recordings(inputs, settings.discovery, now, skipped, refused), known):
        if (was := settled(seen, files)) is not None:
            n_settled += is_wanted(seen, was.started_at) and is_first(seen, was.recording_id)
            continue
        if window is not None and _long_past(reader, seen, window, settings.discovery):
            skipped.add(seen.paths[0], "outside_window", "neither name nor file is of these days")
            continue
        facts = reader.read(seen.paths[0], seen.changed_at(now), stem=seen.stem)
        if not is_wanted(seen, facts.started_at):
            continue
        dated.append((seen, _with_sides(seen, facts)))
        kept |= {key: files[key] for key in seen.keys if key in files}
    dated.sort(key=lambda pair: (pair[1].started_at, str(pair[0].paths[0])))
    candidates: list[FoundRecording] = []
    failures = [closed(path, problem, reader) for path, problem in refused]
    for n_done, (seen, facts) in enumerate(dated, start=1):
        if on_progress is not None:
            on_progress(n_done, len(dated))
        try:
            candidate = FoundRecording(identified(seen, facts, kept, settings.audio), facts)
        except RecordingError as problem:
            failures.append(
                Failure(FoundRecording(not_read(seen, facts), facts), "read", problem.reason, str(problem))
            )
            continue
        if is_first(seen, candidate.recording.recording_id):
            candidates.append(candidate)
    return Discovered(tuple(candidates), tuple(skipped.files), tuple(failures), skipped.counts, n_settled)


def recording_from_files(
    paths: Sequence[Path], settings: Settings, *, now: datetime, salt: bytes = b""
) -> FoundRecording:
    """One recording from named files: one, or the caller's and the agent's of a pair.

    Raises:
        UnreadableFile: a file does not exist, cannot be read or is no regular file.
        TooLong: it has more bytes than `[audio] max_bytes`.
        UsageError: more than two files.
    """
    if len(paths) > 2:
        raise UsageError(f"{len(paths)} files given; one call is one file, or the two files of a pair.")
    try:
        seen = see([Path(p) for p in paths])
    except OSError as problem:
        raise UnreadableFile(f"{problem.filename}: {problem.strerror}. Check the path.") from None
    facts = FactReader(settings, salt).read(seen.paths[0], seen.changed_at(now), stem=seen.stem)
    return FoundRecording(identified(seen, facts, {}, settings.audio), _with_sides(seen, facts))


def recording_id_at(paths: Sequence[Path], settings: Settings, *, now: datetime) -> str:
    """The id of the recording that lies under these names now: local files, or all of them behind URLs.

    Raises:
        FileNotFoundError: nothing lies behind a URL.
        UnreadableFile, TooLong: as `recording_from_files`, or a store does not answer.
    """
    if all(map(is_remote, paths)):
        return joined([look_up(path).content_id for path in paths])
    return recording_from_files(paths, settings, now=now).recording.recording_id


def _with_known(
    recordings: Iterator[Seen], known: AskKnown
) -> Iterator[tuple[Seen, Mapping[FileKey, KnownFile]]]:
    """Every recording, with what is known of the files of it and of those around it."""
    while several := list(islice(recordings, ASKED_AT_ONCE)):
        files = known([key for seen in several for key in seen.keys])
        for seen in several:
            yield seen, files


def _wanted(
    started_at: datetime,
    seen: Seen,
    window: Window,
    earlier: Sequence[EarlierRun],
    settings: DiscoverySettings,
) -> bool:
    """Whether the call lies in the window, its file came too late for the run that covered it, or the newest
    run that covered it did not end well."""
    if started_at in window:
        return True
    # As a difference: a window may begin in the year 1, from which no days can be taken.
    before = window.since - started_at
    if not timedelta(0) < before <= timedelta(days=settings.lookback_days):
        return False
    covering = [run for run in earlier if started_at in run.window]
    if covering and not max(covering, key=lambda run: run.started_at).ended_well:
        return True
    settled_at = seen.arrived_at + timedelta(seconds=settings.settle_s)
    return any(run.ended_well and settled_at >= run.started_at for run in covering)


def _long_past(reader: FactReader, seen: Seen, window: Window, settings: DiscoverySettings) -> bool:
    """Whether nothing that the file system and the name say is recent enough for a look at the sidecar.

    No call begins after its file was written, and a file that came late is as young as its coming.
    """
    oldest = timedelta(days=settings.lookback_days + 1)
    if window.since - seen.arrived_at <= oldest:
        return False
    named_at = reader.name_date(seen.paths[0], seen.stem)
    return named_at is None or window.since - named_at > oldest


def _with_sides(seen: Seen, facts: CallFacts) -> CallFacts:
    """The sides of a pair are known from its names."""
    if len(seen.paths) < 2:
        return facts
    return replace(
        facts,
        channel_roles=(Role.CALLER, Role.AGENT),
        channel_roles_source=RoleSource.NAME,
        sources={**facts.sources, "channel_roles": "name"},
    )
