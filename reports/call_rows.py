"""Everything stored about a handful of calls, read in bulk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from reports.report_source import Row, Source, without_quotes
from reports.timeline import ROLE_NAMES
from reports.translation import _


@dataclass(slots=True)
class CallData:
    """The rows of one call. `facts` is its row of call_summary with the file's properties."""

    facts: Row
    segments: list[Row] = field(default_factory=list)
    votes: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    turns: list[Row] = field(default_factory=list)
    sounds: list[Row] = field(default_factory=list)
    measures: dict[tuple[str, str | None, str], float] = field(default_factory=dict)
    escalations: list[Row] = field(default_factory=list)
    unknown_voices: list[str] = field(default_factory=list)  # speakers of unknown side, by first appearance
    reviews: list[Row] = field(default_factory=list)  # of the call as a whole, the newest first
    utterances: list[Row] = field(default_factory=list)  # none in a redacted report
    words_note: str | None = None  # why there are no words, or not all

    @property
    def call_id(self) -> str:
        """The key of the call in every table."""
        return str(self.facts["call_id"])

    @property
    def scored_voice(self) -> str | None:
        """Speaker that the score is of, who may be the caller; None where it is of the caller or nobody."""
        voice: str | None = self.facts["frustration_voice"]
        return voice

    @property
    def scored_role(self) -> str:
        """Role of the frustration measures: caller, or unknown."""
        return "caller" if self.scored_voice is None else "unknown"

    def voice_name(self, segment: Row) -> str:
        """Name of one of several voices of unknown side, by order of appearance; else empty."""
        if segment["role"] != "unknown" or len(self.unknown_voices) == 1:
            return ""
        return _("Voice {n}").format(n=self.unknown_voices.index(segment["speaker"]) + 1)

    def side_name(self, segment: Row) -> str:
        """What pages call the voice of a segment: Caller, Agent, Unknown, or Voice 1, Voice 2 and so on."""
        return self.voice_name(segment) or _(ROLE_NAMES[segment["role"]])

    def may_be_the_caller(self, segment: Row) -> bool:
        """Whether a segment is of the caller or of a voice that may be."""
        return bool(segment["role"] != "agent" or segment["speaker"] == self.scored_voice)


_FACTS = """
SELECT s.* EXCLUDE (started_at, analysed_at), r.paths, r.container, r.codec,
    r.native_rate_hz, r.n_channels, r.clipped_share, a.frustration_at_s, a.frustration, a.words_note
FROM call_summary s JOIN recordings r USING (recording_id) JOIN analyses a USING (analysis_key)
WHERE s.analysis_key IN (SELECT unnest($keys))
"""

# One pass over the stretch of each table that holds these analyses: rows lie sorted by analysis_key.
_PARTS = {
    "segments": """SELECT analysis_key, segment, speaker, role::VARCHAR AS role, start_s, end_s,
            emotion::VARCHAR AS emotion, top_emotion::VARCHAR AS top_emotion, confidence, agreement,
            tie_broken, abstain_reason, probabilities
        FROM base.segments WHERE {chosen} ORDER BY analysis_key, start_s, segment""",
    "votes": """SELECT analysis_key, segment, member, emotion::VARCHAR AS emotion,
            probabilities[enum_code(p.emotion) + 1] AS probability
        FROM base.predictions p WHERE {chosen} ORDER BY analysis_key, segment, member""",
    "turns": """SELECT analysis_key, role::VARCHAR AS role, channel, start_s, end_s
        FROM base.turns WHERE {chosen} ORDER BY analysis_key, start_s""",
    "sounds": """SELECT analysis_key, kind::VARCHAR AS kind, channel, start_s, end_s
        FROM base.sounds WHERE {chosen} ORDER BY analysis_key, start_s""",
    "measures": """SELECT analysis_key, name, role::VARCHAR AS role, period::VARCHAR AS period, value
        FROM base.call_measures WHERE {chosen} ORDER BY analysis_key""",
    "escalations": """SELECT analysis_key, rule, weight, value, threshold, reason, evidence
        FROM base.escalations WHERE {chosen} ORDER BY analysis_key, position""",
}
_UTTERANCES = """
SELECT analysis_key, role::VARCHAR AS role, start_s, end_s, text, confidence, source, word_start_s
FROM base.utterances WHERE {chosen} ORDER BY analysis_key, utterance
"""
_REVIEWS = """
SELECT a.analysis_key, r.verdict::VARCHAR AS verdict, r.reviewer,
    r.reviewed_at AT TIME ZONE $zone AS reviewed_local
FROM reviews r JOIN analyses a USING (call_id)
WHERE a.analysis_key IN (SELECT unnest($keys)) AND r.segment IS NULL AND r.rule IS NULL
ORDER BY r.reviewed_at DESC, r.review_id DESC
"""
_CHOSEN = "analysis_key BETWEEN $first AND $last AND analysis_key IN (SELECT unnest($keys))"


def load_calls(source: Source, keys: Sequence[int]) -> dict[int, CallData]:
    """The calls of these analyses, by analysis_key."""
    if not keys:
        return {}
    chosen = list(keys)
    found = {row["analysis_key"]: CallData(row) for row in source.rows(_FACTS, keys=chosen)}
    span = {"keys": chosen, "first": min(chosen), "last": max(chosen)}
    parts = {name: source.rows(sql.format(chosen=_CHOSEN), **span) for name, sql in _PARTS.items()}
    for name in ("segments", "turns", "sounds", "escalations"):
        for row in parts[name]:
            getattr(found[row["analysis_key"]], name).append(row)
    if not source.redacted:
        for row in source.rows(_UTTERANCES.format(chosen=_CHOSEN), **span):
            found[row["analysis_key"]].utterances.append(row)
        for call in found.values():
            call.words_note = call.facts["words_note"]
    else:
        for row in parts["escalations"]:
            row["reason"] = without_quotes(row["reason"])
            row["evidence"] = [{**m, "words": without_quotes(m["words"])} for m in row["evidence"]]
    for call in found.values():
        unknown = (s["speaker"] for s in call.segments if s["role"] == "unknown")
        call.unknown_voices = list(dict.fromkeys(unknown))
    for row in parts["votes"]:
        found[row["analysis_key"]].votes[row["segment"]].append(row)
    for row in parts["measures"]:
        found[row["analysis_key"]].measures[row["name"], row["role"], row["period"]] = row["value"]
    for row in source.rows(_REVIEWS, keys=chosen, zone=source.settings.time.zone_info.key):
        found[row["analysis_key"]].reviews.append(row)
    return found
