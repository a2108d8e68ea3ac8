"""The rows that a worker packs: every table from the call itself, without a database."""

from __future__ import annotations

import io
import math
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from fixture_calls import LABELS, MEMBERS, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.analysis.words import CallWords, Utterance
from callanalytics.config import RuleSet
from callanalytics.diarize.quality import Quality
from callanalytics.records import Clip, Measure, Role, RoleEvidence, RoleSource, Sound, SoundSpan
from callanalytics.store.rows import (
    TYPES,
    assessment_frames,
    enum_of_field,
    frame_of,
    frames_of,
    known_number,
    naming_frames,
    pack,
    restored,
    stored,
    unpack,
)
from ensemble.labels import EMOTIONS


@pytest.fixture(scope="module")
def call() -> CallAnalysis:
    """A flagged call with words, sounds, evidence that is cut and a rule set."""
    found = next(c for c in plausible_calls(3, 4) if c.assessment.escalations and len(c.segments) > 4)
    words = (
        Utterance(
            "speaker_0", Role.AGENT, 0.5, 1.5, "good\x1b day", "recognised", 0.75, (0.5, 1.0), (0.5, None)
        ),
        Utterance(None, Role.UNKNOWN, 2.0, 3.0, "hm", "srt"),
    )
    first = found.assessment.escalations[0]
    moments = tuple(replace(m, text="bell\x07") for m in first.evidence)
    changed = (replace(first, reason="a\nb", value=2.5, evidence=moments), *found.assessment.escalations[1:])
    return replace(
        found,
        words=CallWords(words, whole=True, note="cut"),
        clips=(Clip(moments[0].clip_name, 0.0, 1.0, b"sound"),) if moments else (),
        stage_wall_s={"decode": 0.5, "vote": 1.25},
        speech=replace(
            found.speech,
            sounds=(SoundSpan(Sound.TONE, 1, 0.25, 0.75),),
            role_evidence=(RoleEvidence(RoleSource.INFERRED, 1.5, "the way\x00 the talk runs"),),
        ),
        assessment=replace(
            found.assessment,
            escalations=changed,
            measures=(*found.assessment.measures, Measure("odd", None, "call", math.inf),
                      Measure("none", Role.AGENT, "q1", None)),
            rule_set=RuleSet("abc", "{}"),
        ),
    )  # fmt: skip


def opened(stream: bytes) -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(stream))


def test_a_number_that_cannot_be_compared_is_unknown() -> None:
    assert [known_number(x) for x in (1, 0.5, math.nan, math.inf, -math.inf, None)] == [1.0, 0.5, *[None] * 4]
    assert type(known_number(1)) is float


def test_the_types_of_columns_are_given_and_not_guessed() -> None:
    assert TYPES["flagged"] == pl.Boolean
    empty = dict.fromkeys(TYPES)
    found = frame_of([{**empty, "something": None}])
    assert dict(found.schema) == {**TYPES, "something": pl.String}
    assert TYPES["started_at"] == pl.Datetime("us", "UTC")
    assert TYPES["reasons"] == pl.List(pl.String)


def test_a_packed_call_says_what_the_writer_must_know(call: CallAnalysis) -> None:
    packed = pack(call)
    assert (packed.recording, packed.ensemble_id, packed.clips) == (
        *(call.recording, call.ensemble_id),
        call.clips,
    )
    assert (packed.started_at, packed.duration_s) == (call.facts.started_at, call.audio.duration_s)
    assert (packed.n_segments, packed.flagged) == (len(call.segments), call.assessment.flagged)
    assert (packed.has_words, packed.words_note) == (True, "cut")
    frames = frames_of(call)
    assert list(packed.tables) == list(frames)
    for name, frame in frames.items():
        assert opened(packed.tables[name]).equals(frame), name
    assert not pack(replace(call, words=CallWords())).has_words


