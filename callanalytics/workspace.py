"""The output folder: where everything in it lies, who works in it, and files that are replaced whole.

    OUT/
      callanalytics.duckdb       what people open (published by one rename)
      reports/                   pages, with clips/CALL/ for the evidence to hear
      reports-redacted/          the same without sound and names
      ensembles/                 trained ensembles and which one is in use
      training/                  what retraining cut, extracted and learned
      .work/                     for the jobs alone: the working database, locks, notes, reviews that wait

Nothing else joins a name to the output folder: who needs a path below it asks a `Workspace`."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from callanalytics.errors import LockHeld, StoreError, UsageError
from callanalytics.records.text import display_text

DATABASE_NAME = "callanalytics.duckdb"
# Folders of OUT that hold sound which is no call: clips, pages, training material.
FOLDERS_WITHOUT_CALLS = frozenset({"reports", "reports-redacted", "training"})
# A review that is being kept, a look at the lock: such holders are gone in a moment.
PATIENCE_S = 3.0
_LOOK_AGAIN_S = 0.02
_NO_LOCKS = "The file system of the output folder has no locks. Put it on one that has, or mount it with them"


class TrainingFolder:
    """Where a training keeps what it extracted and its checkpoints: one training at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.cache = folder / "cache"  # extracted features, whole corpora of them
        self.reviewed_clips = folder / "reviewed"  # cut from reviewed calls
        self.history = folder / "history.jsonl"  # of retrainings
        self.lock_file = folder / "train.lock"
        self.retrain_lock_file = folder / "retrain.lock"


