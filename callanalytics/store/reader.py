"""Read stored rows back as an analysis, so that a correction can assess a call again without inference."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

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
    FloatArray,
    Recording,
    Role,
    RoleEvidence,
    RoleSource,
    Segment,
    SoundSpan,
    Turn,
)
from callanalytics.store.rows import Record, Row, enum_of_field, restored
from callanalytics.store.schema import fetched
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


def read_analyses(
    store: Store, analysis_keys: Sequence[int], *, opinions: bool = True
) -> dict[int, CallAnalysis]:
    """Stored analyses of any ensemble by their keys, as `read_analysis`; some hundred at a time are fast.

    Without `opinions` the votes hold no member: rules do not look at what each of them thought.
    """
    found = _by(store, "analyses", "analysis_key", analysis_keys)
    calls = _read(store, [row for rows in found.values() for row in rows], opinions=opinions)
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


def _read(store: Store, analyses: Sequence[Row], *, opinions: bool = True) -> list[CallAnalysis]:
    keys = [analysis["analysis_key"] for analysis in analyses]
    recorded = [analysis["recording_id"] for analysis in analyses]
    calls = _by(store, "calls", "recording_id", recorded)
    files = _by(store, "recordings", "recording_id", recorded)
    ensembles = _by(store, "ensembles", "ensemble_id", [analysis["ensemble_id"] for analysis in analyses])
    rule_sets = _by(store, "rule_sets", "rules_id", [analysis["rules_id"] for analysis in analyses])
    of_keys = {
        table: _parts(store, table, keys, order)
        for table, order in (
            ("turns", "turn"),
            ("sounds", "start_s"),
            ("segments", "segment"),
            ("utterances", "utterance"),
        )
    }
    predictions = _parts(store, "predictions", keys, "segment") if opinions else None
    names = tuple(name for (name,) in store.rows("SELECT name FROM base.feature_names ORDER BY position"))
    found = []
    for analysis in analyses:
        key = analysis["analysis_key"]
        turns, sounds, segments, utterances = (parts(key) for parts in of_keys.values())
        (call,), (file,) = calls[analysis["recording_id"]], files[analysis["recording_id"]]
        (ensemble,) = ensembles[analysis["ensemble_id"]]
        said = predictions(key) if predictions else None
        found.append(
            CallAnalysis(
                recording=restored(Recording, file, paths=tuple(map(Path, file["paths"]))),
                facts=restored(CallFacts, call, sources=dict(call["fact_sources"])),
                audio=restored(AudioFacts, file),
                speech=_diarization(analysis, turns, sounds, segments),
                segments=_restored_all(Segment, segments.rename({"segment": "index"})),
                features=Features(names, _matrix(segments["descriptors"], len(names))),
                votes=_votes(ensemble, analysis["neutral_share"], segments, said),
                ensemble_id=analysis["ensemble_id"],
                assessment=_assessment(analysis, rule_sets.get(analysis["rules_id"])),
                clips=(),
                stage_wall_s=dict(analysis["stage_wall_s"]),
                recipe=analysis["recipe"],
                words=_words(analysis, utterances),
            )
        )
    return found


def _by(store: Store, table: str, key: str, values: Collection[Any]) -> dict[Any, list[Row]]:
    """Rows of a table in `base` by the values of a key column."""
    rows: dict[Any, list[Row]] = {}
    for row in _chosen(store, table, key, values).to_dicts():
        rows.setdefault(row[key], []).append(row)
    return rows


def _parts(store: Store, table: str, keys: Collection[int], order: str) -> Callable[[int], pl.DataFrame]:
    """The rows of an analysis in a table, in order; as columns, since there may be many."""
    frame = _chosen(store, table, "analysis_key", keys, f", {order}")
    parts = frame.partition_by("analysis_key", as_dict=True)
    none = frame.clear()
    return lambda key: parts.get((key,), none)


def _chosen(store: Store, table: str, key: str, values: Collection[Any], order: str = "") -> pl.DataFrame:
    wanted = list({value for value in values if value is not None})
    kind = "INTEGER" if key == "analysis_key" else "VARCHAR"
    sql = f"SELECT * FROM base.{table} WHERE {key} IN (SELECT unnest(?::{kind}[]))"  # noqa: S608
    return _frame(store, f"{sql} ORDER BY {key}{order}", wanted)


def _assessment(analysis: Row, rule_sets: list[Row] | None) -> CallAssessment:
    level = np.array(analysis["frustration"], dtype=np.float32)
    unknown = np.full(len(level), np.nan, dtype=np.float32)
    at_s = np.array(analysis["frustration_at_s"], dtype=np.float32)
    curve = Curve(at_s, level, analysis["frustration_score"], unknown, unknown, analysis["frustration_voice"])
    rule_set = restored(RuleSet, rule_sets[0]) if rule_sets else None
    return CallAssessment(curve, (), (), analysis["flagged"], rule_set)


def _frame(store: Store, sql: str, *parameters: object) -> pl.DataFrame:
    # By way of Arrow: DuckDB's own fetchall would need pytz for times with a zone.
    return fetched(store.connection.sql(sql, params=list(parameters)))


def _one(store: Store, call_id: str) -> Row:
    sql = "SELECT * FROM analyses WHERE starts_with(call_id, ?) ORDER BY call_id LIMIT 3"
    found: list[Row] = _frame(store, sql, call_id).to_dicts()
    if not found:
        listing = store.workspace.command("query", "FROM call_summary")
        raise UsageError(f"no call {call_id!r}. List them with: {listing}")
    if len(found) > 1:
        first, second = found[0]["call_id"], found[1]["call_id"]
        raise UsageError(f"{call_id!r} may be {first} or {second}. Give more of the id.")
    return found[0]


def _diarization(
    analysis: Row, turns: pl.DataFrame, sounds: pl.DataFrame, segments: pl.DataFrame
) -> Diarization:
    said = ((part["speaker"].to_list(), part["role"].to_list()) for part in (segments, turns))
    roles = {speaker: Role(role) for columns in said for speaker, role in zip(*columns, strict=True)}
    return Diarization(
        turns=_restored_all(Turn, turns),
        roles=roles,
        layout=ChannelLayout(analysis["channel_layout"]),
        role_source=RoleSource(analysis["role_source"]),
        role_confidence=analysis["role_confidence"],
        role_evidence=tuple(restored(RoleEvidence, fact) for fact in analysis["role_evidence"]),
        sounds=_restored_all(SoundSpan, sounds),
        quality=tuple(analysis["quality"]),
    )


def _restored_all(kind: type[Record], rows: pl.DataFrame) -> tuple[Record, ...]:
    """The records of many rows, as `restored` makes one; column by column takes a tenth of the time."""
    columns = {}
    for name, enum in enum_of_field(kind).items():  # type: ignore[arg-type] # a type is hashable
        if name in rows.columns:
            values = rows[name].to_list()
            known = {value: enum(value) for value in set(values)} if enum else {}
            columns[name] = [known[value] for value in values] if enum else values
    return tuple(kind(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))


def _words(analysis: Row, rows: pl.DataFrame) -> CallWords:
    utterances = (
        restored(
            Utterance,
            row,
            word_start_s=tuple(row["word_start_s"]),
            word_confidence=tuple(row["word_confidence"]),
        )
        for row in rows.to_dicts()
    )
    return CallWords(tuple(utterances), whole=analysis["words_whole"] or False, note=analysis["words_note"])


def _matrix(rows: pl.Series, width: int) -> FloatArray:
    """Rows of `width` numbers as (n, width) float32."""
    if not len(rows):
        return np.zeros((0, width), dtype=np.float32)
    return rows.explode().to_numpy().astype(np.float32).reshape(len(rows), width)


def _votes(
    ensemble: Row, neutral_share: float | None, segments: pl.DataFrame, predictions: pl.DataFrame | None
) -> Votes:
    labels, members = tuple(ensemble["labels"]), tuple(ensemble["members"])
    columns = [EMOTIONS.index(label) for label in labels]
    if predictions is None:
        members = ()
    by_member = np.zeros((len(members), len(segments), len(EMOTIONS)), dtype=np.float32)
    if predictions is not None and len(predictions):
        place = {number: i for i, number in enumerate(segments["segment"].to_list())}
        of_segment = [place[number] for number in predictions["segment"].to_list()]
        of_member = [members.index(name) for name in predictions["member"].to_list()]
        by_member[of_member, of_segment] = _matrix(predictions["probabilities"], len(EMOTIONS))
    mean = _matrix(segments["probabilities"], len(EMOTIONS))

    def index(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        named = segments[name].to_list()
        return np.array([-1 if label is None else labels.index(label) for label in named], dtype=np.int64)

    def number(name: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return segments[name].to_numpy().astype(np.float32)  # NaN for NULL

    return Votes(
        labels=labels,
        member_names=members,
        probabilities=by_member[:, :, columns],
        mean_probabilities=mean[:, columns],
        emotion_index=index("emotion"),
        top_index=index("top_emotion"),
        confidence=number("confidence"),
        agreement=number("agreement"),
        tie_broken=segments["tie_broken"].to_numpy().astype(bool),
        abstain_reason=tuple(segments["abstain_reason"].to_list()),
        neutral_share=neutral_share,
    )
