"""Finding recordings: settled, unique, in the window by call time, safe against links and odd names."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from callanalytics.config import DiscoverySettings, RecorderSettings, Settings, load_config
from callanalytics.config.window import Window
from callanalytics.errors import TooLong, UnreadableFile, UsageError
from callanalytics.ingest import (
    Discovered,
    EarlierRun,
    find_recordings,
    recording_from_files,
)
from callanalytics.ingest.check import check_paths, render_checked
from callanalytics.ingest.listing import FileKey, KnownFile, file_time
from callanalytics.records import Role, RoleSource

NOW = datetime.now(UTC)
OLD = NOW - timedelta(hours=2)


def put(path: Path, content: bytes = b"", at: datetime = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or path.name.encode(errors="surrogateescape"))
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def search(*roots: Path, window: Window | None = None, known: dict[FileKey, KnownFile] | None = None,
           **discovery: object) -> Discovered:  # fmt: skip
    settings = Settings(discovery=DiscoverySettings(**discovery))
    return find_recordings(roots, settings, window=window, now=NOW, salt=b"salt", known=lambda _: known or {})


def names(found: Discovered) -> set[str]:
    return {c.recording.path.name for c in found.recordings}


def reasons(found: Discovered) -> dict[str, str]:
    return {s.path.name: s.reason for s in found.skipped}


def test_several_roots_patterns_and_a_single_file(tmp_path: Path) -> None:
    put(tmp_path / "a" / "deep" / "one.wav")
    put(tmp_path / "a" / "notes.txt")
    put(tmp_path / "a" / "half.wav.part")
    put(tmp_path / "a" / ".hidden" / "x.wav")
    put(tmp_path / "b" / "TWO.MP3")
    alone = put(tmp_path / "c" / "three.dat")
    assert names(search(tmp_path / "a", tmp_path / "b", alone)) == {"one.wav", "TWO.MP3", "three.dat"}


def test_a_file_still_being_written_waits(tmp_path: Path) -> None:
    fresh = put(tmp_path / "fresh.wav", at=NOW - timedelta(seconds=5))
    put(tmp_path / "settled.wav")
    with fresh.open("ab"):
        found = search(tmp_path)
    assert names(found) == {"settled.wav"}
    assert reasons(found) == {"fresh.wav": "settling"}


@pytest.mark.parametrize("ahead", [timedelta(seconds=90), timedelta(days=3), timedelta(days=10_000)])
def test_a_file_dated_in_the_future_waits_until_nobody_changes_it_and_is_not_lost(
    tmp_path: Path, ahead: timedelta
) -> None:
    with put(tmp_path / "future.wav", at=NOW + ahead).open("ab"):
        assert reasons(search(tmp_path)) == {"future.wav": "settling"}, "changed just now, whatever it says"
    later = datetime.now(UTC) + timedelta(seconds=300)
    window = Window(NOW - timedelta(hours=1), later)
    found = find_recordings([tmp_path], Settings(), window=window, now=later, salt=b"")
    assert names(found) == {"future.wav"}, "its own time may never come"
    clock_put_right = datetime.now(UTC) - timedelta(days=2)
    found = find_recordings([tmp_path], Settings(), window=None, now=clock_put_right, salt=b"")
    assert names(found) == {"future.wav"}, "nobody writes to it two days from now"


def test_the_same_content_is_one_recording_but_empty_files_are_not_one_call(tmp_path: Path) -> None:
    put(tmp_path / "a.wav", b"same")
    put(tmp_path / "b.wav", b"same")
    for name in ("e1.wav", "e2.wav"):
        put(tmp_path / name, b"x").write_bytes(b"")
        os.utime(tmp_path / name, (OLD.timestamp(), OLD.timestamp()))
    found = search(tmp_path)
    assert names(found) == {"a.wav", "e1.wav", "e2.wav"}
    assert reasons(found) == {"b.wav": "duplicate"}


def test_pairs_are_one_call_caller_first(tmp_path: Path) -> None:
    put(tmp_path / "x_agent.wav")
    put(tmp_path / "x_caller.wav")
    put(tmp_path / "lonely-in.wav")
    put(tmp_path / "y-out.wav")
    put(tmp_path / "y-in.wav")
    found = search(tmp_path)
    groups = {tuple(p.name for p in c.recording.paths): c.facts for c in found.recordings}
    assert set(groups) == {("x_caller.wav", "x_agent.wav"), ("y-in.wav", "y-out.wav"), ("lonely-in.wav",)}
    pair = groups["x_caller.wav", "x_agent.wav"]
    assert pair.channel_roles == (Role.CALLER, Role.AGENT)
    assert pair.channel_roles_source is RoleSource.NAME


def test_in_and_out_are_a_pair_only_when_about_as_long(tmp_path: Path) -> None:
    put(tmp_path / "check-in.wav", b"a" * 100)
    put(tmp_path / "check-out.wav", b"b" * 1000)
    put(tmp_path / "call-in.wav", b"a" * 1000)
    put(tmp_path / "call-out.wav", b"b" * 1100)
    sizes = {c.recording.path.name: len(c.recording.paths) for c in search(tmp_path).recordings}
    assert sizes == {"check-in.wav": 1, "check-out.wav": 1, "call-in.wav": 2}


def test_genesys_recordings_need_no_extension(tmp_path: Path) -> None:
    put(tmp_path / "conversation_id=abc" / "r1")
    put(tmp_path / "elsewhere" / "r2")
    assert names(search(tmp_path)) == {"r1"}


def test_parallel_copies_of_a_call_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "20261120-094103_2025550127-all.wav")
    put(tmp_path / "CO_20261120-094103_2025550127-all.wav")
    put(tmp_path / "FR_20261120-094104_2025550128-all.wav")
    found = search(tmp_path)
    assert len(found.recordings) == 2
    assert reasons(found) == {"CO_20261120-094103_2025550127-all.wav": "parallel_copy"}


def test_call_time_decides_notfile_time(tmp_path: Path) -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    window = Window(midnight - timedelta(days=1), midnight)
    for days in (0, 1, 3):
        put(tmp_path / stamped(midnight, days))
    put(tmp_path / "unnamed.wav", at=midnight - timedelta(days=3))
    put(tmp_path / "yesterday.wav", at=midnight - timedelta(hours=3))
    assert names(search(tmp_path, window=window)) == {stamped(midnight, 1), "yesterday.wav"}


def test_a_file_that_came_too_late_for_its_run_is_found_by_the_next(tmp_path: Path) -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    window = Window(midnight - timedelta(days=1), midnight)
    for days in (1, 3, 30):
        put(tmp_path / stamped(midnight, days))
    long_ago = EarlierRun(Window(midnight - timedelta(days=60), midnight - timedelta(days=1)), midnight)
    settings = Settings()

    def found(*earlier: EarlierRun) -> set[str]:
        return names(find_recordings([tmp_path], settings, window=window, now=NOW, salt=b"", earlier=earlier))

    assert found() == {stamped(midnight, 1)}
    assert found(long_ago) == {stamped(midnight, 1), stamped(midnight, 3)}, "30 days are beyond the lookback"
    after_arrival = EarlierRun(long_ago.window, NOW + timedelta(hours=1))
    assert found(after_arrival) == {stamped(midnight, 1)}, "that run could have taken it"


def test_of_what_is_long_past_no_sidecar_is_read_and_nothing_kept_but_a_count(tmp_path: Path) -> None:
    """Ten days from now: the lookback of a week and a day more have gone by since the files were written."""
    later = NOW + timedelta(days=10)
    said = json.dumps({"startTime": (later - timedelta(hours=2)).isoformat()})
    that_day = f"{later - timedelta(hours=3):%Y%m%d-%H%M%S}_1004.wav"
    for name in ("old.wav", f"{NOW:%Y%m%d}-100000_2025550127.wav", that_day):
        put(tmp_path / name)
        (tmp_path / f"{name}.json").write_text(said)

    def found(lookback_days: int) -> Discovered:
        settings = Settings(discovery=DiscoverySettings(lookback_days=lookback_days))
        window = Window(later - timedelta(days=1), later)
        return find_recordings([tmp_path], settings, window=window, now=later, salt=b"", name_skipped=False)

    assert len(names(found(7))) == 1, "its name is of that day"
    assert (found(7).skip_counts, found(7).skipped) == ({"outside_window": 2}, ())
    assert len(names(found(9))) == 3, "within the lookback every sidecar counts"


def test_what_a_run_that_did_not_end_well_left_is_taken_by_the_next(tmp_path: Path) -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    window = Window(midnight - timedelta(days=1), midnight)
    for days in (1, 3, 30):
        put(tmp_path / stamped(midnight, days))
    covered = Window(midnight - timedelta(days=60), midnight - timedelta(days=1))
    broken = EarlierRun(covered, NOW + timedelta(hours=1), ended_well=False)
    good = EarlierRun(covered, NOW + timedelta(hours=2))

    def found(*earlier: EarlierRun) -> set[str]:
        return names(
            find_recordings([tmp_path], Settings(), window=window, now=NOW, salt=b"", earlier=earlier)
        )

    left = {stamped(midnight, 1), stamped(midnight, 3)}
    assert found(broken) == left, "within the lookback"
    assert found(broken, good) == found(good, broken) == {stamped(midnight, 1)}, "a later run took them"
    assert found(EarlierRun(covered, broken.started_at - timedelta(minutes=1)), broken) == left


def stamped(midnight: datetime, days: int) -> str:
    return f"{midnight - timedelta(days=days):%Y%m%d}-120000_2025550127-all.wav"


def test_unchanged_known_files_are_not_read_again(tmp_path: Path) -> None:
    path = put(tmp_path / "a.wav")
    known = {(str(path), path.stat().st_size, path.stat().st_mtime_ns): KnownFile("f" * 64)}
    assert search(tmp_path, known=known).recordings[0].recording.recording_id == "f" * 64
    put(path, b"changed")
    assert search(tmp_path, known=known).recordings[0].recording.recording_id != "f" * 64


def test_links_are_left_alone_unless_asked_and_loops_end(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.wav")
    put(tmp_path / "outside" / "secret.wav")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "self.wav").symlink_to("self.wav")
    (tmp_path / "in" / "dangling.wav").symlink_to(tmp_path / "nowhere")
    assert names(search(tmp_path / "in")) == {"a.wav"}
    assert names(search(tmp_path / "in", follow_links=True)) == {"a.wav", "secret.wav"}


def test_check_says_where_sources_disagree_about_the_sides(tmp_path: Path) -> None:
    path = put(tmp_path / "20250327-101010_2025550112_1001-all.wav")
    assert "role conflict" not in render_checked(check_paths([tmp_path], Settings()))
    path.with_suffix(".json").write_text('{"agent_channel": "right"}')
    (row,) = check_paths([tmp_path], Settings())
    assert row.channel_roles == "caller, agent"
    assert row.role_conflict is not None
    said = "caller, agent by the sidecar; agent, caller by the name, which looks like vicidial (90%)"
    assert said in render_checked([row])


def test_check_names_the_source_of_each_fact_and_what_is_doubtful(tmp_path: Path) -> None:
    put(tmp_path / "q-600-2025550112-20250327-092531-162000000.410.wav")
    text = render_checked(check_paths([tmp_path], Settings()))
    assert "from name (freepbx), inbound" in text
    assert "queue 600 (name (freepbx))" in text
    (note,) = [line for line in text.splitlines() if "note: " in line]
    assert "the epoch 162000000 is further from the stamp" in note
    (row,) = check_paths([tmp_path], Settings())
    assert row.to_dict()["sources"] == {
        "external_id": "name (freepbx)",
        "started_at": "name (freepbx)",
        "direction": "name (freepbx)",
        "queue": "name (freepbx)",
        "caller_hash": "name (freepbx)",
    }


def test_check_suggests_a_table_for_names_that_nothing_matched(tmp_path: Path) -> None:
    """It can be pasted as it is, and then the names are read."""
    for number, who in enumerate(("ann", "bo", "cy")):
        put(tmp_path / f"acme_{who}_1743063931_202555010{number}.wav")
    put(tmp_path / "other-1743063931.wav")
    put(tmp_path / "holiday.wav")
    text = render_checked(check_paths([tmp_path], Settings()))
    said = text[text.index("# 3 such as") :]
    assert 'template = "acme_{ANY}_{EPOCH}_{CUSTPHONE}"' in said
    config = tmp_path / "config.toml"
    config.write_text(said.replace("{ANY}", "{AGENT}"), encoding="utf-8")
    checked = {Path(row.path).name: row for row in check_paths([tmp_path], load_config(config))}
    row = checked["acme_bo_1743063931_2025550101.wav"]
    assert (row.recorder, row.agent_id, row.started_at) == ("mine", "bo", "2025-03-27T08:25:31+00:00")
    assert row.caller_hash is not None
    assert checked["holiday.wav"].recorder == "none"


def test_check_suggests_nothing_where_names_say_nothing(tmp_path: Path) -> None:
    for name in ('a"b.wav', "{x}.wav", "holiday 7.wav"):
        put(tmp_path / name)
    text = render_checked(check_paths([tmp_path], Settings()))
    assert "[[recorder]]" not in text
    assert "a sidecar or a manifest may say more" in text


def test_hostile_names_survive(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"<script>.wav", b"a\nb.wav", b"'; rm -rf.wav", b"\xff\xfe.wav", b"x" * 250 + b".wav"):
        put(Path(os.fsdecode(os.path.join(folder, name))))  # noqa: PTH118 - bytes
    assert len(search(tmp_path).recordings) == 5
    text = render_checked(check_paths([tmp_path], Settings()))
    assert text.isprintable() or all(line.isprintable() for line in text.split("\n"))


def test_an_unreadable_file_is_a_failure_not_a_crash(tmp_path: Path) -> None:
    put(tmp_path / "locked.wav").chmod(0)
    put(tmp_path / "good.wav")
    found = search(tmp_path)
    assert names(found) == {"good.wav"}
    (failure,) = found.failures
    assert (failure.stage, failure.reason) == ("read", "unreadable")
    assert "locked.wav" in failure.detail


def test_a_file_beyond_the_limit_is_not_read_to_learn_that(tmp_path: Path) -> None:
    put(tmp_path / "good.wav")
    huge = put(tmp_path / "huge.wav")
    os.truncate(huge, 60_000_000_000)  # sparse: to read it would take minutes
    os.utime(huge, (OLD.timestamp(), OLD.timestamp()))
    begin = time.process_time()
    found = search(tmp_path)
    assert time.process_time() - begin < 1
    assert names(found) == {"good.wav"}
    (failure,) = found.failures
    assert (failure.stage, failure.reason) == ("read", "too_long")
    assert "[audio] max_bytes" in failure.detail
    with pytest.raises(TooLong):
        recording_from_files([huge], Settings(), now=NOW)


def test_what_our_own_runs_have_written_is_never_searched(tmp_path: Path) -> None:
    out = tmp_path / "callanalytics-out"
    put(tmp_path / "call.wav")
    put(tmp_path / "reports" / "of-somebody-else.wav")
    put(out / ".work" / "callanalytics-work.duckdb")
    put(out / "reports" / "clips" / "abc" / "clip.mp3")
    put(out / "training" / "reviewed" / "segment.wav")
    put(out / "beside.wav")
    found = search(tmp_path)
    assert names(found) == {"call.wav", "of-somebody-else.wav"}
    assert found.skip_counts == {"output_folder": 1}
    assert names(search(out)) == {"beside.wav"}, "recordings in the output folder itself, on request"


def test_words_of_a_sidecar_are_safe_to_print(tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    (tmp_path / "a.wav.json").write_text(
        '{"agent_id": "\\ud800x\\u001b[2J", "queue": "\\u001b]0;owned\\u0007"}'
    )
    checked = check_paths([tmp_path], Settings())
    text = render_checked(checked)
    text.encode()
    assert all(line.isprintable() for line in text.split("\n"))
    assert "\\ud800x" in text


def test_a_closed_folder_is_reported_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "closed" / "a.wav")
    put(tmp_path / "open" / "b.wav")
    put(tmp_path / "lost+found" / "c.wav")
    really_scan = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name in {"closed", "lost+found"}:
            raise PermissionError(13, "Permission denied", str(folder))
        return really_scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = search(tmp_path)
    assert names(found) == {"b.wav"}
    (failure,) = found.failures
    assert failure.found.recording.path == tmp_path / "closed"
    assert (failure.stage, failure.reason) == ("read", "unreadable")
    assert "Permission denied" in failure.detail


def test_a_file_that_may_not_be_looked_at_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "locked.wav")
    put(tmp_path / "good.wav")
    really_stat = os.stat

    def refuse(path: Any, **more: Any) -> os.stat_result:
        if str(path).endswith("/locked.wav"):
            raise PermissionError(13, "Permission denied", str(path))
        return really_stat(path, **more)

    monkeypatch.setattr(os, "stat", refuse)
    found = search(tmp_path)
    assert names(found) == {"good.wav"}
    assert [f.found.recording.path.name for f in found.failures] == ["locked.wav"]
    with pytest.raises(UsageError, match="Permission denied"):
        search(tmp_path / "locked.wav")


@pytest.mark.parametrize("seconds", [1e12, 2e10, -1e12])
def test_a_file_time_beyond_all_calendars_is_kept_within_one(seconds: float) -> None:
    assert 1970 <= file_time(seconds).year < 2200


def test_a_window_may_begin_with_the_calendar(tmp_path: Path) -> None:
    put(tmp_path / "future.wav", at=NOW + timedelta(days=3))
    window = Window(datetime(1, 1, 1, tzinfo=UTC), NOW)
    assert names(search(tmp_path, window=window)) == set()


def test_a_check_shows_no_hash_that_can_be_reversed(tmp_path: Path) -> None:
    put(tmp_path / "20261120-094103_2025550127-all.wav")
    one, two = (check_paths([tmp_path], Settings())[0].caller_hash for _ in range(2))
    assert one is not None
    assert one != two


def test_recordings_of_one_start_and_nearly_one_name_may_be_one_call(tmp_path: Path) -> None:
    parts = ["20261120-094103-1", "20261120-094103-2", "20261120-094103_part3", "20261120-094103"]
    others = [
        "20261120-094104-1",
        "20261120-094105-1",
        "2026-11-20_09-50-01",
        "2026-11-20_09-50-02",
        "20261120-094106-21",
        "20261120-094106-34",
        "20261120-094107-1",
        "20261120-094107-12",
        "a-1",
        "a-2",
    ]
    for name in (*parts, *others):
        put(tmp_path / f"{name}.wav", name.encode())
    put(tmp_path / "20261120-101010.mp3")
    put(tmp_path / "20261120-101010.wav")
    found = find_recordings([tmp_path], Settings(), window=None, now=NOW, salt=b"")
    said = {one.recording.path.stem: one.facts.sources.get("conflict", "") for one in found.recordings}
    assert {name for name, note in said.items() if "4 recordings of this start" in note} == {*parts}
    assert "parts or copies of one call" in said["20261120-101010"]
    assert not any("of one call" in said[name] for name in others)


def test_bad_lines_of_a_manifest_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.wav")
    (tmp_path / "cdr.csv").write_text('file,agent\na.wav,kim\nb.wav,"x\n"c.wav,y\n')
    table = RecorderSettings(name="pbx", kind="generic", manifest="cdr.csv")
    settings = Settings(folder=tmp_path, recorder=(table,))
    found = find_recordings([tmp_path / "in"], settings, window=None, now=NOW, salt=b"", name_skipped=False)
    assert (found.skip_counts, found.skipped) == ({"manifest_lines_unread": 1}, ())
    assert "cdr.csv" in render_checked(check_paths([tmp_path / "in"], settings))


def test_a_missing_input_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        search(tmp_path / "nowhere")


def test_one_call_from_named_files(tmp_path: Path) -> None:
    a, b = put(tmp_path / "x_caller.wav"), put(tmp_path / "x_agent.wav")
    assert recording_from_files([a], Settings(), now=NOW).recording.paths == (a,)
    assert recording_from_files([a, b], Settings(), now=NOW).facts.channel_roles == (Role.CALLER, Role.AGENT)
    with pytest.raises(UnreadableFile):
        recording_from_files([tmp_path / "nowhere.wav"], Settings(), now=NOW)
    with pytest.raises(UsageError):
        recording_from_files([a, b, a], Settings(), now=NOW)
