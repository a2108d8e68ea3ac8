"""Training: from labelled clips to members, seeded, resumable after a kill, one epoch at a time.

``train_ensemble`` extracts the views of the corpora, trains each member in turn and leaves one folder per
member with ``state.safetensors`` (everything needed to go on), ``best.safetensors`` (the averaged weights to
use) and ``log.jsonl``. :mod:`ensemble.training.assemble` turns that into an ensemble.

- ``training_settings``, ``augmentation``, ``spectrogram_cache``, ``examples``: the input of a run
- ``batches``: an epoch of it; ``loop``: the epochs of a member, the members of an ensemble
- ``checkpoint``: what is on disk between epochs
- ``fit_heads``: centred heads on frozen bodies
- ``calibration``, ``assemble``: temperature, thresholds, export, card
"""

from ensemble.training.examples import Examples, prepare
from ensemble.training.loop import News, Progress, train_ensemble, train_member
from ensemble.training.spectrogram_cache import Extracted
from ensemble.training.training_settings import PRESETS, TrainSettings

__all__ = [
    "PRESETS",
    "Examples",
    "Extracted",
    "News",
    "Progress",
    "TrainSettings",
    "prepare",
    "train_ensemble",
    "train_member",
]
