"""Who is the agent: facts are weighed, none is certain, a dispute is noted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.analysis.corrections import as_corrected, exchanged
from callanalytics.config import RecorderSettings, Settings
from callanalytics.diarize.conversation import Opening
from callanalytics.diarize.roles import SURE_OF_THE_AGENT, possible_callers, voice_sides, weigh_roles
from callanalytics.ingest.recorders.facts import FactReader
from callanalytics.records import (
    ChannelLayout,
    Diarization,
    FloatArray,
    Role,
    RoleSource,
    StatedRoles,
    Turn,
    VoiceProfile,
)

AGENT_LEFT, CALLER_LEFT = (Role.AGENT, Role.CALLER), (Role.CALLER, Role.AGENT)


def turns_of(*pieces: tuple[str, float, float]) -> list[Turn]:
    return [Turn(who, 0, start_s, end_s) for who, start_s, end_s in pieces]


def on_channels(*pieces: tuple[int, float, float]) -> list[Turn]:
    return [Turn(f"speaker_{side}", side, start_s, end_s) for side, start_s, end_s in pieces]


# The right side greets and the left one answers.
CALLER_IS_LEFT = on_channels((1, 0.5, 5), (0, 6, 9), (1, 10, 12), (0, 13, 17), (1, 18, 22))


def stated_by(name: str, **settings: object) -> tuple[StatedRoles, ...]:
    tables = (RecorderSettings(name="here", **settings),) if settings else ()  # type: ignore[arg-type]
    reader = FactReader(Settings(recorder=tables), b"salt")
    return reader.read(Path("/calls") / name, datetime(2025, 3, 28, tzinfo=UTC)).stated_roles


def test_a_weak_match_of_a_name_is_outvoted_by_the_talk_and_the_dispute_is_noted() -> None:
    """The recorder of such names records the agent on the left, if it is that recorder at all."""
    (by_name,) = stated_by("20250327101010_1001.wav")
    assert by_name.roles == AGENT_LEFT
    assert 0.7 < by_name.confidence < 0.9
    guess = weigh_roles(CALLER_IS_LEFT, by_channel=True, stated=[by_name])
    assert guess.roles == {"speaker_0": Role.CALLER, "speaker_1": Role.AGENT}
    assert guess.source is RoleSource.INFERRED
    assert guess.confidence < weigh_roles(CALLER_IS_LEFT, by_channel=True).confidence
    assert guess.is_disputed
    assert [fact.log_odds < 0 for fact in guess.evidence] == [True, False]
    assert guess.evidence[0].words.startswith("the name, which looks like vicidial (70%)")
    assert guess.evidence[0].words.endswith("the agent is on the left channel")


def test_a_weak_match_adds_to_what_the_talk_says() -> None:
    (by_name,) = stated_by("20250327101010_1001.wav")
    other = replace(by_name, roles=CALLER_LEFT)
    guess = weigh_roles(CALLER_IS_LEFT, by_channel=True, stated=[other])
    assert guess.confidence > weigh_roles(CALLER_IS_LEFT, by_channel=True).confidence
    assert not guess.is_disputed


def test_a_name_decides_where_the_talk_says_little() -> None:
    (by_name,) = stated_by("20250327101010_1001.wav")
    even = on_channels((0, 0, 0.8), (1, 1, 1.81), (0, 2, 2.8), (1, 3, 3.8))
    assert 0.5 <= weigh_roles(even, by_channel=True).confidence < 0.6
    guess = weigh_roles(even, by_channel=True, stated=[by_name])
    assert guess.roles["speaker_0"] is Role.AGENT
    assert guess.source is RoleSource.RECORDER
    assert 0.7 < guess.confidence < 0.9


def test_settings_are_strong_and_what_contradicts_them_is_noted() -> None:
    facts = stated_by("20250327101010_1001.wav", kind="vicidial", channels=("caller", "agent"))
    assert [fact.roles for fact in facts] == [CALLER_LEFT, AGENT_LEFT]
    exchanged_talk = [
        replace(t, speaker=f"speaker_{1 - t.channel}", channel=1 - t.channel) for t in CALLER_IS_LEFT
    ]
    guess = weigh_roles(exchanged_talk, by_channel=True, stated=facts[:1])
    assert guess.roles["speaker_0"] is Role.CALLER, "the settings outvote the talk alone"
    assert guess.is_disputed
    everything_else = [facts[1], StatedRoles(RoleSource.SIDECAR, AGENT_LEFT, 0.995, "the sidecar")]
    guess = weigh_roles(exchanged_talk, by_channel=True, stated=[facts[0], *everything_else])
    assert guess.roles["speaker_0"] is Role.AGENT, "... and are outvoted by all the rest together"
    assert guess.is_disputed


def test_every_source_that_states_the_sides_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "20250327-101010_2025550112_1001-all.wav"
    path.write_bytes(b"")
    path.with_suffix(".json").write_text('{"agent_channel": "right"}')
    facts = FactReader(Settings(), b"salt").read(path, datetime(2025, 3, 28, tzinfo=UTC))
    assert [(fact.source, fact.roles) for fact in facts.stated_roles] == [
        (RoleSource.SIDECAR, CALLER_LEFT),
        (RoleSource.RECORDER, AGENT_LEFT),
    ]
    assert facts.channel_roles == CALLER_LEFT
    assert facts.channel_roles_source is RoleSource.SIDECAR


def test_whoever_greets_is_the_agent_even_after_a_hello() -> None:
    talk = turns_of(("b", 0.5, 0.9), ("a", 1.5, 6.5), ("b", 7, 11), ("a", 12, 13), ("b", 13.5, 15))
    guess = weigh_roles(talk, by_channel=False)
    assert guess.roles == {"a": Role.AGENT, "b": Role.CALLER}
    assert guess.confidence > 0.7


def test_a_short_sentence_that_is_answered_at_length_is_the_agents() -> None:
    """No "hello?" lasts a second: such an opening was taken for one when the answer was longer."""
    talk = turns_of(("a", 0.6, 1.75), ("b", 2.1, 4.2), ("a", 4.6, 6.2), ("b", 6.8, 8.4), ("a", 8.8, 10))
    assert weigh_roles(talk, by_channel=False).roles == {"a": Role.AGENT, "b": Role.CALLER}


def test_a_voice_that_says_little_is_unknown() -> None:
    guess = weigh_roles(turns_of(("a", 0, 5), ("b", 6, 12), ("c", 13, 13.5)), by_channel=False)
    assert guess.roles == {"a": Role.AGENT, "b": Role.CALLER, "c": Role.UNKNOWN}


def test_one_voice_alone_has_no_role_unless_its_channel_has_one() -> None:
    alone = [Turn("speaker_0", 1, 0, 30)]
    assert weigh_roles(alone, by_channel=True).roles == {"speaker_0": Role.UNKNOWN}
    assert weigh_roles(alone, by_channel=False).source is RoleSource.NONE
    stated = [StatedRoles(RoleSource.SIDECAR, CALLER_LEFT, 0.995, "the sidecar")]
    guess = weigh_roles(alone, by_channel=True, stated=stated)
    assert guess.roles == {"speaker_0": Role.AGENT}
    assert guess.confidence == pytest.approx(0.99)


def test_who_takes_over_from_the_agent_is_an_agent_too() -> None:
    """A transfer on one channel: the caller talks with both and says least of all."""
    first = [(who, 5.0 * n, 5.0 * n + (4.5 if who == "a" else 2)) for n, who in enumerate("acacacac")]
    second = [(who, 5.0 * n, 5.0 * n + (4.5 if who == "b" else 2)) for n, who in enumerate("bcbcbcbc", 8)]
    guess = weigh_roles(turns_of(*first, *second), by_channel=False)
    assert guess.roles == {"a": Role.AGENT, "b": Role.AGENT, "c": Role.CALLER}


def test_who_takes_over_from_the_caller_is_a_caller_too() -> None:
    talk = [(who, 5.0 * n, 5.0 * n + 4) for n, who in enumerate("acacacacadadadad")]
    guess = weigh_roles(turns_of(*talk), by_channel=False)
    assert guess.roles == {"a": Role.AGENT, "c": Role.CALLER, "d": Role.CALLER}


def test_three_who_talk_among_each_other_are_two_sides_and_one_unknown() -> None:
    talk = [(who, 5.0 * n, 5.0 * n + 4 - ("abc".index(who) / 2)) for n, who in enumerate("abcabcbacbacabc")]
    assert set(voice_sides(turns_of(*talk))) == {"a", "b"}
    assert weigh_roles(turns_of(*talk), by_channel=False).confidence < SURE_OF_THE_AGENT


def test_where_a_voice_may_hold_both_people_nobody_is_surely_the_agent_alone() -> None:
    """One lane of both people was called the agent at 0.96, so that the caller in it was never assessed."""
    talk = turns_of(*(("ab"[n % 2], 5.0 * n, 5.0 * n + 4 - n % 2) for n in range(12)))
    sure, doubtful = (weigh_roles(talk, by_channel=False, in_doubt=in_doubt) for in_doubt in (False, True))
    assert sure.roles == doubtful.roles
    assert sure.confidence > 0.95
    assert 0.5 < doubtful.confidence <= 0.9
    spoken = Diarization(tuple(talk), sure.roles, ChannelLayout.MONO, sure.source, sure.confidence)
    assert possible_callers(spoken) == ()
    settled = replace(
        spoken, role_confidence=1.0, quality=("mixed_voices",)
    )  # by a person, who heard the roles
    assert possible_callers(settled) == ("a",)


def test_first_words_that_may_be_the_others_leave_the_roles_unsure() -> None:
    """The agent's "Support, hello" went to the caller, who then seemed to greet: roles exchanged at 0.96."""
    talk = turns_of(
        ("a", 0.5, 4.3), ("b", 5.8, 7.2), *(("ab"[n % 2], 5.0 * n, 5.0 * n + 2) for n in range(2, 12))
    )
    talk = [replace(turn, speaker=f"speaker_{'ab'.index(turn.speaker)}") for turn in talk]
    sure, unsure = (
        weigh_roles(talk, by_channel=False, opening=Opening(end_s=1.7, other=1, doubt=doubt))
        for doubt in (0.01, 0.3)
    )
    assert sure.roles == unsure.roles
    assert sure.confidence > 0.95 > SURE_OF_THE_AGENT > unsure.confidence > 0.5
    spoken = Diarization(tuple(talk), unsure.roles, ChannelLayout.MONO, unsure.source, unsure.confidence)
    assert possible_callers(spoken) == ("speaker_0",)


