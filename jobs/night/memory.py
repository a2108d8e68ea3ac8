"""A limit on the memory of each worker: one recording must not take that of the machine."""

from __future__ import annotations

import os
import resource
from pathlib import Path

# Of all memory that there is, for all workers together; the rest is for the writer and the system.
SHARE = 0.9
# Beyond the loaded models, however many workers share a small machine: a call of four hours in two channels
# takes 1 GB. Too little for two such calls at once, it is still enough for one alone, which is tried then.
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
