"""The backward pass as ONNX nodes behind a forward model: one rule a node kind.

A rule takes a node and the derivative by its result (before the fused activation) and gives
the derivatives by what it reads, None for what has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

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
from exporter.convert.quantize.windows import window_counts

_LOWEST = -1e30  # padding that no maximum takes
Rule = Callable[[Any, str, "Backward"], Sequence[str | None]]
_RULES: dict[type[Node], Rule] = {}


def gradient_name(tensor: str) -> str:
    """What `backward_model` calls the derivative by a tensor."""
    return f"{tensor}/gradient"


class Backward:
    """Appends the nodes of the backward pass to a forward model."""

    def __init__(self, graph: Graph, body: onnx.GraphProto) -> None:
        self.graph = graph
        self._body = body
        self._parts: dict[str, list[str]] = {}
        self._summed: dict[str, str] = {}
        self._count = 0

    def constant(self, value: npt.ArrayLike, dtype: Any = np.float32) -> str:
        """Store an array; gives its name."""
        name = self._name()
        self._body.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append an ONNX node; gives its output's name."""
        made = self._name()
        self._body.node.append(helper.make_node(kind, list(inputs), [made], **attributes))
        return made

    def mask(self, condition: str) -> str:
        """A boolean tensor as 0.0 and 1.0."""
        return self.op("Cast", [condition], to=TensorProto.FLOAT)

    def between(self, tensor: str, low: float, high: float | None) -> str:
        """1.0 where a tensor lies strictly between bounds."""
        found = self.mask(self.op("Greater", [tensor, self.constant(low)]))
        if high is None:
            return found
        below = self.mask(self.op("Less", [tensor, self.constant(high)]))
        return self.op("Mul", [found, below])

    def reshape(self, tensor: str, shape: Sequence[int]) -> str:
        """The tensor in another shape; gives its name."""
        return self.op("Reshape", [tensor, self.constant(shape, np.int64)])

    def give(self, tensor: str, gradient: str) -> None:
        """Add to what is known of the derivative by a tensor."""
        self._parts.setdefault(tensor, []).append(gradient)

    def through(self, node: Node) -> None:
        """Carry the derivative by a node's result on to what it reads."""
        if node.output not in self._parts:
            return
        made = self._sum(node.output)
        fused = getattr(node, "fused", Fused.NONE)
        if fused is not Fused.NONE:
            high = 6.0 if fused is Fused.RELU6 else None
            made = self.op("Mul", [made, self.between(node.output, 0.0, high)])
        for source, gradient in zip(node.inputs, _RULES[type(node)](node, made, self), strict=True):
            if gradient is not None and source not in self.graph.constants:
                self.give(source, gradient)

    def finish(self, tensor: str) -> None:
        """Name the derivative by a tensor as `gradient_name` says."""
        if tensor in self._parts:
            source = self._sum(tensor)
        else:
            source = self.constant(np.zeros(self.graph.shapes[tensor]))
        self._body.node.append(helper.make_node("Identity", [source], [gradient_name(tensor)]))

    def unbroadcast(self, gradient: str, made: Shape, source: str) -> str | None:
        """Sum over the axes along which an operand was repeated; None for a constant."""
        if source in self.graph.constants:
            return None
        shape = self.graph.shapes[source]
        axes = [axis for axis, size in enumerate(shape) if size != made[axis]]
        if not axes:
            return gradient
        return self.op("ReduceSum", [gradient, self.constant(axes, np.int64)], keepdims=1)

    def _sum(self, tensor: str) -> str:
        if tensor not in self._summed:
            parts = self._parts[tensor]
            self._summed[tensor] = parts[0] if len(parts) == 1 else self.op("Sum", parts)
        return self._summed[tensor]

    def _name(self) -> str:
        self._count += 1
        return f"backward/{self._count}"


def _backward_of(kind: type[Node]) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        _RULES[kind] = function
        return function

    return register


@_backward_of(Conv)
def _conv(node: Conv, made: str, to: Backward) -> list[str | None]:
    top, left, bottom, right = node.padding
    reach = [(node.weight.shape[2 + i] - 1) * node.dilations[i] for i in (0, 1)]
    size_in = to.graph.shapes[node.inputs[0]][2:]
    size_out = to.graph.shapes[node.output][2:]
    lost = [
        size_in[i] - ((size_out[i] - 1) * node.strides[i] + reach[i] + 1 - pads)
        for i, pads in enumerate((top + bottom, left + right))
    ]
    found = to.op(
        "ConvTranspose",
        [made, f"{node.output}/weight"],
        strides=list(node.strides),
        pads=[top, left, bottom, right],
        dilations=list(node.dilations),
        group=node.groups,
        output_padding=lost,
    )
    return [found]


@_backward_of(Dense)
def _dense(node: Dense, made: str, to: Backward) -> list[str | None]:
    return [to.op("MatMul", [made, f"{node.output}/weight"])]


