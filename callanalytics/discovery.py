"""Finds recordings on disk and says what is known of each before any sound is decoded.

A recording is identified by the SHA-256 of its content, so the same audio twice is one recording.
The time of the *call* decides whether it lies in the window. A file that arrived only after the run that
covered its call is still taken for `lookback_days`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import translate
from pathlib import Path

from callanalytics.config import DiscoverySettings, Settings
from callanalytics.errors import UnreadableFile, UsageError
from callanalytics.recorders.facts import FactReader
from callanalytics.records import CallFacts, Candidate, Failure, Recording, Role, RoleSource
from callanalytics.remote import RemoteFile, is_remote, list_remote, path_of
from callanalytics.window import Window

CHUNK_BYTES = 1 << 20
# A clock that runs a little ahead is no file from the future.
CLOCK_SKEW_S = 60.0
# Suffix of one side of a pair -> whose side. Asterisk's "in" and "rx" hold what the caller says.
PAIR_SIDES: dict[str, Role] = {
    **dict.fromkeys(("caller", "customer", "cust", "in", "rx"), Role.CALLER),
    **dict.fromkeys(("agent", "out", "tx"), Role.AGENT),
}
# Sides whose words also mean other things: joined only when the files are about as long.
_VAGUE_SIDES = {"in", "out", "rx", "tx"}
MAX_PAIR_SIZE_RATIO = 1.5
# Of the file system itself and closed to everybody: no calls are missed there.
_SYSTEM_FOLDERS = {"lost+found", "System Volume Information", "$RECYCLE.BIN"}
# Some file systems keep times that no calendar holds.
MIN_FILE_TIME_S, MAX_FILE_TIME_S = 0.0, 7_000_000_000.0  # 1970 to 2191
_SIDE = re.compile(rf"(?P<stem>.+)[-_.](?P<side>{'|'.join(PAIR_SIDES)})", re.IGNORECASE)
_COPY = re.compile(r"(?:CO|CM|FR)_(?P<stem>.+)")

FileKey = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is no candidate: still settling, outside the window, a duplicate, ..."""

    path: Path
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a search found: candidates by start time, the files set aside, the ones that cannot be read."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[SkippedFile, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run that is over: which calls it covered, and when it looked."""

    window: Window
    started_at: datetime


@dataclass(frozen=True, slots=True)
class _Seen:
    """The files of one recording (one, or caller and agent of a pair) as the folder shows them."""

    paths: tuple[Path, ...]
    n_bytes: int
    mtime_ns: int
    arrived_at: datetime
    keys: tuple[FileKey, ...] = ()  # of each local file
    content_ids: tuple[str, ...] = ()  # of each file, where its store says so

    @property
    def modified_at(self) -> datetime:
        return _file_time(self.mtime_ns / 1e9)

    @property
    def stem(self) -> str:
        """Name without extension, without the side of a pair."""
        stem = self.paths[0].stem
        side = _SIDE.fullmatch(stem) if len(self.paths) > 1 else None
        return side["stem"] if side else stem


