"""Child processes of the schedule: each job runs our own command line, with what it says in a file."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from callanalytics.workspace import make_private_dir

TAIL_BYTES = 4000
INTERRUPTED = 143


class Children:
    """Runs one child per job at a time; what it says goes to `folder/<job>.log`, of its last run only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._not_begun: set[str] = set()  # asked to stop between planning and starting
        self._closed = False
        self._guard = threading.Lock()

    def __call__(self, job: str, command: Sequence[str]) -> tuple[int, str]:
        """Run a command and wait: exit code (negative: killed by that signal), last line it said."""
        make_private_dir(self.folder)
        path = self.folder / f"{job}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as told:
            with self._guard:
                if self._closed or job in self._not_begun:
                    self._not_begun.discard(job)
                    return INTERRUPTED, "not started: the schedule was stopping"
                # A session of its own: Ctrl-C at the terminal reaches the schedule, which asks the child.
                child = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=told,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running[job] = child
            try:
                code = child.wait()
            finally:
                with self._guard:
                    del self._running[job]
        return code, f"{_last_line(path)} [{path}]"

    def stop(self, job: str | None = None) -> None:
        """Ask the child of a job to end at its next safe point; without a job all, and start no more."""
        with self._guard:
            self._closed |= job is None
            if job is not None and job not in self._running:
                self._not_begun.add(job)
            for name, child in self._running.items():
                if job in (None, name):
                    child.terminate()


def _last_line(path: Path) -> str:
    with path.open("rb") as told:
        told.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = told.read().decode("utf-8", errors="replace").split("\n")
    words = [line.strip() for line in lines if line.strip()]
    return words[-1][:300] if words else "said nothing"
