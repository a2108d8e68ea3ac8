"""Interruptions: who had the floor before both spoke, and who has it after."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.analysis.interruptions import interruptions
from callanalytics.records import ChannelLayout, Diarization, Role, RoleSource, Turn

ROLES = {"a": Role.AGENT, "c": Role.CALLER}
# The caller takes the floor twice, the agent once; besides smooth changes, back-channels, a failed attempt.
LIVELY = (
    ("a", 0.0, 6.0),
    ("c", 5.0, 9.0),  # takes the floor over a second of the agent's speech
    ("a", 8.8, 14.0),  # foresees the end
    ("c", 10.0, 10.6),  # mm-hm
    ("c", 14.3, 20.0),
    ("a", 18.5, 25.0),  # takes the floor
    ("c", 21.0, 22.4),  # tries to and fails
    ("c", 25.05, 25.4),  # mm-hm in a pause
    ("a", 25.6, 30.0),
    ("c", 28.4, 33.0),  # takes the floor
)


def spoken(turns: tuple[tuple[str, float, float], ...]) -> Diarization:
    return Diarization(
        turns=tuple(Turn(who, 0 if who == "a" else 1, start, end) for who, start, end in turns),
        roles=ROLES,
        layout=ChannelLayout.STEREO,
        role_source=RoleSource.RECORDER,
        role_confidence=1.0,
    )


def shifted(call: Diarization, start_s: float, end_s: float) -> Diarization:
    moved = [replace(t, start_s=max(0.0, t.start_s + start_s), end_s=t.end_s + end_s) for t in call.turns]
    return replace(call, turns=tuple(sorted(moved, key=lambda turn: turn.start_s)))


def test_an_interruption_takes_the_floor() -> None:
    call = spoken((("a", 0, 10), ("c", 8, 14)))
    assert interruptions(call, Role.CALLER) == [(8, pytest.approx(2))]
    assert interruptions(call, Role.AGENT) == []
    assert interruptions(call, Role.UNKNOWN) == []


@pytest.mark.parametrize(
    ("what", "start_s", "end_s"),
    [("mm-hm", 5.0, 5.6), ("gives up", 5.0, 7.0), ("foresees the end", 9.8, 14.0), ("waits", 10.4, 14.0)],
)
def test_without_the_floor_or_without_overlap_there_is_none(what: str, start_s: float, end_s: float) -> None:
    assert interruptions(spoken((("a", 0, 10), ("c", start_s, end_s))), Role.CALLER) == [], what


def test_a_pause_in_a_turn_is_no_end_of_it() -> None:
    """The old count asked for half a second of one turn before; a turn ends at any pause of half a second."""
    call = spoken((("a", 0, 6), ("a", 6.6, 8.0), ("c", 7.0, 12.0)))
    assert interruptions(call, Role.CALLER) == [(7, pytest.approx(1))]


def test_lively_call() -> None:
    call = spoken(LIVELY)
    assert [start_s for start_s, _ in interruptions(call, Role.CALLER)] == [5.0, 28.4]
    assert [start_s for start_s, _ in interruptions(call, Role.AGENT)] == [18.5]


@given(st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)), min_size=10, max_size=10))
def test_a_tenth_of_a_second_at_any_border_changes_no_count(moves: list[tuple[float, float]]) -> None:
    moved = tuple(
        (who, max(0.0, start_s + a), end_s + b)
        for (who, start_s, end_s), (a, b) in zip(LIVELY, moves, strict=True)
    )
    call = spoken(tuple(sorted(moved, key=lambda turn: turn[1])))
    assert len(interruptions(call, Role.CALLER)) == 2
    assert len(interruptions(call, Role.AGENT)) == 1


@pytest.mark.parametrize(("start_s", "end_s"), [(-0.1, 0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, -0.1)])
def test_shifting_all_borders_changes_no_count(start_s: float, end_s: float) -> None:
    call = shifted(spoken(LIVELY), start_s, end_s)
    assert [len(interruptions(call, role)) for role in (Role.AGENT, Role.CALLER)] == [1, 2]


turn = st.tuples(st.sampled_from("ac"), st.floats(0, 90), st.floats(0.05, 30))


@given(st.lists(turn, max_size=15))
def test_overlap_is_real_and_in_order(found: list[tuple[str, float, float]]) -> None:
    call = spoken(tuple(sorted(((w, s, s + d) for w, s, d in found), key=lambda t: t[1])))
    for role in (Role.AGENT, Role.CALLER):
        rows = interruptions(call, role)
        starts = [start_s for start_s, _ in rows]
        assert starts == sorted(set(starts))
        for start_s, over_s in rows:
            assert any(call.roles[t.speaker] is role.other and t.start_s < start_s for t in call.turns)
            assert over_s >= 0.6
