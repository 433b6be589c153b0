"""From the graph's nodes to TensorFlow operators: one function a node kind.

TensorFlow works in NHWC; tensors and constants are turned over here, so that the
file holds no transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.convert.graph import (
    Add,
    AveragePool,
    BatchNorm,
    ChannelShuffle,
    Concat,
    Conv,
    Dense,
    Fused,
    GlobalAveragePool,
    Graph,
    HardSigmoid,
    HardSwish,
    LocalResponseNorm,
    MaxPool,
    Mul,
    Node,
    Normalize,
    Pad,
    Padding,
    Pair,
    Relu,
    Relu6,
    Reshape,
    Shape,
    Sigmoid,
    Silu,
    Slice,
    Softmax,
    Sub,
    Tanh,
)
from exporter.convert.targets.saved_model.held_back import LARGE, HeldBack
from models.contract import OUTPUT_NAME

Value = Any  # a TensorFlow tensor
Emit = Callable[[Any, "_Emitter"], Value]
_EMITTERS: dict[type[Node], Emit] = {}


def _emits(kind: type[Node]) -> Callable[[Emit], Emit]:
    def register(function: Emit) -> Emit:
        _EMITTERS[kind] = function
        return function

    return register


def supported_kinds() -> frozenset[type[Node]]:
    """The node kinds that can be written."""
    return frozenset(_EMITTERS)


def build(tf: Any, graph: Graph, held: HeldBack | None = None) -> Callable[[Value], Value]:
    """The graph as a Python function of `tf` operators.

    Args:
        held: keeps large weights, which are then to be put back; None for none.

    Returns:
        uint8 (or float) pixels `[1, H, W, 3]` to float32, in NHWC where it has four
        dimensions.
    """

    def call(image: Value) -> Value:
        return _Emitter(tf, graph, held).run(image)

    return call


class _Emitter:
    """Carries a graph's nodes over to TensorFlow one by one."""

    def __init__(self, tf: Any, graph: Graph, held: HeldBack | None = None) -> None:
        self.tf, self._held = tf, held
        self.graph = graph
        self.values: dict[str, Value] = {}

    def run(self, image: Value) -> Value:
        source = self.graph.input
        x = self.tf.cast(image, self.tf.float32)
        if source.zero_point:
            x = x - np.float32(source.zero_point)
        if source.scale != 1.0:
            x = x * np.float32(source.scale)
        self.values[source.name] = x
        for node in self.graph.nodes:
            self.values[node.output] = _EMITTERS[type(node)](node, self)
        return self.tf.identity(self.values[self.graph.output], name=OUTPUT_NAME)

    def read(self, node: Node) -> Value:
        """The only input of a node."""
        return self.values[node.inputs[0]]

    def shape(self, name: str) -> Shape:
        """A tensor's or constant's shape, in NCHW."""
        if name in self.graph.constants:
            return self.graph.constants[name].shape
        return self.graph.shapes[name]

    def operand(self, name: str, rank: int) -> Value:
        """An input of an elementwise node, so that NumPy's rule in NHWC does what it did in NCHW.

        NCHW aligns trailing dimensions: `[C, 1, 1]` becomes `[1, 1, C]`. A lower
        rank is filled up with ones first; only then can axes be turned over.
        """
        shape = self.shape(name)
        if name in self.graph.constants:
            value = self.graph.constants[name]
            if rank < 4 or value.size == 1:
                return self.constant(value.reshape(()) if value.size == 1 else value)
            return self.constant(
                value.reshape((1,) * (4 - len(shape)) + shape).transpose(0, 2, 3, 1)
            )
        value = self.values[name]
        if len(shape) == rank or rank < 4:
            return value
        _, channels, height, width = (1,) * (4 - len(shape)) + shape
        if channels != 1:  # rank 3, [C, H, W]
            value = self.tf.transpose(value, [1, 2, 0])
        return self.tf.reshape(value, [1, height, width, channels])

    def constant(self, value: npt.ArrayLike) -> Value:
        array = np.asarray(value, np.float32)
        if self._held is not None and array.size >= LARGE:
            return self._held.stand_in(self.tf, array)
        return self.tf.constant(array)

    def fused(self, node: Any, value: Value) -> Value:
        if node.fused is Fused.RELU6:
            return self.tf.nn.relu6(value)
        return self.tf.nn.relu(value) if node.fused is Fused.RELU else value

    def padded(self, x: Value, padding: Padding, value: float = 0.0) -> Value:
        top, left, bottom, right = padding
        if not any(padding):
            return x
        table = [[0, 0], [top, bottom], [left, right], [0, 0]]
        return self.tf.pad(x, table, constant_values=value)

    def window(
        self, node: Any, kernel: Pair, dilations: Pair = (1, 1), fill: float = 0.0
    ) -> tuple[Value, str]:
        """The input of a windowed node and TensorFlow's word for its padding.

        Where the padding is neither of TensorFlow's two, the input is padded and
        the word is VALID. (A stride of 2 on an even size is the usual case: torch
        pads 1 before, TensorFlow's SAME 1 after.)
        """
        x = self.read(node)
        if not any(node.padding):
            return x, "VALID"
        size = self.shape(node.inputs[0])[2:]
        if node.padding == same_padding(size, kernel, node.strides, dilations):
            return x, "SAME"
        return self.padded(x, node.padding, fill), "VALID"


