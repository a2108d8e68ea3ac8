"""Convolutions of CAM++ in 8 bits, which takes half the time.

Weights by output channel, what flows between them in ranges that `benchmarks/int8_ranges.py` has measured on
speech; both uses of the network have them. Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from ensemble.model_errors import ModelIncompatible

INT8_OPERATORS = ("Conv", "Relu", "Add", "Mul")
Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value of each tensor that is kept in 8 bits, by its name in the graph."""


def in_bytes(graph: Path, ranges: Ranges, *, alike: bool = False) -> bytes:
    """The ONNX graph with those operations in 8 bits of which each input and output has a range.

    With `alike` the weights have 7 bits, so that the 16-bit sums of no processor overflow and all answer
    alike; with 8 bits, which are nearer to float, only processors with VNNI do.

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
        reduce_range=alike,
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
