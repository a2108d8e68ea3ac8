"""Which rules judged which calls, and calls judged again by others. No sound, no inference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from callanalytics.analysis import RECIPE
from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import PHRASE, RuleSet, Settings
from callanalytics.config.window import Window
from callanalytics.diarize.quality import Quality
from callanalytics.diarize.roles import SURE_OF_THE_AGENT
from callanalytics.records import Role
from callanalytics.records.text import counted
from callanalytics.store.query import Published
from callanalytics.store.rows import NOTE_RULES, assessment_frames, frame_of, stored
from callanalytics.store.writer import Store

Rule = dict[str, Any]  # of `RuleSet.rules`
Tables = dict[str, Any]

_OTHER_RULES = """
SELECT count(*) AS n_calls, count(*) FILTER (WHERE rules_id IS NULL) AS n_unknown
FROM call_summary WHERE rules_id IS DISTINCT FROM $rules_id
"""
# Analyses of a window that other rules judged. The places are for `since`, `until` and the fingerprint.
_OTHERWISE = """
SELECT a.analysis_key, a.call_id, e.promoted, a.flagged, a.reasons
FROM base.analyses a JOIN base.calls c USING (call_id) JOIN base.ensembles e USING (ensemble_id)
WHERE c.started_at >= ? AND c.started_at < ? AND a.rules_id IS DISTINCT FROM ?
"""
_JUDGED_OTHERWISE = f"{_OTHERWISE} ORDER BY c.started_at, a.call_id, a.analysis_key"
# Of these, the ones on which changed rules say what the rules before said: no escalation comes, goes or reads
# otherwise. A voice that may be the caller's has no measures of its own in the store, only the highest score.
_SAME = """
WITH changed AS (
    SELECT unnest(?::VARCHAR[]) AS name, unnest(?::VARCHAR[]) AS role, unnest(?::VARCHAR[]) AS period,
        unnest(?::DOUBLE[]) AS at_least
),
touched AS (
    SELECT analysis_key FROM base.escalations WHERE list_contains(?::VARCHAR[], rule)
    UNION SELECT m.analysis_key FROM base.call_measures m JOIN changed c ON m.name = c.name
        AND m.role::VARCHAR IS NOT DISTINCT FROM c.role AND m.period::VARCHAR = c.period
    WHERE m.value >= c.at_least
    UNION SELECT analysis_key FROM base.utterances WHERE ?
    UNION SELECT analysis_key FROM base.analyses
    WHERE (role_confidence < ? OR list_has_any(quality, ?::VARCHAR[])
        OR analysis_key IN (SELECT analysis_key FROM base.segments WHERE role = 'unknown'))
        AND coalesce(frustration_score, 0) >= ?
)
SELECT a.analysis_key, e.promoted
FROM base.analyses a JOIN base.calls c USING (call_id) JOIN base.ensembles e USING (ensemble_id)
WHERE a.rules_id = ? AND a.recipe = ? AND c.started_at >= ? AND c.started_at < ?
    AND a.analysis_key NOT IN (SELECT analysis_key FROM touched)
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


def judged_the_same(store: Store, window: Window, settings: Settings) -> dict[int, bool]:
    """Of the analyses that other rules judged, those on which the new ones say the same by what is stored.

    Known where measures were made by these settings of `[frustration]` and this recipe. Returned by key, with
    whether people see them.
    """
    new = settings.rule_set
    same: dict[int, bool] = {}
    for old_id, old in store.rows("SELECT rules_id, rules FROM base.rule_sets"):
        if old_id == new.rules_id:
            continue
        difference = _difference(json.loads(old), json.loads(new.rules))
        if difference is None:
            continue
        names, changed = difference
        others = [rule for rule in changed if rule["measure"] != PHRASE]
        # The frustration of no voice is above the score; of other measures of such a voice nothing is known.
        of_callers = [rule for rule in changed if rule["role"] == Role.CALLER.value]
        bounded = all(rule["measure"] in _UNDER_THE_SCORE for rule in of_callers)
        lowest = min((rule["at_least"] for rule in of_callers), default=2.0) if bounded else -1.0
        rows = store.rows(
            _SAME,
            [
                [rule["measure"] for rule in others],
                [None if rule["role"] == "any" else rule["role"] for rule in others],
                [rule["window"] for rule in others],
                [rule["at_least"] for rule in others],
                names,
                len(others) < len(changed),
                *(SURE_OF_THE_AGENT, [Quality.MIXED_VOICES.value, Quality.THREE_VOICES.value], lowest),
                *(old_id, RECIPE, window.since, window.until),
            ],
        )
        same.update(rows)
    return same


# Measures of a voice that are never above the highest point of its curve.
_UNDER_THE_SCORE = ("frustration", "frustration_peak")


def _difference(old: Tables, new: Tables) -> tuple[list[str], list[Rule]] | None:
    """Names of rules whose fulfilment must be looked at anew, and the rules that are not as before.

    None where the curve is another one, so that nothing that is stored can say.
    """
    curves = [{**tables["frustration"], "flag_weight": None} for tables in (old, new)]
    if curves[0] != curves[1]:
        return None
    changed = [rule for rule in new["rule"] if rule not in old["rule"]]
    gone = [rule for rule in old["rule"] if rule not in new["rule"]]
    kept, before = ([r for r in a["rule"] if r in b["rule"]] for a, b in ((new, old), (old, new)))
    weighs_otherwise = old["frustration"]["flag_weight"] != new["frustration"]["flag_weight"]
    looked_at = [*changed, *gone, *(kept if kept != before or weighs_otherwise else [])]
    return [rule["name"] for rule in looked_at], changed


def note_rules(store: Store, analysis_keys: Sequence[int], rule_set: RuleSet) -> None:
    """Note that these rules judge some analyses as they were judged before.

    Raises:
        StoreError: nothing of it was kept.
    """
    purpose = f"judge {len(analysis_keys)} calls again"
    with store.transaction(purpose), store.registered({"rule_sets": frame_of([stored(rule_set)])}):
        store.connection.execute(NOTE_RULES)
        store.connection.execute(
            "UPDATE base.analyses SET rules_id = ? WHERE analysis_key IN (SELECT unnest(?::INTEGER[]))",
            [rule_set.rules_id, list(analysis_keys)],
        )


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
