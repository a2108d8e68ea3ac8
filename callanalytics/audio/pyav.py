"""Every other format through PyAV, which carries FFmpeg's libraries in its wheel.

Only the demuxers named here may look at a file and no protocol may be followed, so a playlist or a
text file posing as a recording cannot make FFmpeg open something else. Only sound is decoded (`codecs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from callanalytics.audio.declared import MATROSKA, declared_length_s
from callanalytics.audio.source import BLOCK_FRAMES, Source, Stretch, check_format, shown
from callanalytics.audio.timestamps import Timeline
from callanalytics.config import AudioSettings
from callanalytics.errors import InvalidAudio, NotAudio, TruncatedAudio
from callanalytics.records import FloatArray

# The decoders that a recording may make FFmpeg use: those of sound that recorders write (`ffmpeg -decoders`).
# Everything else in a file stays undecoded, also while FFmpeg looks for what a file holds: an album cover of
# 16,000 x 16,000 points is 1 MB in the file and 1 GB in memory.
DECODERS = frozenset(
    (
        *("pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"),
        *("pcm_s32le", "pcm_s32be", "pcm_s64le", "pcm_s64be", "pcm_f32le", "pcm_f32be", "pcm_f64le"),
        *("pcm_f64be", "pcm_u16le", "pcm_u16be", "pcm_s8_planar", "pcm_s16le_planar", "pcm_s16be_planar"),
        *("adpcm_ima_wav", "adpcm_ima_qt", "adpcm_ms", "adpcm_swf", "adpcm_yamaha", "dss_sp"),
        *("g722", "g723_1", "g726", "g726le", "g728", "g729", "gsm", "gsm_ms", "ilbc", "truespeech"),
        *("amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "evrc", "qcelp", "sipr", "speex"),
        *("opus", "libopus", "vorbis", "flac", "alac", "wavpack", "sbc", "aac", "aac_latm", "ac3", "eac3"),
        *("mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float"),
        *("wmav1", "wmav2", "wmavoice", "wmapro", "wmalossless"),
    )
)
ALLOWED = ",".join(sorted(DECODERS))  # as the option `codec_whitelist` of a format context takes them
DEMUXERS = "wav,w64,aiff,au,caf,flac,ogg,mp3,mov,asf,matroska,amr,aac,ac3,eac3,voc,nistsphere,wv"
# FFmpeg's own AMR decoders skip frames without data (DTX) and so lose time; opencore fills them.
_EXACT_DECODERS = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
_USUAL_BYTES = 1 << 28
_TYPES = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "flt": np.float32,
    "dbl": np.float64,
    "s64": np.int64,
}
_SCALES = {"u8": 1 / 128, "s16": 2.0**-15, "s32": 2.0**-31, "flt": 1.0, "dbl": 1.0, "s64": 2.0**-63}
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
    (0, b"Creative Voice File\x1a", "VOC"),
    (0, b"NIST_1A\n", "NIST SPHERE"),
    (0, b"wvpk", "WavPack"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64"),
)


@contextmanager
def ffmpeg_source(
    path: Path, part: Stretch, settings: AudioSettings, *, track: int = 0, raw_format: str | None = None
) -> Iterator[Source]:
    """Open what FFmpeg knows; `raw_format` names the demuxer of a headerless file ("gsm", "g722").

    Raises:
        NotAudio: nothing that FFmpeg knows, or no sound in it.
        TruncatedAudio: a known format that is cut so that it cannot be opened.
        InvalidAudio: rate or channel count out of range, or tracks that are no sides of a call.
    """
    import av

    av.logging.set_level(av.logging.PANIC)
    head = part.at(0, 64)
    part.seek(0)
    options = {
        "format_whitelist": raw_format or DEMUXERS,
        "protocol_whitelist": "none",
        "codec_whitelist": ALLOWED,
    }
    try:
        container = av.open(part, "r", format=raw_format, options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, OSError) as problem:
        _check_memory(problem)
        raise _cannot_open(path, head, problem) from None
    with container:
        tracks = _checked_tracks(path, container)
        audio = tracks[track]
        context = audio.codec_context
        rate_hz, n_channels = int(context.sample_rate or 0), int(context.channels or 0)
        check_format(path, rate_hz, n_channels)
        hint_s = _length_s(container, audio)
        name = container.format.name
        notes: set[str] = set()
        is_alone = len(container.streams) == 1
        timeline = Timeline(path, part, name if is_alone else "", rate_hz, settings, notes)
        declared_s = declared_length_s(path, part, name, hint_s, is_alone=is_alone)
        starts_s = [float(each.start_time * each.time_base) for each in tracks if each.start_time is not None]
        is_edited = name.startswith("mov,") and declared_s is not None  # fragments of a broadcast begin late
        if len(starts_s) == len(tracks) and declared_s is not None and name in (MATROSKA, "ogg"):
            # They state when the last track ends, also of a live stream that begins late.
            declared_s -= max(0.0, starts_s[track])
        if len(starts_s) == len(tracks) and (is_edited or len(tracks) > 1):
            lead_s = timeline.begin(starts_s, track, is_edited=is_edited)
            declared_s = None if declared_s is None else declared_s + lead_s
        yield Source(
            rate_hz=rate_hz,
            n_channels=n_channels,
            codec=str(context.codec.canonical_name),
            container=name.split(",")[0],
            declared_s=declared_s,
            hint_s=hint_s,
            full_scale=0.999,
            blocks=_blocks(path, container, audio, timeline, rate_hz, n_channels),
            n_tracks=len(tracks),
            notes=notes,
        )


def _checked_tracks(path: Path, container: Any) -> list[Any]:
    """The audio tracks: one, or two mono ones, which are the sides of a call."""
    tracks = list(container.streams.audio)
    kind = container.format.long_name
    if not tracks:
        raise NotAudio(f"{shown(path)}: a {kind} file with no sound in it. Exclude it.")
    if any(t.codec_context is None or t.codec_context.codec.name not in DECODERS for t in tracks):
        raise NotAudio(
            f"{shown(path)}: a {kind} file whose sound is in a codec that "
            "the decoders do not know. Export it in another format."
        )
    n_channels = [int(track.codec_context.channels or 0) for track in tracks]
    if len(tracks) > 1 and n_channels != [1, 1]:
        raise InvalidAudio(
            f"{shown(path)}: {len(tracks)} audio tracks of {', '.join(map(str, n_channels))} channels; "
            "expected one track, or two mono ones (one voice each). Which of them is the call is not known: "
            "export that one alone, or a mix of them."
        )
    return tracks


def _check_memory(problem: Exception) -> None:
    """Raise MemoryError when there was too little: then the file may be well.

    A damaged header asks for more than any machine has; then a usual amount can still be had.
    """
    if isinstance(problem, MemoryError):
        np.empty(_USUAL_BYTES, dtype=np.uint8)


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


def _blocks(
    path: Path, container: Any, audio: Any, timeline: Timeline, rate_hz: int, n_channels: int
) -> Iterator[FloatArray]:
    """Decode packet by packet, handing on blocks of about BLOCK_FRAMES, silence where time stamps leave a
    gap. Damaged packets are skipped: the timeline tells at the end whether enough was lost to matter."""
    import av

    decoder: Any = audio.codec_context
    exact = _EXACT_DECODERS.get(decoder.codec.name)
    if exact is not None and exact in av.codecs_available:
        decoder = av.CodecContext.create(exact, "r")
        decoder.sample_rate, decoder.layout = rate_hz, "mono"
    pieces: list[Any] = []
    n_waiting, form = 0, ""
    for frame in _frames(path, container, audio, decoder, timeline):
        if frame.sample_rate != rate_hz or frame.layout.nb_channels != n_channels:
            raise InvalidAudio(
                f"{shown(path)}: changes from {rate_hz} Hz, {n_channels} channel(s) to "
                f"{frame.sample_rate} Hz, {frame.layout.nb_channels} in the "
                "middle. Two recordings were joined: split them."
            )
        n_silent = timeline.gap_before(frame.pts, frame.samples)
        if n_silent or n_waiting >= BLOCK_FRAMES:
            if pieces:
                yield _as_float(pieces, form, n_channels)
            pieces, n_waiting = [], 0
            while n_silent > 0:
                yield np.zeros((min(n_silent, BLOCK_FRAMES), n_channels), dtype=np.float32)
                n_silent -= BLOCK_FRAMES
        form = frame.format.name
        pieces.append(_planes(frame, form, n_channels))
        n_waiting += frame.samples
    if pieces:
        yield _as_float(pieces, form, n_channels)
    timeline.check_losses()


def _frames(path: Path, container: Any, audio: Any, decoder: Any, timeline: Timeline) -> Iterator[Any]:
    import av

    n_good = 0
    problem: Exception | None = None
    timeline.unit_s = float(audio.time_base or 0)
    try:
        for packet in container.demux(audio):
            timeline.take(packet)
            try:
                frames = decoder.decode(packet if packet.size else None)
            except (av.error.InvalidDataError, av.error.PatchWelcomeError) as found:
                problem = found
                timeline.lose(packet)
                continue
            for frame in frames:
                n_good += 1
                yield frame
    except av.error.FFmpegError as found:  # the demuxer itself stumbled: what came so far counts
        _check_memory(found)
        problem = found
    if n_good == 0 and problem is not None:
        raise NotAudio(
            f"{shown(path)}: its sound cannot be decoded ({_words(problem)}). Fetch it again, or exclude it."
        )


def _planes(frame: Any, form: str, n_channels: int) -> list[npt.NDArray[Any]]:
    """The samples of a frame as they lie in it, one array for each plane; PyAV's own way takes five times."""
    n = frame.samples if form.endswith("p") else frame.samples * n_channels
    kind = _TYPES[form.removesuffix("p")]
    return [np.frombuffer(plane, kind, n) for plane in frame.planes]


def _as_float(pieces: list[list[npt.NDArray[Any]]], form: str, n_channels: int) -> FloatArray:
    """Planes of frames (planar or packed, any sample type) -> float32 (n, n_channels)."""
    joined = [np.concatenate(planes) for planes in zip(*pieces, strict=True)]
    interleaved = np.stack(joined, axis=1) if form.endswith("p") else joined[0].reshape(-1, n_channels)
    kind = form.removesuffix("p")
    with np.errstate(over="ignore", invalid="ignore"):
        samples = interleaved.astype(np.float32, order="C", copy=False)
    if kind == "u8":
        samples -= np.float32(128)
    if _SCALES[kind] != 1.0:
        samples *= np.float32(_SCALES[kind])
    return samples
