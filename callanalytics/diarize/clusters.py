"""Voice prints to speakers: how many there are, and which piece is whose."""

from __future__ import annotations

import numpy as np

from callanalytics.speech import FloatArray, IntArray

MAX_SPEAKERS = 4
_MAX_CLUSTERED = 1500
_MIN_SPEAKER_SHARE = 0.04
_SAME_VOICE_COSINE = 0.55
_ROUNDS = 5


def cluster_voices(prints: FloatArray, weights: IntArray) -> tuple[IntArray, FloatArray]:
    """Group unit-length voice prints.

    Args:
        prints: (n, 192), n >= 1.
        weights: (n,) length of the pieces they come from.

    Returns:
        labels (n,) 0..k-1, and centres (k, 192) of unit length, k from 1 to 4.
    """
    from scipy.cluster import hierarchy

    weight = weights.astype(np.float64)
    if len(prints) < 2:
        return np.zeros(len(prints), np.int64), prints.copy()
    sampled = prints
    if len(prints) > _MAX_CLUSTERED:
        sampled = prints[np.linspace(0, len(prints) - 1, _MAX_CLUSTERED).astype(np.int64)]
    tree = hierarchy.linkage(sampled, method="ward")
    for n_speakers in range(min(MAX_SPEAKERS, len(prints)), 1, -1):
        first = hierarchy.fcluster(tree, n_speakers, criterion="maxclust") - 1
        centres = _centres(sampled, first, np.ones(len(sampled)), n_speakers)
        labels, centres = _refine(prints, weight, centres)
        share = np.bincount(labels, weights=weight, minlength=len(centres)) / weight.sum()
        alike = centres @ centres.T - 2 * np.eye(len(centres))
        if share.min() >= _MIN_SPEAKER_SHARE and alike.max() < _SAME_VOICE_COSINE:
            return labels, centres
    return np.zeros(len(prints), np.int64), _centres(prints, np.zeros(len(prints), np.int64), weight, 1)


def _refine(prints: FloatArray, weight: np.ndarray, centres: FloatArray) -> tuple[IntArray, FloatArray]:  # type: ignore[type-arg]
    labels = (prints @ centres.T).argmax(axis=1)
    for _ in range(_ROUNDS):
        centres = _centres(prints, labels, weight, len(centres))
        labels = (prints @ centres.T).argmax(axis=1)
    return labels, centres


def _centres(prints: FloatArray, labels: IntArray, weight: np.ndarray, n: int) -> FloatArray:  # type: ignore[type-arg]
    sums = np.zeros((n, prints.shape[1]))
    np.add.at(sums, labels, prints * weight[:, None])
    centres: FloatArray = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)).astype(
        np.float32
    )
    return centres
