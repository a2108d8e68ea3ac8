"""Study 004 (IEMOCAP, 4 classes): co-attention, a ViT for AlexNet, votes of leave-one-speaker models."""

from __future__ import annotations

from dataclasses import replace

from ensemble.baselines.system import Figure, Network, OwnProtocol, System

ON = "IEMOCAP, 4 classes, tenth actor, votes of 7 models"
OWN = OwnProtocol(kind="speaker", labels=("anger", "happy", "neutral", "sad"))
FEATURES = ("spectrogram", "mfcc-sequence", "wav2vec")
VIT = Network(
    module="coattention_vit", max_epochs=40, batch=32, learning_rate=3e-4, stop_epochs=8, n_voters=7
)
DIFFERS = (
    "IEMOCAP is licensed by request and not here: other corpora have other voices, words and tasks",
    "wav2vec 2.0 is frozen, and AlexNet and the ViT start untrained; the document's start pre-trained",
)

SYSTEMS = (
    System(
        "coattention-alexnet",
        "004",
        "co-attention, AlexNet",
        FEATURES,
        replace(VIT, module="coattention_alexnet"),
        Figure(62.21, ON, "uar"),
        own=OWN,
        differs=DIFFERS,
    ),
    System(
        "coattention-vit",
        "004",
        "co-attention, ViT",
        FEATURES,
        VIT,
        Figure(63.40, ON, "uar"),
        own=OWN,
        differs=DIFFERS,
    ),
)
