"""Activations; composite ones are put together by the pass `name_activations`."""

from __future__ import annotations

import math

import numpy as np
import onnx

from exporter.convert.graph import (
    HardSigmoid,
    HardSwish,
    LocalResponseNorm,
    Node,
    Relu,
    Relu6,
    Sigmoid,
    Silu,
    Softmax,
    Tanh,
)
from exporter.convert.onnx_readers.registry import (
    Layout,
    Reading,
    Unsupported,
    attributes,
    optional,
    reads,
)

_KINDS: dict[str, type[Node]] = {
    "Relu": Relu,
    "Sigmoid": Sigmoid,
    "HardSwish": HardSwish,
    "Tanh": Tanh,
}
_UNBOUNDED = 3e38  # exporters write the largest float32 for 'no limit'


def _unary(kind: type[Node], node: onnx.NodeProto, to: Reading) -> None:
    view = to.view(node.input[0])
    to.add(kind(name=node.name, inputs=(view.tensor,), output=node.output[0]), view.layout)


@reads("Relu", "Sigmoid", "HardSwish", "Tanh")
def _simple(node: onnx.NodeProto, to: Reading) -> None:
    _unary(_KINDS[node.op_type], node, to)


@reads("Swish")
def _swish(node: onnx.NodeProto, to: Reading) -> None:
    """`x * sigmoid(alpha * x)`, opset 24."""
    if attributes(node).get("alpha", 1.0) != 1.0:
        raise Unsupported("its alpha is not 1")
    _unary(Silu, node, to)


@reads("Clip")
def _clip(node: onnx.NodeProto, to: Reading) -> None:
    """Clip to [0, 6] is ReLU6, to [0, no limit] ReLU; the limits are attributes or inputs."""
    given = attributes(node)
    low, high = float(given.get("min", -math.inf)), float(given.get("max", math.inf))
    for position, what in ((1, "min"), (2, "max")):
        name = optional(node, position)
        if name is not None:
            value = float(np.asarray(to.constant(name, what)).reshape(()))
            low, high = (value, high) if what == "min" else (low, value)
    if low <= -_UNBOUNDED and high >= _UNBOUNDED:
        to.same(node.output[0], to.view(node.input[0]))
    elif low == 0.0 and high == 6.0:
        _unary(Relu6, node, to)
    elif low == 0.0 and high >= _UNBOUNDED:
        _unary(Relu, node, to)
    else:
        raise Unsupported(f"it clips to [{low:g}, {high:g}]; known are [0, 6] and [0, no limit]")


@reads("HardSigmoid")
def _hard_sigmoid(node: onnx.NodeProto, to: Reading) -> None:
    given = attributes(node)
    alpha, beta = float(given.get("alpha", 0.2)), float(given.get("beta", 0.5))
    if not math.isclose(alpha, 1 / 6, rel_tol=1e-4) or beta != 0.5:
        raise Unsupported(f"its alpha is {alpha:g} and beta {beta:g}; known are 1/6 and 0.5")
    _unary(HardSigmoid, node, to)


@reads("LRN")
def _local_response_norm(node: onnx.NodeProto, to: Reading) -> None:
    """The window is centred: an even size, which torch and ONNX centre differently, is refused."""
    given = attributes(node)
    size = int(given["size"])
    if size % 2 == 0:
        raise Unsupported(f"its size is {size}; known are odd ones")
    source = to.tensor(node.input[0])
    if len(to.shapes[source]) != 4:
        raise Unsupported("its input has no height and width")
    to.add(
        LocalResponseNorm(
            name=node.name,
            inputs=(source,),
            output=node.output[0],
            size=size,
            alpha=float(given.get("alpha", 1e-4)),
            beta=float(given.get("beta", 0.75)),
            bias=float(given.get("bias", 1.0)),
        )
    )


@reads("Softmax")
def _softmax(node: onnx.NodeProto, to: Reading) -> None:
    source = to.tensor(node.input[0])
    rank = len(to.shapes[source])
    axis = attributes(node).get("axis")
    if rank != 2 or axis not in (None, 1, -1):
        raise Unsupported(f"it works along axis {axis} of {rank}; known is the last axis of [1, n]")
    to.add(Softmax(name=node.name, inputs=(source,), output=node.output[0]), Layout.FIRST)
