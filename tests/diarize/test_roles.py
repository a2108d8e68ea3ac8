"""Who is the agent: facts are weighed, none is certain, a dispute is noted."""

from __future__ import annotations

import math
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
from callanalytics.diarize.roles import (
    SURE_OF_THE_AGENT,
    possible_callers,
    talk_clues,
    voice_sides,
    weigh_roles,
)
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
    assert 0.5 < doubtful.confidence < sure.confidence
    unsure = Diarization(
        tuple(talk),
        doubtful.roles,
        ChannelLayout.MONO,
        doubtful.source,
        doubtful.confidence,
        quality=("mixed_voices",),
    )
    assert possible_callers(unsure) == ("a",)
    spoken = Diarization(tuple(talk), sure.roles, ChannelLayout.MONO, sure.source, sure.confidence)
    assert possible_callers(spoken) == ()
    settled = replace(
        spoken, role_confidence=1.0, quality=("mixed_voices",)
    )  # by a person, who heard the roles
    assert possible_callers(settled) == ("a",)


@pytest.mark.parametrize(("source", "doubted"), [(RoleSource.INFERRED, ("a", "c")), (RoleSource.NAME, ())])
def test_of_three_voices_whose_roles_only_the_talk_tells_each_may_be_the_callers(
    source: RoleSource, doubted: tuple[str, ...]
) -> None:
    """A machine that opens on the caller's line passes for the agent, and the caller after it as well."""
    talk = (Turn("a", 0, 0, 30), Turn("b", 1, 35, 40), Turn("c", 0, 41, 50))
    roles = {"a": Role.AGENT, "b": Role.CALLER, "c": Role.AGENT}
    spoken = Diarization(talk, roles, ChannelLayout.STEREO, source, 0.98, quality=("three_voices",))
    assert possible_callers(spoken) == doubted


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


# The arithmetic, worked out by hand ------------------------------------------------------------------------


def probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def mixed(log_odds: float, other: float, share: float) -> float:
    """Where with the probability `share` the other evidence holds."""
    both = (1 - share) * probability(log_odds) + share * probability(other)
    return math.log(both / (1 - both))


def by_talk(*clues: float) -> float:
    return sum(w * clue for w, clue in zip((5.70, 1.90, 1.94, 1.46), clues, strict=True))


@pytest.mark.parametrize(
    ("talk", "opening_s", "answer_s", "share"),
    [
        ([("a", 0, 3), ("a", 4, 6), ("b", 7, 9), ("a", 10, 14), ("b", 15, 16)], 5, 2, 9 / 12),
        ([("a", 0, 3), ("a", 4.9, 5.9), ("b", 7, 9), ("b", 10.9, 11)], 4, 2.1, 4 / 6.1),
        ([("a", 0, 3), ("a", 5, 6), ("b", 7, 9), ("b", 11, 15)], 3, 2, 4 / 10),  # 2 s end a stretch
        ([("a", 0, 8), ("b", 2, 3), ("b", 9, 10)], 8, 2, 0.8),  # a talks until 8, so b pauses for 1 s
        ([("a", 0, 0.6), ("b", 1, 1.9)], 0.6, 0.9, 0.4),
    ],
)
def test_clues_of_the_talk(
    talk: list[tuple[str, float, float]], opening_s: float, answer_s: float, share: float
) -> None:
    assert talk_clues(turns_of(*talk)) == pytest.approx(
        (
            math.tanh((opening_s - 0.8) / 0.4),
            math.log(opening_s / answer_s),
            math.tanh((opening_s - answer_s) / 3),
            share - 0.5,
        )
    )


@pytest.mark.parametrize(("opening_s", "ratio"), [(30, 1.5), (4, math.log(4)), (0.1, -1.5)])
def test_a_long_opening_counts_no_more_than_so_much(opening_s: float, ratio: float) -> None:
    assert talk_clues(turns_of(("a", 0, opening_s), ("b", 40, 41)))[1] == pytest.approx(ratio)


EVEN = [("speaker_0", 0, 1.2), ("speaker_1", 2, 3.5), ("speaker_0", 4, 6), ("speaker_1", 7, 8)]


def test_the_talk_alone_gives_so_much_confidence() -> None:
    """A clue is believed but for 3 calls in 100; where voices may be badly divided, for 5 more."""
    guess = weigh_roles(turns_of(*EVEN), by_channel=False)
    log_odds = by_talk(*talk_clues(turns_of(*EVEN)))
    assert 0 < log_odds < 4
    (fact,) = guess.evidence
    assert fact.log_odds == pytest.approx(mixed(log_odds, 0, 0.03))
    assert fact.words == "the way the talk runs: the agent is the voice that speaks first"
    assert (fact.source, guess.source) == (RoleSource.INFERRED, RoleSource.INFERRED)
    assert guess.confidence == pytest.approx(probability(mixed(log_odds, 0, 0.03)))
    assert not guess.is_disputed
    doubted = weigh_roles(turns_of(*EVEN), by_channel=False, in_doubt=True)
    assert doubted.confidence == pytest.approx(probability(mixed(mixed(log_odds, 0, 0.03), 0, 0.05)))