def test_the_tables_of_a_call_and_of_one_without_speech(call: CallAnalysis) -> None:
    naming = ["recordings", "calls", "analyses"]
    speech = ["segments", "labels", "predictions"]
    assert list(frames_of(call)) == [
        *(*naming, "turns", "sounds", "utterances", "escalations", "rule_sets", "call_measures"),
        *speech,
    ]
    assert list(naming_frames(call)) == naming
    assert list(assessment_frames(call)) == ["analyses", "escalations", "rule_sets", "call_measures"]
    bare = replace(
        call,
        segments=(),
        words=CallWords(),
        speech=replace(call.speech, turns=(), sounds=()),
        assessment=replace(call.assessment, escalations=(), rule_set=None),
    )
    assert list(frames_of(bare)) == [*naming, "call_measures"]
    assert list(assessment_frames(bare)) == ["analyses", "call_measures"]
    (row,) = frames_of(bare)["analyses"].to_dicts()
    assert (row["n_segments"], row["n_labelled"], row["segments_s"], row["labelled_s"]) == (0, 0, 0.0, 0.0)
    assert (row["reasons"], row["rules_id"]) == ([], None)


def test_which_call_it_is(call: CallAnalysis) -> None:
    recordings, calls, analyses = (frame.to_dicts() for frame in naming_frames(call).values())
    ids = {"call_id": call.recording.call_id, "recording_id": call.recording.recording_id}
    shown = list(call.recording.all_shown)
    audio = {f.name: getattr(call.audio, f.name) for f in fields(call.audio)}
    audio = {name: list(value) if isinstance(value, tuple) else value for name, value in audio.items()}
    assert recordings == [
        {
            **ids,
            **{"path": shown[0], "paths": shown, "n_bytes": call.recording.n_bytes},
            **{"modified_at": call.recording.modified_at, **audio},
        }
    ]
    (row,) = calls
    assert {name: row[name] for name in ids} == ids
    assert (row["path"], row["duration_s"]) == (shown[0], call.audio.duration_s)
    assert {pair["key"]: pair["value"] for pair in row["fact_sources"]} == dict(call.facts.sources)
    for name in ("started_at", "agent_id", "queue", "caller_hash", "expected_duration_s"):
        assert row[name] == getattr(call.facts, name)
    assert (row["direction"], row["started_at_source"]) == (
        call.facts.direction.value,
        call.facts.started_at_source.value,
    )
    assert not row.keys() & {"stated_roles", "conversation_share", "sources", "aliases"}
    assert [row["call_id"] for row in analyses] == [call.recording.call_id]


def test_what_is_said_of_an_analysis(call: CallAnalysis) -> None:
    (row,) = frames_of(call)["analyses"].to_dicts()
    speech, curve = call.speech, call.assessment.curve
    named = call.votes.emotion_index >= 0
    seconds = np.array([s.duration_s for s in call.segments])
    assert row == {
        **{"call_id": call.recording.call_id, "recording_id": call.recording.recording_id},
        **{"ensemble_id": call.ensemble_id, "recipe": call.recipe, "channel_layout": speech.layout.value},
        **{"role_source": speech.role_source.value, "role_confidence": speech.role_confidence},
        "role_evidence": [{"source": "inferred", "log_odds": 1.5, "words": row["role_evidence"][0]["words"]}],
        **{"quality": list(speech.quality), "n_segments": len(seconds), "n_labelled": int(named.sum())},
        **{"segments_s": pytest.approx(seconds.sum()), "labelled_s": pytest.approx(seconds[named].sum())},
        **{"neutral_share": call.votes.neutral_share, "frustration_score": curve.score},
        **{"frustration_voice": curve.voice, "frustration_peak_s": curve.peak_s},
        **{"flagged": call.assessment.flagged, "reasons": row["reasons"], "rules_id": "abc"},
        **{"frustration_at_s": curve.at_s.tolist(), "frustration": curve.level.tolist()},
        "stage_wall_s": [{"key": "decode", "value": 0.5}, {"key": "vote", "value": 1.25}],
        **{"words_whole": True, "words_note": "cut"},
    }
    assert 0 < named.sum() < len(named)
    assert "\n" not in row["reasons"][0]
    assert len(row["reasons"]) == len(call.assessment.escalations)
    assert "\x00" not in row["role_evidence"][0]["words"]
    unknown = replace(call, assessment=replace(call.assessment, curve=replace(curve, score=None)))
    (row,) = assessment_frames(unknown)["analyses"].to_dicts()
    assert (row["frustration_at_s"], row["frustration"], row["frustration_score"]) == ([], [], None)


