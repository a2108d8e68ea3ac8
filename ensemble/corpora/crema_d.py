"""CREMA-D (Cao et al. 2014): names that say everything, and tables of what raters heard and who spoke."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from ensemble.corpora.clip import Clip, Corpus
from ensemble.corpora.named_files import by_name
from ensemble.labels import EMOTIONS
from ensemble.model_errors import CorpusDamaged

_DAMAGED = (KeyError, ValueError, TypeError, AttributeError, OSError, csv.Error)
"""What a table that was cut, saved anew or never fetched makes of reading it."""
_CREMA = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}


def read_crema_d(folder: Path) -> Corpus:
    """CREMA-D: ``1001_DFA_ANG_XX``; voice-only votes and sex from ``labels`` or the folder, where present."""
    votes = _votes(folder)
    sexes = _sexes(folder)

    def parse(path: Path) -> Clip | str:
        found = re.fullmatch(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})", path.stem)
        if not found:
            return "name is not ACTOR_SENTENCE_EMOTION_LEVEL"
        actor, sentence, code, _ = found.groups()
        if code not in _CREMA:
            return f"unknown emotion code {code}"
        return Clip(
            path,
            "crema-d",
            _CREMA[code],
            f"crema-d/{actor}",
            sexes.get(actor),
            sentence,
            votes=votes.get(path.stem),
        )

    return by_name("crema-d", folder, parse)


def _votes(folder: Path) -> dict[str, tuple[float, ...]]:
    """Voice-only vote shares: rows of ``tabulatedVotes.csv`` whose id starts with 1 (2 is face, 3 both)."""
    path = _find(folder, "tabulatedVotes.csv")
    votes: dict[str, tuple[float, ...]] = {}
    if path is None:
        return votes
    columns = {"A": "anger", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                counts = {columns[letter]: float(row[letter]) for letter in columns}
                total = sum(counts.values())
                if row[""].startswith("1") and total > 0:
                    votes[row["fileName"]] = tuple(counts.get(e, 0.0) / total for e in EMOTIONS)
    except _DAMAGED as error:
        raise _not_as_shipped(path, error) from error
    return votes


def _sexes(folder: Path) -> dict[str, str]:
    """Actor id -> sex, from ``VideoDemographics.csv``; empty without it."""
    path = _find(folder, "VideoDemographics.csv")
    if path is None:
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["ActorID"]: row["Sex"].lower() for row in csv.DictReader(file)}
    except _DAMAGED as error:
        raise _not_as_shipped(path, error) from error


def _not_as_shipped(path: Path, error: Exception) -> CorpusDamaged:
    return CorpusDamaged(
        f"{path}: not the table that CREMA-D ships ({type(error).__name__}: {error}); "
        "restore it or take it away"
    )


def _find(folder: Path, name: str) -> Path | None:
    return next((p for p in sorted(folder.rglob(name)) if p.is_file()), None)
