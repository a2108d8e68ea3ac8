"""Is one ensemble better than another on the same clips? A difference with an interval, by speaker.

Paired bootstrap (Efron and Tibshirani 1993; for comparing recognisers on the same test, Bisani and Ney,
ICASSP 2004): whole speakers are drawn, the same ones for both, because the clips of one speaker are alike
and clips taken for independent would make every interval far too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip
from ensemble.evaluation.metrics import (
    FEWEST_SPEAKERS,
    confusion,
    member_probabilities,
    prepare_clips,
    votes_of,
)
from ensemble.inference.ensemble import Ensemble
from ensemble.model_errors import CorpusError
from ensemble.training.dataset import usable_clips

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Difference:
    """UAR of ``a`` and of ``b`` on the same clips, and b - a with its 95 % interval. All 0..1."""

    test: str
    uar_a: float
    uar_b: float
    difference: float
    low: float
    high: float
    n_clips: int
    n_speakers: int

    @property
    def enough(self) -> bool:
        """Whether there are speakers enough for the interval to mean something."""
        return self.n_speakers >= FEWEST_SPEAKERS

    def to_json(self) -> dict[str, Any]:
        """Plain values, names as in the fields."""
        return asdict(self)


def paired_difference(
    test: str, truth: Int, a: Int, b: Int, speakers: Sequence[str], *, n_draws: int = 2000, seed: int = 0
) -> Difference:
    """Labels (n,) of the same clips: the truth, what ``a`` says and what ``b`` says; -1 is always wrong.

    Raises ValueError when there is no clip.
    """
    if not len(truth):
        raise ValueError("no clips to compare on")
    rng = np.random.default_rng(seed)
    n_labels = int(max(truth.max(), a.max(), b.max())) + 2
    names, of = np.unique(np.asarray(speakers), return_inverse=True)
    draws = rng.integers(0, len(names), (n_draws, len(names)))
    uars = {}
    for name, guess in (("a", a), ("b", b)):
        named = np.where(guess < 0, n_labels - 1, guess)
        tables = np.stack([confusion(truth[of == i], named[of == i], n_labels) for i in range(len(names))])
        uars[name] = (_uar(tables.sum(axis=0)[None])[0], _uar(tables[draws].sum(axis=1)))
    change = uars["b"][1] - uars["a"][1]
    low, high = np.percentile(change, [2.5, 97.5])
    return Difference(
        test,
        float(uars["a"][0]),
        float(uars["b"][0]),
        float(uars["b"][0] - uars["a"][0]),
        float(low),
        float(high),
        len(truth),
        len(names),
    )


def _uar(tables: Int) -> NDArray[np.float64]:
    """UAR of each confusion table (n, k, k): mean recall over the labels that occur in it."""
    hits, true = np.diagonal(tables, axis1=1, axis2=2).astype(float), tables.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nanmean(np.where(true > 0, hits / true, np.nan), axis=1))


def compare_on(test: str, a: Ensemble, b: Ensemble, clips: Sequence[Clip], line: str) -> Difference:
    """Both ensembles' votes on ``clips`` heard over ``line``, with all the speaker's clips known.

    Only clips whose emotion both know and that can be read count. Raises CorpusError when none is left.
    """
    shared = [clip for clip in clips if clip.emotion in a.labels and clip.emotion in b.labels]
    if not shared:
        raise CorpusError(f"{test}: no clip has an emotion that both ensembles know")
    there, _, _ = usable_clips(shared, a.sample_rate_hz)
    there, _, _ = usable_clips(there, b.sample_rate_hz)
    if not there:
        raise CorpusError(f"{test}: none of {len(shared)} clips can be read")
    labels = sorted({clip.emotion for clip in there})
    truth = np.array([labels.index(clip.emotion) for clip in there], dtype=np.int64)
    of_a, of_b = _guess(a, there, line, labels), _guess(b, there, line, labels)
    return paired_difference(test, truth, of_a, of_b, [clip.speaker for clip in there])


def _guess(ensemble: Ensemble, clips: Sequence[Clip], line: str, labels: Sequence[str]) -> Int:
    """Index into ``labels`` of each clip's vote, -1 for a label that is not among them."""
    prepared = prepare_clips(ensemble, clips, line)
    votes = votes_of(ensemble, member_probabilities(ensemble, prepared, "speaker"))
    place = [labels.index(label) if label in labels else -1 for label in ensemble.labels]
    return np.array(place, dtype=np.int64)[votes.top_index]
