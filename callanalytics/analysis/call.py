"""The recipe: one pure function takes a recording to everything known about its call.

It knows nothing of databases, schedulers or clusters; a process pool and a cluster map the same
function. What it needs besides the recording is loaded once per process as `Models`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from callanalytics.analysis.assess import CallAssessment, assess, vote_segments
from callanalytics.audio import decode_recording
from callanalytics.audio.clips import evidence_clips
from callanalytics.audio.thumbnails import call_pictures
from callanalytics.config import Settings
from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.corrections import as_corrected, exchanged
from callanalytics.diarize.segments import cut_segments
from callanalytics.errors import TooShort, TruncatedAudio
from callanalytics.features import extract
from callanalytics.ingest.object_store import fetched
from callanalytics.records import (
    Audio,
    CallAnalysis,
    ChannelLayout,
    Clip,
    Diarization,
    FoundRecording,
    Recording,
    agent_key,
)
from ensemble.inference.device import CPU
from ensemble.inference.ensemble import Ensemble, load_ensemble


@dataclass(frozen=True)
class Models:
    """What a worker process loads once: the speech models and the ensemble."""

    speech: SpeechModels
    ensemble: Ensemble

    @classmethod
    def load(cls, ensemble_dir: Path | None, *, n_threads: int = 1, device: str = CPU) -> Models:
        """Load everything. Raises ensemble.errors.ModelMissing, ModelIncompatible or DeviceMissing."""
        return cls(
            SpeechModels.load(n_threads, device),
            load_ensemble(ensemble_dir, n_threads=n_threads, device=device),
        )


def load_analysis(settings: Settings, ensemble_dir: Path | None) -> Callable[[FoundRecording], CallAnalysis]:
    """`analyze_call` with everything loaded: what a worker process prepares once."""
    return partial(
        analyze_call, settings=settings, models=Models.load(ensemble_dir, device=settings.engine.device)
    )


def analyze_call(candidate: FoundRecording, settings: Settings, models: Models) -> CallAnalysis:
    """Decode, find who speaks when (as a person corrected it), cut, describe, vote, measure, judge.

    Raises a RecordingError when the sound cannot be analysed. A call without speech is a normal
    result with no segments.
    """
    stages = _Stages()
    recording, facts = candidate.recording, candidate.facts
    with stages("decode"), fetched(recording.paths, max_bytes=settings.audio.max_bytes) as paths:
        audio = decode_recording(paths, settings.audio, expected_duration_s=facts.expected_duration_s)
    _check_length(audio, recording, settings)
    with stages("diarize"):
        spoken = diarize(
            audio.samples,
            audio.sample_rate_hz,
            layout_hint=ChannelLayout.PAIR if len(recording.paths) > 1 else None,
            channel_roles=facts.channel_roles,
            channel_roles_source=facts.channel_roles_source,
            agent_voice=candidate.agent_voice,
            learn_voices=settings.privacy.voice_profiles and agent_key(facts) is not None,
            models=models.speech,
        )
        spoken = as_corrected(spoken, candidate.corrected)
        segments = cut_segments(spoken.turns, spoken.roles, settings.segments)
    with stages("features"):
        features = extract(audio.samples, audio.sample_rate_hz, segments)
    with stages("vote"):
        votes = vote_segments(audio, segments, spoken.layout, settings, models.ensemble)
    with stages("measure"):
        assessed = assess(audio.duration_s, spoken, segments, features, votes, settings)
    with stages("clips"):
        clips = _clips(audio, spoken, assessed, settings) if assessed.flagged else ()
    return CallAnalysis(
        recording=recording,
        facts=facts,
        native_rate_hz=audio.native_rate_hz,
        n_channels=audio.n_channels,
        codec=audio.codec,
        container=audio.container,
        duration_s=audio.duration_s,
        clipped_share=audio.clipped_share,
        diarization=spoken,
        segments=segments,
        features=features,
        votes=votes,
        ensemble_id=models.ensemble.ensemble_id,
        frustration_s=assessed.curve.at_s,
        frustration=assessed.curve.level,
        frustration_score=assessed.curve.score,
        measures=assessed.measures,
        escalations=assessed.escalations,
        flagged=assessed.flagged,
        clips=clips,
        stage_wall_s=stages.wall_s,
    )


def _clips(
    audio: Audio, spoken: Diarization, assessed: CallAssessment, settings: Settings
) -> tuple[Clip, ...]:
    """What the page of a flagged call plays and shows of its sound."""
    heard = sorted({turn.channel for turn in spoken.turns})
    return (*evidence_clips(audio, assessed.escalations, settings.report), *call_pictures(audio, heard))


def _check_length(audio: Audio, recording: Recording, settings: Settings) -> None:
    shortest_s = settings.audio.min_duration_s
    if audio.duration_s < shortest_s:
        raise TooShort(
            f"{recording.path.name}: {audio.duration_s:.1f} s of sound, and no call is shorter than "
            f"{shortest_s:g} s. Check the recorder, or lower min_duration_s in [audio]."
        )


def swap_roles(call: CallAnalysis, settings: Settings) -> CallAnalysis:
    """The same call with agent and caller exchanged: measured and assessed again, without inference.

    Evidence clips are dropped, since they belong to the old caller; `jobs.publishing.kept_clips` finds those
    that still fit.
    """
    spoken = exchanged(call.diarization)
    segments = tuple(replace(s, role=s.role.other) for s in call.segments)
    assessed = assess(call.duration_s, spoken, segments, call.features, call.votes, settings)
    return replace(
        call,
        diarization=spoken,
        segments=segments,
        frustration_s=assessed.curve.at_s,
        frustration=assessed.curve.level,
        frustration_score=assessed.curve.score,
        measures=assessed.measures,
        escalations=assessed.escalations,
        flagged=assessed.flagged,
        clips=(),
    )


def vote_again(call: CallAnalysis, settings: Settings, ensemble: Ensemble) -> CallAnalysis:
    """The same call, voices and segments with another ensemble's votes, measured and assessed anew.

    Decodes the recording; what was found out about who speaks when is kept, corrections included.
    Raises a RecordingError when the recording is gone or is no longer what it was.
    """
    stages = _Stages()
    with stages("decode"), fetched(call.recording.paths, max_bytes=settings.audio.max_bytes) as paths:
        audio = decode_recording(paths, settings.audio, expected_duration_s=call.facts.expected_duration_s)
    if abs(audio.duration_s - call.duration_s) > _SAME_LENGTH_S:
        raise TruncatedAudio(
            f"{call.recording.path.name}: {audio.duration_s:.1f} s of sound, {call.duration_s:.1f} s when "
            "it was analysed first. Run with --force to analyse it from the beginning."
        )
    spoken = call.diarization
    with stages("vote"):
        votes = vote_segments(audio, call.segments, spoken.layout, settings, ensemble)
    with stages("measure"):
        assessed = assess(call.duration_s, spoken, call.segments, call.features, votes, settings)
    with stages("clips"):
        clips = _clips(audio, spoken, assessed, settings) if assessed.flagged else ()
    return replace(
        call,
        votes=votes,
        ensemble_id=ensemble.ensemble_id,
        frustration_s=assessed.curve.at_s,
        frustration=assessed.curve.level,
        frustration_score=assessed.curve.score,
        measures=assessed.measures,
        escalations=assessed.escalations,
        flagged=assessed.flagged,
        clips=clips,
        stage_wall_s=stages.wall_s,
    )


_SAME_LENGTH_S = 0.05  # decoders of different versions differ by less than a frame


class _Stages:
    """Wall-clock seconds per stage of one analysis."""

    def __init__(self) -> None:
        self.wall_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.wall_s[name] = time.perf_counter() - started
