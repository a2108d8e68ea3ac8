"""Reduction of stationary noise on each channel: a Wiener filter with a spectral floor.

The noise of a band is a low quantile of its power over a minute of the call (quantile-based noise
estimation: Stahl, Fischer, Bippus, ICASSP 2000), which needs no detection of speech; the gain is Wiener's,
from power smoothed over frames, and never below GAIN_FLOOR, which keeps the residue from sounding musical
(Berouti, Schwartz, Makhoul, ICASSP 1979). Off by default: see benchmarks/denoise.py for what it does to
the labels.
"""

from __future__ import annotations

import numpy as np

from callanalytics.records import FloatArray

FRAME_S, HOP_S = 0.032, 0.008
BLOCK_S = 60.0  # the noise is taken as steady for so long; memory is bounded by it too
OVERLAP_S = 0.5
SMOOTHING_S = 0.024  # of the power that the gain is made of
NOISE_QUANTILE = 0.25  # speech leaves a band alone for more than a quarter of the time
GAIN_FLOOR = 10 ** (-12 / 20)
OVERESTIMATE = 1.5


def denoise(samples: FloatArray, sample_rate_hz: int) -> FloatArray:
    """Every channel with its steady noise turned down; float32 (n_channels, n), a new array.

    Stretches of exact zeros (masked, not recorded) say nothing of the noise and stay zero.
    """
    out = np.empty_like(samples)
    block, overlap = round(BLOCK_S * sample_rate_hz), round(OVERLAP_S * sample_rate_hz)
    for channel, sound in enumerate(samples):
        for start in range(0, sound.size, block):
            first, last = max(0, start - overlap), min(sound.size, start + block + overlap)
            cleaned = _denoised_block(sound[first:last], sample_rate_hz)
            end = min(sound.size, start + block)
            out[channel, start:end] = cleaned[start - first : end - first]
    return out


def _denoised_block(sound: FloatArray, sample_rate_hz: int) -> FloatArray:
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import istft, stft

    size, hop = round(FRAME_S * sample_rate_hz), round(HOP_S * sample_rate_hz)
    if sound.size < 2 * size:
        return sound
    shape = {"fs": sample_rate_hz, "nperseg": size, "noverlap": size - hop}
    _, _, spectrum = stft(sound, **shape)  # (bands, frames) complex64
    power = np.abs(spectrum) ** 2
    sounding = power.sum(axis=0) > 0
    if sounding.sum() < 10:
        return sound
    # The quantile of exponentially distributed power lies below its mean by -ln(1 - q); smoothing brings
    # it nearer, so that this errs on the side of too much noise by less than OVERESTIMATE.
    smooth = uniform_filter1d(power, max(1, round(SMOOTHING_S / HOP_S)), axis=1)
    noise = OVERESTIMATE * np.quantile(smooth[:, sounding], NOISE_QUANTILE, axis=1, keepdims=True)
    gain = np.maximum(1 - noise / np.maximum(smooth, 1e-20), GAIN_FLOOR)
    _, cleaned = istft(spectrum * gain, **shape)
    result: FloatArray = np.zeros_like(sound)
    n = min(sound.size, cleaned.size)
    result[:n] = cleaned[:n]
    return result