@_backward_of(Add)
def _add(node: Add, made: str, to: Backward) -> list[str | None]:
    shape = to.graph.shapes[node.output]
    return [to.unbroadcast(made, shape, source) for source in node.inputs]


@_backward_of(Sub)
def _sub(node: Sub, made: str, to: Backward) -> list[str | None]:
    shape = to.graph.shapes[node.output]
    less = to.op("Neg", [made])
    parts = zip((made, less), node.inputs, strict=True)
    return [to.unbroadcast(part, shape, source) for part, source in parts]


@_backward_of(Mul)
def _mul(node: Mul, made: str, to: Backward) -> list[str | None]:
    shape = to.graph.shapes[node.output]
    one, other = node.inputs
    parts = [to.op("Mul", [made, other]), to.op("Mul", [made, one])]
    both = zip(parts, node.inputs, strict=True)
    return [to.unbroadcast(part, shape, source) for part, source in both]


@_backward_of(Normalize)
@_backward_of(BatchNorm)
def _channel_scale(node: Normalize | BatchNorm, made: str, to: Backward) -> list[str | None]:
    return [to.op("Mul", [made, to.constant(node.scale.reshape(1, -1, 1, 1))])]


@_backward_of(Relu)
def _relu(node: Relu, made: str, to: Backward) -> list[str | None]:
    return [to.op("Mul", [made, to.between(node.output, 0.0, None)])]


@_backward_of(Relu6)
def _relu6(node: Relu6, made: str, to: Backward) -> list[str | None]:
    return [to.op("Mul", [made, to.between(node.output, 0.0, 6.0)])]


@_backward_of(Sigmoid)
def _sigmoid(node: Sigmoid, made: str, to: Backward) -> list[str | None]:
    rest = to.op("Sub", [to.constant(1.0), node.output])
    return [to.op("Mul", [made, to.op("Mul", [node.output, rest])])]


@_backward_of(Tanh)
def _tanh(node: Tanh, made: str, to: Backward) -> list[str | None]:
    square = to.op("Mul", [node.output, node.output])
    return [to.op("Mul", [made, to.op("Sub", [to.constant(1.0), square])])]


@_backward_of(LocalResponseNorm)
def _local_response_norm(node: LocalResponseNorm, made: str, to: Backward) -> list[str | None]:
    """y = x s^-b with s = k + a * (sum of x^2 around): g s^-b - 2 a b x * (sum of g y / s)."""
    x, alpha = node.inputs[0], node.alpha / node.size
    index = np.arange(to.graph.shapes[x][1])
    near = np.abs(index[:, None] - index) <= node.size // 2
    around = to.constant(near[:, :, None, None])
    total = to.op("Conv", [to.op("Mul", [x, x]), to.constant(alpha * near[:, :, None, None])])
    base = to.op("Add", [total, to.constant(node.bias)])
    own = to.op("Mul", [made, to.op("Pow", [base, to.constant(-node.beta)])])
    shares = to.op("Div", [to.op("Mul", [made, node.output]), base])
    summed = to.op("Conv", [shares, around])
    others = to.op("Mul", [x, to.op("Mul", [summed, to.constant(2 * alpha * node.beta)])])
    return [to.op("Sub", [own, others])]


@_backward_of(Silu)
def _silu(node: Silu, made: str, to: Backward) -> list[str | None]:
    gate = to.op("Sigmoid", [node.inputs[0]])
    # s + x s (1 - s) = s + y - y s, with y = x s
    slope = to.op("Sub", [node.output, to.op("Mul", [node.output, gate])])
    return [to.op("Mul", [made, to.op("Add", [gate, slope])])]


@_backward_of(HardSigmoid)
def _hard_sigmoid(node: HardSigmoid, made: str, to: Backward) -> list[str | None]:
    slope = to.op("Mul", [to.between(node.output, 0.0, 1.0), to.constant(1 / 6)])
    return [to.op("Mul", [made, slope])]


@_backward_of(HardSwish)
def _hard_swish(node: HardSwish, made: str, to: Backward) -> list[str | None]:
    x = node.inputs[0]
    line = to.op("Add", [to.op("Mul", [x, to.constant(1 / 3)]), to.constant(0.5)])
    inside = to.op("Mul", [to.between(x, -3.0, 3.0), line])
    above = to.mask(to.op("GreaterOrEqual", [x, to.constant(3.0)]))
    return [to.op("Mul", [made, to.op("Add", [inside, above])])]


