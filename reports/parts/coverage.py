"""What was received in the window and what became of it: analysed, silent, failed, uncertain, passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from zoneinfo import ZoneInfo

from callanalytics.ingest.kinds import SkipCount
from callanalytics.records import Role
from reports.formatting import count, date_text, joined, length, moment, percent, plain, whole_number
from reports.report_source import LEFT_OUT, Row, Source
from reports.views import Cell, Coverage, CoveragePart, Fact, Table, sorted_number

# What a person should know and do, by the `reason` of the errors in callanalytics/errors.py.
_FAILURES = {
    "unreadable": ("cannot be opened", "check its permissions and the disk"),
    "not_audio": ("is no audio file", "look what else writes to this folder"),
    "empty": ("holds no sound", "the recorder stored an empty call"),
    "truncated": ("is cut short", "copy it again; the recorder may still have been writing"),
    "invalid_audio": ("holds damaged samples", "record or convert it again"),
    "too_long": ("is longer or slower to decode than [audio] allows", "raise the limit if it is a real call"),
    "too_short": ("is too short to be a call", "lower [audio] min_duration_s if such calls are real"),
    "changed": ("changed between search and analysis", "nothing: the next run finds what lies there now"),
    "out_of_memory": ("needed more memory than there is", "lower [audio] max_duration_s or add memory"),
    "worker_died": ("crashed its worker or did not finish", "please report it with the file"),
}
ABSTAIN_TEXT = {
    "too_short": "too short to assess",
    "not_speech": "not speech",
    "overtalk": "several voices at once",
    "role_excluded": "this side is not labelled by setting",
    "low_confidence": "the models were not sure enough",
    "low_agreement": "the models disagreed",
}

_CALLS = """
SELECT count(*) AS n_calls, count(a.call_id) AS n_analysed,
    count(*) FILTER (WHERE a.n_segments = 0) AS n_silent,
    count(*) FILTER (WHERE a.n_segments > 0 AND a.n_labelled = 0) AS n_unlabelled,
    coalesce(sum(c.duration_s), 0) AS seen_s,
    coalesce(sum(a.segments_s), 0) AS segments_s, coalesce(sum(a.labelled_s), 0) AS labelled_s,
    count(*) FILTER (WHERE c.started_at_source = 'file_time') AS n_undated,
    count(*) FILTER (WHERE a.role_source = 'none') AS n_sideless,
    count(*) FILTER (WHERE a.n_segments > 0 AND a.frustration_score IS NULL) AS n_unscored
FROM calls c LEFT JOIN analyses a USING (call_id)
WHERE c.started_at >= $since AND c.started_at < $until
"""
_FAILED = """
SELECT path, stage, reason, detail, attempts, started_local
FROM quarantine q
WHERE started_at >= $since AND started_at < $until AND NOT EXISTS (
    SELECT 1 FROM recordings r JOIN analyses a USING (recording_id) WHERE r.recording_id = q.recording_id)
