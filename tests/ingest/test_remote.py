"""Recordings behind URLs, on fsspec's own store in memory."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_s3 import BUCKET, FakeS3

from callanalytics.config import Settings, settings_from
from callanalytics.errors import RecordingChanged, TooLong, UnreadableFile, UsageError
from callanalytics.ingest import find_recordings, recording_id_at
from callanalytics.ingest.object_store import fetched, is_remote, list_remote, look_up, path_of, url_of
from callanalytics.records import Role
from callanalytics.workspace import Workspace
from jobs.maintenance.doctor import examine

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")


@pytest.fixture
def store() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    yield memory
    for name in list(memory.store):
        del memory.store[name]


def test_urls_become_paths_and_back() -> None:
    assert url_of(path_of("s3://bucket/day/a.wav")) == "s3://bucket/day/a.wav"
    assert is_remote(path_of("gs://bucket/a.wav"))
    assert path_of("file:///data/a.wav") == Path("/data/a.wav")
    assert not is_remote(Path("/data/s3:/a.wav"))
    assert not is_remote(Path("calls/a.wav"))


def test_a_store_is_listed_and_one_file_fetched_at_a_time(store: Any) -> None:
    store.pipe({"/calls/a.wav": b"sound a", "/calls/deep/b.wav": b"sound b"})
    files = list_remote(path_of("memory://calls"))
    assert [url_of(file.path) for file in files] == ["memory://calls/a.wav", "memory://calls/deep/b.wav"]
    with fetched([files[1].path], max_bytes=100) as (local,):
        assert (local.name, local.read_bytes()) == ("b.wav", b"sound b")
    assert not local.exists()


def test_an_object_that_was_replaced_since_it_was_listed_is_not_taken(store: Any) -> None:
    store.pipe({"/calls/a.wav": b"sound a"})
    (listed,) = list_remote(path_of("memory://calls"))
    with fetched([listed.path], [listed.content_id], max_bytes=100) as (local,):
        assert local.read_bytes() == b"sound a"
    store.pipe({"/calls/a.wav": b"sound b"})
    changed = pytest.raises(RecordingChanged, match="another object")
    with changed, fetched([listed.path], [listed.content_id], max_bytes=100):
        pass


@pytest.mark.parametrize("named", ["ETag", "etag", "md5Hash", "content_md5"])
def test_the_tag_of_a_store_tells_contents_apart_and_nothing_else_does(
    store: Any, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """S3, Google and Azure call it differently. Place and time change, and it is the same recording; the tag
    changes, and it is another one under the same name."""
    tags = {"/calls/a.wav": "one", "/calls/copy.wav": "one", "/calls/b.wav": "two"}
    store.pipe(dict.fromkeys(tags, b"sound"))
    find = type(store).find

    def tagged(self: Any, *args: Any, **more: Any) -> Any:
        # A time that is never twice the same, as of an object that was copied.
        times = (datetime.now(UTC) + timedelta(seconds=n) for n in range(len(tags)))
        return {
            name: {**facts, "created": next(times), named: tags[name]}
            for name, facts in find(self, *args, **more).items()
        }

    monkeypatch.setattr(type(store), "find", tagged)
    listed = {file.path.name: file.content_id for file in list_remote(path_of("memory://calls"))}
    assert listed["a.wav"] == listed["copy.wav"] != listed["b.wav"]
    a, b = path_of("memory://calls/a.wav"), path_of("memory://calls/b.wav")
    assert look_up(a).content_id == listed["a.wav"]
    before = recording_id_at([a], Settings(), now=datetime.now(UTC))
    assert before != recording_id_at([b], Settings(), now=datetime.now(UTC))
    with fetched([a], [listed["a.wav"]], max_bytes=100) as (local,):
        assert local.read_bytes() == b"sound"
    tags["/calls/a.wav"] = "three"
    assert recording_id_at([a], Settings(), now=datetime.now(UTC)) != before
    changed = pytest.raises(RecordingChanged, match="another object")
    with changed, fetched([a], [listed["a.wav"]], max_bytes=100):
        pass


def test_a_transfer_that_ends_early_is_tried_again_and_then_an_error(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe({"/calls/a.wav": b"sound a"})
    (listed,) = list_remote(path_of("memory://calls"))
    lengths = [3, 7, 3, 3, 3]
    opened = type(store).open

    def short(self: Any, *args: Any, **more: Any) -> Any:
        return io.BytesIO(opened(self, *args, **more).read()[: lengths.pop(0)])

    monkeypatch.setattr(type(store), "open", short)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with fetched([listed.path], [listed.content_id], max_bytes=100) as (local,):
        assert local.read_bytes() == b"sound a"
    early = pytest.raises(UnreadableFile, match="3 of 7 bytes")
    with early, fetched([listed.path], [listed.content_id], max_bytes=100):
        pass


def test_local_files_are_not_copied(tmp_path: Path) -> None:
    with fetched([tmp_path / "a.wav"], max_bytes=1) as paths:
        assert paths == (tmp_path / "a.wav",)


def test_a_vanished_object_and_a_huge_one_are_named(store: Any) -> None:
    store.pipe({"/calls/a.wav": b"x" * 50})
    with (
        pytest.raises(UnreadableFile, match=r"gone\.wav: cannot be fetched"),
        fetched([path_of("memory://calls/gone.wav")], max_bytes=100),
    ):
        pass
    with (
        pytest.raises(TooLong, match=r"a\.wav: more than the 10 bytes"),
        fetched([path_of("memory://calls/a.wav")], max_bytes=10),
    ):
        pass


def test_one_object_is_looked_up_as_its_folder_lists_it(store: Any) -> None:
    store.pipe({"/calls/a.wav": b"sound a", "/calls/a.wav.bak/b.wav": b"sound b"})
    listed = {file.path: file for file in list_remote(path_of("memory://calls"))}
    path = path_of("memory://calls/a.wav")
    assert look_up(path) == listed[path]
    for gone in ("gone.wav", "a.wav.bak", "none/c.wav"):
        with pytest.raises(FileNotFoundError):
            look_up(path_of(f"memory://calls/{gone}"))
    with pytest.raises(UnreadableFile, match=r"a\.wav: its store does not answer"):
        look_up(path_of("nosuch://calls/a.wav"))


def test_a_store_that_stumbles_is_asked_again(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe({"/calls/a.wav": b"sound"})
    stumbles = iter([ConnectionError("reset"), TimeoutError("slow")])
    opens = store.open

    def sometimes(*arguments: Any) -> Any:
        if (problem := next(stumbles, None)) is not None:
            raise problem
        return opens(*arguments)

    monkeypatch.setattr(store, "open", sometimes)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with fetched([path_of("memory://calls/a.wav")], max_bytes=100) as (local,):
        assert local.read_bytes() == b"sound"


def test_a_silent_store_is_unreadable_before_its_worker_counts_as_hung(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its recordings would be given up as ones that kill their workers."""
    store.pipe({"/calls/a.wav": b"sound a"})
    now_s = 0.0

    def silent(*_: Any, **__: Any) -> Any:
        nonlocal now_s
        now_s += 330.0  # five times a minute and the pauses between them, as s3fs waits
        raise TimeoutError("no answer")

    monkeypatch.setattr(type(store), "open", silent)
    clock = SimpleNamespace(monotonic=lambda: now_s, sleep=lambda _seconds: None)
    monkeypatch.setattr("callanalytics.ingest.object_store.time", clock)
    given_up = pytest.raises(UnreadableFile, match="no answer")
    with given_up, fetched([path_of("memory://calls/a.wav")], max_bytes=100):
        pass
    assert now_s < Settings().engine.recording_timeout_s / 2  # of a pair, each half may be silent


