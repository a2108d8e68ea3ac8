"""Assess a call from its segments: who may be labelled, whose frustration is the score, the rules.

All but the vote is arithmetic, so a correction by a person can do it again without the sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from callanalytics.analysis.escalation import escalations, is_flagged
from callanalytics.analysis.frustration import (
    Curve,
    evidence_probabilities,
    frustration_curve,
    is_of_voice,
)
from callanalytics.analysis.measures import call_measures, frustration_measures
from callanalytics.analysis.words import NO_WORDS, CallWords, as_spoken_by
from callanalytics.audio.noise_reduction import denoise
from callanalytics.config import RuleSet, RuleSettings, Settings
from callanalytics.diarize.roles import possible_callers
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
    audio: Audio, segments: Sequence[Segment], speech: Diarization, settings: Settings, ensemble: Ensemble
) -> Votes:
    """Let the ensemble label the segments that may be labelled; abstain on the others with a reason.

    All members are asked of every voice that may be the caller's. A voice that is surely the agent's is left
    to the trained members: the one on the voice network costs more than they do together.
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
    doubted = set(possible_callers(speech))
    votes = ensemble.vote(
        waveforms,
        [s.speaker for s in segments],
        abstain=settings.emotion.abstain,
        neutral_share=settings.emotion.neutral_share,
        by_all=[s.role is not Role.AGENT or s.speaker in doubted for s in segments],
    )
    mixed = speech.layout in {ChannelLayout.MONO, ChannelLayout.FAKE_STEREO, ChannelLayout.ONE_SIDED}
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
    """Frustration curve of the caller, or of another speaker whose voice may be the caller's.

    Segments the ensemble could not classify carry no evidence; where it could classify none, the
    frustration is not known.
    """
    mine = np.array([i for i, s in enumerate(segments) if is_of_voice(s, voice)], dtype=np.intp)
    # The weight to take out again is the one that was put in: the setting may have changed since the vote.
    weighed_by = settings.emotion.neutral_share if votes.neutral_share is None else votes.neutral_share
    evidence = evidence_probabilities(votes.mean_probabilities, votes.labels, weighed_by)
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
    return replace(curve, voice=voice, score=curve.score if assessed.any() else None)


_UNCLASSIFIED = frozenset({"too_short", "not_speech", "overtalk", "role_excluded"})


@dataclass(frozen=True, slots=True)
class CallAssessment:
    """Results that follow from segments, descriptors and votes by arithmetic alone."""

    curve: Curve  # of the most frustrated voice that may be the caller's; its score is the call's
    measures: tuple[Measure, ...]
    escalations: tuple[Escalation, ...]
    flagged: bool
    rule_set: RuleSet | None = None  # that it follows; None where it was not noted


def assess(
    duration_s: float,
    spoken: Diarization,
    segments: Sequence[Segment],
    features: Features,
    votes: Votes,
    settings: Settings,
    words: CallWords = NO_WORDS,
) -> CallAssessment:
    """Measure the call and apply the rules: no sound, no inference, so a correction can do it again.

    Every voice that may be the caller's has a curve: the score of the call is the highest of them. A rule
    for callers is fulfilled when any of these voices fulfils it, so that a caller never loses a flag to
    another voice with a higher score and less speech.
    """
    caller, *others = (
        voice_frustration(segments, features, votes, settings, voice)
        for voice in (None, *_shown(possible_callers(spoken), segments, votes))
    )
    others.sort(key=lambda curve: _rank(curve, segments), reverse=True)
    scored = max((caller, *others), key=lambda curve: _rank(curve, segments))
    measures = call_measures(duration_s, spoken, segments, votes, caller)
    as_known = (measures, spoken, segments, caller, duration_s, words)
    in_turn = [as_known]
    for other in others:
        as_caller = _as_the_caller(spoken, segments, other.voice)
        theirs = call_measures(duration_s, *as_caller, votes, replace(other, voice=None))
        in_turn.append((theirs, *as_caller, other, duration_s, as_spoken_by(words, as_caller[0])))
    found = tuple(
        escalation
        for rule in settings.rule
        for escalation in _first_to_fulfil(rule, in_turn if rule.role == Role.CALLER.value else [as_known])
    )
    if scored.voice is not None:
        measures = (*measures, *frustration_measures(duration_s, scored))
    flagged = is_flagged(found, settings.frustration.flag_weight)
    return CallAssessment(scored, measures, found, flagged, settings.rule_set)


def _first_to_fulfil(
    rule: RuleSettings,
    in_turn: Sequence[tuple[Sequence[Measure], Diarization, Sequence[Segment], Curve, float, CallWords]],
) -> tuple[Escalation, ...]:
    """The rule as the first voice fulfils it: the caller, then the most frustrated of the others."""
    each = (escalations([rule], *voice) for voice in in_turn)
    return next((found for found in each if found), ())


def _shown(voices: Sequence[str], segments: Sequence[Segment], votes: Votes) -> list[str]:
    """The voices of which the ensemble was shown something."""
    shown = {
        s.speaker
        for s, reason in zip(segments, votes.abstain_reason, strict=True)
        if reason != "role_excluded"
    }
    return [voice for voice in voices if voice in shown]


def _rank(curve: Curve, segments: Sequence[Segment]) -> tuple[float, float]:
    """By score, then by length of speech; a voice without a score comes last."""
    seconds = sum(s.duration_s for s in segments if is_of_voice(s, curve.voice))
    return (-1.0 if curve.score is None else curve.score, seconds)


def _as_the_caller(
    spoken: Diarization, segments: Sequence[Segment], voice: str | None
) -> tuple[Diarization, tuple[Segment, ...]]:
    """The call as if a voice were the caller's.

    Another caller is then unknown, or the agent where the voice was taken for the agent's; an agent stays.
    """
    was_agent = voice is not None and spoken.roles[voice] is Role.AGENT
    then = {
        Role.CALLER: Role.AGENT if was_agent else Role.UNKNOWN,
        Role.AGENT: Role.AGENT,
        Role.UNKNOWN: Role.UNKNOWN,
    }
    roles = {
        speaker: Role.CALLER if speaker == voice else then[role] for speaker, role in spoken.roles.items()
    }
    return replace(spoken, roles=roles), tuple(replace(s, role=roles[s.speaker]) for s in segments)
