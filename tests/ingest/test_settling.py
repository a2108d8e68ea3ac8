"""A file that changed just now is taken on evidence that it is whole, and waits without it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from formats import by_ffmpeg, by_soundfile, two_tones

from callanalytics.config import DiscoverySettings, Settings
from callanalytics.config.window import Window
from callanalytics.ingest import Discovered, EarlierRun, completeness, find_recordings

RATE_HZ = 8_000
_shorter = count()
SOUND = two_tones(1.0, RATE_HZ, 1)


def search(*inputs: Path, settle_s: float = 120.0) -> Discovered:
    settings = Settings(discovery=DiscoverySettings(settle_s=settle_s))
    return find_recordings(inputs, settings, window=None, now=datetime.now(UTC), salt=b"salt")


def taken(*inputs: Path, settle_s: float = 120.0) -> set[str]:
    found = search(*inputs, settle_s=settle_s)
    waiting = {skipped.path.name for skipped in found.skipped if skipped.reason == "settling"}
    names = {path.name for each in found.recordings for path in each.recording.paths}
    assert not names & waiting
    return names


def wav(path: Path) -> Path:
    """A recording with a content of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    by_soundfile(path, SOUND[: len(SOUND) - next(_shorter)], RATE_HZ, "WAV", "PCM_16")
    return path


