"""Whether a recording is all there: both sides of a call in two files, and no file that is still written.

Sides lie in `x_caller.wav` and `x_agent.wav`, or in `caller/x.wav` and `agent/x.wav`.

A file that changed just now is whole when nobody on this machine has it open for writing, its container has
its end, and its size and time and those of its folder stand still between two looks. Of a network share or an
object store this says nothing, since whoever writes there is on another machine: there a file has to be old
enough.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from callanalytics.records import Role

# Ending of a name, or name of a folder -> whose side. Asterisk's "in" and "rx" hold the caller's voice.
PAIR_SIDES: dict[str, Role] = {
    **dict.fromkeys(("caller", "customer", "cust", "in", "rx", "remote"), Role.CALLER),
    **dict.fromkeys(("agent", "out", "tx", "local"), Role.AGENT),
}
# Sides whose names also mean other things: joined only when the files are about as long.
_VAGUE_SIDES = {"in": "out", "out": "in", "rx": "tx", "tx": "rx", "local": "remote", "remote": "local"}
MAX_PAIR_SIZE_RATIO = 1.5
# Folders "in" and "out" may hold the calls of either direction, numbered alike: there nearly all names that
# both have must be of one length.
MAX_FOLDER_SIZE_RATIO = 1.1
MIN_ALIKE_SHARE = 0.9
_SIDE = re.compile(rf"(?P<stem>.+)[-_.](?P<side>{'|'.join(PAIR_SIDES)})", re.IGNORECASE)


# No name that ends otherwise names a side: most of a night's names end here.
_LAST_LETTERS = frozenset(letter for side in PAIR_SIDES for letter in (side[-1], side[-1].upper()))


class _Folder(NamedTuple):
    """A folder whose path names a side."""

    place: tuple[str, str]  # the path before and behind the side
    word: str


def stem_of(name: str) -> str:
    """A file's name without extension, as `Path.stem`, which takes long to make."""
    at = name.rfind(".")
    return name[:at] if 0 < at < len(name) - 1 else name


def stem_of_pair(stem: str) -> str:
    """A file's name without extension, without the side of a pair."""
    side = _SIDE.fullmatch(stem)
    return side["stem"] if side else stem


@dataclass(frozen=True, slots=True)
class Pairs:
    """The complete pairs among some files: path of every file of one -> paths of (caller's, agent's)."""

    of: Mapping[str, tuple[str, str]]
    folders: frozenset[str]  # that have pairs with another folder

    def awaits_other_side(self, path: str) -> bool:
        """Whether a lone file holds one side of a call, by its name or by what else its folder holds."""
        folder, _, name = path.rpartition("/")
        return _SIDE.fullmatch(stem_of(name)) is not None or folder in self.folders


def find_pairs(files: Iterable[str], n_bytes_of: Callable[[str], int | None]) -> Pairs:
    """Pair the files of one call. `n_bytes_of` gives the size of a file, None where it is gone."""
    by_name: dict[tuple[str, str, str], dict[Role, str]] = {}
    by_folder: dict[tuple[str, str], dict[str, dict[str, str]]] = {}  # place -> side -> name -> file
    folders: dict[str, _Folder | None] = {}
    for path in files:
        folder, _, name = path.rpartition("/")
        stem = stem_of(name)
        side = _SIDE.fullmatch(stem) if stem[-1:] in _LAST_LETTERS else None
        if side is not None:
            key = (folder, side["stem"], name[len(stem) :].lower())
            by_name.setdefault(key, {})[PAIR_SIDES[side["side"].lower()]] = path
            continue
        if folder not in folders:
            folders[folder] = _folder(folder)
        if (found := folders[folder]) is not None:
            key_in = stem + name[len(stem) :].lower()
            by_folder.setdefault(found.place, {}).setdefault(found.word, {})[key_in] = path
    joined: dict[str, tuple[str, str]] = {}
    in_folders: set[str] = set()
    for sides in by_name.values():
        if len(sides) == 2 and _belong(sides, n_bytes_of):
            pair = (sides[Role.CALLER], sides[Role.AGENT])
            joined |= dict.fromkeys(pair, pair)
    for words in by_folder.values():
        for pair in _pairs_of_folders(words, n_bytes_of):
            joined |= dict.fromkeys(pair, pair)
            in_folders |= {path.rpartition("/")[0] for path in pair}
    return Pairs(joined, frozenset(in_folders))


