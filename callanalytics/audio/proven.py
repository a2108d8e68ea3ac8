"""Files opened as they were found: by the content that they are known by, through no link, until a deadline.

Between search and analysis lie minutes or hours in which anybody who may write to an input folder can put
another file, or a link, in the place of a recording. What is decoded is first proven by its hash.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 20


def joined(contents: Sequence[str]) -> str:
    """The id of a recording whose files have these content ids, in this order."""
    if len(contents) == 1:
        return contents[0]
    return hashlib.sha256("".join(contents).encode()).hexdigest()


def hash_of(stream: BinaryIO) -> str:
    """SHA-256 of a file's content; it is then at its beginning."""
    digest = hashlib.sha256()
    stream.seek(0)
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
    stream.seek(0)
    return digest.hexdigest()


def open_without_links(folder: str, name: str) -> int:
    """Open a file for reading from folder to folder, none of which may be a link; `folder` is absolute.

    Raises OSError: ELOOP or ENOTDIR where a link has come in place of a folder or the file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in Path(folder).parts[1:]:
            inner = os.open(part, os.O_PATH | os.O_DIRECTORY | flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        # O_NONBLOCK keeps the open itself from waiting on a named pipe.
        return os.open(name, os.O_NONBLOCK | flags, dir_fd=descriptor)
    finally:
        os.close(descriptor)


class Overdue(Exception):
    """The time for reading a file is used up."""


class TimedFile(io.BufferedReader):
    """A file that can be read until `deadline` (of `time.monotonic`), also where no sound comes of it."""

    def __init__(self, descriptor: int, deadline: float) -> None:
        super().__init__(io.FileIO(descriptor, "rb"))
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file. Raises Overdue."""
        if time.monotonic() > self._deadline:
            raise Overdue
        return super().read(size)
