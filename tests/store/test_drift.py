"""Drift in SQL: silent while nothing changes, loud about the thing that did, by the published formulas."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_calls import ENSEMBLE_ID, LABELS, LAST_DAY, MEMBERS, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config.window import Window
from callanalytics.store import Store, open_work
from callanalytics.store.schema import shipped_migrations
from callanalytics.workspace import Workspace

N_DAYS, A_DAY, CHANGED_DAYS = 18, 14, 3
MEASURES = {"abstained_share", "agreement", "codec_mix", "confidence", "label_mix", "level_db"}


def is_late(call: CallAnalysis) -> bool:
    return call.facts.started_at.date() > LAST_DAY - timedelta(days=CHANGED_DAYS)


def filled(folder: Path, calls: list[CallAnalysis]) -> Store:
    store = open_work(Workspace(folder / "out"))
    store.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
    store.promote_ensemble(ENSEMBLE_ID)
    window = Window(calls[0].facts.started_at, calls[-1].facts.started_at)
    store.write(calls, store.begin_run(window, ENSEMBLE_ID, "0.1.0"))
    return store


def rows(store: Store, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.connection.sql(sql).pl().to_dicts()
    return found


@pytest.fixture(scope="module")
def calls() -> list[CallAnalysis]:
    """No call stands out: the angry callers of the fixture's newest week are left out."""
    return [call for call in plausible_calls(N_DAYS, A_DAY) if not call.assessment.flagged]


def quieter(call: CallAnalysis) -> CallAnalysis:
    values = call.features.values.copy()
    values[:, call.features.names.index("loudness_db")] -= 15
    return replace(call, features=replace(call.features, values=values))


def other_codec(call: CallAnalysis) -> CallAnalysis:
    return replace(call, audio=replace(call.audio, codec="gsm"))


def less_sure(call: CallAnalysis) -> CallAnalysis:
    return replace(call, votes=replace(call.votes, confidence=call.votes.confidence * np.float32(0.6)))


def split(call: CallAnalysis) -> CallAnalysis:
    return replace(call, votes=replace(call.votes, agreement=call.votes.agreement * np.float32(0.6)))


def all_afraid(call: CallAnalysis) -> CallAnalysis:
    index = np.where(call.votes.emotion_index >= 0, LABELS.index("fear"), -1)
    return replace(call, votes=replace(call.votes, emotion_index=index))


def silenced(call: CallAnalysis) -> CallAnalysis:
    n = len(call.segments)
    index = np.where(np.arange(n) % 2 == 0, -1, call.votes.emotion_index)
    reasons = tuple("low_confidence" if i < 0 else None for i in index)
    return replace(call, votes=replace(call.votes, emotion_index=index, abstain_reason=reasons))


def test_nothing_crosses_while_nothing_changes(calls: list[CallAnalysis], tmp_path: Path) -> None:
    with filled(tmp_path, calls) as store:
        found = rows(store, "FROM drift")
        now = rows(store, "FROM drift_now")
    assert {row["measure"] for row in found} == MEASURES
    assert len({(row["day"], row["measure"]) for row in found}) == len(found)
    crossed = [row for row in found if row["crossed"]]
    assert len(crossed) <= 2  # three standard deviations of few days are exceeded now and then
    assert {row["measure"] for row in now} == MEASURES
    assert not any(row["retrain"] for row in now)
    first = [row for row in found if row["day"] == min(r["day"] for r in found)]
    assert all(row["usual"] is None and row["crossed"] is None for row in first)
    assert all(row["n_usual_calls"] == 0 for row in first)


@pytest.mark.parametrize(
    ("change", "measure", "allowed"),
    [
        (quieter, "level_db", None),
        (other_codec, "codec_mix", None),
        (less_sure, "confidence", None),
        (split, "agreement", None),
        (all_afraid, "label_mix", None),
        (silenced, "abstained_share", "confidence"),  # other segments are left
    ],
)
def test_what_changes_crosses_and_suggests_retraining(
    calls: list[CallAnalysis],
    tmp_path: Path,
    change: Callable[[CallAnalysis], CallAnalysis],
    measure: str,
    allowed: str | None,
) -> None:
    changed = [change(call) if is_late(call) else call for call in calls]
    with filled(tmp_path, changed) as store:
        found = rows(store, f"FROM drift WHERE measure = '{measure}' ORDER BY day")
        now = {row["measure"]: row for row in rows(store, "FROM drift_now")}
    late = found[-CHANGED_DAYS:]
    assert late[0]["crossed"]
    assert abs(late[0]["change"]) > late[0]["threshold"] * (0.9 if measure.endswith("mix") else 1)
    assert sum(bool(row["crossed"]) for row in found[:-CHANGED_DAYS]) <= 1
    assert all(row["crossed"] for row in late)  # a week later it would be usual
    assert now[measure]["retrain"]
    assert not any(row["retrain"] for name, row in now.items() if name not in (measure, allowed))


