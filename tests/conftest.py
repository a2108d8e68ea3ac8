"""Fixtures shared by all tests: where the real data is, and a seeded random generator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Shared machines stall at random: examples are judged by what they show, not by how long they take.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with `corpora/`, `calls/` and `diarization/`, or a skip that says how to get it."""
    configured = os.environ.get("CALLANALYTICS_DATA")
    folder = Path(configured) if configured else Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "calls").is_dir():
        pytest.skip(f"real recordings not found in {folder}: set CALLANALYTICS_DATA to their folder")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260101)
