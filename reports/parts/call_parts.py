"""What cards and pages say about a call: its timeline, reasons, moments, and texts for its facts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from callanalytics.config import Settings
from ensemble.labels import EMOTIONS
from reports import timeline
from reports.call_rows import CallData
from reports.formatting import (
    MISSING,
    clock,
    counted,
    day,
    moment,
    number,
    percent,
    plain_number,
    score_text,
)
from reports.palette import badge
from reports.parts.flags import FRUSTRATION_MEASURES, rules_on, stored_text
from reports.parts.measure_names import with_unit
from reports.parts.quotes import disagreements, quote
from reports.report_source import Row, Source
from reports.translation import _, marked
from reports.views import CallSummary, Fact, Moment, Reason, ReviewCommand

# A call id becomes a file name; the writer makes 16 hex digits, anything else is not trusted as one.
_SAFE_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_SAFE_CLIP = re.compile(r"[0-9A-Za-z_-]{1,64}\.(mp3|wav)")
# Moments shown per call: the same limit as the clips of a call is usual, more would bury them.
MAX_MOMENTS = 6

LAYOUT_TEXT = {
    "stereo": marked("one side per channel"),
    "pair": marked("one side per file"),
    "fake_stereo": marked("two equal channels, treated as one"),
    "one_sided": marked("only one channel holds speech"),
    "mono": marked("both sides on one channel"),
}
ROLE_SOURCE_TEXT = {
    "correction": marked("set by a person"),
    "sidecar": marked("from the sidecar file"),
    "recorder": marked("as the recorder lays them out"),
    "name": marked("from the file name"),
    "voice_profile": marked("from known agents' voices"),
    "inferred": marked("inferred from the conversation"),
    "none": marked("unknown"),
}
TIME_SOURCE_TEXT = {
    "sidecar": marked("from the sidecar file"),
    "manifest": marked("from the manifest or CDR"),
    "name": marked("from the file name"),
    "file_time": marked("only the time of the file is known"),
}
VERDICTS = {
    "confirm": marked("worth flagging"),
    "reject": marked("not worth flagging"),
    "unsure": marked("unsure"),
}


def page_name(call_id: str) -> str:
    """File name of a call's page, empty when the id could not be one."""
    return f"{call_id}.html" if _SAFE_ID.fullmatch(call_id) else ""


def summarise_call(
    source: Source,
    call: CallData,
    *,
    root: str,
    n_ticks: int,
    join_s: float = timeline.JOIN_S,
    most_moments: int = MAX_MOMENTS,
) -> CallSummary:
    """What a card and a page have in common.

    Args:
        root: the way from the page to the folder of index.html: "" or "../".
        n_ticks: most times under the timeline.
        join_s: neighbouring segments of one emotion that lie closer are one box of the timeline.
        most_moments: so many moments, those of the first reasons.
    """
    met = _leading_first(source, call.escalations)
    return CallSummary(
        call_id=call.call_id,
        when=moment(call.facts["started_local"]),
        flagged=call.facts["flagged"],
        score=score_text(call.facts["frustration_score"], peak_threshold(source.settings)),
        whose="" if call.scored_voice is None else _("one of the voices"),
        peak=_peak(source, call),
        reasons=tuple(
            Reason(_sentence(stored_text(e["reason"])), e["rule"], _measured(source, e)) for e in met
        ),
        course=_course(source, call),
        disagreements=disagreements(call, peak_threshold(source.settings)),
        timeline=_timeline(source, call, n_ticks, join_s),
        moments=_moments(source, call, met, root, most_moments),
        reviewed=_reviewed(call),
        verdict=_(VERDICTS[call.reviews[0]["verdict"]]) if call.reviews else "",
        review=_review_commands(source, call),
    )


def _leading_first(source: Source, met: Sequence[Row]) -> list[Row]:
    """The fulfilled rules, first the one that says most of why the call was flagged.

    Rules on frustration come before others, then the heavier ones.
    """
    frustrated = rules_on(source.settings, FRUSTRATION_MEASURES)
    return sorted(met, key=lambda e: (e["rule"] not in frustrated, -e["weight"]))


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
            peak_threshold(source.settings),
            _rule_lines(source),
        ),
        ticks=timeline.ticks(duration_s, n_ticks),
        text=_timeline_text(call, len(overtalk)),
        duration_s=f"{duration_s:.3f}",
    )


