"""After kill -9 at a named point of any command: nothing is left of a purged call, nothing is stuck."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import run_command
from killer import KillAt
from short_calls import call, environment, rows, settle, short_call

from callanalytics.ingest.recorders.phone_numbers import SALT_BYTES, load_or_make_salt
from callanalytics.store import open_work
from callanalytics.workspace import Workspace, folder_in_the_making, write_whole
from jobs.publishing import unnamed_clips

CONFIG = """
[[rule]]
name = "any"
measure = "silence_share"
role = "any"
at_least = 0.0
reason = "every call"
[words]
transcripts = ["beside"]
[[rule]]
name = "animal"
measure = "phrase"
role = "any"
phrases = ["my animal is"]
at_least = 1
reason = "names an animal"
"""
NAMES = ("20250327-092517-Anna-Old.wav", "20250327-101112-Ben-Old.wav")
WORDS = ("walrus", "badger")  # what is said in them


@dataclass(frozen=True)
class Place:
    """Recordings, settings and the output folder of one test."""

    folder: Path
    config: Path
    calls: Path
    out: Path

    def options(self, *words: object) -> tuple[object, ...]:
        return (*words, "--config", self.config, "--out", self.out)

    def night(self, *more: object) -> tuple[object, ...]:
        since = ("--since", "2000-01-01", "--workers", 1)
        return self.options("run", *since, "--input", self.calls, *more)

    @property
    def ids(self) -> list[str]:
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(self.calls.glob("*.wav"))]


def place_in(folder: Path) -> Place:
    place = Place(folder, folder / "config.toml", folder / "calls", folder / "out")
    place.calls.mkdir()
    place.config.write_text(CONFIG)
    return place


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One call, flagged, with clips, published; a second one has come since."""
    place = place_in(tmp_path_factory.mktemp("killed"))
    spoken(place, 0, seed=4)
    settle(place.calls)
    run_command(*place.night())
    assert rows(place.out / "callanalytics.duckdb", "SELECT flagged FROM call_summary") == [(True,)]
    spoken(place, 1, seed=5)
    settle(place.calls)
    database = place.out / "callanalytics.duckdb"
    assert rows(database, "SELECT count(*) FROM utterances WHERE text LIKE '%walrus%'") == [(1,)]
    assert b"walrus" in database.read_bytes(), "words can be found in the bytes of a database"
    return place


def spoken(place: Place, number: int, seed: int) -> None:
    """A recording and its transcript."""
    short_call(place.calls / NAMES[number], seed, 4.0)
    said = [
        {"start": 0.2, "end": 1.8, "text": f"my animal is a {WORDS[number]}", "speaker": "one"},
        {"start": 2.2, "end": 3.8, "text": "one moment please", "speaker": "two"},
    ]
    transcript = (place.calls / NAMES[number]).with_suffix(".json")
    transcript.write_text(json.dumps({"segments": said}))


@pytest.fixture
def place(first_night: Place, tmp_path: Path) -> Place:
    shutil.copytree(first_night.folder, tmp_path, dirs_exist_ok=True)
    return place_of(tmp_path)


def place_of(folder: Path) -> Place:
    return Place(folder, folder / "config.toml", folder / "calls", folder / "out")


def killed(place: Place, kill: KillAt, *words: object) -> None:
    """Run a command that does not survive that point."""
    done = call(*words, env=kill.environment(place.folder / "killer"), expect=None)
    assert done.returncode == -signal.SIGKILL, f"{kill} never came: {done.returncode}\n{done.stderr}"


def traces(place: Place, ids: list[str], clips: list[bytes]) -> set[str]:
    """Files of the output folder that hold or bear an id, a name, a clip or a word of a call."""
    words = [word.encode() for each in ids for word in (each, each[:16])]
    words += [name.removesuffix(".wav").encode() for name in NAMES]
    words += [clip[:200] for clip in clips] + [word.encode() for word in WORDS]
    found = set()
    for path in place.out.rglob("*"):
        name = str(path.relative_to(place.out))
        content = path.read_bytes() if path.is_file() else b""
        if any(word in content or word in name.encode() for word in words):
            found.add(name)
    return found


