"""Names of recordings with their truth: when the call began, who took it, and a caller that stays hidden."""

from __future__ import annotations

import csv
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callanalytics.config import RecorderSettings, Settings, TimeSettings
from callanalytics.ingest.recorders.facts import FactReader
from callanalytics.ingest.recorders.phone_numbers import hash_number
from callanalytics.records import CallFacts, TimeSource

FILE_TIME = datetime(2026, 11, 28, 18, 0, tzinfo=UTC)
SALT = b"0123456789abcdef"
NAMES = Path(__file__).parents[1] / "data" / "names.csv"
with NAMES.open(encoding="utf-8", newline="") as lines:
    ROWS = list(csv.DictReader(lines))


def read(
    name: str, *recorders: RecorderSettings, folder: Path = Path(), zone: str = "Europe/Berlin"
) -> CallFacts:
    settings = Settings(folder=folder, recorder=recorders, time=TimeSettings(zone=zone))
    return FactReader(settings, SALT).read(Path(name), FILE_TIME)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_there_are_names_of_every_kind() -> None:
    assert len({row["name"] for row in ROWS}) == len(ROWS) >= 200
    assert len({row["made_by"] for row in ROWS} - {""}) >= 20, "by systems whose naming is public"


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_name_gives_what_it_says_and_no_more(row: dict[str, str]) -> None:
    found = read(row["name"])
    assert (found.started_at, found.started_at_source) == (
        (utc(row["started_at"]), TimeSource.NAME) if row["started_at"] else (FILE_TIME, TimeSource.FILE_TIME)
    )
    assert found.recorder == row["recorder"]
    assert (found.agent_id or "", found.queue or "", found.direction.value) == (
        row["agent"],
        row["queue"],
        row["direction"],
    )
    number = row["caller"]
    assert found.caller_hash == (hash_number(number, SALT) if number else None)
    if number:
        assert number not in repr(found) + found.hide(row["name"])


def test_every_fact_of_a_name_keeps_its_source() -> None:
    found = read("record1_2024-11-07T15-13-51_CUST_9201201_GUID_f75b_AGENT_bob.wav")
    said = {fact: found.sources[fact] for fact in ("agent_id", "external_id", "started_at", "caller_hash")}
    assert said == {
        "agent_id": "name (generic)",
        "external_id": "name (generic)",
        "started_at": "name (stamp)",
        "caller_hash": "name (generic)",
    }


def test_the_recordings_of_a_call_that_was_passed_on_keep_their_stamps_and_share_its_id() -> None:
    first = read("q-600-2025550112-20261120-083412-1795160052.410.wav")
    second = read("exten-204-2025550112-20261120-084512-1795160052.410.wav")
    third = read("exten-205-2025550112-20261120-094957-1795160052.410.wav")
    assert [part.started_at for part in (first, second, third)] == [
        utc("2026-11-20T07:34:12"),
        utc("2026-11-20T07:45:12"),
        utc("2026-11-20T08:49:57"),
    ]
    assert {part.external_id for part in (first, second, third)} == {"1795160052.410"}
    assert "zone_note" not in {*first.sources, *second.sources}
    assert "1:15:45" in third.sources["zone_note"], "so late a part, or another zone"


