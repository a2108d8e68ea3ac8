"""Stand-ins for the analysis, importable by the worker processes of the tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from callanalytics.analysis.call import CallAnalysis
from callanalytics.errors import TruncatedAudio
from callanalytics.records import CallFacts, FoundRecording, Recording, TimeSource
from jobs.night import limits

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def found_recording(name: str) -> FoundRecording:
    recording = Recording(recording_id=name.ljust(64, "0"), paths=(Path(name),), n_bytes=1, modified_at=START)
    facts = CallFacts("none", 0.0, started_at=START, started_at_source=TimeSource.FILE_TIME, zone="UTC")
    return FoundRecording(recording, facts)


def prepare() -> Callable[[FoundRecording], CallAnalysis]:
    """Analysis that answers with the file's name, or does what the name says."""
    return _behave


def prepare_small() -> Callable[[FoundRecording], CallAnalysis]:
    """The same on a machine of little memory."""
    limits.LEAST_BYTES = 1 << 28
    limits.memory_bytes = lambda: 1 << 30
    return _behave


def cannot_load() -> Callable[[FoundRecording], CallAnalysis]:
    """Models that are not there."""
    raise FileNotFoundError("no models")


def _behave(found: FoundRecording) -> CallAnalysis:
    name = found.recording.path.name
    if name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hang":
        time.sleep(3600)
    if name == "truncated":
        raise TruncatedAudio(f"{name}: 3 s found, 9 s declared")
    if name == "bug":
        raise ZeroDivisionError("oops")
    if name == "greedy":
        bytes(1 << 31)
    if name == "threads":
        return cast(CallAnalysis, f"{name} {os.environ['OPENBLAS_NUM_THREADS']}")
    time.sleep(0.3 if name.startswith("slowly") else 0.01)
    return cast(CallAnalysis, name)
