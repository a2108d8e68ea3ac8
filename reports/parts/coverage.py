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
from reports.formatting import (
    calls_text,
    counted,
    date_text,
    from_to,
    joined,
    length,
    moment,
    percent,
    plain,
    whole_number,
)
from reports.report_source import Row, Source, left_out
from reports.translation import _, marked
from reports.views import Cell, Coverage, CoveragePart, Fact, Table, sorted_number

# What a person should know and do, by the `reason` of the errors in callanalytics/errors.py.
_FAILURES = {
    "unreadable": (marked("The file cannot be opened"), marked("check its permissions and the disk")),
    "not_audio": (marked("The file is no audio file"), marked("look what else writes to this folder")),
    "empty": (marked("The file holds no sound"), marked("the recorder stored an empty call")),
    "truncated": (
        marked("The file is cut short"),
        marked("copy it again; the recorder may still have been writing"),
    ),
    "invalid_audio": (marked("The file holds damaged samples"), marked("record or convert it again")),
    "too_long": (
        marked("The file is longer or slower to decode than [audio] allows"),
        marked("raise the limit if it is a real call"),
    ),
    "too_short": (
        marked("The file is too short to be a call"),
        marked("lower [audio] min_duration_s if such calls are real"),
    ),
    "changed": (
        marked("The file changed between search and analysis"),
        marked("nothing: the next run finds what lies there now"),
    ),
    "out_of_memory": (
        marked("The file needed more memory than there is"),
        marked("lower [audio] max_duration_s or add memory"),
    ),
    "worker_died": (
        marked("The file crashed its worker or did not finish"),
        marked("please report it with the file"),
    ),
}
ABSTAIN_TEXT = {
    "too_short": marked("too short to assess"),
    "not_speech": marked("not speech"),
    "overtalk": marked("several voices at once"),
    "role_excluded": marked("this side is not labelled by setting"),
    "low_confidence": marked("the models were not sure enough"),
    "low_agreement": marked("the models disagreed"),
}

