"""The recordings in folders and object stores: files by kind, the two of a pair joined, copies skipped.

Nothing is read here but names, sizes and times, and the first bytes where a name says nothing. What earlier
runs know of a file is looked up by these three: an unchanged file is not read again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.ingest.completeness import Pairs, StillFiles, find_pairs, stem_of, stem_of_pair
from callanalytics.ingest.kinds import Kind, Kinds, Skipped, kind_by_content, kind_of
from callanalytics.ingest.object_store import RemoteFile, is_remote, list_remote, path_of
from callanalytics.workspace import FOLDERS_WITHOUT_CALLS, Workspace

# A clock that runs a little ahead is no file from the future.
CLOCK_SKEW_S = 60.0
# A file cannot have changed tomorrow: such a clock has been put right since, and nobody is writing.
MAX_AHEAD_S = 86_400.0
# Of the file system itself and closed to everybody: no calls are missed there.
_SYSTEM_FOLDERS = {"lost+found", "System Volume Information", "$RECYCLE.BIN"}
# Some file systems keep times that no calendar holds.
MIN_FILE_TIME_S, MAX_FILE_TIME_S = 0.0, 7_000_000_000.0  # 1970 to 2191
_COPY_MARKS = ("CO_", "CM_", "FR_")

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


@dataclass(slots=True, eq=False)  # frozen, 100,000 of them take three times as long to make
class Listed:
    """The files of one recording (one, or caller and agent of a pair) as the folder lists them.

    Most are known, and nothing but their names and the file system's numbers is looked at: what else is to be
    known of them is made when it is asked for.
    """

    names: tuple[str, ...]  # the paths
    n_bytes: int
    mtime_ns: int  # of the younger file
    noted_ns: int  # when the file system itself noted the last change (ctime)
    keys: tuple[FileKey, ...]  # of each local file
    # Where each local file was found, without links, so that one that comes in its place is not followed.
    # "" for a file named by a person and for a link, if such are followed.
    real_folders: tuple[str, ...]
    content_ids: tuple[str, ...] = ()  # of each file, where its store says so
    _paths: tuple[Path, ...] = field(default=(), init=False)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        self._paths = self._paths or tuple([Path(name) for name in self.names])
        return self._paths

    @property
    def modified_at(self) -> datetime:
        """When the younger of its files last changed."""
        return file_time(self.mtime_ns / 1e9)

    @property
    def arrived_at(self) -> datetime:
        """When the younger of its files came here or last changed."""
        return file_time(max(self.mtime_ns, self.noted_ns) / 1e9)

    def changed_at(self, now: datetime) -> datetime:
        """When it last changed, as far as can be believed.

        A time of change in the future was copied from a machine with a wrong clock: then the file system's
        own note of the change counts, which whoever still writes renews.
        """
        modified_at = self.modified_at
        is_future = (modified_at - now).total_seconds() > CLOCK_SKEW_S
        return min(modified_at, file_time(self.noted_ns / 1e9)) if is_future else modified_at

    @property
    def stem(self) -> str:
        """Name without extension, without the side of a pair."""
        stem = self.paths[0].stem
        return stem_of_pair(stem) if len(self.names) > 1 else stem


def list_recordings(
    inputs: Sequence[Path],
    settings: Settings,
    now: datetime,
    skipped: Skipped,
    unreadable: list[tuple[Path, OSError]],
) -> Iterator[Listed]:
    """Settled recordings of all inputs, pairs joined and parallel copies left out.

    What changed within `settle_s` comes last, and only where there is evidence that it is whole.
    """
    kinds = Kinds(settings.discovery, settings.audio.headerless)
    stored: dict[str, RemoteFile] = {}
    files: dict[str, str] = {}  # the real folder of each, see `Listed`
    for root in inputs:
        if is_remote(place := path_of(str(root))):
            objects = {file.path: file for file in list_remote(place)}
            stored |= {str(path): file for path, file in objects.items()}
            files |= dict.fromkeys(map(str, _chosen(objects, place, kinds, skipped)), "")
        else:  # without "..", links kept
            walk = _Walk(settings.discovery.follow_links, kinds, skipped, unreadable)
            files |= dict(walk.files(Path(os.path.abspath(place))))  # noqa: PTH100
    young: list[Listed] = []
    still = StillFiles()
    pairs = find_pairs(files, partial(_n_bytes, stored))
    settle_s = settings.discovery.settle_s
    # What changed before is old by any clock, and not computed with.
    surely_old_ns = int((now.timestamp() - max(settle_s, CLOCK_SKEW_S) - 1.0) * 1e9)
    for group in _groups(files, pairs, skipped):
        name = group[0]
        try:
            if name in stored:
                listed = _list_objects([stored[part] for part in group])
            else:
                listed = list_files(group, [files[part] for part in group])
        except FileNotFoundError:
            skipped.add(Path(name), "vanished", "gone since the folder was listed")
            continue
        except OSError as problem:
            unreadable.append((Path(name), problem))
            continue
        if not settle_s or listed.mtime_ns < surely_old_ns:
            yield listed
            continue
        age_s = (now - listed.changed_at(now)).total_seconds()
        if not -MAX_AHEAD_S < age_s < settle_s:
            yield listed
        elif name in stored or (len(group) == 1 and pairs.awaits_other_side(name)):
            _skip_settling(listed, now, skipped)
        elif still.look(listed.paths):
            young.append(listed)
        else:
            _skip_settling(listed, now, skipped)
    if young:
        still.wait()
    for listed in young:
        if still.are_whole(listed.paths):
            yield listed
        else:
            _skip_settling(listed, now, skipped)


def _skip_settling(listed: Listed, now: datetime, skipped: Skipped) -> None:
    changed_at = listed.changed_at(now)
    age_s = (now - changed_at).total_seconds()
    skipped.add(listed.paths[0], "settling", f"changed {age_s:.0f} s ago", at=changed_at)


def _n_bytes(stored: Mapping[str, RemoteFile], path: str) -> int | None:
    try:
        return stored[path].n_bytes if path in stored else os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return None


def _groups(files: Mapping[str, str], pairs: Pairs, skipped: Skipped) -> Iterator[tuple[str, ...]]:
    """The files of every recording, without copies of others."""
    # Originals matter only to copies, which most folders do not have.
    copies = {
        path: (path[:at], stem_of(path[at + 4 :]))
        for path in files
        if path.startswith(_COPY_MARKS, (at := path.rfind("/")) + 1)
    }
    copied = set(copies.values())
    originals = {key for path in files if (key := _place_and_stem(path)) in copied} if copied else set()
    for path in files:
        group = pairs.of.get(path, (path,))
        if group[0] != path:
            skipped.add(Path(path), "pair_part", f"one call with {group[0].rpartition('/')[2]}")
        elif copies and path in copies and copies[path] in originals:
            skipped.add(Path(path), "parallel_copy", f"of {copies[path][1]}")
        else:
            yield group


def _place_and_stem(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, stem_of(name)


@dataclass(frozen=True, slots=True)
class _Walk:
    """A search through folders.

    Links are followed only when the settings say so, and then never twice into the same folder. Folders
    that cannot be listed go to `unreadable`. What runs of ours have written is never searched, neither an
    output folder inside the root nor, where the root itself is one, what belongs to it.
    """

    follow_links: bool
    kinds: Kinds
    skipped: Skipped
    unreadable: list[tuple[Path, OSError]]

    def files(self, root: Path) -> Iterator[tuple[str, str]]:
        """The recordings of one input in a stable order, with their real folders (see `Listed`).

        A file given by name is taken as it is.
        """
        try:
            is_folder = stat.S_ISDIR(root.stat().st_mode)
        except FileNotFoundError:
            raise UsageError(f"{root}: no such file or folder. Check --input and [paths] inputs.") from None
        except OSError as problem:
            raise UsageError(
                f"{root}: cannot be opened ({problem.strerror}). Check its permissions."
            ) from None
        if not is_folder:
            yield str(root), ""
            return
        visited: set[str] = set()
        stack = [(root, os.path.realpath(root))]
        while stack:
            folder, expected = stack.pop()
            real = os.path.realpath(folder)
            if real in visited:
                continue
            if real != expected and not self.follow_links:
                self.skipped.add(folder, "link", "came in place of a folder")
                continue
            visited.add(real)
            try:
                entries = sorted(os.scandir(folder), key=attrgetter("name"))
            except FileNotFoundError:
                continue
            except OSError as problem:
                self.unreadable.append((folder, problem))
                continue
            folders: list[Path] = []
            for entry in self._recordings(folder, entries, folders):
                yield entry.path, "" if entry.is_symlink() else real
            stack.extend((inner, os.path.join(real, inner.name)) for inner in reversed(folders))  # noqa: PTH118

    def _recordings(
        self, folder: Path, entries: list[os.DirEntry[str]], folders: list[Path]
    ) -> Iterator[os.DirEntry[str]]:
        """The recordings among the entries of a folder; the folders to search go to `folders`."""
        # Genesys Cloud exports recordings without an extension into a folder per conversation.
        is_genesys = folder.name.startswith("conversation_id=")
        for entry in entries:
            if entry.is_symlink() and not self.follow_links:
                continue
            excluded = self.kinds.excluded(entry.name)
            try:
                if entry.is_dir():
                    if not excluded and self._is_searched(folder, inner := Path(entry.path)):
                        folders.append(inner)
                elif excluded:
                    self._pass_over(entry, Kind.EXCLUDED)
                elif (kind := self.kinds.of(entry.name)) is Kind.RECORDING:
                    if entry.is_file():
                        yield entry
                elif kind is not Kind.BESIDE and entry.is_file():
                    if kind is Kind.UNKNOWN:
                        is_taken = is_genesys and "." not in entry.name
                        kind = Kind.RECORDING if is_taken else kind_by_content(entry.path)
                    if kind is Kind.RECORDING:
                        yield entry
                    else:
                        self._pass_over(entry, kind)
            except OSError:
                continue  # a link that leads to itself

    def _is_searched(self, folder: Path, inner: Path) -> bool:
        if Workspace(inner).has_results or (
            inner.name in FOLDERS_WITHOUT_CALLS and Workspace(folder).has_results
        ):
            self.skipped.add(inner, "output_folder", "written by callanalytics")
            return False
        return inner.name not in _SYSTEM_FOLDERS

    def _pass_over(self, entry: os.DirEntry[str], kind: Kind) -> None:
        if kind is not Kind.BESIDE and not entry.name.startswith("."):
            ending = kind_of(entry.name)
            self.skipped.add(Path(entry.path), kind.value, ending or "no extension", kind=ending)


def _chosen(objects: Iterable[Path], root: Path, kinds: Kinds, skipped: Skipped) -> Iterator[Path]:
    """The objects below a URL that are recordings by name; one given by its name is taken as it is."""
    for path in objects:
        inner = path.relative_to(root).parts if path.is_relative_to(root) else path.parts[1:]
        excluded = any(map(kinds.excluded, inner)) and path != root
        kind = Kind.EXCLUDED if excluded else kinds.of(path.name)
        if path == root or kind is Kind.RECORDING:
            yield path
        elif kind is not Kind.BESIDE and not any(part.startswith(".") for part in inner):
            # To look into an object costs a request: of unknown kinds it is left to the settings.
            reason = Kind.IGNORED if kind is Kind.UNKNOWN else kind
            ending = kind_of(path.name)
            skipped.add(path, reason.value, ending or "no extension", kind=ending)


def file_time(seconds: float) -> datetime:
    """A file system's seconds since 1970 as a time, within what a calendar holds."""
    return datetime.fromtimestamp(min(max(seconds, MIN_FILE_TIME_S), MAX_FILE_TIME_S), UTC)


