"""Assess a call from its segments: who may be labelled, whose frustration is the score, the rules.

All but the vote is arithmetic, so a correction by a person can do it again without the sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from callanalytics.analysis.escalation import escalations, is_flagged
from callanalytics.analysis.frustration import Curve, evidence_probabilities, frustration_curve
from callanalytics.analysis.measures import call_measures, frustration_measures
from callanalytics.audio.noise_reduction import denoise
from callanalytics.config import Settings
from callanalytics.records import (
    Audio,
    ChannelLayout,
    Diarization,
    Escalation,
    Features,
    Measure,
    Role,
    Segment,
)
from ensemble.inference.ensemble import Ensemble
from ensemble.inference.vote import Votes


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
    classified = np.array(allowed, dtype=bool)
    # Of an excluded voice nobody holds an opinion: not even the one about silence.
    return replace(
        votes,
        probabilities=np.where(classified[None, :, None], votes.probabilities, np.float32(0)),
        mean_probabilities=np.where(classified[:, None], votes.mean_probabilities, np.float32(0)),
        emotion_index=np.where(silenced, -1, votes.emotion_index),
        top_index=np.where(classified, votes.top_index, -1),
        confidence=np.where(classified, votes.confidence, np.float32(np.nan)),
        agreement=np.where(classified, votes.agreement, np.float32(np.nan)),
        abstain_reason=tuple(reasons),
    )


def voice_frustration(
    segments: Sequence[Segment],
    features: Features,
    votes: Votes,
    settings: Settings,
    voice: str | None = None,
) -> Curve:
    """Frustration curve of the caller, or of a voice of unknown role.

    Segments the ensemble could not classify carry no evidence.
    """
    about = Curve(*_EMPTY, None, *_EMPTY, voice)
    mine = np.array([i for i, s in enumerate(segments) if about.is_about(s)], dtype=np.intp)
    evidence = evidence_probabilities(votes.mean_probabilities, votes.labels, settings.emotion.neutral_share)
    assessed = np.array([votes.abstain_reason[i] not in _UNCLASSIFIED for i in mine], dtype=bool)

    def probability(emotion: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        if emotion not in votes.labels:
            return np.zeros(len(mine), dtype=np.float32)
        column = evidence[mine, votes.labels.index(emotion)]
        return np.where(assessed, column, 0.0).astype(np.float32)

    curve = frustration_curve(
        start_s=np.array([segments[i].start_s for i in mine], dtype=np.float32),
        end_s=np.array([segments[i].end_s for i in mine], dtype=np.float32),
        anger=probability("anger"),
        disgust=probability("disgust"),
        loudness_db=features.column("loudness_db")[mine],
        pitch_hz=features.column("f0_median_hz")[mine],
        settings=settings.frustration,
    )
    return replace(curve, voice=voice)


_EMPTY = (np.zeros(0, dtype=np.float32),) * 2
_UNCLASSIFIED = frozenset({"too_short", "not_speech", "overtalk", "role_excluded"})


@dataclass(frozen=True, slots=True)
class CallAssessment:
    """Results that follow from segments, descriptors and votes by arithmetic alone."""

    curve: Curve  # of the most frustrated voice that may be the caller's; its score is the call's
    measures: tuple[Measure, ...]
    escalations: tuple[Escalation, ...]
    flagged: bool


def assess(
    duration_s: float,
    spoken: Diarization,
    segments: Sequence[Segment],
    features: Features,
    votes: Votes,
    settings: Settings,
) -> CallAssessment:
    """Measure the call and apply the rules: no sound, no inference, so a correction can do it again.

    The caller's voice may be the caller's, and so may every voice of unknown role that may be labelled; a
    known agent is never scored. The score and the rules for callers are about the one that scores highest.
    """
    caller, *unknown = (
        voice_frustration(segments, features, votes, settings, voice)
        for voice in (None, *_unknown_voices(segments, votes, settings))
    )
    curve = max((caller, *unknown), key=lambda curve: _rank(curve, segments))
    measures = call_measures(duration_s, spoken, segments, votes, caller)
    if curve.voice is None:
        found = escalations(settings.rule, measures, spoken, segments, curve, duration_s)
    else:
        measures = (*measures, *frustration_measures(duration_s, curve))
        as_caller = _as_the_caller(spoken, segments, curve.voice)
        as_curve = replace(curve, voice=None)
        their = call_measures(duration_s, *as_caller, votes, as_curve)
        found = tuple(
            escalation
            for rule in settings.rule
            for escalation in (
                escalations([rule], their, *as_caller, curve, duration_s)
                if rule.role == Role.CALLER.value
                else escalations([rule], measures, spoken, segments, caller, duration_s)
            )
        )
    return CallAssessment(curve, measures, found, is_flagged(found, settings.frustration.flag_weight))


def _unknown_voices(segments: Sequence[Segment], votes: Votes, settings: Settings) -> tuple[str, ...]:
    """Speakers of unknown role with segments that were shown to the ensemble, in order of appearance."""
    if Role.UNKNOWN.value not in settings.emotion.roles:
        return ()
    shown = (
        s.speaker
        for s, reason in zip(segments, votes.abstain_reason, strict=True)
        if s.role is Role.UNKNOWN and reason != "role_excluded"
    )
    return tuple(dict.fromkeys(shown))


def _rank(curve: Curve, segments: Sequence[Segment]) -> tuple[float, float]:
    """By score, then by length of speech; a voice without segments comes last."""
    seconds = sum(s.duration_s for s in segments if curve.is_about(s))
    return (-1.0 if curve.score is None else curve.score, seconds)


def _as_the_caller(
    spoken: Diarization, segments: Sequence[Segment], voice: str
) -> tuple[Diarization, tuple[Segment, ...]]:
    """The call as if a voice were the caller's: any other caller becomes unknown, an agent stays."""

    def role(speaker: str, known: Role) -> Role:
        return Role.CALLER if speaker == voice else Role.AGENT if known is Role.AGENT else Role.UNKNOWN

    roles = {speaker: role(speaker, known) for speaker, known in spoken.roles.items()}
    return replace(spoken, roles=roles), tuple(replace(s, role=role(s.speaker, s.role)) for s in segments)
