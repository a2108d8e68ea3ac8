"""Voice activity: in which 32 ms frames of a channel somebody speaks.

The detector is Silero VAD 6 (MIT) at 8 kHz. Its weights are read from the file inside the `silero-vad`
wheel; the package itself is never imported because that pulls torch. The wheel's graph takes one frame at
a time. Here its layers before the recurrent one take many frames in one matrix product, and that one
takes many steps in one call: the same probabilities, seven times as fast. The recurrent
state makes one call a strictly serial job, so a file is folded into parallel streams of at least
15 s with a half-second warm-up: measured twice as fast as one stream per channel, and no worse on
real calls (benchmarks/RESULTS.md). Frames that are too quiet to hold speech are never shown to it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from callanalytics.records import BoolArray, FloatArray
from ensemble.inference.device import open_session
from ensemble.inference.model_cache import package_file
from ensemble.model_errors import ModelIncompatible

if TYPE_CHECKING:
    import onnxruntime

IntArray = npt.NDArray[np.int64]

SAMPLE_RATE_HZ = 8000
FRAME_SAMPLES = 256  # what the 8 kHz model takes at once
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
_CONTEXT_SAMPLES = 32  # the end of the frame before, as the model was trained
_WINDOW_SAMPLES, _WINDOW_HOP = 128, 64  # four short-time spectra a frame, its end mirrored by half a window
_N_HIDDEN = 128
_FRAMES_AT_ONCE = 512  # of all streams: what they need lies in the second-level cache
_WARM_UP_FRAMES = 16
_MIN_STREAM_FRAMES = round(15 / FRAME_S)
_MAX_STREAMS = 64
SILENCE_DB = -100.0  # level of a frame of zeros
# Below this no telephone codec carries intelligible speech (8-bit mu-law steps end at -72 dBFS).
AUDIBLE_DB = -66.0
# A turn is one voice without a pause of half a second or more: the convention of the reference
# transcripts of HarperValleyBank, where no two utterances of one speaker are closer than 0.48 s.
BRIDGE_S = 0.5
# Shorter than any word of telephone speech: clicks, breaths.
MIN_TURN_S = 0.2
# The detector reports the first frame after the onset; half its frame is added on both sides.
PAD_S = 0.05


def frame_levels_db(samples: FloatArray) -> FloatArray:
    """Level of every frame: (n_channels, n) samples -> (n_channels, n_frames) dB below full scale.

    The mean of a frame is removed first, so a channel with a constant offset is silent.
    """
    n_channels, n = samples.shape
    n_whole = n // FRAME_SAMPLES
    whole = samples[:, : n_whole * FRAME_SAMPLES].reshape(n_channels, n_whole, FRAME_SAMPLES)
    power = np.einsum("cft,cft->cf", whole, whole) / FRAME_SAMPLES - whole.mean(axis=2) ** 2
    rest = samples[:, n_whole * FRAME_SAMPLES :]
    if rest.shape[1]:
        power = np.concatenate([power, rest.var(axis=1, keepdims=True)], axis=1)
    floor = np.float32(10 ** (SILENCE_DB / 10))
    levels: FloatArray = 10 * np.log10(np.maximum(power, floor), dtype=np.float32)
    return levels


@dataclass(frozen=True)
class VoiceDetector:
    """Silero VAD, loaded. `session` is an ONNX Runtime session of `_many_frames`."""

    session: onnxruntime.InferenceSession

    @classmethod
    def load(cls, n_threads: int = 1) -> VoiceDetector:
        """Load the model from the installed wheel. Raises ModelMissing when it is not there."""
        path = package_file("silero_vad", "data/silero_vad.onnx")
        return cls(open_session(_many_frames(path), n_threads))

    def probabilities(self, samples: FloatArray, levels_db: FloatArray) -> FloatArray:
        """Probability of speech per frame.

        Args:
            samples: (n_channels, n) at 8 kHz.
            levels_db: (n_channels, n_frames) from `frame_levels_db`; quiet frames get 0.

        Returns:
            (n_channels, n_frames), 0..1.
        """
        result = np.zeros(levels_db.shape, np.float32)
        audible = widen(levels_db > AUDIBLE_DB, round(0.5 / FRAME_S))
        channel, frame = np.nonzero(audible)
        if len(frame) == 0:
            return result
        pieces = _fold(np.flatnonzero(np.append(True, channel[1:] != channel[:-1])), len(frame))
        # (n_steps, n_streams): which audible frame each stream is given at each step; -1 before its start.
        order = _schedule(pieces)
        n_streams = order.shape[1]
        hidden, cell = np.zeros((2, 1, n_streams, _N_HIDDEN), np.float32)
        found = np.empty((*order.shape, 1), np.float32)
        n_at_once = -(-_FRAMES_AT_ONCE // n_streams)
        for step in range(0, len(order), n_at_once):
            picked = order[step : step + n_at_once].reshape(-1)
            block = _gather(samples, channel[picked], frame[picked], live=picked >= 0)
            given = {"windows": _windows(block), "hidden": hidden, "cell": cell}
            found[step : step + n_at_once], hidden, cell = self.session.run(None, given)
        told = order >= 0
        told[:_WARM_UP_FRAMES] = False
        at = order[told]
        result[channel[at], frame[at]] = found[told, 0]
        return result


def _windows(block: FloatArray) -> FloatArray:
    """Four windows (n, 4, 128) of frames with their context (n, 288), the end mirrored as in the model."""
    mirrored = np.concatenate([block, block[:, -2 : -2 - _WINDOW_HOP // 2 : -1]], axis=1)
    every = np.lib.stride_tricks.sliding_window_view(mirrored, _WINDOW_SAMPLES, axis=1)
    return np.ascontiguousarray(every[:, ::_WINDOW_HOP])


def _many_frames(path: Path) -> bytes:
    """Silero's branch for 8 kHz as an ONNX graph of many frames.

    "windows" (n_steps * n_streams, 4, 128), "hidden" and "cell" (1, n_streams, 128) -> "probability"
    (n_steps, n_streams, 1) and the two states after the last step. Its convolutions over the four spectra of
    a frame become matrix products over all frames, with the taps that meet padding left out.

    Raises:
        ModelIncompatible: the file holds another network than that of version 6.2.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights: dict[str, FloatArray] = {}
    for node in onnx.load(path).graph.node:
        for branch in (a.g for a in node.attribute if node.op_type == "If" and a.name == "else_branch"):
            for constant in (inner for inner in branch.node if inner.op_type == "Constant"):
                name = constant.output[0].rpartition("Inline_0__")[2]
                weights[name] = numpy_helper.to_array(constant.attribute[0].t)
    try:
        # Taps, then inputs, by outputs: (3, n_in, n_out).
        taps = [weights[f"encoder.{k}.reparam_conv.weight"].transpose(2, 1, 0) for k in range(4)]
        constants = {
            "basis": weights["stft.forward_basis_buffer"][:, 0].T,
            "taps0": taps[0].reshape(195, 128),
            "taps1": taps[1].reshape(384, 64),
            "taps2": taps[2][1:].reshape(128, 64),
            "taps3": taps[3][1],
            **{f"bias{k}": weights[f"encoder.{k}.reparam_conv.bias"] for k in range(4)},
            "W": _gates(weights["decoder.rnn.weight_ih"])[None],
            "R": _gates(weights["decoder.rnn.weight_hh"])[None],
            "B": np.concatenate([_gates(weights[f"decoder.rnn.bias_{k}"]) for k in ("ih", "hh")])[None],
            "last": weights["decoder.decoder.2.weight"].reshape(_N_HIDDEN, 1),
            "last_bias": weights["decoder.decoder.2.bias"],
        }
    except (KeyError, ValueError) as error:
        raise ModelIncompatible(
            f"{path}: expected the network of silero-vad 6.2, found another one ({error}): calls cannot be "
            'diarized. Install it: pip install "silero-vad>=6.2,<6.3".'
        ) from error
    constants |= {
        "halves": np.array([65, 65]),
        "one_more": np.array([0, 0, 0, 0, 1, 0]),  # a spectrum of zeros, number 4, as padding
        "around4": np.array([[4, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]),
        "around2": np.array([[4, 0, 1], [1, 2, 3]]),
        "rows4": np.array([-1, 4, 195]),
        "rows2": np.array([-1, 2, 384]),
        "rows1": np.array([-1, 128]),
        "unknown": np.array([-1]),
        "width": np.array([_N_HIDDEN]),
        "direction": np.array([1]),
    }
    nodes = []

    def add(operator: str, given: str, found: str, **options: Any) -> None:
        nodes.append(helper.make_node(operator, given.split(" "), found.split(), **options))

    def layer(given: str, number: int, found: str) -> None:
        add("MatMul", f"{given} taps{number}", f"product{number}")
        add("Add", f"product{number} bias{number}", f"sum{number}")
        add("Relu", f"sum{number}", found)

    add("MatMul", "windows basis", "spectrum")
    add("Split", "spectrum halves", "real imaginary", axis=2)
    add("Mul", "real real", "real2")
    add("Mul", "imaginary imaginary", "imaginary2")
    add("Add", "real2 imaginary2", "power")
    add("Sqrt", "power", "magnitude")
    add("Pad", "magnitude one_more", "padded0")
    add("Gather", "padded0 around4", "gathered0", axis=1)
    add("Reshape", "gathered0 rows4", "given0")
    layer("given0", 0, "found0")
    add("Pad", "found0 one_more", "padded1")
    add("Gather", "padded1 around2", "gathered1", axis=1)
    add("Reshape", "gathered1 rows2", "given1")
    layer("given1", 1, "found1")
    add("Reshape", "found1 rows1", "given2")
    layer("given2", 2, "found2")
    layer("found2", 3, "found3")
    add("Shape", "hidden", "n_streams", start=1, end=2)
    add("Concat", "unknown n_streams width", "by_step", axis=0)
    add("Reshape", "found3 by_step", "steps")
    add("LSTM", "steps W R B  hidden cell", "every hidden_after cell_after", hidden_size=_N_HIDDEN)
    add("Squeeze", "every direction", "outputs")
    add("Relu", "outputs", "positive")
    add("MatMul", "positive last", "product")
    add("Add", "product last_bias", "logit")
    add("Sigmoid", "logit", "probability")

    def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "silero",
        [value("windows", "n", 4, _WINDOW_SAMPLES)]
        + [value(name, 1, "n_streams", _N_HIDDEN) for name in ("hidden", "cell")],
        [value("probability", "n_steps", "n_streams", 1)]
        + [value(name, 1, "n_streams", _N_HIDDEN) for name in ("hidden_after", "cell_after")],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in constants.items()],
    )
    written: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8
    ).SerializeToString()
    return written


