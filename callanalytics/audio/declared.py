"""The length that a container states, read from its header where FFmpeg gives a guess as well.

FFmpeg computes a length from the bit rate where none is stated, and does not say so. A guess binds nobody:
only what is written in a header may send a recording to quarantine.
"""

from __future__ import annotations

import struct
from pathlib import Path

from callanalytics.audio.joined import id3_bytes
from callanalytics.audio.source import Stretch, shown
from callanalytics.errors import TruncatedAudio

# FFmpeg's names of containers whose header always states the length that it reports.
_STATE_LENGTH = frozenset({"w64", "aiff", "ogg", "nistsphere"})
MATROSKA = "matroska,webm"
_UNKNOWN_64 = 0xFFFFFFFFFFFFFFFF
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_PROBE_BYTES = 65_536  # more than the longest Ogg page
_TAG_BYTES = 2_048  # that may follow the frames that an MP3's header counts
_MAX_BOXES = 100_000
# Matroska's elements (RFC 9559): those that hold others on the way to the duration, and the last two.
_SEGMENT, _INFO, _CLUSTER, _SCALE, _DURATION = 0x18538067, 0x1549A966, 0x1F43B675, 0x2AD7B1, 0x4489


def declared_length_s(
    path: Path, part: Stretch, container: str, ffmpeg_s: float | None, *, is_alone: bool
) -> float | None:
    """Seconds that the container states, None when it states none. The stream's position is kept.

    Args:
        container: FFmpeg's name of it.
        ffmpeg_s: the length that FFmpeg reports.
        is_alone: there are no tracks beside this one, which may be longer.

    Raises:
        TruncatedAudio: a file that ends within what its structure says.
    """
    here = part.tell()
    try:
        _check_end(path, part, _stated_end(part, container))
        match container:
            case "ogg":
                _check_last_page(path, part)
                return ffmpeg_s
            case "mp3":
                return _mp3_s(part)
            case "flac":
                return _flac_s(part)
            case "asf":
                return _asf_s(path, part, is_alone=is_alone)
            case "matroska,webm":
                stated_s = _matroska_s(path, part)
                return stated_s if is_alone else None
            case "wv":
                return None if part.at(12, 4) == b"\xff" * 4 else ffmpeg_s
            case "voc":
                _check_voc(path, part)
            case "mov,mp4,m4a,3gp,3g2,mj2":
                is_fragmented = _check_boxes(path, part)
                return None if is_fragmented else ffmpeg_s
            case "au":
                return None if part.at(8, 4) == b"\xff" * 4 else ffmpeg_s
            case "caf":
                return None if _has_open_data(part) else ffmpeg_s
        return ffmpeg_s if container in _STATE_LENGTH else None
    finally:
        part.seek(here)


def _stated_end(part: Stretch, container: str) -> int:
    """Where the header of some containers says that the file ends, 0 where it does not say."""
    head = part.at(0, 24)
    match container:
        case "aiff":
            return 8 + int.from_bytes(head[4:8], "big")
        case "au" if head[8:12] != b"\xff" * 4:
            return int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big")
        case "w64":
            return int.from_bytes(head[16:24], "little")
    return 0


def _check_end(path: Path, part: Stretch, end: int) -> None:
    """Raise TruncatedAudio for bytes behind the end that are neither zeros nor a tag."""
    n_behind = part.n_bytes - end
    rest = part.at(end, _PROBE_BYTES) if end > 0 and n_behind > _TAG_BYTES else b""
    is_tag = rest.startswith(b"APETAGEX") or n_behind - id3_bytes(rest[:10]) <= _TAG_BYTES
    if any(rest) and not is_tag:
        raise TruncatedAudio(
            f"{shown(path)}: {n_behind:,} bytes follow its end. It is damaged, or two recordings of "
            "different kinds were joined: fetch it again, or split it."
        )


