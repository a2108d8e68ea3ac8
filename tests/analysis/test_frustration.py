"""The frustration curve rises with evidence, arousal and persistence, against the caller's own calm."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from callanalytics.analysis.frustration import Curve, evidence_probabilities, frustration_curve
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
    assert found.calm == ()
    for values in (found.at_s, found.level, found.loudness_rise_db, found.pitch_rise_st):
        assert (values.shape, values.dtype) == ((0,), np.float32)


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


def level_of(
    rows: list[tuple[float, float, float, float]], settings: FrustrationSettings, usual: float
) -> list[float]:
    """The level after each segment, by the definition: (seconds, evidence, dB and semitones above calm).

    In steps of 0.05 s: the mean over the last `smoothing_s` of speech, and before the first of it calm.
    """
    step_s, spoken = 0.05, []
    levels = []
    for seconds, evidence, louder_db, higher_st in rows:
        arousal = 1 / (1 + np.exp(-4 * (louder_db / 8 + higher_st / 6 - 1)))
        above = min(max((evidence - usual) / (1 - usual), 0), 1)
        spoken += [float(np.sqrt(above * arousal))] * round(seconds / step_s)
        wanted = round(settings.smoothing_s / step_s)
        levels.append(sum(spoken[-wanted:]) / wanted)
    return levels


@pytest.mark.parametrize("disgust_weight", [0.5, 0.0])
def test_the_curve_is_what_its_definition_says(disgust_weight: float) -> None:
    """Five calm segments of 3 s are the reference of 15 s; what follows is angrier, louder or higher."""
    settings = FrustrationSettings(disgust_weight=disgust_weight)
    seconds = np.array([3, 3, 3, 3, 3, 2, 4, 1, 3, 3, 3], np.float32)
    start_s = np.cumsum(np.concatenate([[0.5], seconds[:-1] + 1])).astype(np.float32)
    anger = np.array([0.1] * 5 + [0.5, 0.9, 0.95, 0.2, 0.12, 0.6], np.float32)
    disgust = np.array([0.02] * 5 + [0.1, 0.06, 0.3, 0.4, 0.06, 0.06], np.float32)
    loudness_db = np.array([-30, -29, -30, -31, -30, -24, -20, -22, -28, -27, -26], np.float32)
    pitch_hz = np.array([100, 100, np.nan, 100, 0.0, 120, 150, 110, 140, np.nan, 130], np.float32)
    found = frustration_curve(start_s, start_s + seconds, anger, disgust, loudness_db, pitch_hz, settings)
    louder = loudness_db + 30
    higher = 12 * np.log2(np.array([1, 1, np.nan, 1, np.nan, 1.2, 1.5, 1.1, 1.4, np.nan, 1.3]))
    np.testing.assert_allclose(found.at_s, start_s + seconds / 2)
    np.testing.assert_allclose(found.loudness_rise_db, louder, atol=1e-5)
    np.testing.assert_allclose(found.pitch_rise_st, higher, atol=1e-5)
    evidence = anger + disgust_weight * disgust
    rows = [*zip(seconds, np.minimum(evidence, 1), louder, np.nan_to_num(higher), strict=True)]
    expected = level_of(rows, settings, usual=0.1 + disgust_weight * 0.02)
    np.testing.assert_allclose(found.level, expected, atol=2e-3)
    assert found.score == pytest.approx(max(expected), abs=2e-3)
    assert found.peak_s == found.at_s[int(np.argmax(expected))]
    assert found.voice is None


def test_the_calm_reference_is_what_its_definition_says_wherever_it_lies(rng: np.random.Generator) -> None:
    """By the mean rank over three signs with many ties, of segments long and short, some of them unknown."""
    n, settings = 60, FrustrationSettings()
    seconds = rng.integers(4, 60, n) * 0.05  # in the steps of `level_of`
    seconds[:2] = 3.0
    start_s = np.cumsum(np.concatenate([[0.5], seconds[:-1] + 1]))
    anger, disgust = rng.integers(0, 5, n) / 4, rng.integers(0, 4, n) / 4
    anger[:2] = 1.0  # the first to speak is the angriest
    loudness_db = rng.integers(-40, -20, n).astype(float)
    pitch_hz = rng.integers(10, 30, n) * 10.0
    loudness_db[:2], pitch_hz[:2] = -10, 400
    loudness_db[5:9], pitch_hz[20:35], pitch_hz[40:43] = np.nan, np.nan, 0.0
    columns = (start_s, start_s + seconds, anger, disgust, loudness_db, pitch_hz)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = frustration_curve(*(column.astype(np.float32) for column in columns), settings)
    evidence = np.minimum(anger + 0.5 * disgust, 1)
    known = [np.where(np.isnan(sign), np.nanmedian(sign), sign) for sign in (evidence, loudness_db, pitch_hz)]
    order = np.argsort(sum(rankdata(sign) for sign in known), kind="stable")
    calm = order[: int((np.cumsum(seconds[order]) < 15).sum()) + 1]
    assert found.calm == tuple(calm)
    assert 4 < len(calm) < n / 2
    assert len({*np.round(evidence[calm], 3)}) > 1 < len({*np.round(seconds[calm], 2)})
    louder = loudness_db - np.nanmedian(loudness_db[calm])
    voiced = np.where(pitch_hz > 0, pitch_hz, np.nan)
    higher = 12 * np.log2(voiced / np.nanmedian(voiced[calm]))
    np.testing.assert_allclose(found.loudness_rise_db, louder, atol=1e-5)
    np.testing.assert_allclose(found.pitch_rise_st, higher, atol=1e-4)
    rows = [*zip(seconds, evidence, np.nan_to_num(louder), np.nan_to_num(higher), strict=True)]
    usual = float(np.average(evidence[calm], weights=seconds[calm]))
    np.testing.assert_allclose(found.level, level_of(rows, settings, usual), atol=1e-3)
    for values in (found.at_s, found.level, found.loudness_rise_db, found.pitch_rise_st):
        assert values.dtype == np.float32


def test_the_usual_level_is_that_of_the_seconds_and_not_of_the_segments() -> None:
    """A long segment says more about what is usual than a short one."""
    seconds, anger = np.array([1, 9, 5, 5], np.float32), np.array([0.0, 0.4, 1.0, 1.0], np.float32)
    start_s = np.array([0, 2, 12, 18], np.float32)
    loudness_db, pitch_hz = np.array([-30, -30, -20, -20], np.float32), np.full(4, 120, np.float32)
    columns = (start_s, start_s + seconds, anger, 0 * anger, loudness_db, pitch_hz)
    found = frustration_curve(*columns, SETTINGS)
    assert found.calm == (0, 1)
    rows = [*zip(seconds, anger, loudness_db + 30, 0 * anger, strict=True)]
    np.testing.assert_allclose(found.level, level_of(rows, SETTINGS, usual=0.36), atol=2e-3)


def test_of_segments_that_are_all_alike_the_first_are_the_reference() -> None:
    found = curve(np.full(N, 0.3), np.full(N, -20.0))
    assert found.calm == (0, 1, 2, 3, 4), "15 s in segments of 3 s"
    assert curve(np.full(3, 0.3), np.full(3, -20.0)).calm == (0, 1), "half of 9 s is in two of them"


def test_without_a_heard_pitch_in_the_reference_no_pitch_is_compared() -> None:
    """Nor with zeros, which are no pitch."""
    pitch = second_half(0.0, 150.0)
    anger, loudness_db = second_half(0.1, 0.8), second_half(-26, -18)
    anger[0], loudness_db[0], pitch[0] = 0.05, -27, 100.0
    found = curve(anger, loudness_db, pitch)
    assert found.calm[0] == 0
    assert found.pitch_rise_st[-1] == pytest.approx(12 * np.log2(1.5), abs=1e-4)
    pitch[0] = 0.0
    assert np.isnan(curve(anger, loudness_db, pitch).pitch_rise_st).all()


def test_evidence_beyond_certainty_is_certainty() -> None:
    """A caller who is surely angry from the first word on does not become angrier."""
    found = curve(second_half(0.9, 1.0), second_half(-26, -18), second_half(120, 170), disgust=0.4)
    assert found.level.max() == 0


def test_half_of_the_speech_is_the_reference_where_there_is_little() -> None:
    """Of two segments of 3 s the calmer one, and never what is wrong by one sign only."""
    found = curve(np.array([0.1, 0.9]), np.array([-30.0, -20.0]))
    np.testing.assert_allclose(found.loudness_rise_db, [0, 10])
    one_sign = curve(np.array([0.1, 0.9]), np.array([-28.0, -29.0]), np.array([100.0, 200.0]))
    np.testing.assert_allclose(one_sign.loudness_rise_db, [0, -1], err_msg="two of three signs say so")
    alone = curve(np.array([0.7]), np.array([-20.0]))
    assert alone.score == 0, "a single segment is its own reference"
    assert alone.loudness_rise_db.tolist() == [0]


def test_without_any_pitch_loudness_decides_alone() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unvoiced = curve(second_half(0.05, 0.8), second_half(-26, -18), np.full(N, np.nan))
    flat = curve(second_half(0.05, 0.8), second_half(-26, -18))
    assert np.isnan(unvoiced.pitch_rise_st).all()
    np.testing.assert_allclose(unvoiced.level, flat.level, atol=1e-6)


def test_evidence_takes_the_weight_of_neutral_speech_out_again_and_is_softened() -> None:
    labels = ("anger", "neutral", "sad")
    before = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    weighed = before * [0.1, 0.8, 0.1]
    weighed /= weighed.sum(axis=1, keepdims=True)
    softened = before ** (1 / 1.5)
    softened /= softened.sum(axis=1, keepdims=True)
    found = evidence_probabilities(weighed.astype(np.float32), labels, 0.8)
    np.testing.assert_allclose(found, softened, atol=1e-6)
    assert found.dtype == np.float32
    certain = np.array([[1.0, 0.0, 0.0]], np.float32)
    assert np.isfinite(evidence_probabilities(certain, labels, 0.8)).all()
    without = np.array([[0.7, 0.3]], np.float32)
    assert evidence_probabilities(without, ("anger", "sad"), 0.8) is without
    assert len(evidence_probabilities(np.zeros((0, 3), np.float32), labels, 0.8)) == 0
