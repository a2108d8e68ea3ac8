"""Callers' numbers leave the input folder as salted hashes only; what is written is its owner's alone."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from command_line import run_command
from short_calls import night_args, rows, settle, short_call

from callanalytics.config import Settings
from callanalytics.ingest.locate import locate
from callanalytics.ingest.recorders.phone_numbers import hash_number, load_or_make_salt
from callanalytics.records import CallFacts, TimeSource
from jobs.maintenance.purge import append_erasure, verify_erasures

pytestmark = pytest.mark.usefixtures("analysed_here")

NUMBERS = ("2025550143", "2025550144", "3025550145", "4025550146", "5025550147", "6025550148")
AGENT = "agentissima"


def recordings(folder: Path) -> None:
    """A call of each kind of name that carries a number; some fail, one is a pair."""
    folder.mkdir(parents=True)
    names = (
        f"q-100-+1{NUMBERS[0]}-20251120-101500-1763633700.7.wav",
        f"20251120-101500_{NUMBERS[1]}_{AGENT}-all.wav",
        f"_GUID_abc_AGENT_{AGENT}_CUST_{NUMBERS[2]}_DT_2025-11-20T10-15-00.wav",
        f"out-{NUMBERS[3]}-204-20251120-101500-1763633701.8.wav",
        f"20251120-111500_{NUMBERS[4]}_{AGENT}_caller.wav",
        f"20251120-111500_{NUMBERS[4]}_{AGENT}_agent.wav",
        "plain.wav",
    )
    for number, name in enumerate(names):
        short_call(folder / name, number, seconds=3.0, mono=name.endswith(("_caller.wav", "_agent.wav")))
    broken = folder / f"20251120-121500_{NUMBERS[1]}_{AGENT}-all.wav"
    broken.write_bytes((folder / names[0]).read_bytes()[:9000])
    sidecar = {"ani": f"+1 ({NUMBERS[5][:3]}) {NUMBERS[5][3:6]}-{NUMBERS[5][6:]}", "agentId": AGENT}
    (folder / "plain.json").write_text(json.dumps(sidecar), encoding="utf-8")
    settle(folder)


def numbers_in(text: str) -> list[str]:
    """Numbers written in any way: only their digits count, in order and close together."""
    return [number for number in NUMBERS if number in text or number[3:] in text]


def everything(database: Path, *, without: tuple[str, ...] = ()) -> str:
    """All cells of all tables and views as text, whatever way the file stores them."""
    found: list[str] = []
    with duckdb.connect(str(database), read_only=True) as connection:
        relations = connection.execute(
            "SELECT DISTINCT schema_name, table_name FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        for schema, table in relations:
            if table not in without:
                found += map(repr, connection.execute(f'FROM "{schema}"."{table}"').fetchall())
    return "\n".join(found)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of a run, and all that the run said."""
    root = tmp_path_factory.mktemp("privacy")
    recordings(root / "in")
    before = os.umask(0o022)  # the usual one, which leaves files readable for everybody
    try:
        done = run_command(*night_args(root / "in", root / "out", "--workers", 1), expect=3)
    finally:
        os.umask(before)
    return root / "out", done.stderr + done.stdout


def test_no_number_is_in_any_byte_that_people_get(night: tuple[Path, str]) -> None:
    out, said = night
    assert numbers_in(said) == [], said
    shown = everything(out / "callanalytics.duckdb")
    assert AGENT in shown, "the search finds what is there"
    assert numbers_in(shown) == []
    for path in out.rglob("*"):
        if path.is_file() and path.name != "callanalytics-work.duckdb":
            content = path.read_bytes()
            assert not [n for n in NUMBERS if n.encode() in content], path
    # The run's own memory of where the files lie is the one place; it is not published.
    work = out / ".work" / "callanalytics-work.duckdb"
    assert numbers_in(everything(work, without=("files",))) == []
    assert rows(out / "callanalytics.duckdb", "SELECT count(*) FROM base.files") == [(0,)]


