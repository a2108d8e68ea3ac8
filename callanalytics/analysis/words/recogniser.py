"""Words recognised on this machine by a Whisper model in CTranslate2's format, through faster-whisper.

Only stretches in which our turns have speech are recognised, packed into blocks of up to 28 s: Whisper always
computes 30 s, however little is said. Words where nothing is said are its known weakness (Koenecke et al.,
Careless Whisper, FAccT 2024), so segments are dropped that the model itself takes for no speech, is not sure
of, or that repeat themselves; the thresholds are those of Radford et al., Robust Speech Recognition via
Large-Scale Weak Supervision, 2022, section 4.5.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from callanalytics.analysis.assess import CallAssessment
from callanalytics.analysis.words import HEARD, NO_WORDS, CallWords, Piece, Word
from callanalytics.analysis.words.sides import placed
from callanalytics.audio.clips import most_telling
from callanalytics.config import ReportSettings, Settings
from callanalytics.diarize.segments import covered_s, merge_intervals
from callanalytics.errors import UsageError
from callanalytics.records import Audio, ChannelLayout, Diarization, FloatArray
from ensemble.model_errors import ModelIncompatible, ModelMissing

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

RATE_HZ = 16_000
_BLOCK_S = 28.0
_BETWEEN_S = 0.6  # silence between two stretches of a block
_PAD_S = 0.25
_MORE_FRAMES = 300  # of 10 ms; with 100 the word error on the bank calls was a point higher
_NO_SPEECH, _LOG_PROBABILITY, _COMPRESSION = 0.6, -1.0, 2.4
_MOST_REPEATS = 4
_ENDS = (".", "?", "!", "。", "？", "！")  # of a sentence
# A call whose fulfilled rules have this share of the weight that flags is a near miss.
_NEAR_SHARE = 0.75
# Whoever speaks during this share of a moment is recognised around it.
_SPEAKS_SHARE = 0.3
_FILES = (
    "config.json",
    "model.bin",
    "tokenizer.json",
)  # without the last, faster-whisper would look for it online
_KIND = b"WhisperSpec"


def load_model(folder: Path, n_threads: int = 1) -> WhisperModel:
    """Load a model from its folder; nothing is downloaded.

    Raises:
        UsageError: faster-whisper is not installed.
        ModelMissing: there is no such folder, or a file of it is missing.
        ModelIncompatible: the model is damaged, or of another kind.
    """
    _check_files(folder)
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        raise UsageError(
            "[words] model needs faster-whisper, which is not installed. Run: "
            "pip install 'callanalytics[words]'"
        ) from None

    class Trimmed(WhisperModel):  # type: ignore[misc]
        """Encodes a block with 3 s of silence after it instead of 30 s in all: half the time."""

        def encode(self, features: FloatArray) -> Any:
            differs = np.flatnonzero((features != features[..., -1:]).any(axis=0))
            n_frames = int(differs[-1]) + 1 + _MORE_FRAMES if len(differs) else features.shape[-1]
            return super().encode(np.ascontiguousarray(features[..., :n_frames]))

    try:
        return Trimmed(
            str(folder), device="cpu", compute_type="int8", cpu_threads=n_threads, local_files_only=True
        )
    except Exception as problem:  # CTranslate2 and tokenizers raise types of their own
        raise ModelIncompatible(
            f"{folder}: the model cannot be loaded ({problem}). It is damaged, or not a Whisper model for "
            "faster-whisper: take the folder over anew, or correct model in [words]."
        ) from None


def _check_files(folder: Path) -> None:
    """Raises ModelMissing, ModelIncompatible."""
    if not folder.is_dir():
        raise ModelMissing(f"{folder}: no such folder. Correct model in [words] of config.toml.")
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if not any(folder.glob("vocabulary.*")):
        missing.append("vocabulary.json")
    if missing:
        raise ModelMissing(
            f"{folder}: {', '.join(missing)} is missing, which a Whisper model for faster-whisper has. Take "
            "the whole folder over, or correct model in [words]."
        )
    # CTranslate2: uint32 version, then the length and the name of what kind of model it is.
    with (folder / "model.bin").open("rb") as file:
        head = file.read(6 + len(_KIND))
    size = struct.unpack_from("<H", head, 4)[0] if len(head) >= 6 else 0
    if head[6:] != _KIND or size != len(_KIND) + 1:
        raise ModelIncompatible(
            f"{folder}: model.bin is not a Whisper model in CTranslate2's format. Correct model in [words]."
        )


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Seconds of one channel that are recognised together."""

    channel: int
    start_s: float
    end_s: float


