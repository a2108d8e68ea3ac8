"""Finds recordings on disk and says what is known of each before any sound is decoded.

A recording is identified by the SHA-256 of its content, so the same audio twice is one recording.
The time of the *call* decides whether it lies in the window. A file that arrived only after the run that
covered its call is still taken for `lookback_days`.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from callanalytics.config import AudioSettings, DiscoverySettings, Settings
from callanalytics.errors import EmptyAudio, RecordingError, UnreadableFile, UsageError
from callanalytics.folders import Seen, file_time, see, seen_recordings
from callanalytics.recorders.facts import FactReader
from callanalytics.records import CallFacts, Candidate, Failure, FileKey, Recording, Role, RoleSource
from callanalytics.set_aside import SetAside, SkippedFile
from callanalytics.window import Window

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a search found: candidates by start time, the files set aside, the ones that cannot be read.

    `set_aside` counts by reason what is no candidate; `skipped` names the files, where it was asked for.
    """

    candidates: tuple[Candidate, ...]
    skipped: tuple[SkippedFile, ...]
    failures: tuple[Failure, ...]
    set_aside: Mapping[str, int]


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
    known: Mapping[FileKey, str] | None = None,
    earlier: Sequence[EarlierRun] = (),
    name_skipped: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Discovered:
    """Search files and folders. `known` maps (path, size, mtime in ns) of unchanged files to their id.

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
    dated = []
    closed: list[tuple[Path, OSError]] = []
    if window is not None:
        lookback = timedelta(days=settings.discovery.lookback_days)
        earlier = [run for run in earlier if window.since - run.window.until < lookback]
    for seen in seen_recordings(inputs, settings.discovery, now, skipped, closed):
        if window is not None and _long_past(reader, seen, window, settings.discovery):
            skipped.add(seen.paths[0], "outside_window", "neither name nor file is of these days")
            continue
        facts = reader.read(seen.paths[0], seen.changed_at(now), stem=seen.stem)
        if window is not None and not _wanted(facts, seen, window, earlier, settings.discovery):
            skipped.add(seen.paths[0], "outside_window", f"{facts.started_at:%Y-%m-%d %H:%M %Z}")
            continue
        dated.append((seen, _with_sides(seen, facts)))
    dated.sort(key=lambda pair: (pair[1].started_at, str(pair[0].paths[0])))
    candidates: dict[str, Candidate] = {}
    failures = [_closed(path, problem, reader) for path, problem in closed]
    for n_done, (seen, facts) in enumerate(dated, start=1):
        if on_progress is not None:
            on_progress(n_done, len(dated))
        try:
            candidate = Candidate(_recording(seen, facts, known or {}, settings.audio), facts)
        except RecordingError as problem:
            unread = replace(_unread(seen), shown_paths=_shown_paths(seen.paths, facts))
            failures.append(Failure(Candidate(unread, facts), "read", problem.reason, str(problem)))
            continue
        first = candidates.setdefault(candidate.recording.recording_id, candidate)
        if first is not candidate:
            skipped.add(seen.paths[0], "duplicate", f"same content as {first.recording.path}")
    return Discovered(tuple(candidates.values()), tuple(skipped.files), tuple(failures), skipped.counts)


def candidate_from_files(
    paths: Sequence[Path], settings: Settings, *, now: datetime, salt: bytes = b""
) -> Candidate:
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
    return Candidate(_recording(seen, facts, {}, settings.audio), _with_sides(seen, facts))


def _wanted(
    facts: CallFacts,
    seen: Seen,
    window: Window,
    earlier: Sequence[EarlierRun],
    settings: DiscoverySettings,
) -> bool:
    """Whether the call lies in the window, its file came too late for the run that covered it, or the newest
    run that covered it did not end well."""
    if facts.started_at in window:
        return True
    # As a difference: a window may begin in the year 1, from which no days can be taken.
    before = window.since - facts.started_at
    if not timedelta(0) < before <= timedelta(days=settings.lookback_days):
        return False
    covering = [run for run in earlier if facts.started_at in run.window]
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


def _recording(
    seen: Seen, facts: CallFacts, known: Mapping[FileKey, str], limits: AudioSettings
) -> Recording:
    contents = seen.content_ids or tuple(
        known.get(key) or _hash(path, limits) for key, path in zip(seen.keys, seen.paths, strict=True)
    )
    joined = hashlib.sha256("".join(contents).encode()).hexdigest()
    recording_id = contents[0] if len(contents) == 1 else joined
    shown = _shown_paths(seen.paths, facts)
    return Recording(recording_id, seen.paths, seen.n_bytes, seen.modified_at, contents, shown)


def _shown_paths(paths: Sequence[Path], facts: CallFacts) -> tuple[str, ...]:
    return tuple(facts.hide(str(path)) for path in paths)


def _hash(path: Path, limits: AudioSettings) -> str:
    """SHA-256 of the content; of an empty file, of its path, or all empty files would be one call.

    Raises UnreadableFile, also for what is no regular file, and TooLong: neither is read.
    """
    from callanalytics.audio.source import opened, unreadable

    digest = hashlib.sha256()
    try:
        with opened(path, limits) as (stream, _):
            if not os.fstat(stream.fileno()).st_mode & 0o444:  # root could read on; nobody should
                raise PermissionError(errno.EACCES, "no read permission for anybody")
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except EmptyAudio:
        return _path_id(path)
    except OSError as problem:
        raise unreadable(path, problem) from None
    return digest.hexdigest()


def _path_id(path: Path) -> str:
    return hashlib.sha256(b"path\0" + os.fsencode(path)).hexdigest()


def _closed(path: Path, problem: OSError, reader: FactReader) -> Failure:
    """A file or folder that cannot even be looked at; dated by its name, else by the folder around it."""
    try:
        modified_at = file_time(path.stat().st_mtime)
    except OSError:
        modified_at = file_time(path.parent.stat().st_mtime)
    reason = problem.strerror or type(problem).__name__
    detail = f"{path.name}: cannot be opened ({reason}). Check the permissions of it and its folder."
    facts = reader.read(path, modified_at)
    shown = _shown_paths((path,), facts)
    recording = Recording(_path_id(path), (path,), 0, modified_at, shown_paths=shown)
    return Failure(Candidate(recording, facts), "read", UnreadableFile.reason, detail)


def _unread(seen: Seen) -> Recording:
    return Recording(_path_id(seen.paths[0]), seen.paths, seen.n_bytes, seen.modified_at)
