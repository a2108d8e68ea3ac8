"""Study 001 (after the notebook of S. Burnwal): Conv1D on 162 means, without and with augmentation, deeper.

The document shows curves but prints no figure. Its third network is described (more layers, more dropout,
batch normalisation) but not listed: ours follows the description.
"""

from __future__ import annotations

from ensemble.baselines.layers import Conv, Dense, Drop, Flatten, Norm, Pool
from ensemble.baselines.system import Figure, Network, OwnProtocol, System

OWN = OwnProtocol(test_share=0.25, validation_share=0.10, seed=0)
NONE_PRINTED = Figure(None, "curves only, no figure printed")
POOL = Pool(5, 2, same=True)
LISTED = Network(
    layers=(
        *(Conv(256, 5), POOL, Conv(256, 5), POOL),
        *(Conv(128, 5), POOL, Drop(0.2), Conv(64, 5), POOL),
        *(Flatten(), Dense(32), Drop(0.3)),
    ),
    max_epochs=50,
    batch=64,
    plateau_epochs=2,
    plateau_factor=0.4,
)
DEEPER = Network(
    layers=(
        *(Conv(512, 5), Norm(), POOL, Drop(0.2)),
        *(Conv(256, 5), Norm(), POOL, Drop(0.2)),
        *(Conv(256, 5), Norm(), POOL, Drop(0.2)),
        *(Conv(128, 5), Norm(), POOL, Drop(0.2)),
        *(Conv(64, 5), Norm(), POOL, Drop(0.3)),
        *(Flatten(), Dense(64), Norm(), Drop(0.3)),
    ),
    max_epochs=50,
    batch=64,
    plateau_epochs=2,
    plateau_factor=0.4,
)

SYSTEMS = (
    System("means-cnn", "001", "Conv1D on means", ("means-162",), LISTED, NONE_PRINTED, scale=True, own=OWN),
    System(
        "means-cnn-augmented",
        "001",
        "the same with noise, stretch and pitch",
        ("means-162-augmented",),
        LISTED,
        NONE_PRINTED,
        scale=True,
        own=OWN,
    ),
    System(
        "means-cnn-deep",
        "001",
        "deeper, batch-normalised, augmented",
        ("means-162-augmented",),
        DEEPER,
        NONE_PRINTED,
        scale=True,
        own=OWN,
    ),
)
