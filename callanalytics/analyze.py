"""The recipe: one pure function takes a recording to everything known about its call.

It knows nothing of databases, schedulers or clusters; a process pool and a cluster map the same
function. What it needs besides the recording is loaded once per process as `Models`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from callanalytics.audio import decode_recording
from callanalytics.clips import evidence_clips
from callanalytics.config import Settings
from callanalytics.denoise import denoise
from callanalytics.diarize import SpeechModels, diarize
from callanalytics.errors import TooShort, TruncatedAudio
from callanalytics.escalation import escalations, is_flagged
from callanalytics.features import extract
from callanalytics.frustration import Curve, evidence_probabilities, frustration_curve
from callanalytics.measures import call_measures
from callanalytics.pictures import call_pictures
from callanalytics.records import (
    Audio,
    CallAnalysis,
    Candidate,
    ChannelLayout,
    Clip,
    Diarization,
    Escalation,
    Features,
    Measure,
    Recording,
    Role,
    RoleSource,
    Segment,
    agent_key,
)
from callanalytics.remote import fetched
from callanalytics.segment import cut_segments
from ensemble.device import CPU
from ensemble.predict import Ensemble, load_ensemble
from ensemble.vote import Votes


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


def load_analysis(settings: Settings, ensemble_dir: Path | None) -> Callable[[Candidate], CallAnalysis]:
    """`analyze_call` with everything loaded: what a worker process prepares once."""
    return partial(
        analyze_call, settings=settings, models=Models.load(ensemble_dir, device=settings.engine.device)
    )


def analyze_call(candidate: Candidate, settings: Settings, models: Models) -> CallAnalysis:
    """Decode, find who speaks when, cut, describe, vote, measure, judge.

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
        segments = cut_segments(spoken.turns, spoken.roles, settings.segments)
    with stages("features"):
        features = extract(audio.samples, audio.sample_rate_hz, segments)
    with stages("vote"):
        votes = vote_segments(audio, segments, spoken.layout, settings, models.ensemble)
    with stages("measure"):
        judged = judge(audio.duration_s, spoken, segments, features, votes, settings)
    with stages("clips"):
        clips = _clips(audio, spoken, judged, settings) if judged.flagged else ()
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
        frustration_s=judged.curve.at_s,
        frustration=judged.curve.level,
        frustration_score=judged.curve.score,
        measures=judged.measures,
        escalations=judged.escalations,
        flagged=judged.flagged,
        clips=clips,
        stage_wall_s=stages.wall_s,
    )


def _clips(audio: Audio, spoken: Diarization, judged: Judgement, settings: Settings) -> tuple[Clip, ...]:
    """What the page of a flagged call plays and shows of its sound."""
    heard = sorted({turn.channel for turn in spoken.turns})
    return (*evidence_clips(audio, judged.escalations, settings.report), *call_pictures(audio, heard))


