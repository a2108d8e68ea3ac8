"""Labelled emotional speech, read as its authors ship it, whatever the audio container.

Each loader turns a folder into a :class:`Corpus`: clips with native emotion,
speaker, sex and sentence where the corpus gives them, and a list of every
file it could not use, with the reason. Nothing is dropped unseen.

Sources: CREMA-D (Cao et al. 2014), EMO-DB (Burkhardt et al. 2005), RAVDESS
(Livingstone and Russo 2018), TESS (Pichora-Fuller and Dupuis 2020), SAVEE
(Jackson and Haq 2014), IEMOCAP (Busso et al. 2008), eNTERFACE'05 (Martin et
al. 2006).
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.errors import CorpusError, LeakError
from ensemble.labels import EMOTIONS

AUDIO_SUFFIXES = frozenset(
    {".wav", ".opus", ".ogg", ".oga", ".flac", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".au", ".wma"}
    | {".amr", ".gsm", ".avi", ".mp4", ".webm", ".mkv"}
)
MAX_CLIP_S = 60.0


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled utterance. ``speaker`` is unique over corpora; times are seconds into the file."""

    path: Path
    corpus: str
    emotion: str
    speaker: str
    sex: str | None = None
    sentence: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    split: str | None = None
    votes: tuple[float, ...] | None = None
    """Share of voice-only raters for each of EMOTIONS, when the corpus has them."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A file the corpus holds and training will not hear, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Clips of one corpus in sorted order and what could not be used."""

    name: str
    clips: tuple[Clip, ...]
    unusable: tuple[Unusable, ...] = ()

    def counts(self) -> dict[str, int]:
        """Clips per emotion, and unusable files per reason (prefixed ``unusable:``)."""
        found = Counter(clip.emotion for clip in self.clips)
        found.update(f"unusable: {each.reason}" for each in self.unusable)
        return dict(sorted(found.items()))


_CREMA = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_EMODB = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
_RAVDESS = dict(
    zip(
        ("01", "02", "03", "04", "05", "06", "07", "08"),
        ("neutral", "calm", "happy", "sad", "anger", "fear", "disgust", "surprise"),
        strict=True,
    )
)
_WORDS = {
    "angry": "anger",
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "happiness": "happy",
    "neutral": "neutral",
    "ps": "surprise",
    "pleasant_surprise": "surprise",
    "surprise": "surprise",
    "sad": "sad",
    "sadness": "sad",
}
_SAVEE = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprise",
}
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


def read_crema_d(folder: Path) -> Corpus:
    """CREMA-D: ``1001_DFA_ANG_XX``; voice-only votes and sex from ``labels`` or the folder, where present."""
    votes = _crema_votes(folder)
    sexes = _crema_sexes(folder)

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

    return _by_name("crema-d", folder, parse)


def _find(folder: Path, name: str) -> Path | None:
    return next((p for p in sorted(folder.rglob(name)) if p.is_file()), None)


def _crema_votes(folder: Path) -> dict[str, tuple[float, ...]]:
    """Voice-only vote shares: rows of ``tabulatedVotes.csv`` whose id starts with 1 (2 is face, 3 both)."""
    path = _find(folder, "tabulatedVotes.csv")
    votes: dict[str, tuple[float, ...]] = {}
    if path is None:
        return votes
    columns = {"A": "anger", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            counts = {columns[letter]: float(row[letter]) for letter in columns}
            total = sum(counts.values())
            if row[""].startswith("1") and total > 0:
                votes[row["fileName"]] = tuple(counts.get(e, 0.0) / total for e in EMOTIONS)
    return votes


def _crema_sexes(folder: Path) -> dict[str, str]:
    path = _find(folder, "VideoDemographics.csv")
    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["ActorID"]: row["Sex"].lower() for row in csv.DictReader(file)}


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

    return _by_name("emodb", folder, parse)


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

    return _by_name("ravdess", folder, parse)


def read_tess(folder: Path) -> Corpus:
    """TESS: ``OAF_back_angry``; both actresses."""

    def parse(path: Path) -> Clip | str:
        found = re.fullmatch(r"([A-Z]+)_([^_]+)_(.+)", path.stem)
        if not found:
            return "name is not SPEAKER_WORD_EMOTION"
        speaker, word, emotion = found.groups()
        if emotion.lower() not in _WORDS:
            return f"unknown emotion {emotion}"
        # One file of the corpus says OA for OAF.
        name = "OAF" if speaker == "OA" else speaker
        return Clip(path, "tess", _WORDS[emotion.lower()], f"tess/{name}", "female", word)

    return _by_name("tess", folder, parse)