def review(place: Place, *more: object) -> tuple[object, ...]:
    (call_id,) = next(iter(rows(place.out / "callanalytics.duckdb", "SELECT call_id FROM calls")))
    return ("review", call_id, "--verdict", "confirm", "--note", NAMES[0], *more, "--out", place.out)


def refused(place: Place) -> tuple[object, ...]:
    """A night that has to refuse a review."""
    queue = Workspace(place.out).review_queue
    queue.mkdir(exist_ok=True)
    words = {"call_id": place.ids[0][:16], "verdict": "reject", "rule": "none of them"}
    (queue / "20250401.json").write_text(json.dumps(words) + "\n")
    return place.night()


def purged(place: Place) -> tuple[object, ...]:
    return place.options("purge", "--older-than", "2026-01-01")


def judged_again(place: Place) -> tuple[object, ...]:
    """By other rules, so that flags, reasons and moments of the call are written again."""
    other = place.folder / "other.toml"
    other.write_text(CONFIG.replace("every call", "any call").replace("names an animal", "an animal"))
    return ("rejudge", "--config", other, "--out", place.out)


Words = Callable[[Place], tuple[object, ...]]
POINTS: list[tuple[Words, KillAt]] = [
    (refused, KillAt("os.rename", "refused/.*txt")),
    (purged, KillAt("os.rename", "callanalytics.duckdb")),
]
MORE_POINTS: list[tuple[Words, KillAt]] = [
    (Place.night, KillAt("os.rename", "/clips/", 2)),  # one clip of the new call is written
    (Place.night, KillAt("open", "summary.json")),
    (Place.night, KillAt("os.chmod", "publishing.duckdb")),
    (Place.night, KillAt("os.link", "previous.duckdb")),
    (Place.night, KillAt("os.rename", "callanalytics.duckdb")),
    (Place.night, KillAt("os.rename", "calls/[0-9a-f]*.html", 2)),
    (Place.night, KillAt("os.rename", "/index.html", 3)),
    (lambda place: place.night("--force"), KillAt("os.rename", "/clips/", 3)),
    (refused, KillAt("os.rename", "refused/.*json")),
    (refused, KillAt("os.remove", "reviews/20250401.json")),
    (purged, KillAt("shutil.rmtree", "reports/clips/")),
    (purged, KillAt("os.remove", "reports/calls/")),
    (purged, KillAt("os.rename", "callanalytics-work.duckdb")),
    (purged, KillAt("os.rename", "reports/index.html")),
    (lambda place: place.options("report", "--since", "2025-01-01"), KillAt("os.rename", "/index.html", 2)),
    (
        lambda place: place.options("report", "--since", "2025-01-01", "--single-file"),
        KillAt("os.rename", "report.html"),
    ),
    (
        lambda place: place.options("report", "--since", "2025-01-01", "--redact"),
        KillAt("os.rename", "/index.html", 2),
    ),
    (lambda place: ("export", place.out / "export", "--out", place.out), KillAt("open", "export.json")),
    (review, KillAt("os.rename", "reviews/")),
    (judged_again, KillAt("open", "unpublished")),
    (judged_again, KillAt("os.chmod", "publishing.duckdb")),
    (judged_again, KillAt("os.rename", "callanalytics.duckdb")),
    (judged_again, KillAt("os.rename", "calls/[0-9a-f]*.html")),
    (lambda place: ("export", place.out / "export", "--out", place.out), KillAt("os.rename", "export")),
]


def check_no_trace(place: Place, words: Words, kill: KillAt) -> None:
    ids, command = place.ids, words(place)
    logs = Workspace(place.out).logs
    logs.mkdir()
    (logs / "run.log").write_text(f"{NAMES[0]}: quarantined\n")
    killed(place, kill, *command)
    clips = [path.read_bytes() for path in (place.out / "reports" / "clips").rglob("*.mp3")]
    shutil.rmtree(place.calls)
    assert traces(place, ids, clips)
    run_command(*purged(place))
    assert traces(place, ids, clips) == set()


def named(value: object) -> str:
    return str(value) if isinstance(value, KillAt) else ""


@pytest.mark.parametrize(("words", "kill"), POINTS, ids=named)
def test_a_purge_after_a_kill_leaves_no_byte_of_the_calls(place: Place, words: Words, kill: KillAt) -> None:
    check_no_trace(place, words, kill)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "kill"), MORE_POINTS, ids=named)
