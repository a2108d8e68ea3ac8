"""The page of one call: everything known about it, and where each fact came from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from callanalytics.config import RuleSettings, Settings
from callanalytics.diarize.quality import QUALITY_TEXT
from ensemble.labels import EMOTIONS
from reports.call_rows import CallData, load_calls
from reports.formatting import MISSING, clock, counted, length, moment, number, percent, plain, plain_number
from reports.pages.agents import agent_file
from reports.pages.calls_table import call_table, recording_name
from reports.palette import Badge, badge, not_asked
from reports.parts.call_parts import (
    LAYOUT_TEXT,
    ROLE_SOURCE_TEXT,
    TIME_SOURCE_TEXT,
    peak_threshold,
    person,
    role_facts,
    summarise_call,
    votes_alike,
)
from reports.parts.coverage import ABSTAIN_TEXT
from reports.parts.flags import FRUSTRATION_MEASURES, VOICE_MEASURES, stored_text
from reports.parts.measure_names import (
    MEASURE_ROWS,
    QUARTER_ROWS,
    beside_rule,
    range_with_unit,
    rule_text,
    with_unit,
)
from reports.parts.quotes import Transcript, transcript
from reports.parts.sound_images import Picture, read_pictures
from reports.report_source import Row, Source
from reports.timeline import ROLE_NAMES, step_area
from reports.translation import _, marked
from reports.views import CallSummary, Cell, Fact, Table, numbers

# Calls read together: enough to amortise a query, few enough to stay small in memory.
BATCH_CALLS = 100
MAX_SAME_CALLER = 10
# Below this many calls of a queue nothing is usual there.
MIN_USUAL_CALLS = 5
# The ensemble never classified these segments, so their probabilities mean nothing.
UNCLASSIFIED = frozenset({"too_short", "not_speech", "role_excluded"})

_USUAL = """
SELECT coalesce(queue, '') AS queue, name, coalesce(role::VARCHAR, '') AS role, n_calls, median, tenth,
    ninetieth
FROM queue_usual
"""
_SAME_CALLER = """
SELECT caller_hash, call_id, started_local, queue, agent_id, agent_name, duration_s, frustration_score,
    flagged
FROM call_summary WHERE caller_hash IN (SELECT unnest($callers)) AND started_at < $until
QUALIFY row_number() OVER (PARTITION BY caller_hash ORDER BY started_at DESC) <= $most
ORDER BY caller_hash, started_at DESC
"""

Usual = dict[tuple[str, str, str], Row]


@dataclass(frozen=True, slots=True)
class ProbabilityRow:
    """Probability of one emotion over time, as a path in the 1000 x 100 box."""

    badge: Badge
    path: str
    mean: str


@dataclass(frozen=True, slots=True)
class Probabilities:
    """The probability rows of one side; only the caller's lie open at first."""

    name: str
    open: bool
    rows: tuple[ProbabilityRow, ...]


