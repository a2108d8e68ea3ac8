"""CAM++ in 8 bits, which takes less than half the time: ONNX graphs made of its weights.

Weights by output channel, what flows between them in ranges that `benchmarks/int8_ranges.py` has measured on
speech; both uses of the network have them. The first convolution, and the small layers that weigh the
context, stay in float. Channels lie last, as the 8-bit convolutions of ONNX Runtime want them: in torch's
order a tenth of the time goes into turning round what flows. Jacob et al., "Quantization and Training of
Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ensemble.members import campplus
from ensemble.model_errors import ModelIncompatible

Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value of what flows between layers, by its name in `benchmarks/int8_ranges.py`."""
_Array = NDArray[Any]
_MICROSOFT = "com.microsoft"
_MOST, _MOST_ALIKE = 127, 64
_EPSILON = 1e-5  # of the deviation that the member pools (`campplus.Campplus`)


def frames_in_bytes(network: campplus.CamPlusPlus, ranges: Ranges, *, signed: bool) -> bytes:
    """All layers before pooling: "features" (n, time, 80) -> "hidden" (n, time / 2, 512).

    Its weights have 8 bits. Signed ones are fast with VNNI; without it their 16-bit sums overflow. The same
    unsigned, 128 higher as their zero point is, have the same 32-bit sums on every processor.

    Raises:
        ModelIncompatible: when a range is missing: they belong to another export.
    """
    graph = _Graph(ranges, _MOST, zero=0 if signed else 128)
    x = _front_end(graph, network, "features")
    graph.add("Relu", _blocks(graph, x, network, 3, *_segments(graph, x)[1:]), found="hidden")
    return graph.written("features", "hidden", "rows", 512)


def emotion_in_bytes(network: campplus.CamPlusPlus, ranges: Ranges) -> bytes:
    """The layers that the member uses: "mel" (n, time, 80) -> "pooled" (n, 1024).

    Its weights have 7 bits, so that the 16-bit sums of no processor overflow and all answer alike.

    Raises:
        ModelIncompatible: when a range is missing: they belong to another export.
    """
    graph = _Graph(ranges, _MOST_ALIKE)
    add, time = graph.add, graph.constant("time", np.array([1]))
    x = _front_end(graph, network, "mel")
    average, *segments = _segments(graph, x)
    x = _blocks(graph, x, network, 2, *segments)
    mean = add("MatMul", average, x)  # as a product, since a mean adds up in another order in another batch
    above = add("Sub", x, mean)
    variance = add("MatMul", average, add("Mul", above, above))
    deviation = add("Sqrt", add("Add", variance, graph.constant("epsilon", np.float32(_EPSILON))))
    add("Squeeze", add("Concat", mean, deviation, axis=2), time, found="pooled")
    return graph.written("mel", "pooled", 1024)


class _Graph:
    """Nodes and constants of an ONNX graph. What flows is named, and where it is in 8 bits, by its range."""

    def __init__(self, ranges: Ranges, most: int, zero: int = 0) -> None:
        self._ranges, self._most, self._zero = ranges, most, zero  # 0: of signed weights, else unsigned
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, _Array] = {}

    def constant(self, name: str, value: Any) -> str:
        self._constants[name] = np.array(value, order="C")
        return name

    def add(self, operator: str, *given: str, found: str = "", domain: str = "", **options: Any) -> str:
        """Name of what the operator finds: `found`, or a new one."""
        found = found or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, given, [found], domain=domain, **options))
        return found

    def scale_of(self, name: str) -> tuple[str, str]:
        """Step and zero point of 8 bits over a range that holds 0."""
        if f"{name}:step" not in self._constants:
            try:
                low, high = self._ranges[name]
            except KeyError:
                raise ModelIncompatible(
                    f"no range of {name!r} in campplus-int8.json: run benchmarks/int8_ranges.py"
                ) from None
            # To the last bit as ONNX Runtime's own quantiser has it: with another one all that follows rounds
            # otherwise, and 3 of 12 calls got another number of voices (benchmarks/RESULTS.md).
            low, high = (float(np.float32(end)) for end in (min(0.0, low), max(0.0, high)))
            step = (high - low) / 255
            self.constant(f"{name}:step", np.float32(step))
            self.constant(f"{name}:zero", np.rint(-low / step).astype(np.uint8))
        return f"{name}:step", f"{name}:zero"

    def to_bytes(self, x: str, name: str) -> str:
        """Float into 8 bits; below the range of what is never negative, this is a ReLU too."""
        return self.add("QuantizeLinear", x, *self.scale_of(name))

    def to_float(self, x: str, name: str) -> str:
        return self.add("DequantizeLinear", x, *self.scale_of(name))

    def convolve(
        self, x: str, given: str, weights: _Array, bias: _Array | None, found: str, **options: Any
    ) -> str:
        """A convolution of `x` in the range `given`; the result has the range `found`."""
        peaks = np.abs(weights).reshape(len(weights), -1).max(axis=1).astype(np.float64)
        step = np.maximum(peaks / self._most, 1e-12).astype(np.float32)
        whole = np.rint(weights / step.reshape(-1, *[1] * (weights.ndim - 1)))
        whole = np.clip(whole, -self._most, self._most) + self._zero
        kind = np.uint8 if self._zero else np.int8
        scaled = [
            self.constant(f"{found}:weight", whole.astype(kind)),
            self.constant(f"{found}:weight_step", step),
            self.constant(f"{found}:weight_zero", np.full(len(weights), self._zero, kind)),
        ]
        inputs = [x, *self.scale_of(given), *scaled, *self.scale_of(found)]
        if bias is not None:
            unit = self._constants[f"{given}:step"] * step
            inputs.append(self.constant(f"{found}:bias", np.rint(bias / unit).astype(np.int32)))
        return self.add("QLinearConv", *inputs, domain=_MICROSOFT, channels_last=1, **options)

    def written(self, given: str, found: str, *width: int | str) -> bytes:
        """The graph from log-mels (n, time, 80) of the name `given` to `found`, (n, *width)."""
        mels = helper.make_tensor_value_info(given, TensorProto.FLOAT, ["n", "time", campplus.N_MELS])
        result = helper.make_tensor_value_info(found, TensorProto.FLOAT, ["n", *width])
        values = [numpy_helper.from_array(value, name) for name, value in self._constants.items()]
        graph = helper.make_graph(self._nodes, "campplus", [mels], [result], values)
        versions = [helper.make_opsetid("", 17), helper.make_opsetid(_MICROSOFT, 1)]
        written: bytes = helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString()
        return written


