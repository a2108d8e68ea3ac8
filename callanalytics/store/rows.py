"""Analyses -> columns: one polars frame per table, sent as Arrow, ready to be appended. Pure, no I/O.

A worker packs its call, the one writer puts the calls of a batch together without looking into them:
building objects again from what a worker sent was 40 % of the writer's work.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from callanalytics.records import AgentVoice, CallRows, Role, RoleSource, agent_key
from callanalytics.text import display_text, optional_text
from ensemble.labels import EMOTIONS

if TYPE_CHECKING:
    import pyarrow as pa

    from callanalytics.analysis.call import CallAnalysis

Frames = dict[str, pl.DataFrame]

# A profile learns from what a recorder or a person said, never from a guess or from itself.
LEARNED_FROM = frozenset({RoleSource.CORRECTION, RoleSource.SIDECAR, RoleSource.RECORDER, RoleSource.NAME})

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
            *("turn", "segment", "channel", "position", "n_segments", "n_labelled"),
            *("n_bytes", "native_rate_hz", "n_channels"),
        ),
        pl.Int64,
    ),
    "flagged": pl.Boolean,
    "evidence": _EVIDENCE,
    "fact_sources": _PAIRS_TEXT,
    "stage_wall_s": _PAIRS_NUMBER,
}


def pack(a: CallAnalysis) -> CallRows:
    """The rows of one call as Arrow IPC streams, with what the writer must know besides."""
    return CallRows(
        recording=a.recording,
        ensemble_id=a.ensemble_id,
        started_at=a.facts.started_at,
        duration_s=a.audio.duration_s,
        n_segments=len(a.segments),
        flagged=a.assessment.flagged,
        clips=a.clips,
        agent_voice=_agent_voice(a),
        tables={name: as_stream(frame) for name, frame in frames_of(a).items()},
    )


def as_stream(frame: pl.DataFrame) -> bytes:
    """An Arrow IPC stream. With plain strings: not every Arrow can join or slice views of strings."""
    stream = io.BytesIO()
    frame.write_ipc_stream(stream, compat_level=pl.CompatLevel.oldest())
    return stream.getvalue()


def unpack(keyed: Mapping[int, CallRows]) -> dict[str, pa.Table]:
    """The rows of a batch by table; those that belong to an analysis begin with its `analysis_key`."""
    import pyarrow as pa

    tables = {}
    for name in dict.fromkeys(name for call in keyed.values() for name in call.tables):
        sent = {key: call.tables[name] for key, call in keyed.items() if name in call.tables}
        parts = [pa.ipc.open_stream(stream).read_all() for stream in sent.values()]
        table = pa.concat_tables(parts)
        if name not in ("recordings", "calls"):
            keys = np.repeat(np.fromiter(sent, dtype=np.int32), [part.num_rows for part in parts])
            table = table.add_column(0, "analysis_key", pa.array(keys))
        # In one piece: DuckDB appends many small ones half as fast.
        tables[name] = table.combine_chunks()
    return tables


def _agent_voice(a: CallAnalysis) -> AgentVoice | None:
    """What the call adds to its agent's profile; None when it teaches nothing."""
    spoken, key = a.speech, agent_key(a.facts)
    agents = [speaker for speaker, role in spoken.roles.items() if role is Role.AGENT]
    if key is None or spoken.role_source not in LEARNED_FROM or len(agents) != 1:
        return None
    voice = spoken.voices.get(agents[0])
    return None if voice is None else AgentVoice(key, voice, spoken.role_source)


def naming_frames(a: CallAnalysis) -> Frames:
    """The rows that say which call it is, one a table."""
    return {
        "recordings": _frame([_recording(a)], _RECORDING),
        "calls": _frame([_call(a)], _CALL),
        "analyses": _frame([_analysis(a)], _ANALYSIS),
    }


def frames_of(a: CallAnalysis) -> Frames:
    """All rows of one analysis, by table, without its key."""
    return naming_frames(a) | {
        "turns": _frame(_turns(a), _TURN),
        "sounds": _frame(_sounds(a), _SOUND),
        "call_measures": _measures(a),
        "escalations": _frame(_escalations(a), _ESCALATION),
        **(_segment_frames(a) if a.segments else {}),
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
    *("call_id", "recording_id", "ensemble_id", "channel_layout", "role_source"),
    *("role_confidence", "quality", "n_segments", "n_labelled", "segments_s", "labelled_s"),
    *("frustration_score", "frustration_peak_s", "flagged", "reasons", "frustration_at_s", "frustration"),
    "stage_wall_s",
)
_TURN = ("turn", "speaker", "role", "channel", "start_s", "end_s")
_SOUND = ("kind", "channel", "start_s", "end_s")
_ESCALATION = (*("position", "rule", "weight", "value", "threshold", "reason", "evidence"),)


def _frame(rows: list[tuple[Any, ...]], columns: Sequence[str]) -> pl.DataFrame:
    schema = {column: _TYPES.get(column, pl.String) for column in columns}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _recording(a: CallAnalysis) -> tuple[Any, ...]:
    recording, audio = a.recording, a.audio
    paths = list(recording.all_shown)
    return (
        *(recording.recording_id, recording.call_id, paths[0], paths, recording.n_bytes),
        *(recording.modified_at, display_text(audio.container), display_text(audio.codec)),
        *(audio.native_rate_hz, audio.n_channels, audio.duration_s, audio.clipped_share),
    )


