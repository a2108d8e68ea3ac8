"""Search for recordings, and what is known of each before any sound is decoded.

A recording is identified by the SHA-256 of its content, so the same audio twice is one recording.
The time of the *call* decides whether it lies in the window. A file that arrived only after the run that
covered its call is still taken for `lookback_days`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from callanalytics.audio.source import joined
from callanalytics.config import DiscoverySettings, Settings
from callanalytics.config.window import Window
from callanalytics.errors import RecordingError, UnreadableFile, UsageError
from callanalytics.ingest.kinds import SkipCount, Skipped, SkippedFile
from callanalytics.ingest.listing import (
    FileKey,
    FindKnown,
    KnownFile,
    Listed,
    list_files,
    list_recordings,
    nothing_known,
)
from callanalytics.ingest.locate import (
    identify,
    settled_call,
    unread_recording,
    unreadable_failure,
)
from callanalytics.ingest.object_store import is_remote, look_up
from callanalytics.ingest.recorders.facts import FactReader
from callanalytics.records import (
    CallFacts,
    Failure,
    FoundRecording,
    Role,
    RoleSource,
    StatedRoles,
    TimeSource,
)
from callanalytics.records.text import TimeDoubt

# So many recordings are looked up at once: a query costs a scan of all files ever known.
LOOK_UP_BATCH = 100_000
_COUNTER = re.compile(r"[-_. ]+\(?(?:part|seg(?:ment)?)?(\d{1,2})\)?$", re.IGNORECASE)
_NAMED_SIDES = 0.99  # how often a file that is named after a side holds it


@dataclass(frozen=True, slots=True)
class Discovered:
    """The result of a search: recordings by start time, and failures for what cannot be read.

    `skips` counts what was skipped; `skipped` names the files, where that was requested.
    `n_settled` recordings were wanted, too, but are known and nothing is left to do about them.
    """

    recordings: tuple[FoundRecording, ...]
    failures: tuple[Failure, ...]
    skipped: tuple[SkippedFile, ...]
    skips: tuple[SkipCount, ...]
    n_settled: int = 0

    @property
    def n_found(self) -> int:
        """Recordings that were wanted, read or not."""
        return len(self.recordings) + len(self.failures) + self.n_settled

    @property
    def skip_counts(self) -> dict[str, int]:
        """What was skipped, by reason."""
        counts: Counter[str] = Counter()
        for skip in self.skips:
            counts[skip.reason] += skip.n_files
        return dict(counts)


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run that is over: which calls it covered, when it searched, and whether it came to its end.

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
    known: FindKnown = nothing_known,
    earlier: Sequence[EarlierRun] = (),
    name_skipped: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Discovered:
    """Search files, folders and URLs for the recordings of calls that start in a window.

    A file or folder that cannot be read becomes a Failure under an id made from its path, since it has no
    content to hash: a night must not pass over calls in silence.

    Args:
        inputs: what to search.
        window: None takes calls of any time.
        now: decides which files may still be written.
        salt: for hashes of callers' numbers.
        known: what earlier runs know of unchanged files, which are not read again.
        earlier: the runs that are over, so that what came too late for them is found.
        name_skipped: list skipped files; otherwise they are only counted.
        on_progress: called with recordings identified and all to identify.

    Raises:
        UsageError: an input does not exist.
        ConfigError: a recorder's template or manifest cannot be used.
    """
    reader = FactReader(settings, salt)
    skipped = Skipped(name_skipped)
    for manifest, n_lines, detail in reader.unread_lines():
        skipped.add(manifest, "manifest_lines_unread", detail, n=n_lines)
    wanted: list[tuple[Listed, CallFacts]] = []
    kept: dict[FileKey, KnownFile] = {}
    first_path: dict[str, str] = {}  # by recording id
    n_settled = 0
    unreadable: list[tuple[Path, OSError]] = []
    if window is not None:
        lookback = timedelta(days=settings.discovery.lookback_days)
        earlier = [run for run in earlier if window.since - run.window.until < lookback]

    def in_window(listed: Listed, started_at: datetime) -> bool:
        chosen = window is None or _is_wanted(started_at, listed, window, earlier, settings.discovery)
        if not chosen:
            detail = f"{started_at:%Y-%m-%d %H:%M %Z}"
            skipped.add(listed.paths[0], "outside_window", detail, at=started_at)
        return chosen

    def is_first(listed: Listed, recording_id: str) -> bool:
        name = listed.names[0]
        first = first_path.setdefault(recording_id, name)
        if first != name:
            skipped.add(listed.paths[0], "duplicate", f"same content as {first}")
        return first == name

    listing = list_recordings(inputs, settings, now, skipped, unreadable)
    for listed, files in _with_known(listing, known):
        if (call := settled_call(listed, files)) is not None:
            n_settled += in_window(listed, call.started_at) and is_first(listed, call.recording_id)
            continue
        if window is not None and (past_at := _long_past(reader, listed, window, settings.discovery)):
            detail = "neither name nor file is of these days"
            skipped.add(listed.paths[0], "outside_window", detail, at=past_at)
            continue
        facts = reader.read(listed.paths[0], listed.changed_at(now), stem=listed.stem)
        if not in_window(listed, facts.started_at):
            continue
        if note := facts.sources.get("sidecar_note"):
            skipped.add(listed.paths[0], "sidecars_unread", note)
        wanted.append((listed, _with_sides(listed, facts)))
        kept |= {key: files[key] for key in listed.keys if key in files}
    wanted = sorted(_with_doubts(wanted), key=lambda pair: (pair[1].started_at, str(pair[0].paths[0])))
    recordings: list[FoundRecording] = []
    failures = [unreadable_failure(path, problem, reader) for path, problem in unreadable]
    for n_done, (listed, facts) in enumerate(wanted, start=1):
        if on_progress is not None:
            on_progress(n_done, len(wanted))
        try:
            found = FoundRecording(identify(listed, facts, kept, settings.audio), facts)
        except RecordingError as problem:
            unread = FoundRecording(unread_recording(listed, facts), facts)
            failures.append(Failure(unread, "read", problem.reason, str(problem)))
            continue
        if is_first(listed, found.recording.recording_id):
            recordings.append(found)
    return Discovered(tuple(recordings), tuple(failures), tuple(skipped.files), skipped.counts, n_settled)


def _with_doubts(wanted: Sequence[tuple[Listed, CallFacts]]) -> list[tuple[Listed, CallFacts]]:
    """Note recordings of one start whose names differ by a counter or the ending.

    Of parts of a call all but the first began later; one call in two formats is counted twice.
    """
    numbers: dict[tuple[datetime, Path, str], list[int | None]] = {}
    keys = []
    for listed, facts in wanted:
        counter = _COUNTER.search(listed.stem)
        key = (facts.started_at, listed.paths[0].parent, listed.stem[: counter.start() if counter else None])
        numbers.setdefault(key, []).append(int(counter[1]) if counter else None)
        keys.append(key)
    noted = {
        key: TimeDoubt.NEARLY_ONE_NAME.format(n=len(of))
        for key, of in numbers.items()
        if _are_of_one_call(of)
    }
    return [
        (listed, replace(facts, sources={"conflict": noted[key], **facts.sources}))
        if key in noted and facts.started_at_source is TimeSource.NAME
        else (listed, facts)
        for key, (listed, facts) in zip(keys, wanted, strict=True)
    ]


def _are_of_one_call(numbers: Sequence[int | None]) -> bool:
    """Whether the numbers at the ends of otherwise equal names count parts, or stand twice, as of copies.

    A count begins with 0, 1 or no number and leaves out at most one: 21 and 34 are two telephones.
    """
    parts = {number or 0 for number in numbers}
    return len(numbers) > len(parts) or (len(parts) > 1 and min(parts) <= 1 and max(parts) <= len(parts) + 1)


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
        listed = list_files([str(p) for p in paths], ("",) * len(paths))
    except OSError as problem:
        raise UnreadableFile(f"{problem.filename}: {problem.strerror}. Check the path.") from None
    facts = FactReader(settings, salt).read(listed.paths[0], listed.changed_at(now), stem=listed.stem)
    return FoundRecording(identify(listed, facts, {}, settings.audio), _with_sides(listed, facts))


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
    recordings: Iterator[Listed], known: FindKnown
) -> Iterator[tuple[Listed, Mapping[FileKey, KnownFile]]]:
    """Every recording, with what is known of the files of it and of those around it."""
    while batch := list(islice(recordings, LOOK_UP_BATCH)):
        files = known([key for listed in batch for key in listed.keys])
        for listed in batch:
            yield listed, files


def _is_wanted(
    started_at: datetime,
    listed: Listed,
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
    settled_at = listed.arrived_at + timedelta(seconds=settings.settle_s)
    return any(run.ended_well and settled_at >= run.started_at for run in covering)


def _long_past(
    reader: FactReader, listed: Listed, window: Window, settings: DiscoverySettings
) -> datetime | None:
    """When the call was, by name or file, where nothing of these is recent enough for a look at the sidecar.

    No call begins after its file was written, and a file that came late is as young as its coming.
    """
    oldest = timedelta(days=settings.lookback_days + 1)
    if window.since - listed.arrived_at <= oldest:
        return None
    named_at = reader.name_date(listed.paths[0], listed.stem)
    if named_at is not None and window.since - named_at <= oldest:
        return None
    return named_at or listed.modified_at


def _with_sides(listed: Listed, facts: CallFacts) -> CallFacts:
    """The sides of a pair are known from its names, whatever is said of channels."""
    if len(listed.paths) < 2:
        return facts
    by_name = StatedRoles(RoleSource.NAME, (Role.CALLER, Role.AGENT), _NAMED_SIDES, "the names of the files")
    return replace(facts, stated_roles=(by_name,), sources={**facts.sources, "channel_roles": "name"})
