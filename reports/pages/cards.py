"""The cards of the morning brief: flagged calls by rank; who or what comes again shares a card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reports.call_rows import CallData, load_calls
from reports.formatting import counted, length, moment
from reports.pages.calls_table import VERDICT, call_table, recording_name
from reports.parts.call_parts import TIME_SOURCE_TEXT, page_name, person, summarise_call, voices
from reports.parts.flags import FRUSTRATION_MEASURES, RANKING, rules_on
from reports.report_source import Row, Source
from reports.timeline import JOIN_S, FloatArray
from reports.translation import _
from reports.views import CallSummary, Table

# What a person hears in ten minutes; further calls are rows of a table.
MAX_CARDS = 8
# Shown when nothing was flagged, so that a person can still check.
N_HIGHEST = 5
# A timeline on a card joins what lies this close in share of the call: less would be dust at that size.
CARD_JOIN_SHARE = 0.006
MAX_CARD_MOMENTS = 3
# From here on nobody needs to be told how it is known who is who.
SURE_SIDES = 0.95
# Other calls of a caller that a card names.
MAX_OTHERS = 4

# Two recordings are nearly the same when their lengths differ by no more than this and nearly all segments
# of the assessed voice lie at the same places: the same call by two recorders, or written twice.
SAME_LENGTH_S = 1.0
SAME_PLACE_S = 0.3
SAME_SHARE = 0.9
MIN_PLACES = 5

_RANKED = """
SELECT s.analysis_key, s.call_id, s.path, s.started_local, s.queue, s.agent_id, s.agent_name, s.duration_s,
    s.frustration_score, s.reasons, s.caller_hash, a.frustration_at_s, {verdict} AS verdict
FROM call_summary s JOIN analyses a USING (analysis_key)
WHERE s.started_at >= $since AND s.started_at < $until AND s.flagged >= $flagged
ORDER BY {ranking} LIMIT $most
"""
_OTHERS = """
SELECT caller_hash, call_id, started_local, flagged FROM call_summary
WHERE started_at >= $since AND started_at < $until AND caller_hash IN (SELECT unnest($callers))
ORDER BY started_at
"""


@dataclass(frozen=True, slots=True)
class OtherCall:
    """Another call of the caller of a card, or another recording of it. `href` may be empty."""

    text: str
    href: str


@dataclass(frozen=True, slots=True)
class Card:
    """A call on the morning brief."""

    rank: str
    call: CallSummary
    title: str  # the reason that flagged it; on a calm window when it was
    more_reasons: str
    href: str  # empty when the call has no page
    when_note: str  # a warning when the time is only the file's
    queue: str
    agent: str
    length: str
    direction: str
    score_width: str  # empty when the score is not known
    score_flags: bool  # the score itself is among the reasons
    recording: str  # the name of the file or the id, so that two cards can be told apart
    voices: str  # who is who, where that is not sure
    others_text: str
    others: tuple[OtherCall, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The flagged calls in order, folded: `leads` have a card each, `rest` are rows.

    `again`: calls that were folded into the card of a lead, by its call_id.
    """

    leads: tuple[Row, ...]
    rest: tuple[Row, ...]
    n_callers: int  # different callers among the flagged calls whose caller is known
    n_repeated: int  # of those, how many were flagged more than once
    n_same: int  # recordings that are nearly the same as one of a higher rank
    same: dict[str, tuple[Row, ...]]


def rank_calls(source: Source, *, calm: bool, most: int) -> Ranked:
    """The flagged calls as `flags.RANKING` puts them; on a calm window the highest scores of all.

    A call of a caller who has a card already, or nearly the same recording as one before, has no card of its
    own.

    Args:
        most: so many cards.
    """
    rows = source.in_window(
        _RANKED.format(verdict=VERDICT, ranking=RANKING),
        flagged=not calm,
        most=min(N_HIGHEST, most) if calm else 1_000_000,
        frustrated=rules_on(source.settings, FRUSTRATION_MEASURES),
    )
    leads: list[Row] = []
    rest: list[Row] = []
    same: dict[str, list[Row]] = defaultdict(list)
    callers: dict[str, int] = defaultdict(int)
    firsts = _First(rows)
    n_same = 0
    for row in rows:
        first = firsts.of(row)
        n_same += first is not row
        caller = row["caller_hash"]
        if caller and first is row:
            callers[caller] += 1
        if first is not row:
            same[first["call_id"]].append(row)
        if first is row and len(leads) < most and (not caller or callers[caller] == 1):
            leads.append(row)
        else:
            rest.append(row)
    return Ranked(
        tuple(leads),
        () if calm else tuple(rest),
        n_callers=len(callers),
        n_repeated=sum(n > 1 for n in callers.values()),
        n_same=n_same,
        same={call_id: tuple(found) for call_id, found in same.items()},
    )


