"""Log-mel front ends: waveform in, spectrogram out.

That of the members trained here is speaker-normalised; that of the voice network is Kaldi's, see below.

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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ensemble.model_errors import ModelIncompatible, WaveformError

Float = NDArray[np.float32]

HELD_FRAMES = 60_000
"""10 minutes of speech, 15 MB."""
KALDI_RATE_HZ = 8000
KALDI_MELS = 80
KALDI_HOP = 80  # samples: 10 ms
_KALDI_WINDOW = 200  # samples: 25 ms
KALDI_CENTRE_S = _KALDI_WINDOW / 2 / KALDI_RATE_HZ
"""Middle of the first frame."""
_KALDI_FFT = 256  # 31.25 Hz, as 512 points at 16 kHz
_PRE_EMPHASIS = 0.97
_KALDI_FLOOR = float(np.finfo(np.float32).eps)


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
class Spectra:
    """Spectrograms of n waveforms, each made when its turn comes: ``of(i)`` is (``n_frames[i]``, n_mels)."""

    n_frames: Sequence[int]
    of: Callable[[int], Float]


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


class Spectrograms:
    """Spectrograms (n_frames, n_mels) of waveforms, and the statistics of each.

    Those beyond the first ``HELD_FRAMES`` are made again when asked for, which costs a call of hours a few
    per cent of the time and saves hundreds of megabytes.
    """

    def __init__(self, waveforms: Sequence[Float], front: FrontEnd) -> None:
        self._waveforms, self._front = waveforms, front
        self._held: list[Float | None] = []
        self.statistics: list[Statistics] = []
        self.n_frames: list[int] = []
        n_held = 0
        for waveform in waveforms:
            mel, statistics = extract(waveform, front)
            n_held += len(mel)
            self._held.append(mel if n_held <= HELD_FRAMES else None)
            self.n_frames.append(len(mel))
            self.statistics.append(statistics)

    def mel(self, i: int) -> Float:
        """Spectrogram of waveform ``i``."""
        held = self._held[i]
        return extract(self._waveforms[i], self._front)[0] if held is None else held


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


def n_kaldi_frames(n_samples: int) -> int:
    """How many frames of `kaldi_log_mels` so many samples at 8 kHz have."""
    return max(0, 1 + (n_samples - _KALDI_WINDOW) // KALDI_HOP)


def kaldi_log_mels(samples: Float, chosen: NDArray[np.int64] | None = None) -> Float:
    """Kaldi's log-mel energies of (n,) samples at 8 kHz: (n_frames, 80), 10 ms apart, edges cut.

    Of `chosen` frames only, given as increasing numbers, where they are given.

    The voice network (CAM++) wants the 80 filters of 16 kHz sound. Telephone sound ends at 4 kHz, so they are
    computed from the 8 kHz samples directly: with the same 31.25 Hz grid and the same mel filters, the ones
    above 4 kHz at Kaldi's floor. That saves resampling and half the transform.
    """
    import scipy.fft

    n_frames = n_kaldi_frames(len(samples)) if chosen is None else len(chosen)
    if n_frames == 0:
        return np.zeros((0, KALDI_MELS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _KALDI_WINDOW)[::KALDI_HOP]
    window, filters = _povey(), _kaldi_filters()
    found = np.empty((n_frames, KALDI_MELS), np.float32)
    for first in range(0, n_frames, 4096):
        block = frames[first : first + 4096] if chosen is None else frames[chosen[first : first + 4096]]
        block = (block - block.mean(axis=1, keepdims=True)) * window
        spectrum = scipy.fft.rfft(block, _KALDI_FFT, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        found[first : first + 4096] = np.log(np.maximum(power @ filters, _KALDI_FLOOR))
    return found


def voice_spectra(waveforms: Sequence[Float]) -> Spectra:
    """What the voice network sees of waveforms at 8 kHz: log-mels minus their mean, at least one frame."""

    def of(i: int) -> Float:
        samples = waveforms[i]
        mels = kaldi_log_mels(np.pad(samples, (0, max(0, _KALDI_WINDOW - len(samples)))))
        centred: Float = mels - mels.mean(axis=0)
        return centred

    return Spectra([1 + max(0, len(w) - _KALDI_WINDOW) // KALDI_HOP for w in waveforms], of)


@lru_cache(maxsize=1)
def _povey() -> Float:
    """Kaldi's "povey" window: a Hann window to the power 0.85."""
    return (np.hanning(_KALDI_WINDOW) ** 0.85).astype(np.float32)


@lru_cache(maxsize=1)
def _kaldi_filters() -> Float:
    """Weights (129, 80) from power at 8 kHz to Kaldi's mel energies at 16 kHz, 20 Hz to 8 kHz.

    They contain the pre-emphasis of Kaldi as its power response at 16 kHz, and a factor 4, because
    a window of the same duration has twice as many samples there.
    """
    hz = np.arange(_KALDI_FFT // 2 + 1) * KALDI_RATE_HZ / _KALDI_FFT
    mel = _kaldi_mel(hz)
    edges = np.linspace(_kaldi_mel(np.array(20.0)), _kaldi_mel(np.array(8000.0)), KALDI_MELS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (mel[:, None] - left) / (centre - left)
    falling = (right - mel[:, None]) / (right - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    angle = 2 * np.pi * hz / (2 * KALDI_RATE_HZ)
    emphasis = 1 - 2 * _PRE_EMPHASIS * np.cos(angle) + _PRE_EMPHASIS**2
    return (triangles * (4 * emphasis)[:, None]).astype(np.float32)


def _kaldi_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1127.0 * np.log1p(hz / 700.0)
