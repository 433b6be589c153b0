"""How the graph's nodes become operators, and its tensors those of the file.

One `Lowering` writes one file. It holds every tensor as float32, or as integers where
the quantization plan says so, and puts a DEQUANTIZE or QUANTIZE between the two
where they meet. What is written for each kind of node is in `operators`, what is
stored in `storage`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.convert.graph import Fused, GraphError, Node, Shape
from exporter.convert.quantize.plan import Affine
from exporter.convert.targets.tflite import layout
from exporter.convert.targets.tflite.flat import Quantization
from exporter.convert.targets.tflite.storage import Op, Precision, Refusal, Storage, Value
from models.contract import INPUT_NAME, OUTPUT_NAME
from models.errors import UserError

__all__ = ["Lowering", "Op", "Precision", "Refusal", "UnloweredNodesError", "Value", "lowers"]

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
class Lowering(Storage):
    """One file in the making: its storage, and which tensors it holds in which precision."""

    _values: dict[str, Value] = field(default_factory=dict)
    _floats: dict[str, Value] = field(default_factory=dict)
    _quantized: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = frozenset[str]() if self.plan is None else self.plan.float_nodes
        unknown = chosen - {node.name for node in self.graph.nodes}
        if unknown:
            raise GraphError(f"the plan leaves {sorted(unknown)} in float, which are no nodes")
        self._left_float = {node.output for node in self.graph.nodes if node.name in chosen}

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
        readers = self.graph.consumers(source.name)
        chosen = bool(readers) and all(node.output in self._left_float for node in readers)
        if affine is None or self.is_int16 or chosen:
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
        """The quantization in which a tensor is made; None if it is made in float."""
        if self.plan is None or name in self._left_float:
            return None
        return self.plan.activations.get(name)

    def read(self, node: Node, position: int = 0) -> Value:
        """An input of a node, quantized if the node's output is, else as float32."""
        name = node.inputs[position]
        made = self.affine(node.output)
        if name in self.graph.constants:
            return self._operand(name, len(self.graph.shapes[node.output]), made is not None)
        return self._float_of(name) if made is None else self._quantized_of(name, node)

    def read_float(self, node: Node) -> Value:
        """An input as float32, whatever the node's output is."""
        return self._float_of(node.inputs[0])

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

    def _quantized_of(self, name: str, node: Node) -> Value:
        """A tensor as the plan quantizes it; what was made in float is rounded once for all."""
        value = self._values[name]
        if value.affine is not None:
            return value
        affine = None if self.plan is None else self.plan.activations.get(name)
        if affine is None:
            raise GraphError(f"the plan has no quantization for {name!r}, which {node.name} reads")
        if name not in self._quantized:
            made = self.temporary(f"{name}/rounded", value.shape, affine, value.non_negative)
            self._quantized[name] = self.op(Op.QUANTIZE, [value], made)
        return self._quantized[name]


def fused(node: Any) -> int:
    """The schema's code of a node's fused activation."""
    return int(_FUSED[node.fused])
