"""librosa's mel and chroma filters as matrices, kept in the package: the night need not import librosa.

Importing librosa.filters costs a worker process about 1 s and 130 MB, and all that is needed of it here
are two small matrices. `python -m callanalytics.features.filterbanks` lets librosa make the file anew; a
test holds it equal to the librosa that is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from callanalytics.features.frames import N_FFT, RATE_HZ

if TYPE_CHECKING:
    from callanalytics.records import FloatArray

N_MELS = 40
N_CHROMA = 12
SHIPPED_FILE = Path(__file__).with_name("filterbanks.npz")


@dataclass(frozen=True, slots=True)
class FilterBanks:
    """Weights over the bins of a power spectrum: mel (N_MELS, n_bins), chroma (N_CHROMA, n_bins)."""

    mel: FloatArray
    chroma: FloatArray


@cache
def filter_banks() -> FilterBanks:
    """The shipped filters."""
    with np.load(SHIPPED_FILE, allow_pickle=False) as shipped:
        return FilterBanks(mel=shipped["mel"], chroma=shipped["chroma"])


def librosa_filters() -> FilterBanks:
    """Slaney's mel filters and Ellis's chroma filters (A at 440 Hz) as librosa computes them."""
    import librosa

    mel = librosa.filters.mel(sr=RATE_HZ, n_fft=N_FFT, n_mels=N_MELS)
    chroma = librosa.filters.chroma(sr=RATE_HZ, n_fft=N_FFT, n_chroma=N_CHROMA, tuning=0.0)
    return FilterBanks(mel=mel.astype(np.float32), chroma=chroma.astype(np.float32))


if __name__ == "__main__":
    made = librosa_filters()
    np.savez_compressed(SHIPPED_FILE, mel=made.mel, chroma=made.chroma)
