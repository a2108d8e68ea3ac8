"""IEMOCAP (Busso et al. 2008): dialogues whose labels are in evaluation files beside the sound."""

from __future__ import annotations

import re
from pathlib import Path

from ensemble.corpora.clip import Clip, Corpus, Unusable, audio_files, made
from ensemble.model_errors import CorpusError

_IEMOCAP = {
    "ang": "anger",
    "hap": "happy",
    "exc": "happy",
    "sad": "sad",
    "neu": "neutral",
    "fea": "fear",
    "dis": "disgust",
    "sur": "surprise",
}
_IEMOCAP_LINE = re.compile(r"\[([\d.]+) - ([\d.]+)\]\t(Ses(\d\d)([FM])_\w+?_([FM])\d{3})\t(\w+)\t")


def read_iemocap(folder: Path) -> Corpus:
    """IEMOCAP: ``SessionN/dialog/EmoEvaluation/*.txt`` with ``sentences/wav``; excited counts as happy."""
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
        for found in _IEMOCAP_LINE.finditer(path.read_text(encoding="utf-8", errors="replace")):
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
