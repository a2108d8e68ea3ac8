"""Every system of the five studies: its features, its learner, the figure and the split of its document.

This module loads nothing heavy: networks are named here and built by :mod:`ensemble.baselines.networks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ensemble.labels import SHARED_SEVEN


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure as its document prints it, in percent, and on what."""

    percent: float | None
    on: str
    measure: Literal["wa", "uar"] = "wa"


@dataclass(frozen=True, slots=True)
class OwnProtocol:
    """The split of a document. Shares are of all clips; ``random`` lets speakers leak, as the documents do.

    ``copies_before_split``: augmented copies are made first and split like clips of their own, so that a
    test clip's copies are trained on. ``labels`` (empty: those of the corpus) after ``merge``.
    """

    kind: Literal["random", "speaker"] = "random"
    test_share: float = 0.20
    validation_share: float = 0.10
    seed: int = 42
    copies_before_split: bool = False
    merge: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """A network, by its name in :data:`ensemble.baselines.networks.NETWORKS`, and how it trains.

    The learning rate is multiplied by ``plateau_factor`` after ``plateau_epochs`` without a lower
    validation loss. The weights of the epoch with the best validation accuracy are used (of equal ones the
    lower loss); training stops ``stop_epochs`` after it.
    """

    network: str
    loss: Literal["focal", "cross-entropy"] = "cross-entropy"
    balance: Literal["none", "weights", "smote"] = "none"
    max_epochs: int = 50
    batch: int = 32
    learning_rate: float = 1e-3
    plateau_epochs: int = 5
    plateau_factor: float = 0.5
    stop_epochs: int = 10
    n_voters: int = 1
    """Models trained with different validation speakers, voting by majority."""


@dataclass(frozen=True, slots=True)
class Classical:
    """A scikit-learn classifier behind optional PCA and LDA, tuned by Optuna in ``n_trials`` (0: not)."""

    kind: Literal["forest", "boosting", "mlp", "logistic"]
    reduce: tuple[Literal["pca", "lda"], ...] = ()
    n_trials: int = 0


@dataclass(frozen=True, slots=True)
class System:
    """One system of a study.

    ``features`` are names of :data:`ensemble.baselines.study_features.FEATURES`; ``scale`` standardises each
    value by the training clips. ``differs`` says, in plain words, where the system cannot be just what its
    document had; the table gives them when the document's figure is not reached.
    """

    name: str
    study: str
    title: str
    features: tuple[str, ...]
    learner: Network | Classical
    figure: Figure
    own: OwnProtocol = field(default_factory=OwnProtocol)
    differs: tuple[str, ...] = ()
    scale: bool = False


FEWER_CLIPS = "the document has 1,440 clips at 48 kHz; the clips here were kept at 16 kHz, compressed"


def _study_000() -> tuple[System, ...]:
    """RAVDESS, 8 classes: LSTM, CNN, CNN+LSTM on MFCC-40 with deltas; wav2vec 2.0.

    The features are one vector of 160 (the document's ``MFCC_X shape: (1440, 160)``), read as the means of
    40 MFCC, their two deltas and 40 mel bands. Layers follow the listings; what has no listing was chosen to
    give the document's number of parameters, which it does exactly.
    """
    on = "RAVDESS, 8 classes, random 80/20"
    chosen = "epochs are chosen on validation clips taken from the training part, not on the test clips"
    differs = (FEWER_CLIPS, chosen)
    own = OwnProtocol(test_share=0.20, validation_share=0.10)
    focal = Network("lstm", loss="focal", max_epochs=150, batch=36, stop_epochs=15)
    tuned = Network("tuned_wav2vec", max_epochs=20, batch=8, learning_rate=3e-5, stop_epochs=5)
    means, forest = ("means-160",), Classical("forest")
    cnn, both = replace(focal, network="cnn"), replace(focal, network="cnn_lstm")
    named = Figure(None, "named, no figure given")
    return tuple(
        System(name, "000", title, features, learner, figure, own, differs)
        for name, title, features, learner, figure in (
            ("lstm", "LSTM 256, dense 128 and 64", means, focal, Figure(21.88, on)),
            ("cnn", "three Conv1D (64, 128, 256), dropout 50 %", means, cnn, Figure(46.18, on)),
            ("cnn-lstm", "CNN+LSTM of 378,344 parameters", means, both, Figure(63.89, on)),
            ("wav2vec-forest", "wav2vec 2.0 states, random forest", ("wav2vec",), forest, Figure(48.61, on)),
            ("wav2vec-tuned", "wav2vec 2.0, fine-tuned", ("wave-16k",), tuned, named),
        )
    )


