"""Files without a header: their extension and `[audio] headerless` say what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from callanalytics.audio.pyav import MAGIC, ffmpeg_source, is_text
from callanalytics.audio.source import Source, Stretch, check_format, shown
from callanalytics.audio.wav import Piece, is_wav, raw_source
from callanalytics.config import AudioSettings
from callanalytics.errors import InvalidAudio, NotAudio

_PLAIN = {"mulaw": "pcm_mulaw", "alaw": "pcm_alaw", "s16le": "pcm_s16le", "u8": "pcm_u8"}
_FRAMED = frozenset({"gsm", "g722", "g723_1", "g729"})  # names of FFmpeg's demuxers
_TEXT_PROBE_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Hint:
    """What the settings say that a headerless file holds."""

    codec: str
    rate_hz: int
    n_channels: int


def hint_of(path: Path, part: Stretch, settings: AudioSettings) -> Hint | None:
    """The hint for this file's extension, unless its content shows that it has a header after all.

    Raises:
        NotAudio: the content is plain text, or the hint in the settings is not understood.
    """
    written = settings.headerless.get(path.suffix.lower().removeprefix("."))
    if written is None:
        return None
    head = part.at(0, 12)
    if is_wav(head) or any(head[at:].startswith(magic) for at, magic, _ in MAGIC):
        return None
    if is_text(part.at(0, _TEXT_PROBE_BYTES)):
        raise NotAudio(
            f"{shown(path)}: expected {written.split(':')[0]} samples, found plain text. Exclude it."
        )
    codec, _, rest = written.partition(":")
    rate, _, channels = rest.partition(":")
    if codec not in {*_PLAIN, *_FRAMED} or not rate.isdecimal() or not channels.isdecimal():
        raise NotAudio(
            f'{shown(path)}: [audio] headerless says "{written}"; expected "<codec>:<rate_hz>:<channels>" '
            f"with one of {', '.join([*_PLAIN, *sorted(_FRAMED)])}. Correct the settings."
        )
    return Hint(codec, int(rate), int(channels))


@contextmanager
def headerless_source(path: Path, part: Stretch, hint: Hint, settings: AudioSettings) -> Iterator[Source]:
    """Open a headerless file as its hint says. Raises InvalidAudio when the hint cannot be right."""
    check_format(path, hint.rate_hz, hint.n_channels)
    if hint.codec in _PLAIN:
        whole = [Piece(0, part.n_bytes)]
        yield raw_source(part, _PLAIN[hint.codec], hint.codec, hint.rate_hz, hint.n_channels, whole)
        return
    if hint.n_channels != 1:
        raise InvalidAudio(
            f"{shown(path)}: {hint.codec} is mono, the hint says {hint.n_channels}. Correct it."
        )
    with ffmpeg_source(path, part, settings, raw_format=hint.codec) as source:
        yield source
