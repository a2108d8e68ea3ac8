"""Telephone calls made from clips of acted speech, with who speaks when, through the codecs of recorders.

The speakers of CREMA-D and EMO-DB are for development, those of RAVDESS and nEMO for tests only: nothing may
be chosen on them.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from callanalytics.audio import decode_recording
from callanalytics.config import AudioSettings
from ensemble.corpora.clip import Clip, decode_clip

FloatArray = NDArray[np.float32]
RATE_HZ = 8000
BRIDGE_S = 0.5  # pauses shorter than this belong to a turn, as in the references of HarperValleyBank

DEVELOPMENT = ("crema-d", "emodb")
TEST = ("ravdess", "nemo")
EMODB_MEN = ("03", "10", "11", "12", "15")  # of its speakers list
CODINGS = ("pcm", "alaw", "gsm", "wav49", "amr-12.2", "amr-5.9", "mp3-16", "mp3-8", "opus-8")
LINE_CODINGS = ("pcm", "alaw", "alaw", "gsm", "amr-12.2", "amr-5.9")
_SOUNDFILE = {
    "pcm": (".wav", "WAV", "PCM_16"),
    "alaw": (".wav", "WAV", "ALAW"),
    "gsm": (".gsm", "RAW", "GSM610"),
    "wav49": (".wav", "WAV", "GSM610"),
}
_PYAV = {  # suffix, encoder, bits per second
    "amr-12.2": (".amr", "libopencore_amrnb", 12_200),
    "amr-5.9": (".amr", "libopencore_amrnb", 5_900),
    "mp3-16": (".mp3", "libmp3lame", 16_000),
    "mp3-8": (".mp3", "libmp3lame", 8_000),
    "opus-8": (".opus", "libopus", 8_000),
}


@dataclass(frozen=True)
class Speaker:
    """One actor: clips that are calm, angry, and of any other mood."""

    name: str
    sex: str  # "M" or "F"
    calm: list[Path] = field(default_factory=list)
    angry: list[Path] = field(default_factory=list)
    other: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What a built call is like.

    shape: "conversation" (turns), "lopsided" (one talks, one answers), "transfer" (first one agent, then
    another; the caller is the same), "message" (one voice without a break), "one_sided" (one voice with
    the pauses in which the other talked).
    moods: of the first speaker: "any" (every clip another), "calm", or "turning" (calm, then angry). Others
    are calm, except with "any".
    """

    shape: str
    moods: str
    n_speakers: int
    pairing: str = "any"  # "same" sex, "mixed", or "any"
    shortest_s: float = 25.0
    longest_s: float = 100.0


def corpus_speakers(corpora: Path, corpus: str) -> list[Speaker]:
    """Speakers of a corpus folder by name, with their clips by mood."""
    found: dict[str, Speaker] = {}
    for path, name, sex, mood in _CLIPS[corpus](corpora / corpus):
        speaker = found.setdefault(name, Speaker(f"{corpus}-{name}", sex))
        {"calm": speaker.calm, "angry": speaker.angry}.get(mood, speaker.other).append(path)
    return [s for _, s in sorted(found.items()) if len(s.calm) > 4 and len(s.angry) > 2]


def _crema(folder: Path) -> list[tuple[Path, str, str, str]]:
    with next(folder.rglob("VideoDemographics.csv")).open(encoding="utf-8") as stream:
        sex = {row["ActorID"]: row["Sex"][0] for row in csv.DictReader(stream)}
    mood = {"NEU": "calm", "ANG": "angry"}
    return [
        (p, p.name[:4], sex[p.name[:4]], mood.get(p.name.split("_")[2], "other"))
        for p in sorted((folder / "AudioWAV").iterdir())
    ]


def _emodb(folder: Path) -> list[tuple[Path, str, str, str]]:
    mood = {"N": "calm", "L": "calm", "W": "angry"}
    return [
        (p, p.name[:2], "M" if p.name[:2] in EMODB_MEN else "F", mood.get(p.stem[5], "other"))
        for p in sorted((folder / "wav").iterdir())
    ]