def test_one_row_of_a_manifest_gives_no_part_the_time_of_another(tmp_path: Path) -> None:
    (tmp_path / "cdr.csv").write_text(
        "calldate,answer,billsec,uniqueid,cc_queue\n"
        "2026-11-20 08:34:12,2026-11-20 08:35:12,1260,1795160052.410,billing\n"
    )
    table = RecorderSettings(name="pbx", kind="freepbx", manifest="cdr.csv")
    first, waited, second = (
        read(f"{name}-1795160052.410.wav", table, folder=tmp_path)
        for name in (
            "q-600-2025550112-20261120-083413",
            "q-600-2025550112-20261120-083502",
            "exten-204-2025550112-20261120-084512",
        )
    )
    assert (first.started_at, first.answered_s) == (utc("2026-11-20T07:34:12"), 60)
    assert (waited.started_at, waited.answered_s) == (utc("2026-11-20T07:35:02"), 10)
    assert (second.started_at, second.answered_s) == (utc("2026-11-20T07:45:12"), None)
    assert [part.expected_duration_s for part in (first, waited, second)] == [1260, 1260, None]
    assert {part.queue for part in (first, waited, second)} == {"billing"}


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("q-600-2025550112-20250327-092531-162000000.410.wav", "conflict", "further from the stamp"),
        ("03-04-2025_09-25-29.wav", "conflict", "day or the month"),
        ("20250327-092517-0700.wav", "conflict", "may be an offset"),
        ("2025-03-27_09-25-31_2025-03-26_09-25-31.wav", "conflict", "before the first"),
        ("20250327_1001_092532.wav", "conflict", "may be the time"),
        ("20990101-101010.wav", "conflict", "after that of the file"),
        ("q-1-2-20261120-083412-1795163652.1.wav", "zone_note", "Europe/Berlin"),
        ("2025-03-27 09-25-17 BST.wav", "conflict", "several countries"),
        ("call 27.03.2025.wav", "conflict", "another day"),
        ("28112025_092517.wav", "conflict", "another day"),
        ("093015_20250327.wav", "conflict", "another day"),
        ("2025/03/27/093015.wav", "conflict", "another day"),
        ("rec_1743063931.wav", "conflict", "another day"),
        ("1743063931123.wav", "conflict", "another day"),
    ],
)
def test_what_may_be_read_in_two_ways_is_noted(name: str, key: str, words: str) -> None:
    assert words in read(name).sources[key]


@pytest.mark.parametrize(
    "name",
    [
        *("20261128.wav", "2026-11-28_7.wav", "call 28.11.2026.wav", "11282026.wav", "28112026_190000.wav"),
        *("20261127-7.wav", "2026/11/28/093015.wav", "1795888800.wav", "20261399.wav", "3020261128999.wav"),
    ],
)
def test_a_day_that_is_the_files_or_none_is_no_doubt(name: str) -> None:
    """Of the file (28 November), or of the evening before: a call goes on at midnight."""
    assert "conflict" not in read(name).sources


def test_a_zone_that_the_setting_knows_by_its_name_is_that_zone() -> None:
    name = "2025-03-27 09-25-17 CST.wav"
    assert read(name, zone="Asia/Shanghai").started_at == utc("2025-03-27T01:25:17")
    assert read(name).started_at == utc("2025-03-27T15:25:17")


def test_a_template_without_a_date_is_dated_by_the_stamp_and_adds_nothing_else() -> None:
    table = RecorderSettings(name="x", kind="template", template="{AGENT}_{ANY}", zone="America/New_York")
    found = read("kim_2025-03-27_09-25-17_2025550143_inbound.wav", table)
    assert (found.recorder, found.agent_id, found.direction.value) == ("x", "kim", "unknown")
    assert (found.started_at, found.sources["started_at"]) == (utc("2025-03-27T13:25:17"), "name (stamp)")


def test_an_epoch_of_a_template_is_weighed_against_its_stamp() -> None:
    table = RecorderSettings(name="x", kind="template", template="{FULLDATE}_{EPOCH}_{AGENT}")
    agreeing = read("20261120-083412_1795160052_kim.wav", table)
    assert (agreeing.started_at, "conflict" in agreeing.sources) == (utc("2026-11-20T07:34:12"), False)
    stale = read("20261120-083412_162000000_kim.wav", table)
    assert (stale.started_at, "conflict" in stale.sources) == (utc("2026-11-20T07:34:12"), True)


@pytest.mark.parametrize("piece", ["2025-03-27_", "1jan2025", "20250327 1001 ", "a1", "+20", "2025.03.27-09"])
def test_a_hostile_name_is_read_in_no_time(piece: str) -> None:
    begin = time.process_time()
    assert read(f"{piece * (250 // len(piece))}.wav").started_at is not None
    assert time.process_time() - begin < 0.5