def test_a_purge_after_a_kill_at_any_point(place: Place, words: Words, kill: KillAt) -> None:
    check_no_trace(place, words, kill)


def test_clips_of_a_call_that_left_go_with_the_next_run(place: Place) -> None:
    """The run died between clips and commit, and the recording is gone: no row will ever name them."""
    killed(place, KillAt("open", "unpublished"), *place.night())
    gone = place.ids[1]
    assert gone[:16] in {folder.name for folder in Workspace(place.out).clips.iterdir()}
    (place.calls / NAMES[1]).unlink()
    run_command(*place.night())
    assert [folder.name for folder in Workspace(place.out).clips.iterdir()] == [place.ids[0][:16]]


def test_clips_that_only_the_published_file_names_stay(place: Place) -> None:
    """A newer version of the call waits with a night that the gate holds back: people hear the old one."""
    workspace = Workspace(place.out)
    with open_work(workspace) as store:
        store.connection.execute("DELETE FROM base.calls")
        assert unnamed_clips(store) == []
        workspace.database.unlink()
        assert [folder.name for folder in unnamed_clips(store)] == [place.ids[0][:16]]


def test_what_is_in_the_making_stays_and_what_was_left_goes(tmp_path: Path) -> None:
    """Of three processes that each make a folder, the living one keeps it."""
    workspace = Workspace(tmp_path)
    workspace.make()
    making = [
        subprocess.Popen([sys.executable, "-c", _MAKING, tmp_path / "export"], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    try:
        folders = [Path(first_line(maker)) for maker in making]
        assert len({folder for folder in folders if folder.is_absolute()}) == 3, "each made one"
        making[0].kill()
        making[1].kill()
        making[0].wait()
        making[1].wait()
        workspace.remove_leftovers()
        assert [folder.exists() for folder in folders] == [False, False, True]
    finally:
        for maker in making:
            maker.kill()
            maker.wait()
    workspace.remove_leftovers()
    assert not folders[2].exists()


def test_who_makes_a_folder_while_another_tidies_up_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is made and not yet locked looks like one that was left."""
    chmod, taken = Path.chmod, []

    def tidied_before(path: Path, mode: int) -> None:
        if not taken:
            taken.append(path)
            path.rmdir()
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", tidied_before)
    with folder_in_the_making(tmp_path / "export") as folder:
        assert taken == [folder]
        assert folder.is_dir()
    with pytest.raises(FileNotFoundError), folder_in_the_making(tmp_path / "nowhere" / "export"):
        pass


def first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


_MAKING = """
import sys, time
from pathlib import Path
from callanalytics.workspace import folder_in_the_making
with folder_in_the_making(Path(sys.argv[1])) as folder:
    (folder / "rows").write_text("of a call")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_two_who_write_one_file_at_once_leave_one_of_both(tmp_path: Path) -> None:
    path, contents = tmp_path / "note.json", [b"a" * 3_000_000, b"b" * 3_000_000]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            list(pool.map(lambda content: write_whole(path, content), contents))
            assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["note.json"]


def test_an_empty_salt_that_a_kill_left_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ".caller-salt"
    path.write_bytes(b"")
    assert load_or_make_salt(path) == load_or_make_salt(path) == bytes.fromhex(path.read_text())
    assert caplog.text.count("was empty and is made anew") == 1


def test_a_kill_while_the_salt_is_written_leaves_no_salt(tmp_path: Path) -> None:
    kill, path = KillAt("os.rename", "caller-salt"), tmp_path / "out" / ".caller-salt"
    path.parent.mkdir()
    making = [sys.executable, "-c", _SALTING, str(path)]
    done = subprocess.run(making, env=environment(**kill.environment(tmp_path / "killer")), check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(load_or_make_salt(path)) == SALT_BYTES
    Workspace(path.parent).remove_leftovers()
    assert list(path.parent.iterdir()) == [path]


_SALTING = """
import sys
from pathlib import Path
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt
load_or_make_salt(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_review_that_cannot_be_refused_does_not_stop_the_night(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    words = refused(place)
    (Workspace(place.out).review_queue / "refused").write_text("in the way")
    run_command(*words)
    assert "cannot be taken in and stays in the queue" in caplog.text
    assert rows(place.out / "callanalytics.duckdb", "SELECT count(*) FROM calls") == [(2,)]
