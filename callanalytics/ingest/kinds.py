"""Which files are recordings, by extension or by the first bytes; what is passed over, by reason and kind.

Sources of the first bytes: the specifications that `audio/wav.py` and `audio/pyav.py` name; ISO/IEC 11172-3
(MPEG audio frames) and ISO/IEC 13818-7 (ADTS frames).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

from callanalytics.audio.pyav import DEMUXERS, MAGIC, is_text
from callanalytics.config import DiscoverySettings
from callanalytics.records.text import display_text

# Pattern of `include` that looks into files whose names say nothing.
BY_CONTENT = "*"
# Extensions by the demuxer of FFmpeg that reads them; of one that the decoders do not use they say nothing.
_EXTENSIONS = {
    "wav": "wav wave wav49 bwf rf64",
    "w64": "w64",
    "aiff": "aif aiff aifc",
    "au": "au snd",
    "caf": "caf",
    "flac": "flac",
    "ogg": "ogg oga opus spx",
    "mp3": "mp3 mp2 mpga",
    "mov": "m4a mp4 m4b mov 3gp 3g2",
    "asf": "wma asf",
    "matroska": "webm weba mka mkv",
    "amr": "amr awb",
    "aac": "aac",
    "ac3": "ac3",
    "eac3": "eac3",
    "voc": "voc",
    "nistsphere": "sph nist",
    "wv": "wv",
}
# What lies beside recordings and is none: data about them, texts, pictures.
_BESIDE = {
    *(
        "json",
        "jsonl",
        "ndjson",
        "csv",
        "tsv",
        "xml",
        "txt",
        "log",
        "md",
        "html",
        "htm",
        "yaml",
        "yml",
        "toml",
    ),
    *("ini", "cfg", "conf", "db", "sqlite", "md5", "sha1", "sha256", "srt", "vtt", "rttm", "textgrid", "eaf"),
    *("jpg", "jpeg", "png", "gif", "webp", "svg", "bmp", "ico", "tif", "tiff", "heic"),
    *("pdf", "doc", "docx", "xls", "xlsx", "odt", "ods", "ppt", "pptx", "rtf"),
}
_HEAD_BYTES = 4_096  # holds two frames of MPEG audio
_PICTURES = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_MORE_MAGIC = (
    (0, b"RF64"),
    (0, b"BW64"),
    (0, b"RIFX"),
    (0, b"riff\x2e\x91\xcf\x11"),
    (0, b".snd"),
    (0, b"caff"),
)
# MPEG audio: kbit/s by (whether it is version 1, layer) and the index in the header; Hz by version and index.
_LOW_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBITS = {
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (False, 3): _LOW_KBITS,
    (False, 2): _LOW_KBITS,
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


class Kind(Enum):
    """What is done with a file. The values of what is passed over are its reasons."""

    RECORDING = "recording"
    BESIDE = "beside"  # passed over without a word
    UNKNOWN = "unknown"  # until its content is seen
    IGNORED = "ignored"
    NOT_INCLUDED = "not_included"
    EXCLUDED = "excluded"


class Kinds:
    """The settings' choice of files."""

    def __init__(self, settings: DiscoverySettings, headerless: Collection[str]) -> None:
        """`headerless` are the extensions whose files `[audio] headerless` describes."""
        named = [pattern for pattern in settings.include if pattern != BY_CONTENT]
        # Case counts in what to leave out (".*" has none), not in extensions: recorders write .WAV too.
        self._included = _matcher(named, re.IGNORECASE)
        self._excluded = _matcher(settings.exclude)
        self._by_content = BY_CONTENT in settings.include
        demuxers = DEMUXERS.split(",")
        known = (names for demuxer, names in _EXTENSIONS.items() if demuxer in demuxers)
        self._recordings = {*headerless, *" ".join(known).split()}

    def excluded(self, name: str) -> bool:
        """Whether a file or folder is left out by its name."""
        return self._excluded(name) is not None

    def of(self, name: str) -> Kind:
        """What a file that is not excluded is by its name."""
        if self._included(name) is not None:
            return Kind.RECORDING
        stem, _, extension = name.rpartition(".")
        extension = extension.lower() if stem else ""
        if extension in _BESIDE:
            return Kind.BESIDE
        if not self._by_content:
            return Kind.NOT_INCLUDED
        return Kind.RECORDING if extension in self._recordings else Kind.UNKNOWN


