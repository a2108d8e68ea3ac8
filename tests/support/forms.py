"""Every form in which recorders leave calls, whole and odd, with what is to be heard in it.

The sound is one tone a second on every side, so that each second of each side can be told from all others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from formats import FloatArray, by_ffmpeg, by_soundfile, pcm16, wav_bytes
from whole_files import by_tracks, fmt_chunk, id3, riff, rifx, with_zero_frames

SECONDS = 6
_STEP_HZ, _LEFT_HZ, _RIGHT_HZ = 90, 420, 465
_EDGE_S = 0.2  # of every second, where codecs and their delay blur
_QUIET = 0.02

TOLERANCE_S = 0.02

Truth = tuple[tuple[int, ...], ...]
"""For every side, the tone of every second; 0 for silence."""


@dataclass(frozen=True)
class Form:
    """One form of a file.

    `slack_s` is what its codec adds without stating it (its delay, and what fills its last frame);
    `dropped_s` what its encoder leaves out at the end.
    """

    name: str
    rate_hz: int
    truth: Truth
    build: Callable[[Path], None]
    extension: str
    slack_s: float = 0.0
    dropped_s: float = 0.0
    # What tells ffmpeg, sox and libsndfile what a file without a header holds.
    for_ffmpeg: tuple[str, ...] = ()
    for_sox: tuple[str, ...] = ()
    raw_subtype: str | None = None
    # What is refused, because nobody can know which of it is the call, or because it is damaged.
    refused: str | None = None

    @property
    def length_s(self) -> int:
        """Seconds that are there."""
        return max(map(len, self.truth))


def tones(n_channels: int, first_s: int = 0, n_s: int = SECONDS) -> Truth:
    """The tones of some seconds."""
    return tuple(
        tuple(lowest + _STEP_HZ * s for s in range(first_s, first_s + n_s))
        for lowest in (_LEFT_HZ, _RIGHT_HZ)[:n_channels]
    )


def sound(truth: Truth, rate_hz: int) -> FloatArray:
    """(n, n_channels) of those tones."""
    at_s = np.arange(rate_hz) / rate_hz
    sides = [np.concatenate([0.5 * np.sin(2 * np.pi * hz * at_s) for hz in side]) for side in truth]
    return np.stack(sides, axis=1).astype(np.float32)


def heard(side: FloatArray, rate_hz: int) -> tuple[int, ...]:
    """The loudest frequency in the middle of every second of (n,), to the nearest tone; 0 for silence."""
    found = []
    edge = round(_EDGE_S * rate_hz)
    for second in range(round(len(side) / rate_hz)):
        middle = side[second * rate_hz + edge : (second + 1) * rate_hz - edge]
        if len(middle) < edge or np.abs(middle).max() < _QUIET:
            found.append(0)
            continue
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), rate_hz))  # one bin a Hz
        loudest = int(spectrum[100:3500].argmax()) + 100
        found.append(_LEFT_HZ + round((loudest - _LEFT_HZ) / 45) * 45)
    return tuple(found)


def judged(samples: FloatArray, rate_hz: int, form: Form) -> str:
    """What of a form's sound is in what was read."""
    off_s = samples.shape[1] / rate_hz - form.length_s
    sides = tuple(heard(side, rate_hz) for side in samples)
    if sides == form.truth and -TOLERANCE_S - form.dropped_s <= off_s <= TOLERANCE_S + form.slack_s:
        return "whole"
    if len(sides) < len(form.truth):
        of_longest = max(len(side) for side in sides)
        short = f", {form.length_s - of_longest} s" if of_longest < form.length_s else ""
        return f"**loses {len(form.truth) - len(sides)} of {len(form.truth)} sides{short}**"
    there = [tone for side in form.truth for tone in side if tone]
    left = [tone for side in sides for tone in side if tone]
    n_lost = sum(there.count(tone) > left.count(tone) for tone in set(there))
    if n_lost:
        return f"**loses {n_lost} s**"
    if off_s < -TOLERANCE_S - form.dropped_s:
        return f"**{-off_s:.2g} s too short**"
    if off_s > TOLERANCE_S + form.slack_s:
        return f"**{off_s:.2g} s too long**"
    return "**out of place**"


