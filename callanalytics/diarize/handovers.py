"""A call that is passed on: on one side another voice takes over for good.

Whether it is another voice is asked of the first and the last seconds of the side, which hold both voices if
there are two. Ten times as dear as the voice activity of a side, more than that is heard only where these
differ. A mood that turns is no other voice: what moods do to a print is what the space leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from callanalytics.diarize.clustering import VoiceSpace
from callanalytics.diarize.conversation import DoubleArray, Whole
from callanalytics.diarize.vad import FRAME_S, IntArray
from callanalytics.records import BoolArray, FloatArray, Turn

# Log-likelihood ratio of two voices, of 8 s each, that a transfer has and a change of mood has not. In
# CREMA-D and EMO-DB calm and angry speech of one speaker reaches -4.8, and 15 of 16 transfers -1.2 and more.
_ANOTHER_VOICE = -3.0
_HEARD_S = 8.0
_LEAST_HEARD_S = 4.0
# A voice that comes and goes has not taken over: so much of the talk may sound like the other one.
_OUT_OF_ORDER_SHARE = 0.25
_MOST_PIECES = 60
_SHORTEST_TELLING_S = 0.8

PrintOf: TypeAlias = "Callable[[BoolArray], FloatArray | None]"


def taken_over_at(weight_s: DoubleArray, print_of: PrintOf, space: VoiceSpace) -> int | None:
    """Number of the first piece of the voice that takes over; None where one voice speaks throughout.

    Args:
        weight_s: (n,) seconds of speech of the pieces of one side, in order of time.
        print_of: the print (192,) of some of them, given as a mask (n,), heard as one.
        space: what is known of voices in general.
    """
    total_s = float(weight_s.sum())
    if total_s < 2 * _LEAST_HEARD_S:
        return None
    heard_s = min(_HEARD_S, total_s / 2)
    done_s = np.cumsum(weight_s)
    first = done_s - weight_s < heard_s
    last = (done_s > total_s - heard_s) & ~first
    head, tail = print_of(first), print_of(last)
    if head is None or tail is None or not _differ(space, weight_s, (head, first), (tail, last)):
        return None
    leaning = np.zeros(len(weight_s))  # towards the later voice, in seconds
    for piece in _telling(weight_s):
        voice = print_of(np.arange(len(weight_s)) == piece)
        if voice is not None:
            leaning[piece] = weight_s[piece] * np.sign(float(voice @ tail) - float(voice @ head))
    cut = int(np.argmin(np.cumsum(np.append(0.0, leaning))))
    before = np.arange(len(weight_s)) < cut
    wrong_s = np.abs(leaning[(leaning > 0) == before]).sum()
    if wrong_s > _OUT_OF_ORDER_SHARE * np.abs(leaning).sum():
        return None
    one, other = print_of(before), print_of(~before)
    if one is None or other is None or not _differ(space, weight_s, (one, before), (other, ~before)):
        return None
    return cut


def _differ(
    space: VoiceSpace,
    weight_s: DoubleArray,
    one: tuple[FloatArray, BoolArray],
    other: tuple[FloatArray, BoolArray],
) -> bool:
    seconds = float(weight_s[one[1]].sum()), float(weight_s[other[1]].sum())
    return space.two_voices(one[0], seconds[0], other[0], seconds[1]) > _ANOTHER_VOICE


def _telling(weight_s: DoubleArray) -> list[int]:
    """Pieces long enough to tell a voice, at most so many of them, spread over the call."""
    long = np.flatnonzero(weight_s >= _SHORTEST_TELLING_S)
    if len(long) > _MOST_PIECES:
        long = long[np.linspace(0, len(long) - 1, _MOST_PIECES).astype(np.int64)]
    found: list[int] = long.tolist()
    return found


def with_handover(
    turns: Sequence[Turn], side: int, active: BoolArray, print_of: PrintOf, space: VoiceSpace
) -> tuple[Turn, ...]:
    """The turns of a call, those of the voice that takes over on one channel under a name of their own.

    Args:
        turns: of the call, sorted by start; one speaker on each channel.
        side: the channel.
        active: (n_frames,) its own speech.
        print_of: the print (192,) of what is spoken there in some frames, given as a mask (n_frames,).
        space: what is known of voices in general.
    """
    mine = [turn for turn in turns if turn.channel == side]
    frames = [slice(round(turn.start_s / FRAME_S), round(turn.end_s / FRAME_S)) for turn in mine]
    weight_s = np.array([active[part].sum() * FRAME_S for part in frames], np.float64)

    def print_of_turns(chosen: BoolArray) -> FloatArray | None:
        spoken = np.zeros(len(active), np.bool_)
        for part, is_chosen in zip(frames, chosen, strict=True):
            spoken[part] = active[part] & is_chosen
        return print_of(spoken)

    at = taken_over_at(weight_s, print_of_turns, space)
    if at is None:
        return tuple(turns)
    name = f"speaker_{len({turn.speaker for turn in turns})}"
    return tuple(
        replace(turn, speaker=name) if turn.channel == side and turn.start_s >= mine[at].start_s else turn
        for turn in turns
    )


def passed_on(labels: IntArray, weight_s: DoubleArray, whole: Whole, space: VoiceSpace) -> IntArray:
    """Labels (n,) of the pieces of two voices, with 2 for one that takes over from either.

    Args:
        labels: (n,) 0 or 1, in order of time.
        weight_s: (n,) seconds of speech of each piece.
        whole: the prints (k, 192) of groups, given as masks (k, n), each pooled as one.
        space: what is known of voices in general.
    """
    for voice in (0, 1):
        own = np.flatnonzero(labels == voice)

        def print_of(chosen: BoolArray, own: IntArray = own) -> FloatArray:
            mask = np.zeros(len(labels), np.bool_)
            mask[own[chosen]] = True
            alone: FloatArray = whole(mask[None])[0]
            return alone

        at = taken_over_at(weight_s[own], print_of, space)
        if at is not None:
            later = labels.copy()
            later[own[at:]] = 2
            return later
    return labels