def _call(a: CallAnalysis) -> tuple[Any, ...]:
    facts = a.facts
    return (
        *(a.recording.call_id, a.recording.recording_id, a.recording.shown),
        *(facts.started_at, facts.started_at_source.value, facts.zone, a.audio.duration_s),
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


def _analysis(a: CallAnalysis) -> tuple[Any, ...]:
    seconds = _seconds(a)
    labelled = a.votes.emotion_index >= 0 if a.segments else np.zeros(0, dtype=bool)
    speech, assessed, curve = a.speech, a.assessment, a.assessment.curve
    return (
        *(a.recording.call_id, a.recording.recording_id, a.ensemble_id, speech.layout.value),
        *(speech.role_source.value, speech.role_confidence, list(speech.quality)),
        *(len(a.segments), int(labelled.sum()), float(seconds.sum()), float(seconds[labelled].sum())),
        *(curve.score, curve.peak_s, assessed.flagged),
        [display_text(e.reason) for e in assessed.escalations],
        *(curve.at_s.tolist(), curve.level.tolist()),
        [{"key": stage, "value": wall_s} for stage, wall_s in a.stage_wall_s.items()],
    )


def _turns(a: CallAnalysis) -> list[tuple[Any, ...]]:
    roles = a.speech.roles
    return [
        (number, t.speaker, roles[t.speaker].value, t.channel, t.start_s, t.end_s)
        for number, t in enumerate(a.speech.turns)
    ]


def _sounds(a: CallAnalysis) -> list[tuple[Any, ...]]:
    return [(s.kind.value, s.channel, s.start_s, s.end_s) for s in a.speech.sounds]


def _measures(a: CallAnalysis) -> pl.DataFrame:
    """By column, since a call has some two hundred of them."""
    values = pl.Series([m.value for m in a.assessment.measures], dtype=pl.Float64)
    return pl.DataFrame(
        {
            "name": pl.Series([m.name for m in a.assessment.measures], dtype=pl.String),
            "role": pl.Series([m.role for m in a.assessment.measures], dtype=pl.String),
            "period": pl.Series([m.period for m in a.assessment.measures], dtype=pl.String),
            "value": values.set(~values.is_finite().fill_null(False), None),
        }
    )


def _escalations(a: CallAnalysis) -> list[tuple[Any, ...]]:
    cut = {clip.name for clip in a.clips}
    return [
        (
            *(position, display_text(e.rule), e.weight, e.value, e.threshold, display_text(e.reason)),
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
        for position, e in enumerate(a.assessment.escalations)
    ]


def _segment_frames(a: CallAnalysis) -> Frames:
    """Segments with their votes, every member's opinion, and descriptors."""
    segments, votes = a.segments, a.votes
    number = np.array([s.index for s in segments], dtype=np.int32)
    return {
        "segments": pl.DataFrame(
            {
                "segment": number,
                "speaker": [s.speaker for s in segments],
                "role": pl.Series([s.role for s in segments], dtype=pl.String),
                "channel": np.array([s.channel for s in segments], dtype=np.int32),
                "start_s": np.array([s.start_s for s in segments], dtype=np.float64),
                "end_s": np.array([s.end_s for s in segments], dtype=np.float64),
                "overlap_share": np.array([s.overlap_share for s in segments], dtype=np.float32),
                "emotion": pl.Series(_names(votes.emotion_index, votes.labels), dtype=pl.String),
                "top_emotion": pl.Series(_names(votes.top_index, votes.labels), dtype=pl.String),
                "confidence": _nan_is_null(votes.confidence),
                "agreement": _nan_is_null(votes.agreement),
                "tie_broken": votes.tie_broken.astype(bool),
                "abstain_reason": pl.Series(votes.abstain_reason, dtype=pl.String),
                "probabilities": _in_order(votes.mean_probabilities, votes.labels),
                "descriptors": a.features.values.astype(np.float32),
            }
        ),
        # Not a table: the emotions that this analysis could have named, for the sums.
        "labels": pl.DataFrame({"emotion": pl.Series(votes.labels, dtype=pl.String)}),
        "predictions": _predictions(a, number),
    }


def _predictions(a: CallAnalysis, number: npt.NDArray[np.int32]) -> pl.DataFrame:
    """One row per segment and member, segments in order, members in the ensemble's order."""
    votes = a.votes
    n_members, n_segments, n_labels = votes.probabilities.shape
    flat = np.nan_to_num(votes.probabilities.transpose(1, 0, 2).reshape(-1, n_labels))
    # A member that heard nothing (too short, not speech) holds no opinion: zeros or NaN, no emotion.
    emotion = np.where(flat.max(axis=1, initial=0.0) > 0, flat.argmax(axis=1), -1)
    return pl.DataFrame(
        {
            "segment": np.repeat(number, n_members),
            "member": list(votes.member_names) * n_segments,
            "emotion": pl.Series(_names(emotion, votes.labels), dtype=pl.String),
            "probabilities": _in_order(flat, votes.labels),
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