def test_turns_sounds_and_words(call: CallAnalysis) -> None:
    frames = {name: frame.to_dicts() for name, frame in frames_of(call).items()}
    assert frames["turns"] == [
        {
            **{"turn": number, "role": call.speech.roles[turn.speaker].value, "speaker": turn.speaker},
            **{"channel": turn.channel, "start_s": turn.start_s, "end_s": turn.end_s},
        }
        for number, turn in enumerate(call.speech.turns)
    ]
    assert frames["sounds"] == [{"kind": "tone", "channel": 1, "start_s": 0.25, "end_s": 0.75}]
    first, second = frames["utterances"]
    assert "\x1b" not in first.pop("text")
    assert first == {
        **{"utterance": 0, "speaker": "speaker_0", "role": "agent", "start_s": 0.5, "end_s": 1.5},
        **{"source": "recognised", "confidence": 0.75, "word_start_s": [0.5, 1.0]},
        "word_confidence": [0.5, None],
    }
    assert (second["utterance"], second["speaker"], second["word_start_s"]) == (1, None, [])


def test_escalations_name_the_clips_that_were_cut(call: CallAnalysis) -> None:
    frames = frames_of(call)
    rows = frames["escalations"].to_dicts()
    assert [row["position"] for row in rows] == list(range(len(call.assessment.escalations)))
    first, given = rows[0], call.assessment.escalations[0]
    assert (first["rule"], first["value"], first["threshold"]) == (given.rule, 2.5, given.threshold)
    assert [(m["start_s"], m["end_s"]) for m in first["evidence"]] == [
        (m.start_s, m.end_s) for m in given.evidence
    ]
    cut = {clip.name for clip in call.clips}
    assert cut
    clips = [m["clip"] for row in rows for m in row["evidence"]]
    names = [m.clip_name for e in call.assessment.escalations for m in e.evidence]
    assert clips == [name if name in cut else None for name in names]
    assert {None} < set(clips) or len(names) == 1
    assert all("\x07" not in m["words"] for m in first["evidence"])
    assert frames["rule_sets"].to_dicts() == [{"rules_id": "abc", "rules": "{}"}]


def test_measures_keep_their_order_and_what_is_unknown_is_null(call: CallAnalysis) -> None:
    measures = call.assessment.measures
    assert frames_of(call)["call_measures"].rows() == [
        (m.name, m.role, m.period, known_number(m.value)) for m in measures
    ]
    assert dict(frames_of(call)["call_measures"].schema) == {
        **dict.fromkeys(("name", "role", "period"), pl.String),
        "value": pl.Float64,
    }


def wide(shares: Any) -> list[float]:
    found = [0.0] * len(EMOTIONS)
    for label, share in zip(LABELS, shares, strict=True):
        found[EMOTIONS.index(label)] = float(np.nan_to_num(share))
    return found


