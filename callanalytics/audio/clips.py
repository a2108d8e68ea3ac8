"""A few seconds of a call to listen to, as small MP3: cut, faded, levelled and exported by pydub.

MP3 and not Opus: every browser plays it from a file or from a page that embeds it, Safari included,
and at 24 kbit/s a ten-second clip of telephone speech is 30 kB. pydub calls an ffmpeg to encode; the
one inside the imageio-ffmpeg wheel serves, so no system ffmpeg is needed, and none is searched in the
current folder.
"""

from __future__ import annotations

import io
import logging
import shutil
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
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
BIT_RATE = "24k"
# 8 kHz would be MPEG-2.5, which is no standard; 16 kHz is MPEG-2, which every player knows.
MP3_RATE_HZ = 16_000

ClipFormat = Literal["mp3", "wav"]
_log = logging.getLogger(__name__)


class NoEncoder(CallAnalyticsError):
    """No ffmpeg was found that could encode a clip."""


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
        clip_format: "wav" needs no ffmpeg.

    Raises:
        ValueError: nothing of the stretch lies inside the recording.
        NoEncoder: no ffmpeg to encode MP3 with.
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
    """The moments to hear, by time: the first of every escalation before the second of any."""
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
    from pydub.exceptions import CouldntEncodeError

    encoder = find_encoder()
    sound.converter = encoder
    try:
        # -map_metadata -1: nothing but the sound goes into the file.
        sound.export(
            out,
            format="mp3",
            codec="libmp3lame",
            bitrate=BIT_RATE,
            parameters=["-ar", str(MP3_RATE_HZ), "-map_metadata", "-1"],
        )
    except (CouldntEncodeError, OSError) as problem:
        raise NoEncoder(f"{encoder} could not encode MP3 ({str(problem).splitlines()[0]}).") from None


@cache
def _pydub() -> Any:
    """pydub's AudioSegment. On import pydub warns when there is no ffmpeg on the PATH; ours is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        from pydub import AudioSegment
    return AudioSegment


@cache
def find_encoder() -> str:
    """Path of the ffmpeg that encodes clips: the wheel's own, else the system's.

    Raises:
        NoEncoder: there is neither.
    """
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        system = shutil.which("ffmpeg")
        if system is None:
            raise NoEncoder(
                "no ffmpeg to encode clips with: the imageio-ffmpeg wheel for this platform has none. "
                "Install the system's ffmpeg."
            ) from None
        return system
