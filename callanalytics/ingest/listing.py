"""The recordings in folders and object stores: files by name, the two of a pair joined, copies skipped.

Nothing is read here but names, sizes and times. What earlier runs know of a file is looked up by these three:
an unchanged file is not read again.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

from callanalytics.config import DiscoverySettings
from callanalytics.errors import UsageError
from callanalytics.ingest.object_store import RemoteFile, is_remote, list_remote, path_of
from callanalytics.records import Role
from callanalytics.workspace import FOLDERS_WITHOUT_CALLS, Workspace

# A clock that runs a little ahead is no file from the future.
CLOCK_SKEW_S = 60.0
# A file cannot have changed tomorrow: such a clock has been put right since, and nobody is writing.
MAX_AHEAD_S = 86_400.0
# Suffix of one side of a pair -> whose side. Asterisk's "in" and "rx" hold the caller's voice.
PAIR_SIDES: dict[str, Role] = {
    **dict.fromkeys(("caller", "customer", "cust", "in", "rx"), Role.CALLER),
    **dict.fromkeys(("agent", "out", "tx"), Role.AGENT),
}
# Sides whose names also mean other things: joined only when the files are about as long.
_VAGUE_SIDES = {"in", "out", "rx", "tx"}
MAX_PAIR_SIZE_RATIO = 1.5
# Of the file system itself and closed to everybody: no calls are missed there.
_SYSTEM_FOLDERS = {"lost+found", "System Volume Information", "$RECYCLE.BIN"}
# Some file systems keep times that no calendar holds.
MIN_FILE_TIME_S, MAX_FILE_TIME_S = 0.0, 7_000_000_000.0  # 1970 to 2191
_SIDE = re.compile(rf"(?P<stem>.+)[-_.](?P<side>{'|'.join(PAIR_SIDES)})", re.IGNORECASE)
_COPY = re.compile(r"(?:CO|CM|FR)_(?P<stem>.+)")

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
FindKnown = Callable[[Sequence[FileKey]], Mapping[FileKey, KnownFile]]


def nothing_known(keys: Sequence[FileKey]) -> Mapping[FileKey, KnownFile]:
    """Every file is new."""
    return {}


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that a search passes over: still settling, outside the window, a duplicate, ..."""

    path: Path
    reason: str
    detail: str = ""


@dataclass(slots=True)
class Skipped:
    """Counts by reason. Files are listed only with `named`: a folder may hold those of many years."""

    named: bool
    counts: Counter[str] = field(default_factory=Counter)
    files: list[SkippedFile] = field(default_factory=list)

    def add(self, path: Path, reason: str, detail: str = "", *, n: int = 1) -> None:
        """Note a file, or `n` things in it."""
        self.counts[reason] += n
        if self.named:
            self.files.append(SkippedFile(path, reason, detail))


@dataclass(frozen=True, slots=True)
class Listed:
    """The files of one recording (one, or caller and agent of a pair) as the folder lists them."""

    paths: tuple[Path, ...]
    n_bytes: int
    mtime_ns: int
    arrived_at: datetime
    noted_at: datetime  # when the file system itself noted the last change (ctime)
    keys: tuple[FileKey, ...] = ()  # of each local file
    # Where each local file was found, without links, so that one that comes in its place is not followed.
    # "" for a file named by a person and for a link, if such are followed.
    real_folders: tuple[str, ...] = ()
    content_ids: tuple[str, ...] = ()  # of each file, where its store says so

    @property
    def modified_at(self) -> datetime:
        """When the younger of its files last changed."""
        return file_time(self.mtime_ns / 1e9)

    def changed_at(self, now: datetime) -> datetime:
        """When it last changed, as far as can be believed.

        A time of change in the future was copied from a machine with a wrong clock: then the file system's
        own note of the change counts, which whoever still writes renews.
        """
        modified_at = self.modified_at
        is_future = (modified_at - now).total_seconds() > CLOCK_SKEW_S
        return min(modified_at, self.noted_at) if is_future else modified_at

    @property
    def stem(self) -> str:
        """Name without extension, without the side of a pair."""
        stem = self.paths[0].stem
        side = _SIDE.fullmatch(stem) if len(self.paths) > 1 else None
        return side["stem"] if side else stem


def list_recordings(
    inputs: Sequence[Path],
    settings: DiscoverySettings,
    now: datetime,
    skipped: Skipped,
    unreadable: list[tuple[Path, OSError]],
) -> Iterator[Listed]:
    """Settled recordings of all inputs, pairs joined and parallel copies left out."""
    stored: dict[Path, RemoteFile] = {}
    files: dict[Path, str] = {}  # the real folder of each, see `Listed`
    for root in inputs:
        if is_remote(place := path_of(str(root))):
            objects = {file.path: file for file in list_remote(place)}
            stored |= objects
            files |= dict.fromkeys(_matching(objects, place, settings), "")
        else:  # without "..", links kept
            files |= dict(_files(Path(os.path.abspath(place)), settings, skipped, unreadable))  # noqa: PTH100
    joined = _pairs(files)
    # Originals matter only to copies, which most folders do not have.
    copied = {(path.parent, copy["stem"]) for path in files if (copy := _COPY.fullmatch(path.stem))}
    stems = {key for path in files if copied and (key := (path.parent, path.stem)) in copied}
    for path in files:
        group = joined.get(path, (path,))
        if group[0] != path:
            skipped.add(path, "pair_part", f"one call with {group[0].name}")
            continue
        copy = _COPY.fullmatch(path.stem)
        if copy is not None and (path.parent, copy["stem"]) in stems:
            skipped.add(path, "parallel_copy", f"of {copy['stem']}")
            continue
        try:
            if path in stored:
                listed = _list_objects([stored[part] for part in group])
            else:
                listed = list_files(group, [files[part] for part in group])
        except FileNotFoundError:
            skipped.add(path, "vanished", "gone since the folder was listed")
            continue
        except OSError as problem:
            unreadable.append((path, problem))
            continue
        age_s = (now - listed.changed_at(now)).total_seconds()
        if -MAX_AHEAD_S < age_s < settings.settle_s:
            skipped.add(path, "settling", f"changed {age_s:.0f} s ago")
            continue
        yield listed