def _ravdess(folder: Path) -> list[tuple[Path, str, str, str]]:
    mood = {"01": "calm", "02": "calm", "05": "angry"}
    return [
        (p, p.stem[-2:], "FM"[int(p.stem[-2:]) % 2], mood.get(p.name.split("-")[2], "other"))
        for p in sorted(folder.glob("Actor_*/*"))
    ]


def _nemo(folder: Path) -> list[tuple[Path, str, str, str]]:
    with (folder / "data.tsv").open(encoding="utf-8") as stream:
        rows = [
            {k.strip(): (v or "").strip() for k, v in row.items()}
            for row in csv.DictReader(stream, delimiter="\t")
        ]
    mood = {"neutral": "calm", "anger": "angry"}
    return [
        (p, row["speaker_id"], row["gender"][0].upper(), mood.get(row["emotion"], "other"))
        for row in sorted(rows, key=lambda row: row["file_id"])
        if (p := folder / "samples" / row["file_id"]).exists()
    ]


_CLIPS = {"crema-d": _crema, "emodb": _emodb, "ravdess": _ravdess, "nemo": _nemo}


def choose_speakers(speakers: Sequence[Speaker], plan: Plan, rng: np.random.Generator) -> list[Speaker]:
    """Different ones, of the sexes that the plan asks for."""
    while True:
        chosen = [speakers[k] for k in rng.choice(len(speakers), plan.n_speakers, replace=False)]
        n_sexes = len({speaker.sex for speaker in chosen})
        if plan.pairing == "any" or n_sexes == (1 if plan.pairing == "same" else 2):
            return chosen


def sound_of(path: Path) -> FloatArray:
    """Mono at 8 kHz at its recorded level: decoded as a recording, a quiet clip would be made louder."""
    return decode_clip(Clip(path, corpus="", emotion="", speaker=""), RATE_HZ)


@cache
def voiced(path: Path) -> FloatArray:
    """A clip at 8 kHz without its quiet ends: below 8 dB over its noise, or 30 dB under its peak."""
    samples = sound_of(path)
    level_db = 20 * np.log10(np.sqrt(np.convolve(samples**2, np.ones(400) / 400, "same")) + 1e-6)
    floor_db = min(max(np.percentile(level_db, 10) + 8, level_db.max() - 30), level_db.max() - 6)
    loud = np.flatnonzero(level_db > floor_db)
    return samples[loud[0] : loud[-1] + 1].astype(np.float32)


