"""Which corpus a path holds: named, a manifest, or the layout that gives most clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ensemble.corpora.clip import Corpus
from ensemble.corpora.crema_d import read_crema_d
from ensemble.corpora.iemocap import read_iemocap
from ensemble.corpora.manifest import read_manifest
from ensemble.corpora.named_files import (
    read_emodb,
    read_enterface,
    read_ravdess,
    read_savee,
    read_tess,
)
from ensemble.model_errors import CorpusDamaged, CorpusError

LOADERS: Mapping[str, Callable[[Path], Corpus]] = {
    "crema-d": read_crema_d,
    "emodb": read_emodb,
    "ravdess": read_ravdess,
    "tess": read_tess,
    "savee": read_savee,
    "iemocap": read_iemocap,
    "enterface": read_enterface,
}


def read_corpus(path: Path, name: str | None = None) -> Corpus:
    """Read a corpus by name, a manifest, or a folder whose layout is recognised.

    Raises CorpusError when nothing there looks like a known corpus.
    """
    if path.is_file():
        return read_manifest(path, name=name)
    if not path.is_dir():
        raise CorpusError(f"{path}: no such folder or manifest")
    if name is not None:
        if name not in LOADERS:
            raise CorpusError(f"corpus {name!r} is not known; known are {', '.join(LOADERS)}, or a manifest")
        return LOADERS[name](path)
    best: Corpus | None = None
    for loader in LOADERS.values():
        try:
            found = loader(path)
        except CorpusDamaged:
            raise
        except CorpusError:
            continue
        if best is None or len(found.clips) > len(best.clips):
            best = found
    if best is None:
        raise CorpusError(f"{path}: not the layout of any of {', '.join(LOADERS)}; write a manifest for it")
    return best
