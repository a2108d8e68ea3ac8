"""What a recording is known by: the SHA-256 of its content, of a pair that of both.

What cannot be read has no content to hash and goes by its path.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from callanalytics.audio.proven import hash_of, joined
from callanalytics.config import AudioSettings
from callanalytics.errors import EmptyAudio, UnreadableFile
from callanalytics.ingest.listing import FileKey, KnownFile, Listed, SettledCall, file_time
from callanalytics.ingest.recorders.facts import FactReader
from callanalytics.records import CallFacts, Failure, FoundRecording, Recording


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
    if not files or len(files) < len(listed.paths):
        return None
    call = files[0].settled
    return call if call and call.recording_id == joined([file.content_id for file in files]) else None


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
