"""The moments that show why a rule is fulfilled: which, how far apart, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest

from callanalytics.analysis.escalation import escalations, frustrated_moments, is_flagged
from callanalytics.analysis.frustration import HALF_AROUSAL_DB, HALF_AROUSAL_ST, Curve
from callanalytics.analysis.words import CallWords, Utterance
from callanalytics.config import ONE_OF_THE_VOICES, RuleSettings
from callanalytics.records import (
    ChannelLayout,
    Diarization,
    Escalation,
    Evidence,
    Measure,
    Role,
    RoleSource,
    Segment,
    Sound,
    SoundSpan,
    Turn,
)

LENGTH_S = 100.0
NO_CURVE = Curve(*(np.zeros(0, np.float32),) * 2, None, *(np.zeros(0, np.float32),) * 2)


def spoken(*turns: tuple[str, float, float], sounds: tuple[SoundSpan, ...] = ()) -> Diarization:
    return Diarization(
        turns=tuple(Turn(who, int(who != "a"), start_s, end_s) for who, start_s, end_s in turns),
        roles={"a": Role.AGENT, "c": Role.CALLER},
        layout=ChannelLayout.STEREO,
        role_source=RoleSource.RECORDER,
        role_confidence=1.0,
        sounds=sounds,
    )


def fulfilled(
    rule: RuleSettings,
    curve: Curve = NO_CURVE,
    segments: list[Segment] | None = None,
    speech: Diarization | None = None,
) -> Escalation:
    """The one rule, whose measure is at its threshold."""
    role = None if rule.role == "any" else Role(rule.role)
    measures = [
        Measure(rule.measure, role, rule.window, rule.at_least),
        Measure("labelled_s", role, rule.window, 1e3),
    ]
    (found,) = escalations([rule], measures, speech or spoken(), segments or [], curve, LENGTH_S)
    assert (found.rule, found.value, found.threshold) == (rule.name, rule.at_least, rule.at_least)
    assert found.weight == rule.weight
    return found


def curve_of(
    at_s: list[float],
    level: list[float],
    louder_db: list[float] | None = None,
    higher_st: list[float] | None = None,
    voice: str | None = None,
) -> tuple[Curve, list[Segment]]:
    """A curve and its segments of 2 s, between which the agent speaks."""
    nothing = [float("nan")] * len(at_s)
    columns = (at_s, level, louder_db or nothing, higher_st or nothing)
    middle, levels, louder, higher = (np.array(column, np.float32) for column in columns)
    curve = Curve(middle, levels, float(levels.max()), louder, higher, voice=voice)
    segments = []
    for at in at_s:
        segments.append(Segment(len(segments), "c", Role.CALLER, 1, at - 1, at + 1, 0.0))
        segments.append(Segment(len(segments), "a", Role.AGENT, 0, at + 1, at + 2, 0.0))
    return curve, segments


FRUSTRATED = RuleSettings(name="r", measure="frustration_peak", at_least=0.5, reason="{value:.0%} at {at}")


@pytest.mark.parametrize(("apart_s", "n_moments"), [(7.9, 1), (8.0, 2), (8.1, 2)])
def test_moments_are_eight_seconds_apart(apart_s: float, n_moments: int) -> None:
    found = fulfilled(FRUSTRATED, *curve_of([10, 10 + apart_s], [0.6, 0.9]))
    assert len(found.evidence) == n_moments
    assert found.evidence[-1].start_s == pytest.approx(9 + apart_s), "the highest is always one"


def test_the_three_highest_moments_above_zero_are_told_in_order_of_time() -> None:
    found = fulfilled(FRUSTRATED, *curve_of([10, 20, 30, 40, 50], [0.2, 0.9, 0.0, 0.5, 0.7]))
    assert [(e.start_s, e.end_s, e.text) for e in found.evidence] == [
        (19, 21, "frustration 90%"),
        (39, 41, "frustration 50%"),
        (49, 51, "frustration 70%"),
    ]
    assert found.reason == "50% at 0:20", "the peak of the curve, not the first moment"
    assert len(fulfilled(FRUSTRATED, *curve_of([10, 20, 30], [0.2, 0.0, 0.0])).evidence) == 1


@pytest.mark.parametrize(
    ("louder_db", "higher_st", "text"),
    [
        (0.9, 0.9, "frustration 50%"),
        (1.0, 0.9, "frustration 50%, 1 dB louder than when calm"),
        (0.9, 1.0, "frustration 50%, 1 semitone higher"),
        (6.4, 3.4, "frustration 50%, 6 dB louder than when calm, 3 semitones higher"),
        (float("nan"), float("nan"), "frustration 50%"),
    ],
)
def test_a_rise_is_told_from_one_on(louder_db: float, higher_st: float, text: str) -> None:
    found = fulfilled(FRUSTRATED, *curve_of([10], [0.5], [louder_db], [higher_st]))
    assert [evidence.text for evidence in found.evidence] == [text]


RAISED = RuleSettings(
    name="r", measure="loudness_rise_db", window="first_half", at_least=3.0, reason="raised"
)


def test_the_moments_of_a_raised_voice_weigh_loudness_and_pitch_alike_and_cap_both() -> None:
    """In half-arousal steps: an octave that was heard wrongly counts as two."""
    louder = [HALF_AROUSAL_DB, 0.0, 3 * HALF_AROUSAL_DB, 0.0]
    higher = [0.0, 1.5 * HALF_AROUSAL_ST, 0.0, 9 * HALF_AROUSAL_ST]
    found = fulfilled(RAISED, *curve_of([5, 15, 25, 35], [0.1] * 4, louder, higher))
    assert [evidence.start_s for evidence in found.evidence] == [14, 24, 34], "1.5, 2 and 2 steps, but not 1"
    assert found.evidence[0].text == f"{1.5 * HALF_AROUSAL_ST:.0f} semitones higher"


def test_a_raised_voice_is_as_high_as_both_rises_together_and_no_higher_than_two_steps_each() -> None:
    """A fall takes nothing away, and one semitone is a sixth of a step."""
    steps = np.array([[1.1, 1.2, 1.3, 9.0, 0.0], [1.1, 1.2, 1.3, 0.0, 9.0]])
    louder, higher = steps * [[HALF_AROUSAL_DB], [HALF_AROUSAL_ST]]
    found = fulfilled(RAISED, *curve_of([1, 10, 19, 28, 37], [0.1] * 5, [*louder], [*higher]))
    assert [evidence.start_s for evidence in found.evidence] == [0, 9, 18], "2.2, 2.4 and 2.6, before 2"
    assert found.evidence[0].text == "9 dB louder than when calm, 7 semitones higher"
    one = [[0.5 * HALF_AROUSAL_DB, -2 * HALF_AROUSAL_DB, HALF_AROUSAL_DB, 0.0], [1.0, 6.0, -12.0, 1.0]]
    found = fulfilled(RAISED, *curve_of([1, 10, 19, 28], [0.1] * 4, *one))
    assert [evidence.start_s for evidence in found.evidence] == [0, 9, 18]


def test_of_moments_that_are_all_alike_the_first_three_are_told() -> None:
    found = fulfilled(FRUSTRATED, *curve_of([10.0 * (k + 1) for k in range(40)], [0.5] * 40))
    assert [evidence.start_s for evidence in found.evidence] == [9, 19, 29]


@pytest.mark.parametrize(
    ("measure", "at"),
    [("frustration", "0:40"), ("frustration_peak", "0:40"), ("loudness_rise_db", "0:10"), ("talk_s", "0:10")],
)
def test_a_rule_about_the_curve_names_its_peak_and_another_its_first_moment(measure: str, at: str) -> None:
    rule = RuleSettings(name="r", measure=measure, at_least=0.5, reason="{at}")
    found = fulfilled(rule, *curve_of([11, 40], [0.4, 0.9], [9.0, 2.0]))
    assert found.reason == at


@pytest.mark.parametrize("measure", ["loudness_rise_db", "pitch_rise_st"])
def test_moments_of_a_raised_voice_lie_in_the_window_of_the_rule(measure: str) -> None:
    rule = RAISED.model_copy(update={"measure": measure})
    for at_s, starts in (([0.0, 49.9, 70], [-1, 48.9]), ([0.0, 50.0, 70], [-1])):
        curve, segments = curve_of(at_s, [0.1] * 3, [9.0] * 3)
        found = [evidence.start_s for evidence in fulfilled(rule, curve, segments).evidence]
        assert found == pytest.approx(starts)
    slightly, segments = curve_of([10], [0.1], [0.5], [0.4])
    assert [e.text for e in fulfilled(RAISED, slightly, segments).evidence] == ["voice raised"]
    lower, segments = curve_of([10], [0.1], [-5.0], [-3.0])
    assert fulfilled(RAISED, lower, segments).evidence == ()


INTERRUPTED = tuple(
    turn for k in range(4) for turn in (("c", 20 * k, 20 * k + 5), ("a", 20 * k + 4, 20 * k + 10))
)


def test_interruptions_are_told_with_two_seconds_around_them() -> None:
    rule = RuleSettings(name="r", measure="interruptions", role="agent", at_least=1.0, reason="at {at}")
    found = fulfilled(rule, speech=spoken(*INTERRUPTED))
    assert found.evidence == tuple(
        Evidence(20.0 * k + 2, 20.0 * k + 7, "agent talks over caller") for k in range(3)
    )
    early = spoken(("c", 0, 2.5), ("a", 1.5, 9))
    assert fulfilled(rule, speech=early).evidence[0].start_s == 0, "no moment lies before the call"
    by_caller = RuleSettings(name="r", measure="interruptions_s", role="caller", at_least=1.0, reason="x")
    other_way = spoken(("a", 0, 5), ("c", 4, 10))
    for voice, who in ((None, "caller"), ("c", ONE_OF_THE_VOICES)):
        curve, _ = curve_of([7], [0.0], voice=voice)
        (evidence,) = fulfilled(by_caller, curve, speech=other_way).evidence
        assert evidence.text == f"{who} talks over agent"


@pytest.mark.parametrize("measure", ["longest_silence_s", "silence_s", "silence_share", "n_long_silences"])
def test_of_silences_the_longest_is_told(measure: str) -> None:
    rule = RuleSettings(name="r", measure=measure, role="any", at_least=0.1, reason="silent at {at}")
    music = (SoundSpan(Sound.MUSIC, 0, 30, 60),)
    speech = spoken(("c", 2, 20), ("a", 75, 90), sounds=music)
    found = fulfilled(rule, speech=speech)
    assert found.evidence == (Evidence(60.0, 75.0, "nobody speaks"),)
    assert found.reason == "silent at 1:00"
    late = fulfilled(rule, speech=spoken(("c", 2, 20)))
    assert late.evidence == (Evidence(20.0, LENGTH_S, "nobody speaks"),)
    early = fulfilled(rule, speech=spoken(("c", 60, 95)))
    assert early.evidence == (Evidence(0.0, 60.0, "nobody speaks"),)


def test_rules_about_other_measures_of_the_agent_have_no_moments() -> None:
    rule = RuleSettings(name="r", measure="angry_s", role="agent", at_least=1.0, reason="x")
    curve, segments = curve_of([10], [0.9])
    assert fulfilled(rule, curve, segments).evidence == ()


@pytest.mark.parametrize(("flag_weight", "is_flag"), [(0.29, True), (0.3, True), (0.31, False)])
def test_weights_that_reach_the_flag_weight_are_enough(flag_weight: float, is_flag: bool) -> None:
    """Three times 0.1 is 0.30000000000000004, and the other way round 0.3 may be a little more than a sum."""
    rule = RuleSettings(name="r", measure="talk_s", role="agent", at_least=1.0, weight=0.1, reason="x")
    assert is_flagged([fulfilled(rule)] * 3, flag_weight) is is_flag


def test_an_unknown_value_fulfils_nothing_and_ends_nothing() -> None:
    rules = [
        RuleSettings(name=name, measure=measure, role="agent", at_least=1.0, reason="x")
        for name, measure in (("unknown", "talk_share"), ("known", "talk_s"))
    ]
    measures = [Measure("talk_share", Role.AGENT, "call", None), Measure("talk_s", Role.AGENT, "call", 5.0)]
    found = escalations(rules, measures, spoken(), [], NO_CURVE, LENGTH_S)
    assert [escalation.rule for escalation in found] == ["known"]


def test_moments_are_those_of_the_voice_that_the_curve_is_of() -> None:
    """Of the caller, or of a voice that may be; without a score there are none."""
    curve, segments = curve_of([10, 30], [0.4, 0.9])
    assert [evidence.start_s for evidence in frustrated_moments(segments, curve)] == [9, 29]
    of_agent, _ = curve_of([12, 32], [0.4, 0.9], voice="a")
    assert [evidence.start_s for evidence in frustrated_moments(segments, of_agent)] == [11, 31]
    assert frustrated_moments(segments, NO_CURVE) == ()


# Phrases ---------------------------------------------------------------------------------------------------


def said(role: Role, start_s: float, text: str, step_s: float = 1.0) -> Utterance:
    """An utterance with a word a second."""
    n = len(text.split())
    starts = tuple(start_s + step_s * k for k in range(n))
    return Utterance(role.value, role, start_s, start_s + step_s * n, text, "json", word_start_s=starts)


def phrase(**more: object) -> RuleSettings:
    words: dict[str, object] = {"name": "r", "measure": "phrase", "at_least": 1, "reason": "asks at {at}"}
    return RuleSettings.model_validate(words | {"phrases": ("supervisor",)} | more)


def found_in(
    rule: RuleSettings, *utterances: Utterance, whole: bool = True, curve: Curve = NO_CURVE
) -> Escalation | None:
    """What the rule finds; labelled speech of 5 s on each side, of 2 s in the second half."""
    measures = [Measure("labelled_s", role, "call", 5.0) for role in (Role.AGENT, Role.CALLER)]
    measures += [Measure("labelled_s", role, "second_half", 2.0) for role in (Role.AGENT, Role.CALLER)]
    words = CallWords(utterances, whole=whole)
    others = phrase(name="never", phrases=("nobody says this",)), phrase(name="short of", min_evidence_s=9)
    rules = [*others, rule]
    found = escalations(rules, measures, spoken(), [], curve, LENGTH_S, words)
    assert len(found) <= 1
    return found[0] if found else None


ASKED = said(Role.CALLER, 70, "could I please talk to a supervisor about this bill right now")


def test_a_phrase_is_quoted_where_its_words_are() -> None:
    found = found_in(phrase(), said(Role.AGENT, 9, "hello"), said(Role.CALLER, 10, "hello there"), ASKED)
    assert found is not None
    quote = "… please talk to a supervisor about this bill right …"
    assert found.evidence == (Evidence(76.0, 77.0, f"caller says “{quote}”"),)
    assert (found.value, found.threshold) == (1.0, 1.0)
    assert found.reason == f"asks at 1:16: “{quote}”"


def test_a_phrase_is_looked_for_on_the_side_and_in_the_window_of_the_rule() -> None:
    assert found_in(phrase(role="agent"), ASKED) is None
    assert found_in(phrase(role="any"), ASKED) is not None
    assert found_in(phrase(window="first_half"), ASKED) is None
    assert found_in(phrase(window="q4"), ASKED) is not None, "it is said in the last quarter, from 75 s on"
    assert found_in(phrase(window="q3"), ASKED) is None, "though its sentence begins before"
    at_the_border = said(Role.CALLER, 50, "supervisor")
    assert found_in(phrase(window="second_half"), at_the_border) is not None
    assert found_in(phrase(window="first_half"), at_the_border) is None
    unknown = found_in(phrase(role="any"), said(Role.UNKNOWN, 5, "supervisor"))
    assert unknown is not None
    assert unknown.evidence[0].text == "somebody says “supervisor”"


def test_how_often_it_is_said_is_counted_and_three_places_are_told() -> None:
    places = [said(Role.CALLER, 10.0 * k, "supervisor supervisor") for k in range(2)]
    found = found_in(phrase(at_least=4), *places)
    assert found is not None
    assert found.value == 4
    assert [evidence.start_s for evidence in found.evidence] == [0, 1, 10]
    assert found_in(phrase(at_least=5), *places) is None


@pytest.mark.parametrize(("min_evidence_s", "is_found"), [(4.9, True), (5.0, True), (5.1, False)])
def test_a_rule_needs_labelled_speech_of_its_side(min_evidence_s: float, is_found: bool) -> None:
    assert (found_in(phrase(min_evidence_s=min_evidence_s), ASKED) is not None) is is_found
    assert found_in(phrase(min_evidence_s=min_evidence_s, window="second_half"), ASKED) is None
    assert found_in(phrase(min_evidence_s=min_evidence_s, role="any"), ASKED) is not None
    assert found_in(phrase(min_evidence_s=0.1, window="q4"), ASKED) is None, "where it is not known"


def test_that_something_is_not_said_is_known_of_whole_words_of_a_side_that_speaks() -> None:
    missing, greeting = phrase(negate=True, role="agent"), said(Role.AGENT, 0, "good morning")
    found = found_in(missing, ASKED, greeting)
    assert found is not None
    assert (found.value, found.evidence, found.reason) == (0.0, (), "asks at no single moment")
    assert found_in(missing, said(Role.AGENT, 0, "your supervisor")) is None
    assert found_in(missing, ASKED) is None, "the agent is not heard at all"
    assert found_in(missing, greeting, whole=False) is None
    assert found_in(missing) is None, "nobody knows a word"
    anybody, by_caller = phrase(negate=True, role="any"), phrase(negate=True)
    assert found_in(anybody, greeting) is not None
    heard = said(Role.CALLER, 5, "hello")
    assert found_in(by_caller, heard) is not None
    of_a_voice, _ = curve_of([7], [0.0], voice="c")
    assert found_in(by_caller, heard, curve=of_a_voice) is None, "the caller may be another voice"
    assert found_in(missing, greeting, curve=of_a_voice) is not None


def test_a_reason_about_a_voice_that_may_be_the_callers_says_so() -> None:
    of_a_voice, _ = curve_of([7], [0.0], voice="c")
    asks = phrase(reason="caller asks at {at}")
    found = found_in(asks, ASKED, curve=of_a_voice)
    assert found is not None
    assert found.reason.startswith("one of the voices: asks at 1:16")
    by_agent = found_in(
        phrase(role="agent", reason="agent asks"), said(Role.AGENT, 0, "supervisor"), curve=of_a_voice
    )
    assert by_agent is not None
    assert by_agent.reason == "agent asks: “supervisor”"
