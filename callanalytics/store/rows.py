"""An analysed call and the rows it is stored as: one polars frame per table, sent as Arrow.

A column has the name of the field that it comes from, so the records themselves say which columns there are:
`stored` writes their fields, `restored` reads them. A worker packs its call; the writer joins packed calls.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt
import polars as pl

from callanalytics.diarize.quality import Quality
from callanalytics.records import AgentVoice, CallRows, Role, RoleSource, agent_key
from callanalytics.records.text import display_text
from ensemble.labels import EMOTIONS

if TYPE_CHECKING:
    from callanalytics.analysis.call import CallAnalysis

Record = TypeVar("Record")
Row = dict[str, Any]
Frames = dict[str, pl.DataFrame]

# A profile learns from what a recorder or a person said, never from a guess, from itself, or from a dispute.
LEARNED_FROM = frozenset({RoleSource.CORRECTION, RoleSource.SIDECAR, RoleSource.RECORDER, RoleSource.NAME})

_EVIDENCE = {"start_s": pl.Float64, "end_s": pl.Float64, "words": pl.String, "clip": pl.String}
_ROLE_EVIDENCE = {"source": pl.String, "log_odds": pl.Float64, "words": pl.String}
_TYPE_OF_COLUMNS: dict[Any, str] = {
    pl.Datetime("us", "UTC"): "started_at modified_at",
    pl.List(pl.String): "paths quality reasons",
    pl.List(pl.Float32): "frustration_at_s frustration word_start_s word_confidence",
    pl.Float64: "duration_s expected_duration_s answered_s hold_s frustration_peak_s start_s end_s value"
    " weight threshold segments_s labelled_s role_confidence recorder_confidence clipped_share"
    " frustration_score neutral_share confidence",
    pl.Int64: "utterance turn recipe channel position n_segments n_labelled n_bytes n_channels"
    " native_rate_hz",
    pl.Boolean: "flagged words_whole",
    pl.List(pl.Struct(_EVIDENCE)): "evidence",
    pl.List(pl.Struct(_ROLE_EVIDENCE)): "role_evidence",
    pl.List(pl.Struct({"key": pl.String, "value": pl.String})): "fact_sources",
    pl.List(pl.Struct({"key": pl.String, "value": pl.Float64})): "stage_wall_s",
}
# A column means the same in every table; those that are not here hold text.
TYPES = {column: kind for kind, columns in _TYPE_OF_COLUMNS.items() for column in columns.split()}


def frame_of(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows, one at least, with the types of their columns: not even a column of NULLs is guessed."""
    return pl.DataFrame(rows, schema={column: TYPES.get(column, pl.String) for column in rows[0]})


def stored(record: Any, *, without: Sequence[str] = ()) -> Row:
    """The fields of a record as columns of the same names: safe text, numbers that can be compared."""
    return {f.name: _plain(getattr(record, f.name)) for f in fields(record) if f.name not in without}


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str):
        return display_text(value)
    if isinstance(value, tuple):
        return list(value)
    return known_number(value) if isinstance(value, float) else value


def known_number(value: float | None) -> float | None:
    """A number that a database can compare: NaN and infinity are unknown."""
    return float(value) if value is not None and math.isfinite(value) else None


def restored(kind: type[Record], row: Row, **given: Any) -> Record:
    """The record whose fields are the columns of a row, but for those that are given."""
    for name, enum in enum_of_field(kind).items():  # type: ignore[arg-type] # a type is hashable
        if name in row and name not in given:
            given[name] = enum(row[name]) if enum else row[name]
    return kind(**given)


@cache  # reading the hints takes ten times as long as making the record
def enum_of_field(kind: type[Any]) -> dict[str, type[StrEnum] | None]:
    """The fields of a record, each with its enumeration where it is one."""
    hints = get_type_hints(kind).items()
    return {n: h if isinstance(h, type) and issubclass(h, StrEnum) else None for n, h in hints}


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
        has_words=bool(a.words.utterances),
        words_note=a.words.note,
    )


def as_stream(frame: pl.DataFrame) -> bytes:
    """An Arrow IPC stream. With plain strings: not every reader of Arrow knows views of strings."""
    stream = io.BytesIO()
    frame.write_ipc_stream(stream, compat_level=pl.CompatLevel.oldest())
    return stream.getvalue()


