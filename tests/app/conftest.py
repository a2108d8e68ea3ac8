"""What the tests of the app share: one published site a session, only read; who writes copies it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from app_calls import FloatArray, publish_calls, voice


@pytest.fixture(scope="session")
def site(made_once: Any) -> Path:
    """An output folder with 48 published calls, of which the flagged ones can be played."""

    def make(folder: Path) -> None:
        publish_calls(folder / "out")

    folder: Path = made_once("app-site", make)[0]
    return folder / "out"


@pytest.fixture(scope="session")
def speech() -> FloatArray:
    """A synthesised sentence."""
    return voice()
