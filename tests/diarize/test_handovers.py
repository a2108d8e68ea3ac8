"""A call that is passed on: another voice takes over on one side, a mood or a guest does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from short_calls import short_call

from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.clustering import VoiceSpace
from callanalytics.diarize.conversation import Rhythm, Whole
from callanalytics.diarize.embedding import Pieces
from callanalytics.diarize.handovers import Handover, find_handover, passed_on, with_handover
from callanalytics.diarize.vad import FRAME_S, IntArray
from callanalytics.records import BoolArray, FloatArray, Role, RoleSource, StatedRoles, Turn

SPACE = VoiceSpace.load()
ANN, BOB, CAROL = (
    (v / np.linalg.norm(v)).astype(np.float32) for v in np.random.default_rng(19).standard_normal((3, 192))
)


def prints(*voices: FloatArray) -> FloatArray:
    """One a piece, each a little off."""
    off = np.random.default_rng(1).standard_normal((len(voices), 192)) / 40
    return (np.stack(voices) + off).astype(np.float32)


def whole_of(pieces: FloatArray) -> Whole:
    """Prints of groups of pieces, each the mean of its pieces'."""

    def whole(groups: BoolArray) -> FloatArray:
        means = np.stack([pieces[group].mean(axis=0) for group in groups])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    return whole


def between(one: FloatArray, other: FloatArray, share: float) -> FloatArray:
    """A voice so far on the way to another one."""
    mixed = (1 - share) * one + share * other
    return (mixed / np.linalg.norm(mixed)).astype(np.float32)


@pytest.mark.parametrize(
    ("voices", "expected"),
    [
        ([ANN] * 12, Handover()),
        ([ANN] * 7 + [BOB] * 5, Handover(7, True)),
        ([ANN] * 3 + [BOB] * 9, Handover(3, True)),
        ([ANN] * 5 + [BOB] + [ANN] * 6, Handover()),  # a guest
        ([ANN, BOB] * 6, Handover()),  # two who talk in turns
        ([ANN] * 2 + [BOB] * 2, Handover()),  # too little to tell
        ([ANN], Handover()),
        ([], Handover()),
    ],
)
def test_a_voice_takes_over_for_good(voices: list[FloatArray], expected: Handover) -> None:
    pieces = prints(*voices) if voices else np.zeros((0, 192), np.float32)
    assert find_handover(np.full(len(voices), 1.9), whole_of(pieces), SPACE) == expected


def test_a_voice_that_may_be_another_is_noted_and_not_divided() -> None:
    found = [
        find_handover(np.full(12, 1.9), whole_of(np.stack([ANN] * 6 + [between(ANN, BOB, share)] * 6)), SPACE)
        for share in np.linspace(0, 1, 41)
    ]
    unsure = found.index(Handover(None, True))
    assert found[0] == Handover()
    assert found[-1] == Handover(6, True)
    assert [h.may_be for h in found] == [False] * unsure + [True] * (41 - unsure)
    assert found.index(Handover(6, True)) > unsure


def test_of_two_voices_the_one_that_is_passed_on_is_divided() -> None:
    voices = [ANN, CAROL] * 6 + [BOB, CAROL] * 6
    labels = np.array([0, 1] * 12)
    begin_s = np.arange(24) * 2.5
    rhythm = Rhythm(begin_s, begin_s + 1.9, np.zeros(24, np.int64), 0.0)
    found, handover = passed_on(labels, rhythm, whole_of(prints(*voices)), SPACE)
    assert found.tolist() == [0, 1] * 6 + [2, 1] * 6
    assert handover.at == 6
    alone, nothing = passed_on(labels, rhythm, whole_of(prints(*[ANN, CAROL] * 12)), SPACE)
    assert alone.tolist() == labels.tolist()
    assert nothing == Handover()


class Side:
    """A side whose voice changes at some frame; keeps the frames of which it is asked."""

    def __init__(self, earlier: FloatArray, later: FloatArray, changes_at: int) -> None:
        self.voices, self.changes_at = np.stack([earlier, later]).astype(np.float32), changes_at
        self.asked: list[IntArray] = []

    def hear(self, part: IntArray, n_parts: int) -> Pieces:
        frame = np.flatnonzero(part >= 0)
        self.asked.append(frame)
        heard = Pieces(np.zeros(n_parts, np.int64), *np.zeros((2, n_parts, 192), np.float32))
        np.add.at(heard.n_rows, part[frame], 1)
        np.add.at(heard.total, part[frame], self.voices[(frame >= self.changes_at).astype(int)])
        return heard


def mean_of(parts: Pieces, groups: BoolArray) -> FloatArray:
    """Prints of groups of parts, each the mean over what was heard of it."""
    total = groups.astype(np.float32) @ parts.total
    return (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)


