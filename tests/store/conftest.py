"""A new store, a filled one, and some calls."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fixture_calls import plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.store import open_work
from callanalytics.workspace import Workspace


@pytest.fixture(scope="module")
def calls() -> list[CallAnalysis]:
    return plausible_calls(3, 4)


@pytest.fixture
def store(empty_out: Path, tmp_path: Path):
    with open_work(Workspace(shutil.copytree(empty_out, tmp_path / "out"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def filled(plausible_out: Path, tmp_path_factory: pytest.TempPathFactory):
    out = shutil.copytree(plausible_out, tmp_path_factory.mktemp("filled") / "out")
    with open_work(Workspace(out)) as opened:
        yield opened
