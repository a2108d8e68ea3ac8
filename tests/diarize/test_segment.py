"""Segments cover turns, respect lengths, never mix speakers and know their overtalk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.config import SegmentSettings
from callanalytics.diarize.segments import SHORTEST_S, covered_s, cut_segments, merge_intervals
from callanalytics.records import Role, Turn

SETTINGS = SegmentSettings()
ROLES = {"a": Role.AGENT, "b": Role.CALLER}


def turn(speaker: str, start_s: float, end_s: float) -> Turn:
    return Turn(speaker, 0 if speaker == "a" else 1, start_s, end_s)


def test_a_long_turn_is_cut_into_equal_pieces_near_the_target() -> None:
    segments = cut_segments([turn("a", 1.0, 11.0)], ROLES, SETTINGS)
    assert [s.index for s in segments] == [0, 1, 2]
    assert segments[0].start_s == 1.0
    assert segments[-1].end_s == 11.0
    assert {round(s.duration_s, 6) for s in segments} == {round(10 / 3, 6)}


def test_a_click_is_no_segment_and_a_short_turn_is_one() -> None:
    segments = cut_segments([turn("a", 0, 0.1), turn("b", 1, 1.5)], ROLES, SETTINGS)
    assert [(s.role, s.duration_s) for s in segments] == [(Role.CALLER, 0.5)]


def test_overlap_counts_the_others_only() -> None:
    segments = cut_segments([turn("a", 0, 4), turn("b", 3, 5), turn("a", 3.5, 4)], ROLES, SETTINGS)
    shares = {(s.speaker, s.start_s): s.overlap_share for s in segments}
    assert shares["a", 0.0] == pytest.approx(0.25)
    assert shares["b", 3.0] == pytest.approx(0.5)
    assert shares["a", 3.5] == pytest.approx(1.0)


turns = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 500), st.floats(0.01, 60)).map(
        lambda t: turn(t[0], t[1], t[1] + t[2])
    ),
    max_size=30,
)


@given(turns)
def test_segments_tile_every_turn_worth_hearing(found: list[Turn]) -> None:
    segments = cut_segments(found, ROLES, SETTINGS)
    wanted = sum(t.duration_s for t in found if t.duration_s >= SHORTEST_S)
    assert sum(s.duration_s for s in segments) == pytest.approx(wanted)
    assert all(s.duration_s <= SETTINGS.max_s + 1e-9 for s in segments)
    assert all(0 <= s.overlap_share <= 1 for s in segments)
    assert [s.start_s for s in segments] == sorted(s.start_s for s in segments)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=20), st.integers(0, 70))
def test_interval_arithmetic_agrees_with_counting_cells(spans: list[tuple[int, int]], at: int) -> None:
    intervals = [(float(start), float(start + length)) for start, length in spans]
    cells = {cell for start, length in spans for cell in range(start, start + length)}
    merged = merge_intervals(intervals)
    assert (merged[1:, 0] > merged[:-1, 1]).all()
    covered = covered_s(merged, np.array([0.0]), np.array([float(at)]))
    assert covered[0] == pytest.approx(len([c for c in cells if c < at]))
