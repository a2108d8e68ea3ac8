"""Convolutions of CAM++ in 8 bits, which takes half the time.

Of the layers of voice prints, for processors that multiply bytes (`in_bytes`): weights by output channel,
what flows between them in ranges that `benchmarks/int8_ranges.py` has measured on speech. Of the layers of
the member `campplus`, for every processor alike (`quantised`), since the heads on them were trained so.
Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process
from scipy.signal import lfilter

from ensemble.inference.spectrogram import voice_spectra
from ensemble.model_errors import ModelIncompatible

INT8_OPERATORS = ("Conv", "Relu", "Add", "Mul")
Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value of each tensor that is kept in 8 bits, by its name in the graph."""


def in_bytes(graph: Path, ranges: Ranges) -> bytes:
    """The ONNX graph with those operations in 8 bits of which each input and output has a range.

    Raises:
        ModelIncompatible: when a range is of no tensor of the graph: they belong to another export.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    weights = {tensor.name for tensor in model.graph.initializer}
    chosen = [
        node
        for node in model.graph.node
        if node.op_type in INT8_OPERATORS
        and all(name in ranges or name in weights for name in (*node.input, *node.output))
    ]
    if unknown := set(ranges) - {name for node in chosen for name in (*node.input, *node.output)}:
        raise ModelIncompatible(
            f"{graph.name}: {len(unknown)} of {len(ranges)} ranges are of none of its operations, the first "
            f"{min(unknown)!r}: run benchmarks/int8_ranges.py"
        )
    known = {
        name: TensorData(lowest=np.float32(min(0.0, low)), highest=np.float32(max(0.0, high)))
        for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, known),
        nodes_to_quantize=[node.name for node in chosen],
        nodes_to_exclude=[],
        op_types_to_quantize=list(INT8_OPERATORS),
        extra_options={"WeightSymmetric": True},
    )
    quantizer.quantize_model()
    written: bytes = quantizer.model.model.SerializeToString()
    return written


def quantised(graph: Path, target: Path) -> None:
    """Write a copy of an ONNX file of Kaldi's log-mels "mel" with its convolutions in 8 bits.

    Ranges are those that :func:`speech_like` sound gives: with real speech they are no better. Weights have
    7 bits, so that no processor's 16-bit sums overflow and all answer alike. The small convolutions of
    context masks stay as they are.
    """

    class Sounds(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            seen = voice_spectra(speech_like(16))
            self.rest = iter([seen.of(i)[None] for i in range(16)])

        def get_next(self) -> dict[str, object] | None:
            mel = next(self.rest, None)
            return None if mel is None else {"mel": mel}

    folded = graph.with_suffix(".folded.onnx")
    quant_pre_process(graph, folded, skip_symbolic_shape=True)
    nodes = [
        node.name
        for node in onnx.load(folded).graph.node
        if node.op_type == "Conv"
        and not node.name.partition("cam_layer/")[2].startswith(("linear1/", "linear2/"))
    ]
    quantize_static(
        folded,
        target,
        Sounds(),
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        nodes_to_quantize=nodes,
    )
    folded.unlink()


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