def _gates(of_torch: FloatArray) -> FloatArray:
    """Rows in torch's order (input, forget, cell, output) in that of ONNX (input, output, forget, cell)."""
    entered, forgotten, cell, passed = np.split(of_torch, 4)
    return np.concatenate([entered, passed, forgotten, cell])


def _fold(channel_starts: IntArray, n_audible: int) -> list[tuple[int, int, int]]:
    """Cut the list of audible frames into pieces (warm-up, start, end) for parallel streams.

    Neither a piece nor its warm-up crosses into another channel.
    """
    bounds = [*channel_starts.tolist(), n_audible]
    longest = max(b - a for a, b in itertools.pairwise(bounds))
    n_per_channel = max(1, min(_MAX_STREAMS, longest // _MIN_STREAM_FRAMES))
    length = -(-longest // n_per_channel)
    return [
        (max(a, at - _WARM_UP_FRAMES), at, min(at + length, b))
        for a, b in itertools.pairwise(bounds)
        for at in range(a, b, length)
    ]


def _schedule(pieces: list[tuple[int, int, int]]) -> IntArray:
    """Frame index per step and stream; all streams reach their start together, idle ones get -1."""
    n_steps = _WARM_UP_FRAMES + max(end - start for _, start, end in pieces)
    order = np.full((n_steps, len(pieces)), -1, np.int64)
    for stream, (first, start, end) in enumerate(pieces):
        order[_WARM_UP_FRAMES - (start - first) : _WARM_UP_FRAMES + end - start, stream] = range(first, end)
    return order


def _gather(samples: FloatArray, channel: IntArray, frame: IntArray, *, live: BoolArray) -> FloatArray:
    """The input of each stream: (n_streams, context + frame) samples, zeros outside the recording.

    Gathers without a padded copy of the whole call, which may be hours long.
    """
    n = samples.shape[1]
    at = (frame * FRAME_SAMPLES - _CONTEXT_SAMPLES)[:, None] + np.arange(_CONTEXT_SAMPLES + FRAME_SAMPLES)
    block: FloatArray = samples.reshape(-1).take(channel[:, None] * n + at, mode="clip")
    if not live.all() or at[:, 0].min() < 0 or at[:, -1].max() >= n:
        block *= (at >= 0) & (at < n) & live[:, None]
    return block


def above(probability: FloatArray, *, on: float, off: float) -> BoolArray:
    """Frames over `off` that belong to a run reaching `on` (two-threshold decision), 1-d."""
    chosen = np.zeros(len(probability), np.bool_)
    for start, end in runs(probability > off):
        if probability[start:end].max() > on:
            chosen[start:end] = True
    return chosen


def runs(mask: BoolArray) -> IntArray:
    """Half-open (start, end) rows of every run of True in a 1-d mask: (n_runs, 2)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)


def widen(mask: BoolArray, n_frames: int) -> BoolArray:
    """Grow every run of True along the last axis by `n_frames` on both sides."""
    counts = np.cumsum(mask, axis=-1, dtype=np.int64)
    n = mask.shape[-1]
    at = np.arange(n)
    upper = counts[..., np.minimum(at + n_frames, n - 1)]
    lower = np.where(at > n_frames, counts[..., np.maximum(at - n_frames - 1, 0)], 0)
    grown: BoolArray = upper > lower
    return grown


def stretches(
    mask: BoolArray, duration_s: float, *, bridge_s: float = BRIDGE_S, min_s: float = MIN_TURN_S
) -> list[tuple[float, float]]:
    """Half-open (start_s, end_s) of the turns in a 1-d mask of 32 ms frames."""
    found = runs(mask)
    if len(found) == 0:
        return []
    pause_s = (found[1:, 0] - found[:-1, 1]) * FRAME_S
    breaks = np.flatnonzero(pause_s >= bridge_s)
    starts = found[np.append(0, breaks + 1), 0] * FRAME_S
    ends = found[np.append(breaks, len(found) - 1), 1] * FRAME_S
    kept = ends - starts >= min_s
    return [
        (round(max(0.0, float(start) - PAD_S), 3), round(min(duration_s, float(end) + PAD_S), 3))
        for start, end in zip(starts[kept], ends[kept], strict=True)
    ]
