"""A comparison of two ensembles with every text finished for compare.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callanalytics.records import Segment
from ensemble.inference.vote import Votes
from jobs.app.comparison import ClipsCompared, Score, SpeechCompared
from reports import timeline
from reports.formatting import MISSING, clock, count, joined, percent
from reports.palette import Badge, badge, legend
from reports.timeline import Span, Timeline
from reports.views import Cell, Table

MOST_DIFFERENCES = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """A piece of speech that the two hear differently."""

    where: str
    truth: Badge | None
    first: Badge
    first_share: str
    second: Badge
    second_share: str
    start_s: str
    end_s: str


def call_view(
    compared: SpeechCompared,
    segments: Sequence[Segment],
    duration_s: float,
    names: tuple[str, str],
    sound: str,
) -> dict[str, Any]:
    """What compare.html prints about a call; `sound` is its address, for playing the differences."""
    differences = [
        _difference(
            compared,
            i,
            where=f"{clock(s.start_s)} {timeline.ROLE_NAMES[s.role.value]}",
            truth=None,
            start_s=f"{s.start_s:.3f}",
            end_s=f"{s.end_s:.3f}",
        )
        for i, s in enumerate(segments)
        if not compared.same()[i]
    ]
    return {
        "headline": f"They say the same about {percent(compared.same_share())} of the speech",
        "names": names,
        "timelines": [_timeline(votes, segments, duration_s) for votes in (compared.first, compared.second)],
        "legend": legend({*compared.first.labels, *compared.second.labels}),
        "table": _seconds(compared, names),
        "recall": None,
        "sound": sound,
        "cautions": (),
        **_limited(differences, "segment"),
    }


def clips_view(
    compared: ClipsCompared, names: tuple[str, str], trained_on: tuple[tuple[str, ...], tuple[str, ...]]
) -> dict[str, Any]:
    """What compare.html prints about a slice of a corpus; `trained_on` are the corpora each learned from."""
    same = compared.speech.same()
    differences = [
        _difference(compared.speech, i, Path(clip.path).name, badge(clip.emotion), "", "")
        for i, clip in enumerate(compared.clips)
        if not same[i]
    ]
    ahead = compared.second.uar - compared.first.uar
    return {
        "headline": f"{_ahead(ahead, names)} in unweighted recall, on {count(len(compared.clips), 'clip')}",
        "names": names,
        "timelines": [],
        "legend": (),
        "table": _scores(compared, names),
        "recall": _recall(compared, names),
        "sound": "",
        "cautions": _cautions(compared, names, trained_on),
        **_limited(differences, "clip"),
    }


def _ahead(points: float, names: tuple[str, str]) -> str:
    if abs(points) < 0.0005:
        return "Both are level"
    side = "above" if points > 0 else "below"
    return f"“{names[1]}” is {abs(points) * 100:.1f} points {side} “{names[0]}”"


def _cautions(
    compared: ClipsCompared, names: tuple[str, str], trained_on: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[str, ...]:
    corpora = {clip.corpus for clip in compared.clips}
    found = [
        f"“{name}” learned from {joined(sorted(corpora & set(known)))}: its score here is about voices it "
        "heard before, and says little about strangers."
        for name, known in zip(names, trained_on, strict=True)
        if corpora & set(known)
    ]
    if compared.unreadable:
        found.append(f"{count(len(compared.unreadable), 'clip')} could not be read.")
    return tuple(found)


def _limited(differences: list[Difference], what: str) -> dict[str, Any]:
    shown = differences[:MOST_DIFFERENCES]
    words = f"{count(len(differences), what)} heard differently"
    if len(shown) < len(differences):
        words += f", the first {len(shown)} here"
    return {"differences": shown, "differences_words": words}


def _difference(
    compared: SpeechCompared, i: int, where: str, truth: Badge | None, start_s: str, end_s: str
) -> Difference:
    first, second = compared.first, compared.second
    return Difference(
        where=where,
        truth=truth,
        first=badge(first.emotion(i)),
        first_share=_leaning(first, i),
        second=badge(second.emotion(i)),
        second_share=_leaning(second, i),
        start_s=start_s,
        end_s=end_s,
    )


def _leaning(votes: Votes, i: int) -> str:
    top = int(votes.top_index[i])
    if top < 0:
        return MISSING
    share = percent(float(votes.confidence[i]))
    return share if votes.emotion(i) else f"leans to {votes.labels[top]}, {share}"


def _timeline(votes: Votes, segments: Sequence[Segment], duration_s: float) -> Timeline:
    spans = [Span(s.role.value, s.start_s, s.end_s, votes.emotion(i)) for i, s in enumerate(segments)]
    named_s = sum(s.duration_s for i, s in enumerate(segments) if votes.emotion(i))
    return Timeline(
        lanes=timeline.lanes(spans, duration_s),
        marks=(),
        curve=timeline.frustration([], [], duration_s, None),
        ticks=timeline.ticks(duration_s, 12),
        text=f"Emotion over {clock(duration_s)} of the call; {named_s:.0f} s have a label.",
    )


def _seconds(compared: SpeechCompared, names: tuple[str, str]) -> Table:
    votes = (compared.first, compared.second)
    labels = [*dict.fromkeys((*votes[0].labels, *votes[1].labels)), None]
    rows = []
    for label in labels:
        totals = [
            sum(float(s) for i, s in enumerate(compared.seconds) if each.emotion(i) == label)
            for each in votes
        ]
        rows.append(
            (
                Cell(badge(label).name, badge=badge(label)),
                *(Cell(f"{total_s:.0f} s", number=True) for total_s in totals),
            )
        )
    return Table("Seconds of speech by label", ("Label", *names), tuple(rows))


def _scores(compared: ClipsCompared, names: tuple[str, str]) -> Table:
    def row(title: str, *values: float | None) -> tuple[Cell, ...]:
        return (Cell(title), *(Cell(percent(value), number=True) for value in values))

    one, other = compared.first, compared.second
    return Table(
        "Scores on these clips",
        ("", *names),
        (
            row("Unweighted recall (UAR), when it must answer", one.uar, other.uar),
            row("Accuracy, when it must answer", one.accuracy, other.accuracy),
            row("Clips it names an emotion for", one.named_share, other.named_share),
            row("Right among those it names", one.named_right, other.named_right),
            row("Both say the same", compared.speech.same_share(), compared.speech.same_share()),
        ),
    )


def _recall(compared: ClipsCompared, names: tuple[str, str]) -> Table:
    def cells(score: Score, label: str) -> Cell:
        return Cell(percent(score.recall[label]), number=True)

    return Table(
        "Found of each emotion (recall)",
        ("Emotion", *names),
        tuple(
            (Cell(label, badge=badge(label)), cells(compared.first, label), cells(compared.second, label))
            for label in compared.first.recall
        ),
    )
