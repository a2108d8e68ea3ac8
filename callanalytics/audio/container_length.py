"""Declared durations that FFmpeg does not pass on: of MP3, Ogg and ASF (WMA) files.

Most containers state a length and FFmpeg reports it. An MP3 states one only in a Xing, Info or VBRI header
(else FFmpeg guesses from the bit rate). Of a cut Ogg, FFmpeg reports what is left as if it were all, and of
a cut ASF a guess; so these two are read here. Sources: RFC 3533 (Ogg pages), "Advanced Systems Format
Specification" 3.2 (file properties object), the LAME tag's and Fraunhofer's header specifications.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from callanalytics.audio.source import shown
from callanalytics.errors import TruncatedAudio

# FFmpeg's names of containers whose stated length it reports.
_STATE_LENGTH = frozenset(
    {"wav", "w64", "aiff", "au", "caf", "flac", "ogg", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
)
_OGG_PAGE_BYTES = 65_307  # the longest page
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 65_536


def declared_s(
    path: Path, stream: BinaryIO, n_bytes: int, container: str, ffmpeg_s: float | None
) -> float | None:
    """The length in seconds that the file states, None when it states none.

    `container` and `ffmpeg_s` are FFmpeg's name and length. The stream's position is kept.

    Raises:
        TruncatedAudio: an Ogg whose last page is cut.
    """
    here = stream.tell()
    try:
        if container == "ogg":
            _check_last_page(path, stream, n_bytes)
        if container == "asf":
            return _asf_s(stream)
        if container == "mp3":
            return ffmpeg_s if _has_frame_count(stream) else None
        return ffmpeg_s if container in _STATE_LENGTH else None
    finally:
        stream.seek(here)


def _has_frame_count(stream: BinaryIO) -> bool:
    """Whether an MP3 carries a Xing, Info or VBRI header in its first frame, after an ID3 tag."""
    stream.seek(0)
    head = stream.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        size = head[6:10]  # four times seven bits
        start = 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    stream.seek(start)
    first_frame = stream.read(2048)
    return any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))


def _check_last_page(path: Path, stream: BinaryIO, n_bytes: int) -> None:
    stream.seek(max(0, n_bytes - _OGG_PAGE_BYTES))
    tail = stream.read(_OGG_PAGE_BYTES)
    at = tail.rfind(b"OggS\0")
    page = tail[at:] if at >= 0 else b""
    n_segments = page[26] if len(page) > 26 else 255
    if len(page) >= 27 + n_segments + sum(page[27 : 27 + n_segments]):
        return
    raise TruncatedAudio(
        f"{shown(path)}: its last Ogg page is cut off. It was still being written or its copy was "
        "interrupted: fetch it again."
    )


def _asf_s(stream: BinaryIO) -> float | None:
    stream.seek(0)
    header = stream.read(_ASF_HEADER_BYTES)
    at = header.find(_ASF_PROPERTIES)
    fields = header[at + 64 : at + 92] if at >= 0 else b""
    if len(fields) < 28:
        return None
    play_100ns, _, preroll_ms, flags = struct.unpack("<QQQI", fields)
    is_live = bool(flags & 1)  # a stream being broadcast knows no length
    length_s = play_100ns / 1e7 - preroll_ms / 1e3
    return None if is_live or length_s <= 0 else float(length_s)