def test_repeat_callers_are_still_known_by_hash_and_files_by_alias(night: tuple[Path, str]) -> None:
    database = night[0] / "callanalytics.duckdb"
    found = rows(database, "SELECT path, caller_hash FROM call_summary WHERE caller_hash IS NOT NULL")
    assert len(found) == 6
    for path, caller_hash in found:
        if "plain" not in path:
            assert f"caller~{caller_hash[:8]}" in path, "the name says which caller without the number"
    ((path, detail),) = rows(database, "SELECT path, detail FROM quarantine")
    alias = next(word for word in path.split("_") if word.startswith("caller~"))
    assert alias in detail


def test_what_is_written_is_its_owners_alone(night: tuple[Path, str]) -> None:
    out, _ = night
    for path in (out, *out.rglob("*")):
        mode = path.stat().st_mode & 0o777
        nobody_writes = path in (out / "callanalytics.duckdb", out / ".work" / "previous.duckdb")
        of_file = 0o400 if nobody_writes else 0o600
        assert mode == (0o700 if path.is_dir() else of_file), f"{path}: {mode:o}"


def test_recordings_are_found_by_their_published_names_alone(night: tuple[Path, str]) -> None:
    """The alias in a name is no obstacle to whoever needs the recording, also while a run is at work."""
    settings, out = Settings(), night[0]
    published = rows(out / "callanalytics.duckdb", "SELECT recording_id, paths FROM recordings")
    assert len(published) == 6
    salt = load_or_make_salt(out / settings.privacy.salt_file)
    for recording_id, shown in published:
        paths = locate(recording_id, shown, salt, settings.audio)
        assert all(path.is_file() for path in paths)
        assert numbers_in(str(shown)) == []
        if len(paths) == 2:
            assert [path.stem.rsplit("_", 1)[1] for path in paths] == ["caller", "agent"]


def test_logs_name_recordings_by_their_published_names(night: tuple[Path, str]) -> None:
    out, said = night
    database = out / "callanalytics.duckdb"
    names = {Path(path).name for (path,) in rows(database, "SELECT path FROM calls")}
    names |= {Path(path).name for (path,) in rows(database, "SELECT path FROM quarantine")}
    lines = [line for line in said.splitlines() if line.startswith("Analysing") and ":" in line]
    assert lines
    assert all(any(f": {name} " in line for name in names) for line in lines)


def test_a_number_is_hidden_in_every_way_it_is_written() -> None:
    facts = CallFacts(
        "x", 1.0, started_at=None, started_at_source=TimeSource.NAME, zone="UTC",  # type: ignore[arg-type]
        aliases={"2025550143": "caller~1"},
    )  # fmt: skip
    for written in ("2025550143", "+12025550143", "0012025550143", "+1 202-555-0143", "202.555.0143"):
        assert facts.hide(f"q-100-{written}-20251120.wav") == "q-100-caller~1-20251120.wav"
    assert facts.hide("20255501431.wav") == "20255501431.wav", "another number"


@pytest.mark.parametrize("given", ["number", "hash"])
def test_a_caller_is_erased_by_number_or_hash(night: tuple[Path, str], tmp_path: Path, given: str) -> None:
    """A call of theirs, and a recording that could not be read; others stay; the log holds counts alone."""
    out = tmp_path / "out"
    shutil.copytree(night[0], out)
    database = out / "callanalytics.duckdb"
    salt = load_or_make_salt(out / ".caller-salt")
    hashed = hash_number(NUMBERS[1], salt)
    assert hashed is not None
    spelling = f"+1 ({NUMBERS[1][:3]}) {NUMBERS[1][3:6]}-{NUMBERS[1][6:]}"
    (theirs,) = rows(database, f"SELECT recording_id FROM calls WHERE caller_hash = '{hashed}'")
    n_before = rows(database, "SELECT count(*) FROM calls")[0][0]
    arguments = ["purge", "--caller", spelling if given == "number" else hashed, "--out", out]
    assert "Would remove 1 call, 1 quarantined" in run_command(*arguments, "--dry-run").stderr
    said = run_command(*arguments).stderr
    assert "Removed 1 call, 1 quarantined" in said
    assert "Still lying where they were found: 2. Delete them there" in said
    assert (numbers_in(said), hashed in said) == ([], False)
    assert rows(database, "SELECT count(*) FROM calls") == [(n_before - 1,)]
    marks = [theirs[0].encode(), hashed.encode(), hashed[:8].encode()]
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert [(path, mark) for path, held in content.items() for mark in marks if mark in held] == []
    (line,) = (out / "erasures.jsonl").read_text().splitlines()
    assert set(json.loads(line)) == {
        *(
            "at",
            "by",
            "audio_only",
            "n_calls",
            "n_quarantined",
            "n_clips",
            "n_pages",
            "n_reviews",
            "signature",
        )
    }
    again = run_command(*arguments).stderr
    assert "Removed 0 calls, 0 quarantined" in again
    assert verify_erasures(out / "erasures.jsonl", salt) == (2, None)