def find_recordings(
    inputs: Sequence[Path],
    settings: Settings,
    *,
    window: Window | None,
    now: datetime,
    salt: bytes,
    known: Mapping[FileKey, str] | None = None,
    earlier: Sequence[EarlierRun] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Discovered:
    """Search files and folders. `known` maps (path, size, mtime in ns) of unchanged files to their id.

    `earlier` lists the runs that are over, so that what came too late for them is found.

    A file or folder that cannot be read becomes a Failure under an id made from its path, since it has no
    content to hash: a night must not pass over calls in silence.

    Raises:
        UsageError: an input does not exist.
        ConfigError: a recorder's template or manifest cannot be used.
    """
    reader = FactReader(settings, salt)
    skipped: list[SkippedFile] = []
    dated = []
    closed: list[tuple[Path, OSError]] = []
    for seen in _recordings(inputs, settings.discovery, now, skipped, closed):
        facts = reader.read(seen.paths[0], seen.modified_at, stem=seen.stem)
        if window is not None and not _wanted(facts, seen, window, earlier, settings.discovery):
            skipped.append(
                SkippedFile(seen.paths[0], "outside_window", f"{facts.started_at:%Y-%m-%d %H:%M %Z}")
            )
            continue
        dated.append((seen, _with_sides(seen, facts)))
    dated.sort(key=lambda pair: (pair[1].started_at, str(pair[0].paths[0])))
    candidates: dict[str, Candidate] = {}
    failures = [_closed(path, problem, reader) for path, problem in closed]
    for n_done, (seen, facts) in enumerate(dated, start=1):
        if on_progress is not None:
            on_progress(n_done, len(dated))
        try:
            candidate = Candidate(_recording(seen, facts, known or {}), facts)
        except UnreadableFile as problem:
            unread = replace(_unread(seen), shown_paths=_shown_paths(seen.paths, facts))
            failures.append(Failure(Candidate(unread, facts), "read", problem.reason, str(problem)))
            continue
        first = candidates.setdefault(candidate.recording.recording_id, candidate)
        if first is not candidate:
            skipped.append(SkippedFile(seen.paths[0], "duplicate", f"same content as {first.recording.path}"))
    return Discovered(tuple(candidates.values()), tuple(skipped), tuple(failures))


def candidate_from_files(
    paths: Sequence[Path], settings: Settings, *, now: datetime, salt: bytes = b""
) -> Candidate:
    """One recording from named files: one, or the caller's and the agent's of a pair.

    Raises:
        UnreadableFile: a file does not exist or cannot be read.
        UsageError: more than two files.
    """
    if len(paths) > 2:
        raise UsageError(f"{len(paths)} files given; one call is one file, or the two files of a pair.")
    try:
        seen = _see([Path(p) for p in paths])
    except OSError as problem:
        raise UnreadableFile(f"{problem.filename}: {problem.strerror}. Check the path.") from None
    facts = FactReader(settings, salt).read(seen.paths[0], seen.modified_at, stem=seen.stem)
    return Candidate(_recording(seen, facts, {}), _with_sides(seen, facts))


def _recordings(
    inputs: Sequence[Path],
    settings: DiscoverySettings,
    now: datetime,
    skipped: list[SkippedFile],
    closed: list[tuple[Path, OSError]],
) -> Iterator[_Seen]:
    """Settled recordings of all inputs, pairs joined and parallel copies left out."""
    stored: dict[Path, RemoteFile] = {}
    files: dict[Path, None] = {}
    for root in inputs:
        if is_remote(place := path_of(str(root))):
            listed = {file.path: file for file in list_remote(place)}
            stored |= listed
            files |= dict.fromkeys(_matching(listed, place, settings))
        else:  # without "..", links kept
            files |= dict.fromkeys(_files(Path(os.path.abspath(place)), settings, closed))  # noqa: PTH100
    joined = _pairs(files)
    # Originals matter only to copies, which most folders do not have.
    copied = {(path.parent, copy["stem"]) for path in files if (copy := _COPY.fullmatch(path.stem))}
    stems = {key for path in files if copied and (key := (path.parent, path.stem)) in copied}
    for path in files:
        group = joined.get(path, (path,))
        if group[0] != path:
            skipped.append(SkippedFile(path, "pair_part", f"one call with {group[0].name}"))
            continue
        copy = _COPY.fullmatch(path.stem)
        if copy is not None and (path.parent, copy["stem"]) in stems:
            skipped.append(SkippedFile(path, "parallel_copy", f"of {copy['stem']}"))
            continue
        try:
            seen = _see_stored([stored[part] for part in group]) if path in stored else _see(group)
        except FileNotFoundError:
            skipped.append(SkippedFile(path, "vanished", "gone since the folder was listed"))
            continue
        except OSError as problem:
            closed.append((path, problem))
            continue
        age_s = (now - seen.modified_at).total_seconds()
        if -CLOCK_SKEW_S < age_s < settings.settle_s:
            skipped.append(SkippedFile(path, "settling", f"changed {age_s:.0f} s ago"))
            continue
        yield seen


def _files(root: Path, settings: DiscoverySettings, closed: list[tuple[Path, OSError]]) -> Iterator[Path]:
    """Matching files of one input in a stable order; a file given by name needs no pattern.

    Links are followed only when the settings say so, and then never twice into the same folder. Folders
    that cannot be listed go to `closed`.
    """
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
    except FileNotFoundError:
        raise UsageError(f"{root}: no such file or folder. Check --input and [paths] inputs.") from None
    except OSError as problem:
        raise UsageError(f"{root}: cannot be opened ({problem.strerror}). Check its permissions.") from None
    if not is_folder:
        yield root
        return
    included, excluded = _patterns(settings)
    visited: set[str] = set()
    stack = [root]
    while stack:
        folder = stack.pop()
        real = os.path.realpath(folder)
        if real in visited:
            continue
        visited.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as problem:
            closed.append((folder, problem))
            continue
        folders = []
        # Genesys Cloud exports recordings without an extension into a folder per conversation.
        bare = folder.name.startswith("conversation_id=")
        for entry in entries:
            if excluded(entry.name) or (entry.is_symlink() and not settings.follow_links):
                continue
            try:
                if entry.is_dir():
                    if entry.name not in _SYSTEM_FOLDERS:
                        folders.append(Path(entry.path))
                elif (included(entry.name) or (bare and "." not in entry.name)) and entry.is_file():
                    yield Path(entry.path)
            except OSError:
                continue  # a link that leads to itself
        stack.extend(reversed(folders))


def _patterns(settings: DiscoverySettings) -> tuple[Callable[[str], object], Callable[[str], object]]:
    """Whether a name is to be taken, and whether it is to be left out."""
    # Case counts in what to leave out (".*" has none), not in extensions: recorders write .WAV too.
    included = re.compile("|".join(map(translate, settings.include)) or r"(?!)", re.IGNORECASE).match
    return included, re.compile("|".join(map(translate, settings.exclude)) or r"(?!)").match


def _matching(listed: Iterable[Path], root: Path, settings: DiscoverySettings) -> Iterator[Path]:
    """The objects below a URL that are recordings by name; one given by its name needs no pattern."""
    included, excluded = _patterns(settings)
    for path in listed:
        inner = path.relative_to(root).parts if path.is_relative_to(root) else path.parts[1:]
        if path == root or (included(path.name) and not any(map(excluded, inner))):
            yield path


def _pairs(files: Mapping[Path, None]) -> dict[Path, tuple[Path, Path]]:
    """Both files of every complete pair -> (caller's file, agent's file)."""
    sides: dict[tuple[Path, str, str], dict[Role, Path]] = {}
    for path in files:
        side = _SIDE.fullmatch(path.stem)
        if side is not None:
            key = (path.parent, side["stem"], path.suffix.lower())
            sides.setdefault(key, {})[PAIR_SIDES[side["side"].lower()]] = path
    found: dict[Path, tuple[Path, Path]] = {}
    for pair in sides.values():
        if len(pair) == 2 and _belong(*pair.values()):
            group = (pair[Role.CALLER], pair[Role.AGENT])
            found |= dict.fromkeys(group, group)
    return found


def _belong(one: Path, other: Path) -> bool:
    """Two halves of a call were recorded at the same time, so their sizes are alike.

    "check-in.wav" and "check-out.wav" may be anything: for such words the sizes must agree.
    """
    side = _SIDE.fullmatch(one.stem)
    if side is None or side["side"].lower() not in _VAGUE_SIDES:
        return True
    try:
        smaller, larger = sorted((one.stat().st_size, other.stat().st_size))
    except OSError:
        return False
    return larger <= MAX_PAIR_SIZE_RATIO * smaller


def _file_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(max(seconds, MIN_FILE_TIME_S), MAX_FILE_TIME_S), UTC)


