"""Jobs on single files, without a database: analyse one call, label clips, diarize."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import ONE_OF_THE_VOICES, Settings
from callanalytics.diarize.quality import Quality
from callanalytics.records import Diarization, FoundRecording, Role
from callanalytics.records.text import display_text
from callanalytics.workspace import Workspace
from jobs.active_ensemble import in_use


def found_recording(paths: Sequence[Path], settings: Settings) -> FoundRecording:
    """One recording with the facts its name and sidecar give; no window, no database."""
    from callanalytics.ingest import recording_from_files

    return recording_from_files(tuple(paths), settings, now=datetime.now(UTC), salt=secrets.token_bytes(32))


def analyze_file(paths: Sequence[Path], settings: Settings) -> CallAnalysis:
    """Everything known about one call, with its words where somebody wrote them down or a model is named.

    A transcript is taken that lies beside the recording, or where `[words]` says.

    Raises RecordingError, UsageError or ensemble.model_errors.ModelError.
    """
    from callanalytics.analysis.call import Models, analyze_call
    from callanalytics.config.call_settings import BESIDE
    from jobs.night.plan import with_transcripts

    places = tuple(dict.fromkeys((BESIDE, *settings.words.transcripts)))
    words = settings.words.model_copy(update={"transcripts": places})
    settings = settings.model_copy(update={"words": words})
    models = Models.load(
        in_use(settings, Workspace(settings.out_dir)), device=settings.engine.device, settings=settings
    )
    if models.recogniser is not None:
        models.recogniser.load()
    (found,) = with_transcripts([found_recording(paths, settings)], settings)
    return analyze_call(found, settings, models)


def diarize_file(path: Path, settings: Settings) -> str:
    """Who speaks when, as RTTM text named after the file."""
    from callanalytics.audio import decode_recording
    from callanalytics.diarize import SpeechModels, diarize
    from callanalytics.diarize.segments import to_rttm

    facts = found_recording([path], settings).facts
    audio = decode_recording([path], settings.audio)
    spoken = diarize(
        audio.samples,
        audio.sample_rate_hz,
        stated_roles=facts.stated_roles,
        conversation_share=settings.conversation_share(facts.conversation_share),
        models=SpeechModels.load(),
    )
    return to_rttm(spoken, path.stem)


def classify_clips(
    paths: Sequence[Path], settings: Settings, *, by_folder: bool, abstain: bool
) -> Iterator[dict[str, object]]:
    """Labels of whole clips, one dict each; a folder is walked. See ensemble/inference/classify.py."""
    from callanalytics.audio import decode_recording
    from ensemble.inference.classify import classify_paths
    from ensemble.inference.ensemble import load_ensemble

    def decode(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        mixed: np.ndarray[tuple[int], np.dtype[np.float32]] = decode_recording(
            [path], settings.audio
        ).samples.mean(axis=0)
        return mixed

    ensemble = load_ensemble(in_use(settings, Workspace(settings.out_dir)), device=settings.engine.device)
    yield from classify_paths(paths, decode, ensemble, by_folder=by_folder, abstain=abstain)


def render_clip(row: dict[str, object]) -> str:
    """One line of `classify` for a person."""
    path = display_text(str(row["path"]))
    if row.get("error"):
        return f"{path}: {display_text(str(row['error']))}"
    label = row["emotion"] or f"abstained ({row.get('abstain_reason')})"
    return f"{path}: {label}, confidence {row['confidence']:.0%}, agreement {row['agreement']:.0%}"


def call_as_dict(call: CallAnalysis) -> dict[str, object]:
    """One analysed call for `analyze --json`: plain values only."""
    votes, speech, assessment = call.votes, call.speech, call.assessment
    return {
        "path": str(call.recording.path),
        "call_id": call.recording.call_id,
        "started_at": call.facts.started_at.isoformat(),
        "started_at_source": call.facts.started_at_source.value,
        "recorder": call.facts.recorder,
        "duration_s": round(call.audio.duration_s, 3),
        "channel_layout": speech.layout.value,
        "role_source": speech.role_source.value,
        "role_confidence": round(speech.role_confidence, 3),
        "role_evidence": [asdict(fact) for fact in speech.role_evidence],
        "quality": list(speech.quality),
        "frustration_score": None if assessment.curve.score is None else round(assessment.curve.score, 4),
        "frustration_voice": assessment.curve.voice,
        "flagged": assessment.flagged,
        "reasons": [e.reason for e in assessment.escalations],
        "turns": [
            {
                "speaker": t.speaker,
                "role": speech.roles[t.speaker].value,
                "start_s": round(t.start_s, 3),
                "end_s": round(t.end_s, 3),
            }
            for t in speech.turns
        ],
        "segments": [
            {
                "role": s.role.value,
                "speaker": s.speaker,
                "start_s": round(s.start_s, 3),
                "end_s": round(s.end_s, 3),
                "emotion": votes.emotion(i),
                "confidence": _known(votes.confidence[i]),
                "agreement": _known(votes.agreement[i]),
                "abstain_reason": votes.abstain_reason[i],
            }
            for i, s in enumerate(call.segments)
        ],
        "utterances": [
            {
                "role": u.role.value,
                "start_s": round(u.start_s, 3),
                "end_s": round(u.end_s, 3),
                "text": u.text,
                "confidence": None if u.confidence is None else round(u.confidence, 4),
                "source": u.source,
            }
            for u in call.words.utterances
        ],
        "words_note": call.words.note,
        "measures": [
            {"name": m.name, "role": m.role.value if m.role else None, "period": m.period, "value": m.value}
            for m in assessment.measures
        ],
    }


def _known(share: np.float32) -> float | None:
    """A share for JSON, which has no NaN."""
    return round(float(share), 4) if np.isfinite(share) else None


def render_call(call: CallAnalysis) -> str:
    """One analysed call as a page of text, in the words of the report; the verdict is the last line."""
    from callanalytics.ingest.check import NOTES
    from reports.formatting import score_text
    from reports.parts.call_parts import TIME_SOURCE_TEXT, voices
    from reports.parts.coverage import ABSTAIN_TEXT

    spoken, audio, assessment = call.speech, call.audio, call.assessment
    told = voices(
        {
            "channel_layout": spoken.layout.value,
            "role_source": spoken.role_source.value,
            "role_confidence": spoken.role_confidence,
        }
    )
    whose = "" if assessment.curve.voice is None else f" ({ONE_OF_THE_VOICES})"
    lines = [
        f"{display_text(call.recording.path.name)}: {_clock(audio.duration_s)}, "
        f"{audio.codec} {audio.native_rate_hz} Hz, {told}",
        f"Started {call.facts.started_at:%Y-%m-%d %H:%M:%S %Z} "
        f"({TIME_SOURCE_TEXT[call.facts.started_at_source]}); recorder {display_text(call.facts.recorder)}",
        *(f"Note: {display_text(call.facts.sources[note])}" for note in NOTES if note in call.facts.sources),
        *_dispute(spoken),
        "",
    ]
    for i, segment in enumerate(call.segments):
        who = segment.role.value if segment.role is not Role.UNKNOWN else segment.speaker
        emotion, reason = call.votes.emotion(i), call.votes.abstain_reason[i]
        said = (
            f"{emotion:<18} {call.votes.confidence[i]:4.0%}  {call.votes.agreement[i]:4.0%} agree"
            if emotion
            else f"({ABSTAIN_TEXT.get(reason or '', 'no label')})"
        )
        lines.append(f"{_span(segment.start_s, segment.end_s)}  {who:<9} {said}")
    lines += _words(call)
    verdict = [
        *(f"  - {display_text(e.reason)}" for e in assessment.escalations),
        f"Frustration {score_text(assessment.curve.score)}{whose}"
        + ("  FLAGGED" if assessment.flagged else ", not flagged"),
    ]
    return "\n".join([*lines, "", *_measures(call), "", *verdict])


def _words(call: CallAnalysis) -> Iterator[str]:
    """What is said, as far as it is known, and why it is not."""
    from reports.parts.quotes import words_text

    about = words_text({u.source for u in call.words.utterances}, call.words.note)
    yield from ("", about) if about else ()
    for u in call.words.utterances:
        who = u.role.value if u.role is not Role.UNKNOWN else (u.speaker or "unknown")
        yield f"{_span(u.start_s, u.end_s)}  {who:<9} {display_text(u.text)}"


def _dispute(spoken: Diarization) -> Iterator[str]:
    """What speaks for the roles and what against, where facts disagree."""
    from reports.parts.call_parts import role_evidence_text

    if Quality.ROLE_CONFLICT in spoken.quality:
        yield f"Agent and caller may be exchanged ({spoken.role_confidence:.0%} sure of them):"
        yield from (f"  - {display_text(role_evidence_text(asdict(fact)))}" for fact in spoken.role_evidence)


def _measures(call: CallAnalysis) -> Iterator[str]:
    """The measures of the whole call as its page in the report names them."""
    from reports.parts.measure_names import MEASURE_ROWS, with_unit

    values = {
        (m.name, m.role.value if m.role else None): m.value
        for m in call.assessment.measures
        if m.period == "call"
    }
    for name, role, title in MEASURE_ROWS:
        value = values.get((name, role))
        if value is not None:
            yield f"{title}: {with_unit(name, value)}"


def _span(start_s: float, end_s: float) -> str:
    """0:38-0:41; one place where both are written alike."""
    start, end = _clock(start_s), _clock(end_s)
    return start if start == end else f"{start}-{end}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
