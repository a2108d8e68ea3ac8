"""Study 000 (RAVDESS, 8 classes): LSTM, CNN, CNN+LSTM on MFCC-40 with deltas; wav2vec 2.0.

The features are one vector of 160 (the document's ``MFCC_X shape: (1440, 160)``), read as the means of 40
MFCC, their two deltas and 40 mel bands. Layers follow the listings; what has no listing was chosen to give
the document's number of parameters, which it does exactly.
"""

from __future__ import annotations

from dataclasses import replace

from ensemble.baselines.layers import Conv, Dense, Drop, Lstm, Mean, Norm, Pool
from ensemble.baselines.system import Classical, Figure, Network, OwnProtocol, System

ON = "RAVDESS, 8 classes, random 80/20"
OWN = OwnProtocol(test_share=0.20, validation_share=0.10)
TRAINING = Network(loss="focal", max_epochs=150, batch=36, learning_rate=1e-3, stop_epochs=15)
DIFFERS = (
    "the document has 1,440 clips at 48 kHz; the clips here were kept at 16 kHz, compressed",
    "epochs are chosen on validation clips taken from the training part, not on the test clips",
)


def _system(name: str, title: str, percent: float, network: Network) -> System:
    return System(name, "000", title, ("means-160",), network, Figure(percent, ON), own=OWN, differs=DIFFERS)


SYSTEMS = (
    _system(
        "lstm",
        "LSTM 256, dense 128 and 64",
        21.88,
        replace(TRAINING, layers=(Lstm(256), Dense(128), Dense(64))),
    ),
    _system(
        "cnn",
        "three Conv1D (64, 128, 256), dropout 50 %",
        46.18,
        replace(
            TRAINING,
            layers=(
                *(Conv(64), Norm(), Pool(), Drop(0.5)),
                *(Conv(128), Norm(), Pool(), Drop(0.5)),
                *(Conv(256), Norm(), Pool(), Drop(0.5)),
                *(Mean(), Dense(128), Drop(0.5), Dense(64)),
            ),
        ),
    ),
    _system(
        "cnn-lstm",
        "CNN+LSTM of 378,344 parameters",
        63.89,
        replace(
            TRAINING,
            layers=(
                *(Conv(64), Norm(), Pool()),
                *(Conv(128), Norm(), Pool(), Drop(0.3)),
                *(Conv(256), Norm(), Pool()),
                *(Lstm(128, sequences=True), Lstm(64)),
                *(Dense(64), Drop(0.3), Dense(32), Drop(0.3)),
            ),
        ),
    ),
    System(
        "wav2vec-forest",
        "000",
        "wav2vec 2.0 states, random forest",
        ("wav2vec",),
        Classical("forest"),
        Figure(48.61, ON),
        own=OWN,
        differs=DIFFERS,
    ),
    System(
        "wav2vec-tuned",
        "000",
        "wav2vec 2.0, fine-tuned",
        ("wave-16k",),
        Network(module="tuned_wav2vec", max_epochs=20, batch=8, learning_rate=3e-5, stop_epochs=5),
        Figure(None, "named, no figure given"),
        own=OWN,
        differs=DIFFERS,
    ),
)
