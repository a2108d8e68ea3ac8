"""The morning brief (index.html): what happened, who to call back, how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports.formatting import (
    count,
    interval,
    length,
    percent,
    plain_number,
    signed,
    whole_number,
    window_text,
)
from reports.pages.cards import MAX_CARDS, Card, read_cards, read_more_flagged
from reports.parts.coverage import labelled_roles, read_coverage
from reports.parts.emotions import NO_QUEUE, doubts, share_by_hour, share_by_queue, side_of, side_text
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
_MOVERS = """
WITH shares AS (
    SELECT coalesce(c.queue, '') AS queue, c.started_at >= $since AND c.started_at < $until AS is_now,
        sum(e.seconds) FILTER (WHERE e.emotion IN ('anger', 'disgust')) / sum(e.seconds) AS share,
        count(DISTINCT c.call_id) AS n
    FROM base.call_emotions e JOIN call_summary c USING (analysis_key)
    WHERE e.role = 'caller' AND e.emotion IS NOT NULL AND e.seconds > 0
        AND (c.started_at >= $since AND c.started_at < $until
            OR c.started_at >= $before_since AND c.started_at < $before_until)
    GROUP BY ALL
)
SELECT n.queue, coalesce(n.share, 0) AS now, coalesce(b.share, 0) AS before, n.n AS n_now, b.n AS n_before,
    change_low(coalesce(n.share, 0), n.n, coalesce(b.share, 0), b.n) AS low,
    change_high(coalesce(n.share, 0), n.n, coalesce(b.share, 0), b.n) AS high
