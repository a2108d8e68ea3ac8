"""Model and data health (health.html): can the numbers of the other pages be trusted?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from callanalytics.diarize.quality import QUALITY_TEXT
from reports.formatting import MISSING, interval, length, moment, number, percent, plain, whole_number
from reports.palette import badge
from reports.parts.call_parts import LAYOUT_TEXT, ROLE_SOURCE_TEXT, TIME_SOURCE_TEXT
from reports.parts.coverage import read_abstentions, read_coverage, read_skips, why
from reports.parts.ensemble_card import EnsembleFacts, ensemble_card, ensemble_facts
from reports.report_source import Row, Source
from reports.translation import _, marked
from reports.views import Cell, Coverage, Table, numbers

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
SELECT kind, value, count(*) AS n, count(*) / sum(count(*)) OVER (PARTITION BY kind) AS share FROM (
    SELECT unnest([
        {'kind': 'Call time', 'value': started_at_source::VARCHAR},
        {'kind': 'Channels', 'value': channel_layout::VARCHAR},
        {'kind': 'Caller and agent', 'value': role_source::VARCHAR},
        {'kind': 'Recorder', 'value': recorder}
    ], recursive := true)
    FROM call_summary WHERE started_at >= $since AND started_at < $until
) GROUP BY kind, value ORDER BY kind, n DESC, value
"""
_QUALITY = """
WITH calls AS (SELECT quality FROM call_summary WHERE started_at >= $since AND started_at < $until)
SELECT word, count(*) AS n, count(*) / (SELECT count(*) FROM calls) AS share
FROM (SELECT unnest(quality) AS word FROM calls) GROUP BY word ORDER BY n DESC, word
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
# Kinds of facts as _SOURCES names them.
_TEXT = {
    marked("Call time"): TIME_SOURCE_TEXT,
    marked("Channels"): LAYOUT_TEXT,
    marked("Caller and agent"): ROLE_SOURCE_TEXT,
    marked("Recorder"): {},
}
# How a run ended, as the view run_health says it.
STATES = (
    *(marked("unfinished"), marked("ok"), marked("some files failed"), marked("out of time")),
    *(marked("not published"), marked("interrupted"), marked("failed")),
)


@dataclass(frozen=True, slots=True)
class Health:
    """health.html"""

    coverage: Coverage
    ensemble: EnsembleFacts
    card: Table
    abstentions: Table
    members: Table
    sources: Table
    quality: Table
    rule_reviews: Table
    runs: Table
    skipped: Table


def read_health(source: Source) -> Health:
    """Assemble the page."""
    return Health(
        coverage=read_coverage(source, most_files=MAX_FAILED_FILES),
        ensemble=ensemble_facts(source),
        card=ensemble_card(source),
        abstentions=read_abstentions(source),
        members=_members(source),
        sources=_sources(source),
        quality=_quality(source),
        rule_reviews=_rule_reviews(source),
        runs=_runs(source),
        skipped=_skipped(source),
    )


def _rule_reviews(source: Source) -> Table:
    """What people said about each rule's calls (`callanalytics review`), of all time."""
    counts = ("n_fired", "n_confirmed", "n_rejected", "n_unsure")
    rows = [
        (
            Cell(row["rule"]),
            *numbers(
                *(whole_number(row[key]) for key in counts),
                percent(row["precision"]),
                interval(row["precision_low"], row["precision_high"]),
            ),
        )
        for row in source.rows(_RULE_PRECISION)
        if row["n_confirmed"] + row["n_rejected"] + row["n_unsure"]
    ]
    return Table(
        _("How often people found a rule's calls worth flagging"),
        (
            _("Rule"),
            _("Met in calls"),
            _("Worth it"),
            _("Not worth it"),
            _("Unsure"),
            _("Share worth it"),
            _("95% interval"),
        ),
        rows,
        empty=_("Nobody has reviewed a flagged call yet: every card has the command for it."),
    )


def _members(source: Source) -> Table:
    """How often each member voted as the majority did: a row per emotion, a column per member."""
    found = source.in_window(_MEMBERS)
    members = sorted({row["member"] for row in found})
    rows = []
    for emotion, group in groupby(found, key=lambda row: str(row["emotion"])):
        votes = {row["member"]: row for row in group}
        total = next(iter(votes.values()))
        shares = (votes[member]["share"] if member in votes else None for member in members)
        figures = (whole_number(total["n_segments"]), whole_number(total["n_calls"]), *map(percent, shares))
        rows.append((Cell(badge(emotion).name, badge=badge(emotion)), *numbers(*figures)))
    return Table(
        _("How often each model agreed with the vote, by what the vote was"),
        (_("Vote"), _("Segments"), _("Calls"), *members),
        rows,
        empty=_("No segment of this window has a label."),
    )


def _sources(source: Source) -> Table:
    rows = [
        (
            Cell(_(row["kind"])),
            Cell(_(_TEXT.get(row["kind"], {}).get(row["value"], plain(row["value"])))),
            *numbers(whole_number(row["n"]), percent(row["share"])),
        )
        for row in source.in_window(_SOURCES)
    ]
    return Table(
        _("Where the facts about calls came from"),
        (_("Fact"), _("Source"), _("Calls"), _("Share")),
        rows,
        empty=_("No call of this window was analysed."),
    )


def _quality(source: Source) -> Table:
    """How many calls each word was noted about."""
    rows = [
        (
            Cell(_(QUALITY_TEXT.get(row["word"], plain(row["word"])))),
            Cell(row["word"]),
            *numbers(whole_number(row["n"]), percent(row["share"])),
        )
        for row in source.in_window(_QUALITY)
    ]
    return Table(
        _("What was noted about recordings"),
        (_("Note"), _("Word"), _("Calls"), _("Share")),
        rows,
        empty=_("Nothing was noted about the recordings of this window."),
    )


def _runs(source: Source) -> Table:
    rows = [_run(row) for row in source.rows(_RUNS, most=MAX_RUNS, zone=source.settings.time.zone_info.key)]
    counts = (_("Found"), _("New"), _("Done"), _("Skipped"), _("Failed"))
    columns = (_("Started"), _("State"), *counts, _("Sound"), _("Took"), _("Speed"), _("Version"))
    return Table(_("The newest runs"), columns, rows, empty=_("No run is recorded."))


def _skipped(source: Source) -> Table:
    """What the newest run saw and passed over."""
    zone = source.settings.time.zone_info
    rows = [
        (
            Cell(why(skip.reason, skip.n_files)),
            Cell(skip.kind or MISSING),
            *numbers(whole_number(skip.n_files)),
            *(
                Cell(moment(at.astimezone(zone)) if at else MISSING)
                for at in (skip.earliest_at, skip.latest_at)
            ),
        )
        for skip in read_skips(source)
    ]
    return Table(
        _("What the newest run saw and passed over"),
        (_("Why"), _("Kind"), _("Files"), _("From"), _("To")),
        rows,
        empty=_("The newest run passed over nothing."),
    )


def _run(row: Row) -> tuple[Cell, ...]:
    counts = (row[key] for key in ("n_found", "n_new", "n_done", "n_skipped", "n_quarantined"))
    speed = row["times_real_time"]
    return (
        Cell(moment(row["started_local"])),
        Cell(_(row["state"])),
        *numbers(
            *(MISSING if n is None else whole_number(n) for n in counts),
            length(row["audio_s"]),
            length(row["wall_s"]),
            _("{speed} × real time").format(speed=number(speed, 0)) if speed else MISSING,
        ),
        Cell(row["version"]),
    )
