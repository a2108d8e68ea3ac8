"""The parts of a call that cards and pages share: its strip, reasons, moments and words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from reports import timeline as lanes
from reports.call_rows import CallData
from reports.formatting import MISSING, clock, count, day, number, percent, plain_number
from reports.palette import badge
from reports.parts.measure_names import with_unit
from reports.report_source import Row, Source
from reports.timeline import Span, Strip
from reports.views import Moment, Reason, ReviewCommand

# A call id becomes a file name; the writer makes 16 hex digits, anything else is not trusted as one.
_SAFE_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_SAFE_CLIP = re.compile(r"[0-9A-Za-z_-]{1,64}\.(mp3|wav)")
# Moments shown per call: the same limit as the clips of a call is usual, more would bury them.
MAX_MOMENTS = 6


def page_name(call_id: str) -> str:
    """File name of a call's page, empty when the id could not be one."""
    return f"{call_id}.html" if _SAFE_ID.fullmatch(call_id) else ""


def call_strip(source: Source, call: CallData, *, n_ticks: int, join_s: float = lanes.JOIN_S) -> Strip:
    """The two lanes, the silence and overtalk between them, and the caller's curve."""
    facts = call.facts
    duration_s = facts["duration_s"]
    spans = [Span(s["role"], s["start_s"], s["end_s"], s["emotion"]) for s in call.segments]
    turns = [(t["role"], t["start_s"], t["end_s"]) for t in call.turns]
    sounds = [(s["kind"], s["start_s"], s["end_s"]) for s in call.sounds]
    marks = (
        *lanes.silences(turns, [(start, end) for _, start, end in sounds], duration_s),
        *lanes.overtalk(turns, duration_s),
        *lanes.sound_marks(sounds, duration_s),
    )
    curve = lanes.frustration(
        facts["frustration_at_s"],
        facts["frustration"],
        duration_s,
        frustration_threshold(source),
        rule_lines(source),
    )
    return Strip(
        lanes=lanes.lanes(spans, duration_s, join_s=join_s),
        marks=marks,
        curve=curve,
        ticks=lanes.ticks(duration_s, n_ticks),
        words=_strip_words(call, len([m for m in marks if m.kind == "overtalk"])),
    )


def _strip_words(call: CallData, n_overtalk: int) -> str:
    """What the strip shows, for those who cannot see it."""
    parts = [f"Emotion over {clock(call.facts['duration_s'])} of the call."]
    for role in ("caller", "agent"):
        shares = sorted(
            (
                (value, name.removesuffix("_share"))
                for (name, who, period), value in call.measures.items()
                if who == role and period == "call" and name in _EMOTION_SHARES and value
            ),
            reverse=True,
        )
        if shares:
            parts.append(f"{role.capitalize()}: {', '.join(f'{name} {percent(v)}' for v, name in shares)}.")
    if n_overtalk:
        parts.append(f"Both speak {count(n_overtalk, 'time')}.")
    return " ".join(parts)