@pytest.fixture(autouse=True)
def between_looks(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens between the two looks, instead of waiting."""
    happens: list[Callable[[], object]] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: [each() for each in happens])
    return happens


def test_a_file_that_came_a_moment_ago_is_taken_while_nobody_writes_it(tmp_path: Path) -> None:
    """Before, everything younger than two minutes was left: "0 recordings found ... 7 settling"."""
    wav(tmp_path / "whole.wav")
    with wav(tmp_path / "open.wav").open("r+b"):
        assert taken(tmp_path) == {"whole.wav"}
        with (tmp_path / "whole.wav").open("rb"):
            assert taken(tmp_path) == {"whole.wav"}, "who only reads it does not matter"
        assert search(tmp_path).skip_counts == {"settling": 1}
        assert taken(tmp_path, settle_s=0) == {"whole.wav", "open.wav"}
    assert taken(tmp_path) == {"whole.wav", "open.wav"}


def test_what_changes_between_the_looks_waits(
    tmp_path: Path, between_looks: list[Callable[[], object]]
) -> None:
    still = wav(tmp_path / "a" / "still.wav")
    grown = wav(tmp_path / "b" / "grown.ulaw")
    touched = wav(tmp_path / "c" / "touched.wav")
    gone = wav(tmp_path / "d" / "gone.wav")
    joined = wav(tmp_path / "e" / "joined.wav")  # a folder that is being filled: its sidecar may still come

    def grow() -> None:
        with grown.open("ab") as stream:
            stream.write(b"more")

    between_looks += [
        grow,
        lambda: os.utime(touched, (time.time(), time.time())),
        gone.unlink,
        lambda: joined.with_suffix(".json").write_text("{}"),
    ]
    assert taken(tmp_path) == {still.name}


def mp4(path: Path) -> None:
    by_ffmpeg(path, SOUND, RATE_HZ, "mp4", "aac")


def ogg(path: Path) -> None:
    by_soundfile(path, SOUND, RATE_HZ, "OGG", "OPUS")


def matroska(path: Path) -> None:
    by_ffmpeg(path, SOUND, RATE_HZ, "matroska", "flac")


def live_webm(path: Path) -> None:
    by_ffmpeg(path, SOUND, RATE_HZ, "webm", "libopus", options={})
    content = bytearray(path.read_bytes())
    at = content.index(b"\x18\x53\x80\x67") + 4
    content[at : at + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(content)


def flac(path: Path) -> None:
    by_soundfile(path, SOUND, RATE_HZ, "FLAC", "PCM_16")


def unpatched(make: Callable[[Path], object], at: int, content: bytes) -> Callable[[Path], None]:
    """A writer that has not come back to fill in the length."""

    def made(path: Path) -> None:
        make(path)
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + content + whole[at + len(content) :])

    return made


def cut(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def made(path: Path) -> None:
        make(path)
        path.write_bytes(path.read_bytes()[:-200])

    return made


@pytest.mark.parametrize("make", [wav, mp4, ogg, matroska, flac], ids=lambda make: make.__name__)
def test_a_whole_container_has_its_end(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "call.bin")
    assert taken(tmp_path) == {"call.bin"}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(cut(wav), id="cut WAV"),
        pytest.param(unpatched(wav, 4, b"\0\0\0\0"), id="WAV with a size of 0"),
        pytest.param(unpatched(wav, 4, b"\x24\0\0\0"), id="WAV with the size of its header"),
        pytest.param(unpatched(wav, 4, b"\xff\xff\xff\xff"), id="streamed WAV"),
        pytest.param(cut(mp4), id="cut MP4"),
        pytest.param(cut(ogg), id="cut Ogg"),
        pytest.param(live_webm, id="live WebM"),
        pytest.param(unpatched(flac, 21, b"\xf0\0\0\0\0"), id="FLAC of unknown length"),
        pytest.param(lambda path: path.write_bytes(b"RIFF"), id="four bytes"),
    ],
)
def test_a_container_without_its_end_waits_for_its_age(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    path = tmp_path / "call.wav"
    make(path)
    assert taken(tmp_path) == set()
    os.utime(path, (time.time() - 200, time.time() - 200))
    assert taken(tmp_path) == {"call.wav"}, "the age is the upper bound"


def test_without_evidence_the_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wav(tmp_path / "call.wav")
    with monkeypatch.context() as patched:
        patched.setattr(completeness, "LOCAL_FILE_SYSTEMS", set())  # as on a network share
        assert taken(tmp_path) == set()

    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "fcntl", refuse)  # as for a file of another user
        assert taken(tmp_path) == set()
        os.utime(path, (time.time() - 200, time.time() - 200))
        assert taken(tmp_path) == {"call.wav"}


def test_objects_of_a_store_wait_for_their_age() -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    store = fsspec.filesystem("memory")
    store.pipe({"/young/20260301-090000_1.wav": b"RIFF"})
    try:
        assert taken(Path("memory://young")) == set()
        assert taken(Path("memory://young"), settle_s=0) == {"20260301-090000_1.wav"}
    finally:
        store.rm("/young", recursive=True)


def test_a_lone_young_side_waits_for_the_other(tmp_path: Path) -> None:
    wav(tmp_path / "x_caller.wav")
    wav(tmp_path / "caller" / "1.wav")
    wav(tmp_path / "agent" / "1.wav")
    wav(tmp_path / "agent" / "2.wav")
    assert taken(tmp_path) == {"1.wav"}
    wav(tmp_path / "x_agent.wav")
    wav(tmp_path / "caller" / "2.wav")
    assert taken(tmp_path) == {"1.wav", "2.wav", "x_caller.wav", "x_agent.wav"}


def test_folders_in_and_out_are_no_sides_where_out_holds_results(tmp_path: Path) -> None:
    wav(tmp_path / "in" / "call.wav")
    wav(tmp_path / "out" / "clip.wav")
    assert taken(tmp_path / "in") == {"call.wav"}


@pytest.mark.parametrize(
    ("run_after_s", "is_taken"), [(0, True), (60, True), (119, True), (120, True), (121, False)]
)
def test_a_file_that_waited_in_the_last_run_is_taken_by_the_next(
    tmp_path: Path, run_after_s: float, is_taken: bool
) -> None:
    """The last run began while the file was still settling, so it left it, though it covered the call."""
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    path = wav(tmp_path / f"{day - timedelta(days=1):%Y%m%d}-230000_2025550127-all.wav")
    came_at = datetime.fromtimestamp(max(path.stat().st_mtime, path.stat().st_ctime), UTC)
    last = EarlierRun(Window(day - timedelta(days=2), day), came_at + timedelta(seconds=run_after_s))
    next_window = Window(day + timedelta(days=1), day + timedelta(days=2))
    found = find_recordings(
        [tmp_path],
        Settings(discovery=DiscoverySettings(settle_s=120.0)),
        window=next_window,
        now=next_window.until,
        salt=b"salt",
        earlier=[last],
    )
    assert [each.recording.path for each in found.recordings] == [path] * is_taken
