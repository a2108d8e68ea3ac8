"""A store that fails in the middle of a night: said, tried again in the next, never lost or half analysed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import run_command
from fake_s3 import BUCKET, PAGE, FakeS3
from short_calls import results, rows, settle, short_call

pytestmark = pytest.mark.usefixtures("analysed_here")

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install callanalytics[s3]")

SECRET = "s3cr3t-key"
# Keys and how reading them fails in the first night.
FAULTS = {
    "whole": "",
    "busy": "twice 503 SlowDown",  # is tried again, and read
    "broken": "500 InternalError",
    "expired": "403 ExpiredToken",
    "reset": "cut",  # the connection ends in the middle of the object
    "short": "short",  # half of it comes, and HTTP takes it for whole
    "silent": "hang",  # half of it comes, and then nothing
}
READ_AT_ONCE = {"whole", "busy"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    folder = tmp_path / "objects"
    folder.mkdir()
    for seed, key in enumerate(FAULTS):
        short_call(folder / f"{key}.wav", seed, 4.0)
    settle(folder)
    with FakeS3(folder).serving() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # What is patient with a real store is a matter of minutes.
        monkeypatch.setenv("FSSPEC_S3", json.dumps({"config_kwargs": {"read_timeout": 2}}))
        yield store


def night(out: Path, expect: int) -> str:
    words = ("--since", "2000-01-01", "--workers", 1, "--input", f"s3://{BUCKET}", "--out", out)
    said = run_command("run", *words, expect=expect).stderr
    assert SECRET not in said
    return said


@pytest.mark.slow
def test_what_a_store_did_not_give_is_named_and_read_in_the_next_night(store: FakeS3, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store.fault = {f"{key}.wav": fault for key, fault in FAULTS.items() if fault}
    night(out, expect=3)
    database = out / "callanalytics.duckdb"
    read = {Path(path).stem for (path,) in rows(database, "SELECT path FROM calls")}
    assert read == READ_AT_ONCE
    assert rows(database, "SELECT count(*) FROM analyses") == [(len(READ_AT_ONCE),)]
    failed = dict(rows(database, "SELECT path, reason FROM quarantine"))
    assert {Path(path).stem: reason for path, reason in failed.items()} == dict.fromkeys(
        FAULTS.keys() - READ_AT_ONCE, "unreadable"
    )
    for _ in range(2):  # however long it lasts, nothing of it is given up
        night(out, expect=3)
    assert len(rows(database, "SELECT path FROM quarantine")) == len(failed)
    store.fault = {}
    night(out, expect=0)
    night(tmp_path / "undisturbed", expect=0)
    assert results(database) == results(tmp_path / "undisturbed" / "callanalytics.duckdb")


@pytest.mark.parametrize("fault", ["500 InternalError", "403 ExpiredToken"])
def test_a_listing_that_breaks_off_is_no_short_listing(store: FakeS3, tmp_path: Path, fault: str) -> None:
    store.fault = {"list": fault}
    said = night(tmp_path / "out", expect=2)
    assert "does not answer" in said
    assert store.asked[f"list from {PAGE}"] >= 1, "the second page was asked for"
    assert not (tmp_path / "out" / "callanalytics.duckdb").exists()