def _folder(folder: str) -> _Folder | None:
    """The innermost part of a path that names a side."""
    parts = folder.split("/")
    for index in range(len(parts) - 1, -1, -1):
        if (word := parts[index].lower()) in PAIR_SIDES:
            return _Folder(("/".join(parts[:index]), "/".join(parts[index + 1 :])), word)
    return None


def _belong(sides: Mapping[Role, str], n_bytes_of: Callable[[str], int | None]) -> bool:
    """Two halves of a call were recorded at the same time, so their sizes are alike.

    "check-in.wav" and "check-out.wav" may be anything: for such names the sizes must agree.
    """
    side = _SIDE.fullmatch(stem_of(sides[Role.CALLER].rpartition("/")[2]))
    if side is None or side["side"].lower() not in _VAGUE_SIDES:
        return True
    return _are_alike(sides[Role.CALLER], sides[Role.AGENT], n_bytes_of, MAX_PAIR_SIZE_RATIO)


def _are_alike(one: str, other: str, n_bytes_of: Callable[[str], int | None], ratio: float) -> bool:
    sizes = [n_bytes_of(one), n_bytes_of(other)]
    known = [size for size in sizes if size is not None]
    return len(known) == 2 and max(known) <= ratio * min(known)


def _pairs_of_folders(
    words: Mapping[str, Mapping[str, str]], n_bytes_of: Callable[[str], int | None]
) -> Iterable[tuple[str, str]]:
    """(caller's file, agent's file) of the names that a caller's and an agent's folder have in common."""
    callers = [word for word in words if PAIR_SIDES[word] is Role.CALLER]
    agents = [word for word in words if PAIR_SIDES[word] is Role.AGENT]
    for caller in callers:
        for agent in agents:
            if _VAGUE_SIDES.get(caller, agent) != agent or _VAGUE_SIDES.get(agent, caller) != caller:
                continue
            both = [
                (path, words[agent][name]) for name, path in words[caller].items() if name in words[agent]
            ]
            if caller not in _VAGUE_SIDES:
                yield from both
                continue
            alike = [pair for pair in both if _are_alike(pair[0], pair[1], n_bytes_of, MAX_FOLDER_SIZE_RATIO)]
            if len(alike) >= MIN_ALIKE_SHARE * len(both):
                yield from alike


# Between the two looks. A recorder writes several times a second, and keeps its file open meanwhile.
LOOK_AGAIN_S = 1.0
# Types of file systems of which no other machine can write: by proc_filesystems(5). Of any other type the age
# decides.
LOCAL_FILE_SYSTEMS = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "nilfs2"),
    *("tmpfs", "ramfs", "overlay", "aufs", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfsplus"),
}
_MOUNTS = Path("/proc/self/mountinfo")
_STREAMED_RIFF = frozenset({0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000})
_SLACK_BYTES = 1_024  # behind the last chunk of a WAV: a fill byte, a tag
_OGG_PAGE_BYTES = 65_307  # the longest page, RFC 3533
_MAX_BOXES = 10_000

Look = tuple[tuple[int, ...], ...]  # size and times of every file and of their folders


class StillFiles:
    """Recordings that were seen a moment ago, to be looked at again."""

    def __init__(self) -> None:
        self._mounts = _read_mounts()
        self._looks: dict[tuple[Path, ...], tuple[float, Look | None]] = {}

    def look(self, paths: Sequence[Path]) -> bool:
        """Take the first look at a recording; False where evidence is not to be had."""
        if not all(self._is_local(path) for path in paths):
            return False
        self._looks[tuple(paths)] = (time.monotonic(), _look(paths))
        return True

    def wait(self) -> None:
        """Wait until every first look is a moment ago."""
        newest = max((at for at, _ in self._looks.values()), default=0.0)
        time.sleep(max(0.0, newest + LOOK_AGAIN_S - time.monotonic()))

    def are_whole(self, paths: Sequence[Path]) -> bool:
        """Take the second look."""
        _, before = self._looks[tuple(paths)]
        return before is not None and _look(paths) == before and all(map(is_finished, paths))

    def _is_local(self, path: Path) -> bool:
        real = os.path.realpath(path)
        mounts = (
            mount for mount in self._mounts if real == mount or real.startswith(mount.rstrip("/") + "/")
        )
        return self._mounts.get(max(mounts, key=len, default="")) in LOCAL_FILE_SYSTEMS


