"""What a search passed over, in words for a terminal and a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from zoneinfo import ZoneInfo

from callanalytics.ingest.skipped import SkipCount
from reports.formatting import date_text, whole_number
from reports.report_source import Row, Source

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
