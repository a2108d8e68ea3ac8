"""Which rules judged which calls, and calls judged again by others. No sound, no inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config.window import Window
from callanalytics.records.text import counted
from callanalytics.store.query import Published
from callanalytics.store.rows import NOTE_RULES, assessment_frames
from callanalytics.store.writer import Store

_OTHER_RULES = """
SELECT count(*) AS n_calls, count(*) FILTER (WHERE rules_id IS NULL) AS n_unknown
FROM call_summary WHERE rules_id IS DISTINCT FROM $rules_id
"""
_JUDGED_OTHERWISE = """
SELECT a.analysis_key, a.call_id, e.promoted, a.flagged, a.reasons
FROM base.analyses a JOIN base.calls c USING (call_id) JOIN base.ensembles e USING (ensemble_id)
WHERE c.started_at >= ? AND c.started_at < ? AND a.rules_id IS DISTINCT FROM ?
ORDER BY c.started_at, a.call_id, a.analysis_key
"""
_N_JUDGED = """
SELECT count(*) FROM analyses a JOIN base.calls c USING (call_id)
WHERE c.started_at >= ? AND c.started_at < ? AND a.rules_id = ?
"""


@dataclass(frozen=True, slots=True)
class OtherRules:
    """Calls that people see as other rules than those of config.toml judged them."""

    n_calls: int
    n_unknown: int  # of these, calls of which the rules were not noted: an earlier version judged them

    @property
    def text(self) -> str:
        """What a person should know of it; what to do is `callanalytics rejudge`."""
        calls = f"{counted(self.n_calls, 'call')} {'was' if self.n_calls == 1 else 'were'}"
        if self.n_unknown == self.n_calls:
            return f"{calls} judged before rules were noted: config.toml may say something else now."
        unknown = f" (of {self.n_unknown:,} they are not known)" if self.n_unknown else ""
        return f"The rules have changed: {calls} judged by other rules than those of config.toml{unknown}."


def other_rules(published: Published, rules_id: str) -> OtherRules | None:
    """The calls that other rules than these (`RuleSet.rules_id`) judged; None where there are none.

    None also for a file that an earlier version published: it does not say which rules judged.
    """
    if not published.rows("SELECT 1 FROM duckdb_views() WHERE view_name = 'rule_sets' AND NOT internal"):
        return None
    (row,) = published.rows(_OTHER_RULES, rules_id=rules_id)
    return OtherRules(**row) if row["n_calls"] else None


@dataclass(frozen=True, slots=True)
class JudgedAnalysis:
    """A stored analysis and what its rules said."""

    analysis_key: int
    call_id: str
    visible: bool  # of the ensemble that people see
    flagged: bool
    reasons: tuple[str, ...]


def judged_otherwise(store: Store, window: Window, rules_id: str) -> list[JudgedAnalysis]:
    """Analyses of a window that other rules judged, in order of time; of every ensemble."""
    rows = store.rows(_JUDGED_OTHERWISE, [window.since, window.until, rules_id])
    return [
        JudgedAnalysis(key, call_id, visible, flagged, tuple(reasons))
        for key, call_id, visible, flagged, reasons in rows
    ]


def n_judged(store: Store, window: Window, rules_id: str) -> int:
    """Calls of a window that people see as these rules judge them."""
    ((n,),) = store.rows(_N_JUDGED, [window.since, window.until, rules_id])
    return int(n)


def write_assessments(store: Store, calls: Mapping[int, CallAnalysis]) -> None:
    """Store what `assess` made of stored analyses, by their keys; turns, segments and votes stay.

    Raises:
        StoreError: nothing of it was kept.
    """
    frames: dict[str, list[pl.DataFrame]] = {}
    for key, call in calls.items():
        for name, frame in assessment_frames(call).items():
            keyed = frame.select(pl.lit(key, pl.Int32).alias("analysis_key"), pl.all())
            frames.setdefault(name, []).append(keyed)
    tables = {name: pl.concat(parts) for name, parts in frames.items()}
    columns = [name for name in tables["analyses"].columns if name != "analysis_key"]
    with store.transaction(f"judge {len(calls)} calls again"), store.registered(tables):
        run = store.connection.execute
        run(NOTE_RULES)
        run(
            f"UPDATE base.analyses a SET revision = uuid(), {', '.join(f'{c} = b.{c}' for c in columns)}"  # noqa: S608
            " FROM batch_analyses b WHERE a.analysis_key = b.analysis_key"
        )
        for table in ("escalations", "call_measures"):
            run(
                f"DELETE FROM base.{table} WHERE analysis_key IN"  # noqa: S608
                " (SELECT analysis_key FROM batch_analyses)"
            )
            if table in tables:
                run(f"INSERT INTO base.{table} BY NAME FROM batch_{table}")
