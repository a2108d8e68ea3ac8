"""What a person sees on the terminal: progress, plain log lines, a run's closing words."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from callanalytics.records.text import counted, display_text
from callanalytics.workspace import Workspace

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from callanalytics.records import Failure
    from callanalytics.store import RunCounts
    from jobs.night import RunResult

# A log gets a line this often, and at the end of every stage.
LOG_EVERY_S = 10.0
WIDE = 120
"""Columns from which on a long bar leaves room for what is told beside it."""
MAX_LISTED = 20


def held_back(workspace: Workspace) -> str:
    """What is said of a change that waits with a night that the gate holds back."""
    return f"Kept but not published: the gate holds a night back ({workspace.command('status')})."


WORDS = {
    "search": "Searching",
    "analyse": "Analysing",
    "judge": "Judging again",
    "publish": "Publishing",
    "report": "Writing the report",
}


class OnProgress(Protocol):
    """Called with a stage, how much of how much is done, and a note."""

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        """Say how far a stage is; total is 0 while unknown."""


@contextmanager
def progress(quiet: bool) -> Iterator[OnProgress]:
    """A progress bar on a terminal, plain lines in a log, nothing when quiet. All on stderr."""
    if quiet:
        yield lambda stage, done, total, note: None
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _LogLines()


@contextmanager
def _bars() -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    console = Console(stderr=True)
    bar_width = 40 if console.width >= WIDE else 10
    whole = Column(no_wrap=True, min_width=7)
    rest = Column(no_wrap=True, overflow="ellipsis", max_width=max(console.width - bar_width - 46, 10))
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=17)),
        BarColumn(bar_width),
        MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("[dim]{task.fields[note]}", table_column=rest),  # what does not fit is cut here
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, note: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(WORDS.get(stage, stage), total=None, note="")
            bars.update(tasks[stage], completed=done, total=total or None, note=note)

        yield report


class _LogLines:
    """One line per stage and every few seconds, with the speed so far."""

    def __init__(self) -> None:
        self._stage = ""
        self._said_at = 0.0

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if stage == self._stage and done != total and now - self._said_at < LOG_EVERY_S:
            return
        self._stage, self._said_at = stage, now
        count = f" {done} of {total}" if total else ""
        print(f"{WORDS.get(stage, stage)}{count}{': ' + note if note else ''}", file=sys.stderr)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """A table on stdout: as wide as the terminal there, never cut in a pipe."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(head):
        numeric = index > 0 and all(row[index][:1].isdigit() or row[index] == "-" for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)
    console.print(table)