def same_padding(size: Pair | Shape, kernel: Pair, strides: Pair, dilations: Pair) -> Padding:
    """What TensorFlow's SAME pads: the odd one goes to the bottom and the right.

    (TensorFlow API documentation of `tf.nn`, 'Notes on padding'.)
    """
    before, after = [], []
    for length, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        reach = (k - 1) * dilation + 1
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return (before[0], before[1], after[0], after[1])


@_emits(Normalize)
def _normalize(node: Normalize, to: _Emitter) -> Value:
    return (to.read(node) - to.constant(node.mean)) * to.constant(node.scale)


@_emits(BatchNorm)
def _batch_norm(node: BatchNorm, to: _Emitter) -> Value:
    return to.read(node) * to.constant(node.scale) + to.constant(node.shift)


@_emits(Conv)
def _conv(node: Conv, to: _Emitter) -> Value:
    kernel: Pair = (node.weight.shape[2], node.weight.shape[3])
    x, padding = to.window(node, kernel, node.dilations)
    channels = to.shape(node.inputs[0])[1]
    if node.groups > 1 and node.groups == channels:
        result = _depthwise(node, to, x, padding)
    else:
        result = to.tf.nn.conv2d(
            x,
            to.constant(node.weight.transpose(2, 3, 1, 0)),
            strides=list(node.strides),
            padding=padding,
            dilations=list(node.dilations),
        )
    return to.fused(node, to.tf.nn.bias_add(result, to.constant(node.bias)))


