"""Make callanalytics/features/filterbanks.npz anew, from the librosa that is installed.

    python benchmarks/filterbanks.py

A test holds the file equal to librosa's filters.
"""

import librosa
import numpy as np

from callanalytics.features.frames import N_FFT, RATE_HZ
from callanalytics.features.spectrum import FILTER_BANKS, N_CHROMA, N_MELS

mel = librosa.filters.mel(sr=RATE_HZ, n_fft=N_FFT, n_mels=N_MELS)
chroma = librosa.filters.chroma(sr=RATE_HZ, n_fft=N_FFT, n_chroma=N_CHROMA, tuning=0.0)
np.savez_compressed(FILTER_BANKS, mel=mel.astype(np.float32), chroma=chroma.astype(np.float32))
