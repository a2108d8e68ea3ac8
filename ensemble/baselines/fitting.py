"""How the studies' systems learn, with validation clips to decide.

Every network trains in one loop: Adam, plateau, early stopping. The learners of scikit-learn (forests,
boosting, a perceptron, a regression) are tuned by Optuna, whose search spaces are ours (the document gives
none): small, around scikit-learn's defaults.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble.baselines.systems import Classical, Network
from ensemble.model_errors import TrainingError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Float = NDArray[np.float32]
Int = NDArray[np.int64]
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
"""Lin et al. (2017), as study 000 sets them."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training went. ``training_accuracy`` 0..1, of the weights that are used."""

    n_epochs: int
    best_epoch: int
    seconds: float
    training_accuracy: float


def train(
    network: torch.nn.Module,
    inputs: Sequence[Float],
    truth: Int,
    training: Int,
    validation: Int,
    settings: Network,
    *,
    seed: int,
    device: str = "cpu",
    bf16: bool = False,
    say: Callable[[int, float, float], None] = lambda *_: None,
) -> Trained:
    """Train ``network`` in place on rows ``training`` of ``inputs``; it ends with its best epoch's weights.

    ``truth`` (rows of inputs,) int64. Batch normalisation uses the mean over the batches of the epoch:
    Keras's moments move by 1 % a step, so they settle within an epoch of the documents' data, but here only
    after five to ten, when early stopping has ended the training (deep-conv stood at chance). ``bf16``
    trains under bfloat16 autocast; recurrent layers, validation and the weights stay float32.
    ``say(epoch, training loss, validation accuracy)`` after each epoch.

    Raises:
        TrainingError: when the loss is not finite.
    """
    started = time.monotonic()
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network.to(device)
    weight = _class_weights(truth[training], settings)
    weights = None if weight is None else torch.from_numpy(weight).to(device)
    trained_parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained_parameters, lr=settings.learning_rate, eps=1e-7)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=settings.plateau_factor, patience=settings.plateau_epochs
    )
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    best, best_epoch, best_weights, epoch = (-1.0, 0.0), 0, _copy(network), 0
    for epoch in range(1, settings.max_epochs + 1):
        network.train()
        for norm in norms:
            norm.momentum = None  # the mean since the last reset
            norm.reset_running_stats()
        losses = []
        order = rng.permutation(training)
        for start in range(0, len(order), settings.batch):
            rows = order[start : start + settings.batch]
            if len(rows) < 2:
                continue  # Batch normalisation has no variance of one clip.
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=bf16):
                logits = network(*_batch(inputs, rows, device))
            loss = _loss(logits.float(), torch.from_numpy(truth[rows]).to(device), settings, weights)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        if not np.isfinite(losses).all():
            raise TrainingError(f"the loss became {losses[-1]} in epoch {epoch}; lower the learning rate")
        # Validation counts every clip alike: class weights are a means of training.
        logits = torch.from_numpy(logits_of(network, inputs, validation, device))
        loss_then = float(_loss(logits, torch.from_numpy(truth[validation]), settings, None))
        plateau.step(loss_then)
        # Not by loss: an untrained first epoch is so unsure that an overconfident network never reaches its
        # loss again, whatever it learns (three systems stood at chance).
        right = float((logits.numpy().argmax(axis=1) == truth[validation]).mean())
        say(epoch, float(np.mean(losses)), right)
        if (right, -loss_then) > best:
            best, best_epoch, best_weights = (right, -loss_then), epoch, _copy(network)
        elif epoch - best_epoch >= settings.stop_epochs:
            break
    network.load_state_dict(best_weights)
    seconds = time.monotonic() - started
    learnt = logits_of(network, inputs, training, device).argmax(axis=1) == truth[training]
    return Trained(epoch, best_epoch, seconds, float(learnt.mean()))


def logits_of(network: torch.nn.Module, inputs: Sequence[Float], rows: Int, device: str = "cpu") -> Float:
    """(rows, k) float32 logits, without dropout."""
    network.eval()
    with torch.inference_mode():
        parts = [
            network(*_batch(inputs, rows[start : start + 64], device)).float().cpu().numpy()
            for start in range(0, len(rows), 64)
        ]
    out: Float = np.concatenate(parts)
    return out


def _batch(inputs: Sequence[Float], rows: Int, device: str) -> list[torch.Tensor]:
    return [torch.from_numpy(values[rows]).to(device) for values in inputs]


def _loss(
    logits: torch.Tensor, truth: torch.Tensor, settings: Network, weights: torch.Tensor | None
) -> torch.Tensor:
    cross_entropy = torch.nn.functional.cross_entropy(logits, truth, weight=weights, reduction="none")
    if settings.loss == "focal":
        return focal(cross_entropy).mean()
    return cross_entropy.mean() if weights is None else cross_entropy.sum() / weights[truth].sum()


def focal(cross_entropy: torch.Tensor) -> torch.Tensor:
    """alpha (1 - p)^gamma of the cross-entropy, p being the probability of the truth (study 000's code)."""
    return FOCAL_ALPHA * (1 - (-cross_entropy).exp()) ** FOCAL_GAMMA * cross_entropy


