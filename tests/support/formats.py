"""Builds recordings of every format from known sound, as recorders and their faults would."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile as sf

FloatArray = npt.NDArray[np.float32]


def tone(seconds: float, rate_hz: int, frequency_hz: float = 440.0, amplitude: float = 0.5) -> FloatArray:
    at_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * frequency_hz * at_s)).astype(np.float32)


def two_tones(seconds: float, rate_hz: int, n_channels: int) -> FloatArray:
    """(n, n_channels): 440 Hz on the left, 1,000 Hz on the right."""
    sides = [tone(seconds, rate_hz, f) for f in (440.0, 1000.0)[:n_channels]]
    return np.stack(sides, axis=1)


def by_soundfile(path: Path, sound: FloatArray, rate_hz: int, kind: str, subtype: str | None) -> None:
    with sf.SoundFile(
        path, "w", samplerate=rate_hz, channels=sound.shape[1], format=kind, subtype=subtype
    ) as out:
        # libvorbis overflows its stack on one large block
        for start in range(0, len(sound), 4096):
            out.write(sound[start : start + 4096])


def by_ffmpeg(
    path: Path,
    sound: FloatArray,
    rate_hz: int,
    container: str,
    codec: str,
    *,
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
) -> None:
    with av.open(str(path), "w", format=container, container_options=muxing or {}) as out:
        stream: Any = out.add_stream(codec, rate=rate_hz, options=options or {})
        stream.layout = "mono" if sound.shape[1] == 1 else "stereo"
        if bit_rate:
            stream.bit_rate = bit_rate
        form = stream.codec_context.codec.audio_formats[0].name
        resampler = av.AudioResampler(format=form, layout=stream.layout, rate=rate_hz)
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound.T), format="fltp", layout=stream.layout.name
        )
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        for converted in resampler.resample(frame):
            fifo.write(converted)
        while (piece := fifo.read(size, partial=True)) is not None:
            for packet in stream.encode(piece):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)


def wav_bytes(
    samples: bytes,
    *,
    tag: int = 1,
    n_channels: int = 1,
    rate_hz: int = 8000,
    bits: int = 16,
    data_size: int | None = None,
) -> bytes:
    """A WAV file put together by hand, so that its header can lie."""
    align = n_channels * bits // 8
    form = struct.pack("<HHIIHH", tag, n_channels, rate_hz, rate_hz * align, align, bits)
    size = len(samples) if data_size is None else data_size
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", size) + samples
    return b"RIFF" + struct.pack("<I", min(len(body), 0xFFFFFFFF)) + body


def pcm16(sound: FloatArray) -> bytes:
    return np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()


def g711_mulaw(sound: FloatArray) -> bytes:
    """ITU-T G.711 by the textbook, sample by sample: an oracle for the decoder's table."""
    codes = bytearray()
    for value in np.rint(sound.reshape(-1) * 32767).astype(int):
        magnitude = min(abs(int(value)), 32635) + 132
        exponent = magnitude.bit_length() - 8
        mantissa = (magnitude >> (exponent + 3)) & 15
        codes.append(~((128 if value < 0 else 0) | exponent << 4 | mantissa) & 255)
    return bytes(codes)


Build = Callable[[Path, FloatArray, int], None]


def _sf(kind: str, subtype: str | None = None) -> Build:
    return lambda path, sound, rate_hz: by_soundfile(path, sound, rate_hz, kind, subtype)


def _ff(container: str, codec: str, **how: Any) -> Build:
    return lambda path, sound, rate_hz: by_ffmpeg(path, sound, rate_hz, container, codec, **how)


# name -> (builder, sampling rate, channels, codec that decoding reports)
FORMATS: dict[str, tuple[Build, int, int, str]] = {
    "wav_pcm8": (_sf("WAV", "PCM_U8"), 8000, 2, "pcm_u8"),
    "wav_pcm16": (_sf("WAV", "PCM_16"), 8000, 2, "pcm_s16le"),
    "wav_pcm24": (_sf("WAV", "PCM_24"), 44100, 2, "pcm_s24le"),
    "wav_pcm32": (_sf("WAV", "PCM_32"), 16000, 1, "pcm_s32le"),
    "wav_float32": (_sf("WAV", "FLOAT"), 48000, 2, "pcm_f32le"),
    "wav_float64": (_sf("WAV", "DOUBLE"), 11025, 1, "pcm_f64le"),
    "wav_extensible": (_sf("WAVEX", "PCM_16"), 8000, 2, "pcm_s16le"),
    "wav_mulaw": (_sf("WAV", "ULAW"), 8000, 2, "pcm_mulaw"),
    "wav_alaw": (_sf("WAV", "ALAW"), 8000, 2, "pcm_alaw"),
    "wav_gsm": (_sf("WAV", "GSM610"), 8000, 1, "gsm_ms"),
    "wav_ima_adpcm": (_sf("WAV", "IMA_ADPCM"), 8000, 2, "adpcm_ima_wav"),
    "wav_ms_adpcm": (_sf("WAV", "MS_ADPCM"), 8000, 2, "adpcm_ms"),
    "wav_mp3": (_ff("wav", "libmp3lame"), 8000, 1, "mp3"),
    "rf64": (_sf("RF64", "PCM_16"), 8000, 2, "pcm_s16le"),
    "w64": (_sf("W64", "PCM_16"), 8000, 2, "pcm_s16le"),
    "aiff": (_sf("AIFF", "PCM_16"), 22050, 2, "pcm_s16be"),
    "au_mulaw": (_sf("AU", "ULAW"), 8000, 1, "pcm_mulaw"),
    "flac": (_sf("FLAC"), 16000, 2, "flac"),
    "mp3": (_ff("mp3", "libmp3lame", bit_rate=32000), 8000, 1, "mp3"),
    "mp3_stereo": (_ff("mp3", "libmp3lame"), 44100, 2, "mp3"),
    "ogg_opus": (_ff("ogg", "libopus"), 48000, 2, "opus"),
    "ogg_opus_8k": (_sf("OGG", "OPUS"), 8000, 1, "opus"),
    "ogg_vorbis": (_sf("OGG", "VORBIS"), 22050, 2, "vorbis"),
    "webm_opus": (_ff("webm", "libopus"), 48000, 2, "opus"),
    "m4a": (_ff("ipod", "aac"), 44100, 2, "aac"),
    "adts_aac": (_ff("adts", "aac"), 16000, 1, "aac"),
    "amr_nb": (_ff("amr", "libopencore_amrnb", bit_rate=12200), 8000, 1, "amr_nb"),
    "wma": (_ff("asf", "wmav2", bit_rate=64000), 44100, 2, "wmav2"),
}
