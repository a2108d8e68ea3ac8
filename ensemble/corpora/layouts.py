"""The corpora as their authors ship them: one loader per layout, and which of them a path asks for.

Sources: CREMA-D (Cao et al. 2014), EMO-DB (Burkhardt et al. 2005), RAVDESS (Livingstone and Russo 2018),
TESS (Pichora-Fuller and Dupuis 2020), SAVEE (Jackson and Haq 2014), IEMOCAP (Busso et al. 2008),
eNTERFACE'05 (Martin et al. 2006). A new corpus is one loader and one entry of LOADERS.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ensemble.corpora.clip import Clip, Corpus, Unusable, audio_files, made
from ensemble.corpora.manifest import read_manifest
from ensemble.labels import EMOTION_WORDS, EMOTIONS
from ensemble.model_errors import CorpusDamaged, CorpusError

Value = TypeVar("Value")
_CREMA = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_DAMAGED = (KeyError, ValueError, TypeError, AttributeError, OSError, csv.Error)
"""What reading a table that was cut, saved anew or never fetched raises."""
_EMODB = dict(zip("WLEAFTN", ("anger", "boredom", "disgust", "fear", "happy", "sad", "neutral"), strict=True))
_EMODB_MEN = {"03", "10", "11", "12", "15"}
_EMODB_WOMEN = {"08", "09", "13", "14", "16"}
_RAVDESS = {
    **{"01": "neutral", "02": "calm", "03": "happy", "04": "sad"},
    **{"05": "anger", "06": "fear", "07": "disgust", "08": "surprise"},
}
_SAVEE = {
    **{"a": "anger", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral"},
    **{"sa": "sad", "su": "surprise"},
}
_IEMOCAP = {
    **{"ang": "anger", "hap": "happy", "exc": "happy", "sad": "sad"},
    **{"neu": "neutral", "fea": "fear", "dis": "disgust", "sur": "surprise"},
}
_IEMOCAP_ROW = re.compile(r"\[([\d.]+) - ([\d.]+)\]\t(Ses(\d\d)([FM])_\w+?_([FM])\d{3})\t(\w+)\t")


def by_name(name: str, folder: Path, parse: Callable[[Path], Clip | str]) -> Corpus:
    """The corpus of a parser that makes a clip of a path, or says why it cannot."""
    clips: list[Clip] = []
    unusable: list[Unusable] = []
    for path in audio_files(folder):
        found = parse(path)
        if isinstance(found, Clip):
            clips.append(found)
        else:
            unusable.append(Unusable(path, found))
    return made(name, folder, clips, unusable)


def read_crema_d(folder: Path) -> Corpus:
    """CREMA-D: ``1001_DFA_ANG_XX``; voice-only votes and sex from ``labels`` or the folder, where present.

    Raises:
        CorpusDamaged: when one of its tables is not as its authors ship it.
    """
    votes = _read_table(folder, "tabulatedVotes.csv", _votes)
    sexes = _read_table(folder, "VideoDemographics.csv", _sexes)

    def parse(path: Path) -> Clip | str:
        found = re.fullmatch(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})", path.stem)
        if not found:
            return "name is not ACTOR_SENTENCE_EMOTION_LEVEL"
        actor, sentence, code, _ = found.groups()
        if code not in _CREMA:
            return f"unknown emotion code {code}"
        speaker, sex, shares = f"crema-d/{actor}", sexes.get(actor), votes.get(path.stem)
        return Clip(path, "crema-d", _CREMA[code], speaker, sex, sentence, votes=shares)

    return by_name("crema-d", folder, parse)


def _votes(rows: Iterable[Mapping[str, str]]) -> dict[str, tuple[float, ...]]:
    """Voice-only vote shares: rows whose id starts with 1 (2 is face, 3 both)."""
    votes = {}
    for row in rows:
        counts = {emotion: float(row[code[0]]) for code, emotion in _CREMA.items()}
        total = sum(counts.values())
        if row[""].startswith("1") and total > 0:
            votes[row["fileName"]] = tuple(counts.get(e, 0.0) / total for e in EMOTIONS)
    return votes


def _sexes(rows: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {row["ActorID"]: row["Sex"].lower() for row in rows}


def _read_table(
    folder: Path, name: str, read: Callable[[Iterable[Mapping[str, str]]], dict[str, Value]]
) -> dict[str, Value]:
    """Content of a CSV file somewhere below ``folder``; empty without it."""
    path = next((p for p in sorted(folder.rglob(name)) if p.is_file()), None)
    if path is None:
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return read(csv.DictReader(file))
    except _DAMAGED as error:
        raise CorpusDamaged(
            f"{path}: not the table that CREMA-D ships ({type(error).__name__}: {error}); "
            "restore it or take it away"
        ) from error


def read_emodb(folder: Path) -> Corpus:
    """EMO-DB: ``03a01Fa``: speaker, sentence, emotion letter, version."""

    def parse(path: Path) -> Clip | str:
        found = re.fullmatch(r"(\d{2})([ab]\d{2})([A-Z])([a-z]?)", path.stem)
        if not found:
            return "name is not SPEAKER SENTENCE EMOTION VERSION"
        speaker, sentence, code, _ = found.groups()
        if code not in _EMODB:
            return f"unknown emotion letter {code}"
        sex = "male" if speaker in _EMODB_MEN else "female" if speaker in _EMODB_WOMEN else None
        return Clip(path, "emodb", _EMODB[code], f"emodb/{speaker}", sex, sentence)

    return by_name("emodb", folder, parse)


def read_ravdess(folder: Path) -> Corpus:
    """RAVDESS speech: ``03-01-06-01-02-01-12``; song (second field 02) is reported, not used."""

    def parse(path: Path) -> Clip | str:
        parts = path.stem.split("-")
        if len(parts) != 7 or not all(re.fullmatch(r"\d{2}", part) for part in parts):
            return "name is not seven two-digit fields"
        if parts[1] != "01":
            return "song, not speech"
        if parts[2] not in _RAVDESS:
            return f"unknown emotion code {parts[2]}"
        sex = "male" if int(parts[6]) % 2 else "female"
        return Clip(path, "ravdess", _RAVDESS[parts[2]], f"ravdess/{parts[6]}", sex, parts[4])

    return by_name("ravdess", folder, parse)


def read_tess(folder: Path) -> Corpus:
    """TESS: ``OAF_back_angry``; both actresses."""

    def parse(path: Path) -> Clip | str:
        found = re.fullmatch(r"([A-Z]+)_([^_]+)_(.+)", path.stem)
        if not found:
            return "name is not SPEAKER_WORD_EMOTION"
        speaker, word, emotion = found.groups()
        if emotion.lower() not in EMOTION_WORDS:
            return f"unknown emotion {emotion}"
        # One file of the corpus says OA for OAF.
        name = "OAF" if speaker == "OA" else speaker
        return Clip(path, "tess", EMOTION_WORDS[emotion.lower()], f"tess/{name}", "female", word)

    return by_name("tess", folder, parse)


def read_savee(folder: Path) -> Corpus:
    """SAVEE: ``DC/a01.wav`` or ``DC_a01.wav``; four men."""

    def parse(path: Path) -> Clip | str:
        found = re.fullmatch(r"(?:([A-Z]{2})_)?(sa|su|[adfhn])(\d{2})", path.stem)
        speaker = (found and found.group(1)) or path.parent.name
        if not found or not re.fullmatch(r"[A-Z]{2}", speaker):
            return "name is not EMOTION NUMBER in a folder of a speaker"
        code, sentence = found.group(2), found.group(3)
        return Clip(path, "savee", _SAVEE[code], f"savee/{speaker}", "male", f"{code}{sentence}")

    return by_name("savee", folder, parse)


def read_enterface(folder: Path) -> Corpus:
    """eNTERFACE'05: ``subject 1/anger/sentence 1/s1_an_1.avi``."""

    def parse(path: Path) -> Clip | str:
        parts = [part.lower() for part in path.relative_to(folder).parts]
        subject = next((m for p in parts if (m := re.fullmatch(r"subject[ _]?(\d+)", p))), None)
        emotion = next((EMOTION_WORDS[p] for p in parts[:-1] if p in EMOTION_WORDS), None)
        sentence = re.search(r"_(\d)\.?$", path.stem) or re.search(r"(\d)$", path.stem)
        if subject is None or emotion is None:
            return "path is not subject N / emotion / sentence N"
        speaker = f"enterface/{int(subject[1]):02d}"
        return Clip(path, "enterface", emotion, speaker, sentence=sentence[1] if sentence else None)

    return by_name("enterface", folder, parse)


