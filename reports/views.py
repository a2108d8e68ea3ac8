"""What templates print: frozen data with every number computed and every text finished.

Templates loop and print; they never count, divide or ask the database. Here are the views that several
pages share. A view of one page stands beside the code that fills it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.formatting import interval, percent, whole_number
from reports.palette import Badge
from reports.timeline import Timeline
from reports.translation import _


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and its value; `note` says where it came from or how sure it is."""

    name: str
    value: str
    note: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell. `sort` is the key to sort by, `number` aligns it right, `long` lets it fill lines."""

    text: str
    sort: str = ""
    number: bool = False
    href: str = ""
    badge: Badge | None = None
    long: bool = False


def numbers(*texts: str) -> tuple[Cell, ...]:
    """Cells of numbers, one per text."""
    return tuple(Cell(text, number=True) for text in texts)


def sorted_number(text: str, key: object) -> Cell:
    """A number that is sorted by another text than the one shown."""
    return Cell(text, str(key), number=True)


def share_columns() -> tuple[str, str, str]:
    """The heads over `share_cells`."""
    return _("Calls"), _("Share"), _("95% interval")


def share_cells(n_calls: int, share: float, low: float, high: float) -> tuple[Cell, ...]:
    """The cells under `share_columns`. A share 0..1 never stands without its number of calls."""
    return numbers(whole_number(n_calls), percent(share), interval(low, high))


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption.

    `sortable` lets the page's script put buttons into the header; `choices` are columns by whose values it
    lets people filter, beside a box for any text.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False
    choices: Sequence[int] = ()
    empty: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: `svg` is trusted markup made by charts.py, `table` holds the same numbers."""

    title: str
    text: str  # what it shows, for those who cannot see it and as its caption
    svg: str
    table: Table
    legend: tuple[Badge, ...] = ()
    over_time: bool = False  # where it does not fit, its newest day is shown first
    changed: bool = False  # its title tells of a clear change


@dataclass(frozen=True, slots=True)
class Tile:
    """One big number."""

    label: str
    value: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment to listen to. `clip` is a relative link or a data URI, empty when there is no file."""

    at: str
    x: str  # place along the timeline
    mark: str  # its number on the timeline
    text: str
    short: str  # the same where there is little room
    clip: str
    clip_start_s: str
    badge: Badge
    agreement: str
    agreed: str = ""  # the same as 2/3, where there is little room
    embedded: bool = False  # `clip` holds the sound itself
    quote: str = ""  # what is said there, empty when nobody knows


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a call was flagged."""

    text: str
    rule: str
    detail: str  # what was measured against what the rule asks for


@dataclass(frozen=True, slots=True)
class ReviewCommand:
    """A verdict for people, and the command line that records it."""

    text: str
    command: str


@dataclass(frozen=True, slots=True)
class CallSummary:
    """What a card of the brief and the page of a call have in common."""

    call_id: str
    when: str
    flagged: bool
    score: str
    whose: str  # "one of the voices" where nobody knows that the score is the caller's, else empty
    peak: str  # whose frustration peaks where, in a sentence
    reasons: tuple[Reason, ...]
    course: str  # how the frustration went, in a sentence; may be empty
    disagreements: tuple[str, ...]  # where words and voice disagree, in sentences
    timeline: Timeline
    moments: tuple[Moment, ...]
    reviewed: str  # what a person said already, empty when nobody did
    verdict: str  # the same without who and when
    review: tuple[ReviewCommand, ...]


@dataclass(frozen=True, slots=True)
class CoveragePart:
    """A share of what was received. `kind` is the CSS class suffix, `letter` its sign."""

    kind: str
    letter: str
    name: str
    count: str
    share: str
    width: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was received and what became of it."""

    text: str
    parts: tuple[CoveragePart, ...]
    facts: tuple[Fact, ...]
    failure_reasons: Table
    failed_files: Table
