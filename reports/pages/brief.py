"""The morning brief (index.html): what happened, who to call back, how far to trust it."""

from __future__ import annotations

from typing import Any

from reports import formatting as words
from reports.formatting import count, percent, plain_number, signed, whole_number
from reports.pages.cards import MAX_CARDS, more_flagged, read_cards
from reports.parts.coverage import labelled_roles, read_coverage
from reports.parts.emotions import NO_QUEUE, doubts, share_by_hour, share_by_queue, side_of, side_words
from reports.parts.ensemble_card import ensemble_facts
from reports.parts.flags import (
    FRUSTRATION_MEASURES,
    VOICE_MEASURES,
    flag_headline,
    flag_lead,
    ranking_words,
    rules_on,
)
from reports.parts.measure_names import rule_words
from reports.report_source import Period, Row, Source
from reports.views import Brief, Cell, Definition, RuleWords, Table, Tile

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


def read_brief(source: Source, pages: frozenset[str]) -> Brief:
    """Assemble the page. `pages` are the ids of the calls that have a page of their own."""
    totals = _totals(source, Period(source.since, source.until, "now"))
    calm = totals["n_flagged"] == 0
    cards = read_cards(source, pages, calm)
    coverage = read_coverage(source, most_files=MAX_FAILED_FILES)
    side = side_of(source)
    return Brief(
        headline=_headline(source, totals),
        lead=_lead(source, totals, coverage.words),
        doubts=doubts(source, side),
        calm=calm,
        tiles=_tiles(source, totals),
        cards_title=_cards_title(totals, len(cards)),
        cards_words=_cards_words(totals, len(cards)),
        cards=cards,
        more_flagged=more_flagged(source, pages) if totals["n_flagged"] > MAX_CARDS else None,
        by_hour=share_by_hour(source, side),
        by_queue=share_by_queue(source, side),
        emotion_words=_emotion_words(side, totals),
        movers=_movers(source),
        coverage=coverage,
        ensemble=ensemble_facts(source),
        definition=read_definition(source),
        time_words=_time_words(source, totals),
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


def _headline(source: Source, totals: Row) -> str:
    when = words.window_words(source.since, source.until, source.now)
    return flag_headline(totals, when) if totals["n"] else f"No calls were analysed {when}"


def _lead(source: Source, totals: Row, coverage: str) -> tuple[str, ...]:
    """The sentences under the headline."""
    lead = [said] if (said := flag_lead(totals)) else []
    lead.append(coverage)
    if totals["n"]:
        lead += [
            text
            for period in source.earlier()[:1]
            if (text := _comparison(source, totals, period)) is not None
        ]
    return tuple(lead)


def _comparison(source: Source, totals: Row, period: Period) -> str | None:
    """One sentence against an earlier period, None when that holds no calls."""
    before = _totals(source, period)
    if not before["n"] or not totals["n"]:
        return None
    (change,) = source.rows(
        _CHANGE,
        now=totals["n_flagged"] / totals["n"],
        n_now=float(totals["n"]),
        before=before["n_flagged"] / before["n"],
        n_before=float(before["n"]),
    )
    if change["change_low"] > 0:
        verdict = "Clearly more than"
    elif change["change_high"] < 0:
        verdict = "Clearly less than"
    else:
        verdict = "No clear change from"
    return f"{verdict} {period.name} ({whole_number(before['n_flagged'])} of {whole_number(before['n'])})."


def _tiles(source: Source, totals: Row) -> tuple[Tile, ...]:
    n, n_flagged = totals["n"], totals["n_flagged"]
    tiles = [Tile("Calls analysed", whole_number(n), (f"{words.length(totals['audio_s'])} of sound",))]
    share = n_flagged / n if n else 0.0
    (range_,) = source.rows(_CHANGE, now=share, n_now=float(n), before=share, n_before=float(n))
    details = (
        [f"{percent(share)} of calls, 95% interval {words.interval(range_['low'], range_['high'])}"]
        if n
        else []
    )
    tiles.append(Tile("Flagged", whole_number(n_flagged), tuple(details)))
    for period in source.earlier():
        before = _totals(source, period)
        if before["n"]:
            before_share = before["n_flagged"] / before["n"]
            tiles.append(
                Tile(
                    f"Flagged {period.name}",
                    whole_number(before["n_flagged"]),
                    (f"{percent(before_share)} of {count(before['n'], 'call')}",),
                )
            )
    speech_s, labelled_s = totals["segments_s"], totals["labelled_s"]
    if speech_s:
        tiles.append(
            Tile(
                "Speech with a label",
                percent(labelled_s / speech_s),
                (f"of {words.length(speech_s)} judged",),
            )
        )
    return tuple(tiles)


def _cards_title(totals: Row, n_cards: int) -> str:
    if totals["n_flagged"]:
        return "Flagged calls"
    return "The highest scores, to check" if n_cards else "Flagged calls"


def _cards_words(totals: Row, n_cards: int) -> str:
    if totals["n_flagged"] > n_cards:
        n_all = whole_number(totals["n_flagged"])
        return f"The first {n_cards} of {n_all}; the other calls are listed below. {ranking_words(totals)}"
    if totals["n_flagged"]:
        return ranking_words(totals)
    if n_cards:
        return (
            "No call reached the rules. These came nearest; listen to one when the day felt different "
            "from what this page says."
        )
    return "No call in this window was analysed, so there is nothing to rank."


def _movers(source: Source) -> Table | None:
    """Queues whose callers' angry share changed most against the period before."""
    before = next(iter(source.earlier()), None)
    if before is None:
        return None
    found = source.in_window(_MOVERS, before_since=before.since, before_until=before.until, most=MAX_MOVERS)
    if not found:
        return None
    rows = tuple(_mover(row) for row in found)
    caption = f"Angry share of callers' speech by queue, against {before.name}"
    return Table(caption, ("Queue", "Now", "Before", "Change", "95% interval", "Calls now / before"), rows)


def _mover(row: dict[str, Any]) -> tuple[Cell, ...]:
    change = row["now"] - row["before"]
    clear = row["low"] > 0 or row["high"] < 0
    arrow = ("▲" if change > 0 else "▼") if clear else "≈"
    return (
        Cell(row["queue"] or NO_QUEUE),
        Cell(percent(row["now"]), number=True),
        Cell(percent(row["before"]), number=True),
        Cell(f"{arrow} {signed(100 * change, 0)} points{'' if clear else ', not clear'}", number=True),
        Cell(f"{signed(100 * row['low'], 0)} to {signed(100 * row['high'], 0)}", number=True),
        Cell(f"{whole_number(row['n_now'])} / {whole_number(row['n_before'])}", number=True),
    )


def read_definition(source: Source) -> Definition:
    """How frustration is defined by the settings in force."""
    settings = source.settings
    return Definition(
        rules=tuple(
            RuleWords(
                name=rule.name,
                words=rule_words(rule),
                weight=plain_number(rule.weight),
            )
            for rule in settings.rule
        ),
        flag_weight=plain_number(settings.frustration.flag_weight),
        smoothing=words.length(settings.frustration.smoothing_s),
        baseline=words.length(settings.frustration.baseline_s),
        labelled_roles=labelled_roles(source),
    )


def _emotion_words(side: str, totals: Row) -> str:
    said = side_words(side)
    if totals["n_undated"]:
        n = count(totals["n_undated"], "call")
        said += f" By hour without the {n} of which only the file's time is known."
    return said


def _time_words(source: Source, totals: Row) -> str:
    zone = source.settings.time.zone
    said = f"Times are local to the recorder; the window is read in {zone}."
    if totals["n_undated"]:
        said += f" {count(totals['n_undated'], 'call')} had no time but that of the file, which may differ."
    return said