class Workspace:
    """Every path below one output folder, its run lock and the note of what the gate holds back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work_dir = folder / ".work"
        # What people open.
        self.database = folder / DATABASE_NAME
        self.reports = folder / "reports"
        self.redacted_reports = folder / "reports-redacted"
        self.report_index = self.reports / "index.html"
        self.redacted_index = self.redacted_reports / "index.html"
        self.clips = self.reports / "clips"
        self.call_pages = self.reports / "calls"
        self.ensembles = folder / "ensembles"
        self.training = TrainingFolder(folder / "training")
        self._zone = self.work_dir / "zone"
        self.kept_utterances = folder / "kept"
        self.erasures = folder / "erasures.jsonl"
        # For the jobs alone.
        self.work_database = self.work_dir / "callanalytics-work.duckdb"
        self.summary = self.work_dir / "summary.json"
        self.unpublished_mark = self.work_dir / "unpublished"
        self.publishing = self.work_dir / "publishing.duckdb"
        self.previous = self.work_dir / "previous.duckdb"  # published before the last one
        self.generations = self.work_dir / "generations.json"
        self.compacting = self.work_dir / "callanalytics-work.compacting"
        self.changing = self.work_dir / "changing"
        self.damaged = self.work_dir / "damaged"  # where a person moved databases that cannot be read
        self.reported = self.work_dir / "reported.json"
        self.review_queue = self.work_dir / "reviews"
        self.playing = self.work_dir / "playing"
        self.schedule_state = self.work_dir / "schedule.json"
        self.logs = self.work_dir / "logs"
        self.damaged_state = self.schedule_state.with_suffix(".damaged")
        self.run_lock = self.work_dir / "run.lock"
        self.schedule_lock = self.work_dir / "schedule.lock"
        self._held = self.work_dir / "held.json"

    def __str__(self) -> str:
        return str(self.folder)

    @classmethod
    def containing(cls, database: Path) -> Workspace:
        """The workspace of a database file, published or working."""
        return cls(next((p.parent for p in database.parents if p.name == ".work"), database.parent))

    def command(self, *words: str) -> str:
        """A command line about this workspace, to be printed: it runs as printed, from any folder."""
        return shlex.join(["callanalytics", *words, "--out", str(self.folder.absolute())])

    def clips_of(self, call_id: str) -> Path:
        """Folder of the evidence clips and images of one call."""
        return self.clips / call_id

    @property
    def has_results(self) -> bool:
        """Whether a run ever wrote here."""
        # Not Path.exists, which raises for a folder that is closed to us.
        return os.path.exists(self.work_database) or os.path.exists(self.database)  # noqa: PTH110

    @property
    def zone(self) -> str | None:
        """The zone that the results here were made with (UTC where none is noted); None without any."""
        try:
            return ZoneInfo(self._zone.read_text(encoding="utf-8").strip()).key
        except (OSError, ValueError, ZoneInfoNotFoundError):
            return "UTC" if self.has_results else None

    def note_zone(self, zone: ZoneInfo) -> None:
        """Note the zone that results are made with. Raises OSError."""
        write_whole(self._zone, f"{zone.key}\n")

    def require_results(self, purpose: str) -> None:
        """Refuse to do something to results that are not there.

        Raises:
            UsageError: no run ever wrote here; `purpose` completes "no results here to ...".
        """
        if not self.has_results:
            raise UsageError(
                f"{self.folder}: no results here to {purpose}. Give --out the folder of the results."
            )

    def make(self) -> None:
        """Make the folder and its working part, readable by their owner only. Raises OSError, UsageError."""
        try:
            str(self.folder.absolute()).encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"{display_text(str(self.folder))}: the name is no UTF-8, which no database opens. Give "
                "--out another, or set a locale of UTF-8 (LC_ALL=C.UTF-8)."
            ) from None
        make_private_dir(self.folder)
        make_private_dir(self.work_dir)

    @contextmanager
    def lock(self, *, patience_s: float | None = None) -> Iterator[None]:
        """Be the only job that writes here while the block runs. Raises LockHeld, see `file_lock`."""
        with file_lock(self.run_lock, patience_s=patience_s):
            yield

    def remove_leftovers(self) -> None:
        """Remove what killed processes left: it may hold rows, pages and sound of any call.

        The caller holds the run lock. What others are making has a lock of its own (`folder_in_the_making`).
        """
        for folder in (*self.work_dir.glob("*.duckdb.tmp"), self.changing):
            shutil.rmtree(folder, ignore_errors=True)
        for pattern in ("*.restoring", "*.compacting*", "publishing.duckdb*"):
            for unfinished in self.work_dir.glob(pattern):
                unfinished.unlink(missing_ok=True)
        for name, inner, files in os.walk(self.folder):
            folder = Path(name)
            for entry in (begun := [entry for entry in (*inner, *files) if _UNFINISHED.fullmatch(entry)]):
                remove_if_left(folder / entry)
            known = (self.training.run, self.training.cache)  # of trainings, which are many
            inner[:] = [entry for entry in inner if entry not in begun and folder / entry not in known]

    # What the gate holds back --------------------------------------------------------------------------

    def hold(self, run_id: int, since: datetime, until: datetime, reasons: Sequence[str]) -> None:
        """Note that a run over a window was not published, and why."""
        note = {
            "run_id": run_id,
            "held_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "since": since.isoformat(),
            "until": until.isoformat(),
            "reasons": list(reasons),
        }
        write_whole(self._held, json.dumps(note) + "\n", durable=True)

    @property
    def held(self) -> dict[str, Any] | None:
        """What is held back and why: run_id, held_at, since, until, reasons; None when nothing is.

        A note that cannot be read still holds back: nothing may get out because of it.
        """
        if not os.path.lexists(self._held):
            return None
        note = read_object(self._held) or {}
        try:
            at = datetime.fromisoformat(note["held_at"]).astimezone(UTC).isoformat()
            return {**note, "held_at": at, "reasons": [str(reason) for reason in note["reasons"]]}
        except (KeyError, TypeError, ValueError):
            at = datetime.fromtimestamp(self._held.lstat().st_mtime, UTC).isoformat(timespec="seconds")
            why = f"{self._held}: the note of why cannot be read. The next run assesses the night again."
            return {"run_id": None, "held_at": at, "since": None, "until": None, "reasons": [why]}

    def release(self) -> None:
        """Nothing is held back any more: everything was published."""
        self._held.unlink(missing_ok=True)


# Files -----------------------------------------------------------------------------------------------------


def make_private_dir(folder: Path) -> None:
    """Make a folder that only its owner may enter, and likewise the missing ones above it; one that is there
    keeps its mode. Raises OSError."""
    if folder.exists():
        return
    make_private_dir(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)  # made by another process meanwhile is as good
    os.chmod(folder, 0o700)  # noqa: PTH101 - the umask narrows mkdir's mode


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace a file so that a reader sees the old or the new content, never a part. Raises OSError.

    Several may write it at once: the last one wins. `durable`: it survives a loss of power, too, for what
    nobody can make again.
    """
    partial, descriptor = _begun(path, lambda name: os.open(name, _NEW_FILE, mode))
    try:
        with os.fdopen(descriptor, "wb") as file:  # closed, and so unlocked, when it has its name
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fchmod(descriptor, mode)  # the umask narrows the mode of open
            if durable:
                os.fsync(descriptor)
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def folder_in_the_making(target: Path) -> Iterator[Path]:
    """An empty private folder beside `target`, to be filled and renamed; what is left of it goes in the end.

    What killed processes left of the same target goes first. Raises OSError.
    """
    for left in target.parent.glob(f".{glob.escape(target.name)}.*part"):
        remove_if_left(left)

    def make(name: Path) -> int:
        name.mkdir(mode=0o700)
        try:
            name.chmod(0o700)
            return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # taken for left in the moment before it was opened
            return make(name)

    folder, descriptor = _begun(target, make)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Names of what is in the making: any, an ensemble, and those of earlier versions.
