"""Who takes the floor from whom by talking over them. Pure numbers, no I/O.

Borders of turns are known to about a tenth of a second (voice activity, padding, bridged pauses), so nothing
here asks for one. What is asked is who had the floor before both spoke and who had it after:

- A side has the *floor* while it alone speaks; only stretches of one-party speech of a second or more count
  (Gilmartin, Włodarczak: "Speaker transition patterns in three-party conversation", Interspeech 2021). So
  back-channels ("mm-hm") never take it, neither over the other's speech nor in a pause of it.
- The floor changes between speakers with an *overlap* when the second begins before the first ends: a
  between-speaker overlap (Heldner, Edlund: "Pauses, gaps and overlaps in conversations", J. Phonetics 38,
  2010). An overlap without a change of the floor is none: it is a back-channel, or an attempt that failed.
- Most such overlaps are short and smooth, as the end of a turn can be foreseen: 0.1 s is the commonest,
  0.275 s the mean (Levinson, Torreira: "Timing in turn-taking", Front. Psychol. 6, 2015). Longer ones are
  *interruptions* (Ferguson: "Simultaneous speech, interruptions and dominance", Brit. J. Soc. Clin. Psychol.
  16, 1977; his simple kind: the speaker changes, both talk at once, and the first does not finish).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from callanalytics.diarize.segments import covered_s, merge_intervals
from callanalytics.records import Diarization, Role

FLOOR_S = 1.0  # of talking alone
# Twice the mean of smooth changes. Borders that are off by 0.1 s move an overlap by 0.2 s at most: none under
# 0.4 s becomes an interruption so, and none over 0.8 s ceases to be one.
OVERLAP_S = 0.6

Intervals = npt.NDArray[np.float64]


def interruptions(diarization: Diarization, by: Role) -> list[tuple[float, float]]:
    """Start and overlapped seconds of every interruption by one side, in time order."""
    if by is Role.UNKNOWN:
        return []
    mine, theirs = (_talk(diarization, role) for role in (by, by.other))
    if not len(mine) or not len(theirs):
        return []
    taken = [at_s for (was, _), (now, at_s) in pairwise(_floors(mine, theirs)) if now and not was]
    alone_from_s = np.array(taken, dtype=np.float64)
    start_s = mine[np.searchsorted(mine[:, 0], alone_from_s, side="right") - 1, 0]
    over_s = covered_s(theirs, start_s, alone_from_s)
    pairs = zip(start_s.tolist(), over_s.tolist(), strict=True)
    return [(start, over) for start, over in pairs if over >= OVERLAP_S]


def _talk(diarization: Diarization, role: Role) -> Intervals:
    return merge_intervals(
        [(t.start_s, t.end_s) for t in diarization.turns if diarization.roles[t.speaker] is role]
    )


def _floors(mine: Intervals, theirs: Intervals) -> list[tuple[bool, float]]:
    """Whether it is mine, and its first moment, of every stretch that one side holds the floor."""
    alone = [(start_s, end_s, True) for start_s, end_s in _without(mine, theirs)]
    alone += [(start_s, end_s, False) for start_s, end_s in _without(theirs, mine)]
    held: list[tuple[bool, float]] = []
    seconds: list[float] = []  # that each of them has been alone
    for start_s, end_s, is_mine in sorted(alone):
        if held and held[-1][0] != is_mine and seconds[-1] < FLOOR_S:
            held.pop()
            seconds.pop()
        if not held or held[-1][0] != is_mine:
            held.append((is_mine, start_s))
            seconds.append(0.0)
        seconds[-1] += end_s - start_s
    return held if not seconds or seconds[-1] >= FLOOR_S else held[:-1]


def _without(one: Intervals, other: Intervals) -> Iterator[tuple[float, float]]:
    """The parts of the disjoint intervals of one that no interval of the other covers."""
    for start_s, end_s in one.tolist():
        free_from_s = start_s
        for a, b in other[(other[:, 1] > start_s) & (other[:, 0] < end_s)].tolist():
            if a > free_from_s:
                yield free_from_s, a
            free_from_s = b
        if end_s > free_from_s:
            yield free_from_s, end_s
