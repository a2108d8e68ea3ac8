"""Kills a process at a named point: the n-th time that it is about to do something to a path that matches.

Written as `sitecustomize.py` into a folder of PYTHONPATH: an audit hook of Python sees every `open`,
`os.rename` (also of `Path.replace`), `os.remove`, `os.chmod` and `shutil.rmtree` before it happens. So the
product needs no hooks, and what the process has done until then is on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saboteur import with_path

_CODE = """
import os, re, signal, sys

event, pattern, count = os.environ["CALLANALYTICS_TEST_KILL"].split("|")
wanted, left = re.compile(pattern), [int(count)]

def matches(value):
    return isinstance(value, (str, bytes, os.PathLike)) and wanted.search(os.fsdecode(value))

def hook(name, args):
    if name == event and any(map(matches, args)):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""


@dataclass(frozen=True)
class KillAt:
    """The `count`-th audit event of a name with an argument that matches the pattern."""

    event: str
    pattern: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.event}:{self.pattern}:{self.count}"

    def environment(self, folder: Path) -> dict[str, str]:
        """The environment of the process that is to be killed; `folder` is for its `sitecustomize.py`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sitecustomize.py").write_text(_CODE, encoding="utf-8")
        words = f"{self.event}|{self.pattern}|{self.count}"
        return {**with_path(folder), "CALLANALYTICS_TEST_KILL": words}


def processes_with(tag: str) -> list[int]:
    """Processes of ours, by a word in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if tag.encode() in (folder / "environ").read_bytes() and "\nState:\tZ" not in (
                folder / "status"
            ).read_text(encoding="utf-8"):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return found
