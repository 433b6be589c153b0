"""How the graph's tensors, weights and constants are stored at each precision.

One `Lowering` writes one file. It holds every number as float32, or as int8 where
the quantization plan says so, and puts a DEQUANTIZE or QUANTIZE between the two
where they meet. What is written for each kind of node is in `operators`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from exporter.convert.graph import Array, Fused, Graph, GraphError, Node, Shape
from exporter.convert.quantize.plan import Affine, QuantizationPlan, QuantizedWeights
from exporter.convert.quantize.sum_preserving import to_float16
from exporter.convert.targets.tflite import layout
from exporter.convert.targets.tflite.flat import FlatModel, Quantization
from models.contract import INPUT_NAME, OUTPUT_NAME
from models.errors import UserError

Op = schema.BuiltinOperator
Precision = Literal["float32", "float16", "int8"]
_INT8_OFFSET = 128  # an int8 zero point is the uint8 one less 128
_FUSED = {
    Fused.NONE: schema.ActivationFunctionType.NONE,
    Fused.RELU: schema.ActivationFunctionType.RELU,
    Fused.RELU6: schema.ActivationFunctionType.RELU6,
}


class UnloweredNodesError(UserError):
    """Some nodes cannot be said in TFLite.

    Attributes:
        nodes: (node name, reason) for each, in the graph's order.
    """

    def __init__(self, nodes: Sequence[tuple[str, str]]) -> None:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in nodes)
        super().__init__(
            f"{len(nodes)} node(s) of the model cannot be written to TFLite:\n{lines}",
            "TFLite has no operator, or no padding mode, that computes the same numbers",
            "change these layers in the model, or leave the TFLite formats out with --formats",
        )
        self.nodes = tuple(nodes)


class Refusal(Exception):  # noqa: N818 - it becomes a line of UnloweredNodesError
    """Raised by an operator's function: the reason why its node cannot be written."""


@dataclass(frozen=True)
class Value:
    """A tensor of the file.

    Attributes:
        index: in the subgraph.
        shape: NHWC.
        affine: its int8 quantization; None for float32.
        non_negative: known never to be below zero.
    """

    index: int
    shape: Shape
    affine: Affine | None = None
    non_negative: bool = False


LowerNode = Callable[[Any, "Lowering"], None]
_LOWERINGS: dict[type[Node], LowerNode] = {}


def lowers(kind: type[Node]) -> Callable[[LowerNode], LowerNode]:
    """Register the function that writes one kind of node; a second one raises."""

    def register(function: LowerNode) -> LowerNode:
        if kind in _LOWERINGS:
            raise GraphError(f"{kind.__name__} is lowered to TFLite twice")
        _LOWERINGS[kind] = function
        return function

    return register


