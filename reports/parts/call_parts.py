"""What cards and pages say about a call: its timeline, reasons, moments, and texts for its facts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from callanalytics.config import ONE_OF_THE_VOICES
from ensemble.labels import EMOTIONS
from reports import timeline
from reports.call_rows import CallData
from reports.formatting import (
    MISSING,
    clock,
    count,
    day,
    moment,
    number,
    percent,
    plain_number,
    score_text,
)
from reports.palette import badge
from reports.parts.measure_names import with_unit
from reports.parts.quotes import quote
from reports.report_source import Row, Source
from reports.views import CallSummary, Cell, Fact, Moment, Reason, ReviewCommand, Table, sorted_number

# A call id becomes a file name; the writer makes 16 hex digits, anything else is not trusted as one.
_SAFE_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_SAFE_CLIP = re.compile(r"[0-9A-Za-z_-]{1,64}\.(mp3|wav)")
# Moments shown per call: the same limit as the clips of a call is usual, more would bury them.
MAX_MOMENTS = 6

LAYOUT_TEXT = {
    "stereo": "one side per channel",
    "pair": "one side per file",
    "fake_stereo": "two equal channels, treated as one",
    "one_sided": "only one channel holds speech",
    "mono": "both sides on one channel",
}
ROLE_SOURCE_TEXT = {
    "correction": "set by a person",
    "sidecar": "from the sidecar file",
    "recorder": "as the recorder lays them out",
    "name": "from the file name",
    "voice_profile": "from known agents' voices",
    "inferred": "inferred from the conversation",
    "none": "unknown",
}
TIME_SOURCE_TEXT = {
    "sidecar": "from the sidecar file",
    "manifest": "from the manifest or CDR",
    "name": "from the file name",
    "file_time": "only the time of the file is known",
}
_VERDICTS = {"confirm": "worth flagging", "reject": "not worth flagging", "unsure": "unsure"}
_ON_THE_CURVE = {"frustration_peak": "peak from", "frustration": "mean from"}


def page_name(call_id: str) -> str:
    """File name of a call's page, empty when the id could not be one."""
    return f"{call_id}.html" if _SAFE_ID.fullmatch(call_id) else ""


def summarise_call(
    source: Source, call: CallData, *, root: str, n_ticks: int, join_s: float = timeline.JOIN_S
) -> CallSummary:
    """What a card and a page have in common.

    Args:
        root: the way from the page to the folder of index.html: "" or "../".
        n_ticks: most times under the timeline.
        join_s: neighbouring segments of one emotion that lie closer are one box of the timeline.
    """
    return CallSummary(
        call_id=call.call_id,
        when=moment(call.facts["started_local"]),
        flagged=call.facts["flagged"],
        score=score_text(call.facts["frustration_score"]),
        whose="" if call.scored_voice is None else ONE_OF_THE_VOICES,
        peak=_peak(call),
        reasons=tuple(
            Reason(_sentence(e["reason"]), e["rule"], _measured(source, e)) for e in call.escalations
        ),
        course=_course(source, call),
        timeline=_timeline(source, call, n_ticks, join_s),
        moments=_moments(source, call, root),
        reviewed=_reviewed(call),
        review=_review_commands(source, call),
    )


def _timeline(source: Source, call: CallData, n_ticks: int, join_s: float) -> timeline.Timeline:
    """Both sides, the silence and overtalk between them, and the caller's frustration."""
    duration_s = call.facts["duration_s"]
    spans = [
        timeline.Span(s["role"], s["start_s"], s["end_s"], s["emotion"], call.voice_name(s))
        for s in call.segments
    ]
    turns = [(t["role"], t["start_s"], t["end_s"]) for t in call.turns]
    sounds = [(s["kind"], s["start_s"], s["end_s"]) for s in call.sounds]
    overtalk = timeline.overtalk(turns, duration_s)
    return timeline.Timeline(
        lanes=timeline.lanes(spans, duration_s, join_s=join_s),
        marks=(
            *timeline.silences(turns, [(start, end) for _, start, end in sounds], duration_s),
            *overtalk,
            *timeline.sound_marks(sounds, duration_s),
        ),
        curve=timeline.frustration(
            call.facts["frustration_at_s"],
            call.facts["frustration"],
            duration_s,
            _peak_threshold(source),
            _rule_lines(source),
        ),
        ticks=timeline.ticks(duration_s, n_ticks),
        text=_timeline_text(call, len(overtalk)),
    )


def _timeline_text(call: CallData, n_overtalk: int) -> str:
    parts = [f"Emotion over {clock(call.facts['duration_s'])} of the call."]
    for role, who in (("caller", "Caller"), ("agent", "Agent"), ("unknown", "Voices of unknown side")):
        measured = ((call.measures.get((f"{e}_share", role, "call")), e) for e in EMOTIONS)
        shares = sorted(((share, emotion) for share, emotion in measured if share), reverse=True)
        if shares:
            parts.append(f"{who}: {', '.join(f'{e} {percent(s)}' for s, e in shares)}.")
    if n_overtalk:
        parts.append(f"Both speak {count(n_overtalk, 'time')}.")
    return " ".join(parts)