def test_of_two_channels_the_names_are_those_of_the_channels() -> None:
    (fact,) = weigh_roles(CALLER_IS_LEFT, by_channel=True).evidence
    assert fact.words == "the way the talk runs: the agent is on the right channel"
    assert fact.log_odds == pytest.approx(mixed(by_talk(*talk_clues(CALLER_IS_LEFT)), 0, 0.03))
    assert weigh_roles(CALLER_IS_LEFT, by_channel=True).confidence <= 0.99


@pytest.mark.parametrize(
    ("end_s", "reopened"),
    [
        (0.5, [("speaker_1", 0, 0.5), ("speaker_0", 0.5, 1.2), *EVEN[1:]]),
        (1.2, [("speaker_1", 0, 1.2), *EVEN[1:]]),
        (1.5, [("speaker_1", 0, 1.2), *EVEN[1:]]),
        (0.0, EVEN),  # nothing of the first turn lies before
    ],
)
def test_an_opening_that_may_be_the_others_is_weighed_both_ways(
    end_s: float, reopened: list[tuple[str, float, float]]
) -> None:
    guess = weigh_roles(turns_of(*EVEN), by_channel=False, opening=Opening(end_s, 1, 0.25))
    first, other = (by_talk(*talk_clues(turns_of(*talk))) for talk in (EVEN, reopened))
    other = other if reopened[0][0] == "speaker_0" else -other
    (fact,) = guess.evidence
    assert abs(fact.log_odds) == pytest.approx(abs(mixed(mixed(first, other, 0.25), 0, 0.03)))


@pytest.mark.parametrize(
    ("third_s", "others_s", "sure"), [(3.9, 36, True), (4.0, 36, False), (4.9, 46, True), (5.2, 46, False)]
)
def test_a_third_voice_of_a_tenth_and_of_four_seconds_makes_the_roles_unsure(
    third_s: float, others_s: float, sure: bool
) -> None:
    each = others_s / 12
    talk = [("ab"[n % 2], 10.0 * n, 10.0 * n + each) for n in range(12)]
    talk.insert(6, ("c", 55.0, 55.0 + third_s))
    guess = weigh_roles(turns_of(*talk), by_channel=False)
    assert guess.roles == {"a": Role.AGENT, "b": Role.CALLER, "c": Role.UNKNOWN}
    clues = talk_clues(turns_of(*[piece for piece in talk if piece[0] != "c"]))
    expected = probability(mixed(by_talk(*clues), 0, 0.03 if sure else 0.8))
    assert guess.confidence == pytest.approx(expected)


def passed_on(early_s: float = 0.0, part_s: float = 20.0, other_s: float = 3.0) -> list[Turn]:
    """a talks with c, then b does; b says something for so long before."""
    pieces, at_s = [], 0.0
    said = [("a", part_s / 4), ("c", other_s)] * 2 + [("b", early_s)]
    said += [("a", part_s / 4), ("c", other_s)] * 2 + [("b", 5.0), ("c", other_s)] * 4
    for who, seconds in said:
        if seconds:
            pieces.append((who, at_s, at_s + seconds))
        at_s += seconds + 0.5
    return turns_of(*pieces)


@pytest.mark.parametrize(
    ("early_s", "part_s", "other_s", "is_one_side"),
    [
        (0.0, 20.0, 3.0, True),
        (5.9, 20.0, 3.0, True),
        (6.0, 20.0, 3.0, True),  # 0.3 of the 20 s of the voice that says less
        (6.1, 20.0, 3.0, False),
        (0.0, 4.0, 3.0, True),
        (0.0, 3.9, 3.0, False),  # four seconds of each part, of the other as well
        (0.0, 20.0, 1.0, True),
        (0.0, 20.0, 0.9, False),
    ],
)
def test_little_out_of_order_and_a_part_of_four_seconds_make_a_transfer(
    early_s: float, part_s: float, other_s: float, is_one_side: bool
) -> None:
    sides = voice_sides(passed_on(early_s, part_s, other_s))
    assert (sides == {"a": 0, "b": 0, "c": 1}) is is_one_side
    assert len(sides) == (3 if is_one_side else 2)


def test_sides_are_numbered_by_who_speaks_first() -> None:
    assert voice_sides(turns_of(("x", 0, 1), ("b", 2, 9), ("a", 10, 18), ("b", 19, 22))) == {"b": 0, "a": 1}
    assert voice_sides(turns_of(("a", 0, 3))) == {"a": 0}
    assert voice_sides([]) == {}


