"""The recipe: one pure function takes a recording to everything known about its call.

It knows nothing of databases, schedulers or clusters; a process pool and a cluster map the same
function. What it needs besides the recording is loaded once per process as `Models`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.analysis import RECIPE
from callanalytics.analysis.assess import CallAssessment, assess, vote_segments
from callanalytics.analysis.contrast import contrast_of, is_queued
from callanalytics.analysis.corrections import as_corrected, exchanged
from callanalytics.analysis.words import NO_WORDS, CallWords, as_spoken_by
from callanalytics.audio import decode_recording
from callanalytics.audio.clips import contrast_clip, evidence_clips
from callanalytics.audio.thumbnails import call_pictures
from callanalytics.config import PHRASE, Settings
from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.segments import cut_segments
from callanalytics.errors import TooShort, TruncatedAudio
from callanalytics.features import extract
from callanalytics.ingest.object_store import fetched, is_remote
from callanalytics.records import (
    Audio,
    AudioFacts,
    CallFacts,
    ChannelLayout,
    Clip,
    CorrectedTurns,
    Diarization,
    Features,
    FoundRecording,
    Recording,
    Segment,
    agent_key,
)
from ensemble.inference.device import CPU
from ensemble.inference.ensemble import Ensemble, load_ensemble
from ensemble.inference.vote import Votes
from ensemble.model_errors import ModelError

if TYPE_CHECKING:
    from callanalytics.analysis.words.recogniser import Recogniser

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallAnalysis:
    """Everything known about one call after the analysis. Rows for every table come from here."""

    recording: Recording
    facts: CallFacts
    audio: AudioFacts
    speech: Diarization
    segments: tuple[Segment, ...]
    features: Features
    votes: Votes
    ensemble_id: str
    assessment: CallAssessment
    clips: tuple[Clip, ...]  # of a flagged call evidence to listen to, of a call to review its contrast
    stage_wall_s: dict[str, float]  # seconds spent per stage
    recipe: int = RECIPE  # version of the analysis that found the segments
    words: CallWords = NO_WORDS  # what was said, as far as it is known


@dataclass(frozen=True)
class Models:
    """Models that a worker process loads once: the speech models and the ensemble."""

    speech: SpeechModels
    ensemble: Ensemble
    recogniser: Recogniser | None = None  # of words, when `[words] model` names one

    @classmethod
    def load(
        cls,
        ensemble_dir: Path | None,
        *,
        n_threads: int = 1,
        device: str = CPU,
        settings: Settings | None = None,
    ) -> Models:
        """Load everything; with `settings` also the model of words that they name.

        Raises:
            ensemble.model_errors.ModelError: a model is missing or does not fit.
            ensemble.model_errors.DeviceMissing: this machine lacks the device.
        """
        return cls(
            SpeechModels.load(n_threads),
            load_ensemble(ensemble_dir, n_threads=n_threads, device=device),
            load_recogniser(settings) if settings else None,
        )


def load_recogniser(settings: Settings) -> Recogniser | None:
    """The model that recognises words, not loaded yet; None when the settings name none."""
    if settings.words_model is None:
        return None
    from callanalytics.analysis.words.recogniser import Recogniser

    return Recogniser(settings.words_model)


def load_analysis(settings: Settings, ensemble_dir: Path | None) -> Callable[[FoundRecording], CallAnalysis]:
    """`analyze_call` with everything loaded: what a worker process prepares once."""
    return partial(
        analyze_call,
        settings=settings,
        models=Models.load(ensemble_dir, device=settings.engine.device, settings=settings),
    )


def analyze_call(found: FoundRecording, settings: Settings, models: Models) -> CallAnalysis:
    """Decode, find who speaks when (as a person corrected it), cut, describe, vote, assess.

    A call without speech is a normal result with no segments.

    Raises:
        RecordingError: the sound cannot be analysed.
    """
    stages = _Stages()
    recording, facts = found.recording, found.facts
    with stages("decode"), _fetched(recording, settings) as paths:
        audio = decode_recording(
            paths,
            settings.audio,
            expected_duration_s=facts.expected_duration_s,
            recording_id=_content_of(recording),
        )
    _check_length(audio, recording, settings)
    with stages("diarize"):
        speech = diarize(
            audio.samples,
            audio.sample_rate_hz,
            layout_hint=ChannelLayout.PAIR if len(recording.paths) > 1 else None,
            stated_roles=facts.stated_roles,
            agent_voice=found.agent_voice,
            learn_voices=settings.privacy.voice_profiles and agent_key(facts) is not None,
            conversation_share=settings.conversation_share(facts.conversation_share),
            models=models.speech,
        )
        speech = as_corrected(speech, found.corrected)
        speech = replace(speech, quality=tuple(sorted({*speech.quality, *audio.notes})))
        segments = cut_segments(speech.turns, speech.roles, settings.segments)
    with stages("features"):
        features = extract(audio.samples, audio.sample_rate_hz, segments)
    with stages("vote"):
        votes = vote_segments(audio, segments, speech, settings, models.ensemble)
    words = _transcript(found, speech, settings, stages) if found.transcripts else NO_WORDS
    with stages("measure"):
        assessment = assess(audio.duration_s, speech, segments, features, votes, settings, words)
    if models.recogniser is not None and not words.utterances:
        with stages("words"):
            words = _recognised(models.recogniser, audio, speech, assessment, settings, words)
        if words.utterances and any(rule.measure == PHRASE for rule in settings.rule):
            assessment = assess(audio.duration_s, speech, segments, features, votes, settings, words)
    with stages("clips"):
        clips = _clips(recording.call_id, audio, speech, segments, assessment, settings)
    return CallAnalysis(
        recording=recording,
        facts=facts,
        audio=audio.facts,
        speech=speech,
        segments=segments,
        features=features,
        votes=votes,
        ensemble_id=models.ensemble.ensemble_id,
        assessment=assessment,
        clips=clips,
        stage_wall_s=stages.wall_s,
        words=words,
    )


def _transcript(found: FoundRecording, speech: Diarization, settings: Settings, stages: _Stages) -> CallWords:
    """The words of the first transcript that can be used, else why the first one cannot."""
    from callanalytics.analysis.words.sides import placed_transcript

    limit, links = settings.words.max_transcript_bytes, settings.discovery.follow_links
    with stages("words"):
        beside = {path.parent for path in found.recording.paths}
        return placed_transcript(
            found.transcripts, speech, max_bytes=limit, follow_links=links, beside=beside
        )


def _recognised(
    recogniser: Recogniser,
    audio: Audio,
    speech: Diarization,
    assessment: CallAssessment,
    settings: Settings,
    before: CallWords,
) -> CallWords:
    """Words recognised here, else what was known before. A failure costs the words, not the call."""
    try:
        words = recogniser.words_of(audio, speech, assessment, settings)
    except (ModelError, RuntimeError, ValueError) as problem:  # the last two are CTranslate2's
        _log.warning("no words recognised: %s", problem)
        words = CallWords(note="not_recognised")
    return words if words.utterances or words.note else before


def _clips(
    call_id: str,
    audio: Audio,
    speech: Diarization,
    segments: Sequence[Segment],
    assessment: CallAssessment,
    settings: Settings,
) -> tuple[Clip, ...]:
    """Clips and pictures for the page of a flagged call, and a contrast clip of a call to review."""
    contrast: tuple[Clip, ...] = ()
    if settings.report.max_clips_per_call and is_queued(call_id, assessment, settings):
        contrast = contrast_clip(audio, contrast_of(segments, assessment, audio.duration_s))
    if not assessment.flagged:
        return contrast
    channels = sorted({turn.channel for turn in speech.turns})
    evidence = evidence_clips(audio, assessment.escalations, settings.report)
    return (*evidence, *contrast, *call_pictures(audio, channels))


def _fetched(recording: Recording, settings: Settings) -> AbstractContextManager[tuple[Path, ...]]:
    return fetched(recording.paths, recording.content_ids, max_bytes=settings.audio.max_bytes)


def _content_of(recording: Recording) -> str | None:
    """The hash that proves the content of files; None for objects, which their store tells by tags."""
    return None if any(map(is_remote, recording.paths)) else recording.recording_id


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
    speech = exchanged(call.speech)
    segments = tuple(replace(s, role=s.role.other) for s in call.segments)
    words = as_spoken_by(call.words, speech)
    assessment = assess(call.audio.duration_s, speech, segments, call.features, call.votes, settings, words)
    return replace(call, speech=speech, segments=segments, assessment=assessment, clips=(), words=words)


def with_words(call: CallAnalysis, words: CallWords, settings: Settings) -> CallAnalysis:
    """The same call with words that came later, assessed again, without inference and without its clips."""
    parts = call.speech, call.segments, call.features, call.votes
    assessment = assess(call.audio.duration_s, *parts, settings, words)
    return replace(call, assessment=assessment, clips=(), words=words)


def call_as_corrected(call: CallAnalysis, corrected: CorrectedTurns | None) -> CallAnalysis:
    """An analysis with its sides as a person corrected them; its votes and measures stay as they were."""
    speech = as_corrected(call.speech, corrected)
    if speech.roles == call.speech.roles:
        return replace(call, speech=speech)
    segments = tuple(replace(segment, role=segment.role.other) for segment in call.segments)
    return replace(call, speech=speech, segments=segments, words=as_spoken_by(call.words, speech))


def vote_again(call: CallAnalysis, settings: Settings, ensemble: Ensemble) -> CallAnalysis:
    """The same call, voices and segments with another ensemble's votes, measured and assessed anew.

    Decodes the recording; what was found out about who speaks when is kept, corrections included.

    Raises:
        RecordingError: the recording is gone or is no longer what it was.
    """
    stages = _Stages()
    with stages("decode"):
        audio = _decoded_again(call, settings)
    first_s = call.audio.duration_s
    with stages("vote"):
        votes = vote_segments(audio, call.segments, call.speech, settings, ensemble)
    with stages("measure"):
        assessment = assess(first_s, call.speech, call.segments, call.features, votes, settings, call.words)
    with stages("clips"):
        clips = _clips(call.recording.call_id, audio, call.speech, call.segments, assessment, settings)
    return replace(
        call,
        votes=votes,
        ensemble_id=ensemble.ensemble_id,
        assessment=assessment,
        clips=clips,
        stage_wall_s=stages.wall_s,
    )


def cut_again(call: CallAnalysis, settings: Settings) -> CallAnalysis:
    """The same call with clips and pictures of its assessment, cut from its recording.

    Raises:
        RecordingError: the recording is gone or is no longer what it was.
    """
    audio = _decoded_again(call, settings)
    clips = _clips(call.recording.call_id, audio, call.speech, call.segments, call.assessment, settings)
    return replace(call, clips=clips)


def _decoded_again(call: CallAnalysis, settings: Settings) -> Audio:
    with _fetched(call.recording, settings) as paths:
        audio = decode_recording(
            paths,
            settings.audio,
            expected_duration_s=call.facts.expected_duration_s,
            recording_id=_content_of(call.recording),
        )
    first_s = call.audio.duration_s
    if abs(audio.duration_s - first_s) > _SAME_LENGTH_S:
        raise TruncatedAudio(
            f"{call.recording.path.name}: {audio.duration_s:.1f} s of sound, {first_s:.1f} s when "
            "it was analysed first. Run with --force to analyse it from the beginning."
        )
    return audio


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
