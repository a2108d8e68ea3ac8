"""Measures and escalations of made-up calls whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.analysis.escalation import escalations, is_flagged
from callanalytics.analysis.frustration import Curve
from callanalytics.analysis.measures import call_measures, frustration_measures, period_bounds
from callanalytics.config import RULE_MEASURES, RuleSettings, Settings
from callanalytics.records import (
    ChannelLayout,
    Diarization,
    Measure,
    Role,
    RoleSource,
    Segment,
    Sound,
    SoundSpan,
    Turn,
)
from ensemble.inference.vote import Votes
from ensemble.labels import SHARED_SIX

ROLES = {"a": Role.AGENT, "c": Role.CALLER}
NO_CURVE = Curve(*(np.zeros(0, dtype=np.float32),) * 2, None, *(np.zeros(0, dtype=np.float32),) * 2)


def spoken(*turns: tuple[str, float, float], sounds: tuple[SoundSpan, ...] = ()) -> Diarization:
    return Diarization(
        turns=tuple(Turn(who, 0 if who == "a" else 1, start, end) for who, start, end in turns),
        roles=ROLES,
        layout=ChannelLayout.STEREO,
        role_source=RoleSource.RECORDER,
        role_confidence=1.0,
        sounds=sounds,
    )


def votes(emotions: list[str | None]) -> Votes:
    n = len(emotions)
    index = np.array([-1 if e is None else SHARED_SIX.index(e) for e in emotions], dtype=np.int64)
    uniform = np.full((n, 6), 1 / 6, dtype=np.float32)
    return Votes(
        labels=SHARED_SIX,
        member_names=("cnn", "crnn", "vit"),
        probabilities=np.stack([uniform] * 3),
        mean_probabilities=uniform,
        emotion_index=index,
        top_index=np.maximum(index, 0),
        confidence=np.full(n, 0.5, dtype=np.float32),
        agreement=np.ones(n, dtype=np.float32),
        tie_broken=np.zeros(n, dtype=bool),
        abstain_reason=tuple("low_confidence" if e is None else None for e in emotions),
    )


def measured(
    duration_s: float,
    diarization: Diarization,
    segments: list[tuple[str, float, float, str | None]] | None = None,
) -> dict[tuple[str, Role | None, str], float | None]:
    rows = segments or []
    cut = [Segment(i, who, ROLES[who], 0, a, b, 0.0) for i, (who, a, b, _) in enumerate(rows)]
    found = call_measures(duration_s, diarization, cut, votes([e for *_, e in rows]), NO_CURVE)
    return {(m.name, m.role, m.period): m.value for m in found}


def test_silence_overtalk_and_talk_time() -> None:
    found = measured(20.0, spoken(("a", 1, 5), ("c", 4, 8), ("a", 12, 15)))
    assert found["talk_s", Role.AGENT, "call"] == pytest.approx(7)
    assert found["talk_s", Role.CALLER, "call"] == pytest.approx(4)
    assert found["talk_s", Role.AGENT, "q1"] == pytest.approx(4)
    assert found["overtalk_s", None, "call"] == pytest.approx(1)
    assert found["silence_s", None, "call"] == pytest.approx(1 + 4 + 5)
    assert found["longest_silence_s", None, "call"] == pytest.approx(5)
    assert found["n_long_silences", None, "call"] == 2


def test_every_measure_of_a_conversation_has_its_value_side_and_period() -> None:
    """A call of 40 s, so that a quarter is 10 s.

    The agent interrupts at 10 s, the border of two quarters, for 0.8 s and at 33 s for 2 s; the caller never.
    All that the call says is here, and nothing else.
    """
    talk = (("c", 4, 10.8), ("a", 10, 15), ("c", 30, 35), ("a", 33, 38))
    found = measured(40.0, spoken(*talk))
    agent = {"q1": 0, "q2": 5, "q3": 0, "q4": 5, "first_half": 5, "second_half": 5, "call": 10}
    caller = {"q1": 6, "q2": 0.8, "q3": 0, "q4": 5, "first_half": 6.8, "second_half": 5, "call": 11.8}
    lasts_s = {"call": 40, "first_half": 20, "second_half": 20}
    expected: dict[tuple[str, Role | None, str], float] = {
        ("silence_s", None, "call"): 4 + 15 + 2,
        ("silence_share", None, "call"): 21 / 40,
        ("longest_silence_s", None, "call"): 15,
        ("n_long_silences", None, "call"): 2,
        ("overtalk_s", None, "call"): 2.8,
        ("overtalk_share", None, "call"): 2.8 / 40,
        ("interruptions_s", Role.AGENT, "call"): 2.8,
        ("interruptions_s", Role.CALLER, "call"): 0,
    }
    for role, seconds in ((Role.AGENT, agent), (Role.CALLER, caller)):
        expected["n_turns", role, "call"] = 2
        for period, talk_s in seconds.items():
            expected["talk_s", role, period] = talk_s
            expected["talk_share", role, period] = talk_s / lasts_s.get(period, 10)
            expected["interruptions", role, period] = 0
    counts = {"q2": 1, "q4": 1, "first_half": 1, "second_half": 1, "call": 2}
    expected |= {("interruptions", Role.AGENT, period): n for period, n in counts.items()}
    assert found == pytest.approx(expected)


def test_a_silence_is_long_beyond_three_seconds_and_none_is_no_silence() -> None:
    found = measured(20.0, spoken(("c", 0, 5), ("a", 8, 12), ("c", 15.5, 20)))
    assert found["silence_s", None, "call"] == pytest.approx(6.5)
    assert found["n_long_silences", None, "call"] == 1
    found = measured(10.0, spoken(("c", 0, 5), ("a", 5, 12)))
    assert found["silence_s", None, "call"] == found["longest_silence_s", None, "call"] == 0


def test_a_side_that_says_nothing_has_no_share_and_does_not_hide_the_other() -> None:
    found = measured(10.0, spoken(("a", 1, 5)))
    assert found["overtalk_s", None, "call"] == 0
    assert found["talk_s", Role.CALLER, "call"] == found["n_turns", Role.CALLER, "call"] == 0
    assert found["n_turns", Role.AGENT, "call"] == 1
    nothing = measured(0.0, spoken())
    assert nothing["silence_share", None, "call"] is None
    assert nothing["overtalk_share", None, "call"] is None


def test_a_voice_of_unknown_role_has_talk_and_no_interruptions() -> None:
    unknown = replace(spoken(("a", 0, 4), ("c", 3, 9)), roles={"a": Role.UNKNOWN, "c": Role.CALLER})
    found = measured(10.0, unknown)
    assert found["talk_s", Role.UNKNOWN, "call"] == pytest.approx(4)
    assert found["talk_s", Role.CALLER, "call"] == pytest.approx(6)
    assert not [key for key in found if key[0] in {"interruptions", "interruptions_s", "overtalk_s"}]


def test_of_short_speech_there_are_emotions_too() -> None:
    found = measured(8.0, spoken(("c", 0, 0.5)), [("c", 0.0, 0.5, "anger")])
    assert found["labelled_s", Role.CALLER, "call"] == pytest.approx(0.5)
    assert found["anger_share", Role.CALLER, "q1"] == pytest.approx(1)
    assert ("labelled_s", Role.CALLER, "q2") not in found, "nobody speaks there"


@pytest.mark.parametrize(("voice", "role"), [(None, Role.CALLER), ("v", Role.UNKNOWN)])
def test_the_measures_of_a_curve_are_those_of_its_voice(voice: str | None, role: Role) -> None:
    """One segment in the last quarter: the others have none, and that ends nothing."""
    one = np.array([0.5], dtype=np.float32)
    curve = Curve(np.array([90], dtype=np.float32), one, 0.5, one, one, voice=voice)
    found = frustration_measures(100.0, curve)
    assert {m.role for m in found} == {role}
    assert {m.period for m in found} == {"call", "q4", "second_half"}
    names = {"frustration", "frustration_peak", "loudness_rise_db", "pitch_rise_st"}
    assert {m.name for m in found} == {*names, "frustration_peak_s"}


def test_a_payment_pause_and_hold_music_are_no_silence() -> None:
    sounds = (SoundSpan(Sound.MASKED, 0, 5, 15), SoundSpan(Sound.MUSIC, 1, 14, 30))
    found = measured(40.0, spoken(("a", 0, 5), ("c", 30, 40), sounds=sounds))
    assert found["silence_s", None, "call"] == pytest.approx(0)
    assert found["masked_s", None, "call"] == pytest.approx(10)
    assert found["music_s", None, "call"] == pytest.approx(16)


def test_emotion_shares_weigh_labelled_seconds_only() -> None:
    rows = [
        ("c", 0.0, 2.0, "anger"),
        ("c", 10.0, 13.0, "neutral"),
        ("c", 13.0, 18.0, None),
        ("a", 2.0, 4.0, "happy"),
    ]
    found = measured(20.0, spoken(("c", 0, 2), ("a", 2, 4), ("c", 10, 18)), rows)
    assert found["anger_share", Role.CALLER, "call"] == pytest.approx(0.4)
    assert found["angry_s", Role.CALLER, "call"] == pytest.approx(2)
    assert found["angry_s", Role.CALLER, "second_half"] == pytest.approx(0)
    assert found["labelled_share", Role.CALLER, "call"] == pytest.approx(0.5)
    assert found["happy_share", Role.AGENT, "call"] == pytest.approx(1)
    assert ("anger_share", Role.CALLER, "q2") not in found


def test_a_call_without_speech_has_measures_and_no_emotions() -> None:
    found = measured(5.0, spoken())
    assert found["silence_s", None, "call"] == pytest.approx(5)
    assert not [key for key in found if key[0].endswith("_share") and key[0].split("_")[0] in SHARED_SIX]


def test_every_measure_a_rule_may_name_and_no_other_is_made() -> None:
    rows = [("c", 0.0, 3.0, "anger"), ("a", 3.0, 6.0, "neutral")]
    sounds = tuple(SoundSpan(kind, 0, 7, 8) for kind in Sound)
    ones = np.ones(2, dtype=np.float32)
    curve = Curve(np.array([1.5, 5], dtype=np.float32), ones, 1.0, ones, ones)
    cut = [Segment(i, who, ROLES[who], 0, a, b, 0.0) for i, (who, a, b, _) in enumerate(rows)]
    found = call_measures(
        10, spoken(("c", 0, 3), ("a", 3, 6), sounds=sounds), cut, votes([e for *_, e in rows]), curve
    )
    made = {m.name for m in found} - {"frustration_peak_s"}
    other_labels = {"boredom_share", "calm_share", "surprise_share"}
    assert made == set(RULE_MEASURES) - other_labels


turn = st.tuples(st.sampled_from("ac"), st.floats(0, 90), st.floats(0.05, 30))


@given(st.lists(turn, max_size=15))
def test_talk_silence_and_overtalk_add_up(found: list[tuple[str, float, float]]) -> None:
    turns = [(who, start, min(start + length, 100.0)) for who, start, length in found]
    m = measured(100.0, spoken(*turns))
    talk = (m["talk_s", Role.AGENT, "call"] or 0) + (m["talk_s", Role.CALLER, "call"] or 0)
    silence, overtalk = m["silence_s", None, "call"] or 0, m["overtalk_s", None, "call"] or 0
    assert talk - overtalk + silence == pytest.approx(100.0)
    quarters = sum(m["talk_s", Role.AGENT, f"q{i}"] or 0 for i in range(1, 5))
    assert quarters == pytest.approx(m["talk_s", Role.AGENT, "call"])


def test_periods_tile_the_call() -> None:
    bounds = period_bounds(100.0)
    assert bounds["q1"] == (0, 25)
    assert bounds["second_half"] == (50, 100)


def assess(rule: RuleSettings, measures: list[Measure], diarization: Diarization | None = None) -> list[str]:
    found = escalations([rule], measures, diarization or spoken(("c", 0, 9)), [], NO_CURVE, 100.0)
    return [e.reason for e in found]


def test_a_rule_needs_its_threshold_and_its_evidence() -> None:
    rule = RuleSettings(
        name="r", measure="angry_s", window="second_half", at_least=12.0, min_evidence_s=20.0,
        reason="{value:.0f} s angry (at least {threshold:.0f})",
    )  # fmt: skip
    angry = Measure("angry_s", Role.CALLER, "second_half", 15.0)
    heard = Measure("labelled_s", Role.CALLER, "second_half", 30.0)
    assert assess(rule, [angry, heard]) == ["15 s angry (at least 12)"]
    assert assess(rule, [angry, Measure("labelled_s", Role.CALLER, "second_half", 10.0)]) == []
    assert assess(rule, [Measure("angry_s", Role.CALLER, "second_half", 11.0), heard]) == []
    assert assess(rule, [Measure("angry_s", Role.CALLER, "first_half", 15.0), heard]) == []


@pytest.mark.parametrize(("value", "fulfilled"), [(11.99, False), (12.0, True), (12.01, True)])
def test_a_rule_is_fulfilled_from_its_threshold_on(value: float, fulfilled: bool) -> None:
    rule = RuleSettings(name="r", measure="angry_s", window="call", at_least=12.0, reason="angry")
    assert bool(assess(rule, [Measure("angry_s", Role.CALLER, "call", value)])) is fulfilled


@pytest.mark.parametrize(("seconds", "fulfilled"), [(19.99, False), (20.0, True), (20.01, True)])
def test_a_rule_has_evidence_from_its_minimum_on(seconds: float, fulfilled: bool) -> None:
    rule = RuleSettings(
        name="r", measure="angry_s", window="call", at_least=1.0, min_evidence_s=20.0, reason="angry"
    )
    found = [
        Measure("angry_s", Role.CALLER, "call", 5.0),
        Measure("labelled_s", Role.CALLER, "call", seconds),
    ]
    assert bool(assess(rule, found)) is fulfilled


def test_frustration_of_a_period_is_that_of_its_own_segments() -> None:
    """One segment in each quarter of 100 s, and one on a border, which belongs to the later quarter."""
    level = np.array([0.1, 0.3, 0.5, 0.7, 0.9], dtype=np.float32)
    rises = np.array([1, 2, 3, 4, 5], dtype=np.float32)
    curve = Curve(np.array([10, 25, 40, 60, 90], dtype=np.float32), level, 0.9, rises, rises * 10)
    found = {(m.name, m.period): m.value for m in frustration_measures(100.0, curve)}
    mean = {"q1": 0.1, "q2": 0.4, "q3": 0.7, "q4": 0.9, "first_half": 0.3, "second_half": 0.8, "call": 0.5}
    peak = {"q1": 0.1, "q2": 0.5, "q3": 0.7, "q4": 0.9, "first_half": 0.5, "second_half": 0.9, "call": 0.9}
    louder = {"q1": 1, "q2": 2.5, "q3": 4, "q4": 5, "first_half": 2, "second_half": 4.5, "call": 3}
    for period, level_mean in mean.items():
        assert found["frustration", period] == pytest.approx(level_mean)
        assert found["frustration_peak", period] == pytest.approx(peak[period])
        assert found["loudness_rise_db", period] == pytest.approx(louder[period])
        assert found["pitch_rise_st", period] == pytest.approx(10 * louder[period])
    assert found["frustration_peak_s", "call"] == 90


def test_interruptions_come_with_the_moments_to_hear() -> None:
    rule = RuleSettings(name="r", measure="interruptions", role="agent", at_least=1.0, reason="at {at}")
    call = spoken(("c", 60, 68), ("a", 65, 70))
    measures = [Measure("interruptions", Role.AGENT, "call", 1.0)]
    (found,) = escalations([rule], measures, call, [], NO_CURVE, 100.0)
    assert found.reason == "at 1:03"
    assert found.evidence[0].start_s == pytest.approx(63)


def test_a_raised_voice_comes_with_the_moments_where_it_is_raised() -> None:
    rule = RuleSettings(name="r", measure="loudness_rise_db", window="second_half", at_least=8.0, reason="x")
    starts = np.arange(0, 100, 10, dtype=np.float32)
    cut = [Segment(i, "c", Role.CALLER, 0, float(s), float(s) + 3, 0.0) for i, s in enumerate(starts)]
    level = np.linspace(0.0, 0.2, 10, dtype=np.float32)  # frustration is highest at the end
    louder = np.array([0, 0, 15, 0, 0, 0, 9, 12, 1, 1], dtype=np.float32)  # 0:20 lies before the window
    curve = Curve(starts + 1.5, level, 0.2, louder, np.full(10, np.nan, dtype=np.float32))
    measures = [Measure("loudness_rise_db", Role.CALLER, "second_half", 8.0)]
    (found,) = escalations([rule], measures, spoken(("c", 0, 99)), cut, curve, 100.0)
    assert [(m.start_s, m.text) for m in found.evidence][:2] == [
        (60.0, "9 dB louder than when calm"),
        (70.0, "12 dB louder than when calm"),
    ]


def test_a_rule_without_a_moment_names_none() -> None:
    rule = RuleSettings(
        name="r", measure="talk_share", role="agent", at_least=0.5, reason="{value:.0%} at {at}"
    )
    assert assess(rule, [Measure("talk_share", Role.AGENT, "call", 0.7)]) == ["70% at no single moment"]


def test_weights_add_up_to_a_flag() -> None:
    rules = [
        RuleSettings(name=n, measure="silence_s", role="any", at_least=1.0, weight=w, reason="x")
        for n, w in (("one", 0.5), ("two", 0.5))
    ]
    found = escalations(rules, [Measure("silence_s", None, "call", 5.0)], spoken(), [], NO_CURVE, 10.0)
    assert is_flagged(found, Settings().frustration.flag_weight)
    assert not is_flagged(found[:1], Settings().frustration.flag_weight)
