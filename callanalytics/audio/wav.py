"""WAV with PCM, float, mu-law or A-law samples: the common case, thousands of times faster than real time.

The header is parsed here for every WAV, so that its declared size can be compared with the bytes that
are there; libsndfile, which refuses damaged headers, only converts the samples. Other codecs inside a
WAV (GSM 6.10, ADPCM, MP3) are left to FFmpeg. Source of the layout: "Multimedia Programming Interface
and Data Specifications 1.0" (1991) and RFC 2361; RF64 is EBU Tech 3306.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from callanalytics.audio.source import BLOCK_FRAMES, Source, check_format, clock, shown
from callanalytics.config import AudioSettings
from callanalytics.errors import EmptyAudio, TruncatedAudio
from callanalytics.records import FloatArray


class SampleFormat(NamedTuple):
    """How plain samples lie in a file, and the amplitude from which one counts as clipped."""

    subtype: str  # libsndfile's name
    n_bytes: int
    full_scale: float = 0.999


# By FFmpeg's names of codecs. The loudest 8-bit G.711 codes decode to 32124 (mu-law) and 32256 (A-law).
SAMPLE_FORMATS = {
    "pcm_u8": SampleFormat("PCM_U8", 1, 0.99),
    "pcm_s16le": SampleFormat("PCM_16", 2),
    "pcm_s24le": SampleFormat("PCM_24", 3),
    "pcm_s32le": SampleFormat("PCM_32", 4),
    "pcm_f32le": SampleFormat("FLOAT", 4),
    "pcm_f64le": SampleFormat("DOUBLE", 8),
    "pcm_mulaw": SampleFormat("ULAW", 1, 32124 / 32768),
    "pcm_alaw": SampleFormat("ALAW", 1, 32256 / 32768),
}
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE  # format tags
_CODECS = {
    **{(_PCM, 8): "pcm_u8", (_PCM, 16): "pcm_s16le", (_PCM, 24): "pcm_s24le", (_PCM, 32): "pcm_s32le"},
    **{(_FLOAT, 32): "pcm_f32le", (_FLOAT, 64): "pcm_f64le"},
}
# Writers that stream into a pipe cannot go back to fill in the size and leave one of these.
STREAMED_SIZES = frozenset({0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000})
_MAX_CHUNKS = 1_000
_SURPLUS_PROBE_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class WavHeader:
    """The facts of a WAV header. `declared_bytes` is None when the writer did not know the size."""

    codec: str | None  # key of `SAMPLE_FORMATS`, None for what FFmpeg has to decode
    rate_hz: int
    n_channels: int
    bytes_per_s: int
    data_at: int
    declared_bytes: int | None
    found_bytes: int

    @property
    def n_bytes(self) -> int:
        """Bytes of sound that are declared and there."""
        return self.found_bytes if self.declared_bytes is None else min(self.declared_bytes, self.found_bytes)


def is_wav(head: bytes) -> bool:
    """Whether the first 12 bytes are those of a (little-endian) WAV or RF64 file."""
    return head[:4] in {b"RIFF", b"RF64", b"BW64"} and head[8:12] == b"WAVE"


def read_header(path: Path, stream: BinaryIO, n_bytes: int) -> WavHeader:
    """Walk the chunks up to the sound.

    Raises:
        TruncatedAudio: the file ends before its sound begins, or was never finished (0 s declared
            but sound follows).
        EmptyAudio: a complete file without samples.
        InvalidAudio: a rate or channel count out of range.
    """
    form = b""
    size64: int | None = None
    at = 12
    for _ in range(_MAX_CHUNKS):
        stream.seek(at)
        chunk = stream.read(8)
        if len(chunk) < 8:
            break
        name, size = chunk[:4], struct.unpack("<I", chunk[4:])[0]
        if name == b"data":
            return _checked_header(path, stream, form, at + 8, size64 or size, n_bytes - at - 8)
        if name == b"fmt ":
            form = stream.read(min(size, 64))
        elif name == b"ds64":
            table = stream.read(16)
            size64 = struct.unpack("<Q", table[8:16])[0] if len(table) == 16 else None
        at += 8 + size + size % 2
    raise TruncatedAudio(
        f"{shown(path)}: a WAV header without sound after it ({n_bytes:,} bytes in all). "
        "The recorder did not finish the file, or the copy was interrupted: fetch it again."
    )


def _checked_header(
    path: Path, stream: BinaryIO, form: bytes, data_at: int, size: int, n_there: int
) -> WavHeader:
    if len(form) < 16:
        raise TruncatedAudio(f"{shown(path)}: a WAV file without a format chunk. Fetch it again.")
    tag, n_channels, rate_hz, bytes_per_s, _, bits = struct.unpack("<HHIIHH", form[:16])
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack("<H", form[24:26])[0]
    check_format(path, rate_hz, n_channels)
    codec = {_ALAW: "pcm_alaw", _MULAW: "pcm_mulaw"}.get(tag) or _CODECS.get((tag, bits))
    if codec is not None:
        bytes_per_s = SAMPLE_FORMATS[codec].n_bytes * n_channels * rate_hz
    if n_there == 0:
        raise EmptyAudio(
            f"{shown(path)}: a WAV header and not one sample. Nothing was recorded: fetch it again."
        )
    declared = None if size in STREAMED_SIZES else size
    if declared == 0:
        _refuse_zero_length(path, stream, data_at, n_there, bytes_per_s)
    return WavHeader(codec, rate_hz, n_channels, bytes_per_s, data_at, declared, n_there)


def _refuse_zero_length(path: Path, stream: BinaryIO, at: int, n_there: int, bytes_per_s: int) -> None:
    stream.seek(at)
    following = stream.read(8)
    if len(following) == 8 and following[:4].isalnum() and following[:4].isascii():
        size = struct.unpack("<I", following[4:])[0]
        if 8 + size + size % 2 == n_there:  # only notes after an empty data chunk
            raise EmptyAudio(f"{shown(path)}: a complete WAV file with no samples. Nothing was recorded.")
    raise TruncatedAudio(
        f"{shown(path)}: its header says 0 s of sound, but {n_there:,} bytes follow"
        f"{f' (about {clock(n_there / bytes_per_s)})' if bytes_per_s else ''}. The recorder crashed or was "
        "still writing: let it finish, or repair the header and put the file back."
    )


def check_declared_size(path: Path, stream: BinaryIO, header: WavHeader, settings: AudioSettings) -> None:
    """Raise TruncatedAudio when the header and the bytes that are there disagree."""
    if header.declared_bytes is None or header.bytes_per_s <= 0:
        return
    declared_s = header.declared_bytes / header.bytes_per_s
    found_s = header.found_bytes / header.bytes_per_s
    slack_s = tolerance_s(declared_s, settings)
    if declared_s - found_s > slack_s:
        raise truncated(path, declared_s, found_s)
    if found_s - declared_s > slack_s:
        stream.seek(header.data_at + header.declared_bytes + header.declared_bytes % 2)
        if _is_sound(stream.read(_SURPLUS_PROBE_BYTES)):
            raise truncated(path, declared_s, found_s)


def _is_sound(surplus: bytes) -> bool:
    """Whether what follows the samples is more of them: neither notes in a chunk, nor unused zeros."""
    is_chunk = surplus[:4].isascii() and surplus[:4].decode("latin-1").isprintable()
    return not is_chunk and any(surplus)


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


def wav_source(stream: BinaryIO, header: WavHeader) -> Source:
    """The samples of a WAV file whose `codec` is not None."""
    assert header.codec is not None  # noqa: S101 - the caller has looked
    return raw_source(
        stream, header.codec, "wav", header.rate_hz, header.n_channels, header.data_at, header.n_bytes
    )


def raw_source(
    stream: BinaryIO, codec: str, container: str, rate_hz: int, n_channels: int, at: int, n_bytes: int
) -> Source:
    """`n_bytes` of plain samples from offset `at`; `codec` is a key of `SAMPLE_FORMATS`."""
    sample = SAMPLE_FORMATS[codec]
    frame_bytes = sample.n_bytes * n_channels
    n_frames = n_bytes // frame_bytes

    def blocks() -> Iterator[FloatArray]:
        import soundfile

        stream.seek(at)
        left = n_frames
        while left > 0:
            raw = stream.read(min(left, BLOCK_FRAMES) * frame_bytes)
            whole = len(raw) // frame_bytes
            if whole == 0:
                return  # shrank while being read; the length check says so
            left -= whole
            # Block by block: libsndfile's own reading through Python streams is slower.
            yield soundfile.read(
                io.BytesIO(raw[: whole * frame_bytes]),
                format="RAW",
                subtype=sample.subtype,
                endian="LITTLE",
                samplerate=rate_hz,
                channels=n_channels,
                dtype="float32",
                always_2d=True,
            )[0]

    length_s = n_frames / rate_hz
    return Source(rate_hz, n_channels, codec, container, length_s, length_s, sample.full_scale, blocks())
