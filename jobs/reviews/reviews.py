"""Reviews: what people say about calls, and which call is most worth their next minutes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callanalytics.errors import LockHeld, UsageError
from callanalytics.store import Review, open_work
from callanalytics.store.query import open_published
from callanalytics.store.review_rows import check_review
from callanalytics.workspace import Workspace, file_lock
from jobs.reviews.queue import MAX_REVIEWS, check_length, put, read_reviews, waiting

if TYPE_CHECKING:
    import duckdb

MAX_CSV_BYTES = 50_000_000
COLUMNS = ("call_id", "verdict", "rule", "segment", "emotion", "reviewer", "note")
N_MOMENTS = 5
MAX_DIGITS = 9  # of the number of a segment


@dataclass(frozen=True, slots=True)
class Given:
    """What became of reviews: `queued` when a run was at work and the next one takes them in."""

    call_ids: tuple[str, ...]
    queued: bool


def give(workspace: Workspace, reviews: Sequence[Review]) -> Given:
    """Keep reviews: in the working database, or in the inbox while a run is at work. Never published here.

    All or nothing, also when it is cut short: they are checked against the published results first, and kept
    in one transaction or left in one file. A call may be named by the first characters of its id.

    Raises:
        UsageError: no results yet; or what a review names does not exist, with one line per problem; or
            one is too long.
    """
    with open_published(workspace.database) as published:
        checked = _checked(published, reviews)
    call_ids = tuple(dict.fromkeys(review.call_id for review in checked))
    try:
        with (
            file_lock(workspace.run_lock, patience_s=0),
            open_work(workspace) as store,
            store.transaction("keep the reviews"),
        ):
            for review in checked:  # refused here: it changed since it was published
                store.review(review)
    except LockHeld:
        put(workspace, checked)
        return Given(call_ids, queued=True)
    return Given(call_ids, queued=False)


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
    told = {name: (row.get(name) or "").strip() or None for name in COLUMNS}
    segment = told["segment"]
    if None in row:
        raise UsageError(f"a column too many: {len(COLUMNS)} are known, and a note with commas needs quotes.")
    if segment is not None and not (segment.isdecimal() and len(segment) <= MAX_DIGITS):
        shown = segment if len(segment) <= MAX_DIGITS else f"{segment[:MAX_DIGITS]}..."
        raise UsageError(f"segment {shown!r} is no number of at most {MAX_DIGITS} digits.")
    review = Review(
        told["call_id"] or "",
        (told["verdict"] or "").lower(),
        rule=told["rule"],
        segment=int(segment) if segment else None,
        emotion=told["emotion"],
        reviewer=told["reviewer"] or reviewer,
        note=told["note"],
    )
    check_length(review)
    return review


# The next call ---------------------------------------------------------------------------------------------
#
# What a minute of listening teaches differs by call. A verdict on a flag narrows what is known of the rules
# that fired: worth the width of the 95 % interval of the least known one (1 without any review). Labels of
# segments teach where the committee is unsure: query by committee (Seung, Opper, Sompolinsky, COLT 1992;
# vote entropy after Dagan and Engelson, ICML 1995) plus least confidence (Lewis and Gale, SIGIR 1994), taken
# over the five most telling segments of the caller (agents are never what is asked about).
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
heard AS (
    SELECT a.call_id, s.segment, s.start_s, s.end_s, s.emotion, s.top_emotion, 1 - s.confidence AS unsure,
        coalesce(m.disagreement, 1 - s.agreement) AS disagreement,
        row_number() OVER (PARTITION BY a.call_id ORDER BY
            (1 - s.confidence) + coalesce(m.disagreement, 1 - s.agreement) DESC, s.segment) AS place
    FROM base.segments s JOIN analyses a USING (analysis_key)
    LEFT JOIN members m USING (analysis_key, segment)
    WHERE s.role != 'agent' AND s.confidence IS NOT NULL AND NOT EXISTS (
        FROM base.reviews r WHERE r.call_id = a.call_id AND r.channel = s.channel AND r.start_s = s.start_s)
),
committee AS (
    SELECT call_id, avg(unsure) AS unsure, avg(disagreement) AS disagreement,
        list(struct_pack(segment := segment, start_s := start_s, end_s := end_s,
            emotion := coalesce(emotion, top_emotion)::VARCHAR, abstained := emotion IS NULL,
            unsure := unsure, disagreement := disagreement) ORDER BY place) AS moments
    FROM heard WHERE place <= $n_moments GROUP BY call_id
)
SELECT c.call_id, c.path, c.started_local, c.queue, c.duration_s, c.flagged, c.reasons, c.frustration_score,
    coalesce(f.unknown_share, 0.0) AS flag_worth, coalesce(k.unsure, 0.0) AS unsure,
    coalesce(k.disagreement, 0.0) AS disagreement,
    flag_worth + (coalesce(k.unsure, 0.0) + coalesce(k.disagreement, 0.0)) / 2 AS worth,
    coalesce(k.moments, []) AS moments
FROM call_summary c LEFT JOIN flags f USING (call_id) LEFT JOIN committee k USING (call_id)
WHERE c.call_id NOT IN (SELECT call_id FROM reviewed) AND NOT list_contains($waiting, c.call_id)
ORDER BY worth DESC, c.started_at DESC, c.call_id LIMIT $count
"""


