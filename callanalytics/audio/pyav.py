"""Every other format through PyAV, which carries FFmpeg's libraries in its wheel.

Only the demuxers named here may look at a file and no protocol may be followed, so a playlist or a
text file posing as a recording cannot make FFmpeg open something else. Only sound is decoded (`codecs`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from callanalytics.audio.codecs import ALLOWED, DECODERS
from callanalytics.audio.source import BLOCK_FRAMES, Source, check_format, shown
from callanalytics.errors import InvalidAudio, NotAudio, TruncatedAudio
from callanalytics.records import FloatArray

DEMUXERS = "wav,w64,aiff,au,caf,flac,ogg,mp3,mov,asf,matroska,amr,aac"
# FFmpeg's own AMR decoders skip frames without data (DTX) and so lose time; opencore fills them.
_EXACT_DECODERS = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
_SCALES = {"u8": 1 / 128, "s16": 2.0**-15, "s32": 2.0**-31, "flt": 1.0, "dbl": 1.0}
MAGIC = (
    (0, b"OggS", "Ogg"),
    (0, b"fLaC", "FLAC"),
    (4, b"ftyp", "MP4"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (0, b"\x1a\x45\xdf\xa3", "WebM"),
    (0, b"FORM", "AIFF"),
    (0, b"RIFF", "WAV"),
    (0, b"ID3", "MP3"),
)

# FFmpeg's names of containers whose stated length it reports.
_STATE_LENGTH = frozenset(
    {"wav", "w64", "aiff", "au", "caf", "flac", "ogg", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
)

_OGG_PAGE_BYTES = 65_307  # the longest page
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 65_536


@contextmanager
def ffmpeg_source(
    path: Path, stream: BinaryIO, n_bytes: int, *, raw_format: str | None = None
) -> Iterator[Source]:
    """Open what FFmpeg knows; `raw_format` names the demuxer of a headerless file ("gsm", "g722").

    Raises:
        NotAudio: nothing that FFmpeg knows, or no sound in it.
        TruncatedAudio: a known format that is cut so that it cannot be opened.
        InvalidAudio: rate or channel count out of range.
    """
    import av

    av.logging.set_level(av.logging.PANIC)
    stream.seek(0)
    head = stream.read(64)
    stream.seek(0)
    options = {
        "format_whitelist": raw_format or DEMUXERS,
        "protocol_whitelist": "none",
        "codec_whitelist": ALLOWED,
    }
    try:
        container = av.open(
            _Quiet(stream), "r", format=raw_format, options=options, metadata_errors="replace"
        )
    except MemoryError:  # the file may be well
        raise
    except (av.error.FFmpegError, ValueError, OSError) as problem:
        raise _cannot_open(path, head, problem) from None
    with container:
        audio = next(iter(container.streams.audio), None)
        if audio is None:
            raise NotAudio(
                f"{shown(path)}: a {container.format.long_name} file with no sound in it. Exclude it."
            )
        context = audio.codec_context
        if context is None or context.codec.name not in DECODERS:
            raise NotAudio(
                f"{shown(path)}: a {container.format.long_name} file whose sound is in a codec that "
                "the decoders do not know. Export it in another format."
            )
        rate_hz, n_channels = int(context.sample_rate or 0), int(context.channels or 0)
        check_format(path, rate_hz, n_channels)
        hint_s = _length_s(container, audio)
        name = container.format.name
        yield Source(
            rate_hz=rate_hz,
            n_channels=n_channels,
            codec=str(context.codec.canonical_name),
            container=name.split(",")[0],
            declared_s=_declared_s(path, stream, n_bytes, name, hint_s),
            hint_s=hint_s,
            full_scale=0.999,
            blocks=_blocks(path, container, audio, rate_hz, n_channels),
        )


class _Quiet:
    """A file on which the impossible seeks of damaged headers fail without a traceback on the screen."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read, self.tell = stream.read, stream.tell
        self._stream = stream

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._stream.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1  # FFmpeg's sign of failure


def _cannot_open(path: Path, head: bytes, problem: Exception) -> NotAudio | TruncatedAudio:
    for at, magic, name in MAGIC:
        if head[at:].startswith(magic):
            return TruncatedAudio(
                f"{shown(path)}: begins as {name} but cannot be opened ({_words(problem)}). Its index or its "
                "end is missing: it was still being written or its copy was interrupted: fetch it again."
            )
    looks = "It looks like text." if is_text(head) else f"It begins with {head[:8].hex(' ')}."
    return NotAudio(
        f"{shown(path)}: no audio format that the decoders know. {looks} "
        "If it is a recording without a header, name its extension in [audio] headerless; else exclude it."
    )