def unpack(keyed: Mapping[int, CallRows]) -> Frames:
    """The rows of a batch by table; those that belong to an analysis begin with its `analysis_key`."""
    tables = {}
    for name in dict.fromkeys(name for call in keyed.values() for name in call.tables):
        sent = {key: call.tables[name] for key, call in keyed.items() if name in call.tables}
        parts = [pl.read_ipc_stream(stream) for stream in sent.values()]
        # In one piece: DuckDB appends many small ones half as fast.
        tables[name] = pl.concat(parts, rechunk=True)
        if name not in ("recordings", "calls", "rule_sets"):
            keys = np.repeat(np.fromiter(sent, dtype=np.int32), [part.height for part in parts])
            tables[name].insert_column(0, pl.Series("analysis_key", keys))
    return tables


def _agent_voice(a: CallAnalysis) -> AgentVoice | None:
    """Voice print that the call adds to its agent's profile; None when it has none to add."""
    speech, key = a.speech, agent_key(a.facts)
    agents = [speaker for speaker, role in speech.roles.items() if role is Role.AGENT]
    is_known = speech.role_source in LEARNED_FROM and Quality.ROLE_CONFLICT not in speech.quality
    if key is None or not is_known or len(agents) != 1:
        return None
    voice = speech.voices.get(agents[0])
    return None if voice is None else AgentVoice(key, voice, speech.role_source)


def naming_frames(a: CallAnalysis) -> Frames:
    """The rows that say which call it is, one a table."""
    recording, facts, shown = a.recording, a.facts, list(a.recording.all_shown)
    ids = {"call_id": recording.call_id, "recording_id": recording.recording_id}
    file = {
        "path": shown[0],
        "paths": shown,
        "n_bytes": recording.n_bytes,
        "modified_at": recording.modified_at,
    }
    said = stored(facts, without=("stated_roles", "conversation_share", "sources", "aliases"))
    sources = _pairs({_plain(fact): _plain(source) for fact, source in facts.sources.items()})
    call = {"path": shown[0], "duration_s": a.audio.duration_s, **said, "fact_sources": sources}
    return {
        "recordings": frame_of([ids | file | stored(a.audio)]),
        "calls": frame_of([ids | call]),
        "analyses": frame_of([ids | _analysis(a)]),
    }


def frames_of(a: CallAnalysis) -> Frames:
    """All rows of one analysis, by table, without its key; no frame where there is no row."""
    roles = a.speech.roles
    rows = {
        "turns": [
            {"turn": number, "role": roles[turn.speaker].value, **stored(turn)}
            for number, turn in enumerate(a.speech.turns)
        ],
        "sounds": [stored(sound) for sound in a.speech.sounds],
        "utterances": [{"utterance": n, **stored(said)} for n, said in enumerate(a.words.utterances)],
        "escalations": _escalations(a),
    }
    return {
        **naming_frames(a),
        **{table: frame_of(found) for table, found in rows.items() if found},
        **_rule_set(a),
        "call_measures": _measures(a),
        **(_segment_frames(a) if a.segments else {}),
    }


def assessment_frames(a: CallAnalysis) -> Frames:
    """The rows that change when other rules judge a call: all that `assess` makes."""
    escalations = _escalations(a)
    return {
        "analyses": frame_of([_assessment(a)]),
        **({"escalations": frame_of(escalations)} if escalations else {}),
        **_rule_set(a),
        "call_measures": _measures(a),
    }


def _rule_set(a: CallAnalysis) -> Frames:
    rule_set = a.assessment.rule_set
    return {"rule_sets": frame_of([stored(rule_set)])} if rule_set is not None else {}


def _analysis(a: CallAnalysis) -> Row:
    seconds = np.array([s.duration_s for s in a.segments], dtype=np.float64)
    labelled = a.votes.emotion_index >= 0 if a.segments else np.zeros(0, dtype=bool)
    speech = a.speech
    return {
        "ensemble_id": a.ensemble_id,
        "recipe": a.recipe,
        "channel_layout": speech.layout.value,
        "role_source": speech.role_source.value,
        "role_confidence": speech.role_confidence,
        "role_evidence": [stored(fact) for fact in speech.role_evidence],
        "quality": list(speech.quality),
        "n_segments": len(a.segments),
        "n_labelled": int(labelled.sum()),
        "segments_s": float(seconds.sum()),
        "labelled_s": float(seconds[labelled].sum()),
        "neutral_share": a.votes.neutral_share,
        **_assessment(a),
        "stage_wall_s": _pairs(a.stage_wall_s),
        "words_whole": a.words.whole,
        "words_note": a.words.note,
    }


