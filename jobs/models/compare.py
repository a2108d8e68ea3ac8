"""Two ensembles on the calls that both have analysed: which labels and which escalations change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SHOWN_CALLS = 20

# Segments of the two analyses that are the same stretch of the same channel.
_MATRIX = """
WITH one AS (SELECT call_id, analysis_key FROM base.analyses WHERE ensemble_id = $a),
other AS (SELECT call_id, analysis_key FROM base.analyses WHERE ensemble_id = $b),
keys AS (SELECT one.analysis_key AS key_a, other.analysis_key AS key_b FROM one JOIN other USING (call_id)),
a AS (SELECT key_b, s.* FROM base.segments s JOIN keys ON s.analysis_key = key_a),
b AS (SELECT s.* FROM base.segments s JOIN keys ON s.analysis_key = key_b)
SELECT a.emotion::VARCHAR, b.emotion::VARCHAR, count(*), sum(a.end_s - a.start_s)
FROM a JOIN b ON b.analysis_key = a.key_b AND b.channel = a.channel
    AND b.start_s = a.start_s AND b.end_s = a.end_s
GROUP BY a.emotion, b.emotion ORDER BY a.emotion NULLS LAST, b.emotion NULLS LAST
"""
# The fields of `Change`, then what is counted.
_CALLS = """
SELECT a.call_id, strftime(c.started_local, '%Y-%m-%d %H:%M'), c.queue, a.frustration_score,
    b.frustration_score, if(b.flagged, b.reasons, a.reasons), a.flagged, b.flagged, a.segments_s
FROM base.analyses a JOIN base.analyses b USING (call_id) JOIN base.calls c USING (call_id)
WHERE a.ensemble_id = $a AND b.ensemble_id = $b ORDER BY c.started_at, call_id
"""
_RULES = """
WITH fired AS (
    SELECT e.rule, a.call_id, bool_or(a.ensemble_id = $a) AS in_a, bool_or(a.ensemble_id = $b) AS in_b
    FROM base.escalations e JOIN base.analyses a USING (analysis_key)
    WHERE a.ensemble_id IN ($a, $b) AND a.call_id IN (SELECT call_id FROM base.analyses
        WHERE ensemble_id IN ($a, $b) GROUP BY call_id HAVING count(DISTINCT ensemble_id) = 2)
    GROUP BY ALL
)
SELECT rule, count(*) FILTER (in_a), count(*) FILTER (in_b), count(*) FILTER (in_a AND in_b)
FROM fired GROUP BY rule ORDER BY rule
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """Segments that `a` labelled one way and `b` another (or the same); None is abstained."""

    a: str | None
    b: str | None
    n_segments: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """A call that only one of the two flags. Times are local to the call."""

    call_id: str
    started_local: str
    queue: str | None
    score_a: float | None  # None: no voice that may be the caller's was assessed
    score_b: float | None
    reasons: tuple[str, ...]  # of the one that flags it


@dataclass(frozen=True, slots=True)
class RuleCount:
    """On how many calls a rule fired by `a`, by `b`, and by both."""

    rule: str
    n_a: int
    n_b: int
    n_both: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changes from ensemble `a` to ensemble `b` on the calls that both analysed."""

    a: str
    b: str
    n_calls: int
    n_segments: int
    seconds: float
    unmatched_s: float  # speech of `a` cut into other segments by `b`: left out of the matrix
    changed_s: float  # one label into another
    gained_s: float  # abstained before, labelled now
    lost_s: float  # labelled before, abstained now
    n_flagged_a: int
    n_flagged_b: int
    matrix: tuple[Cell, ...]
    rules: tuple[RuleCount, ...]
    newly_flagged: tuple[Change, ...]
    no_longer_flagged: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, names as in the fields."""
        return asdict(self)