def _mp3_s(part: Stretch) -> float | None:
    """Length by the Xing, Info or VBRI header (LAME's and Fraunhofer's specifications), if it counts frames
    and no more sound than its bytes follows."""
    start = id3_bytes(part.at(0, 10))
    frame = part.at(start, 2_048)
    at = max(frame.find(tag) for tag in (b"Xing", b"Info", b"VBRI"))
    if at < 0 or len(frame) < at + 26:
        return None
    if frame[at : at + 4] == b"VBRI":
        n_bytes, n_frames = struct.unpack(">II", frame[at + 10 : at + 18])
        begin = at - 36
    else:
        flags, first, second = struct.unpack(">III", frame[at + 4 : at + 16])
        n_frames = first if flags & 1 else 0
        n_bytes = (second if flags & 1 else first) if flags & 2 else 0
        begin = next((at - n for n in (36, 21, 13) if frame[max(0, at - n)] == 255 and at >= n), -1)
    if n_frames == 0 or begin < 0:
        return None
    n_there = part.n_bytes - start
    if n_bytes and n_there - n_bytes > max(_TAG_BYTES, n_bytes // 50):
        return None  # frames were joined that it does not count
    version, rate_index = frame[begin + 1] >> 3 & 3, frame[begin + 2] >> 2 & 3
    if version == 1 or rate_index == 3:
        return None
    rate_hz = (44_100, 48_000, 32_000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    return float(n_frames * (1152 if version == 3 else 576) / rate_hz)


def _flac_s(part: Stretch) -> float | None:
    """Length by STREAMINFO (RFC 9639, 8.2), where 0 samples mean that the writer did not know."""
    start = id3_bytes(part.at(0, 10))
    head = part.at(start, 26)
    if head[:4] != b"fLaC" or len(head) < 26:
        return None
    packed = int.from_bytes(head[18:26], "big")  # 20 bits of rate, 3 of channels, 5 of bits, 36 of samples
    rate_hz, n_samples = packed >> 44, packed & (1 << 36) - 1
    return n_samples / rate_hz if rate_hz and n_samples else None


def largest_frame(part: Stretch) -> int:
    """Bytes of the largest frame of a FLAC by STREAMINFO, 0 where it does not say. Keeps the position."""
    here = part.tell()
    size = part.at(id3_bytes(part.at(0, 10)) + 15, 3)
    part.seek(here)
    return int.from_bytes(size, "big")


def _matroska_s(path: Path, part: Stretch) -> float | None:
    """The Duration element in Segment/Info; live recordings have none.

    Raises:
        TruncatedAudio: the file ends before its Segment does.
    """
    scale_ns, duration = 1_000_000, 0.0
    at, end = 0, min(part.n_bytes, 1 << 20)
    while at < end:
        head = part.at(at, 12)
        found = _element(head)
        if found is None:
            break
        name, n_head, size = found
        content = part.at(at + n_head, 8)[: size or 0] if size is not None and size <= 8 else b""
        if name == _CLUSTER:
            break
        if name == _SEGMENT and size is not None:
            _check_end(path, part, at + n_head + size)
            if at + n_head + size > part.n_bytes:
                raise _cut(path, "segment")
        if name == _SCALE:
            scale_ns = int.from_bytes(content, "big")
        elif name == _DURATION and len(content) in {4, 8}:
            duration = struct.unpack(">f" if len(content) == 4 else ">d", content)[0]
        at += n_head if name in {_SEGMENT, _INFO} or size is None else n_head + size
    length_s = duration * scale_ns / 1e9
    return float(length_s) if 0 < length_s < float("inf") else None


def _element(head: bytes) -> tuple[int, int, int | None] | None:
    """Id, bytes of the head, and size of the content (None: unknown) of an EBML element (RFC 8794)."""
    if not head or head[0] < 16:
        return None
    n_id = 9 - head[0].bit_length()
    if len(head) <= n_id or head[n_id] == 0:
        return None
    n_size = 9 - head[n_id].bit_length()
    size = int.from_bytes(head[n_id : n_id + n_size], "big") & (1 << 7 * n_size) - 1
    is_unknown = size == (1 << 7 * n_size) - 1
    return int.from_bytes(head[:n_id], "big"), n_id + n_size, None if is_unknown else size


def _check_boxes(path: Path, part: Stretch) -> bool:
    """Walk the boxes of an MP4 (ISO 14496-12, 4.2); True when it comes in fragments, which state no length
    of the whole."""
    at, is_fragmented = 0, False
    for _ in range(_MAX_BOXES):
        head = part.at(at, 16)
        if len(head) < 8:
            break
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        is_fragmented |= head[4:8] == b"moof"
        if size == 0:
            break  # up to the end
        if size < 8 or not all(32 <= byte < 127 or byte == 169 for byte in head[4:8]):
            _check_end(path, part, at)
            break
        if at + size > part.n_bytes and is_fragmented:
            raise _cut(path, "last fragment")
        at += size
    return is_fragmented


def _has_open_data(part: Stretch) -> bool:
    """Whether the size of a CAF's data chunk was never filled in (Apple Core Audio Format 1.0)."""
    at = 8
    while len(head := part.at(at, 12)) == 12:
        size = int.from_bytes(head[4:], "big")
        if head[:4] == b"data" or size >= part.n_bytes:
            return head[:4] == b"data" and size == _UNKNOWN_64
        at += 12 + size
    return False


def _check_last_page(path: Path, part: Stretch) -> None:
    start = max(0, part.n_bytes - _PROBE_BYTES)
    tail = part.at(start, _PROBE_BYTES)
    at = tail.rfind(b"OggS\0")
    page = tail[at:] if at >= 0 else b""
    n_segments = page[26] if len(page) > 26 else 255
    if len(page) >= 27 + n_segments + sum(page[27 : 27 + n_segments]):
        return
    raise _cut(path, "last Ogg page")


def _check_voc(path: Path, part: Stretch) -> None:
    """Walk the blocks of a Creative Voice File: a byte for its type, three for its size, 0 at the end."""
    at = int.from_bytes(part.at(20, 2), "little")
    for _ in range(_MAX_BOXES):
        head = part.at(at, 4)
        if len(head) < 4 or head[0] == 0:
            return
        at += 4 + int.from_bytes(head[1:], "little")
        if at > part.n_bytes:
            raise _cut(path, "last block")


def _cut(path: Path, what: str) -> TruncatedAudio:
    return TruncatedAudio(
        f"{shown(path)}: its {what} is cut off. It was still being written or its copy was interrupted: "
        "fetch it again."
    )


def _asf_s(path: Path, part: Stretch, *, is_alone: bool) -> float | None:
    """Length by the file properties object ("Advanced Systems Format Specification" 3.2)."""
    header = part.at(0, _PROBE_BYTES)
    at = header.find(_ASF_PROPERTIES)
    fields = header[at + 64 : at + 92] if at >= 0 else b""
    if len(fields) < 28:
        return None
    n_stated = int.from_bytes(header[at + 40 : at + 48], "little")
    _check_end(path, part, n_stated)
    if not is_alone:  # the length is that of the longest track
        if n_stated > part.n_bytes:
            raise _cut(path, "end")
        return None
    play_100ns, _, preroll_ms, flags = struct.unpack("<QQQI", fields)
    is_live = bool(flags & 1)  # a stream being broadcast knows no length
    length_s = play_100ns / 1e7 - preroll_ms / 1e3
    return None if is_live or length_s <= 0 else float(length_s)
