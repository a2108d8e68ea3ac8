"""Corpora whose files say everything by their names.

Sources: EMO-DB (Burkhardt et al. 2005), RAVDESS (Livingstone and Russo 2018),
TESS (Pichora-Fuller and Dupuis 2020), SAVEE (Jackson and Haq 2014),
eNTERFACE'05 (Martin et al. 2006).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ensemble.corpora.clip import Clip, Corpus, Unusable, audio_files, made
from ensemble.labels import EMOTION_WORDS

_EMODB = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
_EMODB_SEX = {
    "03": "male",
    "08": "female",
    "09": "female",
    "10": "male",
    "11": "male",
    "12": "male",
    "13": "female",
    "14": "female",
    "15": "male",
    "16": "female",
}
_RAVDESS = dict(
    zip(
        ("01", "02", "03", "04", "05", "06", "07", "08"),
        ("neutral", "calm", "happy", "sad", "anger", "fear", "disgust", "surprise"),
        strict=True,
    )
)
_SAVEE = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprise",
}


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


def read_emodb(folder: Path) -> Corpus:
    """EMO-DB: ``03a01Fa``: speaker, sentence, emotion letter, version."""

    def parse(path: Path) -> Clip | str:
        found = re.fullmatch(r"(\d{2})([ab]\d{2})([A-Z])([a-z]?)", path.stem)
        if not found:
            return "name is not SPEAKER SENTENCE EMOTION VERSION"
        speaker, sentence, code, _ = found.groups()
        if code not in _EMODB:
            return f"unknown emotion letter {code}"
        return Clip(path, "emodb", _EMODB[code], f"emodb/{speaker}", _EMODB_SEX.get(speaker), sentence)

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
        emotion = next((EMOTION_WORDS[p] for p in parts if p in EMOTION_WORDS), None)
        sentence = re.search(r"_(\d)\.?$", path.stem) or re.search(r"(\d)$", path.stem)
        if subject is None or emotion is None:
            return "path is not subject N / emotion / sentence N"
        return Clip(
            path,
            "enterface",
            emotion,
            f"enterface/{int(subject[1]):02d}",
            sentence=sentence[1] if sentence else None,
        )

    return by_name("enterface", folder, parse)
