"""WAV with PCM, float, mu-law or A-law samples, read with numpy: the common case, thousands x real time.

The header is parsed here for every WAV, so that its promise can be compared with the bytes that are
there; other codecs inside a WAV (GSM 6.10, ADPCM, MP3) are left to FFmpeg. Source of the layout:
"Multimedia Programming Interface and Data Specifications 1.0" (1991) and RFC 2361; RF64 is EBU Tech 3306.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from callanalytics.audio.source import BLOCK_FRAMES, Source, check_format, clock, shown
from callanalytics.config import AudioSettings
from callanalytics.errors import EmptyAudio, TruncatedAudio

if TYPE_CHECKING:
    from callanalytics.records import FloatArray

PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# Writers that stream into a pipe cannot go back to fill in the size and leave one of these.
STREAMED_SIZES = frozenset({0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000})
_MAX_CHUNKS = 1_000
_SURPLUS_PROBE_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class WavHeader:
    """The facts of a WAV header. `promised_bytes` is None when the writer did not know the size."""

    tag: int
    rate_hz: int
    n_channels: int
    bytes_per_s: int
    bits: int
    data_at: int
    promised_bytes: int | None
    found_bytes: int

    @property
    def n_bytes(self) -> int:
        """Bytes of sound that are promised and there."""
        if self.promised_bytes is None:
            return self.found_bytes
        return min(self.promised_bytes, self.found_bytes)


def is_wav(head: bytes) -> bool:
    """Whether the first 12 bytes are those of a (little-endian) WAV or RF64 file."""
    return head[:4] in {b"RIFF", b"RF64", b"BW64"} and head[8:12] == b"WAVE"


def read_header(path: Path, stream: BinaryIO, n_bytes: int) -> WavHeader:
    """Walk the chunks up to the sound.

    Raises:
        TruncatedAudio: the file ends before its sound begins, or was never finished (0 s promised
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
    if tag == EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack("<H", form[24:26])[0]
    check_format(path, rate_hz, n_channels)
    sample_bytes = _sample_bytes(tag, bits)
    if sample_bytes:
        bytes_per_s = sample_bytes * n_channels * rate_hz
    if n_there == 0:
        raise EmptyAudio(
            f"{shown(path)}: a WAV header and not one sample. Nothing was recorded: fetch it again."
        )
    promised = None if size in STREAMED_SIZES else size
    if promised == 0:
        _refuse_zero_length(path, stream, data_at, n_there, bytes_per_s)
    return WavHeader(tag, rate_hz, n_channels, bytes_per_s, bits, data_at, promised, n_there)


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


def check_promise(path: Path, stream: BinaryIO, header: WavHeader, settings: AudioSettings) -> None:
    """Raise TruncatedAudio when the header and the bytes that are there disagree."""
    if header.promised_bytes is None or header.bytes_per_s <= 0:
        return
    promised_s = header.promised_bytes / header.bytes_per_s
    found_s = header.found_bytes / header.bytes_per_s
    slack_s = tolerance_s(promised_s, settings)
    if promised_s - found_s > slack_s:
        raise truncated(path, promised_s, found_s)
    if found_s - promised_s > slack_s:
        stream.seek(header.data_at + header.promised_bytes + header.promised_bytes % 2)
        if _is_sound(stream.read(_SURPLUS_PROBE_BYTES)):
            raise truncated(path, promised_s, found_s)


def _is_sound(surplus: bytes) -> bool:
    """Whether what follows the samples is more of them: neither notes in a chunk, nor unused zeros."""
    is_chunk = surplus[:4].isascii() and surplus[:4].decode("latin-1").isprintable()
    return not is_chunk and any(surplus)


def tolerance_s(promised_s: float, settings: AudioSettings) -> float:
    """Seconds by which found and promised length may differ."""
    return max(settings.length_tolerance_s, settings.length_tolerance_share * promised_s)


def truncated(path: Path, promised_s: float, found_s: float) -> TruncatedAudio:
    """The error for a file whose sound is shorter or longer than it says."""
    if found_s < promised_s:
        advice = "It was still being written or its copy was interrupted: fetch it again."
    else:
        advice = "Its header was not brought up to date after more was recorded: export it again."
    return TruncatedAudio(
        f"{shown(path)}: its header promises {clock(promised_s)} of sound, "
        f"but {clock(found_s)} are there. {advice}"
    )


def _sample_bytes(tag: int, bits: int) -> int:
    """Bytes per sample of what this module decodes; 0 for other codecs."""
    if tag in {ALAW, MULAW}:
        return 1
    if tag == PCM and bits in {8, 16, 24, 32}:
        return bits // 8
    if tag == FLOAT and bits in {32, 64}:
        return bits // 8
    return 0


def is_plain(header: WavHeader) -> bool:
    """Whether this module can decode the samples."""
    return _sample_bytes(header.tag, header.bits) > 0


def wav_source(stream: BinaryIO, header: WavHeader) -> Source:
    """The samples of a plain WAV file."""
    codec = {
        PCM: f"pcm_s{header.bits}le",
        FLOAT: f"pcm_f{header.bits}le",
        ALAW: "pcm_alaw",
        MULAW: "pcm_mulaw",
    }
    name = "pcm_u8" if (header.tag, header.bits) == (PCM, 8) else codec[header.tag]
    return raw_source(stream, name, "wav", header.rate_hz, header.n_channels, header.data_at, header.n_bytes)


def raw_source(
    stream: BinaryIO, codec: str, container: str, rate_hz: int, n_channels: int, at: int, n_bytes: int
) -> Source:
    """`n_bytes` of plain samples from offset `at`; `codec` as FFmpeg names it (see `SAMPLE_FORMATS`)."""
    dtype, to_float, full_scale = SAMPLE_FORMATS[codec]
    frame_bytes = np.dtype(dtype).itemsize * (3 if codec == "pcm_s24le" else 1) * n_channels
    n_frames = n_bytes // frame_bytes

    def blocks() -> Iterator[FloatArray]:
        stream.seek(at)
        left = n_frames
        while left > 0:
            raw = stream.read(min(left, BLOCK_FRAMES) * frame_bytes)
            whole = len(raw) // frame_bytes
            if whole == 0:
                return  # shrank while being read; the length check says so
            left -= whole
            yield to_float(np.frombuffer(raw[: whole * frame_bytes], dtype)).reshape(-1, n_channels)

    length_s = n_frames / rate_hz
    return Source(rate_hz, n_channels, codec, container, length_s, length_s, full_scale, blocks())


_Array = npt.NDArray[np.generic]


def _scaled(scale: float, offset: float = 0.0) -> Callable[[_Array], FloatArray]:
    def convert(raw: _Array) -> FloatArray:
        return (raw.astype(np.float32) - np.float32(offset)) * np.float32(scale)

    return convert


def _from_s24(raw: _Array) -> FloatArray:
    wide = np.zeros((raw.size // 3, 4), dtype=np.uint8)
    wide[:, 1:] = raw.reshape(-1, 3)
    return wide.view("<i4")[:, 0].astype(np.float32) * np.float32(2.0**-31)


def _from_float(raw: _Array) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinite are refused with a message later
        return raw.astype(np.float32)


def _companded(table: FloatArray) -> Callable[[_Array], FloatArray]:
    return lambda raw: table[raw]


def _mulaw_table() -> FloatArray:
    """ITU-T G.711 mu-law, 8 bits -> -1..1 (full scale is 32124 of 32768)."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = (((mantissa << 3) + 132) << exponent) - 132
    return (np.where(code & 128, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> FloatArray:
    """ITU-T G.711 A-law, 8 bits -> -1..1 (full scale is 32256 of 32768)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    magnitude = np.where(
        exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 264) << np.maximum(exponent - 1, 0)
    )
    return (np.where(code & 128, magnitude, -magnitude) / 32768).astype(np.float32)


# codec -> (dtype on disk, conversion, amplitude of a clipped sample)
SAMPLE_FORMATS: dict[str, tuple[str, Callable[[_Array], FloatArray], float]] = {
    "pcm_u8": ("u1", _scaled(1 / 128, 128.0), 0.99),
    "pcm_s16le": ("<i2", _scaled(2.0**-15), 0.999),
    "pcm_s24le": ("u1", _from_s24, 0.999),
    "pcm_s32le": ("<i4", _scaled(2.0**-31), 0.999),
    "pcm_f32le": ("<f4", _from_float, 0.999),
    "pcm_f64le": ("<f8", _from_float, 0.999),
    "pcm_mulaw": ("u1", _companded(_mulaw_table()), 32124 / 32768),
    "pcm_alaw": ("u1", _companded(_alaw_table()), 32256 / 32768),
}