class _First:
    """Finds for each ranked call the first of the rank that is nearly the same recording."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.by_length: dict[int, list[tuple[int, Row, FloatArray]]] = defaultdict(list)
        for rank, row in enumerate(rows):
            places = np.asarray(row["frustration_at_s"], dtype=float)
            if len(places) >= MIN_PLACES:
                self.by_length[int(row["duration_s"])].append((rank, row, places))

    def of(self, row: Row) -> Row:
        """The call itself where none before it is like it."""
        mine = np.asarray(row["frustration_at_s"], dtype=float)
        second = int(row["duration_s"])
        if len(mine) < MIN_PLACES:
            return row
        near = sorted(
            (near for key in (second - 1, second, second + 1) for near in self.by_length[key]),
            key=lambda found: found[0],
        )
        for _rank, other, places in near:
            if other is row:
                return row
            if abs(other["duration_s"] - row["duration_s"]) <= SAME_LENGTH_S and same_places(mine, places):
                return other
        return row


def same_places(one: FloatArray, other: FloatArray) -> bool:
    """Whether two lists of places in s are the same but for a common shift and a few of them."""
    if abs(len(one) - len(other)) > (1 - SAME_SHARE) * max(len(one), len(other)):
        return False
    shift = float(np.median(one[:MIN_PLACES]) - np.median(other[:MIN_PLACES]))
    if abs(shift) > SAME_LENGTH_S:
        return False
    distance = np.abs(one[:, None] - (other + shift)[None, :]).min(axis=1)
    return bool((distance <= SAME_PLACE_S).mean() >= SAME_SHARE)


def read_cards(source: Source, ranked: Ranked, pages: frozenset[str], *, calm: bool) -> tuple[Card, ...]:
    """A card for each lead.

    Args:
        pages: ids of the calls that have a page to link.
    """
    calls = load_calls(source, [row["analysis_key"] for row in ranked.leads])
    callers = sorted({row["caller_hash"] for row in ranked.leads if row["caller_hash"]})
    others: dict[str, list[Row]] = defaultdict(list)
    for row in source.in_window(_OTHERS, callers=callers) if callers else ():
        others[row["caller_hash"]].append(row)
    return tuple(
        _card(
            source,
            calls[row["analysis_key"]],
            rank,
            pages,
            again=(others[row["caller_hash"]], ranked.same.get(row["call_id"], ())),
            calm=calm,
        )
        for rank, row in enumerate(ranked.leads, start=1)
    )


def _card(
    source: Source,
    call: CallData,
    rank: int,
    pages: frozenset[str],
    *,
    again: tuple[Sequence[Row], Sequence[Row]],
    calm: bool,
) -> Card:
    facts = call.facts
    known = facts["agent_name"] or facts["agent_id"]
    score = facts["frustration_score"]
    join_s = max(JOIN_S, CARD_JOIN_SHARE * facts["duration_s"])
    summary = summarise_call(source, call, root="", n_ticks=6, join_s=join_s, most_moments=MAX_CARD_MOMENTS)
    frustrated = rules_on(source.settings, FRUSTRATION_MEASURES)
    reasons = [reason.text for reason in summary.reasons]
    same_caller = [row for row in again[0] if row["call_id"] != call.call_id]
    return Card(
        rank=str(rank),
        call=summary,
        title=reasons[0] if reasons and not calm else summary.when,
        more_reasons=" ".join(f"{text}." for text in (reasons if calm else reasons[1:])),
        href=f"calls/{page_name(call.call_id)}" if call.call_id in pages else "",
        when_note=_(TIME_SOURCE_TEXT["file_time"]) if facts["started_at_source"] == "file_time" else "",
        queue=facts["queue"] or "",
        agent=person(facts["agent_name"], facts["agent_id"]) if known else "",
        length=length(facts["duration_s"]),
        direction="" if facts["direction"] == "unknown" else _(facts["direction"]),
        score_width="" if score is None else f"{100 * score:.1f}%",
        score_flags=any(reason.rule in frustrated for reason in summary.reasons) and not calm,
        recording=recording_name(facts),
        voices="" if facts["role_confidence"] >= SURE_SIDES else voices(facts),
        others_text=_others_text(same_caller, again[1]),
        others=tuple(_other_calls(same_caller, again[1], pages)),
    )


def _others_text(same_caller: Sequence[Row], same: Sequence[Row]) -> str:
    """How often this caller called, and whether it was recorded more than once."""
    texts = []
    if same_caller:
        n_flagged = sum(row["flagged"] for row in same_caller)
        texts.append(
            counted(
                "This caller called once more in this window, {flagged} flagged:",
                "This caller called {n} more times in this window, {flagged} flagged:",
                len(same_caller),
                flagged=str(n_flagged) if n_flagged else _("none"),
            )
        )
    if same:
        texts.append(
            counted(
                "{n} other recording is nearly the same:",
                "{n} other recordings are nearly the same:",
                len(same),
            )
        )
    return " ".join(texts)


def _other_calls(
    same_caller: Sequence[Row], same: Sequence[Row], pages: frozenset[str]
) -> Iterator[OtherCall]:
    newest = list(reversed(same_caller))[:MAX_OTHERS]
    for row in (*newest, *same[:MAX_OTHERS]):
        href = f"calls/{page_name(row['call_id'])}" if row["call_id"] in pages else ""
        flag = "⚑ " if row.get("flagged", True) else ""
        yield OtherCall(f"{flag}{moment(row['started_local'])}", href)


def more_flagged(ranked: Ranked, pages: frozenset[str]) -> Table | None:
    """The flagged calls that have no card, as rows."""
    if not ranked.rest:
        return None
    caption = counted("The other flagged call", "The other {n} flagged calls", len(ranked.rest))
    columns = ("When", "Score", "Why", "Queue", "Agent", "Length", "Recording", "Reviewed")
    return call_table(
        caption,
        columns,
        ranked.rest,
        pages,
        folder="calls/",
        sortable=True,
        choices=("Queue", "Why", "Reviewed"),
    )