def _sf(kind: str, subtype: str | None, truth: Truth, rate_hz: int) -> Callable[[Path], None]:
    return lambda path: by_soundfile(path, sound(truth, rate_hz), rate_hz, kind, subtype)


def _ff(container: str, codec: str, truth: Truth, rate_hz: int, **how: Any) -> Callable[[Path], None]:
    return lambda path: by_ffmpeg(path, sound(truth, rate_hz), rate_hz, container, codec, **how)


def _written(path: Path, content: bytes) -> None:
    path.write_bytes(content)


_SIDES = {1: "mono", 2: "stereo"}


def _plain_forms() -> list[Form]:
    """Container, codec, rate and channels in the combinations that recorders use."""
    forms = []

    def by_sf(
        label: str, ext: str, kind: str, subtype: str | None, *sizes: tuple[int, int], slack_s: float = 0.0
    ) -> None:
        for rate_hz, n in sizes:
            truth = tones(n)
            name = f"{label}, {rate_hz / 1000:g} kHz {_SIDES[n]}"
            forms.append(Form(name, rate_hz, truth, _sf(kind, subtype, truth, rate_hz), ext, slack_s))

    def by_ff(
        label: str,
        ext: str,
        container: str,
        codec: str,
        *sizes: tuple[int, int],
        slack: int = 0,
        dropped: int = 0,
        **how: Any,
    ) -> None:
        for rate_hz, n in sizes:
            truth = tones(n)
            name = f"{label}, {rate_hz / 1000:g} kHz {_SIDES[n]}"
            build = _ff(container, codec, truth, rate_hz, **how)
            forms.append(Form(name, rate_hz, truth, build, ext, slack / rate_hz, dropped / rate_hz))

    m8, s8, m16, s16, s44, s48 = (8000, 1), (8000, 2), (16000, 1), (16000, 2), (44100, 2), (48000, 2)
    by_sf("WAV, 8 bits", "wav", "WAV", "PCM_U8", m8, s8)
    by_sf(
        "WAV, 16 bits", "wav", "WAV", "PCM_16", (6000, 1), m8, s8, (11025, 1), m16, s16, (22050, 1), s44, s48
    )
    by_sf("WAV, 16 bits", "wav", "WAV", "PCM_16", (96000, 2), (192000, 1))
    by_sf("WAV, 24 bits", "wav", "WAV", "PCM_24", s44)
    by_sf("WAV, 32 bits", "wav", "WAV", "PCM_32", m16)
    by_sf("WAV, float", "wav", "WAV", "FLOAT", s48)
    by_sf("WAV, double", "wav", "WAV", "DOUBLE", (11025, 1))
    by_sf("WAV extensible, 16 bits", "wav", "WAVEX", "PCM_16", s8)
    by_sf("WAV, mu-law", "wav", "WAV", "ULAW", m8, s8)
    by_sf("WAV, A-law", "wav", "WAV", "ALAW", m8, s8)
    by_sf("WAV, GSM 6.10", "wav", "WAV", "GSM610", m8, slack_s=0.04)
    by_sf("WAV, IMA ADPCM", "wav", "WAV", "IMA_ADPCM", m8, s8, slack_s=0.13)  # blocks of 505 samples
    by_sf("WAV, MS ADPCM", "wav", "WAV", "MS_ADPCM", m8, s8, slack_s=0.07)
    by_ff("WAV, MP3", "wav", "wav", "libmp3lame", m8, slack=1105 + 2 * 576)
    by_ff("WAV, G.726", "wav", "wav", "g726", m8, bit_rate=32000)
    by_sf("RF64, 16 bits", "wav", "RF64", "PCM_16", s8)
    by_sf("Wave64, 16 bits", "w64", "W64", "PCM_16", s8)
    by_sf("AIFF, 16 bits", "aiff", "AIFF", "PCM_16", m8, s44)
    by_sf("AIFF-C, mu-law", "aifc", "AIFF", "ULAW", m8)
    by_sf("AIFF-C, float", "aifc", "AIFF", "FLOAT", s16)
    by_sf("AU, mu-law", "au", "AU", "ULAW", m8, s8)
    by_sf("AU, A-law", "au", "AU", "ALAW", m8)
    by_sf("AU, 16 bits", "au", "AU", "PCM_16", s16)
    by_sf("CAF, 16 bits", "caf", "CAF", "PCM_16", s8)
    by_sf("CAF, ALAC", "caf", "CAF", "ALAC_16", s16)
    by_sf("VOC, 8 bits", "voc", "VOC", "PCM_U8", m8)
    by_sf("VOC, mu-law", "voc", "VOC", "ULAW", m8)
    by_sf("NIST SPHERE, 16 bits", "sph", "NIST", "PCM_16", m8, s16)
    by_sf("NIST SPHERE, mu-law", "sph", "NIST", "ULAW", s8)
    by_sf("FLAC, 16 bits", "flac", "FLAC", "PCM_16", m8, s16)
    by_sf("FLAC, 24 bits", "flac", "FLAC", "PCM_24", s48)
    by_ff("Ogg, FLAC", "oga", "ogg", "flac", m16)
    by_ff("WavPack", "wv", "wv", "wavpack", s16)
    by_ff("MP3, 16 kbit/s", "mp3", "mp3", "libmp3lame", m8, bit_rate=16000)
    by_ff("MP3, 32 kbit/s", "mp3", "mp3", "libmp3lame", m16, (22050, 1), bit_rate=32000)
    by_ff("MP3, 128 kbit/s", "mp3", "mp3", "libmp3lame", s44, s48, bit_rate=128000)
    variable = {"flags": "+qscale", "global_quality": str(4 * 118)}
    by_ff("MP3, variable bit rate", "mp3", "mp3", "libmp3lame", s16, options=variable)
    by_ff(
        "MP3 without Xing header",
        "mp3",
        "mp3",
        "libmp3lame",
        m8,
        slack=1105 + 2 * 576,
        muxing={"write_xing": "0"},
    )
    by_ff("MP2", "mp2", "mp2", "mp2", m16, s48, slack=481 + 1152)
    by_ff("AAC in ADTS", "aac", "adts", "aac", m8, m16, s44, slack=2 * 1024)
    by_ff("M4A, AAC", "m4a", "ipod", "aac", m8, m16, s44, slack=1024)
    by_ff("M4A, ALAC", "m4a", "ipod", "alac", s16)
    by_ff(
        "MP4 in fragments, AAC",
        "mp4",
        "mp4",
        "aac",
        s48,
        slack=2 * 1024,
        muxing={"movflags": "frag_keyframe+empty_moov", "frag_duration": "1000000"},
    )
    by_ff("MP4, Opus", "mp4", "mp4", "libopus", s48)
    by_ff("MP4, FLAC", "mp4", "mp4", "flac", s16)
    by_ff("QuickTime, 16 bits", "mov", "mov", "pcm_s16le", s16)
    by_ff("QuickTime, mu-law", "mov", "mov", "pcm_mulaw", m8)
    by_ff("3GP, AMR-NB", "3gp", "3gp", "libopencore_amrnb", m8, bit_rate=12200, slack=320)
    by_ff("AMR-NB, 12.2 kbit/s", "amr", "amr", "libopencore_amrnb", m8, bit_rate=12200, slack=320)
    by_ff("AMR-NB, 4.75 kbit/s", "amr", "amr", "libopencore_amrnb", m8, bit_rate=4750, slack=320)
    by_ff("Ogg, Opus", "opus", "ogg", "libopus", m8, m16, s48)
    by_ff("Ogg, Opus, 8 kbit/s", "opus", "ogg", "libopus", m8, bit_rate=8000)
    by_sf("Ogg, Vorbis", "ogg", "OGG", "VORBIS", m8, (22050, 2), s44)
    by_ff("WebM, Opus", "webm", "webm", "libopus", (48000, 1), s48)
    by_ff("WebM without a length, Opus", "webm", "webm", "libopus", (48000, 1), muxing={"live": "1"})
    by_ff("Matroska, 16 bits", "mka", "matroska", "pcm_s16le", s8)
    by_ff("Matroska, AAC", "mka", "matroska", "aac", s44, slack=2 * 1024)
    by_ff("Matroska, FLAC", "mka", "matroska", "flac", s16)
    by_ff("Matroska, MP3", "mkv", "matroska", "libmp3lame", s44, slack=1105 + 2 * 1152)
    by_ff("WMA 1", "wma", "asf", "wmav1", s44, bit_rate=64000, slack=2 * 2048, dropped=2048)
    by_ff("WMA 2", "wma", "asf", "wmav2", m16, s44, bit_rate=64000, slack=2 * 2048, dropped=2048)
    by_ff("ASF, MP3", "asf", "asf", "libmp3lame", s44, slack=1105 + 2 * 1152)
    by_ff("AC-3", "ac3", "ac3", "ac3", s48, slack=256 + 1536)
    by_ff("E-AC-3", "eac3", "eac3", "eac3", s48, slack=256 + 1536)
    return forms