def _timeline_text(call: CallData, n_overtalk: int) -> str:
    parts = [_("Emotions over the {length} of the call.").format(length=clock(call.facts["duration_s"]))]
    sides = (("caller", _("Caller")), ("agent", _("Agent")), ("unknown", _("Voices of unknown side")))
    for role, who in sides:
        measured = ((call.measures.get((f"{e}_share", role, "call")), e) for e in EMOTIONS)
        shares = sorted(((share, emotion) for share, emotion in measured if share), reverse=True)
        if shares:
            parts.append(f"{who}: {', '.join(f'{badge(e).name} {percent(s)}' for s, e in shares)}.")
    if n_overtalk:
        parts.append(counted("Both speak {n} time.", "Both speak {n} times.", n_overtalk))
    return " ".join(parts)


def peak_threshold(settings: Settings) -> float | None:
    """Where the rule on the caller's peak frustration starts, None when there is no such rule."""
    levels = (r.at_least for r in settings.rule if (r.measure, r.role) == ("frustration_peak", "caller"))
    return min(levels, default=None)


def _rule_lines(source: Source) -> tuple[timeline.RuleLine, ...]:
    """Every rule on the caller's frustration, as a line on its curve."""
    return timeline.rule_lines(
        (rule.at_least, rule.window, _("flag {level}").format(level=percent(rule.at_least)))
        for rule in source.settings.rule
        if rule.role == "caller" and rule.measure in FRUSTRATION_MEASURES and 0 <= rule.at_least <= 1
    )


def _review_commands(source: Source, call: CallData) -> tuple[ReviewCommand, ...]:
    """What to type after listening; the call id is one of ours, so nothing in it needs quoting."""
    if not page_name(call.call_id):
        return ()
    return tuple(
        ReviewCommand(text, f"callanalytics review {call.call_id} --verdict {verdict}{source.out_option}")
        for verdict, text in (("confirm", _("Worth flagging")), ("reject", _("Not worth it")))
    )


def _reviewed(call: CallData) -> str:
    if not call.reviews:
        return ""
    newest = call.reviews[0]
    verdict, on = _(VERDICTS[newest["verdict"]]), day(newest["reviewed_local"])
    if newest["reviewer"]:
        text = _("Reviewed as {verdict} by {reviewer}, {day}")
        return text.format(verdict=verdict, reviewer=newest["reviewer"], day=on)
    return _("Reviewed as {verdict}, {day}").format(verdict=verdict, day=on)