def _see(paths: Sequence[Path]) -> _Seen:
    stats = [path.stat() for path in paths]
    return _Seen(
        paths=tuple(paths),
        n_bytes=sum(s.st_size for s in stats),
        mtime_ns=max(s.st_mtime_ns for s in stats),
        arrived_at=_file_time(max(max(s.st_mtime, s.st_ctime) for s in stats)),
        keys=tuple((str(p), s.st_size, s.st_mtime_ns) for p, s in zip(paths, stats, strict=True)),
    )


def _see_stored(files: Sequence[RemoteFile]) -> _Seen:
    """As `_see`, from what the store listed."""
    modified_at = max(file.modified_at for file in files)
    return _Seen(
        paths=tuple(file.path for file in files),
        n_bytes=sum(file.n_bytes for file in files),
        mtime_ns=round(modified_at.timestamp() * 1e9),
        arrived_at=modified_at,
        content_ids=tuple(file.content_id for file in files),
    )


def _wanted(
    facts: CallFacts,
    seen: _Seen,
    window: Window,
    earlier: Sequence[EarlierRun],
    settings: DiscoverySettings,
) -> bool:
    """Whether the call lies in the window, or its file came too late for the run that covered it."""
    if facts.started_at in window:
        return True
    # As a difference: a window may begin in the year 1, from which no days can be taken.
    before = window.since - facts.started_at
    if not timedelta(0) < before <= timedelta(days=settings.lookback_days):
        return False
    settled_at = seen.arrived_at + timedelta(seconds=settings.settle_s)
    return any(facts.started_at in run.window and settled_at >= run.started_at for run in earlier)


