"""What the tests of the app share: one published site a session, only read; who writes copies it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from app_calls import FloatArray, publish_calls, voice

from callanalytics.workspace import Workspace


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's AppTest puts its script in the place of `__main__`, where spawned workers would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def site(made_once: Any) -> Workspace:
    """An output folder with 48 published calls, of which the flagged ones can be played."""

    def make(folder: Path) -> None:
        publish_calls(folder / "out")

    return Workspace(made_once("app-site", make)[0] / "out")


@pytest.fixture(scope="session")
def speech() -> FloatArray:
    """A synthesised sentence."""
    return voice()
