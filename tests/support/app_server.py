"""The app as a process of its own for browser tests, which notes every connection it opens to elsewhere."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

START_LIMIT_S = 90.0

# Runs before anything else in the server: an audit hook cannot be removed again.
_WATCHED = """
import sys
noted = open({noted!r}, "a", buffering=1)
def watch(event, args):
    if event == "socket.connect":
        address = args[1]
        host = address[0] if isinstance(address, tuple) else "local"
        if host not in ("127.0.0.1", "::1", "localhost", "local"):
            noted.write(f"connect {{address}}\\n")
    elif event == "socket.getaddrinfo" and args[0] not in (None, "127.0.0.1", "localhost", "::1"):
        noted.write(f"look up {{args[0]}}\\n")
sys.addaudithook(watch)
sys.argv = ["callanalytics", *{arguments!r}]
from jobs.cli.main import main
main()
"""


@dataclass(frozen=True)
class Served:
    """A running app: where it is, its results, and what it tried to reach outside."""

    url: str
    out: Path
    noted: Path
    log: Path

    def outside(self) -> str:
        """Every connection or look-up that left this machine, one a line."""
        return self.noted.read_text() if self.noted.exists() else ""


@contextmanager
def serving(out: Path, *extra: str) -> Iterator[Served]:
    """The app on a free port of loopback, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    noted, log = out / "outside.txt", out / "server.log"
    arguments = ["app", "--out", str(out), "--port", str(port), "--no-browser", *extra]
    code = _WATCHED.format(noted=str(noted), arguments=arguments)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as words:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=words, stderr=subprocess.STDOUT, cwd=out, env=environment
        )
    served = Served(f"http://127.0.0.1:{port}", out, noted, log)
    try:
        _wait(served, process)
        yield served
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(served: Served, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, served.log.read_text()
        try:
            with urlopen(f"{served.url}/_stcore/health", timeout=2) as answered:
                if answered.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the app did not start in {START_LIMIT_S:.0f} s:\n{served.log.read_text()}")
