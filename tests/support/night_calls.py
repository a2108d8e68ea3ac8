"""When the demonstration's calls are, how its files are told apart, and nights without worker processes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

if TYPE_CHECKING:  # every test comes through here
    from callanalytics.records import FoundRecording, Outcome
    from jobs.night.local_engine import Prepare

# Where summer time has begun nine days before: local and universal days differ by four hours.
DAY = date(2026, 3, 17)
ZONE = ZoneInfo("America/New_York")
WINDOW = ("--since", "2026-03-17", "--until", "2026-03-18")
"""Options of a run or a report that take in all of them, read in any zone near."""


def without_numbers(name: str) -> str:
    """A file's name with the caller's number masked; the database holds a salted hash in its place."""
    return re.sub(r"caller~[0-9a-f]+|\d{10,15}", "*", name)


@contextmanager
def analysing_here() -> Iterator[None]:
    """Nights and backfills analyse in this process, in the order of the recordings.

    With one thread, as workers do: more would sum in another order.
    """
    from jobs.night.local_engine import FirstWorker

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FirstWorker, "start", lambda _: None)
        for user in ("jobs.night.run", "jobs.models.backfill"):
            patched.setattr(f"{user}.analyze_all", _analyse_here)
        yield


def _analyse_here(
    recordings: Sequence[FoundRecording],
    prepare: Prepare,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    **_: object,
) -> Iterator[Outcome]:
    from threadpoolctl import threadpool_limits

    from jobs.night.local_engine import outcome_of

    analyze = prepare() if recordings else None
    for found in recordings:
        if analyze is None or stop_requested():
            return
        with threadpool_limits(1):
            outcome = outcome_of(analyze, found)
        yield outcome
