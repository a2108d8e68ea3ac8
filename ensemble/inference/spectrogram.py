"""Log-mel front end: waveform in, speaker-normalised spectrogram out.

One numpy implementation serves training and the night, so that both extract the same. Its settings are in
every card, and a mismatch is refused (:meth:`FrontEnd.from_card`).

Steps, each a function below: power spectrogram (Hann window, ``scipy.fft``),
Slaney mel bands (the same matrix as ``librosa.filters.mel``), decibels with a
floor below the clip's own peak, silence trimmed at both ends, then a
normalisation by what is known of the speaker:

- the *level* of the speaker is removed fully, because the gain of a recorder
  says nothing about a person;
- the *shape* (mean and deviation of each band) is shrunk towards that of the
  training corpora by ``n / (n + tau)`` with n seconds of speech, in the
  manner of James and Stein (1961): one clip is normalised by everybody's average,
  a minute of a caller by the caller's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ensemble.model_errors import ModelIncompatible, WaveformError

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """Settings of the front end; part of every checkpoint's card."""

    sample_rate_hz: int = 8000
    window_s: float = 0.032
    hop_s: float = 0.010
    n_fft: int = 512
    n_mels: int = 64
    low_hz: float = 60.0
    high_hz: float = 3800.0
    range_db: float = 60.0
    """Bands quieter than the clip's loudest band by more than this are raised to it."""
    active_db: float = 35.0
    """A frame this far below the loudest frame still counts as speech."""
    margin_s: float = 0.10
    """Silence kept at both ends when trimming."""
    shrink_s: float = 6.0
    """Seconds of speech at which a speaker's own band shape weighs as much as everybody's."""

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return round(self.hop_s * self.sample_rate_hz)

    @property
    def window(self) -> int:
        """Samples in one frame."""
        return round(self.window_s * self.sample_rate_hz)

    def to_card(self) -> dict[str, float | int]:
        """Settings as JSON can hold them."""
        return asdict(self)

    @classmethod
    def wide(cls) -> FrontEnd:
        """16 kHz and 80 bands up to 7.6 kHz: for benchmarks of wide-band corpora, never for calls."""
        return cls(sample_rate_hz=16000, n_mels=80, high_hz=7600.0)

    @classmethod
    def from_card(cls, settings: Mapping[str, object]) -> FrontEnd:
        """Rebuild from a card.

        Raises:
            ModelIncompatible: for unknown or missing settings.
        """
        known = {f.name for f in fields(cls)}
        if set(settings) != known:
            raise ModelIncompatible(
                f"front-end settings {sorted(set(settings) ^ known)} do not match this version of the code; "
                "install the version that made these weights, or train again"
            )
        return cls(**settings)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of one voice: sums over its active frames, so that two add up.

    ``n_frames`` counts 10 ms frames (the hop); ``total`` and ``squares`` are
    float64 sums of decibels per mel band, shape (n_mels,).
    """

    n_frames: float
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.n_frames + other.n_frames, self.total + other.total, self.squares + other.squares
        )


@dataclass(frozen=True, slots=True)
class Reference:
    """Band shape of the training speakers: mean dB relative to the level, and deviation; (n_mels,) each."""

    shape_db: Float
    deviation_db: Float


@lru_cache(maxsize=4)
def mel_matrix(front: FrontEnd) -> Float:
    """Slaney-scale, area-normalised triangles, (n_fft // 2 + 1, n_mels) float32."""

    def to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
        linear = hz * 3 / 200
        return np.where(hz < 1000, linear, 15 + 27 * np.log(np.maximum(hz, 1e-9) / 1000) / np.log(6.4))

    def to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    low, high = to_mel(np.array([front.low_hz, front.high_hz]))
    edges = to_hz(np.linspace(low, high, front.n_mels + 2))
    bins = np.fft.rfftfreq(front.n_fft, 1 / front.sample_rate_hz)
    rising = (bins[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    return triangles.astype(np.float32)


@lru_cache(maxsize=4)
def _hann(front: FrontEnd) -> Float:
    phase = 2 * np.pi * np.arange(front.window) / front.window
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


def check_waveform(waveform: NDArray[np.floating]) -> Float:
    """Audio as float32.

    Raises:
        WaveformError: when it is not 1-D float, or holds NaN or infinity.
    """
    samples = np.asarray(waveform)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise WaveformError(
            f"a waveform has shape {samples.shape} and type {samples.dtype}; "
            "expected 1-D float audio in [-1, 1]"
        )
    samples = samples.astype(np.float32, copy=False)
    if samples.size and not np.isfinite(samples).all():
        raise WaveformError("a waveform holds NaN or infinite samples; clean it before labelling")
    return samples


def log_mel(waveform: Float, front: FrontEnd) -> Float:
    """Mel spectrogram in dB, (n_frames, n_mels) float32, untrimmed, floored ``range_db`` below its peak.

    Audio shorter than one window is padded with zeros to one window.
    """
    from scipy.fft import rfft

    samples = check_waveform(waveform)
    if samples.size < front.window:
        samples = np.pad(samples, (0, front.window - samples.size))
    frames = np.lib.stride_tricks.sliding_window_view(samples, front.window)[:: front.hop]
    spectrum = rfft(frames * _hann(front), n=front.n_fft, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    mel = power @ mel_matrix(front)
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    floored: Float = np.maximum(decibels, decibels.max() - front.range_db).astype(np.float32)
    return floored


def extract(waveform: Float, front: FrontEnd) -> tuple[Float, Statistics]:
    """Trimmed log-mel (n_frames, n_mels) in dB and the statistics of its active frames."""
    spectrogram = log_mel(waveform, front)
    power = np.power(10.0, spectrogram * 0.1).sum(axis=1)
    active = power > power.max() * 10 ** (-front.active_db / 10)  # by level against the loudest frame
    where = np.flatnonzero(active)
    margin = round(front.margin_s / front.hop_s)
    first, last = (where[0], where[-1]) if where.size else (0, len(spectrogram) - 1)
    speech = spectrogram[active].astype(np.float64)
    statistics = Statistics(float(len(speech)), speech.sum(axis=0), (speech**2).sum(axis=0))
    return spectrogram[max(0, first - margin) : last + 1 + margin], statistics


def reference_of(statistics: Sequence[Statistics]) -> Reference:
    """Reference shape from one entry of statistics per training speaker, weighed by its frames."""
    shapes, variances, weights = [], [], []
    for each in statistics:
        mean = each.total / each.n_frames
        shapes.append(mean - mean.mean())
        variances.append(np.maximum(each.squares / each.n_frames - mean**2, 1.0))
        weights.append(each.n_frames)
    shape = np.average(shapes, axis=0, weights=weights)
    deviation = np.sqrt(np.average(variances, axis=0, weights=weights))
    return Reference(shape.astype(np.float32), deviation.astype(np.float32))


def voice_norm(known: Statistics, reference: Reference, front: FrontEnd) -> tuple[Float, Float]:
    """Mean and deviation in dB per band to normalise a voice by, shrunk to the reference; (n_mels,) each."""
    n_s = known.n_frames * front.hop_s
    own = n_s / (n_s + front.shrink_s)
    mean = known.total / max(known.n_frames, 1.0)
    variance = np.maximum(known.squares / max(known.n_frames, 1.0) - mean**2, 1.0)
    level = mean.mean()
    shape = own * (mean - level) + (1 - own) * reference.shape_db
    deviation = np.sqrt(own * variance + (1 - own) * reference.deviation_db.astype(np.float64) ** 2)
    return (level + shape).astype(np.float32), deviation.astype(np.float32)