def _numbers(tensor: Any) -> _Array:
    found: _Array = tensor.detach().numpy()
    return found


def _affine(norm: Any) -> tuple[_Array, _Array]:
    """Factor and offset of each channel that a batch norm is."""
    factor = _numbers(norm.weight / (norm.running_var + norm.eps).sqrt())
    return factor, _numbers(norm.bias) - _numbers(norm.running_mean) * factor


def _folded(convolution: Any, norm: Any) -> tuple[_Array, _Array]:
    """Weights and bias of a convolution with the batch norm after it."""
    weights, (factor, offset) = _numbers(convolution.weight), _affine(norm)
    return weights * factor.reshape(-1, *[1] * (weights.ndim - 1)), offset


def _time_first(folded: tuple[_Array, _Array]) -> tuple[_Array, _Array]:
    """Weights (out, in, mels, frames) for pictures (n, frames, mels, channels)."""
    return folded[0].swapaxes(2, 3), folded[1]


def _front_end(graph: _Graph, network: Any, mel: str) -> str:
    """The two-dimensional layers and the first over time, (n, time / 2, 128) in 8 bits."""
    front, around = network.head, [1, 1, 1, 1]
    weights, bias = _time_first(_folded(front.conv1, front.bn1))
    x = graph.add("Unsqueeze", mel, graph.constant("channel", np.array([1])))
    x = graph.add("Conv", x, graph.constant("first", weights), graph.constant("bias", bias), pads=around)
    before = "/1/Relu_output_0"
    x = graph.add("Transpose", graph.to_bytes(x, before), perm=[0, 2, 3, 1])
    for number in (1, 2):
        for k, layer in enumerate(getattr(front, f"layer{number}")):
            name, strides = f"/1/layer{number}.{k}", [1, layer.conv1.stride[0]]
            inner, outer, past = f"{name}/Relu_output_0", f"{name}/conv2/Conv_output_0", before
            folded = _time_first(_folded(layer.conv1, layer.bn1))
            y = graph.convolve(x, before, *folded, inner, strides=strides, pads=around)
            y = graph.convolve(y, inner, *_time_first(_folded(layer.conv2, layer.bn2)), outer, pads=around)
            if len(layer.shortcut):
                past = f"{name}/shortcut/shortcut.0/Conv_output_0"
                x = graph.convolve(x, before, *_time_first(_folded(*layer.shortcut)), past, strides=strides)
            before = f"{name}/Relu_1_output_0"
            scales = [graph.scale_of(each) for each in (outer, past, before)]
            x = graph.add("QLinearAdd", y, *scales[0], x, *scales[1], *scales[2], domain=_MICROSOFT)
    flat, last = "/1/Relu_1_output_0", "/2/nonlinear/relu/Relu_output_0"
    folded = _time_first(_folded(front.conv2, front.bn2))
    x = graph.convolve(x, before, *folded, flat, strides=[1, 2], pads=around)
    tdnn = network.xvector.tdnn
    weights, bias = _folded(tdnn.linear, tdnn.nonlinear.batchnorm)
    n_channels = front.conv2.out_channels
    by_mel = weights.reshape(len(weights), n_channels, -1, weights.shape[2]).swapaxes(1, 2)
    x = graph.add("Reshape", x, graph.constant("flat", np.array([0, 0, weights.shape[1]])))
    return graph.convolve(x, flat, by_mel.reshape(weights.shape), bias, last, strides=[2], pads=[2, 2])


