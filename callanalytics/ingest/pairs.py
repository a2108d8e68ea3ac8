"""The two sides of a call in two files: `x_caller.wav`, `x_agent.wav`, or `caller/x.wav`, `agent/x.wav`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
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


class _Folder(NamedTuple):
    """A folder whose path names a side."""

    place: tuple[str, str]  # the path before and behind the side
    word: str


def stem_of_pair(stem: str) -> str:
    """A file's name without extension, without the side of a pair."""
    side = _SIDE.fullmatch(stem)
    return side["stem"] if side else stem


@dataclass(frozen=True, slots=True)
class Pairs:
    """The complete pairs among some files: every file of one -> (caller's file, agent's file)."""

    of: Mapping[Path, tuple[Path, Path]]
    folders: frozenset[Path]  # that have pairs with another folder

    def awaits_other_side(self, path: Path) -> bool:
        """Whether a lone file holds one side of a call, by its name or by what else its folder holds."""
        return _SIDE.fullmatch(path.stem) is not None or path.parent in self.folders


def find_pairs(files: Iterable[Path], n_bytes_of: Callable[[Path], int | None]) -> Pairs:
    """Pair the files of one call. `n_bytes_of` gives the size of a file, None where it is gone."""
    by_name: dict[tuple[str, str, str], dict[Role, Path]] = {}
    by_folder: dict[tuple[str, str], dict[str, dict[str, Path]]] = {}  # place -> side -> name -> file
    folders: dict[str, _Folder | None] = {}
    for path in files:
        folder, _, name = str(path).rpartition("/")
        side = _SIDE.fullmatch(path.stem)
        if side is not None:
            key = (folder, side["stem"], path.suffix.lower())
            by_name.setdefault(key, {})[PAIR_SIDES[side["side"].lower()]] = path
            continue
        if folder not in folders:
            folders[folder] = _folder(folder)
        if (found := folders[folder]) is not None:
            stem = name[: len(name) - len(path.suffix)] + path.suffix.lower()
            by_folder.setdefault(found.place, {}).setdefault(found.word, {})[stem] = path
    joined: dict[Path, tuple[Path, Path]] = {}
    in_folders: set[Path] = set()
    for sides in by_name.values():
        if len(sides) == 2 and _belong(sides, n_bytes_of):
            pair = (sides[Role.CALLER], sides[Role.AGENT])
            joined |= dict.fromkeys(pair, pair)
    for words in by_folder.values():
        for pair in _pairs_of_folders(words, n_bytes_of):
            joined |= dict.fromkeys(pair, pair)
            in_folders |= {pair[0].parent, pair[1].parent}
    return Pairs(joined, frozenset(in_folders))


def _folder(folder: str) -> _Folder | None:
    """The innermost part of a path that names a side."""
    parts = folder.split("/")
    for index in range(len(parts) - 1, -1, -1):
        if (word := parts[index].lower()) in PAIR_SIDES:
            return _Folder(("/".join(parts[:index]), "/".join(parts[index + 1 :])), word)
    return None


def _belong(sides: Mapping[Role, Path], n_bytes_of: Callable[[Path], int | None]) -> bool:
    """Two halves of a call were recorded at the same time, so their sizes are alike.

    "check-in.wav" and "check-out.wav" may be anything: for such names the sizes must agree.
    """
    side = _SIDE.fullmatch(sides[Role.CALLER].stem)
    if side is None or side["side"].lower() not in _VAGUE_SIDES:
        return True
    return _are_alike(sides[Role.CALLER], sides[Role.AGENT], n_bytes_of, MAX_PAIR_SIZE_RATIO)


def _are_alike(one: Path, other: Path, n_bytes_of: Callable[[Path], int | None], ratio: float) -> bool:
    sizes = [n_bytes_of(one), n_bytes_of(other)]
    known = [size for size in sizes if size is not None]
    return len(known) == 2 and max(known) <= ratio * min(known)


def _pairs_of_folders(
    words: Mapping[str, Mapping[str, Path]], n_bytes_of: Callable[[Path], int | None]
) -> Iterable[tuple[Path, Path]]:
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
