"""Fixtures shared by all tests: real data, a random generator, and what is costly to make and made once.

What a session makes once lies in its temporary folder, where all workers of pytest-xdist find it. Tests only
read it; who writes takes a copy.
"""

from __future__ import annotations

import gc
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from night_calls import DAY, WINDOW, ZONE, analysing_here

# Shared machines stall at random: examples are judged by what they show, not by how long they take.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# 10 seconds and more each: first, so that no worker is left with one of them at the end. Those with a
# browser, which wait much, have others beside them.
LONGEST = (
    "test_app_browser",
    "test_night",
    "test_review_browser",
    "test_purge",
    "test_report_browser",
    "test_faults",
    "test_publishing",
    "test_rejudge",
    "test_demo",
    "test_train",
    "test_backfill",
    "test_training_commands",
    "test_retrain",
    "test_relabel",
    "test_words_of_a_night",
)

# Workers that compile librosa's functions at the same moment leave a mixed cache that kills whoever reads it
# (numba issue 10128): each keeps its own. Numba reads the variable when imported, so it is set first; the
# workers inherit that of the process that starts them and set theirs over it.
COMPILED = Path(__file__).parent / ".numba" / os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["NUMBA_CACHE_DIR"] = str(COMPILED)
os.environ["NUMBA_OPT"] = "0"  # what is compiled runs for less time than it would take to make it faster

# Python looks for unreachable circles after every 700 new objects, and often among all that is imported.
gc.set_threshold(20_000, 20, 20)

MadeOnce = Callable[[str, Callable[[Path], Any]], tuple[Path, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the order inside a file and of all others stays. `data_dir` makes a mark."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("data")


def pytest_collection_finish() -> None:
    """What is imported by now stays until the end: nobody needs to look whether it can go."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds a lock held gives up at once instead of waiting some seconds for it."""
    monkeypatch.setattr("callanalytics.workspace.PATIENCE_S", 0.0)


@pytest.fixture(scope="module")
def analysed_here() -> Iterator[None]:
    """For modules about what nights store and show: they analyse in this process.

    A worker process takes 0.7 s to load what is loaded here once. That nights have workers, and what becomes
    of them, is for `test_night`, `test_faults`, `test_engines`, `test_damage` and others without this.
    """
    with analysing_here():
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """`made_once(name, make)`: a folder that `make(folder)` fills, and what it returned; once a session."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def once(name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
        folder, answer = root / "shared" / name, root / "shared" / f"{name}.pickle"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not answer.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
                folder.mkdir()
                answer.write_bytes(pickle.dumps(make(folder)))
        return folder, pickle.loads(answer.read_bytes())

    return once


@pytest.fixture(scope="session", autouse=True)
def tables_made_once(made_once: MadeOnce) -> Iterator[None]:
    """A new working database gets the tables, views and 955 comments of one that was made: 0.04 s, not 0.22.

    Processes of their own make theirs, and so does `test_schema`.
    """
    from callanalytics.store import open as opening
    from callanalytics.store.schema import Descriptors, schema_version, shipped_migrations, upgrade
    from callanalytics.workspace import Workspace

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(opening, "upgrade", upgrade)
            opening.open_work(Workspace(folder)).close()

    def copy_or_upgrade(connection: Any, migrations: Any, descriptors: Descriptors) -> None:
        is_shipped = tuple(migrations) == shipped_migrations() and descriptors == Descriptors.current()
        if is_shipped and schema_version(connection) == 0:
            made = Workspace(made_once("tables", make)[0]).work_database
            ((name,),) = connection.execute("SELECT current_database()").fetchall()
            connection.execute(f"ATTACH '{made}' AS made (READ_ONLY)")
            connection.execute(f'COPY FROM DATABASE made TO "{name}"')
            connection.execute("DETACH made")
        upgrade(connection, migrations, descriptors)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(opening, "upgrade", copy_or_upgrade)
        yield


@pytest.fixture(scope="session")
def librosa_ready(made_once: MadeOnce) -> None:
    """The first worker that needs librosa compiles its functions, which takes 11 s; the others copy them."""

    def compile_them(folder: Path) -> None:
        import librosa

        spectrum = librosa.feature.melspectrogram(y=np.zeros(4096, np.float32), sr=8000, n_fft=512)
        librosa.feature.mfcc(S=librosa.power_to_db(spectrum), n_mfcc=13)
        shutil.copytree(COMPILED, folder / "compiled")

    folder, _ = made_once("librosa", compile_them)
    shutil.copytree(folder / "compiled", COMPILED, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def demo(made_once: MadeOnce) -> Any:
    """The demonstration's calls, all of one day (`night_calls.WINDOW`)."""
    from callanalytics.demo import build_demo

    return made_once("demo", lambda folder: build_demo(folder / "calls", day=DAY, zone=ZONE))[1]


@pytest.fixture(scope="session")
def night(demo: Any, made_once: MadeOnce) -> tuple[Path, dict[str, Any]]:
    """The output folder of one run over the demonstration, and what the run said."""
    from command_line import run_json

    folder, result = made_once(
        "night", lambda made: run_json(*WINDOW, "--input", demo.folder, "--out", made / "out", expect=3)
    )
    return folder / "out", result


@pytest.fixture(scope="session")
def empty_out(made_once: MadeOnce) -> Path:
    """An output folder whose working database has its tables and nothing in them; to be copied."""
    from callanalytics.store import open_work
    from callanalytics.workspace import Workspace

    def make(folder: Path) -> None:
        with open_work(Workspace(folder / "out")):
            pass

    return made_once("empty", make)[0] / "out"


@pytest.fixture(scope="session")
def plausible_out(made_once: MadeOnce) -> Path:
    """A published output folder of all plausible calls (`fixture_calls`), reviews included."""
    from fixture_calls import fill

    from callanalytics.store import open_work, publish
    from callanalytics.workspace import Workspace

    def make(folder: Path) -> None:
        with open_work(Workspace(folder / "out")) as store:
            fill(store)
            publish(store)

    return made_once("plausible", make)[0] / "out"


@pytest.fixture(scope="session")
def guide_out(made_once: MadeOnce) -> Path:
    """A published output folder of what the guide to SQL asks; to be copied."""
    from sql_guide import fixture_database

    return made_once("guide", lambda folder: str(fixture_database(folder)))[0] / "out"
