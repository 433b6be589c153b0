"""The one graph that every target is written from: NCHW, float32, batch 1.

A graph has one input (raw pixels, 0..255), one output (probabilities) and its
nodes in an order in which each comes after its inputs. Nodes and graphs are
frozen; a pass builds new ones with `dataclasses.replace`. A new operator is one
class here, one reader in `from_onnx`, one emitter in each target.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]  # top, left, bottom, right


class GraphError(Exception):
    """The graph breaks one of its own rules: a defect of the exporter, not of the user."""


class Fused(StrEnum):
    """An activation applied to a node's result before it is stored."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One operator.

    Attributes:
        name: unique in the graph; that of the ONNX node where there is one.
        inputs: tensor names, or names in `Graph.constants` for Add, Mul and Sub.
        output: the tensor that it makes.
    """

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalize(Node):
    """`(x - mean[c]) * scale[c]`; `mean` and `scale` are float32 `[C]`."""

    mean: Array
    scale: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Node):
    """2-D cross-correlation; zero padding; depthwise when groups == input channels.

    Attributes:
        weight: float32 `[out, in / groups, kh, kw]`.
        bias: float32 `[out]`.
    """

    weight: Array
    bias: Array
    strides: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    groups: int = 1
    fused: Fused = Fused.NONE


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchNorm(Node):
    """Inference-mode batch normalization as `x * scale[c] + shift[c]`, float32 `[C]`."""

    scale: Array
    shift: Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Node):
    """`x @ weight.T + bias`; weight float32 `[out, in]`, bias `[out]`, x `[1, in]`."""

    weight: Array
    bias: Array
    fused: Fused = Fused.NONE


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Node):
    """Elementwise sum of two inputs with broadcasting; one may be a constant."""

    fused: Fused = Fused.NONE


@dataclass(frozen=True, eq=False, kw_only=True)
class Sub(Node):
    """First input minus the second, with broadcasting; one may be a constant."""

    fused: Fused = Fused.NONE


@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(Node):
    """Elementwise product with broadcasting; one input may be a constant."""

    fused: Fused = Fused.NONE


def affine_of(
    node: Add | Sub | Mul, position: int, values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`(scale, shift)` with node(x) = x * scale + shift, for a constant operand.

    Args:
        position: which input the constant is.
        values: the constant, float64 `[C]`; so are the two results.
    """
    one, zero = np.ones_like(values), np.zeros_like(values)
    if isinstance(node, Mul):
        return values, zero
    if isinstance(node, Add):
        return one, values
    return (-one, values) if position == 0 else (one, -values)


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """Concatenation along `axis` (counted in NCHW; 1 is the channels)."""

    axis: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Node):
    """`start <= index < stop` along `axis` (counted in NCHW; 1 is the channels), 0 <= start."""

    axis: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ChannelShuffle(Node):
    """Channel `i * groups + g` of the output is channel `g * (C / groups) + i` of the input.

    That is a reshape to `[1, groups, C / groups, H, W]`, its second and third axis
    exchanged, and a reshape back (Zhang et al. 2017, arXiv:1707.01083, figure 1).
    """

    groups: int


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(Node):
    """Maximum over a window; padding never wins (it counts as minus infinity)."""

    kernel: Pair
    strides: Pair
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class AveragePool(Node):
    """Mean over a window; padded zeros count in the divisor only with `include_padding`."""

    kernel: Pair
    strides: Pair
    padding: Padding = (0, 0, 0, 0)
    include_padding: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalAveragePool(Node):
    """Mean over height and width: `[1, C, 1, 1]`, or `[1, C]` without `keep_dims`."""

    keep_dims: bool = True


@dataclass(frozen=True, eq=False, kw_only=True)
class Relu(Node):
    """max(x, 0)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Relu6(Node):
    """min(max(x, 0), 6)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Sigmoid(Node):
    """1 / (1 + exp(-x))."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HardSigmoid(Node):
    """min(max(x / 6 + 1/2, 0), 1)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HardSwish(Node):
    """x * min(max(x + 3, 0), 6) / 6."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Silu(Node):
    """x * sigmoid(x)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Tanh(Node):
    """The hyperbolic tangent."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LocalResponseNorm(Node):
    """`x / (bias + alpha / size * sum of x^2 over size channels around)^beta`.

    Across channels, as ONNX's LRN and torch.nn.LocalResponseNorm define it (Krizhevsky
    et al. 2012, section 3.3, where alpha is not divided by size). The window of channel c
    is `c - size // 2` to `c + size // 2`, clipped to the channels there are; size is odd.
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Node):
    """Softmax over the last axis of `[1, classes]`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """Flatten to `[1, C * H * W]`.

    Attributes:
        channels_last: False reads the input in NCHW order, as ONNX does; True in
            NHWC order, after the pass `flatten_channels_last` moved the columns
            of the Dense that follows.
    """

    channels_last: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Node):
    """Constant padding of height and width with `value`."""

    padding: Padding
    value: float = 0.0


@dataclass(frozen=True)
class GraphInput:
    """The pixels. What flows from here is `scale * (pixel - zero_point)`.

    A pass that folds normalization moves it in here, so that a target with
    quantized inputs can express it as the tensor's own scale and zero point.
    """

    name: str
    shape: Shape
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True, eq=False)
class Graph:
    """A classifier.

    Attributes:
        input: the pixels, `[1, 3, H, W]`.
        output: the name of the probabilities, `[1, classes]`.
        nodes: in an order that can be executed.
        shapes: the shape of every tensor, the input and every node's output.
        constants: float32 operands of Add, Sub and Mul by name, broadcastable in NCHW.
    """

    input: GraphInput
    output: str
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    constants: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {self.input.name}
        names: set[str] = set()
        for node in self.nodes:
            for source in node.inputs:
                if source not in known and source not in self.constants:
                    raise GraphError(f"{node.name} reads {source!r}, which nothing has made")
            if node.output in known or node.output in self.constants:
                raise GraphError(f"{node.name} makes {node.output!r} a second time")
            if node.name in names:
                raise GraphError(f"two nodes are named {node.name!r}")
            if node.output not in self.shapes:
                raise GraphError(f"{node.output!r} has no shape")
            known.add(node.output)
            names.add(node.name)
        if self.output not in known:
            raise GraphError(f"the output {self.output!r} is made by no node")

    def producer(self, tensor: str) -> Node | None:
        """The node that makes a tensor; None for the input and constants."""
        return next((node for node in self.nodes if node.output == tensor), None)

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor."""
        return tuple(node for node in self.nodes if tensor in node.inputs)

    def tensors(self) -> Iterator[str]:
        """The input's name, then every node's output in order."""
        yield self.input.name
        for node in self.nodes:
            yield node.output

    @property
    def logits(self) -> str:
        """The tensor that the final softmax or sigmoid reads, else the output itself."""
        last = self.producer(self.output)
        if isinstance(last, Softmax | Sigmoid):
            return last.inputs[0]
        return self.output
