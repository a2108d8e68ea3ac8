"""The review queue in three piles, what is missed, what a threshold would flag, what a session came to.

*Sure* is flagged and nothing speaks against it. *Disputed* is flagged while the models disagree, the rules
are only just met, or facts disagree about who is the caller; and the nearest calls below the rule. *Control*
is one unflagged call in ten, chosen by the hash of its id: the share of them that is worth flagging says how
much the rules miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Any, Literal

from callanalytics.analysis.contrast import CONTROL_EVERY, N_NEAR, NEAR_SHARE, frustration_rule
from callanalytics.config.window import Window
from callanalytics.store import Review
from jobs.publishing import NEWEST_RUN
from reports.call_rows import CallData, load_calls
from reports.formatting import counted, date_text, from_to, moment, percent, score_text
from reports.parts.changes import moved_text, read_movers
from reports.parts.flags import stored_text
from reports.parts.quotes import said_at_first
from reports.report_source import Row, Source
from reports.translation import _

Pile = Literal["sure", "disputed", "control"]
PILES: tuple[Pile, ...] = ("sure", "disputed", "control")

# Below this mean agreement of the members in its moments a flag is disputed: two of three, three of five.
AGREED_SHARE = 0.67
# A rule that is met by less than a tenth of its threshold is only just met.
JUST_MET = 1.1
PERCENTS = tuple(range(5, 100))  # thresholds that the slider offers


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A call of the review queue, and why it lies on its pile."""

    call_id: str
    pile: Pile
    why: tuple[str, ...]
    verdict: str | None  # the newest of anybody, published or waiting

    def to_json(self) -> dict[str, Any]:
        """What the page works with."""
        return {"call_id": self.call_id, "pile": self.pile, "why": self.why, "verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class Misses:
    """Controls that people judged, and how many of them were worth flagging; low and high are of 95 %."""

    n_judged: int
    n_worth: int
    low: float | None
    high: float | None

    @property
    def text(self) -> str:
        """One sentence."""
        if not self.n_judged:
            return _("No control has been judged yet, so nobody knows how much the rules miss.")
        return counted(
            "Of {n} judged control {worth}: {share} of the unflagged calls are missed ({low} to {high} with "
            "95% confidence).",
            "Of {n} judged controls {worth}: {share} of the unflagged calls are missed ({low} to {high} with "
            "95% confidence).",
            self.n_judged,
            worth=_worth_flagging(self.n_worth),
            share=percent(self.n_worth / self.n_judged),
            low=percent(self.low or 0.0),
            high=percent(self.high or 0.0),
        )


def _worth_flagging(n: int) -> str:
    return counted("{n} was worth flagging", "{n} were worth flagging", n)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """For each of `PERCENTS` as threshold of one rule: flagged calls, those judged, and those worth it."""

    rule: str
    now_percent: float
    n_flagged: tuple[int, ...]
    n_judged: tuple[int, ...]
    n_worth: tuple[int, ...]


def verdicts_of(waiting: Sequence[Review]) -> dict[str, str]:
    """The newest verdict on each call as a whole, of reviews that no run has taken in yet."""
    return {r.call_id: r.verdict for r in waiting if r.segment is None and r.rule is None}


def window_of(source: Source, days: int | None) -> Window:
    """The calls to review: those of the newest run, of the last `days` days that hold calls, or all (0)."""
    rows = source.rows(
        "SELECT epoch_us(min(started_at)) AS first, epoch_us(max(started_at)) AS last FROM calls"
    )
    first, last = rows[0]["first"], rows[0]["last"]
    if first is None:
        return Window(source.until - timedelta(days=1), source.until)
    end = _instant(source, last) + timedelta(seconds=1)
    if days is None:
        for row in source.published.connection.execute(NEWEST_RUN).fetchall():
            since, until = (_instant(source, at) for at in row[:2])
            return Window(since, until)
    if not days:
        return Window(_instant(source, first), end)
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    return Window(midnight - timedelta(days=days - 1), end)


def _instant(source: Source, at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, source.until.tzinfo)


# The newest verdict on a call as a whole, of anybody; what waits for the next run is newer than the rest.
_SAID = """
waiting AS (SELECT unnest($call_ids::VARCHAR[]) AS call_id, unnest($verdicts::VARCHAR[]) AS verdict),
said AS (
    SELECT call_id, verdict::VARCHAR AS verdict FROM base.reviews
    WHERE segment IS NULL AND rule IS NULL AND call_id NOT IN (SELECT call_id FROM waiting)
    QUALIFY row_number() OVER (PARTITION BY call_id ORDER BY reviewed_at DESC, review_id DESC) = 1
    UNION ALL FROM waiting
)
"""
# As `contrast.is_control` says in Python.
_IS_CONTROL = "('0x' || substr(sha256(call_id), 1, 8))::BIGINT % $every = 0"

_QUEUE = """
WITH {said},
shown AS (
    SELECT call_id, analysis_key, frustration_score, flagged, role_confidence, frustration_voice,
        list_contains(quality, 'role_conflict') AS roles_conflict, {is_control} AS control
    FROM call_summary WHERE started_at >= $since AND started_at < $until
),
near AS (
    SELECT call_id FROM shown WHERE NOT flagged AND NOT control AND frustration_score >= $near
    ORDER BY frustration_score DESC, call_id LIMIT $n_near
),
met AS (
    SELECT call_id, sum(weight) FILTER (WHERE value >= threshold * $just_met) AS clear_weight,
        list(reason ORDER BY position) FILTER (WHERE value < threshold * $just_met) AS just_met
    FROM escalations GROUP BY call_id
),
moments AS (
    SELECT w.call_id, w.analysis_key, w.frustration_voice, unnest(e.evidence) AS moment
    FROM shown w JOIN base.escalations e USING (analysis_key) WHERE w.flagged
),
opinions AS (
    SELECT m.call_id, avg(s.agreement) AS agreement
    FROM moments m JOIN base.segments s ON s.analysis_key = m.analysis_key
        AND s.start_s < m.moment.end_s AND s.end_s > m.moment.start_s
    WHERE s.role != 'agent' OR s.speaker = m.frustration_voice
    GROUP BY m.call_id
)
SELECT w.call_id, w.flagged, w.frustration_score, w.roles_conflict, w.role_confidence, v.verdict, o.agreement,
    n.call_id IS NOT NULL AS near, m.just_met,
    coalesce(m.clear_weight, 0.0) < $flag_weight - 1e-9 AS only_just
FROM shown w LEFT JOIN near n USING (call_id) LEFT JOIN met m USING (call_id)
    LEFT JOIN opinions o USING (call_id) LEFT JOIN said v USING (call_id)
WHERE w.flagged OR w.control OR n.call_id IS NOT NULL
ORDER BY w.frustration_score DESC NULLS LAST, w.call_id
"""


def read_queue(source: Source, window: Window, waiting: Mapping[str, str]) -> tuple[QueuedCall, ...]:
    """The calls of a window that are to be judged or were, sure ones first, then by frustration.

    Args:
        waiting: verdicts that no run has taken in yet, see `verdicts_of`.
    """
    rule = frustration_rule(source.settings)
    rows = source.rows(
        _QUEUE.format(said=_SAID, is_control=_IS_CONTROL),
        every=CONTROL_EVERY,
        n_near=N_NEAR,
        just_met=JUST_MET,
        since=window.since,
        until=window.until,
        near=2.0 if rule is None else NEAR_SHARE * rule.at_least,  # no score is above 1
        flag_weight=source.settings.frustration.flag_weight,
        **_waiting(waiting),
    )
    found = [_queued(row, None if rule is None else rule.at_least) for row in rows]
    return tuple(sorted(found, key=lambda call: PILES.index(call.pile)))


def _waiting(waiting: Mapping[str, str]) -> dict[str, list[str]]:
    return {"call_ids": list(waiting), "verdicts": list(waiting.values())}


def _queued(row: Row, threshold: float | None) -> QueuedCall:
    if not row["flagged"] and not row["near"]:
        chance = _("Not flagged. One such call in {n} is chosen by chance, so that misses are counted.")
        chance = chance.format(n=CONTROL_EVERY)
        return QueuedCall(row["call_id"], "control", (chance,), row["verdict"])
    why = tuple(_disputes(row, threshold))
    return QueuedCall(row["call_id"], "disputed" if why else "sure", why, row["verdict"])


def _disputes(row: Row, threshold: float | None) -> list[str]:
    """What speaks against a call lying where it lies, in sentences."""
    found = []
    if row["near"] and threshold is not None:
        near = _("Not flagged: its frustration of {score} is among the highest below the rule, {rule}.")
        at = score_text(row["frustration_score"], threshold)
        found.append(near.format(score=at, rule=percent(threshold)))
    elif row["only_just"] and row["just_met"]:
        reasons = "; ".join(map(stored_text, row["just_met"]))
        found.append(_("Only just flagged: {reasons}.").format(reasons=reasons))
    if row["agreement"] is not None and row["agreement"] < AGREED_SHARE:
        text = _("The models disagree: {share} of them share the vote in its moments.")
        found.append(text.format(share=percent(row["agreement"])))
    if row["roles_conflict"]:
        text = _("Agent and caller may be exchanged: {share} sure who is who.")
        found.append(text.format(share=percent(row["role_confidence"])))
    return found


_MISSES = """
WITH {said},
counts AS (
    SELECT count(*) AS n_judged, count(*) FILTER (WHERE verdict = 'confirm') AS n_worth
    FROM said JOIN call_summary USING (call_id)
    WHERE verdict != 'unsure' AND NOT flagged AND {is_control}
)
SELECT n_judged, n_worth, wilson_low(n_worth / n_judged, n_judged) AS low,
    wilson_high(n_worth / n_judged, n_judged) AS high FROM counts
"""


def read_misses(source: Source, waiting: Mapping[str, str]) -> Misses:
    """What the controls say about how much is missed, over all results."""
    (row,) = source.rows(
        _MISSES.format(said=_SAID, is_control=_IS_CONTROL), every=CONTROL_EVERY, **_waiting(waiting)
    )
    return Misses(**row)


# A call flips at the score where this rule and the others together weigh enough: at 2 (any threshold) where
# the others alone do, never where even all of them do not, or where too little of the voice was labelled.
_FLIPS = """
WITH {said},
others AS (
    SELECT analysis_key, sum(weight) AS weight FROM base.escalations WHERE rule != $rule GROUP BY analysis_key
),
of_voice AS (
    SELECT a.analysis_key, sum(s.end_s - s.start_s) AS labelled_s
    FROM analyses a JOIN base.segments s
        ON s.analysis_key = a.analysis_key AND s.speaker = a.frustration_voice
    WHERE s.emotion IS NOT NULL GROUP BY a.analysis_key
),
of_caller AS (
    SELECT analysis_key, value AS labelled_s FROM base.call_measures
    WHERE name = 'labelled_s' AND role = 'caller' AND period = 'call'
),
flips AS (
    SELECT w.call_id, CASE
        WHEN coalesce(o.weight, 0) >= $flag_weight - 1e-9 THEN 2.0
        WHEN coalesce(o.weight, 0) + $weight < $flag_weight - 1e-9 THEN NULL
        WHEN coalesce(v.labelled_s, c.labelled_s, 0) < $min_evidence_s THEN NULL
        ELSE w.frustration_score::DOUBLE END AS score
    FROM call_summary w LEFT JOIN others o USING (analysis_key) LEFT JOIN of_voice v USING (analysis_key)
        LEFT JOIN of_caller c USING (analysis_key)
    WHERE w.started_at >= $since AND w.started_at < $until
)
SELECT least(floor(score * 100 + 1e-9), 100)::INTEGER AS percent, verdict, count(*) AS n
FROM flips LEFT JOIN said USING (call_id) WHERE score IS NOT NULL GROUP BY ALL
"""


def read_thresholds(source: Source, window: Window, waiting: Mapping[str, str]) -> Thresholds | None:
    """What each threshold of the frustration rule would flag in a window; None without such a rule.

    The other rules count as they were fulfilled when the calls were analysed.
    """
    rule = frustration_rule(source.settings)
    if rule is None:
        return None
    rows = source.rows(
        _FLIPS.format(said=_SAID),
        rule=rule.name,
        weight=rule.weight,
        min_evidence_s=rule.min_evidence_s,
        flag_weight=source.settings.frustration.flag_weight,
        since=window.since,
        until=window.until,
        **_waiting(waiting),
    )

    def n_from(percent: int, *verdicts: str) -> int:
        return sum(
            row["n"]
            for row in rows
            if row["percent"] >= percent and (not verdicts or row["verdict"] in verdicts)
        )

    return Thresholds(
        rule=rule.name,
        now_percent=100 * rule.at_least,
        n_flagged=tuple(n_from(at) for at in PERCENTS),
        n_judged=tuple(n_from(at, "confirm", "reject") for at in PERCENTS),
        n_worth=tuple(n_from(at, "confirm") for at in PERCENTS),
    )


@dataclass(frozen=True, slots=True)
class MomentToHear:
    """A call that was worth flagging, for a link: what is heard, and when."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Session:
    """What a sitting came to: one paragraph, and the moments that it links."""

    sentences: tuple[str, ...]
    moments: tuple[MomentToHear, ...]


MAX_LINKS = 5
_JUDGED = """
SELECT analysis_key, call_id, flagged, started_local, queue, frustration_score, reasons, day
FROM call_summary WHERE call_id IN (SELECT unnest($call_ids::VARCHAR[]))
ORDER BY frustration_score DESC NULLS LAST, call_id
"""


def read_session(source: Source, verdicts: Mapping[str, str], reviewer: str) -> Session:
    """What a person's verdicts of one sitting came to, and what moved in the days of the calls."""
    rows = source.rows(_JUDGED, call_ids=list(verdicts))
    if not rows:
        return Session((_("{who} judged no call.").format(who=reviewer),), ())
    flagged = [verdicts[row["call_id"]] for row in rows if row["flagged"]]
    others = [verdicts[row["call_id"]] for row in rows if not row["flagged"]]
    days = sorted({row["day"] for row in rows})
    span = date_text(days[0]) if len(days) == 1 else from_to(date_text(days[0]), date_text(days[-1]))
    sentences = [
        counted(
            "{who} judged {n} call of {days}.",
            "{who} judged {n} calls of {days}.",
            len(rows),
            who=reviewer,
            days=span,
        )
    ]
    if flagged:
        worth = _worth(flagged)
        sentences.append(
            counted(
                "Of {n} flagged call {worth}.", "Of {n} flagged calls {worth}.", len(flagged), worth=worth
            )
        )
    if others:
        n_worth = others.count("confirm")
        worth = _worth_flagging(n_worth) if n_worth else _("none were worth flagging")
        sentences.append(
            counted(
                "Of {n} unflagged call {worth}.", "Of {n} unflagged calls {worth}.", len(others), worth=worth
            )
        )
    zone = source.now.tzinfo
    first = max(days[0], days[-1] - timedelta(days=6))  # a week at most, so that there are days before
    since, until = (datetime.combine(day, time.min, zone) for day in (first, days[-1] + timedelta(days=1)))
    judged = replace(source, since=since, until=until)
    moved = moved_text(judged, read_movers(judged))
    to_hear = [row for row in rows if verdicts[row["call_id"]] == "confirm"][:MAX_LINKS]
    calls = load_calls(source, [row["analysis_key"] for row in to_hear])
    moments = tuple(_to_hear(row, calls[row["analysis_key"]]) for row in to_hear)
    return Session((*sentences, moved) if moved else tuple(sentences), moments)


def _worth(verdicts: Sequence[str]) -> str:
    """How many of the flagged calls were worth it, not, and could not be told."""
    n_worth, n_not = verdicts.count("confirm"), verdicts.count("reject")
    unsure = len(verdicts) - n_worth - n_not
    worth = _("none were worth it")
    if n_worth:
        worth = counted("{n} was worth it", "{n} were worth it", n_worth)
        worth += f" ({percent(n_worth / (n_worth + n_not))})" if n_not else ""
    parts = [worth]
    if n_not:
        parts.append(counted("{n} was not", "{n} were not", n_not))
    if unsure:
        parts.append(counted("{n} could not be told", "{n} could not be told", unsure))
    return ", ".join(parts)


def _to_hear(row: Row, call: CallData) -> MomentToHear:
    where = ", ".join(filter(None, (moment(row["started_local"]), row["queue"])))
    reason = stored_text(row["reasons"][0]) if row["reasons"] else _("not flagged")
    return MomentToHear(row["call_id"], f"{where}: {reason}{said_at_first(call)}")