ORDER BY started_at DESC, path
"""
_ABSTAINED = """
SELECT s.abstain_reason, count(*) AS n, sum(s.end_s - s.start_s) AS seconds
FROM call_summary c JOIN base.segments s USING (analysis_key)
WHERE c.started_at >= $since AND c.started_at < $until AND s.abstain_reason IS NOT NULL
GROUP BY ALL ORDER BY seconds DESC
"""


def read_coverage(source: Source, *, most_files: int) -> Coverage:
    """Coverage of the window; at most `most_files` failed files are listed."""
    (calls,) = source.in_window(_CALLS)
    failed = source.in_window(_FAILED)
    n_received = calls["n_calls"] + len(failed)
    n_labelled = calls["n_analysed"] - calls["n_silent"] - calls["n_unlabelled"]
    counted = (
        ("labelled", "✓", "analysed and labelled", n_labelled),
        ("unlabelled", "–", "analysed, speech but no label", calls["n_unlabelled"]),
        ("silent", "∅", "analysed, no speech found", calls["n_silent"]),
        ("waiting", "…", "not yet analysed by this ensemble", calls["n_calls"] - calls["n_analysed"]),
        ("failed", "✕", "could not be analysed", len(failed)),
    )
    return Coverage(
        text=_text(calls, len(failed), n_received) if n_received else _nothing(source),
        parts=tuple(_part(kind, letter, name, n, n_received) for kind, letter, name, n in counted if n),
        facts=_facts(calls),
        failure_reasons=_reasons_table(failed),
        failed_files=_files_table(failed, most_files),
    )


def _part(kind: str, letter: str, name: str, n: int, n_received: int) -> CoveragePart:
    share = n / n_received
    return CoveragePart(kind, letter, name, whole_number(n), percent(share), f"{100 * share:.2f}%")


def _text(calls: Row, n_failed: int, n_received: int) -> str:
    whole = not n_failed and calls["n_analysed"] == n_received
    how_many = "All" if whole else f"{whole_number(calls['n_analysed'])} of"
    return f"{how_many} {count(n_received, 'recording')} received could be analysed."


def _nothing(source: Source) -> str:
    """What is known where no recording of the window is: files may have come that nobody could take."""
    said = passed_over(read_skips(source), source.settings.time.zone_info)
    over = [text for reason, text in said if reason not in ACCOUNTED_FOR]
    seen = f" The newest run saw files that it passed over: {'; '.join(over)}." if over else ""
    return f"No recording of this window is known.{seen}"


def _facts(calls: Row) -> tuple[Fact, ...]:
    segments_s, labelled_s = calls["segments_s"], calls["labelled_s"]
    abstained = percent((segments_s - labelled_s) / segments_s if segments_s else None)
    undated, sideless, unscored = (
        count(calls[key], "call") for key in ("n_undated", "n_sideless", "n_unscored")
    )
    facts = [
        Fact("Recorded", length(calls["seen_s"])),
        Fact("Speech assessed", length(segments_s), "what the ensemble classified"),
        Fact("Left without a label", abstained, "of that speech: too short, not sure, or disagreement"),
    ]
    if calls["n_undated"]:
        facts.append(Fact("Dated by the file only", undated, "their real time may differ"))
    if calls["n_sideless"]:
        facts.append(Fact("Sides unknown", sideless, "caller and agent not told apart"))
    if calls["n_unscored"]:
        facts.append(Fact("Without a score", unscored, "no voice that may be the caller's was assessed"))
    return tuple(facts)


def _reasons_table(failed: Sequence[Row]) -> Table:
    rows = []
    for reason, n in sorted(
        Counter(row["reason"] for row in failed).items(), key=lambda item: (-item[1], item[0])
    ):
        what, advice = _FAILURES.get(reason, (plain(reason), "see the details of the file"))
        what = f"The file {what}" if reason in _FAILURES else what
        rows.append((Cell(what), sorted_number(whole_number(n), n), Cell(advice)))
    return Table("Why files failed", ("Reason", "Files", "What to do"), rows)


def _files_table(failed: Sequence[Row], most: int) -> Table:
    rows = [
        (
            Cell(row["path"] or LEFT_OUT),
            Cell(plain(row["reason"])),
            Cell(row["detail"]),
            Cell(plain(row["stage"])),
            sorted_number(str(row["attempts"]), row["attempts"]),
            Cell(moment(row["started_local"]), row["started_local"].isoformat()),
        )
        for row in failed[:most]
    ]
    more = f" The first {whole_number(most)} of {whole_number(len(failed))}." if len(failed) > most else ""
    return Table(
        f"Files that could not be analysed.{more}",
        ("File", "Reason", "Details", "Stage", "Attempts", "Call time"),
        rows,
        sortable=True,
    )


def read_abstentions(source: Source) -> Table:
    """Why speech was left without a label in the window."""
    found = source.in_window(_ABSTAINED)
    total_s = sum(row["seconds"] for row in found)
    rows = [
        (
            Cell(ABSTAIN_TEXT.get(row["abstain_reason"], plain(row["abstain_reason"]))),
            sorted_number(whole_number(row["n"]), row["n"]),
            sorted_number(length(row["seconds"]), f"{row['seconds']:.1f}"),
            sorted_number(percent(row["seconds"] / total_s), f"{row['seconds'] / total_s:.6f}"),
        )
        for row in found
    ]
    return Table(
        "Why speech was left without a label",
        ("Reason", "Segments", "Speech", "Share"),
        rows,
        empty="Every segment has a label.",
    )


def labelled_roles(source: Source) -> str:
    """Whose speech is labelled, by `[emotion] roles`."""
    names = {Role.AGENT: "agents", Role.CALLER: "callers", Role.UNKNOWN: "voices of unknown side"}
    return joined([names[Role(role)] for role in source.settings.emotion.roles])


MAX_KINDS = 6  # named at once
NO_KIND = "without extension"
# Reason -> words for one file and for several.
_WORDS = {
    "outside_window": ("lies outside the window", "lie outside the window"),
    "settling": ("may still be written", "may still be written"),
    "ignored": ("of a kind that is not searched", "of kinds that are not searched"),
    "not_included": ("that [discovery] include leaves out",) * 2,
    "excluded": ("that [discovery] exclude leaves out",) * 2,
    "duplicate": ("has the content of another file", "have the content of another file"),
    "pair_part": ("is the other side of a pair", "are the other sides of pairs"),
    "parallel_copy": ("is a copy of another recording", "are copies of other recordings"),
    "vanished": ("went while the folder was searched", "went while the folder was searched"),
    "link": ("link that came in place of a folder", "links that came in place of folders"),
    "output_folder": ("folder that callanalytics has written", "folders that callanalytics has written"),
    "manifest_lines_unread": ("unreadable line of a manifest", "unreadable lines of manifests"),
}
# Reasons whose kinds of file say what to do.
_BY_KIND = {"ignored", "not_included", "excluded"}
# What is no recording of its own.
ACCOUNTED_FOR = {"pair_part", "parallel_copy", "duplicate", "output_folder"}

_NEWEST = """
SELECT reason, kind, n_files, epoch_us(earliest_at) AS earliest_us, epoch_us(latest_at) AS latest_us
FROM skipped_files WHERE run_id = (SELECT max(run_id) FROM run_health) ORDER BY n_files DESC, reason, kind
"""


def read_skips(source: Source) -> list[SkipCount]:
    """What the newest run saw and passed over, the most frequent first."""
    return [
        SkipCount(
            row["reason"], row["kind"], row["n_files"], _time(row, "earliest_us"), _time(row, "latest_us")
        )
        for row in source.rows(_NEWEST)
    ]


def _time(row: Row, name: str) -> datetime | None:
    return None if row[name] is None else datetime.fromtimestamp(row[name] / 1e6, UTC)


def passed_over(skips: Sequence[SkipCount], zone: ZoneInfo) -> Iterator[tuple[str, str]]:
    """Reason and sentence, without a full stop: "13 lie outside the window, 19 Feb 2025 to 28 Nov 2026"."""
    order = {reason: number for number, reason in enumerate(_WORDS)}
    by_reason = sorted(skips, key=lambda skip: (order.get(skip.reason, len(order)), skip.reason))
    for reason, group in groupby(by_reason, key=attrgetter("reason")):
        counts = sorted(group, key=lambda skip: -skip.n_files)
        n_files = sum(skip.n_files for skip in counts)
        text = f"{whole_number(n_files)} {why(reason, n_files)}"
        if reason in _BY_KIND:
            text += f": {_kinds(counts)}"
        elif reason == "outside_window" and (span := span_of(counts)) is not None:
            text += f", {_days(*span, zone)}"
        yield reason, text


def why(reason: str, n_files: int = 2) -> str:
    """What a reason says of files."""
    one, several = _WORDS.get(reason, (reason.replace("_", " "),) * 2)
    return one if n_files == 1 else several


def span_of(skips: Sequence[SkipCount]) -> tuple[datetime, datetime] | None:
    """The first and the last time that explain why files were passed over."""
    first = [skip.earliest_at for skip in skips if skip.earliest_at is not None]
    last = [skip.latest_at for skip in skips if skip.latest_at is not None]
    return (min(first), max(last)) if first and last else None


def _days(first: datetime, last: datetime, zone: ZoneInfo) -> str:
    since, until = (date_text(at.astimezone(zone).date()) for at in (first, last))
    return since if since == until else f"{since} to {until}"


def _kinds(counts: Sequence[SkipCount]) -> str:
    named = [f"{skip.kind or NO_KIND} {whole_number(skip.n_files)}" for skip in counts[:MAX_KINDS]]
    n_more = sum(skip.n_files for skip in counts[MAX_KINDS:])
    return ", ".join([*named, *([f"others {whole_number(n_more)}"] if n_more else [])])