def _study_001() -> tuple[System, ...]:
    """After the notebook of S. Burnwal: Conv1D on 162 means, without and with augmentation, deeper.

    The document shows curves but prints no figure. Its third network is described but not listed.
    """
    listed = Network("means_cnn", batch=64, plateau_epochs=2, plateau_factor=0.4)
    deeper = replace(listed, network="means_cnn_deep")
    own = OwnProtocol(test_share=0.25, validation_share=0.10, seed=0)
    augmented, none = "means-162-augmented", Figure(None, "curves only, no figure printed")
    return tuple(
        System(name, "001", title, (feature,), learner, none, own, scale=True)
        for name, title, feature, learner in (
            ("means-cnn", "Conv1D on means", "means-162", listed),
            ("means-cnn-augmented", "the same with noise, stretch and pitch", augmented, listed),
            ("means-cnn-deep", "deeper, batch-normalised, augmented", augmented, deeper),
        )
    )


def _study_002() -> tuple[System, ...]:
    """RAVDESS, 8 classes: trees on raw samples and projections, an MFCC perceptron, a mel CNN."""
    own = OwnProtocol(test_share=0.15, validation_share=0.15, seed=42)
    on = "RAVDESS, 8 classes, random 70/30"
    tuning = "the document tests on 30 % and tunes on an unnamed part; here 15 % are kept for tuning"
    pycaret = "the document lets PyCaret choose and tune the perceptron and does not say how"
    kinds: tuple[tuple[Literal["forest", "boosting"], str, tuple[float, ...]], ...] = (
        ("forest", "random forest", (33.3, 28.5, 12.0, 22.7)),
        ("boosting", "gradient boosting", (35.0, 25.2, 11.0, 22.0)),
    )
    reductions: tuple[tuple[str, str, tuple[Literal["pca", "lda"], ...]], ...] = (
        *(("raw", "raw samples", ()), ("pca", "PCA", ("pca",))),
        *(("lda", "LDA", ("lda",)), ("pca-lda", "PCA+LDA", ("pca", "lda"))),
    )
    trees = [
        System(
            f"{kind}-{reduced}",
            "002",
            f"{title} on {what}",
            ("samples",),
            Classical(kind, steps, n_trials=30),
            Figure(percent, on),
            own,
            (FEWER_CLIPS, tuning),
        )
        for kind, title, figures in kinds
        for (reduced, what, steps), percent in zip(reductions, figures, strict=True)
    ]
    perceptron = "perceptron on means and deviations of 40 MFCC"
    mel = Network("mel_cnn", max_epochs=80, stop_epochs=15)
    mel_title = "CNN of four blocks (16 to 128) on mel spectrograms"
    mel_figure = Figure(68.0, "RAVDESS, 8 classes, random 70/15/15")
    mlp, figure = Classical("mlp"), Figure(62.0, on)
    return (
        *trees,
        System("mfcc-mlp", "002", perceptron, ("mfcc-80",), mlp, figure, own, (FEWER_CLIPS, pycaret)),
        System("mel-cnn", "002", mel_title, ("mel-200",), mel, mel_figure, own, (FEWER_CLIPS,)),
    )


