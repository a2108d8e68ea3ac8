"""Time what the review queue asks of many calls: its cards, its misses, and what every threshold would flag.

    PYTHONPATH=tests/support python benchmarks/review_queue.py --calls 100_000 --out DIR

The plausible calls of the tests (96, with about 30 segments each) are copied in SQL under new ids until there
are so many. Times are the best of three, the file opened anew each time, as the app does. The slider itself
asks nobody: the page holds a row for every threshold.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from fixture_calls import RULES, ZONE, fill, plausible_calls

from callanalytics.config import Settings, TimeSettings
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace
from jobs.app.context import AppContext
from jobs.reviews.piles import read_misses, read_queue, read_thresholds, window_of
from reports.report_source import Source

SETTINGS = Settings(time=TimeSettings(zone=ZONE), rule=RULES)
# Tables that hold a row of a call, and those that hang on its analysis.
OF_CALL, OF_ANALYSIS = ("calls",), ("segments", "call_measures", "escalations")
NEW_ID = "substr(sha256(call_id || ' ' || copy), 1, 16)"


def build(workspace: Workspace, n_calls: int) -> int:
    """Publish the plausible calls and copy them until there are about `n_calls`; returns how many."""
    calls = plausible_calls()
    with open_work(workspace) as store:
        fill(store, calls)
        publish(store)
    n_copies = n_calls // len(calls)
    with duckdb.connect(workspace.database) as database:
        ((step,),) = database.execute("SELECT max(analysis_key) + 1 FROM base.analyses").fetchall()
        copies = f"range(1, {n_copies}) AS copies(copy)"
        for table in OF_CALL:
            database.execute(
                f"INSERT INTO base.{table} SELECT * EXCLUDE (copy) REPLACE ({NEW_ID} AS call_id)"
                f" FROM (FROM base.{table}, {copies})"
            )
        database.execute(
            f"INSERT INTO base.analyses SELECT * EXCLUDE (copy) REPLACE ({NEW_ID} AS call_id,"
            f" (analysis_key + copy * {step})::INTEGER AS analysis_key) FROM (FROM base.analyses, {copies})"
        )
        for table in OF_ANALYSIS:
            database.execute(
                f"INSERT INTO base.{table} SELECT * EXCLUDE (copy)"
                f" REPLACE ((analysis_key + copy * {step})::INTEGER AS analysis_key)"
                f" FROM (FROM base.{table}, {copies})"
            )
        database.execute("CHECKPOINT")
        ((n,),) = database.execute("SELECT count(*) FROM call_summary").fetchall()
    return int(n)


def best_of_three(here: AppContext, ask: Callable[[Source], Any]) -> dict[str, float]:
    """Seconds on the clock and of the processor, the file being opened each time."""
    wall_s, cpu_s = [], []
    for _ in range(3):
        began, used = time.perf_counter(), time.process_time()
        with here.calls.reading() as source:
            ask(source)
        wall_s.append(time.perf_counter() - began)
        cpu_s.append(time.process_time() - used)
    return {"wall_s": round(min(wall_s), 3), "cpu_s": round(min(cpu_s), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    workspace = Workspace(options.out)
    n_calls = build(workspace, options.calls)
    here = AppContext(SETTINGS, workspace)
    asked = {
        "queue of 7 days": lambda source: read_queue(source, window_of(source, 7), {}),
        "misses": lambda source: read_misses(source, {}),
        "all thresholds": lambda source: read_thresholds(source, window_of(source, 0), {}),
    }
    result = {what: best_of_three(here, ask) for what, ask in asked.items()}
    print(json.dumps({"calls": n_calls, "database_mb": workspace.database.stat().st_size // 10**6, **result}))


if __name__ == "__main__":
    main()
