"""Two ensembles on the calls that both have analysed: which labels and which escalations change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

SHOWN_CALLS = 20

# Segments of the two analyses that are the same stretch of the same channel.
_PAIRED = """
WITH one AS (SELECT call_id, analysis_key FROM base.analyses WHERE ensemble_id = $a),
other AS (SELECT call_id, analysis_key FROM base.analyses WHERE ensemble_id = $b),
keys AS (SELECT one.analysis_key AS key_a, other.analysis_key AS key_b FROM one JOIN other USING (call_id)),
a AS (SELECT key_b, s.* FROM base.segments s JOIN keys ON s.analysis_key = key_a),
b AS (SELECT s.* FROM base.segments s JOIN keys ON s.analysis_key = key_b)
"""
_MATRIX = (
    _PAIRED
    + """
SELECT a.emotion::VARCHAR, b.emotion::VARCHAR, count(*), sum(a.end_s - a.start_s)
FROM a JOIN b ON b.analysis_key = a.key_b AND b.channel = a.channel
    AND b.start_s = a.start_s AND b.end_s = a.end_s
GROUP BY a.emotion, b.emotion ORDER BY a.emotion NULLS LAST, b.emotion NULLS LAST
"""
)
_CALLS = """
SELECT a.call_id, strftime(c.started_local, '%Y-%m-%d %H:%M'), c.queue, a.flagged, b.flagged,
    a.frustration_score, b.frustration_score, a.reasons, b.reasons, a.segments_s
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
    score_a: float
    score_b: float
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
            return _compare(connection, a, b)
        except duckdb.Error as problem:
            raise StoreError(f"{database_path}: cannot be read. {problem}") from problem


def _compare(connection: duckdb.DuckDBPyConnection, a: str, b: str) -> Comparison:
    def rows(sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = connection.execute(sql, {"a": a, "b": b}).fetchall()
        return found

    calls = rows(_CALLS)
    matrix = tuple(Cell(*row) for row in rows(_MATRIX))
    seconds = sum(cell.seconds for cell in matrix)
    both = [cell for cell in matrix if cell.a is not None and cell.b is not None]
    return Comparison(
        a=a,
        b=b,
        n_calls=len(calls),
        n_segments=sum(cell.n_segments for cell in matrix),
        seconds=seconds,
        unmatched_s=max(round(sum(row[9] for row in calls) - seconds, 6), 0.0),
        changed_s=sum(cell.seconds for cell in both if cell.a != cell.b),
        gained_s=sum(cell.seconds for cell in matrix if cell.a is None and cell.b is not None),
        lost_s=sum(cell.seconds for cell in matrix if cell.a is not None and cell.b is None),
        n_flagged_a=sum(row[3] for row in calls),
        n_flagged_b=sum(row[4] for row in calls),
        matrix=matrix,
        rules=tuple(RuleCount(*row) for row in rows(_RULES)),
        newly_flagged=tuple(_change(row, 8) for row in calls if row[4] and not row[3]),
        no_longer_flagged=tuple(_change(row, 7) for row in calls if row[3] and not row[4]),
    )


def _change(row: tuple[Any, ...], reasons: int) -> Change:
    return Change(row[0], row[1], row[2], row[5], row[6], tuple(row[reasons]))


def render_comparison(found: Comparison) -> str:
    """The comparison as text: what changes, the matrix in minutes, and the calls whose flag changes."""
    if found.n_calls == 0:
        return (
            f"No call was analysed by both {found.a} and {found.b}. "
            "Score old calls with: callanalytics backfill --ensemble ID --shadow"
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
    """A row per label of a, a column per label of b, in the order of the type emotion."""
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
    lines = ["", f"{title}: {len(calls):,}"]
    for call in calls[:SHOWN_CALLS]:
        why = "; ".join(call.reasons)
        lines.append(
            f"  {call.call_id}  {call.started_local}  {call.queue or '-'}  "
            f"{call.score_a:.0%} -> {call.score_b:.0%}  {why}"
        )
    if len(calls) > SHOWN_CALLS:
        lines.append(f"  and {len(calls) - SHOWN_CALLS:,} more; all of them with --json")
    return lines