@dataclass(frozen=True, slots=True)
class MemberVote:
    """One member's opinion of one segment."""

    badge: Badge
    probability: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A line of the segment table."""

    anchor: str
    at: str
    sort_at: str
    length: str
    role: str
    badge: Badge
    confidence: str
    agreement: str
    note: str  # why there is no label, or that a tie was broken
    votes: tuple[MemberVote, ...]


@dataclass(frozen=True, slots=True)
class CallPage:
    """calls/<call_id>.html"""

    call: CallSummary
    recording: str  # name of the file
    duration_s: str
    probabilities: tuple[Probabilities, ...]
    members: tuple[str, ...]
    segments: tuple[SegmentRow, ...]
    facts: tuple[Fact, ...]
    quality: tuple[str, ...]
    measures: Table
    quarters: Table | None
    same_caller: Table | None
    pictures: tuple[Picture, ...]
    rules: Table
    rules_text: str
    words: Transcript | None


def read_call_pages(
    source: Source, keys: Sequence[int], pages: frozenset[str], agents: frozenset[str]
) -> Iterator[CallPage]:
    """The pages of these analyses, batch by batch so that ten thousand calls fit in little memory.

    pages: call ids, agents: file names that have a page to link.
    """
    usual = {(row["queue"], row["name"], row["role"]): row for row in source.rows(_USUAL)} if keys else {}
    ordered = sorted(keys)
    for first in range(0, len(ordered), BATCH_CALLS):
        calls = load_calls(source, ordered[first : first + BATCH_CALLS])
        same = _same_callers(source, list(calls.values()))
        for call in calls.values():
            yield _page(source, call, usual, same.get(call.facts["caller_hash"], []), pages, agents)


def _same_callers(source: Source, calls: Sequence[CallData]) -> dict[str, list[Row]]:
    hashes = sorted({call.facts["caller_hash"] for call in calls if call.facts["caller_hash"]})
    found: dict[str, list[Row]] = defaultdict(list)
    if hashes:
        for row in source.rows(_SAME_CALLER, callers=hashes, until=source.until, most=MAX_SAME_CALLER + 1):
            found[row["caller_hash"]].append(row)
    return found


def _page(
    source: Source,
    call: CallData,
    usual: Usual,
    same: Sequence[Row],
    pages: frozenset[str],
    agents: frozenset[str],
) -> CallPage:
    facts = call.facts
    members = tuple(dict.fromkeys(vote["member"] for votes in call.votes.values() for vote in votes))
    return CallPage(
        call=summarise_call(source, call, root="../", n_ticks=12),
        recording=recording_name(facts),
        duration_s=f"{facts['duration_s']:.3f}",
        probabilities=tuple(_probabilities(call)),
        members=members,
        segments=tuple(_segment(call, segment, members) for segment in call.segments),
        facts=tuple(_facts(facts, agents)),
        quality=tuple(_(QUALITY_TEXT.get(word, plain(word))) for word in facts["quality"]),
        measures=_measures(call, usual),
        quarters=_quarters(call),
        same_caller=_same_caller(source.settings, call, same, pages),
        pictures=read_pictures(source, call),
        rules=_rules(source, call),
        rules_text=_rules_text(source, call),
        words=transcript(call),
    )


def _facts(facts: Row, agents: frozenset[str]) -> Iterator[Fact]:
    """What is known about the call, each with where it was read."""
    origin = facts["fact_sources"]

    def known(*keys: str) -> str:
        found = [origin[key] for key in keys if key in origin]
        return _("from the {source}").format(source=_(plain(found[0]))) if found else ""

    yield Fact(_("Queue"), facts["queue"] or MISSING, known("queue"))
    page = agent_file(facts["agent_id"]) if facts["agent_id"] else ""
    yield Fact(
        _("Agent"),
        person(facts["agent_name"], facts["agent_id"]),
        known("agent_id", "agent_name"),
        f"../agents/{page}" if page in agents else "",
    )
    yield Fact(
        _("Call time"),
        f"{moment(facts['started_local'])} ({facts['zone']})",
        _(TIME_SOURCE_TEXT[facts["started_at_source"]]),
    )
    for note in ("conflict", "zone_note"):
        if note in origin:
            yield Fact(_("Doubt about the time"), stored_text(origin[note]))
    yield Fact(_("Length"), length(facts["duration_s"]), _("as decoded"))
    for name, key in (
        (_("Team"), "team"),
        (_("Campaign"), "campaign"),
        (_("Outcome"), "disposition"),
        (_("Recorder's id"), "external_id"),
    ):
        if facts[key]:
            yield Fact(name, facts[key], known(key))
    if facts["direction"] != "unknown":
        yield Fact(_("Direction"), _(facts["direction"]), known("direction"))
    if facts["answered_s"] is not None:
        yield Fact(_("Answered after"), length(facts["answered_s"]), known("answered_s"))
    if facts["hold_s"] is not None:
        yield Fact(_("On hold"), length(facts["hold_s"]), known("hold_s"))
    yield Fact(_("Channels"), _(LAYOUT_TEXT[facts["channel_layout"]]), _("as measured"))
    sure = "" if facts["role_source"] == "none" else _sure(facts["role_confidence"])
    yield Fact(_("Caller and agent"), _(ROLE_SOURCE_TEXT[facts["role_source"]]), sure)
    yield from role_facts(facts)
    yield Fact(_("Recorder"), plain(facts["recorder"]), _sure(facts["recorder_confidence"]))
    rate = f"{plain_number(facts['native_rate_hz'] / 1000)} kHz"
    channels = counted("{n} channel", "{n} channels", facts["n_channels"])
    yield Fact(_("Sound"), f"{facts['container']}, {facts['codec']}, {rate}, {channels}")
    if facts["clipped_share"] >= 0.001:
        yield Fact(_("Clipped samples"), percent(facts["clipped_share"]), _("the emotions may be wrong"))
    for path in facts["paths"]:
        yield Fact(_("File"), path)


def _sure(confidence: float) -> str:
    return _("{share} sure").format(share=percent(confidence))


# Where a fact was read, as the database names it.
FACT_SOURCES = (
    *(marked("name"), marked("sidecar"), marked("manifest"), marked("folder"), marked("file time")),
    *(marked("template"), marked("settings")),
)


def _probabilities(call: CallData) -> Iterator[Probabilities]:
    """Mean probability of each emotion over time, per side that was classified."""
    sides: dict[str, list[Row]] = defaultdict(list)
    for segment in call.segments:
        if segment["abstain_reason"] not in UNCLASSIFIED:
            sides[call.side_name(segment)].append(segment)
    in_order = sorted(sides.items(), key=lambda side: (list(ROLE_NAMES).index(side[1][0]["role"]), side[0]))
    for name, segments in in_order:
        role = segments[0]["role"]
        start_s = np.array([s["start_s"] for s in segments])
        end_s = np.array([s["end_s"] for s in segments])
        values = np.nan_to_num(np.array([s["probabilities"] for s in segments], dtype=float))  # (n, 9)
        weight_s = end_s - start_s
        means = (values * weight_s[:, None]).sum(axis=0) / weight_s.sum()
        yield Probabilities(
            name,
            role != "agent",
            tuple(
                ProbabilityRow(
                    badge(emotion),
                    step_area(start_s, end_s, values[:, i], call.facts["duration_s"]),
                    percent(float(means[i])),
                )
                for i, emotion in enumerate(EMOTIONS)
                if values[:, i].max() > 0
            ),
        )


def _segment(call: CallData, segment: Row, members: Sequence[str]) -> SegmentRow:
    votes = {vote["member"]: vote for vote in call.votes.get(segment["segment"], [])}
    winner = segment["emotion"] or segment["top_emotion"]
    reason, alike = segment["abstain_reason"], votes_alike(votes.values(), winner)
    tie = _("tie broken") if segment["tie_broken"] else ""
    return SegmentRow(
        anchor=f"s{segment['segment']}",
        at=clock(segment["start_s"]),
        sort_at=f"{segment['start_s']:.3f}",
        length=f"{number(segment['end_s'] - segment['start_s'])} s",
        role=call.side_name(segment),
        badge=badge(segment["emotion"]),
        confidence=percent(segment["confidence"]) if votes else MISSING,
        agreement=_("{n_same} of {n}").format(n_same=alike[0], n=alike[1]) if alike else MISSING,
        note=_(ABSTAIN_TEXT.get(reason, plain(reason))) if reason else tie,
        votes=tuple(_vote(votes.get(member), winner) for member in members),
    )


def _vote(vote: Row | None, winner: str | None) -> MemberVote:
    if vote is None or vote["emotion"] is None:
        return MemberVote(not_asked(), MISSING, agrees=True)  # who has no opinion does not disagree
    return MemberVote(badge(vote["emotion"]), percent(vote["probability"]), vote["emotion"] == winner)


def _rules(source: Source, call: CallData) -> Table:
    """Every rule in force with what this call measured; met are those that the analysis stored."""
    met = {e["rule"]: e["value"] for e in call.escalations}
    rows = []
    for rule in source.settings.rule:
        value = met.get(rule.name, _measured(call, rule))
        rows.append(
            (
                Cell(_("✓ met") if rule.name in met else _("not met")),
                Cell(rule.name),
                Cell(rule_text(rule)),
                *numbers(MISSING if value is None else beside_rule(rule, value), plain_number(rule.weight)),
            )
        )
    return Table(
        _("Rules and what was measured in this call"),
        ("", _("Rule"), _("Condition"), _("This call"), _("Weight")),
        rows,
        empty=_("There are no rules in force."),
    )


def _measured(call: CallData, rule: RuleSettings) -> float | None:
    """What a rule looks at: a rule for callers at the voice that the score is of.

    Measures of several voices of one role are stored together: not what one of them did.
    """
    role: str | None = None if rule.role == "any" else rule.role
    if role == "caller" and call.scored_voice is not None:
        role = call.scored_role
        if rule.measure not in VOICE_MEASURES | FRUSTRATION_MEASURES:
            roles = {s["speaker"]: s["role"] for s in call.segments}
            role = roles[call.scored_voice]
            if list(roles.values()).count(role) > 1:
                return None
    return call.measures.get((rule.measure, role, rule.window))


def _with_unit(measure: str, value: float | None) -> str:
    return MISSING if value is None else with_unit(measure, value)


def _rules_text(source: Source, call: CallData) -> str:
    weight = plain_number(sum(e["weight"] for e in call.escalations))
    needed = plain_number(source.settings.frustration.flag_weight)
    if not call.escalations:
        return _(
            "This call meets no rule; a call is flagged when the rules it meets add up to {needed}."
        ).format(needed=needed)
    return _(
        "The rules that this call meets add up to a weight of {weight}; a call is flagged from {needed}."
    ).format(weight=weight, needed=needed)


def _measures(call: CallData, usual: Usual) -> Table:
    queue = call.facts["queue"] or ""
    caption = _("Measures of the whole call, against what is usual for calls without a queue")
    if queue:
        caption = _("Measures of the whole call, against what is usual for queue {queue}").format(queue=queue)
    rows = []
    for name, role, title in MEASURE_ROWS:
        value = call.measures.get((name, role, "call"))
        if value is None:
            continue
        middle = typical = MISSING
        norm = usual.get((queue, name, role or ""))
        if norm is not None and norm["n_calls"] >= MIN_USUAL_CALLS:
            middle = with_unit(name, norm["median"])
            typical = range_with_unit(name, norm["tenth"], norm["ninetieth"])
        rows.append((Cell(_(title)), *numbers(with_unit(name, value), middle, typical)))
    return Table(
        caption,
        (_("Measure"), _("This call"), _("Usual"), _("8 in 10 calls")),
        rows,
    )


def _quarters(call: CallData) -> Table | None:
    rows = []
    for name, role, title in QUARTER_ROWS:
        values = [call.measures.get((name, role, quarter)) for quarter in ("q1", "q2", "q3", "q4")]
        if any(value is not None for value in values):
            rows.append((Cell(_(title)), *numbers(*(_with_unit(name, value) for value in values))))
    columns = ("", _("First"), _("Second"), _("Third"), _("Last"))
    return Table(_("Quarter by quarter"), columns, rows) if rows else None


def _same_caller(
    settings: Settings, call: CallData, same: Sequence[Row], pages: frozenset[str]
) -> Table | None:
    others = [row for row in same if row["call_id"] != call.call_id][:MAX_SAME_CALLER]
    columns = ("When", "Queue", "Agent", "Length", "Score", "")
    rule_at = peak_threshold(settings)
    caption = _("Other calls of this caller")
    return call_table(caption, columns, others, pages, rule_at=rule_at) if others else None
