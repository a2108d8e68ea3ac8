"""librosa's mel and chroma filters as matrices, kept in the package so that the night need not import librosa.

Importing librosa.filters costs about one second and 130 MB in every worker process; two small matrices
are all that is needed of it. `python -m callanalytics.filterbanks` makes the file anew; a test holds
it equal to the librosa that is installed. Any other rate or size asks librosa at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from callanalytics.records import FloatArray

N_FFT = 512
N_MELS = 40
SHIPPED_RATE_HZ = 8_000
SHIPPED_FILE = Path(__file__).with_name("filterbanks.npz")


@dataclass(frozen=True, slots=True)
class FilterBanks:
    """Weights over the bins of a power spectrum: mel (N_MELS, N_FFT // 2 + 1), chroma (12, same)."""

    mel: FloatArray
    chroma: FloatArray


@cache
def filter_banks(sample_rate_hz: int) -> FilterBanks:
    """The filters for a sampling rate: shipped for 8 kHz, computed by librosa for others."""
    if sample_rate_hz == SHIPPED_RATE_HZ and SHIPPED_FILE.is_file():
        with np.load(SHIPPED_FILE, allow_pickle=False) as shipped:
            return FilterBanks(mel=shipped["mel"], chroma=shipped["chroma"])
    return librosa_filters(sample_rate_hz)


def librosa_filters(sample_rate_hz: int) -> FilterBanks:
    """Slaney's mel filters and Ellis's chroma filters (A at 440 Hz) as librosa computes them."""
    import librosa

    return FilterBanks(
        mel=librosa.filters.mel(sr=sample_rate_hz, n_fft=N_FFT, n_mels=N_MELS).astype(np.float32),
        chroma=librosa.filters.chroma(sr=sample_rate_hz, n_fft=N_FFT, tuning=0.0).astype(np.float32),
    )


if __name__ == "__main__":
    made = librosa_filters(SHIPPED_RATE_HZ)
    np.savez_compressed(SHIPPED_FILE, mel=made.mel, chroma=made.chroma)