def list_files(paths: Sequence[str], real_folders: Sequence[str]) -> Listed:
    """One recording as its folder lists it now. Raises OSError."""
    if len(paths) == 1:
        facts = os.stat(paths[0])  # noqa: PTH116 - a Path each would take longer than all the rest
        n_bytes, mtime_ns = facts.st_size, facts.st_mtime_ns
        key = (paths[0], n_bytes, mtime_ns)
        return Listed(tuple(paths), n_bytes, mtime_ns, facts.st_ctime_ns, (key,), tuple(real_folders))
    stats = [os.stat(path) for path in paths]  # noqa: PTH116
    return Listed(
        tuple(paths),
        n_bytes=sum([s.st_size for s in stats]),
        mtime_ns=max([s.st_mtime_ns for s in stats]),
        noted_ns=max([s.st_ctime_ns for s in stats]),
        keys=tuple([(path, s.st_size, s.st_mtime_ns) for path, s in zip(paths, stats, strict=True)]),
        real_folders=tuple(real_folders),
    )


def _list_objects(files: Sequence[RemoteFile]) -> Listed:
    """As `list_files`, from what the object store lists."""
    changed_ns = round(max(file.modified_at for file in files).timestamp() * 1e9)
    return Listed(
        tuple(str(file.path) for file in files),
        n_bytes=sum(file.n_bytes for file in files),
        mtime_ns=changed_ns,
        noted_ns=changed_ns,
        keys=(),
        real_folders=("",) * len(files),
        content_ids=tuple(file.content_id for file in files),
    )