def _read_mounts() -> dict[str, str]:
    """Mount point -> type of file system; of several at one place the last is the one that is seen."""
    try:
        text = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return {}  # no Linux: the age decides
    mounts = {}
    for line in text.splitlines():
        before, _, behind = line.partition(" - ")
        place = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), before.split(" ")[4])
        mounts[place] = behind.split(" ")[0]
    return mounts


def _look(paths: Sequence[Path]) -> Look | None:
    """What the file system says of the files and their folders; None when one is gone."""
    try:
        facts = [place.stat() for path in paths for place in (path, path.parent)]
    except OSError:
        return None
    return tuple((each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in facts)


def is_finished(path: Path) -> bool:
    """Whether nobody on this machine has the file open for writing, and its container has its end.

    False also where that cannot be known: of a file of somebody else only root may ask.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_unwritten(descriptor) and _has_end(descriptor, os.fstat(descriptor).st_size)
    except (OSError, IndexError):  # shorter than its header
        return False
    finally:
        os.close(descriptor)


def _is_unwritten(descriptor: int) -> bool:
    """Whether the kernel grants a lease, which it does while no process has the file open for writing.

    It holds for microseconds. Whoever opens the file in between makes the kernel send a signal: one that is
    ignored by default, instead of SIGIO, which would end this process. Source: fcntl(2), "Leases".

    Raises OSError where a lease is not granted, for whatever reason.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def _has_end(descriptor: int, n_bytes: int) -> bool:
    """Whether a container that states its end has it; of other formats nothing can be said against it.

    Sources: see `audio/wav.py` (RIFF); ISO/IEC 14496-12 (boxes); RFC 3533 (Ogg pages); RFC 9639 (FLAC's
    STREAMINFO); RFC 9559 (Matroska's Segment).
    """
    head = os.pread(descriptor, 64, 0)
    if head[:4] in (b"RIFF", b"RIFX"):
        size = int.from_bytes(head[4:8], "big" if head[:4] == b"RIFX" else "little")
        return size not in _STREAMED_RIFF and -1 <= n_bytes - (size + 8) <= _SLACK_BYTES
    if head[:4] in (b"RF64", b"BW64"):
        size = int.from_bytes(head[20:28], "little")
        return -1 <= n_bytes - (size + 8) <= _SLACK_BYTES
    if head[4:8] == b"ftyp":
        return _has_boxes(descriptor, n_bytes)
    if head[:4] == b"OggS":
        return _has_last_page(descriptor, n_bytes)
    if head[:4] == b"fLaC":
        return bool(head[21] & 0x0F or any(head[22:26]))  # samples in all, 0 while they are unknown
    if head[:4] == b"\x1a\x45\xdf\xa3":
        at = os.pread(descriptor, 4_096, 0).find(b"\x18\x53\x80\x67")
        stated = os.pread(descriptor, 8, at + 4) if at >= 0 else b""
        return bool(stated) and stated != b"\x01" + b"\xff" * 7 and stated[:1] != b"\xff"
    return n_bytes > 0


def _has_boxes(descriptor: int, n_bytes: int) -> bool:
    """Whether the boxes of an MP4 fill it and one of them is its index."""
    at, found_index = 0, False
    for _ in range(_MAX_BOXES):
        header = os.pread(descriptor, 16, at)
        if len(header) < 8:
            break
        size, name = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8:
            break  # up to the end of the file, wherever that will be
        found_index |= name == b"moov"
        at += size
    return found_index and at == n_bytes


def _has_last_page(descriptor: int, n_bytes: int) -> bool:
    """Whether an Ogg ends with a whole page that says it is the last."""
    tail = os.pread(descriptor, _OGG_PAGE_BYTES, max(0, n_bytes - _OGG_PAGE_BYTES))
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    n_segments = page[26]
    is_whole = len(page) >= 27 + n_segments + sum(page[27 : 27 + n_segments])
    return is_whole and bool(page[5] & 4)