_UNFINISHED = re.compile(r"\..*\.part|\.arriving-.*|\.building-.*|\.export-.*|\.report.*\.tmp", re.DOTALL)
_LEFT_AFTER_S = 3600.0


def _begun(target: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """A new name beside `target`, made and locked: so what is in the making is told from what was left."""
    while True:
        name = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        descriptor = make(name)
        with suppress(OSError):  # a share may lock no folders: there the age tells
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # else it was taken for left in the moment before the lock
            return name, descriptor
        os.close(descriptor)


def remove_if_left(path: Path) -> None:
    """Remove a file or folder in the making unless its maker is alive, and if it can be removed."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not _is_left(descriptor, found):
                return
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(descriptor)


def _is_left(descriptor: int, found: os.stat_result) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this share locks no folders
        return time.time() - found.st_mtime > _LEFT_AFTER_S
    return True


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a small file of ours; None when there is none or it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


# Locks -----------------------------------------------------------------------------------------------------


@contextmanager
def file_lock(path: Path, *, patience_s: float | None = None) -> Iterator[None]:
    """Hold the lock file while the block runs; wait `patience_s` (PATIENCE_S) for another holder to go.

    An advisory lock: a process that died has released it, since the kernel drops it.

    Raises:
        LockHeld: another process holds it; the message names its process, machine and start.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _locked(descriptor, PATIENCE_S if patience_s is None else patience_s):
            raise LockHeld(
                f"{path}: another run is at work: {_describe(descriptor)}. "
                "Wait for it to end, or stop that process."
            )
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_AGAIN_S)
        except OSError as problem:
            raise StoreError(f"{_NO_LOCKS} ({problem.strerror}).") from problem
        else:
            return True


def lock_holder(path: Path) -> str | None:
    """Words about the process that holds the lock, None when it is free.

    The lock is not touched unless a holder has left its name, and then shared: many may look at once, and
    a run that starts in that moment waits no longer than the look takes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not os.pread(descriptor, 1, 0):
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe(descriptor)
    except OSError:  # no file: nobody can hold it, and a run says what is wrong
        return None
    else:
        return None
    finally:
        os.close(descriptor)


def _describe(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}, started {holder['started_at']}"
    except (ValueError, KeyError, TypeError):
        return "a process that did not leave its name"
