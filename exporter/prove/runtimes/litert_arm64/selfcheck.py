"""A small int8 network whose answer is known, to notice an emulator that computes wrongly.

A convolution, a depthwise one and a convolution of 1 x 1, quantized per channel: the
operations of which a MobileNet consists. Every scale is a power of two, the weights are
even and the biases odd, so that no sum lies half-way between two steps and it does not
matter how ties are rounded. XNNPACK, which rounds a sum once, gives exactly this answer;
TFLite's own kernels round twice and are off by one here and there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_SIDE, _DEPTH = 9, 8
_ZERO_POINTS = (-7, 3, 5, -2)  # of the input and of each layer's output


@dataclass(frozen=True)
class Layer:
    """One layer, without padding and with stride 1.

    Attributes:
        weights: int8 `[outputs, kernel, kernel, inputs]`; depthwise `[1, kernel, kernel, outputs]`.
        bias: int32 `[outputs]`.
        shifts: an output is its sum times 2 to the power of minus this, `[outputs]`.
    """

    depthwise: bool
    weights: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    shifts: npt.NDArray[np.int32]


@functools.cache
def layers() -> tuple[Layer, ...]:
    """The network. The shifts spread the outputs over the range of int8."""
    random = np.random.default_rng(76)

    def layer(depthwise: bool, shape: tuple[int, ...], shift: int) -> Layer:
        outputs = shape[3] if depthwise else shape[0]
        return Layer(
            depthwise,
            (2 * random.integers(-30, 31, shape)).astype(np.int8),
            (2 * random.integers(-500, 500, outputs) + 1).astype(np.int32),
            (shift + random.integers(0, 2, outputs)).astype(np.int32),
        )

    return (
        layer(False, (16, 3, 3, _DEPTH), 9),
        layer(True, (1, 3, 3, 16), 7),
        layer(False, (24, 1, 1, 16), 7),
    )


@functools.cache
def given() -> npt.NDArray[np.int8]:
    """The input, int8 `[1, 9, 9, 8]`."""
    shape = (1, _SIDE, _SIDE, _DEPTH)
    return np.random.default_rng(77).integers(-128, 128, shape, dtype=np.int8)


@functools.cache
def answer() -> npt.NDArray[np.int8]:
    """The output, int8 `[1, 5, 5, 24]`, in exact integer arithmetic."""
    values = given().astype(np.int64)
    for layer, before, after in zip(layers(), _ZERO_POINTS, _ZERO_POINTS[1:], strict=False):
        size = layer.weights.shape[1]
        windows = np.lib.stride_tricks.sliding_window_view(values - before, (size, size), (1, 2))
        how = "nhwcij,ijc->nhwc" if layer.depthwise else "nhwcij,oijc->nhwo"
        weights = layer.weights[0] if layer.depthwise else layer.weights
        sums = np.einsum(how, windows, weights.astype(np.int64)) + layer.bias
        values = np.floor(sums / 2.0**layer.shifts + 0.5).astype(np.int64) + after
        values = values.clip(-128, 127)
    return values.astype(np.int8)


@functools.cache
def model() -> bytes:
    """The network as a TFLite file."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    made = _Builder(schema)
    shape, scale = [1, _SIDE, _SIDE, _DEPTH], 1.0
    tensor = made.tensor("given", schema.TensorType.INT8, shape, [scale], [_ZERO_POINTS[0]])
    graph_input = tensor
    for number, (layer, zero_point) in enumerate(zip(layers(), _ZERO_POINTS[1:], strict=True)):
        shape = [1, *(size - layer.weights.shape[1] + 1 for size in shape[1:3]), len(layer.bias)]
        tensor = made.layer(f"layer{number}", layer, tensor, shape, zero_point)
    builder = flatbuffers.Builder(1 << 15)
    builder.Finish(made.model(graph_input, tensor).Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Builder:
    """Collects tensors, buffers and operators of the one subgraph."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]

    def tensor(
        self, name: str, kind: int, shape: list[int], scales: list[float], zeros: list[int]
    ) -> int:
        made = self._schema.TensorT()
        made.name, made.type, made.shape, made.buffer = name, kind, shape, 0
        made.quantization = self._schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = scales, zeros
        self._tensors.append(made)
        return len(self._tensors) - 1

    def constant(
        self, name: str, kind: int, values: npt.NDArray[Any], scales: list[float], axis: int
    ) -> int:
        index = self.tensor(name, kind, list(values.shape), scales, [0] * len(scales))
        self._tensors[index].quantization.quantizedDimension = axis
        self._tensors[index].buffer = len(self._buffers)
        self._buffers.append(self._schema.BufferT())
        self._buffers[-1].data = np.frombuffer(values.tobytes(), np.uint8)
        return index

    def layer(self, name: str, layer: Layer, source: int, shape: list[int], zero: int) -> int:
        """Add one operator; all activations have the scale 1, so a channel's scale is its shift."""
        types, s = self._schema.TensorType, self._schema
        scales = [float(2.0**-shift) for shift in layer.shifts]
        axis = 3 if layer.depthwise else 0
        weights = self.constant(f"{name}/weights", types.INT8, layer.weights, scales, axis)
        bias = self.constant(f"{name}/bias", types.INT32, layer.bias, scales, 0)
        output = self.tensor(f"{name}/out", types.INT8, shape, [1.0], [zero])
        node = s.OperatorT()
        node.opcodeIndex = int(layer.depthwise)
        node.inputs, node.outputs = [source, weights, bias], [output]
        options = s.DepthwiseConv2DOptionsT() if layer.depthwise else s.Conv2DOptionsT()
        options.padding = s.Padding.VALID
        options.strideH = options.strideW = 1
        options.dilationHFactor = options.dilationWFactor = 1
        kinds = s.BuiltinOptions
        node.builtinOptionsType = (
            kinds.DepthwiseConv2DOptions if layer.depthwise else kinds.Conv2DOptions
        )
        if layer.depthwise:
            options.depthMultiplier = 1
        node.builtinOptions = options
        self._operators.append(node)
        return output

    def model(self, source: int, output: int) -> Any:
        s = self._schema
        graph = s.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [source], [output]
        codes = []
        for kind in (s.BuiltinOperator.CONV_2D, s.BuiltinOperator.DEPTHWISE_CONV_2D):
            code = s.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = kind
            code.version = 3
            codes.append(code)
        made = s.ModelT()
        made.version, made.operatorCodes = 3, codes
        made.subgraphs, made.buffers = [graph], self._buffers
        return made