@dataclass(frozen=True)
class Line:
    """What carries one party to the recorder: handset or headset, network, and the noise around them.

    The two sides of six real calls differ by 3 to 37 dB under 200 Hz and by 1 to 19 dB from 200 to 400 Hz,
    by 4 to 16 dB over 3.8 kHz, and by up to 15 dB in level; one of them is silent between words in all six
    (benchmarks/RESULTS.md).

    bend: impulse response of the handset; band_hz, orders: its high-pass and low-pass; coding: of the
    network; floor_db: of its noise; is_gated: which is heard while somebody speaks only.
    """

    bend: FloatArray
    band_hz: tuple[float, float]
    orders: tuple[int, int]
    coding: str
    floor_db: float
    is_gated: bool

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Line:
        """A line of any kind, half of them full in the low band, as headsets are, half narrow."""
        lowest_hz, highest_hz = ((20, 60), (150, 300))[int(rng.integers(2))]
        return cls(
            _handset(rng),
            (float(rng.uniform(lowest_hz, highest_hz)), float(rng.uniform(2900, 3900))),
            (int(rng.integers(2, 5)), int(rng.integers(2, 7))),
            str(rng.choice(LINE_CODINGS)),
            float(rng.uniform(-85, -68)),
            bool(rng.random() < 0.5),
        )

    def carried(self, side: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Samples (n,) of one party as they reach the recorder."""
        from scipy.signal import butter, sosfilt

        speaks = np.convolve(side != 0, np.ones(800), "same") > 0
        noise = rng.normal(0, 10 ** (self.floor_db / 20), len(side)) * (speaks | (not self.is_gated))
        sound = np.convolve(side, self.bend, "same") + noise
        for order, hz, kind in zip(self.orders, self.band_hz, ("highpass", "lowpass"), strict=True):
            sound = sosfilt(butter(order, hz, kind, fs=RATE_HZ, output="sos"), sound)
        coded = through(np.clip(sound, -1, 1).astype(np.float32), self.coding)[0][: len(side)]
        return np.pad(coded, (0, len(side) - len(coded)))


def build_call(
    plan: Plan, speakers: Sequence[Speaker], rng: np.random.Generator, equal_lines: float | None = None
) -> tuple[FloatArray, list[tuple[float, float, str]]]:
    """Samples (n,) of a mono call, and who speaks when: (start_s, end_s, name) by start.

    equal_lines: share of calls whose parties have equal lines, the others each their own; None: no lines.
    """
    sides, spoken = build_sides(plan, speakers, rng, equal_lines)
    mix = sides.sum(axis=0)
    return (with_line_noise(mix, rng) if equal_lines is None else np.clip(mix, -1, 1)), spoken


def build_sides(
    plan: Plan, speakers: Sequence[Speaker], rng: np.random.Generator, equal_lines: float | None = None
) -> tuple[FloatArray, list[tuple[float, float, str]]]:
    """The same before it is mixed and without noise: (2, n), the first speaker on a side of its own."""
    n = round(rng.uniform(plan.shortest_s, plan.longest_s) * RATE_HZ)
    parties = np.zeros((len(speakers), n), np.float32)
    spoken: list[tuple[float, float, str]] = []
    level = {s.name: 10 ** (rng.uniform(-28, -20) / 20) for s in speakers}
    has_line = equal_lines is not None
    handset = {s.name: _handset(rng) if rng.random() < 0.5 and not has_line else None for s in speakers}
    turns_at = rng.uniform(0.4, 0.7)
    at, who, shortest = round(rng.uniform(0.3, 1.5) * RATE_HZ), 0, 1.5 * RATE_HZ
    while at < n - shortest:
        speaker = speakers[who]
        answers = plan.shape == "lopsided" and who > 0
        for _ in range(1 if answers else rng.integers(1, 4) + (plan.shape == "lopsided") * 2):
            clip = _clip(plan, speaker, who == 0, at / n > turns_at, rng)
            if answers or rng.random() < 0.2:  # "yes", "and then"
                length = round(rng.uniform(0.35, 1.1) * RATE_HZ)
                first = int(rng.integers(max(1, len(clip) - length)))
                clip = clip[first : first + length]
            if at + len(clip) > n:
                break
            clip = clip * level[speaker.name] / max(1e-4, float(np.sqrt(np.mean(clip**2))))
            clip = clip * 10 ** (rng.uniform(-2, 2) / 20)
            if (response := handset[speaker.name]) is not None:
                clip = np.convolve(clip, response, "same")
            parties[who, at : at + len(clip)] += clip.astype(np.float32)
            spoken.append((at / RATE_HZ, (at + len(clip)) / RATE_HZ, speaker.name))
            at += len(clip) + round(rng.uniform(0.1, 0.5) * RATE_HZ)
        at = max(0, at + round(_gap_s(plan, rng) * RATE_HZ))
        who = _next_speaker(plan, who, at / n, len(speakers), rng)
    if has_line:
        lines = [Line.drawn(rng) for _ in speakers]
        lines = lines[:1] * len(lines) if rng.random() < equal_lines else lines
        parties = np.stack([line.carried(party, rng) for line, party in zip(lines, parties, strict=True)])
    sides = np.stack([parties[0], parties[1:].sum(axis=0)])
    if not has_line and rng.random() < 0.5:
        sides = _telephone_band(sides)
    return sides, bridged(spoken)


def with_line_noise(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Samples (..., n) with the noise of a quiet line."""
    noise = rng.normal(0, 10 ** (rng.uniform(-65, -52) / 20), samples.shape)
    return np.clip(samples + noise, -1, 1).astype(np.float32)


def late(samples: FloatArray, delay_ms: float) -> FloatArray:
    """The same sound (..., n), later."""
    n = round(delay_ms * RATE_HZ / 1000)
    begin = np.zeros((*samples.shape[:-1], n), np.float32)
    return np.concatenate([begin, samples], axis=-1)[..., : samples.shape[-1]]


def _clip(
    plan: Plan, speaker: Speaker, is_first: bool, is_late: bool, rng: np.random.Generator
) -> FloatArray:
    pool = speaker.calm + speaker.angry + speaker.other
    if plan.moods != "any":
        angry = plan.moods == "turning" and is_first and is_late
        strays = bool(speaker.other) and rng.random() < 0.15
        pool = speaker.other if strays else speaker.angry if angry else speaker.calm
    return voiced(pool[rng.integers(len(pool))])


def _gap_s(plan: Plan, rng: np.random.Generator) -> float:
    """Seconds from the end of a turn to the next; below 0 they overlap."""
    if plan.shape == "one_sided":
        return float(rng.uniform(1.0, 8.0))
    if plan.shape == "message":
        return float(rng.uniform(0.0, 1.0))
    if rng.random() < 0.25:
        return -float(rng.uniform(0.5, 1.4))
    return float(rng.uniform(0.0, 1.2))


def _next_speaker(plan: Plan, who: int, share: float, n_speakers: int, rng: np.random.Generator) -> int:
    if n_speakers == 1:
        return 0
    if plan.shape == "transfer":
        return 0 if who else (1 if share < 0.5 else 2)
    others = [k for k in range(n_speakers) if k != who]
    return who if rng.random() < 0.1 else int(rng.choice(others))


def _handset(rng: np.random.Generator) -> FloatArray:
    """A short impulse response that tilts and bends the spectrum by some dB, as microphones do."""
    hz = np.linspace(0, RATE_HZ / 2, 33)
    bend_db = np.interp(hz, np.linspace(0, RATE_HZ / 2, 5), rng.normal(0, 3, 5))
    response = np.fft.fftshift(np.fft.irfft(10 ** (bend_db / 20)))
    return (response * np.hanning(len(response))).astype(np.float32)


def _telephone_band(samples: FloatArray) -> FloatArray:
    from scipy.signal import butter, sosfilt

    return sosfilt(butter(4, [300, 3400], "bandpass", fs=RATE_HZ, output="sos"), samples).astype(np.float32)


def with_noise(samples: FloatArray, snr_db: float, rng: np.random.Generator) -> FloatArray:
    """Samples (n,) with white noise so far below the loud part of the speech (its 90th percentile)."""
    frames = samples[: len(samples) // 256 * 256].reshape(-1, 256)
    speech = np.percentile(np.sqrt((frames**2).mean(axis=1)), 90)
    noisy = samples + rng.normal(0, speech * 10 ** (-snr_db / 20), len(samples))
    return np.clip(noisy, -1, 1).astype(np.float32)


def bridged(spoken: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Join pieces of one speaker closer than `BRIDGE_S`."""
    joined: list[tuple[float, float, str]] = []
    for start_s, end_s, speaker in sorted(spoken, key=lambda piece: (piece[2], piece[0])):
        if joined and joined[-1][2] == speaker and start_s - joined[-1][1] < BRIDGE_S:
            joined[-1] = (joined[-1][0], max(end_s, joined[-1][1]), speaker)
        else:
            joined.append((start_s, end_s, speaker))
    return sorted(joined)


def through(samples: FloatArray, coding: str) -> FloatArray:
    """Samples (n,) as the product decodes them (1, n) from a file of this coding."""
    with tempfile.TemporaryDirectory() as folder:
        if coding in _SOUNDFILE:
            suffix, container, subtype = _SOUNDFILE[coding]
            path = Path(folder, f"call{suffix}")
            soundfile.write(path, samples, RATE_HZ, format=container, subtype=subtype)
        else:
            suffix, encoder, bit_rate = _PYAV[coding]
            path = Path(folder, f"call{suffix}")
            _encode(path, samples, encoder, bit_rate)
        return decode_recording([path], AudioSettings()).samples


def _encode(path: Path, samples: FloatArray, encoder: str, bit_rate: int) -> None:
    whole = (np.clip(samples, -1, 1) * 32767).astype(np.int16)[None]
    with av.open(str(path), "w") as target:
        stream = target.add_stream(encoder, rate=RATE_HZ)
        stream.bit_rate, stream.layout = bit_rate, "mono"
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        resampler = av.AudioResampler(stream.codec_context.format, "mono", RATE_HZ)
        queue = av.AudioFifo()
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            queue.write(part)
        while (part := queue.read(stream.codec_context.frame_size or 160, partial=True)) is not None:
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