def _headerless_forms() -> list[Form]:
    raw = [
        ("mu-law", "ul", "ULAW", 8000, 1, ("-f", "mulaw"), ("-t", "ul")),
        ("A-law", "al", "ALAW", 8000, 1, ("-f", "alaw"), ("-t", "al")),
        ("16 bits", "sln", "PCM_16", 8000, 1, ("-f", "s16le"), ("-t", "raw", "-e", "signed", "-b", "16")),
        ("16 bits", "sln16", "PCM_16", 16000, 1, ("-f", "s16le"), ("-t", "raw", "-e", "signed", "-b", "16")),
        ("16 bits", "raw", "PCM_16", 8000, 2, ("-f", "s16le"), ("-t", "raw", "-e", "signed", "-b", "16")),
        ("8 bits", "u8", "PCM_U8", 8000, 1, ("-f", "u8"), ("-t", "raw", "-e", "unsigned", "-b", "8")),
    ]
    forms = [
        Form(
            f"without header, {label}, {rate_hz // 1000} kHz {_SIDES[n]}",
            rate_hz,
            tones(n),
            _sf("RAW", subtype, tones(n), rate_hz),
            extension,
            for_ffmpeg=(*ffmpeg, "-ar", str(rate_hz), *(("-ac", str(n)) if n > 1 else ())),
            for_sox=(*sox, "-r", str(rate_hz), "-c", str(n)),
            raw_subtype=subtype,
        )
        for label, extension, subtype, rate_hz, n, ffmpeg, sox in raw
    ]
    gsm, g722, g723 = (tones(1),) * 3
    forms += [
        Form(
            "without header, GSM 6.10, 8 kHz mono",
            8000,
            gsm,
            _sf("RAW", "GSM610", gsm, 8000),
            "gsm",
            0.02,
            for_ffmpeg=("-f", "gsm"),
            for_sox=("-t", "gsm"),
            raw_subtype="GSM610",
        ),
        Form(
            "without header, G.722, 16 kHz mono",
            16000,
            g722,
            _ff("g722", "g722", g722, 16000),
            "g722",
            for_ffmpeg=("-f", "g722"),
        ),
        Form(
            "without header, G.723.1, 8 kHz mono",
            8000,
            g723,
            _ff("rawvideo", "g723_1", g723, 8000, bit_rate=6300),
            "g723",
            0.06,
            for_ffmpeg=("-f", "g723_1"),
        ),
    ]
    return forms


