"""One report in every form, made once a session. Tests read it; who writes takes `anew`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_sites import Site, every_form


@pytest.fixture(scope="session")
def site(made_once: Callable[..., tuple[Path, Any]]) -> Site:
    """The folder, the single file and the mail; see `every_form`."""
    folder, _ = made_once("reports", lambda made: every_form(made / "out"))
    return Site(folder / "out" / "callanalytics.duckdb", folder / "out" / "reports")


@pytest.fixture(scope="session")
def redacted(site: Site) -> Site:
    """The same without sound and names."""
    return Site(site.database, site.database.parent / "redacted")


@pytest.fixture
def anew(site: Site, tmp_path: Path) -> Site:
    """The same database with a folder to write to."""
    return Site(site.database, tmp_path / "reports")
