"""Voice activity: levels, folding into streams, masks, and real calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from telephone import RATE_HZ, music, noisy, silence, tone

from callanalytics.diarize.vad import (
    FRAME_SAMPLES,
    VoiceDetector,
    above,
    frame_levels_db,
    runs,
    widen,
)
from ensemble.inference.device import open_session
from ensemble.inference.shipped_networks import package_file


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    return VoiceDetector.load()


def test_levels_are_decibels_below_full_scale_and_ignore_an_offset() -> None:
    square = np.tile(np.array([0.1, -0.1], np.float32), 2 * FRAME_SAMPLES)
    levels = frame_levels_db(np.stack([square, square + 0.3]))
    assert levels.shape == (2, 4)
    assert np.allclose(levels, -20, atol=0.1)
    assert frame_levels_db(np.full((1, 300), 0.5, np.float32)).max() <= -60


@pytest.mark.parametrize("n", [0, 1, 31, 255, 256, 257, 4000])
def test_any_length_gives_one_value_per_started_frame(detector: VoiceDetector, n: int) -> None:
    samples = np.full((2, n), 0.01, np.float32)
    levels = frame_levels_db(samples)
    assert levels.shape == (2, -(-n // FRAME_SAMPLES))
    assert detector.probabilities(samples, levels).shape == levels.shape


def test_tones_music_and_noise_are_not_speech(detector: VoiceDetector, rng: np.random.Generator) -> None:
    samples = noisy(np.concatenate([tone((440, 480), 4), music(6), silence(3)]), rng)[None]
    probability = detector.probabilities(samples, frame_levels_db(samples))
    assert (probability > 0.5).mean() < 0.02


def test_many_frames_at_once_give_what_the_model_gives_one_by_one(detector: VoiceDetector, rng) -> None:
    """The graph of the wheel itself, frame by frame; sound between speech and none.

    A stream begins with half a second of silence.
    """
    swell = np.sin(np.arange(4 * RATE_HZ) / RATE_HZ * 2 * np.pi * 1.5) ** 2
    pitch_hz = 140 + 0.3 * rng.standard_normal(len(swell)).cumsum()
    buzz = np.sign(np.sin(np.cumsum(2 * np.pi * pitch_hz / RATE_HZ)))
    samples = (0.1 * swell * buzz + 0.005 * rng.standard_normal(len(swell))).astype(np.float32)
    wheel = open_session(package_file("silero_vad", "data/silero_vad.onnx"), 1)
    context, state, expected = np.zeros(32, np.float32), np.zeros((2, 1, 128), np.float32), []
    for frame in np.append(np.zeros(16 * FRAME_SAMPLES, np.float32), samples).reshape(-1, FRAME_SAMPLES):
        given = np.concatenate([context, frame])
        probability, state = wheel.run(None, {"input": given[None], "state": state, "sr": np.array(RATE_HZ)})
        expected.append(probability[0, 0])
        context = frame[-32:]
    found = detector.probabilities(samples[None], frame_levels_db(samples[None]))[0]
    assert max(expected) > 5 * min(expected)
    assert np.abs(found - expected[16:]).max() < 1e-4


def test_streams_give_what_one_serial_pass_gives(detector: VoiceDetector, data_dir: Path) -> None:
    """A long file is folded into parallel streams; its decisions are those of the file in one piece."""
    path = sorted((data_dir / "calls" / "harper-valley" / "stereo").glob("*.wav"))[0]
    one = np.ascontiguousarray(sf.read(path, dtype="float32")[0].T[:, : 14 * RATE_HZ])
    serial = detector.probabilities(one, frame_levels_db(one))  # too short to fold
    several = np.tile(one, (1, 5))
    folded = detector.probabilities(several, frame_levels_db(several))
    n = serial.shape[1]
    assert np.mean((folded[:, :n] > 0.5) != (serial > 0.5)) < 0.02
    assert (serial > 0.5).any()


def test_a_channel_is_heard_as_if_it_were_alone(detector: VoiceDetector, data_dir: Path, rng) -> None:
    """The first channel ends in the middle of speech; the second one is noise and has none."""
    path = sorted((data_dir / "calls" / "harper-valley" / "mono").glob("*.wav"))[0]
    call = sf.read(path, dtype="float32")[0]
    heard = detector.probabilities(call[None], frame_levels_db(call[None]))[0] > 0.9
    spoken = next(end for start, end in runs(heard).tolist() if end - start > 30) - 5
    call = call[: spoken * FRAME_SAMPLES]
    both = np.stack([call, 0.01 * rng.standard_normal(len(call))]).astype(np.float32)
    probability = detector.probabilities(both, frame_levels_db(both))[1]
    alone = detector.probabilities(both[1:], frame_levels_db(both[1:]))[0]
    assert probability.max() < 0.5
    assert np.abs(probability - alone).max() < 1e-3


def test_two_thresholds_keep_weak_frames_only_beside_strong_ones() -> None:
    probability = np.array([0.4, 0.6, 0.4, 0.1, 0.4, 0.4, 0.1], np.float32)
    assert above(probability, on=0.5, off=0.35).tolist() == [True, True, True, False, False, False, False]


@given(st.lists(st.booleans(), max_size=60))
def test_runs_rebuild_the_mask(flags: list[bool]) -> None:
    mask = np.array(flags, np.bool_)
    rebuilt = np.zeros(len(mask), np.bool_)
    for start, end in runs(mask):
        assert mask[start:end].all()
        assert not rebuilt[start:end].any()
        rebuilt[start:end] = True
    assert (rebuilt == mask).all()


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 70))
def test_widening_reaches_exactly_so_far(flags: list[bool], n: int) -> None:
    mask = np.array(flags, np.bool_)
    true_at = np.flatnonzero(mask)
    expected = [len(true_at) > 0 and np.abs(true_at - k).min() <= n for k in range(len(mask))]
    assert widen(mask, n).tolist() == expected
