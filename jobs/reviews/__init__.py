"""Reviews: what people say about calls, and which call is most worth their next minutes."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callanalytics.errors import UsageError
from callanalytics.records.text import optional_text
from callanalytics.store import Review
from callanalytics.store.query import open_published
from callanalytics.store.review_rows import check_review
from callanalytics.store.schema import fetched
from callanalytics.workspace import Workspace
from jobs.reviews.queue import MAX_REVIEWS, check_length, put, waiting_reviews
from reports.formatting import clock
from reports.parts.call_parts import role_evidence_text

if TYPE_CHECKING:
    import duckdb

MAX_CSV_BYTES = 50_000_000
COLUMNS = ("call_id", "verdict", "rule", "segment", "emotion", "reviewer", "note")
N_MOMENTS = 5
MAX_DIGITS = 9  # of the number of a segment


@dataclass(frozen=True, slots=True)
class Given:
    """What became of reviews: of which calls, and how many of them had been given before."""

    call_ids: tuple[str, ...]
    n_known: int = 0


def give(workspace: Workspace, reviews: Sequence[Review]) -> Given:
    """Leave reviews in the queue, whose next reader is the end of a run; see `jobs.reviews.queue`.

    They are checked against what is published, and all or none are kept. A call may be named by the first
    characters of its id. What repeats the same person's last word on the same thing is not kept again.

    Raises:
        UsageError: no results yet; or what a review names does not exist, with one line per problem; or
            one is too long.
    """
    with open_published(workspace.database) as published:
        checked = _checked(published, reviews)
        latest = _latest_opinions(published, workspace, {review.call_id for review in checked})
    new = []
    for review in checked:
        if not _repeats(review, latest.get(_subject(review))):
            latest[_subject(review)] = review
            new.append(review)
    if new:
        put(workspace, new)
    return Given(tuple(dict.fromkeys(review.call_id for review in checked)), len(checked) - len(new))


Subject = tuple[str, str | None, int | None, str | None]


def _subject(review: Review) -> Subject:
    """What a review is about, and whose it is."""
    return review.call_id, review.rule, review.segment, optional_text(review.reviewer)


def _repeats(review: Review, last: Review | None) -> bool:
    """Whether a review says nothing that the last one of its subject did not say."""
    if last is None or review.verdict != last.verdict:
        return False
    # The published review of a confirmed segment names the emotion that was voted.
    same_emotion = review.verdict == "confirm" or review.emotion == last.emotion
    return same_emotion and optional_text(review.note) in (None, optional_text(last.note))


def _latest_opinions(
    connection: duckdb.DuckDBPyConnection, workspace: Workspace, call_ids: Collection[str]
) -> dict[Subject, Review]:
    """The last review of each subject, published or waiting."""
    sql = (
        "SELECT call_id, verdict::VARCHAR, rule, segment, emotion::VARCHAR, reviewer, note FROM base.reviews"
        " WHERE call_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY review_id"
    )
    published = [Review(*row) for row in connection.execute(sql, [list(call_ids)]).fetchall()]
    return {_subject(review): review for review in (*published, *waiting_reviews(workspace))}


def _checked(connection: duckdb.DuckDBPyConnection, reviews: Sequence[Review]) -> list[Review]:
    found, problems = [], []
    for number, review in enumerate(reviews, start=1):
        try:
            whole = replace(review, call_id=_whole_id(connection, review.call_id))
            check_review(connection, whole)
            check_length(whole)
            found.append(whole)
        except UsageError as problem:
            problems.append(f"review {number}: {problem}" if len(reviews) > 1 else str(problem))
    if problems:
        more = len(problems) - 20
        raise UsageError("\n".join(problems[:20] + ([f"and {more} more"] if more > 0 else [])))
    return found


def _whole_id(connection: duckdb.DuckDBPyConnection, start: str) -> str:
    sql = "SELECT call_id FROM base.calls WHERE starts_with(call_id, ?) ORDER BY call_id LIMIT 2"
    found = [row[0] for row in connection.execute(sql, [start]).fetchall()]
    if len(found) == 2 and start not in found:
        raise UsageError(f"{start!r} may be {found[0]} or {found[1]}. Give more of the id.")
    return str(found[0]) if found and start else start


def read_csv(path: Path, *, reviewer: str | None) -> list[Review]:
    """Reviews of a CSV with a header: call_id, verdict, and rule, segment, emotion, reviewer, note if wanted.

    Raises:
        UsageError: it cannot be read, has other columns, or too many rows; with line and problem.
    """
    try:
        if path.stat().st_size > MAX_CSV_BYTES:
            raise UsageError(f"{path}: larger than {MAX_CSV_BYTES // 1_000_000} MB. Split it.")
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(_reviews_of(path, csv.DictReader(file), reviewer))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise UsageError(f"{path}: cannot be read as CSV ({problem}).") from None


def _reviews_of(path: Path, rows: csv.DictReader[str], reviewer: str | None) -> Iterator[Review]:
    header = set(rows.fieldnames or ())
    if not {"call_id", "verdict"} <= header <= set(COLUMNS):
        raise UsageError(
            f"{path}: columns {sorted(header)}; expected call_id, verdict, and of {COLUMNS[2:]}."
        )
    for number, row in enumerate(rows, start=1):
        if number > MAX_REVIEWS:
            raise UsageError(f"{path}: more than {MAX_REVIEWS} rows. Split it.")
        try:
            yield _review_of(row, reviewer)
        except UsageError as problem:
            raise UsageError(f"{path}, line {rows.line_num}: {problem}") from None


def _review_of(row: Mapping[str | None, str | None], reviewer: str | None) -> Review:
    cells = {name: (row.get(name) or "").strip() or None for name in COLUMNS}
    segment = cells["segment"]
    if None in row:
        raise UsageError(f"a column too many: {len(COLUMNS)} are known, and a note with commas needs quotes.")
    if segment is not None and not (segment.isdecimal() and len(segment) <= MAX_DIGITS):
        shown = segment if len(segment) <= MAX_DIGITS else f"{segment[:MAX_DIGITS]}..."
        raise UsageError(f"segment {shown!r} is no number of at most {MAX_DIGITS} digits.")
    number = int(segment) if segment else None
    subject = cells["call_id"] or "", (cells["verdict"] or "").lower(), cells["rule"], number
    review = Review(*subject, cells["emotion"], cells["reviewer"] or reviewer, cells["note"])
    check_length(review)
    return review


# The next call ---------------------------------------------------------------------------------------------
#
# What a minute of listening teaches differs by call. A verdict on a flag narrows what is known of the rules
# that fired: worth the width of the 95 % interval of the least known one (1 without any review). Labels of
# segments teach where the committee is unsure: query by committee (Seung, Opper, Sompolinsky, COLT 1992;
# vote entropy after Dagan and Engelson, ICML 1995) plus least confidence (Lewis and Gale, SIGIR 1994), taken
# over the five most telling segments of who may be the caller (agents are never asked about). Where facts
# disagree about who is agent and who is caller, a look tells whose anger is scored: worth a half, and up to
# one where both are as likely.
NEXT_SQL = """
WITH reviewed AS (
    SELECT DISTINCT call_id FROM base.reviews WHERE segment IS NULL AND rule IS NULL
),
widths AS (
    SELECT rule, coalesce(precision_high - precision_low, 1.0) AS width FROM rule_precision
),
flags AS (
    SELECT e.call_id, max(coalesce(w.width, 1.0)) AS unknown_share
    FROM escalations e LEFT JOIN widths w USING (rule) WHERE e.flagged GROUP BY e.call_id
),
opinions AS (
    SELECT analysis_key, segment, emotion, count(*) AS n FROM base.predictions
    WHERE emotion IS NOT NULL GROUP BY ALL
),
shares AS (
    SELECT analysis_key, segment, n / sum(n) OVER (PARTITION BY analysis_key, segment) AS share,
        sum(n) OVER (PARTITION BY analysis_key, segment) AS n_members FROM opinions
),
members AS (
    SELECT analysis_key, segment, -sum(share * ln(share)) / ln(greatest(max(n_members), 2)) AS disagreement
    FROM shares GROUP BY ALL
),
moments AS (
    SELECT a.call_id, s.segment, s.start_s, s.end_s, s.emotion, s.top_emotion, 1 - s.confidence AS unsure,
        coalesce(m.disagreement, 1 - s.agreement) AS disagreement,
        row_number() OVER (PARTITION BY a.call_id ORDER BY
            (1 - s.confidence) + coalesce(m.disagreement, 1 - s.agreement) DESC, s.segment) AS place
    FROM base.segments s JOIN analyses a USING (analysis_key)
    LEFT JOIN members m USING (analysis_key, segment)
    WHERE (s.role != 'agent' OR s.speaker = a.frustration_voice) AND s.confidence IS NOT NULL AND NOT EXISTS (
        FROM base.reviews r WHERE r.call_id = a.call_id AND r.channel = s.channel AND r.start_s = s.start_s)
        AND NOT list_contains($waiting_segments, a.call_id || ' ' || s.segment)
),
committee AS (
    SELECT call_id, avg(unsure) AS unsure, avg(disagreement) AS disagreement,
        list(struct_pack(segment := segment, start_s := start_s, end_s := end_s,
            emotion := coalesce(emotion, top_emotion)::VARCHAR, abstained := emotion IS NULL,
            unsure := unsure, disagreement := disagreement) ORDER BY place) AS moments
    FROM moments WHERE place <= $n_moments GROUP BY call_id
)
SELECT c.call_id, c.path, c.started_local, c.queue, c.duration_s, c.flagged, c.reasons, c.frustration_score,
    coalesce(f.unknown_share, 0.0) AS flag_worth, coalesce(k.unsure, 0.0) AS unsure,
    coalesce(k.disagreement, 0.0) AS disagreement,
    if(list_contains(c.quality, 'role_conflict'), 1.5 - c.role_confidence, 0.0) AS role_worth,
    flag_worth + (coalesce(k.unsure, 0.0) + coalesce(k.disagreement, 0.0)) / 2 + role_worth AS worth,
    c.role_confidence, c.role_evidence,
    coalesce(k.moments, []) AS moments
