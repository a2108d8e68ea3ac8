"""Who of up to three local speakers talks when, in windows of 10 s (pyannote segmentation 3.0).

The network tells speakers apart only within one window; `one_channel.py` joins them across windows
by voice print. It also detects two at once, which nothing else here does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from callanalytics.records import FloatArray
from ensemble.inference.device import open_session
from ensemble.inference.shipped_networks import SEGMENTER, network_file

if TYPE_CHECKING:
    import onnxruntime

_RATE_HZ = 16_000  # that it was trained on; the network of `make_networks.at_8_khz` takes our 8 kHz
_WINDOW_SAMPLES = 80_000
N_FRAMES = 589
# Frame k sees 991 samples around 495 + 270 k (251-tap sinc stride 10, then kernels 3, 5, 3, 5, 3).
FRAME_STEP_S = 270 / _RATE_HZ
FRAME_CENTRE_S = 495 / _RATE_HZ
N_LOCAL = 3
# Classes of the network as sets of local speakers.
POWERSET = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=np.float32
)
_BATCH = 2  # windows at once: the same sums as of eight, as fast, and 120 MB less


@dataclass(frozen=True)
class SpeakerSegmenter:
    """The network, loaded."""

    session: onnxruntime.InferenceSession

    @classmethod
    def load(cls, n_threads: int = 1) -> SpeakerSegmenter:
        """Open the ONNX file. Raises ModelMissing when it is not there."""
        return cls(open_session(network_file(SEGMENTER), n_threads))

    def windows(self, samples: FloatArray, starts: list[int]) -> FloatArray:
        """Probability of each speaker set: (n_windows, 589, 7).

        Args:
            samples: (n,) at 8 kHz.
            starts: first sample of each 10 s window; zeros stand in beyond the end.
        """
        found = np.empty((len(starts), N_FRAMES, len(POWERSET)), np.float32)
        for first in range(0, len(starts), _BATCH):
            chosen = starts[first : first + _BATCH]
            batch = np.zeros((len(chosen), _WINDOW_SAMPLES), np.float32)
            for row, start in enumerate(chosen):
                piece = samples[start : start + _WINDOW_SAMPLES]
                batch[row, : len(piece)] = piece
            (log_probability,) = self.session.run(None, {"samples": batch})
            found[first : first + len(chosen)] = np.exp(log_probability)
        return found