def _assessment(a: CallAnalysis) -> Row:
    """Columns of `analyses` that follow from the rules."""
    assessment, curve = a.assessment, a.assessment.curve
    return {
        "frustration_score": curve.score,
        "frustration_voice": curve.voice,
        "frustration_peak_s": curve.peak_s,
        "flagged": assessment.flagged,
        "reasons": [display_text(e.reason) for e in assessment.escalations],
        "frustration_at_s": curve.at_s.tolist() if curve.score is not None else [],
        "frustration": curve.level.tolist() if curve.score is not None else [],
        "rules_id": assessment.rule_set.rules_id if assessment.rule_set else None,
    }


def _pairs(entries: Mapping[str, Any]) -> list[Row]:
    """A mapping as a list of structures, which becomes a MAP in the database."""
    return [{"key": key, "value": value} for key, value in entries.items()]


def _escalations(a: CallAnalysis) -> list[Row]:
    cut = {clip.name for clip in a.clips}
    return [
        {
            "position": position,
            **stored(e, without=["evidence"]),
            "evidence": [
                {
                    **stored(moment, without=["text"]),
                    "words": display_text(moment.text),
                    "clip": moment.clip_name if moment.clip_name in cut else None,
                }
                for moment in e.evidence
            ],
        }
        for position, e in enumerate(a.assessment.escalations)
    ]


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
    # A member that was not asked or classified nothing has no opinion: zeros or NaN, no emotion.
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


def _nan_is_null(values: npt.NDArray[Any]) -> pl.Series:
    return pl.Series(values.astype(np.float32)).fill_nan(None)


# SQL of the writer, over the frames above, which are registered as `batch_*` during a transaction.

NOTE_RULES = """
INSERT OR IGNORE INTO base.rule_sets SELECT DISTINCT rules_id, rules, now() FROM batch_rule_sets
"""

# Sums of a call per role and emotion: a row for every emotion that the ensemble could have named, and
# one with NULL for what it abstained on, so that views need no outer joins over millions of segments.
# Sums are rounded because threads add in any order: the same call must give the same row.
CALL_EMOTIONS = """
INSERT INTO base.call_emotions BY NAME
WITH spoken AS (
    SELECT analysis_key, role, emotion, count(*) AS n_segments, round(sum(end_s - start_s), 6) AS seconds,
        round(sum(confidence), 6) AS confidence_sum, round(sum(agreement), 6) AS agreement_sum
    FROM batch_segments GROUP BY ALL
),
sides AS (
    SELECT analysis_key, role,
        round(coalesce(sum(seconds) FILTER (WHERE emotion IS NOT NULL), 0), 6) AS labelled_s
    FROM spoken GROUP BY ALL
),
wanted AS (
    SELECT s.*, l.emotion FROM sides s JOIN batch_labels l USING (analysis_key)
    UNION ALL SELECT *, NULL FROM sides
)
SELECT w.analysis_key, w.role, w.emotion, coalesce(s.n_segments, 0) AS n_segments,
    coalesce(s.seconds, 0) AS seconds, w.labelled_s, coalesce(s.confidence_sum, 0) AS confidence_sum,
    coalesce(s.agreement_sum, 0) AS agreement_sum
FROM wanted w LEFT JOIN spoken s
    ON s.analysis_key = w.analysis_key AND s.role = w.role AND s.emotion IS NOT DISTINCT FROM w.emotion
ORDER BY w.analysis_key
"""

MEMBER_TALLIES = """
INSERT INTO base.member_tallies BY NAME
SELECT p.analysis_key, p.member, s.emotion, count(*) AS n_segments,
    count(*) FILTER (WHERE p.emotion = s.emotion) AS n_agreed
FROM batch_predictions p JOIN batch_segments s USING (analysis_key, segment)
WHERE s.emotion IS NOT NULL AND p.emotion IS NOT NULL GROUP BY ALL ORDER BY p.analysis_key
"""

CALL_LEVELS = """
INSERT INTO base.call_levels BY NAME
SELECT analysis_key, role, round(sum(end_s - start_s), 6) AS seconds,
    round(sum((end_s - start_s) * level_db) / sum(end_s - start_s), 4) AS level_db
FROM (
    SELECT *, descriptors[(SELECT any_value(position) + 1 FROM base.feature_names
        WHERE name = 'loudness_db')] AS level_db
    FROM batch_segments
)
WHERE isfinite(level_db) GROUP BY ALL ORDER BY analysis_key
"""