def compare_ensembles(database_path: Path, a: str, b: str) -> Comparison:
    """Compare two ensembles, by id, in a published database.

    Without calls that both analysed all counts are 0: `backfill --ensemble ID --shadow` makes some.

    Raises:
        UsageError: there is no database yet.
        StoreError: it cannot be opened or read.
    """
    import duckdb

    from callanalytics.errors import StoreError
    from callanalytics.store.query import open_published

    with open_published(database_path) as connection:
        try:
            cells, rules, calls = (
                connection.execute(sql, {"a": a, "b": b}).fetchall() for sql in (_MATRIX, _RULES, _CALLS)
            )
        except duckdb.Error as problem:
            raise StoreError(f"{database_path}: cannot be read. {problem}") from problem
    matrix = tuple(Cell(*row) for row in cells)
    seconds = sum(cell.seconds for cell in matrix)
    changes = [
        (Change(call_id, started, queue, score_a, score_b, tuple(reasons)), in_a, in_b)
        for call_id, started, queue, score_a, score_b, reasons, in_a, in_b, _ in calls
    ]
    return Comparison(
        a=a,
        b=b,
        n_calls=len(calls),
        n_segments=sum(cell.n_segments for cell in matrix),
        seconds=seconds,
        unmatched_s=max(round(sum(row[8] for row in calls) - seconds, 6), 0.0),
        changed_s=sum(c.seconds for c in matrix if c.a and c.b and c.a != c.b),
        gained_s=sum(c.seconds for c in matrix if c.b and not c.a),
        lost_s=sum(c.seconds for c in matrix if c.a and not c.b),
        n_flagged_a=sum(in_a for _, in_a, _ in changes),
        n_flagged_b=sum(in_b for _, _, in_b in changes),
        matrix=matrix,
        rules=tuple(RuleCount(*row) for row in rules),
        newly_flagged=tuple(change for change, in_a, in_b in changes if in_b and not in_a),
        no_longer_flagged=tuple(change for change, in_a, in_b in changes if in_a and not in_b),
    )


def render_comparison(found: Comparison) -> str:
    """The comparison as text: what changes, the matrix in minutes, and the calls whose flag changes."""
    if found.n_calls == 0:
        return (
            f"No call was analysed by both {found.a} and {found.b}. "
            "Score old calls with `backfill --ensemble ID --shadow`"
        )
    whole = max(found.seconds, 1e-9)
    lines = [
        f"{found.n_calls:,} calls analysed by both, {found.seconds / 60:,.1f} minutes of speech. "
        f"a = {found.a}, b = {found.b}",
        f"Another label: {found.changed_s / whole:.1%}. Labelled by b only: {found.gained_s / whole:.1%}. "
        f"By a only: {found.lost_s / whole:.1%}.",
    ]
    if found.unmatched_s / whole > 0.001:
        lines.append(f"{found.unmatched_s / 60:,.1f} minutes were cut into other segments and are left out.")
    lines += ["", "Minutes by label of a (rows) and of b (columns):", *_matrix_lines(found), ""]
    lines.append(f"Flagged: {found.n_flagged_a:,} by a, {found.n_flagged_b:,} by b.")
    lines += [f"  {r.rule}: {r.n_a:,} by a, {r.n_b:,} by b, {r.n_both:,} by both" for r in found.rules]
    lines += _call_lines("Newly flagged by b", found.newly_flagged)
    lines += _call_lines("No longer flagged by b", found.no_longer_flagged)
    return "\n".join(lines)


def _matrix_lines(found: Comparison) -> list[str]:
    """A row per label of a, a column per label of b, in the order of `EMOTIONS`."""
    from ensemble.labels import EMOTIONS

    used = {cell.a for cell in found.matrix} | {cell.b for cell in found.matrix}
    labels: list[str | None] = [label for label in (*EMOTIONS, None) if label in used]
    minutes = {(cell.a, cell.b): cell.seconds / 60 for cell in found.matrix}
    head = "".join(f"{label or 'abstained':>11}" for label in labels)
    body = [
        f"{row or 'abstained':<11}"
        + "".join(f"{minutes.get((row, column), 0.0):>11,.1f}" for column in labels)
        for row in labels
    ]
    return [" " * 11 + head, *body]


def _call_lines(title: str, calls: tuple[Change, ...]) -> list[str]:
    from reports.formatting import score_text

    lines = ["", f"{title}: {len(calls):,}"]
    for call in calls[:SHOWN_CALLS]:
        why = "; ".join(call.reasons)
        lines.append(
            f"  {call.call_id}  {call.started_local}  {call.queue or '-'}  "
            f"{score_text(call.score_a)} -> {score_text(call.score_b)}  {why}"
        )
    if len(calls) > SHOWN_CALLS:
        lines.append(f"  and {len(calls) - SHOWN_CALLS:,} more; all of them with --json")
    return lines