HEADERLESS = {
    "raw": "s16le:8000:2",
    "u8": "u8:8000:1",
    "sln16": "s16le:16000:1",
    "g722": "g722:16000:1",
    "g723": "g723_1:8000:1",
}
"""What `[audio] headerless` has to say of those of them that are not known by default."""


def _joined(
    name: str, ext: str, container: str, codec: str, rate_hz: int, slack: int, dropped: int = 0, **how: Any
) -> Form:
    first, second = tones(1, 0, 3), tones(1, 3, 3)

    def build(path: Path) -> None:
        parts = []
        for truth in (first, second):
            by_ffmpeg(path, sound(truth, rate_hz), rate_hz, container, codec, **how)
            parts.append(path.read_bytes())
        path.write_bytes(b"".join(parts))

    return Form(f"two joined {name}", rate_hz, tones(1), build, ext, slack / rate_hz, dropped / rate_hz)


def _mixed(name: str, ext: str, container: str, codec: str, rate_hz: int) -> Form:
    left, right = tones(2)
    truth = (left, (0,) * 3 + right[3:])

    def build(path: Path) -> None:
        parts = []
        for each in (tones(1, 0, 3), tones(2, 3, 3)):
            by_ffmpeg(path, sound(each, rate_hz), rate_hz, container, codec)
            parts.append(path.read_bytes())
        path.write_bytes(b"".join(parts))

    return Form(f"{name}, mono joined to stereo", rate_hz, truth, build, ext, refused="joined")