FROM call_summary c LEFT JOIN flags f USING (call_id) LEFT JOIN committee k USING (call_id)
WHERE c.call_id NOT IN (SELECT call_id FROM reviewed) AND NOT list_contains($waiting, c.call_id)
ORDER BY worth DESC, c.started_at DESC, c.call_id LIMIT $count
"""


@dataclass(frozen=True, slots=True)
class Worth:
    """A call that a review would teach most of, and why. Shares are 0..1; `worth` is 0..3."""

    call_id: str
    path: str
    started_local: str
    queue: str | None
    duration_s: float
    flagged: bool
    reasons: tuple[str, ...]
    frustration_score: float | None
    flag_worth: float
    unsure: float
    disagreement: float
    role_worth: float  # above 0 where facts disagree about who is agent and who is caller
    worth: float
    role_confidence: float
    role_evidence: tuple[Mapping[str, Any], ...]
    moments: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """What `review next --json` prints."""
        return asdict(self)


def next_calls(workspace: Workspace, count: int = 1) -> list[Worth]:
    """Calls without a verdict (published or waiting), most useful first; see NEXT_SQL for how."""
    pending = waiting_reviews(workspace)
    whole = {r.call_id for r in pending if r.segment is None and r.rule is None}
    segments = {f"{r.call_id} {r.segment}" for r in pending if r.segment is not None}
    parameters = {
        "n_moments": N_MOMENTS,
        "waiting": [*whole] or [""],  # DuckDB knows no type for an empty list
        "waiting_segments": [*segments] or [""],
        "count": count,
    }
    with open_published(workspace.database) as connection:
        frame = fetched(connection.sql(NEXT_SQL, params=parameters))
    rows = frame.to_dicts()
    return [
        Worth(
            **{
                **row,
                "started_local": f"{row['started_local']:%Y-%m-%d %H:%M}",
                "reasons": tuple(row["reasons"]),
                "moments": tuple(row["moments"]),
                "role_evidence": tuple(row["role_evidence"] or ()),
            }
        )
        for row in rows
    ]


def _precision_text(width: float) -> str:
    """What reviews say of the precision of rules, by the width of its 95 % interval, 0..1."""
    if width >= 1:
        return "nobody has judged its rules yet"
    return f"reviews tell how often its rules are right to within {100 * width:.0f} points"


def render_worth(call: Worth, workspace: Workspace) -> str:
    """A call to review as lines for a person, with commands to answer that run as printed."""
    why = []
    if call.flagged:
        why.append(f"flagged: {'; '.join(call.reasons)} ({_precision_text(call.flag_worth)})")
    why.append(f"members disagree {call.disagreement:.0%}, unsure {call.unsure:.0%} in the moments below")
    if call.role_worth:
        why.append(f"agent and caller may be exchanged ({call.role_confidence:.0%} sure of them):")
        why += [f"  {role_evidence_text(fact)}" for fact in call.role_evidence]
    queue = f"  queue {call.queue}" if call.queue else ""
    lines = [
        f"{call.call_id}  {call.started_local}  {clock(call.duration_s)}{queue}",
        f"  {call.path}",
        *(f"  {reason}" for reason in why),
    ]
    for moment in call.moments:
        mark = " (abstained)" if moment["abstained"] else ""
        lines.append(
            f"    segment {moment['segment']:>3} at {clock(moment['start_s']):>5}  "
            f"{moment['emotion']}{mark}, disagree {moment['disagreement']:.0%}, "
            f"unsure {moment['unsure']:.0%}"
        )
    review = partial(workspace.command, "review", call.call_id[:12])
    lines += ["  Worth flagging (confirm, reject or unsure)?", f"    {review('--verdict', 'confirm')}"]
    if call.role_worth:
        exchange = workspace.command("relabel", call.call_id[:12], "--swap")
        lines += ["  Are agent and caller exchanged?", f"    {exchange}"]
    if call.moments:
        first = call.moments[0]
        other = "anger" if first["emotion"] == "neutral" else "neutral"
        answer = ("--segment", str(first["segment"]), "--verdict", "reject", "--emotion", other)
        lines += [
            "  What do you hear in a segment?",
            f"    {review(*answer)}",
        ]
    return "\n".join(lines)