def _class_weights(truth: Int, settings: Network) -> Float | None:
    """n / (k n_class), so that every class weighs the same in the sum."""
    if settings.balance != "weights":
        return None
    counts = np.bincount(truth)
    weights: Float = (len(truth) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)
    return weights


def _copy(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def fit(
    settings: Classical,
    values: Float,
    truth: Int,
    training: Int,
    validation: Int,
    *,
    n_trials: int,
    seed: int,
) -> tuple[Pipeline, Trained]:
    """Fit a pipeline on rows ``training`` of ``values`` (rows, d): the best of some on ``validation``.

    With 0 trials the defaults are used.

    Raises:
        TrainingError: when Optuna is missing.
    """
    started = time.monotonic()
    # Scaling and reduction do not depend on what is tuned: they are fitted once.
    front = _front(settings, seed)
    fitted = (front.fit_transform(values[training], truth[training]), truth[training])
    watched = (front.transform(values[validation]), truth[validation])
    chosen = _tune(settings, fitted, watched, n_trials, seed)
    learner = _learner(settings.kind, chosen, seed).fit(*fitted)
    seconds = time.monotonic() - started
    accuracy = float(learner.score(*fitted))
    from sklearn.pipeline import make_pipeline

    return make_pipeline(front, learner), Trained(n_trials, 0, seconds, accuracy)


def _front(settings: Classical, seed: int) -> Pipeline:
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps: list[Any] = [StandardScaler(copy=False)]
    for name in settings.reduce:
        # 95 % of the variance, the usual choice; the document does not say.
        pca = PCA(n_components=0.95, svd_solver="full", random_state=seed)
        steps.append(pca if name == "pca" else LinearDiscriminantAnalysis())
    return make_pipeline(*steps)


def _learner(kind: str, chosen: dict[str, Any], seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.neural_network import MLPClassifier

    if kind == "forest":
        return RandomForestClassifier(random_state=seed, **chosen)
    if kind == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=1000, **chosen)
    if kind == "boosting":
        # Without a limit on the features of a split, 90,000 samples a clip would take days.
        return GradientBoostingClassifier(**{"random_state": seed, "max_features": "sqrt"} | chosen)
    return MLPClassifier(random_state=seed, max_iter=500, **chosen)


def _tune(
    settings: Classical, fitted: tuple[Float, Int], watched: tuple[Float, Int], n_trials: int, seed: int
) -> dict[str, Any]:
    if not n_trials:
        return {}
    try:
        import optuna
    except ImportError as error:
        raise TrainingError("optuna is not installed; here: pip install '.[bench]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def accuracy(trial: optuna.Trial) -> float:
        learner = _learner(settings.kind, _suggest(settings.kind, trial), seed).fit(*fitted)
        return float(learner.score(*watched))

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(accuracy, n_trials=n_trials)
    return dict(study.best_params)


def _suggest(kind: str, trial: Any) -> dict[str, Any]:
    if kind == "forest":
        return {
            "n_estimators": trial.suggest_int("n_estimators", 100, 300, step=50),
            "max_depth": trial.suggest_int("max_depth", 5, 30),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 5),
            "max_features": trial.suggest_categorical("max_features", ["sqrt", "log2"]),
        }
    if kind == "boosting":
        return {
            "n_estimators": trial.suggest_int("n_estimators", 50, 150, step=25),
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
            "max_depth": trial.suggest_int("max_depth", 2, 5),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        }
    if kind == "logistic":
        return {"C": trial.suggest_float("C", 1e-4, 1.0, log=True)}
    return {"alpha": trial.suggest_float("alpha", 1e-5, 1e-1, log=True)}


def size_of(pipeline: Pipeline) -> int:
    """Size of a learner: nodes of its trees, or weights of its perceptron or regression."""
    learner = pipeline[-1]
    if hasattr(learner, "coef_"):
        return int(learner.coef_.size + learner.intercept_.size)
    if hasattr(learner, "coefs_"):
        return int(sum(w.size for w in (*learner.coefs_, *learner.intercepts_)))
    return int(sum(tree.tree_.node_count for tree in np.ravel(learner.estimators_)))


def smote(values: Float, truth: Int, seed: int) -> tuple[Float, Int]:
    """Training rows with the smaller classes filled up by SMOTE (Chawla et al. 2002).

    Raises:
        TrainingError: when imbalanced-learn is missing or a class has a single clip.
    """
    try:
        from imblearn.over_sampling import SMOTE  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise TrainingError("imbalanced-learn is not installed; here: pip install '.[bench]'") from error
    fewest = int(np.bincount(truth)[np.unique(truth)].min())
    if fewest < 2:
        raise TrainingError("SMOTE needs at least two training clips of every emotion")
    flat = values.reshape(len(values), -1)
    grown, labels = SMOTE(random_state=seed, k_neighbors=min(5, fewest - 1)).fit_resample(flat, truth)
    return grown.astype(np.float32).reshape(-1, *values.shape[1:]), labels.astype(np.int64)