def test_an_unknown_place_is_an_error_of_use() -> None:
    with pytest.raises(UsageError, match="no such folder"):
        list_remote(path_of("memory://nothing/here"))
    with pytest.raises(UsageError, match="nosuch"):
        list_remote(path_of("nosuch://bucket"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_web_address_is_refused_with_words(scheme: str, tmp_path: Path) -> None:
    """A web server lists neither sizes nor times; before, the URL was doubled and every call quarantined."""
    settings = settings_from({}, source="test", folder=tmp_path)
    url = Path(f"{scheme}://calls.example/day/a.wav")
    with pytest.raises(UsageError, match=rf"{scheme}://calls\.example/day/a\.wav: .* Copy them"):
        find_recordings([url], settings, window=None, now=datetime.now(UTC), salt=b"")


def test_discovery_finds_recordings_and_pairs_in_a_store(store: Any, tmp_path: Path) -> None:
    store.pipe(
        {
            "/calls/20260301-090000_1.wav": b"one",
            "/calls/20260301-091000_2-caller.wav": b"two",
            "/calls/20260301-091000_2-agent.wav": b"six",
            "/calls/notes.txt": b"no recording",
            "/calls/.hidden/20260301-090000_3.wav": b"left out",
        }
    )
    settings = settings_from({}, source="test", folder=tmp_path)
    now = datetime.now(UTC) + timedelta(hours=1)

    def search() -> dict[str, Any]:
        found = find_recordings([Path("memory://calls")], settings, window=None, now=now, salt=b"")
        return {c.recording.recording_id: c for c in found.recordings}

    found = search()
    assert sorted(len(c.recording.paths) for c in found.values()) == [1, 2]
    pair = next(c for c in found.values() if len(c.recording.paths) == 2)
    assert pair.facts.channel_roles == (Role.CALLER, Role.AGENT)
    assert {c.facts.started_at.date().isoformat() for c in found.values()} == {"2026-03-01"}
    assert set(search()) == set(found)  # known again in the next night


def test_an_s3_server_lists_recordings_and_gives_their_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install callanalytics[s3]")
    content = bytes(range(256)) * 3000
    objects = ("march/20260301-090000_1.wav", "march/again/20260301-090000_1.wav", "april/other.wav")
    for name in objects:
        (tmp_path / "objects" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "objects" / name).write_bytes(content)
    with FakeS3(tmp_path / "objects").serving() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        settings = settings_from({}, source="test", folder=tmp_path)
        now = datetime.now(UTC) + timedelta(hours=1)
        march = Path(f"s3://{BUCKET}/march")
        found = find_recordings([march], settings, window=None, now=now, salt=b"")
        (candidate,) = found.recordings  # the same content twice is one call, and April is not asked for
        assert [skipped.reason for skipped in found.skipped] == ["duplicate"]
        with fetched(candidate.recording.paths, max_bytes=10**6) as (local,):
            assert local.read_bytes() == content


def test_doctor_asks_the_store_of_an_input_behind_a_url(store: Any, tmp_path: Path) -> None:
    store.pipe({"/calls/a.wav": b"sound"})
    urls = ["memory://calls", "memory://nowhere", "nosuchstore://bucket"]
    settings = settings_from({"paths": {"inputs": urls}}, source="config.toml", folder=tmp_path)
    there, nowhere, unknown = (f for f in examine(settings, Workspace(tmp_path)) if f.name == "inputs")
    assert (there.ok, nowhere.ok, unknown.ok) == (True, False, False)
    assert there.found == "memory://calls answers"
    assert "no such folder or object" in nowhere.found
