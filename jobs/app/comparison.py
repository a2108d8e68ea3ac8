"""Two ensembles on the same speech: a call of the database, or a slice of a corpus. Pure but for decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from callanalytics.analysis.assess import vote_segments
from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.records import Audio, ChannelLayout, Segment
from ensemble.corpora import Clip, Corpus, decode_clip
from ensemble.inference.ensemble import Ensemble
from ensemble.inference.vote import Votes
from ensemble.model_errors import CorpusError

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class SpeechCompared:
    """Votes of two ensembles about the same n pieces of speech; piece i lasts `seconds[i]`."""

    first: Votes
    second: Votes
    seconds: npt.NDArray[np.float64]

    def same(self) -> npt.NDArray[np.bool_]:
        """(n,) whether both name the same emotion, or both name none."""
        pairs = ((self.first.emotion(i), self.second.emotion(i)) for i in range(len(self.seconds)))
        return np.array([one == other for one, other in pairs], dtype=bool)

    def same_share(self) -> float | None:
        """Share of the speech on which they say the same; None when there is no speech."""
        whole_s = float(self.seconds.sum())
        return float(self.seconds[self.same()].sum()) / whole_s if whole_s else None


@dataclass(frozen=True, slots=True)
class Score:
    """How one ensemble does on labelled clips. `uar`, `accuracy`: when it must answer; `named_right`: the
    share of right ones among those it names, None when it names none. Shares are 0..1.
    """

    accuracy: float
    uar: float
    named_share: float
    named_right: float | None
    recall: dict[str, float]


@dataclass(frozen=True, slots=True)
class ClipsCompared:
    """Two ensembles on clips of a corpus; `unreadable` were left out."""

    clips: tuple[Clip, ...]
    speech: SpeechCompared
    first: Score
    second: Score
    unreadable: tuple[str, ...]


def compare_call(
    audio: Audio,
    segments: Sequence[Segment],
    layout: ChannelLayout,
    first: Ensemble,
    second: Ensemble,
    settings: Settings,
) -> SpeechCompared:
    """Both ensembles on the stored segments of a call, under the rules of the night.

    Raises UsageError when the recording is not the one that was analysed.
    """
    if any(s.channel >= audio.n_channels or s.start_s >= audio.duration_s for s in segments):
        raise UsageError(
            "The recording is not the one that was analysed: it has fewer channels or is shorter. "
            "Analyse it again with `callanalytics run --force`."
        )
    return SpeechCompared(
        vote_segments(audio, segments, layout, settings, first),
        vote_segments(audio, segments, layout, settings, second),
        np.array([s.duration_s for s in segments], dtype=np.float64),
    )


def choose_clips(
    corpus: Corpus, labels: Sequence[str], n_per_emotion: int, *, seed: int = 0
) -> tuple[Clip, ...]:
    """At most so many clips of each label, drawn without replacement; the same for the same seed."""
    rng = np.random.default_rng(seed)
    chosen: list[Clip] = []
    for label in labels:
        of_label = [clip for clip in corpus.clips if clip.emotion == label]
        picked = rng.choice(len(of_label), size=min(n_per_emotion, len(of_label)), replace=False)
        chosen += [of_label[i] for i in sorted(picked)]
    return tuple(chosen)


def shared_labels(first: Ensemble, second: Ensemble) -> tuple[str, ...]:
    """The labels that both can name, in their one order: only clips of these compare fairly."""
    return tuple(label for label in first.labels if label in second.labels)


def compare_clips(clips: Sequence[Clip], first: Ensemble, second: Ensemble) -> ClipsCompared:
    """Both ensembles on labelled clips, each clip a stranger's. Raises CorpusError when none can be read."""
    waves, read, unreadable = [], [], []
    for clip in clips:
        try:
            waves.append(decode_clip(clip, first.sample_rate_hz))
        except CorpusError as problem:
            unreadable.append(str(problem))
        else:
            read.append(clip)
    if not read:
        raise CorpusError(
            f"None of {len(clips)} clips could be read. "
            + (unreadable[0] if unreadable else "The corpus has no clip of the labels that both can name.")
        )
    votes = first.vote(waves), second.vote(waves)
    seconds = np.array([len(wave) for wave in waves], dtype=np.float64) / first.sample_rate_hz
    return ClipsCompared(
        clips=tuple(read),
        speech=SpeechCompared(*votes, seconds),
        first=_score(votes[0], read),
        second=_score(votes[1], read),
        unreadable=tuple(unreadable),
    )


def trained_on(ensemble: Ensemble) -> tuple[str, ...]:
    """Names of the corpora in an ensemble's card; empty when the card does not say."""
    named = ensemble.card.get("trained_on")
    return tuple(str(name) for name in named) if isinstance(named, (list, tuple)) else ()


def _score(votes: Votes, clips: Sequence[Clip]) -> Score:
    truth = np.array([votes.labels.index(clip.emotion) for clip in clips])
    right = votes.top_index == truth
    named = votes.emotion_index >= 0
    recall = {votes.labels[k]: float(right[truth == k].mean()) for k in np.unique(truth)}
    return Score(
        accuracy=float(right.mean()),
        uar=float(np.mean(list(recall.values()))),
        named_share=float(named.mean()),
        named_right=float(right[named].mean()) if named.any() else None,
        recall=recall,
    )