@dataclass
class Lowering:
    """One file in the making.

    Attributes:
        graph: what is written.
        precision: of weights and activations.
        plan: the quantization; present exactly when the precision is int8.
        flat: the flatbuffer that fills up.
    """

    graph: Graph
    precision: Precision
    plan: QuantizationPlan | None = None
    flat: FlatModel = field(default_factory=FlatModel)
    _values: dict[str, Value] = field(default_factory=dict)
    _floats: dict[str, Value] = field(default_factory=dict)
    _stored: dict[tuple[Any, ...], Value] = field(default_factory=dict)

    def run(self) -> tuple[int, int]:
        """Write every node; gives the tensor indices of the pixels and the probabilities.

        Raises:
            UnloweredNodesError: with every offender.
            GraphError: the plan does not fit the graph.
        """
        pixels = self._write_input()
        refused: list[tuple[str, str]] = []
        unknown: set[str] = set()  # tensors whose shape cannot be said; their readers are skipped
        for node in self.graph.nodes:
            if unknown & set(node.inputs):
                unknown.add(node.output)
                continue
            reason = self._lower(node)
            if reason is None:
                continue
            refused.append((node.name, reason))
            if len(self.graph.shapes[node.output]) in (2, 4):
                self.make(node)  # so that the nodes after it can be judged too
            else:
                unknown.add(node.output)
        if refused:
            raise UnloweredNodesError(refused)
        return pixels, self._float_of(self.graph.output).index

    def _lower(self, node: Node) -> str | None:
        """Write one node; gives the reason where it cannot be."""
        function = _LOWERINGS.get(type(node))
        if function is None:
            return f"there is no lowering for {type(node).__name__}"
        try:
            self.shape_of(node.output)
            function(node, self)
        except Refusal as reason:
            return str(reason)
        return None

    def shape_of(self, name: str) -> Shape:
        """The NHWC shape of one of the graph's tensors."""
        try:
            return layout.shape(self.graph.shapes[name])
        except ValueError as error:
            raise Refusal(f"its output {name!r} has {error}") from error

    def _write_input(self) -> int:
        """uint8 pixels, then DEQUANTIZE to float or, exactly, QUANTIZE to int8."""
        source = self.graph.input
        shape = layout.shape(source.shape)
        given = Quantization.per_tensor(source.scale, source.zero_point)
        pixels = self.flat.tensor(INPUT_NAME, shape, np.uint8, given)
        affine = self.affine(source.name)
        if self.plan is None or affine is None:
            value = Value(self.flat.tensor(f"{source.name}/float", shape, np.float32), shape)
            self.op(Op.DEQUANTIZE, [pixels], value)
        else:
            own = Affine(source.scale, source.zero_point - _INT8_OFFSET)
            if affine.zero_point != own.zero_point or not np.isclose(
                affine.scale, own.scale, rtol=1e-6, atol=0
            ):
                raise GraphError(f"the plan quantizes the pixels as {affine}, they are {own}")
            value = self.temporary(f"{source.name}/int8", shape, own)
            self.op(Op.QUANTIZE, [pixels], value)
        self._values[source.name] = value
        return pixels

    # What a node reads and makes

    def affine(self, name: str) -> Affine | None:
        """The int8 quantization of one of the graph's tensors; None if it stays float."""
        return None if self.plan is None else self.plan.activations.get(name)

    def read(self, node: Node, position: int = 0) -> Value:
        """An input of a node, as int8 if the node's output is, else as float32."""
        name = node.inputs[position]
        made = self.affine(node.output)
        if name in self.graph.constants:
            return self._operand(name, len(self.graph.shapes[node.output]), made is not None)
        if made is None:
            return self._float_of(name)
        value = self._values[name]
        if value.affine is None:
            raise GraphError(f"the plan has no quantization for {name!r}, which {node.name} reads")
        return value

    def make(self, node: Node, non_negative: bool = False) -> Value:
        """Declare a node's output, in the precision that the plan gives it."""
        affine = self.affine(node.output)
        last = node.output == self.graph.output and affine is None
        name = OUTPUT_NAME if last else node.output
        fused = getattr(node, "fused", Fused.NONE) is not Fused.NONE
        value = self.temporary(name, self.shape_of(node.output), affine, non_negative or fused)
        self._values[node.output] = value
        return value

    def alias(self, node: Node, value: Value) -> None:
        """Let a node's output be a tensor that is there already."""
        self._values[node.output] = value

    def temporary(
        self, name: str, shape: Shape, affine: Affine | None, non_negative: bool = False
    ) -> Value:
        """Declare a tensor that only this file knows; float32 without `affine`."""
        if affine is None:
            index = self.flat.tensor(name, shape, np.float32)
        else:
            if not (affine.scale > 0 and -128 <= affine.zero_point <= 127):
                raise GraphError(f"the plan quantizes {name!r} as {affine}, which int8 cannot hold")
            quantization = Quantization.per_tensor(affine.scale, affine.zero_point)
            index = self.flat.tensor(name, shape, np.int8, quantization)
        return Value(index, shape, affine, non_negative)

    def op(
        self, kind: int, inputs: Sequence[Value | int], output: Value, options: Any = None
    ) -> Value:
        """Append an operator; gives its output."""
        indices = [one.index if isinstance(one, Value) else one for one in inputs]
        self.flat.operator(kind, indices, [output.index], options)
        return output

    def requantized(self, value: Value, affine: Affine | None, name: str) -> Value:
        """The value itself, or a QUANTIZE of it where another scale is wanted."""
        if value.affine == affine or value.affine is None or affine is None:
            return value
        made = self.temporary(name, value.shape, affine, value.non_negative)
        return self.op(Op.QUANTIZE, [value], made)

    def same_scale(self, node: Node, value: Value, write: Callable[[Value], None]) -> None:
        """Make a node's output with an operator whose input and output share one scale.

        `write` gets the output to fill; a QUANTIZE follows if the plan wants another.
        """
        wanted = self.affine(node.output)
        if wanted == value.affine:
            write(self.make(node, value.non_negative))
            return
        shape = self.shape_of(node.output)
        raw = self.temporary(f"{node.output}/raw", shape, value.affine, value.non_negative)
        write(raw)
        self.op(Op.QUANTIZE, [raw], self.make(node, value.non_negative))

    def _float_of(self, name: str) -> Value:
        value = self._values[name]
        if value.affine is None:
            return value
        if name not in self._floats:
            title = OUTPUT_NAME if name == self.graph.output else f"{name}/float"
            made = self.temporary(title, value.shape, None, value.non_negative)
            self._floats[name] = self.op(Op.DEQUANTIZE, [value], made)
        return self._floats[name]

    # What is stored

    def integers(self, values: npt.ArrayLike) -> int:
        """The tensor index of an int32 constant; equal ones are stored once."""
        array = np.asarray(values, np.int32)
        key = ("integers", array.shape, array.tobytes())
        if key not in self._stored:
            name = "constant/" + "_".join(str(v) for v in array.reshape(-1))
            self._stored[key] = Value(self.flat.constant(name, array), array.shape)
        return self._stored[key].index

    def floats(self, name: str, values: Array) -> Value:
        """A float constant; float16 files keep it in half and DEQUANTIZE it."""
        array = np.ascontiguousarray(values, np.float32)
        if self.precision != "float16":
            return Value(self.flat.constant(name, array), array.shape)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.all(np.isfinite(half) | ~np.isfinite(array)):
            raise Refusal(f"{name} has values beyond float16's largest, 65504")
        stored = self.flat.constant(f"{name}/half", half)
        made = self.temporary(name, array.shape, None)
        return self.op(Op.DEQUANTIZE, [stored], made)

    def _rounded(self, weight: Array) -> Array:
        """The weights as a float16 file will hold them, their errors cancelling."""
        if self.precision != "float16":
            return weight
        rounded = to_float16(weight).astype(np.float32)
        return rounded if np.isfinite(rounded).all() else weight  # which `floats` refuses

    def weights(self, node: Any, bias_input: Value, depthwise: bool) -> tuple[Value, Value]:
        """Weight and bias of a Conv or Dense, in TFLite's layout."""
        name, axis = node.name, 0
        arrange: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = layout.conv_weight
        if depthwise:
            arrange, axis = layout.depthwise_weight, 3
        elif node.weight.ndim == 2:
            arrange = layout.dense_weight
        if bias_input.affine is None:
            weight = self.floats(f"{name}/weight", arrange(self._rounded(node.weight)))
            return weight, self.floats(f"{name}/bias", node.bias)
        assert self.plan is not None
        quantized = self.plan.weights.get(name)
        if quantized is None:
            raise GraphError(f"the plan has no weights for {name!r}")
        if quantized.values.shape != node.weight.shape:
            raise GraphError(f"the plan's weights for {name!r} have another shape")
        return self.int8_weights(name, quantized, arrange(quantized.values), axis, bias_input)

    def int8_weights(
        self,
        name: str,
        quantized: QuantizedWeights,
        arranged: npt.NDArray[np.int8],
        axis: int,
        source: Value,
    ) -> tuple[Value, Value]:
        """int8 weight and int32 bias with scale `input scale * weight scale`, zero point 0."""
        assert source.affine is not None
        scales = np.asarray(quantized.scales, np.float32)
        if not (np.all(np.isfinite(scales)) and np.all(scales > 0)):
            raise GraphError(f"the plan's weight scales for {name!r} are not all positive")
        weight = self.flat.constant(
            f"{name}/weight", arranged, Quantization.symmetric(scales, axis)
        )
        bias = self.flat.constant(
            f"{name}/bias",
            np.asarray(quantized.bias, np.int32),
            Quantization.symmetric(np.float32(source.affine.scale) * scales, 0),
        )
        return Value(weight, arranged.shape), Value(bias, quantized.bias.shape)

    def _operand(self, name: str, rank: int, int8: bool) -> Value:
        key = ("operand", name, rank, int8)
        if key not in self._stored:
            self._stored[key] = self._store_operand(name, rank, int8)
        return self._stored[key]

    def _store_operand(self, name: str, rank: int, int8: bool) -> Value:
        if not int8:
            return self.floats(name, layout.operand(self.graph.constants[name], rank))
        assert self.plan is not None
        if name not in self.plan.constants:
            raise GraphError(f"the plan has no int8 values for the constant {name!r}")
        values, affine = self.plan.constants[name]
        return self.int8_constant(name, layout.operand(values, rank), affine)

    def int8_constant(self, name: str, values: npt.NDArray[np.int8], affine: Affine) -> Value:
        """An int8 constant with one scale."""
        quantization = Quantization.per_tensor(affine.scale, affine.zero_point)
        index = self.flat.constant(name, np.asarray(values, np.int8), quantization)
        return Value(index, values.shape, affine)


def fused(node: Any) -> int:
    """The schema's code of a node's fused activation."""
    return int(_FUSED[node.fused])
