"""Recordings behind a URL (s3://, gs://, sftp://, whatever fsspec opens): listed, and fetched one by one.

Inside the program such a URL is a relative `Path` that begins with its scheme, "s3:/bucket/key": pathlib
folds the two slashes, and no file that was searched for has a relative path. Names, folders and suffixes
then work as for files. A recording is copied to the machine that analyses it, and only while it does.
"""

from __future__ import annotations

import errno
import hashlib
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from callanalytics.errors import RecordingChanged, TooLong, UnreadableFile, UsageError
from callanalytics.records.text import without_secrets

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:")
_WEB = ("http://", "https://")
_TRIES = 3
_WAIT_S = 1.0  # doubled with every try
# A store that is silent holds each try for minutes, before it is given up by the library; it is not tried
# again then, or the worker would count as hung and the recording as one that kills its worker.
_PATIENCE_S = 120.0
_CHUNK_BYTES = 1 << 20
# What stores say about the content of an object: S3, Google, Azure.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An object as its store lists it. `content_id` stands for the SHA-256 that a file has."""

    path: Path
    n_bytes: int
    modified_at: datetime
    content_id: str


def is_remote(path: Path) -> bool:
    """Whether this path stands for a URL."""
    return not path.is_absolute() and len(path.parts) > 1 and bool(_SCHEME.fullmatch(path.parts[0]))


def path_of(url: str) -> Path:
    """The path that stands for a URL; of file:// the file's own."""
    path = Path(url)
    return Path("/", *path.parts[1:]) if path.parts[:1] == ("file:",) else path


def url_of(path: Path) -> str:
    """The URL that a path stands for."""
    return f"{path.parts[0]}//{'/'.join(path.parts[1:])}"


def shown_url(path: Path) -> str:
    """The URL that a path stands for, without what gives access to it."""
    return without_secrets(url_of(path))


def check_remote(root: Path) -> None:
    """Check that there is something at a URL; nothing is listed. Raises UsageError as `list_remote` does."""
    with _usage_errors(root):
        store, inside = _store(url_of(root))
        _require(root, store.exists(inside))


def list_remote(root: Path) -> list[RemoteFile]:
    """All objects below a URL, by name. Nothing is read.

    Raises:
        UsageError: the store does not answer, is not known to fsspec, tells no times, or holds nothing there.
    """
    with _usage_errors(root):
        store, inside = _store(url_of(root))
        listed: dict[str, dict[str, Any]] = store.find(inside, detail=True)
        _require(root, bool(listed) or store.exists(inside))
    return [_remote_file(root.parts[0], name, facts) for name, facts in sorted(listed.items())]


@contextmanager
def _usage_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except ImportError as problem:
        raise UsageError(f"{shown_url(root)}: {problem}") from None
    except Exception as problem:  # every store has errors of its own
        raise UsageError(
            f"{shown_url(root)}: does not answer ({_short(problem)}). Check address and rights."
        ) from None


def _require(root: Path, found: bool) -> None:
    if not found:
        raise UsageError(f"{shown_url(root)}: no such folder or object. Check --input and [paths] inputs.")


def look_up(path: Path) -> RemoteFile:
    """One object as its store lists it now. Nothing is read.

    Raises:
        FileNotFoundError: nothing lies there.
        UnreadableFile: the store does not answer.
    """
    try:
        store, inside = _store(url_of(path))
        listed: dict[str, dict[str, Any]] = store.find(inside, detail=True)  # as a folder is listed
    except FileNotFoundError:
        listed = {}
    except Exception as problem:  # every store has errors of its own
        raise UnreadableFile(
            f"{path.name}: its store does not answer ({_short(problem)}). Check address and rights."
        ) from problem
    found = (_remote_file(path.parts[0], name, facts) for name, facts in listed.items())
    there = next((file for file in found if file.path == path), None)
    if there is None:
        raise FileNotFoundError(errno.ENOENT, "no such object", str(path))
    return there