def _peak_threshold(source: Source) -> float | None:
    """Where the rule on the caller's peak frustration starts, None when there is no such rule."""
    levels = (
        r.at_least for r in source.settings.rule if (r.measure, r.role) == ("frustration_peak", "caller")
    )
    return min(levels, default=None)


def _rule_lines(source: Source) -> tuple[timeline.RuleLine, ...]:
    """Every rule on the caller's frustration, as a line on its curve."""
    return tuple(
        timeline.rule_line(
            rule.at_least,
            rule.window,
            f"rule “{rule.name}”: {_ON_THE_CURVE[rule.measure]} {percent(rule.at_least)}",
        )
        for rule in source.settings.rule
        if rule.role == "caller" and rule.measure in _ON_THE_CURVE and 0 <= rule.at_least <= 1
    )


def _review_commands(source: Source, call: CallData) -> tuple[ReviewCommand, ...]:
    """What to type after listening; the call id is one of ours, so nothing in it needs quoting."""
    if not page_name(call.call_id):
        return ()
    return tuple(
        ReviewCommand(text, f"callanalytics review {call.call_id} --verdict {verdict}{source.out_option}")
        for verdict, text in (("confirm", "Worth flagging"), ("reject", "Not worth it"))
    )


def _reviewed(call: CallData) -> str:
    if not call.reviews:
        return ""
    newest = call.reviews[0]
    who = f" by {newest['reviewer']}" if newest["reviewer"] else ""
    return f"Reviewed as {_VERDICTS[newest['verdict']]}{who}, {day(newest['reviewed_local'])}"


def _measured(source: Source, escalation: Row) -> str:
    """What was measured against what the rule asked for, with units while the rule is still configured."""
    rule = next((r for r in source.settings.rule if r.name == escalation["rule"]), None)
    value, threshold = (
        (with_unit(rule.measure, escalation[key]) if rule else number(escalation[key], 2))
        for key in ("value", "threshold")
    )
    return f"measured {value}, the rule asks for {threshold}, weight {plain_number(escalation['weight'])}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _moments(source: Source, call: CallData, root: str) -> tuple[Moment, ...]:
    """The evidence of all rules in time order, each place once."""
    by_start: dict[float, Row] = {}
    for escalation in call.escalations:
        for evidence in escalation["evidence"]:
            by_start.setdefault(round(evidence["start_s"], 3), evidence)
    ordered = sorted(by_start.values(), key=lambda m: float(m["start_s"]))[:MAX_MOMENTS]
    moments = []
    for mark, evidence in enumerate(ordered, start=1):
        start_s = evidence["start_s"]
        segment = _segment_at(filter(call.may_be_the_caller, call.segments), start_s, evidence["end_s"])
        moments.append(
            Moment(
                at=clock(start_s),
                x=timeline.place(start_s, call.facts["duration_s"]),
                mark=str(mark),
                text=evidence["words"],
                clip=_clip_href(source, call.call_id, evidence["clip"], root),
                clip_start_s=f"{max(0.0, start_s - source.settings.report.clip_context_s):.3f}",
                badge=badge(segment["emotion"] if segment else None),
                agreement=_agreement(call, segment),
                quote="" if "“" in evidence["words"] else quote(call, start_s, evidence["end_s"]),
            )
        )
    return tuple(moments)


def _segment_at(segments: Iterable[Row], start_s: float, end_s: float) -> Row | None:
    """The segment that shares most time with a moment."""
    best, most_s = None, 0.0
    for segment in segments:
        shared_s = min(segment["end_s"], end_s) - max(segment["start_s"], start_s)
        if shared_s > most_s:
            best, most_s = segment, shared_s
    return best


def _agreement(call: CallData, segment: Row | None) -> str:
    """How many members voted alike about a segment: "3 of 3 models agree"."""
    if segment is None:
        return ""
    votes = call.votes.get(segment["segment"], [])
    winner = segment["emotion"] or segment["top_emotion"]
    if not votes or winner is None:
        return ""
    n_same = sum(vote["emotion"] == winner for vote in votes)
    what = f" on {winner}" if segment["emotion"] is None else ""
    return f"{n_same} of {count(len(votes), 'model')} agree{what}"


def _clip_href(source: Source, call_id: str, name: str | None, root: str) -> str:
    """Relative link to an evidence clip, empty when there is no such file."""
    if not name or source.clips_dir is None:
        return ""
    if not _SAFE_ID.fullmatch(call_id) or not _SAFE_CLIP.fullmatch(name):
        return ""
    there = (source.clips_dir / call_id / name).is_file()
    return f"{root}{source.clips_href}/{call_id}/{name}" if there else ""


