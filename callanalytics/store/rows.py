"""Analyses -> columns: one polars frame per table, ready to be appended. Pure, no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from callanalytics.records import CallAnalysis
from callanalytics.text import display_text, optional_text
from ensemble.labels import EMOTIONS

Frames = dict[str, pl.DataFrame]

_TIME = pl.Datetime("us", "UTC")
_WORDS = pl.List(pl.String)
_EVIDENCE = pl.List(
    pl.Struct({"start_s": pl.Float64, "end_s": pl.Float64, "words": pl.String, "clip": pl.String})
)
_PAIRS_TEXT = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
_PAIRS_NUMBER = pl.List(pl.Struct({"key": pl.String, "value": pl.Float64}))
# Types that cannot be read from the values: columns that may be empty, all NULL, or lists.
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("started_at", "modified_at"), _TIME),
    **dict.fromkeys(("paths", "quality", "reasons"), _WORDS),
    **dict.fromkeys(("frustration_at_s", "frustration"), pl.List(pl.Float32)),
    **dict.fromkeys(
        (
            *("duration_s", "expected_duration_s", "answered_s", "hold_s", "frustration_peak_s"),
            *("start_s", "end_s", "value", "weight", "threshold", "segments_s", "labelled_s"),
            *("role_confidence", "recorder_confidence", "clipped_share", "frustration_score"),
        ),
        pl.Float64,
    ),
    **dict.fromkeys(
        (
            *("analysis_key", "turn", "segment", "channel", "position", "n_segments", "n_labelled"),
            *("n_bytes", "native_rate_hz", "n_channels"),
        ),
        pl.Int64,
    ),
    "flagged": pl.Boolean,
    "evidence": _EVIDENCE,
    "fact_sources": _PAIRS_TEXT,
    "stage_wall_s": _PAIRS_NUMBER,
}


def frames_of(keyed: Sequence[tuple[int, CallAnalysis]]) -> Frames:
    """All rows of some analyses, by table; `keyed` is sorted by its analysis key."""
    return {
        "recordings": _frame([_recording(a) for _, a in keyed], _RECORDING),
        "calls": _frame([_call(a) for _, a in keyed], _CALL),
        "analyses": _frame([_analysis(key, a) for key, a in keyed], _ANALYSIS),
        "turns": _frame([row for key, a in keyed for row in _turns(key, a)], _TURN),
        "sounds": _frame([row for key, a in keyed for row in _sounds(key, a)], _SOUND),
        "call_measures": _measures(keyed),
        "escalations": _frame([row for key, a in keyed for row in _escalations(key, a)], _ESCALATION),
        **_segment_frames([(key, a) for key, a in keyed if a.segments]),
    }


_RECORDING = (
    *("recording_id", "call_id", "path", "paths", "n_bytes", "modified_at", "container", "codec"),
    *("native_rate_hz", "n_channels", "duration_s", "clipped_share"),
)
_CALL = (
    *("call_id", "recording_id", "path", "started_at", "started_at_source", "zone", "duration_s"),
    *("expected_duration_s", "answered_s", "hold_s", "direction", "agent_id", "agent_name", "team", "queue"),
    *("campaign", "caller_hash", "external_id", "disposition", "recorder", "recorder_confidence"),
    "fact_sources",
)
_ANALYSIS = (
    *("analysis_key", "call_id", "recording_id", "ensemble_id", "channel_layout", "role_source"),
    *("role_confidence", "quality", "n_segments", "n_labelled", "segments_s", "labelled_s"),
    *("frustration_score", "frustration_peak_s", "flagged", "reasons", "frustration_at_s", "frustration"),
    "stage_wall_s",
)
_TURN = ("analysis_key", "turn", "speaker", "role", "channel", "start_s", "end_s")
_SOUND = ("analysis_key", "kind", "channel", "start_s", "end_s")
_ESCALATION = (*("analysis_key", "position", "rule", "weight", "value", "threshold", "reason", "evidence"),)


def _frame(rows: list[tuple[Any, ...]], columns: Sequence[str]) -> pl.DataFrame:
    schema = {column: _TYPES.get(column, pl.String) for column in columns}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _recording(a: CallAnalysis) -> tuple[Any, ...]:
    recording = a.recording
    paths = list(recording.all_shown)
    return (
        *(recording.recording_id, recording.call_id, paths[0], paths, recording.n_bytes),
        *(recording.modified_at, display_text(a.container), display_text(a.codec)),
        *(a.native_rate_hz, a.n_channels, a.duration_s, a.clipped_share),
    )


def _call(a: CallAnalysis) -> tuple[Any, ...]:
    facts = a.facts
    return (
        *(a.recording.call_id, a.recording.recording_id, a.recording.shown),
        *(facts.started_at, facts.started_at_source.value, facts.zone, a.duration_s),
        *(
            known_number(facts.expected_duration_s),
            known_number(facts.answered_s),
            known_number(facts.hold_s),
        ),
        *(facts.direction.value, optional_text(facts.agent_id), optional_text(facts.agent_name)),
        *(optional_text(facts.team), optional_text(facts.queue), optional_text(facts.campaign)),
        *(facts.caller_hash, optional_text(facts.external_id), optional_text(facts.disposition)),
        *(display_text(facts.recorder), facts.recorder_confidence),
        [{"key": display_text(fact), "value": display_text(said)} for fact, said in facts.sources.items()],
    )


def _analysis(key: int, a: CallAnalysis) -> tuple[Any, ...]:
    seconds = _seconds(a)
    labelled = a.votes.emotion_index >= 0 if a.segments else np.zeros(0, dtype=bool)
    peak_s = float(a.frustration_s[int(np.argmax(a.frustration))]) if len(a.frustration) else None
    return (
        *(key, a.recording.call_id, a.recording.recording_id, a.ensemble_id, a.diarization.layout.value),
        *(a.diarization.role_source.value, a.diarization.role_confidence, list(a.diarization.quality)),
        *(len(a.segments), int(labelled.sum()), float(seconds.sum()), float(seconds[labelled].sum())),
        *(a.frustration_score, peak_s, a.flagged, [display_text(e.reason) for e in a.escalations]),
        *(np.asarray(a.frustration_s).tolist(), np.asarray(a.frustration).tolist()),
        [{"key": stage, "value": wall_s} for stage, wall_s in a.stage_wall_s.items()],
    )


def _turns(key: int, a: CallAnalysis) -> list[tuple[Any, ...]]:
    roles = a.diarization.roles
    return [
        (key, number, t.speaker, roles[t.speaker].value, t.channel, t.start_s, t.end_s)
        for number, t in enumerate(a.diarization.turns)
    ]


def _sounds(key: int, a: CallAnalysis) -> list[tuple[Any, ...]]:
    return [(key, s.kind.value, s.channel, s.start_s, s.end_s) for s in a.diarization.sounds]


def _measures(keyed: Sequence[tuple[int, CallAnalysis]]) -> pl.DataFrame:
    """By column, since a call has some two hundred of them."""
    measures = [m for _, a in keyed for m in a.measures]
    n_each = [len(a.measures) for _, a in keyed]
    values = pl.Series([m.value for m in measures], dtype=pl.Float64)
    return pl.DataFrame(
        {
            "analysis_key": np.repeat(np.array([key for key, _ in keyed], dtype=np.int32), n_each),
            "name": pl.Series([m.name for m in measures], dtype=pl.String),
            "role": pl.Series([m.role for m in measures], dtype=pl.String),
            "period": pl.Series([m.period for m in measures], dtype=pl.String),
            "value": values.set(~values.is_finite().fill_null(False), None),
        }
    )


def _escalations(key: int, a: CallAnalysis) -> list[tuple[Any, ...]]:
    cut = {clip.name for clip in a.clips}
    return [
        (
            *(key, position, display_text(e.rule), e.weight, e.value, e.threshold, display_text(e.reason)),
            [
                {
                    "start_s": moment.start_s,
                    "end_s": moment.end_s,
                    "words": display_text(moment.words),
                    "clip": moment.clip_name if moment.clip_name in cut else None,
                }
                for moment in e.evidence
            ],
        )
        for position, e in enumerate(a.escalations)
    ]


def _segment_frames(keyed: Sequence[tuple[int, CallAnalysis]]) -> Frames:
    """Segments with their votes, every member's opinion, and descriptors; nothing without segments."""
    if not keyed:
        return {}
    segments = [segment for _, a in keyed for segment in a.segments]
    key = np.concatenate([np.full(len(a.segments), key, dtype=np.int32) for key, a in keyed])
    number = np.array([s.index for s in segments], dtype=np.int32)
    labels = [a.votes.labels for _, a in keyed]
    named = [_names(a.votes.emotion_index, known) for (_, a), known in zip(keyed, labels, strict=True)]
    top = [_names(a.votes.top_index, known) for (_, a), known in zip(keyed, labels, strict=True)]
    mean = [_in_order(a.votes.mean_probabilities, known) for (_, a), known in zip(keyed, labels, strict=True)]
    votes = [a.votes for _, a in keyed]
    return {
        "segments": pl.DataFrame(
            {
                "analysis_key": key,
                "segment": number,
                "speaker": [s.speaker for s in segments],
                "role": pl.Series([s.role for s in segments], dtype=pl.String),
                "channel": np.array([s.channel for s in segments], dtype=np.int32),
                "start_s": np.array([s.start_s for s in segments], dtype=np.float64),
                "end_s": np.array([s.end_s for s in segments], dtype=np.float64),
                "overlap_share": np.array([s.overlap_share for s in segments], dtype=np.float32),
                "emotion": pl.Series([e for part in named for e in part], dtype=pl.String),
                "top_emotion": pl.Series([e for part in top for e in part], dtype=pl.String),
                "confidence": _nan_is_null(np.concatenate([v.confidence for v in votes])),
                "agreement": _nan_is_null(np.concatenate([v.agreement for v in votes])),
                "tie_broken": np.concatenate([v.tie_broken for v in votes]).astype(bool),
                "abstain_reason": pl.Series([r for v in votes for r in v.abstain_reason], dtype=pl.String),
                "probabilities": np.concatenate(mean),
            }
        ),
        # Not a table: the emotions that each analysis could have named, for the sums.
        "labels": pl.DataFrame(
            [(key, label) for key, a in keyed for label in a.votes.labels],
            schema={"analysis_key": pl.Int32, "emotion": pl.String},
            orient="row",
        ),
        "predictions": _predictions(keyed),
        "features": pl.DataFrame(
            {
                "analysis_key": key,
                "segment": number,
                "values": np.concatenate([a.features.values for _, a in keyed]).astype(np.float32),
            }
        ),
    }