def _files(
    root: Path, settings: DiscoverySettings, skipped: Skipped, unreadable: list[tuple[Path, OSError]]
) -> Iterator[tuple[Path, str]]:
    """Matching files of one input in a stable order, with their real folders (see `Listed`).

    A file given by name needs no pattern.

    Links are followed only when the settings say so, and then never twice into the same folder. Folders
    that cannot be listed go to `unreadable`. What runs of ours have written is never searched, neither an
    output folder inside the root nor, where the root itself is one, what belongs to it.
    """
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
    except FileNotFoundError:
        raise UsageError(f"{root}: no such file or folder. Check --input and [paths] inputs.") from None
    except OSError as problem:
        raise UsageError(f"{root}: cannot be opened ({problem.strerror}). Check its permissions.") from None
    if not is_folder:
        yield root, ""
        return
    included, excluded = _patterns(settings)
    visited: set[str] = set()
    stack = [(root, os.path.realpath(root))]
    while stack:
        folder, expected = stack.pop()
        real = os.path.realpath(folder)
        if real in visited:
            continue
        if real != expected and not settings.follow_links:
            skipped.add(folder, "link", "came in place of a folder")
            continue
        visited.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as problem:
            unreadable.append((folder, problem))
            continue
        folders = []
        # Genesys Cloud exports recordings without an extension into a folder per conversation.
        bare = folder.name.startswith("conversation_id=")
        for entry in entries:
            if excluded(entry.name) or (entry.is_symlink() and not settings.follow_links):
                continue
            try:
                if entry.is_dir():
                    inner = Path(entry.path)
                    if Workspace(inner).has_results or (
                        entry.name in FOLDERS_WITHOUT_CALLS and Workspace(folder).has_results
                    ):
                        skipped.add(inner, "output_folder", "written by callanalytics")
                    elif entry.name not in _SYSTEM_FOLDERS:
                        folders.append((inner, os.path.join(real, entry.name)))  # noqa: PTH118 - faster
                elif (included(entry.name) or (bare and "." not in entry.name)) and entry.is_file():
                    yield Path(entry.path), "" if entry.is_symlink() else real
            except OSError:
                continue  # a link that leads to itself
        stack.extend(reversed(folders))


def _patterns(settings: DiscoverySettings) -> tuple[Callable[[str], object], Callable[[str], object]]:
    """Whether a name is to be taken, and whether it is to be left out."""
    # Case counts in what to leave out (".*" has none), not in extensions: recorders write .WAV too.
    included = re.compile("|".join(map(translate, settings.include)) or r"(?!)", re.IGNORECASE).match
    return included, re.compile("|".join(map(translate, settings.exclude)) or r"(?!)").match


def _matching(objects: Iterable[Path], root: Path, settings: DiscoverySettings) -> Iterator[Path]:
    """The objects below a URL that are recordings by name; one given by its name needs no pattern."""
    included, excluded = _patterns(settings)
    for path in objects:
        inner = path.relative_to(root).parts if path.is_relative_to(root) else path.parts[1:]
        if path == root or (included(path.name) and not any(map(excluded, inner))):
            yield path


def _pairs(files: Iterable[Path]) -> dict[Path, tuple[Path, Path]]:
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

    "check-in.wav" and "check-out.wav" may be anything: for such names the sizes must agree.
    """
    side = _SIDE.fullmatch(one.stem)
    if side is None or side["side"].lower() not in _VAGUE_SIDES:
        return True
    try:
        smaller, larger = sorted((one.stat().st_size, other.stat().st_size))
    except OSError:
        return False
    return larger <= MAX_PAIR_SIZE_RATIO * smaller


def file_time(seconds: float) -> datetime:
    """A file system's seconds since 1970 as a time, within what a calendar holds."""
    return datetime.fromtimestamp(min(max(seconds, MIN_FILE_TIME_S), MAX_FILE_TIME_S), UTC)


def list_files(paths: Sequence[Path], real_folders: Sequence[str] = ()) -> Listed:
    """One recording as its folder lists it now. Raises OSError."""
    stats = [path.stat() for path in paths]
    return Listed(
        paths=tuple(paths),
        n_bytes=sum(s.st_size for s in stats),
        mtime_ns=max(s.st_mtime_ns for s in stats),
        arrived_at=file_time(max(max(s.st_mtime, s.st_ctime) for s in stats)),
        noted_at=file_time(max(s.st_ctime for s in stats)),
        keys=tuple((str(p), s.st_size, s.st_mtime_ns) for p, s in zip(paths, stats, strict=True)),
        real_folders=tuple(real_folders) or ("",) * len(paths),
    )


def _list_objects(files: Sequence[RemoteFile]) -> Listed:
    """As `list_files`, from what the object store lists."""
    modified_at = max(file.modified_at for file in files)
    return Listed(
        paths=tuple(file.path for file in files),
        n_bytes=sum(file.n_bytes for file in files),
        mtime_ns=round(modified_at.timestamp() * 1e9),
        arrived_at=modified_at,
        noted_at=modified_at,
        content_ids=tuple(file.content_id for file in files),
    )
