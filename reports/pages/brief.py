"""The morning brief (index.html): what happened, who to call back, how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.formatting import (
    MISSING,
    calls_text,
    counted,
    from_to,
    interval,
    length,
    percent,
    plain_number,
    signed,
    whole_number,
    window_text,
)
from reports.pages.cards import MAX_CARDS, Card, Ranked, more_flagged, rank_calls, read_cards
from reports.parts.changes import Mover, moved_text, period_before, read_movers
from reports.parts.coverage import labelled_roles, read_coverage
from reports.parts.emotions import doubts, no_queue, share_by_hour, share_by_queue, side_of, side_text
from reports.parts.ensemble_card import EnsembleFacts, ensemble_facts
from reports.parts.flags import (
    FRUSTRATION_MEASURES,
    VOICE_MEASURES,
    flag_headline,
    flag_lead,
    ranking_text,
    rules_on,
)
from reports.parts.measure_names import rule_text
from reports.report_source import Period, Row, Source, earlier_periods
from reports.translation import _, plural
from reports.views import Cell, Chart, Coverage, Fact, Table, Tile, numbers

MAX_FAILED_FILES = 10
MAX_MOVERS = 8

_TOTALS = """
WITH met AS (
    SELECT call_id, bool_or(list_contains($frustrated, rule)) AS frustrated,
        bool_or(list_contains($raised, rule)) AS raised
    FROM escalations GROUP BY call_id
)
SELECT count(*) AS n, count(*) FILTER (WHERE flagged) AS n_flagged, coalesce(sum(duration_s), 0) AS audio_s,
    count(*) FILTER (WHERE flagged AND frustrated) AS n_frustrated,
    count(*) FILTER (WHERE flagged AND raised AND NOT frustrated) AS n_raised,
    count(*) FILTER (WHERE flagged AND frustration_voice IS NOT NULL) AS n_unknown,
    coalesce(sum(segments_s), 0) AS segments_s, coalesce(sum(labelled_s), 0) AS labelled_s,
    count(*) FILTER (WHERE started_at_source = 'file_time') AS n_undated
