"""Results in DuckDB: one writer, a published copy for everybody else.

open_work(workspace) -> Store  the working database, for a run
publish(store) -> Path         the copy that people and reports read
query                          reading the published copy
"""

from callanalytics.store.open import open_locked, open_work
from callanalytics.store.publish import publish
from callanalytics.store.review_rows import Review
from callanalytics.store.writer import Correction, RunCounts, Store

__all__ = ["Correction", "Review", "RunCounts", "Store", "open_locked", "open_work", "publish"]
