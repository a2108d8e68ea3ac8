"""What the tests of the store ask of it again and again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fixture_calls import (
    ENSEMBLE_ID,
    LABELS,
    MEMBERS,
)

from callanalytics.analysis import RECIPE
from callanalytics.config.window import Window
from callanalytics.store import RunCounts, Store


def count(store: Store, relation: str) -> int:
    row = store.connection.execute(f"SELECT count(*) FROM {relation}").fetchone()
    assert row is not None
    return int(row[0])


def one(store: Store, sql: str, *values: object) -> object:
    row = store.connection.execute(sql, list(values)).fetchone()
    assert row is not None
    return row[0]


def begin(store: Store, *, recipe: int | None = None) -> int:
    now = datetime(2026, 3, 31, tzinfo=UTC)
    store.register_ensemble(ENSEMBLE_ID, {"name": "x"}, LABELS, MEMBERS)
    store.promote_ensemble(ENSEMBLE_ID)
    settings = {"recipe": RECIPE if recipe is None else recipe}
    return store.begin_run(Window(now - timedelta(days=1), now), ENSEMBLE_ID, "0.1.0", settings=settings)


def end(store: Store, run_id: int, exit_code: int = 3) -> None:
    store.end_run(run_id, RunCounts(n_found=2, n_new=2, n_quarantined=2), exit_code=exit_code)


def named(relation: tuple[str, str, str]) -> str:
    schema, name, _ = relation
    return name if schema == "main" else f"{schema}.{name}"