def test_segments_with_their_votes(call: CallAnalysis) -> None:
    shares = call.votes.probabilities.copy()
    shares[0, 1], shares[1, 2], shares[2, 2] = 0, np.nan, 0
    confidence = call.votes.confidence.copy()
    confidence[1] = np.nan
    votes = replace(call.votes, probabilities=shares, confidence=confidence)
    frames = frames_of(replace(call, votes=votes))
    rows = frames["segments"].to_dicts()
    assert len(rows) == len(call.segments)
    for i, (row, segment) in enumerate(zip(rows, call.segments, strict=True)):
        named, top = int(votes.emotion_index[i]), int(votes.top_index[i])
        given = {
            **{"segment": segment.index, "speaker": segment.speaker, "role": segment.role.value},
            **{"channel": segment.channel, "start_s": segment.start_s, "end_s": segment.end_s},
            **{"overlap_share": pytest.approx(segment.overlap_share)},
            **{"emotion": LABELS[named] if named >= 0 else None},
            **{"top_emotion": LABELS[top] if top >= 0 else None},
            **{
                "confidence": None if i == 1 else float(confidence[i]),
                "agreement": float(votes.agreement[i]),
            },
            **{"tie_broken": bool(votes.tie_broken[i]), "abstain_reason": votes.abstain_reason[i]},
        }
        assert {name: row[name] for name in given} == given
        assert row["probabilities"] == pytest.approx(wide(votes.mean_probabilities[i]))
        np.testing.assert_array_equal(row["descriptors"], call.features.values[i])
    assert frames["labels"].to_dicts() == [{"emotion": label} for label in LABELS]
    schema = frames["segments"].schema
    assert (schema["segment"], schema["channel"], schema["start_s"]) == (pl.Int32, pl.Int32, pl.Float64)
    assert (schema["overlap_share"], schema["confidence"]) == (pl.Float32, pl.Float32)
    predictions = frames["predictions"].to_dicts()
    assert [(row["segment"], row["member"]) for row in predictions] == [
        (segment.index, member) for segment in call.segments for member in MEMBERS
    ]
    for n, row in enumerate(predictions):
        own = shares[n % len(MEMBERS), n // len(MEMBERS)]
        assert row["probabilities"] == pytest.approx(wide(own))
        assert row["emotion"] == (LABELS[int(np.argmax(own))] if np.nansum(own) > 0 else None)
    assert sum(row["emotion"] is None for row in predictions) == 3


def test_a_batch_in_one_piece_with_the_keys_of_its_analyses(call: CallAnalysis) -> None:
    silent = replace(call, segments=(), speech=replace(call.speech, sounds=()))
    tables = unpack({7: pack(silent), 9: pack(call)})
    assert tables["recordings"].columns[0] == "call_id"
    for name in ("recordings", "calls", "rule_sets"):
        assert "analysis_key" not in tables[name].columns
    assert tables["analyses"].columns[0] == "analysis_key"
    assert tables["analyses"]["analysis_key"].to_list() == [7, 9]
    assert tables["turns"]["analysis_key"].to_list() == [7] * len(call.speech.turns) + [9] * len(
        call.speech.turns
    )
    assert tables["segments"]["analysis_key"].to_list() == [9] * len(call.segments)
    assert tables["sounds"]["analysis_key"].to_list() == [9]
    assert tables["turns"]["analysis_key"].dtype == pl.Int32
    assert {column.n_chunks() for table in tables.values() for column in table.iter_columns()} == {1}


def test_a_profile_learns_from_what_was_said_of_one_agent_alone(call: CallAnalysis) -> None:
    voice = np.ones(192, np.float32)
    agent, other = "speaker_0", "speaker_1"
    said = replace(
        call.speech,
        roles={agent: Role.AGENT, other: Role.CALLER},
        role_source=RoleSource.SIDECAR,
        quality=(),
        voices={agent: voice, other: 2 * voice},
    )
    facts = replace(call.facts, agent_id="kim", recorder="pbx")

    def learned(facts: Any = facts, **change: Any) -> Any:
        return pack(replace(call, facts=facts, speech=replace(said, **change))).agent_voice

    found = learned()
    assert (found.agent, found.learned_from) == (("pbx", "kim"), RoleSource.SIDECAR)
    np.testing.assert_array_equal(found.voice, voice)
    for source in RoleSource:
        stated = source in (
            *(RoleSource.CORRECTION, RoleSource.SIDECAR),
            *(RoleSource.RECORDER, RoleSource.NAME),
        )
        assert (learned(role_source=source) is not None) is stated
    assert learned(quality=(Quality.ROLE_CONFLICT,)) is None
    assert learned(roles={agent: Role.AGENT, other: Role.AGENT}) is None
    assert learned(roles={agent: Role.CALLER, other: Role.UNKNOWN}) is None
    assert learned(voices={other: voice}) is None
    assert learned(replace(facts, agent_id=None, agent_name=None)) is None


def test_a_record_is_what_its_row_gives_back(call: CallAnalysis) -> None:
    turn, sound = call.speech.turns[0], call.speech.sounds[0]
    assert restored(type(turn), stored(turn)) == turn
    assert restored(SoundSpan, stored(sound)) == sound
    assert type(restored(SoundSpan, stored(sound)).kind) is Sound
    assert restored(SoundSpan, {**stored(sound), "more": 1}, channel=5) == replace(sound, channel=5)
    assert enum_of_field(SoundSpan) == {"kind": Sound, "channel": None, "start_s": None, "end_s": None}
    assert stored(sound, without=("kind", "end_s")) == {"channel": 1, "start_s": 0.25}
    said = stored(replace(call.facts, queue="a\x1bb", started_at=datetime(2026, 1, 1, tzinfo=UTC)))
    assert "\x1b" not in said["queue"]
    assert said["started_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert stored(SoundSpan(Sound.TONE, 0, math.nan, math.inf)) == {
        **{"kind": "tone", "channel": 0},
        **{"start_s": None, "end_s": None},
    }
