"""Turns -> segments: pieces of about 3 s of one speaker, which the ensemble classifies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from callanalytics.config import SegmentSettings
from callanalytics.records import Role, Segment, Turn

# A turn shorter than this is a click or a breath: it counts as talk time but is no segment.
SHORTEST_S = 0.25


def cut_segments(
    turns: Sequence[Turn], roles: dict[str, Role], settings: SegmentSettings
) -> tuple[Segment, ...]:
    """Cut every turn into equal pieces near `target_s`, none longer than `max_s`.

    A turn up to `max_s` stays whole; a longer one gives `round(duration / target_s)` pieces, so no
    short leftover arises. The ensemble abstains on segments that are shorter than its card asks for.
    Segments are sorted by start and numbered from 0.
    """
    pieces: list[tuple[Turn, float, float]] = []
    for turn in turns:
        if turn.duration_s < SHORTEST_S:
            continue
        n_pieces = 1
        if turn.duration_s > settings.max_s:
            fewest = math.ceil(turn.duration_s / settings.max_s)
            n_pieces = max(round(turn.duration_s / settings.target_s), fewest)
        edges = np.linspace(turn.start_s, turn.end_s, n_pieces + 1)
        pieces += [(turn, float(a), float(b)) for a, b in itertools.pairwise(edges)]
    pieces.sort(key=lambda piece: (piece[1], piece[0].speaker))
    overlap = _overlap_shares(pieces, turns)
    return tuple(
        Segment(
            index=index,
            speaker=turn.speaker,
            role=roles.get(turn.speaker, Role.UNKNOWN),
            channel=turn.channel,
            start_s=start_s,
            end_s=end_s,
            overlap_share=float(overlap[index]),
        )
        for index, (turn, start_s, end_s) in enumerate(pieces)
    )


def _overlap_shares(
    pieces: Sequence[tuple[Turn, float, float]], turns: Sequence[Turn]
) -> npt.NDArray[np.float64]:
    """Part of each piece during which another speaker talks, (n_pieces,) 0..1."""
    shares = np.zeros(len(pieces))
    if not pieces:
        return shares
    starts = np.array([start for _, start, _ in pieces])
    ends = np.array([end for _, _, end in pieces])
    speakers = np.array([turn.speaker for turn, _, _ in pieces])
    for speaker in set(speakers):
        own = speakers == speaker
        others = merge_intervals([(t.start_s, t.end_s) for t in turns if t.speaker != speaker])
        shares[own] = covered_s(others, starts[own], ends[own]) / (ends[own] - starts[own])
    return np.clip(shares, 0.0, 1.0)


def merge_intervals(intervals: Sequence[tuple[float, float]]) -> npt.NDArray[np.float64]:
    """Union of half-open intervals as sorted, disjoint rows, (n, 2)."""
    if not intervals:
        return np.zeros((0, 2))
    ordered = np.array(sorted(intervals), dtype=np.float64)
    reach = np.maximum.accumulate(ordered[:, 1])
    first = np.concatenate(([True], ordered[1:, 0] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return np.column_stack((ordered[first, 0], reach[last]))


def covered_s(
    disjoint: npt.NDArray[np.float64], starts: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Seconds of each interval [start, end) that the disjoint, sorted intervals cover, (n,)."""
    if not len(disjoint):
        return np.zeros(len(starts))
    lengths = np.concatenate(([0.0], np.cumsum(disjoint[:, 1] - disjoint[:, 0])))

    def covered_before(at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        index = np.searchsorted(disjoint[:, 0], at, side="right") - 1
        inside = np.clip(at - disjoint[np.maximum(index, 0), 0], 0.0, None)
        width = (disjoint[:, 1] - disjoint[:, 0])[np.maximum(index, 0)]
        before: npt.NDArray[np.float64] = lengths[np.maximum(index, 0)] + np.minimum(inside, width)
        return np.where(index >= 0, before, 0.0)

    result: npt.NDArray[np.float64] = covered_before(ends) - covered_before(starts)
    return result
