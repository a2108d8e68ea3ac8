"""Parquet files of the results: the same rows and types, all or nothing, nothing else destroyed."""

from __future__ import annotations

import ctypes
import json
import stat
from pathlib import Path
from types import SimpleNamespace

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner
from fixture_calls import CALLS_A_DAY, N_DAYS
from sql_guide import fixture_database

from callanalytics.errors import StoreError, UsageError
from callanalytics.store import open_work, publish
from callanalytics.store.parquet import DATED, OF_CALLS, UNDATED, export
from callanalytics.workspace import Workspace
from jobs.cli.main import cli


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture_database(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def exported(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / 'it\'s for "polars"'
    export(database, folder)
    return folder


def published(database: Path, sql: str) -> pl.DataFrame:
    with duckdb.connect(database, read_only=True) as reader:
        return reader.sql(sql).pl()


@pytest.mark.parametrize("view", [*DATED, *OF_CALLS])
def test_polars_reads_the_rows_of_the_view_by_day(database: Path, exported: Path, view: str) -> None:
    frame = pl.read_parquet(exported / view / "**/*.parquet", hive_partitioning=True)
    assert frame.schema["day"] == pl.Date
    assert frame.height == published(database, f"SELECT count(*) AS n FROM {view}").item() > 0
    sql = f"SELECT DISTINCT day FROM calls WHERE call_id IN (SELECT call_id FROM {view})"
    days = published(database, sql)["day"]
    assert set(days) == set(frame["day"].unique())
    assert {f"day={day}" for day in days} == {path.name for path in (exported / view).iterdir()}


def test_a_view_without_rows_keeps_its_columns(database: Path, exported: Path, tmp_path: Path) -> None:
    out = Workspace(tmp_path / "out")
    with open_work(out) as store:
        publish(store)
    export(out.database, tmp_path / "empty")
    for view in (*DATED, *OF_CALLS):
        frame = pl.read_parquet(tmp_path / "empty" / view / "**/*.parquet", hive_partitioning=True)
        full = pl.read_parquet(exported / view / "**/*.parquet", hive_partitioning=True)
        assert (frame.height, frame.schema) == (0, full.schema)
    for view in UNDATED:
        frame = pl.read_parquet(tmp_path / "empty" / f"{view}.parquet")
        assert frame.schema == pl.read_parquet(exported / f"{view}.parquet").schema


def test_values_and_types_are_those_of_the_database(database: Path, exported: Path) -> None:
    columns = "call_id, role, start_s, emotion, confidence, tie_broken, started_at, day"
    order = "ORDER BY call_id, start_s, role"
    wanted = published(database, f"SELECT {columns} FROM segment_emotions {order}")
    files = pl.scan_parquet(exported / "segment_emotions" / "**/*.parquet", hive_partitioning=True)
    found = files.select(columns.split(", ")).collect().sort("call_id", "start_s", "role")
    text = [pl.col("role").cast(pl.String), pl.col("emotion").cast(pl.String)]
    assert found.with_columns(text).equals(
        wanted.with_columns(text).cast({"started_at": pl.Datetime("us", "UTC")})
    )
    assert found.schema["started_at"] == pl.Datetime("us", "UTC")
    assert (found.schema["start_s"], found.schema["confidence"]) == (pl.Float64, pl.Float32)
    folder = str(exported).replace("'", "''")
    with duckdb.connect() as other:
        types = dict(
            other.execute(
                "SELECT column_name, column_type FROM (DESCRIBE FROM"
                f" read_parquet('{folder}/call_summary/**', hive_partitioning = true))"
            ).fetchall()
        )
        (row,) = other.execute(
            f"SELECT count(*), sum(frustration_score) FROM read_parquet('{folder}/call_summary/**',"
            " hive_partitioning = true) WHERE day >= DATE '2025-04-01'"
        ).fetchall()
    assert (types["day"], types["started_at"]) == ("DATE", "TIMESTAMP WITH TIME ZONE")
    assert (types["started_local"], types["flagged"], types["reasons"]) == (
        "TIMESTAMP",
        "BOOLEAN",
        "VARCHAR[]",
    )
    score = published(database, "SELECT sum(frustration_score) FROM call_summary WHERE day = '2025-04-01'")
    assert row == (CALLS_A_DAY, pytest.approx(score.item()))


@pytest.mark.parametrize("view", UNDATED)
def test_what_belongs_to_no_day_is_one_file(database: Path, exported: Path, view: str) -> None:
    frame = pl.read_parquet(exported / f"{view}.parquet")
    assert frame.height == published(database, f"SELECT count(*) AS n FROM {view}").item()
    assert frame.columns == published(database, f"FROM {view} LIMIT 0").columns


def test_files_are_for_their_owner_only(exported: Path) -> None:
    for path in (exported, *exported.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_exporting_again_replaces_the_whole(database: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    with open_work(Workspace(tmp_path / "empty")) as store:
        nothing = publish(store)
    export(database, folder)
    reader = (folder / "runs.parquet").open("rb")  # who has a file open keeps it
    done = export(nothing, folder)
    assert sum(done.n_rows[view] for view in (*DATED, *OF_CALLS)) == 0
    assert sum(pl.read_parquet(path).height for path in folder.glob("*/day=*/*.parquet")) == 0
    assert pl.read_parquet(reader).height == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert json.loads((folder / "export.json").read_text())["n_rows"] == done.n_rows


@pytest.mark.parametrize("exchange", [True, False])
def test_a_failed_export_keeps_the_last_one(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    folder = tmp_path / "export"
    if not exchange:
        # A C library without renameat2.
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
    export(database, folder)
    first = (folder / "export.json").read_text()
    with monkeypatch.context() as patched:

        def full(*_: object, **__: object) -> int:
            raise OSError(28, "No space left on device")

        patched.setattr(Path, "write_text", full)
        with pytest.raises(StoreError, match=r"an earlier export is unchanged.*No space left"):
            export(database, folder)
    assert (folder / "export.json").read_text() == first
    export(database, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_folder_with_something_else_in_it_is_left_alone(database: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").write_text("dear")
    (tmp_path / "link").symlink_to(tmp_path / "letters")
    for folder in (tmp_path / "letters", tmp_path / "link", tmp_path / "letters" / "love.txt"):
        with pytest.raises(UsageError, match=r"holds files that are no export|is no folder"):
            export(database, folder)
    assert (tmp_path / "letters" / "love.txt").read_text() == "dear"


def test_the_command_says_what_it_wrote(database: Path, tmp_path: Path) -> None:
    target = tmp_path / "export"
    done = CliRunner().invoke(cli, ["export", str(target), "--out", str(database.parent), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_rows"]["call_summary"] == N_DAYS * CALLS_A_DAY
    with pytest.raises(UsageError, match="no results here yet"):
        export(tmp_path / "none.duckdb", target)
