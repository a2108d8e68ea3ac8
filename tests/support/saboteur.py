"""Makes the decoder misbehave in real worker processes, by words in the names of recordings.

Written as `sitecustomize.py` into a folder of PYTHONPATH, so that the product itself needs no hooks.
"""

from __future__ import annotations

import os
from pathlib import Path

_CODE = '''
import contextlib, importlib.util, sys

def misbehave(name):
    import ctypes, os, resource, signal, time
    if "segfault" in name:
        ctypes.string_at(0)
    if "killed" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "memory" in name:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 26), resource.RLIM_INFINITY))
        try:
            bytearray(1 << 31)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if "endless" in name:
        while True:
            time.sleep(1)

class Slow:
    """A file of which every piece takes long to come, as from a network that stalls."""
    def __init__(self, stream):
        self.stream = stream
    def __getattr__(self, name):
        return getattr(self.stream, name)
    def read(self, n=-1):
        self.stall(n)
        return self.stream.read(n)
    def readinto(self, buffer):
        self.stall(len(buffer))
        return self.stream.readinto(buffer)
    def stall(self, n):
        import time
        if not 0 <= n < 1000:  # headers come at once
            time.sleep(4)

class Hook:
    def find_spec(self, name, path, target=None):
        if name != "callanalytics.audio":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            opened = module.opened
            @contextlib.contextmanager
            def sabotaged(path, *rest):
                misbehave(path.name)
                with opened(path, *rest) as (stream, n_bytes):
                    yield Slow(stream) if "slow" in path.name else stream, n_bytes
            module.opened = sabotaged
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Hook())
'''


def sabotage(folder: Path) -> dict[str, str]:
    """The environment of a run whose workers misbehave."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(_CODE, encoding="utf-8")
    return with_path(folder)


def with_path(folder: Path) -> dict[str, str]:
    """The environment of a run whose processes look for modules here first."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}
