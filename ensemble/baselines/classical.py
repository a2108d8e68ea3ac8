"""The studies' scikit-learn learners: forests, boosting, a perceptron, a regression; tuned by Optuna.

Optuna sees the validation clips only. Search spaces are ours (the document gives none): small, around
scikit-learn's defaults.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensemble.baselines.fitting import Trained
from ensemble.baselines.systems import Classical
from ensemble.model_errors import TrainingError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Float = NDArray[np.float32]
Int = NDArray[np.int64]


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