def read_savee(folder: Path) -> Corpus:
    """SAVEE: ``DC/a01.wav`` or ``DC_a01.wav``; four men."""

    def parse(path: Path) -> Clip | str:
        found = re.fullmatch(r"(?:([A-Z]{2})_)?(sa|su|[adfhn])(\d{2})", path.stem)
        speaker = (found and found.group(1)) or path.parent.name
        if not found or not re.fullmatch(r"[A-Z]{2}", speaker):
            return "name is not EMOTION NUMBER in a folder of a speaker"
        code, sentence = found.group(2), found.group(3)
        return Clip(path, "savee", _SAVEE[code], f"savee/{speaker}", "male", f"{code}{sentence}")

    return _by_name("savee", folder, parse)


def read_enterface(folder: Path) -> Corpus:
    """eNTERFACE'05: ``subject 1/anger/sentence 1/s1_an_1.avi``."""

    def parse(path: Path) -> Clip | str:
        parts = [part.lower() for part in path.parts]
        subject = next((m for p in parts if (m := re.fullmatch(r"subject[ _]?(\d+)", p))), None)
        emotion = next((_WORDS[p] for p in parts if p in _WORDS), None)
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

    return _by_name("enterface", folder, parse)


_IEMOCAP_LINE = re.compile(r"\[([\d.]+) - ([\d.]+)\]\t(Ses(\d\d)([FM])_\w+?_([FM])\d{3})\t(\w+)\t")


def read_iemocap(folder: Path) -> Corpus:
    """IEMOCAP: ``SessionN/dialog/EmoEvaluation/*.txt`` with ``sentences/wav``; excited counts as happy."""
    clips: list[Clip] = []
    unusable: list[Unusable] = []
    wavs = {path.stem: path for path in _audio_files(folder) if "sentences" in path.parts}
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
    return _finish("iemocap", folder, clips, unusable)


