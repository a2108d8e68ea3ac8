"""The frustration curve rises with evidence, arousal and persistence, against the caller's own calm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.analysis.frustration import Curve, frustration_curve
from callanalytics.config import FrustrationSettings

SETTINGS = FrustrationSettings()
N = 30


def curve(
    anger: np.ndarray, loudness_db: np.ndarray, pitch_hz: np.ndarray | None = None, disgust: float = 0.0
) -> Curve:
    start_s = np.arange(len(anger), dtype=np.float32) * 5
    if pitch_hz is None:
        pitch_hz = np.full(len(anger), 120.0)
    return frustration_curve(
        start_s,
        start_s + 3,
        anger.astype(np.float32),
        np.full(len(anger), disgust, dtype=np.float32),
        loudness_db.astype(np.float32),
        pitch_hz.astype(np.float32),
        SETTINGS,
    )


def second_half(low: float, high: float) -> np.ndarray:
    return np.where(np.arange(N) >= N // 2, high, low)


def test_a_caller_who_turns_angry_louder_and_higher_is_frustrated() -> None:
    found = curve(second_half(0.05, 0.8), second_half(-26, -18), second_half(120, 170))
    assert found.score > 0.7
    assert found.level[: N // 2].max() < 0.1
    assert found.peak_s is not None
    assert found.peak_s > 75


def test_a_loud_calm_caller_is_their_own_reference() -> None:
    assert curve(np.full(N, 0.5), np.full(N, -8.0)).score < 0.1


def test_louder_alone_and_words_of_the_ensemble_alone_are_not_enough() -> None:
    both = curve(second_half(0.05, 0.8), second_half(-26, -18)).score
    assert curve(np.full(N, 0.05), second_half(-26, -18)).score < 0.1
    assert curve(second_half(0.05, 0.8), np.full(N, -26.0)).score < 0.5 * both


def test_one_loud_word_is_not_persistent() -> None:
    anger, loudness = np.full(N, 0.05), np.full(N, -26.0)
    anger[20], loudness[20] = 0.9, -14.0
    assert curve(anger, loudness).score < 0.3


def test_a_voice_without_speech_has_no_score() -> None:
    found = curve(np.zeros(0), np.zeros(0))
    assert found.score is None
    assert found.peak_s is None


def test_unvoiced_segments_leave_pitch_unknown() -> None:
    pitch = np.full(N, 120.0)
    pitch[3] = np.nan
    found = curve(second_half(0.1, 0.8), second_half(-26, -18), pitch)
    assert np.isnan(found.pitch_rise_st[3])
    assert np.isfinite(found.level).all()


level = st.floats(0, 1, width=32)


# Whole decibels, so that adding the gain is exact and keeps ties.
@given(st.lists(st.tuples(level, st.integers(-60, 0)), min_size=1, max_size=40), st.integers(-30, 30))
def test_the_score_is_bounded_and_blind_to_the_line_level(
    rows: list[tuple[float, int]], gain_db: int
) -> None:
    anger = np.array([a for a, _ in rows])
    loudness = np.array([b for _, b in rows])
    found = curve(anger, loudness)
    assert 0 <= found.score <= 1
    assert curve(anger, loudness + gain_db).score == pytest.approx(found.score, abs=1e-3)
