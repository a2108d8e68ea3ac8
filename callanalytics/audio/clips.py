"""A few seconds of a call to listen to, as small MP3: cut, faded, levelled by pydub.

MP3 and not Opus: every browser plays it from a file or from a page that embeds it, Safari included,
and at 24 kbit/s a ten-second clip of telephone speech is 30 kB. pydub would call an ffmpeg to encode; the
LAME inside PyAV, which decodes the recordings, needs none and no process.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import zip_longest
from typing import Any, Literal

import numpy as np

from callanalytics.config import ReportSettings
from callanalytics.errors import CallAnalyticsError
from callanalytics.records import Audio, Clip, Escalation, Evidence, FloatArray

FADE_MS = 20  # long enough that a cut does not click, too short to be heard
TARGET_DBFS = -20.0  # mean level of speech in a clip: comfortable, with room for peaks
PEAK_DBFS = -1.0  # MP3 overshoots a little
MAX_GAIN_DB = 24.0  # more would raise the noise of an almost silent line to a roar
ENCODER = "libmp3lame"
BIT_RATE = 24_000
# LAME's own choice is 3. From 7 on it does not weigh noise by what masks it: two thirds of the time, and
# nearer to the sound of a telephone call by waveform (benchmarks/RESULTS.md).
EFFORT = "7"
# 8 kHz would be MPEG-2.5, which is no standard; 16 kHz is MPEG-2, which every player knows.
MP3_RATE_HZ = 16_000

# A contrast clip: the caller calm, a tick, then what stands against it; about 25 s in all.
CONTRAST_NAMES = ("contrast.mp3", "contrast.json")
CALM_S = 4.0
MOMENT_S = 6.5
PAUSE_S = 0.3  # of silence before and after the tick, and between moments
TICK_S = 0.06
TICK_HZ = 1000.0
TICK_DBFS = -26.0  # a little under speech

ClipFormat = Literal["mp3", "wav"]
_log = logging.getLogger(__name__)


class NoEncoder(CallAnalyticsError):
    """PyAV has no MP3 encoder here, or it failed."""


def evidence_clips(
    audio: Audio, escalations: Sequence[Escalation], settings: ReportSettings
) -> tuple[Clip, ...]:
    """The evidence of a flagged call as clips, at most `max_clips_per_call`, by time.

    The first moment of every escalation comes before the second of any. Named by
    `Evidence.clip_name`. Without an encoder there are no clips and a warning in the log: the
    analysis of a call does not fail for want of a clip.
    """
    chosen = most_telling(escalations, settings.max_clips_per_call)
    try:
        return tuple(
            Clip(
                name=moment.clip_name,
                start_s=max(0.0, moment.start_s - settings.clip_context_s),
                end_s=min(audio.duration_s, moment.end_s + settings.clip_context_s),
                content=clip_bytes(
                    audio.samples,
                    audio.sample_rate_hz,
                    moment.start_s,
                    moment.end_s,
                    context_s=settings.clip_context_s,
                ),
            )
            for moment in chosen
        )
    except NoEncoder as problem:
        _log.warning("no evidence clips: %s", problem)
        return ()


@dataclass(frozen=True, slots=True)
class Contrast:
    """What a contrast clip plays, each part by time: stretches in seconds, and moments with their words."""

    calm: tuple[tuple[float, float], ...]
    moments: tuple[Evidence, ...]


def contrast_clip(audio: Audio, contrast: Contrast) -> tuple[Clip, ...]:
    """Calm speech and moments of one call in one sound, and a list of where each part lies in it.

    One gain for all of it, so that a raised voice is heard as raised. The list is a JSON object: `calm` and
    `moments`, each part with start_s and end_s in the recording, at_s in the clip, and a moment's text;
    `tick_s` is where the tick sounds (None without calm speech), `duration_s` the length of the clip. Nothing
    to play, or no encoder (then with a warning in the log), gives no clip.
    """
    calm = [(start, end, "") for start, end in contrast.calm]
    moments = [(moment.start_s, moment.end_s, moment.text) for moment in contrast.moments]
    if not moments:
        return ()
    silence = partial(_silence, audio.sample_rate_hz)
    sound, parts = silence(0.0), list[dict[str, Any]]()
    for start_s, end_s, text in (*calm, *moments):
        piece = _segment(_stretch(audio, start_s, end_s), audio.sample_rate_hz)
        sound += silence(PAUSE_S if parts else 0.0)
        parts.append({"start_s": start_s, "end_s": end_s, "at_s": len(sound) / 1000, "text": text})
        sound += piece.fade_in(min(FADE_MS, len(piece) // 2)).fade_out(min(FADE_MS, len(piece) // 2))
    sound, tick_s = _levelled(sound), None
    if calm:
        tick_s = parts[len(calm)]["at_s"]
        tick = _tick(audio.sample_rate_hz) + silence(PAUSE_S)
        sound = sound[: 1000 * tick_s] + tick + sound[1000 * tick_s :]
        for part in parts[len(calm) :]:
            part["at_s"] += len(tick) / 1000
    out = io.BytesIO()
    try:
        _export_mp3(sound, out)
    except NoEncoder as problem:
        _log.warning("no contrast clip: %s", problem)
        return ()
    whole = {
        "calm": parts[: len(calm)],
        "moments": parts[len(calm) :],
        "tick_s": tick_s,
        "duration_s": len(sound) / 1000,
    }
    span = (min(p["start_s"] for p in parts), max(p["end_s"] for p in parts))
    contents = (out.getvalue(), json.dumps(whole, separators=(",", ":")).encode())
    return tuple(Clip(name, *span, content) for name, content in zip(CONTRAST_NAMES, contents, strict=True))


def _stretch(audio: Audio, start_s: float, end_s: float) -> FloatArray:
    start, end = round(start_s * audio.sample_rate_hz), round(end_s * audio.sample_rate_hz)
    return np.atleast_2d(audio.samples)[:, max(0, start) : end]


def _tick(sample_rate_hz: int) -> Any:
    at_s = np.arange(round(TICK_S * sample_rate_hz)) / sample_rate_hz
    wave = np.sin(2 * np.pi * TICK_HZ * at_s) * np.hanning(len(at_s))
    sound = _segment(wave[None, :].astype(np.float32), sample_rate_hz)
    return sound.apply_gain(TICK_DBFS - sound.dBFS)


def _silence(sample_rate_hz: int, length_s: float) -> Any:
    return _pydub().silent(duration=round(1000 * length_s), frame_rate=sample_rate_hz)


def clip_bytes(
    samples: FloatArray,
    sample_rate_hz: int,
    start_s: float,
    end_s: float,
    *,
    context_s: float = 0.0,
    clip_format: ClipFormat = "mp3",
) -> bytes:
    """Encode a stretch of a call, mono (both sides mixed), faded and levelled.

    Args:
        samples: float32 (n_channels, n) or (n,), -1..1.
        sample_rate_hz: of the samples.
        start_s: where the moment begins; with `end_s` it is limited to the recording.
        end_s: where it ends.
        context_s: added on both sides.
        clip_format: "wav" needs no encoder.

    Raises:
        ValueError: nothing of the stretch lies inside the recording.
        NoEncoder: PyAV cannot encode MP3 here.
    """
    start = max(0, round((start_s - context_s) * sample_rate_hz))
    end = min(samples.shape[-1], round((end_s + context_s) * sample_rate_hz))
    if start >= end:
        raise ValueError(f"a clip from {start_s} s to {end_s} s lies outside {samples.shape[-1]} samples")
    clip = _levelled(_segment(np.atleast_2d(samples)[:, start:end], sample_rate_hz))
    fade_ms = min(FADE_MS, len(clip) // 2)
    clip = clip.fade_in(fade_ms).fade_out(fade_ms)
    out = io.BytesIO()
    if clip_format == "wav":
        clip.export(out, format="wav")
    else:
        _export_mp3(clip, out)
    return out.getvalue()


def most_telling(escalations: Iterable[Escalation], limit: int) -> list[Evidence]:
    """At most `limit` moments to hear, by time: the first of every escalation before the second of any."""
    rounds = zip_longest(*(escalation.evidence for escalation in escalations))
    moments = [moment for turn in rounds for moment in turn if moment is not None]
    by_name = {moment.clip_name: moment for moment in reversed(moments)}
    first_seen = dict.fromkeys(moment.clip_name for moment in moments)
    return sorted((by_name[name] for name in list(first_seen)[:limit]), key=lambda moment: moment.start_s)


def _segment(samples: FloatArray, sample_rate_hz: int) -> Any:
    """Decoded sound as a mono pydub AudioSegment of 16 bits."""
    pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
    sound = _pydub()(
        data=np.ascontiguousarray(pcm.T).tobytes(),
        sample_width=2,
        frame_rate=sample_rate_hz,
        channels=len(samples),
    )
    return sound.set_channels(1)


def _levelled(sound: Any) -> Any:
    """Bring the clip to a comfortable level; loud and quiet inside it keep their relation."""
    if sound.rms == 0:
        return sound
    gain_db = min(TARGET_DBFS - sound.dBFS, PEAK_DBFS - sound.max_dBFS, MAX_GAIN_DB)
    return sound.apply_gain(gain_db)


def _export_mp3(sound: Any, out: io.BytesIO) -> None:
    import av

    given = av.AudioFrame.from_ndarray(np.frombuffer(sound.raw_data, "<i2")[None], "s16", "mono")
    given.sample_rate = sound.frame_rate
    at_rate = av.AudioResampler("s16p", "mono", MP3_RATE_HZ)
    try:
        # No tag: nothing but the sound goes into the file.
        with av.open(out, "w", format="mp3", options={"id3v2_version": "0"}) as container:
            stream: Any = container.add_stream(
                ENCODER,
                rate=MP3_RATE_HZ,
                options={"compression_level": EFFORT},
                layout="mono",
                bit_rate=BIT_RATE,
            )
            for frame in (*at_rate.resample(given), *at_rate.resample(None), None):
                container.mux(stream.encode(frame))
    except (av.FFmpegError, ValueError) as problem:  # ValueError: PyAV's for a codec that it lacks
        raise NoEncoder(f"PyAV {av.__version__} could not encode MP3 with {ENCODER} ({problem}).") from None


@cache
def _pydub() -> Any:
    """pydub's AudioSegment. On import pydub warns when there is no ffmpeg on the PATH; ours is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        from pydub import AudioSegment
    return AudioSegment
