"""The studies' features, by librosa, at the sample rates their documents name; kept on disk in Parquet.

Every feature is a fixed shape per clip: shorter clips are padded with silence, longer ones cut, as the
studies did. Augmented copies (noise, pitch, stretch) are features of a changed waveform, seeded by clip.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ensemble.corpora import Clip, clips_hash, decode_clip
from ensemble.model_errors import CorpusError

Float = NDArray[np.float32]
Change = Callable[[Float, int, np.random.Generator], Float]
CLIPS_PER_GROUP = 256


@dataclass(frozen=True, slots=True)
class Feature:
    """``extract(wave, clip)`` gives one float32 array, the same shape for every clip.

    ``copies`` are the augmentations kept beside the clean clip, which is always copy 0. Raise ``version``
    whenever ``extract`` changes: it is part of the key of the cache.
    """

    name: str
    sample_rate_hz: int
    extract: Callable[[Float, Clip], Float]
    copies: tuple[str, ...] = ("clean",)
    version: int = 1


def add_noise(wave: Float, rate_hz: int, rng: np.random.Generator) -> Float:
    """White noise of up to 3.5 % of the peak (the notebook of study 001)."""
    share = 0.035 * rng.uniform() * np.abs(wave).max()
    noisy: Float = (wave + share * rng.standard_normal(len(wave))).astype(np.float32)
    return noisy


def shift_pitch(wave: Float, rate_hz: int, rng: np.random.Generator) -> Float:
    """Pitch up by 0.7 semitones, same length (study 001)."""
    shifted: Float = librosa.effects.pitch_shift(wave, sr=rate_hz, n_steps=0.7)
    return shifted


def stretch(wave: Float, rate_hz: int, rng: np.random.Generator) -> Float:
    """Slower by a fifth, same pitch (study 001)."""
    stretched: Float = librosa.effects.time_stretch(wave, rate=0.8)
    return stretched


AUGMENTATIONS: Mapping[str, tuple[Change, ...]] = {
    "clean": (),
    "noise": (add_noise,),
    "pitch": (shift_pitch,),
    "stretch": (stretch,),
    "stretch and pitch": (stretch, shift_pitch),
    "pitch and noise": (shift_pitch, add_noise),
}


def trimmed(wave: Float, top_db: float) -> Float:
    """Without the ends that stay ``top_db`` below the loudest frame; unchanged when nothing would be left."""
    out: Float = librosa.effects.trim(wave, top_db=top_db)[0]
    return out if out.size else wave


def fixed(wave: Float, n_samples: int) -> Float:
    """Padded with zeros at the end, or cut, to ``n_samples``."""
    return np.pad(wave[:n_samples], (0, max(n_samples - len(wave), 0)))


def _frames(matrix: Float, n_frames: int) -> Float:
    """(values, n_frames), padded with each row's lowest value."""
    matrix = matrix[:, :n_frames]
    missing = n_frames - matrix.shape[1]
    return np.pad(matrix, ((0, 0), (0, missing)), mode="minimum") if missing else matrix


def _standard(image: Float) -> Float:
    out: Float = (image - image.mean()) / (image.std() + 1e-6)
    return out


def _means_160(wave: Float, clip: Clip) -> Float:
    rate_hz = 48_000
    wave = librosa.util.normalize(trimmed(wave, 20.0))
    mfcc = librosa.feature.mfcc(y=wave, sr=rate_hz, n_mfcc=40)
    mel = librosa.power_to_db(librosa.feature.melspectrogram(y=wave, sr=rate_hz, n_mels=40))
    deltas = [librosa.feature.delta(mfcc, order=order, mode="nearest") for order in (1, 2)]
    return np.concatenate([part.mean(axis=1) for part in (mfcc, *deltas, mel)])


def _notebook_cut(wave: Float) -> Float:
    """The 2.5 s from 0.6 s on of the notebook that studies 001 and 003 follow; all of a shorter clip."""
    start = 13_230 if len(wave) > 13_230 + 2048 else 0
    return wave[start : start + 55_125]


