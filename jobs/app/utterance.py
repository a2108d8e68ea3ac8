"""One recording, heard: bytes in, the ensemble's opinion out. Nothing is kept on disk."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from callanalytics.audio import decode_recording
from callanalytics.config import AudioSettings
from callanalytics.diarize.vad import FRAME_S, VoiceDetector, frame_levels_db
from callanalytics.errors import RecordingError, TooLong, TooShort
from ensemble.inference.ensemble import Ensemble
from ensemble.inference.vote import Votes

if TYPE_CHECKING:
    from callanalytics.records import Audio, FloatArray

LONGEST_S = 60.0  # the longest utterance that the corpora hold (ensemble/corpora/clip_audio.py)
MAX_BYTES = 50_000_000
DECODE_TIMEOUT_S = 20.0
SPEECH_PROBABILITY = 0.5  # Silero's own default
_MAX_NAME = 80


class NothingToHear(RecordingError):
    """The recording is silent, or nobody speaks in it."""

    reason = "not_speech"


@dataclass(frozen=True, slots=True)
class Heard:
    """An utterance and what the ensemble makes of it.

    samples: float32 (n,), -1..1 at `sample_rate_hz`, both channels mixed. `votes` is about one segment:
    the whole. `speech_s` is how much of it is speech, `wall_s` what decoding and voting took.
    """

    samples: FloatArray
    sample_rate_hz: int
    origin: str  # container, codec and rate as found
    speech_s: float
    loudest_db: float
    votes: Votes
    wall_s: float

    @property
    def duration_s(self) -> float:
        """Length of the sound."""
        return len(self.samples) / self.sample_rate_hz


def hear(
    content: bytes,
    name: str,
    ensemble: Ensemble,
    detector: VoiceDetector,
    *,
    audio: AudioSettings,
    neutral_share: float | None = None,
) -> Heard:
    """Decode an utterance of up to `LONGEST_S` and let the ensemble vote on it.

    `name` is what the browser calls the file; only its ending matters, and only for formats without a
    header. `neutral_share`: see `Ensemble.vote`.

    Raises:
        RecordingError: it cannot be decoded, is too short, too long or silent, or nobody speaks.
    """
    started = time.perf_counter()
    decoded = _decode(content, name, audio)
    samples: FloatArray = decoded.samples.mean(axis=0, dtype=np.float32)
    if decoded.duration_s < ensemble.thresholds.shortest_s:
        raise TooShort(
            f"{decoded.duration_s:.1f} s of sound; at least {ensemble.thresholds.shortest_s:g} s are needed. "
            "Speak a whole sentence."
        )
    levels_db = frame_levels_db(samples[None])
    loudest_db = float(levels_db.max())
    if loudest_db < ensemble.thresholds.quietest_db:
        raise NothingToHear(
            f"Silence: nothing is louder than {loudest_db:.0f} dB below full scale. "
            "Check that the right microphone is chosen and not muted."
        )
    spoken = detector.probabilities(samples[None], levels_db) >= SPEECH_PROBABILITY
    speech_s = min(float(spoken.sum()) * FRAME_S, decoded.duration_s)
    if speech_s < ensemble.thresholds.shortest_s / 2:
        raise NothingToHear(
            f"No speech was found in {decoded.duration_s:.1f} s of sound (loudest part {loudest_db:.0f} dB "
            "below full scale). Speak closer to the microphone, or choose a recording of a voice."
        )
    votes = ensemble.vote([samples], neutral_share=neutral_share)
    return Heard(
        samples=samples,
        sample_rate_hz=decoded.sample_rate_hz,
        origin=f"{decoded.container}, {decoded.codec}, {decoded.native_rate_hz / 1000:g} kHz",
        speech_s=speech_s,
        loudest_db=loudest_db,
        votes=votes,
        wall_s=time.perf_counter() - started,
    )


def only_member(ensemble: Ensemble, member: str) -> Ensemble:
    """The ensemble with one member left, to hear that one alone.

    Temperature and thresholds stay those of the whole ensemble: a single member has none of its own.
    Raises ValueError when there is no such member.
    """
    i = ensemble.member_names.index(member)
    return replace(
        ensemble,
        member_names=(member,),
        members=(ensemble.members[i],),
        weights=ensemble.weights[i : i + 1],
    )


def _decode(content: bytes, name: str, audio: AudioSettings) -> Audio:
    limits = audio.model_copy(
        update={
            "max_duration_s": LONGEST_S,
            "max_bytes": min(MAX_BYTES, audio.max_bytes),
            "decode_timeout_s": DECODE_TIMEOUT_S,
        }
    )
    # The decoders read files. This one lies in a private folder and is gone before the answer is shown.
    with tempfile.TemporaryDirectory(prefix="callanalytics-") as folder:
        path = Path(folder) / safe_name(name)
        path.write_bytes(content)
        try:
            return decode_recording([path], limits)
        except TooLong as problem:
            if len(content) > limits.max_bytes:
                found = f"{len(content) / 1e6:,.0f} MB where {limits.max_bytes / 1e6:,.0f} MB are the most"
            else:
                found = f"longer than {LONGEST_S:.0f} s, or too slow to decode"
            raise TooLong(
                f"{path.name}: {found}. Cut out one sentence, or hear a whole call with "
                "`callanalytics analyze FILE`."
            ) from problem


def safe_name(name: str) -> str:
    """A file name made from what a browser sent: one part, printable, not hidden, not long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in last).lstrip(". ")
    stem, dot, ending = kept.rpartition(".")
    short = f"{stem[:_MAX_NAME]}{dot}{ending[:10]}" if dot else kept[:_MAX_NAME]
    encodable = short.encode("utf-8", "replace")[:200].decode("utf-8", "ignore")
    return encodable or "recording"