def read_manifest(path: Path, *, name: str | None = None) -> Corpus:
    """Any corpus as CSV or Parquet: path, emotion, speaker; optional start_s, end_s, split, sex, sentence.

    Relative paths start at the manifest's folder. Raises CorpusError when a
    required column is missing or the table cannot be read.
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
        file = path.parent / str(row["path"])
        emotion = _WORDS.get(str(row["emotion"]).lower(), str(row["emotion"]).lower())
        if emotion not in EMOTIONS:
            unusable.append(Unusable(file, f"unmapped emotion {row['emotion']}"))
            continue
        if row["speaker"] is None:
            unusable.append(Unusable(file, "no speaker named"))
            continue
        clips.append(
            Clip(
                file,
                corpus,
                emotion,
                f"{corpus}/{row['speaker']}",
                row.get("sex"),
                None if row.get("sentence") is None else str(row["sentence"]),
                _seconds(row.get("start_s")),
                _seconds(row.get("end_s")),
                row.get("split"),
            )
        )
    return _finish(corpus, path, clips, unusable)


def _seconds(value: object) -> float | None:
    return None if value is None else float(str(value))


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
        except CorpusError:
            continue
        if best is None or len(found.clips) > len(best.clips):
            best = found
    if best is None:
        raise CorpusError(f"{path}: not the layout of any of {', '.join(LOADERS)}; write a manifest for it")
    return best


def _audio_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path


def _by_name(name: str, folder: Path, parse: Callable[[Path], Clip | str]) -> Corpus:
    clips: list[Clip] = []
    unusable: list[Unusable] = []
    for path in _audio_files(folder):
        found = parse(path)
        if isinstance(found, Clip):
            clips.append(found)
        else:
            unusable.append(Unusable(path, found))
    return _finish(name, folder, clips, unusable)


def _finish(name: str, folder: Path, clips: Sequence[Clip], unusable: Sequence[Unusable]) -> Corpus:
    if not clips:
        raise CorpusError(f"{folder}: no clip of {name} found ({len(unusable)} files not understood)")
    return Corpus(name, tuple(clips), tuple(unusable))


def decode_clip(clip: Clip, sample_rate_hz: int) -> NDArray[np.float32]:
    """Mono float32 audio of a clip at the asked rate.

    Raises CorpusError for what cannot be decoded, is empty, or is over a
    minute (an utterance is not).
    """
    import soundfile as sf
    import soxr

    try:
        samples, rate_hz = sf.read(clip.path, dtype="float32", always_2d=True)
    except (sf.LibsndfileError, OSError) as error:
        samples, rate_hz = _decode_with_ffmpeg(clip.path, error)
    start = round((clip.start_s or 0.0) * rate_hz)
    end = len(samples) if clip.end_s is None else round(clip.end_s * rate_hz)
    mono = samples[start:end].mean(axis=1)
    if not mono.size:
        raise CorpusError(f"{clip.path}: holds no audio")
    if mono.size > MAX_CLIP_S * rate_hz:
        raise CorpusError(f"{clip.path}: {mono.size / rate_hz:.0f} s long; cut it to utterances first")
    if rate_hz != sample_rate_hz:
        mono = soxr.resample(mono, rate_hz, sample_rate_hz)
    audio: NDArray[np.float32] = np.clip(np.nan_to_num(mono), -1.0, 1.0).astype(np.float32)
    return audio


def _decode_with_ffmpeg(path: Path, first_error: Exception) -> tuple[NDArray[np.float32], int]:
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="flt", layout="mono")
            pieces = [
                out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)
            ]
            rate_hz = stream.rate
    except (av.FFmpegError, IndexError, ValueError, OSError) as error:
        raise CorpusError(f"{path}: unreadable ({first_error}; {error})") from error
    if not pieces:
        raise CorpusError(f"{path}: holds no audio")
    joined: NDArray[np.float32] = np.concatenate(pieces, axis=1).reshape(-1, 1).astype(np.float32)
    return joined, int(rate_hz)


def keep_emotions(corpus: Corpus, labels: Iterable[str]) -> Corpus:
    """The corpus with only the clips of these labels; the others become unusable, with that reason."""
    wanted = frozenset(labels)
    kept = tuple(clip for clip in corpus.clips if clip.emotion in wanted)
    dropped = tuple(
        Unusable(clip.path, f"{clip.emotion} is not among the labels")
        for clip in corpus.clips
        if clip.emotion not in wanted
    )
    return replace(corpus, clips=kept, unusable=corpus.unusable + dropped)


def split_by_speaker(
    clips: Sequence[Clip], test_speakers: Iterable[str]
) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """(training, test): every clip of a named speaker is test, every other training.

    ``test_speakers`` are ``corpus/id``. Raises LeakError when one of them has
    no clip here (a misspelt name would silently train on it).
    """
    wanted = frozenset(test_speakers)
    missing = wanted - {clip.speaker for clip in clips}
    if missing:
        raise LeakError(f"speakers {sorted(missing)} have no clip here: check the names before training")
    return (
        tuple(clip for clip in clips if clip.speaker not in wanted),
        tuple(clip for clip in clips if clip.speaker in wanted),
    )


def refuse_leak(training: Sequence[Clip], test: Sequence[Clip]) -> None:
    """Raise LeakError when a speaker or a file is on both sides."""
    shared = {clip.speaker for clip in training} & {clip.speaker for clip in test}
    if shared:
        raise LeakError(f"speakers {sorted(shared)} are in training and in test; split by speaker")
    files = {clip.path for clip in training} & {clip.path for clip in test}
    if files:
        raise LeakError(f"{len(files)} files are in training and in test, the first {min(files)}")


def speaker_folds(clips: Sequence[Clip], n_folds: int) -> list[tuple[str, ...]]:
    """Speakers in sorted order cut into ``n_folds`` neighbouring groups (the folds of the corpora README)."""
    speakers = sorted({clip.speaker for clip in clips})
    if not 2 <= n_folds <= len(speakers):
        raise CorpusError(f"{n_folds} folds of {len(speakers)} speakers; give 2 to {len(speakers)}")
    return [tuple(str(s) for s in part) for part in np.array_split(np.array(speakers), n_folds)]


RAVDESS_FOLDS: tuple[tuple[str, ...], ...] = tuple(
    tuple(f"ravdess/{actor}" for actor in fold.split())
    for fold in ("04 10 12 14", "08 09 19 23", "03 05 07 24", "02 15 16 18", "06 13 17 22")
)
"""The five EmoBox folds (test actors) whose actors are all at hand."""

CREMA_D_VALIDATION: tuple[str, ...] = tuple(
    f"crema-d/{actor}" for actor in (1009, 1011, 1022, 1034, 1039, 1047, 1066, 1070, 1082)
)
"""Validation speakers of the EVAR split."""