_COLOURS = {"bad": "31;1", "warning": "33", "good": "32", "strong": "1"}
# How a line is shown that begins or ends with this.
_LINES = {"NOT ": "bad", "The rules have changed": "warning", "Drift of": "warning", "Flagged": "strong"}


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Text in a colour (bad, warning, good, strong) where a terminal shows it and nobody objects.

    Objections: $NO_COLOR (https://no-color.org) and TERM=dumb.
    """
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def in_colour(text: str, stream: TextIO) -> str:
    """Lines for a person, with those in colour that want attention."""
    lines = []
    for line in text.split("\n"):
        colour = next((c for start, c in _LINES.items() if line.startswith(start)), None)
        if line.endswith("FLAGGED"):
            colour = "bad"
        lines.append(paint(line, colour, stream) if colour else line)
    return "\n".join(lines)


def say(text: str, *, quiet: bool = False) -> None:
    """A line for a person, on stderr, so that stdout stays clean for machines."""
    if not quiet:
        print(in_colour(text, sys.stderr), file=sys.stderr)


def closing_words(result: RunResult, zone: ZoneInfo) -> str:
    """What a run did, as an operator wants to read it at 3 a.m.; days and times are those of `zone`."""
    since, until = (
        moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
        for moment in (result.window.since, result.window.until)
    )
    counts = result.counts
    lines = [f"Window {since} to {until}: {counted(counts.n_found, 'recording')} found."]
    if result.planned is not None:
        lines.append(
            f"Dry run: {counted(len(result.planned), 'recording')} would be analysed, nothing was written."
        )
        lines += [
            f"  {c.facts.started_at.astimezone(zone):%Y-%m-%d %H:%M}  {c.recording.shown}"
            for c in result.planned[:MAX_LISTED]
        ]
        lines += [*_more(len(result.planned)), *_tried_anew("To try", counts.n_tried_anew)]
        return "\n".join([*lines, *_passed_over(result, zone)])
    speed = (
        f" ({counts.audio_s / result.wall_s:.0f} times real time)" if result.wall_s and counts.audio_s else ""
    )
    given_up = f", {counts.n_given_up} given up (see quarantine)" if counts.n_given_up else ""
    n_stand = counts.n_skipped - counts.n_given_up
    if counts.n_new:
        lines.append(
            f"Analysed {counts.n_done} ({counts.audio_s / 60:.1f} min of sound) in {result.wall_s:.1f} s"
            f"{speed}; already done {n_stand}{given_up}; flagged {counts.n_flagged}; "
            f"quarantined {counts.n_quarantined}."
        )
    elif counts.n_found:
        lines.append(f"Nothing new: {counted(n_stand, 'call')} as analysed before{given_up}.")
    lines += _tried_anew("Tried", counts.n_tried_anew)
    lines += _words(counts)
    lines += _passed_over(result, zone)
    lines += _flagged_calls(result)
    lines += [f"  quarantined: {_failure(f)}" for f in result.failures[:MAX_LISTED]] + _more(
        len(result.failures)
    )
    if result.held:
        lines += ["NOT PUBLISHED, the gate held the night back:", *(f"  {reason}" for reason in result.held)]
        lines.append("What was analysed is kept. Publish it all the same: the same command with --no-gate")
    stays = " (as it was: nothing is in this window)" if result.report_stays else ""
    lines += [f"Database: {result.database}", f"Report:   {result.report}{stays}"]
    return "\n".join(lines)


def _tried_anew(verb: str, n: int) -> list[str]:
    return [f"{verb} once more: {counted(n, 'recording')} that an earlier version gave up."] if n else []


def _words(counts: RunCounts) -> Iterator[str]:
    """How many calls have words, and why others have none; nothing where no words were wanted."""
    from callanalytics.analysis.words import NOTE_TEXT

    if counts.n_late_words:
        yield f"Words: {counted(counts.n_late_words, 'call')} of earlier runs, whose transcripts came late."
    if counts.n_with_words or counts.words_notes:
        yield f"Words: {counts.n_with_words} of {counted(counts.n_done, 'call')}."
        for note, n in sorted(counts.words_notes.items()):
            yield f"  {counted(n, 'call')}: {NOTE_TEXT[note]}"


def _flagged_calls(result: RunResult) -> Iterator[str]:
    """The calls to hear, also of a run that found them flagged before."""
    if not result.flagged:
        return
    n_new = sum(call.is_new for call in result.flagged)
    yield f"Flagged in this window: {counted(len(result.flagged), 'call')}, {n_new} of this run"
    for call in result.flagged[:MAX_LISTED]:
        why = "; ".join(map(display_text, call.reasons))
        yield f"  {Path(call.path).name}  {call.call_id}  {why}"
    yield from _more(len(result.flagged))


def _passed_over(result: RunResult, zone: ZoneInfo) -> Iterator[str]:
    """What the search saw and left, and, where it found nothing at all, the way on."""
    from reports.parts.coverage import passed_over

    if not result.counts.n_found and not result.skips:
        yield "Nothing that could be a recording was seen there: check --input and [paths] inputs."
    for number, (reason, text) in enumerate(passed_over(result.skips, zone)):
        if number == 0:
            yield "Passed over:"
        yield f"  {text}"
        if not result.counts.n_found and (way_on := _way_on(reason, result, zone)):
            yield f"    {way_on}"


def _way_on(reason: str, result: RunResult, zone: ZoneInfo) -> str:
    from reports.parts.coverage import span_of

    workspace = Workspace(Path(result.database).parent)
    if reason == "outside_window" and (
        span := span_of([skip for skip in result.skips if skip.reason == reason])
    ):
        first, last = (at.astimezone(zone).date() for at in span)
        words = ["--since", first.isoformat()]
        if span[1] >= datetime.now(UTC):
            words += ["--until", (last + timedelta(days=1)).isoformat()]
        return f"To take them: {workspace.command(*result.again, *words)}"
    if reason == "settling":
        window = [f"{at:%Y-%m-%dT%H:%M:%S+00:00}" for at in (result.window.since, result.window.until)]
        words = ["--since", window[0], "--until", window[1], "--settle", "0"]
        return f"Run again later, or now: {workspace.command(*result.again, *words)}"
    if reason in {"ignored", "not_included"}:
        return (
            "To take some: name them in [discovery] include (*.ext), those without a header in "
            "[audio] headerless."
        )
    return ""


def _more(n: int) -> list[str]:
    return [f"  and {n - MAX_LISTED} more"] if n > MAX_LISTED else []


def _failure(failure: Failure) -> str:
    recording, facts = failure.found.recording, failure.found.facts
    return f"{recording.shown}: {failure.reason}: {display_text(facts.hide(failure.detail))}"