def _check_length(audio: Audio, recording: Recording, settings: Settings) -> None:
    shortest_s = settings.audio.min_duration_s
    if audio.duration_s < shortest_s:
        raise TooShort(
            f"{recording.path.name}: {audio.duration_s:.1f} s of sound, and no call is shorter than "
            f"{shortest_s:g} s. Check the recorder, or lower min_duration_s in [audio]."
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows from segments, descriptors and votes by arithmetic alone."""

    curve: Curve
    measures: tuple[Measure, ...]
    escalations: tuple[Escalation, ...]
    flagged: bool


def judge(
    duration_s: float,
    spoken: Diarization,
    segments: Sequence[Segment],
    features: Features,
    votes: Votes,
    settings: Settings,
) -> Judgement:
    """Measure the call and apply the rules: no sound, no inference, so a correction can do it again."""
    curve = caller_frustration(segments, features, votes, settings)
    measures = call_measures(duration_s, spoken, segments, votes, curve)
    found = escalations(settings.rule, measures, spoken, segments, curve, duration_s)
    return Judgement(curve, measures, found, is_flagged(found, settings.frustration.flag_weight))


def swap_roles(call: CallAnalysis, settings: Settings) -> CallAnalysis:
    """The same call with agent and caller exchanged: measured and judged again, without inference.

    Evidence clips are dropped, since they belong to the old caller.
    """
    spoken = replace(
        call.diarization,
        roles={speaker: role.other for speaker, role in call.diarization.roles.items()},
        role_source=RoleSource.CORRECTION,
        role_confidence=1.0,
    )
    segments = tuple(replace(s, role=s.role.other) for s in call.segments)
    judged = judge(call.duration_s, spoken, segments, call.features, call.votes, settings)
    return replace(
        call,
        diarization=spoken,
        segments=segments,
        frustration_s=judged.curve.at_s,
        frustration=judged.curve.level,
        frustration_score=judged.curve.score,
        measures=judged.measures,
        escalations=judged.escalations,
        flagged=judged.flagged,
        clips=(),
    )


def vote_again(call: CallAnalysis, settings: Settings, ensemble: Ensemble) -> CallAnalysis:
    """The same call, voices and segments with another ensemble's votes, measured and judged anew.

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
        judged = judge(call.duration_s, spoken, call.segments, call.features, votes, settings)
    with stages("clips"):
        clips = _clips(audio, spoken, judged, settings) if judged.flagged else ()
    return replace(
        call,
        votes=votes,
        ensemble_id=ensemble.ensemble_id,
        frustration_s=judged.curve.at_s,
        frustration=judged.curve.level,
        frustration_score=judged.curve.score,
        measures=judged.measures,
        escalations=judged.escalations,
        flagged=judged.flagged,
        clips=clips,
        stage_wall_s=stages.wall_s,
    )


_SAME_LENGTH_S = 0.05  # decoders of different versions differ by less than a frame


def vote_segments(
    audio: Audio, segments: Sequence[Segment], layout: ChannelLayout, settings: Settings, ensemble: Ensemble
) -> Votes:
    """Let the ensemble label the segments that may be labelled; abstain on the others with a reason.

    Voices of roles outside `[emotion] roles` are never shown to the ensemble (EU AI Act, Art. 5(1)(f)).
    On a mono recording a segment with much overtalk is not one voice, so no label is kept for it.
    """
    rate = audio.sample_rate_hz
    samples = denoise(audio.samples, rate) if settings.audio.denoise else audio.samples
    allowed = [s.role.value in settings.emotion.roles for s in segments]
    silence = np.zeros(0, dtype=np.float32)
    waveforms = [
        samples[s.channel, round(s.start_s * rate) : round(s.end_s * rate)] if ok else silence
        for s, ok in zip(segments, allowed, strict=True)
    ]
    votes = ensemble.vote(
        waveforms,
        [s.speaker for s in segments],
        abstain=settings.emotion.abstain,
        neutral_share=settings.emotion.neutral_share,
    )
    mixed = layout in {ChannelLayout.MONO, ChannelLayout.FAKE_STEREO, ChannelLayout.ONE_SIDED}
    reasons = list(votes.abstain_reason)
    for i, segment in enumerate(segments):
        if not allowed[i]:
            reasons[i] = "role_excluded"
        elif mixed and segment.overlap_share > settings.segments.max_overlap_share:
            reasons[i] = "overtalk"
    silenced = np.array([reason is not None for reason in reasons], dtype=bool)
    heard = np.array(allowed, dtype=bool)
    # Of an excluded voice nobody holds an opinion: not even the one about silence.
    return replace(
        votes,
        probabilities=np.where(heard[None, :, None], votes.probabilities, np.float32(0)),
        mean_probabilities=np.where(heard[:, None], votes.mean_probabilities, np.float32(0)),
        emotion_index=np.where(silenced, -1, votes.emotion_index),
        top_index=np.where(heard, votes.top_index, -1),
        confidence=np.where(heard, votes.confidence, np.float32(np.nan)),
        agreement=np.where(heard, votes.agreement, np.float32(np.nan)),
        abstain_reason=tuple(reasons),
    )


def caller_frustration(
    segments: Sequence[Segment], features: Features, votes: Votes, settings: Settings
) -> Curve:
    """Frustration curve of the caller. Segments the ensemble could not judge carry no evidence."""
    mine = np.array([i for i, s in enumerate(segments) if s.role is Role.CALLER], dtype=np.intp)
    evidence = evidence_probabilities(votes.mean_probabilities, votes.labels, settings.emotion.neutral_share)
    judged = np.array([votes.abstain_reason[i] not in _UNHEARD for i in mine], dtype=bool)

    def probability(emotion: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        if emotion not in votes.labels:
            return np.zeros(len(mine), dtype=np.float32)
        column = evidence[mine, votes.labels.index(emotion)]
        return np.where(judged, column, 0.0).astype(np.float32)

    return frustration_curve(
        start_s=np.array([segments[i].start_s for i in mine], dtype=np.float32),
        end_s=np.array([segments[i].end_s for i in mine], dtype=np.float32),
        anger=probability("anger"),
        disgust=probability("disgust"),
        loudness_db=features.column("loudness_db")[mine],
        pitch_hz=features.column("f0_median_hz")[mine],
        settings=settings.frustration,
    )


_UNHEARD = frozenset({"too_short", "not_speech", "overtalk", "role_excluded"})


class _Stages:
    """Wall-clock seconds per stage of one analysis."""

    def __init__(self) -> None:
        self.wall_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.wall_s[name] = time.perf_counter() - started