FROM call_summary LEFT JOIN met USING (call_id) WHERE started_at >= $since AND started_at < $until
"""
_CHANGE = """
SELECT wilson_low($now, $n_now) AS low, wilson_high($now, $n_now) AS high,
    change_low($now, $n_now, $before, $n_before) AS change_low,
    change_high($now, $n_now, $before, $n_before) AS change_high
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the brief and the mail have in common. No chart: a mail shows none."""

    totals: Row  # of the window, see _TOTALS
    side: str  # whose speech the shares are about: caller or unknown
    headline: str
    moved: str  # what moved most and where, a sentence; empty where there is nothing to compare with
    lead: tuple[str, ...]
    doubts: tuple[str, ...]  # what speaks against trusting the labels
    calm: bool
    tiles: tuple[Tile, ...]
    cards_title: str
    cards: tuple[Card, ...]
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class Definition:
    """How frustration is defined by the settings in force. `rules`: note is the weight."""

    rules: tuple[Fact, ...]
    flag_weight: str
    smoothing: str
    baseline: str
    labelled_roles: str


@dataclass(frozen=True, slots=True)
class Brief:
    """index.html"""

    summary: Summary
    cards_text: str
    more_flagged: Table | None
    by_hour: Chart | None
    by_queue: Chart | None
    emotions_text: str
    movers: Table | None
    ensemble: EnsembleFacts
    definition: Definition
    times_text: str


def read_summary(source: Source, *, most_cards: int = MAX_CARDS) -> Summary:
    """Headline, tiles, cards and coverage of the window, without links to pages of calls.

    Args:
        most_cards: so many flagged calls have a card, the highest ranks first.
    """
    return _summary(source, frozenset(), most_cards)[0]


def _summary(source: Source, pages: frozenset[str], most_cards: int) -> tuple[Summary, Ranked, list[Mover]]:
    totals = _totals(source, Period(source.since, source.until, ""))
    calm = totals["n_flagged"] == 0
    ranked = rank_calls(source, calm=calm, most=most_cards)
    cards = read_cards(source, ranked, pages, calm=calm)
    coverage = read_coverage(source, most_files=MAX_FAILED_FILES)
    side = side_of(source)
    when = window_text(source.since, source.until, source.now)
    movers = read_movers(source)
    nothing = _("No calls were analysed {when}").format(when=when)
    summary = Summary(
        totals=totals,
        side=side,
        headline=flag_headline(totals, when) if totals["n"] else nothing[:1].upper() + nothing[1:],
        moved=moved_text(source, movers),
        lead=_lead(source, totals, ranked, coverage.text),
        doubts=doubts(source, side),
        calm=calm,
        tiles=tuple(_tiles(source, totals)),
        cards_title=_("The highest scores, to check") if calm and cards else _("Flagged calls"),
        cards=cards,
        coverage=coverage,
    )
    return summary, ranked, movers


def read_brief(source: Source, pages: frozenset[str]) -> Brief:
    """Assemble the page. `pages` are the ids of the calls that have a page of their own."""
    summary, ranked, movers = _summary(source, pages, MAX_CARDS)
    totals, side = summary.totals, summary.side
    emotions_text = side_text(side)
    times_text = _("Times are local to the recorder; the window is read in {zone}.").format(
        zone=source.settings.time.zone_info.key
    )
    if totals["n_undated"]:
        undated = calls_text(totals["n_undated"])
        emotions_text += " " + _(
            "By hour without the {calls} of which only the file's time is known."
        ).format(calls=undated)
        times_text += " " + _("{calls} had no time but that of the file, which may differ.").format(
            calls=undated
        )
    return Brief(
        summary=summary,
        cards_text=_cards_text(totals, ranked),
        more_flagged=more_flagged(ranked, pages),
        by_hour=share_by_hour(source, side),
        by_queue=share_by_queue(source, side),
        emotions_text=emotions_text,
        movers=_movers_table(source, movers),
        ensemble=ensemble_facts(source),
        definition=_definition(source),
        times_text=times_text,
    )


def _totals(source: Source, period: Period) -> Row:
    (totals,) = source.rows(
        _TOTALS,
        since=period.since,
        until=period.until,
        frustrated=rules_on(source.settings, FRUSTRATION_MEASURES),
        raised=rules_on(source.settings, VOICE_MEASURES),
    )
    return totals


def _lead(source: Source, totals: Row, ranked: Ranked, coverage: str) -> tuple[str, ...]:
    """The sentences under the headline, after what moved."""
    compared = (
        _comparison(source, totals, period) for period in earlier_periods(source.since, source.until)[:1]
    )
    return tuple(text for text in (*compared, flag_lead(totals), *_again(ranked), coverage) if text)


def _again(ranked: Ranked) -> Iterator[str]:
    """Callers that were flagged more than once, and recordings that are nearly the same."""
    if ranked.n_repeated:
        yield counted(
            "{n} caller was flagged more than once.",
            "{n} callers were flagged more than once.",
            ranked.n_repeated,
        )
    if ranked.n_same:
        yield counted(
            "{n} flagged recording is nearly the same as another one.",
            "{n} flagged recordings are nearly the same as another one.",
            ranked.n_same,
        )


def _comparison(source: Source, totals: Row, period: Period) -> str:
    """One sentence against an earlier period, empty when either holds no calls."""
    before = _totals(source, period)
    if not before["n"] or not totals["n"]:
        return ""
    change = _change(source, totals, before)
    if change["change_low"] > 0:
        text = _("Clearly more calls were flagged than {period} ({flagged} of {n}).")
    elif change["change_high"] < 0:
        text = _("Clearly fewer calls were flagged than {period} ({flagged} of {n}).")
    else:
        text = _("The number of flagged calls has not clearly changed since {period} ({flagged} of {n}).")
    return text.format(
        period=period.name, flagged=whole_number(before["n_flagged"]), n=whole_number(before["n"])
    )


def _change(source: Source, totals: Row, before: Row) -> Row:
    """95% intervals of the flagged share now, and of its change against `before`."""
    (change,) = source.rows(
        _CHANGE,
        now=totals["n_flagged"] / totals["n"],
        n_now=float(totals["n"]),
        before=before["n_flagged"] / before["n"],
        n_before=float(before["n"]),
    )
    return change


def _tiles(source: Source, totals: Row) -> Iterator[Tile]:
    n, n_flagged, speech_s = totals["n"], totals["n_flagged"], totals["segments_s"]
    sound = _("{length} of sound").format(length=length(totals["audio_s"]))
    yield Tile(_("Calls analysed"), whole_number(n), (sound,))
    details: tuple[str, ...] = ()
    if n:
        range_ = _change(source, totals, totals)
        details = (
            _("{share} of calls, 95% interval {interval}").format(
                share=percent(n_flagged / n), interval=interval(range_["low"], range_["high"])
            ),
        )
    yield Tile(_("Flagged"), whole_number(n_flagged), details)
    for period in earlier_periods(source.since, source.until):
        before = _totals(source, period)
        if before["n"]:
            detail = _("{share} of {calls}").format(
                share=percent(before["n_flagged"] / before["n"]), calls=calls_text(before["n"])
            )
            name = _("Flagged {period}").format(period=period.name)
            yield Tile(name, whole_number(before["n_flagged"]), (detail,))
    if speech_s:
        assessed = _("of {length} assessed").format(length=length(speech_s))
        yield Tile(_("Speech with a label"), percent(totals["labelled_s"] / speech_s), (assessed,))


def _cards_text(totals: Row, ranked: Ranked) -> str:
    if ranked.rest:
        text = counted(
            "The first {cards} of {all}; the other one is in the table below.",
            "The first {cards} of {all}; the other {n} are in the table below.",
            len(ranked.rest),
            cards=whole_number(len(ranked.leads)),
            all=whole_number(totals["n_flagged"]),
        )
        return f"{text} {ranking_text(totals)}"
    if totals["n_flagged"]:
        return ranking_text(totals)
    if ranked.leads:
        return _(
            "No call reached the rules. These came nearest; listen to one when the day felt different from "
            "what this page says."
        )
    return _("No call in this window was analysed, so there is nothing to rank.")


def _movers_table(source: Source, movers: Sequence[Mover]) -> Table | None:
    before = period_before(source)
    if before is None or not movers:
        return None
    return Table(
        _("Queues against {period}").format(period=before.name),
        (
            *(
                _("Queue"),
                _("Flagged"),
                _("Flagged before"),
                _("Angry share of callers' speech"),
                _("Before"),
            ),
            *(_("Change"), _("95% interval")),
        ),
        [(Cell(mover.queue or no_queue()), *_mover(mover)) for mover in movers[:MAX_MOVERS]],
    )


def _mover(mover: Mover) -> tuple[Cell, ...]:
    flagged = (
        _("{n} of {all}").format(n=whole_number(n_flagged), all=whole_number(n))
        for n_flagged, n in ((mover.flagged_now, mover.n_now), (mover.flagged_before, mover.n_before))
    )
    if mover.angry is None:
        return numbers(*flagged, *[MISSING] * 4)
    change = mover.angry_now - mover.angry_before
    arrow = ("▲" if change > 0 else "▼") if mover.speech_moved else "≈"
    text = _points(100 * change)
    low, high = mover.angry
    return numbers(
        *flagged,
        percent(mover.angry_now),
        percent(mover.angry_before),
        f"{arrow} {text if mover.speech_moved else _('{points}, not clear').format(points=text)}",
        from_to(signed(100 * low, 0), signed(100 * high, 0)),
    )


def _points(change: float) -> str:
    """A change in percentage points: +1 point, -3 points, no change."""
    whole = round(change)
    if whole == 0:
        return _("under 1 point")
    return plural("{change} point", "{change} points", abs(whole)).format(change=signed(whole, 0))


def _definition(source: Source) -> Definition:
    settings = source.settings
    return Definition(
        rules=tuple(Fact(rule.name, rule_text(rule), plain_number(rule.weight)) for rule in settings.rule),
        flag_weight=plain_number(settings.frustration.flag_weight),
        smoothing=length(settings.frustration.smoothing_s),
        baseline=length(settings.frustration.baseline_s),
        labelled_roles=labelled_roles(source),
    )
