"""Training: from labelled clips to members, seeded, resumable after a kill, one epoch at a time.

``train_ensemble`` hears the corpora (:mod:`ensemble.training.spectrogram_cache`), trains each
member in turn and leaves one folder per member with ``state.safetensors``
(everything needed to go on), ``best.safetensors`` (the averaged weights to
use) and ``log.jsonl``. :mod:`ensemble.training.export_ensemble` turns that into an ensemble.

- ``settings`` and ``examples``: what a run is made of; ``batches``: an epoch of it
- ``validate``: how good weights are; ``checkpoint``: what is on disk between epochs
- ``loop``: the epochs of a member, the members of an ensemble
"""

from ensemble.training.batches import Batches, handset_response_db, pad
from ensemble.training.checkpoint import Start, start_of
from ensemble.training.examples import Examples, prepare
from ensemble.training.loop import Progress, train_ensemble, train_member
from ensemble.training.spectrogram_cache import Listened
from ensemble.training.training_settings import PRESETS, TrainSettings
from ensemble.training.validate import normalised, predict_logits, unweighted_recall

__all__ = [
    "PRESETS",
    "Batches",
    "Examples",
    "Listened",
    "Progress",
    "Start",
    "TrainSettings",
    "handset_response_db",
    "normalised",
    "pad",
    "predict_logits",
    "prepare",
    "start_of",
    "train_ensemble",
    "train_member",
    "unweighted_recall",
]