FROM shares n JOIN shares b ON b.queue = n.queue AND n.is_now AND NOT b.is_now
ORDER BY abs(now - before) DESC, n.queue LIMIT $most
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the brief and the mail have in common. No chart: drawing one takes a second."""

    totals: Row  # of the window, see _TOTALS
    side: str  # whose speech the shares are about: caller or unknown
    headline: str
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


def read_summary(
    source: Source, pages: frozenset[str] = frozenset(), *, most_cards: int = MAX_CARDS
) -> Summary:
    """Headline, tiles, cards and coverage of the window.

    Args:
        pages: ids of the calls that have a page to link.
        most_cards: so many flagged calls have a card, the highest ranks first.
    """
    totals = _totals(source, Period(source.since, source.until, "now"))
    calm = totals["n_flagged"] == 0
    cards = read_cards(source, pages, calm=calm, most=most_cards)
    coverage = read_coverage(source, most_files=MAX_FAILED_FILES)
    side = side_of(source)
    when = window_text(source.since, source.until, source.now)
    return Summary(
        totals=totals,
        side=side,
        headline=flag_headline(totals, when) if totals["n"] else f"No calls were analysed {when}",
        lead=_lead(source, totals, coverage.text),
        doubts=doubts(source, side),
        calm=calm,
        tiles=tuple(_tiles(source, totals)),
        cards_title="The highest scores, to check" if calm and cards else "Flagged calls",
        cards=cards,
        coverage=coverage,
    )


def read_brief(source: Source, pages: frozenset[str]) -> Brief:
    """Assemble the page. `pages` are the ids of the calls that have a page of their own."""
    summary = read_summary(source, pages)
    totals, side = summary.totals, summary.side
    undated = count(totals["n_undated"], "call") if totals["n_undated"] else ""
    emotions_text = side_text(side)
    times_text = (
        f"Times are local to the recorder; the window is read in {source.settings.time.zone_info.key}."
    )
    if undated:
        emotions_text += f" By hour without the {undated} of which only the file's time is known."
        times_text += f" {undated} had no time but that of the file, which may differ."
    return Brief(
        summary=summary,
        cards_text=_cards_text(totals, len(summary.cards)),
        more_flagged=read_more_flagged(source, pages) if totals["n_flagged"] > MAX_CARDS else None,
        by_hour=share_by_hour(source, side),
        by_queue=share_by_queue(source, side),
        emotions_text=emotions_text,
        movers=_movers(source),
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


def _lead(source: Source, totals: Row, coverage: str) -> tuple[str, ...]:
    """The sentences under the headline."""
    compared = (
        _comparison(source, totals, period) for period in earlier_periods(source.since, source.until)[:1]
    )
    return tuple(text for text in (flag_lead(totals), coverage, *compared) if text)


def _comparison(source: Source, totals: Row, period: Period) -> str:
    """One sentence against an earlier period, empty when either holds no calls."""
    before = _totals(source, period)
    if not before["n"] or not totals["n"]:
        return ""
    change = _change(source, totals, before)
    if change["change_low"] > 0:
        verdict = "Clearly more than"
    elif change["change_high"] < 0:
        verdict = "Clearly less than"
    else:
        verdict = "No clear change from"
    return f"{verdict} {period.name} ({whole_number(before['n_flagged'])} of {whole_number(before['n'])})."


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
    yield Tile("Calls analysed", whole_number(n), (f"{length(totals['audio_s'])} of sound",))
    details: tuple[str, ...] = ()
    if n:
        range_ = _change(source, totals, totals)
        details = (
            f"{percent(n_flagged / n)} of calls, 95% interval {interval(range_['low'], range_['high'])}",
        )
    yield Tile("Flagged", whole_number(n_flagged), details)
    for period in earlier_periods(source.since, source.until):
        before = _totals(source, period)
        if before["n"]:
            share = percent(before["n_flagged"] / before["n"])
            yield Tile(
                f"Flagged {period.name}",
                whole_number(before["n_flagged"]),
                (f"{share} of {count(before['n'], 'call')}",),
            )
    if speech_s:
        share = percent(totals["labelled_s"] / speech_s)
        yield Tile("Speech with a label", share, (f"of {length(speech_s)} assessed",))


def _cards_text(totals: Row, n_cards: int) -> str:
    if totals["n_flagged"] > n_cards:
        n_all = whole_number(totals["n_flagged"])
        return f"The first {n_cards} of {n_all}; the other calls are listed below. {ranking_text(totals)}"
    if totals["n_flagged"]:
        return ranking_text(totals)
    if n_cards:
        return (
            "No call reached the rules. These came nearest; listen to one when the day felt different "
            "from what this page says."
        )
    return "No call in this window was analysed, so there is nothing to rank."


def _movers(source: Source) -> Table | None:
    """Queues whose callers' angry share changed most against the period before."""
    before = next(iter(earlier_periods(source.since, source.until)), None)
    if before is None:
        return None
    found = source.in_window(_MOVERS, before_since=before.since, before_until=before.until, most=MAX_MOVERS)
    if not found:
        return None
    return Table(
        f"Angry share of callers' speech by queue, against {before.name}",
        ("Queue", "Now", "Before", "Change", "95% interval", "Calls now / before"),
        [(Cell(row["queue"] or NO_QUEUE), *_mover(row)) for row in found],
    )


def _mover(row: Row) -> tuple[Cell, ...]:
    change = row["now"] - row["before"]
    clear = row["low"] > 0 or row["high"] < 0
    arrow = ("▲" if change > 0 else "▼") if clear else "≈"
    return numbers(
        percent(row["now"]),
        percent(row["before"]),
        f"{arrow} {signed(100 * change, 0)} points{'' if clear else ', not clear'}",
        f"{signed(100 * row['low'], 0)} to {signed(100 * row['high'], 0)}",
        f"{whole_number(row['n_now'])} / {whole_number(row['n_before'])}",
    )


def _definition(source: Source) -> Definition:
    settings = source.settings
    return Definition(
        rules=tuple(Fact(rule.name, rule_text(rule), plain_number(rule.weight)) for rule in settings.rule),
        flag_weight=plain_number(settings.frustration.flag_weight),
        smoothing=length(settings.frustration.smoothing_s),
        baseline=length(settings.frustration.baseline_s),
        labelled_roles=labelled_roles(source),
    )
