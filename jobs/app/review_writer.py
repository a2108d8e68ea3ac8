"""What people say in the app on the way to the next run: through the inbox, never into a database.

`reviews.give` would put a review into the working database at once when no run is at work, where the
app cannot see it until something is published. In the inbox it stays visible, and the end of the next
run takes it in and publishes it.
"""

from __future__ import annotations

from typing import Any

from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.store import Review
from callanalytics.store.review_rows import check_review
from callanalytics.workspace import Workspace
from jobs.app.published import reading
from jobs.reviews.queue import put, read_reviews, waiting


def record_review(workspace: Workspace, review: Review) -> None:
    """Check a review against the published results and leave it for the next run, also during a run.

    Raises UsageError when what it names is not there or it is too long, StoreError as `reading`, or OSError.
    """
    with reading(workspace.database, Settings()) as source:
        check_review(source.published.connection, review)
    put(workspace, [review])


def waiting_reviews(workspace: Workspace, call_id: str) -> list[dict[str, Any]]:
    """Reviews of a call that no run has taken in yet, oldest first."""
    found: list[dict[str, Any]] = []
    for path in waiting(workspace):
        try:
            reviews = read_reviews(path)
        except UsageError:  # taken in at this moment, or no review: the next run says so
            continue
        found += [
            {
                "verdict": review.verdict,
                "rule": review.rule,
                "segment": review.segment,
                "emotion": review.emotion,
                "note": review.note,
                "reviewer": review.reviewer,
            }
            for review in reviews
            if review.call_id == call_id
        ]
    return found
