"""What a recording is known by, and the real files of one that people know by names without callers' numbers.

A recording is known by the SHA-256 of its content, a pair by that of both. What cannot be read has no content
to hash and goes by its path.

Rows hold an alias where a file's name holds a number (`hide_numbers`), and written-out bytes where it is no
text. The numbers are stored in one private place, the run's own database, which nobody can open while a run
is at work. So whoever plays a call during a run finds its file by listing the folder: a name belongs to a row
if hiding the numbers in it gives the name in the row, and the content then proves it. Nothing is stored for
that and nothing waits for the run; a folder of 100,000 files takes a fraction of a second.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path

from callanalytics.audio.source import hash_of, joined
from callanalytics.config import AudioSettings
from callanalytics.errors import EmptyAudio, RecordingChanged, RecordingError, UnreadableFile
from callanalytics.ingest.listing import FileKey, KnownFile, Listed, SettledCall, file_time
from callanalytics.ingest.object_store import is_remote
from callanalytics.ingest.recorders.facts import FactReader
from callanalytics.ingest.recorders.phone_numbers import (
    ALIAS,
    MIN_PHONE_DIGITS,
    SIGNIFICANT_DIGITS,
    alias_of,
)
from callanalytics.records import CallFacts, Failure, FoundRecording, Recording
from callanalytics.records.text import display_text, hide_numbers


def identify(
    listed: Listed, facts: CallFacts, known: Mapping[FileKey, KnownFile], limits: AudioSettings
) -> Recording:
    """The recording; files that are not `known` are read once.

    Raises:
        UnreadableFile: a file cannot be read or is no regular file.
        TooLong: it has more bytes than `[audio] max_bytes`.
    """
    contents = listed.content_ids or tuple(
        known[key].content_id if key in known else content_id(path, limits, folder)
        for key, path, folder in zip(listed.keys, listed.paths, listed.real_folders, strict=True)
    )
    shown = _shown_paths(listed.paths, facts)
    return Recording(joined(contents), listed.paths, listed.n_bytes, listed.modified_at, contents, shown)


def settled_call(listed: Listed, known: Mapping[FileKey, KnownFile]) -> SettledCall | None:
    """The call, where all its files are unchanged and nothing is left to do about it.

    One side of a pair whose other side is gone, or came only now, is another recording than before.
    """
    files = [known[key] for key in listed.keys if key in known]
    if not files or len(files) < len(listed.names) or (call := files[0].settled) is None:
        return None
    return call if call.recording_id == joined([file.content_id for file in files]) else None


def unread_recording(listed: Listed, facts: CallFacts) -> Recording:
    """A recording whose files were listed and could not be read."""
    shown = _shown_paths(listed.paths, facts)
    return Recording(
        _path_id(listed.paths[0]), listed.paths, listed.n_bytes, listed.modified_at, shown_paths=shown
    )


def unreadable_failure(path: Path, problem: OSError, reader: FactReader) -> Failure:
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
    return Failure(FoundRecording(recording, facts), "read", UnreadableFile.reason, detail)


def _shown_paths(paths: Sequence[Path], facts: CallFacts) -> tuple[str, ...]:
    return tuple(facts.hide(str(path)) for path in paths)


def content_id(path: Path, limits: AudioSettings, real_folder: str = "") -> str:
    """SHA-256 of the content; of an empty file, of its path, or all empty files would be one call.

    `real_folder` is where the search found the file, see `Listed`.

    Raises UnreadableFile, also for what is no regular file, and TooLong: neither is read.
    """
    from callanalytics.audio.source import opened, unreadable

    try:
        with opened(path, limits, real_folder=real_folder) as (stream, _):
            if not os.fstat(stream.fileno()).st_mode & 0o444:  # root could read on; nobody should
                raise PermissionError(errno.EACCES, "no read permission for anybody")
            return hash_of(stream)
    except EmptyAudio:
        return _path_id(path)
    except OSError as problem:
        raise unreadable(path, problem) from None


def _path_id(path: Path) -> str:
    return hashlib.sha256(b"path\0" + os.fsencode(path)).hexdigest()


# Digits as people write numbers, with at most two separators between two of them (see `hide_numbers`).
_DIGITS = re.compile(r"\d(?:[-.\s()]{0,2}\d)*")


class RecordingGone(UnreadableFile):
    """Nothing lies where the recording was."""

    reason = "missing"


def locate(
    recording_id: str,
    shown_paths: Sequence[str],
    salt: bytes,
    limits: AudioSettings,
    known: Mapping[Path, str] | None = None,
    *,
    trust_known: bool = False,
) -> tuple[Path, ...]:
    """Find the one file of a recording, or the two of a pair in their order.

    Args:
        recording_id: What the recording is known by: the hash of its content.
        shown_paths: Its files by their names for people.
        salt: The secret of the output folder, which aliases are made with.
        limits: Larger files are not read.
        known: Content id by path, the best first, from whoever may open the working database (`base.files`):
            it also names copies in other folders.
        trust_known: Take known files that are still there without reading them, also those behind a URL;
            the caller checks their content later.

    Raises:
        RecordingGone: no file has such a name.
        RecordingChanged: files have the name, but other content.
        UnreadableFile: a file with the name cannot be read.
    """
    known = known or {}
    places = [path for path in known if path.is_file() or (trust_known and is_remote(path))]
    contents = dict(known) if trust_known else {}
    unread = False

    def content(path: Path) -> str:
        nonlocal unread
        if path not in contents:
            try:
                contents[path] = content_id(path, limits)
            except RecordingError:
                contents[path], unread = "", True
        return contents[path]

    def match() -> tuple[Path, ...] | None:
        groups = permutations(places, len(shown_paths))
        return next((g for g in groups if joined([content(path) for path in g]) == recording_id), None)

    found = match()
    if found is None:  # only now: a folder may hold very many names
        behind = [path for shown in shown_paths for path in _behind(Path(shown), salt)]
        places = list(dict.fromkeys([*places, *behind]))
        found = match()
    if found is not None:
        return found
    name = ", ".join(Path(shown).name for shown in shown_paths)
    if len(places) < len(shown_paths):
        raise RecordingGone(f"{name}: cannot be read: the recording is gone. It was moved or deleted.")
    if unread:
        raise UnreadableFile(f"{name}: cannot be read. Check that this user may read it.")
    raise RecordingChanged(f"{name}: another recording lies here now.")


def hide_names(text: str, paths: Sequence[Path], shown_paths: Sequence[str]) -> str:
    """A message about files, with their names for people in place of their own."""
    for path, shown in zip(paths, shown_paths, strict=True):
        text = text.replace(str(path), shown).replace(display_text(path.name), Path(shown).name)
    return text


def _behind(shown: Path, salt: bytes) -> Iterator[Path]:
    """Files and folders that are there and go by this name for people; a number may be in any part of it."""
    if not (ALIAS.search(str(shown)) or "\\" in str(shown)):
        yield from [shown] if shown.exists() else []
        return
    for folder in _behind(shown.parent, salt):
        if (folder / shown.name).exists():
            yield folder / shown.name
        yield from (folder / name for name in _names_behind(folder, shown.name, salt))


def _names_behind(folder: Path, shown: str, salt: bytes) -> Iterator[str]:
    """Names in a folder that become the name for people once their numbers are hidden."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path each would take longer than all the rest
    except OSError:
        return
    aliases = ALIAS.findall(shown)
    before = shown.partition(aliases[0])[0] if aliases else shown
    after = shown.rpartition(aliases[-1])[2] if aliases else ""
    for own_name in names:
        name = own_name if own_name.isprintable() else display_text(own_name)
        # Most names of a folder of thousands end here, before anything is hashed.
        if name.startswith(before) and name.endswith(after):
            hidden = {digits: alias for digits, alias in _aliases(own_name, salt) if alias in aliases}
            if display_text(hide_numbers(own_name, hidden)) == shown:
                yield own_name


def _aliases(name: str, salt: bytes) -> Iterator[tuple[str, str]]:
    """Everything in a name that may be a caller's number, as its last significant digits, and its alias.

    A number ends where a run of digits does; how long it is without its prefix is not known.
    """
    for match in _DIGITS.finditer(name):
        runs = re.findall(r"\d+", match.group())
        for n_runs in range(1, len(runs) + 1):
            digits = "".join(runs[:n_runs])
            for n_digits in range(MIN_PHONE_DIGITS, min(SIGNIFICANT_DIGITS, len(digits)) + 1):
                yield digits[-n_digits:], alias_of(digits[-n_digits:], salt)
