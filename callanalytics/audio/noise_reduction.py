"""Hum below the voice, which is taken out, and reduction of stationary noise, which is off by default.

The reduction is a Wiener filter with a spectral floor on each channel. The noise of a band is a low quantile
of its power over a minute of the call (quantile-based noise estimation: Stahl, Fischer, Bippus, ICASSP 2000),
which needs no detection of speech; the gain is Wiener's, from power smoothed over frames, and never below
GAIN_FLOOR, which keeps the residue from sounding musical (Berouti, Schwartz, Makhoul, ICASSP 1979). See
benchmarks/denoise.py for what it does to the labels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from callanalytics.records import FloatArray

FRAME_S, HOP_S = 0.032, 0.008
BLOCK_S = 60.0  # the noise is taken as steady for so long; memory is bounded by it too
OVERLAP_S = 0.5
SMOOTHING_S = 0.024  # of the power that the gain is made of
NOISE_QUANTILE = 0.25  # speech leaves a band alone for more than a quarter of the time
GAIN_FLOOR = 10 ** (-12 / 20)
OVERESTIMATE = 1.5
# Mains have 50 or 60 Hz, the lowest voices begin at about 75 Hz.
HUM_BELOW_HZ, HUM_SHARE = 70.0, 0.5
_LOW_S, _LIKELY_SHARE = 0.004, 0.4  # a mean of so long keeps 83 % of the power at 60 Hz, and 1 % at 230 Hz
_SILENT, _BLOCK_SAMPLES = 1e-10, 1 << 20


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


def remove_hum(samples: FloatArray, sample_rate_hz: int) -> bool:
    """Take out, in place, what lies below the voice in every row where it is half of the power or more.

    Such hum hides speech from the detector, although people hear the call well. Exact zeros stay.

    Args:
        samples: float32 (n_channels, n).

    Returns:
        Whether a row had hum.
    """
    n_hummed = sum(_may_hum(row, sample_rate_hz) and _remove_hum(row, sample_rate_hz) for row in samples)
    return n_hummed > 0


def _may_hum(row: FloatArray, sample_rate_hz: int) -> bool:
    """A quick look: whether slow means hold so much of the power that hum may be half of it."""
    size = round(_LOW_S * sample_rate_hz)
    low, whole = (_Power(), _Power())
    for at in range(0, row.size - size, _BLOCK_SAMPLES):
        block = row[at : at + _BLOCK_SAMPLES]
        low.add(block[: block.size // size * size].reshape(-1, size).mean(axis=1))
        whole.add(block)
    return whole.value > _SILENT and low.value >= _LIKELY_SHARE * whole.value


def _remove_hum(row: FloatArray, sample_rate_hz: int) -> bool:
    from scipy.signal import ellip, sosfilt, sosfilt_zi

    sections = ellip(6, 0.1, 40.0, HUM_BELOW_HZ, "highpass", output="sos", fs=sample_rate_hz)

    def filtered() -> Iterator[tuple[FloatArray, FloatArray]]:
        state = sosfilt_zi(sections) * float(row[0])  # a constant offset makes no click at the beginning
        for at in range(0, row.size, _BLOCK_SAMPLES):
            block = row[at : at + _BLOCK_SAMPLES]
            high, state = sosfilt(sections, block.astype(np.float64), zi=state)
            yield block, high

    whole, kept = _Power(), _Power()
    for block, high in filtered():
        whole.add(block)
        kept.add(high)
    if kept.value > (1 - HUM_SHARE) * whole.value:
        return False
    for block, high in filtered():
        np.copyto(block, np.clip(high, -1.0, 1.0), where=block != 0, casting="same_kind")
    return True


class _Power:
    """Mean power of samples about their mean, added block by block."""

    def __init__(self) -> None:
        self._n, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, block: FloatArray) -> None:
        self._n += block.size
        self._sum += float(block.sum(dtype=np.float64))
        self._squares += float(np.vdot(block, block))

    @property
    def value(self) -> float:
        """0 without samples."""
        n = max(1, self._n)
        return self._squares / n - (self._sum / n) ** 2