def test_whose_a_short_hello_is_does_not_matter() -> None:
    """Whether the caller or the agent says it, the agent's greeting comes after it."""
    talk = turns_of(("speaker_0", 0.5, 6), ("speaker_1", 7, 9), ("speaker_0", 10, 13), ("speaker_1", 14, 18))
    sure, unsure = (
        weigh_roles(talk, by_channel=False, opening=Opening(end_s=0.9, other=1, doubt=doubt))
        for doubt in (0.01, 0.3)
    )
    assert sure.roles["speaker_0"] is Role.AGENT
    assert sure.confidence - unsure.confidence < 0.1


@pytest.mark.parametrize("end_s", [0.2, 0.5])
def test_first_words_too_faint_for_a_turn_change_nothing(end_s: float) -> None:
    talk = turns_of(("speaker_0", 0.5, 6), ("speaker_1", 7, 9), ("speaker_0", 10, 13), ("speaker_1", 14, 18))
    plain = weigh_roles(talk, by_channel=False)
    assert weigh_roles(talk, by_channel=False, opening=Opening(end_s, 1, 0.3)).roles == plain.roles


def test_two_voices_on_a_channel_have_the_role_of_the_channel() -> None:
    second_agent = [Turn("speaker_2", 1, 30, 40), Turn("speaker_0", 0, 41, 45)]
    guess = weigh_roles([*CALLER_IS_LEFT, *second_agent], by_channel=True)
    assert guess.roles == {"speaker_0": Role.CALLER, "speaker_1": Role.AGENT, "speaker_2": Role.AGENT}


