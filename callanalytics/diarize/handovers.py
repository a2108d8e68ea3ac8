"""A call that is passed on: on one side another voice takes over for good.

Asked of the likeliest moment: are the two groups of what is said before and after it two people, each group
heard as a whole? A mood that turns is no other voice: what moods do to a print is what the space leaves out.
On a side of its own only the first and the last seconds are heard at first, since voice prints cost ten times
what voice activity does: if there are two, they hold both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from callanalytics.diarize.clustering import VoiceSpace
from callanalytics.diarize.conversation import TURN_PAUSE_S, DoubleArray, Rhythm, Whole
from callanalytics.diarize.embedding import Pieces
from callanalytics.diarize.vad import FRAME_S, IntArray
from callanalytics.records import BoolArray, FloatArray, Turn

# Log-likelihood ratio of two voices, of what is said before the likeliest moment and after it, in spaces that
# do not know the speakers (benchmarks/RESULTS.md). 89 % of 294 built sides of two voices are over the first,
# of 76 of one whose voice turns angry 11 %, of 73 of one in ever new moods none. For voices of one channel
# the higher limit, which 80 % and 4 % pass: a caller torn in two has no calm speech to be compared with.
_ANOTHER_AGENT = -3.0
_ANOTHER_VOICE = 2.0
# And from here on it is noted: 94 %, 17 % and 1 %.
_MAYBE_ANOTHER = -5.0
# Of the first and last seconds: one side in six of one voice gets so far, and 97 % of those of two.
_ENDS_APART = -6.5
_HEARD_FIRST_S = 7.5  # both ends fill five passes of the network over 3 s
_LEAST_HEARD_S = 4.0
_MOST_HEARD_S = 180.0
_MOST_MOMENTS = 60
# A voice that comes and goes has not taken over: so much of the talk may sound like the other one.
_OUT_OF_ORDER_SHARE = 0.25
_SHORTEST_TELLING_S, _MOST_TELLING = 0.8, 60

# Hears so many parts of a side, given as the number of the part of every frame or -1, (n_frames,).
Hear: TypeAlias = "Callable[[IntArray, int], Pieces]"


@dataclass(frozen=True, slots=True)
class Handover:
    """Where another voice takes over for good.

    at: number of its first piece; None where it is not sure enough. may_be: whether to note it at least.
    """

    at: int | None = None
    may_be: bool = False

    @property
    def is_unsure(self) -> bool:
        """Whether it is to be noted only."""
        return self.may_be and self.at is None


def find_handover(
    weight_s: DoubleArray, whole: Whole, space: VoiceSpace, least: float = _ANOTHER_VOICE
) -> Handover:
    """Whether one voice takes over from another within the pieces of one side.

    Args:
        weight_s: (n,) seconds of speech of the pieces, in order of time.
        whole: the prints (k, 192) of groups, given as masks (k, n), each pooled as one.
        space: what is known of voices in general.
        least: log-likelihood ratio of two voices that is sure enough.
    """
    done_s = np.cumsum(weight_s)
    total_s = float(weight_s.sum())
    changes = 1 + np.flatnonzero((done_s >= _LEAST_HEARD_S) & (total_s - done_s >= _LEAST_HEARD_S))
    if len(changes) == 0:
        return Handover()
    changes = _spread(changes, _MOST_MOMENTS)
    before = np.arange(len(weight_s)) < changes[:, None]
    voices = whole(np.concatenate([before, ~before]))
    earlier, later = voices[: len(changes)], voices[len(changes) :]
    ratios = [
        space.two_voices(one, done_s[at - 1], other, total_s - done_s[at - 1])
        for at, one, other in zip(changes, earlier, later, strict=True)
    ]
    best = int(np.argmax(ratios))
    if ratios[best] <= _MAYBE_ANOTHER:
        return Handover()
    telling = _spread(np.flatnonzero(weight_s >= _SHORTEST_TELLING_S), _MOST_TELLING)
    if len(telling) == 0:
        return Handover(may_be=True)
    voice = whole(np.arange(len(weight_s)) == telling[:, None])
    leans_later = voice @ later[best] > voice @ earlier[best]
    wrong_s = weight_s[telling][leans_later == before[best][telling]].sum()
    in_order = wrong_s <= _OUT_OF_ORDER_SHARE * weight_s[telling].sum()
    return Handover(int(changes[best]) if in_order and ratios[best] > least else None, True)


def _spread(numbers: IntArray, most: int) -> IntArray:
    """At most so many of them, spread evenly."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).astype(np.int64)]