def _peak(call: CallData) -> str:
    score = score_text(call.facts["frustration_score"])
    if call.scored_voice is not None:
        named = next(call.side_name(s) for s in call.segments if s["speaker"] == call.scored_voice)
        return (
            f"The frustration of {ONE_OF_THE_VOICES} (“{named}” below) peaks at {score}; "
            "it is not sure whose voice it is."
        )
    if call.facts["frustration_score"] is None:
        return f"The caller's frustration is {score}: no voice that may be the caller's was assessed."
    return f"The caller's frustration peaks at {score}."


def _course(source: Source, call: CallData) -> str:
    """How the frustration went, in a sentence; empty where it is neither calm nor upset.

    A quarter is calm when its mean is under half of the rule's threshold, upset when it reaches it.
    """
    threshold = _peak_threshold(source)
    quarters = [call.measures.get(("frustration", call.scored_role, q)) for q in ("q1", "q2", "q3", "q4")]
    known = [value for value in quarters if value is not None]
    if threshold is None or not known or max(known) < threshold / 2:
        return ""
    began = _mood(quarters[0], threshold, calm="began calm", upset="was upset from the start")
    ended = _mood(quarters[-1], threshold, calm="was calm at the end", upset="was upset at the end")
    text = " and ".join(part for part in (began, ended) if part)
    who = "The caller" if call.scored_voice is None else "One of the voices"
    return f"{who} {text}." if text else ""


def _mood(level: float | None, threshold: float, *, calm: str, upset: str) -> str:
    if level is None:
        return ""
    return calm if level < threshold / 2 else upset if level >= threshold else ""


def person(name: str | None, identity: str | None) -> str:
    """An agent as people know them: name and id, whichever is known."""
    if name and identity and name.casefold() != identity.casefold():
        return f"{name} ({identity})"
    return name or identity or MISSING


def voices(facts: Mapping[str, Any]) -> str:
    """How the voices lie in the audio and how sure it is who is who."""
    layout = LAYOUT_TEXT[facts["channel_layout"]]
    if facts["role_source"] == "none":
        return f"{layout}; nobody could tell who is who"
    sides = ROLE_SOURCE_TEXT[facts["role_source"]]
    return f"{layout}; sides {sides} ({percent(facts['role_confidence'])} sure)"


def role_evidence_text(fact: Mapping[str, Any]) -> str:
    """What one fact says of the roles, with how far it says it by itself."""
    way = "for" if fact["log_odds"] > 0 else "against"
    return f"{way} them, {_alone(fact)}: {fact['words']}"


def role_facts(facts: Mapping[str, Any]) -> Iterator[Fact]:
    """What speaks for the roles of a call and what against, where there is more than one fact."""
    evidence = sorted(facts["role_evidence"] or (), key=lambda fact: -fact["log_odds"])
    if len(evidence) > 1:
        for fact in evidence:
            name = "Speaks for these sides" if fact["log_odds"] > 0 else "Speaks against them"
            yield Fact(name, fact["words"], f"{_alone(fact)} by itself")


def _alone(fact: Mapping[str, Any]) -> str:
    return percent(min(1 / (1 + math.exp(-abs(fact["log_odds"]))), 0.99))  # nothing is certain


# The columns that tables of calls choose from: rows of call_summary, each with its text.
_COLUMNS: dict[str, Callable[[Row], Cell]] = {
    "When": lambda row: Cell(moment(row["started_local"]), row["started_local"].isoformat()),
    "Score": lambda row: sorted_number(
        score_text(row["frustration_score"]),
        "-1" if row["frustration_score"] is None else f"{row['frustration_score']:.6f}",
    ),
    "Flag": lambda row: Cell("⚑ flagged" if row["flagged"] else ""),
    "": lambda row: Cell("flagged" if row["flagged"] else ""),
    "Reasons": lambda row: Cell("; ".join(row["reasons"])),
    "Queue": lambda row: Cell(row["queue"] or MISSING),
    "Agent": lambda row: Cell(person(row["agent_name"], row["agent_id"])),
    "Direction": lambda row: Cell("" if row["direction"] == "unknown" else row["direction"]),
    "Length": lambda row: sorted_number(clock(row["duration_s"]), f"{row['duration_s']:.1f}"),
    "Labelled": lambda row: sorted_number(
        percent(row["labelled_share"]), f"{row['labelled_share'] or 0:.6f}"
    ),
}


def call_table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Row],
    pages: frozenset[str],
    *,
    folder: str = "",
    sortable: bool = False,
    empty: str = "",
) -> Table:
    """A row per call, of which the first cell leads to its page.

    Args:
        columns: names out of `_COLUMNS`, whose fields the rows must have.
        pages: ids of the calls that have a page to link.
        folder: the way to the folder of those pages.
    """

    def cells(row: Row) -> Iterator[Cell]:
        for place, column in enumerate(columns):
            cell = _COLUMNS[column](row)
            linked = place == 0 and row["call_id"] in pages
            href = f"{folder}{page_name(row['call_id'])}" if linked else ""
            yield replace(cell, sort=cell.sort if sortable else "", href=href)

    return Table(caption, columns, [tuple(cells(row)) for row in rows], sortable=sortable, empty=empty)
