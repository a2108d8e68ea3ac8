"""One run at a time: an advisory lock that the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from callanalytics.errors import LockHeld

# Below the output folder: one retraining at a time, and no purge of the calls that it listens to.
RETRAINING = "training/retrain.lock"
# In a training's work folder (of an output folder: `training`): its checkpoints and hearings are its own.
TRAINING = "train.lock"
# A review that is being kept, a look at the lock: such holders are gone in a moment.
PATIENCE_S = 3.0
_LOOK_AGAIN_S = 0.02


@contextmanager
def run_lock(path: Path, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the lock file for the duration of the block; wait `patience_s` for another holder to go.

    A lock left by a process that died is free again at once, since the kernel releases it.

    Raises:
        LockHeld: another process holds it; the message names its process, machine and start.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _locked(descriptor, patience_s):
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
