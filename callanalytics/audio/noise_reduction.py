"""Hum, which is taken out, and reduction of stationary noise, which is off by default.

The reduction is a Wiener filter with a spectral floor on each channel. The noise of a band is a low quantile
of its power over a minute of the call (quantile-based noise estimation: Stahl, Fischer, Bippus, ICASSP 2000),
which needs no detection of speech; the gain is Wiener's, from power smoothed over frames, and never below
GAIN_FLOOR, which keeps the residue from sounding musical (Berouti, Schwartz, Makhoul, ICASSP 1979). See
benchmarks/denoise.py for what it does to the labels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from callanalytics.audio.samples import frames_at
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
# Harmonics of the mains. The frequency of the mains and the clock of a recorder are right to 0.4 % together.
_MAINS_HZ, _MAINS_DRIFT = (50.0, 60.0), 0.004
_LINE_S, _PAUSE_SAMPLES = 1.0, 256
_PART_S, _MOST_PARTS, _WINDOWS_A_PART, _FEWEST_WINDOWS = 300, 8, 32, 8
# Of 24 channels of real calls and meetings the lines hold less than 0.01 % of the power, of five pieces of
# hold music 1 % and less; hum 15 dB below the speech holds 5 %.
_LINE_ABOVE, _LINES_SHARE = 10.0, 0.02
_FEWEST_LINES, _LOW_HARMONIC, _FEWEST_LOW = 4, 6, 2
_NOTCH_HZ, _SETTLED_S = 4.0, 2.0


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
    """Take hum out of every row in place.

    It is what lies below the voice, where that is half of the power or more, and the harmonics of the mains
    where they stand still.

    Such hum hides speech from the detector, although people hear the call well. Exact zeros stay.

    Args:
        samples: float32 (n_channels, n).

    Returns:
        Whether a row had hum.
    """
    n_hummed = 0
    for row in samples:
        has_low = _may_hum(row, sample_rate_hz) and _remove_low(row, sample_rate_hz)
        n_hummed += _remove_harmonics(row, sample_rate_hz) or has_low
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


def _remove_low(row: FloatArray, sample_rate_hz: int) -> bool:
    from scipy.signal import ellip

    sections = ellip(6, 0.1, 40.0, HUM_BELOW_HZ, "highpass", output="sos", fs=sample_rate_hz)
    whole, kept = _Power(), _Power()
    for block, high in _filtered(row, sections):
        whole.add(block)
        kept.add(high)
    if kept.value > (1 - HUM_SHARE) * whole.value:
        return False
    for block, high in _filtered(row, sections):
        _replace(block, high)
    return True


def _remove_harmonics(row: FloatArray, sample_rate_hz: int) -> bool:
    lines_hz = mains_harmonics_hz(row, sample_rate_hz)
    if not lines_hz:
        return False
    from scipy.signal import iirnotch  # 70 MB, and few recordings hum

    notches = [iirnotch(hz, hz / _NOTCH_HZ, fs=sample_rate_hz) for hz in lines_hz]
    sections = np.array([[*numerator, *denominator] for numerator, denominator in notches])
    # A notch lets the first moment of hum through, as if it were a voice: the start is filtered backwards.
    start = row[: round(2 * _SETTLED_S * sample_rate_hz)][::-1].copy()
    for block, rest in _filtered(row, sections):
        _replace(block, rest)
    (_, rest), *_ = _filtered(start, sections)
    _replace(row[: start.size // 2], rest[::-1][: start.size // 2])
    return True


def mains_harmonics_hz(row: FloatArray, sample_rate_hz: int) -> list[float]:
    """Frequencies of the harmonics of the mains in (n,) samples that stand still for a part of the recording.

    Spectra of a second are compared: between words only what stands still is left, so a low quantile of the
    power of each frequency shows hum as lines, and voices or melodies as none.
    """
    size = 1 << round(_LINE_S * sample_rate_hz).bit_length()
    n_parts = min(_MOST_PARTS, 1 + row.size // (_PART_S * sample_rate_hz))
    n_windows = min(_WINDOWS_A_PART * n_parts, 1 + 2 * (row.size - size) // size)
    if n_windows < _FEWEST_WINDOWS:
        return []
    found: list[float] = []
    starts = np.linspace(0, row.size - size, n_windows).astype(np.int64)
    for part in np.array_split(starts, n_parts):
        sound = frames_at(row, part, size)
        sound = sound[np.var(sound, axis=1) > _SILENT]
        if len(sound) >= _FEWEST_WINDOWS and not _falls_quiet(sound):
            found += [
                hz
                for hz in _steady_lines_hz(sound, sample_rate_hz)
                if not np.isclose(hz, found, rtol=0, atol=_NOTCH_HZ / 2).any()
            ]
    return found


def _falls_quiet(sound: FloatArray) -> bool:
    """A quick look at (n_windows, n): whether its pauses hold too little for hum to matter."""
    power = sound.reshape(-1, _PAUSE_SAMPLES).var(axis=1)
    return bool(np.quantile(power, NOISE_QUANTILE) < _LINES_SHARE / 2 * power.mean())


def _steady_lines_hz(sound: FloatArray, sample_rate_hz: int) -> list[float]:
    """The harmonics of 50 or 60 Hz in (n_windows, n) that stand still, if they hold enough of the power."""
    import scipy.fft

    size = sound.shape[1]
    spectrum = scipy.fft.rfft(sound * np.hanning(size).astype(np.float32), axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    steady = np.quantile(power, NOISE_QUANTILE, axis=0)
    by_mains = [_lines(steady, mains_hz, sample_rate_hz / size) for mains_hz in _MAINS_HZ]
    lines = max(by_mains, key=lambda each: sum(band_power for _, band_power in each.values()))
    n_low = sum(number <= _LOW_HARMONIC for number in lines)
    share = sum(band_power for _, band_power in lines.values()) / float(power.sum(axis=1).mean())
    is_hum = len(lines) >= _FEWEST_LINES and n_low >= _FEWEST_LOW and share > _LINES_SHARE
    return [hz for hz, _ in lines.values()] if is_hum else []


def _lines(steady: FloatArray, mains_hz: float, band_hz: float) -> dict[int, tuple[float, float]]:
    """The harmonics whose band stands out among those around it: number to frequency in Hz and power."""
    lines = {}
    far = round(0.45 * mains_hz / band_hz)
    for number in range(1, int((steady.size - far) * band_hz / mains_hz)):
        middle, reach = number * mains_hz / band_hz, 1 + _MAINS_DRIFT * number * mains_hz / band_hz
        first = round(middle - reach)
        band = first + int(steady[first : round(middle + reach) + 1].argmax())
        around = np.r_[steady[max(0, band - far) : band - 4], steady[band + 5 : band + far + 1]]
        left, top, right = (float(each) for each in steady[band - 1 : band + 2])
        if top > _LINE_ABOVE * np.median(around) and top > left and top > right > 0 < left:
            left, top, right = np.log((left, top, right))  # a parabola through three bands
            shift = 0.5 * (left - right) / (left - 2 * top + right)
            lines[number] = (float(band + shift) * band_hz, float(steady[band - 1 : band + 2].sum()))
    return lines


def _filtered(row: FloatArray, sections: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Block by block what is there, and the same through second-order sections, float64."""
    from scipy.signal import sosfilt, sosfilt_zi

    state = sosfilt_zi(sections) * float(row[0])  # a constant offset makes no click at the beginning
    for at in range(0, row.size, _BLOCK_SAMPLES):
        block = row[at : at + _BLOCK_SAMPLES]
        filtered, state = sosfilt(sections, block.astype(np.float64), zi=state)
        yield block, filtered


def _replace(block: FloatArray, by: FloatArray) -> None:
    np.copyto(block, np.clip(by, -1.0, 1.0), where=block != 0, casting="same_kind")


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