def at_cosine(cosine: float) -> FloatArray:
    """A print at this cosine to the profile of the agent."""
    print_ = np.zeros(192, np.float32)
    print_[0], print_[1] = cosine, math.sqrt(1 - cosine**2)
    return print_


AGENT = VoiceProfile(at_cosine(1.0), 4)


@pytest.mark.parametrize(
    ("first", "second", "is_heard"),
    [(0.34, 0.1, False), (0.36, 0.1, True), (0.1, 0.34, False), (0.1, 0.36, True), (0.9, 0.88, True)],
)
def test_a_profile_counts_by_how_much_nearer_one_side_is(first: float, second: float, is_heard: bool) -> None:
    prints = {"speaker_0": at_cosine(first), "speaker_1": at_cosine(second)}
    guess = weigh_roles(turns_of(*EVEN), by_channel=False, prints=prints, profile=AGENT)
    said = {fact.source: fact for fact in guess.evidence}
    assert (RoleSource.VOICE_PROFILE in said) is is_heard
    if is_heard:
        fact = said[RoleSource.VOICE_PROFILE]
        log_odds = mixed(10 * (first - second), 0, 0.02)
        agent_is_first = guess.roles["speaker_0"] is Role.AGENT
        assert fact.log_odds == pytest.approx(log_odds if agent_is_first else -log_odds, rel=1e-4)
        nearer = "first" if first > second else "second"
        assert fact.words == f"the profile of the agent's voice: the agent is the voice that speaks {nearer}"


def test_of_two_voices_of_a_side_the_one_that_talks_more_is_compared() -> None:
    more = [*CALLER_IS_LEFT, Turn("speaker_2", 0, 30, 40), Turn("speaker_1", 1, 41, 45)]
    prints = {
        "speaker_0": at_cosine(0.9),  # 7 s
        "speaker_2": at_cosine(0.2),  # 10 s
        "speaker_1": at_cosine(0.5),
    }
    guess = weigh_roles(more, by_channel=True, prints=prints, profile=AGENT)
    (fact,) = [fact for fact in guess.evidence if fact.source is RoleSource.VOICE_PROFILE]
    assert fact.words.endswith("the agent is on the right channel")
    assert fact.log_odds == pytest.approx(mixed(10 * 0.3, 0, 0.02), rel=1e-4)
    alone = weigh_roles(more, by_channel=True, prints={"speaker_1": at_cosine(0.9)}, profile=AGENT)
    assert [fact.source for fact in alone.evidence] == [RoleSource.INFERRED], (
        "there is nothing to compare with"
    )


@pytest.mark.parametrize(
    ("prints", "is_agent"),
    [
        ({"a": 0.2, "b": 0.1, "c": 0.36}, True),
        ({"a": 0.2, "b": 0.1, "c": 0.34}, False),  # nobody's voice is near
        ({"a": 0.25, "b": 0.1, "c": 0.36}, True),
        ({"a": 0.1, "b": 0.27, "c": 0.36}, False),  # not clearly nearer than either side
        ({"a": 0.5, "b": 0.1, "c": 0.4}, False),
        ({"a": 0.4, "c": 0.36}, False),
    ],
)
def test_a_voice_of_no_side_is_the_agents_only_where_it_clearly_is(
    prints: dict[str, float], is_agent: bool
) -> None:
    talk = turns_of(("a", 0, 5), ("b", 6, 9), ("a", 10, 11), ("b", 12, 20), ("c", 21, 24))
    given_prints = {who: at_cosine(cosine) for who, cosine in prints.items()}
    guess = weigh_roles(talk, by_channel=False, prints=given_prints, profile=AGENT)
    assert (guess.roles["c"] is Role.AGENT) is is_agent
    assert guess.roles["b" if is_agent else "c"] is (Role.CALLER if is_agent else Role.UNKNOWN)
    early = turns_of(("c", 0, 3), ("a", 4, 9), ("b", 10, 13), ("a", 14, 15), ("b", 16, 24))
    guess = weigh_roles(early, by_channel=False, prints=given_prints, profile=AGENT)
    assert (guess.roles["c"] is Role.AGENT) is is_agent


def test_facts_of_four_to_one_that_disagree_are_a_dispute() -> None:
    def disputed(odds: float) -> bool:
        stated = [StatedRoles(RoleSource.RECORDER, AGENT_LEFT, odds / (1 + odds), "a name")]
        return weigh_roles(CALLER_IS_LEFT, by_channel=True, stated=stated).is_disputed

    assert [disputed(odds) for odds in (3.9, 4.1)] == [False, True]