def read_iemocap(folder: Path) -> Corpus:
    """IEMOCAP: labels in ``SessionN/dialog/EmoEvaluation/*.txt``, sound in ``sentences/wav``.

    Excited counts as happy.
    """
    clips: list[Clip] = []
    unusable: list[Unusable] = []
    wavs = {path.stem: path for path in audio_files(folder) if "sentences" in path.parts}
    evaluations = [
        p for p in sorted(folder.rglob("EmoEvaluation/*.txt")) if not p.name.startswith((".", "._"))
    ]
    if not evaluations:
        raise CorpusError(
            f"{folder}: no SessionN/dialog/EmoEvaluation/*.txt; give the folder that holds the sessions"
        )
    for path in evaluations:
        for found in _IEMOCAP_ROW.finditer(path.read_text(encoding="utf-8", errors="replace")):
            utterance, session, who, code = found[3], found[4], found[6], found[7]
            wav = wavs.get(utterance)
            if wav is None:
                unusable.append(Unusable(path.with_name(utterance), "utterance has no sound file"))
            elif code not in _IEMOCAP:
                unusable.append(Unusable(wav, f"unmapped emotion {code}"))
            else:
                sex = "female" if who == "F" else "male"
                sentence = utterance if "script" in utterance else None
                clips.append(Clip(wav, "iemocap", _IEMOCAP[code], f"iemocap/{session}{who}", sex, sentence))
    return made("iemocap", folder, clips, unusable)


