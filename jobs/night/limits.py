"""Limits of a run: it stops early without losing committed work, and no recording takes all memory."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from types import FrameType, TracebackType


class StopWatch:
    """Asks a run to stop on SIGINT, SIGTERM or when its time budget is used.

    Inside the block the first signal only sets `requested`; a second one does what it did before the
    block. Outside the main thread (tests, servers) no handler can be set and only the budget counts.
    """

    def __init__(self, time_budget_s: float | None = None) -> None:
        self._deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        self._signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopWatch:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread
            self._previous.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is None:
            self._signal = number
            return
        before = self._previous.get(number)
        if callable(before):
            before(number, frame)
        raise KeyboardInterrupt

    def requested(self) -> bool:
        """Whether the run should end now."""
        return self._signal is not None or self.out_of_time

    @property
    def out_of_time(self) -> bool:
        """Whether the time budget is used."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def exit_code(self, n_left: int) -> int | None:
        """130 or 143 after a signal, 7 when out of time with something left to do, else None."""
        if self._signal is not None:
            return 128 + self._signal
        return 7 if n_left and self.out_of_time else None


# Of all memory that there is, for all workers together; the rest is for the writer and the system.
SHARE = 0.9
# Beyond the loaded models, however many workers share a small machine: where there is no temporary folder for
# its samples, a call of four hours in two channels takes 1 GB. Too little for two such calls at once, it is
# still enough for one alone, which is tried then.
LEAST_BYTES = 2 << 30
# Limits of containers: cgroup v2 (memory.max) and v1.
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def limit_memory(n_workers: int) -> None:
    """Limit what this process may allocate, its models being loaded, to its share of all memory.

    Private data count (RLIMIT_DATA), not files and libraries. What asks for more gets no memory, which is an
    error of that recording; without the limit, the kernel would kill any process.
    """
    limit = max(int(SHARE * memory_bytes() / n_workers), _used_bytes() + LEAST_BYTES)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def limit_of_memory() -> int | None:
    """What `limit_memory` allowed this process in bytes; None without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if limit == resource.RLIM_INFINITY else limit


def memory_bytes() -> int:
    """Memory of this machine, or what its container grants."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUP_LIMITS:
        try:
            limits.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such cgroup, or "max"
            continue
    return min(limits)


def _used_bytes() -> int:
    """Private data of this process (proc(5), statm: data and stack in pages)."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[5]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
