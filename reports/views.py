"""What each page needs: frozen data with every number computed and every text finished.

Templates loop and print; they never count, divide or ask the database. Pages are assembled in
`brief.py`, `callpage.py`, `trends.py` and `health.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from reports.palette import Badge
from reports.timeline import Strip


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and its value; `note` says where it came from or how sure it is."""

    name: str
    value: str
    note: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell. `sort` is the key to sort by, `number` aligns it right."""

    text: str
    sort: str = ""
    number: bool = False
    href: str = ""
    badge: Badge | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption. `sortable` lets the page's script put buttons into the header."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sortable: bool = False
    empty: str = "Nothing to show."


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart: `svg` is trusted markup made by charts.py, `table` holds the same numbers."""

    title: str
    words: str  # what it shows, for those who cannot see it and as its caption
    svg: str
    table: Table
    legend: tuple[Badge, ...] = ()


@dataclass(frozen=True, slots=True)
class Tile:
    """One big number."""

    label: str
    value: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment worth hearing. `clip` is a relative link or a data URI, empty when there is no file."""

    at: str
    x: str  # place along the strip
    mark: str  # its number on the strip
    words: str
    clip: str
    clip_start_s: str
    badge: Badge
    agreement: str
    embedded: bool = False  # `clip` holds the sound itself


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a call was flagged."""

    words: str
    rule: str
    detail: str  # what was measured against what the rule asks


@dataclass(frozen=True, slots=True)
class ReviewCommand:
    """A verdict in words, and the command line that records it."""

    words: str
    command: str


@dataclass(frozen=True, slots=True)
class Card:
    """A call on the morning brief."""

    rank: str
    call_id: str
    href: str  # empty when the call has no page
    when: str
    when_note: str  # a warning when the time is only the file's
    queue: str
    agent: str
    length: str
    direction: str
    score: str
    score_width: str
    reasons: tuple[Reason, ...]
    course: str
    strip: Strip
    moments: tuple[Moment, ...]
    path: str
    voices: str
    reviewed: str  # what a person said already, empty when nobody did
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

    words: str
    parts: tuple[CoveragePart, ...]
    facts: tuple[Fact, ...]
    failure_reasons: Table
    failed_files: Table


@dataclass(frozen=True, slots=True)
class EnsembleFacts:
    """Which ensemble labelled."""

    words: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class RuleWords:
    """A rule of config.toml in words."""

    name: str
    words: str
    weight: str


@dataclass(frozen=True, slots=True)
class Definition:
    """How frustration is defined here and what it cannot tell."""

    rules: tuple[RuleWords, ...]
    flag_weight: str
    smoothing: str
    baseline: str
    labelled_roles: str


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page has around it."""

    title: str  # of the report
    page: str  # closed word of the page kind: brief, calls, call, agent, trends, health, single
    page_title: str
    window: str
    generated: str
    root: str  # relative way to the folder of index.html: "" or "../"
    legend: tuple[Badge, ...]
    single: bool  # everything is in one file: there are no other pages to link
    redacted: bool


@dataclass(frozen=True, slots=True)
class Brief:
    """index.html"""

    headline: str
    lead: tuple[str, ...]
    doubts: tuple[str, ...]  # what speaks against trusting the labels
    calm: bool
    tiles: tuple[Tile, ...]
    cards_title: str
    cards_words: str
    cards: tuple[Card, ...]
    more_flagged: Table | None
    by_hour: Chart | None
    by_queue: Chart | None
    emotion_words: str
    movers: Table | None
    coverage: Coverage
    ensemble: EnsembleFacts
    definition: Definition
    time_words: str


@dataclass(frozen=True, slots=True)
class CallList:
    """calls/index.html"""

    words: str
    table: Table


@dataclass(frozen=True, slots=True)
class ProbabilityRow:
    """Probability of one emotion over time, as a path in the 1000 x 100 box."""

    badge: Badge
    path: str
    mean: str


@dataclass(frozen=True, slots=True)
class Probabilities:
    """The probability rows of one side; only the caller's lie open at first."""

    name: str
    open: bool
    rows: tuple[ProbabilityRow, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """The sound of one channel: `wave` is a path in the 1000 x 100 box, `image` a relative link."""

    name: str
    wave: str
    image: str
    words: str


@dataclass(frozen=True, slots=True)
class MemberVote:
    """One member's opinion of one segment."""

    member: str
    badge: Badge
    probability: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A line of the segment table."""

    anchor: str
    at: str
    sort_at: str
    length: str
    role: str
    badge: Badge
    confidence: str
    agreement: str
    note: str  # why there is no label, or that a tie was broken
    votes: tuple[MemberVote, ...]


@dataclass(frozen=True, slots=True)
class CallPage:
    """calls/<call_id>.html"""

    call_id: str
    headline: str
    flagged: bool
    score: str
    reasons: tuple[Reason, ...]
    course: str
    duration_s: str
    strip: Strip
    moments: tuple[Moment, ...]
    probabilities: tuple[Probabilities, ...]
    members: tuple[str, ...]
    segments: tuple[SegmentRow, ...]
    facts: tuple[Fact, ...]
    quality: tuple[str, ...]
    measures: Table
    quarters: Table | None
    same_caller: Table | None
    pictures: tuple[Picture, ...]
    rules: Table
    rules_words: str
    reviewed: str
    review: tuple[ReviewCommand, ...]


@dataclass(frozen=True, slots=True)
class Trends:
    """trends.html"""

    words: str
    charts: tuple[Chart, ...]
    agents: Table | None
    agents_words: str


@dataclass(frozen=True, slots=True)
class AgentPage:
    """agents/<file_name>: how the callers of one agent sounded."""

    file_name: str
    headline: str
    words: str
    tiles: tuple[Tile, ...]
    emotions: Chart | None
    weeks: Table
    flagged: Table


@dataclass(frozen=True, slots=True)
class MailCall:
    """A flagged call in the summary for mail."""

    when: str
    queue: str
    agent: str
    more: str  # direction, length, a warning about the time
    score: str
    reasons: str
    course: str


@dataclass(frozen=True, slots=True)
class Mail:
    """email.txt and email.html: the brief in one screen, without sound and drawings."""

    subject: str
    headline: str
    lead: tuple[str, ...]
    doubts: tuple[str, ...]
    tiles: tuple[Tile, ...]
    calls_title: str
    calls: tuple[MailCall, ...]
    more: str
    coverage: tuple[Fact, ...]
    limits: str
    where: str  # of the whole report, empty when it should not be told
    written: str


@dataclass(frozen=True, slots=True)
class Health:
    """health.html"""

    headline: str
    coverage: Coverage
    ensemble: EnsembleFacts
    card: Table
    abstentions: Table
    members: Table
    sources: Table
    judged: Table
    runs: Table