_EMOTION_SHARES = frozenset(
    f"{e}_share"
    for e in ("anger", "boredom", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")
)


def frustration_threshold(source: Source) -> float | None:
    """Where the rule on the caller's peak frustration starts, None when there is no such rule."""
    asked = [
        r.at_least for r in source.settings.rule if r.measure == "frustration_peak" and r.role == "caller"
    ]
    return min(asked) if asked else None


def rule_lines(source: Source) -> tuple[lanes.RuleLine, ...]:
    """Every rule on the caller's frustration, as a line on its curve."""
    found = []
    for rule in source.settings.rule:
        if rule.role == "caller" and rule.measure in _ON_THE_CURVE and 0 <= rule.at_least <= 1:
            what = f"rule “{rule.name}”: {_ON_THE_CURVE[rule.measure]} {percent(rule.at_least)}"
            found.append(lanes.rule_line(rule.at_least, rule.window, what))
    return tuple(found)


_ON_THE_CURVE = {"frustration_peak": "peak from", "frustration": "mean from"}


def review_commands(source: Source, call: CallData) -> tuple[ReviewCommand, ...]:
    """What to type after listening; the call id is one of ours, so nothing in it needs quoting."""
    if not page_name(call.call_id):
        return ()
    return tuple(
        ReviewCommand(words, f"callanalytics review {call.call_id} --verdict {verdict}{source.out_option}")
        for verdict, words in (("confirm", "Worth flagging"), ("reject", "Not worth it"))
    )


_VERDICTS = {"confirm": "worth flagging", "reject": "not worth flagging", "unsure": "unsure"}


def review_words(call: CallData) -> str:
    """What a person said about the call already, empty when nobody did."""
    if not call.reviews:
        return ""
    said = call.reviews[0]
    who = f" by {said['reviewer']}" if said["reviewer"] else ""
    return f"Judged {_VERDICTS[said['verdict']]}{who}, {day(said['reviewed_local'])}"


def call_reasons(source: Source, call: CallData) -> tuple[Reason, ...]:
    """Why the call was flagged (or nearly was), in the order of the rules."""
    return tuple(
        Reason(
            words=_sentence(e["reason"]),
            rule=e["rule"],
            detail=_measured(source, e),
        )
        for e in call.escalations
    )


def _measured(source: Source, escalation: Row) -> str:
    """What was measured against what the rule asked, with units while the rule is still configured."""
    rule = next((r for r in source.settings.rule if r.name == escalation["rule"]), None)
    value, threshold = (
        (with_unit(rule.measure, escalation[key]) if rule else number(escalation[key], 2))
        for key in ("value", "threshold")
    )
    return f"measured {value}, the rule asks for {threshold}, weight {plain_number(escalation['weight'])}"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def call_moments(source: Source, call: CallData, root: str) -> tuple[Moment, ...]:
    """The evidence of all rules in time order, each place once. `root` leads to index.html's folder."""
    by_start: dict[float, Row] = {}
    for escalation in call.escalations:
        for moment in escalation["evidence"]:
            by_start.setdefault(round(moment["start_s"], 3), moment)
    ordered = sorted(by_start.values(), key=lambda m: float(m["start_s"]))[:MAX_MOMENTS]
    context_s = source.settings.report.clip_context_s
    moments = []
    for mark, moment in enumerate(ordered, start=1):
        segment = _segment_at(call.segments, moment["start_s"], moment["end_s"])
        moments.append(
            Moment(
                at=clock(moment["start_s"]),
                x=lanes.place(moment["start_s"], call.facts["duration_s"]),
                mark=str(mark),
                words=moment["words"],
                clip=clip_href(source, call.call_id, moment["clip"], root),
                clip_start_s=f"{max(0.0, moment['start_s'] - context_s):.3f}",
                badge=badge(segment["emotion"] if segment else None),
                agreement=_agreement(call, segment),
            )
        )
    return tuple(moments)


def _segment_at(segments: Iterable[Row], start_s: float, end_s: float) -> Row | None:
    """The caller's segment that shares most time with a moment."""
    best, most_s = None, 0.0
    for segment in segments:
        shared_s = min(segment["end_s"], end_s) - max(segment["start_s"], start_s)
        if segment["role"] == "caller" and shared_s > most_s:
            best, most_s = segment, shared_s
    return best


def _agreement(call: CallData, segment: Row | None) -> str:
    """How many members say the same about a segment: "3 of 3 models agree"."""
    if segment is None:
        return ""
    votes = call.votes.get(segment["segment"], [])
    judged = segment["emotion"] or segment["top_emotion"]
    if not votes or judged is None:
        return ""
    n_same = sum(vote["emotion"] == judged for vote in votes)
    what = f" on {judged}" if segment["emotion"] is None else ""
    return f"{n_same} of {count(len(votes), 'model')} agree{what}"


def clip_href(source: Source, call_id: str, name: str | None, root: str) -> str:
    """Relative link to an evidence clip, empty when there is no such file."""
    if (
        not name
        or source.clips_dir is None
        or not _SAFE_ID.fullmatch(call_id)
        or not _SAFE_CLIP.fullmatch(name)
    ):
        return ""
    return (
        f"{root}{source.clips_href}/{call_id}/{name}" if (source.clips_dir / call_id / name).is_file() else ""
    )


def call_course(source: Source, call: CallData) -> str:
    """How the caller's frustration went, in words; nothing where it is neither calm nor upset.

    A quarter is calm when its mean is under half of the rule's threshold, upset when it reaches it.
    """
    threshold = frustration_threshold(source)
    quarters = [call.measures.get(("frustration", "caller", q)) for q in ("q1", "q2", "q3", "q4")]
    known = [value for value in quarters if value is not None]
    if threshold is None or not known or max(known) < threshold / 2:
        return ""
    began = _mood(quarters[0], threshold, calm="began calm", upset="was upset from the start")
    ended = _mood(quarters[-1], threshold, calm="was calm at the end", upset="was upset at the end")
    words = " and ".join(part for part in (began, ended) if part)
    return f"The caller {words}." if words else ""


def _mood(level: float | None, threshold: float, *, calm: str, upset: str) -> str:
    if level is None:
        return ""
    return calm if level < threshold / 2 else upset if level >= threshold else ""


def person(name: str | None, identity: str | None) -> str:
    """An agent as people know them: name and id, whichever is known."""
    if name and identity and name.casefold() != identity.casefold():
        return f"{name} ({identity})"
    return name or identity or MISSING


def voices(facts: dict[str, Any]) -> str:
    """How the voices lie in the audio and how sure it is who is who."""
    layout = LAYOUT_WORDS[facts["channel_layout"]]
    if facts["role_source"] == "none":
        return f"{layout}; nobody could tell who is who"
    told = ROLE_SOURCE_WORDS[facts["role_source"]]
    return f"{layout}; sides {told} ({percent(facts['role_confidence'])} sure)"


LAYOUT_WORDS = {
    "stereo": "one side per channel",
    "pair": "one side per file",
    "fake_stereo": "two equal channels, treated as one",
    "one_sided": "only one channel has sound",
    "mono": "both sides on one channel",
}
ROLE_SOURCE_WORDS = {
    "correction": "set by a person",
    "sidecar": "from the sidecar file",
    "recorder": "as the recorder lays them out",
    "name": "from the file name",
    "voice_profile": "from known agents' voices",
    "inferred": "inferred from the conversation",
    "none": "unknown",
}
TIME_SOURCE_WORDS = {
    "sidecar": "from the sidecar file",
    "manifest": "from the manifest or CDR",
    "name": "from the file name",
    "file_time": "only the time of the file is known",
}