def with_handover(
    turns: Sequence[Turn],
    side: int,
    active: BoolArray,
    hear: Hear,
    whole: Callable[[Pieces, BoolArray], FloatArray],
    space: VoiceSpace,
) -> tuple[tuple[Turn, ...], Handover]:
    """The turns of a call, those of the voice that takes over on one channel under a name of their own.

    Args:
        turns: of the call, sorted by start; one speaker on each channel.
        side: the channel.
        active: (n_frames,) its own speech.
        hear: what the voice network hears in parts of the side.
        whole: the prints (k, 192) of groups of parts, given as masks (k, n), each pooled as one.
        space: what is known of voices in general.
    """
    mine = [turn for turn in turns if turn.channel == side]
    turn_at = np.full(len(active), -1)
    for number, turn in enumerate(mine):
        turn_at[round(turn.start_s / FRAME_S) : round(turn.end_s / FRAME_S)] = number
    turn_at[~active] = -1
    n_frames = np.bincount(turn_at[turn_at >= 0], minlength=len(mine))
    weight_s: DoubleArray = (n_frames * FRAME_S).astype(np.float64)
    total_s, n = float(weight_s.sum()), len(mine)
    if n < 2 or total_s < 2 * _LEAST_HEARD_S:
        return tuple(turns), Handover()
    spoken, ends_s = np.flatnonzero(turn_at >= 0), min(_HEARD_FIRST_S, total_s / 2)
    n_end = int(ends_s / FRAME_S)
    # Turns in the first seconds by their numbers, in the last ones from n on.
    at_ends = np.full(len(active), -1)
    at_ends[spoken[:n_end]] = turn_at[spoken[:n_end]]
    at_ends[spoken[-n_end:]] = turn_at[spoken[-n_end:]] + n
    ends = hear(at_ends, 2 * n)
    is_last = np.arange(2 * n) >= n
    one, other = whole(ends, np.stack([~is_last, is_last]))
    if space.two_voices(one, ends_s, other, ends_s) < _ENDS_APART:
        return tuple(turns), Handover()
    n_heard = max(1, int(n * min(1.0, _MOST_HEARD_S / total_s)))
    heard = _spread(np.arange(n), n_heard)
    rest = np.where(np.isin(turn_at, heard) & (at_ends < 0), turn_at, -1)
    parts = hear(rest, n) + ends[:n] + ends[n:]
    found = find_handover(weight_s[heard], partial(whole, parts[heard]), space, _ANOTHER_AGENT)
    if found.at is None:
        return tuple(turns), found
    begins_s = mine[heard[found.at]].start_s
    name = f"speaker_{len({turn.speaker for turn in turns})}"
    return tuple(
        replace(turn, speaker=name) if turn.channel == side and turn.start_s >= begins_s else turn
        for turn in turns
    ), found


def passed_on(labels: IntArray, rhythm: Rhythm, whole: Whole, space: VoiceSpace) -> tuple[IntArray, Handover]:
    """Labels (n,) of the pieces of two voices, with 2 for one that takes over from either.

    Args:
        labels: (n,) 0 or 1, in order of time.
        rhythm: when the pieces are spoken.
        whole: the prints (k, 192) of groups, given as masks (k, n), each pooled as one.
        space: what is known of voices in general.
    """
    unsure = Handover()
    for voice in (0, 1):
        own = np.flatnonzero(labels == voice)
        # Another voice takes over after a pause or after an answer.
        begins = (np.diff(own) > 1) | (rhythm.pause_s[own[1:] - 1] > TURN_PAUSE_S)
        part = np.cumsum(np.append(False, begins))
        weight_s: DoubleArray = np.bincount(part, weights=rhythm.seconds[own]).astype(np.float64)

        def of_parts(groups: BoolArray, own: IntArray = own, part: IntArray = part) -> FloatArray:
            masks = np.zeros((len(groups), len(labels)), np.bool_)
            masks[:, own] = groups[:, part]
            return whole(masks)

        found = find_handover(weight_s, of_parts, space)
        if found.at is not None:
            later = labels.copy()
            later[own[part >= found.at]] = 2
            return later, found
        if found.may_be:
            unsure = found
    return labels, unsure
