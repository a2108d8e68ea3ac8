"""A corpus of one's own: a table that names each clip, its emotion and its speaker."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.corpora.clip import Clip, Corpus, Unusable, made
from ensemble.labels import EMOTION_WORDS, EMOTIONS
from ensemble.model_errors import CorpusError

if TYPE_CHECKING:
    import polars as pl

NEEDED = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "wav", "audio"),
    "emotion": ("label", "emotion_label", "emo"),
    "speaker": ("spk", "speaker_id", "spk_id", "actor", "actor_id"),
}
"""Columns that a manifest must have -> what others call them."""
OPTIONAL = ("start_s", "end_s", "split", "sex", "sentence")
SPLITS = {
    **{"train": "train", "training": "train", "test": "test", "": None},
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
"""How tables spell training, validation and test."""
_SEPARATORS = ",;\t|"


def read_manifest(path: Path, *, name: str | None = None, columns: Mapping[str, str] | None = None) -> Corpus:
    """Any corpus as CSV or Parquet: path, emotion, speaker; optional start_s, end_s, split, sex, sentence.

    Every value is text: the speakers ``001`` and ``1`` are two. A CSV may be separated by comma, semicolon,
    tab or bar, in UTF-8, UTF-16 with its mark, or else cp1252. Relative paths start at the manifest's
    folder. ``split`` is train, validation or test.

    Args:
        path: the table.
        name: of the corpus (default: the file's).
        columns: the table's own names, by ours: ``{"path": "file"}``. Common ones are known (:data:`NEEDED`).

    Raises:
        CorpusError: when a required column is missing, the table cannot be read or a split is none of these:
            a speaker kept for a test must not be trained on for a word that was not understood.
    """
    table = _as_text(path)
    chosen = _columns(path, table.columns, columns or {})
    corpus = name or path.stem
    clips: list[Clip] = []
    unusable: list[Unusable] = []
    for values in table.select(list(chosen.values())).iter_rows():
        row = {ours: (value or "").strip() for ours, value in zip(chosen, values, strict=True)}
        found = _clip(path, corpus, row)
        if isinstance(found, Clip):
            clips.append(found)
        else:
            unusable.append(Unusable(path.parent / row["path"], found))
    return made(corpus, path, clips, unusable)


def _as_text(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path).select(pl.all().cast(pl.String))
        content = path.read_bytes()
        text = content.decode(_encoding(content))
        header = text.partition("\n")[0]
        separator = max(_SEPARATORS, key=header.count)
        return pl.read_csv(io.BytesIO(text.encode()), separator=separator, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
        raise CorpusError(f"{path}: cannot be read as a manifest ({error})") from error


def _encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"  # what spreadsheets of western Europe write
    return "utf-8-sig"


def _columns(path: Path, there: list[str], told: Mapping[str, str]) -> dict[str, str]:
    """Which column of the table holds which of ours."""
    if strange := sorted(set(told) - {*NEEDED, *OPTIONAL}):
        raise CorpusError(f"--columns {', '.join(strange)}: expected of {', '.join((*NEEDED, *OPTIONAL))}")
    if gone := sorted(set(told.values()) - set(there)):
        raise CorpusError(f"{path}: has no column {', '.join(gone)}; found {', '.join(there)}")
    written = {column.strip().lower(): column for column in there}
    chosen = dict(told)
    for ours in (*NEEDED, *OPTIONAL):
        if ours not in chosen and ours in written:
            chosen[ours] = written[ours]
    for ours, others in NEEDED.items():
        alike = [written[other] for other in others if other in written]
        if ours not in chosen and len(alike) == 1:
            chosen[ours] = alike[0]
    if missing := [ours for ours in NEEDED if ours not in chosen]:
        hint = ",".join(f"{ours}=..." for ours in missing)
        raise CorpusError(
            f"{path}: no column for {', '.join(missing)}; found {', '.join(there)}. Say which is which: "
            f"--columns {hint}"
        )
    return chosen


def _clip(path: Path, corpus: str, row: Mapping[str, str]) -> Clip | str:
    """The clip of a row, or why it cannot be used."""
    file = path.parent / row["path"]
    emotion = EMOTION_WORDS.get(row["emotion"].lower())
    if emotion not in EMOTIONS:
        return f"unmapped emotion {row['emotion']}" if row["emotion"] else "no emotion named"
    if not row["speaker"]:
        return "no speaker named"
    if not file.is_file():
        return "no such file"
    try:
        start_s, end_s = _seconds(row.get("start_s")), _seconds(row.get("end_s"))
    except ValueError:
        start_s, end_s = -1.0, None
    if not 0 <= (start_s or 0.0) < (inf if end_s is None else end_s):
        return "start_s and end_s are no part of a file"
    split = _split(path, row.get("split", ""))
    sex, sentence = row.get("sex") or None, row.get("sentence") or None
    return Clip(file, corpus, emotion, f"{corpus}/{row['speaker']}", sex, sentence, start_s, end_s, split)


def _seconds(value: str | None) -> float | None:
    seconds = float(value) if value else None
    if seconds is not None and not isfinite(seconds):
        raise ValueError(f"{value} seconds")
    return seconds


def _split(path: Path, value: str) -> str | None:
    if value.lower() not in SPLITS:
        raise CorpusError(f"{path}: split is {value!r}; expected train, validation, test or nothing")
    return SPLITS[value.lower()]