def _predictions(keyed: Sequence[tuple[int, CallAnalysis]]) -> pl.DataFrame:
    """One row per segment and member, segments in order, members in the ensemble's order."""
    keys, numbers, members, emotions, probabilities = [], [], [], [], []
    for key, a in keyed:
        votes = a.votes
        n_members, n_segments, n_labels = votes.probabilities.shape
        flat = np.nan_to_num(votes.probabilities.transpose(1, 0, 2).reshape(-1, n_labels))
        keys.append(np.full(len(flat), key, dtype=np.int32))
        numbers.append(np.repeat(np.array([s.index for s in a.segments], dtype=np.int32), n_members))
        members += list(votes.member_names) * n_segments
        # A member that heard nothing (too short, not speech) holds no opinion: zeros or NaN, no emotion.
        names = np.array([*votes.labels, None], dtype=object)
        heard = flat.max(axis=1, initial=0.0) > 0
        emotions.append(names[np.where(heard, flat.argmax(axis=1), n_labels)])
        probabilities.append(_in_order(flat, votes.labels))
    return pl.DataFrame(
        {
            "analysis_key": np.concatenate(keys),
            "segment": np.concatenate(numbers),
            "member": members,
            "emotion": pl.Series(np.concatenate(emotions).tolist(), dtype=pl.String),
            "probabilities": np.concatenate(probabilities),
        }
    )


def _names(index: npt.NDArray[Any], labels: Sequence[str]) -> list[str | None]:
    """Label of every index, None for -1."""
    return [labels[i] if i >= 0 else None for i in index.tolist()]


def _in_order(probabilities: npt.NDArray[np.float32], labels: Sequence[str]) -> npt.NDArray[np.float32]:
    """(n, k) over some labels -> (n, 9) in the order of EMOTIONS, zeros for the others, never NaN."""
    wide = np.zeros((len(probabilities), len(EMOTIONS)), dtype=np.float32)
    wide[:, [EMOTIONS.index(label) for label in labels]] = np.nan_to_num(probabilities)
    return wide


def _seconds(a: CallAnalysis) -> npt.NDArray[np.float64]:
    return np.array([s.duration_s for s in a.segments], dtype=np.float64)


def _nan_is_null(values: npt.NDArray[Any]) -> pl.Series:
    return pl.Series(values.astype(np.float32)).fill_nan(None)


def known_number(value: float | None) -> float | None:
    """A number that a database can compare: NaN and infinity are unknown."""
    return float(value) if value is not None and math.isfinite(value) else None
