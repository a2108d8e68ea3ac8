"""What a decoder gives: facts about the stream and its blocks of samples; how a file is opened.

Files are opened as they were found: by the content that they are known by, through no link, until a deadline.
Between search and analysis lie minutes or hours in which anybody who may write to an input folder can put
another file, or a link, in the place of a recording. What is decoded is first proven by its hash.
"""

from __future__ import annotations

import errno
import hashlib
import io
import math
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from callanalytics.config import AudioSettings
from callanalytics.errors import (
    EmptyAudio,
    InvalidAudio,
    RecordingChanged,
    TooLong,
    TruncatedAudio,
    UnreadableFile,
)
from callanalytics.records import FloatArray
from callanalytics.records.text import display_text

MIN_RATE_HZ, MAX_RATE_HZ = 6_000, 192_000
MAX_CHANNELS = 2
CHUNK_BYTES = 1 << 20
BLOCK_FRAMES = 65_536  # 8 s at 8 kHz: small enough for the cache, large enough to hide Python


@dataclass(frozen=True, slots=True)
class Source:
    """One open track. `blocks` yields float32 (n, n_channels) at `rate_hz`, nominally -1..1.

    `declared_s` is the length that the container states, or None when it states none or only an
    estimate; `hint_s` is any guess of the length, good for sizing buffers only. `full_scale` is
    the amplitude from which a sample counts as clipped. Of two mono tracks each is one voice. `notes`
    are words for `Audio.notes`, complete when the blocks are used up.
    """

    rate_hz: int
    n_channels: int
    codec: str
    container: str
    declared_s: float | None
    hint_s: float | None
    full_scale: float
    blocks: Iterator[FloatArray]
    n_tracks: int = 1
    notes: set[str] = field(default_factory=set)


class Stretch:
    """Part of an open file, from `start` to before `end`, as a file of its own.

    The impossible seeks of damaged headers fail without a traceback on the screen.
    """

    def __init__(self, stream: BinaryIO, start: int, end: int) -> None:
        self.stream, self.start, self.n_bytes = stream, start, end - start
        stream.seek(start)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, none beyond the end."""
        left = max(0, self.n_bytes - self.tell())
        return self.stream.read(left if size < 0 else min(size, left))

    def tell(self) -> int:
        """Position from the start of the stretch."""
        return self.stream.tell() - self.start

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position; -1, FFmpeg's sign of failure, for one that no file has."""
        base = (0, self.tell(), self.n_bytes)[whence] if 0 <= whence <= 2 else -1
        if base < 0 or offset + base < 0:
            return -1
        try:
            return self.stream.seek(self.start + base + offset) - self.start
        except (OSError, ValueError, OverflowError):
            return -1

    def at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer at the end."""
        return self.read(size) if self.seek(offset) >= 0 else b""


def shown(path: Path) -> str:
    """A file's name, safe to print."""
    return display_text(path.name)


def clock(seconds: float) -> str:
    """A length as a person reads it: 4.2 s, or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d} min"


def tolerance_s(declared_s: float, settings: AudioSettings) -> float:
    """Seconds by which found and declared length may differ."""
    return max(settings.length_tolerance_s, settings.length_tolerance_share * declared_s)


def truncated(path: Path, declared_s: float, found_s: float) -> TruncatedAudio:
    """The error for a file whose sound is shorter or longer than it says."""
    if found_s < declared_s:
        advice = "It was still being written or its copy was interrupted: fetch it again."
    else:
        advice = "Its header was not brought up to date after more was recorded: export it again."
    return TruncatedAudio(
        f"{shown(path)}: its header declares {clock(declared_s)} of sound, "
        f"but {clock(found_s)} are there. {advice}"
    )


@contextmanager
def opened(
    path: Path, settings: AudioSettings, deadline: float = math.inf, *, real_folder: str = ""
) -> Iterator[tuple[BinaryIO, int]]:
    """The file, open for reading, and its size in bytes.

    Args:
        path: its name.
        settings: limits.
        deadline: of `time.monotonic`, until when it can be read (Overdue).
        real_folder: the folder without links that it must lie in; "" follows links.

    Raises:
        UnreadableFile: no permission, vanished, or not a regular file (a pipe would block the night).
        RecordingChanged: a link where there must be none.
        EmptyAudio: 0 bytes.
        TooLong: more bytes than `[audio] max_bytes`.
    """
    try:
        if real_folder:
            descriptor = open_without_links(real_folder, path.name)
        else:  # O_NONBLOCK keeps the open itself from waiting on a named pipe
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        if real_folder and problem.errno in (errno.ELOOP, errno.ENOTDIR):
            raise RecordingChanged(
                f"{shown(path)}: a link came in its place, or in that of a folder above. Set [discovery] "
                "follow_links if links are wanted."
            ) from None
        raise unreadable(path, problem) from None
    with TimedFile(descriptor, deadline) as stream:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise UnreadableFile(
                f"{shown(path)}: not a regular file. Only files can be recordings: exclude it."
            )
        if facts.st_size == 0:
            raise EmptyAudio(
                f"{shown(path)}: the file is empty (0 bytes). The recorder wrote nothing: "
                "fetch it again or delete it."
            )
        if facts.st_size > settings.max_bytes:
            raise TooLong(
                f"{shown(path)}: {facts.st_size:,} bytes, more than the {settings.max_bytes:,} allowed. "
                "Raise [audio] max_bytes if such calls are real."
            )
        yield stream, facts.st_size


def unreadable(path: Path, problem: OSError) -> UnreadableFile:
    """The operating system's complaint as our error."""
    why = problem.strerror or type(problem).__name__
    return UnreadableFile(
        f"{shown(path)}: cannot be read ({why}). Check that it still exists and that this user may read it."
    )


def check_format(path: Path, rate_hz: int, n_channels: int) -> None:
    """Raise InvalidAudio for a rate or channel count that no telephone call has."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InvalidAudio(
            f"{shown(path)}: a sampling rate of {rate_hz} Hz; expected {MIN_RATE_HZ} to {MAX_RATE_HZ}. "
            "Its header is probably damaged: export it again."
        )
    if not 1 <= n_channels <= MAX_CHANNELS:
        raise InvalidAudio(
            f"{shown(path)}: {n_channels} channels; expected 1 (both voices mixed) or 2 (one voice each). "
            "Export it as mono or stereo."
        )


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
