"""A corpus of one's own: a table that names each clip, its emotion and its speaker."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite
from pathlib import Path
from typing import Any

from ensemble.corpora.clip import Clip, Corpus, Unusable, made
from ensemble.labels import EMOTION_WORDS, EMOTIONS
from ensemble.model_errors import CorpusError

SPLITS = {
    **{"train": "train", "training": "train", "test": "test", "": None},
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
"""How tables spell training, validation and test."""


def read_manifest(path: Path, *, name: str | None = None) -> Corpus:
    """Any corpus as CSV or Parquet: path, emotion, speaker; optional start_s, end_s, split, sex, sentence.

    Relative paths start at the manifest's folder. ``split`` is train, validation or test.

    Raises:
        CorpusError: when a required column is missing, the table cannot be read or a split is none of these:
            a speaker kept for a test must not be trained on for a word that was not understood.
    """
    import polars as pl

    try:
        table = (
            pl.read_parquet(path)
            if path.suffix == ".parquet"
            else pl.read_csv(path, infer_schema_length=None)
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CorpusError(f"{path}: cannot be read as a manifest ({error})") from error
    missing = {"path", "emotion", "speaker"} - set(table.columns)
    if missing:
        raise CorpusError(f"{path}: columns {sorted(missing)} are missing; found {table.columns}")
    corpus = name or path.stem
    clips: list[Clip] = []
    unusable: list[Unusable] = []
    for row in table.iter_rows(named=True):
        found = _clip(path, corpus, row)
        if isinstance(found, Clip):
            clips.append(found)
        else:
            unusable.append(Unusable(path.parent / str(row["path"]), found))
    return made(corpus, path, clips, unusable)


def _clip(path: Path, corpus: str, row: Mapping[str, Any]) -> Clip | str:
    """The clip of a row, or why it cannot be used."""
    file = path.parent / str(row["path"])
    emotion = EMOTION_WORDS.get(str(row["emotion"]).lower(), str(row["emotion"]).lower())
    if emotion not in EMOTIONS:
        return f"unmapped emotion {row['emotion']}"
    if row["speaker"] is None:
        return "no speaker named"
    if not file.is_file():
        return "no such file"
    try:
        start_s, end_s = _seconds(row.get("start_s")), _seconds(row.get("end_s"))
    except ValueError:
        start_s, end_s = -1.0, None
    if not 0 <= (start_s or 0.0) < (inf if end_s is None else end_s):
        return "start_s and end_s are no part of a file"
    speaker = f"{corpus}/{row['speaker']}"
    sentence = None if row.get("sentence") is None else str(row["sentence"])
    split = _split(path, row.get("split"))
    return Clip(file, corpus, emotion, speaker, row.get("sex"), sentence, start_s, end_s, split)


def _seconds(value: object) -> float | None:
    seconds = None if value is None else float(str(value))
    if seconds is not None and not isfinite(seconds):
        raise ValueError(f"{value} seconds")
    return seconds


def _split(path: Path, value: object) -> str | None:
    name = "" if value is None else str(value).strip().lower()
    if name not in SPLITS:
        raise CorpusError(f"{path}: split is {str(value)!r}; expected train, validation, test or nothing")
    return SPLITS[name]
