"""RTTM: what is written is what can be read, and names are unique."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rttm_reader import read_rttm

from callanalytics.diarize.segments import to_rttm
from callanalytics.records import ChannelLayout, Diarization, Role, RoleSource, Turn


def spoken(turns: list[tuple[str, float, float]], roles: dict[str, Role]) -> Diarization:
    return Diarization(
        tuple(Turn(who, 0, start_s, end_s) for who, start_s, end_s in turns),
        roles,
        ChannelLayout.MONO,
        RoleSource.INFERRED,
        0.9,
    )


def test_roles_are_names_and_unknown_speakers_keep_their_number() -> None:
    roles = {"speaker_0": Role.CALLER, "speaker_1": Role.AGENT, "speaker_2": Role.UNKNOWN}
    text = to_rttm(
        spoken([("speaker_1", 0, 2), ("speaker_0", 2.5, 3.25), ("speaker_2", 4, 5)], roles), "a call"
    )
    assert text.splitlines()[1] == "SPEAKER a_call 1 2.500 0.750 <NA> <NA> caller <NA> <NA>"
    assert [turn.speaker for turn in read_rttm(text)] == ["agent", "caller", "speaker_2"]


def test_of_two_agents_the_one_who_talks_most_is_called_agent() -> None:
    roles = {"speaker_0": Role.AGENT, "speaker_1": Role.AGENT}
    text = to_rttm(spoken([("speaker_0", 0, 1), ("speaker_1", 2, 9)], roles), "x")
    assert [turn.speaker for turn in read_rttm(text)] == ["speaker_0", "agent"]


def test_no_turns_is_an_empty_file() -> None:
    assert to_rttm(spoken([], {}), "x") == ""


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0.05, 60)), max_size=20), st.text(max_size=12))
def test_a_round_trip_keeps_times_to_the_millisecond(times: list[tuple[float, float]], name: str) -> None:
    found = spoken(
        [("speaker_0", start, start + length) for start, length in times], {"speaker_0": Role.CALLER}
    )
    back = read_rttm(to_rttm(found, name))
    assert len(back) == len(times)
    for turn, (start, length) in zip(back, times, strict=True):
        assert turn.start_s == pytest.approx(start, abs=6e-4)
        assert turn.duration_s == pytest.approx(length, abs=6e-4)
