"""Model and data health (health.html): can the numbers of the other pages be trusted?"""

from __future__ import annotations

from reports.formatting import MISSING, interval, length, moment, number, percent, plain, whole_number
from reports.palette import badge
from reports.parts.call_parts import LAYOUT_WORDS, ROLE_SOURCE_WORDS, TIME_SOURCE_WORDS
from reports.parts.coverage import read_abstentions, read_coverage
from reports.parts.ensemble_card import ensemble_card, ensemble_facts
from reports.report_source import Row, Source
from reports.views import Cell, Health, Table

MAX_FAILED_FILES = 500
MAX_RUNS = 30

_MEMBERS = """
SELECT m.emotion::VARCHAR AS emotion, m.member, sum(m.n_segments)::BIGINT AS n_segments,
    count(DISTINCT c.call_id) AS n_calls, sum(m.n_agreed) / sum(m.n_segments) AS share
FROM base.member_tallies m JOIN call_summary c USING (analysis_key)
WHERE c.started_at >= $since AND c.started_at < $until
GROUP BY m.emotion, m.member ORDER BY m.emotion, m.member
"""
_SOURCES = """
SELECT kind, word, count(*) AS n, count(*) / sum(count(*)) OVER (PARTITION BY kind) AS share FROM (
    SELECT unnest([
        {'kind': 'Call time', 'word': started_at_source::VARCHAR},
        {'kind': 'Channels', 'word': channel_layout::VARCHAR},
        {'kind': 'Caller and agent', 'word': role_source::VARCHAR},
        {'kind': 'Recorder', 'word': recorder}
    ], recursive := true)
    FROM call_summary WHERE started_at >= $since AND started_at < $until
) GROUP BY kind, word ORDER BY kind, n DESC, word
"""
_RULE_PRECISION = """
SELECT rule, n_fired, n_confirmed, n_rejected, n_unsure, precision, precision_low, precision_high
FROM rule_precision ORDER BY rule
"""
_RUNS = """
SELECT started_at AT TIME ZONE $zone AS started_local, state, n_found, n_new, n_done, n_skipped,
    n_quarantined, audio_s, wall_s, times_real_time, version
FROM run_health ORDER BY run_id DESC LIMIT $most
"""
_WORDS = {"Call time": TIME_SOURCE_WORDS, "Channels": LAYOUT_WORDS, "Caller and agent": ROLE_SOURCE_WORDS}


def read_health(source: Source) -> Health:
    """Assemble the page."""
    coverage = read_coverage(source, most_files=MAX_FAILED_FILES)
    return Health(
        headline=coverage.words,
        coverage=coverage,
        ensemble=ensemble_facts(source),
        card=ensemble_card(source),
        abstentions=read_abstentions(source),
        members=_members(source),
        sources=_sources(source),
        judged=_judged(source),
        runs=_runs(source),
    )


def _judged(source: Source) -> Table:
    """What people said about each rule's calls (`callanalytics review`), of all time."""
    counts = ("n_fired", "n_confirmed", "n_rejected", "n_unsure")
    rows = tuple(
        (
            Cell(row["rule"]),
            *(Cell(whole_number(row[key]), number=True) for key in counts),
            Cell(percent(row["precision"]), number=True),
            Cell(interval(row["precision_low"], row["precision_high"]), number=True),
        )
        for row in source.rows(_RULE_PRECISION)
        if row["n_confirmed"] + row["n_rejected"] + row["n_unsure"]
    )
    return Table(
        "How often people found a rule's calls worth flagging",
        ("Rule", "Met in calls", "Worth it", "Not worth it", "Unsure", "Share worth it", "95% interval"),
        rows,
        empty="Nobody has judged a flagged call yet: every card has the command for it.",
    )


def _members(source: Source) -> Table:
    """How often each member said what the vote then was: one row per emotion, one column per member."""
    found = source.in_window(_MEMBERS)
    members = sorted({row["member"] for row in found})
    by_emotion: dict[str, dict[str, Row]] = {}
    for row in found:
        by_emotion.setdefault(row["emotion"], {})[row["member"]] = row
    rows = []
    for emotion, opinions in by_emotion.items():
        any_row = next(iter(opinions.values()))
        shares = (opinions[m]["share"] if m in opinions else None for m in members)
        rows.append(
            (
                Cell(emotion, badge=badge(emotion)),
                Cell(whole_number(any_row["n_segments"]), number=True),
                Cell(whole_number(any_row["n_calls"]), number=True),
                *(Cell(percent(share), number=True) for share in shares),
            )
        )
    return Table(
        "How often each model agreed with the vote, by what the vote was",
        ("Vote", "Segments", "Calls", *members),
        tuple(rows),
        empty="No segment of this window has a label.",
    )


def _sources(source: Source) -> Table:
    """Where the facts about calls came from."""
    rows = tuple(
        (
            Cell(row["kind"]),
            Cell(_WORDS.get(row["kind"], {}).get(row["word"], plain(row["word"]))),
            Cell(whole_number(row["n"]), number=True),
            Cell(percent(row["share"]), number=True),
        )
        for row in source.in_window(_SOURCES)
    )
    return Table(
        "Where the facts about calls came from",
        ("Fact", "Source", "Calls", "Share"),
        rows,
        empty="No call of this window was analysed.",
    )


def _runs(source: Source) -> Table:
    rows = tuple(_run(row) for row in source.rows(_RUNS, most=MAX_RUNS, zone=source.settings.time.zone))
    columns = (
        "Started",
        "State",
        "Found",
        "New",
        "Done",
        "Skipped",
        "Failed",
        "Sound",
        "Took",
        "Speed",
        "Version",
    )
    return Table("The newest runs", columns, rows, empty="No run is recorded.")


def _run(row: Row) -> tuple[Cell, ...]:
    counts = (row[key] for key in ("n_found", "n_new", "n_done", "n_skipped", "n_quarantined"))
    speed = row["times_real_time"]
    return (
        Cell(moment(row["started_local"])),
        Cell(row["state"]),
        *(Cell(MISSING if n is None else whole_number(n), number=True) for n in counts),
        Cell(length(row["audio_s"]), number=True),
        Cell(length(row["wall_s"]), number=True),
        Cell(MISSING if not speed else f"{number(speed, 0)} × real time", number=True),
        Cell(row["version"]),
    )
