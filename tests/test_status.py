"""Status: drift is said when there is some, and older files without the view are no trouble."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from fixture_calls import fill, plausible_calls

from callanalytics.store import open_work, publish, work_database
from jobs.status import read_status, render_status

ROW = {"measure": "label_mix", "value": 0.4, "usual": 0.05, "n_crossed": 4, "n_days": 7, "retrain": True}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("status") / "out"
    with open_work(folder) as store:
        fill(store, plausible_calls())
        publish(store, folder)
    return folder


def test_steady_calls_say_nothing_of_drift(out: Path) -> None:
    status = read_status(out)
    assert {row["measure"] for row in status["drift"]} >= {"label_mix", "codec_mix", "confidence"}
    assert "Drift" not in render_status({**status, "drift": [{**ROW, "n_crossed": 0, "retrain": False}]})


def test_drift_is_said_and_suggests_retraining_only_when_it_lasts(out: Path) -> None:
    status = read_status(out)
    text = render_status({**status, "drift": [ROW]})
    assert "label_mix: 0.4, usual 0.05; beyond its threshold on 4 of 7 days  MOVED" in text
    assert "callanalytics retrain" in text
    once = render_status({**status, "drift": [{**ROW, "n_crossed": 1, "retrain": False}]})
    assert "Drift" in once
    assert "callanalytics retrain" not in once


def test_a_file_of_an_earlier_version_has_no_drift_yet(out: Path, tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "callanalytics.duckdb").write_bytes((out / "callanalytics.duckdb").read_bytes())
    with duckdb.connect(str(tmp_path / "callanalytics.duckdb")) as connection:
        connection.execute("DROP VIEW drift_now")
    assert read_status(tmp_path)["drift"] == []
    render_status(read_status(tmp_path))


def test_a_first_run_that_was_killed_before_its_tables_leaves_nothing_to_tell(tmp_path: Path) -> None:
    database = work_database(tmp_path / "out")
    database.parent.mkdir(parents=True)
    duckdb.connect(database).close()
    status = read_status(tmp_path / "out")
    assert status["database"] is None
    assert status["totals"] == {}
    assert render_status(status)
    with open_work(tmp_path / "out"):
        pass
    assert read_status(tmp_path / "out")["totals"]["n_calls"] == 0