def _means_162(wave: Float, clip: Clip) -> Float:
    rate_hz, wave = 22_050, _notebook_cut(wave)
    power = np.abs(librosa.stft(wave))
    parts = (
        librosa.feature.zero_crossing_rate(wave),
        librosa.feature.chroma_stft(S=power, sr=rate_hz),
        librosa.feature.mfcc(y=wave, sr=rate_hz, n_mfcc=20),
        librosa.feature.rms(y=wave),
        librosa.feature.melspectrogram(y=wave, sr=rate_hz, n_mels=128),
    )
    return np.concatenate([part.mean(axis=1) for part in parts])


def _means_180(wave: Float, clip: Clip) -> Float:
    rate_hz = 22_050
    parts = (
        librosa.feature.mfcc(y=wave, sr=rate_hz, n_mfcc=40),
        librosa.feature.chroma_stft(S=np.abs(librosa.stft(wave)), sr=rate_hz),
        librosa.feature.melspectrogram(y=wave, sr=rate_hz, n_mels=128),
    )
    return np.concatenate([part.mean(axis=1) for part in parts])


def _frames_2376(wave: Float, clip: Clip) -> Float:
    wave = fixed(_notebook_cut(wave), 55_125)
    parts = (
        librosa.feature.zero_crossing_rate(wave),
        librosa.feature.rms(y=wave),
        librosa.feature.mfcc(y=wave, sr=22_050, n_mfcc=20).T,
    )
    return np.concatenate([part.ravel() for part in parts])


def _samples(wave: Float, clip: Clip) -> Float:
    """89,996 samples, then what the study's table had beside them: five fields of the name, and loudness."""
    loudness_db = librosa.amplitude_to_db(librosa.feature.rms(y=wave)).mean()
    fields = re.fullmatch(r"\d\d-\d\d-\d\d-(\d\d)-(\d\d)-(\d\d)-(\d\d)", clip.path.stem)
    codes = [float(field) for field in fields.groups()] if fields else [0.0] * 4
    female = {"female": 1.0, "male": 0.0}.get(clip.sex or "", 0.5)
    return np.concatenate([fixed(trimmed(wave, 25.0), 89_996), [*codes, female, loudness_db]])


def _mfcc_80(wave: Float, clip: Clip) -> Float:
    mfcc = librosa.feature.mfcc(y=wave, sr=22_050, n_mfcc=40)
    return np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)])


def _mel_200(wave: Float, clip: Clip) -> Float:
    mel = librosa.feature.melspectrogram(y=trimmed(wave, 25.0), sr=22_050, n_mels=128)
    image = _frames(librosa.power_to_db(mel, ref=np.max), 200)
    return _standard(image)


def _mfcc_sequence(wave: Float, clip: Clip) -> Float:
    """40 MFCC over 3 s, 10 ms apart, each coefficient standardised within the clip."""
    mfcc = librosa.feature.mfcc(y=wave[:48_000], sr=16_000, n_mfcc=40, n_fft=640, hop_length=160)
    mfcc = (mfcc - mfcc.mean(axis=1, keepdims=True)) / (mfcc.std(axis=1, keepdims=True) + 1e-6)
    return np.pad(mfcc[:, :300], ((0, 0), (0, max(300 - mfcc.shape[1], 0))))


def _spectrogram(wave: Float, clip: Clip) -> Float:
    """First 200 of 401 bins of 40 ms Hamming windows, 10 ms apart, over 3 s, in dB (Zou et al. 2022)."""
    power = np.abs(librosa.stft(fixed(wave, 48_000), n_fft=800, hop_length=160, window="hamming"))[:200, :300]
    image = librosa.amplitude_to_db(power, ref=np.max)
    return _standard(image)


def wave_16k(wave: Float, clip: Clip) -> Float:
    """54,560 samples (170 steps of wav2vec 2.0) at zero mean and unit variance, as its processor does."""
    wave = wave[:54_560]
    out: Float = fixed((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7), 54_560)
    return out


