"""When turns begin and end: against the truth, to less than a frame; and what is never part of one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rttm_reader import read_rttm
from telephone import MUSIC_WITHIN_S, RATE_HZ, FloatArray, music, noisy, tone

from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.one_channel import embed_speech
from callanalytics.diarize.segmentation import N_FRAMES, POWERSET
from callanalytics.diarize.segments import to_rttm
from callanalytics.diarize.vad import (
    FRAME_S,
    FRAME_SAMPLES,
    MIN_TURN_S,
    PAD_S,
    frame_levels_db,
    stretches,
)
from callanalytics.records import ChannelLayout, Sound

TRUTH = {0: [(1.013, 3.871), (9.402, 12.007), (17.62, 19.3)], 1: [(4.809, 8.33), (13.111, 16.77)]}
"""Seconds of speech of each side; no two of one side are closer than half a second."""
LENGTH_S = 20


def buzz(seconds: float, rng: np.random.Generator) -> FloatArray:
    """Sound of changing pitch with some hiss: what no rule takes for a tone or music."""
    n = round(seconds * RATE_HZ)
    pitch_hz = rng.uniform(90, 220, n // 400 + 1).repeat(400)[:n]
    wave = np.sign(np.sin(2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ)) + rng.normal(0, 0.5, n)
    return (0.1 * wave).astype(np.float32)


def spoken(truth: dict[int, list[tuple[float, float]]], rng: np.random.Generator) -> FloatArray:
    """(2, n) sound of both sides, with line noise."""
    sound = 1e-4 * rng.standard_normal((2, LENGTH_S * RATE_HZ)).astype(np.float32)
    for side, turns in truth.items():
        for start_s, end_s in turns:
            first = round(start_s * RATE_HZ)
            wave = buzz(end_s - start_s, rng)
            sound[side, first : first + len(wave)] += wave
    return sound


class Detecting(SpeechModels):
    """Speech models whose detector gives every frame above a level this probability of speech."""

    def __init__(self, share: float, above_db: float = -60.0) -> None:
        super().__init__()

        def probabilities(samples: FloatArray, levels_db: FloatArray) -> FloatArray:
            return np.where(levels_db > above_db, share, 0).astype(np.float32)

        # The property is cached, so this is what is found.
        self.detector = SimpleNamespace(probabilities=probabilities)  # type: ignore[assignment]


def test_turns_and_rttm_lie_at_their_times_to_less_than_half_a_frame(rng: np.random.Generator) -> None:
    """Frames begin where they begin, so a single border may be a frame off, but on average none is.

    A turn is half a frame's padding longer on either side.
    """
    sound = spoken(TRUTH, rng)
    found = diarize(sound, RATE_HZ, models=Detecting(0.99))
    assert found.layout is ChannelLayout.STEREO
    for side, turns in TRUTH.items():
        own = [turn for turn in found.turns if turn.channel == side]
        error_s = np.array([(t.start_s, t.end_s) for t in own]) - np.array(
            [(a - PAD_S, b + PAD_S) for a, b in turns]
        )
        assert np.abs(error_s).max() <= FRAME_S + 1e-3
        assert abs(error_s.mean()) < 0.3 * FRAME_S, "late or early as a whole"
    written = [(turn.start_s, turn.start_s + turn.duration_s) for turn in read_rttm(to_rttm(found, "x"))]
    np.testing.assert_allclose(written, [(turn.start_s, turn.end_s) for turn in found.turns], atol=1.1e-3)


def test_a_mask_of_frames_gives_its_own_times() -> None:
    mask = np.zeros(200, np.bool_)
    mask[10:40] = mask[100:130] = True
    assert stretches(mask, 6.4) == [(0.27, 1.33), (3.15, 4.21)]
    assert stretches(np.ones(200, np.bool_), 6.4) == [(0.0, 6.4)], "no turn leaves the call"


@pytest.mark.parametrize(("n_frames", "is_turn"), [(6, False), (7, True)])
def test_a_turn_is_as_long_as_the_shortest_word(n_frames: int, is_turn: bool) -> None:
    assert 6 * FRAME_S < MIN_TURN_S < 7 * FRAME_S
    mask = np.zeros(100, np.bool_)
    mask[50 : 50 + n_frames] = True
    assert bool(stretches(mask, 3.2)) is is_turn


@pytest.mark.parametrize(("pause", "n_turns"), [(15, 1), (16, 2)])
def test_a_pause_of_half_a_second_ends_a_turn(pause: int, n_turns: int) -> None:
    mask = np.ones(100, np.bool_)
    mask[40 : 40 + pause] = False
    assert len(stretches(mask, 3.2)) == n_turns


@pytest.mark.parametrize("kind", [Sound.TONE, Sound.MUSIC])
def test_tones_and_music_are_no_turns_whatever_the_detector_says(
    kind: Sound, rng: np.random.Generator
) -> None:
    """The detector takes them for speech, though not surely; the rule alone keeps them out."""
    sound = spoken({0: [(1, 4)], 1: [(6, 9), (18, 19)]}, rng)
    played = tone((440, 480), 6) if kind is Sound.TONE else music(6)
    sound[0, 11 * RATE_HZ : 17 * RATE_HZ] = noisy(played, rng)
    found = diarize(sound, RATE_HZ, models=Detecting(0.8))
    (span,) = [span for span in found.sounds if span.kind is kind]
    assert span.channel == 0
    late_s, early_s = (0.0, 0.0) if kind is Sound.TONE else MUSIC_WITHIN_S
    assert span.start_s - late_s == pytest.approx(11, abs=1.5 * FRAME_S)
    assert span.end_s + early_s == pytest.approx(17, abs=1.5 * FRAME_S)
    lasting = [t for t in found.turns if t.channel == 0 and t.end_s > 11.6 and t.start_s < 16.4]
    assert lasting == []
    assert any(t.channel == 0 and t.start_s < 4 for t in found.turns)


class Segmenting(Detecting):
    """The same, and a segmenter that hears one voice in everything, as surely."""

    def __init__(self, share: float, segmented: float) -> None:
        super().__init__(share)

        def windows(samples: FloatArray, starts: list[int]) -> FloatArray:
            found = np.zeros((len(starts), N_FRAMES, len(POWERSET)), np.float32)
            found[:, :, 0], found[:, :, 1] = 1 - segmented, segmented
            return found

        self.segmenter = SimpleNamespace(windows=windows)  # type: ignore[assignment]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("detected", "segmented", "is_heard"),
    [(0.5, 0.9, True), (0.8, 0.9, True), (0.2, 0.9, False), (0.8, 0.3, False)],
)
def test_who_speaks_over_music_is_heard_where_both_networks_hear_a_voice(
    channels: int, detected: float, segmented: float, is_heard: bool, rng: np.random.Generator
) -> None:
    """The whole stretch was no speech, and a caller under loud music was gone."""
    sound = spoken({0: [(1, 4)], 1: [(6, 9), (18, 19)]}, rng)[-channels:]
    sound[0, 9 * RATE_HZ : 11 * RATE_HZ] = noisy(np.zeros(2 * RATE_HZ, np.float32), rng)
    sound[0, 11 * RATE_HZ : 17 * RATE_HZ] = noisy(music(6), rng)
    found = diarize(sound, RATE_HZ, models=Segmenting(detected, segmented))
    inside_s = sum(min(t.end_s, 16) - max(t.start_s, 12) for t in found.turns if t.start_s < 16 < t.end_s + 4)
    assert (inside_s > 3) is is_heard, found.turns
    assert "music" in found.quality


def test_music_on_the_side_that_nobody_speaks_on_is_noted(rng: np.random.Generator) -> None:
    """The note went with the side, although somebody may have spoken under the music."""
    sound = spoken({0: [], 1: [(6, 9), (18, 19)]}, rng)
    sound[0] = noisy(music(LENGTH_S), rng)
    found = diarize(sound, RATE_HZ, models=Segmenting(0.8, 0.3))
    assert found.layout is ChannelLayout.ONE_SIDED
    assert {"one_sided", "music"} <= set(found.quality)


@pytest.mark.parametrize(("stopped_s", "is_noted"), [(0, False), (12, False), (16, True)])
@pytest.mark.parametrize("side", [0, 1])
def test_a_side_that_stops_before_the_other_is_noted(
    side: int, stopped_s: float, is_noted: bool, rng: np.random.Generator
) -> None:
    sound = spoken({side: [(0.5, 3)], 1 - side: [(4, 6), (8, 12), (18, 19)]}, rng)
    sound[side, round((LENGTH_S - stopped_s) * RATE_HZ) :] = 0
    assert ("side_stops" in diarize(sound, RATE_HZ, models=Detecting(0.99)).quality) is is_noted


def test_sound_that_nothing_is_recognised_in_is_noted(rng: np.random.Generator) -> None:
    """Samples in another coding than the header says are loud noise, and were a call without speech."""
    noise = (0.2 * rng.standard_normal((1, 20 * RATE_HZ))).astype(np.float32)
    assert set(diarize(noise, RATE_HZ, models=Detecting(0.0)).quality) == {"no_speech", "unknown_sound"}
    for level in (0.0, 0.002):
        quiet = noise * np.float32(level)
        assert diarize(quiet, RATE_HZ, models=Detecting(0.0)).quality == ("no_speech",)
    assert "unknown_sound" not in diarize(spoken(TRUTH, rng), RATE_HZ, models=Detecting(0.99)).quality


def test_on_one_channel_no_piece_of_speech_lies_in_a_blocked_stretch(rng: np.random.Generator) -> None:
    # Two seconds without it: a sound that never changes is no speech.
    sound = noisy(np.concatenate([np.zeros(2 * RATE_HZ, np.float32), buzz(8, rng)]), rng)
    levels_db = frame_levels_db(sound[None])[0]
    sure = np.ones(len(levels_db), np.float32)
    blocked = np.zeros(len(levels_db), np.bool_)
    models = SpeechModels()
    nothing = np.zeros_like(blocked)
    free = embed_speech(sound, levels_db, sure, blocked, nothing, models)
    blocked[3 * RATE_HZ // FRAME_SAMPLES : 6 * RATE_HZ // FRAME_SAMPLES] = True
    kept = embed_speech(sound, levels_db, sure, blocked, nothing, models)

    def inside(pieces: Any) -> int:
        return sum(int(blocked[a:b].sum()) for a, b in pieces.span)

    assert inside(free) > 40
    assert inside(kept) == 0
    assert len(kept.span) > 0
