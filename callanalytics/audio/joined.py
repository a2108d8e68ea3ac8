"""Where a file holds several recordings, one behind the other, as `cat a.wav b.wav` leaves them.

FFmpeg's demuxers stop at the end of the first one, or take the second for more of it. So each recording is
decoded by itself, as a stretch of the file. MP3, AAC and AMR frames that go on without a new beginning are
one recording anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from callanalytics.audio.ogg import page_at
from callanalytics.audio.source import Stretch
from callanalytics.audio.wav import find_end, is_wav


class _Beginning(NamedTuple):
    """How a kind of file begins: the whole pattern, and the rare bytes in it by which to search."""

    rare: bytes
    n_before: int  # bytes from the beginning to the rare ones, at most
    whole: re.Pattern[bytes]


def _begins(rare: bytes, pattern: bytes, n_before: int = 0) -> _Beginning:
    return _Beginning(rare, n_before, re.compile(pattern, re.DOTALL))


# At least six fixed bytes each, which sound does not form by chance. Sources: RFC 3533 (an Ogg page that
# begins a stream), RFC 9639 (FLAC), RFC 4867 (AMR), RFC 8794 and 9559 (Matroska and its document types), the
# "Advanced Systems Format Specification", AIFF 1.3, Apple's CAF 1.0, Sony's Wave64, Sun's AU, WavPack 4,
# Creative's VOC, NIST's SPHERE, ISO 14496-12 (brands of MP4), and the Xing header as LAME writes it.
_BEGINNINGS = (
    _begins(b"WAVE", rb"(?:RIF[FX]|RF64|BW64).{4}WAVE", 8),
    _begins(b"OggS\0\x02", rb"OggS\x00\x02\x00{8}"),
    _begins(b"fLaC", rb"fLaC[\x00\x80]\x00\x00\x22"),
    _begins(b"#!AMR", rb"#!AMR(?:-WB)?\n"),
    _begins(b"\x1a\x45\xdf\xa3", rb"\x1a\x45\xdf\xa3.{1,60}?(?:webm|matroska)"),
    _begins(b"\x30\x26\xb2\x75\x8e\x66", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9"),
    _begins(b"FORM", rb"FORM.{4}AIF[FC]"),
    _begins(b"caff\0\x01", rb"caff\x00\x01\x00\x00desc"),
    _begins(b"riff\x2e\x91", rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"),
    _begins(b"wvpk", rb"wvpk.{4}[\x02-\x10]\x04.{6}\x00{4}"),
    _begins(b"Creative Voice", rb"Creative Voice File\x1a"),
    _begins(b"NIST_1A\n", rb"NIST_1A\n   1024\n"),
    _begins(b".snd\0\0\0", rb"\.snd\x00\x00\x00[\x18-\xff].{4}\x00\x00\x00[\x01-\x1b]\x00"),
    _begins(
        b"ftyp", rb"\x00\x00\x00[\x08-\xff]ftyp(?:iso.|mp4.|M4[ABV] |3g[p2].|qt  |dash|avc1|MSNV|f4v )", 4
    ),
    *(
        _begins(tag + b"\0\0\0", rb"\xff[\xe2-\xff]..(?:\x00{9}|\x00{17}|\x00{32})" + tag + rb"\x00{3}", 36)
        for tag in (b"Xing", b"Info")
    ),
)
_APE, _ID3V1_BYTES = b"APETAGEX", 128
_EBML, _CLUSTER = b"\x1a\x45\xdf\xa3", b"\x1f\x43\xb6\x75"
_REACH = 72  # bytes that a beginning may have
_SEARCH_BYTES = 1 << 20


def recordings_in(stream: BinaryIO, n_bytes: int) -> Iterator[Stretch]:
    """The recordings in a file in order, nearly always one.

    An ID3 tag before anything but MP3, which some recorders write there, belongs to none of them; nor do APE
    tags at either end: in a picture of a megabyte there are bytes that look like frames.
    """
    start = _tag_before(Stretch(stream, 0, n_bytes))
    n_bytes -= ape_bytes_behind(Stretch(stream, start, n_bytes))
    while start < n_bytes:
        rest = Stretch(stream, start, n_bytes)
        if is_wav(rest.at(0, 12)):
            end = start + _next_beginning(rest, find_end(rest), _BEGINNINGS)
        else:
            end = start + _next_beginning(rest, _after_beginning(rest), _likely_behind(rest))
        yield Stretch(stream, start, end)
        start = end


def _likely_behind(part: Stretch) -> tuple[_Beginning, ...]:
    """What to look for behind this recording: another of its kind, or a WAV.

    Every kind costs a search of the whole file. Other kinds are looked for in what cannot be decoded.
    """
    head = part.at(0, _REACH)
    same = tuple(kind for kind in _BEGINNINGS[1:] if kind.whole.match(head))
    return (_BEGINNINGS[0], *(same or _BEGINNINGS[-2:]))


def _next_beginning(part: Stretch, at: int, kinds: tuple[_Beginning, ...]) -> int:
    """Where a recording begins at `at` or later, or the end of the stretch."""
    while at < part.n_bytes:
        block = part.at(at, _SEARCH_BYTES + _REACH)
        found = [begin for kind in kinds if (begin := _find(kind, block)) is not None]
        if found:
            return at + min(found)
        at += _SEARCH_BYTES
    return part.n_bytes


def find_beginning(part: Stretch, start: int, end: int) -> int | None:
    """Where another recording than that of the stretch begins in these bytes."""
    start = max(start, _after_beginning(part))
    at = _next_beginning(Stretch(part.stream, part.start + start, part.start + end), 0, _BEGINNINGS)
    return start + at if start + at < end else None


def _find(kind: _Beginning, block: bytes) -> int | None:
    at = block.find(kind.rare)
    while at >= 0:
        found = kind.whole.search(block, max(0, at - kind.n_before), at + _REACH)
        if found:
            return found.start()
        at = block.find(kind.rare, at + 1)
    return None


def _after_beginning(part: Stretch) -> int:
    """Where to begin to look for another recording: behind the header.

    An Ogg file begins with a page for every track, and Matroska keeps the header of a FLAC track in its own.
    """
    if part.at(0, 4) == _EBML:
        return max(0, part.at(0, _SEARCH_BYTES).find(_CLUSTER)) + len(_EBML)
    at = 0
    while (page := page_at(part, at)) is not None and page.is_first:
        at += page.n_bytes
    return at or id3_bytes(part.at(0, 10)) + _REACH


def _tag_before(whole: Stretch) -> int:
    """Bytes of the ID3 tag before a container that has a beginning of its own, other than MP3's."""
    n_ape = _ape_bytes(whole.at(0, 32))
    size = n_ape or id3_bytes(whole.at(0, 10))
    head = whole.at(size, _REACH)
    is_framed = bool(n_ape) and head.startswith((b"ID3", b"\xff"))  # where the tag states its own end rightly
    return size if is_framed or any(kind.whole.match(head) for kind in _BEGINNINGS[:-2]) else 0


