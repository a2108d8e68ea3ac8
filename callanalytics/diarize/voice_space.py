"""What is known of voices in general: how much moods move one voice's print, and how much voices differ.

Two covariances of voice prints, between the moods of a speaker and between speakers (Kenny: "Bayesian
speaker verification with heavy-tailed priors", Odyssey 2010; here in the plain Gaussian two-covariance
form), fitted by `benchmarks/voice_space.py` on CREMA-D and EMO-DB, whose speakers say things in anger,
fear, joy and sadness: so the part of a print that mood moves weighs little here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from callanalytics.diarize.vad import FloatArray

# Both chosen on calls built of other speakers than those that the space then in use was fitted on
# (benchmarks/RESULTS.md). A group mixes moods, so it is off by less than one mood is; and the print of ten
# seconds is off by as much as a mood.
_MOOD_SHARE = 0.5
_AS_FAR_AS_A_MOOD_S = 10.0


@dataclass(frozen=True)
class VoiceSpace:
    """projection: (192, d), makes the covariance between moods the identity; between: (d,) variances."""

    projection: FloatArray
    between: FloatArray

    @classmethod
    def load(cls) -> VoiceSpace:
        """The shipped fit."""
        with np.load(Path(__file__).with_name("voice_space.npz"), allow_pickle=False) as fit:
            return cls(fit["projection"], fit["between"])

    def two_voices(self, one: FloatArray, one_s: float, other: FloatArray, other_s: float) -> float:
        """Log-likelihood ratio that prints (192,) of so many seconds are of two speakers, not one.

        Only their difference counts, so the channel of the call cancels out.
        """
        seconds = 1 / max(1e-3, one_s) + 1 / max(1e-3, other_s)
        same = 2 * _MOOD_SHARE + _AS_FAR_AS_A_MOOD_S * seconds
        apart = same + 2 * self.between
        difference = (one - other) @ self.projection
        return float(0.5 * np.sum(np.log(same / apart) + difference**2 * (1 / same - 1 / apart)))