def _blocks(graph: _Graph, x: str, network: Any, n_blocks: int, contexts: str, segment: str) -> str:
    """The dense blocks with their transitions, (n, rows, width) in float; the last two as of `_segments`."""
    add, rows = graph.add, graph.constant("rows", np.array([-1, 128]))
    x = graph.to_float(x, "/2/nonlinear/relu/Relu_output_0")
    for block in range(1, n_blocks + 1):
        at = 2 * block + 1
        for k, layer in enumerate(getattr(network.xvector, f"block{block}").children(), start=1):
            name, masked = f"/{at}/tdnnd{k}", layer.cam_layer
            outer, inner = (f"{name}/nonlinear{j}/relu/Relu_output_0" for j in (1, 2))
            local, dilation = f"{name}/cam_layer/linear_local/Conv_output_0", masked.linear_local.dilation[0]
            h = _normalised(graph, x, layer.nonlinear1.batchnorm, outer)
            h = graph.convolve(h, outer, *_folded(layer.linear1, layer.nonlinear2.batchnorm), inner)
            there = {"dilations": [dilation], "pads": [dilation, dilation]}
            found = graph.convolve(h, inner, _numbers(masked.linear_local.weight), None, local, **there)
            # One row for each segment of each recording, which the mask of its rows is worked out of.
            context = add("Reshape", add("MatMul", contexts, graph.to_float(h, inner)), rows)
            for part, operator, options in (
                ("linear1", "FusedGemm", {"domain": _MICROSOFT, "activation": "Relu"}),
                ("linear2", "Gemm", {}),
            ):
                small = getattr(masked, part)
                weights = graph.constant(f"{name}/{part}", _numbers(small.weight)[:, :, 0].T)
                bias = graph.constant(f"{name}/{part}:bias", _numbers(small.bias))
                context = add(operator, context, weights, bias, **options)
            mask = add("Gather", add("Sigmoid", context), segment, axis=0)
            x = add("Concat", x, add("Mul", graph.to_float(found, local), mask), axis=2)
        transition, last = getattr(network.xvector, f"transit{block}"), f"/{at + 1}/linear/Conv_output_0"
        outer = f"/{at + 1}/nonlinear/relu/Relu_output_0"
        h = _normalised(graph, x, transition.nonlinear.batchnorm, outer)
        folded: tuple[_Array, _Array | None] = _numbers(transition.linear.weight), None
        if block == 3:  # torch's export makes one of the last convolution and the norm after it
            folded = _folded(transition.linear, network.xvector.out_nonlinear.batchnorm)
        x = graph.to_float(graph.convolve(h, outer, *folded, last), last)
    return x


def _normalised(graph: _Graph, x: str, norm: Any, name: str) -> str:
    """Batch norm and ReLU, into 8 bits."""
    factor, offset = _affine(norm)
    x = graph.add("Mul", x, graph.constant(f"{name}:factor", factor))
    return graph.to_bytes(graph.add("Add", x, graph.constant(f"{name}:offset", offset)), name)


def _segments(graph: _Graph, x: str) -> tuple[str, str, str]:
    """What is to be known of the segments of `x`, (n, rows, width).

    Matrices that make of rows their mean, (1, rows), and the context of each segment, (segments, rows): the
    mean of all rows and that of the segment's. The number of each row's segment, (n, rows), counted through
    all recordings.
    """

    def number(name: str, value: float | int | Sequence[int]) -> str:
        return graph.constant(name, np.array(value, np.float32 if isinstance(value, float) else np.int64))

    add, none, one, first = graph.add, number("0", 0), number("1", 1), number("[1]", [1])
    n_long, shape = number("segment", campplus.SEGMENT_FRAMES), graph.add("Shape", x)
    n, n_rows = add("Gather", shape, none), add("Gather", shape, one)
    segment = add("Div", add("Range", none, n_rows, one), n_long)
    n_segments = add("Div", add("Add", n_rows, number("rest", campplus.SEGMENT_FRAMES - 1)), n_long)
    each = add("Unsqueeze", add("Range", none, n_segments, one), first)
    member = add("Cast", add("Equal", each, segment), to=TensorProto.FLOAT)
    of_segment = add("Div", member, add("ReduceSum", member, first))
    share = add("Div", number("1.0", 1.0), add("Cast", n_rows, to=TensorProto.FLOAT))
    average = add("Expand", share, add("Concat", first, add("Unsqueeze", n_rows, number("[0]", [0])), axis=0))
    before = add("Unsqueeze", add("Mul", add("Range", none, n, one), n_segments), first)
    return average, add("Add", of_segment, average), add("Add", before, segment)