def _depthwise(node: Conv, to: _Emitter, x: Value, padding: str) -> Value:
    """`tf.nn.depthwise_conv2d`, which wants equal strides, and strides of 1 when dilated.

    Elsewhere every position is computed and the strides pick among them.
    """
    out, _, height, width = node.weight.shape
    weight = node.weight.reshape(node.groups, out // node.groups, height, width)
    down, right = node.strides
    direct = down == right and (node.dilations == (1, 1) or down == 1)
    if not direct and padding == "SAME":
        x, padding = to.padded(x, node.padding), "VALID"
    result = to.tf.nn.depthwise_conv2d(
        x,
        to.constant(weight.transpose(2, 3, 0, 1)),
        strides=[1, down, right, 1] if direct else [1, 1, 1, 1],
        padding=padding,
        dilations=list(node.dilations),
    )
    return result if direct else result[:, ::down, ::right, :]


@_emits(Dense)
def _dense(node: Dense, to: _Emitter) -> Value:
    product = to.tf.linalg.matmul(to.read(node), to.constant(node.weight.T))
    return to.fused(node, to.tf.nn.bias_add(product, to.constant(node.bias)))


def _binary(name: str) -> Emit:
    def emit(node: Any, to: _Emitter) -> Value:
        rank = max(len(to.shape(source)) for source in node.inputs)
        x, y = (to.operand(source, rank) for source in node.inputs)
        return to.fused(node, getattr(to.tf.math, name)(x, y))

    return emit


_EMITTERS[Add] = _binary("add")
_EMITTERS[Sub] = _binary("subtract")
_EMITTERS[Mul] = _binary("multiply")


def _turned(axis: int, rank: int) -> int:
    """Where TensorFlow has an axis that is counted in NCHW."""
    turned: Mapping[int, int] = {0: 0, 1: 3, 2: 1, 3: 2}
    return turned[axis % rank] if rank == 4 else axis % rank


@_emits(Concat)
def _concat(node: Concat, to: _Emitter) -> Value:
    rank = len(to.shape(node.output))
    values = [to.values[name] for name in node.inputs]
    return to.tf.concat(values, axis=_turned(node.axis, rank))


@_emits(Slice)
def _slice(node: Slice, to: _Emitter) -> Value:
    shape = to.shape(node.inputs[0])
    axis = _turned(node.axis, len(shape))
    begin, size = [0] * len(shape), [-1] * len(shape)  # -1: all that is left
    begin[axis] = node.start
    size[axis] = to.shape(node.output)[node.axis]
    return to.tf.slice(to.read(node), begin, size)


@_emits(ChannelShuffle)
def _channel_shuffle(node: ChannelShuffle, to: _Emitter) -> Value:
    """Each pixel's channels as a matrix, turned over; the operators of the TFLite file."""
    _, channels, height, width = to.shape(node.inputs[0])
    split = [height * width, node.groups, channels // node.groups]
    x = to.tf.transpose(to.tf.reshape(to.read(node), split), [0, 2, 1])
    return to.tf.reshape(x, [1, height, width, channels])


@_emits(MaxPool)
def _max_pool(node: MaxPool, to: _Emitter) -> Value:
    x, padding = to.window(node, node.kernel, fill=-np.inf)
    return to.tf.nn.max_pool2d(x, list(node.kernel), list(node.strides), padding)


@_emits(AveragePool)
def _average_pool(node: AveragePool, to: _Emitter) -> Value:
    kernel, strides = list(node.kernel), list(node.strides)
    if node.include_padding:
        x = to.padded(to.read(node), node.padding)
        return to.tf.nn.avg_pool2d(x, kernel, strides, "VALID")
    x, padding = to.window(node, node.kernel)
    result = to.tf.nn.avg_pool2d(x, kernel, strides, padding)
    if padding == "SAME" or not any(node.padding):
        return result  # SAME leaves the padding out of the divisor, as it should be
    return result * to.constant(_divisor_correction(node, to.shape(node.inputs[0])))


def _divisor_correction(node: AveragePool, shape: Shape) -> npt.NDArray[np.float64]:
    """(window size) / (pixels of the window inside the picture), `[1, H, W, 1]`."""
    top, left, bottom, right = node.padding
    counts = []
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        length, k, stride = shape[2 + axis], node.kernel[axis], node.strides[axis]
        starts = np.arange((length + before + after - k) // stride + 1) * stride - before
        counts.append(np.minimum(starts + k, length) - np.maximum(starts, 0))
    inside = np.outer(counts[0], counts[1])
    return (node.kernel[0] * node.kernel[1] / inside)[None, :, :, None]


@_emits(GlobalAveragePool)
def _global_average_pool(node: GlobalAveragePool, to: _Emitter) -> Value:
    return to.tf.reduce_mean(to.read(node), axis=[1, 2], keepdims=node.keep_dims)


@_emits(Relu)
def _relu(node: Relu, to: _Emitter) -> Value:
    return to.tf.nn.relu(to.read(node))


@_emits(Relu6)
def _relu6(node: Relu6, to: _Emitter) -> Value:
    return to.tf.nn.relu6(to.read(node))


@_emits(Sigmoid)
def _sigmoid(node: Sigmoid, to: _Emitter) -> Value:
    return to.tf.math.sigmoid(to.read(node))


@_emits(Tanh)
def _tanh(node: Tanh, to: _Emitter) -> Value:
    return to.tf.math.tanh(to.read(node))


@_emits(LocalResponseNorm)
def _local_response_norm(node: LocalResponseNorm, to: _Emitter) -> Value:
    """TensorFlow's does not divide alpha, and its windows are `2 * depth_radius + 1` wide."""
    return to.tf.nn.local_response_normalization(
        to.read(node),
        depth_radius=node.size // 2,
        bias=node.bias,
        alpha=node.alpha / node.size,
        beta=node.beta,
    )


@_emits(HardSigmoid)
def _hard_sigmoid(node: HardSigmoid, to: _Emitter) -> Value:
    return to.tf.nn.relu6(to.read(node) + np.float32(3)) * np.float32(1 / 6)


@_emits(HardSwish)
def _hard_swish(node: HardSwish, to: _Emitter) -> Value:
    x = to.read(node)
    return x * to.tf.nn.relu6(x + np.float32(3)) * np.float32(1 / 6)  # fused by the converter


@_emits(Silu)
def _silu(node: Silu, to: _Emitter) -> Value:
    x = to.read(node)
    return x * to.tf.math.sigmoid(x)


@_emits(Softmax)
def _softmax(node: Softmax, to: _Emitter) -> Value:
    return to.tf.nn.softmax(to.read(node), axis=-1)


@_emits(Reshape)
def _reshape(node: Reshape, to: _Emitter) -> Value:
    x, shape = to.read(node), to.shape(node.inputs[0])
    if not node.channels_last and len(shape) == 4 and shape[1] != 1 and shape[2:] != (1, 1):
        x = to.tf.transpose(x, [0, 3, 1, 2])
    return to.tf.reshape(x, list(to.shape(node.output)))


@_emits(Pad)
def _pad(node: Pad, to: _Emitter) -> Value:
    return to.padded(to.read(node), node.padding, node.value)
