"""A call that is passed on: another voice takes over on one side, a mood or a guest does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.clustering import VoiceSpace
from callanalytics.diarize.handovers import passed_on, taken_over_at, with_handover
from callanalytics.records import BoolArray, FloatArray, Role, RoleSource, StatedRoles, Turn

SPACE = VoiceSpace.load()
ANN, BOB, CAROL = (
    (v / np.linalg.norm(v)).astype(np.float32) for v in np.random.default_rng(3).standard_normal((3, 192))
)


def prints(*voices: FloatArray) -> FloatArray:
    """One a piece, each a little off."""
    off = np.random.default_rng(1).standard_normal((len(voices), 192)) / 40
    return (np.stack(voices) + off).astype(np.float32)


def heard_as_one(pieces: FloatArray, mask: BoolArray) -> FloatArray:
    mean = pieces[mask].mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


@pytest.mark.parametrize(
    ("voices", "expected"),
    [
        ([ANN] * 12, None),
        ([ANN] * 7 + [BOB] * 5, 7),
        ([ANN] * 5 + [BOB] + [ANN] * 6, None),  # a guest
        ([ANN, BOB] * 6, None),  # two who talk in turns
        ([ANN] * 2 + [BOB] * 2, None),  # too little to tell
        ([ANN], None),
        ([], None),
    ],
)
def test_a_voice_takes_over_for_good(voices: list[FloatArray], expected: int | None) -> None:
    pieces = prints(*voices) if voices else np.zeros((0, 192), np.float32)
    weight_s = np.full(len(voices), 1.9)
    assert taken_over_at(weight_s, lambda mask: heard_as_one(pieces, mask), SPACE) == expected


def test_of_two_voices_the_one_that_is_passed_on_is_divided() -> None:
    voices = [ANN, CAROL] * 6 + [BOB, CAROL] * 6
    pieces = prints(*voices)
    labels = np.array([0, 1] * 12)
    found = passed_on(
        labels, np.full(24, 1.9), lambda masks: np.stack([heard_as_one(pieces, m) for m in masks]), SPACE
    )
    assert found.tolist() == [0, 1] * 6 + [2, 1] * 6


def test_turns_of_the_voice_that_takes_over_get_a_name_of_their_own() -> None:
    turns = [Turn(f"speaker_{n % 2}", n % 2, 3.2 * n, 3.2 * n + 1.92) for n in range(24)]
    active = np.ones(2500, np.bool_)

    def print_of(frames: BoolArray) -> FloatArray:
        early = frames[: round(12 * 3.2 / 0.032)].sum() / frames.sum()
        return (early * ANN + (1 - early) * BOB).astype(np.float32)

    found = with_handover(turns, 1, active, print_of, SPACE)
    assert [turn.speaker for turn in found] == ["speaker_0", "speaker_1"] * 6 + ["speaker_0", "speaker_2"] * 6
    assert with_handover(turns, 1, active, lambda _: ANN, SPACE) == tuple(turns)


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