def test_turns_of_the_voice_that_takes_over_get_a_name_of_their_own() -> None:
    turns = [Turn(f"speaker_{n % 2}", n % 2, 3.2 * n, 3.2 * n + 1.92) for n in range(24)]
    active = np.ones(2500, np.bool_)
    passed = Side(ANN, BOB, changes_at=1200)
    found, handover = with_handover(turns, 1, active, passed.hear, mean_of, SPACE)
    assert [turn.speaker for turn in found] == ["speaker_0", "speaker_1"] * 6 + ["speaker_0", "speaker_2"] * 6
    assert handover == Handover(6, True)
    ends, rest = passed.asked
    assert len(ends) * FRAME_S == pytest.approx(
        15, abs=0.1
    )  # the first and the last 7.5 s, then all others, once
    assert not set(ends) & set(rest)
    assert len(ends) + len(rest) == 12 * 60
    one = Side(ANN, ANN, changes_at=0)
    assert with_handover(turns, 1, active, one.hear, mean_of, SPACE) == (tuple(turns), Handover())
    assert len(one.asked) == 1


def test_ends_that_are_hardly_apart_are_no_reason_to_hear_more() -> None:
    turns = [Turn("speaker_0", 0, 3.2 * n, 3.2 * n + 1.92) for n in range(12)]
    sides = [Side(ANN, between(ANN, BOB, share), changes_at=600) for share in np.linspace(0, 1, 41)]
    for side in sides:
        with_handover(turns, 0, np.ones(1300, np.bool_), side.hear, mean_of, SPACE)
    ratios = [SPACE.two_voices(ANN, 7.5, between(ANN, BOB, share), 7.5) for share in np.linspace(0, 1, 41)]
    assert [len(side.asked) == 2 for side in sides] == [ratio >= -6.5 for ratio in ratios]
    assert len({len(side.asked) for side in sides}) == 2


def test_of_a_long_side_some_turns_tell() -> None:
    turns = [Turn("speaker_0", 0, 3.2 * n, 3.2 * n + 1.92) for n in range(300)]
    side = Side(ANN, BOB, changes_at=10_000)
    found, _ = with_handover(turns, 0, np.ones(30_000, np.bool_), side.hear, mean_of, SPACE)
    assert sum(turn.speaker == "speaker_1" for turn in found) == pytest.approx(200, abs=4)
    assert sum(map(len, side.asked)) * FRAME_S == pytest.approx(180 + 9, abs=6)  # besides the ends


def test_a_short_side_or_one_turn_is_not_asked() -> None:
    for turns in ([Turn("speaker_0", 0, 0, 20)], [Turn("speaker_0", 0, 0, 4), Turn("speaker_0", 0, 6, 9)]):
        side = Side(ANN, BOB, changes_at=300)
        assert with_handover(turns, 0, np.ones(700, np.bool_), side.hear, mean_of, SPACE) == (
            tuple(turns),
            Handover(),
        )
        assert side.asked == []


def test_a_second_agent_who_is_not_sure_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_call(tmp_path / "call.wav", 4)
    samples = np.ascontiguousarray(sf.read(tmp_path / "call.wav", dtype="float32")[0].T)
    agent_first = (StatedRoles(RoleSource.RECORDER, (Role.AGENT, Role.CALLER), 0.999, "your settings"),)
    models, found = SpeechModels(), []
    for may_be in (False, True):
        monkeypatch.setattr(
            "callanalytics.diarize.with_handover",
            lambda turns, *_, maybe=may_be: (turns, Handover(None, maybe)),
        )
        found.append(diarize(samples, 8000, stated_roles=agent_first, models=models))
    sure, unsure = found
    assert set(unsure.quality) - set(sure.quality) == {"maybe_passed_on"}
    assert unsure.turns == sure.turns != ()


def test_a_second_agent_on_the_agents_side_is_a_speaker_of_their_own(data_dir: Path) -> None:
    """Two real calls in a row, as if the caller were passed on; each alone has one agent."""
    folder = data_dir / "calls" / "harper-valley" / "stereo"
    calls = [sf.read(path, dtype="float32")[0].T for path in sorted(folder.glob("*.wav"))[:2]]
    stated = (StatedRoles(RoleSource.RECORDER, (Role.CALLER, Role.AGENT), 0.999, "your settings"),)
    models = SpeechModels()
    both = diarize(
        np.ascontiguousarray(np.concatenate(calls, axis=1)), 8000, stated_roles=stated, models=models
    )
    assert both.roles == {"speaker_0": Role.CALLER, "speaker_1": Role.AGENT, "speaker_2": Role.AGENT}
    assert "three_voices" in both.quality
    begins_s = min(turn.start_s for turn in both.turns if turn.speaker == "speaker_2")
    assert begins_s == pytest.approx(calls[0].shape[1] / 8000, abs=8)
    alone = diarize(np.ascontiguousarray(calls[0]), 8000, stated_roles=stated, models=models)
    assert list(alone.roles.values()).count(Role.AGENT) == 1
