"""The ONNX graph in which the integers are computed, and how tensors are held in it.

A tensor is held as float32 steps from its zero point, `q - zero_point`: whole numbers of
at most 255, so sums and products of them are exact in float32 up to 2^24.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from exporter.convert.graph import Fused, Graph, GraphError, Node
from exporter.convert.held_weights import Weights, initializer
from exporter.convert.quantize.exact.fixed_point import Multiplier, integers, to_int8
from exporter.convert.quantize.plan import Affine, QuantizationPlan

_OPSET = 17
_LOW, _HIGH = -128, 127
_COARSEST_CONVERSION, _FINEST_CONVERSION = 128.0, 1 / 256  # else TFLite's kernel does it


@dataclass(frozen=True)
class Steps:
    """An int8 tensor as `q - zero_point`.

    Attributes:
        name: of the float32 ONNX tensor, NCHW.
        affine: its scale and zero point.
    """

    name: str
    affine: Affine

    @property
    def low(self) -> int:
        """The fewest steps that int8 can hold."""
        return _LOW - self.affine.zero_point

    @property
    def high(self) -> int:
        """The most steps that int8 can hold."""
        return _HIGH - self.affine.zero_point


Simulate = Callable[[Any, "Writer"], Steps]
_KERNELS: dict[type[Node], Simulate] = {}


def simulates(kind: type[Node]) -> Callable[[Simulate], Simulate]:
    """Register the function that computes one kind of node; a second one raises."""

    def register(function: Simulate) -> Simulate:
        if kind in _KERNELS:
            raise GraphError(f"{kind.__name__} is simulated twice")
        _KERNELS[kind] = function
        return function

    return register


class Writer:
    """Collects ONNX nodes and constants.

    Attributes:
        graph: what is simulated.
        plan: its int8 plan.
        made: the graph's int8 tensors so far, by name.
        held: large constants, which the model leaves out; for `open_session`.
    """

    def __init__(self, graph: Graph, plan: QuantizationPlan) -> None:
        self.graph, self.plan = graph, plan
        self.made = {graph.input.name: Steps(graph.input.name, plan.activations[graph.input.name])}
        self.held: Weights = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[Any, ...], str] = {}

    def add(self, node: Node) -> None:
        """Write one node that makes an int8 tensor.

        Raises:
            GraphError: there is no exact form of this kind of node.
        """
        kernel = _KERNELS.get(type(node))
        if kernel is None:
            raise GraphError(f"there is no exact form of {type(node).__name__}")
        self.made[node.output] = kernel(node, self)

    def model(
        self, tensors: Sequence[str], floats: Sequence[str], tail: Sequence[onnx.NodeProto]
    ) -> onnx.ModelProto:
        """The ONNX model from the pixels' steps to int8 `tensors` and float `floats`."""
        for name in tensors:
            steps = self.made[name]
            zero = self.constant(steps.affine.zero_point, np.int8)
            self.op("QuantizeLinear", [steps.name, self.constant(1.0), zero], integer_name(name))
        outputs = [integer_name(name) for name in tensors] + list(floats)
        kinds = [TensorProto.INT8] * len(tensors) + [TensorProto.FLOAT] * len(floats)
        shapes = [list(self.graph.shapes[name]) for name in (*tensors, *floats)]
        body = helper.make_graph(
            [*self._nodes, *tail],
            "integers",
            [_value(self.graph.input.name, TensorProto.FLOAT, list(self.graph.input.shape))],
            [_value(*each) for each in zip(outputs, kinds, shapes, strict=True)],
            self._initializers,
        )
        versions = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(body, opset_imports=versions, ir_version=8)

    # What a kernel reads and makes

    def read(self, node: Node, position: int = 0) -> Steps:
        """An input of a node, a tensor or a constant of the plan."""
        name = node.inputs[position]
        if name not in self.graph.constants:
            return self.made[name]
        values, affine = self.plan.constants[name]
        return Steps(self.constant(values.astype(np.float32) - affine.zero_point), affine)

    def affine(self, node: Node) -> Affine:
        """Of what a node makes."""
        return self.plan.activations[node.output]

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """The name of a constant; equal ones are stored once."""
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        content = hashlib.blake2b(array.reshape(-1).view(np.uint8).data, digest_size=16).digest()
        key = (array.dtype.str, array.shape, content)
        if key not in self._constants:
            name = self._constants[key] = f"constant/{len(self._constants)}"
            self._initializers.append(initializer(name, array, self.held))
        return self._constants[key]

    def op(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Append an ONNX node; gives its output's name."""
        made = output or f"value/{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [made], **attributes))
        return made

    def cast(self, source: str, to: int) -> str:
        """To another ONNX element type."""
        return self.op("Cast", [source], to=to)

    def rounded(self, product: str, affine: Affine, fused: Fused = Fused.NONE) -> Steps:
        """A float32 number of steps to the nearest whole one, half to even, and saturated."""
        clipped = self.activated(product, affine, fused)
        step, zero = self.constant(1.0), self.constant(affine.zero_point, np.int8)
        levels = self.op("QuantizeLinear", [clipped, step, zero])
        return Steps(self.op("DequantizeLinear", [levels, step, zero]), affine)

    def activated(self, steps: str, affine: Affine, fused: Fused) -> str:
        """The steps within a fused activation's bounds, where those are narrower than int8's."""
        low, high = fused_bounds(affine, fused)
        if (low, high) == (_LOW, _HIGH):
            return steps
        bounds = (self.constant(float(bound - affine.zero_point)) for bound in (low, high))
        return self.op("Clip", [steps, *bounds])

    def looked_up(self, source: Steps, table: npt.NDArray[np.int8], affine: Affine) -> Steps:
        """`table[q + 128]` of each level, as steps of `affine`."""
        shifted = self.op("Add", [source.name, self.constant(float(-source.low))])
        index = self.cast(shifted, TensorProto.INT32)
        steps = self.constant(table.astype(np.float32) - affine.zero_point)
        return Steps(self.op("Gather", [steps, index]), affine)

    def requantized(self, source: Steps, affine: Affine) -> Steps:
        """The same, or a QUANTIZE of it where another scale is wanted."""
        if source.affine == affine:
            return source
        return self.looked_up(source, conversion_table(source.affine, affine), affine)


def integer_name(tensor: str) -> str:
    """What the int8 form of one of the graph's tensors is called in the ONNX model."""
    return f"{tensor}/int8"


def fused_bounds(affine: Affine, fused: Fused) -> tuple[int, int]:
    """The least and largest level that a fused activation leaves.

    XNNPACK rounds the cap, half to even, after it has added the zero point in float32.
    """
    if fused is Fused.NONE:
        return _LOW, _HIGH
    high = _HIGH
    if fused is Fused.RELU6:
        cap = np.float32(6) / np.float32(affine.scale) + np.float32(affine.zero_point)
        high = min(_HIGH, int(np.rint(cap)))
    return affine.zero_point, high


def conversion_table(source: Affine, made: Affine) -> npt.NDArray[np.int8]:
    """QUANTIZE from int8 to int8: what each level becomes, int8 `[256]`.

    XNNPACK's `qs8-vcvt` has a factor of 8 fractional bits; where that would be out of its
    range TFLite's kernel has 31.
    """
    steps = integers() - source.zero_point
    ratio = np.float32(source.scale) / np.float32(made.scale)
    if _FINEST_CONVERSION <= ratio <= _COARSEST_CONVERSION:
        factor = int(np.rint(np.float32(256) * ratio))
        return to_int8(((steps * factor + 128) >> 8) + made.zero_point)
    exact = float(np.float64(np.float32(source.scale)) / np.float64(np.float32(made.scale)))
    return to_int8(Multiplier.of(exact).times(steps) + made.zero_point)


def _value(name: str, kind: int, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