def _wav_forms() -> list[Form]:
    mono, stereo = tones(1), tones(2)
    samples = pcm16(sound(mono, 8000))
    half = len(samples) // 2
    start, end = samples[:half], samples[half:]
    notes = (b"LIST", b"INFOISFT\x0d\0\0\0Recorder 1.0\0x")
    streamed = wav_bytes(samples, data_size=0xFFFFFFFF)
    wide = wav_bytes(pcm16(sound(tones(1, 3, 3), 16000)), rate_hz=16000)
    contents: dict[str, tuple[Truth, bytes]] = {
        "RIFX (big-endian WAV)": (stereo, rifx(sound(stereo, 8000))),
        "WAV with two data chunks": (
            mono,
            riff([fmt_chunk(), (b"data", start), notes, (b"data", end)], padded=True),
        ),
        "WAV behind an ID3 tag": (mono, id3(2_345) + wav_bytes(samples)),
        "WAV, odd LIST chunk without filling byte": (
            mono,
            riff([fmt_chunk(), notes, (b"data", samples)], padded=False),
        ),
        "WAV whose header says 0 bytes": (mono, wav_bytes(samples, data_size=0)),
        "WAV of a pipe, size unknown": (mono, streamed),
        "WAV whose header lags by 0.5 s": (mono, wav_bytes(samples, data_size=len(samples) - 8000)),
        "two joined WAV": (mono, wav_bytes(start) + wav_bytes(end)),
        "two joined WAV, 8 and 16 kHz": (mono, wav_bytes(start) + wide),
        "two joined WAV of a pipe": (
            mono,
            wav_bytes(start, data_size=0xFFFFFFFF) + wav_bytes(end, data_size=0xFFFFFFFF),
        ),
    }
    return [
        Form(name, 8000, truth, lambda path, content=content: _written(path, content), "wav")  # type: ignore[misc]
        for name, (truth, content) in contents.items()
    ]


def _track_forms() -> list[Form]:
    def tracks(
        name: str,
        ext: str,
        container: str,
        codec: str,
        rate_hz: int,
        truths: list[Truth],
        slack: int = 0,
        **how: Any,
    ) -> Form:
        def build(path: Path) -> None:
            by_tracks(path, [sound(truth, rate_hz) for truth in truths], rate_hz, container, codec, **how)

        refused = "tracks" if [len(truth) for truth in truths] != [1, 1] else None
        whole = tuple(side for truth in truths for side in truth)
        return Form(
            f"{name}, {len(truths)} tracks", rate_hz, whole, build, ext, slack / rate_hz, refused=refused
        )

    left, right = ((side,) for side in tones(2))
    return [
        tracks("M4A, AAC", "m4a", "ipod", "aac", 16000, [left, right], 1024),
        tracks("Matroska, Opus", "mka", "matroska", "libopus", 48000, [left, right]),
        tracks("Ogg, Opus", "ogg", "ogg", "libopus", 48000, [left, right]),
        tracks("Matroska, FLAC", "mka", "matroska", "flac", 16000, [left, right, left]),
        tracks("Matroska, FLAC, stereo", "mka", "matroska", "flac", 16000, [tones(2), tones(2)]),
    ]


