"""Builds recordings that hold more than a reader expects: tracks, parts, pauses, headers that do not know."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from formats import FloatArray, pcm16


def by_tracks(
    path: Path,
    tracks: Sequence[FloatArray],
    rate_hz: int,
    container: str,
    codec: str,
    *,
    pause_at_s: float | None = None,
    pause_s: float = 0.0,
    starts_s: Sequence[float] | None = None,
    bit_rate: int | None = None,
) -> None:
    """Write each (n, n_channels) sound as an audio track of its own, in packets of 20 ms.

    From `pause_at_s` on the time stamps jump `pause_s` ahead, as when a recorder was told to pause; track
    number i starts at `starts_s[i]`.
    """
    with av.open(str(path), "w", format=container) as out:
        streams: list[Any] = [out.add_stream(codec, rate=rate_hz) for _ in tracks]
        for stream, sound in zip(streams, tracks, strict=True):
            stream.layout = "mono" if sound.shape[1] == 1 else "stereo"
            if bit_rate:
                stream.bit_rate = bit_rate
            stream.codec_context.open()
        size = streams[0].codec_context.frame_size or rate_hz // 50
        resamplers = [
            av.AudioResampler(format=stream.codec_context.format.name, layout=stream.layout, rate=rate_hz)
            for stream in streams
        ]
        for at in range(0, max(map(len, tracks)), size):
            paused = pause_at_s is not None and at >= pause_at_s * rate_hz
            for number, (stream, sound) in enumerate(zip(streams, tracks, strict=True)):
                if at >= len(sound):
                    continue
                piece = np.ascontiguousarray(sound[at : at + size].T)
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=stream.layout.name)
                late_s = starts_s[number] if starts_s else 0.0
                frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
                frame.pts = at + round((late_s + pause_s * paused) * rate_hz)
                for converted in resamplers[number].resample(frame):
                    out.mux(stream.encode(converted))
        for stream in streams:
            out.mux(stream.encode(None))


def riff(chunks: Sequence[tuple[bytes, bytes]], *, form: bytes = b"RIFF", padded: bool = True) -> bytes:
    """A RIFF, RIFX or unpadded WAVE file of these chunks (name, content)."""
    order = ">" if form == b"RIFX" else "<"
    body = b"WAVE"
    for name, content in chunks:
        body += name + struct.pack(order + "I", len(content)) + content
        body += b"\0" * (len(content) % 2 if padded else 0)
    return form + struct.pack(order + "I", len(body)) + body


def fmt_chunk(rate_hz: int = 8000, n_channels: int = 1, *, order: str = "<") -> tuple[bytes, bytes]:
    """The format chunk of 16-bit PCM."""
    align = 2 * n_channels
    content = struct.pack(order + "HHIIHH", 1, n_channels, rate_hz, rate_hz * align, align, 16)
    return b"fmt ", content


def rifx(sound: FloatArray, rate_hz: int = 8000) -> bytes:
    """A big-endian WAV of (n, n_channels)."""
    samples = np.frombuffer(pcm16(sound), "<i2").astype(">i2").tobytes()
    return riff([fmt_chunk(rate_hz, sound.shape[1], order=">"), (b"data", samples)], form=b"RIFX")


def id3(n_bytes: int) -> bytes:
    """An ID3v2.3 tag of so many bytes, padding included."""
    size = n_bytes - 10
    return b"ID3\x03\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + bytes(size)


def with_zero_frames(mp3: bytes) -> bytes:
    """An MP3 whose Xing or Info header says 0 frames, as encoders leave it that cannot go back."""
    at = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    return mp3[: at + 8] + bytes(4) + mp3[at + 12 :]