class Recogniser:
    """A model in a folder. It is loaded when the first call wants words."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _model(self) -> Any:
        return load_model(self._folder)

    def load(self) -> None:
        """Load the model now. Raises what `load_model` raises."""
        _ = self._model

    def words_of(
        self, audio: Audio, spoken: Diarization, assessment: CallAssessment, settings: Settings
    ) -> CallWords:
        """The words that `[words] what` asks for of this call; none of a call that it does not ask for.

        Raises what `load_model` raises.
        """
        stretches = _wanted(spoken, assessment, audio.duration_s, settings)
        if not stretches:
            return NO_WORDS
        apart = spoken.layout in (ChannelLayout.STEREO, ChannelLayout.PAIR)
        until = time.monotonic() + settings.words.time_limit_s
        pieces: list[Piece] = []
        language, note = settings.words.language, None
        whole = settings.words.what != "moments"
        for block in _blocks(stretches):
            if time.monotonic() > until:
                note, whole = "out_of_time", False
                break
            found, language = self._recognised(audio, block, language, apart)
            pieces += found
        if note is None and not whole:
            note = "only_moments"
        return CallWords(placed(pieces, spoken, HEARD, check=False), whole=whole, note=note)

    def _recognised(
        self, audio: Audio, block: Sequence[_Stretch], language: str | None, apart: bool
    ) -> tuple[list[Piece], str]:
        """The words of a block, each in its place in the call, and the language they are in."""
        sound, places = _packed(audio, block)
        segments, info = self._model.transcribe(
            sound,
            language=language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            word_timestamps=True,
            no_speech_threshold=_NO_SPEECH,
            log_prob_threshold=_LOG_PROBABILITY,
            compression_ratio_threshold=_COMPRESSION,
        )
        pieces = []
        for segment in segments:
            if not _is_said(segment):
                continue
            before: int | None = None  # place of the word before it in its sentence
            for word in segment.words or ():
                before = _place(places, float(word.start), float(word.end), before)
                stretch, at_s, _ = places[before]
                start_s = min(max(stretch.start_s - at_s + word.start, stretch.start_s), stretch.end_s)
                end_s = min(max(stretch.start_s - at_s + word.end, start_s), stretch.end_s)
                text = word.word.strip()
                if text:
                    one = Word(text, start_s, end_s, float(word.probability))
                    label = f"channel {stretch.channel}" if apart else None
                    pieces.append(Piece(label, start_s, end_s, (one,), timed=True))
                if text.endswith(_ENDS):
                    before = None
        return pieces, str(info.language)


def _wanted(
    spoken: Diarization, assessment: CallAssessment, duration_s: float, settings: Settings
) -> list[_Stretch]:
    """The stretches of speech to recognise, by time."""
    what = settings.words.what
    weight = sum(escalation.weight for escalation in assessment.escalations)
    is_near = weight >= _NEAR_SHARE * settings.frustration.flag_weight
    if what != "all" and not (assessment.flagged or is_near):
        return []
    found: list[_Stretch] = []
    for channel in sorted({turn.channel for turn in spoken.turns}):
        turns = [(t.start_s - _PAD_S, t.end_s + _PAD_S) for t in spoken.turns if t.channel == channel]
        windows = np.array([[0.0, duration_s]])
        if what == "moments":
            windows = _around_moments(spoken, channel, assessment, settings.report)
        for start_s, end_s in merge_intervals(turns):
            for begin_s, finish_s in windows:
                first, last = max(start_s, begin_s, 0.0), min(end_s, finish_s, duration_s)
                if last - first > _PAD_S:
                    found += _cut(_Stretch(channel, float(first), float(last)))
    return sorted(found, key=lambda s: (s.start_s, s.channel)) if what == "moments" else found


def _around_moments(
    spoken: Diarization, channel: int, assessment: CallAssessment, settings: ReportSettings
) -> NDArray[np.float64]:
    """The moments that get clips, with their context, in which somebody on the channel speaks."""
    turns = merge_intervals([(t.start_s, t.end_s) for t in spoken.turns if t.channel == channel])
    found = []
    for moment in most_telling(assessment.escalations, settings.max_clips_per_call):
        start_s, end_s = np.array([moment.start_s]), np.array([moment.end_s])
        if covered_s(turns, start_s, end_s)[0] >= _SPEAKS_SHARE * (moment.end_s - moment.start_s):
            context_s = settings.clip_context_s
            found.append((moment.start_s - context_s, moment.end_s + context_s))
    return merge_intervals(found)


def _cut(stretch: _Stretch) -> Iterator[_Stretch]:
    """A stretch in pieces that fit into a block."""
    start_s = stretch.start_s
    while stretch.end_s - start_s > _BLOCK_S:
        yield _Stretch(stretch.channel, start_s, start_s + _BLOCK_S)
        start_s += _BLOCK_S
    yield _Stretch(stretch.channel, start_s, stretch.end_s)


def _blocks(stretches: Sequence[_Stretch]) -> Iterator[list[_Stretch]]:
    """As many stretches together as fit into a block."""
    block: list[_Stretch] = []
    length_s = 0.0
    for stretch in stretches:
        more_s = stretch.end_s - stretch.start_s + _BETWEEN_S
        if block and length_s + more_s > _BLOCK_S + _BETWEEN_S:
            yield block
            block, length_s = [], 0.0
        block.append(stretch)
        length_s += more_s
    if block:
        yield block


_Place = tuple[_Stretch, float, float]  # stretch, where it begins in the block and where it ends, seconds


def _packed(audio: Audio, block: Sequence[_Stretch]) -> tuple[FloatArray, list[_Place]]:
    """The stretches one after the other at 16 kHz, with silence between, and where each lies in the sound."""
    import soxr

    parts: list[FloatArray] = []
    places: list[_Place] = []
    silence = np.zeros(round(_BETWEEN_S * audio.sample_rate_hz), dtype=np.float32)
    n_before = 0
    for stretch in block:
        first = round(stretch.start_s * audio.sample_rate_hz)
        last = round(stretch.end_s * audio.sample_rate_hz)
        part = audio.samples[stretch.channel, first:last]
        begin_s = n_before / audio.sample_rate_hz
        places.append((stretch, begin_s, begin_s + len(part) / audio.sample_rate_hz))
        parts += [part, silence]
        n_before += len(part) + len(silence)
    sound: FloatArray = soxr.resample(np.concatenate(parts[:-1]), audio.sample_rate_hz, RATE_HZ)
    return sound.astype(np.float32), places


def _place(places: Sequence[_Place], start_s: float, end_s: float, before: int | None) -> int:
    """Number of the place that a word belongs to; `before` is that of the word before it in its sentence.

    Whisper cuts words finely inside speech, but the first word after silence may begin in that silence or
    even before it, and the last one before silence may end long after it. So a word belongs where half of it
    or more lies, else where it begins. One that begins in silence goes with the word before it, or, as the
    first of a sentence or a segment, to the speech that follows.
    """
    for number, (_, first_s, last_s) in enumerate(places):
        if start_s < end_s and min(end_s, last_s) - max(start_s, first_s) >= (end_s - start_s) / 2:
            return number
    following = next((n for n, (_, _, last_s) in enumerate(places) if start_s < last_s), len(places) - 1)
    if before is None or start_s >= places[following][1]:
        return following
    return before


def _is_said(segment: Any) -> bool:
    """Whether a segment is believed: no silence, sure enough, and not the same words over and over."""
    if segment.no_speech_prob > _NO_SPEECH and segment.avg_logprob < _LOG_PROBABILITY / 2:
        return False
    if segment.avg_logprob < _LOG_PROBABILITY or segment.compression_ratio > _COMPRESSION:
        return False
    return not repeats(segment.text.lower().split())


def repeats(words: Sequence[str]) -> bool:
    """Whether one to four words are said more than four times in a row, as a model does that is lost."""
    for size in (1, 2, 3, 4):
        n_same = 0
        for position in range(size, len(words)):
            n_same = n_same + 1 if words[position] == words[position - size] else 0
            if n_same >= size * _MOST_REPEATS:
                return True
    return False