def _with_sides(seen: _Seen, facts: CallFacts) -> CallFacts:
    """The sides of a pair are known from its names."""
    if len(seen.paths) < 2:
        return facts
    return replace(
        facts,
        channel_roles=(Role.CALLER, Role.AGENT),
        channel_roles_source=RoleSource.NAME,
        sources={**facts.sources, "channel_roles": "name"},
    )


def _recording(seen: _Seen, facts: CallFacts, known: Mapping[FileKey, str]) -> Recording:
    contents = seen.content_ids or tuple(
        known.get(key) or _hash(path) for key, path in zip(seen.keys, seen.paths, strict=True)
    )
    joined = hashlib.sha256("".join(contents).encode()).hexdigest()
    recording_id = contents[0] if len(contents) == 1 else joined
    shown = _shown_paths(seen.paths, facts)
    return Recording(recording_id, seen.paths, seen.n_bytes, seen.modified_at, contents, shown)


def _shown_paths(paths: Sequence[Path], facts: CallFacts) -> tuple[str, ...]:
    return tuple(facts.hide(str(path)) for path in paths)


def _hash(path: Path) -> str:
    """SHA-256 of the content; of an empty file, of its path, or all empty files would be one call."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            if not os.fstat(stream.fileno()).st_mode & 0o444:  # root could read on; nobody should
                raise PermissionError(errno.EACCES, "no read permission for anybody")
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
            if stream.tell() == 0:
                return _path_id(path)
    except OSError as problem:
        reason = problem.strerror or type(problem).__name__
        raise UnreadableFile(f"{path.name}: cannot be read ({reason}). Check its permissions.") from None
    return digest.hexdigest()


def _path_id(path: Path) -> str:
    return hashlib.sha256(b"path\0" + os.fsencode(path)).hexdigest()


def _closed(path: Path, problem: OSError, reader: FactReader) -> Failure:
    """A file or folder that cannot even be looked at; dated by its name, else by the folder around it."""
    try:
        modified_at = _file_time(path.stat().st_mtime)
    except OSError:
        modified_at = _file_time(path.parent.stat().st_mtime)
    reason = problem.strerror or type(problem).__name__
    detail = f"{path.name}: cannot be opened ({reason}). Check the permissions of it and its folder."
    facts = reader.read(path, modified_at)
    shown = _shown_paths((path,), facts)
    recording = Recording(_path_id(path), (path,), 0, modified_at, shown_paths=shown)
    return Failure(Candidate(recording, facts), "read", UnreadableFile.reason, detail)


def _unread(seen: _Seen) -> Recording:
    return Recording(_path_id(seen.paths[0]), seen.paths, seen.n_bytes, seen.modified_at)