LOADERS: Mapping[str, Callable[[Path], Corpus]] = {
    "crema-d": read_crema_d,
    "emodb": read_emodb,
    "ravdess": read_ravdess,
    "tess": read_tess,
    "savee": read_savee,
    "iemocap": read_iemocap,
    "enterface": read_enterface,
}


def read_corpora(
    path: Path, name: str | None = None, columns: Mapping[str, str] | None = None
) -> tuple[Corpus, ...]:
    """Read a corpus by name, a manifest, or every corpus whose layout is recognised in a folder.

    ``columns`` are a manifest's own names for its columns, as :func:`read_manifest` takes them.

    Raises:
        CorpusError: when nothing there looks like a known corpus.
        CorpusDamaged: when a corpus is recognised, but a table of it is damaged.
    """
    if path.is_file():
        return (read_manifest(path, name=name, columns=columns),)
    if not path.is_dir():
        raise CorpusError(f"{path}: no such folder or manifest")
    if name is not None:
        if name not in LOADERS:
            raise CorpusError(f"corpus {name!r} is not known; known are {', '.join(LOADERS)}, or a manifest")
        return (LOADERS[name](path),)
    found = []
    for loader in LOADERS.values():
        try:
            found.append(loader(path))
        except CorpusDamaged:
            raise
        except CorpusError:
            continue
    if not found:
        raise CorpusError(f"{path}: not the layout of any of {', '.join(LOADERS)}; write a manifest for it")
    return _apart(found)


def read_corpus(path: Path, name: str | None = None) -> Corpus:
    """As :func:`read_corpora`, for who takes one corpus.

    Raises:
        CorpusError: also when the folder holds several.
    """
    found = read_corpora(path, name)
    if len(found) > 1:
        named = ", ".join(f"{corpus.name} ({len(corpus.clips)} clips)" for corpus in found)
        raise CorpusError(f"{path}: holds several corpora, {named}; give the folder of one")
    return found[0]


def _apart(found: Sequence[Corpus]) -> tuple[Corpus, ...]:
    """Corpora of one folder, largest first: each clip in one of them, each unusable file listed once."""
    claimed: set[Path] = set()
    corpora: list[Corpus] = []
    for corpus in sorted(found, key=lambda each: -len(each.clips)):
        clips = tuple(clip for clip in corpus.clips if clip.path not in claimed)
        claimed |= {clip.path for clip in clips}
        if clips:
            corpora.append(replace(corpus, clips=clips))
    if len(corpora) == 1:
        return tuple(corpora)
    # A file that is no clip of any belongs to the corpus whose clips lie around it, else to the largest.
    homes = [Path(os.path.commonpath([clip.path.parent for clip in corpus.clips])) for corpus in corpora]
    nearest_first = sorted(range(len(corpora)), key=lambda k: -len(homes[k].parts))
    unusable: dict[int, list[Unusable]] = {k: [] for k in nearest_first}
    for k, home in (*((k, homes[k]) for k in nearest_first), (0, None)):
        for each in corpora[k].unusable:
            if each.path not in claimed and (home is None or each.path.is_relative_to(home)):
                claimed.add(each.path)
                unusable[k].append(each)
    return tuple(replace(corpus, unusable=tuple(unusable[k])) for k, corpus in enumerate(corpora))