def test_the_index_of_a_mix_is_the_published_one(calls: list[CallAnalysis], tmp_path: Path) -> None:
    with filled(tmp_path, calls) as store:
        found = {row["day"]: row for row in rows(store, "FROM drift WHERE measure = 'label_mix'")}
    seconds: dict[Any, Counter[str]] = defaultdict(Counter)
    n_calls: Counter[Any] = Counter()
    for call in calls:
        day = call.facts.started_at.date()
        n_calls[day] += 1
        for segment, index in zip(call.segments, call.votes.emotion_index, strict=True):
            if index >= 0:
                seconds[day][LABELS[index]] += segment.duration_s  # type: ignore[assignment]
    days = sorted(seconds)
    counts = {d: {k: n_calls[d] * s / sum(seconds[d].values()) for k, s in seconds[d].items()} for d in days}
    assert len(days) > 7
    for day in days[7:]:
        before = [d for d in days if d <= day - timedelta(days=7)]
        m = {label: sum(counts[d].get(label, 0.0) for d in before) for label in LABELS}
        q = {label: (m[label] + 0.5) / (sum(m.values()) + 0.5 * len(LABELS)) for label in LABELS}
        p = {label: (counts[day].get(label, 0.0) + q[label]) / (n_calls[day] + 1) for label in LABELS}
        index = sum((p[label] - q[label]) * math.log(p[label] / q[label]) for label in LABELS)
        assert found[day]["value"] == pytest.approx(index, rel=1e-6), day
        chance = 20.515 * (1 / n_calls[day] + 1 / sum(m.values()))  # chi-square, 5 degrees, 99.9 %
        assert found[day]["threshold"] == pytest.approx(max(0.25, chance), rel=0.02)


def test_levels_are_the_mean_over_seconds_of_speech(calls: list[CallAnalysis], tmp_path: Path) -> None:
    with filled(tmp_path, calls[:3]) as store:
        stored = rows(
            store,
            "SELECT a.call_id, l.role::VARCHAR AS role, l.level_db FROM base.call_levels l"
            " JOIN base.analyses a USING (analysis_key)",
        )
    assert len(stored) == 6
    for row in stored:
        call = next(c for c in calls if c.recording.call_id == row["call_id"])
        mine = [i for i, s in enumerate(call.segments) if s.role.value == row["role"]]
        weights = [call.segments[i].duration_s for i in mine]
        level = np.average(call.features.column("loudness_db")[mine], weights=weights)
        assert row["level_db"] == pytest.approx(level, abs=1e-3)


def test_a_file_of_the_version_before_gets_the_levels_of_its_calls(
    calls: list[CallAnalysis], tmp_path: Path
) -> None:
    with filled(tmp_path, calls[:5]) as store:
        wanted = rows(store, "FROM base.call_levels ORDER BY ALL")
        for later in shipped_migrations()[2:]:
            for table in re.findall(r"CREATE TABLE (base\.\w+)", later.sql):
                store.connection.execute(f"DROP TABLE IF EXISTS {table}")
            for table, column in re.findall(r"ALTER TABLE (base\.\w+) ADD COLUMN (\w+)", later.sql):
                store.connection.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS {column}")
        store.connection.execute(
            'CREATE TABLE base.features AS SELECT analysis_key, segment, descriptors AS "values"'
            " FROM base.segments"
        )
        store.connection.execute("ALTER TABLE base.segments DROP COLUMN descriptors")
        store.connection.execute("DELETE FROM base.schema_version WHERE version >= 3")
    with open_work(Workspace(tmp_path / "out")) as store:
        assert rows(store, "FROM base.call_levels ORDER BY ALL") == wanted
    assert len(wanted) == 10