def _study_003() -> tuple[System, ...]:
    """CREMA-D, RAVDESS, SAVEE and TESS pooled, 7 classes, and its next steps: SMOTE, BiLSTM, GRU-CNN.

    The document's printed summary (7,193,223 parameters, input 2,376) is the deep Conv1D network; its text
    describes a Conv1D+LSTM on 180 values, read as the usual 180: means of 40 MFCC, 12 chroma, 128 mel bands.
    The 2,376 are 108 frames of ZCR, RMS and 20 MFCC; its features file holds each clip four times (clean,
    noise, pitch, both), split at random afterwards, so copies of every test clip were trained on.
    """
    own = OwnProtocol(merge={"calm": "neutral"}, labels=SHARED_SEVEN)
    leaky = replace(own, copies_before_split=True)
    figure = Figure(96.72, "four corpora pooled, 7 classes, random 80/20, validation")
    next_step = Figure(None, "named as a next step, no figure")
    differs = (
        "the document's figure is of the clips that chose its epochs (validation is its test part)",
        "the document pools CREMA-D, RAVDESS, SAVEE and TESS: two voices make up a fifth of its clips",
    )
    weighted = Network("conv_lstm", balance="weights", batch=64, plateau_epochs=2, stop_epochs=5)
    smote = replace(weighted, balance="smote")
    deep = replace(weighted, network="deep_conv", max_epochs=20)
    deep_title = "Conv1D network of 7,193,223 parameters"
    means, frames, mfcc = ("means-180",), ("frames-2376",), ("mfcc-sequence",)
    lstm, gru = Network("bilstm_attention", stop_epochs=8), Network("gru_cnn_attention", stop_epochs=8)
    return (
        System("conv-lstm", "003", "Conv1D+LSTM, class weights", means, weighted, figure, own, differs, True),
        System("conv-lstm-smote", "003", "Conv1D+LSTM, SMOTE", means, smote, next_step, own, scale=True),
        System("deep-conv", "003", deep_title, frames, deep, figure, leaky, differs, True),
        System("bilstm-attention", "003", "BiLSTM with attention on MFCC", mfcc, lstm, next_step, own),
        System("gru-cnn-attention", "003", "GRU-CNN with attention on MFCC", mfcc, gru, next_step, own),
    )


def _study_004() -> tuple[System, ...]:
    """IEMOCAP, 4 classes: co-attention, a ViT for AlexNet, votes of leave-one-speaker models."""
    on = "IEMOCAP, 4 classes, tenth actor, votes of 7 models"
    own = OwnProtocol(kind="speaker", labels=("anger", "happy", "neutral", "sad"))
    features = ("spectrogram", "mfcc-sequence", "wav2vec")
    vit = Network("coattention_vit", max_epochs=40, learning_rate=3e-4, stop_epochs=8, n_voters=7)
    alexnet = replace(vit, network="coattention_alexnet")
    differs = (
        "IEMOCAP is licensed by request and not here: other corpora have other voices, words and tasks",
        "wav2vec 2.0 is frozen, and AlexNet and the ViT start untrained; the document's start pre-trained",
    )
    return tuple(
        System(name, "004", title, features, learner, Figure(percent, on, "uar"), own, differs)
        for name, title, learner, percent in (
            ("coattention-alexnet", "co-attention, AlexNet", alexnet, 62.21),
            ("coattention-vit", "co-attention, ViT", vit, 63.40),
        )
    )


def _real_encoders() -> tuple[System, ...]:
    """Encoders that were trained, for the three studies whose wav2vec 2.0 is not here.

    Study 000 uses wav2vec 2.0 and asks for its large form next, study 002 asks for transfer from it, study
    004 attends to its states. Whisper base and CAM++ stand in its place, behind the forest of study 000 and,
    since a forest makes little of some thousand means, behind a logistic regression.
    """
    own = OwnProtocol(test_share=0.20, validation_share=0.10)
    forest = Figure(48.61, "RAVDESS, 8 classes, random 80/20, by wav2vec 2.0 base")
    asked = Figure(None, "transfer from a pretrained encoder named as a next step, no figure")
    encoders = (("whisper", "Whisper base, blocks 1-3"), ("campplus", "CAM++ to its second transition"))
    return tuple(
        System(f"{name}-{learner.kind}", study, f"{title}, {how}", (name,), learner, figure, own, differs)
        for name, title in encoders
        for study, how, learner, figure, differs in (
            ("000", "random forest", Classical("forest"), forest, (FEWER_CLIPS,)),
            ("002", "logistic regression", Classical("logistic", n_trials=12), asked, ()),
        )
    )


SYSTEMS: Mapping[str, System] = {
    system.name: system
    for study in (_study_000, _study_001, _study_002, _study_003, _study_004, _real_encoders)
    for system in study()
}
"""By name, in the order of the studies."""