FEATURES: Mapping[str, Feature] = {
    feature.name: feature
    for feature in (
        Feature("means-160", 48_000, _means_160),
        Feature("means-162", 22_050, _means_162),
        Feature("means-162-augmented", 22_050, _means_162, ("clean", "noise", "stretch and pitch")),
        Feature("means-180", 22_050, _means_180),
        Feature("frames-2376", 22_050, _frames_2376, ("clean", "noise", "pitch", "pitch and noise")),
        Feature("samples", 22_050, _samples),
        Feature("mfcc-80", 22_050, _mfcc_80),
        Feature("mel-200", 22_050, _mel_200),
        Feature("mfcc-sequence", 16_000, _mfcc_sequence),
        Feature("spectrogram", 16_000, _spectrogram),
        Feature("wave-16k", 16_000, wave_16k),
    )
}
"""By name. ``wav2vec`` is made by :func:`ensemble.baselines.encoders.hidden_states`, which needs weights."""


def extract_copy(feature: Feature, copy: str, wave: Float, clip: Clip, seed: int) -> Float:
    """The feature of one copy of a clip; float32."""
    rng = np.random.default_rng(seed)
    for change in AUGMENTATIONS[copy]:
        wave = change(wave, feature.sample_rate_hz, rng)
    return np.nan_to_num(feature.extract(wave, clip)).astype(np.float32)


def load_features(feature: Feature, clips: Sequence[Clip], cache: Path) -> Float:
    """(n clips, n copies, ...) float32, extracted now or read from an earlier run's file in ``cache``.

    Columns: ``path``, ``speaker``, ``emotion``, ``copy`` and ``values`` (a fixed-size list of float32);
    the shape of one value stands in the file's metadata.

    Raises:
        CorpusError: when a clip cannot be decoded or the file is damaged.
    """
    depends_on = [feature.name, feature.sample_rate_hz, feature.copies, feature.version, clips_hash(clips)]
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
    path = cache / f"{feature.name}-{key[:16]}.parquet"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        _extract(feature, clips, path)
    return _read(path, len(clips), len(feature.copies))


def _extract(feature: Feature, clips: Sequence[Clip], path: Path) -> None:
    unfinished = path.with_suffix(".part")
    writer = None
    try:
        for start in range(0, len(clips), CLIPS_PER_GROUP):
            group = clips[start : start + CLIPS_PER_GROUP]
            values: list[Float] = []
            for index, clip in enumerate(group, start):
                wave = decode_clip(clip, feature.sample_rate_hz)
                values += [
                    extract_copy(feature, copy, wave, clip, 1000 * index + number)
                    for number, copy in enumerate(feature.copies)
                ]
            block = np.stack(values)
            flat = pa.array(block.reshape(-1))
            columns = {
                "path": [clip.path.name for clip in group for _ in feature.copies],
                "speaker": [clip.speaker for clip in group for _ in feature.copies],
                "emotion": [clip.emotion for clip in group for _ in feature.copies],
                "copy": list(feature.copies) * len(group),
                "values": pa.FixedSizeListArray.from_arrays(flat, block[0].size),
            }
            table = pa.table(columns, metadata={"shape": json.dumps(block.shape[1:])})
            writer = writer or pq.ParquetWriter(unfinished, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    unfinished.replace(path)


def _read(path: Path, n_clips: int, n_copies: int) -> Float:
    try:
        table = pq.read_table(path, columns=["values"])
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"{path}: not a readable feature file ({error}); delete it and run again"
        ) from error
    if table.num_rows != n_clips * n_copies:
        raise CorpusError(
            f"{path}: {table.num_rows} rows where {n_clips} clips x {n_copies} copies belong; delete it"
        )
    shape = tuple(json.loads((table.schema.metadata or {})[b"shape"]))
    pieces = [chunk.flatten().to_numpy() for chunk in table.column("values").chunks]
    values: Float = np.concatenate(pieces).reshape(n_clips, n_copies, *shape)
    return values
