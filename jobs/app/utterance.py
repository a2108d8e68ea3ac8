"""One utterance: bytes in, the ensemble's votes out. Nothing is kept unless its speaker asks for it."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from callanalytics.audio import decode_recording
from callanalytics.config import AudioSettings
from callanalytics.diarize.vad import FRAME_S, VoiceDetector, frame_levels_db
from callanalytics.errors import RecordingError, TooLong, TooShort
from callanalytics.workspace import Workspace
from ensemble.inference.ensemble import Ensemble
from ensemble.inference.vote import Votes

if TYPE_CHECKING:
    from callanalytics.records import Audio, FloatArray

LONGEST_S = 60.0  # the longest utterance that the corpora hold (ensemble/corpora/clip.py)
MAX_BYTES = 50_000_000
DECODE_TIMEOUT_S = 20.0
SPEECH_PROBABILITY = 0.5  # Silero's own default
_MAX_NAME = 80


class NoSpeech(RecordingError):
    """The recording is silent, or nobody speaks in it."""

    reason = "not_speech"


@dataclass(frozen=True, slots=True)
class Utterance:
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


def classify(
    content: bytes,
    name: str,
    ensemble: Ensemble,
    detector: VoiceDetector,
    *,
    audio: AudioSettings,
    neutral_share: float | None = None,
) -> Utterance:
    """Decode an utterance of up to `LONGEST_S` and let the ensemble vote on it.

    Args:
        content: A recording in any format that a run reads.
        name: What the browser calls the file; only its ending matters, and only for formats without header.
        ensemble: Who votes.
        detector: Finds out whether anybody speaks.
        audio: Settings of decoding; limits of size and length are those of this module.
        neutral_share: See `Ensemble.vote`.

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
        raise NoSpeech(
            f"Silence: nothing is louder than {loudest_db:.0f} dB below full scale. "
            "Check that the right microphone is chosen and not muted."
        )
    spoken = detector.probabilities(samples[None], levels_db) >= SPEECH_PROBABILITY
    speech_s = min(float(spoken.sum()) * FRAME_S, decoded.duration_s)
    if speech_s < ensemble.thresholds.shortest_s / 2:
        raise NoSpeech(
            f"No speech was found in {decoded.duration_s:.1f} s of sound (loudest part {loudest_db:.0f} dB "
            "below full scale). Speak closer to the microphone, or choose a recording of a voice."
        )
    votes = ensemble.vote([samples], neutral_share=neutral_share)
    return Utterance(
        samples=samples,
        sample_rate_hz=decoded.sample_rate_hz,
        origin=f"{decoded.container}, {decoded.codec}, {decoded.native_rate_hz / 1000:g} kHz",
        speech_s=speech_s,
        loudest_db=loudest_db,
        votes=votes,
        wall_s=time.perf_counter() - started,
    )


def only_member(ensemble: Ensemble, member: str) -> Ensemble:
    """Return the ensemble with one member left, to ask that one alone.

    Temperature and thresholds stay those of the whole ensemble: a single member has none of its own.
    Raises ValueError when there is no such member.
    """
    i = ensemble.member_names.index(member)
    return replace(
        ensemble,
        member_names=(member,),
        members=(ensemble.members[i],),
        on_voice=(ensemble.on_voice[i],),
        heads=None if ensemble.heads is None else ensemble.heads.only(i),
        weights=ensemble.weights[i : i + 1],
        trained_alone=None,
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
                f"{path.name}: {found}. Cut out one sentence, or analyse a whole call "
                "with `callanalytics analyze FILE`."
            ) from problem


def safe_name(name: str) -> str:
    """A file name made from what a browser sent: one part, printable, not hidden, not long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in last).lstrip(". ")
    stem, dot, ending = kept.rpartition(".")
    short = f"{stem[:_MAX_NAME]}{dot}{ending[:10]}" if dot else kept[:_MAX_NAME]
    encodable = short.encode("utf-8", "replace")[:200].decode("utf-8", "ignore")
    return encodable or "recording"


def keep_utterance(workspace: Workspace, utterance: Utterance, *, target: str | None, sentence: str) -> Path:
    """Write the sound (16 bit WAV at the rate it came with) and what is known of it as JSON beside it.

    Both files are private (0600). Returns the path of the sound; raises OSError.
    """
    import soundfile as sf

    folder = workspace.kept_utterances
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.now(UTC)
    path = folder / f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.wav"
    facts = {
        "kept_at": now.isoformat(timespec="seconds"),
        "aimed_for": target,
        "sentence": sentence,
        "heard_as": utterance.votes.emotion(0),
        "abstain_reason": utterance.votes.abstain_reason[0],
        "confidence": round(float(utterance.votes.confidence[0]), 4),
    }
    pcm = np.rint(np.clip(utterance.samples, -1.0, 1.0) * 32767.0).astype(np.int16)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        sf.write(stream, pcm, utterance.sample_rate_hz, format="WAV", subtype="PCM_16")
    beside = path.with_suffix(".json")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as text:
        json.dump(facts, text, indent=1)
    return path
