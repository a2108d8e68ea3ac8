"""Read stored rows back as an analysis, so that a correction can assess a call again without inference."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from callanalytics.analysis.assess import CallAssessment
from callanalytics.analysis.call import CallAnalysis
from callanalytics.analysis.frustration import Curve
from callanalytics.analysis.words import CallWords, Utterance
from callanalytics.config import RuleSet
from callanalytics.errors import UsageError
from callanalytics.records import (
    AudioFacts,
    CallFacts,
    ChannelLayout,
    Diarization,
    Features,
    Recording,
    Role,
    RoleEvidence,
    RoleSource,
    Segment,
    SoundSpan,
    Turn,
)
from callanalytics.store.rows import Row, restored
from callanalytics.store.writer import Store
from ensemble.inference.vote import Votes
from ensemble.labels import EMOTIONS


def read_call(store: Store, call_id: str) -> CallAnalysis:
    """The stored analysis of a call by the promoted ensemble, without measures, escalations and clips.

    Raises:
        UsageError: no such call, or several whose id starts with `call_id`.
    """
    (call,) = _read(store, [_one(store, call_id)])
    return call


def read_analysis(store: Store, analysis_key: int) -> CallAnalysis:
    """A stored analysis of any ensemble, without measures, escalations and clips."""
    (call,) = read_analyses(store, [analysis_key]).values()
    return call


def read_analyses(store: Store, analysis_keys: Sequence[int]) -> dict[int, CallAnalysis]:
    """Stored analyses of any ensemble by their keys, as `read_analysis`; some hundred at a time are fast."""
    found = _of_keys(store, "analyses", analysis_keys)
    calls = _read(store, [row for rows in found.values() for row in rows])
    return dict(zip(found, calls, strict=True))


def known_places(store: Store, recording_ids: Collection[str]) -> dict[str, dict[Path, str]]:
    """Find where files of recordings lay: recording -> path -> content id, the newest file first.

    These are the files' own names, which may hold callers' numbers: they are not to be shown.
    """
    rows = store.rows(
        "SELECT recording_id, path, content_id FROM base.files"
        " WHERE recording_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY mtime_ns DESC, path",
        [list(recording_ids)],
    )
    places: dict[str, dict[Path, str]] = {}
    for recording_id, path, content_id in rows:
        places.setdefault(recording_id, {})[Path(os.fsdecode(path))] = content_id
    return places


def _read(store: Store, analyses: Sequence[Row]) -> list[CallAnalysis]:
    keys = [analysis["analysis_key"] for analysis in analyses]
    recorded = [analysis["recording_id"] for analysis in analyses]
    calls = _by(store, "calls", "recording_id", recorded)
    files = _by(store, "recordings", "recording_id", recorded)
    ensembles = _by(store, "ensembles", "ensemble_id", [analysis["ensemble_id"] for analysis in analyses])
    rule_sets = _by(store, "rule_sets", "rules_id", [analysis["rules_id"] for analysis in analyses])
    of_keys = {
        table: _of_keys(store, table, keys, order)
        for table, order in (
            ("turns", "turn"),
            ("sounds", "start_s"),
            ("segments", "segment"),
            ("predictions", "segment"),
            ("utterances", "utterance"),
        )
    }
    names = tuple(name for (name,) in store.rows("SELECT name FROM base.feature_names ORDER BY position"))
    found = []
    for analysis in analyses:
        turns, sounds, segments, predictions, utterances = (
            table.get(analysis["analysis_key"], []) for table in of_keys.values()
        )
        (call,), (file,) = calls[analysis["recording_id"]], files[analysis["recording_id"]]
        (ensemble,) = ensembles[analysis["ensemble_id"]]
        found.append(
            CallAnalysis(
                recording=restored(Recording, file, paths=tuple(map(Path, file["paths"]))),
                facts=restored(CallFacts, call, sources=dict(call["fact_sources"])),
                audio=restored(AudioFacts, file),
                speech=_diarization(analysis, turns, sounds, segments),
                segments=tuple(restored(Segment, row, index=row["segment"]) for row in segments),
                features=_features(names, segments),
                votes=_votes(ensemble, analysis["neutral_share"], segments, predictions),
                ensemble_id=analysis["ensemble_id"],
                assessment=_assessment(analysis, rule_sets.get(analysis["rules_id"])),
                clips=(),
                stage_wall_s=dict(analysis["stage_wall_s"]),
                recipe=analysis["recipe"],
                words=_words(analysis, utterances),
            )
        )
    return found


def _by(store: Store, table: str, key: str, values: Collection[Any], order: str = "") -> dict[Any, list[Row]]:
    """Rows of a table in `base` by the values of a key column."""
    wanted = list({value for value in values if value is not None})
    kind = "INTEGER" if key == "analysis_key" else "VARCHAR"
    sql = f"SELECT * FROM base.{table} WHERE {key} IN (SELECT unnest(?::{kind}[]))"  # noqa: S608
    rows: dict[Any, list[Row]] = {}
    for row in _rows(store, f"{sql} ORDER BY {key}{order}", wanted):
        rows.setdefault(row[key], []).append(row)
    return rows


def _of_keys(store: Store, table: str, keys: Collection[int], order: str = "") -> dict[int, list[Row]]:
    return _by(store, table, "analysis_key", keys, f", {order}" if order else "")


def _assessment(analysis: Row, rule_sets: list[Row] | None) -> CallAssessment:
    level = np.array(analysis["frustration"], dtype=np.float32)
    unknown = np.full(len(level), np.nan, dtype=np.float32)
    at_s = np.array(analysis["frustration_at_s"], dtype=np.float32)
    curve = Curve(at_s, level, analysis["frustration_score"], unknown, unknown, analysis["frustration_voice"])
    rule_set = restored(RuleSet, rule_sets[0]) if rule_sets else None
    return CallAssessment(curve, (), (), analysis["flagged"], rule_set)


def _rows(store: Store, sql: str, *parameters: object) -> list[Row]:
    # By way of Arrow: DuckDB's own fetchall would need pytz for times with a zone.
    rows: list[Row] = store.connection.sql(sql, params=list(parameters)).pl().to_dicts()
    return rows


def _one(store: Store, call_id: str) -> Row:
    found = _rows(
        store, "SELECT * FROM analyses WHERE starts_with(call_id, ?) ORDER BY call_id LIMIT 3", call_id
    )
    if not found:
        listing = store.workspace.command("query", "FROM call_summary")
        raise UsageError(f"no call {call_id!r}. List them with: {listing}")
    if len(found) > 1:
        first, second = found[0]["call_id"], found[1]["call_id"]
        raise UsageError(f"{call_id!r} may be {first} or {second}. Give more of the id.")
    return found[0]


def _diarization(analysis: Row, turns: list[Row], sounds: list[Row], segments: list[Row]) -> Diarization:
    roles = {row["speaker"]: Role(row["role"]) for row in (*segments, *turns)}
    return Diarization(
        turns=tuple(restored(Turn, turn) for turn in turns),
        roles=roles,
        layout=ChannelLayout(analysis["channel_layout"]),
        role_source=RoleSource(analysis["role_source"]),
        role_confidence=analysis["role_confidence"],
        role_evidence=tuple(restored(RoleEvidence, fact) for fact in analysis["role_evidence"]),
        sounds=tuple(restored(SoundSpan, sound) for sound in sounds),
        quality=tuple(analysis["quality"]),
    )


def _words(analysis: Row, rows: list[Row]) -> CallWords:
    utterances = (
        restored(
            Utterance,
            row,
            word_start_s=tuple(row["word_start_s"]),
            word_confidence=tuple(row["word_confidence"]),
        )
        for row in rows
    )
    return CallWords(tuple(utterances), whole=analysis["words_whole"] or False, note=analysis["words_note"])


def _features(names: tuple[str, ...], segments: list[Row]) -> Features:
    values = np.array([row["descriptors"] for row in segments], dtype=np.float32)
    return Features(names, values.reshape(len(segments), len(names)))


def _votes(ensemble: Row, neutral_share: float | None, segments: list[Row], predictions: list[Row]) -> Votes:
    labels, members = tuple(ensemble["labels"]), tuple(ensemble["members"])
    opinion = {(row["member"], row["segment"]): row for row in predictions}
    columns = [EMOTIONS.index(label) for label in labels]
    n = len(segments)
    by_member = np.array(
        [[opinion[member, s["segment"]]["probabilities"] for s in segments] for member in members],
        dtype=np.float32,
    ).reshape(len(members), n, len(EMOTIONS))
    mean = np.array([s["probabilities"] for s in segments], dtype=np.float32).reshape(n, len(EMOTIONS))

    def index(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([-1 if s[name] is None else labels.index(s[name]) for s in segments], dtype=np.int64)

    def number(name: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.array([np.nan if s[name] is None else s[name] for s in segments], dtype=np.float32)

    return Votes(
        labels=labels,
        member_names=members,
        probabilities=by_member[:, :, columns],
        mean_probabilities=mean[:, columns],
        emotion_index=index("emotion"),
        top_index=index("top_emotion"),
        confidence=number("confidence"),
        agreement=number("agreement"),
        tie_broken=np.array([s["tie_broken"] for s in segments], dtype=bool),
        abstain_reason=tuple(s["abstain_reason"] for s in segments),
        neutral_share=neutral_share,
    )
