"""A clip's audio, whatever the container."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora.clip import Clip
from ensemble.model_errors import CorpusError

MAX_CLIP_S = 60.0


def decode_clip(clip: Clip, sample_rate_hz: int) -> NDArray[np.float32]:
    """Mono float32 audio of a clip at the asked rate.

    Raises CorpusError for what cannot be decoded, is empty, or is over a
    minute (an utterance is not).
    """
    import soundfile as sf
    import soxr

    try:
        with sf.SoundFile(clip.path) as file:
            rate_hz = file.samplerate
            start, end = _part(clip, rate_hz, file.frames)
            if start:
                file.seek(start)  # of a call of an hour only the clip is read
            samples = file.read(end - start, dtype="float32", always_2d=True)
    except (sf.LibsndfileError, OSError, TypeError) as error:  # TypeError: raw samples say no rate
        samples, rate_hz = _decode_with_ffmpeg(clip.path, error)
        start, end = _part(clip, rate_hz, len(samples))
        samples = samples[start:end]
    mono = samples.mean(axis=1)
    if rate_hz != sample_rate_hz and mono.size:
        mono = soxr.resample(mono, rate_hz, sample_rate_hz)
    if not mono.size:
        raise CorpusError(f"{clip.path}: holds no audio between the clip's start and end")
    audio: NDArray[np.float32] = np.clip(np.nan_to_num(mono), -1.0, 1.0).astype(np.float32)
    return audio


def _part(clip: Clip, rate_hz: int, n_there: int) -> tuple[int, int]:
    """First sample of the clip in its file and the one after its last."""
    longest_s = n_there / rate_hz
    start = round(min(clip.start_s or 0.0, longest_s) * rate_hz)
    end = n_there if clip.end_s is None else round(min(clip.end_s, longest_s) * rate_hz)
    if end - start > MAX_CLIP_S * rate_hz:
        raise CorpusError(f"{clip.path}: {(end - start) / rate_hz:.0f} s long; cut it to utterances first")
    return start, end


def _decode_with_ffmpeg(path: Path, first_error: Exception) -> tuple[NDArray[np.float32], int]:
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="flt", layout="mono")
            pieces = [
                out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)
            ]
            rate_hz = stream.rate
    except (av.FFmpegError, IndexError, ValueError, OSError) as error:
        raise CorpusError(f"{path}: unreadable ({first_error}; {error})") from error
    if not pieces:
        raise CorpusError(f"{path}: holds no audio")
    joined: NDArray[np.float32] = np.concatenate(pieces, axis=1).reshape(-1, 1).astype(np.float32)
    return joined, int(rate_hz)
