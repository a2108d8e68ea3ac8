"""What the running app works with: settings, folders, and the models it keeps loaded."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from callanalytics.config import Settings
from callanalytics.diarize.vad import VoiceDetector, frame_levels_db
from callanalytics.workspace import Workspace
from ensemble.corpora import Corpus, read_corpus
from ensemble.inference.ensemble import SHIPPED, Ensemble, load_ensemble
from jobs.active_ensemble import in_use, registry
from jobs.app.published import PublishedCalls
from reports.translation import marked

IN_USE, AS_SHIPPED = marked("in use"), marked("shipped")


@dataclass
class AppContext:
    """One for the whole server. `ensembles` and `corpora` are the folders named on the command line:
    a browser chooses among names and never sends a path. The settings change when a threshold is applied.
    """

    settings: Settings
    workspace: Workspace
    ensembles: tuple[Path, ...] = ()
    corpora: tuple[Path, ...] = ()
    _loaded: dict[Path, tuple[int, Ensemble]] = field(default_factory=dict, repr=False)
    _corpora: dict[Path, Corpus] = field(default_factory=dict, repr=False)
    _detectors: list[VoiceDetector] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def calls(self) -> PublishedCalls:
        """The published calls."""
        return PublishedCalls(self.settings, self.workspace)

    def ensemble_folders(self) -> dict[str, Path]:
        """Every ensemble to choose from by name, the one in use first."""
        kept = registry(self.workspace)
        return {
            IN_USE: in_use(self.settings, self.workspace),
            AS_SHIPPED: SHIPPED,
            **{ensemble_id: kept.folder(ensemble_id) for ensemble_id in kept.ids()},
            **{folder.name: folder for folder in self.ensembles},
        }

    def ensemble(self, name: str) -> Ensemble:
        """Return an ensemble by name, loaded once; a folder whose card changed is loaded anew.

        Raises:
            KeyError: no ensemble of this name is offered.
            ensemble.model_errors.ModelError: it is broken.
        """
        folder = self.ensemble_folders()[name].resolve()
        card = folder / "card.json"
        changed_ns = card.stat().st_mtime_ns if card.is_file() else 0
        with self._lock:
            found = self._loaded.get(folder)
            if found is None or found[0] != changed_ns:
                found = self._loaded[folder] = (changed_ns, load_ensemble(folder))
        return found[1]

    def warm_up(self) -> None:
        """Load the ensemble in use and classify a second of noise: the first vote of a process is slow."""
        ensemble = self.ensemble(IN_USE)
        noise = np.random.default_rng(0).normal(scale=0.1, size=ensemble.sample_rate_hz).astype(np.float32)
        ensemble.vote([noise])
        self.detector().probabilities(noise[None], frame_levels_db(noise[None]))

    def corpus(self, folder: Path) -> Corpus:
        """Return a corpus by its folder, read once. Raises ensemble.model_errors.CorpusError."""
        with self._lock:
            if folder not in self._corpora:
                self._corpora[folder] = read_corpus(folder)
        return self._corpora[folder]

    def detector(self) -> VoiceDetector:
        """The voice detector, loaded once."""
        with self._lock:
            if not self._detectors:
                self._detectors.append(VoiceDetector.load())
        return self._detectors[0]


_current: list[AppContext] = []


def set_context(made: AppContext) -> None:
    """Make this the context of every page of this process."""
    _current[:] = [made]


def context() -> AppContext:
    """Return the context of this process: Streamlit runs pages as scripts, which take no arguments."""
    return _current[0]