def _pause_forms() -> list[Form]:
    def paused(
        name: str, ext: str, container: str, codec: str, slack: int = 0, dropped: int = 0, **how: Any
    ) -> Form:
        before, after = tones(1, 0, 3)[0], tones(1, 3, 3)[0]
        spoken = (before + after,)

        def build(path: Path) -> None:
            by_tracks(
                path, [sound(spoken, 48000)], 48000, container, codec, pause_at_s=3.0, pause_s=4.0, **how
            )

        truth = (before + (0,) * 4 + after,)
        return Form(f"{name} with a pause of 4 s", 48000, truth, build, ext, slack / 48000, dropped / 48000)

    return [
        paused("WebM, Opus", "webm", "webm", "libopus"),
        paused("Matroska, 16 bits", "mka", "matroska", "pcm_s16le"),
        paused("MP4, AAC", "mp4", "mp4", "aac", 1024),
        paused("ASF, WMA 2", "wma", "asf", "wmav2", 2 * 2048, 2048, bit_rate=64000),
    ]


def _cut(name: str, ext: str, container: str, codec: str, rate_hz: int, **how: Any) -> Form:
    def build(path: Path) -> None:
        by_ffmpeg(path, sound(tones(1), rate_hz), rate_hz, container, codec, **how)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 6 // 10])

    return Form(f"{name}, cut at 60 %", rate_hz, tones(1), build, ext, refused="truncated")


def _uncounted_mp3(path: Path) -> None:
    variable = {"flags": "+qscale", "global_quality": str(4 * 118)}
    by_ffmpeg(path, sound(tones(1), 16000), 16000, "mp3", "libmp3lame", options=variable)
    path.write_bytes(with_zero_frames(path.read_bytes()))


def _open_au(path: Path) -> None:
    samples = np.frombuffer(pcm16(sound(tones(1), 8000)), "<i2").astype(">i2").tobytes()
    path.write_bytes(b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, 8000, 1) + samples)


WHOLE = [*_plain_forms(), *_headerless_forms()]
ODD = [
    *_wav_forms(),
    *_track_forms(),
    *_pause_forms(),
    Form(
        "MP3 whose Xing header counts 0 frames", 16000, tones(1), _uncounted_mp3, "mp3", (1105 + 1152) / 16000
    ),
    Form("AU of a pipe, size unknown", 8000, tones(1), _open_au, "au"),
    _joined("MP3", "mp3", "mp3", "libmp3lame", 16000, 0),
    _joined("AAC in ADTS", "aac", "adts", "aac", 16000, 4 * 1024),
    _joined("M4A", "m4a", "ipod", "aac", 16000, 2 * 1024),
    _joined("Ogg, Opus", "opus", "ogg", "libopus", 48000, 0),
    _joined("WebM, Opus", "webm", "webm", "libopus", 48000, 0),
    _joined("FLAC", "flac", "flac", "flac", 16000, 0),
    _joined("AMR-NB", "amr", "amr", "libopencore_amrnb", 8000, 640, bit_rate=12200),
    _joined("WMA 2", "wma", "asf", "wmav2", 16000, 4 * 2048, 2 * 2048, bit_rate=32000),
    _joined("AIFF", "aiff", "aiff", "pcm_s16be", 8000, 0),
    _joined("AU", "au", "au", "pcm_s16be", 8000, 0),
    _joined("CAF", "caf", "caf", "pcm_s16le", 8000, 0),
    _joined("Wave64", "w64", "w64", "pcm_s16le", 8000, 0),
    _mixed("WAV", "wav", "wav", "pcm_s16le", 8000),
    _mixed("Ogg, Opus", "opus", "ogg", "libopus", 48000),
    _mixed("MP3", "mp3", "mp3", "libmp3lame", 16000),
    _mixed("FLAC", "flac", "flac", "flac", 16000),
    _mixed("WebM, Opus", "webm", "webm", "libopus", 48000),
    _cut("WAV", "wav", "wav", "pcm_s16le", 8000),
    _cut("FLAC", "flac", "flac", "flac", 16000),
    _cut("M4A, AAC", "m4a", "ipod", "aac", 16000),
    _cut("MP3", "mp3", "mp3", "libmp3lame", 16000),
    _cut("Ogg, Opus", "opus", "ogg", "libopus", 48000),
    _cut("WebM, Opus", "webm", "webm", "libopus", 48000),
    _cut("WMA 2", "wma", "asf", "wmav2", 16000, bit_rate=32000),
]
"""What is odd or damaged about files that people have."""