def kind_by_content(path: str) -> Kind:
    """What a file is by its first bytes. Text is no recording, whatever it is called."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would keep us waiting
        try:
            head = os.read(descriptor, _HEAD_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return Kind.IGNORED
    if holds_sound(head):
        return Kind.RECORDING
    return Kind.BESIDE if head and is_text(head) else Kind.IGNORED


def holds_sound(head: bytes) -> bool:
    """Whether a file begins as one that the decoders know."""
    form = head[8:12]
    if head[:4] == b"RIFF":
        return form == b"WAVE"  # else a film or a picture
    if head[:4] == b"FORM":
        return form in (b"AIFF", b"AIFC")
    if head[4:8] == b"ftyp":
        return form not in _PICTURES
    known = ((at, magic) for at, magic, _ in MAGIC)
    return any(head.startswith(magic, at) for at, magic in (*known, *_MORE_MAGIC)) or _is_framed(head)


def _is_framed(head: bytes) -> bool:
    """Whether two frames of MPEG audio or AAC follow each other: one sync word also occurs by chance."""
    for frame_bytes in (_mpeg_frame_bytes, _adts_frame_bytes):
        size = frame_bytes(head)
        if size and frame_bytes(head[size : size + 6]):
            return True
    return False


def _mpeg_frame_bytes(header: bytes) -> int:
    """Length of the MPEG audio frame that begins here, 0 where none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return 0
    bits_s = 1000 * _KBITS[version == 3, layer][bitrate]
    rate_hz, padding = _RATES_HZ[version][rate], header[2] >> 1 & 1
    if layer == 1:
        return (12 * bits_s // rate_hz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits_s // rate_hz + padding


def _adts_frame_bytes(header: bytes) -> int:
    """Length of the ADTS frame that begins here, 0 where none does."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > 7 else 0


def _matcher(patterns: Collection[str], flags: int = 0) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(map(translate, patterns)) or r"(?!)", flags).match


MAX_KINDS = 50  # of one reason: names may end in anything
OTHER_KINDS = "others"
_MAX_KIND_CHARS = 12  # a longer ending is no kind of file


class SkipCount(NamedTuple):
    """How many files of one kind were passed over for one reason, and the times of the first and the last."""

    reason: str  # closed word: settling, outside_window, ignored, not_included, excluded, duplicate, ...
    kind: str  # extension with its dot, empty where there is none or it does not matter
    n_files: int
    earliest_at: datetime | None
    latest_at: datetime | None

    def to_json(self) -> dict[str, object]:
        """Plain values; times in ISO format."""
        return {
            key: value.isoformat() if isinstance(value, datetime) else value
            for key, value in self._asdict().items()
        }


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that a search passes over: still settling, outside the window, a duplicate, ..."""

    path: Path
    reason: str
    detail: str = ""


@dataclass(slots=True)
class Skipped:
    """Counts of one search. Files are listed only with `named`: a folder may hold those of many years."""

    named: bool
    files: list[SkippedFile] = field(default_factory=list)
    _counts: dict[tuple[str, str], SkipCount] = field(default_factory=dict)
    _n_kinds: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        path: Path,
        reason: str,
        detail: str = "",
        *,
        kind: str = "",
        at: datetime | None = None,
        n: int = 1,
    ) -> None:
        """Note a file, or `n` things in it; `at` is the time that explains the reason."""
        known = self._counts.get((reason, kind))
        if known is None:
            n_kinds = self._n_kinds[reason] = self._n_kinds.get(reason, 0) + 1
            if n_kinds > MAX_KINDS:
                kind = OTHER_KINDS
            known = self._counts.get((reason, kind), SkipCount(reason, kind, 0, at, at))
        earliest_at, latest_at = known.earliest_at, known.latest_at
        if at is not None:
            earliest_at = at if earliest_at is None else min(earliest_at, at)
            latest_at = at if latest_at is None else max(latest_at, at)
        self._counts[reason, kind] = SkipCount(reason, kind, known.n_files + n, earliest_at, latest_at)
        if self.named:
            self.files.append(SkippedFile(path, reason, detail))

    @property
    def counts(self) -> tuple[SkipCount, ...]:
        """By reason, the most frequent kinds first."""
        return tuple(
            sorted(self._counts.values(), key=lambda count: (count.reason, -count.n_files, count.kind))
        )


def kind_of(name: str) -> str:
    """The extension of a name, for people: ``.mka``; empty where there is none."""
    stem, dot, ending = name.rpartition(".")
    if not stem or not dot or not ending or len(ending) > _MAX_KIND_CHARS:
        return ""
    return display_text(f".{ending.lower()}")