def test_a_lost_secret_is_told_and_nothing_is_looked_up_with_a_new_one(
    night: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = shutil.copytree(night[0], tmp_path / "out")
    salt, kept = out / ".caller-salt", (out / ".caller-salt").read_bytes()
    asked = ("purge", "--caller", NUMBERS[1], "--dry-run", "--out", out)
    for content in (None, b""):
        salt.unlink(missing_ok=True)
        if content is not None:
            salt.write_bytes(content)
        assert "gone, so that no number can be looked up" in run_command(*asked, expect=1).stderr
        assert not salt.exists() or not salt.stat().st_size
    salt.write_bytes(kept)
    assert "Would remove 1 call, 1 quarantined" in run_command(*asked).stderr
    salt.unlink()
    run_command(*night_args(tmp_path, out, "--dry-run"), expect=None)
    assert "is gone and is made anew: callers of earlier nights are not known again" in caplog.text
    assert salt.exists()


def test_a_changed_or_missing_line_of_the_log_is_found(tmp_path: Path) -> None:
    log, salt = tmp_path / "erasures.jsonl", b"s" * 32
    for n in range(4):
        append_erasure(log, salt, datetime(2026, 1, 1 + n, tzinfo=UTC), {"by": "call", "n_calls": n})
    lines = log.read_text().splitlines()
    assert verify_erasures(log, salt) == (4, None)
    assert verify_erasures(log, b"t" * 32) == (4, 1)
    for changed, wrong in (
        ([lines[0], lines[1].replace('"n_calls": 1', '"n_calls": 7'), *lines[2:]], 2),
        ([lines[0], *lines[2:]], 2),
        ([*lines[:2], lines[1], *lines[2:]], 3),
        ([*lines[:3], "not a line"], 4),
        ([*lines[:3], lines[3][:20]], 4),
        ([*lines[:3], '["a", "list"]'], 4),
    ):
        log.write_text("\n".join(changed) + "\n")
        assert verify_erasures(log, salt)[1] == wrong
        append_erasure(log, salt, datetime(2026, 1, 9, tzinfo=UTC), {"by": "call", "n_calls": 9})
        assert verify_erasures(log, salt) == (len(changed) + 1, wrong), "noted, and the damage still found"
    log.write_bytes(b"\xff\xfe torn")
    append_erasure(log, salt, datetime(2026, 1, 9, tzinfo=UTC), {"by": "call", "n_calls": 9})
    assert verify_erasures(log, salt) == (2, 1)


def test_purged_calls_leave_no_byte(night: tuple[Path, str], tmp_path: Path) -> None:
    """`purge` through the command line; the bytes of both databases are searched for ids and names."""
    out = tmp_path / "out"
    shutil.copytree(night[0], out)
    marks = [i for (i,) in rows(out / "callanalytics.duckdb", "SELECT recording_id FROM recordings")]
    run_command("purge", "--older-than", "2026-01-01", "--out", out)
    kept = [i for (i,) in rows(out / "callanalytics.duckdb", "SELECT recording_id FROM recordings")]
    gone = set(marks) - set(kept)
    assert len(gone) >= 4
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [mark for mark in gone if mark.encode() in content or mark[:16].encode() in content], (
                path
            )
