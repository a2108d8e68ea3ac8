"""WAV with PCM, float, mu-law or A-law samples: the common case, thousands of times faster than real time.

The header is parsed here for every WAV, so that its declared size can be compared with the bytes that
are there; libsndfile, which refuses damaged headers, only converts what numpy does not. Other codecs inside a
WAV (GSM 6.10, ADPCM, MP3) are left to FFmpeg. Source of the layout: "Multimedia Programming Interface
and Data Specifications 1.0" (1991; RIFX is its big-endian form) and RFC 2361; RF64 is EBU Tech 3306.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from callanalytics.audio.source import (
    BLOCK_FRAMES,
    Source,
    Stretch,
    check_format,
    shown,
    tolerance_s,
    truncated,
)
from callanalytics.config import AudioSettings
from callanalytics.errors import EmptyAudio, InvalidAudio, TruncatedAudio
from callanalytics.records import FloatArray


class SampleFormat(NamedTuple):
    """How plain samples lie in a file, and the amplitude from which one counts as clipped."""

    subtype: str  # libsndfile's name
    n_bytes: int
    full_scale: float = 0.999
    endian: str = "LITTLE"


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
    "pcm_s16be": SampleFormat("PCM_16", 2, endian="BIG"),
    "pcm_s24be": SampleFormat("PCM_24", 3, endian="BIG"),
    "pcm_s32be": SampleFormat("PCM_32", 4, endian="BIG"),
    "pcm_f32be": SampleFormat("FLOAT", 4, endian="BIG"),
    "pcm_f64be": SampleFormat("DOUBLE", 8, endian="BIG"),
}
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE  # format tags
_CODECS = {
    **{(_PCM, 8): "pcm_u8", (_PCM, 16): "pcm_s16le", (_PCM, 24): "pcm_s24le", (_PCM, 32): "pcm_s32le"},
    **{(_FLOAT, 32): "pcm_f32le", (_FLOAT, 64): "pcm_f64le"},
}
# Writers that stream into a pipe cannot go back to fill in the size and leave one of these.
STREAMED_SIZES = frozenset({0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000})
_FORMS = frozenset({b"RIFF", b"RIFX", b"RF64", b"BW64"})
# Chunks that hold no sound. One of them may be cut at the end of a file.
_NOTES = frozenset({b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"cue ", b"fact", b"JUNK", b"junk", b"PAD "})
_ID3V1_BYTES = 128
_MAX_CHUNKS = 10_000
_PROBE_BYTES = 1 << 20


class Chunk(NamedTuple):
    """One chunk: its name, where its content begins, and the size that it states."""

    name: bytes
    at: int
    size: int


class Piece(NamedTuple):
    """Where bytes of sound lie."""

    at: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class WavHeader:
    """The facts of a WAV header.

    `pieces` are the bytes of sound that are there, those of every data chunk; `notes` are words for
    `Audio.notes`.
    """

    codec: str | None  # key of `SAMPLE_FORMATS`, None for what FFmpeg has to decode
    rate_hz: int
    n_channels: int
    pieces: tuple[Piece, ...]
    declared_s: float | None  # None: the writer did not know it
    notes: frozenset[str] = frozenset()


def is_wav(head: bytes) -> bool:
    """Whether the first 12 bytes are those of a WAV, RIFX or RF64 file."""
    return head[:4] in _FORMS and head[8:12] == b"WAVE"


def find_end(part: Stretch) -> int:
    """Where to begin to look for another recording: behind the chunks whose size is known."""
    end = 12
    for chunk in _chunks(part):
        if chunk.name == b"data" and _is_unknown(chunk.size):
            return chunk.at
        end = chunk.at + chunk.size
    return end


def _is_unknown(size: int) -> bool:
    return size == 0 or size in STREAMED_SIZES


def _chunks(part: Stretch, at: int = 12) -> Iterator[Chunk]:
    """The chunks of a WAV file from `at` on, up to what is none or is cut."""
    size64: int | None = None
    for _ in range(_MAX_CHUNKS):
        chunk = _chunk_at(part, at)
        if chunk is None:
            return
        if chunk.name == b"ds64":
            table = part.at(chunk.at, 16)
            size64 = struct.unpack("<Q", table[8:16])[0] if len(table) == 16 else None
        if chunk.name == b"data" and size64 is not None:
            chunk, size64 = chunk._replace(size=size64), None
        yield chunk
        at = _after(part, chunk)


def _after(part: Stretch, chunk: Chunk) -> int:
    """Where the next chunk begins: a byte fills up an odd size, which some programs leave out."""
    if chunk.name == b"LIST" and part.at(chunk.at, 4) == b"wavl":
        return chunk.at + 4  # a list of data chunks, and of silences
    at = chunk.at + chunk.size
    is_filled = chunk.size % 2 and (_chunk_at(part, at + 1) or not _chunk_at(part, at))
    return at + 1 if is_filled else at


def _chunk_at(part: Stretch, at: int) -> Chunk | None:
    head = part.at(at, 8)
    if len(head) < 8 or head[:4] in _FORMS or not all(32 <= byte < 127 for byte in head[:4]):
        return None
    order: Literal["big", "little"] = "big" if part.at(0, 4) == b"RIFX" else "little"
    chunk = Chunk(head[:4], at + 8, int.from_bytes(head[4:], order))
    is_whole = chunk.at + chunk.size <= part.n_bytes
    return chunk if is_whole or chunk.name == b"data" else None


def read_header(path: Path, part: Stretch, settings: AudioSettings) -> WavHeader:
    """Walk the chunks and compare the sizes that they state with the bytes that are there.

    Raises:
        TruncatedAudio: the file ends before its sound begins, holds less than its header states, or more
            than that beyond the tolerance.
        EmptyAudio: a complete file without samples.
        InvalidAudio: a rate or channel count out of range.
    """
    form = b""
    pieces: list[Piece] = []
    n_declared = 0
    is_known = True
    last = None
    is_zero = False
    for chunk in _chunks(part):
        name, at, size = chunk
        if name == b"fmt ":
            form = part.at(at, min(size, 64))
        if name == b"slnt":
            raise InvalidAudio(
                f"{shown(path)}: a WAV file that counts its silences instead of holding them (slnt chunks), "
                "which is not supported. Export it as plain PCM."
            )
        if name != b"data":
            continue
        last, there = chunk, part.n_bytes - at
        is_zero = size == 0 and _surplus(part, at, zeros_are_sound=True) is not None
        if is_zero or size in STREAMED_SIZES:
            is_known = False
            pieces.append(Piece(at, there))
            break
        n_declared += size
        pieces.append(Piece(at, min(size, there)))
    if last is None:
        raise TruncatedAudio(
            f"{shown(path)}: a WAV header without sound after it ({part.n_bytes:,} bytes in all). "
            "The recorder did not finish the file, or the copy was interrupted: fetch it again."
        )
    codec, rate_hz, n_channels, bytes_per_s = _read_format(path, form, is_rifx=part.at(0, 4) == b"RIFX")
    surplus = _surplus(part, _after(part, last)) if is_known else None
    if surplus is not None and surplus.at - sum(pieces[-1]) <= 1:  # so that samples stay whole
        pieces[-1] = Piece(pieces[-1].at, part.n_bytes - pieces[-1].at)
    elif surplus is not None:
        pieces.append(surplus)
    n_there = sum(piece.n_bytes for piece in pieces)
    if n_there == 0 and not n_declared:
        raise EmptyAudio(
            f"{shown(path)}: a WAV header and not one sample. Nothing was recorded: fetch it again."
        )
    declared_s = n_declared / bytes_per_s if is_known and bytes_per_s > 0 else None
    if declared_s is not None:
        found_s = n_there / bytes_per_s
        if abs(declared_s - found_s) > tolerance_s(declared_s, settings):
            raise truncated(path, declared_s, found_s)
    notes = {"unfinished_header"} if is_zero or surplus is not None else set()
    return WavHeader(codec, rate_hz, n_channels, tuple(pieces), declared_s, frozenset(notes))


def _read_format(path: Path, form: bytes, *, is_rifx: bool) -> tuple[str | None, int, int, int]:
    """Codec, rate, channels and bytes per second as the format chunk states them."""
    if len(form) < 16:
        raise TruncatedAudio(f"{shown(path)}: a WAV file without a format chunk. Fetch it again.")
    order = ">" if is_rifx else "<"
    tag, n_channels, rate_hz, bytes_per_s, _, bits = struct.unpack(order + "HHIIHH", form[:16])
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack(order + "H", form[24:26])[0]
    check_format(path, rate_hz, n_channels)
    codec = {_ALAW: "pcm_alaw", _MULAW: "pcm_mulaw"}.get(tag) or _CODECS.get((tag, bits))
    if codec is None:
        return None, rate_hz, n_channels, bytes_per_s
    if is_rifx:
        codec = codec.replace("le", "be")
    return codec, rate_hz, n_channels, SAMPLE_FORMATS[codec].n_bytes * n_channels * rate_hz


def _surplus(part: Stretch, at: int, *, zeros_are_sound: bool = False) -> Piece | None:
    """What follows from `at` on and is neither in a chunk, nor a tag, nor unused zeros: more sound."""
    start = end = at
    for chunk in _chunks(part, at):
        end = _after(part, chunk)
        if chunk.name in _NOTES:
            start = end
    rest = part.at(end, 4)
    is_tag = rest[:3] == b"ID3" or (rest[:3] == b"TAG" and part.n_bytes - end == _ID3V1_BYTES)
    if not rest or is_tag or rest in _NOTES or (not zeros_are_sound and _is_zero(part, end)):
        return None
    return Piece(start, part.n_bytes - start)


def _is_zero(part: Stretch, at: int) -> bool:
    while block := part.at(at, _PROBE_BYTES):
        if block.count(0) != len(block):
            return False
        at += len(block)
    return True


def wav_source(part: Stretch, header: WavHeader) -> Source:
    """The samples of a WAV file whose `codec` is not None."""
    assert header.codec is not None  # noqa: S101 - the caller has looked
    source = raw_source(part, header.codec, "wav", header.rate_hz, header.n_channels, header.pieces)
    source.notes.update(header.notes)
    return replace(source, declared_s=header.declared_s)


def raw_source(
    part: Stretch, codec: str, container: str, rate_hz: int, n_channels: int, pieces: Sequence[Piece]
) -> Source:
    """The plain samples in these pieces, one after the other; `codec` is a key of `SAMPLE_FORMATS`."""
    sample = SAMPLE_FORMATS[codec]
    frame_bytes = sample.n_bytes * n_channels

    def blocks() -> Iterator[FloatArray]:
        for at, n_bytes in pieces:
            part.seek(at)
            left = n_bytes // frame_bytes
            while left > 0:
                raw = part.read(min(left, BLOCK_FRAMES) * frame_bytes)
                whole = len(raw) // frame_bytes
                if whole == 0:
                    return  # shrank while being read; the length check says so
                left -= whole
                yield _to_float(raw[: whole * frame_bytes], sample).reshape(whole, n_channels)

    length_s = sum(piece.n_bytes // frame_bytes for piece in pieces) / rate_hz
    return Source(rate_hz, n_channels, codec, container, length_s, length_s, sample.full_scale, blocks())


def _to_float(raw: bytes, sample: SampleFormat) -> FloatArray:
    """Plain samples as float32, -1..1.

    What telephones write is converted by numpy, as libsndfile would and several times faster: it asks Python
    for every 8 KB.
    """
    if sample.n_bytes == 1:
        return _table(sample).take(np.frombuffer(raw, np.uint8))
    if sample.subtype == "PCM_16":
        pcm = np.frombuffer(raw, "<i2" if sample.endian == "LITTLE" else ">i2")
        return pcm.astype(np.float32) * np.float32(1 / 32768)
    return _by_libsndfile(raw, sample)


@cache
def _table(sample: SampleFormat) -> FloatArray:
    """What each of the 256 codes of a codec stands for."""
    return _by_libsndfile(bytes(range(256)), sample)


def _by_libsndfile(raw: bytes, sample: SampleFormat) -> FloatArray:
    import soundfile

    samples: FloatArray = soundfile.read(
        io.BytesIO(raw),
        format="RAW",
        subtype=sample.subtype,
        endian=sample.endian,
        samplerate=8000,
        channels=1,
        dtype="float32",
    )[0]
    return samples