def voice(seed: int, near: int | None = None) -> FloatArray:
    """A unit vector; with `near` one at a cosine of about 0.7 to the voice of that seed."""
    drawn = np.random.default_rng(seed).standard_normal(192)
    drawn /= np.linalg.norm(drawn)
    if near is not None:
        drawn = drawn + voice(near)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


TALK = turns_of(("a", 0, 5), ("b", 6, 9), ("a", 10, 11), ("b", 12, 20))
PROFILE = VoiceProfile(voice(9), 4)


def test_a_known_voice_is_the_agent_against_the_shape_of_the_talk() -> None:
    """`a` greets first, but `b` sounds like the agent."""
    prints = {"a": voice(1), "b": voice(2, near=9)}
    guess = weigh_roles(TALK, by_channel=False, prints=prints, profile=PROFILE)
    assert guess.roles == {"a": Role.CALLER, "b": Role.AGENT}
    assert guess.source is RoleSource.VOICE_PROFILE
    assert 0.5 < guess.confidence < 0.99
    assert guess.is_disputed


def test_a_third_voice_may_be_the_agent() -> None:
    talk = [*TALK, *turns_of(("c", 21, 24))]
    prints = {"a": voice(1), "b": voice(2), "c": voice(3, near=9)}
    guess = weigh_roles(talk, by_channel=False, prints=prints, profile=PROFILE)
    assert guess.roles == {"a": Role.UNKNOWN, "b": Role.CALLER, "c": Role.AGENT}