def _remote_file(scheme: str, name: str, facts: dict[str, Any]) -> RemoteFile:
    path = Path(scheme, name.lstrip("/"))
    n_bytes = int(facts.get("size") or 0)
    modified_at = _time_of(next((facts[key] for key in _TIMES if facts.get(key)), None))
    tag = next((str(facts[key]) for key in _TAGS if facts.get(key)), None)
    # The tag of a store changes with the content, and the same content mostly has the same one, so a call
    # stored twice is mostly one call. Without it only the place tells objects apart.
    source = f"tag\0{tag}" if tag else f"url\0{path}\0{modified_at.isoformat()}"
    return RemoteFile(path, n_bytes, modified_at, hashlib.sha256(f"{source}\0{n_bytes}".encode()).hexdigest())


def _time_of(value: object) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            return datetime.fromtimestamp(0, UTC)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return datetime.fromtimestamp(0, UTC)


@contextmanager
def fetched(
    paths: Sequence[Path], content_ids: Sequence[str] = (), *, max_bytes: int
) -> Iterator[tuple[Path, ...]]:
    """Local files with the content of `paths` while the block runs; local paths are given back as they are.

    Args:
        paths: of this machine, or URLs.
        content_ids: as their store told them when they were listed; none: what lies there now is taken.
        max_bytes: of an object.

    Raises:
        RecordingChanged: another object lies there now.
        UnreadableFile: an object is gone or its store does not answer, also when tried again.
        TooLong: an object is larger than `max_bytes`.
    """
    if not any(map(is_remote, paths)):
        yield tuple(paths)
        return
    with tempfile.TemporaryDirectory(prefix="callanalytics-") as folder:
        # The halves of a pair may lie in different folders under one name.
        yield tuple(
            _fetch(path, Path(folder) / str(number) / path.name, content_id, max_bytes)
            if is_remote(path)
            else path
            for number, (path, content_id) in enumerate(zip_longest(paths, content_ids))
        )


def _fetch(path: Path, target: Path, content_id: str | None, max_bytes: int) -> Path:
    target.parent.mkdir()
    begun = time.monotonic()
    for attempt in range(1, _TRIES + 1):
        try:
            _copy(path, target, max_bytes)
            _check_fetched(path, target, content_id)
        except (TooLong, RecordingChanged):
            raise
        except Exception as problem:  # every store has errors of its own
            is_final = isinstance(problem, (FileNotFoundError, PermissionError, ImportError))
            if is_final or attempt == _TRIES or time.monotonic() - begun > _PATIENCE_S:
                raise UnreadableFile(
                    f"{path.name}: cannot be fetched ({_short(problem)}). Check that it still exists and "
                    "that the machine that analyses it may read it."
                ) from problem
            time.sleep(_WAIT_S * 2 ** (attempt - 1))
        else:
            break
    return target


def _check_fetched(path: Path, target: Path, content_id: str | None) -> None:
    """Raise RecordingChanged where another object lies there than was listed; OSError for a part of it."""
    if content_id is None:
        return
    there = look_up(path)
    if there.content_id != content_id:
        raise RecordingChanged(
            f"{path.name}: another object lies here than was found. The next run finds it."
        )
    if (n_bytes := target.stat().st_size) < there.n_bytes:
        raise OSError(errno.EIO, f"{n_bytes:,} of {there.n_bytes:,} bytes came")


def _copy(path: Path, target: Path, max_bytes: int) -> None:
    store, inside = _store(url_of(path))
    n_bytes = 0
    with store.open(inside, "rb") as source, target.open("wb") as local:
        while chunk := source.read(_CHUNK_BYTES):
            n_bytes += len(chunk)
            if n_bytes > max_bytes:
                raise TooLong(
                    f"{path.name}: more than the {max_bytes:,} bytes allowed. "
                    "Raise [audio] max_bytes if such calls are real."
                )
            local.write(chunk)


def _store(url: str) -> tuple[Any, str]:
    if url.startswith(_WEB):
        raise UsageError(
            f"{url}: a web server lists no sizes and times, so nobody can tell which calls are new or still "
            "being written. Copy them into a folder first, or give a store (s3://, gs://, sftp://, ...)."
        )
    import fsspec

    store, inside = fsspec.core.url_to_fs(url)
    return store, inside


def _short(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return without_secrets(lines[0]) if lines else type(problem).__name__
