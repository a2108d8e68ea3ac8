"""What earlier runs know of files: asked about those at hand, true of what lies there now."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from fixture_calls import ENSEMBLE_ID, LABELS, MEMBERS, plausible_calls
from stores import begin

import callanalytics.ingest as discovery
from callanalytics.config import EngineSettings, Settings
from callanalytics.config.window import Window
from callanalytics.ingest import Discovered, find_recordings
from callanalytics.ingest.listing import FileKey, KnownFile
from callanalytics.records import FoundRecording
from callanalytics.store import RunCounts, Store, open_work
from callanalytics.store.recordings import known_files, remember_files
from callanalytics.workspace import Workspace
from jobs.night import RunOptions
from jobs.night.plan import Todo
from jobs.night.plan import search as search_todo

NOW = datetime.now(UTC)
OLD = NOW - timedelta(hours=2)
WINDOW = Window(NOW - timedelta(days=1), NOW)
DAY_BEFORE = Window(NOW - timedelta(days=2), NOW - timedelta(days=1))


@pytest.fixture
def store(empty_out: Path, tmp_path: Path) -> Iterator[Store]:
    with open_work(Workspace(shutil.copytree(empty_out, tmp_path / "out"))) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    return tmp_path / "calls"


def put(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    os.utime(path, (OLD.timestamp(), OLD.timestamp()))
    return path


def key(path: Path) -> FileKey:
    facts = path.stat()
    return str(path), facts.st_size, facts.st_mtime_ns


def search(store: Store, folder: Path, window: Window = WINDOW, *, again: bool = False) -> Discovered:
    known = partial(known_files, store, ensemble_id=None if again else ENSEMBLE_ID)
    return find_recordings([folder], Settings(), window=window, now=NOW, salt=b"", known=known)


def settle(store: Store, found: Discovered) -> None:
    """Note the files and store an analysis of every recording, as a run does."""
    remember_files(store, found.recordings)
    store.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
    calls = plausible_calls(len(found.recordings), 1)
    calls = [
        replace(call, recording=candidate.recording, facts=replace(call.facts, started_at=OLD))
        for call, candidate in zip(calls, found.recordings, strict=True)
    ]
    store.write(calls, store.begin_run(WINDOW, ENSEMBLE_ID, "0"))


def ids(found: Discovered) -> list[str]:
    return [candidate.recording.recording_id for candidate in found.recordings]


def test_an_unchanged_file_is_known_by_its_name_size_and_time(store: Store, folder: Path) -> None:
    name = put(folder / os.fsdecode(b"caf\xe9 \n.wav"), "sound")
    (found,) = search(store, folder).recordings
    gone = FoundRecording(replace(found.recording, paths=(folder / "gone.wav",)), found.facts)
    other = put(folder / "other.wav", "else")
    remember_files(store, [found, gone])
    remember_files(store, [found])
    asked = [key(name), key(other), (str(name), 6, key(name)[2]), (str(folder / "gone.wav"), 5, 0)]
    assert known_files(store, asked, ensemble_id=ENSEMBLE_ID) == {
        key(name): KnownFile(found.recording.recording_id)
    }
    assert store.rows("SELECT count(*) FROM base.files") == [(1,)], "what is gone is not noted"


def test_what_is_done_is_counted_without_being_read(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [put(folder / f"{name}.wav", name) for name in ("a", "b")]
    first = search(store, folder)
    settle(store, first)
    put(folder / "new.wav", "new")
    monkeypatch.setattr(discovery, "LOOK_UP_BATCH", 2)
    found = search(store, folder)
    assert [c.recording.path.name for c in found.recordings] == ["new.wav"]
    assert (found.n_settled, found.n_found) == (2, 3)
    assert set(ids(search(store, folder, again=True))) == {*ids(first), *ids(found)}, "all of it, when forced"
    paths[0].write_text("changed", encoding="utf-8")
    os.utime(paths[0], (OLD.timestamp(), OLD.timestamp()))
    assert {c.recording.path.name for c in search(store, folder).recordings} == {"a.wav", "new.wav"}


def test_a_done_call_of_another_day_is_outside_the_window(store: Store, folder: Path) -> None:
    put(folder / "a.wav", "a")
    settle(store, search(store, folder))
    found = search(store, folder, DAY_BEFORE)
    assert (found.n_found, found.skip_counts) == (0, {"outside_window": 1})


def test_copies_of_what_is_done_are_duplicates_old_and_new(store: Store, folder: Path) -> None:
    put(folder / "a.wav", "same")
    settle(store, search(store, folder))
    put(folder / "b.wav", "same")
    copies = search(store, folder)
    assert (copies.n_found, copies.skip_counts) == (1, {"duplicate": 1})
    # Also where both are known: the copy was found alone once.
    alone = search(store, folder / "b.wav")
    remember_files(store, [FoundRecording(c.recording, c.facts) for c in alone.recordings])
    both = search(store, folder)
    assert (both.n_found, both.n_settled, both.skip_counts) == (1, 1, {"duplicate": 1})


@pytest.mark.parametrize("side", ["caller", "agent"])
def test_a_pair_is_settled_as_a_whole(store: Store, folder: Path, side: str) -> None:
    for name in ("caller", "agent"):
        put(folder / f"x-{name}.wav", name)
    pair = search(store, folder)
    settle(store, pair)
    assert (search(store, folder).recordings, search(store, folder).n_settled) == ((), 1)
    (folder / f"x-{side}.wav").unlink()
    left = search(store, folder)
    assert left.n_settled == 0
    assert len(left.recordings) == 1, "what is left of a pair is another recording"
    assert ids(left) != ids(pair)


def test_a_lone_side_that_was_done_is_new_when_its_other_side_comes(store: Store, folder: Path) -> None:
    put(folder / "x-caller.wav", "caller")
    alone = search(store, folder)
    settle(store, alone)
    assert search(store, folder).n_settled == 1
    put(folder / "x-agent.wav", "agent")
    found = search(store, folder)
    assert (found.n_settled, len(found.recordings)) == (0, 1)
    assert ids(found) != ids(alone)


def test_a_file_labelled_by_another_ensemble_is_known_and_not_settled(store: Store, folder: Path) -> None:
    path = put(folder / "a.wav", "a")
    settle(store, search(store, folder))
    known = known_files(store, [key(path)], ensemble_id="another")
    assert known[key(path)].settled is None
    assert known_files(store, [], ensemble_id=ENSEMBLE_ID) == {}


def test_a_file_analysed_by_an_earlier_recipe_is_known_and_not_settled(store: Store, folder: Path) -> None:
    path = put(folder / "a.wav", "a")
    settle(store, search(store, folder))
    store.connection.execute("UPDATE base.analyses SET recipe = recipe - 1")
    known = known_files(store, [key(path)], ensemble_id=ENSEMBLE_ID)
    assert known[key(path)].settled is None


def test_what_was_given_up_counts_as_found_and_skipped(store: Store, folder: Path) -> None:
    """So that a run which left some for later, by `--limit`, is known by its counts."""
    put(folder / "locked.wav", "locked").chmod(0)
    put(folder / "new.wav", "new")
    settings = Settings(engine=EngineSettings(max_attempts=1))

    def found() -> Todo:
        return search_todo(
            store,
            settings,
            RunOptions(limit=1),
            [folder],
            WINDOW,
            ensemble_id=ENSEMBLE_ID,
            salt=b"",
            now=NOW,
            on_progress=lambda done, total: None,
        )

    first = found()
    assert first.counts == RunCounts(n_found=2, n_new=2)
    store.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
    store.quarantine(first.found.failures, begin(store))
    assert found().counts == RunCounts(n_found=2, n_new=2), "what cannot be read is never given up"
    store.connection.execute("UPDATE base.quarantine SET reason = 'truncated'")
    put(folder / "another.wav", "another")
    again = found()
    assert again.counts == RunCounts(n_found=3, n_new=1, n_skipped=1, n_given_up=1)
    store.connection.execute("UPDATE base.runs SET settings = NULL")
    assert found().counts == RunCounts(n_found=3, n_new=2, n_tried_anew=1), "of an earlier recipe"
