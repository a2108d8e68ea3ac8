"""What is known of voices in general: how much one voice varies, and how much voices differ.

Two covariances of voice prints, within and between speakers (Kenny: "Bayesian speaker verification
with heavy-tailed priors", Odyssey 2010; here in the plain Gaussian two-covariance form), fitted by
`benchmarks/voice_space.py` on CREMA-D and EMO-DB, whose speakers say things in anger, fear, joy and
sadness: so the part of a print that mood moves weighs little here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from callanalytics.speech import BoolArray, FloatArray

# Neighbouring pieces say much the same: a group counts as half its seconds, and as no more than a minute
# of them, or a long monologue would make every mood a certain stranger.
_INDEPENDENT_SHARE = 0.5
_MAX_TELLING_S = 60.0


@dataclass(frozen=True)
class VoiceSpace:
    """projection: (192, d), makes the covariance within speakers the identity; between: (d,) variances."""

    projection: FloatArray
    between: FloatArray

    @classmethod
    def load(cls) -> VoiceSpace:
        """The shipped fit."""
        with np.load(Path(__file__).with_name("voice_space.npz"), allow_pickle=False) as fit:
            return cls(fit["projection"], fit["between"])

    def two_voices(
        self, prints: FloatArray, weight_s: npt.NDArray[np.float64], one: BoolArray, other: BoolArray
    ) -> float:
        """Log-likelihood ratio that the chosen rows of (n, 192) prints are two speakers, not one.

        Only the difference of the group means counts, so the channel of the call cancels out.
        """
        noise = 0.0
        means = []
        for chosen in (one, other):
            weight = weight_s[chosen]
            noise += 1 / max(1e-3, min(_MAX_TELLING_S, float(weight.sum())) * _INDEPENDENT_SHARE)
            means.append(np.average(prints[chosen], axis=0, weights=weight))
        difference = (means[0] - means[1]) @ self.projection
        apart = noise + 2 * self.between
        return float(0.5 * np.sum(np.log(noise / apart) + difference**2 * (1 / noise - 1 / apart)))
