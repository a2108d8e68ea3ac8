"""Study 003 (CREMA-D, RAVDESS, SAVEE and TESS pooled, 7 classes), and its next steps: SMOTE, BiLSTM, GRU-CNN.

The document's printed summary (7,193,223 parameters, input 2,376) is the deep Conv1D network; its text
describes a Conv1D+LSTM on 180 values, read as the usual 180: means of 40 MFCC, 12 chroma, 128 mel bands.
The 2,376 are 108 frames of ZCR, RMS and 20 MFCC; its features file holds each clip four times (clean,
noise, pitch, both), split at random afterwards, so copies of every test clip were trained on.
"""

from __future__ import annotations

from dataclasses import replace

from ensemble.baselines.layers import Attend, Conv, Dense, Drop, Flatten, Gru, Lstm, Norm, Pool
from ensemble.baselines.system import Figure, Network, OwnProtocol, System
from ensemble.labels import SHARED_SEVEN

OWN = OwnProtocol(test_share=0.20, validation_share=0.10, merge={"calm": "neutral"}, labels=SHARED_SEVEN)
LEAKY = replace(OWN, copies_before_split=True)
FIGURE = Figure(96.72, "four corpora pooled, 7 classes, random 80/20, validation")
NEXT_STEP = Figure(None, "named as a next step, no figure")
POOL = Pool(5, 2, same=True)
DIFFERS = (
    "the document's figure is of the clips that chose its epochs (validation is its test part)",
    "the document pools CREMA-D, RAVDESS, SAVEE and TESS: two voices make up a fifth of its clips",
)
CONV_LSTM = Network(
    layers=(Conv(128), Conv(256), Lstm(128), Drop(0.3), Dense(64), Drop(0.3)),
    balance="weights",
    max_epochs=50,
    batch=64,
    plateau_epochs=2,
    stop_epochs=5,
)

SYSTEMS = (
    System(
        "conv-lstm",
        "003",
        "Conv1D+LSTM, class weights",
        ("means-180",),
        CONV_LSTM,
        FIGURE,
        True,
        OWN,
        DIFFERS,
    ),
    System(
        "conv-lstm-smote",
        "003",
        "Conv1D+LSTM, SMOTE",
        ("means-180",),
        replace(CONV_LSTM, balance="smote"),
        NEXT_STEP,
        True,
        OWN,
    ),
    System(
        "deep-conv",
        "003",
        "Conv1D network of 7,193,223 parameters",
        ("frames-2376",),
        Network(
            layers=(
                *(Conv(512, 5), Norm(), POOL),
                *(Conv(512, 5), Norm(), POOL, Drop(0.2)),
                *(Conv(256, 5), Norm(), POOL),
                *(Conv(256, 3), Norm(), POOL, Drop(0.2)),
                *(Conv(128, 3), Norm(), POOL, Drop(0.2)),
                *(Flatten(), Dense(512), Norm()),
            ),
            balance="weights",
            max_epochs=20,
            batch=64,
            plateau_epochs=2,
            stop_epochs=5,
        ),
        FIGURE,
        True,
        LEAKY,
        DIFFERS,
    ),
    System(
        "bilstm-attention",
        "003",
        "BiLSTM with attention on MFCC",
        ("mfcc-sequence",),
        Network(layers=(Lstm(128, True, True), Drop(0.3), Attend(), Dense(64), Drop(0.3)), stop_epochs=8),
        NEXT_STEP,
        own=OWN,
    ),
    System(
        "gru-cnn-attention",
        "003",
        "GRU-CNN with attention on MFCC",
        ("mfcc-sequence",),
        Network(
            layers=(
                *(Conv(128, 5), Norm(), Pool(), Conv(128, 5), Norm(), Pool(), Drop(0.3)),
                *(Gru(128, True, True), Attend(), Dense(64), Drop(0.3)),
            ),
            stop_epochs=8,
        ),
        NEXT_STEP,
        own=OWN,
    ),
)