@_backward_of(MaxPool)
def _max_pool(node: MaxPool, made: str, to: Backward) -> list[str | None]:
    """Each window's derivative goes to the values that equal its maximum."""
    _, channels, height, width = to.graph.shapes[node.inputs[0]]
    rows, columns = to.graph.shapes[node.output][2:]
    top, left, bottom, right = node.padding
    pads = to.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)
    padded = to.op("Pad", [node.inputs[0], pads, to.constant(_LOWEST)])
    area = math.prod(node.kernel)
    pick = np.tile(np.eye(area).reshape(area, 1, *node.kernel), (channels, 1, 1, 1))
    options: dict[str, Any] = {"strides": list(node.strides), "group": channels}
    windows = to.op("Conv", [padded, to.constant(pick)], **options)
    grouped = to.reshape(windows, [1, channels, area, rows, columns])
    thin = [1, channels, 1, rows, columns]
    taken = to.mask(to.op("Equal", [grouped, to.reshape(node.output, thin)]))
    spread = to.op("Mul", [taken, to.reshape(made, thin)])
    flat = to.reshape(spread, [1, channels * area, rows, columns])
    return [_spread(to, flat, pick, node, (height, width), channels)]


@_backward_of(AveragePool)
def _average_pool(node: AveragePool, made: str, to: Backward) -> list[str | None]:
    _, channels, height, width = to.graph.shapes[node.inputs[0]]
    counts = window_counts(node, height, width)
    each = to.op("Div", [made, to.constant(counts)])
    ones = np.ones((channels, 1, *node.kernel))
    return [_spread(to, each, ones, node, (height, width), channels)]


def _spread(
    to: Backward,
    windows: str,
    weight: npt.NDArray[np.float64],
    node: MaxPool | AveragePool,
    size: tuple[int, int],
    channels: int,
) -> str:
    """Windows back to where they were taken from, summed where they overlap."""
    top, left, bottom, right = node.padding
    made = to.graph.shapes[node.output][2:]
    lost = [
        size[i] - ((made[i] - 1) * node.strides[i] + node.kernel[i] - pads)
        for i, pads in enumerate((top + bottom, left + right))
    ]
    return to.op(
        "ConvTranspose",
        [windows, to.constant(weight)],
        strides=list(node.strides),
        pads=[top, left, bottom, right],
        group=channels,
        output_padding=lost,
    )


@_backward_of(GlobalAveragePool)
def _global_average_pool(node: GlobalAveragePool, made: str, to: Backward) -> list[str | None]:
    shape = to.graph.shapes[node.inputs[0]]
    column = to.reshape(made, [1, shape[1], 1, 1])
    each = to.op("Mul", [column, to.constant(1.0 / math.prod(shape[2:]))])
    return [to.op("Expand", [each, to.constant(shape, np.int64)])]


@_backward_of(Concat)
def _concat(node: Concat, made: str, to: Backward) -> list[str | None]:
    axis = node.axis % len(to.graph.shapes[node.output])
    sizes = [to.graph.shapes[name][axis] for name in node.inputs]
    ends = np.cumsum(sizes)
    return [
        _cut(to, made, {axis: (int(end - size), int(end))})
        for size, end in zip(sizes, ends, strict=True)
    ]


@_backward_of(Slice)
def _slice(node: Slice, made: str, to: Backward) -> list[str | None]:
    shape = to.graph.shapes[node.inputs[0]]
    pads = np.zeros((2, len(shape)), np.int64)
    pads[:, node.axis] = node.start, shape[node.axis] - node.stop
    return [to.op("Pad", [made, to.constant(pads.reshape(-1), np.int64)])]


@_backward_of(ChannelShuffle)
def _channel_shuffle(node: ChannelShuffle, made: str, to: Backward) -> list[str | None]:
    batch, channels, *size = to.graph.shapes[node.output]
    turned = to.reshape(made, [batch, channels // node.groups, node.groups, *size])
    grouped = to.op("Transpose", [turned], perm=[0, 2, 1, 3, 4])
    return [to.reshape(grouped, to.graph.shapes[node.output])]


@_backward_of(Pad)
def _pad(node: Pad, made: str, to: Backward) -> list[str | None]:
    top, left, _, _ = node.padding
    height, width = to.graph.shapes[node.inputs[0]][2:]
    return [_cut(to, made, {2: (top, top + height), 3: (left, left + width)})]


def _cut(to: Backward, tensor: str, spans: Mapping[int, tuple[int, int]]) -> str:
    begins, ends = zip(*spans.values(), strict=True)
    parts = [to.constant(part, np.int64) for part in (begins, ends, list(spans))]
    return to.op("Slice", [tensor, *parts])


@_backward_of(Reshape)
def _reshape(node: Reshape, made: str, to: Backward) -> list[str | None]:
    shape = to.graph.shapes[node.inputs[0]]
    if not node.channels_last:
        return [to.reshape(made, shape)]
    batch, channels, height, width = shape
    stacked = to.reshape(made, [batch, height, width, channels])
    return [to.op("Transpose", [stacked], perm=[0, 3, 1, 2])]


@_backward_of(Softmax)
def _softmax(node: Softmax, made: str, to: Backward) -> list[str | None]:
    product = to.op("Mul", [made, node.output])
    total = to.op("ReduceSum", [product, to.constant([-1], np.int64)], keepdims=1)
    return [to.op("Mul", [node.output, to.op("Sub", [made, total])])]