def _measured(source: Source, escalation: Row) -> str:
    """What was measured, and from where the rule holds; with units while the rule is still configured."""
    rule = next((r for r in source.settings.rule if r.name == escalation["rule"]), None)
    value, threshold = (
        (with_unit(rule.measure, escalation[key]) if rule else number(escalation[key], 2))
        for key in ("value", "threshold")
    )
    return _("measured {value}, the rule holds from {threshold}, weight {weight}").format(
        value=value, threshold=threshold, weight=plain_number(escalation["weight"])
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _moments(source: Source, call: CallData, met: Sequence[Row], root: str, most: int) -> tuple[Moment, ...]:
    """The evidence of the first rules in time order, each place once."""
    by_start: dict[float, Row] = {}
    for escalation in met:
        for evidence in escalation["evidence"]:
            if len(by_start) < most:
                by_start.setdefault(round(evidence["start_s"], 3), evidence)
    ordered = sorted(by_start.values(), key=lambda m: float(m["start_s"]))
    moments = []
    for mark, evidence in enumerate(ordered, start=1):
        start_s = evidence["start_s"]
        segment = _segment_at(filter(call.may_be_the_caller, call.segments), start_s, evidence["end_s"])
        moments.append(
            Moment(
                at=clock(start_s),
                x=timeline.place(start_s, call.facts["duration_s"]),
                mark=str(mark),
                text=stored_text(evidence["words"]),
                short=stored_text(evidence["words"].replace(" than when calm", "")),
                clip=_clip_href(source, call.call_id, evidence["clip"], root),
                clip_start_s=f"{max(0.0, start_s - source.settings.report.clip_context_s):.3f}",
                badge=badge(segment["emotion"] if segment else None),
                agreement=_agreement(call, segment),
                agreed="/".join(map(str, _votes(call, segment))),
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


def votes_alike(votes: Iterable[Row], winner: str | None) -> tuple[int, ...]:
    """How many members voted for an emotion, and how many have an opinion at all; empty where none has."""
    given = [vote["emotion"] for vote in votes if vote["emotion"] is not None]
    return (given.count(winner), len(given)) if given and winner is not None else ()


def _votes(call: CallData, segment: Row | None) -> tuple[int, ...]:
    """Of :func:`votes_alike`, for the ensemble's label of a segment."""
    if segment is None:
        return ()
    return votes_alike(call.votes.get(segment["segment"], []), segment["emotion"] or segment["top_emotion"])


def _agreement(call: CallData, segment: Row | None) -> str:
    """How many members voted alike about a segment: "3 of 3 models agree"."""
    voted = _votes(call, segment)
    if not voted or segment is None:
        return ""
    n_same, n = voted
    if segment["emotion"] is None:
        return counted(
            "{n_same} of {n} model says {emotion}",
            "{n_same} of {n} models say {emotion}",
            n,
            n_same=str(n_same),
            emotion=badge(segment["top_emotion"]).name,
        )
    return counted("{n_same} of {n} model agrees", "{n_same} of {n} models agree", n, n_same=str(n_same))


def _clip_href(source: Source, call_id: str, name: str | None, root: str) -> str:
    """Relative link to an evidence clip, empty when there is no such file."""
    if not name or source.clips_dir is None:
        return ""
    if not _SAFE_ID.fullmatch(call_id) or not _SAFE_CLIP.fullmatch(name):
        return ""
    there = (source.clips_dir / call_id / name).is_file()
    return f"{root}{source.clips_href}/{call_id}/{name}" if there else ""


def _peak(source: Source, call: CallData) -> str:
    score = score_text(call.facts["frustration_score"], peak_threshold(source.settings))
    if call.scored_voice is not None:
        named = next(call.side_name(s) for s in call.segments if s["speaker"] == call.scored_voice)
        return _(
            "The frustration of one of the voices (“{voice}” below) peaks at {score}; it is not sure whose "
            "voice it is."
        ).format(voice=named, score=score)
    if call.facts["frustration_score"] is None:
        return _("The caller's frustration is not known: no voice that may be the caller's was assessed.")
    return _("The caller's frustration peaks at {score}.").format(score=score)


def _course(source: Source, call: CallData) -> str:
    """How the frustration went, in a sentence; empty where it is neither calm nor upset.

    A quarter is calm when its mean is under half of the rule's threshold, upset when it reaches it.
    """
    threshold = peak_threshold(source.settings)
    quarters = [call.measures.get(("frustration", call.scored_role, q)) for q in ("q1", "q2", "q3", "q4")]
    known = [value for value in quarters if value is not None]
    if threshold is None or not known or max(known) < threshold / 2:
        return ""
    who = _("The caller") if call.scored_voice is None else _("One of the voices")
    text = _COURSES.get((_mood(quarters[0], threshold), _mood(quarters[-1], threshold)), "")
    return _(text).format(who=who) if text else ""


# How a call began and ended -> a sentence.
_COURSES = {
    ("calm", "calm"): marked("{who} began calm and was calm at the end."),
    ("calm", "upset"): marked("{who} began calm and was upset at the end."),
    ("calm", ""): marked("{who} began calm."),
    ("upset", "calm"): marked("{who} was upset from the start and calm at the end."),
    ("upset", "upset"): marked("{who} was upset from the start and at the end."),
    ("upset", ""): marked("{who} was upset from the start."),
    ("", "calm"): marked("{who} was calm at the end."),
    ("", "upset"): marked("{who} was upset at the end."),
}


def _mood(level: float | None, threshold: float) -> str:
    if level is None:
        return ""
    return "calm" if level < threshold / 2 else "upset" if level >= threshold else ""


def person(name: str | None, identity: str | None) -> str:
    """An agent as people know them: name and id, whichever is known."""
    if name and identity and name.casefold() != identity.casefold():
        return f"{name} ({identity})"
    return name or identity or MISSING


def voices(facts: Mapping[str, Any]) -> str:
    """How the voices lie in the audio and how sure it is who is who."""
    layout = _(LAYOUT_TEXT[facts["channel_layout"]])
    if facts["role_source"] == "none":
        return _("{layout}; nobody could tell who is who").format(layout=layout)
    return _("{layout}; who is who: {origin}, {share} sure").format(
        layout=layout,
        origin=_(ROLE_SOURCE_TEXT[facts["role_source"]]),
        share=percent(facts["role_confidence"]),
    )


def role_evidence_text(fact: Mapping[str, Any]) -> str:
    """What one fact says of the roles, with how far it says it by itself."""
    way = "for" if fact["log_odds"] > 0 else "against"
    return f"{way} them, {_alone(fact)}: {fact['words']}"


def role_facts(facts: Mapping[str, Any]) -> Iterator[Fact]:
    """What speaks for the roles of a call and what against, where there is more than one fact."""
    evidence = sorted(facts["role_evidence"] or (), key=lambda fact: -fact["log_odds"])
    if len(evidence) > 1:
        for fact in evidence:
            name = _("Speaks for these sides") if fact["log_odds"] > 0 else _("Speaks against them")
            yield Fact(name, fact["words"], _("{share} by itself").format(share=_alone(fact)))


def _alone(fact: Mapping[str, Any]) -> str:
    return percent(min(1 / (1 + math.exp(-abs(fact["log_odds"]))), 0.99))  # nothing is certain
