"""What was received in the window and what became of it: analysed, silent, failed, uncertain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from callanalytics.records import Role
from reports.formatting import count, joined, length, moment, percent, plain, whole_number
from reports.parts.passed_over import ACCOUNTED_FOR, passed_over, read_skips
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
