"""Another file, or a link, in the place of a recording after it was found: it is not kept as that call."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from short_calls import rows, settle, short_call

from callanalytics.audio import decode_recording
from callanalytics.config import AudioSettings, DiscoverySettings, Settings
from callanalytics.config.window import Window
from callanalytics.errors import RecordingChanged, UnreadableFile
from callanalytics.ingest import Discovered, find_recordings
from callanalytics.ingest.listing import FileKey, KnownFile, nothing_known
from callanalytics.records import FoundRecording
from jobs.night import RunOptions
from jobs.night.run import run_night

pytestmark = pytest.mark.usefixtures("analysed_here")

NOW = datetime.now(UTC)
NAMES = ("file.wav", "inner/call.wav", "other.wav", "stays.wav")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Four calls, and as many of the same names outside."""
    for number, folder in enumerate(("calls", "outside")):
        (tmp_path / folder / "inner").mkdir(parents=True)
        for place, name in enumerate(NAMES):
            short_call(tmp_path / folder / name, 10 * number + place)
        settle(tmp_path / folder)
    return tmp_path / "calls"


def swap(calls: Path) -> None:
    """A link for a file, a link for a folder, another file of the same size and time."""
    outside = calls.parent / "outside"
    (calls / "file.wav").unlink()
    (calls / "file.wav").symlink_to(outside / "file.wav")
    (calls / "inner").rename(calls.parent / "inner-was")
    (calls / "inner").symlink_to(outside / "inner")
    before = (calls / "other.wav").stat()
    shutil.copyfile(outside / "other.wav", calls / "other.wav")
    os.utime(calls / "other.wav", ns=(before.st_atime_ns, before.st_mtime_ns))


def search(calls: Path, known: Callable[[Sequence[FileKey]], Mapping[FileKey, KnownFile]]) -> Discovered:
    return find_recordings(
        [calls], Settings(), window=Window(NOW - timedelta(days=1), NOW), now=NOW, salt=b"", known=known
    )


def reason(found: FoundRecording) -> str | None:
    try:
        decode_recording(found.recording.paths, AudioSettings(), recording_id=found.recording.recording_id)
    except UnreadableFile as problem:
        return problem.reason
    return None


def test_what_is_swapped_before_the_analysis_is_not_decoded_as_what_was_found(calls: Path) -> None:
    found = {each.recording.path.name: each for each in search(calls, nothing_known).recordings}
    assert all(reason(each) is None for each in found.values())
    swap(calls)
    reasons = {name: reason(each) for name, each in found.items()}
    assert reasons == {
        "file.wav": "changed", "call.wav": "changed", "other.wav": "changed", "stays.wav": None
    }  # fmt: skip


def test_what_is_swapped_for_a_link_while_the_search_goes_on_is_not_read(calls: Path) -> None:
    def swapping(keys: Sequence[FileKey]) -> Mapping[FileKey, KnownFile]:
        swap(calls)  # everything is listed, nothing is hashed
        return {}

    found = search(calls, swapping)
    assert {(f.found.recording.path.name, f.reason) for f in found.failures} == {
        ("file.wav", "changed"), ("call.wav", "changed")
    }  # fmt: skip
    assert {each.recording.path.name for each in found.recordings} == {"other.wav", "stays.wav"}


def test_links_are_followed_where_that_is_wanted(calls: Path) -> None:
    swap(calls)
    settings = Settings(discovery=DiscoverySettings(follow_links=True))
    window = Window(NOW - timedelta(days=1), NOW)
    found = find_recordings([calls], settings, window=window, now=NOW, salt=b"")
    assert len(found.recordings) == len(NAMES)
    assert not found.failures


def test_a_file_that_is_written_to_while_it_is_decoded_is_not_believed(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = calls / "stays.wav"

    def growing(*_: object) -> None:
        with path.open("ab") as file:
            file.write(bytes(100))

    monkeypatch.setattr("callanalytics.audio.source.check_format", growing)
    monkeypatch.setattr("callanalytics.audio.wav.check_format", growing)
    with pytest.raises(RecordingChanged, match="written to while it was read"):
        decode_recording([path], AudioSettings())


@pytest.mark.slow
def test_a_night_quarantines_what_is_swapped(calls: Path, tmp_path: Path) -> None:
    def swapping(stage: str, done: int, total: int, note: str) -> None:
        if (stage, done) == ("analyse", 0):
            swap(calls)

    options = RunOptions(inputs=(calls,), out=tmp_path / "out", since="1d", workers=1, no_gate=True)
    assert run_night(Settings(), options, on_progress=swapping).exit_code == 3
    database = tmp_path / "out" / "callanalytics.duckdb"
    assert rows(database, "SELECT reason, count(*) FROM quarantine GROUP BY ALL") == [("changed", 3)]
    ((analysed,),) = rows(database, "SELECT path FROM recordings")
    assert Path(analysed).name == "stays.wav"