@pytest.mark.parametrize(
    "prints", [{"a": voice(1), "b": voice(2)}, {"a": voice(9)}, {}], ids=["of somebody else", "one", "none"]
)
def test_a_profile_that_does_not_fit_says_nothing(prints: dict[str, FloatArray]) -> None:
    with_it = weigh_roles(TALK, by_channel=False, prints=prints, profile=PROFILE)
    assert with_it == weigh_roles(TALK, by_channel=False)


def test_a_person_settles_a_dispute() -> None:
    stated = [StatedRoles(RoleSource.RECORDER, AGENT_LEFT, 0.999, "your settings")]
    guess = weigh_roles(CALLER_IS_LEFT, by_channel=True, stated=stated)
    assert guess.is_disputed
    spoken = Diarization(
        turns=tuple(CALLER_IS_LEFT),
        roles=guess.roles,
        layout=ChannelLayout.STEREO,
        role_source=guess.source,
        role_confidence=guess.confidence,
        role_evidence=guess.evidence,
        quality=("noisy", "role_conflict"),
    )
    swapped = exchanged(spoken)
    assert swapped.quality == ("noisy",)
    assert [fact.log_odds for fact in swapped.role_evidence] == [-fact.log_odds for fact in guess.evidence]
    kept = as_corrected(spoken, (("agent", 6.0, 9.0),))
    assert (kept.roles, kept.quality) == (spoken.roles, ("noisy",))


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 500), st.floats(0.2, 30)), max_size=30),
    st.booleans(),
)
def test_roles_always_cover_every_speaker(pieces: list[tuple[str, float, float]], by_channel: bool) -> None:
    channel = {"a": 0, "b": 1, "c": 0, "d": 1} if by_channel else dict.fromkeys("abcd", 0)
    talk = sorted((Turn(w, channel[w], s, s + d) for w, s, d in pieces), key=lambda turn: turn.start_s)
    guess = weigh_roles(talk, by_channel=by_channel)
    assert set(guess.roles) == {turn.speaker for turn in talk}
    assert 0 <= guess.confidence <= 0.99
    sides = {role for role in guess.roles.values() if role is not Role.UNKNOWN}
    assert sides in (set(), {Role.AGENT, Role.CALLER})
    names = {"a": "b", "b": "a"}
    mirrored = weigh_roles(
        [
            replace(t, speaker=names.get(t.speaker, t.speaker), channel=1 - t.channel if by_channel else 0)
            for t in talk
        ],
        by_channel=by_channel,
    )
    if set(guess.roles) == {"a", "b"} and guess.confidence > 0.501:
        assert mirrored.roles["a"] is guess.roles["b"]