@dataclass(frozen=True, slots=True)
class Worth:
    """A call that a review would teach most of, and why. Shares are 0..1; `worth` is 0..2."""

    call_id: str
    path: str
    started_local: str
    queue: str | None
    duration_s: float
    flagged: bool
    reasons: tuple[str, ...]
    frustration_score: float
    flag_worth: float
    unsure: float
    disagreement: float
    worth: float
    moments: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """What `review next --json` prints."""
        return asdict(self)


def next_calls(workspace: Workspace, count: int = 1) -> list[Worth]:
    """Calls without a verdict (published or waiting), most useful first; see NEXT_SQL for how."""
    pending = {review.call_id for review in _waiting_reviews(workspace) if review.segment is None}
    with open_published(workspace.database) as connection:
        frame = connection.sql(
            NEXT_SQL, params={"n_moments": N_MOMENTS, "waiting": sorted(pending) or [""], "count": count}
        ).pl()
    rows = frame.to_dicts()
    return [
        Worth(
            **{
                **row,
                "started_local": f"{row['started_local']:%Y-%m-%d %H:%M}",
                "reasons": tuple(row["reasons"]),
                "moments": tuple(row["moments"]),
            }
        )
        for row in rows
    ]


def _waiting_reviews(workspace: Workspace) -> Iterator[Review]:
    for path in waiting(workspace):
        try:
            yield from read_reviews(path)
        except UsageError:  # taken in this moment, or not reviews: the next run says so
            continue


def render_worth(call: Worth) -> str:
    """A call to review as lines for a person, with the commands to answer."""
    why = []
    if call.flagged:
        why.append(f"flagged: {'; '.join(call.reasons)} (its rules are {call.flag_worth:.0%} unknown)")
    why.append(f"members disagree {call.disagreement:.0%}, unsure {call.unsure:.0%} in the moments below")
    length = f"{int(call.duration_s) // 60}:{int(call.duration_s) % 60:02d}"
    lines = [
        f"{call.call_id}  {call.started_local}  {length}" + (f"  queue {call.queue}" if call.queue else ""),
        f"  {call.path}",
        *(f"  {words}" for words in why),
    ]
    for moment in call.moments:
        at = f"{int(moment['start_s']) // 60}:{int(moment['start_s']) % 60:02d}"
        mark = " (abstained)" if moment["abstained"] else ""
        lines.append(
            f"    segment {moment['segment']:>3} at {at:>5}  {moment['emotion']}{mark}, "
            f"disagree {moment['disagreement']:.0%}, unsure {moment['unsure']:.0%}"
        )
    short = call.call_id[:12]
    lines += [
        f"  Worth flagging?   callanalytics review {short} --verdict confirm   (or reject, unsure)",
        f"  What a segment is: callanalytics review {short} --segment N --verdict reject --emotion neutral",
    ]
    return "\n".join(lines)
