"""Two ensembles on the same speech: a call of the database, or a slice of a corpus. No Streamlit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from callanalytics.analysis.assess import vote_segments
from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.records import Audio, Diarization, Segment
from ensemble.corpora import Clip, Corpus, decode_clip
from ensemble.inference.ensemble import Ensemble
from ensemble.inference.vote import Votes
from ensemble.model_errors import CorpusError
from reports import timeline
from reports.formatting import MISSING, clock, counted, joined, number, percent, whole_number
from reports.palette import Badge, badge, legend
from reports.timeline import Span, Timeline
from reports.translation import _, plural
from reports.views import Cell, Table

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_DIFFERENCES = 200  # shown


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
    speech: Diarization,
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
        vote_segments(audio, segments, speech, settings, first),
        vote_segments(audio, segments, speech, settings, second),
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


# What compare.html prints ----------------------------------------------------------------------


def call_view(
    compared: SpeechCompared,
    segments: Sequence[Segment],
    duration_s: float,
    names: tuple[str, str],
    sound: str,
) -> dict[str, Any]:
    """What compare.html prints about a call; `sound` is its address, for playing the differences."""
    differences = [
        {
            "where": f"{clock(s.start_s)} {_(timeline.ROLE_NAMES[s.role.value])}",
            "truth": None,
            "start_s": f"{s.start_s:.3f}",
            "end_s": f"{s.end_s:.3f}",
            **_opinions(compared, i),
        }
        for i, s in enumerate(segments)
        if not compared.same()[i]
    ]
    return {
        "headline": _("They say the same about {share} of the speech").format(
            share=percent(compared.same_share())
        ),
        "names": names,
        "timelines": [_timeline(votes, segments, duration_s) for votes in (compared.first, compared.second)],
        "legend": legend({*compared.first.labels, *compared.second.labels}),
        "table": _seconds(compared, names),
        "recall": None,
        "sound": sound,
        "cautions": (),
        **_limited(
            differences,
            plural(
                "{n} segment classified differently", "{n} segments classified differently", len(differences)
            ),
        ),
    }


def clips_view(
    compared: ClipsCompared, names: tuple[str, str], trained_on: tuple[tuple[str, ...], tuple[str, ...]]
) -> dict[str, Any]:
    """What compare.html prints about a slice of a corpus; `trained_on` are the corpora each learned from."""
    same = compared.speech.same()
    differences = [
        {"where": clip.path.name, "truth": badge(clip.emotion), **_opinions(compared.speech, i)}
        for i, clip in enumerate(compared.clips)
        if not same[i]
    ]
    ahead = compared.second.uar - compared.first.uar
    return {
        "headline": _ahead(ahead, names, len(compared.clips)),
        "names": names,
        "timelines": [],
        "legend": (),
        "table": _scores(compared, names),
        "recall": _recall(compared, names),
        "sound": "",
        "cautions": _cautions(compared, names, trained_on),
        **_limited(
            differences,
            plural("{n} clip classified differently", "{n} clips classified differently", len(differences)),
        ),
    }


def _ahead(points: float, names: tuple[str, str], n_clips: int) -> str:
    clips = counted("{n} clip", "{n} clips", n_clips)
    if abs(points) < 0.0005:
        return _("Both are level in unweighted recall, on {clips}").format(clips=clips)
    text = _("“{second}” is {points} points below “{first}” in unweighted recall, on {clips}")
    if points > 0:
        text = _("“{second}” is {points} points above “{first}” in unweighted recall, on {clips}")
    return text.format(first=names[0], second=names[1], points=number(abs(points) * 100), clips=clips)


def _cautions(
    compared: ClipsCompared, names: tuple[str, str], trained_on: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[str, ...]:
    corpora = {clip.corpus for clip in compared.clips}
    found = [
        _(
            "“{name}” learned from {corpora}: its score here is about voices it knows, and says little about "
            "strangers."
        ).format(name=name, corpora=joined(sorted(corpora & set(known))))
        for name, known in zip(names, trained_on, strict=True)
        if corpora & set(known)
    ]
    if compared.unreadable:
        found.append(
            counted("{n} clip could not be read.", "{n} clips could not be read.", len(compared.unreadable))
        )
    return tuple(found)


def _limited(differences: Sequence[dict[str, Any]], title: str) -> dict[str, Any]:
    shown = differences[:MOST_DIFFERENCES]
    title = title.format(n=whole_number(len(differences)))
    if len(shown) < len(differences):
        title = _("{what}, the first {n} here").format(what=title, n=whole_number(len(shown)))
    return {"differences": shown, "differences_title": title}


def _opinions(compared: SpeechCompared, i: int) -> dict[str, Any]:
    first, second = compared.first, compared.second
    return {
        **{"first": badge(first.emotion(i)), "first_share": _leaning(first, i)},
        **{"second": badge(second.emotion(i)), "second_share": _leaning(second, i)},
    }


def _leaning(votes: Votes, i: int) -> str:
    top = int(votes.top_index[i])
    if top < 0:
        return MISSING
    share = percent(float(votes.confidence[i]))
    leans = _("leans to {emotion}, {share}").format(emotion=badge(votes.labels[top]).name, share=share)
    return share if votes.emotion(i) else leans


def _timeline(votes: Votes, segments: Sequence[Segment], duration_s: float) -> Timeline:
    spans = [Span(s.role.value, s.start_s, s.end_s, votes.emotion(i)) for i, s in enumerate(segments)]
    named_s = sum(s.duration_s for i, s in enumerate(segments) if votes.emotion(i))
    return Timeline(
        lanes=timeline.lanes(spans, duration_s),
        marks=(),
        curve=timeline.frustration([], [], duration_s, None),
        ticks=timeline.ticks(duration_s, 12),
        text=_("Emotion over {length} of the call; {seconds} s have a label.").format(
            length=clock(duration_s), seconds=whole_number(round(named_s))
        ),
    )


def _table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str | Badge, str, str]]) -> Table:
    """A table with a column of names or labels, and one of numbers for each ensemble."""
    return Table(
        title,
        head,
        tuple(
            (
                Cell(name) if isinstance(name, str) else Cell(name.name, badge=name),
                *(Cell(number, number=True) for number in numbers),
            )
            for name, *numbers in rows
        ),
    )


def _seconds(compared: SpeechCompared, names: tuple[str, str]) -> Table:
    def total(votes: Votes, label: str | None) -> str:
        return f"{sum(s for i, s in enumerate(compared.seconds) if votes.emotion(i) == label):.0f} s"

    first, second = compared.first, compared.second
    labels = [*dict.fromkeys((*first.labels, *second.labels)), None]
    rows = ((badge(label), total(first, label), total(second, label)) for label in labels)
    return _table(_("Seconds of speech by label"), (_("Label"), *names), rows)


def _scores(compared: ClipsCompared, names: tuple[str, str]) -> Table:
    one, other = compared.first, compared.second
    same = compared.speech.same_share()
    rows = (
        (_("Unweighted recall (UAR), when it must answer"), one.uar, other.uar),
        (_("Accuracy, when it must answer"), one.accuracy, other.accuracy),
        (_("Clips it names an emotion for"), one.named_share, other.named_share),
        (_("Right among those it names"), one.named_right, other.named_right),
        (_("Both say the same"), same, same),
    )
    shares = ((title, percent(first), percent(second)) for title, first, second in rows)
    return _table(_("Scores on these clips"), ("", *names), shares)


def _recall(compared: ClipsCompared, names: tuple[str, str]) -> Table:
    one, other = compared.first.recall, compared.second.recall
    rows = ((badge(label), percent(one[label]), percent(other[label])) for label in one)
    return _table(_("Found of each emotion (recall)"), (_("Emotion"), *names), rows)
