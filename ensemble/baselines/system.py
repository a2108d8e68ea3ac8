"""What a system of a study is: its features, its learner, and the split its document reports on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ensemble.baselines.layers import Layer

Loss = Literal["focal", "cross-entropy"]
Balance = Literal["none", "weights", "smote"]
Library = Literal["keras", "torch"]


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
    """A network and how it trains. ``layers`` or, for what is no chain of layers, the name of ``module``.

    The learning rate is multiplied by ``plateau_factor`` after ``plateau_epochs`` without a lower
    validation loss. The weights of the epoch with the best validation accuracy are used (of equal ones the
    lower loss); training stops ``stop_epochs`` after it.
    """

    layers: tuple[Layer, ...] = ()
    module: str = ""
    """A function of :mod:`ensemble.baselines.modules`."""
    library: Library = "keras"
    """Whose initial weights ``layers`` have: that of what its document is written in."""
    loss: Loss = "cross-entropy"
    balance: Balance = "none"
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

    kind: Literal["forest", "boosting", "mlp"]
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
    scale: bool = False
    own: OwnProtocol = field(default_factory=OwnProtocol)
    differs: tuple[str, ...] = ()