_CALLS = """
SELECT count(*) AS n_calls, count(a.call_id) AS n_analysed,
    count(*) FILTER (WHERE a.n_segments = 0) AS n_silent,
    count(*) FILTER (WHERE a.n_segments > 0 AND a.n_labelled = 0) AS n_unlabelled,
    coalesce(sum(c.duration_s), 0) AS seen_s,
    coalesce(sum(a.segments_s), 0) AS segments_s, coalesce(sum(a.labelled_s), 0) AS labelled_s,
    count(*) FILTER (WHERE c.started_at_source = 'file_time') AS n_undated,
    count(*) FILTER (
        WHERE map_contains(c.fact_sources, 'conflict') OR map_contains(c.fact_sources, 'zone_note')
    ) AS n_doubtful,
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
        ("labelled", "✓", _("analysed and labelled"), n_labelled),
        ("unlabelled", "–", _("analysed, speech but no label"), calls["n_unlabelled"]),
        ("silent", "∅", _("analysed, no speech found"), calls["n_silent"]),
        ("waiting", "…", _("not yet analysed by this ensemble"), calls["n_calls"] - calls["n_analysed"]),
        ("failed", "✕", _("could not be analysed"), len(failed)),
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
    if whole:
        return counted(
            "The one recording received could be analysed.",
            "All {n} recordings received could be analysed.",
            n_received,
        )
    return counted(
        "{analysed} of {n} recording received could be analysed.",
        "{analysed} of {n} recordings received could be analysed.",
        n_received,
        analysed=whole_number(calls["n_analysed"]),
    )


def _nothing(source: Source) -> str:
    """What is known where no recording of the window is: files may have come that nobody could take."""
    said = passed_over(read_skips(source), source.settings.time.zone_info)
    over = [text for reason, text in said if reason not in ACCOUNTED_FOR]
    text = _("No recording of this window is known.")
    if not over:
        return text
    seen = _("The newest run saw files that it passed over: {files}.").format(files="; ".join(over))
    return f"{text} {seen}"


def _facts(calls: Row) -> tuple[Fact, ...]:
    segments_s, labelled_s = calls["segments_s"], calls["labelled_s"]
    abstained = percent((segments_s - labelled_s) / segments_s if segments_s else None)
    undated, doubtful, sideless, unscored = (
        calls_text(calls[key]) for key in ("n_undated", "n_doubtful", "n_sideless", "n_unscored")
    )
    facts = [
        Fact(_("Recorded"), length(calls["seen_s"])),
        Fact(_("Speech assessed"), length(segments_s), _("what the ensemble classified")),
        Fact(_("Left without a label"), abstained, _("of that speech: too short, not sure, or disagreement")),
    ]
    if calls["n_undated"]:
        facts.append(Fact(_("Dated by the file only"), undated, _("their real time may differ")))
    if calls["n_doubtful"]:
        facts.append(Fact(_("Doubt about the time"), doubtful, _("the page of each call says which")))
    if calls["n_sideless"]:
        facts.append(Fact(_("Sides unknown"), sideless, _("caller and agent not told apart")))
    if calls["n_unscored"]:
        facts.append(
            Fact(_("Without a score"), unscored, _("no voice that may be the caller's was assessed"))
        )
    return tuple(facts)


def _reasons_table(failed: Sequence[Row]) -> Table:
    rows = []
    for reason, n in sorted(
        Counter(row["reason"] for row in failed).items(), key=lambda item: (-item[1], item[0])
    ):
        what, advice = _FAILURES.get(reason, (plain(reason), marked("see the details of the file")))
        rows.append((Cell(_(what)), sorted_number(whole_number(n), n), Cell(_(advice))))
    return Table(_("Why files failed"), (_("Reason"), _("Files"), _("What to do")), rows)


def _files_table(failed: Sequence[Row], most: int) -> Table:
    rows = [
        (
            Cell(row["path"] or left_out()),
            Cell(plain(row["reason"])),
            Cell(row["detail"]),
            Cell(plain(row["stage"])),
            sorted_number(str(row["attempts"]), row["attempts"]),
            Cell(moment(row["started_local"]), row["started_local"].isoformat()),
        )
        for row in failed[:most]
    ]
    caption = _("Files that could not be analysed")
    if len(failed) > most:
        caption = _("Files that could not be analysed, the first {n} of {all}").format(
            n=whole_number(most), all=whole_number(len(failed))
        )
    return Table(
        caption,
        (_("File"), _("Reason"), _("Details"), _("Stage"), _("Attempts"), _("Call time")),
        rows,
        sortable=True,
    )


def read_abstentions(source: Source) -> Table:
    """Why speech was left without a label in the window."""
    found = source.in_window(_ABSTAINED)
    total_s = sum(row["seconds"] for row in found)
    rows = [
        (
            Cell(_(ABSTAIN_TEXT.get(row["abstain_reason"], plain(row["abstain_reason"])))),
            sorted_number(whole_number(row["n"]), row["n"]),
            sorted_number(length(row["seconds"]), f"{row['seconds']:.1f}"),
            sorted_number(percent(row["seconds"] / total_s), f"{row['seconds'] / total_s:.6f}"),
        )
        for row in found
    ]
    return Table(
        _("Why speech was left without a label"),
        (_("Reason"), _("Segments"), _("Speech"), _("Share")),
        rows,
        empty=_("Every segment has a label."),
    )


def labelled_roles(source: Source) -> str:
    """Whose speech is labelled, by `[emotion] roles`."""
    names = {
        Role.AGENT: _("agents"),
        Role.CALLER: _("callers"),
        Role.UNKNOWN: _("voices of unknown side"),
    }
    return joined([names[Role(role)] for role in source.settings.emotion.roles])


MAX_KINDS = 6  # named at once
NO_KIND = marked("without extension")
# Reason -> words for one file and for several.
_WORDS = {
    "outside_window": (marked("lies outside the window"), marked("lie outside the window")),
    "settling": (marked("may still be written"), marked("may still be written")),
    "ignored": (marked("of a kind that is not searched"), marked("of kinds that are not searched")),
    "not_included": (marked("that [discovery] include leaves out"),) * 2,
    "excluded": (marked("that [discovery] exclude leaves out"),) * 2,
    "duplicate": (marked("has the content of another file"), marked("have the content of another file")),
    "pair_part": (marked("is the other side of a pair"), marked("are the other sides of pairs")),
    "parallel_copy": (marked("is a copy of another recording"), marked("are copies of other recordings")),
    "vanished": (marked("went while the folder was searched"), marked("went while the folder was searched")),
    "link": (marked("link that came in place of a folder"), marked("links that came in place of folders")),
    "output_folder": (
        marked("folder that callanalytics has written"),
        marked("folders that callanalytics has written"),
    ),
    "manifest_lines_unread": (
        marked("unreadable line of a manifest"),
        marked("unreadable lines of manifests"),
    ),
    "sidecars_unread": (marked("unreadable sidecar"), marked("unreadable sidecars")),
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
    return _(one if n_files == 1 else several)


def span_of(skips: Sequence[SkipCount]) -> tuple[datetime, datetime] | None:
    """The first and the last time that explain why files were passed over."""
    first = [skip.earliest_at for skip in skips if skip.earliest_at is not None]
    last = [skip.latest_at for skip in skips if skip.latest_at is not None]
    return (min(first), max(last)) if first and last else None


def _days(first: datetime, last: datetime, zone: ZoneInfo) -> str:
    since, until = (date_text(at.astimezone(zone).date()) for at in (first, last))
    return since if since == until else from_to(since, until)


def _kinds(counts: Sequence[SkipCount]) -> str:
    named = [f"{skip.kind or _(NO_KIND)} {whole_number(skip.n_files)}" for skip in counts[:MAX_KINDS]]
    n_more = sum(skip.n_files for skip in counts[MAX_KINDS:])
    return ", ".join([*named, *([_("others {n}").format(n=whole_number(n_more))] if n_more else [])])