def ape_bytes_behind(part: Stretch) -> int:
    """Bytes of the APE tag at the end, with an ID3v1 tag behind it, which then is no sound either; else 0."""
    n_id3 = _ID3V1_BYTES if part.at(part.n_bytes - _ID3V1_BYTES, 3) == b"TAG" else 0
    foot = part.n_bytes - n_id3 - 32
    size = _ape_bytes(part.at(foot, 32))
    head = part.at(foot + 32 - size, 40) if 0 < size <= foot else b""
    # Its first item has two numbers before its name. A size that leads elsewhere would cut off sound.
    is_whole = head.startswith(_APE) or (head[8:10].isalnum() and head[8:10].isascii())
    return size + n_id3 if is_whole else 0


def _ape_bytes(end: bytes) -> int:
    """Size of the APE tag with these 32 bytes as its head or foot, 0 for what is none (APEv2, Hydrogenaudio).

    The size that they state is without the head; a flag says whether there is one.
    """
    if end[:8] != _APE or len(end) < 32:
        return 0
    size, flags = int.from_bytes(end[12:16], "little"), int.from_bytes(end[20:24], "little")
    return size + 32 * bool(flags >> 31)


def id3_bytes(head: bytes) -> int:
    """Size of the ID3v2 tag that begins with these 10 bytes, 0 for what is none (ID3v2.4.0, 3.1)."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = head[6:10]  # four times seven bits
    has_footer = bool(head[5] & 16)
    return 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]) + 10 * has_footer
