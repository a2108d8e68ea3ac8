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

from ensemble.corpora import Clip, usable_clips
from ensemble.evaluation import (
    FEWEST_SPEAKERS,
    Usable,
    member_probabilities,
    prepare_clips,
    recall_of_tables,
    tables_by_speaker,
)
from ensemble.inference.ensemble import Ensemble
from ensemble.model_errors import CorpusError

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
    """Labels (n,) of the same clips: the truth, those of ``a`` and those of ``b``; -1 is always wrong.

    Raises:
        ValueError: when there is no clip.
    """
    if not len(truth):
        raise ValueError("no clips to compare on")
    n_labels = int(max(truth.max(), a.max(), b.max())) + 2
    tables = [
        tables_by_speaker(truth, np.where(guess < 0, n_labels - 1, guess), speakers, n_labels)
        for guess in (a, b)
    ]
    n_speakers = len(tables[0])
    draws = np.random.default_rng(seed).integers(0, n_speakers, (n_draws, n_speakers))
    uar_a, uar_b = (float(recall_of_tables(table.sum(axis=0)[None])[0]) for table in tables)
    drawn_a, drawn_b = (recall_of_tables(table[draws].sum(axis=1)) for table in tables)
    low, high = np.percentile(drawn_b - drawn_a, [2.5, 97.5])
    bounds = (float(low), float(high))
    return Difference(test, uar_a, uar_b, uar_b - uar_a, *bounds, len(truth), n_speakers)


def compare_on(test: str, a: Ensemble, b: Ensemble, clips: Sequence[Clip], condition: str) -> Difference:
    """Both ensembles' votes on ``clips`` in a channel condition, normalised by all the speaker's clips.

    Only clips whose emotion both know and that can be read count.

    Raises:
        CorpusError: when none is left.
    """
    shared = [clip for clip in clips if clip.emotion in a.labels and clip.emotion in b.labels]
    if not shared:
        raise CorpusError(f"{test}: no clip has an emotion that both ensembles know")
    usable = usable_clips(shared, a.sample_rate_hz)
    of_b = usable
    if b.sample_rate_hz != a.sample_rate_hz:
        of_b = usable_clips(usable[0], b.sample_rate_hz)
        usable = usable_clips(of_b[0], a.sample_rate_hz)
    there = usable[0]
    if not there:
        raise CorpusError(f"{test}: none of {len(shared)} clips can be read")
    labels = sorted({clip.emotion for clip in there})
    truth = np.array([labels.index(clip.emotion) for clip in there], dtype=np.int64)
    guesses = (_guess(a, usable, condition, labels), _guess(b, of_b, condition, labels))
    return paired_difference(test, truth, *guesses, [clip.speaker for clip in there])


def _guess(ensemble: Ensemble, usable: Usable, condition: str, labels: Sequence[str]) -> Int:
    """Index into ``labels`` of each clip's vote, -1 for a label that is not among them."""
    prepared = prepare_clips(ensemble, usable, condition)
    probabilities, centred = member_probabilities(ensemble, prepared, "speaker")
    votes = ensemble.vote_on(probabilities, abstain=False, centred=centred)
    place = [labels.index(label) if label in labels else -1 for label in ensemble.labels]
    return np.array(place, dtype=np.int64)[votes.top_index]