def is_text(head: bytes) -> bool:
    """Whether the beginning of a file is plain ASCII text."""
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)


def _words(problem: Exception) -> str:
    """FFmpeg's complaint without its error number and our stream's repr."""
    return str(getattr(problem, "strerror", None) or type(problem).__name__)


def _length_s(container: Any, audio: Any) -> float | None:
    if audio.duration is not None and audio.time_base is not None:
        return float(audio.duration * audio.time_base)
    return container.duration / 1e6 if container.duration is not None else None


def _blocks(path: Path, container: Any, audio: Any, rate_hz: int, n_channels: int) -> Iterator[FloatArray]:
    """Decode packet by packet, handing on blocks of about BLOCK_FRAMES. Damaged packets are skipped:
    the length check then tells whether enough was lost to matter."""
    import av

    decoder: Any = audio.codec_context
    exact = _EXACT_DECODERS.get(decoder.codec.name)
    if exact is not None and exact in av.codecs_available:
        decoder = av.CodecContext.create(exact, "r")
        decoder.sample_rate, decoder.layout = rate_hz, "mono"
    pieces: list[Any] = []
    n_waiting, form = 0, ""
    for frame in _frames(path, container, audio, decoder):
        if frame.sample_rate != rate_hz or len(frame.layout.channels) != n_channels:
            raise InvalidAudio(
                f"{shown(path)}: changes from {rate_hz} Hz, {n_channels} channel(s) to "
                f"{frame.sample_rate} Hz, {len(frame.layout.channels)} in the "
                "middle. Two recordings were joined: split them."
            )
        form = frame.format.name
        pieces.append(frame.to_ndarray())
        n_waiting += frame.samples
        if n_waiting >= BLOCK_FRAMES:
            yield _as_float(pieces, form, n_channels)
            pieces, n_waiting = [], 0
    if pieces:
        yield _as_float(pieces, form, n_channels)


def _frames(path: Path, container: Any, audio: Any, decoder: Any) -> Iterator[Any]:
    import av

    n_good = 0
    problem: Exception | None = None
    try:
        for packet in container.demux(audio):
            try:
                frames = decoder.decode(packet if packet.size else None)
            except (av.error.InvalidDataError, av.error.PatchWelcomeError) as found:
                problem = found
                continue
            for frame in frames:
                n_good += 1
                yield frame
    except MemoryError:
        raise
    except av.error.FFmpegError as found:  # the demuxer itself stumbled: what came so far counts
        problem = found
    if n_good == 0 and problem is not None:
        raise NotAudio(
            f"{shown(path)}: its sound cannot be decoded ({_words(problem)}). Fetch it again, or exclude it."
        )


def _as_float(pieces: list[Any], form: str, n_channels: int) -> FloatArray:
    """Frames as PyAV gives them (planar or packed, any sample type) -> float32 (n, n_channels)."""
    joined = np.concatenate(pieces, axis=1)
    interleaved = joined.T if form.endswith("p") else joined.reshape(-1, n_channels)
    kind = form.removesuffix("p")
    with np.errstate(over="ignore", invalid="ignore"):
        samples = interleaved.astype(np.float32, order="C")
    if kind == "u8":
        samples -= np.float32(128)
    if _SCALES[kind] != 1.0:
        samples *= np.float32(_SCALES[kind])
    return samples


def _declared_s(
    path: Path, stream: BinaryIO, n_bytes: int, container: str, ffmpeg_s: float | None
) -> float | None:
    """Declared duration, None when the file declares none. The stream's position is kept.

    Most containers declare one and FFmpeg reports it (`ffmpeg_s`). An MP3 has it only in a Xing, Info or VBRI
    header (else FFmpeg guesses from the bit rate). Of a cut Ogg, FFmpeg reports what is left as if it were
    all, and of a cut ASF a guess, so these two are read here. Sources: RFC 3533 (Ogg pages), "Advanced
    Systems Format Specification" 3.2 (file properties object), the LAME tag's and Fraunhofer's header
    specifications.

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
