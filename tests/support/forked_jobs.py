"""Jobs that begin at once: the real entry point in a process forked from one that has the imports.

A process of its own costs more than a second of imports, in which it does nothing to the output folder. What
is forked here has one thread and no file of the product open, so a job is in it as it is in a fresh one: it
can be killed, its children are its own, and the kernel frees its locks.

    with Forge() as forge:
        job = forge.start(["run", "--out", ...], log, tag="x")
        job.kill(); job.wait_code()
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from killer import processes_with
from short_calls import environment

# None of them begins a thread; polars, pyarrow and onnxruntime do, and are imported by the job.
PRELOADED = (
    *("numpy", "scipy.signal", "scipy.optimize", "duckdb", "av", "soundfile", "jinja2", "pydantic", "click"),
    *("torch", "streamlit.web.bootstrap", "apscheduler.schedulers.background", "jobs.cli.main"),
)
TAG = "CALLANALYTICS_TEST_TAG"


@dataclass
class Job:
    """A process that the forge has forked; it leads a session of its own."""

    pid: int
    forge: Forge

    def poll(self) -> int | None:
        """Its exit code as `subprocess` has it, None while it runs."""
        self.forge.hear()
        return self.forge.ended.get(self.pid)

    def send_signal(self, number: int) -> None:
        """A signal to it alone, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ended, and the forge is about to say so
                os.kill(self.pid, number)


@dataclass
class Forge:
    """The process that has the imports, and what it said of the jobs that it forked."""

    ended: dict[int, int] = field(default_factory=dict)

    def __enter__(self) -> Forge:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(OPENBLAS_NUM_THREADS="1"),
            text=True,
            bufsize=1,
        )
        assert self._said(1e6) == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def start(self, words: Sequence[object], log: Path, tag: str, folder: Path) -> Job:
        """Fork a job that writes what it says to `log`; it and all that it starts can be found by the tag."""
        assert self._process.stdin is not None
        asked = {"words": list(map(str, words)), "log": str(log), "tag": tag, "folder": str(folder)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        while not (said := self._said(60)).startswith("pid "):
            self._note(said)
        return Job(int(said.split()[1]), self)

    def hear(self) -> None:
        """Take in which jobs have ended."""
        while said := self._said(0):
            self._note(said)

    def _note(self, said: str) -> None:
        _, pid, code = said.split()
        self.ended[int(pid)] = int(code)

    def _said(self, timeout_s: float) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ)
            if not ready.select(timeout_s):
                return ""
        # A line is written at once, and nothing is read ahead: `select` sees the pipe and not a buffer.
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(stdout.fileno(), 1)
            assert byte, "the forge has ended"
            line += byte
        return line.decode().strip()


def still_running(tag: str, jobs: Sequence[Job]) -> list[int]:
    """Processes of some jobs: their own, those of their sessions, and what has the tag in its environment."""
    sessions = {job.pid for job in jobs}
    found = set(processes_with(tag))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            facts = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(facts[3]) in sessions and facts[0] != "Z":
            found.add(int(folder.name))
    return sorted(found)


def _forge() -> None:
    """Import, then fork what is asked for on the standard input and say who has ended and how."""
    for name in PRELOADED:
        import_module(name)
    from jobs.cli.main import COMMANDS

    for module in sorted(set(COMMANDS.values())):
        import_module(f"jobs.cli.{module}")
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lose threads"
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    os.write(1, b"ready\n")
    asked = b""
    with selectors.DefaultSelector() as ready:
        ready.register(0, selectors.EVENT_READ)
        ready.register(wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                got = os.read(key.fd, 4096)
                if key.fd == wake_read:
                    _say_who_ended()
                elif not got:
                    return
                else:
                    asked += got
            while b"\n" in asked:
                line, _, asked = asked.partition(b"\n")
                pid = os.fork()
                if pid == 0:
                    _become(json.loads(line), (wake_read, wake_write))
                os.write(1, f"pid {pid}\n".encode())


def _say_who_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        os.write(1, f"ended {pid} {os.waitstatus_to_exitcode(status)}\n".encode())


def _become(asked: dict[str, object], pipes: tuple[int, int]) -> None:
    """In the fork: be a job that was started from a shell, to the end."""
    import atexit
    import random
    import runpy

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for number in pipes:
        os.close(number)
    for target, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, str(asked["log"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        descriptor = os.open(path, flags, 0o600)
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.dup2(1, 2)
    os.chdir(str(asked["folder"]))
    os.environ[TAG] = str(asked["tag"])
    random.seed()
    words = asked["words"]
    assert isinstance(words, list)
    sys.argv = ["callanalytics", *words]
    code = 70
    try:
        runpy.run_module("callanalytics", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        import threading

        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does before atexit
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path[:] = sys.argv[1:]
    _forge()
